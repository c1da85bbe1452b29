//! The connection of a worker that moves a segment's cursor, and what is done when it breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::failure::BatchError;
use crate::engine::failpoint;
use crate::engine::ports::{Recovered, StepError, Trouble};
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::postgres::record::RecordError;
use crate::run::{Cause, Segment};
use crate::steps::backends::Backends;
use crate::steps::{Workbench, trouble};

/// How long a backend that was left behind may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection, and the backend that serves it.
pub struct Line {
    /// The connection.
    pub connection: PgConnection,
    backend: Backend,
}

impl Line {
    /// The process id of its backend.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.backend.pid
    }
}

/// A backend, told from a later one with the same process id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Backend {
    pid: i32,
    started: String,
}

/// A worker's connection to the database that holds the ledger: one at a time, made anew when it broke.
pub struct Lines {
    bench: Workbench,
    backends: Arc<Backends>,
    line: Option<Line>,
    /// The backend of a connection that broke: it may still be at work.
    left_behind: Option<Backend>,
    /// The segment that a split was about to make.
    splitting: Option<Segment>,
}

impl Lines {
    /// None yet. `backends` is told of those that serve batches.
    #[must_use]
    pub fn new(bench: Workbench, backends: Arc<Backends>) -> Self {
        Self { bench, backends, line: None, left_behind: None, splitting: None }
    }

