//! What has to outlive the driver of a run beside its counts: slow batches, how long batches took, signals at their worst,
//! and who drove it. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::work::{Latency, SlowBatch};
use super::{Effect, Snapshot};

/// Slow batches that are kept.
const SLOWEST: usize = 20;
/// Steps whose batch times are kept.
const STEPS: usize = 200;
/// Signals that are kept.
const SIGNALS: usize = 50;
/// Drivers that are kept, the newest.
const DRIVERS: usize = 50;
/// Letters of a statement's plan that are kept.
const LETTERS: usize = 4000;

/// What has to outlive a driver. Bounded in every part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The slowest batches of all steps and drivers, the slowest first.
    pub slowest: Vec<StepBatch>,
    /// How long the batches of each step took: the last 1,024 of the last driver that walked it.
    pub latency: Vec<StepLatency>,
    /// The governor's signals at their worst.
    pub signals: Vec<Worst>,
    /// Who drove the run, in their order.
    pub drivers: VecDeque<DriverSpan>,
    /// The most that howdah's own memory has been under any of them, in bytes. 0: not measured.
    pub peak_rss: u64,
}

/// A slow batch, and its step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepBatch {
    /// The step's name. Not cleaned.
    pub step: String,
    /// The batch.
    #[serde(flatten)]
    pub batch: SlowBatch,
}

/// How long the batches of a step took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLatency {
    /// The step's name. Not cleaned.
    pub step: String,
    /// The times.
    #[serde(flatten)]
    pub latency: Latency,
}

/// A signal at its worst.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Its name. Not cleaned.
    pub signal: String,
    /// The value as a number, in seconds, bytes, or whatever it counts.
    pub number: f64,
    /// The same in words. Not cleaned.
    pub value: String,
    /// Where it begins to wait, in words.
    pub slow: Option<String>,
    /// The value as a share of that: past 1 it waits.
    pub load: Option<f64>,
    /// What it did then.
    pub effect: Effect,
    /// When.
    pub at: DateTime<Utc>,
}

/// A process that drove the run, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverSpan {
    /// The epoch under which it took the run.
    pub epoch: i64,
    /// Its host. Not cleaned.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it was first seen at work.
    pub from: DateTime<Utc>,
    /// When it was last seen.
    pub to: DateTime<Utc>,
    /// How the run stood then.
    pub state: String,
}

/// The process that drives a run, as it knows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThisDriver {
    /// The epoch under which it took the run.
    pub epoch: i64,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

impl Summary {
    /// Brings it up to date.
    pub fn take(&mut self, snapshot: &Snapshot, driver: &ThisDriver) {
        self.take_driver(snapshot, driver);
        if let Some((_, step)) = snapshot.current_step().or_else(|| last_that_walked(snapshot)) {
            self.take_work(snapshot, &step.name);
        }
        for signal in &snapshot.pace.signals {
            let Some(number) = signal.number.filter(|number| number.is_finite()) else { continue };
            self.take_signal(Worst {
                signal: signal.name.clone(),
                number,
                value: signal.value.clone(),
                slow: signal.slow.clone(),
                load: signal.load.filter(|load| load.is_finite()),
                effect: signal.effect,
                at: snapshot.now,
            });
        }
        let peak = snapshot.vitals.process.value().map_or(0, |process| process.peak_rss.0.max(process.rss.0));
        self.peak_rss = self.peak_rss.max(peak);
    }

    fn take_driver(&mut self, snapshot: &Snapshot, driver: &ThisDriver) {
        let state = snapshot.state.word().to_owned();
        if let Some(span) = self.drivers.iter_mut().find(|span| span.epoch == driver.epoch) {
            (span.to, span.state) = (snapshot.now, state);
            return;
        }
        self.drivers.push_back(DriverSpan {
            epoch: driver.epoch,
            host: snapshot.host.clone(),
            pid: driver.pid,
            version: driver.version.clone(),
            from: snapshot.now,
            to: snapshot.now,
            state,
        });
        while self.drivers.len() > DRIVERS {
            self.drivers.pop_front();
        }
    }

    fn take_work(&mut self, snapshot: &Snapshot, step: &str) {
        for slow in &snapshot.work.slowest {
            self.take_slow(step, slow);
        }
        if let Some(latency) = snapshot.work.latency.clone() {
            self.take_latency(StepLatency { step: step.to_owned(), latency });
        }
    }

