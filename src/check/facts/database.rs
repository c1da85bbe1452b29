//! The server, the database, and the role that howdah is.

use sqlx::Row;
use sqlx::postgres::PgConnection;

/// What is the case of the server, the database and the role.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of the server's, or a right")]
pub struct Database {
    /// `server_version`: `15.6 (Debian ...)`, only its first word.
    pub version: String,
    /// `server_version_num`: 150006.
    pub version_num: i32,
    /// The database's name, bare.
    pub name: String,
    /// The role's name, bare.
    pub role: String,
    /// Today, by the server's clock: year, month, day.
    pub today: (i32, i32, i32),
    /// The server is a standby.
    pub in_recovery: bool,
    /// Connections that this role can open still, by the server's, the database's and the role's limits.
    pub free_connections: i64,
    /// `max_connections`.
    pub max_connections: i64,
    /// `max_locks_per_transaction` times the transactions that there can be.
    pub lock_slots: i64,
    /// `autovacuum`.
    pub autovacuum: bool,
    /// `track_counts`.
    pub track_counts: bool,
    /// `track_activities`.
    pub track_activities: bool,
    /// `autovacuum_freeze_max_age`.
    pub freeze_max_age: i64,
    /// Age of the oldest transaction id in the database.
    pub xid_age: i64,
    /// Age of the oldest multixact in the database.
    pub multixact_age: i64,
    /// `session_replication_role` is `replica`: ordinary triggers do not fire.
    pub is_replica_role: bool,
    /// `synchronous_standby_names`.
    pub synchronous_names: String,
    /// Standbys that are synchronous, or could be: of `pg_stat_replication`.
    pub synchronous_standbys: i64,
    /// hypopg is installed in the database.
    pub has_hypopg: bool,
    /// The role sees what sessions of others do.
    pub sees_all_stats: bool,
    /// The role may make a schema here.
    pub may_create: bool,
    /// Schema `howdah` is there.
    pub has_ledger: bool,
    /// The role may use schema `howdah`, and write the tables that are there.
    pub may_keep_ledger: bool,
    /// The role may make tables in schema `howdah`.
    pub may_extend_ledger: bool,
}

pub(super) async fn read(connection: &mut PgConnection) -> Result<Database, sqlx::Error> {
    let row = sqlx::query(
        "SELECT split_part(current_setting('server_version'), ' ', 1) AS version, \
                current_setting('server_version_num')::int4 AS version_num, \
                current_database()::text AS name, current_user::text AS role, \
                extract(year FROM now())::int4 AS year, extract(month FROM now())::int4 AS month, \
                extract(day FROM now())::int4 AS day, \
                pg_is_in_recovery() AS in_recovery, \
                current_setting('max_connections')::int8 AS max_connections, \
                least(current_setting('max_connections')::int8 \
                      - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int8 \
                             + coalesce(current_setting('reserved_connections', true)::int8, 0) END - a.clients, \
                      CASE WHEN d.datconnlimit < 0 OR r.rolsuper THEN 2147483647 ELSE d.datconnlimit - a.of_database END, \
                      CASE WHEN r.rolconnlimit < 0 OR r.rolsuper THEN 2147483647 ELSE r.rolconnlimit - a.of_role END) \
                    AS free_connections, \
                current_setting('max_locks_per_transaction')::int8 * (current_setting('max_connections')::int8 \
                    + current_setting('max_prepared_transactions')::int8) AS lock_slots, \
                current_setting('autovacuum')::bool AS autovacuum, \
                current_setting('track_counts')::bool AS track_counts, \
                current_setting('track_activities')::bool AS track_activities, \
                current_setting('autovacuum_freeze_max_age')::int8 AS freeze_max_age, \
                age(d.datfrozenxid)::int8 AS xid_age, mxid_age(d.datminmxid)::int8 AS multixact_age, \
                current_setting('session_replication_role') = 'replica' AS is_replica_role, \
                current_setting('synchronous_standby_names') AS synchronous_names, \
                (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum', 'potential')) \
                    AS synchronous_standbys, \
                EXISTS (SELECT FROM pg_extension WHERE extname = 'hypopg') AS has_hypopg, \
                pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all_stats, \
                has_database_privilege(d.oid, 'CREATE') AS may_create, \
                h.oid IS NOT NULL AS has_ledger, \
                coalesce(has_schema_privilege(h.oid, 'CREATE'), false) AS may_extend_ledger, \
                coalesce(has_schema_privilege(h.oid, 'USAGE') \
                    AND NOT EXISTS (SELECT FROM pg_class t WHERE t.relnamespace = h.oid AND t.relkind = 'r' \
                        AND t.relname IN ('run', 'step', 'segment') \
                        AND NOT (has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(t.oid, 'INSERT') \
                                 AND has_table_privilege(t.oid, 'UPDATE'))), false) AS may_keep_ledger \
         FROM pg_database d JOIN pg_roles r ON r.rolname = current_user \
         LEFT JOIN pg_namespace h ON h.nspname = 'howdah' \
         CROSS JOIN LATERAL (SELECT count(*) AS clients, count(*) FILTER (WHERE datid = d.oid) AS of_database, \
                count(*) FILTER (WHERE usesysid = r.oid) AS of_role \
              FROM pg_stat_activity WHERE datid IS NOT NULL) a \
         WHERE d.datname = current_database()",
    )
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok(Database {
        version: row.try_get("version")?,
        version_num: row.try_get("version_num")?,
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        today: (row.try_get("year")?, row.try_get("month")?, row.try_get("day")?),
        in_recovery: row.try_get("in_recovery")?,
        free_connections: row.try_get("free_connections")?,
        max_connections: row.try_get("max_connections")?,
        lock_slots: row.try_get("lock_slots")?,
        autovacuum: row.try_get("autovacuum")?,
        track_counts: row.try_get("track_counts")?,
        track_activities: row.try_get("track_activities")?,
        freeze_max_age: row.try_get("freeze_max_age")?,
        xid_age: row.try_get("xid_age")?,
        multixact_age: row.try_get("multixact_age")?,
        is_replica_role: row.try_get("is_replica_role")?,
        synchronous_names: row.try_get("synchronous_names")?,
        synchronous_standbys: row.try_get("synchronous_standbys")?,
        has_hypopg: row.try_get("has_hypopg")?,
        sees_all_stats: row.try_get("sees_all_stats")?,
        may_create: row.try_get("may_create")?,
        has_ledger: row.try_get("has_ledger")?,
        may_keep_ledger: row.try_get("may_keep_ledger")?,
        may_extend_ledger: row.try_get("may_extend_ledger")?,
    })
}
