//! The server's statistics views.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// One row of `pg_stat_user_tables`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// `schema.table`, or only `table` in schema `public`.
    pub name: String,
    /// The table's object id.
    pub oid: i64,
    /// `n_live_tup`.
    pub live: u64,
    /// `n_dead_tup`.
    pub dead: u64,
    /// `n_tup_ins` since the statistics were reset.
    pub inserted: u64,
    /// `n_tup_upd`.
    pub updated: u64,
    /// `n_tup_hot_upd`.
    pub hot: u64,
    /// `n_tup_del`.
    pub deleted: u64,
    /// The newer of `last_vacuum` and `last_autovacuum`.
    pub last_vacuum: Option<DateTime<Utc>>,
    /// Whether autovacuum was the newer.
    pub last_vacuum_was_auto: bool,
}

/// The statistics of the tables in `plan` first, in that order, then of the busiest others, `most` in all.
///
/// howdah's own tables are left out.
///
/// # Errors
/// The driver's error.
pub async fn tables(connection: &mut PgConnection, plan: &[i64], most: i64) -> Result<Vec<TableRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CASE schemaname WHEN 'public' THEN relname::text ELSE schemaname || '.' || relname END AS name, \
                relid::int8 AS oid, n_live_tup AS live, n_dead_tup AS dead, n_tup_ins AS inserted, \
                n_tup_upd AS updated, n_tup_hot_upd AS hot, n_tup_del AS deleted, greatest(last_vacuum, last_autovacuum) AS last_vacuum, \
                coalesce(last_autovacuum >= coalesce(last_vacuum, '-infinity'), false) AS was_auto \
         FROM pg_stat_user_tables WHERE schemaname <> 'howdah' AND left(schemaname::text, 8) <> 'pg_temp_' \
         ORDER BY array_position($1::int8[], relid::int8) NULLS LAST, \
                  n_tup_ins + n_tup_upd + n_tup_del DESC, relid LIMIT $2",
    )
    .bind(plan)
    .bind(most)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<TableRow, sqlx::Error> {
    let counter = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    Ok(TableRow {
        name: row.try_get("name")?,
        oid: row.try_get("oid")?,
        live: counter("live")?,
        dead: counter("dead")?,
        inserted: counter("inserted")?,
        updated: counter("updated")?,
        hot: counter("hot")?,
        deleted: counter("deleted")?,
        last_vacuum: row.try_get("last_vacuum")?,
        last_vacuum_was_auto: row.try_get("was_auto")?,
    })
}

/// The size of the database on disk, in bytes.
///
/// # Errors
/// The driver's error.
pub async fn database_size(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let size: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(connection).await?;
    Ok(size.max(0).cast_unsigned())
}

/// What `pg_stat_progress_create_index` tells of a backend that builds an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexProgress {
    /// The phase, in the server's words.
    pub phase: String,
    /// Share of the phase that is done, 0 to 1, where the phase counts anything.
    pub fraction: Option<f64>,
}

/// The progress of the index that backend `pid` builds, if it builds one.
///
/// # Errors
/// The driver's error.
pub async fn index_progress(connection: &mut PgConnection, pid: i32) -> Result<Option<IndexProgress>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT phase::text AS phase, CASE WHEN blocks_total > 0 THEN blocks_done::float8 / blocks_total \
                WHEN tuples_total > 0 THEN tuples_done::float8 / tuples_total \
                WHEN lockers_total > 0 THEN lockers_done::float8 / lockers_total END AS fraction \
         FROM pg_stat_progress_create_index WHERE pid = $1",
    )
    .bind(pid)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(IndexProgress {
            phase: row.try_get("phase")?,
            fraction: row.try_get::<Option<f64>, _>("fraction")?.map(|share| share.clamp(0.0, 1.0)),
        })
    })
    .transpose()
}

/// Sessions that wait for a lock, each with one of `backends` that holds it or stands before it: (waiter, backend).
/// `backends` themselves are left out: they wait for each other at most for the time of a batch.
///
/// # Errors
/// The driver's error.
pub async fn waiting_for(connection: &mut PgConnection, backends: &[i32]) -> Result<Vec<(i32, i32)>, sqlx::Error> {
    // `pg_blocking_pids` stops the lock manager for a moment: it is asked only of sessions that wait for a lock.
    sqlx::query_as(
        "SELECT w.pid, b.pid FROM pg_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b(pid) \
         WHERE w.wait_event_type = 'Lock' AND w.pid <> ALL ($1) AND b.pid = ANY ($1)",
    )
    .bind(backends)
    .fetch_all(connection)
    .await
}

/// Whether backend `pid` is there and in the middle of a statement.
///
/// # Errors
/// The driver's error.
pub async fn is_at_work(connection: &mut PgConnection, pid: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state NOT LIKE 'idle%')")
        .bind(pid)
        .fetch_one(connection)
        .await
}

/// Asks the server to cancel what backend `pid` is doing.
///
/// # Errors
/// The driver's error.
pub async fn cancel(connection: &mut PgConnection, pid: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(connection).await.map(drop)
}
