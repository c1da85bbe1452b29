//! The record of what operators asked for, and the way by which they ask from elsewhere.
//!
//! A console or a command line elsewhere writes a row and tells the driver by `NOTIFY`; the driver answers in the same row, and
//! tells back. What was asked for in the driver's own process is written when it is answered.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::postgres::deadline::on_pool;
use crate::postgres::error;
use crate::run::{Answered, Asker, Cause, Command, Request, RunId};

/// The channel on which a run's driver hears of commands.
#[must_use]
pub fn channel(run: RunId) -> String {
    format!("howdah_command_{}", run.0.simple())
}

/// How a command stands in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No driver has heard of it.
    Asked,
    /// A driver has, and has not answered.
    Heard,
    /// It is answered: whether it was taken, and what came of it. Not cleaned.
    Answered(bool, String),
}

/// Writes down what was asked for, and wakes the driver. Returns the number of the row.
///
/// # Errors
/// The driver's error.
pub async fn ask(connection: &mut PgConnection, run: RunId, request: &Request) -> Result<i64, sqlx::Error> {
    let json = serde_json::to_value(&request.command).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    sqlx::query_scalar(
        "WITH asked AS (INSERT INTO howdah.command (run, command, words, via, who, client) \
                        VALUES ($1, $2, $3, $4, $5, coalesce(host(inet_client_addr()), 'local')) RETURNING id) \
         SELECT id FROM asked, pg_notify($6, '')",
    )
    .bind(run.0)
    .bind(json)
    .bind(request.command.words())
    .bind(request.by.word())
    .bind(request.who.replace('\0', ""))
    .bind(channel(run))
    .fetch_one(connection)
    .await
}

/// What came of a command.
///
/// # Errors
/// The driver's error.
pub async fn look(connection: &mut PgConnection, id: i64) -> Result<Standing, sqlx::Error> {
    let row = sqlx::query("SELECT state, coalesce(outcome, '') AS outcome FROM howdah.command WHERE id = $1")
        .bind(id)
        .fetch_one(connection)
        .await?;
    let state: String = row.try_get("state")?;
    Ok(match state.as_str() {
        "asked" => Standing::Asked,
        "heard" => Standing::Heard,
        state => Standing::Answered(state == "taken", row.try_get("outcome")?),
    })
}

/// Takes a command back that no driver has heard of. `false`: one has, meanwhile.
///
/// # Errors
/// The driver's error.
pub async fn withdraw(connection: &mut PgConnection, id: i64, why: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE howdah.command SET state = 'refused', outcome = $2, applied_at = now() WHERE id = $1 AND state = 'asked'",
    )
    .bind(id)
    .bind(why)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How long a command may have waited for its driver: whoever asked has long given up.
const STALE_SECONDS: i32 = 30;
/// The longest command that is heard, in bytes of its JSON.
const LONGEST: i32 = 4096;

/// Takes what was asked for and is not answered, oldest first: each is `heard` from then on, and nobody can withdraw it. What
/// came too late, and what this version does not understand, is refused. `delivered`: the commands that were taken
/// before; others that were heard are told again, since an answer of the server may have been lost. A driver that was replaced gets nothing.
///
/// # Errors
/// The driver's error.
pub async fn claim(
    connection: &mut PgConnection,
    run: RunId,
    epoch: i64,
    delivered: &[i64],
) -> Result<Vec<Request>, sqlx::Error> {
    let rows = sqlx::query(
        "WITH due AS ( \
             SELECT c.id, octet_length(c.command::text) > $4 OR c.asked_at < clock_timestamp() - make_interval(secs => $5) AS late \
             FROM howdah.command c JOIN howdah.run r ON r.id = c.run AND r.epoch = $2 \
             WHERE c.run = $1 AND (c.state = 'asked' OR c.state = 'heard' AND c.id <> ALL ($3)) \
             ORDER BY c.id LIMIT 50 FOR UPDATE OF c) \
         UPDATE howdah.command c SET state = CASE WHEN due.late THEN 'refused' ELSE 'heard' END, \
                outcome = CASE WHEN due.late THEN 'its driver did not hear of it in time' END, \
                applied_at = CASE WHEN due.late THEN clock_timestamp() END \
         FROM due WHERE c.id = due.id RETURNING c.id, c.command, c.via, left(c.who, 200) AS who, due.late",
    )
    .bind(run.0)
    .bind(epoch)
    .bind(delivered)
    .bind(LONGEST)
    .bind(f64::from(STALE_SECONDS))
    .fetch_all(&mut *connection)
    .await?;
    let mut requests = Vec::new();
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        if row.try_get("late")? {
            continue;
        }
        match read(row, id) {
            Some(request) => requests.push(request),
            None => refuse(connection, id, "the driver's version of howdah does not know that command").await?,
        }
    }
    requests.sort_by_key(|request| request.id);
    Ok(requests)
}

