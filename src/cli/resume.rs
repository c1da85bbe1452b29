//! `howdah resume`: on with a run that was stopped, has failed, or was killed.

use std::sync::Arc;

use super::books;
use super::desk;
use super::detach::{self, Detached};
use super::drive::{self, Job};
use super::environment::{of_plan, variable};
use super::log::Log;
use super::next::{self, Subject};
use super::opening::{self, Slots, Wanted};
use super::run::resume_flags;
use super::{Exit, Global, ResumeArgs};
use crate::ledger::runs;
use crate::plan::model::Store;
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::Cause;

/// Goes on with a run.
///
/// # Errors
/// The command is wrong. What goes wrong later is in the exit code.
pub async fn run(global: &Global, args: ResumeArgs) -> Result<Exit, Cause> {
    let plan = match &args.plan {
        Some(path) => Some(load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?),
        None => None,
    };
    let address = plan.as_ref().and_then(|plan| plan.database.control.as_ref().or(plan.database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), address, &variable)?;
    if args.detach {
        if plan.as_ref().is_some_and(|plan| plan.store == Store::Redis) {
            return Err(books::only_in_the_database("a run is driven in the background"));
        }
        let flags = resume_flags(global, plan.as_ref());
        return detached(global, args, &target, flags).await;
    }
    let log = Arc::new(Log::begin(global.log_level.as_deref())?);
    let slots = Slots::of(global);
    if let Some(plan) = &plan {
        slots.tell_those_of(plan);
    }
    let opening = slots.opening(target.clone(), Some(resume_flags(global, plan.as_ref())));
    let name = match &args.run {
        Some(crate::run::id::RunRef::Full(id)) => id.short(),
        Some(crate::run::id::RunRef::Suffix(text)) => text.clone(),
        None => "newest".to_owned(),
    };
    let title = plan.as_ref().map_or_else(String::new, |plan| plan.name.clone());
    let file = Arc::clone(&log);
    let learn = move |run| {
        if let Err(cause) = file.of_run(run) {
            tracing::error!("{}", cause.headline());
        }
    };
    let queue = desk::queue::named(global, plan.as_ref(), None);
    let wanted =
        Wanted { run: args.run, plan, accept_changed: args.accept_changed_plan, flag: global.database.clone() };
    let job = Job {
        start: drive::starting(name, title),
        opener: Box::pin(opening::take_over(opening, wanted, learn)),
        slots,
        target,
        queue,
        farewell: Vec::new(),
    };
    let taken = job.slots.run.subscribe();
    let driven = drive::drive(job, &args.show).await?;
    let run = *taken.borrow();
    let Some(run) = run else { return Ok(driven.exit) };
    let accept_changed_plan = args.accept_changed_plan;
    let subject = Subject { run, plan: args.plan, accept_changed_plan, show: args.show };
    Ok(next::after(global, driven, subject).await)
}

/// Goes on with a run in a process of its own.
async fn detached(global: &Global, args: ResumeArgs, target: &Target, flags: String) -> Result<Exit, Cause> {
    let mut connection = opening::look(target).await?;
    let run = runs::find(&mut connection, args.run.as_ref(), true).await?;
    let before =
        sqlx::query_scalar("SELECT epoch FROM howdah.run WHERE id = $1").bind(run.0).fetch_one(&mut connection);
    let before: i64 = before.await.map_err(|e| error::cause("reading the run", &e))?;
    let mut arguments = vec!["resume".into(), run.to_string().into()];
    if let Some(plan) = &args.plan {
        arguments.extend(["--plan".into(), plan.clone().into()]);
    }
    arguments.extend(args.accept_changed_plan.then(|| "--accept-changed-plan".into()));
    arguments.extend(args.show.metrics.arguments());
    let (plan, theme, mouse) = (args.plan, args.show.theme, args.show.mouse);
    detach::run(global, Detached { target, flags, run, arguments, before: Some(before), plan, theme, mouse }).await
}
