//! Reading runs for `status` and `report`: nothing is written, and no lock is taken.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::{open, runs};
use crate::postgres::error;
use crate::run::timer::Spent;
use crate::run::{Cause, Event, EventKind, Level, RunId, RunState, Snapshot};

/// A run as the ledger knows it.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// Its id.
    pub run: RunId,
    /// What is known of it, in the form that every reader of a run shares.
    pub snapshot: Snapshot,
    /// The word in the ledger: a [`RunState`]'s, or `superseded`.
    pub word: String,
    /// Whether a driver holds its lock at this moment.
    pub driven: bool,
    /// The process that drives it, or drove it last.
    pub pid: i32,
    /// Since the last heartbeat.
    pub heartbeat_age: Duration,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The newest runs, newest first.
///
/// # Errors
/// The ledger cannot be read.
pub async fn newest(connection: &mut PgConnection, most: i64) -> Result<Vec<RunRecord>, Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the ledger", &e);
    if !super::migrate::exists(connection).await.map_err(failed)? {
        return Ok(Vec::new());
    }
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM howdah.run ORDER BY created_at DESC LIMIT $1")
        .bind(most)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut records = Vec::new();
    for id in ids {
        records.push(one(connection, RunId(id)).await?);
    }
    Ok(records)
}

/// One run.
///
/// # Errors
/// The ledger cannot be read.
pub async fn one(connection: &mut PgConnection, run: RunId) -> Result<RunRecord, Cause> {
    read(connection, run).await.map_err(|e| error::cause("reading the ledger", &e))
}

/// As [`one`], with the driver's error.
pub(super) async fn read(connection: &mut PgConnection, run: RunId) -> Result<RunRecord, sqlx::Error> {
    let row = sqlx::query(
        "SELECT plan_name, state, detail, created_at, finished_at, worked_ms, paused_ms, waited, driver_host, driver_pid, \
                now() AS now, extract(epoch FROM now() - heartbeat)::float8 AS age_seconds FROM howdah.run WHERE id = $1",
    )
    .bind(run.0)
    .fetch_one(&mut *connection)
    .await?;
    let now: DateTime<Utc> = row.try_get("now")?;
    let mut snapshot = Snapshot::starting(now, run.short(), row.try_get("plan_name")?, row.try_get("driver_host")?);
    snapshot.state = state(&row)?;
    snapshot.started_at = Some(row.try_get("created_at")?);
    let ms = |name: &str| row.try_get::<i64, _>(name).map(|n| Duration::from_millis(n.max(0).cast_unsigned()));
    snapshot.spent = Spent { worked: ms("worked_ms")?, paused: ms("paused_ms")? };
    snapshot.pace.waited = open::waited(&row.try_get("waited")?);
    snapshot.steps = open::steps(connection, run).await?.into_iter().map(|step| step.view).collect();
    snapshot.events = events_after(connection, run, 0).await?.1;
    snapshot.resume_command = format!("howdah resume {}", run.short());
    snapshot.server = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut *connection).await?;
    let age: f64 = row.try_get("age_seconds")?;
    Ok(RunRecord {
        run,
        word: row.try_get("state")?,
        driven: runs::is_driven(connection, run).await?,
        pid: row.try_get("driver_pid")?,
        heartbeat_age: Duration::try_from_secs_f64(age).unwrap_or_default(),
        finished_at: row.try_get("finished_at")?,
        snapshot,
    })
}

/// The state of a run by its row: `state`, `detail`, `finished_at`. One that was superseded has ended for good, whatever its last
/// driver did not live to write.
pub(super) fn state(row: &PgRow) -> Result<RunState, sqlx::Error> {
    let detail: serde_json::Value = row.try_get("detail")?;
    let state: RunState = serde_json::from_value(detail).unwrap_or(RunState::Starting);
    let word: String = row.try_get("state")?;
    if word != "superseded" || state.is_over() {
        return Ok(state);
    }
    let at: Option<DateTime<Utc>> = row.try_get("finished_at")?;
    let cause = Cause::new("a newer run of this plan has taken its place");
    Ok(RunState::Failed { at: at.unwrap_or_default(), cause, resumable: false })
}

/// The newest events after the row `after`, at most a hundred, oldest first; and the number of the last row.
pub(super) async fn events_after(
    connection: &mut PgConnection,
    run: RunId,
    after: i64,
) -> Result<(i64, VecDeque<Event>), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, at, level, kind, text FROM (SELECT * FROM howdah.event WHERE run = $1 AND id > $2 \
             ORDER BY id DESC LIMIT 100) e ORDER BY id",
    )
    .bind(run.0)
    .bind(after)
    .fetch_all(connection)
    .await?;
    let newest = rows.last().map(|row| row.try_get("id")).transpose()?.unwrap_or(after);
    Ok((newest, rows.iter().map(event).collect::<Result<_, _>>()?))
}

/// The newest events, at most `most`, oldest first.
pub(super) async fn newest_events(
    connection: &mut PgConnection,
    run: RunId,
    most: usize,
) -> Result<Vec<Event>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT at, level, kind, text FROM (SELECT * FROM howdah.event WHERE run = $1 ORDER BY id DESC LIMIT $2) e \
         ORDER BY id",
    )
    .bind(run.0)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(event).collect()
}

fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
    let level: String = row.try_get("level")?;
    let kind: String = row.try_get("kind")?;
    Ok(Event {
        at: row.try_get("at")?,
        level: match level.as_str() {
            "warn" => Level::Warning,
            "crit" => Level::Critical,
            _ => Level::Info,
        },
        kind: serde_json::from_value(serde_json::Value::String(kind)).unwrap_or(EventKind::Notice),
        text: row.try_get("text")?,
    })
}
