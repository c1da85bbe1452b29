//! The plan as the rest of the house sees it: checked, complete, every default filled in.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::alarms::Alarms;
use super::indexing::{Analyze, Index, Reindex};
use super::movers::{Copy, FileTransform, Import, Transform};
use super::window::Window;
use crate::run::ByteSize;

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name: shown, and stored with each run.
    pub name: String,
    /// Where it was read from, and its text: for excerpts in errors.
    pub source: PlanSource,
    /// `[database]`.
    pub database: DatabaseOptions,
    /// `[limits]`.
    pub limits: Limits,
    /// `[retry]`.
    pub retry: Retry,
    /// `[breaker]`.
    pub breaker: Breaker,
    /// `[alerts]`.
    pub alerts: AlertLimits,
    /// `[[alerts.rule]]` and `[[notify]]`.
    pub alarms: Alarms,
    /// What the loss of the terminal does. Default: the run goes on.
    pub on_hangup: OnHangup,
    /// `[redis]`.
    pub redis: RedisOptions,
    /// `ledger.store`. Default: the target database.
    pub store: Store,
    /// `[cache.NAME]`, in the order of their names.
    pub caches: Vec<CachedLookup>,
    /// `[check]`.
    pub check: CheckOptions,
    /// The steps, in order; at least one.
    pub steps: Vec<Step>,
}

/// `[check]`: what is looked at before a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// `allow`: codes of findings that are accepted: they neither stop a run nor are told at its start.
    pub allow: Vec<Sql>,
}

/// `[redis]`: where cached look-ups are shared, and the ledger lies where the plan wants that.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `url`. `None`: `--redis`, `HOWDAH_REDIS`, `REDIS_URL`.
    pub url: Option<SecretString>,
    /// `password_file`: holds the password, where the address has none.
    pub password_file: Option<PathBuf>,
    /// `ca`: certificates of one's own authority, PEM.
    pub ca: Option<PathBuf>,
    /// `prefix`: what every key begins with. Default `howdah`.
    pub prefix: String,
    /// `timeout`: how long an answer may take. Default 2 s.
    pub timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { url: None, password_file: None, ca: None, prefix: "howdah".to_owned(), timeout: Duration::from_secs(2) }
    }
}

/// Where a run is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Store {
    /// Schema `howdah` of the target database: exact.
    #[default]
    Postgres,
    /// Redis: at least once, and only for changes that may be made twice.
    Redis,
}

/// `[cache.NAME]`: a look-up that is kept for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLookup {
    /// Its name, for `lookup("name", ...)`.
    pub name: String,
    /// The query.
    pub sql: Sql,
    /// How long an answer is kept; also that there is none. Default 1 h.
    pub ttl: Duration,
    /// Answers kept in this process. Default 100,000.
    pub most: u64,
}

/// What the loss of the terminal (SIGHUP) does to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnHangup {
    /// `"continue"`: it goes on without a console.
    #[default]
    Continue,
    /// `"pause"`: it pauses at the batch's edge, and waits for somebody to attach.
    Pause,
    /// `"stop"`: it ends at the batch's edge, resumable.
    Stop,
}

/// The text of a plan, before `${ENV}` was filled in, and where it lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSource {
    /// The absolute path of the file; `None` for a plan that is compiled in.
    pub path: Option<PathBuf>,
    /// How messages name it: the path as it was given.
    pub label: String,
    /// The file's text with `${ENV}` as written.
    pub text: String,
}

/// A text from the plan that may hold SQL, with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The text after `${ENV}` was filled in.
    pub text: String,
    /// Where the value stands in [`PlanSource::text`], quotes included.
    pub span: Range<usize>,
}

