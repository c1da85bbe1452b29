//! Everything that a reader of a run may show, at one moment. Immutable: the engine publishes a new one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::member::MemberView;
use super::progress::{Estimate, Eta};
use super::timer::Spent;
use super::{Answered, CacheView, Churn, Event, Guarantee, History, Pace, Presence, RunState, StepState, Vitals, Work};

/// How many points the series in a snapshot hold at most.
pub const SERIES: usize = 100;
/// How many events a snapshot holds at most, newest last.
pub const EVENTS: usize = 100;
/// How many commands a snapshot holds at most, newest last.
pub const COMMANDS: usize = 30;

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The time of this snapshot, by the driver's clock. Readers show this time and never ask a clock.
    pub now: DateTime<Utc>,
    /// The run's short id, eight hex digits.
    pub run: String,
    /// The plan's name. Not cleaned.
    pub plan: String,
    /// `database@host:port`, without user or password. Empty until connected. Not cleaned.
    pub server: String,
    /// The host that drives the run.
    pub host: String,
    /// Where the run stands.
    pub state: RunState,
    /// When this run began, over all its drivers.
    pub started_at: Option<DateTime<Utc>>,
    /// Time at work and in pause, over all its drivers.
    pub spent: Spent,
    /// The plan's steps, in order.
    pub steps: Vec<StepView>,
    /// What the running step is about, where one runs.
    pub activity: Activity,
    /// Rows a second over the last seconds of work, newest last, one point a second of work.
    pub rate_series: VecDeque<f64>,
    /// What happened, newest last.
    pub events: VecDeque<Event>,
    /// At which pace it goes, and why not faster.
    pub pace: Pace,
    /// What the monitor measures.
    pub vitals: Arc<Vitals>,
    /// The command that goes on with this run, for a person to copy.
    pub resume_command: String,
    /// Who drives it, and whether that driver lives.
    #[serde(default)]
    pub presence: Presence,
    /// What operators asked for, and what came of it; newest last, at most [`COMMANDS`].
    #[serde(default)]
    pub commands: VecDeque<Answered>,
    /// Alerts that somebody has taken note of.
    #[serde(default)]
    pub acknowledged: Vec<Acknowledged>,
    /// Alerts that are kept quiet for a time.
    #[serde(default)]
    pub silenced: Vec<Silenced>,
    /// Processes that have joined the run, and walk segments of the running sweep.
    #[serde(default)]
    pub members: Vec<MemberView>,
    /// The running sweep from near.
    #[serde(default)]
    pub work: Arc<Work>,
    /// The cached look-ups of its scripts. Empty: it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheView>,
    /// What the run promises of each row.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// The course of the run over time. Not part of what is sent once a second.
    #[serde(skip)]
    pub history: Arc<History>,
}

/// An alert that somebody has taken note of: it counts until it is raised again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// [`Alert::key`](super::vitals::Alert::key).
    pub key: String,
    /// How often it had been raised then.
    pub count: u32,
    /// Who. Not cleaned.
    pub who: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// An alert that is kept quiet for a time: it is shown and logged, and neither rings nor is told to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silenced {
    /// [`Alert::key`](super::vitals::Alert::key).
    pub key: String,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Who. Not cleaned.
    pub who: String,
}

impl Snapshot {
    /// The snapshot of a run that has just been asked for.
    #[must_use]
    pub fn starting(now: DateTime<Utc>, run: String, plan: String, host: String) -> Self {
        Self {
            now,
            run,
            plan,
            server: String::new(),
            host,
            state: RunState::Starting,
            started_at: None,
            spent: Spent::default(),
            steps: Vec::new(),
            activity: Activity::Idle,
            rate_series: VecDeque::new(),
            events: VecDeque::new(),
            pace: Pace::default(),
            vitals: Arc::new(Vitals::default()),
            resume_command: String::new(),
            presence: Presence::Here,
            commands: VecDeque::new(),
            acknowledged: Vec::new(),
            silenced: Vec::new(),
            members: Vec::new(),
            work: Arc::default(),
            caches: Vec::new(),
            guarantee: Guarantee::default(),
            history: Arc::default(),
        }
    }

    /// The step that runs, or failed last, with its position from 0.
    #[must_use]
    pub fn current_step(&self) -> Option<(usize, &StepView)> {
        self.steps.iter().enumerate().find(|(_, step)| matches!(step.state, StepState::Running | StepState::Failed))
    }

