//! `howdah check`: would this plan run here?

use super::environment::{of_plan, variable};
use super::{CheckArgs, Exit, Global, books, opening, rehearse, say};
use crate::plan::model::Plan;
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::run::Cause;

/// Checks a plan against its database.
///
/// # Errors
/// Why it would not run.
pub async fn run(global: &Global, args: &CheckArgs) -> Result<Exit, Cause> {
    let plan = load::from_file(&args.plan, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?;
    let target = Target::resolve(
        global.database.as_deref(),
        plan.database.control.as_ref().or(plan.database.url.as_ref()),
        &variable,
    )?;
    if !args.json {
        tell(global, &target, &plan).await?;
    }
    what_will_happen(&target, &plan, args).await
}

/// What the plan will do, and what it would cost, where a rehearsal was asked for.
async fn what_will_happen(target: &Target, plan: &Plan, args: &CheckArgs) -> Result<Exit, Cause> {
    let outlook = rehearse::outlook(target, plan).await?;
    if !args.json {
        say::out(&outlook.to_text());
    }
    let rehearsal = rehearse::rehearse(target, plan, &args.rehearse).await?;
    if args.json {
        say::out(&format!("{:#}", serde_json::json!({ "outlook": outlook, "rehearsal": rehearsal })));
    } else if let Some(rehearsal) = &rehearsal {
        say::out(&rehearsal.to_text());
        for line in rehearse::findings(rehearsal) {
            say::out(&line);
        }
    }
    Ok(if rehearsal.as_ref().is_some_and(rehearse::stands_against) { Exit::Usage } else { Exit::Done })
}

/// Checks a plan against its database, and says what was found.
///
/// # Errors
/// Why it would not run.
pub(super) async fn tell(global: &Global, target: &Target, plan: &Plan) -> Result<(), Cause> {
    let found = opening::check(target, plan).await?;
    let name = crate::run::text::clean(&plan.name).into_owned();
    say::out(&format!("{name}: {} steps, checked against {}; nothing was changed", plan.steps.len(), target.label()));
    for table in &found.tables {
        say::out(&format!("  walks {} by {}", table.label(), table.describe_walk()));
    }
    for notice in found.notices.iter().chain(&found.advice) {
        say::out(&format!("  {}", crate::run::text::clean(notice)));
    }
    for step in &found.later {
        say::out(&format!("  step \"{step}\" can be checked only once an earlier statement has run"));
    }
    books::check(global.redis.as_deref(), plan).await
}
