//! The quarantine, read: the rows that steps have set aside, and why. And a run taken hold of to try them again.

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::open::{self, Driver};
use super::runs;
use crate::postgres::error;
use crate::postgres::record::AsideRow;
use crate::run::{Cause, KeyText, Level, RunId, StepIndex};

/// Which rows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of this run.
    pub run: RunId,
    /// Of this step of it. `None`: of all.
    pub step: Option<StepIndex>,
    /// Also those that are not set aside any more.
    pub resolved: bool,
    /// With the row itself, which may be large.
    pub with_row: bool,
}

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of its step. Not cleaned.
    pub step: String,
    /// The partition that it lies in, quoted. `None`: the step's table itself.
    pub part: Option<String>,
    /// Its key.
    pub key: KeyText,
    /// The error's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error in the server's words. Not cleaned.
    pub message: String,
    /// How often its change was tried.
    pub attempts: u32,
    /// When it failed last.
    pub at: DateTime<Utc>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The row as it was when it failed: JSON in the server's own text, whose numbers keep all their digits. `None` where
    /// it was not asked for, or could not be read.
    pub row: Option<String>,
}

/// How many rows of a run are set aside, and how many were and are not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Set aside now.
    pub open: u64,
    /// Resolved.
    pub resolved: u64,
}

fn failed(e: &sqlx::Error) -> Cause {
    error::cause("reading the quarantine", e)
}

/// Whether the ledger has a quarantine: one that an older howdah made has none until the next run.
///
/// # Errors
/// The ledger cannot be read.
pub async fn exists(connection: &mut PgConnection) -> Result<bool, Cause> {
    let exists = sqlx::query_scalar("SELECT to_regclass('howdah.quarantine') IS NOT NULL").fetch_one(connection).await;
    exists.map_err(|e| failed(&e))
}

/// The names of a run's steps, in order.
///
/// # Errors
/// The ledger cannot be read.
pub async fn steps(connection: &mut PgConnection, run: RunId) -> Result<Vec<String>, Cause> {
    let names = sqlx::query_scalar("SELECT name FROM howdah.step WHERE run = $1 ORDER BY step").bind(run.0);
    names.fetch_all(connection).await.map_err(|e| failed(&e))
}

/// Counts the rows of a run, or of one step of it.
///
/// # Errors
/// The ledger cannot be read.
pub async fn count(connection: &mut PgConnection, run: RunId, step: Option<StepIndex>) -> Result<Counts, Cause> {
    let counts: Result<(i64, i64), _> = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE resolved_at IS NULL), count(*) FILTER (WHERE resolved_at IS NOT NULL) \
         FROM howdah.quarantine WHERE run = $1 AND ($2::int4 IS NULL OR step = $2)",
    )
    .bind(run.0)
    .bind(number(step))
    .fetch_one(connection)
    .await;
    let (open, resolved) = counts.map_err(|e| failed(&e))?;
    Ok(Counts { open: open.max(0).cast_unsigned(), resolved: resolved.max(0).cast_unsigned() })
}

/// The rows, by step, partition and key, shorter keys first: whole numbers come in their order. They come one by one:
/// memory does not grow with their number.
pub fn entries(connection: &mut PgConnection, wanted: Wanted) -> BoxStream<'_, Result<Entry, Cause>> {
    sqlx::query(
        "SELECT s.name, q.part, q.key, q.sqlstate, q.message, q.attempts, q.at, q.resolved_at, \
                CASE WHEN $4 THEN q.row_data::text END AS row \
         FROM howdah.quarantine q JOIN howdah.step s USING (run, step) \
         WHERE q.run = $1 AND ($2::int4 IS NULL OR q.step = $2) AND ($3 OR q.resolved_at IS NULL) \
         ORDER BY q.step, q.part, length(q.key[1]), q.key",
    )
    .bind(wanted.run.0)
    .bind(number(wanted.step))
    .bind(wanted.resolved)
    .bind(wanted.with_row)
    .fetch(connection)
    .map(|row| row.and_then(|row| entry(&row)).map_err(|e| failed(&e)))
    .boxed()
}

