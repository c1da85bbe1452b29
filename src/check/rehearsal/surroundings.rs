//! What is around the tables: WAL, checkpoints, slots, standbys, archive, disk, autovacuum. Whatever the role may not see is
//! `None`.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::task::spawn_blocking;

use crate::check::json::seconds;
use crate::postgres::signals;
use crate::postgres::whereabouts::{Whereabouts, free_disk_bytes};

/// How long a file system may take to tell its free space.
const DISK: Duration = Duration::from_secs(2);

/// The server, as far as a forecast needs it. Bytes, where nothing else is said.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Surroundings {
    /// Whether pages go into the WAL whole after a checkpoint.
    pub full_page_writes: bool,
    /// WAL that makes a checkpoint come.
    pub max_wal_size: u64,
    /// Time that makes a checkpoint come.
    #[serde(rename = "checkpoint_timeout_seconds", serialize_with = "seconds")]
    pub checkpoint_timeout: Duration,
    /// Free space of the data directory's file system; where `pg_wal` is on another one, of the fuller of the two.
    pub free_disk: Option<u64>,
    /// The most WAL that a slot keeps before it is given up. `None`: without a bound, or unknown.
    pub max_slot_wal_keep_size: Option<u64>,
    /// Replication slots.
    pub slots: Vec<Slot>,
    /// Standbys that stream now.
    pub standbys: Vec<Standby>,
    /// The archive. `None`: nothing is archived.
    pub archive: Option<Archive>,
    /// Autovacuum's pace.
    pub autovacuum: Autovacuum,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody reads from it now.
    pub is_active: bool,
    /// WAL that it keeps now.
    pub keeps: u64,
}

/// A standby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standby {
    /// Its `application_name`.
    pub name: String,
    /// WAL that it has not replayed.
    pub behind: u64,
    /// Whether commits may wait for it.
    pub is_synchronous: bool,
}

/// The archive of WAL files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Archive {
    /// Files that wait. `None`: only `pg_monitor` may list them.
    pub waiting: Option<u64>,
    /// Whether the last try failed.
    pub is_failing: bool,
    /// Bytes of a file.
    pub file: u64,
}

/// How fast autovacuum goes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Autovacuum {
    /// It looks at a database this often.
    #[serde(rename = "naptime_seconds", serialize_with = "seconds")]
    pub naptime: Duration,
    /// Pages that it cleans in a second, where all are read and written. `None`: without a bound.
    pub pages_per_second: Option<f64>,
}

const SETTINGS: &str = "SELECT current_setting('full_page_writes')::boolean AS full_pages, \
    pg_size_bytes(current_setting('max_wal_size')) AS max_wal, \
    (SELECT setting::float8 FROM pg_settings WHERE name = 'checkpoint_timeout') AS checkpoint, \
    (SELECT nullif(setting::int8, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_keeps, \
    (SELECT setting::float8 FROM pg_settings WHERE name = 'autovacuum_naptime') AS naptime, \
    (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size') AS wal_file, \
    coalesce((SELECT nullif(setting::float8, -1) FROM pg_settings WHERE name = 'autovacuum_vacuum_cost_delay'), \
             (SELECT setting::float8 FROM pg_settings WHERE name = 'vacuum_cost_delay')) AS delay, \
    coalesce((SELECT nullif(setting::float8, -1) FROM pg_settings WHERE name = 'autovacuum_vacuum_cost_limit'), \
             (SELECT setting::float8 FROM pg_settings WHERE name = 'vacuum_cost_limit')) AS cost, \
    current_setting('vacuum_cost_page_miss')::float8 + current_setting('vacuum_cost_page_dirty')::float8 AS page, \
    current_setting('archive_mode') <> 'off' AS archives";

const SLOTS: &str = "SELECT slot_name::text AS name, active, \
    greatest(coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0), 0)::int8 AS keeps \
    FROM pg_replication_slots WHERE wal_status IS DISTINCT FROM 'lost' ORDER BY 1";

const STANDBYS: &str = "SELECT coalesce(application_name, '') AS name, coalesce(sync_state, 'async') <> 'async' AS sync, \
    greatest(coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0), 0)::int8 AS behind \
    FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1";

const ARCHIVER: &str =
    "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) FROM pg_stat_archiver";

/// Looks around. Reads only.
///
/// # Errors
/// The driver's, where even the settings cannot be read.
pub async fn look(connection: &mut PgConnection) -> Result<Surroundings, sqlx::Error> {
    let row = sqlx::query(SETTINGS).persistent(false).fetch_one(&mut *connection).await?;
    let bytes = |n: i64| n.max(0).cast_unsigned();
    let time = |n: f64| Duration::try_from_secs_f64(n).unwrap_or_default();
    let (delay, cost, page): (f64, f64, f64) = (row.try_get("delay")?, row.try_get("cost")?, row.try_get("page")?);
    let pages_per_second = (delay > 0.0 && page > 0.0).then(|| cost / page * (1000.0 / delay));
    let mut surroundings = Surroundings {
        full_page_writes: row.try_get("full_pages")?,
        max_wal_size: bytes(row.try_get("max_wal")?),
        checkpoint_timeout: time(row.try_get("checkpoint")?),
        max_slot_wal_keep_size: row.try_get::<Option<i64>, _>("slot_keeps")?.map(bytes),
        autovacuum: Autovacuum { naptime: time(row.try_get("naptime")?), pages_per_second },
        ..Surroundings::default()
    };
    let (archives, file): (bool, i64) = (row.try_get("archives")?, row.try_get("wal_file")?);
    // Who may not see these is told nothing of them, and no error.
    if let Ok(rows) = sqlx::query(SLOTS).persistent(false).fetch_all(&mut *connection).await {
        surroundings.slots = rows.iter().filter_map(|row| slot(row).ok()).collect();
    }
    if let Ok(rows) = sqlx::query(STANDBYS).persistent(false).fetch_all(&mut *connection).await {
        surroundings.standbys = rows.iter().filter_map(|row| standby(row).ok()).collect();
    }
    if archives {
        let is_failing = sqlx::query_scalar(ARCHIVER).persistent(false).fetch_one(&mut *connection).await;
        let waiting = signals::archive_backlog(connection).await.ok().map(whole);
        surroundings.archive = Some(Archive { waiting, is_failing: is_failing.unwrap_or(false), file: bytes(file) });
    }
    surroundings.free_disk = free_disk(connection).await;
    Ok(surroundings)
}

fn slot(row: &sqlx::postgres::PgRow) -> Result<Slot, sqlx::Error> {
    let keeps: i64 = row.try_get("keeps")?;
    Ok(Slot { name: row.try_get("name")?, is_active: row.try_get("active")?, keeps: keeps.max(0).cast_unsigned() })
}

fn standby(row: &sqlx::postgres::PgRow) -> Result<Standby, sqlx::Error> {
    let behind: i64 = row.try_get("behind")?;
    let behind = behind.max(0).cast_unsigned();
    Ok(Standby { name: row.try_get("name")?, behind, is_synchronous: row.try_get("sync")? })
}

/// Where the server is on this host, and its directory can be looked at.
async fn free_disk(connection: &mut PgConnection) -> Option<u64> {
    let whereabouts = Whereabouts::ask(connection).await.ok()?;
    let look = spawn_blocking(move || {
        let data = whereabouts.is_here().then_some(whereabouts.data_directory)??;
        free_disk_bytes(&data).ok()
    });
    tokio::time::timeout(DISK, look).await.ok()?.ok()?
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of files")]
fn whole(n: f64) -> u64 {
    if (0.0..1e18).contains(&n) { n as u64 } else { 0 }
}
