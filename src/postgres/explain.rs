//! The planner's estimate of a table's rows.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// How many rows the planner expects in a table: `reltuples` scaled to the table's present size, as the planner does it.
///
/// `table` is quoted. Costs no scan. `None` where the answer cannot be read.
///
/// # Errors
/// The driver's error.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, checked to be in range")]
pub async fn estimated_rows(connection: &mut PgConnection, table: &str) -> Result<Option<u64>, sqlx::Error> {
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT 1 FROM {table}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_f64);
    Ok(rows.filter(|rows| (0.0..1e18).contains(rows)).map(|rows| rows as u64))
}
