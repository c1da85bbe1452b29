//! Whether an address leads to the server itself, or to a pooler that shares sessions out by the transaction.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::deadline::within;

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether two connections share a backend, as a pooler in transaction mode lets them.
///
/// `a` tells its backend, and gives it back to the pooler with that. Then `b` holds one in a transaction: a pooler takes
/// the one that `a` had, or gives `a` another one when it asks again. A server keeps one backend for each connection.
///
/// # Errors
/// The driver's error.
pub async fn shares_sessions(a: &mut PgConnection, b: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let first = pid(a).await?;
    run(b, "BEGIN").await?;
    let second = pid(b).await?;
    let again = pid(a).await;
    run(b, "ROLLBACK").await?;
    Ok(first == second || again? != first)
}

/// By the simple protocol: a pooler in transaction mode loses prepared statements.
async fn pid(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let row = within(LIMIT, sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection)).await?;
    row.try_get(0)
}

async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    within(LIMIT, sqlx::raw_sql(sql).execute(connection)).await.map(drop)
}
