//! What can be rehearsed: a step whose batch is one statement of the server's.

use sqlx::postgres::PgConnection;

use crate::plan::model::{Backfill, Plan, Step, StepKind, Undo};
use crate::plan::movers::Copy;
use crate::postgres::catalog;
use crate::postgres::sql::SqlText;
use crate::run::{Cause, KeyText, RunId, StepIndex};
use crate::steps::change::undo::UndoLog;
use crate::steps::change::{self, BatchSql};
use crate::steps::copy::{self, Insertion};
use crate::steps::keyspace::Keyspace;

/// A step that can be rehearsed.
pub(super) struct Subject {
    /// The tables and partitions that it walks, the one with the most rows first.
    pub(super) parts: Vec<Part>,
    /// What makes the undo log that a batch writes. It is made and gone with each transaction.
    pub(super) undo_log: Option<String>,
}

/// A table or a partition that is walked.
pub(super) struct Part {
    /// Its keys.
    pub(super) keys: Keyspace,
    /// The object id of the table that is written.
    pub(super) written: i64,
    /// Rows by the server's statistics.
    pub(super) rows: Option<u64>,
    change: Change,
}

enum Change {
    Backfill(Box<BatchSql>),
    Copy(Insertion),
}

impl Part {
    /// The change of the rows with keys in `(from, through]`, which are `$1` and `$2`.
    pub(super) fn change(&self, from: Option<&KeyText>, through: &KeyText) -> SqlText {
        match &self.change {
            Change::Backfill(sql) => sql.of(from, through).change.clone(),
            Change::Copy(insertion) => insertion.sql(from, through),
        }
    }
}

/// What can be rehearsed of a step, or why nothing can.
pub(super) enum Rehearsable {
    /// This.
    Yes(Subject),
    /// Nothing, in a sentence's end.
    No(&'static str),
}

/// Looks at a step.
///
/// # Errors
/// Why it cannot work.
pub(super) async fn of(connection: &mut PgConnection, plan: &Plan, step: &Step) -> Result<Rehearsable, Cause> {
    let mut subject = match &step.kind {
        StepKind::Backfill(backfill) => of_backfill(connection, plan, &step.name, backfill).await?,
        StepKind::Copy(copy) => match of_copy(connection, plan, &step.name, copy).await? {
            Some(subject) => subject,
            None => {
                return Ok(Rehearsable::No("rows that come or go over a connection of their own are not rehearsed"));
            }
        },
        StepKind::Statement(_) => return Ok(Rehearsable::No("a statement is one thing: nothing of it can be tried")),
        StepKind::Index(_) | StepKind::Reindex(_) => {
            return Ok(Rehearsable::No("an index is built whole or not at all"));
        }
        StepKind::Analyze(_) => return Ok(Rehearsable::No("statistics are gathered for good, whoever asks")),
        StepKind::Verify(_) => return Ok(Rehearsable::No("a question changes nothing")),
        StepKind::Import(_) => return Ok(Rehearsable::No("rows out of files are not rehearsed")),
        StepKind::Transform(_) => return Ok(Rehearsable::No("rows through a program are not rehearsed")),
        StepKind::Files(_) => return Ok(Rehearsable::No("howdah run PLAN --dry-run tries files")),
    };
    for part in &mut subject.parts {
        let what = format!("step \"{}\"", step.name);
        let rows = part.keys.rows(connection).await;
        part.rows = rows.map_err(|e| crate::postgres::error::cause(&what, &e))?;
    }
    subject.parts.sort_by_key(|part| std::cmp::Reverse(part.rows.unwrap_or(0)));
    Ok(Rehearsable::Yes(subject))
}

async fn of_backfill(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    backfill: &Backfill,
) -> Result<Subject, Cause> {
    let table = catalog::table(connection, name, &backfill.table, &plan.source).await?;
    let log = match backfill.undo {
        // The run has an id of its own by then; the log of nobody's run stands for it.
        Undo::Auto => UndoLog::of(RunId(uuid::Uuid::nil()), StepIndex(0), name, backfill, &table, &plan.source)?,
        Undo::None | Undo::Sql(_) => None,
    };
    let mut parts = Vec::new();
    for part in &table.parts {
        let sql = change::batch_sql(name, backfill, &table, part, log.as_ref(), &plan.source)?;
        parts.push(Part {
            keys: Keyspace::new(part.clone()),
            written: part.oid,
            rows: None,
            change: Change::Backfill(Box::new(sql)),
        });
    }
    // `IF NOT EXISTS` asks for the right to make it even where it is there.
    let is_there: bool = sqlx::query_scalar("SELECT to_regnamespace('howdah') IS NOT NULL")
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| crate::postgres::error::cause(&format!("step \"{name}\""), &e))?;
    let schema = if is_there { "" } else { "CREATE SCHEMA howdah; " };
    let undo_log = log.map(|log| format!("{schema}{}", log.create()));
    Ok(Subject { parts, undo_log })
}

async fn of_copy(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    copied: &Copy,
) -> Result<Option<Subject>, Cause> {
    let Some(insertions) = copy::insertions(connection, name, copied, &plan.source).await? else { return Ok(None) };
    let part = |insertion: Insertion| Part {
        keys: insertion.keys().clone(),
        written: insertion.target().oid,
        rows: None,
        change: Change::Copy(insertion),
    };
    Ok(Some(Subject { parts: insertions.into_iter().map(part).collect(), undo_log: None }))
}
