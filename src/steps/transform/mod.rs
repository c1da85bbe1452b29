//! `transform`: rows through a program.
//!
//! A batch is read, answered by the program and written; what is written and the cursor commit together. Nothing is locked
//! while the program thinks: rows that are updated are known by their version, and one that somebody has changed meanwhile
//! is read again, and answered again.

mod batch;
mod file;
mod insert;
mod lines;
mod look;
mod mend;
mod query;
mod reading;
mod rhai;
mod rows;
mod runner;
mod shape;
mod stage;
mod text;
mod update;
mod worker;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::backends::Backends;
use super::preflight::{Found, Looking};
use super::{Workbench, giveway, segments, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::ports::{BatchWorker, Batched, Conclusion, StepBody, StepContext, StepError, Sweep, Trouble};
use crate::plan::movers::{Source, Transform};
use crate::postgres::deadline::within;
use crate::postgres::key::End;
use crate::postgres::record::{RecordError, Sweeps};
use crate::postgres::{catalog, error, ident, session};
use crate::run::text::clean;
use crate::run::{Cause, Segment, SegmentNo, Tally, human};
use look::{Look, Ready, To, View};
pub use mend::mending;
use worker::Worker;

/// The most segments of a step that the ledger keeps.
const MOST_SEGMENTS: u32 = 4096;
/// Segments of a large table.
const SEGMENTS: u32 = 64;

/// A `transform` step.
struct TransformStep {
    bench: Workbench,
    transform: Arc<Transform>,
    ready: Mutex<Option<Arc<Ready>>>,
    backends: Arc<Backends>,
    /// Segments that the ledger had when the sweep was opened.
    opened: AtomicUsize,
}

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    ready: Arc<Ready>,
    backends: Arc<Backends>,
    linger: Option<Duration>,
}

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, transform: &Transform) -> StepBody {
    StepBody::Batched(Arc::new(TransformStep {
        bench: bench.clone(),
        transform: Arc::new(transform.clone()),
        ready: Mutex::default(),
        backends: Arc::default(),
        opened: AtomicUsize::new(0),
    }))
}