/// `[database]`: where, and with how many connections.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// A `postgres://` URL. `None`: `--database`, `DATABASE_URL`, then libpq's own variables.
    pub url: Option<SecretString>,
    /// `control`: an address of the same database that leads to the server itself, used in the place of `url` where that
    /// leads through a pooler in transaction mode. howdah needs sessions of its own: for its lock, for its timeouts.
    pub control: Option<SecretString>,
    /// `slow`: a statement of a batch that takes longer is logged with its plan, once per shape. Default 1 s.
    pub slow: Duration,
    /// `pool.max`: the most connections at once, at least 4. Default 20.
    pub pool_max: u32,
    /// `pool.idle`: an idle connection is closed after this. Default 30 s.
    pub pool_idle: Duration,
    /// `pool.connect`: how long a connection may take to open. Default 2 s.
    pub pool_connect: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The most workers over segments at once. Default: the host's cores, at most 8.
    pub workers: u32,
    /// How large a batch is.
    pub batch: BatchLimits,
    /// How long a statement waits for a lock. Default 2 s.
    pub lock_timeout: Duration,
    /// `lock_retry`: how what is not a batch is tried again when it cannot have a lock. Default 30 attempts, 1 s to 30 s apart.
    pub lock_retry: Retry,
    /// How long a batch's statement may run. Default ten times `batch.target`, and at least twice `lock_timeout`.
    pub statement_timeout: Duration,
    /// How long a transaction of ours may stand idle. Default 60 s.
    pub idle_in_transaction_timeout: Duration,
    /// How long the count of what is left, and a `verify`, may take. Default 10 min.
    pub count_timeout: Duration,
    /// Rows that may be set aside in a run; one more stops it, resumable. Default 100.
    pub max_quarantined: u64,
    /// `nice`: after each batch a worker rests for this share of the batch's time, 0 to 100. Default 0.
    pub nice: f64,
    /// `waiters`: how long another session may wait for a lock of a batch before the batch gives way. `None`: it never
    /// does (`waiters = "off"`). Default 200 ms.
    pub waiters: Option<Duration>,
    /// What is done about dead rows of the step's table. Default: nothing.
    pub vacuum: Vacuum,
    /// When batches may run: inside any of these. Empty: always.
    pub allowed: Vec<Window>,
    /// The governor's signals.
    pub signals: Signals,
}

/// What a backfill does once its table has more dead rows than twice what wakes autovacuum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vacuum {
    /// Nothing: they are only shown.
    #[default]
    Off,
    /// `"wait"`: batches wait until autovacuum has cleared them.
    Wait,
    /// `"run"`: howdah runs VACUUM on the table between batches.
    Run,
}

/// The limits of one signal. For `free_disk` and `free_memory` a value below the limit is past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold<T> {
    /// Past this, batches wait.
    pub slow: T,
    /// Past this, the run is paused. `None`: it never is.
    pub stop: Option<T>,
}

/// The limits of the governor's signals; a signal without limits is not read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signals {
    /// How far the slowest standby is behind. Default: slow 5 s, stop 60 s.
    pub replay_lag: Option<Threshold<Duration>>,
    /// WAL that replication slots keep. Default: slow 16 GiB, stop 64 GiB.
    pub wal: Option<Threshold<ByteSize>>,
    /// WAL files that wait to be archived. Default: slow 256, stop 2,048.
    pub archive: Option<Threshold<u64>>,
    /// Sessions of others that are active. Default: none.
    pub sessions: Option<Threshold<u64>>,
    /// Age of the oldest snapshot in the database. Default: none.
    pub snapshot_age: Option<Threshold<Duration>>,
    /// Free space of the data directory's file system in percent, where howdah can read it. Default: slow 10, stop 5.
    pub free_disk: Option<Threshold<f64>>,
    /// CPU of the host in percent; only when the server is on this host. Default: none.
    pub host_cpu: Option<Threshold<f64>>,
    /// Free memory of the host in percent; only when the server is on this host. Default: none.
    pub free_memory: Option<Threshold<f64>>,
    /// `[[limits.probe]]`: questions of one's own.
    pub probes: Vec<Probe>,
}

/// A question of the plan's own whose answer, one number, slows a run down.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// `name`: shown. Default: `probe 1`, by its place.
    pub name: String,
    /// `sql`: the first column of its first row is a number.
    pub sql: Sql,
    /// `slow` and `stop`.
    pub limit: Threshold<f64>,
}

/// `limits.batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows in the first batch. Default 1,000.
    pub start: u64,
    /// Never fewer rows. Default 100.
    pub min: u64,
    /// Never more rows. Default 100,000.
    pub max: u64,
    /// The time that a batch aims at. Default 500 ms.
    pub target: Duration,
}

impl BatchLimits {
    /// What a plan has that does not say.
    pub const DEFAULT: Self = Self { start: 1000, min: 100, max: 100_000, target: Duration::from_millis(500) };
}

