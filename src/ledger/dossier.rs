//! Reading all that is known of a run. Nothing is written; what an older ledger does not hold is empty.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::read::{self, RunRecord};
use super::{open, quarantine, runs, wire};
use crate::postgres::error;
use crate::run::dossier::{
    AsideReason, AsideRow, Asked, COMMANDS, Dossier, EVENTS, LastDriver, REASONS, ROWS, StepTimes,
};
use crate::run::report::Report;
use crate::run::sample::Sample;
use crate::run::summary::{Summary, ThisDriver};
use crate::run::{Cause, Event, Level, RunId};

/// Letters of a row's error that are kept.
const LETTERS: usize = 500;

/// All that is known of the run that `record` is about. Settings are left to whoever can read plans.
///
/// # Errors
/// The ledger cannot be read.
pub async fn read(connection: &mut PgConnection, record: RunRecord, state: String) -> Result<Dossier, Cause> {
    let plan = open::stored_plan(connection, record.run).await?;
    gather(connection, record, state, plan).await.map_err(|e| error::cause("reading the ledger", &e))
}

/// What is known of a run whose ledger lies on Redis: no course is kept there.
#[must_use]
pub fn of_record(record: &RunRecord, state: String, plan: open::StoredPlan) -> Dossier {
    let snapshot = &record.snapshot;
    Dossier {
        report: Report::of(snapshot),
        state,
        id: record.run.to_string(),
        read_at: snapshot.now,
        seen_at: seen_at(record),
        samples: Vec::new(),
        no_samples: Some("its ledger lies on Redis, where no course is kept"),
        summary: Summary::default(),
        events: snapshot.events.iter().cloned().collect(),
        earlier_events: 0,
        commands: Vec::new(),
        earlier_commands: 0,
        aside: Vec::new(),
        aside_rows: Vec::new(),
        step_times: vec![StepTimes::default(); snapshot.steps.len()],
        driver: LastDriver { host: snapshot.host.clone(), pid: record.pid.cast_unsigned(), version: String::new() },
        plan_source: plan.source,
        plan_path: plan.path,
        settings: Vec::new(),
        undoes: None,
        undone_by: Vec::new(),
    }
}

/// When its driver was heard of last.
fn seen_at(record: &RunRecord) -> DateTime<Utc> {
    let age = TimeDelta::from_std(record.heartbeat_age).unwrap_or_default();
    record.snapshot.now.checked_sub_signed(age).unwrap_or(record.snapshot.now)
}

async fn gather(
    connection: &mut PgConnection,
    record: RunRecord,
    state: String,
    plan: open::StoredPlan,
) -> Result<Dossier, sqlx::Error> {
    let run = record.run;
    let keeps = there(connection, "howdah.sample").await?;
    let version = sqlx::query_scalar("SELECT driver_version FROM howdah.run WHERE id = $1")
        .bind(run.0)
        .fetch_one(&mut *connection)
        .await?;
    let driver = LastDriver { host: record.snapshot.host.clone(), pid: record.pid.cast_unsigned(), version };
    let samples = if keeps { samples(connection, run).await? } else { Vec::new() };
    let summary = match if keeps { summary(connection, run).await? } else { None } {
        Some(summary) => summary,
        None => of_snapshot(connection, run, &driver).await?,
    };
    let (events, earlier_events) = events(connection, run).await?;
    let (commands, earlier_commands) = commands(connection, run).await?;
    let (aside, aside_rows) = aside(connection, run).await?;
    let (undoes, undone_by) = if undoes_are_known(connection).await? {
        (runs::undoes(connection, run).await?, runs::undone_by(connection, run).await?)
    } else {
        (None, Vec::new())
    };
    Ok(Dossier {
        report: Report::of(&record.snapshot),
        state,
        id: run.to_string(),
        read_at: record.snapshot.now,
        seen_at: seen_at(&record),
        no_samples: (samples.is_empty() && !keeps).then_some("an older howdah made this ledger, and kept no course"),
        samples,
        summary,
        events,
        earlier_events,
        commands,
        earlier_commands,
        aside,
        aside_rows,
        step_times: step_times(connection, run).await?,
        driver,
        plan_source: plan.source,
        plan_path: plan.path,
        settings: Vec::new(),
        undoes: undoes.map(|(undone, _)| undone.short()),
        undone_by: undone_by.into_iter().map(|(by, state, _)| (by.short(), state)).collect(),
    })
}

async fn there(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(connection).await
}

async fn undoes_are_known(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    there(connection, "howdah.quarantine").await
}

/// The course of a run, oldest first. The ledger has it.
///
/// # Errors
/// The driver's error.
pub async fn samples(connection: &mut PgConnection, run: RunId) -> Result<Vec<Sample>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT extract(epoch FROM at)::int8 AS at, step::int8, seen::int8, rate, batch_ms, worst_ms, lag, dead, cpu, memory, \
                rss, workers, paused_s::int8, waits_s::int8, waits, alert FROM howdah.sample WHERE run = $1 ORDER BY at",
    )
    .bind(run.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(sample).collect()
}

fn sample(row: &PgRow) -> Result<Sample, sqlx::Error> {
    let alert: Option<String> = row.try_get("alert")?;
    Ok(Sample {
        at: row.try_get("at")?,
        step: row.try_get("step")?,
        seen: row.try_get("seen")?,
        rate: row.try_get("rate")?,
        batch_ms: row.try_get("batch_ms")?,
        worst_ms: row.try_get("worst_ms")?,
        lag: row.try_get("lag")?,
        dead: row.try_get("dead")?,
        cpu: row.try_get("cpu")?,
        memory: row.try_get("memory")?,
        rss: row.try_get("rss")?,
        workers: row.try_get("workers")?,
        paused_s: row.try_get("paused_s")?,
        waits_s: row.try_get("waits_s")?,
        waits: row.try_get("waits")?,
        alert: alert.map(|word| match word.as_str() {
            "critical" => Level::Critical,
            "info" => Level::Info,
            _ => Level::Warning,
        }),
    })
}

