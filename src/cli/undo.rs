//! `howdah undo`: takes a run back, as a run of its own.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::alarming;
use super::books;
use super::desk;
use super::drive::{self, Job};
use super::environment::{self, of_plan, variable};
use super::log::Log;
use super::next::{self, Subject};
use super::opening::{self, Slots};
use super::run::resume_flags;
use super::undoing::{self, Undoing};
use super::{Exit, Global, UndoArgs, say};
use crate::ledger::{migrate, runs};
use crate::plan::model::{Plan, StepKind, Store};
use crate::plan::{PlanError, load};
use crate::postgres::catalog;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::{Cause, RunId, StepIndex, text};
use crate::steps::change::undo::UndoLog;

/// Takes a run back, or drops what it would be taken back by.
///
/// # Errors
/// There is no such run, or it cannot be taken back. What goes wrong later is in the exit code.
pub async fn run(global: &Global, args: UndoArgs) -> Result<Exit, Cause> {
    let given = match &args.plan {
        Some(path) => Some(load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?),
        None => None,
    };
    if given.as_ref().is_some_and(|plan| plan.store == Store::Redis) {
        return Err(books::only_in_the_database("a run is taken back"));
    }
    let address = given.as_ref().and_then(|plan| plan.database.control.as_ref().or(plan.database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), address, &variable)?;
    let mut connection = opening::look(&target).await?;
    // What has no run yet says so, before anything is made.
    let found = runs::find(&mut connection, args.run.as_ref(), false).await?;
    migrate::migrate(&mut connection).await?;
    let undone = if args.run.is_some() { found } else { runs::newest_of_a_plan(&mut connection).await? };
    let plan = if let Some(plan) = given {
        plan
    } else {
        let flag = global.database.as_deref();
        let mut plan = opening::find_plan(&mut connection, undone, flag, &mut Vec::new()).await?;
        alarming::leave_out_masked(&mut plan).for_each(|text| say::err(&text));
        plan
    };
    if args.drop_log {
        return drop_logs(&mut connection, &plan, undone, &args).await;
    }
    let undo = Undoing { run: undone, step: args.step.clone(), again: false };
    let way = undoing::plan(&mut connection, &plan, &undo).await?;
    drop(connection);
    let mut question =
        format!("run {} of {} in {} is taken back:", undone.short(), text::clean(&plan.name), target.label());
    for step in &way.steps {
        // Writing to a String cannot fail.
        let _ = write!(question, "\n  {}", text::clean(&step.name));
    }
    for (_, notice) in &way.notices {
        let _ = write!(question, "\n  {}", text::clean(notice));
    }
    if !say::confirmed(&question, args.yes, "this takes changes back")? {
        say::err("nothing was changed");
        return Ok(Exit::Failed);
    }
    let run = environment::new_run();
    let log = Log::begin(global.log_level.as_deref())?;
    log.of_run(run)?;
    let slots = Slots::of(global);
    slots.tell_those_of(&plan);
    let opening = slots.opening(target.clone(), Some(resume_flags(global, Some(&plan))));
    let queue = desk::queue::named(global, Some(&plan), None);
    let job = Job {
        start: drive::starting(run.short(), undoing::name(&plan.name)),
        farewell: Vec::new(),
        opener: Box::pin(opening::begin_undo(opening, plan, run, undo)),
        slots,
        target,
        queue,
    };
    let driven = drive::drive(job, &args.show).await?;
    let subject = Subject { run, plan: args.plan, accept_changed_plan: false, show: args.show };
    Ok(next::after(global, driven, subject).await)
}

/// Drops the undo logs of a run: what they hold cannot be taken back any more.
async fn drop_logs(connection: &mut PgConnection, plan: &Plan, run: RunId, args: &UndoArgs) -> Result<Exit, Cause> {
    let failed = |e: sqlx::Error| error::cause("dropping the undo log", &e);
    if runs::is_driven(connection, run).await.map_err(failed)? {
        return Err(Cause::usage(format!("run {} is being driven at this moment", run.short()))
            .hint("stop it first: q in its console, or SIGTERM"));
    }
    for (other, state, _) in runs::undone_by(connection, run).await.map_err(failed)? {
        if state != "done" {
            return Err(Cause::usage(format!(
                "run {} is being taken back by run {}, which is {state}: it needs the undo log",
                run.short(),
                other.short()
            ))
            .hint(format!("go on with that: howdah resume {}", other.short())));
        }
    }
    if !runs::is_ended(connection, run).await.map_err(failed)? {
        return Err(Cause::usage(format!(
            "run {} is not at its end: resumed, it would go on with the log",
            run.short()
        ))
        .hint(format!("finish it, or take it back: howdah resume {0}, howdah undo {0}", run.short())));
    }
    let mut logs = Vec::new();
    for (index, step) in (0..).map(StepIndex).zip(&plan.steps) {
        let StepKind::Backfill(backfill) = &step.kind else { continue };
        if args.step.as_ref().is_some_and(|wanted| *wanted != step.name) {
            continue;
        }
        let table = catalog::table(connection, &step.name, &backfill.table, &plan.source).await?;
        if let Some(log) = UndoLog::of(run, index, &step.name, backfill, &table, &plan.source)?
            && log.part(connection).await.map_err(failed)?.is_some()
        {
            logs.push((step.name.clone(), log));
        }
    }
    if logs.is_empty() {
        say::out(&format!("run {} has no undo log", run.short()));
        return Ok(Exit::Done);
    }
    let names: Vec<String> = logs.iter().map(|(step, _)| format!("\"{}\"", text::clean(step))).collect();
    let question = format!(
        "the undo log of step {} of run {} is dropped: it cannot be taken back after that",
        names.join(", "),
        run.short()
    );
    if !say::confirmed(&question, args.yes, "this takes changes back")? {
        say::err("nothing was dropped");
        return Ok(Exit::Failed);
    }
    for (step, log) in logs {
        sqlx::query(AssertSqlSafe(log.drop())).persistent(false).execute(&mut *connection).await.map_err(failed)?;
        say::out(&format!("dropped the undo log of step \"{}\"", text::clean(&step)));
    }
    Ok(Exit::Done)
}
