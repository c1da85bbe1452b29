//! `howdah resume`: on with a run that was stopped, has failed, or was killed.

use std::sync::Arc;

use super::drive::{self, Job};
use super::environment::{of_plan, variable};
use super::log::Log;
use super::next::{self, Subject};
use super::opening::{self, Slots, Wanted};
use super::run::resume_flags;
use super::{Exit, Global, ResumeArgs};
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
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
    let url = plan.as_ref().and_then(|plan| plan.database.url.as_ref());
    let target = Target::resolve(global.database.as_deref(), url, &variable)?;
    let log = Arc::new(Log::begin(global.log_level.as_deref())?);
    let slots = Slots::default();
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
    let wanted =
        Wanted { run: args.run, plan, accept_changed: args.accept_changed_plan, flag: global.database.clone() };
    let job = Job {
        start: drive::starting(name, title),
        opener: Box::pin(opening::take_over(opening, wanted, learn)),
        slots,
        target,
        farewell: Vec::new(),
    };
    let taken = job.slots.run.subscribe();
    let driven = drive::drive(job, &args.show).await?;
    let run = *taken.borrow();
    match driven.next.zip(run) {
        Some((next, run)) => next::follow(global, Subject { run, plan: args.plan, show: args.show }, next).await,
        None => Ok(driven.exit),
    }
}
