//! What the engine asks of the rest of the house: traits, and the values that pass through them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::batch_size::Bounds;
use super::gauge::Gauges;
use super::sharing::{Leases, Shares};
use crate::plan::model::{Breaker, Retry};
use crate::plan::window::Window;
pub use crate::run::Trouble;
use crate::run::timer::Spent;
use crate::run::{
    Answered, CacheView, Cause, Command, Event, Guarantee, Level, Request, RunState, Segment, SegmentNo, Snapshot,
    StepIndex, StepView, Tally, Waited,
};

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
    /// What it promises of each row.
    pub guarantee: Guarantee,
    /// When the run began, over all its drivers.
    pub started_at: DateTime<Utc>,
    /// What earlier drivers have spent.
    pub spent: Spent,
    /// Time that earlier drivers have lost to waiting, by reason.
    pub waited: Vec<Waited>,
    /// Whether an earlier driver has begun it.
    pub resumed: bool,
    /// The steps, in the plan's order.
    pub steps: Vec<OpenedStep>,
    /// Where this process has joined a run that another one drives: whoever keeps its leases.
    pub leases: Option<Arc<dyn Leases>>,
    /// Where the run is written down.
    pub ledger: Arc<dyn Ledger>,
    /// Work that goes on beside the run until it is over, such as the heartbeat.
    pub keepers: Vec<BoxFuture<'static, ()>>,
    /// What goes on beside it and publishes the run: it is given the run's snapshots, and takes requests from elsewhere.
    pub relay: Option<Relay>,
    /// Notices to show at the start.
    pub notices: Vec<(Level, String)>,
    /// How fast it may go.
    pub pacing: Pacing,
    /// The cached look-ups of its scripts, where it has any.
    pub lookups: Option<Arc<dyn Lookups>>,
}

/// What is to be shown and told of cached look-ups.
pub trait Lookups: Send + Sync {
    /// How they are used.
    fn views(&self) -> Vec<CacheView>;
    /// What is to be told since this was last asked.
    fn news(&self) -> Vec<(Level, String)>;
}

/// Work beside a run that shows it to others and brings their requests.
pub type Relay =
    Box<dyn FnOnce(watch::Receiver<Arc<Snapshot>>, mpsc::Sender<Request>) -> BoxFuture<'static, ()> + Send>;

/// How fast a run may go, and what it does about errors: from the plan.
#[derive(Clone)]
pub struct Pacing {
    /// The most workers over segments at once, at least 1.
    pub workers: u32,
    /// The most that an operator may ask for: what the connections allow.
    pub most_workers: u32,
    /// After each batch a worker rests for this share of the batch's time.
    pub nice: f64,
    /// How often a batch is tried again.
    pub retry: Retry,
    /// How often a statement is tried again that cannot have a lock.
    pub lock_retry: Retry,
    /// When to stop trying for a while.
    pub breaker: Breaker,
    /// Rows set aside in percent of rows walked: past it the run stops.
    pub error_rate_percent: f64,
    /// When batches may run. Empty: always.
    pub allowed: Vec<Window>,
    /// Reads the governor's signals.
    pub gauges: Arc<dyn Gauges>,
}

/// A step that is ready to be run.
pub struct OpenedStep {
    /// How far earlier drivers came.
    pub view: StepView,
    /// What it does.
    pub body: StepBody,
    /// Whether its clean-up is still to be run, once the plan has succeeded.
    pub wants_cleanup: bool,
    /// What lets other processes walk segments of it. `None`: nobody else can.
    pub shares: Option<Arc<dyn Shares>>,
}

/// What a step does, by the way it is driven.
pub enum StepBody {
    /// One thing, done or not done.
    Once(Arc<dyn Once>),
    /// Segments, batch by batch.
    Batched(Arc<dyn Batched>),
}

/// Where a run is written down; every method may fail with [`StepError::Passing`], and is then called again. What belongs to a change is not here: the step writes that itself, with the change.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// A step begins, or begins again.
    async fn step_started(&self, step: StepIndex) -> Result<(), StepError>;
    /// The times of a step that has written itself down as done: its own, and from the run's start to its end.
    async fn step_ended(&self, step: StepIndex, view: &StepView) -> Result<(), StepError>;
    /// A step ended by an error.
    async fn step_failed(&self, step: StepIndex, cause: &Cause) -> Result<(), StepError>;
    /// The run's state, with the time spent. Durable when it returns.
    async fn run_state(&self, state: &RunState, pulse: Pulse) -> Result<(), StepError>;
    /// The newest times, for the next heartbeat. Never waits.
    fn pulse(&self, pulse: Pulse);
    /// A fact for the record.
    async fn event(&self, event: &Event) -> Result<(), Cause>;
    /// What an operator asked for, and what came of it, for the record.
    async fn command(&self, answered: &Answered) -> Result<(), Cause>;
    /// Asks the server for something that an operator wants of it: to cancel or end a session. Returns what came of it.
    async fn errand(&self, command: &Command) -> Result<String, Cause>;
    /// Holds the reason once the lock on the run is lost.
    fn lost(&self) -> watch::Receiver<Option<Cause>>;
    /// Gives the lock back.
    async fn close(&self);
}

