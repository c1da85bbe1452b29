//! `import`: files into a table, by COPY.
//!
//! A batch is a run of whole records of one file: they go into the table, and the place behind them into the ledger, in one
//! transaction. The bytes pass through as they are; COPY knows what they mean.

mod batch;
pub mod feed;
pub mod files;
pub mod loading;
pub mod look;
mod mend;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod records;
mod rejects;
mod set_aside;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};

use super::backends::Backends;
use super::preflight::{Found, Looking};
use super::{Workbench, giveway, trouble};
use crate::engine::batch_size::Bounds;
use crate::engine::ports::{BatchWorker, Batched, Conclusion, StepBody, StepContext, StepError, Sweep, Trouble};
use crate::plan::model::BatchLimits;
use crate::plan::movers::{Import, OnConflict};
use crate::postgres::record::RecordError;
use crate::postgres::{error, ident, session, sqlstate};
use crate::run::cause::Fault;
use crate::run::{Cause, Level, Segment, SegmentNo, human};
use look::{Looked, Planned};
pub use mend::mending;
use worker::{Reading, Worker};

/// The most segments of a step that the ledger keeps.
const MOST_SEGMENTS: u32 = 4096;
/// Rows in the first batch, where the plan does not say more: COPY is quick, and a part of a file is small.
const FIRST: u64 = 20_000;
/// And in any batch.
const MOST: u64 = 1_000_000;

/// An `import` step.
pub struct ImportStep {
    bench: Workbench,
    import: Arc<Import>,
    looked: OnceLock<Arc<Looked>>,
    backends: Arc<Backends>,
    readings: Arc<Mutex<Readings>>,
    /// Segments that the ledger had when the sweep was opened.
    opened: AtomicUsize,
}

/// Files that somebody has begun to read and has laid down.
type Readings = HashMap<(u32, SegmentNo), Reading>;

/// What a step's workers share.
#[derive(Clone)]
struct Shared {
    bench: Workbench,
    import: Arc<Import>,
    looked: Arc<Looked>,
    backends: Arc<Backends>,
    readings: Arc<Mutex<Readings>>,
}

impl Shared {
    fn file(&self, segment: &Segment) -> Result<Arc<Planned>, Cause> {
        let file = self.looked.file(segment.part.as_deref()).cloned();
        file.map(Arc::new).ok_or_else(|| {
            let path = segment.part.as_deref().unwrap_or("without a name");
            Cause::usage(format!("{}: file {path} is not among the step's files any more", self.bench.what()))
        })
    }

    /// No await happens while they are held.
    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step as the engine drives it.
#[must_use]
pub fn step(bench: &Workbench, import: &Import) -> StepBody {
    StepBody::Batched(Arc::new(ImportStep {
        bench: bench.clone(),
        import: Arc::new(import.clone()),
        looked: OnceLock::new(),
        backends: Arc::default(),
        readings: Arc::default(),
        opened: AtomicUsize::new(0),
    }))
}

impl ImportStep {
    fn looked(&self) -> Result<Arc<Looked>, StepError> {
        let looked = self.looked.get().cloned();
        looked.ok_or_else(|| StepError::Failed(Cause::bug("an import was driven before it was opened")))
    }

