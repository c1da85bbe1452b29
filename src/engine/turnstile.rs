//! Who may open a batch now, what the others wait for, and how much time that costs. Pure: the time comes as a value.
//!
//! Four things hold a worker back: the governor (or the window of time), the breaker, the number of workers wanted, and a
//! rest of its own after a failure or by `nice`. The run's state is looked at before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::breaker::{Admission, Breaker, Change, Pass};
use crate::run::{BreakerView, Hold, Waited};

/// What holds every batch back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The reason in one or two words, by which time is added up.
    pub key: String,
    /// The reason in a sentence.
    pub reason: String,
    /// Until when, where that is known.
    pub until: Option<DateTime<Utc>>,
    /// Whether it is only that nobody can tell how the server is. A worker whose connection is broken may then still find
    /// out, under the breaker, whether there is a server: that changes no row.
    pub is_unread: bool,
}

impl Held {
    /// The governor has not said anything yet.
    #[must_use]
    pub fn unread_yet() -> Self {
        let reason = "the governor's signals have not been read yet".to_owned();
        Self { key: FIRST.to_owned(), reason, until: None, is_unread: true }
    }

    /// Whether it only waits for the governor's first word: that is not worth a line.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.key == FIRST
    }
}

/// Less time than this is not worth telling: the moment before the governor's first word.
const WORTH_TELLING: Duration = Duration::from_millis(50);
/// The key of time lost before the governor's first word.
const FIRST: &str = "signals";

/// A rest of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// The reason in one or two words, by which time is added up.
    pub key: &'static str,
    /// The reason in a sentence. `None`: too short and too usual to be shown.
    pub reason: Option<String>,
    /// Its end, by the monotonic clock.
    pub until: Duration,
}

/// What a worker may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Open a batch; hand the ticket in when it is closed.
    Open(Ticket),
    /// Ask again when the board changes, or after this time.
    Later(Option<Duration>),
    /// There are more workers than are wanted: hand the segment back and end.
    Leave,
}

/// A batch that may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pass: Pass,
    /// Whether the breaker lets this one through to see whether it goes well.
    pub trial: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It committed.
    Well,
    /// It failed in a way that counts against the breaker.
    Badly(String),
    /// It failed in a way that says nothing of the server's health, or was not tried.
    Neither,
}

/// The turnstile.
#[derive(Debug)]
pub struct Turnstile {
    breaker: Breaker,
    held: Option<Held>,
    held_since: Option<(String, DateTime<Utc>)>,
    open: u32,
    wanted: u32,
    most: u32,
    present: BTreeSet<u32>,
    rests: BTreeMap<u32, Rest>,
    waited: BTreeMap<String, Duration>,
    step_waited: Duration,
    /// Up to when time has been added up, and what it is lost to since.
    counted: (Duration, Option<String>),
}

impl Turnstile {
    /// A turnstile that lets `workers` through.
    #[must_use]
    pub fn new(breaker: Breaker, workers: u32) -> Self {
        Self {
            breaker,
            held: None,
            held_since: None,
            open: 0,
            wanted: workers.max(1),
            most: workers.max(1),
            present: BTreeSet::new(),
            rests: BTreeMap::new(),
            waited: BTreeMap::new(),
            step_waited: Duration::ZERO,
            counted: (Duration::ZERO, None),
        }
    }

    /// Takes over the time that earlier drivers have lost.
    pub fn resume(&mut self, waited: &[Waited]) {
        self.waited = waited.iter().map(|waited| (waited.reason.clone(), waited.time)).collect();
    }

