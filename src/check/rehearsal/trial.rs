//! One batch, tried: the transaction of a batch, with its change, that is rolled back.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::explained::Explained;
use super::places::Where;
use super::subject::Part;
use crate::check::json::seconds;
use crate::postgres::deadline::within;
use crate::postgres::session;
use crate::postgres::sql::SqlText;
use crate::run::KeyText;

/// What a trial looks at most closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Everything, each trigger's time among it: the clocks cost time of their own.
    Close,
    /// Everything but the time of each part of the statement.
    Counted,
    /// Nothing but the clock of howdah: as a batch of a run.
    Plain,
}

impl Look {
    fn words(self) -> &'static str {
        match self {
            Self::Close => "EXPLAIN (ANALYZE, BUFFERS, WAL, SETTINGS, FORMAT JSON) ",
            Self::Counted => "EXPLAIN (ANALYZE, BUFFERS, WAL, SETTINGS, TIMING OFF, FORMAT JSON) ",
            Self::Plain => "",
        }
    }
}

/// A lock on a table that a trial's transaction held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lock {
    /// The table or the index, as SQL names it.
    pub relation: String,
    /// The mode: `RowExclusiveLock`.
    pub mode: String,
}

/// Rows that a transaction wrote into a table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Written {
    /// The table's object id.
    pub oid: i64,
    /// Its name, as SQL writes it.
    pub table: String,
    /// Inserted.
    pub inserted: u64,
    /// Updated, heap-only among them.
    pub updated: u64,
    /// Updated without a new entry in any index.
    pub hot: u64,
    /// Deleted.
    pub deleted: u64,
}

/// A batch that was tried and rolled back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Where in the key space.
    pub at: Where,
    /// The part that was walked, quoted.
    pub part: String,
    /// The object id of the table that the step writes.
    pub own: i64,
    /// How closely it was looked at.
    pub look: Look,
    /// Whether the same rows had been tried just before.
    pub is_repeated: bool,
    /// Rows of the range.
    pub walked: u64,
    /// Rows of the table that were written.
    pub changed: u64,
    /// Time that the change took, what waits for the commit included: deferred triggers.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// Time that a batch spends beside its change, by what could be measured: begin, cursor, commit.
    #[serde(rename = "around_seconds", serialize_with = "seconds")]
    pub around: Duration,
    /// Time that its last key was looked for.
    #[serde(rename = "bounding_seconds", serialize_with = "seconds")]
    pub bounding: Duration,
    /// From the change's beginning until everything was given back.
    #[serde(rename = "held_seconds", serialize_with = "seconds")]
    pub held: Duration,
    /// The server's account. `None`: it was not asked for.
    pub explained: Option<Explained>,
    /// How far the server's WAL went meanwhile, in bytes: other sessions' among it.
    pub wal_passed: u64,
    /// Rows written, by table.
    pub written: Vec<Written>,
    /// Locks held at the end.
    pub locks: Vec<Lock>,
}

/// Why a trial came to nothing.
#[derive(Debug)]
pub(super) enum TrialError {
    /// The change was refused.
    Change(sqlx::Error, SqlText),
    /// Something else was.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for TrialError {
    fn from(e: sqlx::Error) -> Self {
        Self::Sql(e)
    }
}

impl TrialError {
    pub(super) fn error(&self) -> &sqlx::Error {
        match self {
            Self::Change(e, _) | Self::Sql(e) => e,
        }
    }
}

/// What is tried.
pub(super) struct Range<'a> {
    pub(super) at: Where,
    pub(super) part: &'a Part,
    pub(super) from: Option<&'a KeyText>,
    /// Its last key at most.
    pub(super) upper: Option<&'a KeyText>,
    /// Rows that are wanted.
    pub(super) rows: u64,
    pub(super) look: Look,
    pub(super) is_repeated: bool,
    /// What makes the undo log.
    pub(super) undo_log: Option<&'a str>,
}

const INSERT_POSITION: &str = "SELECT pg_current_wal_insert_lsn()::text";

/// What this transaction has written by now. Earlier transactions of the session may be in it still.
const WRITTEN: &str = "SELECT relid::int8 AS oid, quote_ident(schemaname) || '.' || quote_ident(relname) AS name, \
    n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del FROM pg_stat_xact_user_tables \
    WHERE n_tup_ins + n_tup_upd + n_tup_del > 0";

const LOCKS: &str = "SELECT DISTINCT l.relation::regclass::text AS relation, l.mode FROM pg_locks l \
    JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted \
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'howdah') ORDER BY 1, 2";

/// Tries a batch. `None`: there is no row. After an error nobody knows whether the transaction is over: the connection is
/// to be dropped. No round trip takes longer than `limit`.
pub(super) async fn tried(
    connection: &mut PgConnection,
    range: &Range<'_>,
    limit: Duration,
) -> Result<Option<(Trial, KeyText)>, TrialError> {
    let began = Instant::now();
    let mut tx = within(limit, connection.begin_with(session::BATCH)).await?;
    let begin = began.elapsed();
    let answer = inside(&mut tx, range, limit).await;
    let answer = match answer {
        // Nobody knows what the connection is in the middle of: it goes, and the server rolls back.
        Err(e) if is_silence(e.error()) => return Err(e),
        answer => answer,
    };
    let ending = Instant::now();
    let rolled_back = within(limit, tx.rollback()).await;
    let end = ending.elapsed();
    let answer = answer?;
    rolled_back?;
    let Some((mut trial, key, change_began)) = answer else { return Ok(None) };
    trial.held = change_began.elapsed();
    // The cursor is moved by one more round trip, and a commit that does not wait costs about what a rollback does.
    trial.around = begin * 2 + end;
    Ok(Some((trial, key)))
}

