//! What each kind of step does. A step knows PostgreSQL and its own change; the engine knows when.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};

use self::backfill::{BackfillStep, Purpose};
use self::gauges::CurrentTable;
use self::index::{AnalyzeStep, IndexStep, Owner, ReindexStep};
use crate::cache::Caches;
use crate::engine::failpoint;
use crate::engine::ports::{StepBody, StepError};
use crate::plan::indexing::{Index, Reindex};
use crate::plan::model::{Backfill, Limits, PlanSource, Sql, Statement, StepKind};
use crate::plan::movers::FileTransform;
use crate::postgres::connect::Connector;
use crate::postgres::deadline::{no_answer, within};
use crate::postgres::record::{Mirror, RecordError, Recorder};
use crate::postgres::{error, session};
use crate::run::{RunId, StepIndex};

pub mod backends;
pub mod backfill;
pub mod batch;
pub mod change;
pub mod copy;
pub mod files;
pub mod gauges;
pub mod giveway;
mod host_gauges;
pub mod import;
pub mod index;
pub mod interruptible;
pub mod keyspace;
pub mod lookup;
pub mod mending;
pub mod preflight;
pub mod program;
pub mod quarantine;
pub mod segments;
pub mod statement;
pub mod transform;
pub mod trouble;
pub mod vacuum;
pub mod verify;

/// What a round trip may take beside the statement's own time.
const NETWORK: Duration = Duration::from_secs(5);

/// What every step has at hand.
#[derive(Clone)]
pub struct Workbench {
    /// Connections, set up with the plan's limits.
    pub pool: PgPool,
    /// Opens connections of a step's own.
    pub connector: Arc<Connector>,
    /// The table that the running step changes, for the governor.
    pub current_table: CurrentTable,
    /// Rows of the run that are set aside.
    pub set_aside: Arc<AtomicU64>,
    /// A statement of a batch that takes longer is logged with its plan.
    pub slow: Duration,
    /// Writes records.
    pub recorder: Arc<dyn Recorder>,
    /// Keeps them in another database, for a step whose rows go there.
    pub mirror: Arc<dyn Mirror>,
    /// The run.
    pub run_id: RunId,
    /// The run's short id, for `application_name`.
    pub run: String,
    /// The plan's text, for excerpts.
    pub source: Arc<PlanSource>,
    /// What its scripts look things up in, where the plan has such.
    pub caches: Option<Arc<Caches>>,
    /// The plan's limits.
    pub limits: Limits,
    /// The step's place in the plan.
    pub index: StepIndex,
    /// The step's name.
    pub name: String,
    /// Whether an earlier driver had the run.
    pub resumed: bool,
    /// Whether an earlier driver has begun the step, and what it does may have been done by it.
    pub begun_before: bool,
}

impl Workbench {
    /// How messages name the step.
    #[must_use]
    pub fn what(&self) -> String {
        what(&self.name)
    }

    /// Runs `statements` and writes the step down as done, durably: all in one transaction of its own, or not at all.
    ///
    /// # Errors
    /// One of them fails; the ledger cannot be written, or another driver has taken the run over.
    pub async fn step_done_with(&self, statements: &[String], outcome: Option<&str>) -> Result<(), StepError> {
        let limit = self.deadline();
        self.durably(async |tx| {
            for sql in statements {
                within(limit, sqlx::query(AssertSqlSafe(sql.as_str())).persistent(false).execute(&mut *tx)).await?;
            }
            in_time(limit, self.recorder.step_done(tx, self.index, outcome)).await
        })
        .await
    }

    /// Writes the step down as done, durably, in a transaction of its own.
    ///
    /// # Errors
    /// The ledger cannot be written, or another driver has taken the run over.
    pub async fn step_done(&self, outcome: Option<&str>) -> Result<(), StepError> {
        self.step_done_with(&[], outcome).await
    }

    /// Writes down that the step's clean-up has run.
    ///
    /// # Errors
    /// The ledger cannot be written, or another driver has taken the run over.
    pub async fn step_cleaned(&self) -> Result<(), StepError> {
        self.durably(async |tx| in_time(self.deadline(), self.recorder.step_cleaned(tx, self.index)).await).await
    }

    /// Does `work` in a durable transaction, each of whose round trips has a deadline. A connection that has not answered is
    /// not given back to the pool: nobody knows what it is in the middle of.
    async fn durably(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<(), RecordError>,
    ) -> Result<(), StepError> {
        let limit = self.deadline();
        let write = async {
            let mut connection = self.pool.acquire().await?;
            let written = async {
                let mut tx = within(limit, connection.begin_with(session::DURABLE)).await?;
                match work(&mut tx).await {
                    Ok(()) => within(limit, tx.commit()).await?,
                    // A commit whose answer was lost had come about.
                    Err(RecordError::Already) => {
                        within(limit, tx.rollback()).await?;
                        return Ok(false);
                    }
                    Err(other) => return Err(other),
                }
                Ok(true)
            };
            let written: Result<bool, RecordError> = written.await;
            if matches!(&written, Err(RecordError::Sql(e)) if error::is_lost(e)) {
                drop(connection.detach());
            }
            if written? {
                failpoint::hit("step.committed");
                self.recorder.committed(self.index, None).await?;
            }
            Ok(())
        };
        write.await.map_err(|e: RecordError| trouble::of_record(&e, &self.what()))
    }