    /// Asks for `worker`, numbered from 0. `hurt`: its connection is broken, and it wants to recover first.
    pub fn admit(&mut self, worker: u32, hurt: bool, now: Duration) -> Answer {
        // One whose last commit may or may not have come about finds that out first: nobody else could.
        if worker >= self.wanted && !hurt {
            return Answer::Leave;
        }
        if let Some(rest) = self.rests.get(&worker) {
            if rest.until > now {
                return Answer::Later(Some(rest.until.saturating_sub(now)));
            }
            self.rests.remove(&worker);
        }
        if self.held.as_ref().is_some_and(|held| !(hurt && held.is_unread)) {
            return Answer::Later(None);
        }
        match self.breaker.admit(now) {
            Admission::Go(pass) => self.opened(Ticket { pass, trial: false }),
            Admission::Trial(pass) => self.opened(Ticket { pass, trial: true }),
            Admission::Wait { left } => Answer::Later(Some(left)),
            Admission::Busy => Answer::Later(None),
        }
    }

    fn opened(&mut self, ticket: Ticket) -> Answer {
        self.open += 1;
        Answer::Open(ticket)
    }

    /// A batch was closed. Returns what became of the breaker.
    pub fn close(&mut self, ticket: Ticket, ended: &Ended, now: Duration) -> Option<Change> {
        self.open = self.open.saturating_sub(1);
        match ended {
            Ended::Well => self.breaker.success(ticket.pass),
            Ended::Badly(cause) => self.breaker.failure(ticket.pass, now, cause),
            Ended::Neither => {
                self.breaker.abandon(ticket.pass);
                None
            }
        }
    }

    /// A worker rests before it asks again.
    pub fn rest(&mut self, worker: u32, rest: Rest) {
        self.rests.insert(worker, rest);
    }

    /// A worker has come, or is gone.
    pub fn presence(&mut self, worker: u32, here: bool) {
        if here {
            self.present.insert(worker);
        } else {
            self.present.remove(&worker);
            self.rests.remove(&worker);
        }
    }

    /// What the governor says: how many workers, of how many at most, and what holds them all.
    pub fn govern(&mut self, wanted: u32, most: u32, held: Option<Held>) {
        (self.wanted, self.most, self.held) = (wanted.max(1), most.max(1), held);
    }

    /// Closes the breaker by hand, and ends every rest: whoever asks wants it tried now.
    pub fn force_close(&mut self) -> Option<Change> {
        self.rests.retain(|_, rest| rest.key == NICE);
        self.breaker.force_close()
    }

    /// Batches that are open.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Workers that are here.
    #[must_use]
    pub fn present(&self) -> u32 {
        u32::try_from(self.present.len()).unwrap_or(u32::MAX)
    }

    /// Workers that may be at work, and the most that there may be.
    #[must_use]
    pub fn workers(&self) -> (u32, u32) {
        (self.wanted, self.most)
    }

    /// Whether the governor holds everything.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The breaker, to be shown.
    #[must_use]
    pub fn breaker(&self, now: Duration, utc: DateTime<Utc>) -> BreakerView {
        self.breaker.view(now, utc)
    }

    /// What is waited for, to be shown.
    pub fn hold(&mut self, now: Duration, utc: DateTime<Utc>) -> Option<Hold> {
        let Some(held) = self.reason(now, utc) else {
            self.held_since = None;
            return None;
        };
        let since = match &self.held_since {
            Some((key, since)) if *key == held.key => *since,
            _ => utc,
        };
        self.held_since = Some((held.key.clone(), since));
        Some(Hold { key: held.key, reason: held.reason, since, until: held.until })
    }

    fn reason(&self, now: Duration, utc: DateTime<Utc>) -> Option<Held> {
        if let Some(held) = self.held.as_ref().filter(|held| !held.is_unread) {
            return Some(held.clone());
        }
        let broken = |reason: String, until| Held { key: BREAKER.to_owned(), reason, until, is_unread: false };
        match self.breaker.view(now, utc) {
            BreakerView::Open { until, cause } => return Some(broken(format!("breaker open: {cause}"), Some(until))),
            BreakerView::HalfOpen { cause } => {
                return Some(broken(format!("one trial is under way after: {cause}"), None));
            }
            BreakerView::Closed { .. } => {}
        }
        if let Some(held) = &self.held {
            return Some(held.clone());
        }
        // One that rests holds up nobody else; all of them hold up the run.
        if self.open > 0 || self.present.is_empty() {
            return None;
        }
        let resting = |worker: &u32| self.rests.get(worker).filter(|rest| rest.until > now);
        if !self.present.iter().all(|worker| resting(worker).is_some()) {
            return None;
        }
        let first = self.present.iter().filter_map(resting).min_by_key(|rest| rest.until)?;
        let left = TimeDelta::from_std(first.until.saturating_sub(now)).ok();
        Some(Held {
            key: first.key.to_owned(),
            reason: first.reason.clone()?,
            until: left.and_then(|left| utc.checked_add_signed(left)),
            is_unread: false,
        })
    }