/// `[retry]`: how often a batch is tried again after an error that may pass. Full jitter: each delay is drawn between
/// nothing and the exponential one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all. Default 3.
    pub attempts: u32,
    /// The first delay. Default 1 s.
    pub base: Duration,
    /// The longest delay. Default 30 s.
    pub max: Duration,
}

/// `[breaker]`: when to stop trying for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it. Default 5.
    pub failures: u32,
    /// How long it stays open. Default 60 s.
    pub reset: Duration,
}

/// `[alerts]`: thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertLimits {
    /// A run that has worked longer than this. Default 5 min.
    pub duration: Duration,
    /// howdah's own resident memory. Default 1 GiB.
    pub memory: ByteSize,
    /// Free memory of the host, in percent of all. Default 10.
    pub free_memory_percent: f64,
    /// Rows set aside in percent of rows walked, once 1,000 rows are walked: past it the run stops. Default 10.
    pub error_rate_percent: f64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique in the plan.
    pub name: String,
    /// Where its `[[step]]` begins in [`PlanSource::text`].
    pub span: Range<usize>,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// One SQL statement.
    Statement(Statement),
    /// A change of a whole table, batch by batch.
    Backfill(Backfill),
    /// Files into a table.
    Import(Box<Import>),
    /// Rows of tables into tables.
    Copy(Box<Copy>),
    /// Rows through a program.
    Transform(Box<Transform>),
    /// Files through a program.
    Files(Box<FileTransform>),
    /// An index that is to be there.
    Index(Box<Index>),
    /// Indexes that are built anew.
    Reindex(Reindex),
    /// Statistics that are gathered.
    Analyze(Analyze),
    /// A query whose answer must be as expected.
    Verify(Verify),
}

impl StepKind {
    /// The word in the plan, the ledger and on the screen.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Statement(_) => "statement",
            Self::Backfill(_) => "backfill",
            Self::Import(_) => "import",
            Self::Copy(_) => "copy",
            Self::Transform(_) => "transform",
            Self::Files(_) => "files",
            Self::Index(_) => "index",
            Self::Reindex(_) => "reindex",
            Self::Analyze(_) => "analyze",
            Self::Verify(_) => "verify",
        }
    }
}

/// `statement = "..."`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The SQL.
    pub sql: Sql,
    /// `down`: what takes it back.
    pub down: Option<Sql>,
    /// `cleanup`: `down` also runs when the plan has succeeded.
    pub cleanup: bool,
    /// `timeout`: the longest it may run. Default: as long as it takes.
    pub timeout: Option<Duration>,
}

/// `backfill = "table"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The table, as it is written in SQL: `users`, `app.users`, `"Odd name"."T"`.
    pub table: Sql,
    /// What is done to each batch.
    pub change: Change,
    /// `undo` or `undo_sql`: what takes it back.
    pub undo: Undo,
}

/// What takes a backfill back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Undo {
    /// Nothing.
    #[default]
    None,
    /// `undo = "auto"`: the old values of the columns in `set`, kept in the batch's transaction.
    Auto,
    /// `undo_sql`: a statement of the same form as `sql`, with `{batch}` exactly once.
    Sql(Sql),
}

/// How a backfill changes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `set = { column = "expression" }` with an optional `where`.
    Set {
        /// Column as written in SQL, and expression, in the plan's order; at least one.
        set: Vec<(String, Sql)>,
        /// Rows that are to be changed; what the change makes false.
        filter: Option<Sql>,
    },
    /// `sql = "... {batch} ..."`, with an optional `where` used for the final count.
    Raw {
        /// The statement. Holds `{batch}` exactly once.
        sql: Sql,
        /// The name of the table in it: `alias`, else the table itself.
        alias: Option<Sql>,
        /// Rows that are to be changed, for the count at the end.
        filter: Option<Sql>,
    },
}

/// `verify = "SELECT ..."`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The query; the first column of its first row is compared.
    pub sql: Sql,
    /// `expect`. No row and NULL are never as expected.
    pub expect: Expected,
    /// `timeout`: default `limits.count_timeout`.
    pub timeout: Option<Duration>,
}

/// What a `verify` expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A whole number; compared as a number, so that `0` equals `0.00`.
    Integer(i64),
    /// A text; compared to the answer in its text form.
    Text(String),
    /// A truth value.
    Boolean(bool),
}
