//! When Redis is asked again after it did not answer: whoever looks something up a thousand times a second waits once.

use std::time::{Duration, Instant};

/// The first rest after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// No rest is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Lets everybody through while Redis answers, and one caller at the end of each rest while it does not.
#[derive(Debug, Default)]
pub(super) struct Gate {
    failures: u32,
    shut_until: Option<Instant>,
    last_failure: Option<Instant>,
}

impl Gate {
    /// Whether a caller may ask. After a failure the first one at the end of the rest may, and has `patience` for it.
    pub(super) fn admits(&mut self, now: Instant, patience: Duration) -> bool {
        match self.shut_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.shut_until = Some(now + patience);
                true
            }
            None => true,
        }
    }

    /// Whether somebody has failed since `then`: whoever waited for them need not try it too.
    pub(super) fn has_failed_since(&self, then: Instant) -> bool {
        self.last_failure.is_some_and(|failed| failed >= then)
    }

    /// It answered.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.shut_until = None;
    }

    /// It did not: 1 s of rest, doubling to 10 s. Those who were let in together count as one.
    pub(super) fn failed(&mut self, began: Instant, now: Instant) {
        if !self.has_failed_since(began) {
            self.failures = self.failures.saturating_add(1);
        }
        self.last_failure = Some(now);
        let rest = FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(LONGEST);
        self.shut_until = Some(now + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_is_away_is_asked_by_one_caller_after_longer_and_longer_rests() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let patience = Duration::from_secs(2);
        let mut gate = Gate::default();
        assert!(gate.admits(at(0), patience) && gate.admits(at(0), patience));
        gate.failed(at(0), at(10));
        gate.failed(at(0), at(11));
        assert!(!gate.admits(at(1000), patience));
        assert!(gate.admits(at(1011), patience), "one second, for two that failed together");
        assert!(!gate.admits(at(1012), patience), "somebody is asking");
        gate.failed(at(1011), at(1020));
        assert!(!gate.admits(at(3019), patience));
        for (n, rest) in [(0, 4_u64), (1, 8), (2, 10), (3, 10)] {
            let begun = 10_000 + n * 20_000;
            let now = at(begun);
            assert!(gate.admits(now, patience));
            gate.failed(now, now);
            assert!(!gate.admits(at(begun + rest * 1000 - 1), patience), "{rest}");
        }
        let back = at(200_000);
        assert!(gate.admits(back, patience));
        gate.succeeded();
        assert!(gate.admits(back, patience) && gate.admits(back, patience));
        assert!(!gate.has_failed_since(back));
    }

    #[test]
    fn a_caller_that_never_comes_back_does_not_shut_the_gate_for_ever() {
        let (start, patience) = (Instant::now(), Duration::from_secs(2));
        let mut gate = Gate::default();
        gate.failed(start, start);
        let later = start + Duration::from_secs(5);
        assert!(gate.admits(later, patience));
        assert!(!gate.admits(later + Duration::from_secs(1), patience));
        assert!(gate.admits(later + patience, patience));
    }
}