    /// Rows set aside, over all steps.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.steps.iter().map(|step| step.quarantined).sum()
    }

    /// Takes out what foretells anything: nobody works on the run, or nobody can tell.
    pub fn stand_still(&mut self) {
        if let Activity::Batches(batches) = &mut self.activity {
            batches.eta = Eta::Unknown;
            batches.rate = None;
        }
        self.pace.workers = 0;
    }

    /// Whether somebody has taken note of `alert` since it was raised last.
    #[must_use]
    pub fn is_acknowledged(&self, alert: &super::vitals::Alert) -> bool {
        self.acknowledged.iter().any(|noted| noted.key == alert.key && noted.count == alert.count)
    }

    /// Until when, and by whom, the alert of that key is kept quiet.
    #[must_use]
    pub fn silence(&self, key: &str) -> Option<&Silenced> {
        self.silenced.iter().find(|silenced| silenced.key == key && silenced.until > self.now)
    }

    /// Rows changed, over all steps.
    #[must_use]
    pub fn rows_changed(&self) -> u64 {
        self.steps.iter().map(|step| step.rows_changed).sum()
    }
}

/// One step of the plan, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// The step's name. Not cleaned.
    pub name: String,
    /// The kind's word, such as `statement`, `backfill`, `import`.
    pub kind: String,
    /// Where it stands.
    pub state: StepState,
    /// The step's own time, over all drivers.
    pub spent: Spent,
    /// The time from the run's start to this step's end, work and pause. `None` before the end.
    pub ended_after: Option<Duration>,
    /// Rows whose keys have been walked, over all sweeps.
    pub rows_walked: u64,
    /// Rows that were changed.
    pub rows_changed: u64,
    /// Batches committed.
    pub batches: u64,
    /// Batches that were tried again.
    pub retries: u64,
    /// Rows set aside because the data is wrong.
    pub quarantined: u64,
    /// Time lost to waiting for the server's sake. Part of the time at work.
    pub waited: Duration,
    /// What the step did to its table, where statistics tell.
    pub churn: Option<Churn>,
    /// What the step said at its end, such as `0 left` or `index already there`.
    pub outcome: Option<String>,
}

impl StepView {
    /// A step of which nothing is done.
    #[must_use]
    pub fn new(name: String, kind: String) -> Self {
        Self {
            name,
            kind,
            state: StepState::Waiting,
            spent: Spent::default(),
            ended_after: None,
            rows_walked: 0,
            rows_changed: 0,
            batches: 0,
            retries: 0,
            quarantined: 0,
            waited: Duration::ZERO,
            churn: None,
            outcome: None,
        }
    }
}

/// What the running step is doing right now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "doing")]
pub enum Activity {
    /// No step runs.
    Idle,
    /// Walking batches.
    Batches(BatchActivity),
    /// One statement that takes a while: an index being built, a count.
    Statement {
        /// What it is, such as `building index: scanning table`.
        what: String,
        /// Share done, 0 to 1, where the server tells.
        fraction: Option<f64>,
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// Walking batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchActivity {
    /// Rows walked in this sweep, and how many there are.
    pub estimate: Estimate,
    /// Which sweep, from 1. Later sweeps look for rows that came in behind the cursor.
    pub sweep: u32,
    /// When the step will have ended.
    pub eta: Eta,
    /// Rows a second over the last ten seconds of work. `None` until known.
    pub rate: Option<f64>,
    /// Rows a second over the step's whole time at work. `None` until known.
    pub mean_rate: Option<f64>,
    /// The batch that committed last.
    pub last: Option<BatchView>,
    /// Rows that the next batch will hold.
    pub next_size: u64,
    /// The time that a batch aims at.
    pub target: Duration,
    /// Whether the size stands at the plan's `batch.min` and is still too slow.
    pub at_floor: bool,
    /// Segments of the sweep, and how many of them are done.
    pub segments: Parts,
    /// Bytes of its input, where it is counted in bytes.
    #[serde(default)]
    pub bytes: Option<Bytes>,
    /// What `estimate` counts.
    #[serde(default)]
    pub unit: Unit,
}

/// What a step walks, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Rows, or records of a file.
    #[default]
    Rows,
    /// Files as a whole.
    Files,
}

impl Unit {
    /// The noun for more than one.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Files => "files",
        }
    }

    /// What a step of the kind `word` walks.
    #[must_use]
    pub fn of_kind(word: &str) -> Self {
        if word == "files" { Self::Files } else { Self::Rows }
    }
}

/// Bytes of an input as it lies there: compressed files by their compressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Read, and what was in them committed.
    pub done: u64,
    /// In all.
    pub all: u64,
}

/// How many parts there are, and how many of them are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Parts {
    /// Done.
    pub done: u32,
    /// In all.
    pub all: u32,
}

/// A batch that has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchView {
    /// Rows whose keys were walked.
    pub rows: u64,
    /// From the start of its transaction to its commit.
    pub took: Duration,
}
