//! Runs as they are named, and how they stand to drivers and to each other. Nothing is written.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId};

/// Whether a run is done, or can never go on.
///
/// # Errors
/// The driver's error.
pub async fn is_ended(connection: &mut PgConnection, run: RunId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT state IN ('done', 'superseded') FROM howdah.run WHERE id = $1")
        .bind(run.0)
        .fetch_one(connection)
        .await
}

/// Where a run stands, by its word. `None`: there is no such run, or no ledger yet.
///
/// # Errors
/// The driver's error.
pub async fn state(connection: &mut PgConnection, run: RunId) -> Result<Option<String>, sqlx::Error> {
    if !super::migrate::exists(connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT state FROM howdah.run WHERE id = $1").bind(run.0).fetch_optional(connection).await
}

/// The newest run that does not itself take another back.
///
/// # Errors
/// There is none.
pub async fn newest_of_a_plan(connection: &mut PgConnection) -> Result<RunId, Cause> {
    let failed = |e: sqlx::Error| error::cause("looking the run up", &e);
    let found: Option<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM howdah.run WHERE undoes IS NULL ORDER BY created_at DESC LIMIT 1")
            .fetch_optional(connection)
            .await
            .map_err(failed)?;
    found.map(RunId).ok_or_else(|| Cause::usage("there is no run here to take back").hint("list them: howdah status"))
}

/// What a run takes back: another run, and the one step of it where not all are meant.
///
/// # Errors
/// The driver's error.
pub async fn undoes(connection: &mut PgConnection, run: RunId) -> Result<Option<(RunId, Option<String>)>, sqlx::Error> {
    let row =
        sqlx::query("SELECT undoes, undo_step FROM howdah.run WHERE id = $1").bind(run.0).fetch_one(connection).await?;
    let undone: Option<uuid::Uuid> = row.try_get("undoes")?;
    let step: Option<String> = row.try_get("undo_step")?;
    Ok(undone.map(|undone| (RunId(undone), step)))
}

/// The runs that take `run` back, or have: id, state, and the one step of it where not all are meant. The newest first.
///
/// # Errors
/// The driver's error.
pub async fn undone_by(
    connection: &mut PgConnection,
    run: RunId,
) -> Result<Vec<(RunId, String, Option<String>)>, sqlx::Error> {
    let rows: Vec<(uuid::Uuid, String, Option<String>)> = sqlx::query_as(
        "SELECT id, state, undo_step FROM howdah.run WHERE undoes = $1 AND state <> 'superseded' \
         ORDER BY created_at DESC",
    )
    .bind(run.0)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(id, state, step)| (RunId(id), state, step)).collect())
}

/// The run that a person means. Without a name: the newest one that has not ended well.
///
/// # Errors
/// None, or several, of that name.
pub async fn find(connection: &mut PgConnection, named: Option<&RunRef>, unfinished: bool) -> Result<RunId, Cause> {
    let failed = |e: sqlx::Error| error::cause("looking the run up", &e);
    if !super::migrate::exists(connection).await.map_err(failed)? {
        return Err(Cause::usage("there is no run in this database: it has no schema howdah")
            .hint("is it the right database? --database, DATABASE_URL and PG* say which one is asked")
            .hint("a run whose ledger lies on Redis is found by --redis URL, or by its plan: --plan PLAN"));
    }
    let (id, suffix) = match named {
        Some(RunRef::Full(id)) => (Some(id.0), None),
        Some(RunRef::Suffix(text)) => (None, Some(format!("%{text}"))),
        None => (None, None),
    };
    let found: Vec<uuid::Uuid> = sqlx::query_scalar(
        "SELECT id FROM howdah.run WHERE ($1::uuid IS NULL OR id = $1) \
         AND ($2::text IS NULL OR replace(id::text, '-', '') LIKE $2) \
         AND (NOT $3 OR state NOT IN ('done', 'superseded')) ORDER BY created_at DESC LIMIT 10",
    )
    .bind(id)
    .bind(suffix)
    .bind(named.is_none() && unfinished)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    match (found.as_slice(), named) {
        ([], Some(_)) => Err(Cause::usage("there is no such run in this database").hint("list them: howdah status")),
        ([], None) => Err(Cause::usage("there is no run here that fits").hint("list them: howdah status")),
        ([first, ..], None) | ([first], Some(_)) => Ok(RunId(*first)),
        ([first, second, ..], Some(_)) => {
            Err(Cause::usage(format!("several runs end like that: {} and {}", RunId(*first), RunId(*second)))
                .hint("give more of the id"))
        }
    }
}

/// A run that changes a table which another one wants to change.
#[derive(Debug, Clone)]
pub struct InTheWay {
    /// The run.
    pub run: RunId,
    /// Its name.
    pub plan: String,
    /// The table, quoted.
    pub table: String,
    /// The host that drives it.
    pub host: String,
    /// The process that drives it.
    pub pid: i32,
}

