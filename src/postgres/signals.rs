//! What the governor asks the server: one function for each signal, each cheap, each failing by itself.
//!
//! For PostgreSQL 13 to 18. Much of it is hidden from an ordinary role: `pg_monitor` opens it.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::lag::LagHistory;
use super::sql::SqlText;
use super::{error, sqlstate};
use crate::plan::model::Sql;

/// Why a signal has no value. Displays as what follows "cannot be read:".
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The server, or the way to it.
    #[error("{}", words(.0))]
    Server(#[from] sqlx::Error),
    /// The role lacks a right.
    #[error("{what} hidden from the role; {GRANT}")]
    Hidden {
        /// What, with its verb: "other sessions are".
        what: &'static str,
    },
    /// A probe's answer is not a number.
    #[error("it answers {0}, and not a number")]
    NotANumber(&'static str),
}

const GRANT: &str = "grant it pg_monitor, or switch this limit off";

fn words(failure: &sqlx::Error) -> String {
    match (error::database(failure), failure) {
        (Some(db), _) if db.code() == sqlstate::INSUFFICIENT_PRIVILEGE => format!("{}; {GRANT}", db.message()),
        (Some(db), _) if db.code() == sqlstate::QUERY_CANCELED => "no answer in time".to_owned(),
        (Some(db), _) => db.message().to_owned(),
        (None, sqlx::Error::Io(io)) => error::io_words(io),
        (None, sqlx::Error::PoolTimedOut) => "no connection could be had in time".to_owned(),
        (None, other) => other.to_string(),
    }
}

/// How far the slowest standby's replay is behind. It remembers which WAL position was current when: see
/// [`lag`](super::lag).
#[derive(Debug)]
pub struct ReplayLag {
    history: LagHistory,
    began: Instant,
}

impl Default for ReplayLag {
    fn default() -> Self {
        Self { history: LagHistory::default(), began: Instant::now() }
    }
}

impl ReplayLag {
    /// The greatest replay lag in seconds over the physical standbys of `pg_stat_replication`; 0 without any.
    ///
    /// Logical subscribers do not count: many confirm what they have only every ten seconds, on purpose. What they keep
    /// is [`slot_wal`]. Nor do backups and `pg_receivewal`, which replay nothing. A standby that has lost its connection
    /// is not in the view; what its slot keeps is [`slot_wal`] again.
    ///
    /// # Errors
    /// The server's; or the standbys are hidden from the role.
    pub async fn read(&mut self, connection: &mut PgConnection) -> Result<f64, SignalError> {
        let rows = sqlx::query(
            "WITH wal AS MATERIALIZED (SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 AS position) \
             SELECT wal.position AS current, s.pid IS NOT NULL AND s.state IS NULL AS hidden, \
                    pg_wal_lsn_diff(s.replay_lsn, '0/0')::int8 AS replayed, \
                    extract(epoch FROM s.replay_lag)::float8 AS lag \
             FROM wal LEFT JOIN pg_stat_replication s ON s.state IS DISTINCT FROM 'backup' \
                  AND NOT EXISTS (SELECT FROM pg_replication_slots r WHERE r.active_pid = s.pid AND r.slot_type = 'logical')",
        )
        .fetch_all(connection)
        .await?;
        let now = self.began.elapsed();
        if let Some(row) = rows.first() {
            self.history.note(row.try_get("current")?, now);
        }
        let mut standbys = Vec::new();
        for row in &rows {
            if row.try_get("hidden")? {
                return Err(SignalError::Hidden { what: "the standbys are" });
            }
            if let Some(replayed) = row.try_get::<Option<i64>, _>("replayed")? {
                let told: Option<f64> = row.try_get("lag")?;
                standbys.push((replayed, told.and_then(|lag| Duration::try_from_secs_f64(lag).ok())));
            }
        }
        let lags = standbys.iter().map(|(replayed, told)| self.history.lag(*replayed, *told, now));
        let lag = lags.max().unwrap_or_default();
        self.history.forget(standbys.iter().map(|(replayed, _)| *replayed).min().unwrap_or(i64::MAX), now);
        Ok(lag.as_secs_f64())
    }
}

/// Bytes of WAL that the replication slot which is furthest behind keeps: `pg_replication_slots`. 0 without slots. One
/// that is lost keeps nothing.
///
/// # Errors
/// The server's.
pub async fn slot_wal(connection: &mut PgConnection) -> Result<f64, SignalError> {
    let bytes = sqlx::query_scalar(
        "SELECT greatest(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::float8 \
         FROM pg_replication_slots WHERE wal_status IS DISTINCT FROM 'lost'",
    );
    Ok(bytes.fetch_one(connection).await?)
}

/// WAL files that wait to be archived: `*.ready` in `pg_ls_archive_statusdir()`. 0 where nothing is archived.
///
/// # Errors
/// The server's: only `pg_monitor` may list the directory.
pub async fn archive_backlog(connection: &mut PgConnection) -> Result<f64, SignalError> {
    // Asked apart: the right to list is checked even where the list would not be read.
    let archives: bool =
        sqlx::query_scalar("SELECT current_setting('archive_mode') <> 'off'").fetch_one(&mut *connection).await?;
    if !archives {
        return Ok(0.0);
    }
    let files = sqlx::query_scalar("SELECT count(*)::float8 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'");
    Ok(files.fetch_one(connection).await?)
}

/// Sessions of others that are at work on a statement, in all databases: `pg_stat_activity`. howdah's own, of whichever
/// run, do not count.
///
/// # Errors
/// The server's; or other sessions are hidden from the role.
pub async fn active_sessions(connection: &mut PgConnection) -> Result<f64, SignalError> {
    sees_sessions(connection).await?;
    let sessions = sqlx::query_scalar(
        "SELECT count(*)::float8 FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' \
         AND pid <> pg_backend_pid() AND application_name NOT LIKE 'howdah/%'",
    );
    Ok(sessions.fetch_one(connection).await?)
}

/// The age in seconds of the oldest transaction of others in this database that keeps VACUUM from clearing rows: one with
/// a snapshot or an id of its own in `pg_stat_activity`, or a prepared one in `pg_prepared_xacts`. A running VACUUM does
/// not count: others look through it.
///
/// # Errors
/// The server's; or other sessions are hidden from the role.
pub async fn oldest_snapshot(connection: &mut PgConnection) -> Result<f64, SignalError> {
    sees_sessions(connection).await?;
    let age = sqlx::query_scalar(
        "SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(began))::float8, 0), 0) FROM ( \
             SELECT a.xact_start AS began FROM pg_stat_activity a \
             WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.datname = current_database() \
               AND a.pid <> pg_backend_pid() AND a.application_name NOT LIKE 'howdah/%' \
               AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid) \
             UNION ALL SELECT prepared FROM pg_prepared_xacts WHERE database = current_database() \
         ) AS transactions",
    );
    Ok(age.fetch_one(connection).await?)
}

/// What is hidden would be missing from a count without a word.
async fn sees_sessions(connection: &mut PgConnection) -> Result<(), SignalError> {
    let sees = sqlx::query_scalar("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetch_one(connection).await?;
    if sees { Ok(()) } else { Err(SignalError::Hidden { what: "other sessions are" }) }
}

/// A table's dead rows, and what autovacuum makes of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeadRows {
    /// `n_dead_tup`.
    pub dead: f64,
    /// More dead rows than this wake autovacuum, by the table's own settings, else the server's.
    pub trigger: f64,
    /// Whether autovacuum looks after the table at all.
    pub is_looked_after: bool,
    /// Whether a VACUUM of it runs now, by autovacuum or by hand; `false` where that is hidden from the role.
    pub is_vacuumed_now: bool,
}

/// The dead rows of the table with object id `table`; `None` when there is no such table.
///
/// From `pg_stat_get_dead_tuples` and `pg_class`. The trigger's formula: PostgreSQL documentation, 24.1.6. The upper
/// limit of it, `autovacuum_vacuum_max_threshold`, came with 18.
///
/// # Errors
/// The server's.
pub async fn dead_rows(connection: &mut PgConnection, table: i64) -> Result<Option<DeadRows>, SignalError> {
    let row = sqlx::query(
        "SELECT pg_stat_get_dead_tuples(c.oid)::float8 AS dead, \
                least(coalesce((o.own->>'autovacuum_vacuum_threshold')::float8, \
                               current_setting('autovacuum_vacuum_threshold')::float8) \
                      + coalesce((o.own->>'autovacuum_vacuum_scale_factor')::float8, \
                                 current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0), \
                      nullif(coalesce((o.own->>'autovacuum_vacuum_max_threshold')::float8, \
                                      current_setting('autovacuum_vacuum_max_threshold', true)::float8), -1)) AS trigger, \
                coalesce((o.own->>'autovacuum_enabled')::boolean, true) AND current_setting('autovacuum')::boolean \
                    AND current_setting('track_counts')::boolean AS looked_after, \
                EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.relid = c.oid) AS vacuumed_now \
         FROM pg_class c, LATERAL (SELECT jsonb_object_agg(option_name, option_value) AS own \
                                   FROM pg_options_to_table(c.reloptions)) AS o \
         WHERE c.oid = ($1::int8)::oid",
    )
    .bind(table)
    .fetch_optional(connection)
    .await?;
    let read = |row: PgRow| {
        Ok(DeadRows {
            dead: row.try_get("dead")?,
            trigger: row.try_get("trigger")?,
            is_looked_after: row.try_get("looked_after")?,
            is_vacuumed_now: row.try_get("vacuumed_now")?,
        })
    };
    row.map(read).transpose()
}

/// The query of a probe as it is sent: the first row's first column, as a number.
#[must_use]
pub fn probe_sql(sql: &Sql) -> SqlText {
    SqlText::default()
        .ours("SELECT answer.value::float8 FROM (\n")
        .plans("probe", sql)
        .ours("\n) AS answer(value) LIMIT 1")
}

/// Asks a question of the plan's own, in a transaction that can write nothing.
///
/// # Errors
/// The server's; or the answer is not a number.
pub async fn probe(connection: &mut PgConnection, sql: &Sql) -> Result<f64, SignalError> {
    let mut tx = connection.begin_with("BEGIN READ ONLY").await?;
    let text = probe_sql(sql);
    let row = sqlx::query(AssertSqlSafe(text.as_str())).persistent(false).fetch_optional(&mut *tx).await;
    tx.rollback().await?;
    let row = row?.ok_or(SignalError::NotANumber("with no row"))?;
    let value = row.try_get::<Option<f64>, _>(0)?.ok_or(SignalError::NotANumber("NULL"))?;
    if value.is_nan() { Err(SignalError::NotANumber("NaN")) } else { Ok(value) }
}
