//! One worker of a backfill: a connection for batches, one that looks ahead, and what is done when they break.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::batch::{Batch, BatchError, Way};
use super::{Part, Shared};
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError, Trouble};
use crate::postgres::deadline::within;
use crate::postgres::key::position;
use crate::postgres::record::RecordError;
use crate::postgres::{error, session};
use crate::run::{Advance, Cause, KeyText, Level, Segment, SegmentNo, human};
use crate::steps::keyspace::Boundary;
use crate::steps::trouble;

/// How long a backend that was left behind may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    line: Option<Line>,
    /// Looks for the next batch's boundary while this batch's change runs: counting keys takes a twentieth of the time
    /// that changing them does.
    scout: Option<PgConnection>,
    scouted: Option<Scouted>,
    /// The backend of a connection that broke: it may still be at work.
    left_behind: Option<Backend>,
    /// The segment that a split was about to make.
    splitting: Option<Segment>,
}

/// A connection, and the backend that serves it.
struct Line {
    connection: PgConnection,
    backend: Backend,
}

/// A backend, told from a later one with the same process id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Backend {
    pid: i32,
    started: String,
}

/// A boundary that was found ahead of its batch.
struct Scouted {
    /// The batch begins behind this key.
    from: KeyText,
    boundary: Boundary,
}

