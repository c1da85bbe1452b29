//! The end of a run's log file, followed while somebody looks at it. Files are read on threads for blocking work: a file
//! system that hangs holds up nobody.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use super::{Desk, show};
use crate::postgres::error::io_words;
use crate::run::details::LogTail;
use crate::run::vitals::Reading;
use crate::run::{Details, Interest};

/// What is read of a file's end at first.
const FIRST: u64 = 64 * 1024;
/// Of more than this since the last look, only the end is read.
const BEHIND: u64 = 256 * 1024;
/// The directory is looked through for the next day's file once in so many looks.
const LOOK_AROUND: u32 = 10;
/// A look that takes longer is said to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the log while it is looked at, until `stop`, or until nobody is left to look.
pub(super) async fn keep(
    desk: &Desk,
    mut interest: watch::Receiver<Interest>,
    details: &watch::Sender<Arc<Details>>,
    stop: &CancellationToken,
) {
    let mut tail = Tail::default();
    loop {
        if interest.borrow_and_update().log {
            let looking = look(desk, tail, details);
            tail = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                tail = looking => tail,
            };
        }
        let is_watched = interest.borrow().log;
        let moment = async { if is_watched { sleep(desk.pace.log).await } else { std::future::pending().await } };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = interest.changed() => if changed.is_err() { return },
            () = moment => {}
        }
    }
}

/// Looks once, and shows what is new.
async fn look(desk: &Desk, tail: Tail, details: &watch::Sender<Arc<Details>>) -> Tail {
    let (short, host) = {
        let snapshot = desk.runs.borrow();
        (snapshot.run.clone(), snapshot.host.clone())
    };
    // A run that is being looked up is named by what was asked for.
    if short.len() != 8 || !short.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        show(details, |details| details.log = Reading::Pending);
        return tail;
    }
    let unavailable = |why: String| show(details, |details| details.log = Reading::Unavailable(why));
    if host != desk.host {
        unavailable(format!(
            "the log is on {host}, in $XDG_STATE_HOME/howdah/log (~/.local/state/howdah/log) of who drives the run: this is {}",
            desk.host
        ));
        return Tail::default();
    }
    let Some(directory) = desk.logs.clone() else {
        unavailable("there is no home directory on this host to keep a log in".to_owned());
        return tail;
    };
    let place = directory.display().to_string();
    let mut looking = tokio::task::spawn_blocking(move || {
        let mut tail = tail;
        let seen = tail.look(&directory, &short);
        (tail, seen)
    });
    let looked = if let Ok(looked) = timeout(PATIENCE, &mut looking).await {
        looked
    } else {
        unavailable(format!("{place} does not answer"));
        looking.await
    };
    match looked {
        Ok((tail, Ok(()))) => {
            // Lines are numbered and only appended: the newest number and the path say whether anything is new.
            let is_new = details.borrow().log.value().is_none_or(|shown| !tail.is_shown_by(shown));
            if is_new {
                show(details, |details| details.log = Reading::Value(Arc::new(tail.shown())));
            }
            tail
        }
        Ok((tail, Err(why))) => {
            unavailable(why);
            tail
        }
        Err(panic) => {
            unavailable(panic.to_string());
            Tail::default()
        }
    }
}

/// A log that is followed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    open: Option<Open>,
    lines: Lines,
    looks: u32,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// What lies before has been read.
    offset: u64,
}

impl Tail {
    /// Reads what was appended to the newest log of the run `short`.
    ///
    /// # Errors
    /// There is none, or it cannot be read: why, in words.
    fn look(&mut self, directory: &Path, short: &str) -> Result<(), String> {
        let failed = |path: &Path, e: &io::Error| format!("{} cannot be read: {}", path.display(), io_words(e));
        let is_of_run = |open: &Open| is_log_of(short, &open.path);
        if self.open.as_ref().is_some_and(|open| !is_of_run(open)) {
            *self = Self::default();
        }
        if let Some(open) = &mut self.open {
            open.read_on(&mut self.lines).map_err(|e| failed(&open.path, &e))?;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.open.is_some() && !self.looks.is_multiple_of(LOOK_AROUND) {
            return Ok(());
        }
        let newest = newest(directory, short).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => none(directory, short),
            _ => failed(directory, &e),
        })?;
        let Some(path) = newest else { return if self.open.is_some() { Ok(()) } else { Err(none(directory, short)) } };
        if self.open.as_ref().is_some_and(|open| open.path == path) {
            return Ok(());
        }
        let file = File::open(&path).map_err(|e| failed(&path, &e))?;
        self.lines.forget_open();
        let mut next = Open { path, file, offset: 0 };
        let read = next.read_end(&mut self.lines);
        read.map_err(|e| failed(&next.path, &e))?;
        self.open = Some(next);
        Ok(())
    }

    fn shown(&self) -> LogTail {
        LogTail { path: self.path(), lines: self.lines.kept.clone() }
    }

    fn path(&self) -> String {
        self.open.as_ref().map_or_else(String::new, |open| open.path.display().to_string())
    }

    fn is_shown_by(&self, shown: &LogTail) -> bool {
        let newest =
            |lines: &std::collections::VecDeque<crate::run::details::LogLine>| lines.back().map(|line| line.no);
        shown.path == self.path() && newest(&shown.lines) == newest(&self.lines.kept)
    }
}

