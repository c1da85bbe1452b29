//! What the server or the driver says, turned into a [`Cause`] that a person can act on.

use std::io::ErrorKind;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::sql::SqlText;
use super::sqlstate::{self, Class};
use crate::plan::model::PlanSource;
use crate::run::Cause;
use crate::run::cause::Fault;

/// The server's own error inside a driver's error.
#[must_use]
pub fn database(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>())
}

/// The SQLSTATE inside a driver's error.
#[must_use]
pub fn code(error: &sqlx::Error) -> Option<&str> {
    database(error).map(PgDatabaseError::code)
}

/// Whether the connection is gone, by what the driver or the server said.
#[must_use]
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Protocol(text) => text.contains("closed") || text.contains("unexpected"),
        _ => code(error).is_some_and(|code| sqlstate::class(code) == Class::Connection),
    }
}

/// Describes a failure: `what` was being done, such as `step "emails"`.
#[must_use]
pub fn cause(what: &str, error: &sqlx::Error) -> Cause {
    if is_lost(error) {
        return lost(what, error);
    }
    let Some(db) = database(error) else {
        return Cause::new(format!("{what}: {error}"));
    };
    let mut cause = Cause::new(format!("{what}: {}", db.message())).sqlstate(db.code());
    if let Some(detail) = db.detail() {
        cause = cause.detail(format!("detail: {detail}"));
    }
    if let Some(context) = db.r#where() {
        cause.details.extend(context.lines().take(4).map(|line| format!("where: {line}")));
    }
    if let Some(PgErrorPosition::Internal { position, query }) = db.position() {
        cause = cause.detail(format!("in a function's query, at character {position}: {query}"));
    }
    if let Some(hint) = db.hint() {
        cause = cause.hint(hint.to_owned());
    }
    cause.hints.extend(advice(db.code()));
    cause
}

/// Describes a failure of SQL that came from the plan: with a caret under the words that the server pointed at.
#[must_use]
pub fn cause_in_plan(what: &str, error: &sqlx::Error, sql: &SqlText, source: &PlanSource) -> Cause {
    let mut cause = cause(what, error);
    let Some(db) = database(error) else { return cause };
    if let Some(PgErrorPosition::Original(position)) = db.position() {
        let inside = sql.place(position);
        if let Some(place) = inside.as_ref().or(sql.before(position).as_ref()) {
            cause.message = format!("{what}, `{}`: {}", place.label, db.message());
            let excerpt = source.excerpt_in_sql(place.sql, place.offset);
            cause.details.splice(0..0, excerpt);
        }
        if inside.is_none() {
            cause = cause.hint("the words up to here are not whole: is a parenthesis, a quote or a word missing?");
        }
    } else if let Some(place) = sql.first() {
        cause.details.splice(0..0, source.excerpt_in_sql(place.sql, 0));
    }
    if sqlstate::class(db.code()) == Class::Plan && db.code() != sqlstate::INSUFFICIENT_PRIVILEGE {
        cause.fault = Fault::Usage;
    }
    cause
}

fn lost(what: &str, error: &sqlx::Error) -> Cause {
    let told = match error {
        sqlx::Error::PoolTimedOut => "no connection could be had in time".to_owned(),
        sqlx::Error::Io(io) => io_words(io),
        _ => database(error).map_or_else(|| error.to_string(), |db| db.message().to_owned()),
    };
    let cause = Cause::new(format!("{what}: lost the connection to the server: {told}"))
        .hint("what was committed is safe; when the server is back, resume the run");
    match code(error) {
        Some(code) => cause.sqlstate(code),
        None => cause,
    }
}

/// An I/O error in plain words, without "os error 111".
#[must_use]
pub fn io_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        ErrorKind::BrokenPipe => "the connection was closed".to_owned(),
        ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::TimedOut if error.get_ref().is_none() => "timed out".to_owned(),
        _ => {
            let text = error.to_string();
            text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
        }
    }
}

fn advice(code: &str) -> Option<String> {
    let advice = match code {
        "55P03" => "another session holds a lock on the table; see pg_locks, or raise `limits.lock_timeout`",
        "57014" => {
            "the statement ran into its time limit; lower `limits.batch.max`, or raise `limits.statement_timeout`"
        }
        "42501" => "grant the role what it lacks, or connect as another role",
        "53100" => "the server's disk is full; nothing of the batch was kept",
        "40P01" | "40001" => "another session was in the way; resume the run",
        _ => return None,
    };
    Some(advice.to_owned())
}
