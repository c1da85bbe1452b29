//! Brings schema `howdah` to the version that this program knows.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::postgres::{error, ident, sqlstate};
use crate::run::Cause;

/// Each version's SQL, from version 1 on.
const VERSIONS: [&str; 6] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// Held while the schema is migrated, so that two drivers do not do it at once. "howdah" in ASCII, as a number.
const MIGRATION_LOCK: i64 = 0x0000_686f_7764_6168;

/// Makes the schema, or brings it up to date. Costs one query when there is nothing to do.
///
/// # Errors
/// The role may not: with the SQL that an administrator has to run. The schema is newer than this program.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), Cause> {
    let known = i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX);
    match version(connection).await {
        Ok(Some(found)) if found == known => return Ok(()),
        Ok(Some(found)) if found > known => {
            return Err(Cause::new(format!(
                "schema howdah is at version {found}, and this howdah knows version {known}"
            ))
            .hint("use the howdah that made it, or a newer one"));
        }
        Ok(_) => {}
        Err(e) => return Err(explain(connection, &e).await),
    }
    match apply(connection).await {
        Ok(()) => Ok(()),
        Err(e) => Err(explain(connection, &e).await),
    }
}

/// Whether the schema is there at all.
///
/// # Errors
/// The driver's error.
pub async fn exists(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Not by `to_regclass`: inside a transaction a session goes on to believe that there was no such name, whatever another one
    // has committed while this one waited for the lock. A look into the catalog's own tables takes what is there now.
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'howdah' AND c.relname = 'version')",
    )
    .fetch_one(connection)
    .await
}

/// The version that knows of commands and snapshots.
const WITH_CONSOLES: i32 = 4;

/// Whether runs of this database can be watched and steered from here.
///
/// # Errors
/// It is a standby, where nothing can be written and locks of the primary are not seen; its ledger is older, or newer; or it cannot
/// be asked. A database without a ledger passes: it has no run to be found.
pub async fn ready_for_consoles(connection: &mut PgConnection) -> Result<(), Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the ledger", &e);
    let standby: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *connection).await.map_err(failed)?;
    if standby {
        return Err(Cause::usage("this server is a standby: runs are watched and steered on their primary")
            .hint("give the primary's address: --database URL"));
    }
    let known = i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX);
    match version(connection).await.map_err(failed)? {
        Some(found) if found < WITH_CONSOLES => Err(Cause::usage(format!(
            "schema howdah is at version {found}; its runs can be watched and steered from version {WITH_CONSOLES} on"
        ))
        .hint("whoever runs or resumes a plan with this howdah brings it up to date; `howdah status` shows runs meanwhile")),
        Some(found) if found > known => Err(Cause::usage(format!(
            "schema howdah is at version {found}, and this howdah knows version {known}"
        ))
        .hint("use the howdah that made it, or a newer one")),
        _ => Ok(()),
    }
}

/// The version that knows of members.
const WITH_MEMBERS: i32 = 5;

/// Whether runs of this database can be joined.
///
/// # Errors
/// As [`ready_for_consoles`].
pub async fn ready_for_members(connection: &mut PgConnection) -> Result<(), Cause> {
    ready_for_consoles(connection).await?;
    let found = version(connection).await.map_err(|e| error::cause("reading the ledger", &e))?;
    if found.is_some_and(|found| found >= WITH_MEMBERS) {
        return Ok(());
    }
    Err(Cause::usage("the ledger of this database is of an older howdah, whose runs cannot be joined")
        .hint("whoever runs or resumes a plan with this howdah brings it up to date"))
}

async fn version(connection: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    if !exists(connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM howdah.version").fetch_one(connection).await
}

async fn apply(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
    // Another driver may have done it while this one waited for the lock.
    let found = version(&mut tx).await?.unwrap_or(0);
    if found == 0 {
        // Made apart from its schema, so that an administrator may make the schema and leave the rest to us.
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'howdah')")
                .fetch_one(&mut *tx)
                .await?;
        if !there {
            tx.execute("CREATE SCHEMA howdah").await?;
        }
        tx.execute(
            "CREATE TABLE howdah.version (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now(), \
             applied_by text NOT NULL)",
        )
        .await?;
    }
    for (version, sql) in (1_i32..).zip(VERSIONS) {
        if version > found {
            tx.execute(sqlx::raw_sql(sql)).await?;
            sqlx::query("INSERT INTO howdah.version (version, applied_by) VALUES ($1, $2)")
                .bind(version)
                .bind(env!("CARGO_PKG_VERSION"))
                .execute(&mut *tx)
                .await?;
        }
    }
    tx.commit().await
}

/// What the role lacks, with the very SQL that gives it.
async fn explain(connection: &mut PgConnection, failure: &sqlx::Error) -> Cause {
    if error::code(failure) != Some(sqlstate::INSUFFICIENT_PRIVILEGE) {
        return error::cause("making schema howdah, where howdah keeps its ledger", failure);
    }
    let who: Result<(String, String, bool), _> = sqlx::query_as(AssertSqlSafe(
        "SELECT current_user::text, current_database()::text, to_regnamespace('howdah') IS NOT NULL",
    ))
    .fetch_one(connection)
    .await;
    let Ok((role, database, there)) = who else {
        return error::cause("making schema howdah", failure);
    };
    let role_name = ident::quote(&role);
    let cause = Cause::new(format!(
        "role `{role}` may not {} schema howdah in database `{database}`, where howdah keeps what is done",
        if there { "use" } else { "create" }
    ))
    .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE);
    if there {
        cause
            .hint(format!(
                "let its owner, or an administrator, run: GRANT USAGE, CREATE ON SCHEMA howdah TO {role_name};"
            ))
            .hint(format!(
                "and, where another role made the tables: GRANT ALL ON ALL TABLES IN SCHEMA howdah TO {role_name}; \
                 GRANT ALL ON ALL SEQUENCES IN SCHEMA howdah TO {role_name};"
            ))
    } else {
        cause.hint(format!(
            "let an administrator run in database {}: CREATE SCHEMA howdah AUTHORIZATION {role_name};",
            ident::quote(&database)
        ))
    }
}