/// What has outlived a run's drivers. The ledger has it.
///
/// # Errors
/// The driver's error.
pub async fn summary(connection: &mut PgConnection, run: RunId) -> Result<Option<Summary>, sqlx::Error> {
    let kept: Option<serde_json::Value> = sqlx::query_scalar("SELECT summary FROM howdah.summary WHERE run = $1")
        .bind(run.0)
        .fetch_optional(connection)
        .await?;
    Ok(kept.and_then(|kept| {
        serde_json::from_value(kept).map_err(|e| tracing::warn!("a summary of another version of howdah: {e}")).ok()
    }))
}

/// What the newest snapshot of the run tells, where no summary was written: an older howdah drove it, or it has just begun.
async fn of_snapshot(connection: &mut PgConnection, run: RunId, driver: &LastDriver) -> Result<Summary, sqlx::Error> {
    let mut summary = Summary::default();
    if !there(connection, "howdah.snapshot").await? {
        return Ok(summary);
    }
    let row: Option<(i64, String)> = sqlx::query_as("SELECT epoch, snapshot FROM howdah.snapshot WHERE run = $1")
        .bind(run.0)
        .fetch_optional(connection)
        .await?;
    if let Some((epoch, text)) = row
        && let Ok(wire) = wire::unpack(&text)
    {
        let driver = ThisDriver { epoch, pid: driver.pid, version: driver.version.clone() };
        summary.take(&wire.snapshot, &driver);
    }
    Ok(summary)
}

/// When something happened, where it has.
type Moment = Option<DateTime<Utc>>;

/// When each step began and ended.
async fn step_times(connection: &mut PgConnection, run: RunId) -> Result<Vec<StepTimes>, sqlx::Error> {
    let times: Vec<(Moment, Moment)> =
        sqlx::query_as("SELECT started_at, finished_at FROM howdah.step WHERE run = $1 ORDER BY step")
            .bind(run.0)
            .fetch_all(connection)
            .await?;
    Ok(times.into_iter().map(|(began, ended)| StepTimes { began, ended }).collect())
}

async fn events(connection: &mut PgConnection, run: RunId) -> Result<(Vec<Event>, u64), sqlx::Error> {
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM howdah.event WHERE run = $1")
        .bind(run.0)
        .fetch_one(&mut *connection)
        .await?;
    let events = read::newest_events(connection, run, EVENTS).await?;
    let earlier = all.max(0).cast_unsigned().saturating_sub(events.len() as u64);
    Ok((events, earlier))
}

async fn commands(connection: &mut PgConnection, run: RunId) -> Result<(Vec<Asked>, u64), sqlx::Error> {
    if !there(connection, "howdah.command").await? {
        return Ok((Vec::new(), 0));
    }
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM howdah.command WHERE run = $1")
        .bind(run.0)
        .fetch_one(&mut *connection)
        .await?;
    let rows = sqlx::query(
        "SELECT * FROM (SELECT id, asked_at, words, via, who, role, client, state, outcome, applied_at FROM howdah.command \
             WHERE run = $1 ORDER BY id DESC LIMIT $2) c ORDER BY id",
    )
    .bind(run.0)
    .bind(i64::try_from(COMMANDS).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    let commands: Vec<Asked> = rows.iter().map(asked).collect::<Result<_, _>>()?;
    let earlier = all.max(0).cast_unsigned().saturating_sub(commands.len() as u64);
    Ok((commands, earlier))
}

fn asked(row: &PgRow) -> Result<Asked, sqlx::Error> {
    Ok(Asked {
        at: row.try_get("asked_at")?,
        words: row.try_get("words")?,
        via: row.try_get("via")?,
        who: row.try_get("who")?,
        role: row.try_get("role")?,
        client: row.try_get("client")?,
        state: row.try_get("state")?,
        outcome: row.try_get("outcome")?,
        applied_at: row.try_get::<Option<DateTime<Utc>>, _>("applied_at")?,
    })
}

async fn aside(connection: &mut PgConnection, run: RunId) -> Result<(Vec<AsideReason>, Vec<AsideRow>), sqlx::Error> {
    if !there(connection, "howdah.quarantine").await? {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows: Vec<(Option<String>, i64, i64, String)> = sqlx::query_as(
        "SELECT sqlstate, count(*) FILTER (WHERE resolved_at IS NULL), count(*) FILTER (WHERE resolved_at IS NOT NULL), \
                left(min(message), 500) FROM howdah.quarantine WHERE run = $1 GROUP BY sqlstate \
         ORDER BY count(*) DESC, sqlstate LIMIT $2",
    )
    .bind(run.0)
    .bind(i64::try_from(REASONS).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await?;
    let count = |n: i64| n.max(0).cast_unsigned();
    let reasons = rows.into_iter().map(|(sqlstate, open, resolved, example)| AsideReason {
        sqlstate,
        open: count(open),
        resolved: count(resolved),
        example,
    });
    let reasons: Vec<AsideReason> = reasons.collect();
    let newest = quarantine::newest(connection, run, u32::try_from(ROWS).unwrap_or(u32::MAX), 1).await?;
    let rows = newest.into_iter().map(|entry| AsideRow {
        step: entry.step,
        part: entry.part,
        key: entry.key,
        sqlstate: entry.sqlstate,
        message: entry.message.chars().take(LETTERS).collect(),
        at: entry.at,
    });
    Ok((reasons, rows.collect()))
}
