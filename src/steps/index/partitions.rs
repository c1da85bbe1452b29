//! The index of a partitioned table. It cannot be built CONCURRENTLY as a whole: that of each partition is, one after the
//! other, and is then attached to one of the partitioned table that is empty and invalid until it has them all.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::definition::{self, Manner};
use super::{IndexStep, Seen, leftovers};
use crate::engine::failpoint;
use crate::engine::ports::{StepContext, StepError};
use crate::postgres::catalog::{self, Existing, Indexed, Node};
use crate::postgres::{error, ident};
use crate::run::Cause;
use crate::steps::interruptible::{self, OwnConnection, Watch};

/// Builds what is not built yet. A partition that came meanwhile has its part from the server.
///
/// # Errors
/// The server's or the driver's; a partition that cannot have an index; the run is to stop.
pub(super) async fn build(step: &IndexStep, context: &StepContext, seen: &Seen) -> Result<(), StepError> {
    let nodes = step.ask(async |connection| catalog::tree(connection, seen.table.oid).await).await?;
    if let Some(foreign) = nodes.iter().find(|node| node.table.kind == "f") {
        let message = format!(
            "`{}` has a partition that is a foreign table, {}, which cannot have an index",
            step.index.on.table(),
            foreign.table.quoted()
        );
        return Err(Cause { hints: Vec::new(), ..step.refused(&message) }
            .hint("write a step for each of the other partitions")
            .into());
    }
    let by_oid: HashMap<i64, &Node> = nodes.iter().map(|node| (node.table.oid, node)).collect();
    let leaves = nodes.iter().filter(|node| node.is_leaf).count();
    // Parents first: that is the order of the tree.
    for node in nodes.iter().filter(|node| !node.is_leaf) {
        let name = working(step, seen, &node.table);
        if there(step, &node.table, &name).await?.is_none() && !is_attached(step, seen, node, &by_oid).await? {
            let quoted = ident::quote(&name);
            let sql = definition::create(&step.index, &quoted, &node.table.quoted(), Manner::Only)?;
            let what = format!("index {} of {}", seen.name, node.table.name);
            briefly(step, context, sql.as_str(), &what).await?;
        }
    }
    for (at, node) in nodes.iter().filter(|node| node.is_leaf).enumerate() {
        let name = working(step, seen, &node.table);
        let what = format!("index {}, partition {} of {leaves}", seen.name, at + 1);
        while !is_attached(step, seen, node, &by_oid).await? {
            match there(step, &node.table, &name).await? {
                Some(index) if index.is_valid => break,
                Some(index) if index.is_building => leftovers::await_builder(context).await?,
                Some(index) => step.drop(context, &index, "dropping what an earlier attempt left").await?,
                None => {
                    step.build_one(context, &what, &name, &node.table).await?;
                    failpoint::hit("index.part");
                }
            }
        }
    }
    // From the leaves up, so that an index is valid before it is attached itself.
    for node in nodes.iter().rev() {
        let Some(parent) = node.parent.and_then(|parent| by_oid.get(&parent)) else { continue };
        if is_attached(step, seen, node, &by_oid).await? {
            continue;
        }
        let sql = format!(
            "ALTER INDEX {} ATTACH PARTITION {}",
            quoted(&parent.table, &working(step, seen, &parent.table)),
            quoted(&node.table, &working(step, seen, &node.table))
        );
        briefly(step, context, &sql, &format!("index {}: attaching its parts", seen.name)).await?;
    }
    let root = there(step, &seen.table, &working(step, seen, &seen.table)).await?;
    if root.is_some_and(|root| root.is_valid) {
        return Ok(());
    }
    // A partition that was attached to the table meanwhile has no part yet; the next look at the tree finds it.
    let now = step.ask(async |connection| catalog::tree(connection, seen.table.oid).await).await?;
    if now == nodes {
        return Err(step.refused("the index is not valid, although every partition has its part").into());
    }
    Ok(())
}

/// The statements that mark the parts as ours, `mark` quoted, and give them names like those that the server would have chosen, as
/// far as they are free.
///
/// # Errors
/// The server's or the driver's.
pub(super) async fn names(step: &IndexStep, seen: &Seen, mark: &str) -> Result<Vec<String>, StepError> {
    let nodes = step.ask(async |connection| catalog::tree(connection, seen.table.oid).await).await?;
    let mut statements = Vec::new();
    for Node { table, .. } in nodes.iter().filter(|node| node.parent.is_some()) {
        let name = step.owner.working_part(table.oid);
        if there(step, table, &name).await?.is_none() {
            continue;
        }
        statements.push(format!("COMMENT ON INDEX {} IS {mark}", quoted(table, &name)));
        let wanted = definition::default_name(&step.index, &table.name);
        if step.ask(async |connection| catalog::taken(connection, &table.schema, &wanted).await).await?.is_none() {
            statements.push(format!("ALTER INDEX {} RENAME TO {}", quoted(table, &name), ident::quote(&wanted)));
        }
    }
    Ok(statements)
}

/// The bare name under which the index of one table in the tree is built.
fn working(step: &IndexStep, seen: &Seen, table: &Indexed) -> String {
    if table.oid == seen.table.oid { step.owner.working_name() } else { step.owner.working_part(table.oid) }
}

/// An index lives in its table's schema.
fn quoted(table: &Indexed, index: &str) -> String {
    format!("{}.{}", ident::quote(&table.schema), ident::quote(index))
}

async fn there(step: &IndexStep, table: &Indexed, name: &str) -> Result<Option<Existing>, StepError> {
    let indexes = step.ask(async |connection| catalog::indexes(connection, &[table.oid]).await).await?;
    Ok(indexes.into_iter().find(|index| index.name == name))
}

/// Whether the table has its part of the index, whoever has made it.
async fn is_attached(
    step: &IndexStep,
    seen: &Seen,
    node: &Node,
    by_oid: &HashMap<i64, &Node>,
) -> Result<bool, StepError> {
    let Some(parent) = node.parent.and_then(|parent| by_oid.get(&parent)) else { return Ok(false) };
    let parent = quoted(&parent.table, &working(step, seen, &parent.table));
    step.ask(async |connection| catalog::attached(connection, node.table.oid, &parent).await).await
}

/// A statement that is done in a moment once it has its lock, for which it waits no longer than `limits.lock_timeout`.
async fn briefly(step: &IndexStep, context: &StepContext, sql: &str, what: &str) -> Result<(), StepError> {
    let bench = &step.bench;
    let mut own = OwnConnection::take(bench, bench.limits.statement_timeout, bench.limits.lock_timeout).await?;
    let pid = own.pid;
    let work = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).execute(own.get());
    let done = interruptible::wait(&bench.pool, pid, context, what, Watch::Nothing, work).await;
    let done = done.map(drop).map_err(|e| e.into_step_error(|e| error::cause(&bench.what(), e)));
    own.close().await;
    done
}
