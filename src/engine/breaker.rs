//! The circuit breaker: after some failures in a row nothing is tried for a while, then one trial decides. Pure.
//!
//! Source of the rule: M. Nygard, "Release It!" (2nd ed., 5.2), with one trial at half-open. Several workers share one
//! breaker, and a batch may end long after it began. Each admission carries a [`Pass`], which is good until the breaker
//! changes its state: the result of a batch that began before it opened says nothing of the server now, so it neither
//! closes the breaker nor keeps it open for longer.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::run::{BreakerView, Level, human};

/// Lets batches through, or not.
#[derive(Debug, Clone)]
pub struct Breaker {
    limit: u32,
    reset: Duration,
    state: State,
    /// Raised with each change of state; older passes are void.
    epoch: u64,
}

#[derive(Debug, Clone)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration, cause: String },
    HalfOpen { trial_is_under_way: bool, cause: String },
}

/// What an admitted batch shows when it comes back with its result. Void once the breaker has changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass(u64);

/// Whether a batch may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go(Pass),
    /// It may, and it decides for all: the breaker is half-open, and this is its one trial.
    Trial(Pass),
    /// Nothing is tried.
    Wait {
        /// Until then.
        left: Duration,
    },
    /// The one trial is under way.
    Busy,
}

impl Admission {
    /// The pass, where the batch may be tried.
    #[must_use]
    pub fn pass(self) -> Option<Pass> {
        match self {
            Self::Go(pass) | Self::Trial(pass) => Some(pass),
            Self::Wait { .. } | Self::Busy => None,
        }
    }

    /// What there is to tell: a trial is news.
    #[must_use]
    pub fn change(self) -> Option<Change> {
        match self {
            Self::Trial(_) => Some(Change::HalfOpened),
            Self::Go(_) | Self::Wait { .. } | Self::Busy => None,
        }
    }
}

/// A change of the breaker's state, for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has opened.
    Opened {
        /// Failures in a row that opened it; `None`: the trial failed.
        failures: Option<u32>,
        /// How long nothing is tried.
        reset: Duration,
        /// The last failure. Not cleaned.
        cause: String,
    },
    /// One trial is let through.
    HalfOpened,
    /// It has closed.
    Closed {
        /// Whether somebody has closed it by force, and no trial.
        forced: bool,
    },
}

impl Change {
    /// The change as an event's level and text. The text is not cleaned.
    #[must_use]
    pub fn describe(&self) -> (Level, String) {
        match self {
            Self::Opened { failures, reset, cause } => {
                let why = match failures {
                    Some(1) => "1 failure".to_owned(),
                    Some(failures) => format!("{failures} failures in a row"),
                    None => "the trial failed".to_owned(),
                };
                let reset = human::rough_duration(*reset);
                (Level::Warning, format!("breaker open: {why}; nothing is tried for {reset}: {cause}"))
            }
            Self::HalfOpened => (Level::Info, "breaker half-open: one batch is tried".to_owned()),
            Self::Closed { forced: false } => (Level::Info, "breaker closed: the trial went well".to_owned()),
            Self::Closed { forced: true } => (Level::Info, "breaker closed by hand".to_owned()),
        }
    }
}

