//! The run's state in one place: changed here, published from here.
//!
//! A plain mutex guards it, and no await happens under it. Readers get immutable snapshots by `watch`.

mod asked;
mod inner;
mod pace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{broadcast, mpsc, watch};

use crate::engine::batch_size::BatchSize;
use crate::engine::breaker::Breaker;
use crate::engine::clock::Clock;
use crate::engine::course::Course;
use crate::engine::news::describe;
use crate::engine::ports::{Opened, Pulse, Reporter, StepPulse, Sweep};
use crate::engine::survey::words;
use crate::engine::turnstile::{Held, Turnstile};
use crate::engine::walk::{Step, Walk};
use crate::engine::yard;
use crate::run::member::MemberView;
use crate::run::snapshot::{Activity, EVENTS, Parts, Unit};
use crate::run::state::IllegalTransition;
use crate::run::timer::Stopwatch;
use crate::run::vitals::alert_changes;
use crate::run::work::{SlowBatch, Work};
use crate::run::{
    Answered, Event, EventKind, Level, RunState, SegmentNo, Signal, Snapshot, StepIndex, StepState, Vitals, human,
};
pub use asked::HOURS;
use inner::Inner;

/// A batch publishes at most this often; state changes always do.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// Sees the running sweep from near, at a time of the monotonic clock.
pub type Survey = Arc<dyn Fn(Duration) -> Work + Send + Sync>;

/// A line of the record, on its way to the ledger.
#[derive(Debug, Clone)]
pub enum Page {
    /// Something happened.
    Event(Event),
    /// Somebody asked for something.
    Command(Answered),
}

/// The state of the run, and where it is published.
pub struct Board {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<Event>,
    scribe: mpsc::Sender<Page>,
}

impl Board {
    /// A board that shows `start`. Events for the ledger go to the returned receiver.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, start: Snapshot) -> (Arc<Self>, mpsc::Receiver<Page>) {
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
            turnstile: Turnstile::new(Breaker::new(1, Duration::ZERO), 1),
            signals: Vec::new(),
            most_workers: (1, 1),
            baseline: None,
            target: None,
            skipping: None,
            survey: None,
            course: Course::default(),
            lookups: None,
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