/// Lets those who begin or take over a run in this database look one after the other, until the transaction ends: each sees
/// what the one before it has taken.
///
/// # Errors
/// The driver's error.
pub async fn line_up(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('howdah tables', 0))").execute(tx).await.map(drop)
}

/// Another run that is driven now and changes one of these tables; not one of `but`, and not one of `name`. One whose lock is
/// lost for a moment, with its connection, counts as driven as long as its heartbeat is fresh.
///
/// # Errors
/// The driver's error.
pub async fn in_the_way(
    connection: &mut PgConnection,
    tables: &[String],
    but: &[uuid::Uuid],
    name: Option<&str>,
) -> Result<Option<InTheWay>, sqlx::Error> {
    if tables.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT r.id, r.plan_name, (SELECT min(t) FROM unnest(r.tables) t WHERE t = ANY ($2)), r.driver_host, r.driver_pid \
         FROM howdah.run r WHERE r.id <> ALL ($1) AND r.tables && $2 AND r.plan_name IS DISTINCT FROM $3 \
         AND r.state NOT IN ('done', 'superseded') AND (EXISTS (SELECT FROM pg_locks l WHERE {HOLDS} {OF_RUN}) \
              OR r.state NOT IN ('stopped', 'failed') AND r.heartbeat > now() - interval '10 seconds') \
         ORDER BY r.created_at LIMIT 1"
    );
    let found: Option<(uuid::Uuid, String, String, String, i32)> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(but).bind(tables).bind(name).fetch_optional(connection).await?;
    Ok(found.map(|(id, plan, table, host, pid)| InTheWay { run: RunId(id), plan, table, host, pid }))
}

/// Cuts off whoever still walks one of these tables without a lock: runs that are not driven and not ended, and that may not know
/// it. They can be resumed; what their former drivers commit is refused. Not those of `but`.
///
/// # Errors
/// The driver's error.
pub async fn cut_off(tx: &mut PgConnection, tables: &[String], but: &[uuid::Uuid]) -> Result<(), sqlx::Error> {
    let cut: Vec<uuid::Uuid> = sqlx::query_scalar(
        "UPDATE howdah.run SET epoch = epoch + 1 \
         WHERE id <> ALL ($1) AND tables && $2 AND state NOT IN ('done', 'superseded') RETURNING id",
    )
    .bind(but)
    .bind(tables)
    .fetch_all(&mut *tx)
    .await?;
    if cut.is_empty() {
        return Ok(());
    }
    for sql in [
        "UPDATE howdah.step SET epoch = epoch + 1 WHERE run = ANY ($1)",
        "UPDATE howdah.segment SET epoch = 0 WHERE run = ANY ($1) AND NOT done",
    ] {
        sqlx::query(sql).bind(&cut).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The newest run with this short id. `None`: there is none, or no ledger yet.
///
/// # Errors
/// The driver's error.
pub async fn by_short_id(connection: &mut PgConnection, short: &str) -> Result<Option<RunId>, sqlx::Error> {
    if !super::migrate::exists(connection).await? {
        return Ok(None);
    }
    let found: Option<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM howdah.run WHERE right(id::text, 8) = $1 ORDER BY created_at DESC LIMIT 1")
            .bind(short)
            .fetch_optional(connection)
            .await?;
    Ok(found.map(RunId))
}

/// What a row `l` of `pg_locks` is when some session of this database holds the lock on a run: the key, as SQL, follows.
pub(super) const HOLDS: &str = "l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND ((l.classid::int8 << 32) | l.objid::int8) =";

/// [`RunId::advisory_key`] of the run in row `r`, as SQL.
pub(super) const OF_RUN: &str = "('x' || right(replace(r.id::text, '-', ''), 16))::bit(64)::int8";

/// Takes the lock on a run for this session. `false`: another one has it.
///
/// # Errors
/// The driver's error.
pub async fn try_lock(connection: &mut PgConnection, run: RunId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(run.advisory_key()).fetch_one(connection).await
}

/// Ends the backend `pid`, where its session holds the lock on a run: nobody else's is touched.
///
/// # Errors
/// The driver's error.
pub async fn end_holder(connection: &mut PgConnection, run: RunId, pid: Option<i32>) -> Result<(), sqlx::Error> {
    let sql = format!("SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE {HOLDS} $1 AND l.pid = $2");
    sqlx::query(AssertSqlSafe(sql)).bind(run.advisory_key()).bind(pid).execute(connection).await.map(drop)
}

/// Whether some session holds the lock on a run. Takes no lock itself.
///
/// # Errors
/// The driver's error.
pub async fn is_driven(connection: &mut PgConnection, run: RunId) -> Result<bool, sqlx::Error> {
    let sql = format!("SELECT EXISTS (SELECT FROM pg_locks l WHERE {HOLDS} $1)");
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(run.advisory_key()).fetch_one(connection).await
}
