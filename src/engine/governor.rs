//! The governor: how many workers may be at work, and whether batches may go on at all. Pure.
//!
//! Every signal has a *load*: its value as a share of its `slow` (of free space and free memory, where low is bad, `slow`
//! as a share of the value). The highest load of all signals with a limit rules:
//!
//! | highest load | workers | batches |
//! | --- | --- | --- |
//! | below 0.4 | one more, at most one each 5 s, and not within 5 s of a cut | go on |
//! | 0.4 to 0.7 | stay as they are | go on |
//! | 0.7 to 1.0 | one less, at most each 5 s | go on |
//! | past 1.0 (past `slow`) | halved at once, and again each 5 s | wait |
//! | past `stop` | as past `slow` | the run is paused |
//! | not read yet, cannot be read, or not read for 10 s | stay as they are | wait: it fails closed |
//! | no signal has a limit | all of them | go on |
//!
//! - Workers stay between 1 and `most`: the plan's `limits.workers`, or what the operator has set.
//! - At the start there is one worker, and it waits for the first reading of everything. With all loads below 0.7 that
//!   reading sets all workers to work, for a run that has not begun has done no harm; else it begins with one.
//! - A wait ends once the load was 0.9 or less in two readings in a row. One good reading next to the limit is noise, and
//!   workers that come and go with each reading do more harm than a second more of waiting. Until then none is added.
//! - A pause ends with the first reading that is not past `slow`; then the wait goes on to its own end.
//! - An operator who raises `most` gets all of the new workers at once while all loads are below 0.4; an operator who
//!   lowers it is obeyed at once.

use std::time::Duration;

pub use super::gauge::{Gauge, Gauges, Unit};
use crate::run::{Effect, SignalView, human};

/// A worker is added at most this often.
pub const GROW_EVERY: Duration = Duration::from_secs(5);
/// A worker is taken away, or their number halved, at most this often: a cut shows in the next readings, not at once.
pub const SHED_EVERY: Duration = Duration::from_secs(5);
/// A reading that is older is none.
pub const STALE: Duration = Duration::from_secs(10);

/// Below this load workers are added.
const GROW_BELOW: f64 = 0.4;
/// From this load on they are taken away.
const SHED_FROM: f64 = 0.7;
/// Past this load batches wait.
const SLOW: f64 = 1.0;
/// At this load or less a signal that made batches wait counts as calm.
const CALM: f64 = 0.9;
/// A wait ends after so many calm readings in a row.
const CALM_READINGS: u32 = 2;

/// The rule and what it remembers.
#[derive(Debug, Clone)]
pub struct Governor {
    most: u32,
    wanted: u32,
    /// `None` before the first reading.
    signals: Option<Vec<Signal>>,
    /// When they were read; before the first reading, when this began.
    read_at: Duration,
    /// Whether a full reading has decided how many workers begin.
    started: bool,
    grown_at: Option<Duration>,
    /// Shed or halved.
    cut_at: Option<Duration>,
    halved_at: Option<Duration>,
}

/// A signal, and how far it has come in making batches wait.
#[derive(Debug, Clone)]
struct Signal {
    gauge: Gauge,
    past: Past,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// It makes nobody wait.
    Nothing,
    /// It went past `slow`, and has been calm in so many readings since.
    Slow { calm: u32 },
    /// It went past `stop`, and is not below `slow` again.
    Stop,
}

/// What the governor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Workers that may be at work, 1 to `most`.
    pub wanted: u32,
    /// Why batches are to wait.
    pub hold: Option<Held>,
    /// Whether that is only because a signal cannot be read.
    pub is_unread: bool,
    /// Why the run is to be paused. Batches are to wait as well then.
    pub pause: Option<Held>,
}

/// Which signal holds batches back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// [`Gauge::key`]; `signals` before the first reading.
    pub key: String,
    /// A sentence with value and limit: `replay lag 7.2s (slow 5s)`. Not cleaned.
    pub reason: String,
}

impl Governor {
    /// A governor over at most `most` workers (at least one). Until the first [`observe`](Self::observe) batches wait.
    #[must_use]
    pub fn new(most: u32, now: Duration) -> Self {
        Self {
            most: most.max(1),
            wanted: 1,
            signals: None,
            read_at: now,
            started: false,
            grown_at: None,
            cut_at: None,
            halved_at: None,
        }
    }