    /// Whether any batch is open: here, or, as far as it is known, at a process that has joined the run.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let inner = self.lock();
        inner.turnstile.open() > 0 || inner.snapshot.members.iter().any(|member| !member.is_resting)
    }

    /// Processes that have joined the run.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        self.lock().snapshot.members.clone()
    }

    /// The sweep is over: nobody else has a batch open, nor opens one before the next.
    pub fn rest_members(&self) {
        for member in &mut self.lock().snapshot.members {
            member.is_resting = true;
        }
    }

    /// Processes have joined, have come nearer to their edge, are gone.
    pub fn set_members(&self, members: &[MemberView]) {
        let mut inner = self.lock();
        if inner.snapshot.members == *members {
            return;
        }
        let before = std::mem::replace(&mut inner.snapshot.members, members.to_vec());
        drop(inner);
        let is_in = |list: &[MemberView], one: &MemberView| list.iter().any(|other| other.place == one.place);
        for member in members.iter().filter(|member| !is_in(&before, member)) {
            let text = format!("process {} on {} has joined, with {} workers", member.pid, member.host, member.workers);
            self.event(Level::Info, EventKind::Notice, text);
        }
        for member in before.iter().filter(|member| !is_in(members, member)) {
            let text = format!("process {} on {}, which had joined, has left or is gone", member.pid, member.host);
            self.event(Level::Info, EventKind::Notice, text);
        }
        self.publish();
    }

    /// The machine's time of day.
    #[must_use]
    pub fn utc(&self) -> DateTime<Utc> {
        self.clock.utc()
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
        // Whether a batch is open is asked under the same lock that opens one.
        if matches!(inner.snapshot.state, RunState::Pausing { .. } | RunState::Stopping { .. })
            && *signal == Signal::AtEdge
            && inner.turnstile.open() > 0
        {
            return Err(IllegalTransition { from: inner.snapshot.state.word(), signal: "at edge" });
        }
        let next = inner.snapshot.state.after(signal, self.clock.utc())?;
        let now = self.clock.elapsed();
        inner.count(now, self.clock.utc());
        inner.snapshot.state = next.clone();
        inner.count(now, self.clock.utc());
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
        inner.snapshot.guarantee = opened.guarantee;
        inner.snapshot.started_at = Some(opened.started_at);
        inner.snapshot.steps = opened.steps.iter().map(|step| step.view.clone()).collect();
        inner.run_watch = Stopwatch::with(opened.spent);
        let pacing = &opened.pacing;
        let breaker = Breaker::new(pacing.breaker.failures, pacing.breaker.reset);
        inner.turnstile = Turnstile::new(breaker, pacing.workers);
        inner.turnstile.resume(&opened.waited);
        // Nobody passes before the governor's first word.
        inner.turnstile.govern(pacing.workers, pacing.workers, Some(Held::unread_yet()));
        inner.most_workers = (pacing.workers, pacing.most_workers);
        inner.lookups.clone_from(&opened.lookups);
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
        let (spent, waited) = (view.spent, view.waited);
        inner.step_watch = Stopwatch::with(spent);
        inner.count(now, self.clock.utc());
        inner.turnstile.begin_step(waited);
        inner.baseline = None;
        inner.step_watch.work(now);
        inner.step = Some(index);
        inner.course.begin();
        inner.survey = None;
        inner.snapshot.work = Arc::default();
        inner.walk = None;
        inner.statement = None;
        drop(inner);
        self.event(Level::Info, EventKind::StepStarted, text);
        self.publish();
    }

    /// The running step ended. `failed` keeps it on the screen as the one that stopped the run.
    pub fn step_ended(&self, state: StepState, outcome: Option<String>) {
        self.tell_of_lookups();
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let Some(index) = inner.step.take() else { return };
        inner.step_watch.halt(now);
        inner.count(now, self.clock.utc());
        let waited = inner.turnstile.step_waited();
        let spent = inner.step_watch.spent(now);
        let after = inner.run_watch.spent(now).total();
        if state == StepState::Done {
            inner.walk = None;
        }
        inner.statement = None;
        let Some(view) = inner.snapshot.steps.get_mut(index) else { return };
        view.state = state;
        view.spent = spent;
        view.waited = waited;
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
    pub fn sweep_started(&self, sweep: &Sweep, size: &BatchSize, plan_target: Duration, parts: Parts, survey: Survey) {
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(self.clock.elapsed()).worked;
        let unit = inner.view().map_or(Unit::Rows, |view| Unit::of_kind(&view.kind));
        inner.walk = Some(Walk::new(sweep, unit, size, plan_target, worked, parts));
        inner.statement = None;
        inner.survey = Some(survey);
        let mut all = sweep.before;
        all += yard::total(&sweep.segments);
        inner.set_tally(all);
        drop(inner);
        self.publish();
    }

    /// A batch has committed.
    pub fn batch(&self, step: &Step<'_>) {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(now).worked;
        if let Some(view) = inner.view() {
            view.rows_walked += step.tally.walked;
            view.rows_changed += step.tally.changed;
            view.batches += step.tally.batches;
            view.quarantined += step.tally.quarantined;
        }
        if let Some(walk) = &mut inner.walk {
            walk.advance(step, worked);
        }
        if let Some(took) = step.took {
            inner.course.push(SlowBatch {
                at: self.clock.utc(),
                segment: step.segment.no.0,
                from: step.from.map(words),
                to: step.segment.cursor.as_ref().map(words),
                rows: step.tally.walked,
                took,
                plan: None,
            });
        }
        let due = now.saturating_sub(inner.published) >= PUBLISH_EVERY;
        drop(inner);
        if step.tally.quarantined > 0 {
            let text = format!("{} set aside; `howdah quarantine list` tells why", human::rows(step.tally.quarantined));
            self.event(Level::Warning, EventKind::Quarantined, text);
        }
        if due {
            self.publish();
        }
    }

    /// Every segment of the sweep is done.
    pub fn sweep_ended(&self, parts: Parts) {
        if let Some(walk) = &mut self.lock().walk {
            walk.end(parts);
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

    /// The newest times, for the ledger.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        inner.count(now, self.clock.utc());
        let step = inner.step.and_then(|index| u32::try_from(index).ok());
        let (spent, waited) = (inner.step_watch.spent(now), inner.turnstile.step_waited());
        let retries = inner.view().map_or(0, |view| view.retries);
        Pulse {
            run: inner.run_watch.spent(now),
            waited: inner.turnstile.waited(),
            step: step.map(|index| StepPulse { index: StepIndex(index), spent, waited, retries }),
        }
    }

    /// The running sweep from near. The yard is asked without the board's own lock.
    fn survey(&self) {
        let Some(survey) = self.lock().survey.clone() else { return };
        let mut work = survey(self.clock.elapsed());
        let mut inner = self.lock();
        // Another step, or another sweep, may have begun meanwhile.
        if inner.survey.as_ref().is_none_or(|newest| !Arc::ptr_eq(newest, &survey)) {
            return;
        }
        work.slowest = inner.course.slowest().to_vec();
        work.latency = inner.course.latency();
        inner.snapshot.work = Arc::new(work);
    }

    /// Tells what is new of cached look-ups.
    fn tell_of_lookups(&self) {
        let Some(lookups) = self.lock().lookups.clone() else { return };
        for (level, text) in lookups.news() {
            self.event(level, EventKind::Notice, text);
        }
    }

    /// A second has passed, and the monitor may have news.
    pub fn tick(&self, vitals: &Arc<Vitals>) {
        self.survey();
        let mut inner = self.lock();
        let worked = inner.step_watch.spent(self.clock.elapsed()).worked;
        if inner.snapshot.state.is_working()
            && inner.statement.is_none()
            && let Some(walk) = &mut inner.walk
        {
            walk.tick(worked);
        }
        inner.churn(vitals);
        inner.remember(self.clock.utc(), vitals);
        let before = std::mem::replace(&mut inner.snapshot.vitals, Arc::clone(vitals));
        drop(inner);
        self.tell_of_lookups();
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
        self.record(Page::Event(event));
    }

    /// For the ledger: one that is slow must not hold the run up.
    fn record(&self, page: Page) {
        if self.scribe.try_send(page).is_err() {
            tracing::warn!("the ledger is too slow for its record: a line of it stands only in this log");
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

    fn explained(&self, segment: SegmentNo, plan: String) {
        self.lock().course.explain(segment.0, plan);
    }

    fn notice(&self, level: Level, text: String) {
        self.event(level, EventKind::Notice, text);
        self.publish();
    }
}