    async fn own_connection(&self) -> Result<PgConnection, StepError> {
        let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&self.bench.what(), &e));
        Ok(self.bench.pool.acquire().await.map_err(failed)?.detach())
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let limit = self.bench.limits.count_timeout + self.bench.deadline();
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let cause = Cause::new(format!("{}: no answer within {}", self.bench.what(), human::duration(limit)));
            Err(StepError::Passing(Trouble::Outage, cause))
        })
    }

    /// Looks at the files and the table, and at what the ledger has; plans the walk where there is none.
    async fn begin(&self, connection: &mut PgConnection, context: &StepContext) -> Result<Vec<Segment>, StepError> {
        let looked = look::look(connection, &self.bench.name, &self.import, &self.bench.source).await?;
        let (bench, what) = (&self.bench, self.bench.what());
        bench.current_table.set(Some(looked.table.oid));
        let read = |e: RecordError| trouble::of_record(&e, &what);
        let sweeps = bench.recorder.sweeps(connection, bench.index).await.map_err(read)?;
        if let Some(walk) = &sweeps.walk {
            self.same_files(&looked, walk, &sweeps.segments)?;
        } else {
            let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&what, &e));
            if let Some(advice) = look::index_advice(connection, &looked.table).await.map_err(failed)? {
                context.reporter.notice(Level::Info, advice);
            }
            for note in looked.notes() {
                context.reporter.notice(Level::Info, note);
            }
            let walk: Vec<String> = looked.files.iter().map(|file| file.input.identity()).collect();
            let planned: Vec<Segment> = (0..)
                .zip(&looked.files)
                .map(|(no, file)| Segment {
                    part: Some(file.input.path.clone()),
                    ..Segment::new(1, SegmentNo(no), None, None)
                })
                .collect();
            let rows = looked.files.iter().try_fold(0_u64, |all, file| Some(all.saturating_add(file.rows?)));
            let write = async {
                let mut tx = connection.begin_with(session::DURABLE).await?;
                bench.recorder.add_sweep(&mut tx, bench.index, &planned, rows, &walk.join("\n")).await?;
                tx.commit().await?;
                Ok::<(), RecordError>(())
            };
            write.await.map_err(read)?;
        }
        let sweeps = bench.recorder.sweeps(connection, bench.index).await.map_err(read)?;
        // A step that is opened again, after a passing failure, finds what it knows already.
        drop(self.looked.set(Arc::new(looked)));
        Ok(sweeps.segments)
    }

    /// Whether the files are those that the run began with. What is loaded already may be gone.
    fn same_files(&self, looked: &Looked, walk: &str, segments: &[Segment]) -> Result<(), StepError> {
        let what = self.bench.what();
        for line in walk.lines() {
            let path = serde_json::from_str::<serde_json::Value>(line).ok();
            let path = path.and_then(|known| Some(known["path"].as_str()?.to_owned())).unwrap_or_default();
            let is_done = segments.iter().filter(|s| s.part.as_deref() == Some(&path)).all(|segment| segment.done);
            if is_done {
                continue;
            }
            let changed = match looked.file(Some(&path)) {
                Some(file) => file.input.is_still(line).err(),
                None => Some("it is not there any more".to_owned()),
            };
            if let Some(changed) = changed {
                return Err(StepError::Failed(
                    Cause::usage(format!("{what}: file {path} has changed since the run began: {changed}"))
                        .hint("places in it may not mean what they meant: give the file back as it was and resume")
                        .hint("or begin a new run, for what is not loaded yet: howdah run PLAN --new"),
                ));
            }
        }
        Ok(())
    }

    async fn segments(&self, connection: &mut PgConnection) -> Result<Vec<Segment>, StepError> {
        let sweeps = self.bench.recorder.sweeps(connection, self.bench.index).await;
        Ok(sweeps.map_err(|e| trouble::of_record(&e, &self.bench.what()))?.segments)
    }

    async fn set_aside(&self, connection: &mut PgConnection) -> Result<u64, StepError> {
        let counted = self.bench.recorder.set_aside_of(connection, self.bench.index).await;
        counted.map_err(|e| trouble::of_record(&e, &self.bench.what()))
    }
}

#[async_trait]
impl Batched for ImportStep {
    async fn open(&self, context: &StepContext) -> Result<Sweep, StepError> {
        context.reporter.doing("looking at the files", None);
        let mut connection = self.own_connection().await?;
        let segments = self.bounded(self.begin(&mut connection, context)).await?;
        self.opened.store(segments.len(), Ordering::Relaxed);
        let looked = self.looked()?;
        let size = |segment: &Segment| looked.file(segment.part.as_deref()).map_or(0, |file| weight(file, segment));
        let rows = looked.files.iter().try_fold(0_u64, |all, file| Some(all.saturating_add(file.rows?)));
        let counted = looked.files.iter().all(|file| !file.input.is_stdin());
        let files = u32::try_from(segments.len()).unwrap_or(u32::MAX);
        Ok(Sweep {
            number: 1,
            table: Some(looked.table.label()),
            room: MOST_SEGMENTS.saturating_sub(files),
            weights: segments.iter().map(size).collect(),
            bytes: counted.then(|| looked.files.iter().map(|file| file.input.size).sum()),
            foretold: rows,
            before: crate::run::Tally::default(),
            segments,
        })
    }

