//! `backfill`: a change of a whole table, batch by batch, in the order of its key.
//!
//! A batch is one transaction: the boundary, the change, the cursor. What `kill -9` leaves is either all of it or none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgTransaction, Postgres, Row};

use super::Workbench;
use super::change::{self, Answer, BatchSql, RangeSql};
use super::interruptible::{self, OwnConnection, Watch};
use super::keyspace::{Boundary, Keyspace};
use crate::engine::batch_size::Bounds;
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Batched, Conclusion, StepContext, StepError, Sweep};
use crate::plan::model::Backfill;
use crate::postgres::catalog;
use crate::postgres::key::{End, position};
use crate::postgres::record::RecordError;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, session, sqlstate};
use crate::run::{Advance, Cause, KeyText, Segment, SegmentNo, Tally, human};

/// Sweeps that one driver makes before it says what is left.
const SWEEPS: u32 = 2;

/// A `backfill` step.
pub struct BackfillStep {
    bench: Workbench,
    backfill: Backfill,
    ready: OnceLock<Ready>,
    sweeps: AtomicU32,
}

/// What is known once the table has been looked at: of each part of it.
type Ready = Vec<ReadyPart>;

/// What is known of one part.
#[derive(Clone)]
struct ReadyPart {
    sql: BatchSql,
    keys: Keyspace,
    first: Option<KeyText>,
}

impl ReadyPart {
    /// The part that a segment lies in.
    fn of<'a>(ready: &'a Ready, segment: &Segment) -> Result<&'a Self, Cause> {
        let part = ready.iter().find(|one| one.keys.part().in_ledger() == segment.part);
        part.ok_or_else(|| {
            let name = segment.part.as_deref().unwrap_or_default();
            Cause::new(format!("partition {name} is no longer there, and the walk of it was not at its end"))
        })
    }
}

impl BackfillStep {
    /// A step that is ready to be opened.
    #[must_use]
    pub fn new(bench: Workbench, backfill: Backfill) -> Self {
        Self { bench, backfill, ready: OnceLock::new(), sweeps: AtomicU32::new(0) }
    }

    fn failed(&self, e: &sqlx::Error) -> StepError {
        StepError::Failed(error::cause(&self.bench.what(), e))
    }

    fn ready(&self) -> Result<&Ready, StepError> {
        self.ready.get().ok_or_else(|| StepError::Failed(Cause::bug("a backfill was driven before it was opened")))
    }

    async fn look(&self, connection: &mut PgConnection) -> Result<&Ready, StepError> {
        if self.ready.get().is_none() {
            let (name, source) = (&self.bench.name, &self.bench.source);
            let table = catalog::table(connection, name, &self.backfill.table, source).await?;
            let mut ready = Ready::new();
            for part in &table.parts {
                let sql = change::batch_sql(name, &self.backfill, &table, part, None, source)?;
                let keys = Keyspace::new(part.clone());
                let first = keys.end(connection, End::First).await.map_err(|e| self.failed(&e))?;
                ready.push(ReadyPart { sql, keys, first });
            }
            drop(self.ready.set(ready));
        }
        self.ready()
    }

    /// Plans the first sweep: from the first key to what is the last key now. What comes in behind that is found by the
    /// count at the end.
    async fn plan_first(&self, connection: &mut PgConnection, ready: &Ready) -> Result<(), StepError> {
        let (mut segments, mut foretold) = (Vec::new(), Some(0));
        for part in ready {
            let last = part.keys.end(connection, End::Last).await.map_err(|e| self.failed(&e))?;
            let rows = part.keys.rows(connection).await.map_err(|e| self.failed(&e))?;
            foretold = foretold.zip(rows).map(|(all, rows): (u64, u64)| all.saturating_add(rows));
            let in_ledger = part.keys.part().in_ledger();
            let no = number(segments.len());
            segments.extend(last.map(|last| Segment { part: in_ledger, ..Segment::new(1, no, None, Some(last)) }));
        }
        self.add_sweep(connection, &segments, foretold).await
    }

    async fn add_sweep(
        &self,
        connection: &mut PgConnection,
        segments: &[Segment],
        foretold: Option<u64>,
    ) -> Result<(), StepError> {
        let write = async {
            let mut tx = connection.begin_with(session::DURABLE).await?;
            self.bench.recorder.add_sweep(&mut tx, self.bench.index, segments, foretold).await?;
            tx.commit().await?;
            Ok::<(), RecordError>(())
        };
        write.await.map_err(|e| StepError::Failed(e.cause(&self.bench.what())))
    }

