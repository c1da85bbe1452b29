//! The run's state in one place: changed here, published from here.
//!
//! A plain mutex guards it, and no await happens under it. Readers get immutable snapshots by `watch`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{broadcast, mpsc, watch};

use super::batch_size::BatchSize;
use super::clock::Clock;
use super::news::describe;
use super::ports::{BatchDone, Opened, Pulse, Reporter, Sweep};
use crate::run::progress::{Total, correct_total};
use crate::run::snapshot::{Activity, BatchActivity, BatchView, EVENTS};
use crate::run::state::IllegalTransition;
use crate::run::timer::Stopwatch;
use crate::run::vitals::alert_changes;
use crate::run::{
    Estimate, Event, EventKind, Level, Progress, RunState, Signal, Snapshot, StepIndex, StepState, Tally, Vitals,
};

/// Times that a batch may be asked to aim at, in milliseconds.
const TARGETS: [u64; 12] = [25, 50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000];
/// A batch publishes at most this often; state changes always do.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// The state of the run, and where it is published.
pub struct Board {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<Event>,
    scribe: mpsc::Sender<Event>,
}

struct Inner {
    snapshot: Snapshot,
    run_watch: Stopwatch,
    step_watch: Stopwatch,
    step: Option<usize>,
    walk: Option<Walk>,
    statement: Option<Activity>,
    /// The time that batches aim at, where an operator has changed it.
    target: Option<Duration>,
    published: Duration,
}

/// The walk of the running sweep.
struct Walk {
    progress: Progress,
    foretold: Option<u64>,
    position: Option<f64>,
    sweep: u32,
    next_size: u64,
    target: Duration,
    /// The plan's own target: the statement's time limit is made for it.
    plan_target: Duration,
    at_floor: bool,
    last: Option<BatchView>,
    ended: bool,
}