    /// Takes a reading of all signals. One that is no longer among them is forgotten, with what it did: dead rows, once
    /// the step is over. Without any signals this is called once, with none.
    pub fn observe(&mut self, gauges: Vec<Gauge>, now: Duration) {
        let mut before = self.signals.take().unwrap_or_default();
        let signals = gauges.into_iter().map(|gauge| {
            // Taken out, so that two signals of one name keep their memories apart.
            let known = before.iter().position(|signal| signal.gauge.key == gauge.key);
            let past = known.map_or(Past::Nothing, |index| before.remove(index).past).after(&gauge);
            Signal { gauge, past }
        });
        self.signals = Some(signals.collect());
        self.read_at = now;
        self.change_workers(now);
    }

    /// Sets the most workers: the operator's word.
    pub fn set_most(&mut self, most: u32, now: Duration) {
        let most = most.max(1);
        let raised = most > self.most;
        self.most = most;
        let unhindered = self.started
            && !self.is_unread(now)
            && !self.is_holding()
            && self.highest_load().is_none_or(|load| load < GROW_BELOW);
        if raised && unhindered && self.wanted < most {
            self.wanted = most;
            self.grown_at = Some(now);
        }
        self.wanted = self.wanted.min(most);
    }

    /// The most workers, as it was set last.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// What is to be done now.
    #[must_use]
    pub fn verdict(&self, now: Duration) -> Verdict {
        let worst = |is_past: fn(Past) -> bool| {
            let past = self.signals().iter().filter(|signal| is_past(signal.past));
            past.max_by(|a, b| a.load_or_zero().total_cmp(&b.load_or_zero()))
        };
        let pause = worst(|past| past == Past::Stop).map(Signal::held);
        let past_slow = || worst(|past| matches!(past, Past::Slow { .. })).map(Signal::held);
        let read = pause.clone().or_else(past_slow);
        let unread = if read.is_some() { None } else { self.unread(now) };
        Verdict { wanted: self.wanted, is_unread: unread.is_some(), hold: read.or(unread), pause }
    }

    /// The signals as they stand, in the order in which they are read.
    #[must_use]
    pub fn views(&self, now: Duration) -> Vec<SignalView> {
        let stale = self.is_stale(now);
        let age = now.saturating_sub(self.read_at);
        self.signals().iter().map(|signal| signal.view(age, stale)).collect()
    }

    fn signals(&self) -> &[Signal] {
        self.signals.as_deref().unwrap_or_default()
    }

    fn change_workers(&mut self, now: Duration) {
        if self.signals().iter().any(|signal| signal.gauge.is_unread()) {
            return;
        }
        let due = |last: Option<Duration>, every: Duration| last.is_none_or(|last| now.saturating_sub(last) >= every);
        let Some(load) = self.highest_load() else {
            self.started = true;
            self.wanted = self.most;
            return;
        };
        if !self.started {
            self.started = true;
            self.wanted = if load < SHED_FROM { self.most } else { 1 };
            self.grown_at = Some(now);
        } else if load > SLOW {
            // A worker shed a moment ago does not put this off.
            if due(self.halved_at, SHED_EVERY) {
                self.wanted = (self.wanted / 2).max(1);
                self.halved_at = Some(now);
                self.cut_at = Some(now);
            }
        } else if load >= SHED_FROM {
            if due(self.cut_at, SHED_EVERY) {
                self.wanted = (self.wanted - 1).max(1);
                self.cut_at = Some(now);
            }
        } else if load < GROW_BELOW
            && !self.is_holding()
            && self.wanted < self.most
            && due(self.grown_at, GROW_EVERY)
            && due(self.cut_at, GROW_EVERY)
        {
            self.wanted += 1;
            self.grown_at = Some(now);
        }
    }

    fn highest_load(&self) -> Option<f64> {
        self.signals().iter().filter_map(|signal| signal.gauge.load()).max_by(f64::total_cmp)
    }

    fn is_holding(&self) -> bool {
        self.signals().iter().any(|signal| signal.past != Past::Nothing)
    }

    fn is_unread(&self, now: Duration) -> bool {
        self.unread(now).is_some()
    }

    fn is_stale(&self, now: Duration) -> bool {
        now.saturating_sub(self.read_at) > STALE
    }

