//! `reindex`: indexes that are built anew beside themselves, CONCURRENTLY.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{check, leftovers};
use crate::engine::failpoint;
use crate::engine::ports::{Once, StepContext, StepError};
use crate::plan::indexing::{Rebuilt, Reindex};
use crate::postgres::catalog::{self, BEING_BUILT, Indexed};
use crate::postgres::deadline::on_pool;
use crate::postgres::error;
use crate::run::{ByteSize, Level};
use crate::steps::interruptible::{self, OwnConnection, Watch};
use crate::steps::{Workbench, trouble};

/// A `reindex` step. Run twice it is done twice, and nothing else.
pub struct ReindexStep {
    bench: Workbench,
    reindex: Reindex,
    begun: AtomicBool,
}

/// An index that a rebuild which was cut off has left behind.
struct Leftover {
    /// Quoted, with its schema.
    name: String,
    is_building: bool,
}

impl ReindexStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, reindex: Reindex) -> Self {
        Self { bench, reindex, begun: AtomicBool::new(false) }
    }

    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StepError> {
        let asked = on_pool(&self.bench.pool, self.bench.deadline(), work).await;
        asked.map_err(|e| trouble::step_error(&e, error::cause(&self.bench.what(), &e)))
    }

    /// Drops what earlier rebuilds have left: a new index that was never finished, or an old one that was never dropped.
    async fn clear(&self, context: &StepContext, of: &Indexed) -> Result<(), StepError> {
        loop {
            let is_table = matches!(self.reindex.what, Rebuilt::Table(_));
            let left = self.ask(async |connection| left_behind(connection, of, is_table).await).await?;
            let Some(first) = left.first() else { return Ok(()) };
            if first.is_building {
                leftovers::await_builder(context).await?;
                continue;
            }
            let text = format!("{} was left INVALID by an earlier rebuild: dropping it", first.name);
            context.reporter.notice(Level::Warning, text);
            leftovers::drop_concurrently(&self.bench, context, &first.name, "dropping what a rebuild left").await?;
        }
    }

    /// By its name: an index that was built anew is another relation.
    async fn size(&self, quoted: &str) -> Result<u64, StepError> {
        let sql = match self.reindex.what {
            Rebuilt::Table(_) => "SELECT coalesce(pg_indexes_size(to_regclass($1)), 0)",
            Rebuilt::Index(_) => "SELECT coalesce(pg_relation_size(to_regclass($1)), 0)",
        };
        let size: i64 = self.ask(async |c| sqlx::query_scalar(sql).bind(quoted).fetch_one(c).await).await?;
        Ok(size.max(0).cast_unsigned())
    }
}

/// Indexes named `..._ccnew` and `..._ccold`, INVALID, of the same table; of one index where only that is meant. Those of its
/// TOAST table are among them where all are.
async fn left_behind(
    connection: &mut PgConnection,
    of: &Indexed,
    is_table: bool,
) -> Result<Vec<Leftover>, sqlx::Error> {
    let sql = format!(
        "WITH target AS (SELECT CASE WHEN $2 THEN $1::int8::oid \
                             ELSE (SELECT indrelid FROM pg_index WHERE indexrelid = $1::int8::oid) END AS oid) \
         SELECT format('%I.%I', n.nspname, c.relname) AS name, {BEING_BUILT} AS building \
         FROM target t JOIN pg_class r ON r.oid = t.oid \
         JOIN pg_index i ON i.indrelid = t.oid OR ($2 AND i.indrelid = nullif(r.reltoastrelid, 0)) \
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' \
           AND ($2 OR starts_with($3, regexp_replace(c.relname, '_cc(new|old)[0-9]*$', ''))) ORDER BY c.oid"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(of.oid)
        .bind(is_table)
        .bind(&of.name)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(Leftover { name: row.try_get("name")?, is_building: row.try_get("building")? })).collect()
}

#[async_trait]
impl Once for ReindexStep {
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        failpoint::hit("reindex.before");
        if self.begun.swap(true, Ordering::Relaxed)
            && let Some(outcome) = self.bench.done_unnoticed().await?
        {
            return Ok(outcome);
        }
        let (what, named) = (self.bench.what(), self.reindex.what.name());
        let found = self.ask(async |connection| catalog::relation(connection, &named.text).await).await?;
        let of = check::rebuilt(&what, &self.reindex.what, found, &self.bench.source)?;
        self.clear(context, &of).await?;
        let quoted = of.quoted();
        let before = self.size(&quoted).await?;
        let (word, watch) = match self.reindex.what {
            Rebuilt::Index(_) => ("INDEX", Watch::Index),
            Rebuilt::Table(_) => ("TABLE", Watch::Indexes),
        };
        let sql = format!("REINDEX {word} CONCURRENTLY {quoted}");
        let limit = self.reindex.timeout.unwrap_or(Duration::ZERO);
        let mut own = OwnConnection::take(&self.bench, limit, Duration::ZERO).await?;
        let pid = own.pid;
        let work = sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(own.get());
        let shown = format!("reindex {}", of.name);
        let done = interruptible::wait(&self.bench.pool, pid, context, &shown, watch, work).await;
        let done = done.map(drop).map_err(|e| e.into_step_error(|e| error::cause(&what, e)));
        own.close().await;
        if let Err(StepError::Failed(_)) = &done
            && let Err(error) = self.clear(context, &of).await
        {
            tracing::warn!("what is left of the rebuild is dropped when the run goes on: {error:?}");
        }
        done?;
        failpoint::hit("reindex.done");
        let [before, after] = [before, self.size(&quoted).await?].map(ByteSize);
        let outcome = format!("`{}` built anew, {before} before, {after} now", of.name);
        self.bench.step_done(Some(&outcome)).await?;
        Ok(Some(outcome))
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
