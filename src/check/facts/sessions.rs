//! What holds old rows and old WAL: open transactions, prepared ones, replication slots.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// More of a kind are not told one by one.
const MOST: i64 = 20;

/// Open and prepared transactions, and slots; the oldest first, at most 20 of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sessions {
    /// Transactions of others that are open in this database, as far as the role may see them.
    pub open: Vec<OpenTransaction>,
    /// Prepared transactions of this database.
    pub prepared: Vec<Prepared>,
    /// Replication slots of the server.
    pub slots: Vec<Slot>,
}

/// A transaction that is open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenTransaction {
    /// Its backend.
    pub pid: i32,
    /// Its role, bare.
    pub role: String,
    /// `application_name`.
    pub application: String,
    /// `state`: `idle in transaction`.
    pub state: String,
    /// Since it began.
    pub age: Duration,
}

/// A transaction that was prepared for a second phase that has not come.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// `gid`.
    pub gid: String,
    /// Its owner, bare.
    pub owner: String,
    /// Since it was prepared.
    pub age: Duration,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether it decodes this database's changes.
    pub decodes_here: bool,
    /// Whether somebody reads it.
    pub is_active: bool,
    /// WAL that it keeps, in bytes. `None`: unknown, on a standby or before its first use.
    pub kept: Option<u64>,
}

pub(super) async fn read(connection: &mut PgConnection) -> Result<Sessions, sqlx::Error> {
    let open = sqlx::query(
        "SELECT pid, coalesce(usename::text, '') AS role, coalesce(application_name, '') AS application, \
                coalesce(state, '') AS state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age \
         FROM pg_stat_activity WHERE backend_type = 'client backend' AND xact_start IS NOT NULL \
           AND pid <> pg_backend_pid() AND datname = current_database() \
         ORDER BY xact_start LIMIT $1",
    )
    .bind(MOST)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    let prepared = sqlx::query(
        "SELECT gid::text AS gid, owner::text AS owner, \
                extract(epoch FROM clock_timestamp() - prepared)::float8 AS age \
         FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT $1",
    )
    .bind(MOST)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    let slots = sqlx::query(
        "SELECT slot_name::text AS name, coalesce(slot_type = 'logical' AND database = current_database(), false) AS here, \
                active, CASE WHEN NOT pg_is_in_recovery() \
                    THEN greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8 END AS kept \
         FROM pg_replication_slots WHERE NOT temporary ORDER BY restart_lsn NULLS LAST LIMIT $1",
    )
    .bind(MOST)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(Sessions {
        open: open.iter().map(transaction).collect::<Result<_, _>>()?,
        prepared: prepared.iter().map(second_phase).collect::<Result<_, _>>()?,
        slots: slots.iter().map(slot).collect::<Result<_, _>>()?,
    })
}

fn transaction(row: &PgRow) -> Result<OpenTransaction, sqlx::Error> {
    Ok(OpenTransaction {
        pid: row.try_get("pid")?,
        role: row.try_get("role")?,
        application: row.try_get("application")?,
        state: row.try_get("state")?,
        age: age(row)?,
    })
}

fn second_phase(row: &PgRow) -> Result<Prepared, sqlx::Error> {
    Ok(Prepared { gid: row.try_get("gid")?, owner: row.try_get("owner")?, age: age(row)? })
}

fn slot(row: &PgRow) -> Result<Slot, sqlx::Error> {
    Ok(Slot {
        name: row.try_get("name")?,
        decodes_here: row.try_get("here")?,
        is_active: row.try_get("active")?,
        kept: row.try_get::<Option<i64>, _>("kept")?.map(|kept| kept.max(0).cast_unsigned()),
    })
}

fn age(row: &PgRow) -> Result<Duration, sqlx::Error> {
    let seconds: f64 = row.try_get("age")?;
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}