fn entry(row: &PgRow) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        step: row.try_get("name")?,
        part: part(row.try_get("part")?),
        key: row.try_get("key")?,
        sqlstate: row.try_get("sqlstate")?,
        message: row.try_get("message")?,
        attempts: row.try_get::<i32, _>("attempts")?.max(0).cast_unsigned(),
        at: row.try_get("at")?,
        resolved_at: row.try_get("resolved_at")?,
        row: row.try_get("row")?,
    })
}

/// How the quarantine of a run stands: where it has not changed, its rows need not be read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// How many rows there are.
    pub counts: Counts,
    /// When a row was set aside last.
    pub at: Option<DateTime<Utc>>,
    /// When one was resolved last.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// How the quarantine of a run stands. `None`: the ledger has no quarantine yet.
///
/// # Errors
/// The driver's error.
pub async fn standing(connection: &mut PgConnection, run: RunId) -> Result<Option<Standing>, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('howdah.quarantine') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    let (open, resolved, at, resolved_at): (i64, i64, _, _) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE resolved_at IS NULL), count(*) FILTER (WHERE resolved_at IS NOT NULL), \
                max(at), max(resolved_at) FROM howdah.quarantine WHERE run = $1",
    )
    .bind(run.0)
    .fetch_one(connection)
    .await?;
    let counts = Counts { open: open.max(0).cast_unsigned(), resolved: resolved.max(0).cast_unsigned() };
    Ok(Some(Standing { counts, at, resolved_at }))
}

