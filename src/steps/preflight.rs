//! Asks the server whether it understands a plan's SQL, before anything is changed.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use super::change;
use super::change::undo::UndoLog;
use super::verify::VerifyStep;
use crate::plan::model::{Backfill, Change, Plan, PlanSource, Sql, Step, StepKind};
use crate::postgres::catalog::{self, Table};
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::postgres::{error, signals, sqlstate};
use crate::run::{Cause, KeyText, RunId, StepIndex};

/// What the check found out.
#[derive(Debug, Default)]
pub struct Found {
    /// The tables that the plan's backfills work on, in the plan's order.
    pub tables: Vec<Table>,
    /// Steps that can be checked only once an earlier statement has run.
    pub later: Vec<String>,
    /// What the operator should know before the run begins.
    pub notices: Vec<String>,
    /// What would make it quicker. A step tells that by itself when it begins.
    pub advice: Vec<String>,
}

/// The step that is being looked at.
#[derive(Clone, Copy)]
pub struct Looking<'a> {
    /// The step.
    pub step: &'a Step,
    /// How messages name it.
    pub what: &'a str,
    /// The plan.
    pub plan: &'a Plan,
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
        let checked = one(connection, plan, step, &source, &mut found).await;
        match checked {
            _ if done(index) => {}
            Ok(()) => {}
            Err(cause) if statement_pending && is_absence(&cause) => found.later.push(step.name.clone()),
            Err(cause) => return Err(cause),
        }
        // An index makes what a `reindex` behind it names.
        statement_pending |= matches!(step.kind, StepKind::Statement(_) | StepKind::Index(_)) && !done(index);
    }
    for cache in &plan.caches {
        match super::lookup::check(connection, cache, &plan.source).await {
            Err(cause) if statement_pending && is_absence(&cause) => {}
            checked => checked?,
        }
    }
    for probe in &plan.limits.signals.probes {
        let what = format!("probe \"{}\"", probe.name);
        prepare(connection, &what, &source, &signals::probe_sql(&probe.sql)).await?;
    }
    Ok(found)
}

/// Whether the failure only says that something is not there (yet).
fn is_absence(cause: &Cause) -> bool {
    match &cause.sqlstate {
        Some(code) => sqlstate::is_undefined(code),
        None => {
            cause.message.contains("there is no table")
                || cause.message.contains("there is no index")
                || cause.message.contains("has no column")
        }
    }
}

async fn one(
    connection: &mut PgConnection,
    plan: &Plan,
    step: &Step,
    source: &PlanSource,
    found: &mut Found,
) -> Result<(), Cause> {
    let what = format!("step \"{}\"", step.name);
    let looking = Looking { step, what: &what, plan };
    let plain = |label: &str, sql: &Sql| SqlText::default().plans(label, sql);
    match &step.kind {
        StepKind::Statement(statement) => {
            prepare(connection, &what, source, &plain("statement", &statement.sql)).await?;
            match &statement.down {
                Some(down) => prepare(connection, &what, source, &plain("down", down)).await,
                None => Ok(()),
            }
        }
        StepKind::Verify(verify) => prepare(connection, &what, source, &VerifyStep::sql(verify)).await,
        StepKind::Import(import) => super::import::check(connection, &looking, import, found).await,
        StepKind::Copy(copy) => super::copy::check(connection, &looking, copy, found).await,
        StepKind::Transform(transform) => super::transform::check(connection, &looking, transform, found).await,
        StepKind::Files(files) => super::files::check(connection, &looking, files, found).await,
        StepKind::Index(index) => {
            found.notices.extend(super::index::check_index(connection, &what, index, source).await?);
            Ok(())
        }
        StepKind::Reindex(reindex) => super::index::check_reindex(connection, &what, reindex, source).await,
        StepKind::Analyze(analyze) => super::index::check_analyze(connection, &what, analyze, source).await,
        StepKind::Backfill(backfill) => {
            let table = catalog::table(connection, &step.name, &backfill.table, source).await?;
            backfill_of(connection, step, backfill, &table, source).await?;
            if !found.tables.contains(&table) {
                let notices = catalog::row_security_notices(connection, &table).await;
                found.notices.extend(notices.map_err(|e| error::cause(&format!("step \"{}\"", step.name), &e))?);
                found.tables.push(table);
            }
            Ok(())
        }
    }
}

async fn backfill_of(
    connection: &mut PgConnection,
    step: &Step,
    backfill: &Backfill,
    table: &Table,
    source: &PlanSource,
) -> Result<(), Cause> {
    let what = format!("step \"{}\"", step.name);
    let columns = match &backfill.change {
        Change::Set { set, .. } => change::set_columns(&step.name, set, table, source)?,
        Change::Raw { .. } => Vec::new(),
    };
    // Whether a log could be kept; which run's it would be does not matter yet.
    UndoLog::of(RunId(uuid::Uuid::nil()), StepIndex(0), &step.name, backfill, table, source)?;
    let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    catalog::may_write_parts(connection, &step.name, table, &names).await?;
    // Partitions have the same columns; what may differ is the key.
    let mut walks: Vec<&Walk> = Vec::new();
    for part in &table.parts {
        let sql = change::batch_sql(&step.name, backfill, table, part, None, source)?;
        if walks.contains(&&part.walk) {
            continue;
        }
        walks.push(&part.walk);
        // The keys themselves do not matter to the words of the SQL.
        let (from, through) = (KeyText::new(), KeyText::new());
        prepare(connection, &what, source, &sql.of(Some(&from), &through).change).await?;
        if let Some(left) = &sql.left {
            prepare(connection, &what, source, left).await?;
        }
        if let Some(undo) = change::undo_statement(&step.name, backfill, table, part, source)? {
            prepare(connection, &what, source, &undo.of(Some(&from), &through).change).await?;
        }
    }
    Ok(())
}

/// Lets the server parse and analyse a statement without running it.
async fn prepare(connection: &mut PgConnection, what: &str, source: &PlanSource, sql: &SqlText) -> Result<(), Cause> {
    let text = AssertSqlSafe(sql.as_str().to_owned()).into_sql_str();
    match connection.prepare(text).await {
        Ok(_) => Ok(()),
        Err(e) => {
            let mut cause = error::cause_in_plan(what, &e, sql, source);
            if error::database(&e).is_some_and(|db| db.message().contains("multiple commands")) {
                cause = cause.hint("a step holds one statement: write a step for each");
            }
            Err(cause)
        }
    }
}
