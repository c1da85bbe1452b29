//! `index`, `reindex`, `analyze`: indexes that are there for a while or for good, and the statistics that make them used.
//!
//! Nothing here runs inside a transaction that holds anybody up. What is ours is told by the index itself: see [`Owner`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::interruptible::{self, OwnConnection, Watch};
use super::{Workbench, trouble};
use crate::engine::failpoint;
use crate::engine::ports::{Once, StepContext, StepError};
use crate::plan::indexing::Index;
use crate::postgres::catalog::{self, Existing, Indexed, Place};
use crate::postgres::deadline::on_pool;
use crate::postgres::{error, ident, session, sqlstate};
use crate::run::{ByteSize, Cause, Level};

mod analyze;
mod check;
mod definition;
pub mod leftovers;
mod partitions;
mod reindex;

pub use analyze::AnalyzeStep;
pub use check::{check_analyze, check_index, check_reindex};
pub use definition::Owner;
pub use reindex::ReindexStep;

use definition::{Failure, Manner};

/// An `index` step; or the way back from one.
pub struct IndexStep {
    bench: Workbench,
    index: Index,
    /// Whose indexes are ours.
    owner: Owner,
    takes_back: bool,
    /// Whether this driver has begun it: its commit may have come about although the answer was lost.
    begun: AtomicBool,
}

/// What a look at the table has shown.
struct Seen {
    table: Indexed,
    /// The bare name that the index is to have.
    name: String,
    /// What an index of this definition looks like, where that could be found out.
    shape: Option<String>,
    /// All indexes of the table itself.
    indexes: Vec<Existing>,
}

/// What an index of the plan's definition looks like; nothing in it where this role cannot find that out.
struct Shape(Option<String>);

/// What is to be done next.
enum Next {
    /// Nothing: say this.
    Done(String),
    /// Wait for a session that builds it.
    Wait,
    /// Drop this one first, which was left INVALID under the index's own name.
    Clear(Existing),
    /// Drop this one first, which this step has left behind.
    Again(Existing),
    /// Build it.
    Build,
    /// Give what is built its name.
    Name(Existing),
}