    /// The first signal that has a limit and no value to hold against it.
    fn unread(&self, now: Duration) -> Option<Held> {
        let Some(signals) = &self.signals else {
            let reason = "the governor's signals have not been read yet".to_owned();
            return Some(Held { key: "signals".to_owned(), reason });
        };
        if let Some(Signal { gauge, .. }) = signals.iter().find(|signal| signal.gauge.is_unread()) {
            return Some(Held {
                key: gauge.key.clone(),
                reason: format!("{} cannot be read: {}", gauge.key, gauge.words()),
            });
        }
        let Signal { gauge, .. } = signals.iter().find(|signal| signal.gauge.limit.is_some())?;
        let age = human::rough_duration(now.saturating_sub(self.read_at));
        self.is_stale(now).then(|| Held {
            key: gauge.key.clone(),
            reason: format!("{} cannot be read: no answer for {age}", gauge.key),
        })
    }
}

impl Past {
    /// After one more reading.
    fn after(self, gauge: &Gauge) -> Self {
        if gauge.limit.is_none() {
            return Self::Nothing;
        }
        let Some(load) = gauge.load() else {
            // Not knowing is no calm.
            return match self {
                Self::Slow { .. } => Self::Slow { calm: 0 },
                Self::Nothing | Self::Stop => self,
            };
        };
        if gauge.is_past_stop() {
            return Self::Stop;
        }
        if load > SLOW {
            return match self {
                Self::Stop => Self::Stop,
                Self::Nothing | Self::Slow { .. } => Self::Slow { calm: 0 },
            };
        }
        let calm = match self {
            Self::Nothing => return Self::Nothing,
            Self::Slow { calm } => calm,
            Self::Stop => 0,
        };
        let calm = if load <= CALM { calm + 1 } else { 0 };
        if calm >= CALM_READINGS { Self::Nothing } else { Self::Slow { calm } }
    }
}

impl Signal {
    fn load_or_zero(&self) -> f64 {
        self.gauge.load().unwrap_or(0.0)
    }

    /// Why it makes batches wait, in a sentence.
    fn held(&self) -> Held {
        let Gauge { key, unit, limit, low_is_bad, .. } = &self.gauge;
        let words = self.gauge.words();
        let load = self.gauge.load();
        let is_past_slow = load.is_none_or(|load| load > SLOW);
        let value = if load.is_none() { format!("{key} cannot be read: {words}") } else { format!("{key} {words}") };
        let Some(limit) = limit else { return Held { key: key.clone(), reason: value } };
        let (slow, stop) = (unit.words(limit.slow), limit.stop.map(|stop| unit.words(stop)));
        let calm = unit.words(if *low_is_bad { limit.slow / CALM } else { limit.slow * CALM });
        let side = if *low_is_bad { "more" } else { "less" };
        let reason = match (self.past, stop) {
            (Past::Stop, Some(stop)) if self.gauge.is_past_stop() => format!("{value} (stop {stop})"),
            (Past::Stop, _) => format!("{value}; goes on once it is back at {slow} (slow)"),
            (Past::Slow { .. } | Past::Nothing, _) if is_past_slow => format!("{value} (slow {slow})"),
            (Past::Slow { .. } | Past::Nothing, _) => {
                format!("{value} (slow {slow}); goes on after {CALM_READINGS} readings of {calm} or {side}")
            }
        };
        Held { key: key.clone(), reason }
    }

    fn view(&self, age: Duration, stale: bool) -> SignalView {
        let gauge = &self.gauge;
        let words = |value: f64| gauge.unit.words(value);
        SignalView {
            number: self.gauge.reading(),
            name: gauge.key.clone(),
            value: gauge.words(),
            slow: gauge.limit.map(|limit| words(limit.slow)),
            stop: gauge.limit.and_then(|limit| limit.stop).map(words),
            load: gauge.load(),
            age,
            effect: self.effect(stale),
        }
    }

    fn effect(&self, stale: bool) -> Effect {
        if self.gauge.limit.is_none() {
            return Effect::Shown;
        }
        match (self.past, self.gauge.load()) {
            (Past::Stop, _) => Effect::Pauses,
            (Past::Nothing | Past::Slow { .. }, None) => Effect::Unread,
            (Past::Nothing | Past::Slow { .. }, Some(_)) if stale => Effect::Unread,
            (Past::Slow { .. }, Some(_)) => Effect::Waits,
            (Past::Nothing, Some(load)) if load >= SHED_FROM => Effect::Sheds,
            (Past::Nothing, Some(load)) if load >= GROW_BELOW => Effect::Holds,
            (Past::Nothing, Some(_)) => Effect::Free,
        }
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
