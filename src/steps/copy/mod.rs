//! `copy`: rows of tables into tables, within a database or between two servers.
//!
//! The source is walked by its keys, as a backfill walks its table; the rows of a batch and the cursor commit together on
//! the target, which holds the ledger. Within a database a batch is one INSERT ... SELECT; between two servers it is a COPY
//! out of the one, piped into a COPY into the other, inside the batch's transaction.
//!
//! Tables that others refer to go first: the tables of one level share a sweep, and the next level is another sweep.

mod batch;
mod check;
mod columns;
mod compare;
mod insertion;
mod look;
mod mend;
mod order;
mod origin;
mod pair;
mod pipe;
mod plan;
mod sequences;
mod worker;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;

use self::look::{Look, Sides};
use self::origin::Origin;
use self::pair::{Ready, Share};
use self::worker::Worker;
use super::backends::Backends;
use super::{Workbench, giveway, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::failpoint;
use crate::engine::ports::{
    BatchWorker, Batched, Conclusion, Reporter, StepBody, StepContext, StepError, Sweep, Trouble,
};
use crate::plan::movers::Copy;
use crate::postgres::connect::Connector;
use crate::postgres::{error, session};
use crate::run::{Cause, Segment, Tally, human};

pub use check::check;
pub use insertion::{Insertion, insertions};
pub(in crate::steps) use mend::ByCopy;

/// The most segments of a step that the ledger keeps, over all sweeps.
const MOST_SEGMENTS: u32 = 4096;

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, copy: &Copy) -> StepBody {
    let (there, wrong) = match destination(bench, copy) {
        Ok(there) => (there, None),
        Err(cause) => (bench.clone(), Some(cause)),
    };
    StepBody::Batched(Arc::new(CopyStep {
        home: bench.clone(),
        bench: there,
        wrong,
        is_counted: AtomicBool::new(false),
        copy: copy.clone(),
        ready: Mutex::default(),
        origin: OnceLock::new(),
        reporter: OnceLock::new(),
        backends: Arc::default(),
    }))
}

/// The bench of the database that rows go to.
fn destination(home: &Workbench, copy: &Copy) -> Result<Workbench, Cause> {
    let Some(target) = origin::destination(copy)? else { return Ok(home.clone()) };
    let connector = Connector { target, ..(*home.connector).clone() };
    Ok(Workbench { pool: origin::questions(&connector), connector: Arc::new(connector), ..home.clone() })
}

/// A `copy` step.
struct CopyStep {
    /// The run's own database.
    home: Workbench,
    /// The database that rows go to, and with them the record of the segments.
    bench: Workbench,
    /// Why there is none.
    wrong: Option<Cause>,
    /// Whether rows that are set aside there count among the run's already.
    is_counted: AtomicBool,
    copy: Copy,
    /// Looked at anew before another sweep is planned: a partition may have come.
    ready: Mutex<Option<Arc<Ready>>>,
    origin: OnceLock<Arc<Origin>>,
    reporter: OnceLock<Arc<dyn Reporter>>,
    backends: Arc<Backends>,
}

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    ready: Arc<Ready>,
    origin: Arc<Origin>,
    backends: Arc<Backends>,
}

impl Shared {
    /// What a segment walks.
    fn share(&self, segment: &Segment) -> Result<Arc<Share>, Cause> {
        self.ready.share(segment.part.as_deref()).map_err(|cause| {
            let message = format!("{}: {}", self.bench.what(), cause.message);
            Cause { message, ..cause }
        })
    }
}

