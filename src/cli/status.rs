//! `howdah status`: the runs in a database, or one of them.

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use super::run::resume_flags;
use super::{Exit, Global, StatusArgs, books, opening, say};
use crate::ledger::book::Book;
use crate::ledger::past::{self, PastRun, Sought};
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
    if args.all || args.name.is_some() || args.since.is_some() {
        let most = if args.all { args.limit } else { NEWEST };
        let sought = Sought { name: args.name.clone(), since: args.since, most };
        let runs = history(&mut connection, ledgers, &sought).await?;
        if args.json {
            say::out(&format!("{:#}", Value::Array(runs.iter().map(past_json).collect())));
        } else if runs.is_empty() {
            say::out(&format!("no such runs in {}", target.label()));
        } else {
            say::out(&past_table(&runs));
            if runs.len() == usize::from(most) {
                say::err(&format!("the newest {most}; more: --all --limit N"));
            }
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

/// The runs that are sought, of all ledgers, the newest first.
async fn history(connection: &mut PgConnection, ledgers: Vec<Book>, sought: &Sought) -> Result<Vec<PastRun>, Cause> {
    let mut runs = Vec::new();
    for book in ledgers {
        match &book {
            Book::Postgres => runs.extend(past::runs(connection, sought).await?),
            Book::Redis(book) => {
                runs.extend(book.sought(connection, sought).await?.iter().map(PastRun::of));
            }
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.began));
    runs.truncate(sought.most.into());
    Ok(runs)
}

fn past_table(runs: &[PastRun]) -> String {
    let mut lines = vec![format!(
        "{:<9} {:<12} {:<17} {:>8} {:>8} {:>14} {:>9} {:>6}  {:<14}  {}",
        "RUN", "STATE", "BEGAN (UTC)", "TOOK", "WORKED", "CHANGED", "ROWS/S", "ASIDE", "DRIVEN FROM", "PLAN"
    )];
    lines.extend(runs.iter().map(|run| {
        let took = run.ended.and_then(|ended| (ended - run.began).to_std().ok());
        let hosts = run.hosts.join(",");
        format!(
            "{:<9} {:<12} {:<17} {:>8} {:>8} {:>14} {:>9} {:>6}  {:<14}  {}{}",
            run.run.short(),
            state(&run.word, run.driven),
            run.began.format("%Y-%m-%d %H:%M"),
            took.map_or_else(|| "-".to_owned(), human::duration),
            human::duration(run.worked),
            human::count(run.changed),
            run.rows_per_second.map_or_else(|| "-".to_owned(), human::rate),
            human::count(run.quarantined),
            text::clean(&hosts),
            text::clean(&run.name),
            match run.guarantee {
                Guarantee::ExactlyOnce => "",
                Guarantee::AtLeastOnce => " (redis, at least once)",
            }
        )
    }));
    lines.join("\n")
}

fn past_json(run: &PastRun) -> Value {
    json!({
        "run": run.run,
        "plan": run.name,
        "state": state(&run.word, run.driven),
        "driven": run.driven,
        "started_at": run.began,
        "finished_at": run.ended,
        "worked_seconds": run.worked.as_secs_f64(),
        "paused_seconds": run.paused.as_secs_f64(),
        "rows_walked": run.walked,
        "rows_changed": run.changed,
        "rows_per_second": run.rows_per_second,
        "retries": run.retries,
        "quarantined": run.quarantined,
        "hosts": run.hosts,
        "guarantee": run.guarantee,
    })
}

/// The state as it is now: a run that says "running" and has no driver is not.
pub(super) fn state(word: &str, driven: bool) -> String {
    if is_over(word) || driven { word.to_owned() } else { "interrupted".to_owned() }
}

fn is_over(word: &str) -> bool {
    matches!(word, "done" | "failed" | "stopped" | "superseded")
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
            state(&record.word, record.driven),
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
    if !is_over(&record.word) {
        lines.push(format!("{driver}{beat}"));
    }
    if state(&record.word, record.driven) == "interrupted" {
        lines.push(format!("its driver is gone; go on with: {}", record.snapshot.resume_command));
    }
    lines.join("\n")
}

fn as_json(record: &RunRecord) -> Value {
    json!({
        "run": record.run,
        "state": state(&record.word, record.driven),
        "driven": record.driven,
        "driver": { "host": record.snapshot.host, "pid": record.pid, "heartbeat_age_seconds": record.heartbeat_age.as_secs_f64() },
        "finished_at": record.finished_at,
        "report": Report::of(&record.snapshot),
    })
}
