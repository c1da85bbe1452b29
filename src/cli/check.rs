//! `howdah check`: would this plan run here, and what stands against it?

use super::environment::{of_plan, variable};
use super::{CheckArgs, Exit, Global, beforehand, books, opening, rehearse, say};
use crate::check::checked::{Checked, CheckedStep, Walks};
use crate::check::upkeep::Patience;
use crate::check::{Finding, Severity, allow, database, look};
use crate::plan::model::Plan;
use crate::plan::{PlanError, load};
use crate::postgres::connect;
use crate::postgres::dsn::Target;
use crate::postgres::pooler;
use crate::run::Cause;

/// Checks a plan against its database.
///
/// # Errors
/// The plan is wrong, or its database cannot be reached.
pub async fn run(global: &Global, args: &CheckArgs) -> Result<Exit, Cause> {
    let plan = load::from_file(&args.plan, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?;
    let target = Target::resolve(
        global.database.as_deref(),
        plan.database.control.as_ref().or(plan.database.url.as_ref()),
        &variable,
    )?;
    let mut checked = examine(global, &target, &plan).await?;
    if args.json {
        if checked.may_run() {
            rehearse::into(&mut checked, &target, &plan, &args.rehearse).await?;
        }
        let json = serde_json::to_string_pretty(&checked.to_json());
        say::out(&json.map_err(|e| Cause::bug(format!("a check that is not JSON: {e}")))?);
        return Ok(match &checked.failure {
            Some(cause) => say::failure(cause),
            None => exit_of(&checked),
        });
    }
    let before = checked.findings.len();
    let exit = told(&checked)?;
    if !args.rehearse.rehearse {
        return Ok(exit);
    }
    if !checked.may_run() {
        say::out("\nnot rehearsed: it would be refused as it is");
        return Ok(exit);
    }
    rehearse::into(&mut checked, &target, &plan, &args.rehearse).await?;
    if let Some(text) = checked.rehearsal_text(before) {
        say::out(&text);
    }
    Ok(exit_of(&checked))
}

/// Checks a plan against its database, and says what was found.
///
/// # Errors
/// Why it would not run.
pub(super) async fn tell(global: &Global, target: &Target, plan: &Plan) -> Result<Exit, Cause> {
    told(&examine(global, target, plan).await?)
}

fn told(checked: &Checked) -> Result<Exit, Cause> {
    match &checked.failure {
        Some(cause) if checked.findings.is_empty() => Err(cause.clone()),
        Some(cause) => {
            say::out(&checked.to_text());
            Err(cause.clone())
        }
        None => {
            say::out(&checked.to_text());
            Ok(exit_of(checked))
        }
    }
}

fn exit_of(checked: &Checked) -> Exit {
    if checked.may_run() { Exit::Done } else { Exit::Usage }
}

/// All that is found of a plan.
async fn examine(global: &Global, target: &Target, plan: &Plan) -> Result<Checked, Cause> {
    let allowed = allow::codes(plan)?;
    let settings = opening::session("check", "cli", Some(&plan.limits));
    let limit = plan.database.pool_connect;
    let mut connection = connect::one(target, limit, &settings).await?;
    let mut other = connect::one(target, limit, &settings).await?;
    let mut checked = Checked { plan: plan.name.clone(), server: target.label(), ..Checked::default() };
    let mut findings: Vec<Finding> = Vec::new();
    let shared = pooler::shares_sessions(&mut connection, &mut other).await;
    if shared.map_err(|e| crate::postgres::error::cause("looking whether a pooler stands before the server", &e))? {
        // Nothing else can be asked through it.
        findings.push(database::of_pooler(&target.server()));
        checked.steps = steps(plan, &[]);
        (checked.findings, checked.allowed) = allow::apart(findings, &allowed);
        return Ok(checked);
    }
    let (looked, found) = tokio::join!(
        look::cheap(&mut connection, plan, Patience::default()),
        crate::steps::preflight::check(&mut other, plan, |_| false)
    );
    let looked = looked.map_err(|e| crate::postgres::error::cause("reading the catalog", &e).headline());
    match &looked {
        Ok(looked) => {
            checked.server_version.clone_from(&looked.facts.database.version);
            findings.extend(looked.findings.iter().cloned());
        }
        Err(why) => findings.push(database::not_checked(Severity::Warning, why.clone())),
    }
    match found {
        Ok(found) => {
            if let Ok(looked) = &looked {
                findings.extend(look::rest(&mut connection, plan, looked).await);
            }
            let tables = found.tables.iter();
            checked.walks = tables.map(|table| Walks { table: table.label(), by: table.describe_walk() }).collect();
            checked.steps = steps(plan, &found.later);
            checked.outlook = Some(rehearse::outlook(target, plan).await?);
            checked.notices = found.notices.into_iter().chain(found.advice).collect();
            checked.notices.extend(books::notices(global.redis.as_deref(), plan).await?);
        }
        Err(cause) => {
            // What else is found of a plan that cannot work is beside the point, but for what keeps it from it as well.
            findings.retain(|finding| finding.severity == Severity::Error);
            checked.steps = steps(plan, &[]);
            checked.failure = Some(cause);
        }
    }
    checked.notices.retain(|notice| !findings.iter().any(|finding| finding.what == *notice));
    (checked.findings, checked.allowed) = allow::apart(look::in_order(findings, plan), &allowed);
    if let Some(cause) = checked.failure.take() {
        checked.failure = Some(beforehand::with_rights(cause, &checked.findings));
    }
    Ok(checked)
}

fn steps(plan: &Plan, later: &[String]) -> Vec<CheckedStep> {
    let step = |step: &crate::plan::model::Step| CheckedStep {
        name: step.name.clone(),
        kind: step.kind.word(),
        is_later: later.contains(&step.name),
    };
    plan.steps.iter().map(step).collect()
}