/// Whether a round trip came to its deadline.
fn is_silence(e: &sqlx::Error) -> bool {
    matches!(e, sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::TimedOut)
}

async fn inside(
    tx: &mut PgConnection,
    range: &Range<'_>,
    limit: Duration,
) -> Result<Option<(Trial, KeyText, Instant)>, TrialError> {
    if let Some(log) = range.undo_log {
        within(limit, sqlx::raw_sql(AssertSqlSafe(log)).execute(&mut *tx)).await?;
    }
    let looking = Instant::now();
    let found = range.part.keys.boundary(&mut *tx, range.from, range.upper, range.rows);
    let Some(boundary) = within(limit, found).await? else { return Ok(None) };
    let bounding = looking.elapsed();
    let before = within(limit, written(tx)).await?;
    let position: String = within(limit, sqlx::query_scalar(INSERT_POSITION).fetch_one(&mut *tx)).await?;
    let change = range.part.change(range.from, &boundary.key);
    let began = Instant::now();
    let explained = within(limit, change_rows(tx, range, &boundary.key, &change)).await;
    let explained = explained.map_err(|e| TrialError::Change(e, change.clone()))?;
    // What is checked only at the commit belongs to the batch as well.
    let deferred = within(limit, sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *tx)).await;
    deferred.map_err(|e| TrialError::Change(e, change))?;
    let took = began.elapsed();
    let passed = sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::int8");
    let passed: i64 = within(limit, passed.bind(position).fetch_one(&mut *tx)).await?;
    let written = difference(&before, within(limit, written(tx)).await?);
    let locks = within(limit, locks(tx)).await?;
    let changed = rows_of(&written, range.part.written);
    let trial = Trial {
        at: range.at,
        part: range.part.keys.part().quoted(),
        own: range.part.written,
        look: range.look,
        is_repeated: range.is_repeated,
        walked: boundary.rows,
        changed,
        took,
        around: Duration::ZERO,
        bounding,
        held: took,
        explained,
        wal_passed: passed.max(0).cast_unsigned(),
        written,
        locks,
    };
    Ok(Some((trial, boundary.key, began)))
}

async fn change_rows(
    tx: &mut PgConnection,
    range: &Range<'_>,
    through: &KeyText,
    change: &SqlText,
) -> Result<Option<Explained>, sqlx::Error> {
    let text = AssertSqlSafe(format!("{}{}", range.look.words(), change.as_str()));
    match range.look {
        Look::Plain => {
            sqlx::query(text).bind(range.from).bind(through).persistent(false).execute(tx).await?;
            Ok(None)
        }
        Look::Close | Look::Counted => {
            let answer = sqlx::query_scalar(text).bind(range.from).bind(through).persistent(false);
            let answer: Value = answer.fetch_one(tx).await?;
            Ok(Explained::read(&answer))
        }
    }
}

async fn written(tx: &mut PgConnection) -> Result<Vec<Written>, sqlx::Error> {
    let rows = sqlx::query(WRITTEN).fetch_all(tx).await?;
    let count = |n: i64| n.max(0).cast_unsigned();
    let read = |row: sqlx::postgres::PgRow| {
        Ok(Written {
            oid: row.try_get("oid")?,
            table: row.try_get("name")?,
            inserted: count(row.try_get("n_tup_ins")?),
            updated: count(row.try_get("n_tup_upd")?),
            hot: count(row.try_get("n_tup_hot_upd")?),
            deleted: count(row.try_get("n_tup_del")?),
        })
    };
    rows.into_iter().map(read).collect()
}

async fn locks(tx: &mut PgConnection) -> Result<Vec<Lock>, sqlx::Error> {
    let rows = sqlx::query(LOCKS).fetch_all(tx).await?;
    rows.into_iter().map(|row| Ok(Lock { relation: row.try_get("relation")?, mode: row.try_get("mode")? })).collect()
}

/// What came between two looks.
fn difference(before: &[Written], after: Vec<Written>) -> Vec<Written> {
    let mut new = Vec::new();
    for mut now in after {
        if let Some(then) = before.iter().find(|then| then.oid == now.oid) {
            now.inserted = now.inserted.saturating_sub(then.inserted);
            now.updated = now.updated.saturating_sub(then.updated);
            now.hot = now.hot.saturating_sub(then.hot);
            now.deleted = now.deleted.saturating_sub(then.deleted);
        }
        if now.inserted + now.updated + now.deleted > 0 {
            new.push(now);
        }
    }
    new
}

/// Rows written into the step's own table; of a statement that writes into others only, into all of them.
fn rows_of(written: &[Written], table: i64) -> u64 {
    let rows = |one: &Written| one.inserted + one.updated + one.deleted;
    match written.iter().find(|one| one.oid == table) {
        Some(own) => rows(own),
        None => written.iter().map(rows).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(oid: i64, inserted: u64, updated: u64, hot: u64) -> Written {
        Written { oid, table: oid.to_string(), inserted, updated, hot, deleted: 0 }
    }

    #[test]
    fn what_an_earlier_transaction_wrote_is_not_this_ones() {
        let before = [written(1, 0, 100, 40), written(2, 7, 0, 0)];
        let after = vec![written(1, 0, 250, 90), written(2, 7, 0, 0), written(3, 5, 0, 0)];
        assert_eq!(difference(&before, after), [written(1, 0, 150, 50), written(3, 5, 0, 0)]);
    }

    #[test]
    fn rows_are_counted_in_the_steps_own_table_where_it_is_written() {
        let all = [written(1, 0, 150, 50), written(3, 5, 0, 0)];
        assert_eq!((rows_of(&all, 1), rows_of(&all, 9)), (150, 155));
    }
}