    /// The connection; opens it where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn take(&mut self) -> Result<Line, StepError> {
        match self.line.take() {
            Some(line) => Ok(line),
            None => self.connect().await,
        }
    }

    async fn connect(&mut self) -> Result<Line, StepError> {
        let bench = &self.bench;
        let name = bench.application_name();
        let mut connection = bench.connector.open(&name).await.map_err(trouble::of_refusal)?;
        let ask = sqlx::query_as(
            "SELECT pid, backend_start::text FROM pg_stat_get_activity(pg_backend_pid()) WHERE pid = pg_backend_pid()",
        )
        .fetch_one(&mut connection);
        let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&bench.what(), &e));
        let (pid, started) = within(bench.deadline(), ask).await.map_err(failed)?;
        Ok(Line { connection, backend: Backend { pid, started } })
    }

    /// Keeps a connection for the next batch, or drops it where it is broken.
    pub fn keep(&mut self, line: Line, broken: bool) {
        if broken {
            self.backends.leave(line.backend.pid);
            self.left_behind = Some(line.backend);
        } else {
            self.line = Some(line);
        }
    }

    /// Whether there is a connection to go on with.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.line.is_some()
    }

    /// What a failed batch means; `cause` describes it. `line` is kept or dropped here. `gave_way`: whether its batch was
    /// cancelled for the sake of a session that waited.
    pub async fn failed(&mut self, mut line: Line, failure: BatchError, cause: Cause, gave_way: bool) -> StepError {
        match failure {
            BatchError::Change(e, _) | BatchError::Sql(e) | BatchError::Record(RecordError::Sql(e)) => {
                self.keep(line, error::is_lost(&e));
                match crate::postgres::trouble::of(&e) {
                    Some(Trouble::TooLong) if gave_way => StepError::Passing(
                        Trouble::GaveWay,
                        Cause::new(format!("{}: gave way to a session that waited", self.bench.what())),
                    ),
                    Some(trouble) => StepError::Passing(trouble, cause),
                    None => StepError::Failed(cause),
                }
            }
            BatchError::Record(RecordError::Fenced | RecordError::Already) => {
                // Either another driver has the run, or a commit whose answer was lost had come about after all.
                let asked = self.bench.recorder.is_ours(&mut line.connection);
                let still_ours = matches!(tokio::time::timeout(self.bench.deadline(), asked).await, Ok(Ok(true)));
                self.keep(line, false);
                if still_ours { StepError::Passing(Trouble::Transient, cause) } else { StepError::Failed(cause) }
            }
            BatchError::Record(RecordError::Store(trouble, _)) => {
                self.keep(line, false);
                StepError::of(trouble, cause)
            }
            BatchError::Wrong(..) => {
                self.keep(line, false);
                StepError::Failed(cause)
            }
            BatchError::Passing(trouble, cause) => {
                self.keep(line, false);
                StepError::Passing(trouble, cause)
            }
            BatchError::Plan(cause) => {
                self.keep(line, false);
                StepError::Failed(cause)
            }
        }
    }

    /// Ends what a broken connection has left behind: its transaction holds locks, and may yet commit.
    async fn bury(&mut self, line: &mut Line) -> Result<(), sqlx::Error> {
        let Some(old) = self.left_behind.clone() else { return Ok(()) };
        let ended = Instant::now() + FAREWELL;
        loop {
            let ask = sqlx::query_scalar::<_, i64>(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE pid = $1 AND backend_start = $2::timestamptz",
            )
            .bind(old.pid)
            .bind(&old.started)
            .fetch_one(&mut line.connection);
            if within(self.bench.deadline(), ask).await? == 0 {
                self.left_behind = None;
                return Ok(());
            }
            if Instant::now() > ended {
                // Its record and ours exclude each other all the same: whoever comes second is refused.
                tracing::warn!(pid = old.pid, "a backend that was left behind does not end");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Cuts `segment` where `rest` begins, and writes both down.
    ///
    /// # Errors
    /// The ledger cannot be written, or refuses it. The segment is as it was.
    pub async fn split(&mut self, segment: &mut Segment, rest: Segment) -> Result<Segment, StepError> {
        let mut line = self.take().await?;
        let (bench, limit) = (self.bench.clone(), self.bench.deadline());
        self.splitting = Some(rest.clone());
        let write = async {
            let mut tx = within(limit, line.connection.begin_with(bench.recorder.begin())).await?;
            match tokio::time::timeout(limit, bench.recorder.split(&mut tx, bench.index, segment, &rest)).await {
                Ok(written) => written?,
                Err(_) => return Err(RecordError::Sql(sqlx::Error::WorkerCrashed)),
            }
            failpoint::hit("split.recorded");
            Ok(within(limit, tx.commit()).await?)
        };
        match write.await {
            Ok(()) => {
                self.keep(line, false);
                self.splitting = None;
                segment.upper.clone_from(&rest.lower);
                Ok(rest)
            }
            // Not ours any more, while the run is: found out as after a batch.
            Err(e @ (RecordError::Fenced | RecordError::Already)) => {
                let cause = e.cause(&bench.what());
                Err(self.failed(line, BatchError::Record(e), cause, false).await)
            }
            Err(e) => {
                self.keep(line, e.is_lost());
                Err(trouble::of_record(&e, &bench.what()))
            }
        }
    }

    /// A connection that works, and the segment as the ledger has it: a commit whose answer was lost may have come about.
    ///
    /// # Errors
    /// There is no connection to be had, or the run is another driver's.
    pub async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        let mut line = self.take().await?;
        let bench = self.bench.clone();
        let limit = bench.deadline();
        let found = async {
            self.bury(&mut line).await?;
            let asked = bench.recorder.segment(&mut line.connection, bench.index, segment);
            let found = match tokio::time::timeout(limit, asked).await {
                Ok(found) => found?,
                Err(_) => return Err(RecordError::Sql(sqlx::Error::WorkerCrashed)),
            };
            // Not in the ledger although the run is ours: lost, with the split that had made it.
            if found.is_none() {
                match tokio::time::timeout(limit, bench.recorder.is_ours(&mut line.connection)).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => return Err(RecordError::Fenced),
                    Ok(Err(e)) => return Err(e),
                    Err(_) => return Err(RecordError::Sql(sqlx::Error::WorkerCrashed)),
                }
            }
            Ok(found)
        };
        let found = match found.await {
            Ok(found) => found,
            Err(e) => {
                self.keep(line, e.is_lost());
                return Err(trouble::of_record(&e, &bench.what()));
            }
        };
        self.keep(line, false);
        let Some(found) = found else { return Ok(Recovered { vanished: true, ..Recovered::default() }) };
        let tally = (found.tally != segment.tally).then(|| found.tally.since(segment.tally));
        let aside = tally.map_or(0, |tally| tally.quarantined);
        bench.set_aside.fetch_add(aside, Ordering::Relaxed);
        let split = self.splitting.take().filter(|rest| found.upper == rest.lower);
        if tally.is_some() || split.is_some() {
            tracing::info!(segment = %found.no, "what was thought lost had been committed");
        }
        *segment = found;
        Ok(Recovered { tally, split, vanished: false })
    }

    /// Gives the connection back.
    pub async fn close(self) {
        if let Some(line) = self.line {
            self.backends.leave(line.backend.pid);
            drop(tokio::time::timeout(Duration::from_secs(1), line.connection.close()).await);
        }
    }
}

/// Best effort: when it fails the connection is gone, and the transaction with it.
pub async fn roll_back(tx: sqlx::PgTransaction<'_>, limit: Duration) {
    drop(within(limit, tx.rollback()).await);
}
