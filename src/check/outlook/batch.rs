//! The statements of a batch as the server gets them, with keys that are there, and what the server makes of the change.

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::plan::model::Plan;
use crate::postgres::error;
use crate::postgres::key::End;
use crate::postgres::sql::SqlText;
use crate::run::{Cause, KeyText};
use crate::steps::keyspace::Keyspace;

/// Pieces that the key space is cut into to find a place in its middle.
const PIECES: u32 = 8;

/// A batch from the middle of the key space.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BatchOutlook {
    /// The key before its first row. `None`: it begins at the first row.
    pub from: Option<KeyText>,
    /// Its last key.
    pub through: KeyText,
    /// Rows between the two.
    pub rows: u64,
    /// What its last key is found by: `$1` and `$2` are the ends of the range, `$3` the rows that are passed over. A later
    /// one is asked only where earlier ones found too few rows.
    pub boundary: Vec<String>,
    /// The change: `$1` is the key before its first row, `$2` its last key.
    pub change: String,
    /// The server's plan for the change, by EXPLAIN: nothing is run.
    pub explain: Vec<String>,
}

/// Puts a batch of the plan's first size together. `None`: there are no rows.
pub(super) async fn look(
    connection: &mut PgConnection,
    plan: &Plan,
    name: &str,
    keys: &Keyspace,
    change: impl Fn(Option<&KeyText>, &KeyText) -> SqlText,
) -> Result<Option<BatchOutlook>, Cause> {
    let what = format!("step \"{name}\"");
    let failed = |e: sqlx::Error| error::cause(&what, &e);
    let Some(last) = keys.end(connection, End::Last).await.map_err(failed)? else { return Ok(None) };
    let cuts = keys.cuts(connection, None, &last, PIECES).await.map_err(failed)?;
    let from = cuts.get(cuts.len() / 2).cloned();
    let found = keys.boundary(connection, from.as_ref(), Some(&last), plan.limits.batch.start).await.map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    let change = change(from.as_ref(), &found.key);
    let sql = AssertSqlSafe(format!("EXPLAIN (VERBOSE OFF) {}", change.as_str()));
    let explained = sqlx::query_scalar(sql).bind(from.as_ref()).bind(&found.key).persistent(false);
    let explain: Vec<String> = explained
        .fetch_all(&mut *connection)
        .await
        .map_err(|e| error::cause_in_plan(&what, &e, &change, &plan.source))?;
    Ok(Some(BatchOutlook {
        boundary: keys.questions(from.as_ref(), Some(&last)),
        change: change.as_str().to_owned(),
        explain,
        through: found.key,
        rows: found.rows,
        from,
    }))
}
