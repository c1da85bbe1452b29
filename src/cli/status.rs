//! `howdah status`: the runs in a database, or one of them.

use serde_json::{Value, json};

use super::run::resume_flags;
use super::{Exit, Global, StatusArgs, books, opening, say};
use crate::ledger::read::RunRecord;
use crate::run::report::Report;
use crate::run::{Cause, Guarantee, human, text};

/// How many are listed.
const NEWEST: u16 = 10;

/// Shows runs.
///
/// # Errors
/// There is no such run; the database cannot be asked.
pub async fn run(global: &Global, args: &StatusArgs) -> Result<Exit, Cause> {
    let (target, plan) = books::target(global, args.plan.as_deref())?;
    let mut connection = opening::look(&target).await?;
    let ledgers = books::all(global.redis.as_deref(), plan.as_ref()).await?;
    if let Some(named) = &args.run {
        let (book, id) = books::find(ledgers, &mut connection, Some(named), false).await?;
        let mut record = book.one(&mut connection, id).await?;
        record.snapshot.server = target.label();
        record.snapshot.resume_command.push_str(&resume_flags(global, plan.as_ref()));
        if args.json {
            say::out(&format!("{:#}", as_json(&record)));
        } else {
            say::out(&one(&record));
        }
        return Ok(Exit::Done);
    }
    let mut records = Vec::new();
    for book in ledgers {
        records.extend(book.newest(&mut connection, NEWEST).await?);
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.snapshot.started_at));
    records.truncate(NEWEST.into());
    if args.json {
        say::out(&format!("{:#}", Value::Array(records.iter().map(as_json).collect())));
    } else if records.is_empty() {
        say::out(&format!("no runs in {}", target.label()));
    } else {
        say::out(&table(&records));
    }
    Ok(Exit::Done)
}

/// The state as it is now: a run that says "running" and has no driver is not.
fn state(record: &RunRecord) -> String {
    if is_over(record) || record.driven { record.word.clone() } else { "interrupted".to_owned() }
}

fn is_over(record: &RunRecord) -> bool {
    matches!(record.word.as_str(), "done" | "failed" | "stopped" | "superseded")
}

fn table(records: &[RunRecord]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:<12} {:<17} {:>8} {:>15}  {}",
        "RUN", "STATE", "BEGAN (UTC)", "WORKED", "CHANGED", "PLAN"
    )];
    lines.extend(records.iter().map(|record| {
        let snapshot = &record.snapshot;
        let began = snapshot.started_at.map(|at| at.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
        format!(
            "{:<9} {:<12} {:<17} {:>8} {:>15}  {}",
            snapshot.run,
            state(record),
            began,
            human::duration(snapshot.spent.worked),
            human::count(snapshot.rows_changed()),
            text::clean(&snapshot.plan),
        ) + match snapshot.guarantee {
            Guarantee::ExactlyOnce => "",
            Guarantee::AtLeastOnce => " (redis, at least once)",
        }
    }));
    lines.join("\n")
}

fn one(record: &RunRecord) -> String {
    let driver = if record.driven {
        format!("driven by process {} on {}, ", record.pid, text::clean(&record.snapshot.host))
    } else {
        format!("nobody drives it; process {} on {} was the last, ", record.pid, text::clean(&record.snapshot.host))
    };
    let beat = format!("heartbeat {} ago", human::rough_duration(record.heartbeat_age));
    let mut lines = vec![Report::of(&record.snapshot).to_text().trim_end().to_owned()];
    if !is_over(record) {
        lines.push(format!("{driver}{beat}"));
    }
    if state(record) == "interrupted" {
        lines.push(format!("its driver is gone; go on with: {}", record.snapshot.resume_command));
    }
    lines.join("\n")
}

fn as_json(record: &RunRecord) -> Value {
    json!({
        "run": record.run,
        "state": state(record),
        "driven": record.driven,
        "driver": { "host": record.snapshot.host, "pid": record.pid, "heartbeat_age_seconds": record.heartbeat_age.as_secs_f64() },
        "finished_at": record.finished_at,
        "report": Report::of(&record.snapshot),
    })
}
