//! `backfill`: a change of a whole table, batch by batch, in the order of its key.
//!
//! A batch is one transaction: the boundary, the change, the cursor. What `kill -9` leaves is either all of it or none.

mod aside;
mod batch;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::backends::Backends;
use super::change::{self, BatchSql};
use super::interruptible::{self, OwnConnection, Watch};
use super::keyspace::Keyspace;
use super::{Workbench, giveway, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::failpoint;
use crate::engine::ports::{BatchWorker, Batched, Conclusion, Reporter, StepContext, StepError, Sweep};
use crate::plan::model::{Backfill, PlanSource};
use crate::postgres::catalog::{self, Table};
use crate::postgres::key::Direction;
use crate::postgres::record::RecordError;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, explain, session, sqlstate};
use crate::run::{Cause, KeyText, Segment, SegmentNo, Tally, human};
pub(super) use batch::BatchError;
use worker::Worker;

/// The most segments of a step that the ledger keeps, over all sweeps.
const MOST_SEGMENTS: u32 = 4096;
/// Sweeps that one driver makes before it says what is left.
const SWEEPS: u32 = 2;

/// A `backfill` step.
pub struct BackfillStep {
    bench: Workbench,
    backfill: Backfill,
    ready: OnceLock<Ready>,
    reporter: OnceLock<Arc<dyn Reporter>>,
    backends: Arc<Backends>,
    explained: Arc<AtomicBool>,
    sweeps: AtomicU32,
}

/// What is known once the table has been looked at.
#[derive(Clone)]
pub(super) struct Ready {
    table: Table,
    part: Arc<Part>,
}

/// One table that is walked by its own key: the step's table, or a partition of it.
pub(super) struct Part {
    pub(super) table: Table,
    pub(super) sql: BatchSql,
    pub(super) keys: Keyspace,
    first: Option<KeyText>,
}

impl Ready {
    /// The table, or the partition that the ledger calls `part`.
    pub(super) fn part(&self, part: Option<&str>) -> Result<Arc<Part>, Cause> {
        match part {
            None => Ok(Arc::clone(&self.part)),
            Some(part) => Err(Cause::new(format!("partition {part} is no longer there"))),
        }
    }
}

/// Looks at the table of a step that is called `step`, and puts together the SQL of its change.
///
/// # Errors
/// The table cannot be walked, the plan does not fit it, or the server does not answer.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    step: &str,
    backfill: &Backfill,
    source: &PlanSource,
) -> Result<Ready, StepError> {
    let table = catalog::table(connection, step, &backfill.table, source).await?;
    let sql = change::batch_sql(step, backfill, &table, source)?;
    let keys = Keyspace::new(table.clone());
    let first = keys.end(connection, Direction::Ascending).await;
    let first = first.map_err(|e| trouble::step_error(&e, error::cause(&super::what(step), &e)))?;
    let part = Arc::new(Part { table: table.clone(), sql, keys, first });
    Ok(Ready { table, part })
}

impl Part {
    fn can_set_aside(&self) -> bool {
        true
    }

    pub(super) fn key_name(&self) -> String {
        self.table.key.describe()
    }

    fn has_distances(&self) -> bool {
        self.table.key.has_distances()
    }
}

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    ready: Ready,
    backends: Arc<Backends>,
    reporter: Arc<dyn Reporter>,
    /// Whether the plan of a slow statement is in the log already.
    explained: Arc<AtomicBool>,
}

impl Shared {
    /// The table that a segment lies in.
    fn part(&self, segment: &Segment) -> Result<Arc<Part>, Cause> {
        self.ready.part(segment.part.as_deref())
    }

    fn describe_key(&self, _segment: &Segment) -> String {
        self.ready.part.key_name()
    }
}

impl BackfillStep {
    /// A step that is ready to be opened.
    #[must_use]
    pub fn new(bench: Workbench, backfill: Backfill) -> Self {
        Self {
            bench,
            backfill,
            ready: OnceLock::new(),
            reporter: OnceLock::new(),
            backends: Arc::default(),
            explained: Arc::default(),
            sweeps: AtomicU32::new(0),
        }
    }

    fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.bench.what(), e))
    }

    fn ready(&self) -> Result<&Ready, StepError> {
        self.ready.get().ok_or_else(|| StepError::Failed(Cause::bug("a backfill was driven before it was opened")))
    }

    async fn look(&self, connection: &mut PgConnection) -> Result<&Ready, StepError> {
        if self.ready.get().is_none() {
            let ready = prepare(connection, &self.bench.name, &self.backfill, &self.bench.source).await?;
            drop(self.ready.set(ready));
        }
        self.ready()
    }

    /// Plans the first sweep: from the first key to what is the last key now. What comes in behind that is found by the
    /// count at the end.
    async fn plan_first(&self, connection: &mut PgConnection, ready: &Ready) -> Result<(), StepError> {
        let last = ready.part.keys.end(connection, Direction::Descending).await.map_err(|e| self.failed(&e))?;
        let foretold =
            explain::rows(connection, ready.table.oid, &ready.table.quoted()).await.map_err(|e| self.failed(&e))?;
        let segments: Vec<Segment> =
            last.map(|last| Segment::new(1, SegmentNo(0), None, Some(last))).into_iter().collect();
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
        write.await.map_err(|e| trouble::of_record(&e, &self.bench.what()))
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
        let Some(condition) = &aside::filter_without(&ready.part, self.bench.run_id, self.bench.index) else {
            return Ok(());
        };
        let named = &ready.part.sql.named;
        let (keys, from, name) = (&ready.part.keys, named.from.as_str(), named.name.as_str());
        let ends = async |connection: &mut PgConnection| {
            let first = keys.matching_end(connection, Direction::Ascending, from, name, condition).await?;
            let last = keys.matching_end(connection, Direction::Descending, from, name, condition).await?;
            let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
            Ok(Some((keys.before(connection, &first).await?, last)))
        };
        let found = self.ask(context, "looking for rows that are left", condition, ends).await?;
        let segments: Vec<Segment> =
            found.map(|(lower, upper)| Segment::new(number, SegmentNo(0), lower, Some(upper))).into_iter().collect();
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        self.add_sweep(&mut connection, &segments, None).await
    }

    /// Writes the step down as done; `aside` rows of it are set aside.
    async fn done(&self, outcome: Option<&str>, aside: u64) -> Result<Conclusion, StepError> {
        let outcome = match (outcome, aside) {
            (None, 0) => None,
            (Some(words), 0) => Some(words.to_owned()),
            (None, aside) => Some(format!("{} set aside", human::count(aside))),
            (Some(words), aside) => Some(format!("{words}, {} set aside", human::count(aside))),
        };
        self.bench.step_done(outcome.as_deref()).await?;
        Ok(Conclusion::Done(outcome))
    }

    /// All that the step has walked, in all its sweeps.
    async fn walked(&self) -> Result<Vec<Segment>, StepError> {
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        let sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await;
        Ok(sweeps.map_err(|e| trouble::of_record(&e, &self.bench.what()))?.segments)
    }
}

#[async_trait]
impl Batched for BackfillStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the table", None);
        drop(self.reporter.set(Arc::clone(&context.reporter)));
        let mut connection = self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?;
        let ready = self.look(&mut connection).await?.clone();
        let read = |e: RecordError| trouble::of_record(&e, &self.bench.what());
        let mut sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await.map_err(read)?;
        if sweeps.segments.is_empty() {
            self.plan_first(&mut connection, &ready).await?;
            sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await.map_err(read)?;
        }
        let number = sweeps.segments.iter().map(|segment| segment.sweep).max().unwrap_or(1);
        let (segments, earlier): (Vec<_>, Vec<_>) = sweeps.segments.into_iter().partition(|s| s.sweep == number);
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        let room = MOST_SEGMENTS.saturating_sub(u32::try_from(segments.len() + earlier.len()).unwrap_or(u32::MAX));
        Ok(Sweep {
            number,
            table: Some(ready.table.label()),
            room,
            segments,
            foretold: sweeps.foretold,
            before: earlier.iter().map(|segment| segment.tally).sum(),
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        let ready = self.ready()?.clone();
        let reporter = self.reporter.get().cloned();
        let reporter =
            reporter.ok_or_else(|| StepError::Failed(Cause::bug("a backfill was driven before it was opened")))?;
        Ok(Box::new(Worker::new(Shared {
            bench: self.bench.clone(),
            ready,
            backends: Arc::clone(&self.backends),
            reporter,
            explained: Arc::clone(&self.explained),
        })))
    }

    fn companions(&self, _: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        let Some(patience) = self.bench.limits.waiters else { return Vec::new() };
        let (connector, backends) = (Arc::clone(&self.bench.connector), Arc::clone(&self.backends));
        let name = session::application_name(&self.bench.run, "waiters");
        vec![Box::pin(giveway::watch(connector, backends, patience, name))]
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let ready = self.ready()?;
        let segments = self.walked().await?;
        let all: Tally = segments.iter().map(|segment| segment.tally).sum();
        let Some(left) = &aside::left_without(&ready.part, self.bench.run_id, self.bench.index) else {
            return self.done(None, all.quarantined).await;
        };
        let count = async |connection: &mut PgConnection| {
            let left: i64 =
                sqlx::query_scalar(AssertSqlSafe(left.as_str())).persistent(false).fetch_one(connection).await?;
            Ok(left.max(0).cast_unsigned())
        };
        let left = self.ask(context, "counting what is left", left, count).await?;
        failpoint::hit("step.counted");
        if left == 0 {
            return self.done(Some("0 left"), all.quarantined).await;
        }
        let still = all.still_matching;
        let number = segments.iter().map(|segment| segment.sweep).max().unwrap_or(0);
        if segments.iter().any(|segment| segment.sweep == number && !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
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
            return self.done(Some(&text), all.quarantined).await;
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
        self.plan_again(context, ready, number + 1).await?;
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
