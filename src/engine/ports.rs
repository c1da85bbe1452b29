//! What the engine asks of the rest of the house: traits, and the values that pass through them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch_size::Bounds;
use crate::run::timer::Spent;
use crate::run::{Cause, Event, Level, RunState, Segment, StepIndex, StepView, Tally};

/// Everything that a run needs, once the database has answered and the run is ours.
pub struct Opened {
    /// The run's short id.
    pub run: String,
    /// The plan's name.
    pub plan: String,
    /// The command that goes on with this run.
    pub resume_command: String,
    /// `database@host:port`.
    pub server: String,
    /// When the run began, over all its drivers.
    pub started_at: DateTime<Utc>,
    /// What earlier drivers have spent.
    pub spent: Spent,
    /// Whether an earlier driver has begun it.
    pub resumed: bool,
    /// The steps, in the plan's order.
    pub steps: Vec<OpenedStep>,
    /// Where the run is written down.
    pub ledger: Arc<dyn Ledger>,
    /// Work that goes on beside the run until it is over, such as the heartbeat.
    pub keepers: Vec<BoxFuture<'static, ()>>,
    /// Notices to show at the start.
    pub notices: Vec<(Level, String)>,
}

/// A step that is ready to be run.
pub struct OpenedStep {
    /// How far earlier drivers came.
    pub view: StepView,
    /// What it does.
    pub body: StepBody,
    /// Whether its clean-up is still to be run, once the plan has succeeded.
    pub wants_cleanup: bool,
}

/// What a step does, by the way it is driven.
pub enum StepBody {
    /// One thing, done or not done.
    Once(Arc<dyn Once>),
    /// Segments, batch by batch.
    Batched(Arc<dyn Batched>),
}

/// Where a run is written down. What belongs to a change is not here: the step writes that itself, with the change.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// A step begins, or begins again.
    async fn step_started(&self, step: StepIndex) -> Result<(), Cause>;
    /// The times of a step that has written itself down as done: its own, and from the run's start to its end.
    async fn step_ended(&self, step: StepIndex, spent: Spent, after: Duration) -> Result<(), Cause>;
    /// A step ended by an error.
    async fn step_failed(&self, step: StepIndex, cause: &Cause) -> Result<(), Cause>;
    /// The run's state, with the time spent. Durable when it returns.
    async fn run_state(&self, state: &RunState, pulse: Pulse) -> Result<(), Cause>;
    /// The newest times, for the next heartbeat. Never waits.
    fn pulse(&self, pulse: Pulse);
    /// A fact for the record.
    async fn event(&self, event: &Event) -> Result<(), Cause>;
    /// Holds the reason once the lock on the run is lost.
    fn lost(&self) -> watch::Receiver<Option<Cause>>;
    /// Gives the lock back.
    async fn close(&self);
}

/// Times spent, as the ledger keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse {
    /// The run's.
    pub run: Spent,
    /// The running step's.
    pub step: Option<(StepIndex, Spent)>,
}

/// Why a step did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// It was asked to stop.
    Stopped,
    /// It failed.
    Failed(Cause),
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}

/// What a step may say and must heed while it works.
#[derive(Clone)]
pub struct StepContext {
    /// Cancelled when the run is to stop.
    pub stop: CancellationToken,
    /// Where it tells what it is doing.
    pub reporter: Arc<dyn Reporter>,
}

/// Takes news from a step.
pub trait Reporter: Send + Sync {
    /// What the step is doing now, and the share done, 0 to 1.
    fn doing(&self, what: &str, fraction: Option<f64>);
    /// A line for the operator.
    fn notice(&self, level: Level, text: String);
}

/// A step that is one thing. It writes itself down as done, where it can in the same transaction.
#[async_trait]
pub trait Once: Send + Sync {
    /// Does it. Returns what there is to say.
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError>;
    /// Runs its `down`, after the whole plan has succeeded.
    async fn clean_up(&self, context: &StepContext) -> Result<(), StepError>;
}

/// A step of many batches.
#[async_trait]
pub trait Batched: Send + Sync {
    /// The sweep that is under way; plans the first one.
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError>;
    /// A worker with a connection of its own.
    async fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError>;
    /// Once every segment is done: is the step? Writes it down when it is, plans another sweep when it is not.
    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError>;
    /// Bounds of a batch.
    fn bounds(&self) -> Bounds;
    /// The time that a batch aims at.
    fn target(&self) -> Duration;
}

/// Walks segments.
#[async_trait]
pub trait BatchWorker: Send {
    /// Changes the next `rows` rows of the segment and moves its cursor, in one transaction. The segment is unchanged
    /// when this fails.
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError>;
    /// Gives its connection back.
    async fn close(self: Box<Self>);
}

/// A batch that has committed.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchDone {
    /// What it did.
    pub tally: Tally,
    /// The cursor's place between the first key and the last, 0 to 1, where keys tell.
    pub position: Option<f64>,
}

/// A walk over the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// From 1.
    pub number: u32,
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Rows that statistics foretell for it.
    pub foretold: Option<u64>,
    /// What all earlier sweeps did.
    pub before: Tally,
}

/// What comes after a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// The step is done and written down, with this to say.
    Done(Option<String>),
    /// Rows are left: another sweep has been planned.
    Again {
        /// How many.
        left: u64,
    },
}