impl Breaker {
    /// A closed breaker: `failures` in a row (at least one) open it for `reset`.
    #[must_use]
    pub fn new(failures: u32, reset: Duration) -> Self {
        Self { limit: failures.max(1), reset, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    /// Whether batches go through.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// May a batch be tried? Whoever gets a trial owes its end: [`success`](Self::success), [`failure`](Self::failure)
    /// or [`abandon`](Self::abandon).
    pub fn admit(&mut self, now: Duration) -> Admission {
        match &mut self.state {
            State::Closed { .. } => Admission::Go(Pass(self.epoch)),
            State::Open { until, .. } if now < *until => Admission::Wait { left: until.saturating_sub(now) },
            State::Open { cause, .. } => {
                let cause = std::mem::take(cause);
                self.enter(State::HalfOpen { trial_is_under_way: true, cause });
                Admission::Trial(Pass(self.epoch))
            }
            State::HalfOpen { trial_is_under_way: true, .. } => Admission::Busy,
            State::HalfOpen { trial_is_under_way, .. } => {
                *trial_is_under_way = true;
                Admission::Trial(Pass(self.epoch))
            }
        }
    }

    /// A batch went well.
    pub fn success(&mut self, pass: Pass) -> Option<Change> {
        if !self.is_good(pass) {
            return None;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures = 0;
                None
            }
            State::HalfOpen { .. } => {
                self.enter(State::Closed { failures: 0 });
                Some(Change::Closed { forced: false })
            }
            // No pass is good while it is open.
            State::Open { .. } => None,
        }
    }

    /// A batch failed, in a way that speaks against the server and not against the batch. `cause` is shown.
    pub fn failure(&mut self, pass: Pass, now: Duration, cause: &str) -> Option<Change> {
        if !self.is_good(pass) {
            return None;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                let failures = *failures;
                (failures >= self.limit).then(|| self.open(now, cause, Some(failures)))
            }
            State::HalfOpen { .. } => Some(self.open(now, cause, None)),
            State::Open { .. } => None,
        }
    }

    /// A batch was given up without a result that says anything of the server: it was cancelled, or its rows were wrong.
    /// A trial that is given up makes room for another.
    pub fn abandon(&mut self, pass: Pass) {
        if self.is_good(pass)
            && let State::HalfOpen { trial_is_under_way, .. } = &mut self.state
        {
            *trial_is_under_way = false;
        }
    }

    /// Closes it, whatever it thinks: the operator knows better.
    pub fn force_close(&mut self) -> Option<Change> {
        if self.is_closed() {
            return None;
        }
        self.enter(State::Closed { failures: 0 });
        Some(Change::Closed { forced: true })
    }

    /// The breaker as it stands. `now` and `utc` are the same moment by two clocks.
    #[must_use]
    pub fn view(&self, now: Duration, utc: DateTime<Utc>) -> BreakerView {
        match &self.state {
            State::Closed { failures } => BreakerView::Closed { failures: *failures, limit: self.limit },
            State::Open { until, cause } => {
                let left = TimeDelta::from_std(until.saturating_sub(now)).unwrap_or(TimeDelta::MAX);
                let until = utc.checked_add_signed(left).unwrap_or(DateTime::<Utc>::MAX_UTC);
                BreakerView::Open { until, cause: cause.clone() }
            }
            State::HalfOpen { cause, .. } => BreakerView::HalfOpen { cause: cause.clone() },
        }
    }