    /// Runs a question about the whole table, under `limits.count_timeout`, cancelled when the run is to stop.
    async fn ask<T>(
        &self,
        context: &StepContext,
        what: &str,
        sql: &SqlText,
        ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout;
        let mut own = OwnConnection::take(&self.bench, limit, self.bench.limits.lock_timeout).await?;
        let pid = own.pid;
        let answer = interruptible::wait(&self.bench.pool, pid, context, what, Watch::Nothing, ask(own.get())).await;
        own.close().await;
        answer.map_err(|e| {
            e.into_step_error(|e| {
                if error::code(e) == Some(sqlstate::QUERY_CANCELED) {
                    return Cause::new(format!(
                        "{}: could not check within {} that nothing is left",
                        self.bench.what(),
                        human::duration(limit)
                    ))
                    .hint(
                        "every batch is done; give `limits.count_timeout` more time, or `where` an index, and resume",
                    );
                }
                error::cause_in_plan(&self.bench.what(), e, sql, &self.bench.source)
            })
        })
    }

    /// Plans another sweep, over the keys between the first and the last row that still match.
    async fn plan_again(&self, context: &StepContext, ready: &Ready, number: u32) -> Result<(), StepError> {
        let mut segments = Vec::new();
        for part in ready {
            let Some(condition) = &part.sql.filter else { continue };
            let (keys, named) = (&part.keys, &part.sql.named);
            let ends = async |connection: &mut PgConnection| {
                let first = keys.matching_end(connection, End::First, named, condition).await?;
                let last = keys.matching_end(connection, End::Last, named, condition).await?;
                let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
                Ok(Some((keys.before(connection, &first).await?, last)))
            };
            let found = self.ask(context, "looking for rows that are left", condition, ends).await?;
            let in_ledger = keys.part().in_ledger();
            let no = self::number(segments.len());
            segments.extend(
                found.map(|(lower, upper)| Segment { part: in_ledger, ..Segment::new(number, no, lower, Some(upper)) }),
            );
        }
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        self.add_sweep(&mut connection, &segments, None).await
    }

    async fn done(&self, outcome: Option<String>) -> Result<Conclusion, StepError> {
        self.bench.step_done(outcome.as_deref()).await?;
        Ok(Conclusion::Done(outcome))
    }
}

#[async_trait]
impl Batched for BackfillStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the table", None);
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        let ready = self.look(&mut connection).await?.clone();
        let read = |e: RecordError| StepError::Failed(e.cause(&self.bench.what()));
        let mut sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await.map_err(read)?;
        if sweeps.segments.is_empty() {
            self.plan_first(&mut connection, &ready).await?;
            sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await.map_err(read)?;
        }
        let number = sweeps.segments.iter().map(|segment| segment.sweep).max().unwrap_or(1);
        let (segments, earlier): (Vec<_>, Vec<_>) = sweeps.segments.into_iter().partition(|s| s.sweep == number);
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        Ok(Sweep {
            number,
            segments,
            foretold: sweeps.foretold,
            before: earlier.iter().map(|segment| segment.tally).sum(),
        })
    }

    async fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        let ready = self.ready()?.clone();
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        let name = session::literal(&self.bench.application_name());
        sqlx::query(AssertSqlSafe(format!("SET application_name = {name}")))
            .persistent(false)
            .execute(&mut *connection)
            .await
            .map_err(|e| self.failed(&e))?;
        let scout = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        Ok(Box::new(Worker { bench: self.bench.clone(), ready, connection, scout, scouted: None }))
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let ready = self.ready()?;
        if ready.iter().all(|part| part.sql.left.is_none()) {
            return self.done(None).await;
        }
        let mut left = 0;
        for sql in ready.iter().filter_map(|part| part.sql.left.as_ref()) {
            let count = async |connection: &mut PgConnection| {
                let left: i64 =
                    sqlx::query_scalar(AssertSqlSafe(sql.as_str())).persistent(false).fetch_one(connection).await?;
                Ok(left.max(0).cast_unsigned())
            };
            left += self.ask(context, "counting what is left", sql, count).await?;
        }
        failpoint::hit("step.counted");
        if left == 0 {
            return self.done(Some("0 left".to_owned())).await;
        }
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        let sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await;
        drop(connection);
        let sweeps = sweeps.map_err(|e| StepError::Failed(e.cause(&self.bench.what())))?;
        let still: u64 = sweeps.segments.iter().map(|segment| segment.tally.still_matching).sum();
        if still > 0 && left > still {
            return Err(StepError::Failed(
                Cause::new(format!(
                    "{}: {} rows match `where`, at least {} of them never changed; but {} match after their change, so \
                     another sweep would change those twice",
                    self.bench.what(),
                    human::count(left),
                    human::count(left - still),
                    human::count(still)
                ))
                .hint("write a `where` that the change makes false, and begin a new run for the rows that are left"),
            ));
        }
        if still > 0 {
            // Rows match although they were changed: another sweep would change them twice.
            let text = format!(
                "{} match `where` still: it holds after the change, so rows that came in meanwhile cannot be told apart",
                human::count(left)
            );
            return self.done(Some(text)).await;
        }
        if self.sweeps.load(Ordering::Relaxed) >= SWEEPS {
            return Err(StepError::Failed(
                Cause::new(format!(
                    "{}: {} rows match `where` after {SWEEPS} sweeps: something keeps writing rows that match",
                    self.bench.what(),
                    human::count(left)
                ))
                .hint("make the application write the new form first, then resume: the run sweeps again"),
            ));
        }
        let number = sweeps.segments.iter().map(|segment| segment.sweep).max().unwrap_or(0) + 1;
        self.plan_again(context, ready, number).await?;
        Ok(Conclusion::Again { left })
    }

    fn bounds(&self) -> Bounds {
        let batch = self.bench.limits.batch;
        Bounds { start: batch.start, min: batch.min, max: batch.max }
    }

    fn target(&self) -> Duration {
        self.bench.limits.batch.target
    }
}

