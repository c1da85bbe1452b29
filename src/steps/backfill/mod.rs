//! `backfill`: a change of a whole table, batch by batch, in the order of its key.
//!
//! A batch is one transaction: the boundary, the change, the cursor. What `kill -9` leaves is either all of it or none.

mod batch;
mod parts;
mod purpose;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::backends::Backends;
use super::change::Aside;
use super::interruptible::{self, OwnConnection, Watch};
use super::vacuum::Tidy;
use super::{Workbench, giveway, segments, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::failpoint;
use crate::engine::ports::{BatchWorker, Batched, Conclusion, Reporter, StepContext, StepError, Sweep, Trouble};
use crate::plan::model::{Backfill, Vacuum};
use crate::postgres::key::End;
use crate::postgres::record::{RecordError, Sweeps};
use crate::postgres::sql::SqlText;
use crate::postgres::{error, session, sqlstate};
use crate::run::{Cause, RunId, Segment, SegmentNo, StepIndex, human};
use parts::Action;
pub(super) use parts::{Part, Ready};
pub(super) use purpose::{Log, Named, ready};
pub use purpose::{Purpose, tables};
use worker::Worker;

/// The most segments of a step that the ledger keeps, over all sweeps.
const MOST_SEGMENTS: u32 = 4096;
/// Segments of a sweep over a large table.
const SEGMENTS: u32 = 64;
/// Sweeps that one driver makes before it says what is left.
const SWEEPS: u32 = 2;

/// A `backfill` step.
pub struct BackfillStep {
    bench: Workbench,
    backfill: Backfill,
    purpose: Purpose,
    /// Looked at anew before the final count: a partition may have come.
    ready: Mutex<Option<Arc<Ready>>>,
    reporter: OnceLock<Arc<dyn Reporter>>,
    backends: Arc<Backends>,
    explained: Arc<AtomicBool>,
    sweeps: AtomicU32,
    /// Segments that the ledger had when the sweep was opened.
    opened: AtomicUsize,
    /// Whether segments must be walked one after the other: rows may be in the undo log more than once.
    in_order: AtomicBool,
}

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    ready: Arc<Ready>,
    backends: Arc<Backends>,
    reporter: Arc<dyn Reporter>,
    /// Whether the plan of a slow statement is in the log already.
    explained: Arc<AtomicBool>,
}

impl Shared {
    /// The part of the table that a segment lies in.
    fn part(&self, segment: &Segment) -> Result<Arc<Part>, Cause> {
        self.ready.part(segment.part.as_deref()).map_err(|cause| {
            let message = format!("{}: {}", self.bench.what(), cause.message);
            Cause { message, ..cause }
        })
    }

    fn describe_key(&self, segment: &Segment) -> String {
        self.part(segment).map_or_else(|_| "key".to_owned(), |part| part.key_name())
    }
}

impl BackfillStep {
    /// A step that is ready to be opened.
    #[must_use]
    pub fn new(bench: Workbench, backfill: Backfill, purpose: Purpose) -> Self {
        Self {
            bench,
            backfill,
            purpose,
            ready: Mutex::default(),
            reporter: OnceLock::new(),
            backends: Arc::default(),
            explained: Arc::default(),
            sweeps: AtomicU32::new(0),
            opened: AtomicUsize::new(0),
            in_order: AtomicBool::new(false),
        }
    }

    fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.bench.what(), e))
    }

    fn ready(&self) -> Result<Arc<Ready>, StepError> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ready.ok_or_else(|| StepError::Failed(Cause::bug("a backfill was driven before it was opened")))
    }

    /// Where the rows of a part are found that are set aside.
    async fn aside(&self, part: &Part) -> Result<Aside, StepError> {
        let (step, name) = (self.bench.index, part.keys.part().in_ledger().unwrap_or_default());
        let keys = self.bench.recorder.keys_set_aside(step, &name).await;
        let keys = keys.map_err(|e| trouble::of_record(&e, &self.bench.what()))?;
        Ok(keys.map_or(Aside::Schema { run: self.bench.run_id, step }, Aside::Keys))
    }

    /// Looks at the table, and keeps what is found.
    async fn look(&self, connection: &mut PgConnection) -> Result<Arc<Ready>, StepError> {
        let bench = &self.bench;
        let named = Named { run: bench.run_id, step: bench.index, name: &bench.name, source: &bench.source };
        let ready = Arc::new(purpose::ready(connection, &named, &self.backfill, self.purpose, Log::Make).await?);
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// A connection of the step's own. Whatever is waited for on it may be given up with it.
    async fn own_connection(&self) -> Result<PgConnection, StepError> {
        Ok(self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?.detach())
    }

    /// Waits for work on a connection of the step's own, but not for ever.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout + self.bench.deadline();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let cause = Cause::new(format!("{}: no answer within {}", self.bench.what(), human::duration(limit)));
            Err(StepError::Passing(Trouble::Outage, cause))
        })
    }

    /// Plans the first sweep: from the first key to what is the last key now, cut into segments of about as many rows.
    /// What comes in behind that is found by the count at the end.
    async fn plan_first(&self, connection: &mut PgConnection, ready: &Ready) -> Result<(), StepError> {
        let failed = |e: sqlx::Error| self.failed(&e);
        let start = self.bench.limits.batch.start;
        let mut rows = Vec::new();
        for part in &ready.parts {
            rows.push(part.keys.rows(connection).await.map_err(failed)?);
        }
        if let Purpose::RevertBySql { run, step } = self.purpose
            && let Some(planned) = self.walked_before(connection, run, step).await?
        {
            return self.add_sweep(connection, &planned, None).await;
        }
        let wanted = if self.in_order.load(Ordering::Relaxed) { 1 } else { SEGMENTS };
        let shares = segments::shares(&rows, start, wanted);
        let mut planned = Vec::new();
        for (part, share) in ready.parts.iter().zip(shares) {
            let Some(last) = part.keys.end(connection, End::Last).await.map_err(failed)? else { continue };
            let cuts = part.keys.cuts(connection, None, &last, share).await.map_err(failed)?;
            let first = SegmentNo(u32::try_from(planned.len()).unwrap_or(u32::MAX));
            let name = part.keys.part().in_ledger();
            planned.extend(segments::cut(1, first, name.as_deref(), None, Some(last), cuts));
        }
        let foretold = rows.into_iter().try_fold(0_u64, |all, rows| Some(all.saturating_add(rows?)));
        self.add_sweep(connection, &planned, foretold).await
    }

    /// The ranges of keys that another run's step has walked, as segments. `None`: it swept more than once, so that its
    /// ranges overlap.
    async fn walked_before(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Option<Vec<Segment>>, StepError> {
        let walked = self.bench.recorder.walked_by(connection, run, step).await;
        let walked = walked.map_err(|e| trouble::of_record(&e, &self.bench.what()))?;
        if walked.iter().any(|segment| segment.sweep > 1) {
            return Ok(None);
        }
        let walked = walked.into_iter().filter(|segment| segment.cursor.is_some());
        let planned = (0..).zip(walked).map(|(no, walked)| Segment {
            part: walked.part,
            ..Segment::new(1, SegmentNo(no), walked.lower, walked.cursor)
        });
        Ok(Some(planned.collect()))
    }

    async fn add_sweep(
        &self,
        connection: &mut PgConnection,
        segments: &[Segment],
        foretold: Option<u64>,
    ) -> Result<(), StepError> {
        let walk = self.ready()?.identities();
        let write = async {
            let mut tx = connection.begin_with(session::DURABLE).await?;
            self.bench.recorder.add_sweep(&mut tx, self.bench.index, segments, foretold, &walk).await?;
            tx.commit().await?;
            Ok::<(), RecordError>(())
        };
        write.await.map_err(|e| trouble::of_record(&e, &self.bench.what()))
    }

    /// Whether the cursors in the ledger still mean what they meant: somebody may have given the table another key since.
    fn same_walk(&self, ready: &Ready, then: Option<&str>) -> Result<(), StepError> {
        let Some(then) = then else { return Ok(()) };
        let now = ready.identities();
        let known: Vec<&str> = then.lines().collect();
        match now.lines().find(|identity| !known.contains(identity)) {
            None => Ok(()),
            Some(other) => Err(StepError::Failed(
                Cause::usage(format!(
                    "{}: the table is not walked by the key that the run began with",
                    self.bench.what()
                ))
                .detail(format!("then: {}", known.join("; ")))
                .detail(format!("now: {other}"))
                .hint("give the table its key back and resume, or begin a new run: howdah run PLAN --new"),
            )),
        }
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

    /// Plans another sweep, over the keys between the first and the last row that still match. `room`: how many segments
    /// the ledger has room for.
    async fn plan_again(&self, context: &StepContext, ready: &Ready, number: u32, room: u32) -> Result<(), StepError> {
        let mut planned: Vec<Segment> = Vec::new();
        let wanted = (room / 2).min(SEGMENTS) / u32::try_from(ready.parts.len().max(1)).unwrap_or(u32::MAX);
        for part in &ready.parts {
            let aside = self.aside(part).await?;
            let Some(condition) = part.sql().and_then(|sql| sql.filter_without(&aside)) else { continue };
            let Some(named) = part.sql().map(|sql| &sql.named) else { continue };
            let keys = &part.keys;
            let ends = async |connection: &mut PgConnection| {
                let first = keys.matching_end(connection, End::First, named, &condition).await?;
                let last = keys.matching_end(connection, End::Last, named, &condition).await?;
                let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
                let lower = keys.before(connection, &first).await?;
                let cuts = keys.cuts(connection, lower.as_ref(), &last, wanted).await?;
                Ok(Some((lower, last, cuts)))
            };
            let found = self.ask(context, "looking for rows that are left", &condition, ends).await?;
            let Some((lower, last, cuts)) = found else { continue };
            let first = SegmentNo(u32::try_from(planned.len()).unwrap_or(u32::MAX));
            let name = keys.part().in_ledger();
            planned.extend(segments::cut(number, first, name.as_deref(), lower, Some(last), cuts));
        }
        let mut connection = self.own_connection().await?;
        self.bounded(self.add_sweep(&mut connection, &planned, None)).await
    }

    /// How many rows of the step are set aside, in words.
    async fn set_aside_words(&self) -> Result<Option<String>, StepError> {
        let mut connection = self.own_connection().await?;
        let count = async {
            let counted = self.bench.recorder.set_aside_of(&mut connection, self.bench.index).await;
            counted.map_err(|e| trouble::of_record(&e, &self.bench.what()))
        };
        let aside = self.bounded(count).await?;
        let words = match self.purpose {
            Purpose::Change | Purpose::RevertBySql { .. } => "set aside",
            Purpose::RevertByLog { .. } => "kept: changed by somebody since",
        };
        Ok((aside > 0).then(|| format!("{} {words}", human::count(aside))))
    }

    /// The end of a step whose `where` holds after the change: another sweep would change rows twice. `left` rows match,
    /// `still` of those that were changed did.
    async fn stays_true(&self, left: u64, still: u64) -> Result<Conclusion, StepError> {
        if left > still {
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
        let text = format!(
            "{} match `where` still: it holds after the change, so rows that came in meanwhile cannot be told apart",
            human::count(left)
        );
        self.done(Some(text)).await
    }

    /// Looks at the table, and at what the ledger has of the walk; plans the first sweep where there is none.
    async fn begin(&self, connection: &mut PgConnection) -> Result<(Arc<Ready>, Sweeps), StepError> {
        let ready = self.look(connection).await?;
        self.bench.current_table.set(Some(ready.table.oid));
        let read = |e: RecordError| trouble::of_record(&e, &self.bench.what());
        let sweeps = self.bench.recorder.sweeps(connection, self.bench.index).await.map_err(read)?;
        self.same_walk(&ready, sweeps.walk.as_deref())?;
        if let Purpose::RevertByLog { run, step } = self.purpose {
            let walked = self.bench.recorder.walked_by(connection, run, step).await.map_err(read)?;
            self.in_order.store(walked.iter().any(|segment| segment.sweep > 1), Ordering::Relaxed);
        }
        if !sweeps.segments.is_empty() {
            return Ok((ready, sweeps));
        }
        self.plan_first(connection, &ready).await?;
        let sweeps = self.bench.recorder.sweeps(connection, self.bench.index).await.map_err(read)?;
        Ok((ready, sweeps))
    }

    /// The segments of all sweeps, as the ledger has them.
    async fn walked(&self) -> Result<Vec<Segment>, StepError> {
        let mut connection = self.own_connection().await?;
        let read = async {
            let sweeps = self.bench.recorder.sweeps(&mut connection, self.bench.index).await;
            sweeps.map_err(|e| trouble::of_record(&e, &self.bench.what()))
        };
        Ok(self.bounded(read).await?.segments)
    }

    async fn done(&self, outcome: Option<String>) -> Result<Conclusion, StepError> {
        self.bench.current_table.set(None);
        self.bench.step_done(outcome.as_deref()).await?;
        Ok(Conclusion::Done(outcome))
    }
}

#[async_trait]
impl Batched for BackfillStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the table", None);
        drop(self.reporter.set(Arc::clone(&context.reporter)));
        let mut connection = self.own_connection().await?;
        let (ready, sweeps) = self.bounded(self.begin(&mut connection)).await?;
        self.opened.store(sweeps.segments.len(), Ordering::Relaxed);
        let number = sweeps.segments.iter().map(|segment| segment.sweep).max().unwrap_or(1);
        let (segments, earlier): (Vec<_>, Vec<_>) = sweeps.segments.into_iter().partition(|s| s.sweep == number);
        let room = MOST_SEGMENTS.saturating_sub(u32::try_from(segments.len() + earlier.len()).unwrap_or(u32::MAX));
        Ok(Sweep {
            number,
            table: Some(ready.table.label()),
            room: if self.in_order.load(Ordering::Relaxed) { 0 } else { room },
            segments,
            foretold: sweeps.foretold,
            weights: Vec::new(),
            bytes: None,
            before: earlier.iter().map(|segment| segment.tally).sum(),
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        let ready = self.ready()?;
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

    fn companions(&self, context: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        let mut companions: Vec<BoxFuture<'static, ()>> = Vec::new();
        let bench = &self.bench;
        if let Some(patience) = bench.limits.waiters {
            let name = session::application_name(&bench.run, "waiters");
            let (connector, backends) = (Arc::clone(&bench.connector), Arc::clone(&self.backends));
            companions.push(Box::pin(giveway::watch(connector, backends, patience, name)));
        }
        if bench.limits.vacuum == Vacuum::Run
            && let Ok(ready) = self.ready()
        {
            let tidy = Tidy {
                connector: Arc::clone(&bench.connector),
                name: session::application_name(&bench.run, "vacuum"),
                table: ready.table.oid,
                quoted: ready.table.quoted(),
                reporter: Arc::clone(&context.reporter),
            };
            companions.push(Box::pin(tidy.keep()));
        }
        companions
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let mut ready = self.ready()?;
        let walked = self.walked().await?;
        let number = walked.iter().map(|segment| segment.sweep).max().unwrap_or(0);
        // A ledger on Redis may have lost the sweep with its last seconds: nothing that is left is no proof.
        let lost = walked.len() < self.opened.load(Ordering::Relaxed);
        if lost || walked.iter().any(|segment| segment.sweep == number && !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
        if ready.parts.iter().all(|part| part.sql().is_none_or(|sql| sql.left.is_none())) {
            return self.done(self.set_aside_words().await?).await;
        }
        if !ready.table.partition_key.is_empty() {
            // A partition that has come since is part of the table as well.
            let mut connection = self.own_connection().await?;
            ready = self.bounded(self.look(&mut connection)).await?;
        }
        let mut left = 0;
        for part in &ready.parts {
            let aside = self.aside(part).await?;
            let Some(sql) = part.sql().and_then(|sql| sql.left_without(&aside)) else { continue };
            let count = async |connection: &mut PgConnection| {
                let left: i64 =
                    sqlx::query_scalar(AssertSqlSafe(sql.as_str())).persistent(false).fetch_one(connection).await?;
                Ok(left.max(0).cast_unsigned())
            };
            left += self.ask(context, "counting what is left", &sql, count).await?;
        }
        failpoint::hit("step.counted");
        if left == 0 {
            let aside = self.set_aside_words().await?;
            return self.done(Some(aside.map_or("0 left".to_owned(), |aside| format!("0 left, {aside}")))).await;
        }
        let still: u64 = walked.iter().map(|segment| segment.tally.still_matching).sum();
        if still > 0 {
            return self.stays_true(left, still).await;
        }
        if self.sweeps.load(Ordering::Relaxed) + 1 >= SWEEPS {
            return Err(StepError::Failed(
                Cause::new(format!(
                    "{}: {} rows match `where` after {SWEEPS} sweeps: something keeps writing rows that match",
                    self.bench.what(),
                    human::count(left)
                ))
                .hint("make the application write the new form first, then resume: the run sweeps again"),
            ));
        }
        let kept = u32::try_from(walked.len()).unwrap_or(u32::MAX);
        self.plan_again(context, &ready, number + 1, MOST_SEGMENTS.saturating_sub(kept)).await?;
        self.sweeps.fetch_add(1, Ordering::Relaxed);
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
