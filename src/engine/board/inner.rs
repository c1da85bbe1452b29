//! What the board holds, and what is derived from it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Survey;
use crate::engine::churn::Baseline;
use crate::engine::course::Course;
use crate::engine::ports::Lookups;
use crate::engine::turnstile::Turnstile;
use crate::engine::walk::Walk;
use crate::run::history::Point;
use crate::run::snapshot::Activity;
use crate::run::timer::Stopwatch;
use crate::run::vitals::Alert;
use crate::run::{Pace, RunState, SignalView, Snapshot, StepView, Tally, Vitals};

/// What the board holds.
pub(super) struct Inner {
    pub(super) snapshot: Snapshot,
    pub(super) run_watch: Stopwatch,
    pub(super) step_watch: Stopwatch,
    pub(super) step: Option<usize>,
    pub(super) walk: Option<Walk>,
    pub(super) statement: Option<Activity>,
    pub(super) turnstile: Turnstile,
    /// The governor's signals, as they were last read.
    pub(super) signals: Vec<SignalView>,
    /// The most workers that the operator wants, and that the connections allow.
    pub(super) most_workers: (u32, u32),
    /// What the running step's table had been through when it began.
    pub(super) baseline: Option<Baseline>,
    /// The time that batches aim at, where an operator has changed it.
    pub(super) target: Option<Duration>,
    /// Until when the allowed hours are not looked at, by an operator's word.
    pub(super) skipping: Option<DateTime<Utc>>,
    /// Where the running sweep is seen from near.
    pub(super) survey: Option<Survey>,
    /// The course of the run.
    pub(super) course: Course,
    /// The cached look-ups of its scripts.
    pub(super) lookups: Option<Arc<dyn Lookups>>,
    pub(super) published: Duration,
}

impl Inner {
    pub(super) fn can_hold_still(&self) -> bool {
        self.statement.is_none() && (self.walk.is_some() || self.step.is_none())
    }

    /// The running step's.
    pub(super) fn view(&mut self) -> Option<&mut StepView> {
        self.step.and_then(|index| self.snapshot.steps.get_mut(index))
    }

    pub(super) fn set_tally(&mut self, tally: Tally) {
        if let Some(view) = self.view() {
            view.rows_walked = tally.walked;
            view.rows_changed = tally.changed;
            view.batches = tally.batches;
            view.quarantined = tally.quarantined;
        }
    }

    /// Adds up the time that is lost to waiting.
    pub(super) fn count(&mut self, now: Duration, utc: DateTime<Utc>) {
        let running = self.snapshot.state == RunState::Running;
        self.turnstile.count(now, utc, running);
    }

    /// What the step has done to its table, by the statistics.
    pub(super) fn churn(&mut self, vitals: &Vitals) {
        let Some(table) = self.walk.as_ref().and_then(Walk::table) else { return };
        let Some(now) = Baseline::of(vitals, table) else { return };
        let earlier = *self.baseline.get_or_insert(now);
        let churn = now.since(earlier);
        if let Some(view) = self.view() {
            view.churn = Some(churn);
        }
    }

    /// Remembers the second that has passed.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a point of a chart")]
    pub(super) fn remember(&mut self, now: DateTime<Utc>, vitals: &Vitals) {
        let (rows, mean, worst) = self.course.second();
        let ms = |time: Duration| (time.as_secs_f64() * 1e3) as f32;
        let last = self.snapshot.history.seconds.back().map_or(0, |point| point.at);
        let passed = (now.timestamp() - last).clamp(1, 10);
        let lag = self.signals.iter().find(|signal| signal.name == "replay lag").and_then(|signal| signal.number);
        let dead = vitals.database.value().map(|database| {
            database.tables.iter().filter(|table| table.in_plan).map(|table| table.dead).sum::<u64>() as f32
        });
        let raised = |alert: &Alert| (now - alert.raised_at).num_seconds() <= passed;
        let point = Point {
            // A clock that was put back loses nothing: its seconds follow those before.
            at: now.timestamp().max(last + 1),
            rate: rows as f32 / passed as f32,
            batch_ms: ms(mean),
            worst_ms: ms(worst),
            lag: lag.map(|lag| lag as f32),
            dead,
            paused: matches!(self.snapshot.state, RunState::Paused { .. }),
            alert: vitals.alerts.iter().any(raised),
        };
        if !self.snapshot.state.is_over() && self.snapshot.started_at.is_some() {
            Arc::make_mut(&mut self.snapshot.history).push(point);
        }
    }

    /// Derives what depends on time.
    pub(super) fn refresh(&mut self, now: DateTime<Utc>, elapsed: Duration) {
        self.count(elapsed, now);
        self.snapshot.now = now;
        self.snapshot.spent = self.run_watch.spent(elapsed);
        let (spent, waited) = (self.step_watch.spent(elapsed), self.turnstile.step_waited());
        if let Some(view) = self.view() {
            view.spent = spent;
            view.waited = waited;
        }
        let (wanted, most) = self.turnstile.workers();
        let hold = if self.snapshot.state.is_over() { None } else { self.turnstile.hold(elapsed, now) };
        let moving = self.snapshot.state.is_working() && hold.is_none();
        self.snapshot.pace = Pace {
            workers: self.turnstile.present(),
            wanted,
            most,
            hold,
            signals: self.signals.clone(),
            breaker: self.turnstile.breaker(elapsed, now),
            waited: self.turnstile.waited(),
        };
        self.snapshot.activity = match (&self.statement, &self.walk) {
            (Some(statement), _) => statement.clone(),
            (None, Some(walk)) => Activity::Batches(walk.activity(spent.worked, moving)),
            (None, None) => Activity::Idle,
        };
        if let Some(lookups) = &self.lookups {
            self.snapshot.caches = lookups.views();
        }
        if let Some(walk) = &self.walk {
            self.snapshot.rate_series.clone_from(walk.series());
        }
    }
}