/// The boundary that was found ahead, where it fits the batch: it begins at the same key, and holds about as many rows
/// as are wanted now.
fn usable(scouted: Option<Scouted>, segment: &Segment, rows: u64) -> Option<Boundary> {
    let scouted = scouted.filter(|scouted| Some(&scouted.from) == segment.from())?;
    let found = scouted.boundary.rows;
    (found <= rows.saturating_mul(5) / 4 && found * 2 >= rows).then_some(scouted.boundary)
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, line: None, scout: None, scouted: None, left_behind: None, splitting: None }
    }

    fn what(&self) -> String {
        self.shared.bench.what()
    }

    fn limit(&self) -> Duration {
        self.shared.bench.deadline()
    }

    fn sql_error(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.what(), e))
    }

    async fn connect(&mut self) -> Result<Line, StepError> {
        let bench = &self.shared.bench;
        let name = bench.application_name();
        let mut connection = bench.connector.open(&name).await.map_err(trouble::of_refusal)?;
        let ask = sqlx::query_as(
            "SELECT pid, backend_start::text FROM pg_stat_get_activity(pg_backend_pid()) WHERE pid = pg_backend_pid()",
        )
        .fetch_one(&mut connection);
        let (pid, started) = within(self.limit(), ask).await.map_err(|e| self.sql_error(&e))?;
        Ok(Line { connection, backend: Backend { pid, started } })
    }

    async fn line(&mut self) -> Result<Line, StepError> {
        match self.line.take() {
            Some(line) => Ok(line),
            None => self.connect().await,
        }
    }

    /// Keeps a connection for the next batch, or drops it where it is broken.
    fn keep(&mut self, line: Line, broken: bool) {
        if broken {
            self.shared.backends.leave(line.backend.pid);
            self.left_behind = Some(line.backend);
            (self.scout, self.scouted) = (None, None);
        } else {
            self.line = Some(line);
        }
    }

    /// One batch on `line`: in its own transaction, with the next boundary looked for beside it.
    async fn commit_one(
        &mut self,
        line: &mut Line,
        segment: &Segment,
        rows: u64,
        way: Way,
    ) -> Result<(Advance, Duration), (BatchError, Option<KeyText>)> {
        let part = self.shared.part(segment).map_err(|cause| (BatchError::Plan(cause), None))?;
        let limit = self.limit();
        let begun = within(limit, line.connection.begin_with(session::BATCH)).await;
        let mut tx = begun.map_err(|e| (e.into(), None))?;
        failpoint::hit("batch.begun");
        let found = match usable(self.scouted.take(), segment, rows) {
            Some(boundary) => Ok(Some(boundary)),
            None => within(limit, part.keys.boundary(&mut tx, segment.from(), segment.upper.as_ref(), rows)).await,
        };
        let boundary = match found {
            Ok(boundary) => boundary,
            Err(e) => {
                roll_back(tx, limit).await;
                return Err((e.into(), None));
            }
        };
        failpoint::hit("batch.bounded");
        let through = boundary.as_ref().map(|boundary| boundary.key.clone());
        let ahead = through.clone().filter(|through| segment.upper.as_ref() != Some(through));
        let (scout, connector) = (&mut self.scout, &self.shared.bench.connector);
        let name = self.shared.bench.application_name();
        let look_ahead = async {
            let from = ahead?;
            if scout.is_none() {
                *scout = connector.open(&name).await.ok();
            }
            // Whatever fails here is looked for again, in the batch's own transaction.
            let asked = part.keys.boundary(scout.as_mut()?, Some(&from), segment.upper.as_ref(), rows);
            if let Ok(boundary) = within(limit, asked).await {
                return Some(Scouted { from, boundary: boundary? });
            }
            *scout = None;
            None
        };
        let batch = Batch { shared: &self.shared, part: &part, segment, limit };
        let (written, scouted) = tokio::join!(batch.write(&mut tx, boundary, way), look_ahead);
        let committed = match written {
            Ok(written) => within(limit, tx.commit()).await.map(|()| written.kept()).map_err(BatchError::Sql),
            Err(e) => {
                roll_back(tx, limit).await;
                Err(e)
            }
        };
        let done = committed.map_err(|e| (e, through))?;
        self.scouted = scouted;
        Ok(done)
    }

    fn explain(&self, failure: &BatchError, segment: &Segment, through: Option<&KeyText>, rows: u64) -> Cause {
        let (what, source) = (self.what(), &self.shared.bench.source);
        let mut cause = failure.cause(&what, source);
        if matches!(failure, BatchError::Plan(_)) {
            return cause;
        }
        let key = self.shared.describe_key(segment);
        let name = |key: Option<&KeyText>| key.map_or_else(|| "the first".to_owned(), |key| key.join(", "));
        let range = match (segment.from(), through) {
            (from @ Some(_), Some(through)) => format!("{key} after {}, through {}", name(from), through.join(", ")),
            (None, Some(through)) => format!("{key} from the first, through {}", through.join(", ")),
            (from, None) => format!("{rows} rows, {key} after {}", name(from)),
        };
        cause.details.push(format!("batch: {range}; nothing of it was kept"));
        cause
    }

    /// What a failed batch means. `line` is in hand, and is kept or dropped here.
    async fn failed(
        &mut self,
        mut line: Line,
        failure: BatchError,
        segment: &Segment,
        (through, rows): (Option<KeyText>, u64),
        gave_way: bool,
    ) -> StepError {
        let cause = self.explain(&failure, segment, through.as_ref(), rows);
        match failure {
            BatchError::Change(e, _) | BatchError::Sql(e) | BatchError::Record(RecordError::Sql(e)) => {
                self.keep(line, error::is_lost(&e));
                match crate::postgres::trouble::of(&e) {
                    Some(Trouble::TooLong) if gave_way => StepError::Passing(
                        Trouble::GaveWay,
                        Cause::new(format!("{}: gave way to a session that waited", self.what())),
                    ),
                    Some(trouble) => StepError::Passing(trouble, cause),
                    None => StepError::Failed(cause),
                }
            }
            BatchError::Record(RecordError::Fenced | RecordError::Already) => {
                // Either another driver has the run, or a commit whose answer was lost had come about after all.
                let (bench, limit) = (&self.shared.bench, self.limit());
                let asked = bench.recorder.is_ours(&mut line.connection);
                let still_ours = matches!(tokio::time::timeout(limit, asked).await, Ok(Ok(true)));
                self.keep(line, false);
                if still_ours { StepError::Passing(Trouble::Transient, cause) } else { StepError::Failed(cause) }
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
            if within(self.shared.bench.deadline(), ask).await? == 0 {
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

    /// Logs the plan of a statement that took long, once a step.
    async fn log_plan(&mut self, line: &mut Line, segment: &Segment, from: Option<&KeyText>, took: Duration) {
        let slow = self.shared.bench.slow;
        if took <= slow || self.shared.explained.swap(true, Ordering::Relaxed) {
            return;
        }
        let (Ok(part), Some(through)) = (self.shared.part(segment), segment.cursor.as_ref()) else { return };
        let Some(sql) = part.sql().map(|sql| &sql.of(from, through).change) else { return };
        let text = format!("EXPLAIN (SETTINGS) {}", sql.as_str());
        let ask = sqlx::query_scalar(AssertSqlSafe(text))
            .bind(from)
            .bind(through)
            .persistent(false)
            .fetch_all(&mut line.connection);
        let plan: Vec<String> = match within(self.limit(), ask).await {
            Ok(plan) => plan,
            Err(e) => vec![format!("its plan could not be had: {e}")],
        };
        let (took, slow) = (human::duration(took), human::duration(slow));
        // The statement itself may hold what `${ENV}` was filled in with; the plan says what the server does with it.
        let plan: Vec<String> = plan.iter().map(|line| without_strings(line)).collect();
        tracing::warn!(step = %self.shared.bench.name, %took, %slow, "slow statement:\n{}", plan.join("\n"));
        let text = format!("a batch's statement took {took} (`database.slow` is {slow}): its plan is in the log");
        self.shared.reporter.notice(Level::Warning, text);
    }
}

/// Where the cursor stands in its segment, 0 to 1, where keys tell.
fn place(part: &Part, segment: &Segment) -> Option<f64> {
    let first = segment.lower.as_ref().or(part.first.as_ref());
    let ends = first.zip(segment.upper.as_ref());
    ends.zip(segment.cursor.as_ref())
        .filter(|_| part.has_distances())
        .and_then(|((first, last), cursor)| position(first, last, cursor))
}

/// A line of a plan without the strings in it: they may be secrets.
fn without_strings(line: &str) -> String {
    let mut parts = line.split('\'');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    while parts.next().is_some() {
        shown.push_str("'...'");
        shown.push_str(parts.next().unwrap_or_default());
    }
    shown
}

/// Best effort: when it fails the connection is gone, and the transaction with it.
async fn roll_back(tx: sqlx::PgTransaction<'_>, limit: Duration) {
    drop(within(limit, tx.rollback()).await);
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        let mut line = self.line().await?;
        let pid = line.backend.pid;
        let from = segment.from().cloned();
        self.shared.backends.begin(pid);
        let mut done = self.commit_one(&mut line, segment, rows, Way::Whole).await;
        if let Err((failure, _)) = &done
            && failure.is_data()
            && self.shared.bench.limits.max_quarantined > 0
            && self.shared.part(segment).is_ok_and(|part| part.can_set_aside())
        {
            // Row by row where it must be, in a transaction that begins anew.
            done = self.commit_one(&mut line, segment, rows, Way::Careful).await;
        }
        let gave_way = self.shared.backends.end(pid);
        match done {
            Ok((advance, took)) => {
                segment.apply(&advance);
                let part = self.shared.part(segment).map_err(StepError::Failed)?;
                let position = place(&part, segment);
                self.log_plan(&mut line, segment, from.as_ref(), took).await;
                self.keep(line, false);
                Ok(BatchDone { tally: advance.tally, position })
            }
            Err((failure, through)) => Err(self.failed(line, failure, segment, (through, rows), gave_way).await),
        }
    }

    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError> {
        let part = self.shared.part(segment).map_err(StepError::Failed)?;
        let mut line = self.line().await?;
        let limit = self.limit();
        let (bench, upper) = (self.shared.bench.clone(), segment.upper.clone());
        // A segment without an end was not planned by this version.
        let Some(end) = &upper else {
            self.keep(line, false);
            return Ok(None);
        };
        let found = within(limit, part.keys.middle(&mut line.connection, segment.from(), end, ahead)).await;
        let middle = match found {
            Ok(middle) => middle,
            Err(e) => {
                self.keep(line, error::is_lost(&e));
                return Err(self.sql_error(&e));
            }
        };
        let Some(middle) = middle else {
            self.keep(line, false);
            return Ok(None);
        };
        let mut rest = Segment::new(segment.sweep, number, Some(middle.clone()), upper);
        rest.part.clone_from(&segment.part);
        self.splitting = Some(rest.clone());
        let write = async {
            let mut tx = within(limit, line.connection.begin_with(session::BATCH)).await?;
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
                self.scouted = None;
                segment.upper = Some(middle);
                Ok(Some(rest))
            }
            Err(e) => {
                let lost = matches!(&e, RecordError::Sql(sql) if error::is_lost(sql));
                self.keep(line, lost);
                Err(trouble::of_record(&e, &self.what()))
            }
        }
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        let mut line = self.line().await?;
        let bench = self.shared.bench.clone();
        let limit = self.limit();
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
                let lost = matches!(&e, RecordError::Sql(sql) if error::is_lost(sql));
                self.keep(line, lost);
                return Err(trouble::of_record(&e, &self.what()));
            }
        };
        self.keep(line, false);
        self.scouted = None;
        let Some(found) = found else { return Ok(Recovered { vanished: true, ..Recovered::default() }) };
        let tally = (found.tally != segment.tally).then(|| found.tally.since(segment.tally));
        let aside = tally.map_or(0, |tally| tally.quarantined);
        self.shared.bench.set_aside.fetch_add(aside, Ordering::Relaxed);
        let split = self.splitting.take().filter(|rest| found.upper == rest.lower);
        if tally.is_some() || split.is_some() {
            tracing::info!(segment = %found.no, "what was thought lost had been committed");
        }
        *segment = found;
        Ok(Recovered { tally, split, vanished: false })
    }

    async fn close(self: Box<Self>) {
        if let Some(line) = self.line {
            self.shared.backends.leave(line.backend.pid);
            drop(tokio::time::timeout(Duration::from_secs(1), line.connection.close()).await);
        }
        if let Some(scout) = self.scout {
            drop(tokio::time::timeout(Duration::from_secs(1), scout.close()).await);
        }
    }
}