/// At most `most` rows of a run, those that were set aside last first, resolved ones as well; each row indented, and cut to
/// `letters`.
///
/// # Errors
/// The driver's error.
pub async fn newest(
    connection: &mut PgConnection,
    run: RunId,
    most: u32,
    letters: u32,
) -> Result<Vec<Entry>, sqlx::Error> {
    // The rows are chosen first, so that only theirs are unpacked.
    let rows = sqlx::query(
        "WITH newest AS MATERIALIZED (SELECT step, part, key, at FROM howdah.quarantine WHERE run = $1 \
             ORDER BY at DESC, step, part, key LIMIT $2) \
         SELECT s.name, q.part, q.key, q.sqlstate, q.message, q.attempts, q.at, q.resolved_at, \
                CASE WHEN length(pretty) > $3 THEN left(pretty, $3 - 1) || '…' ELSE pretty END AS row \
         FROM newest n JOIN howdah.quarantine q ON q.run = $1 AND (q.step, q.part, q.key) = (n.step, n.part, n.key) \
         JOIN howdah.step s ON s.run = $1 AND s.step = q.step \
         CROSS JOIN LATERAL (SELECT jsonb_pretty(q.row_data) AS pretty) p \
         ORDER BY q.at DESC, q.step, q.part, q.key",
    )
    .bind(run.0)
    .bind(i64::from(most))
    .bind(i32::try_from(letters).unwrap_or(i32::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(entry).collect()
}

fn part(kept: String) -> Option<String> {
    Some(kept).filter(|part| !part.is_empty())
}

fn number(step: Option<StepIndex>) -> Option<i32> {
    step.map(|step| i32::try_from(step.0).unwrap_or(i32::MAX))
}

/// At most `most` of the rows that are set aside, behind `after` in the order of step, partition and key. Whoever goes on
/// from the last one meets each row once, whatever becomes of it meanwhile.
///
/// # Errors
/// The ledger cannot be read.
pub async fn page(
    connection: &mut PgConnection,
    wanted: Wanted,
    after: Option<&AsideRow>,
    most: u32,
) -> Result<Vec<AsideRow>, Cause> {
    let rows = sqlx::query(
        "SELECT step, part, key FROM howdah.quarantine \
         WHERE run = $1 AND resolved_at IS NULL AND ($2::int4 IS NULL OR step = $2) \
           AND ($3::int4 IS NULL OR (step, part, key) > ($3, $4, $5)) ORDER BY step, part, key LIMIT $6",
    )
    .bind(wanted.run.0)
    .bind(number(wanted.step))
    .bind(number(after.map(|row| row.step)))
    .bind(after.map(|row| row.part.as_deref().unwrap_or_default()))
    .bind(after.map(|row| &row.key))
    .bind(i64::from(most))
    .fetch_all(connection)
    .await;
    let read = |row: &PgRow| {
        let step: i32 = row.try_get("step")?;
        let step = StepIndex(step.max(0).cast_unsigned());
        Ok(AsideRow { step, part: part(row.try_get("part")?), key: row.try_get("key")? })
    };
    rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|e| failed(&e))
}

/// Takes hold of a run to try its rows again, whether it has ended or stands still. `connection` must do all of the work:
/// its session holds the run's lock, and with that no driver takes the run over before the last transaction of this
/// session has ended, even where this process is killed and its backend is still at work.
///
/// Returns the epoch to write under. It is not raised: a driver that was cut off from its lock, but lives, is ahead of the
/// rows that it has set aside, and needs no fence.
///
/// # Errors
/// Somebody drives it: host, pid and age of the heartbeat. A newer run has taken its place. It takes another run back, or
/// was taken back itself, so far as the rows of `step` go.
pub async fn take(
    connection: &mut PgConnection,
    run: RunId,
    step: Option<StepIndex>,
    driver: &Driver,
) -> Result<i64, Cause> {
    let failed = |e: sqlx::Error| error::cause("taking hold of the run", &e);
    let locked = runs::try_lock(connection, run).await.map_err(failed)?;
    let row = sqlx::query(
        "SELECT plan_name, driver_host, driver_pid, extract(epoch FROM now() - heartbeat)::float8 AS age_seconds, \
                undoes, (SELECT u.id FROM howdah.run u WHERE u.undoes = r.id AND (u.undo_step IS NULL OR EXISTS \
                    (SELECT FROM howdah.step s JOIN howdah.quarantine q USING (run, step) WHERE s.run = r.id \
                     AND s.name = u.undo_step AND q.resolved_at IS NULL AND ($2::int4 IS NULL OR q.step = $2))) \
                 ORDER BY u.created_at DESC LIMIT 1) AS undone_by \
         FROM howdah.run r WHERE id = $1",
    )
    .bind(run.0)
    .bind(number(step))
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let name: String = row.try_get("plan_name").map_err(failed)?;
    if !locked {
        return Err(open::driven(&name, run, &row));
    }
    if let Some(undone) = row.try_get::<Option<uuid::Uuid>, _>("undoes").map_err(failed)? {
        return Err(Cause::usage(format!(
            "run {} takes run {} back: the rows that it has kept are as somebody has made them since, and not wrong",
            run.short(),
            RunId(undone).short()
        ))
        .hint(format!("look at them: howdah quarantine list {}", run.short())));
    }
    if let Some(undo) = row.try_get::<Option<uuid::Uuid>, _>("undone_by").map_err(failed)? {
        return Err(Cause::usage(format!(
            "run {} of `{name}` is taken back by run {}: to change more of its rows would be against that",
            run.short(),
            RunId(undo).short()
        ))
        .hint("to change them after all, begin a new run: howdah run PLAN --new"));
    }
    // Waits for a `run --new` that is about to put another run in the place of this one, and sees it.
    let epoch: Option<i64> = sqlx::query_scalar(
        "UPDATE howdah.run SET driver_host = $2, driver_pid = $3, heartbeat = now() \
         WHERE id = $1 AND state <> 'superseded' RETURNING epoch",
    )
    .bind(run.0)
    .bind(&driver.host)
    .bind(i32::try_from(driver.pid).unwrap_or(0))
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    epoch.ok_or_else(|| {
        Cause::usage(format!("run {} of `{name}` is superseded: a newer run has begun from the first row", run.short()))
            .hint("what is wrong with its rows, the newer run finds as well: howdah status")
    })
}

/// Writes an event of the run, durably: with it everything that was committed before it.
///
/// # Errors
/// The ledger cannot be written.
pub async fn note(connection: &mut PgConnection, run: RunId, level: Level, text: &str) -> Result<(), Cause> {
    let write = async {
        let mut tx = sqlx::Connection::begin_with(connection, crate::postgres::session::DURABLE).await?;
        sqlx::query("INSERT INTO howdah.event (run, at, level, kind, text) VALUES ($1, now(), $2, $3, $4)")
            .bind(run.0)
            .bind(level.word().to_lowercase())
            .bind(crate::run::EventKind::Quarantined.name())
            .bind(text)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    };
    write.await.map_err(|e| error::cause("writing an event", &e))
}