    /// Adds the time up to `now` to what it was lost to. `running`: whether the run is at work at all.
    pub fn count(&mut self, now: Duration, utc: DateTime<Utc>, running: bool) {
        let (since, lost_to) = std::mem::replace(&mut self.counted, (now, None));
        if let Some(key) = lost_to {
            let time = now.saturating_sub(since);
            *self.waited.entry(key).or_default() += time;
            self.step_waited += time;
        }
        if running {
            self.counted.1 = self.lost_to(now, utc);
        }
    }

    /// What time is being lost to: nothing, as long as any batch is open.
    fn lost_to(&self, now: Duration, utc: DateTime<Utc>) -> Option<String> {
        if self.open > 0 {
            return None;
        }
        if let Some(held) = self.reason(now, utc) {
            return Some(held.key);
        }
        let nice = |worker: &u32| self.rests.get(worker).is_some_and(|rest| rest.until > now);
        (!self.present.is_empty() && self.present.iter().all(nice)).then(|| NICE.to_owned())
    }

    /// Time lost, by reason, the most first.
    #[must_use]
    pub fn waited(&self) -> Vec<Waited> {
        let all = self.waited.iter().filter(|(_, time)| **time >= WORTH_TELLING);
        let mut all: Vec<Waited> = all.map(|(reason, time)| Waited { reason: reason.clone(), time: *time }).collect();
        all.sort_by_key(|waited| std::cmp::Reverse(waited.time));
        all
    }

    /// Time lost by the running step; `begin` sets what earlier drivers have lost in it.
    #[must_use]
    pub fn step_waited(&self) -> Duration {
        self.step_waited
    }

    /// A step begins, of which earlier drivers have lost `waited`.
    pub fn begin_step(&mut self, waited: Duration) {
        self.step_waited = waited;
        self.rests.clear();
    }
}

