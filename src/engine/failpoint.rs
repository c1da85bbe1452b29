//! Named instants at which a crash matters. Tests kill the process at each of them.
//!
//! Only builds with debug assertions look at `HOWDAH_FAILPOINTS`; in a release build [`hit`] is empty.
//! The variable holds `name=action@n;...`: at the `n`-th time (default 1) that `name` is reached, `kill` sends SIGKILL to
//! this process, `panic` panics, `sleep` holds still for a minute.

/// The names that every run of batches passes; the crash tests walk this list.
pub const ALL: [&str; 16] = [
    "run.created",
    "run.begun",
    "step.started",
    "statement.before",
    "statement.executed",
    "statement.recorded",
    "sweep.planned",
    "batch.begun",
    "batch.bounded",
    "batch.changed",
    "batch.recorded",
    "batch.committed",
    "step.counted",
    "step.finished",
    "cleanup.executed",
    "run.finishing",
];

/// The names that only a run passes whose ledger lies on Redis, between a commit and its record.
pub const REDIS: [&str; 2] = ["cursor.moving", "cursor.moved"];

/// The same of `howdah quarantine retry`, for each row.
pub const RETRY: [&str; 4] = ["retry.claimed", "retry.changed", "retry.recorded", "retry.committed"];

/// The names that only a step passes that replaces files.
pub const FILES: [&str; 4] = ["file.staged", "file.intended", "file.backed", "file.renamed"];

/// The names that only a run passes whose segments are split.
pub const SPLIT: [&str; 2] = ["split.recorded", "segment.split"];

/// Marks the instant `name`.
#[inline]
pub fn hit(name: &str) {
    if cfg!(debug_assertions) {
        debug::hit(name);
    }
}

mod debug {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Panic,
        Sleep,
    }

    struct Armed {
        action: Action,
        left: u64,
    }

    static ARMED: OnceLock<Mutex<HashMap<String, Armed>>> = OnceLock::new();

    pub fn hit(name: &str) {
        let armed = ARMED.get_or_init(|| Mutex::new(parse(&std::env::var("HOWDAH_FAILPOINTS").unwrap_or_default())));
        let action = {
            let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(point) = armed.get_mut(name) else { return };
            point.left = point.left.saturating_sub(1);
            if point.left > 0 {
                return;
            }
            let action = point.action;
            armed.remove(name);
            action
        };
        match action {
            Action::Kill => {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
                // The signal may take a moment to arrive; nothing may happen until then.
                std::thread::sleep(std::time::Duration::from_mins(1));
            }
            Action::Panic => panic!("failpoint {name}"),
            Action::Sleep => std::thread::sleep(std::time::Duration::from_mins(1)),
        }
    }

    fn parse(text: &str) -> HashMap<String, Armed> {
        text.split(';').filter_map(point).collect()
    }

    fn point(text: &str) -> Option<(String, Armed)> {
        let (name, rest) = text.split_once('=')?;
        let (action, left) = rest.split_once('@').unwrap_or((rest, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "panic" => Action::Panic,
            "sleep" => Action::Sleep,
            _ => return None,
        };
        Some((name.to_owned(), Armed { action, left: left.parse().ok()? }))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn points_are_read_with_their_count() {
            let armed = super::parse("a=kill;b=panic@7;nonsense;c=dance;d=kill@x");
            let mut names: Vec<_> = armed.iter().map(|(name, point)| (name.as_str(), point.left)).collect();
            names.sort_unstable();
            assert_eq!(names, [("a", 1), ("b", 7)]);
        }
    }
}