    fn take_slow(&mut self, step: &str, slow: &SlowBatch) {
        let same = |known: &StepBatch| known.batch.at == slow.at && known.batch.segment == slow.segment;
        let place = self.slowest.partition_point(|known| known.batch.took >= slow.took);
        if place >= SLOWEST || self.slowest.iter().any(same) {
            return;
        }
        let plan = slow.plan.as_ref().map(|plan| plan.chars().take(LETTERS).collect());
        let batch = SlowBatch { plan, ..slow.clone() };
        self.slowest.insert(place, StepBatch { step: step.to_owned(), batch });
        self.slowest.truncate(SLOWEST);
    }

    fn take_latency(&mut self, latency: StepLatency) {
        let has_room = self.latency.len() < STEPS;
        match self.latency.iter_mut().find(|known| known.step == latency.step) {
            Some(known) => *known = latency,
            None if has_room => self.latency.push(latency),
            None => {}
        }
    }

    fn take_signal(&mut self, worst: Worst) {
        let has_room = self.signals.len() < SIGNALS;
        match self.signals.iter_mut().find(|known| known.signal == worst.signal) {
            Some(known) if worst.is_worse_than(known) => *known = worst,
            None if has_room => self.signals.push(worst),
            Some(_) | None => {}
        }
    }

    /// Takes in what a later driver has seen.
    pub fn join(&mut self, later: Self) {
        for StepBatch { step, batch } in &later.slowest {
            self.take_slow(step, batch);
        }
        later.latency.into_iter().for_each(|latency| self.take_latency(latency));
        later.signals.into_iter().for_each(|worst| self.take_signal(worst));
        for span in later.drivers {
            match self.drivers.iter_mut().find(|known| known.epoch == span.epoch) {
                Some(known) => (known.to, known.state) = (span.to, span.state),
                None => self.drivers.push_back(span),
            }
        }
        while self.drivers.len() > DRIVERS {
            self.drivers.pop_front();
        }
        self.peak_rss = self.peak_rss.max(later.peak_rss);
    }
}

impl Worst {
    /// By its limit, where it has one: of free disk, the least is the worst.
    fn is_worse_than(&self, other: &Self) -> bool {
        match (self.load, other.load) {
            (Some(load), Some(other)) => load > other,
            _ => self.number > other.number,
        }
    }
}

/// The step whose batches [`Snapshot::work`] is still about once it has ended.
fn last_that_walked(snapshot: &Snapshot) -> Option<(usize, &super::StepView)> {
    snapshot.steps.iter().enumerate().rev().find(|(_, step)| step.batches > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunState, StepState, StepView, Work};
    use std::sync::Arc;
    use std::time::Duration;

    fn snapshot(at: i64, times: &[u64]) -> Snapshot {
        let now = DateTime::from_timestamp(at, 0).unwrap();
        let mut snapshot = Snapshot::starting(now, "7f3a09c2".into(), "emails".into(), "db1".into());
        snapshot.state = RunState::Running;
        let mut step = StepView::new("emails".into(), "backfill".into());
        step.state = StepState::Running;
        snapshot.steps.push(step);
        let slow = |ms: &u64| SlowBatch {
            at: now + chrono::TimeDelta::milliseconds(i64::try_from(*ms).unwrap()),
            segment: 1,
            from: None,
            to: None,
            rows: 10,
            took: Duration::from_millis(*ms),
            plan: Some("x".repeat(10_000)),
        };
        snapshot.work = Arc::new(Work { slowest: times.iter().map(slow).collect(), ..Work::default() });
        snapshot
    }

    #[test]
    fn slow_batches_of_all_drivers_are_kept_once_and_in_order() {
        let driver = |epoch| ThisDriver { epoch, pid: 7, version: "1".into() };
        let mut summary = Summary::default();
        summary.take(&snapshot(100, &[30, 20]), &driver(1));
        summary.take(&snapshot(100, &[30, 20, 10]), &driver(1));
        let text = serde_json::to_string(&summary).unwrap();
        let mut summary: Summary = serde_json::from_str(&text).unwrap();
        summary.take(&snapshot(500, &(1..=30).collect::<Vec<_>>()), &driver(2));
        let times: Vec<u128> = summary.slowest.iter().map(|slow| slow.batch.took.as_millis()).collect();
        assert_eq!(times.len(), SLOWEST);
        assert_eq!(times[..4], [30, 30, 29, 28]);
        assert!(times.is_sorted_by(|a, b| a >= b));
        assert!(summary.slowest.iter().all(|slow| slow.batch.plan.as_ref().is_some_and(|plan| plan.len() == LETTERS)));
        assert_eq!(summary.drivers.len(), 2);
        assert_eq!(serde_json::from_str::<Summary>("{}").unwrap(), Summary::default(), "of another version");
    }
}