fn none(directory: &Path, short: &str) -> String {
    format!("there is no log of run {short} in {}: does another user of this host drive it?", directory.display())
}

impl Open {
    /// Reads from where it was left off.
    fn read_on(&mut self, lines: &mut Lines) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.offset {
            // Somebody has emptied it.
            lines.forget();
            self.offset = 0;
        }
        if length - self.offset > BEHIND {
            lines.forget();
            return self.read_end(lines);
        }
        self.read(length - self.offset, lines)
    }

    /// Reads its end, from the first line that begins there.
    fn read_end(&mut self, lines: &mut Lines) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        // One byte more: a line may end just before.
        self.offset = length.saturating_sub(FIRST + 1);
        if self.offset > 0 {
            let bytes = self.bytes(length - self.offset)?;
            let begin = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
            lines.push(&bytes[begin..]);
            return Ok(());
        }
        self.read(length, lines)
    }

    fn read(&mut self, many: u64, lines: &mut Lines) -> io::Result<()> {
        if many > 0 {
            let bytes = self.bytes(many)?;
            lines.push(&bytes);
        }
        Ok(())
    }

    fn bytes(&mut self, many: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(many).read_to_end(&mut bytes)?;
        self.offset += read as u64;
        Ok(bytes)
    }
}

/// The newest log of the run `short`: its files are named by the day.
fn newest(directory: &Path, short: &str) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<PathBuf> = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_log_of(short, &path) && newest.as_ref().is_none_or(|newest| *newest < path) {
            newest = Some(path);
        }
    }
    Ok(newest)
}

fn is_log_of(short: &str, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = name.strip_prefix("howdah-").and_then(|rest| rest.strip_prefix(short));
    rest.is_some_and(|rest| rest.starts_with('.')) && path.extension().is_some_and(|suffix| suffix == "log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn texts(tail: &Tail) -> Vec<&str> {
        tail.lines.kept.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_log_is_followed_into_the_next_day() {
        let directory = tempfile::tempdir().unwrap();
        let day = |date: &str| directory.path().join(format!("howdah-7f3a09c2.{date}.log"));
        let mut tail = Tail::default();
        let why = tail.look(directory.path(), "7f3a09c2").unwrap_err();
        assert!(why.contains("no log of run 7f3a09c2"), "{why}");
        append(&day("2026-11-25"), "old\n");
        append(&day("2026-11-26"), "one\ntw");
        append(&directory.path().join("howdah-00000000.2026-11-27.log"), "another run's\n");
        tail.look(directory.path(), "7f3a09c2").unwrap();
        assert_eq!(texts(&tail), ["one"]);
        append(&day("2026-11-26"), "o\nthree\n");
        tail.look(directory.path(), "7f3a09c2").unwrap();
        assert_eq!(texts(&tail), ["one", "two", "three"]);
        append(&day("2026-11-26"), "four\n");
        append(&day("2026-11-27"), "five\n");
        for _ in 0..LOOK_AROUND {
            tail.look(directory.path(), "7f3a09c2").unwrap();
        }
        assert_eq!(texts(&tail), ["one", "two", "three", "four", "five"]);
        assert!(tail.path().ends_with("2026-11-27.log"));
        fs::write(day("2026-11-27"), "").unwrap();
        tail.look(directory.path(), "7f3a09c2").unwrap();
        append(&day("2026-11-27"), "anew\n");
        tail.look(directory.path(), "7f3a09c2").unwrap();
        assert_eq!(texts(&tail), ["anew"]);
    }

    #[test]
    fn of_a_long_log_only_the_end_is_read_from_the_begin_of_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("howdah-7f3a09c2.2026-11-26.log");
        let line = |n: usize| format!("line {n:>250}\n");
        append(&path, &(0..10_000).map(line).collect::<String>());
        let mut tail = Tail::default();
        tail.look(directory.path(), "7f3a09c2").unwrap();
        assert_eq!(tail.lines.kept.len(), 256);
        assert_eq!(texts(&tail)[0], line(9_744).trim_end());
        append(&path, &(10_000..20_000).map(line).collect::<String>());
        tail.look(directory.path(), "7f3a09c2").unwrap();
        assert_eq!(texts(&tail).last(), Some(&line(19_999).trim_end()));
        assert_eq!(tail.lines.kept[0].no, 256, "numbers go on");
    }
}