    fn worker(&self) -> Result<Box<dyn BatchWorker>, StepError> {
        Ok(Box::new(Worker::new(Shared {
            bench: self.bench.clone(),
            import: Arc::clone(&self.import),
            looked: self.looked()?,
            backends: Arc::clone(&self.backends),
            readings: Arc::clone(&self.readings),
        })))
    }

    fn companions(&self, _context: &StepContext) -> Vec<BoxFuture<'static, ()>> {
        let bench = &self.bench;
        let Some(patience) = bench.limits.waiters else { return Vec::new() };
        let name = session::application_name(&bench.run, "waiters");
        let (connector, backends) = (Arc::clone(&bench.connector), Arc::clone(&self.backends));
        vec![Box::pin(giveway::watch(connector, backends, patience, name))]
    }

    async fn conclude(&self, context: &StepContext) -> Result<Conclusion, StepError> {
        let mut connection = self.own_connection().await?;
        let segments = self.bounded(self.segments(&mut connection)).await?;
        // A ledger on Redis may have lost the sweep with its last seconds: nothing that is left is no proof.
        let lost = segments.len() < self.opened.load(Ordering::Relaxed);
        if lost || segments.iter().any(|segment| !segment.done) {
            return Ok(Conclusion::Unfinished);
        }
        let looked = self.looked()?;
        let aside = self.bounded(self.set_aside(&mut connection)).await?;
        if self.import.rejects && aside > 0 {
            context.reporter.doing("writing the rejects", None);
            self.bounded(rejects::write(&mut connection, &self.bench, &looked)).await?;
        }
        let loaded = segments.iter().map(|segment| segment.tally.changed).sum();
        let parts: HashSet<Option<&str>> = segments.iter().map(|segment| segment.part.as_deref()).collect();
        let files = parts.len();
        let mut outcome = format!(
            "{} from {}",
            human::rows(loaded),
            if files == 1 { "1 file".to_owned() } else { format!("{} files", human::count(files as u64)) }
        );
        if aside > 0 {
            outcome = format!("{outcome}, {} set aside", human::count(aside));
        }
        self.bench.current_table.set(None);
        self.bench.step_done(Some(&outcome)).await?;
        Ok(Conclusion::Done(Some(outcome)))
    }

    fn bounds(&self) -> Bounds {
        let batch = self.bench.limits.batch;
        // Where the plan does not say, a part of so many bytes is what limits a batch of small records.
        let max = if batch.max == BatchLimits::DEFAULT.max { MOST } else { batch.max };
        let start =
            if batch.start == BatchLimits::DEFAULT.start { FIRST.clamp(batch.min.min(max), max) } else { batch.start };
        Bounds { start, min: batch.min, max }
    }

    fn target(&self) -> Duration {
        self.bench.limits.batch.target
    }
}

/// How much of the input a segment is, in bytes.
fn weight(file: &Planned, segment: &Segment) -> u64 {
    let offset = |key: Option<&Vec<String>>, or: u64| key.and_then(worker::place).map_or(or, |place| place.offset);
    let from = offset(segment.lower.as_ref(), 0);
    offset(segment.upper.as_ref(), file.input.size).saturating_sub(from).max(1)
}