impl IndexStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, index: Index, owner: Owner) -> Self {
        Self { bench, index, owner, takes_back: false, begun: AtomicBool::new(false) }
    }

    /// A step that drops what a step of another run, `owner`, has made.
    #[must_use]
    pub fn taking_back(bench: Workbench, index: Index, owner: Owner) -> Self {
        Self { takes_back: true, ..Self::new(bench, index, owner) }
    }

    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StepError> {
        on_pool(&self.bench.pool, self.bench.deadline(), work).await.map_err(|e| self.failed(&e))
    }

    fn failed(&self, failure: &sqlx::Error) -> StepError {
        trouble::step_error(failure, error::cause(&self.bench.what(), failure))
    }

    fn refused(&self, message: &str) -> Cause {
        Cause::usage(format!("{}: {message}", self.bench.what()))
    }

    /// `known`: the shape, where an earlier look has found it.
    async fn look(&self, known: &mut Option<Shape>) -> Result<Seen, StepError> {
        let Some(table) =
            self.ask(async |connection| catalog::relation(connection, self.index.on.table()).await).await?
        else {
            return Err(check::no_table(&self.bench.what(), &self.index.on, &self.bench.source).into());
        };
        let name = definition::name(&self.index, &table.name)?;
        let shape = match known {
            Some(shape) => shape.0.clone(),
            None => known.insert(Shape(self.shape(&table).await?)).0.clone(),
        };
        let indexes = self.ask(async |connection| catalog::indexes(connection, &[table.oid]).await).await?;
        Ok(Seen { table, name, shape, indexes })
    }

    async fn shape(&self, table: &Indexed) -> Result<Option<String>, StepError> {
        let shape = on_pool(&self.bench.pool, self.bench.deadline(), async |connection| {
            let shape = definition::shape(connection, &self.bench.what(), &self.index, table, &self.bench.source).await;
            match shape {
                Ok(shape) => Ok(Ok(shape)),
                Err(Failure::Plan(cause)) => Ok(Err(cause)),
                Err(Failure::Sql(e)) => Err(e),
            }
        });
        Ok(shape.await.map_err(|e| self.failed(&e))??)
    }

    fn is_ours(&self, index: &Existing) -> bool {
        index.comment.as_deref() == Some(&self.owner.mark())
    }

    fn is_same(&self, seen: &Seen, index: &Existing) -> bool {
        let wanted = self.index.tablespace.as_ref().and_then(|wanted| ident::parse(&wanted.text).ok());
        seen.shape.as_ref() == Some(&index.shape) && wanted.is_none_or(|wanted| wanted == index.tablespace)
    }

    fn next(&self, seen: &Seen) -> Result<Next, StepError> {
        if let Some(ours) = seen.indexes.iter().find(|index| self.is_ours(index)) {
            return Ok(match (ours.is_valid, ours.is_building) {
                (true, _) => Next::Done(told(ours)),
                (false, true) => Next::Wait,
                (false, false) => Next::Clear(ours.clone()),
            });
        }
        let working = self.owner.working_name();
        let built = seen.indexes.iter().find(|index| index.name == working);
        let named = seen.indexes.iter().find(|index| index.name == seen.name);
        // Without a name in the plan, any index of this definition will do.
        let same =
            || seen.indexes.iter().find(|index| index.is_valid && self.is_same(seen, index) && index.name != working);
        let other = named.or_else(|| if self.index.name.is_none() { same() } else { None });
        if let Some(other) = other {
            return match (self.is_same(seen, other), other.is_valid, other.is_building) {
                (true, false, _) if other.place != Place::Alone => Err(self.being_put_together(other).into()),
                (true, false, true) => Ok(Next::Wait),
                (true, false, false) => Ok(Next::Clear(other.clone())),
                (true, true, _) => Ok(match built {
                    Some(built) if built.is_building => Next::Wait,
                    Some(built) => Next::Again(built.clone()),
                    None => Next::Done(format!("`{}` was there already, not made by this run: it stays", other.name)),
                }),
                (false, ..) => Err(self.differs(seen, other)?.into()),
            };
        }
        Ok(match built {
            None => Next::Build,
            Some(built) if built.is_building => Next::Wait,
            // That of a partitioned table becomes valid once all of its parts are.
            Some(built) if built.is_valid => Next::Name(built.clone()),
            Some(_) if seen.table.is_partitioned() => Next::Build,
            Some(built) => Next::Again(built.clone()),
        })
    }

    /// An index of a partitioned table is not valid before all of its parts are attached, for as long as that takes. Nobody need be
    /// at work on it in between.
    fn being_put_together(&self, other: &Existing) -> Cause {
        self.refused(&format!(
            "there is an index `{}` already, and it is not valid yet: somebody may be attaching its parts",
            other.name
        ))
        .detail(format!("there:  {}", other.definition))
        .hint(format!("let it be finished, or drop it: DROP INDEX {}", other.quoted()))
        .hint("then go on: howdah resume")
    }

    /// An index of the same name that is another: what is there, and what is wanted.
    fn differs(&self, seen: &Seen, other: &Existing) -> Result<Cause, Cause> {
        let name = ident::quote(&seen.name);
        let manner = if seen.table.is_partitioned() { Manner::Only } else { Manner::Concurrently };
        let wanted = definition::create(&self.index, &name, &seen.table.quoted(), manner)?;
        if seen.shape.is_none() {
            return Ok(self
                .refused(&format!("there is an index `{}` already, and this role cannot compare it", seen.name))
                .detail(format!("there:  {}", other.definition))
                .detail(format!("wanted: {}", wanted.as_str()))
                .hint("grant TEMPORARY on the database, or give `index.name` another name"));
        }
        Ok(self
            .refused(&format!("there is an index `{}` already, and it is another", seen.name))
            .detail(format!("there:  {}", other.definition))
            .detail(format!("wanted: {}", wanted.as_str()))
            .hint("give `index.name` another name, or drop the one that is there"))
    }

    async fn build(&self, context: &StepContext, seen: &Seen) -> Result<(), StepError> {
        let taken =
            self.ask(async |connection| catalog::taken(connection, &seen.table.schema, &seen.name).await).await?;
        if let Some(by) = taken {
            return Err(self
                .refused(&format!("the name `{}` is taken, by {by}", seen.name))
                .hint("give `index.name` another name")
                .into());
        }
        if seen.table.is_partitioned() {
            return partitions::build(self, context, seen).await;
        }
        let what = format!("index {}", seen.name);
        self.build_one(context, &what, &self.owner.working_name(), &seen.table).await
    }

    /// Builds the index on one table, under a name of ours. What a failure leaves behind is dropped.
    async fn build_one(&self, context: &StepContext, what: &str, name: &str, table: &Indexed) -> Result<(), StepError> {
        let sql = definition::create(&self.index, &ident::quote(name), &table.quoted(), Manner::Concurrently)?;
        // It waits for old transactions, and holds nobody up while it does: no `lock_timeout`.
        let mut own =
            OwnConnection::take(&self.bench, self.index.timeout.unwrap_or(Duration::ZERO), Duration::ZERO).await?;
        let pid = own.pid;
        let work = sqlx::query(AssertSqlSafe(sql.as_str().to_owned())).persistent(false).execute(own.get());
        let built = interruptible::wait(&self.bench.pool, pid, context, what, Watch::Index, work).await;
        let has_code =
            |code: &str| matches!(&built, Err(interruptible::Interrupted::Failed(e)) if error::code(e) == Some(code));
        let is_there = has_code(sqlstate::DUPLICATE_TABLE);
        let is_duplicate = has_code(sqlstate::UNIQUE_VIOLATION);
        let built = built
            .map(drop)
            .map_err(|e| e.into_step_error(|e| error::cause_in_plan(&self.bench.what(), e, &sql, &self.bench.source)));
        own.close().await;
        match built {
            // The name is ours alone: a backend that an earlier driver has left behind was waiting to begin. It is looked at again.
            Err(StepError::Failed(_)) if is_there => Ok(()),
            Err(StepError::Failed(mut cause)) => {
                if is_duplicate {
                    cause = cause.hint("mend the rows that are equal, then go on: howdah resume");
                }
                let quoted = format!("{}.{}", ident::quote(&table.schema), ident::quote(name));
                let dropped = leftovers::drop_concurrently(&self.bench, context, &quoted, "dropping what was built");
                if let Err(error) = dropped.await {
                    tracing::warn!("what is left of the index is dropped when the run goes on: {error:?}");
                    cause = cause.detail(format!("an INVALID index {quoted} is left; resume and undo drop it"));
                }
                Err(StepError::Failed(cause))
            }
            other => other,
        }
    }

    /// Gives the index its name, says whose it is, and writes the step down as done: all at once, or not at all.
    async fn finish(&self, seen: &Seen, built: &Existing) -> Result<String, StepError> {
        let outcome = told(&Existing { name: seen.name.clone(), ..built.clone() });
        let (schema, mark) = (ident::quote(&built.schema), session::literal(&self.owner.mark()));
        let named = format!("{schema}.{}", ident::quote(&seen.name));
        let mut statements = vec![format!("ALTER INDEX {} RENAME TO {}", built.quoted(), ident::quote(&seen.name))];
        statements.push(format!("COMMENT ON INDEX {named} IS {mark}"));
        if seen.table.is_partitioned() {
            statements.extend(partitions::names(self, seen, &mark).await?);
        }
        self.bench.step_done_with(&statements, Some(&outcome)).await?;
        Ok(outcome)
    }

    async fn make(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        // Making it costs a temporary table: once is enough.
        let mut shape = None;
        loop {
            if context.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            let seen = self.look(&mut shape).await?;
            match self.next(&seen)? {
                Next::Done(outcome) => {
                    self.bench.step_done(Some(&outcome)).await?;
                    return Ok(Some(outcome));
                }
                Next::Wait => leftovers::await_builder(context).await?,
                Next::Clear(index) => {
                    if let Some(text) = self.with_it(&index).await? {
                        return Err(self
                            .refused(&text)
                            .hint("drop it by hand, where that index may go as well")
                            .into());
                    }
                    leftovers::told_invalid(context, &index.name);
                    self.drop(context, &index, "dropping the invalid index").await?;
                }
                Next::Again(index) => self.drop(context, &index, "dropping what an earlier attempt left").await?,
                Next::Build => {
                    self.build(context, &seen).await?;
                    failpoint::hit("index.built");
                }
                Next::Name(built) => return Ok(Some(self.finish(&seen, &built).await?)),
            }
        }
    }

    async fn drop(&self, context: &StepContext, index: &Existing, what: &str) -> Result<(), StepError> {
        match index.place {
            Place::Root => leftovers::drop_partitioned(&self.bench, context, &index.quoted(), what).await,
            Place::Alone | Place::Part => {
                leftovers::drop_concurrently(&self.bench, context, &index.quoted(), what).await
            }
        }
    }

    /// What of somebody else's would go with an index of a partitioned table, in words. It cannot be taken out of it.
    async fn with_it(&self, index: &Existing) -> Result<Option<String>, StepError> {
        if index.place != Place::Root {
            return Ok(None);
        }
        let quoted = index.quoted();
        let parts = self.ask(async |connection| catalog::parts_of_index(connection, &quoted).await).await?;
        let other = parts
            .iter()
            .find(|part| !self.owner.owns(&part.name, part.comment.as_deref()) && !part.is_named_by_server());
        Ok(other.map(|part| {
            format!(
                "index `{}` is not dropped: index `{}` of partition `{}` would go with it, and is not this run's",
                index.name, part.name, part.table
            )
        }))
    }

    /// Drops every index that the owner has made, whole or in part. Says which; and which it has left, and why.
    async fn drop_ours(&self, context: &StepContext) -> Result<Dropped, StepError> {
        let mut dropped = Dropped::default();
        let mut left: Vec<String> = Vec::new();
        let working = self.owner.working_name();
        loop {
            if context.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            // Asked first: a backend that a killed driver has left behind may wait for its lock, and there is no index before it has it.
            let is_coming = self.ask(async |connection| catalog::is_at_work_on(connection, &working).await).await?;
            let there = self.ask(async |connection| self.ours(connection).await).await?;
            let Some(index) = there.iter().find(|index| !left.contains(&index.quoted())) else {
                if is_coming {
                    leftovers::await_builder(context).await?;
                    continue;
                }
                return Ok(dropped);
            };
            if index.is_building {
                leftovers::await_builder(context).await?;
                continue;
            }
            if let Some(text) = self.with_it(index).await? {
                context.reporter.notice(Level::Warning, format!("{}: {text}", self.bench.what()));
                left.push(index.quoted());
                dropped.left.push(text);
                continue;
            }
            self.drop(context, index, &format!("dropping index {}", index.name)).await?;
            failpoint::hit("index.dropped");
            if !dropped.names.contains(&index.name) {
                dropped.names.push(index.name.clone());
            }
        }
    }

    /// What is there of the owner's, of the table and of its partitions. Parts of an index go with it.
    async fn ours(&self, connection: &mut PgConnection) -> Result<Vec<Existing>, sqlx::Error> {
        let Some(table) = catalog::relation(connection, self.index.on.table()).await? else { return Ok(Vec::new()) };
        let mut tables = vec![table.oid];
        if table.is_partitioned() {
            tables.extend(catalog::tree(connection, table.oid).await?.into_iter().map(|node| node.table.oid));
        }
        let mut found = catalog::indexes(connection, &tables).await?;
        found.retain(|index| index.place != Place::Part && self.owner.owns(&index.name, index.comment.as_deref()));
        Ok(found)
    }

    async fn take_back(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        let outcome = self.drop_ours(context).await?.words(self.bench.begun_before);
        self.bench.step_done(Some(&outcome)).await?;
        Ok(Some(outcome))
    }
}