impl Board {
    /// A board that shows `start`. Events for the ledger go to the returned receiver.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, start: Snapshot) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (snapshots, _) = watch::channel(Arc::new(start.clone()));
        let (events, _) = broadcast::channel(1024);
        let (scribe, pages) = mpsc::channel(4096);
        let inner = Inner {
            snapshot: start,
            run_watch: Stopwatch::default(),
            step_watch: Stopwatch::default(),
            step: None,
            walk: None,
            statement: None,
            target: None,
            published: Duration::ZERO,
        };
        (Arc::new(Self { clock, inner: Mutex::new(inner), snapshots, events, scribe }), pages)
    }

    /// Immutable snapshots, the newest wins.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// Every event from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The run's state.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.lock().snapshot.state.clone()
    }

    /// The machine's monotonic time.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Changes the state, stops and starts the watches, tells everybody.
    ///
    /// # Errors
    /// [`IllegalTransition`]; nothing has changed then.
    pub fn signal(&self, signal: &Signal) -> Result<RunState, IllegalTransition> {
        let mut inner = self.lock();
        let next = inner.snapshot.state.after(signal, self.clock.utc())?;
        inner.snapshot.state = next.clone();
        let now = self.clock.elapsed();
        let Inner { run_watch, step_watch, step, .. } = &mut *inner;
        let mut watches = vec![run_watch];
        watches.extend(step.is_some().then_some(step_watch));
        for watch in watches {
            match &next {
                RunState::Paused { .. } => watch.pause(now),
                RunState::Starting | RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => {
                    watch.halt(now);
                }
                RunState::Running
                | RunState::Pausing { .. }
                | RunState::Resuming { .. }
                | RunState::Stopping { .. } => watch.work(now),
            }
        }
        drop(inner);
        let (level, kind, text) = describe(&next);
        if let Some(text) = text {
            self.event(level, kind, text);
        }
        self.publish();
        Ok(next)
    }

    /// Takes over what the database says of the run.
    pub fn opened(&self, opened: &Opened) {
        let mut inner = self.lock();
        inner.snapshot.run.clone_from(&opened.run);
        inner.snapshot.plan.clone_from(&opened.plan);
        inner.snapshot.resume_command.clone_from(&opened.resume_command);
        inner.snapshot.server.clone_from(&opened.server);
        inner.snapshot.started_at = Some(opened.started_at);
        inner.snapshot.steps = opened.steps.iter().map(|step| step.view.clone()).collect();
        inner.run_watch = Stopwatch::with(opened.spent);
        drop(inner);
        self.publish();
    }

    /// A step begins, or goes on.
    pub fn step_started(&self, step: StepIndex) {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let index = step.as_usize();
        let Some(view) = inner.snapshot.steps.get_mut(index) else { return };
        view.state = StepState::Running;
        let text = format!("step {step} `{}` begins", view.name);
        inner.step_watch = Stopwatch::with(view.spent);
        inner.step_watch.work(now);
        inner.step = Some(index);
        inner.walk = None;
        inner.statement = None;
        drop(inner);
        self.event(Level::Info, EventKind::StepStarted, text);
        self.publish();
    }

    /// The running step ended. `failed` keeps it on the screen as the one that stopped the run.
    pub fn step_ended(&self, state: StepState, outcome: Option<String>) {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let Some(index) = inner.step.take() else { return };
        inner.step_watch.halt(now);
        let spent = inner.step_watch.spent(now);
        let after = inner.run_watch.spent(now).total();
        if state == StepState::Done {
            inner.walk = None;
        }
        inner.statement = None;
        let Some(view) = inner.snapshot.steps.get_mut(index) else { return };
        view.state = state;
        view.spent = spent;
        view.outcome = outcome;
        view.ended_after = (state == StepState::Done).then_some(after);
        let text = match &view.outcome {
            Some(outcome) => format!("step `{}`: {outcome}", view.name),
            None => format!("step `{}` done", view.name),
        };
        drop(inner);
        if state == StepState::Done {
            self.event(Level::Info, EventKind::StepFinished, text);
        }
        self.publish();
    }

    /// A sweep begins, or goes on.
    pub fn sweep_started(&self, sweep: &Sweep, size: &BatchSize, plan_target: Duration) {
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(self.clock.elapsed()).worked;
        let here: Tally = sweep.segments.iter().map(|segment| segment.tally).sum();
        inner.walk = Some(Walk {
            progress: Progress::resume(worked, here.walked),
            foretold: sweep.foretold,
            position: None,
            sweep: sweep.number,
            next_size: size.rows(),
            target: size.target(),
            plan_target,
            at_floor: false,
            last: None,
            ended: sweep.segments.iter().all(|segment| segment.done),
        });
        inner.statement = None;
        let mut all = sweep.before;
        all += here;
        inner.set_tally(all);
        drop(inner);
        self.publish();
    }

    /// A batch has committed.
    pub fn batch(&self, done: &BatchDone, took: Duration, size: &BatchSize) {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(now).worked;
        if let Some(index) = inner.step
            && let Some(view) = inner.snapshot.steps.get_mut(index)
        {
            view.rows_walked += done.tally.walked;
            view.rows_changed += done.tally.changed;
            view.batches += done.tally.batches;
        }
        if let Some(walk) = &mut inner.walk {
            walk.progress.batch(worked, done.tally.walked);
            walk.position = done.position;
            walk.next_size = size.rows();
            walk.target = size.target();
            walk.at_floor = size.at_floor();
            walk.last = Some(BatchView { rows: done.tally.walked, took });
        }
        let due = now.saturating_sub(inner.published) >= PUBLISH_EVERY;
        drop(inner);
        if due {
            self.publish();
        }
    }

    /// Every segment of the sweep is done: what was walked is what there was.
    pub fn sweep_ended(&self) {
        if let Some(walk) = &mut self.lock().walk {
            walk.ended = true;
        }
        self.publish();
    }

    /// A note of a clean-up or of another step that is not on the list.
    pub fn outcome(&self, step: StepIndex, outcome: String) {
        if let Some(view) = self.lock().snapshot.steps.get_mut(step.as_usize()) {
            view.outcome = Some(outcome);
        }
        self.publish();
    }

    /// Forgets what the last step was doing.
    pub fn idle(&self) {
        self.lock().statement = None;
        self.publish();
    }

    /// The time that batches aim at, where an operator has changed it.
    #[must_use]
    pub fn wanted_target(&self) -> Option<Duration> {
        self.lock().target
    }

    /// Moves the time that batches aim at by one notch, within four times the plan's own target.
    pub fn aim(&self, longer: bool) {
        let mut inner = self.lock();
        let Some(walk) = &mut inner.walk else { return };
        let now = walk.target.as_millis();
        let next = if longer {
            let most = walk.plan_target * 4;
            TARGETS.iter().find(|ms| u128::from(**ms) > now && Duration::from_millis(**ms) <= most)
        } else {
            TARGETS.iter().rev().find(|ms| u128::from(**ms) < now)
        };
        let text = match next.map(|ms| Duration::from_millis(*ms)) {
            Some(target) => {
                walk.target = target;
                inner.target = Some(target);
                format!("batches aim at {} now", crate::run::human::duration(target))
            }
            None => "batches cannot aim further that way".to_owned(),
        };
        drop(inner);
        self.event(Level::Info, EventKind::StateChanged, text);
        self.publish();
    }

    /// The newest times, for the ledger.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let now = self.clock.elapsed();
        let inner = self.lock();
        let step = inner.step.and_then(|index| u32::try_from(index).ok());
        Pulse {
            run: inner.run_watch.spent(now),
            step: step.map(|index| (StepIndex(index), inner.step_watch.spent(now))),
        }
    }

    /// A second has passed, and the monitor may have news.
    pub fn tick(&self, vitals: &Arc<Vitals>) {
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(self.clock.elapsed()).worked;
        if inner.snapshot.state.is_working()
            && inner.statement.is_none()
            && let Some(walk) = &mut inner.walk
        {
            walk.progress.tick(worked);
        }
        let before = std::mem::replace(&mut inner.snapshot.vitals, Arc::clone(vitals));
        drop(inner);
        for news in alert_changes(&before.alerts, &vitals.alerts) {
            // With the time when it was raised or cleared: the console's pane tells an alert's event by it.
            self.tell(news);
        }
        self.publish();
    }

    /// Tells a fact to everybody: screen, log, ledger.
    pub fn event(&self, level: Level, kind: EventKind, text: String) {
        self.tell(Event { at: self.clock.utc(), level, kind, text });
    }

    fn tell(&self, event: Event) {
        let (kind, text) = (event.kind, &event.text);
        match event.level {
            Level::Info => tracing::info!(kind = kind.name(), "{text}"),
            Level::Warning => tracing::warn!(kind = kind.name(), "{text}"),
            Level::Critical => tracing::error!(kind = kind.name(), "{text}"),
        }
        let mut inner = self.lock();
        inner.snapshot.events.push_back(event.clone());
        while inner.snapshot.events.len() > EVENTS {
            inner.snapshot.events.pop_front();
        }
        drop(inner);
        // Nobody may listen, and a ledger that is slow must not hold the run up: the log has it all.
        drop(self.events.send(event.clone()));
        if self.scribe.try_send(event).is_err() {
            tracing::warn!("the ledger is too slow for an event: it stands only in this log");
        }
    }

    /// Publishes what stands.
    pub fn publish(&self) {
        let elapsed = self.clock.elapsed();
        let mut inner = self.lock();
        inner.published = elapsed;
        inner.refresh(self.clock.utc(), elapsed);
        let snapshot = Arc::new(inner.snapshot.clone());
        // Sent under the lock, so that an older snapshot never follows a newer one.
        self.snapshots.send_replace(snapshot);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn set_tally(&mut self, tally: Tally) {
        if let Some(view) = self.step.and_then(|index| self.snapshot.steps.get_mut(index)) {
            view.rows_walked = tally.walked;
            view.rows_changed = tally.changed;
            view.batches = tally.batches;
        }
    }

    /// Derives what depends on time.
    fn refresh(&mut self, now: DateTime<Utc>, elapsed: Duration) {
        self.snapshot.now = now;
        self.snapshot.spent = self.run_watch.spent(elapsed);
        let spent = self.step_watch.spent(elapsed);
        if let Some(view) = self.step.and_then(|index| self.snapshot.steps.get_mut(index)) {
            view.spent = spent;
        }
        self.snapshot.activity = match (&self.statement, &self.walk) {
            (Some(statement), _) => statement.clone(),
            (None, Some(walk)) => Activity::Batches(walk.activity(spent.worked, self.snapshot.state.is_working())),
            (None, None) => Activity::Idle,
        };
        if let Some(walk) = &self.walk {
            self.snapshot.rate_series.clone_from(walk.progress.series());
        }
    }
}

impl Walk {
    fn activity(&self, worked: Duration, working: bool) -> BatchActivity {
        let walked = self.progress.walked();
        let total = if self.ended {
            Total::Exactly(walked)
        } else {
            correct_total(self.foretold, walked, self.position, self.next_size)
        };
        let estimate = Estimate { walked, total };
        // Past what was foretold, with keys that tell no distance, the total is only "at least".
        let told = self.position.is_some() || self.foretold.is_some_and(|rows| walked < rows);
        let eta = if working && told { self.progress.eta(worked, &estimate) } else { crate::run::Eta::Unknown };
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
            segments: crate::run::snapshot::Parts::default(),
        }
    }
}

impl Reporter for Board {
    fn doing(&self, what: &str, fraction: Option<f64>) {
        let since = self.clock.utc();
        let mut inner = self.lock();
        let since = match &inner.statement {
            Some(Activity::Statement { since, .. }) => *since,
            _ => since,
        };
        inner.statement = Some(Activity::Statement { what: what.to_owned(), fraction, since });
        drop(inner);
        self.publish();
    }

    fn notice(&self, level: Level, text: String) {
        self.event(level, EventKind::Notice, text);
        self.publish();
    }
}
