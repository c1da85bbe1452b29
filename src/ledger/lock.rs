//! The lock that makes one driver the only one, and the heartbeat beside it, through every outage.
//!
//! The lock is a session's. When its connection breaks, it is taken anew on another one: what keeps two drivers from
//! harm meanwhile is the epoch, under which every batch commits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::postgres::{milliseconds, step_time, waited_json};
use super::runs;
use crate::engine::ports::Pulse;
use crate::postgres::connect::Refused;
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::run::{Cause, RunId};

/// How often the heartbeat is written.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a heartbeat may take before its connection counts as broken.
const LIMIT: Duration = Duration::from_secs(10);

/// Opens a connection for the lock.
pub type Reopen = Arc<dyn Fn() -> BoxFuture<'static, Result<PgConnection, Refused>> + Send + Sync>;

/// Writes the heartbeat, wherever the ledger lies, by way of the session that holds the lock.
#[async_trait]
pub trait Heart: Send + Sync {
    /// Writes it, and makes sure that the session lives. `false`: the run is another driver's.
    ///
    /// # Errors
    /// The driver's error.
    async fn beat(&self, connection: &mut PgConnection, pulse: &Pulse) -> Result<bool, sqlx::Error>;
}

/// Keeps the lock on a run.
pub struct Keeper {
    /// The run.
    pub run: RunId,
    /// Writes the heartbeat.
    pub heart: Arc<dyn Heart>,
    /// Opens another connection when this one breaks.
    pub reopen: Reopen,
    /// The newest times.
    pub pulse: watch::Receiver<Pulse>,
    /// Told once the run is another driver's.
    pub loss: watch::Sender<Option<Cause>>,
    /// Cancelled when the run is over.
    pub closing: CancellationToken,
    /// Cancelled when the lock is given back.
    pub closed: CancellationToken,
}

/// The session that holds the lock.
struct Session {
    connection: PgConnection,
    pid: i32,
}

impl Keeper {
    /// Writes the heartbeat until the ledger closes, on `lock` as long as that lives.
    pub async fn keep(self, lock: PgConnection) {
        let _closed = self.closed.clone().drop_guard();
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = self.known(lock).await;
        let mut before = session.as_ref().map(|session| session.pid);
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if session.is_none() {
                session = self.take_again(before).await;
                before = session.as_ref().map(|session| session.pid).or(before);
            }
            let Some(mut held) = session.take() else { continue };
            match within(LIMIT, self.beat(&mut held.connection)).await {
                Ok(true) => session = Some(held),
                Ok(false) => {
                    self.lose();
                    return;
                }
                // A row was locked, or a resource was short, for a moment: the session lives, and the lock with it.
                Err(e) if !error::is_lost(&e) => {
                    tracing::warn!("a heartbeat was not written: {e}");
                    session = Some(held);
                }
                // Without its connection: nobody knows what it is in the middle of.
                Err(e) => tracing::warn!("the connection that holds the lock on the run is lost: {e}"),
            }
        }
        if let Some(mut session) = session {
            // At once, and not when the server gets round to ending the session: who comes next finds the run free.
            let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(self.run.advisory_key());
            if let Err(e) = within(Duration::from_secs(2), unlock.execute(&mut session.connection)).await {
                tracing::debug!("the lock on the run ends with its session: {e}");
            }
            drop(tokio::time::timeout(Duration::from_secs(2), session.connection.close()).await);
        }
    }

    fn lose(&self) {
        let cause =
            Cause::new("another driver has taken this run over").hint("look who drives it now: howdah status").busy();
        self.loss.send_replace(Some(cause));
    }

    async fn known(&self, mut connection: PgConnection) -> Option<Session> {
        let ask = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection);
        let pid = within(LIMIT, ask).await.ok()?;
        Some(Session { connection, pid })
    }

    /// A new session with the lock. `before`: the backend that held it, which may not know yet that its client is gone.
    async fn take_again(&self, before: Option<i32>) -> Option<Session> {
        let connection = match (self.reopen)().await {
            Ok(connection) => connection,
            Err(refused) => {
                tracing::debug!("the lock on the run cannot be taken again yet: {}", refused.cause.headline());
                return None;
            }
        };
        let mut session = self.known(connection).await?;
        match within(LIMIT, self.lock(&mut session.connection, before)).await {
            Ok(true) => {
                tracing::info!("the lock on the run is held again");
                Some(session)
            }
            // Somebody else holds it. The next heartbeat tells whether the run is still ours.
            Ok(false) => match within(LIMIT, self.beat(&mut session.connection)).await {
                Ok(false) => {
                    self.lose();
                    None
                }
                Ok(true) | Err(_) => None,
            },
            Err(e) => {
                tracing::debug!("the lock on the run cannot be taken again yet: {e}");
                None
            }
        }
    }

    async fn lock(&self, connection: &mut PgConnection, before: Option<i32>) -> Result<bool, sqlx::Error> {
        if runs::try_lock(connection, self.run).await? {
            return Ok(true);
        }
        // Our own former session.
        runs::end_holder(connection, self.run, before).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        runs::try_lock(connection, self.run).await
    }

    async fn beat(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let pulse = self.pulse.borrow().clone();
        self.heart.beat(connection, &pulse).await
    }
}

/// Writes it into schema `howdah`.
pub struct PostgresHeart {
    /// The run.
    pub run: RunId,
    /// The epoch under which this driver took it.
    pub epoch: i64,
}

#[async_trait]
impl Heart for PostgresHeart {
    async fn beat(&self, connection: &mut PgConnection, pulse: &Pulse) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE howdah.run SET heartbeat = now(), worked_ms = greatest(worked_ms, $3), \
                    paused_ms = greatest(paused_ms, $4), waited = CASE WHEN $5 = '{}'::jsonb THEN waited ELSE $5 END \
             WHERE id = $1 AND epoch = $2",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .bind(milliseconds(pulse.run.worked))
        .bind(milliseconds(pulse.run.paused))
        .bind(waited_json(pulse))
        .execute(&mut *connection)
        .await?;
        if let Some(step) = &pulse.step {
            step_time(connection, self.run, self.epoch, step).await?;
        }
        Ok(done.rows_affected() == 1)
    }
}
