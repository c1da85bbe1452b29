//! The server's statistics views.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

/// What the statistics tell of a table.
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
    /// The vacuum that works on it: the phase, and the share of the heap that is scanned or cleaned, 0 to 1.
    pub vacuum: Option<(String, Option<f64>)>,
}

/// Which tables to look at: those in `plan`, in that order, then the busiest others, `most` in all.
///
/// howdah's own tables are left out. It reads the counters of every table of the database: about 3 ms for 2,000 tables.
///
/// # Errors
/// The driver's error.
pub async fn busiest(connection: &mut PgConnection, plan: &[i64], most: i64) -> Result<(Vec<i64>, i64), sqlx::Error> {
    // Not `pg_stat_user_tables`: that view also adds up the counters of every index.
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT c.oid::int8, count(*) OVER () FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('howdah', 'pg_catalog', 'information_schema') \
           AND n.nspname !~ '^pg_(toast|temp_)' \
         ORDER BY array_position($1::int8[], c.oid::int8) NULLS LAST, \
                  pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid) DESC, \
                  c.oid LIMIT $2",
    )
    .bind(plan)
    .bind(most)
    .fetch_all(connection)
    .await?;
    let all = rows.first().map_or(0, |(_, all)| *all);
    Ok((rows.into_iter().map(|(oid, _)| oid).collect(), all))
}

/// The statistics of the tables with these object ids, in that order. Those that are gone are left out.
///
/// About 0.3 ms for 50 tables, however many the database has.
///
/// # Errors
/// The driver's error.
pub async fn tables(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<TableRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CASE n.nspname WHEN 'public' THEN c.relname::text ELSE n.nspname || '.' || c.relname END AS name, w.oid, \
                pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead, \
                pg_stat_get_tuples_inserted(c.oid) AS inserted, pg_stat_get_tuples_updated(c.oid) AS updated, \
                pg_stat_get_tuples_hot_updated(c.oid) AS hot, pg_stat_get_tuples_deleted(c.oid) AS deleted, \
                greatest(at.by_hand, at.by_auto) AS last_vacuum, \
                coalesce(at.by_auto >= coalesce(at.by_hand, '-infinity'), false) AS was_auto, v.phase, \
                CASE WHEN v.heap_blks_total > 0 THEN CASE v.phase WHEN 'vacuuming heap' THEN v.heap_blks_vacuumed \
                    ELSE v.heap_blks_scanned END::float8 / v.heap_blks_total END AS fraction \
         FROM unnest($1::int8[]) WITH ORDINALITY w (oid, place) \
         JOIN pg_class c ON c.oid = w.oid::oid JOIN pg_namespace n ON n.oid = c.relnamespace \
         CROSS JOIN LATERAL (SELECT pg_stat_get_last_vacuum_time(c.oid) AS by_hand, \
                                    pg_stat_get_last_autovacuum_time(c.oid) AS by_auto) at \
         LEFT JOIN pg_stat_progress_vacuum v ON v.relid = c.oid AND v.datname = current_database() \
         ORDER BY w.place",
    )
    .bind(oids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<TableRow, sqlx::Error> {
    let counter = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    let vacuum = row.try_get::<Option<String>, _>("phase")?;
    let fraction = row.try_get::<Option<f64>, _>("fraction")?.map(|share| share.clamp(0.0, 1.0));
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
        vacuum: vacuum.map(|phase| (phase, fraction)),
    })
}

/// How large a table is on disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    /// The table's object id.
    pub oid: i64,
    /// The table with its TOAST.
    pub heap: i64,
    /// Its indexes.
    pub indexes: i64,
}

/// The sizes of tables. A table that is held, or waited for, by whoever rebuilds or drops it or one of its indexes is left
/// out: its size could only be had by waiting.
///
/// It looks every file up: about 0.1 ms a table. It waits neither for locks nor for a slow disk.
///
/// # Errors
/// The driver's error; a lock that came in between as well.
pub async fn sizes(connection: &mut PgConnection, oids: &[i64]) -> Result<Vec<TableSize>, sqlx::Error> {
    let mut tx = connection.begin_with(BRIEFLY).await?;
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "WITH shut AS MATERIALIZED (SELECT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
         SELECT w.oid, coalesce(pg_table_size(c.oid), 0) AS heap, coalesce(pg_indexes_size(c.oid), 0) AS indexes \
         FROM unnest($1::int8[]) w (oid) JOIN pg_class c ON c.oid = w.oid::oid \
         WHERE NOT EXISTS (SELECT FROM shut WHERE relation IN (c.oid, c.reltoastrelid)) AND NOT EXISTS \
             (SELECT FROM pg_index i JOIN shut ON shut.relation = i.indexrelid WHERE i.indrelid IN (c.oid, c.reltoastrelid))",
    )
    .bind(oids)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|(oid, heap, indexes)| TableSize { oid, heap, indexes }).collect())
}

/// Begins a transaction that gives up rather than wait.
const BRIEFLY: &str = "BEGIN READ ONLY; SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '2s'";

/// The size of the database on disk, in bytes.
///
/// # Errors
/// The driver's error.
pub async fn database_size(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let size: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(connection).await?;
    Ok(size.max(0).cast_unsigned())
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
