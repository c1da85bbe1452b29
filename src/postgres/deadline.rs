//! Deadlines on round trips: a network that drops packets says nothing, for ever.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool};

use crate::run::human;

/// Waits for an answer of the server, but not for ever. Whoever gets an error by the deadline must drop the connection:
/// nobody knows what it is in the middle of.
///
/// # Errors
/// The driver's; [`sqlx::Error::Io`] of kind `TimedOut` once `limit` has passed.
pub async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(no_answer(limit)),
    }
}

/// The answer to a statement that the server has ended is lost.
#[must_use]
pub fn lost_answer() -> sqlx::Error {
    let words = "the server has ended the statement, and its answer has not come: the network has lost the connection";
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}

/// The server has not answered within `limit`.
#[must_use]
pub fn no_answer(limit: Duration) -> sqlx::Error {
    let words = format!("no answer within {}: the network, or the server, stands still", human::duration(limit));
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}

/// Does `work` on a connection of the pool. One that does not answer in time is taken out of the pool and dropped: given
/// back, it would be waited for again.
///
/// # Errors
/// As [`within`].
pub async fn on_pool<T>(
    pool: &PgPool,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let answer = tokio::time::timeout(limit, work(&mut connection)).await;
    if let Ok(answer) = answer {
        return answer;
    }
    drop(connection.detach());
    Err(no_answer(limit))
}
