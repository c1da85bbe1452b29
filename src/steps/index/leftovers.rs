//! What builds that were cut off have left behind: half-built indexes, and backends that go on building.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::engine::ports::{StepContext, StepError};
use crate::postgres::catalog::{self, IndexState};
use crate::postgres::deadline::on_pool;
use crate::postgres::error;
use crate::postgres::tokens::ConcurrentIndex;
use crate::run::Level;
use crate::steps::interruptible::{self, OwnConnection, Watch};
use crate::steps::{Workbench, trouble};

/// How often it is looked whether another session still builds.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits until nobody builds the index, and drops it where it was left INVALID. Says whether a valid one is there.
///
/// # Errors
/// The server's or the driver's; the run is to stop.
pub async fn settled(bench: &Workbench, context: &StepContext, wanted: &ConcurrentIndex) -> Result<bool, StepError> {
    loop {
        let asked =
            on_pool(&bench.pool, bench.deadline(), async |connection| catalog::index_state(connection, wanted).await);
        match asked.await.map_err(|e| trouble::step_error(&e, error::cause(&bench.what(), &e)))? {
            IndexState::Valid => return Ok(true),
            IndexState::Absent => return Ok(false),
            IndexState::Invalid(name) => {
                told_invalid(context, &wanted.index);
                drop_concurrently(bench, context, &name, "dropping the invalid index").await?;
            }
            IndexState::BeingBuilt => await_builder(context).await?,
        }
    }
}

/// Says that an index was left behind, and what is done about it.
pub fn told_invalid(context: &StepContext, index: &str) {
    let text = format!("index `{index}` was left INVALID by an earlier failure: dropping it, to build it again");
    context.reporter.notice(Level::Warning, text);
}

/// Rests while another session builds the index: a backend goes on after its client was killed.
///
/// # Errors
/// The run is to stop.
pub async fn await_builder(context: &StepContext) -> Result<(), StepError> {
    context.reporter.doing("waiting for another session that builds this index, or vacuums its table", None);
    tokio::select! {
        biased;
        () = context.stop.cancelled() => Err(StepError::Stopped),
        () = tokio::time::sleep(AGAIN) => Ok(()),
    }
}

/// `DROP INDEX CONCURRENTLY` of `name`, quoted. `what` is shown while it waits for whoever still uses the index.
///
/// # Errors
/// The server's or the driver's; the run is to stop.
pub async fn drop_concurrently(
    bench: &Workbench,
    context: &StepContext,
    name: &str,
    what: &str,
) -> Result<(), StepError> {
    let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
    // It waits for old transactions, and holds nobody up while it does.
    alone(bench, context, sql, what, Duration::ZERO).await
}

/// `DROP INDEX` of a partitioned table's index, which cannot be dropped concurrently: the lock is waited for no longer than
/// `limits.lock_timeout`, and is held for a moment.
///
/// # Errors
/// The server's or the driver's; the run is to stop.
pub async fn drop_partitioned(
    bench: &Workbench,
    context: &StepContext,
    name: &str,
    what: &str,
) -> Result<(), StepError> {
    alone(bench, context, format!("DROP INDEX IF EXISTS {name}"), what, bench.limits.lock_timeout).await
}

async fn alone(
    bench: &Workbench,
    context: &StepContext,
    sql: String,
    what: &str,
    lock: Duration,
) -> Result<(), StepError> {
    let mut own = OwnConnection::take(bench, Duration::ZERO, lock).await?;
    let pid = own.pid;
    let work = sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(own.get());
    let done = interruptible::wait(&bench.pool, pid, context, what, Watch::Nothing, work).await;
    let done = done.map(drop).map_err(|e| e.into_step_error(|e| error::cause(&bench.what(), e)));
    own.close().await;
    done
}