    /// Whether the step is written down as done, although nobody was told: `Some` with what it said.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn done_unnoticed(&self) -> Result<Option<Option<String>>, StepError> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            self.recorder.is_done(&mut connection, self.index).await
        };
        read.await.map_err(|e: RecordError| trouble::of_record(&e, &self.what()))
    }

    /// How long any round trip of a batch may take: the server ends a statement at its own limit, so that a longer
    /// silence is the network's.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        deadline(&self.limits)
    }

    /// How the run's caches have been used by now, for the end of a step's outcome: `; cache countries 98.2% of 1,204`.
    #[must_use]
    pub fn looked_up(&self) -> String {
        let views = self.caches.as_ref().map(|caches| caches.views()).unwrap_or_default();
        let used = views.iter().filter(|cache| cache.asked > 0);
        used.fold(String::new(), |text, cache| format!("{text}; cache {} {}", cache.name, cache.words()))
    }

    /// The step's `application_name`.
    #[must_use]
    pub fn application_name(&self) -> String {
        session::application_name(&self.run, &self.name)
    }
}

/// What a step of a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// A step of a plan.
    Plan(StepKind),
    /// The `down` of a statement that another run has run.
    Down(Sql),
    /// An index that a step of another run has made, dropped.
    DropIndex {
        /// The index.
        index: Box<Index>,
        /// Whose it is.
        owner: Owner,
    },
    /// What a rebuild of another run, which was cut off, has left behind, dropped.
    ClearRebuild(Reindex),
    /// A backfill of another run, taken back.
    Revert {
        /// The backfill.
        backfill: Backfill,
        /// By what.
        purpose: Purpose,
    },
    /// Files that a step of another run has replaced, put back.
    Restore {
        /// What had replaced them.
        files: Box<FileTransform>,
        /// Whose run.
        run: RunId,
        /// Which step of it.
        step: StepIndex,
    },
}

impl Task {
    /// The kind's word, in the ledger and on the screen.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Plan(kind) => kind.word(),
            Self::Down(_) => "statement",
            Self::Revert { .. } | Self::Restore { .. } | Self::DropIndex { .. } | Self::ClearRebuild(_) => "undo",
        }
    }
}

/// Waits for the recorder, but not for ever.
async fn in_time(limit: Duration, record: impl Future<Output = Result<(), RecordError>>) -> Result<(), RecordError> {
    tokio::time::timeout(limit, record).await.unwrap_or_else(|_| Err(RecordError::Sql(no_answer(limit))))
}

/// How messages name the step that is called `name`.
fn what(name: &str) -> String {
    format!("step \"{name}\"")
}

/// How long any round trip under these limits may take.
#[must_use]
pub fn deadline(limits: &Limits) -> Duration {
    limits.statement_timeout.max(limits.lock_timeout) + NETWORK
}

/// Makes what the engine drives.
#[must_use]
pub fn body(bench: Workbench, task: &Task) -> StepBody {
    let once = |statement: Statement, bench| StepBody::Once(Arc::new(statement::StatementStep::new(bench, statement)));
    match task {
        Task::Plan(StepKind::Statement(statement)) => once(statement.clone(), bench),
        Task::Plan(StepKind::Verify(verify)) => {
            StepBody::Once(Arc::new(verify::VerifyStep::new(bench, verify.clone())))
        }
        Task::Plan(StepKind::Backfill(backfill)) => {
            StepBody::Batched(Arc::new(BackfillStep::new(bench, backfill.clone(), Purpose::Change)))
        }
        Task::Plan(StepKind::Import(import)) => import::step(&bench, import),
        Task::Plan(StepKind::Copy(copy)) => copy::step(&bench, copy),
        Task::Plan(StepKind::Transform(transform)) => transform::step(&bench, transform),
        Task::Plan(StepKind::Files(files)) => files::step(&bench, files),
        Task::Plan(StepKind::Index(index)) => {
            let owner = Owner { run: bench.run_id, step: bench.index };
            StepBody::Once(Arc::new(IndexStep::new(bench, (**index).clone(), owner)))
        }
        Task::Plan(StepKind::Reindex(reindex)) => StepBody::Once(Arc::new(ReindexStep::new(bench, reindex.clone()))),
        Task::Plan(StepKind::Analyze(analyze)) => StepBody::Once(Arc::new(AnalyzeStep::new(bench, analyze.clone()))),
        Task::DropIndex { index, owner } => {
            StepBody::Once(Arc::new(IndexStep::taking_back(bench, (**index).clone(), *owner)))
        }
        Task::ClearRebuild(reindex) => StepBody::Once(Arc::new(ReindexStep::clearing(bench, reindex.clone()))),
        Task::Down(sql) => {
            let down = Statement { sql: sql.clone(), down: None, cleanup: false, timeout: None };
            StepBody::Once(Arc::new(statement::StatementStep::taking_back(bench, down)))
        }
        Task::Restore { files, run, step } => files::restoring(&bench, files, *run, *step),
        Task::Revert { backfill, purpose } => {
            StepBody::Batched(Arc::new(BackfillStep::new(bench, backfill.clone(), *purpose)))
        }
    }
}