struct Worker {
    bench: Workbench,
    ready: Ready,
    connection: PoolConnection<Postgres>,
    /// Looks for the next batch's boundary while this batch's change runs: counting keys takes a twentieth of the time
    /// that changing them does.
    scout: PoolConnection<Postgres>,
    scouted: Option<Scouted>,
}

/// A boundary that was found ahead of its batch.
struct Scouted {
    /// The batch begins behind this key.
    from: KeyText,
    boundary: Boundary,
}

/// The boundary that was found ahead, where it fits the batch: it begins at the same key, and holds about as many rows
/// as are wanted now.
fn usable(scouted: Option<Scouted>, from: Option<&KeyText>, rows: u64) -> Option<Boundary> {
    let scouted = scouted.filter(|scouted| Some(&scouted.from) == from)?;
    let found = scouted.boundary.rows;
    (found <= rows.saturating_mul(5) / 4 && found * 2 >= rows).then_some(scouted.boundary)
}

fn number(segments: usize) -> SegmentNo {
    SegmentNo(u32::try_from(segments).unwrap_or(u32::MAX))
}

/// Why a batch did not commit.
enum BatchError {
    /// It must not: what the step asks for cannot be done exactly.
    Refused(Cause),
    /// The plan's SQL, or the rows.
    Change(sqlx::Error, SqlText),
    /// Anything else that the server or the driver said.
    Sql(sqlx::Error),
    /// The record was refused.
    Record(RecordError),
}

impl From<sqlx::Error> for BatchError {
    fn from(e: sqlx::Error) -> Self {
        Self::Sql(e)
    }
}

impl Worker {
    async fn commit_one(&mut self, segment: &Segment, rows: u64) -> Result<Advance, (BatchError, Option<KeyText>)> {
        let part = ReadyPart::of(&self.ready, segment).map_err(|cause| (BatchError::Refused(cause), None))?;
        let begun = self.connection.begin_with(session::BATCH).await;
        let mut tx = begun.map_err(|e| (e.into(), None))?;
        failpoint::hit("batch.begun");
        let (from, upper) = (segment.from(), segment.upper.as_ref());
        let keys = &part.keys;
        let boundary = match usable(self.scouted.take(), from, rows) {
            Some(boundary) => Some(boundary),
            None => keys.boundary(&mut tx, from, upper, rows).await.map_err(|e| (e.into(), None))?,
        };
        failpoint::hit("batch.bounded");
        let through = boundary.as_ref().map(|boundary| boundary.key.clone());
        let ahead = through.clone().filter(|through| upper != Some(through));
        let scout = async {
            let from = ahead?;
            // Whatever fails here is looked for again, in the batch's own transaction.
            let boundary = keys.boundary(&mut self.scout, Some(&from), upper, rows).await.ok()??;
            Some(Scouted { from, boundary })
        };
        let change = Self::write(&self.bench, part, &mut tx, segment, boundary);
        let (written, scouted) = tokio::join!(change, scout);
        let committed = match written {
            Ok(advance) => tx.commit().await.map(|()| advance).map_err(BatchError::Sql),
            Err(e) => {
                // Best effort: when it fails the connection is gone, and the transaction with it.
                drop(tx.rollback().await);
                Err(e)
            }
        };
        let advance = committed.map_err(|e| (e, through))?;
        self.scouted = scouted;
        Ok(advance)
    }