impl TransformStep {
    fn ready(&self) -> Result<Arc<Ready>, StepError> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ready.ok_or_else(|| StepError::Failed(Cause::bug("a transform was driven before it was opened")))
    }

    fn is_query(&self) -> bool {
        matches!(self.transform.source, Source::Query { .. })
    }

    /// The view of the step's query.
    fn view(&self) -> String {
        format!("source_{}_{}", self.bench.run, self.bench.index.0)
    }

    fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.bench.what(), e))
    }

    async fn own_connection(&self) -> Result<PgConnection, StepError> {
        Ok(self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?.detach())
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout + self.bench.deadline();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let cause = Cause::new(format!("{}: no answer within {}", self.bench.what(), human::duration(limit)));
            Err(StepError::Passing(Trouble::Outage, cause))
        })
    }

    async fn sweeps(&self, connection: &mut PgConnection) -> Result<Sweeps, StepError> {
        let sweeps = self.bench.recorder.sweeps(connection, self.bench.index).await;
        sweeps.map_err(|e| trouble::of_record(&e, &self.bench.what()))
    }

    /// Looks at the tables, and at what the ledger has of the walk; plans it where there is none.
    async fn begin(&self, connection: &mut PgConnection) -> Result<(Arc<Ready>, Sweeps), StepError> {
        let bench = &self.bench;
        let what = bench.what();
        let caches = bench.caches.as_ref();
        let names = Look { step: &bench.name, what: &what, source: &bench.source, caches };
        let ready = Arc::new(look::look(connection, names, &self.transform, View::Kept(&self.view())).await?);
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ready));
        bench.current_table.set(Some(match &ready.to {
            To::Update(_) | To::File(_) => ready.table.oid,
            To::Insert(_, target) => target.oid,
        }));
        let sweeps = self.sweeps(connection).await?;
        self.same_walk(&ready, sweeps.walk.as_deref())?;
        if sweeps.walk.is_some() {
            return Ok((ready, sweeps));
        }
        if let To::File(spec) = &ready.to
            && let Some(there) = spec.existing()
        {
            let cause = Cause::usage(format!("{what}: {} is there already", clean(&there.display().to_string())));
            return Err(StepError::Failed(cause.hint("move such files away, or give `file` another name")));
        }
        if self.is_query() {
            // It may take as long as a count: it goes over the whole query once.
            let limit = self.bench.limits.count_timeout.as_millis();
            let set = connection.execute(AssertSqlSafe(format!("SET statement_timeout = {limit}"))).await;
            set.map_err(|e| self.failed(&e))?;
            query::is_a_key(connection, names, &ready.table).await?;
        }
        self.plan(connection, &ready).await?;
        let sweeps = self.sweeps(connection).await?;
        Ok((ready, sweeps))
    }

    /// Plans the walk: from the first key to what is the last key now, cut into segments of about as many rows.
    async fn plan(&self, connection: &mut PgConnection, ready: &Ready) -> Result<(), StepError> {
        let failed = |e: sqlx::Error| self.failed(&e);
        let mut rows = Vec::new();
        for share in &ready.shares {
            rows.push(share.keys.rows(connection).await.map_err(failed)?);
        }
        let shares = segments::shares(&rows, self.bounds().start, SEGMENTS);
        let mut planned = Vec::new();
        for (share, wanted) in ready.shares.iter().zip(shares) {
            let Some(last) = share.keys.end(connection, End::Last).await.map_err(failed)? else { continue };
            // Of a view there are neither statistics nor samples: it is cut while it is walked.
            let wanted = if self.is_query() { 1 } else { wanted };
            let cuts = share.keys.cuts(connection, None, &last, wanted).await.map_err(failed)?;
            let first = SegmentNo(u32::try_from(planned.len()).unwrap_or(u32::MAX));
            let name = share.part().in_ledger();
            planned.extend(segments::cut(1, first, name.as_deref(), None, Some(last), cuts));
        }
        let foretold = rows.into_iter().try_fold(0_u64, |all, rows| Some(all.saturating_add(rows?)));
        let write = async {
            let mut tx = connection.begin_with(session::DURABLE).await?;
            let (index, walk) = (self.bench.index, ready.identities());
            self.bench.recorder.add_sweep(&mut tx, index, &planned, foretold, &walk).await?;
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
}

#[async_trait]
impl Batched for TransformStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the table", None);
        let mut connection = self.own_connection().await?;
        let (ready, sweeps) = self.bounded(self.begin(&mut connection)).await?;
        let segments = sweeps.segments;
        self.opened.store(segments.len(), Ordering::Relaxed);
        let room = MOST_SEGMENTS.saturating_sub(u32::try_from(segments.len()).unwrap_or(u32::MAX));
        Ok(Sweep {
            number: 1,
            table: (!self.is_query()).then(|| ready.table.label()),
            room,
            segments,
            foretold: sweeps.foretold,
            weights: Vec::new(),
            bytes: None,
            before: Tally::default(),
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        Ok(Box::new(Worker::new(Shared {
            bench: self.bench.clone(),
            ready: self.ready()?,
            backends: Arc::clone(&self.backends),
            linger: self.transform.linger,
        })))
    }

    fn companions(&self, _context: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        let bench = &self.bench;
        let Some(patience) = bench.limits.waiters else { return Vec::new() };
        let name = session::application_name(&bench.run, "waiters");
        let (connector, backends) = (Arc::clone(&bench.connector), Arc::clone(&self.backends));
        vec![Box::pin(giveway::watch(connector, backends, patience, name))]
    }

    async fn conclude(&self, _context: &StepContext) -> Result<Conclusion, StepError> {
        let mut connection = self.own_connection().await?;
        let segments: Vec<Segment> = self.bounded(self.sweeps(&mut connection)).await?.segments;
        // A ledger on Redis may have lost the sweep with its last seconds: nothing that is left is no proof.
        let lost = segments.len() < self.opened.load(Ordering::Relaxed);
        if lost || segments.iter().any(|segment| !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
        if let To::File(spec) = &self.ready()?.to {
            // A crash may have come between a commit and the new name.
            for segment in &segments {
                let place = file::Place::of(segment)?;
                let named = spec.name_complete(segment.no, place);
                named.map_err(|e| Cause::new(format!("{}: naming files: {e}", self.bench.what())))?;
            }
        }
        let counted = async {
            let aside = self.bench.recorder.set_aside_of(&mut connection, self.bench.index).await;
            aside.map_err(|e| trouble::of_record(&e, &self.bench.what()))
        };
        let aside = self.bounded(counted).await?;
        let tally: Tally = segments.iter().map(|segment| segment.tally).sum();
        let word = match &self.ready()?.to {
            To::Update(_) => "updated",
            To::Insert(..) | To::File(_) => "written",
        };
        let mut outcome = format!("{} {word}", human::rows(tally.changed));
        if aside > 0 {
            outcome = format!("{outcome}, {} set aside", human::count(aside));
        }
        outcome.push_str(&self.bench.looked_up());
        if self.is_query() {
            let drop = format!("DROP VIEW IF EXISTS howdah.{}", ident::quote(&self.view()));
            let dropped = within(self.bench.deadline(), connection.execute(AssertSqlSafe(drop))).await;
            dropped.map_err(|e| self.failed(&e))?;
        }
        self.bench.current_table.set(None);
        self.bench.step_done(Some(&outcome)).await?;
        Ok(Conclusion::Done(Some(outcome)))
    }

    fn bounds(&self) -> Bounds {
        let batch = self.bench.limits.batch;
        match self.transform.batch {
            Some(rows) => Bounds { start: rows, min: rows, max: rows },
            None => Bounds { start: batch.start, min: batch.min, max: batch.max },
        }
    }

    fn target(&self) -> Duration {
        self.bench.limits.batch.target
    }
}

/// Checks the step against the database, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    transform: &Transform,
    found: &mut Found,
) -> Result<(), Cause> {
    let names = Look { step: &looking.step.name, what: looking.what, source: &looking.plan.source, caches: None };
    let ready = look::look(connection, names, transform, View::Passing).await?;
    let failed = |e: sqlx::Error| error::cause(looking.what, &e);
    found.notices.extend(catalog::row_security_notices(connection, &ready.table).await.map_err(failed)?);
    let is_query = matches!(transform.source, Source::Query { .. });
    let mut tables = if is_query { Vec::new() } else { vec![ready.table] };
    if let To::Insert(_, target) = ready.to {
        tables.push(*target);
    }
    for table in tables {
        if !found.tables.contains(&table) {
            found.tables.push(table);
        }
    }
    Ok(())
}
