//! Round trips of a sink.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::steps::batch::BatchError;

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

/// Makes a temporary table, where the session has none yet.
pub(super) async fn make(tx: &mut PgConnection, sql: &str, limit: Duration) -> Result<(), BatchError> {
    within(limit, tx.execute(sqlx::raw_sql(AssertSqlSafe(sql)))).await?;
    Ok(())
}

/// Runs a statement. Returns the rows that it touched.
pub(super) async fn execute(tx: &mut PgConnection, sql: &str, limit: Duration) -> Result<u64, BatchError> {
    let done = within(limit, sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(tx)).await?;
    Ok(done.rows_affected())
}

/// Sends lines to a COPY. Returns the rows.
pub(super) async fn copy(tx: &mut PgConnection, sql: &str, lines: &[u8], limit: Duration) -> Result<u64, BatchError> {
    let mut copy = within(limit, tx.copy_in_raw(sql)).await?;
    for chunk in lines.chunks(CHUNK) {
        // When this fails the connection is dropped: nobody knows how much of it has arrived.
        within(limit, copy.send(chunk)).await.map_err(lost)?;
    }
    Ok(within(limit, copy.finish()).await?)
}

fn lost(e: sqlx::Error) -> sqlx::Error {
    if error::is_lost(&e) { e } else { sqlx::Error::Io(std::io::Error::other(e.to_string())) }
}