/// What came of dropping the indexes of a step.
#[derive(Debug, Default)]
struct Dropped {
    /// Those that are gone, by their names.
    names: Vec<String>,
    /// Why others are not, in words.
    left: Vec<String>,
}

impl Dropped {
    /// `again`: an earlier driver may have dropped some.
    fn words(&self, again: bool) -> String {
        let mut words = match self.names.as_slice() {
            [] if !self.left.is_empty() => Vec::new(),
            [] if again => vec!["taken back already".to_owned()],
            [] => vec!["nothing to take back: the index was not made by that run, or is gone".to_owned()],
            names => vec![format!("dropped {}", names.join(", "))],
        };
        words.extend(self.left.iter().cloned());
        words.join("; ")
    }
}

/// `users_email_idx, 214 MiB`.
fn told(index: &Existing) -> String {
    format!("`{}`, {}", index.name, ByteSize(index.bytes.max(0).cast_unsigned()))
}

#[async_trait]
impl Once for IndexStep {
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        failpoint::hit("index.before");
        if self.begun.swap(true, Ordering::Relaxed)
            && let Some(outcome) = self.bench.done_unnoticed().await?
        {
            return Ok(outcome);
        }
        if self.takes_back { self.take_back(context).await } else { self.make(context).await }
    }

    async fn clean_up(&self, context: &StepContext) -> Result<(), StepError> {
        if !self.index.during || self.takes_back {
            return Ok(());
        }
        let dropped = self.drop_ours(context).await?;
        if dropped.names.is_empty() && dropped.left.is_empty() {
            let text = format!("{}: no index was dropped: it was not made by this run, or is gone", self.bench.what());
            context.reporter.notice(Level::Info, text);
        }
        failpoint::hit("cleanup.executed");
        self.bench.step_cleaned().await
    }
}