impl CopyStep {
    fn failed(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.bench.what(), e))
    }

    fn not_opened() -> StepError {
        StepError::Failed(Cause::bug("a copy was driven before it was opened"))
    }

    fn ready(&self) -> Result<Arc<Ready>, StepError> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ready.ok_or_else(Self::not_opened)
    }

    fn shared(&self) -> Result<Shared, StepError> {
        Ok(Shared {
            bench: self.bench.clone(),
            ready: self.ready()?,
            origin: Arc::clone(self.origin()?),
            backends: Arc::clone(&self.backends),
        })
    }

    fn origin(&self) -> Result<&Arc<Origin>, StepError> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin);
        }
        let origin = Arc::new(Origin::new(&self.home, &self.copy)?);
        Ok(self.origin.get_or_init(|| origin))
    }

    /// A connection of the step's own. Whatever is waited for on it may be given up with it.
    async fn own_connection(&self) -> Result<PgConnection, StepError> {
        Ok(self.bench.pool.acquire().await.map_err(|e| self.failed(&e))?.detach())
    }

    /// Waits for work on connections of the step's own, but not for ever.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout + self.bench.deadline();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let cause = Cause::new(format!("{}: no answer within {}", self.bench.what(), human::duration(limit)));
            Err(StepError::Passing(Trouble::Outage, cause))
        })
    }

    /// Looks at the tables, and keeps what is found.
    async fn look(&self, source: &mut PgConnection, target: &mut PgConnection) -> Result<Arc<Ready>, StepError> {
        let origin = self.origin()?;
        let what = self.bench.what();
        let look = Look {
            step: &self.bench.name,
            what: &what,
            origin: &origin.label,
            copy: &self.copy,
            plan: &self.bench.source,
        };
        let source = origin::is_apart(&self.copy).then_some(source);
        let ready = Arc::new(look.ready(&mut Sides { target, source }).await?);
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ready));
        Ok(ready)
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

    /// How many rows of the step are set aside.
    async fn set_aside(&self) -> Result<u64, StepError> {
        let mut connection = self.own_connection().await?;
        let count = async {
            let counted = self.bench.recorder.set_aside_of(&mut connection, self.bench.index).await;
            counted.map_err(|e| trouble::of_record(&e, &self.bench.what()))
        };
        self.bounded(count).await
    }
}

#[async_trait]
impl Batched for CopyStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the tables", None);
        drop(self.reporter.set(Arc::clone(&context.reporter)));
        let (ready, sweeps) = self.bounded(self.begin(context)).await?;
        let number = sweeps.segments.iter().map(|segment| segment.sweep).max().unwrap_or(1);
        let (segments, earlier): (Vec<_>, Vec<_>) = sweeps.segments.into_iter().partition(|s| s.sweep == number);
        let tables = plan::tables_of(&ready, &segments);
        let table = match tables.as_slice() {
            [pair] => {
                // The governor looks at the run's own database.
                self.bench.current_table.set(self.copy.database.is_none().then_some(pair.target.oid));
                Some(pair.target.label())
            }
            _ => None,
        };
        let room = MOST_SEGMENTS.saturating_sub(u32::try_from(segments.len() + earlier.len()).unwrap_or(u32::MAX));
        let weights = self.bounded(self.weights(&ready, &segments)).await?;
        Ok(Sweep {
            number,
            table,
            room,
            segments,
            foretold: sweeps.foretold,
            weights,
            bytes: None,
            before: earlier.iter().map(|segment| segment.tally).sum(),
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        Ok(Box::new(Worker::new(self.shared()?)))
    }

    fn companions(&self, _context: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        let bench = &self.bench;
        let Some(patience) = bench.limits.waiters else { return Vec::new() };
        let name = session::application_name(&bench.run, "waiters");
        let (connector, backends) = (Arc::clone(&bench.connector), Arc::clone(&self.backends));
        vec![Box::pin(giveway::watch(connector, backends, patience, name))]
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let walked = self.walked().await?;
        let number = walked.iter().map(|segment| segment.sweep).max().unwrap_or(0);
        if walked.iter().any(|segment| segment.sweep == number && !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
        if let Some(next) = self.bounded(self.plan_next(&walked)).await? {
            return Ok(Conclusion::Next(next));
        }
        let aside = self.set_aside().await?;
        let copied: Tally = walked.iter().map(|segment| segment.tally).sum();
        let mut outcome = format!("{} copied", human::rows(copied.changed));
        if aside > 0 {
            outcome = format!("{outcome}, {} set aside", human::count(aside));
            if self.copy.database.is_some() {
                outcome = format!("{outcome} in the ledger of {}", self.bench.connector.target.label());
            }
        }
        if let Some(comparison) = self.copy.verify {
            let agreed = self.compare(context, comparison, &walked).await?;
            outcome = format!("{outcome}; {agreed}");
        }
        self.set_sequences(context).await?;
        failpoint::hit("step.counted");
        self.origin()?.let_go();
        self.bench.current_table.set(None);
        self.home.step_done(Some(&outcome)).await?;
        Ok(Conclusion::Done(Some(outcome)))
    }

    fn bounds(&self) -> Bounds {
        let batch = self.bench.limits.batch;
        Bounds { start: batch.start, min: batch.min, max: batch.max }
    }

    fn target(&self) -> Duration {
        self.bench.limits.batch.target
    }
}