    fn open(&mut self, now: Duration, cause: &str, failures: Option<u32>) -> Change {
        self.enter(State::Open { until: now.saturating_add(self.reset), cause: cause.to_owned() });
        Change::Opened { failures, reset: self.reset, cause: cause.to_owned() }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    fn is_good(&self, pass: Pass) -> bool {
        pass.0 == self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RESET: Duration = Duration::from_mins(1);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pass(breaker: &mut Breaker, now: Duration) -> Pass {
        breaker.admit(now).pass().expect("let through")
    }

    /// A breaker of three failures that opened at `at(0)`.
    fn opened() -> Breaker {
        let mut breaker = Breaker::new(3, RESET);
        for _ in 0..3 {
            let pass = pass(&mut breaker, at(0));
            breaker.failure(pass, at(0), "refused");
        }
        assert!(!breaker.is_closed());
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_counts_anew() {
        let mut breaker = Breaker::new(3, RESET);
        let pass = pass(&mut breaker, at(0));
        for _ in 0..5 {
            assert_eq!(breaker.failure(pass, at(0), "refused"), None);
            assert_eq!(breaker.failure(pass, at(0), "refused"), None);
            assert_eq!(breaker.success(pass), None);
        }
        assert_eq!(breaker.failure(pass, at(1), "a"), None);
        assert_eq!(breaker.failure(pass, at(2), "b"), None);
        let change = breaker.failure(pass, at(3), "c").expect("it opens");
        assert_eq!(change, Change::Opened { failures: Some(3), reset: RESET, cause: "c".into() });
        let words = "breaker open: 3 failures in a row; nothing is tried for 1m00s: c";
        assert_eq!(change.describe(), (Level::Warning, words.to_owned()));
        assert_eq!(breaker.admit(at(3)), Admission::Wait { left: RESET });
        assert_eq!(breaker.admit(at(62)), Admission::Wait { left: at(1) });
    }

    #[test]
    fn one_trial_decides() {
        let mut breaker = opened();
        let admission = breaker.admit(at(60));
        assert!(matches!(admission, Admission::Trial(_)), "{admission:?}");
        assert_eq!(admission.change(), Some(Change::HalfOpened));
        assert_eq!(breaker.admit(at(60)), Admission::Busy);
        assert_eq!(breaker.admit(at(600)), Admission::Busy);

        let trial = admission.pass().expect("let through");
        let change = breaker.failure(trial, at(65), "still refused");
        assert_eq!(change, Some(Change::Opened { failures: None, reset: RESET, cause: "still refused".into() }));
        assert_eq!(breaker.admit(at(124)), Admission::Wait { left: at(1) });

        let trial = pass(&mut breaker, at(125));
        assert_eq!(breaker.success(trial), Some(Change::Closed { forced: false }));
        assert!(breaker.is_closed());
        assert!(matches!(breaker.admit(at(125)), Admission::Go(_)));
    }

    #[test]
    fn a_trial_that_is_given_up_makes_room_for_another() {
        let mut breaker = opened();
        let first = pass(&mut breaker, at(60));
        breaker.abandon(first);
        assert!(matches!(breaker.admit(at(60)), Admission::Trial(_)));
        assert_eq!(breaker.admit(at(60)), Admission::Busy);
    }

    #[test]
    fn results_of_batches_that_began_before_it_opened_change_nothing() {
        let mut breaker = Breaker::new(1, RESET);
        let (late, failed) = (pass(&mut breaker, at(0)), pass(&mut breaker, at(0)));
        assert!(breaker.failure(failed, at(0), "refused").is_some());
        assert_eq!(breaker.success(late), None);
        assert_eq!(breaker.failure(late, at(59), "late"), None);
        assert!(matches!(breaker.admit(at(59)), Admission::Wait { .. }));

        // Nor are they taken for the trial's result.
        let trial = pass(&mut breaker, at(60));
        assert_eq!(breaker.success(late), None);
        assert_eq!(breaker.failure(late, at(61), "late"), None);
        breaker.abandon(late);
        assert_eq!(breaker.admit(at(61)), Admission::Busy);
        assert!(breaker.success(trial).is_some());
        assert_eq!(breaker.failure(late, at(62), "late"), None, "nor against the server that is back");
        assert!(breaker.is_closed());
    }

    #[test]
    fn the_operator_closes_it() {
        let mut breaker = opened();
        let change = breaker.force_close();
        assert_eq!(change, Some(Change::Closed { forced: true }));
        assert_eq!(breaker.force_close(), None);
        assert!(matches!(breaker.admit(at(1)), Admission::Go(_)));
        let now = DateTime::<Utc>::UNIX_EPOCH;
        assert_eq!(breaker.view(at(1), now), BreakerView::Closed { failures: 0, limit: 3 });
    }

    #[test]
    fn the_view_counts_down() {
        let mut breaker = opened();
        let utc = DateTime::<Utc>::UNIX_EPOCH;
        let open = |left: i64| BreakerView::Open { until: utc + TimeDelta::seconds(left), cause: "refused".into() };
        assert_eq!(breaker.view(at(0), utc), open(60));
        assert_eq!(breaker.view(at(45), utc), open(15));
        assert_eq!(breaker.view(at(99), utc), open(0));
        breaker.admit(at(99));
        assert_eq!(breaker.view(at(99), utc), BreakerView::HalfOpen { cause: "refused".into() });
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Admit,
        /// The result of one of the batches under way.
        Success(usize),
        Failure(usize),
        Abandon(usize),
        ForceClose,
        Sleep(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => Just(Deed::Admit),
            2 => any::<usize>().prop_map(Deed::Success),
            4 => any::<usize>().prop_map(Deed::Failure),
            1 => any::<usize>().prop_map(Deed::Abandon),
            1 => Just(Deed::ForceClose),
            3 => (0_u64..90).prop_map(Deed::Sleep),
        ]
    }

    proptest! {
        #[test]
        fn never_two_trials_at_once_and_closed_only_by_a_trial_or_by_force(
            limit in 1_u32..5, deeds in proptest::collection::vec(deed(), 0..200)
        ) {
            let mut breaker = Breaker::new(limit, RESET);
            let mut now = Duration::ZERO;
            // Batches under way, and whether each is a trial that the breaker waits for.
            let mut open: Vec<(Pass, bool)> = Vec::new();
            let mut in_a_row = 0;
            for deed in deeds {
                let was_closed = breaker.is_closed();
                let mut may_close = false;
                let take = |open: &mut Vec<(Pass, bool)>, n: usize| {
                    (!open.is_empty()).then(|| open.swap_remove(n % open.len()))
                };
                match deed {
                    Deed::Admit => match breaker.admit(now) {
                        Admission::Go(pass) => {
                            prop_assert!(was_closed);
                            open.push((pass, false));
                        }
                        Admission::Trial(pass) => {
                            prop_assert!(!was_closed);
                            prop_assert!(!open.iter().any(|(_, trial)| *trial), "two trials at once");
                            open.push((pass, true));
                        }
                        Admission::Wait { left } => prop_assert!(!left.is_zero() && left <= RESET),
                        Admission::Busy => prop_assert!(open.iter().any(|(_, trial)| *trial), "busy with nothing"),
                    },
                    Deed::Success(n) => if let Some((pass, trial)) = take(&mut open, n) {
                        may_close = trial;
                        let good = breaker.is_good(pass);
                        let change = breaker.success(pass);
                        prop_assert_eq!(change.is_some(), trial && good);
                        if was_closed && good {
                            in_a_row = 0;
                        }
                    },
                    Deed::Failure(n) => if let Some((pass, trial)) = take(&mut open, n) {
                        let good = breaker.is_good(pass);
                        let change = breaker.failure(pass, now, "refused");
                        if was_closed && good {
                            in_a_row += 1;
                            prop_assert_eq!(change.is_some(), in_a_row == limit, "opens after exactly so many");
                        } else {
                            prop_assert_eq!(change.is_some(), trial && good);
                        }
                        if change.is_some() {
                            in_a_row = 0;
                            prop_assert_eq!(breaker.admit(now), Admission::Wait { left: RESET });
                        }
                    },
                    Deed::Abandon(n) => if let Some((pass, _)) = take(&mut open, n) {
                        breaker.abandon(pass);
                    },
                    Deed::ForceClose => {
                        may_close = true;
                        prop_assert_eq!(breaker.force_close().is_some(), !was_closed);
                        // Whoever is still under way decides nothing any more.
                        if !was_closed {
                            for (_, trial) in &mut open {
                                *trial = false;
                            }
                        }
                    }
                    Deed::Sleep(seconds) => now += at(seconds),
                }
                if !was_closed && breaker.is_closed() {
                    prop_assert!(may_close);
                    in_a_row = 0;
                }
            }
        }
    }
}
