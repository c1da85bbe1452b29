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
use crate::postgres::{error, holders, progress, session, sqlstate, stats};
use crate::run::text::clean;
use crate::run::{Cause, Level};

/// How often it is thought about. Mostly nothing is asked then.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks at how far the statement is. At first it is looked at every tick: whoever holds a lock must be seen
/// before `lock_timeout` has passed.
const LOOK_EVERY: u32 = 4;
/// Ticks between two looks whether the server still works for the statement.
const ALIVE_EVERY: u32 = 20;
/// Ticks after which a wait for others is told, and not only shown.
const TELL_AFTER: u32 = 20;
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

/// Waits for `statement`, which runs on backend `pid`. Once a second `watch` says what to show, and whom it waits for; when the
/// run is to stop, the server is asked to cancel.
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
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stopping = false;
    let mut count = 0_u32;
    let mut waits = Waits::default();
    let mut idle = 0_u32;
    loop {
        tokio::select! {
            biased;
            done = &mut statement => {
                return match done {
                    Ok(value) => Ok(value),
                    Err(e) if stopping && error::code(&e) == Some(sqlstate::QUERY_CANCELED) => Err(Interrupted::Stopped),
                    Err(e) if error::code(&e) == Some(sqlstate::LOCK_NOT_AVAILABLE) => {
                        Err(Interrupted::Blocked(e, waits.by))
                    }
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
                count = count.saturating_add(1);
                if count.is_multiple_of(ALIVE_EVERY) {
                    // Answered or gone, by the server; and nothing of it has come here: the network has lost it.
                    idle = if is_at_work(pool, pid).await { 0 } else { idle + 1 };
                    if idle >= 2 {
                        return Err(Interrupted::Failed(deadline::lost_answer()));
                    }
                }
                if count > LOOK_EVERY && !count.is_multiple_of(LOOK_EVERY) {
                    continue;
                }
                if stopping {
                    cancel(pool, pid).await;
                    continue;
                }
                if count == 1 && watch == Watch::Nothing {
                    // Most statements are over before they could be looked at.
                    context.reporter.doing(what, None);
                    continue;
                }
                let look = look(pool, pid, watch).await;
                let (words, fraction) = look.words(what);
                context.reporter.doing(&words, fraction);
                if let Some(pids) = waits.news(&look, count) {
                    tracing::debug!("backend {pid} has waited for {pids:?}");
                    context.reporter.notice(Level::Info, words);
                }
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
    /// `pg_stat_progress_create_index`, of one index.
    Index,
    /// The same of several, one after the other.
    Indexes,
    /// `pg_stat_progress_analyze`.
    Analyze,
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
    /// It could not have a lock in time; and who held it, in a few words, where that was seen.
    Blocked(sqlx::Error, Option<String>),
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
            Self::Blocked(e, by) => {
                let mut cause = explain(&e);
                if let Some(by) = by {
                    cause.message = format!("{}, held by {by}", cause.message);
                }
                trouble::step_error(&e, cause)
            }
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

/// What could be seen of a statement at one moment.
#[derive(Debug, Default)]
struct Look {
    progress: Option<progress::Progress>,
    /// Whether the index is named as well.
    names_index: bool,
    holders: Vec<holders::Holder>,
}

async fn look(pool: &PgPool, pid: i32, watch: Watch) -> Look {
    let asked = on_pool(pool, ASIDE, async |connection| {
        let progress = match watch {
            Watch::Index | Watch::Indexes => progress::index(connection, pid).await?,
            Watch::Analyze => progress::analyze(connection, pid).await?,
            Watch::Nothing => None,
        };
        let is_working = progress.as_ref().is_some_and(|progress| progress.fraction.is_some());
        let holders = if is_working { Vec::new() } else { holders::of(connection, pid).await? };
        Ok(Look { progress, names_index: watch == Watch::Indexes, holders })
    });
    asked.await.unwrap_or_default()
}

impl Look {
    /// What to show, and the share done. `what` is our own word for the statement.
    fn words(&self, what: &str) -> (String, Option<f64>) {
        let by = holders::words(&self.holders);
        let Some(progress) = &self.progress else {
            let by = by.map_or_else(String::new, |by| format!(": waiting for a lock, held by {by}"));
            return (format!("{what}{by}"), None);
        };
        let index = progress.index.as_deref().filter(|_| self.names_index);
        let index = index.map_or_else(String::new, |index| format!("{}: ", clean(index)));
        let by = by.map_or_else(String::new, |by| format!(": {by}"));
        // The server's own words for a phase begin like ours: "building index: scanning table".
        let words = if progress.phase.starts_with(what) {
            format!("{}{by}", progress.phase)
        } else {
            format!("{what}: {index}{}{by}", progress.phase)
        };
        (words, progress.fraction)
    }
}

/// Whom a statement has waited for, so that each is told once.
#[derive(Debug, Default)]
struct Waits {
    /// The latest, in words.
    by: Option<String>,
    /// The tick since which it has waited for the same session first of all.
    since: Option<(i32, u32)>,
    told: Option<i32>,
}

impl Waits {
    /// Takes a look at tick `now`. `Some` where a wait has become long enough to be told.
    fn news(&mut self, look: &Look, now: u32) -> Option<Vec<i32>> {
        let first = look.holders.first().map(|holder| holder.pid)?;
        self.by = holders::words(&look.holders);
        let (pid, since) = *self.since.get_or_insert((first, now));
        if pid != first {
            self.since = Some((first, now));
            return None;
        }
        if now - since < TELL_AFTER || self.told == Some(first) {
            return None;
        }
        self.told = Some(first);
        Some(look.holders.iter().map(|holder| holder.pid).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(pid: i32) -> Look {
        let holder = holders::Holder { pid, who: Some("psql".into()), ..holders::Holder::default() };
        Look { holders: vec![holder], ..Look::default() }
    }

    #[test]
    fn what_is_shown_names_the_phase_and_whoever_is_waited_for() {
        let phase = |phase: &str, fraction| {
            Some(progress::Progress { phase: phase.into(), index: Some("i_ccnew".into()), fraction })
        };
        let building =
            Look { progress: phase("building index: scanning table (3 of 8)", Some(0.5)), ..Look::default() };
        assert_eq!(building.words("building index"), ("building index: scanning table (3 of 8)".into(), Some(0.5)));
        let waiting = Look { progress: phase("waiting for old snapshots (8 of 8)", None), ..held_by(7) };
        assert_eq!(waiting.words("index i").0, "index i: waiting for old snapshots (8 of 8): pid 7 (psql)");
        let several = Look { names_index: true, ..waiting };
        assert_eq!(several.words("table t").0, "table t: i_ccnew: waiting for old snapshots (8 of 8): pid 7 (psql)");
        assert_eq!(held_by(7).words("statement").0, "statement: waiting for a lock, held by pid 7 (psql)");
        assert_eq!(Look::default().words("statement").0, "statement");
    }

    #[test]
    fn a_wait_is_told_once_it_has_lasted_and_once_for_each_session() {
        let mut waits = Waits::default();
        assert_eq!(waits.news(&held_by(7), 1), None);
        assert_eq!(waits.by.as_deref(), Some("pid 7 (psql)"));
        assert_eq!(waits.news(&held_by(7), 1 + TELL_AFTER), Some(vec![7]));
        assert_eq!(waits.news(&held_by(7), 90), None);
        assert_eq!(waits.news(&held_by(8), 91), None);
        assert_eq!(waits.news(&Look::default(), 100), None);
        assert_eq!(waits.news(&held_by(8), 91 + TELL_AFTER), Some(vec![8]));
    }
}