/// The key of rests by `limits.nice`.
pub const NICE: &str = "nice";
/// The key of time lost to the breaker.
pub const BREAKER: &str = "breaker";

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn utc() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
    }

    fn turnstile(workers: u32) -> Turnstile {
        let mut turnstile = Turnstile::new(Breaker::new(2, s(60)), workers);
        for worker in 0..workers {
            turnstile.presence(worker, true);
        }
        turnstile
    }

    fn open(turnstile: &mut Turnstile, worker: u32, now: Duration) -> Ticket {
        match turnstile.admit(worker, false, now) {
            Answer::Open(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn held(key: &str) -> Held {
        Held { key: key.to_owned(), reason: format!("{key} is high"), until: None, is_unread: false }
    }

    #[test]
    fn a_worker_too_many_is_sent_away_and_one_that_rests_waits() {
        let mut turnstile = turnstile(2);
        turnstile.govern(1, 2, None);
        assert_eq!(turnstile.admit(1, false, s(0)), Answer::Leave);
        turnstile.rest(0, Rest { key: "retry", reason: None, until: s(5) });
        assert_eq!(turnstile.admit(0, false, s(3)), Answer::Later(Some(s(2))));
        open(&mut turnstile, 0, s(5));
        assert_eq!(turnstile.open(), 1);
    }

    #[test]
    fn two_failures_open_the_breaker_and_one_trial_closes_it() {
        let mut turnstile = turnstile(2);
        for worker in 0..2 {
            let ticket = open(&mut turnstile, worker, s(0));
            turnstile.close(ticket, &Ended::Badly("gone".to_owned()), s(1));
        }
        assert_eq!(turnstile.admit(0, false, s(1)), Answer::Later(Some(s(60))));
        let trial = open(&mut turnstile, 0, s(61));
        assert_eq!(turnstile.admit(1, false, s(61)), Answer::Later(None), "one trial at a time");
        turnstile.close(trial, &Ended::Well, s(62));
        open(&mut turnstile, 1, s(62));
    }

    #[test]
    fn a_trial_that_was_given_up_leaves_room_for_another() {
        let mut turnstile = turnstile(1);
        for _ in 0..2 {
            let ticket = open(&mut turnstile, 0, s(0));
            turnstile.close(ticket, &Ended::Badly("gone".to_owned()), s(0));
        }
        let trial = open(&mut turnstile, 0, s(60));
        turnstile.close(trial, &Ended::Neither, s(60));
        open(&mut turnstile, 0, s(60));
    }

    #[test]
    fn time_is_lost_only_while_no_batch_is_open_and_the_run_is_at_work() {
        let mut turnstile = turnstile(1);
        let ticket = open(&mut turnstile, 0, s(0));
        turnstile.govern(1, 1, Some(held("replay lag")));
        turnstile.count(s(1), utc(), true);
        assert!(turnstile.hold(s(1), utc()).is_some(), "shown at once");
        turnstile.close(ticket, &Ended::Well, s(2));
        turnstile.count(s(2), utc(), true);
        turnstile.count(s(5), utc(), true);
        turnstile.count(s(6), utc(), false);
        turnstile.count(s(9), utc(), false);
        turnstile.govern(1, 1, None);
        turnstile.count(s(10), utc(), true);
        turnstile.count(s(20), utc(), true);
        assert_eq!(turnstile.waited(), [Waited { reason: "replay lag".to_owned(), time: s(4) }]);
        assert_eq!(turnstile.step_waited(), s(4));
    }

    #[test]
    fn a_hurt_worker_may_look_whether_there_is_a_server_while_no_signal_can_be_read() {
        let mut turnstile = turnstile(2);
        turnstile.govern(2, 2, Some(Held { is_unread: true, ..held("replay lag") }));
        assert_eq!(turnstile.admit(0, false, s(0)), Answer::Later(None));
        for _ in 0..2 {
            let Answer::Open(ticket) = turnstile.admit(0, true, s(0)) else { panic!("held") };
            turnstile.close(ticket, &Ended::Badly("refused".to_owned()), s(0));
        }
        assert_eq!(turnstile.admit(0, true, s(1)), Answer::Later(Some(s(59))));
        assert_eq!(turnstile.hold(s(1), utc()).map(|hold| hold.key), Some(BREAKER.to_owned()));
        turnstile.govern(2, 2, Some(held("replay lag")));
        assert_eq!(turnstile.admit(0, true, s(99)), Answer::Later(None), "past its limit is past its limit");
    }

    #[test]
    fn a_rest_of_all_workers_is_what_the_run_waits_for_and_a_nice_one_is_not_shown() {
        let mut turnstile = turnstile(2);
        turnstile.rest(0, Rest { key: "retry", reason: Some("again in a moment".to_owned()), until: s(5) });
        assert_eq!(turnstile.hold(s(0), utc()), None, "the other works");
        turnstile.rest(1, Rest { key: NICE, reason: None, until: s(9) });
        let hold = turnstile.hold(s(0), utc()).expect("both rest");
        assert_eq!((hold.key.as_str(), hold.until), ("retry", Some(utc() + TimeDelta::seconds(5))));
        turnstile.rest(0, Rest { key: NICE, reason: None, until: s(5) });
        assert_eq!(turnstile.hold(s(0), utc()), None);
        turnstile.count(s(0), utc(), true);
        turnstile.count(s(4), utc(), true);
        assert_eq!(turnstile.waited(), [Waited { reason: NICE.to_owned(), time: s(4) }]);
    }
}