/// What the ledger keeps of a run's course, once every few seconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pulse {
    /// The run's times.
    pub run: Spent,
    /// Time lost to waiting, by reason.
    pub waited: Vec<Waited>,
    /// The running step's.
    pub step: Option<StepPulse>,
}

/// What the ledger keeps of the running step's course.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepPulse {
    /// Which.
    pub index: StepIndex,
    /// Its times.
    pub spent: Spent,
    /// Time lost to waiting.
    pub waited: Duration,
    /// Batches that were tried again.
    pub retries: u64,
}

/// Why a step, or a batch of it, did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepError {
    /// It was asked to stop.
    Stopped,
    /// It failed, and trying again would not help.
    Failed(Cause),
    /// It failed, nothing of it was kept, and it may succeed later.
    Passing(Trouble, Cause),
}

impl StepError {
    /// A failure that is of some trouble, or of none that passes.
    #[must_use]
    pub fn of(trouble: Option<Trouble>, cause: Cause) -> Self {
        match trouble {
            Some(trouble) => Self::Passing(trouble, cause),
            None => Self::Failed(cause),
        }
    }
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
    /// The plan of the statement of the batch that `segment` has just committed.
    fn explained(&self, segment: SegmentNo, plan: String);
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
    /// A worker; it connects when it is first asked for something.
    ///
    /// # Errors
    /// The step was not opened.
    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError>;
    /// Work that goes on beside the workers as long as they walk, such as a watch for sessions that wait for them.
    /// Dropped when they are done.
    fn companions(&self, context: &StepContext) -> Vec<BoxFuture<'static, ()>>;
    /// Once every segment is done: is the step? Writes it down when it is, plans another sweep when it is not.
    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError>;
    /// Bounds of a batch.
    fn bounds(&self) -> Bounds;
    /// The time that a batch aims at.
    fn target(&self) -> Duration;
}

/// Walks segments, on connections of its own. After any failure it is asked to [`recover`](BatchWorker::recover) before
/// anything else.
#[async_trait]
pub trait BatchWorker: Send {
    /// Changes the next `rows` rows of the segment and moves its cursor, in one transaction. The segment is unchanged
    /// when this fails.
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError>;
    /// Cuts the segment about `ahead` rows behind its cursor: it keeps the part up to there, the rest is a segment
    /// `number` of its own, written down. `None`: not so many rows are left.
    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError>;
    /// A connection that works, and the segment as the ledger has it: a commit whose answer was lost may have come
    /// about.
    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError>;
    /// Gives its connections back.
    async fn close(self: Box<Self>);
}

/// What had come about unnoticed before a failure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// What a batch did that had committed after all.
    pub tally: Option<Tally>,
    /// The segment that a split had made after all.
    pub split: Option<Segment>,
    /// The segment is not in the ledger: a crash of the server has lost the split that had made it, and its rows belong to
    /// the segment that it was cut from again.
    pub vanished: bool,
}

/// A batch that has committed.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchDone {
    /// What it did.
    pub tally: Tally,
    /// The cursor's place in its segment, 0 to 1, where keys tell.
    pub position: Option<f64>,
}

/// A walk over the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// From 1.
    pub number: u32,
    /// The table that is walked: `schema.table`, or only `table` in schema `public`. `None`: not one table.
    pub table: Option<String>,
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Segments that may still be made by splitting these.
    pub room: u32,
    /// Rows that statistics foretell for it.
    pub foretold: Option<u64>,
    /// How much of the input each segment is, in whatever unit, as they stand in `segments`. Empty: all alike.
    pub weights: Vec<u64>,
    /// Bytes of the whole sweep's input, as it lies there, where it is counted in bytes.
    pub bytes: Option<u64>,
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
    /// What this sweep was about is done; another one has been planned, for this: `orders, order_lines`.
    Next(String),
    /// Segments of this sweep are not done, by the ledger: they are still to be walked.
    Unfinished,
}
