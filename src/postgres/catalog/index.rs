//! Indexes that a statement builds: what is there of them.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::postgres::tokens;

/// What is there of an index that a statement wants to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// Nothing of that name on the table.
    Absent,
    /// Built and usable.
    Valid,
    /// Left behind by a build that failed; its name, quoted, with its schema.
    Invalid(String),
    /// Another session is building it at this moment.
    BeingBuilt,
}

/// Whether somebody is at work on the index `i` of `pg_index`, or may be: whoever builds, rebuilds or drops an index concurrently holds
/// this lock on its table, and so does VACUUM. What `pg_stat_progress_create_index` says of other roles is not for everybody to see.
pub const BEING_BUILT: &str = "EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = i.indrelid \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid())";

/// Looks an index up on its table.
///
/// # Errors
/// The driver's error.
pub async fn index_state(
    connection: &mut PgConnection,
    wanted: &tokens::ConcurrentIndex,
) -> Result<IndexState, sqlx::Error> {
    let sql = format!(
        "SELECT i.indisvalid AS valid, format('%I.%I', n.nspname, c.relname) AS name, {BEING_BUILT} AS building \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE i.indrelid = to_regclass($1) AND c.relname = $2"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(&wanted.table)
        .bind(&wanted.index)
        .persistent(false)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(IndexState::Absent) };
    let (valid, building): (bool, bool) = (row.try_get("valid")?, row.try_get("building")?);
    Ok(match (valid, building) {
        (true, _) => IndexState::Valid,
        (false, true) => IndexState::BeingBuilt,
        (false, false) => IndexState::Invalid(row.try_get("name")?),
    })
}
