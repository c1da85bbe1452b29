//! `howdah check --rehearse`, and what `howdah check` says of what will happen.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{opening, say};
use crate::check::allow;
use crate::check::checked::Checked;
use crate::check::outlook::{self, Outlook};
use crate::check::rehearsal::{self, Outside, Rehearsal};
use crate::plan::model::Plan;
use crate::postgres::connect::{self, Connector};
use crate::postgres::dsn::Target;
use crate::postgres::session::{Session, application_name};
use crate::run::text::clean;
use crate::run::{Cause, human};

/// How long the look at all steps may take.
const OUTLOOK: Duration = Duration::from_mins(2);
/// The least time that a rehearsal is given.
const LEAST: Duration = Duration::from_secs(1);

/// What a rehearsal is asked for with.
#[derive(Debug, Clone, Default, Args)]
pub struct RehearseArgs {
    /// Try a few batches of each step for real, in transactions that are rolled back, and forecast the run by them
    #[arg(long)]
    pub rehearse: bool,
    /// How long the rehearsal may take [default: 30s]
    #[arg(long = "for", value_name = "TIME", requires = "rehearse", value_parser = limit)]
    pub limit: Option<Duration>,
    /// Do not ask before it
    #[arg(long, requires = "rehearse")]
    pub yes: bool,
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if limit < LEAST { Err("at least 1s".to_owned()) } else { Ok(limit) }
}

/// What the plan will do, step by step.
///
/// # Errors
/// The database cannot be reached.
pub(super) async fn outlook(target: &Target, plan: &Plan) -> Result<Outlook, Cause> {
    let settings = opening::session("check", "cli", Some(&plan.limits));
    let mut connection = connect::one(target, plan.database.pool_connect, &settings).await?;
    tokio::time::timeout(OUTLOOK, outlook::outlook(&mut connection, plan)).await.map_err(|_| {
        Cause::new(format!("the server did not say within {} what the plan will do", human::rough_duration(OUTLOOK)))
            .hint("look at what it is busy with; `howdah run` makes only the cheap part of the check")
    })
}

/// Rehearses the plan, where that was asked for, and a person agrees.
///
/// # Errors
/// There is no terminal to ask at, and no `--yes`; the server is a standby, or cannot be reached.
async fn rehearse(target: &Target, plan: &Plan, args: &RehearseArgs) -> Result<Option<Rehearsal>, Cause> {
    if !args.rehearse {
        return Ok(None);
    }
    let limits = &plan.limits;
    // As a worker's session: what a batch may not take, a trial may not.
    let session = Session {
        application_name: application_name("cli", "rehearse"),
        lock_timeout: limits.lock_timeout,
        statement_timeout: limits.statement_timeout,
        idle_in_transaction_timeout: limits.idle_in_transaction_timeout,
    };
    let connector = Connector { target: target.clone(), limit: plan.database.pool_connect, session };
    let mut connection = connector.open(&application_name("cli", "rehearse")).await.map_err(|refused| refused.cause)?;
    let outside = rehearsal::outside(&mut connection, plan).await?;
    drop(connection);
    let limit = args.limit.unwrap_or(rehearsal::LIMIT);
    let question = question(target, &outside, limit);
    if !say::confirmed(&question, args.yes, "a rehearsal runs changes for real before it rolls them back")? {
        return Ok(None);
    }
    rehearsal::rehearse(&Arc::new(connector), plan, limit).await.map(Some)
}

/// Rehearses the plan, and puts what came of it to what was checked.
///
/// # Errors
/// As [`rehearse`].
pub(super) async fn into(
    checked: &mut Checked,
    target: &Target,
    plan: &Plan,
    args: &RehearseArgs,
) -> Result<(), Cause> {
    let Some(mut rehearsal) = rehearse(target, plan, args).await? else { return Ok(()) };
    let (mut found, allowed) = allow::apart(std::mem::take(&mut rehearsal.findings), &allow::codes(plan)?);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    checked.findings.extend(found);
    checked.allowed.extend(allowed);
    checked.rehearsal = Some(rehearsal);
    Ok(())
}

/// What a person should know before.
fn question(target: &Target, outside: &[Outside], limit: Duration) -> String {
    let mut lines = vec![
        format!("this changes a few batches of rows of {} for real, and rolls each batch back", target.label()),
        format!(
            "it takes at most about {}, locks the rows of one batch at a time, and gives way",
            human::duration(limit)
        ),
        "it leaves dead rows for vacuum, WAL, and used-up numbers of sequences; triggers fire".to_owned(),
    ];
    lines.extend(outside.iter().map(|one| {
        format!("  not taken back: step \"{}\": {}: {}", clean(&one.step), clean(&one.what), clean(&one.why))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_is_given_a_second_at_least() {
        assert_eq!(limit("90s"), Ok(Duration::from_secs(90)));
        assert!(limit("10ms").is_err() && limit("soon").is_err());
    }
}
