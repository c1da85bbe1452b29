//! The planner's estimate of a table's rows.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// How many rows a table holds, by what the server knows without looking: costs no scan.
///
/// The statistics collector's `n_live_tup` follows every insert and delete, and is believed while it agrees with what
/// the last ANALYZE saw (a crash throws it away) and with the table's size (a session that inserts rows and analyses them at
/// once counts them twice). Else the planner's estimate, `reltuples` scaled to the table's present size, which takes dead rows
/// for rows. `table` is quoted. `None` where nothing is known.
///
/// # Errors
/// The driver's error.
pub async fn rows(connection: &mut PgConnection, oid: i64, table: &str) -> Result<Option<u64>, sqlx::Error> {
    let live: Option<i64> = sqlx::query_scalar(
        "SELECT s.n_live_tup FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid \
         WHERE s.relid = $1::int8::oid AND c.reltuples > 0 AND s.n_live_tup >= c.reltuples / 2",
    )
    .bind(oid)
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await?;
    let planned = planned(connection, table).await?;
    Ok(match (live.map(|live| live.max(0).cast_unsigned()), planned) {
        (Some(live), Some(planned)) if live > planned.saturating_add(planned / 2) => Some(planned),
        (Some(live), _) => Some(live),
        (None, planned) => planned,
    })
}

/// How many rows the planner expects of `SELECT 1 FROM {from}`, where `from` may hold a `WHERE`. Costs no scan.
///
/// # Errors
/// The driver's error.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, checked to be in range")]
pub async fn planned(connection: &mut PgConnection, from: &str) -> Result<Option<u64>, sqlx::Error> {
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT 1 FROM {from}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_f64);
    Ok(rows.filter(|rows| (0.0..1e18).contains(rows)).map(|rows| rows as u64))
}
