//! One long statement that can be watched, and cancelled when the run is to stop.
//!
//! The future that waits for the server is not dropped: the server is asked, from another connection, to cancel. Only
//! when the server says that it has no such work any more, and its answer has not come, is the connection given up.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool};
use tokio::time::MissedTickBehavior;

use super::{Workbench, trouble};
use crate::engine::ports::{StepContext, StepError};
use crate::postgres::deadline::{self, on_pool};
use crate::postgres::{error, session, sqlstate, stats};
use crate::run::Cause;

/// How often, in seconds, it is looked whether the server still works for the statement.
const LOOK_EVERY: u32 = 5;
/// How long a question asked beside the statement may take, outside of any transaction.
const ASIDE: Duration = Duration::from_secs(2);

/// A connection of the step's own, out of the pool for good: its settings may be changed at will.
pub struct OwnConnection {
    connection: PgConnection,
    /// The backend that serves it.
    pub pid: i32,
}

impl OwnConnection {
    /// Takes a connection out of the pool and names it after the step. `statement` is its `statement_timeout`, zero for
    /// none; `lock` its `lock_timeout`.
    ///
    /// # Errors
    /// No connection can be had.
    pub async fn take(bench: &Workbench, statement: Duration, lock: Duration) -> Result<Self, StepError> {
        let failed = |e: sqlx::Error| trouble::step_error(&e, error::cause(&bench.what(), &e));
        let mut connection = bench.pool.acquire().await.map_err(failed)?.detach();
        let settings = session::Session {
            application_name: bench.application_name(),
            lock_timeout: lock,
            statement_timeout: statement,
            idle_in_transaction_timeout: bench.limits.idle_in_transaction_timeout,
        };
        settings.apply(&mut connection).await.map_err(failed)?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, pid })
    }

    /// The connection.
    pub fn get(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Says goodbye to the server.
    pub async fn close(self) {
        // One that does not answer any more is not waited for.
        drop(tokio::time::timeout(ASIDE, self.connection.close()).await);
    }
}

/// Waits for `statement`, which runs on backend `pid`. Once a second `watch` says what to show; when the run is to stop,
/// the server is asked to cancel.
///
/// # Errors
/// [`Interrupted::Stopped`] when it was cancelled for that reason, else the statement's own error.
pub async fn wait<T>(
    pool: &PgPool,
    pid: i32,
    context: &StepContext,
    what: &str,
    watch: Watch,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Interrupted> {
    if context.stop.is_cancelled() {
        return Err(Interrupted::Stopped);
    }
    let mut statement = std::pin::pin!(statement);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stopping = false;
    let mut seconds = 0_u32;
    let mut idle = 0_u32;
    loop {
        tokio::select! {
            biased;
            done = &mut statement => {
                return match done {
                    Ok(value) => Ok(value),
                    Err(e) if stopping && error::code(&e) == Some(sqlstate::QUERY_CANCELED) => Err(Interrupted::Stopped),
                    Err(e) => Err(Interrupted::Failed(e)),
                };
            }
            () = context.stop.cancelled(), if !stopping => {
                stopping = true;
                context.reporter.doing(&format!("cancelling: {what}"), None);
                cancel(pool, pid).await;
            }
            // Asked again: between two queries there was nothing to cancel, or no connection could be had to ask with.
            _ = ticks.tick() => {
                seconds += 1;
                if seconds.is_multiple_of(LOOK_EVERY) {
                    // Answered or gone, by the server; and nothing of it has come here: the network has lost it.
                    idle = if is_at_work(pool, pid).await { 0 } else { idle + 1 };
                    if idle >= 2 {
                        return Err(Interrupted::Failed(deadline::lost_answer()));
                    }
                }
                if stopping {
                    cancel(pool, pid).await;
                    continue;
                }
                let (words, fraction) = match watch {
                    Watch::Index => index_words(pool, pid, what).await,
                    Watch::Nothing => (what.to_owned(), None),
                };
                context.reporter.doing(&words, fraction);
            }
        }
    }
}

/// Whether the server still works for the statement, as far as it can be asked.
async fn is_at_work(pool: &PgPool, pid: i32) -> bool {
    let asked = on_pool(pool, ASIDE, async |connection| stats::is_at_work(connection, pid).await);
    asked.await.unwrap_or(true)
}

/// What can be watched of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// `pg_stat_progress_create_index`.
    Index,
    /// Only the time.
    Nothing,
}

/// Why a statement did not end well.
#[derive(Debug)]
pub enum Interrupted {
    /// The run is to stop.
    Stopped,
    /// By itself.
    Failed(sqlx::Error),
    /// It was not written down, and nothing of it was kept.
    Unrecorded(StepError),
}

impl Interrupted {
    /// As the engine knows it; `explain` turns the driver's error into a cause.
    pub fn into_step_error(self, explain: impl FnOnce(&sqlx::Error) -> Cause) -> StepError {
        match self {
            Self::Stopped => StepError::Stopped,
            // Cancelled by its own time limit: the same statement would run into it again.
            Self::Failed(e) if error::code(&e) == Some(sqlstate::QUERY_CANCELED) => StepError::Failed(explain(&e)),
            Self::Failed(e) => trouble::step_error(&e, explain(&e)),
            Self::Unrecorded(error) => error,
        }
    }
}

async fn cancel(pool: &PgPool, pid: i32) {
    let asked = async {
        let mut connection = pool.acquire().await?;
        stats::cancel(&mut connection, pid).await
    };
    match tokio::time::timeout(ASIDE, asked).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("the statement could not be cancelled yet: {e}"),
        Err(_) => tracing::warn!("the statement could not be cancelled yet: no answer"),
    }
}

async fn index_words(pool: &PgPool, pid: i32, what: &str) -> (String, Option<f64>) {
    let progress = async {
        let mut connection = pool.acquire().await?;
        stats::index_progress(&mut connection, pid).await
    };
    match tokio::time::timeout(ASIDE, progress).await {
        // The server's own words for a phase begin like ours: "building index: scanning table".
        Ok(Ok(Some(progress))) if progress.phase.starts_with(what) => (progress.phase, progress.fraction),
        Ok(Ok(Some(progress))) => (format!("{what}: {}", progress.phase), progress.fraction),
        Ok(Ok(None) | Err(_)) | Err(_) => (what.to_owned(), None),
    }
}