/// Checks the step against the database and the files, before anything is changed.
///
/// # Errors
/// Why it cannot work, with the place in the plan.
pub async fn check(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    import: &Import,
    found: &mut Found,
) -> Result<(), Cause> {
    let (what, source) = (looking.what, &looking.plan.source);
    let failed = |e: sqlx::Error| error::cause(what, &e);
    let looked = look::look(connection, &looking.step.name, import, source).await?;
    may_write(connection, what, import, &looked).await?;
    let mut known: Vec<&Arc<loading::LoadSql>> = Vec::new();
    for file in &looked.files {
        if known.contains(&&file.sql) {
            continue;
        }
        known.push(&file.sql);
        let Some(insert) = &file.sql.insert else { continue };
        // The stage is made to be able to ask, and is gone with the transaction.
        let mut tx = connection.begin().await.map_err(failed)?;
        if let Some(stage) = &file.sql.stage {
            sqlx::raw_sql(AssertSqlSafe(stage.as_str())).execute(&mut *tx).await.map_err(failed)?;
        }
        let mut asked = tx.prepare(AssertSqlSafe(insert.as_str().to_owned()).into_sql_str()).await.map(drop);
        if asked.is_ok() {
            // Whether there is a unique index for the key is looked for only when the statement is planned.
            let planned = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {}", insert.as_str()))).execute(&mut *tx).await;
            asked = planned.map(drop);
        }
        tx.rollback().await.map_err(failed)?;
        asked.map_err(|e| {
            let cause = error::cause_in_plan(what, &e, insert, source);
            if error::code(&e) == Some(NO_UNIQUE_INDEX) {
                return cause.hint("`key` names all columns of a unique index, and nothing else");
            }
            cause
        })?;
    }
    if let Some(file) = looked.files.first() {
        dialect(connection, looking, import, &file.sql.options).await?;
    }
    found.advice.extend(looked.notes());
    if let Some(advice) = look::index_advice(connection, &looked.table).await.map_err(failed)? {
        found.advice.push(advice);
    }
    if !found.tables.contains(&looked.table) {
        found.tables.push(looked.table);
    }
    Ok(())
}

/// `ON CONFLICT` names columns without a unique index.
const NO_UNIQUE_INDEX: &str = "42P10";

/// Asks the server whether it takes the dialect and the encoding, by a COPY of nothing into a table that is gone at once.
async fn dialect(
    connection: &mut PgConnection,
    looking: &Looking<'_>,
    import: &Import,
    options: &str,
) -> Result<(), Cause> {
    let failed = |e: sqlx::Error| error::cause(looking.what, &e);
    let mut tx = connection.begin().await.map_err(failed)?;
    let made = tx.execute("CREATE TEMPORARY TABLE howdah_dialect (field text)").await;
    if made.as_ref().is_err_and(|e| error::code(e) == Some(sqlstate::INSUFFICIENT_PRIVILEGE)) {
        // A load right into the table needs no temporary one: what is wrong shows then.
        return tx.rollback().await.map_err(failed);
    }
    made.map_err(failed)?;
    let copied = match tx.copy_in_raw(&format!("COPY pg_temp.howdah_dialect FROM STDIN {options}")).await {
        Ok(copy) => copy.finish().await.map(drop),
        Err(e) => Err(e),
    };
    tx.rollback().await.map_err(failed)?;
    copied.map_err(|e| {
        let mut cause = error::cause(looking.what, &e)
            .hint("`delimiter`, `quote`, `escape`, `null` and `encoding` are given to COPY as they are");
        if crate::postgres::trouble::of(&e).is_none() {
            cause.fault = Fault::Usage;
        }
        if let Some(encoding) = &import.encoding {
            cause.details.splice(0..0, looking.plan.source.excerpt_in_sql(encoding, 0));
        }
        cause
    })
}

/// Whether the role may do what the step does, in one question.
async fn may_write(connection: &mut PgConnection, what: &str, import: &Import, looked: &Looked) -> Result<(), Cause> {
    let staged = looked.files.iter().any(|file| file.sql.stage.is_some());
    let (role, insert, update, temporary): (String, bool, bool, bool) = sqlx::query_as(
        "SELECT current_user::text, has_any_column_privilege($1::int8::oid, 'INSERT'), \
                has_any_column_privilege($1::int8::oid, 'UPDATE'), \
                has_database_privilege(current_database(), 'TEMPORARY')",
    )
    .bind(looked.table.oid)
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|e| error::cause(what, &e))?;
    let (table, role_name) = (looked.table.quoted(), ident::quote(&role));
    let mut grants = Vec::new();
    if !insert {
        grants.push(format!("GRANT INSERT ON {table} TO {role_name}"));
    }
    if !update && import.on_conflict == OnConflict::Update {
        grants.push(format!("GRANT SELECT, UPDATE ON {table} TO {role_name}"));
    }
    if !temporary && staged {
        grants.push(format!("GRANT TEMPORARY ON DATABASE ... TO {role_name}"));
    }
    if grants.is_empty() {
        return Ok(());
    }
    let cause = Cause::new(format!("{what}: role `{role}` may not load `{}`", looked.table.label()));
    Err(cause.sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE).hint(format!("as its owner: {};", grants.join("; "))))
}
