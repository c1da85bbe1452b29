//! What every session of ours sets before it does anything.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

/// A role that is called `howdah` has the ledger's schema on its search path, by `"$user"`: a plan's `event` would be ours,
/// and its `CREATE TABLE` would land beside ours.
const HIDE_LEDGER: &str = "SELECT set_config('search_path', coalesce((SELECT string_agg(quote_ident(s), ', ') \
    FROM unnest(current_schemas(false)) AS s WHERE s <> 'howdah'), ''), false) \
    WHERE current_user = 'howdah' OR 'howdah' = ANY (current_schemas(false))";

/// What texts of values depend on.
const TEXTS: &str =
    "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex";

/// A host that has vanished, or was cut off, loses its sessions, and with them its locks, within half a minute: by itself the server
/// would find that out after hours. Over a Unix socket these are ignored.
const VANISHED: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
    SET tcp_user_timeout = 25000";

/// Begins a transaction whose commit waits for the disk, whatever the session's default is.
pub const DURABLE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on";
/// Begins a transaction whose commit does not wait: safe for a batch, whose rows and cursor are lost or kept together.
pub const BATCH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off";
/// Begins a transaction in which every statement sees the rows as they are at its first one; what others change of them
/// meanwhile makes it fail (40001). Its commit does not wait, as that of [`BATCH`].
pub const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SET LOCAL synchronous_commit = off";

/// Settings of a session, sent once after connecting.
#[derive(Debug, Clone)]
pub struct Session {
    /// `application_name`, cut to 63 bytes: `howdah/<run>/<step>`.
    pub application_name: String,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// How long a statement may run. Zero: as long as it takes.
    pub statement_timeout: Duration,
    /// How long a transaction may stand idle.
    pub idle_in_transaction_timeout: Duration,
}

impl Session {
    /// The settings as one string of SQL.
    ///
    /// Plans are made for each batch's own bounds: a generic plan for "a range of keys" would be made for half a percent
    /// of the table, whatever the batch. JIT is off: it costs more than a batch takes.
    ///
    /// Keys are carried as text, by sessions that come and go, so what a text looks like must not hang on a role's or a
    /// database's own settings: dates are ISO (the order of day and month in what the plan's SQL reads stays the role's),
    /// floats have every digit, bytes are hex. The driver itself sets the time zone, to UTC.
    #[must_use]
    pub fn sql(&self) -> String {
        format!(
            "SET application_name = {}; SET lock_timeout = {}; SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; SET plan_cache_mode = force_custom_plan; SET jit = off; \
             SET client_min_messages = warning; {TEXTS}; {VANISHED}; {HIDE_LEDGER}",
            literal(&self.application_name),
            self.lock_timeout.as_millis(),
            self.statement_timeout.as_millis(),
            self.idle_in_transaction_timeout.as_millis(),
        )
    }

    /// Sends the settings.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.sql()))).await.map(drop)
    }
}

/// `howdah/<run>/<part>`, cut to the 63 bytes that the server keeps.
#[must_use]
pub fn application_name(run: &str, part: &str) -> String {
    let mut name = format!("howdah/{run}/{part}");
    while name.len() > 63 {
        name.pop();
    }
    name
}

/// A text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let escaped = text.replace('\0', "").replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_texts_are_escaped() {
        let name = application_name("7f3a09c2", &"é".repeat(60));
        assert!(name.len() <= 63 && name.starts_with("howdah/7f3a09c2/é"));
        assert_eq!(literal(r"it's a \ "), r"E'it''s a \\ '");
    }
}
