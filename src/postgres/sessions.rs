//! Who is connected to the server, what they do, and who waits for whom: `pg_stat_activity`, for a person to look at.
//!
//! What a role without `pg_read_all_stats` may not see of others (state, waits, statement, address) is said to be so; that
//! a session is there, and what it calls itself, the server tells everybody.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::mask;
use crate::run::details::{SessionView, Sessions};

/// Sessions that are shown at most.
pub const MOST: i64 = 200;
/// Letters of a statement that are shown at most.
const LETTERS: i32 = 4_000;
/// What stands in the place of what a role may not see.
pub const HIDDEN: &str = "(not visible to this role)";

/// Whoever may hold a lock here: clients, workers of autovacuum, of subscriptions and of extensions; walsenders. Without the session that asks. Ours first, then those that wait for a lock and
/// those that they wait for, then by the age of their transactions.
///
/// # Errors
/// The driver's error.
pub async fn sessions(connection: &mut PgConnection, run: &str) -> Result<Sessions, sqlx::Error> {
    // `pg_blocking_pids` stops the lock manager for a moment: it is asked only of sessions that wait for a lock. The kind
    // of a session is among what is hidden from a role without rights.
    let rows = sqlx::query(
        "WITH seen AS MATERIALIZED ( \
             SELECT a.*, b.pids AS blockers, starts_with(a.application_name, $1) AS is_ours \
             FROM pg_stat_activity a \
             LEFT JOIN LATERAL (SELECT pg_blocking_pids(a.pid) AS pids WHERE a.wait_event_type = 'Lock') b ON true \
             WHERE a.pid <> pg_backend_pid() AND (a.backend_type = 'walsender' OR a.datid IS NOT NULL) \
                 AND a.backend_type IS DISTINCT FROM 'parallel worker'), \
         blocking AS MATERIALIZED (SELECT DISTINCT unnest(blockers) AS pid FROM seen) \
         SELECT pid, backend_start, usename::text AS role, datname::text AS database, datname = current_database() AS is_here, \
                application_name AS application, backend_type AS kind, host(client_addr) AS address, state, \
                wait_event_type AS wait_type, wait_event AS wait, left(query, $2) AS query, blockers, is_ours, \
                extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction, \
                extract(epoch FROM clock_timestamp() - CASE WHEN state LIKE 'idle%' THEN state_change ELSE query_start END)::float8 \
                    AS in_state, \
                clock_timestamp() AS at, count(*) OVER () AS everybody, \
                count(*) FILTER (WHERE coalesce(backend_type, 'client backend') = 'client backend') OVER () AS clients, \
                current_setting('max_connections')::int4 AS most \
         FROM seen \
         ORDER BY is_ours DESC, (blockers IS NOT NULL OR pid IN (SELECT pid FROM blocking)) DESC, xact_start NULLS LAST, pid \
         LIMIT $3",
    )
    .bind(format!("howdah/{run}/"))
    .bind(LETTERS)
    .bind(MOST)
    .fetch_all(&mut *connection)
    .await?;
    let sessions = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = rows.first() {
        let everybody: i64 = first.try_get("everybody")?;
        let clients: i64 = first.try_get("clients")?;
        let limit: i32 = first.try_get("most")?;
        return Ok(Sessions {
            at: first.try_get("at")?,
            more: u32::try_from(everybody)
                .unwrap_or(u32::MAX)
                .saturating_sub(u32::try_from(sessions.len()).unwrap_or(0)),
            // And the one that asks.
            clients: u32::try_from(clients + 1).unwrap_or(u32::MAX),
            limit: limit.max(0).cast_unsigned(),
            sessions,
        });
    }
    // Nobody but the one who asks.
    let (at, limit): (_, i32) = sqlx::query_as("SELECT clock_timestamp(), current_setting('max_connections')::int4")
        .fetch_one(connection)
        .await?;
    Ok(Sessions { at, sessions, more: 0, clients: 1, limit: limit.max(0).cast_unsigned() })
}

fn read(row: &PgRow) -> Result<SessionView, sqlx::Error> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name);
    let kind = text("kind")?;
    let state = text("state")?;
    let is_client = kind.as_deref().is_none_or(|kind| kind == "client backend");
    let application = text("application")?.unwrap_or_default();
    let is_idle = state.as_deref().is_some_and(|state| state.starts_with("idle"));
    let blockers: Option<Vec<i32>> = row.try_get("blockers")?;
    let mut wait = match (text("wait_type")?, text("wait")?) {
        // An idle session waits for its client; that is what idle means.
        (Some(kind), Some(event)) if !is_idle => Some(format!("{kind}: {event}")),
        _ => None,
    };
    let mut blocked_by = blockers.unwrap_or_default();
    blocked_by.sort_unstable();
    blocked_by.dedup();
    if blocked_by.first() == Some(&0) {
        blocked_by.remove(0);
        wait = wait.map(|wait| format!("{wait}, held by a prepared transaction"));
    }
    let hidden = kind.is_none();
    Ok(SessionView {
        pid: row.try_get("pid")?,
        started: row.try_get("backend_start")?,
        user: user(text("role")?, text("database")?, row.try_get::<Option<bool>, _>("is_here")?.unwrap_or(true)),
        application: if application.is_empty() && !is_client { kind.unwrap_or_default() } else { application },
        client: match text("address")? {
            Some(address) => address,
            None if hidden => String::new(),
            None if is_client => "local".to_owned(),
            None => String::new(),
        },
        state: state.unwrap_or_else(|| if hidden { HIDDEN.to_owned() } else { String::new() }),
        wait,
        transaction: row.try_get::<Option<f64>, _>("transaction")?.map(age),
        in_state: row.try_get::<Option<f64>, _>("in_state")?.map(age),
        query: if hidden { HIDDEN.to_owned() } else { mask::secrets(&text("query")?.unwrap_or_default()) },
        is_ours: row.try_get::<Option<bool>, _>("is_ours")?.unwrap_or(false),
        blocked_by,
    })
}

/// The role, and its database where that is another one than ours.
fn user(role: Option<String>, database: Option<String>, is_here: bool) -> String {
    let role = role.unwrap_or_default();
    match database {
        Some(database) if !is_here => format!("{role}@{database}"),
        Some(_) | None => role,
    }
}

/// A session that has just begun may be a moment ahead of the clock.
fn age(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
