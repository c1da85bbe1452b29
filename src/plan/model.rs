//! The plan as the rest of the house sees it: checked, complete, every default filled in.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

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
    /// The steps, in order; at least one.
    pub steps: Vec<Step>,
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
    /// `pool.max`: the most connections at once, at least 4. Default 20.
    pub pool_max: u32,
    /// `pool.idle`: an idle connection is closed after this. Default 30 s.
    pub pool_idle: Duration,
    /// `pool.connect`: how long a connection may take to open. Default 2 s.
    pub pool_connect: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Workers over segments. Only 1 is built yet.
    pub workers: u32,
    /// How large a batch is.
    pub batch: BatchLimits,
    /// How long a statement waits for a lock. Default 2 s.
    pub lock_timeout: Duration,
    /// How long a batch's statement may run. Default ten times `batch.target`.
    pub statement_timeout: Duration,
    /// How long a transaction of ours may stand idle. Default 60 s.
    pub idle_in_transaction_timeout: Duration,
    /// How long the count of what is left, and a `verify`, may take. Default 10 min.
    pub count_timeout: Duration,
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

/// `[retry]`: used once transient errors are retried (not built yet: a failed batch stops the run, resumable).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all. Default 3.
    pub attempts: u32,
    /// The first delay. Default 1 s.
    pub base: Duration,
    /// The longest delay. Default 30 s.
    pub max: Duration,
}

/// `[breaker]`: used once the circuit breaker is built.
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
    /// Failed batches in percent of all. Default 10.
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
