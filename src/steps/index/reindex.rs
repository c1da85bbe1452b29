//! `reindex`: indexes that are built anew beside themselves, CONCURRENTLY.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
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
    /// Whether only what was left behind is dropped.
    clears: bool,
    begun: AtomicBool,
}

/// An index that a rebuild which was cut off has left behind.
struct Leftover {
    /// Quoted, with its schema.
    name: String,
    is_building: bool,
    /// Whether this role may name it at all: only a superuser may look into the schema of TOAST tables, unless others are let in.
    is_in_reach: bool,
}

impl ReindexStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, reindex: Reindex) -> Self {
        Self { bench, reindex, clears: false, begun: AtomicBool::new(false) }
    }

    /// A step that drops what a rebuild of another run, which was cut off, has left behind.
    #[must_use]
    pub fn clearing(bench: Workbench, reindex: Reindex) -> Self {
        Self { clears: true, ..Self::new(bench, reindex) }
    }

    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StepError> {
        let asked = on_pool(&self.bench.pool, self.bench.deadline(), work).await;
        asked.map_err(|e| trouble::step_error(&e, error::cause(&self.bench.what(), &e)))
    }

    async fn left_behind(&self, of: &Indexed) -> Result<Vec<Leftover>, StepError> {
        let is_table = matches!(self.reindex.what, Rebuilt::Table(_));
        self.ask(async |connection| left_behind(connection, of, is_table).await).await
    }

    /// Drops what earlier rebuilds have left: a new index that was never finished, or an old one that was never dropped. Says which.
    async fn clear(&self, context: &StepContext, of: &Indexed) -> Result<Vec<String>, StepError> {
        let mut dropped = Vec::new();
        loop {
            let left = self.left_behind(of).await?;
            let Some(first) = left.iter().find(|one| one.is_in_reach) else {
                for Leftover { name, .. } in &left {
                    let text = format!(
                        "{name} was left INVALID by an earlier rebuild, and this role may not drop it; \
                         a superuser may: DROP INDEX CONCURRENTLY {name}"
                    );
                    context.reporter.notice(Level::Warning, text);
                }
                return Ok(dropped);
            };
            if first.is_building {
                leftovers::await_builder(context).await?;
                continue;
            }
            let text = format!("{} was left INVALID by an earlier rebuild: dropping it", first.name);
            context.reporter.notice(Level::Warning, text);
            leftovers::drop_concurrently(&self.bench, context, &first.name, "dropping what a rebuild left").await?;
            dropped.push(first.name.clone());
        }
    }

    /// Says what a rebuild that was stopped has left behind, as far as it can be found out.
    async fn tell_left(&self, context: &StepContext, of: &Indexed) {
        match self.left_behind(of).await {
            Ok(left) => {
                for Leftover { name, is_in_reach, .. } in left {
                    let by = if is_in_reach {
                        "resume and undo drop it".to_owned()
                    } else {
                        format!("a superuser may drop it: DROP INDEX CONCURRENTLY {name}")
                    };
                    let text = format!("an INVALID index {name} is left, which costs every write; {by}");
                    context.reporter.notice(Level::Warning, text);
                }
            }
            Err(error) => tracing::warn!("it is not known what is left of the rebuild: {error:?}"),
        }
    }

    /// By its name: an index that was built anew is another relation. That of a partitioned one is the sum of its parts'.
    async fn size(&self, quoted: &str) -> Result<u64, StepError> {
        let of_one = match self.reindex.what {
            Rebuilt::Table(_) => "pg_indexes_size",
            Rebuilt::Index(_) => "pg_relation_size",
        };
        let sql = format!(
            "SELECT coalesce(sum({of_one}(oid)), 0)::int8 FROM ( \
             SELECT to_regclass($1)::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree(to_regclass($1))) t"
        );
        let size: i64 =
            self.ask(async |c| sqlx::query_scalar(AssertSqlSafe(sql)).bind(quoted).fetch_one(c).await).await?;
        Ok(size.max(0).cast_unsigned())
    }

    /// Drops what is left; the index or the table may be gone by now, and that with it.
    async fn take_back(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        let named = self.reindex.what.name();
        let found = self.ask(async |connection| catalog::relation(connection, &named.text).await).await?;
        let dropped = match found {
            Some(of) => self.clear(context, &of).await?,
            None => Vec::new(),
        };
        let outcome = match dropped.as_slice() {
            [] => "nothing was left of the rebuild".to_owned(),
            names => format!("dropped {}", names.join(", ")),
        };
        self.bench.step_done(Some(&outcome)).await?;
        Ok(Some(outcome))
    }
}

/// Indexes named `..._ccnew` and `..._ccold`, INVALID, of the same table; of one index where only that is meant. Those of its
/// TOAST table are among them where all are; those of its partitions always.
async fn left_behind(
    connection: &mut PgConnection,
    of: &Indexed,
    is_table: bool,
) -> Result<Vec<Leftover>, sqlx::Error> {
    let sql = format!(
        "WITH member AS (SELECT $1::int8::oid AS oid \
                         UNION SELECT relid::oid FROM pg_partition_tree($1::int8::oid::regclass)), \
         target AS (SELECT i.indrelid AS oid, c.relname AS name FROM member m \
                    JOIN pg_class c ON c.oid = m.oid JOIN pg_index i ON i.indexrelid = m.oid WHERE NOT $2 \
                    UNION ALL SELECT oid, NULL FROM member WHERE $2 \
                    UNION ALL SELECT c.reltoastrelid, NULL FROM member m JOIN pg_class c ON c.oid = m.oid \
                    WHERE $2 AND c.reltoastrelid <> 0) \
         SELECT format('%I.%I', n.nspname, c.relname) AS name, {BEING_BUILT} AS building, \
                has_schema_privilege(n.oid, 'USAGE') AS in_reach \
         FROM target t JOIN pg_index i ON i.indrelid = t.oid \
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' \
           AND (t.name IS NULL OR starts_with(t.name, regexp_replace(c.relname, '_cc(new|old)[0-9]*$', ''))) \
         ORDER BY c.oid"
    );
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(of.oid).bind(is_table).persistent(false).fetch_all(connection).await?;
    let leftover = |row: &PgRow| {
        Ok(Leftover {
            name: row.try_get("name")?,
            is_building: row.try_get("building")?,
            is_in_reach: row.try_get("in_reach")?,
        })
    };
    rows.iter().map(leftover).collect()
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
        if self.clears {
            return self.take_back(context).await;
        }
        let (what, named) = (self.bench.what(), self.reindex.what.name());
        let found = self.ask(async |connection| catalog::relation(connection, &named.text).await).await?;
        let of = check::rebuilt(&what, &self.reindex.what, found, &self.bench.source)?;
        let version = self.ask(async |connection| check::version(connection).await).await?;
        check::can_rebuild(&what, &self.reindex.what, &of, version, &self.bench.source)?;
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
        match &done {
            Err(StepError::Failed(_)) => {
                if let Err(error) = self.clear(context, &of).await {
                    tracing::warn!("what is left of the rebuild is dropped when the run goes on: {error:?}");
                }
            }
            Err(StepError::Stopped) => self.tell_left(context, &of).await,
            _ => {}
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