    async fn write(
        bench: &Workbench,
        part: &ReadyPart,
        tx: &mut PgTransaction<'_>,
        segment: &Segment,
        boundary: Option<Boundary>,
    ) -> Result<Advance, BatchError> {
        let advance = match boundary {
            None => Advance { cursor: None, done: true, tally: Tally::default() },
            Some(boundary) => {
                let (changed, still_matching) = Self::change(part, tx, segment, &boundary.key).await?;
                if part.sql.must_falsify() && part.sql.answer == Answer::Counts && still_matching > 0 {
                    let cause = change::not_falsified(&bench.name, part.keys.part(), still_matching);
                    return Err(BatchError::Refused(cause));
                }
                Advance {
                    done: segment.upper.as_ref() == Some(&boundary.key),
                    cursor: Some(boundary.key),
                    tally: Tally { walked: boundary.rows, changed, still_matching, batches: 1, quarantined: 0 },
                }
            }
        };
        failpoint::hit("batch.changed");
        bench.recorder.advance(&mut *tx, bench.index, segment, &advance).await.map_err(BatchError::Record)?;
        failpoint::hit("batch.recorded");
        Ok(advance)
    }

    async fn change(
        part: &ReadyPart,
        tx: &mut PgTransaction<'_>,
        segment: &Segment,
        through: &KeyText,
    ) -> Result<(u64, u64), BatchError> {
        let from = segment.from();
        let RangeSql { change, still_matching, .. } = part.sql.of(from, through);
        let failed = |e: sqlx::Error| BatchError::Change(e, change.clone());
        let query = sqlx::query(AssertSqlSafe(change.as_str())).bind(from).bind(through);
        let (changed, mut matching) = match part.sql.answer {
            Answer::RowsAffected => (query.execute(&mut **tx).await.map_err(failed)?.rows_affected(), 0),
            Answer::Counts => {
                let row = query.fetch_one(&mut **tx).await.map_err(failed)?;
                let (changed, still): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                (changed.max(0).cast_unsigned(), still.max(0).cast_unsigned())
            }
        };
        if let Some(still) = still_matching {
            let count: i64 =
                sqlx::query_scalar(AssertSqlSafe(still.as_str())).bind(from).bind(through).fetch_one(&mut **tx).await?;
            matching = count.max(0).cast_unsigned();
        }
        Ok((changed, matching))
    }

    fn explain(&self, failure: BatchError, segment: &Segment, through: Option<&KeyText>, rows: u64) -> StepError {
        let what = self.bench.what();
        let mut cause = match failure {
            BatchError::Refused(cause) => cause,
            BatchError::Change(e, sql) => error::cause_in_plan(&what, &e, &sql, &self.bench.source),
            BatchError::Sql(e) => error::cause(&what, &e),
            BatchError::Record(e) => e.cause(&what),
        };
        let key = ReadyPart::of(&self.ready, segment)
            .map_or_else(|_| "key".to_owned(), |part| part.keys.part().walk.describe());
        let name = |key: Option<&KeyText>| key.map_or_else(|| "the first".to_owned(), |key| key.join(", "));
        let range = match (segment.from(), through) {
            (from @ Some(_), Some(through)) => format!("{key} after {}, through {}", name(from), through.join(", ")),
            (None, Some(through)) => format!("{key} from the first, through {}", through.join(", ")),
            (from, None) => format!("{rows} rows, {key} after {}", name(from)),
        };
        cause.details.push(format!("batch: {range}; nothing of it was kept"));
        StepError::Failed(cause)
    }
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        match self.commit_one(segment, rows).await {
            Ok(advance) => {
                segment.apply(&advance);
                let part = ReadyPart::of(&self.ready, segment)?;
                let first = segment.lower.as_ref().or(part.first.as_ref());
                let ends = first.zip(segment.upper.as_ref());
                let place = ends.zip(segment.cursor.as_ref());
                let position = place
                    .filter(|_| part.keys.part().walk.has_distances())
                    .and_then(|((first, last), cursor)| position(first, last, cursor));
                Ok(BatchDone { tally: advance.tally, position })
            }
            Err((failure, through)) => Err(self.explain(failure, segment, through.as_ref(), rows)),
        }
    }

    async fn close(self: Box<Self>) {
        drop(self.connection);
    }
}