fn read(row: &PgRow, id: i64) -> Option<Request> {
    let command: Command = serde_json::from_value(row.try_get("command").ok()?)
        .map_err(|e| tracing::warn!(id, "a command that cannot be read: {e}"))
        .ok()?;
    let via: String = row.try_get("via").ok()?;
    let by = if via == Asker::Attached.word() { Asker::Attached } else { Asker::Script };
    Some(Request { id: Some(id), command, by, who: row.try_get("who").ok()? })
}

async fn refuse(connection: &mut PgConnection, id: i64, why: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE howdah.command SET state = 'refused', outcome = $2, applied_at = clock_timestamp() WHERE id = $1",
    )
    .bind(id)
    .bind(why)
    .execute(connection)
    .await
    .map(drop)
}

/// Refuses what was asked of a driver that is gone: who takes a run over does not want its orders.
///
/// # Errors
/// The driver's error.
pub async fn refuse_old(connection: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE howdah.command SET state = 'refused', outcome = 'its driver was gone', applied_at = clock_timestamp() \
         WHERE run = $1 AND state IN ('asked', 'heard')",
    )
    .bind(run.0)
    .execute(connection)
    .await
    .map(drop)
}

/// Writes down what came of a request, and tells whoever waits for it.
///
/// # Errors
/// The driver's error.
pub async fn answer(connection: &mut PgConnection, run: RunId, answered: &Answered) -> Result<(), sqlx::Error> {
    let state = if answered.taken { "taken" } else { "refused" };
    let outcome = answered.outcome.replace('\0', "");
    if let Some(id) = answered.id {
        return sqlx::query(
            "UPDATE howdah.command SET state = $2, outcome = $3, applied_at = $4 WHERE id = $1 AND state IN ('asked', 'heard')",
        )
            .bind(id)
            .bind(state)
            .bind(outcome)
            .bind(answered.at)
            .execute(connection)
            .await
            .map(drop);
    }
    let json = serde_json::to_value(&answered.command).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    sqlx::query(
        "INSERT INTO howdah.command (run, command, words, via, who, asked_at, state, outcome, applied_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $6)",
    )
    .bind(run.0)
    .bind(json)
    .bind(answered.command.words())
    .bind(answered.by.word())
    .bind(answered.who.replace('\0', ""))
    .bind(answered.at)
    .bind(state)
    .bind(outcome)
    .execute(connection)
    .await
    .map(drop)
}

/// How long the server may take to be asked for something.
const ERRAND: Duration = Duration::from_secs(10);

/// Asks the server to cancel or end a session, by a connection of a run's pool. Returns what came of it.
///
/// # Errors
/// The server does not answer, or the role may not, as a rule.
pub async fn errand_by(pool: &PgPool, command: &Command) -> Result<String, Cause> {
    let asked = on_pool(pool, ERRAND, async |connection| errand(connection, command).await).await;
    asked.map_err(|e| error::cause("asking the server", &e))
}

/// Asks the server to cancel or end a session.
///
/// # Errors
/// The driver's error: it may not, as a rule.
pub async fn errand(connection: &mut PgConnection, command: &Command) -> Result<String, sqlx::Error> {
    let (asked, pid, started, done) = match command {
        Command::CancelSession(pid, started) => ("pg_cancel_backend", *pid, *started, "asked to cancel its statement"),
        Command::TerminateSession(pid, started) => ("pg_terminate_backend", *pid, *started, "asked to end"),
        _ => return Ok("nothing to do".to_owned()),
    };
    let sql = format!(
        "SELECT {asked}(pid) FROM pg_stat_activity WHERE pid = $1 AND ($2::timestamptz IS NULL OR backend_start = $2)"
    );
    let there: Option<bool> =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(pid).bind(started).fetch_optional(connection).await?;
    Ok(if there == Some(true) {
        format!("session {pid} was {done}")
    } else {
        format!("there is no session {pid} any more")
    })
}
