//! Asks the server whether it understands a plan's SQL, before anything is changed.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use super::change;
use super::verify::VerifyStep;
use crate::plan::model::{Plan, PlanSource, Sql, Step, StepKind};
use crate::postgres::catalog::{self, Table};
use crate::postgres::sql::SqlText;
use crate::postgres::{error, sqlstate};
use crate::run::Cause;

/// What the check found out.
#[derive(Debug, Default)]
pub struct Found {
    /// The tables that the plan's backfills work on, in the plan's order.
    pub tables: Vec<Table>,
    /// Steps that can be checked only once an earlier statement has run.
    pub later: Vec<String>,
}

/// Checks every step that is not done yet. Things that are not there are forgiven where an earlier statement, not yet
/// run, may make them; the step is checked again when it begins.
///
/// # Errors
/// The first step that cannot work, with the place in the plan.
pub async fn check(connection: &mut PgConnection, plan: &Plan, done: impl Fn(usize) -> bool) -> Result<Found, Cause> {
    let mut found = Found::default();
    let mut statement_pending = false;
    let source = Arc::new(plan.source.clone());
    for (index, step) in plan.steps.iter().enumerate() {
        let checked = one(connection, step, &source, &mut found.tables).await;
        match checked {
            _ if done(index) => {}
            Ok(()) => {}
            Err(cause) if statement_pending && is_absence(&cause) => found.later.push(step.name.clone()),
            Err(cause) => return Err(cause),
        }
        statement_pending |= matches!(step.kind, StepKind::Statement(_)) && !done(index);
    }
    Ok(found)
}

/// Whether the failure only says that something is not there (yet).
fn is_absence(cause: &Cause) -> bool {
    match &cause.sqlstate {
        Some(code) => sqlstate::is_undefined(code),
        None => cause.message.contains("there is no table") || cause.message.contains("has no column"),
    }
}

async fn one(
    connection: &mut PgConnection,
    step: &Step,
    source: &PlanSource,
    tables: &mut Vec<Table>,
) -> Result<(), Cause> {
    let plain = |label: &str, sql: &Sql| SqlText::default().plans(label, sql);
    match &step.kind {
        StepKind::Statement(statement) => {
            prepare(connection, step, source, &plain("statement", &statement.sql)).await?;
            match &statement.down {
                Some(down) => prepare(connection, step, source, &plain("down", down)).await,
                None => Ok(()),
            }
        }
        StepKind::Verify(verify) => prepare(connection, step, source, &VerifyStep::sql(verify)).await,
        StepKind::Backfill(backfill) => {
            let table = catalog::table(connection, &step.name, &backfill.table, source).await?;
            let sql = change::batch_sql(&step.name, backfill, &table, source)?;
            if !tables.contains(&table) {
                tables.push(table);
            }
            prepare(connection, step, source, &sql.change).await?;
            match &sql.left {
                Some(left) => prepare(connection, step, source, left).await,
                None => Ok(()),
            }
        }
    }
}

/// Lets the server parse and analyse a statement without running it.
async fn prepare(connection: &mut PgConnection, step: &Step, source: &PlanSource, sql: &SqlText) -> Result<(), Cause> {
    let text = AssertSqlSafe(sql.as_str().to_owned()).into_sql_str();
    match connection.prepare(text).await {
        Ok(_) => Ok(()),
        Err(e) => {
            let mut cause = error::cause_in_plan(&format!("step \"{}\"", step.name), &e, sql, source);
            if error::database(&e).is_some_and(|db| db.message().contains("multiple commands")) {
                cause = cause.hint("a step holds one statement: write a step for each");
            }
            Err(cause)
        }
    }
}
