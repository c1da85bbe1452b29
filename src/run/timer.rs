//! Time at work and time at rest, added up apart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stopwatch over a monotonic clock that counts work and pause apart. The caller brings the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stopwatch {
    worked: Duration,
    paused: Duration,
    since: Option<(Mode, Duration)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Work,
    Pause,
}

impl Stopwatch {
    /// A stopwatch that stands still, with the time that earlier drivers of the run have counted.
    #[must_use]
    pub fn with(spent: Spent) -> Self {
        Self { worked: spent.worked, paused: spent.paused, since: None }
    }

    /// From `now` on, time counts as work.
    pub fn work(&mut self, now: Duration) {
        self.switch(Some(Mode::Work), now);
    }

    /// From `now` on, time counts as pause.
    pub fn pause(&mut self, now: Duration) {
        self.switch(Some(Mode::Pause), now);
    }

    /// From `now` on, no time counts.
    pub fn halt(&mut self, now: Duration) {
        self.switch(None, now);
    }

    /// What has been counted up to `now`.
    #[must_use]
    pub fn spent(&self, now: Duration) -> Spent {
        let mut spent = Spent { worked: self.worked, paused: self.paused };
        if let Some((mode, since)) = self.since {
            let open = now.saturating_sub(since);
            match mode {
                Mode::Work => spent.worked += open,
                Mode::Pause => spent.paused += open,
            }
        }
        spent
    }

    fn switch(&mut self, mode: Option<Mode>, now: Duration) {
        let spent = self.spent(now);
        self.worked = spent.worked;
        self.paused = spent.paused;
        self.since = mode.map(|mode| (mode, now));
    }
}

/// Time that was spent, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// At work.
    pub worked: Duration,
    /// Paused on request.
    pub paused: Duration,
}

impl Spent {
    /// Work and pause together.
    #[must_use]
    pub fn total(self) -> Duration {
        self.worked + self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pause_is_not_work_and_a_halt_is_neither() {
        let mut watch = Stopwatch::with(Spent { worked: s(100), paused: s(7) });
        watch.work(s(10));
        watch.pause(s(15));
        watch.work(s(18));
        watch.halt(s(20));
        assert_eq!(watch.spent(s(99)), Spent { worked: s(107), paused: s(10) });
    }

    proptest! {
        #[test]
        fn work_and_pause_add_up_to_the_time_that_passed(switches in proptest::collection::vec((any::<bool>(), 0_u64..1000), 0..50)) {
            let mut watch = Stopwatch::default();
            let mut now = s(0);
            watch.work(now);
            for (work, step) in switches {
                now += s(step);
                if work { watch.work(now) } else { watch.pause(now) }
            }
            prop_assert_eq!(watch.spent(now).total(), now);
        }
    }
}
