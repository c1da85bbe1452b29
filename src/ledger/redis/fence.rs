//! Keeps a change of a former driver from committing once a new one has the run, by a lock of PostgreSQL's: it needs no schema.
//!
//! A batch holds the lock shared, from before it asks Redis whether the run is still its driver's until it has committed. Who
//! takes the run over holds it alone while the epoch is raised: it waits for batches that are about to commit, and those that
//! come later find their epoch gone.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::run::RunId;

/// The lock's key. A run's own key has its highest bit set (the variant of its id), this one never.
fn key(run: RunId) -> i64 {
    !run.advisory_key()
}

/// Where a transaction runs, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// The process id of its backend.
    pub backend: i32,
    /// Its number, which no other transaction of this cluster has.
    pub number: i64,
}

/// Which transaction this is. It gets a number with that.
///
/// # Errors
/// The driver's error.
pub async fn transaction(tx: &mut PgConnection) -> Result<Transaction, sqlx::Error> {
    let (backend, number) = sqlx::query_as("SELECT pg_backend_pid(), pg_catalog.txid_current()").fetch_one(tx).await?;
    Ok(Transaction { backend, number })
}

/// Takes the lock shared until the transaction ends, and says which it is.
///
/// # Errors
/// The driver's error: somebody takes the run over at this moment, and does not come to an end.
pub async fn share(tx: &mut PgConnection, run: RunId) -> Result<Transaction, sqlx::Error> {
    let row = sqlx::query("SELECT pg_backend_pid(), pg_catalog.txid_current(), pg_advisory_xact_lock_shared($1)")
        .bind(key(run))
        .fetch_one(tx)
        .await?;
    Ok(Transaction { backend: row.try_get(0)?, number: row.try_get(1)? })
}

/// Takes the lock alone until the transaction ends. Waits for batches that are about to commit.
///
/// # Errors
/// The driver's error: a batch does not come to an end within `lock_timeout`.
pub async fn alone(tx: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key(run)).execute(tx).await.map(drop)
}

/// What became of a transaction whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has committed.
    Committed,
    /// It has not, and never will.
    Lost,
    /// It may yet.
    Open,
}

/// Asks what became of a transaction.
///
/// # Errors
/// The connection's error.
pub async fn fate(connection: &mut PgConnection, number: i64) -> Result<Fate, sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT pg_catalog.txid_status($1)").bind(number).fetch_one(connection).await;
    let word: Option<String> = match asked {
        Ok(word) => word,
        // "transaction ID is in the future": the server has crashed, and lost it with its number.
        Err(sqlx::Error::Database(_)) => return Ok(Fate::Lost),
        Err(e) => return Err(e),
    };
    Ok(match word.as_deref() {
        Some("committed") => Fate::Committed,
        Some("in progress") => Fate::Open,
        _ => Fate::Lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fence_has_the_key_of_a_run() {
        for _ in 0..100 {
            let run = RunId(uuid::Uuid::now_v7());
            assert!(run.advisory_key() < 0 && key(run) >= 0);
        }
    }
}
