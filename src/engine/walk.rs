//! The sweep under way as the board shows it: how far, how fast, how long yet.

use std::time::Duration;

use super::batch_size::BatchSize;
use super::ports::Sweep;
use crate::run::progress::{Total, correct_total};
use crate::run::snapshot::{BatchActivity, BatchView, Bytes, Parts, Unit};
use crate::run::{Estimate, Eta, KeyText, Progress, Segment, Tally, human};

/// Times that a batch may be asked to aim at, in milliseconds.
const TARGETS: [u64; 12] = [25, 50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000];

/// The walk of the running sweep.
pub struct Walk {
    progress: Progress,
    foretold: Option<u64>,
    position: Option<f64>,
    parts: Parts,
    sweep: u32,
    table: Option<String>,
    bytes: Option<Bytes>,
    unit: Unit,
    next_size: u64,
    target: Duration,
    /// The plan's own target: the statement's time limit is made for it.
    plan_target: Duration,
    at_floor: bool,
    last: Option<BatchView>,
    ended: bool,
}

/// What a committed batch changes in the walk.
pub struct Step<'a> {
    /// The segment, with its cursor behind the batch.
    pub segment: &'a Segment,
    /// Where the cursor stood before it.
    pub from: Option<&'a KeyText>,
    /// What it did.
    pub tally: &'a Tally,
    /// How long it took. `None`: nobody knows, its answer was lost.
    pub took: Option<Duration>,
    /// The size of the next one.
    pub size: &'a BatchSize,
    /// Share of the whole input that is done.
    pub position: Option<f64>,
    /// Segments.
    pub parts: Parts,
}

impl Walk {
    /// A walk of things of one `unit` that begins, or goes on, after `worked` time of work.
    #[must_use]
    pub fn new(
        sweep: &Sweep,
        unit: Unit,
        size: &BatchSize,
        plan_target: Duration,
        worked: Duration,
        parts: Parts,
    ) -> Self {
        let here = super::yard::total(&sweep.segments);
        Self {
            progress: Progress::resume(worked, here.walked),
            foretold: sweep.foretold,
            position: None,
            parts,
            sweep: sweep.number,
            table: sweep.table.clone(),
            bytes: sweep.bytes.map(|all| Bytes { done: here.bytes, all }),
            unit,
            next_size: size.rows(),
            target: size.target(),
            plan_target,
            at_floor: false,
            last: None,
            ended: sweep.segments.iter().all(|segment| segment.done),
        }
    }

    /// A batch has committed.
    pub fn advance(&mut self, step: &Step<'_>, worked: Duration) {
        self.progress.batch(worked, step.tally.walked);
        self.position = step.position;
        if let Some(bytes) = &mut self.bytes {
            bytes.done += step.tally.bytes;
        }
        self.parts = step.parts;
        self.next_size = step.size.rows();
        self.target = step.size.target();
        self.at_floor = step.size.at_floor();
        if let Some(took) = step.took {
            self.last = Some(BatchView { rows: step.tally.walked, took });
        }
    }

    /// A second of work has passed.
    pub fn tick(&mut self, worked: Duration) {
        self.progress.tick(worked);
    }

    /// Every segment is done: what was walked is what there was.
    pub fn end(&mut self, parts: Parts) {
        self.ended = true;
        self.parts = parts;
    }

    /// Moves the time that batches aim at by one notch, within four times the plan's own target. `None`: it cannot be
    /// moved further that way.
    pub fn aim(&mut self, longer: bool) -> Option<Duration> {
        let now = self.target.as_millis();
        let next = if longer {
            let most = self.plan_target * 4;
            TARGETS.iter().find(|ms| u128::from(**ms) > now && Duration::from_millis(**ms) <= most)
        } else {
            TARGETS.iter().rev().find(|ms| u128::from(**ms) < now)
        };
        let target = Duration::from_millis(*next?);
        self.target = target;
        Some(target)
    }

    /// Sets the time that batches aim at.
    ///
    /// # Errors
    /// It is not between 25 ms and four times the plan's own target: the statement's time limit is made for that.
    pub fn set_target(&mut self, target: Duration) -> Result<(), String> {
        let (least, most) = (Duration::from_millis(TARGETS[0]), self.plan_target * 4);
        if !(least..=most).contains(&target) {
            return Err(format!("batches may aim at {} to {}", human::duration(least), human::duration(most)));
        }
        self.target = target;
        Ok(())
    }

    /// The table that is walked, as the statistics name it.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Rows a second, one point a second of work.
    #[must_use]
    pub fn series(&self) -> &std::collections::VecDeque<f64> {
        self.progress.series()
    }

    /// What is shown of it. `moving`: whether the run is at work and nothing holds it back.
    #[must_use]
    pub fn activity(&self, worked: Duration, moving: bool) -> BatchActivity {
        let walked = self.progress.walked();
        let total = if self.ended {
            Total::Exactly(walked)
        } else {
            correct_total(self.foretold, walked, self.position, self.next_size)
        };
        let estimate = Estimate { walked, total };
        // Past what was foretold, with keys that tell no distance, the total is only "at least".
        let told = self.position.is_some() || self.foretold.is_some_and(|rows| walked < rows);
        let eta = if moving && told { self.progress.eta(worked, &estimate) } else { Eta::Unknown };
        BatchActivity {
            estimate,
            sweep: self.sweep,
            eta,
            rate: self.progress.rate(worked),
            mean_rate: self.progress.mean_rate(worked),
            last: self.last,
            next_size: self.next_size,
            target: self.target,
            at_floor: self.at_floor,
            segments: self.parts,
            bytes: self.bytes,
            unit: self.unit,
        }
    }
}
