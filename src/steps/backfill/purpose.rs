//! What a walk is for: the change of a step, or taking one back that another run has made.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{Action, Part, Ready};
use crate::engine::ports::StepError;
use crate::plan::model::{Backfill, PlanSource};
use crate::postgres::catalog::{self, Table};
use crate::postgres::error;
use crate::postgres::key::End;
use crate::postgres::session::literal;
use crate::run::{Cause, RunId, StepIndex};
use crate::steps::change::undo::{UndoLog, UndoSql};
use crate::steps::change::{self};
use crate::steps::keyspace::Keyspace;
use crate::steps::{self, trouble};

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The step's own change.
    Change,
    /// Takes a step of another run back, by its undo log, the newest change first.
    RevertByLog {
        /// Whose.
        run: RunId,
        /// Which.
        step: StepIndex,
    },
    /// Takes a step of another run back, by its `undo_sql`, over the keys that it had walked.
    RevertBySql {
        /// Whose.
        run: RunId,
        /// Which.
        step: StepIndex,
    },
}

/// What is to become of an undo log that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::steps) enum Log {
    /// It is made.
    Make,
    /// It was dropped: nothing is logged.
    IfThere,
}

/// A step of a run.
#[derive(Clone, Copy)]
pub(in crate::steps) struct Named<'a> {
    /// The run.
    pub(in crate::steps) run: RunId,
    /// Its place.
    pub(in crate::steps) step: StepIndex,
    /// Its name.
    pub(in crate::steps) name: &'a str,
    /// The plan's text, for excerpts.
    pub(in crate::steps) source: &'a PlanSource,
}

/// What is to be walked, and what is done there.
pub(in crate::steps) async fn ready(
    connection: &mut PgConnection,
    named: &Named<'_>,
    backfill: &Backfill,
    purpose: Purpose,
    wanted: Log,
) -> Result<Ready, StepError> {
    let Named { run, step, name, source } = *named;
    let what = steps::what(name);
    let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&what, &e));
    let table = catalog::table(connection, name, &backfill.table, source).await?;
    let mut parts = Vec::new();
    match purpose {
        Purpose::Change => {
            let mut kept = UndoLog::of(run, step, name, backfill, &table, source)?;
            if let Some(log) = &kept
                && log.part(connection).await.map_err(failed)?.is_none()
                && wanted == Log::IfThere
            {
                kept = None;
            }
            if let Some(log) = &kept {
                sqlx::query(AssertSqlSafe(log.create()))
                    .persistent(false)
                    .execute(&mut *connection)
                    .await
                    .map_err(failed)?;
                same_columns(connection, &what, log).await?;
            }
            let log = kept;
            for part in &table.parts {
                let sql = change::batch_sql(name, backfill, &table, part, log.as_ref(), source)?;
                parts.push((Action::Change(Box::new(sql)), part.clone()));
            }
        }
        Purpose::RevertByLog { run, step } => {
            let log = UndoLog::of(run, step, name, backfill, &table, source)?
                .ok_or_else(|| Cause::bug("a step without an undo log is to be taken back by it"))?;
            let part = log.part(connection).await.map_err(failed)?.ok_or_else(|| gone(&what, &log))?;
            same_columns(connection, &what, &log).await?;
            index(connection, &log).await.map_err(failed)?;
            parts.push((Action::Revert(UndoSql::new(log, &table)?), part));
        }
        Purpose::RevertBySql { .. } => {
            for part in &table.parts {
                let sql = change::undo_statement(name, backfill, &table, part, source)?
                    .ok_or_else(|| Cause::bug("a step without `undo_sql` is to be taken back by it"))?;
                parts.push((Action::Change(Box::new(sql)), part.clone()));
            }
        }
    }
    let mut looked_at = Vec::new();
    for (action, part) in parts {
        let keys = Keyspace::new(part);
        let first = keys.end(connection, End::First).await.map_err(failed)?;
        looked_at.push(Arc::new(Part { action, keys, first }));
    }
    Ok(Ready { table, parts: looked_at })
}

/// Whether the log's values are those of the columns that the step sets now: it knows them by their places alone. A log
/// that is new learns them.
async fn same_columns(connection: &mut PgConnection, what: &str, log: &UndoLog) -> Result<(), StepError> {
    let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(what, &e));
    let then: Option<String> = sqlx::query_scalar("SELECT obj_description(to_regclass($1), 'pg_class')")
        .bind(log.quoted())
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let now = log.columns();
    match then {
        Some(then) if then == now => Ok(()),
        Some(then) => Err(StepError::Failed(
            Cause::usage(format!(
                "{what}: its undo log {} keeps the columns {then}, and the step sets {now}",
                log.quoted()
            ))
            .hint("give `set` the columns that the run began with"),
        )),
        None => {
            let comment = format!("COMMENT ON TABLE {} IS {}", log.quoted(), literal(&now));
            sqlx::query(AssertSqlSafe(comment)).persistent(false).execute(connection).await.map(drop).map_err(failed)
        }
    }
}

/// Makes the log's index, however long that takes: nobody else reads or writes the log.
async fn index(connection: &mut PgConnection, log: &UndoLog) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    tx.execute("SET LOCAL statement_timeout = 0").await?;
    sqlx::query(AssertSqlSafe(log.index())).persistent(false).execute(&mut *tx).await?;
    tx.commit().await
}

fn gone(what: &str, log: &UndoLog) -> Cause {
    Cause::new(format!("{what}: its undo log {} is not there", log.quoted()))
        .hint("it was dropped, or the run never came to this step")
}

/// The tables that steps work on, for whoever watches them. What cannot be looked up is told when the step begins.
pub async fn tables<'a>(
    connection: &mut PgConnection,
    steps: impl Iterator<Item = (&'a str, &'a Backfill)>,
    source: &PlanSource,
) -> Vec<Table> {
    let mut tables = Vec::new();
    for (name, backfill) in steps {
        tables.extend(catalog::table(connection, name, &backfill.table, source).await.ok());
    }
    tables
}
