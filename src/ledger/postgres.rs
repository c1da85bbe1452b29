//! The ledger on the target database itself: state, heartbeat, events, and the lock that makes one driver the only one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, PgTransaction};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::engine::ports::{Ledger, Pulse};
use crate::postgres::sqlstate::{self, Class};
use crate::postgres::{error, session};
use crate::run::timer::Spent;
use crate::run::{Cause, Event, RunId, RunState, StepIndex};

/// How often the heartbeat is written.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a heartbeat may take before the lock counts as lost.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);

/// The ledger of one run, held by its driver.
pub struct PostgresLedger {
    pool: PgPool,
    run: RunId,
    epoch: i64,
    pulse: watch::Sender<Pulse>,
    lost: watch::Receiver<Option<Cause>>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl PostgresLedger {
    /// The ledger, and the work that keeps the lock: it owns `lock`, the connection whose session holds it.
    pub fn new(
        pool: PgPool,
        run: RunId,
        epoch: i64,
        lock: PgConnection,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (pulse, newest) = watch::channel(Pulse::default());
        let (loss, lost) = watch::channel(None);
        let closing = CancellationToken::new();
        let closed = CancellationToken::new();
        let keeper = keep_lock(lock, run, epoch, newest, loss, closing.clone(), closed.clone());
        (Arc::new(Self { pool, run, epoch, pulse, lost, closing, closed }), keeper)
    }

    /// A transaction whose commit waits for the disk, in a pool whose sessions' commits do not.
    async fn durable(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.pool.begin_with(session::DURABLE).await
    }
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// Writes the heartbeat until the ledger closes. When it cannot, the lock is gone with its session, and says why.
async fn keep_lock(
    mut lock: PgConnection,
    run: RunId,
    epoch: i64,
    pulse: watch::Receiver<Pulse>,
    loss: watch::Sender<Option<Cause>>,
    closing: CancellationToken,
    closed: CancellationToken,
) {
    let _closed = closed.drop_guard();
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = tokio::time::Instant::now();
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let newest = *pulse.borrow();
        let beat = tokio::time::timeout(HEARTBEAT_LIMIT, heartbeat(&mut lock, run, epoch, newest)).await;
        let cause = match beat {
            Ok(Ok(1)) => {
                answered = tokio::time::Instant::now();
                continue;
            }
            // The session lives, and the lock with it: a row was locked, or a resource was short, for a moment.
            Ok(Err(e)) if is_transient(&e) && answered.elapsed() < HEARTBEAT_LIMIT => {
                tracing::warn!("a heartbeat was not written: {e}");
                continue;
            }
            Ok(Ok(_)) => {
                Cause::new("another driver has taken this run over").hint("look who drives it now: howdah status")
            }
            Ok(Err(e)) => error::cause("keeping the lock on the run", &e),
            Err(_) => Cause::new("the server has not answered the heartbeat for 30 s: the lock on the run is lost")
                .hint("when the server answers again, resume the run"),
        };
        loss.send_replace(Some(cause));
        // A session that was asked something and did not answer is not asked to say goodbye.
        return;
    }
    drop(tokio::time::timeout(Duration::from_secs(2), lock.close()).await);
}

fn is_transient(failure: &sqlx::Error) -> bool {
    error::code(failure).is_some_and(|code| sqlstate::class(code) == Class::Transient)
}

async fn heartbeat(lock: &mut PgConnection, run: RunId, epoch: i64, pulse: Pulse) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE howdah.run SET heartbeat = now(), worked_ms = greatest(worked_ms, $3), \
                     paused_ms = greatest(paused_ms, $4) WHERE id = $1 AND epoch = $2",
    )
    .bind(run.0)
    .bind(epoch)
    .bind(ms(pulse.run.worked))
    .bind(ms(pulse.run.paused))
    .execute(&mut *lock)
    .await?;
    if let Some((step, spent)) = pulse.step {
        step_time(lock, run, epoch, step, spent).await?;
    }
    Ok(done.rows_affected())
}

async fn step_time(
    connection: &mut PgConnection,
    run: RunId,
    epoch: i64,
    step: StepIndex,
    spent: Spent,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE howdah.step SET worked_ms = greatest(worked_ms, $4), paused_ms = greatest(paused_ms, $5) \
         WHERE run = $1 AND step = $2 AND epoch = $3",
    )
    .bind(run.0)
    .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
    .bind(epoch)
    .bind(ms(spent.worked))
    .bind(ms(spent.paused))
    .execute(connection)
    .await
    .map(drop)
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn step_started(&self, step: StepIndex) -> Result<(), Cause> {
        let written = sqlx::query(
            "UPDATE howdah.step SET state = 'running', started_at = coalesce(started_at, now()) \
             WHERE run = $1 AND step = $2 AND epoch = $3",
        )
        .bind(self.run.0)
        .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
        .bind(self.epoch)
        .execute(&self.pool)
        .await;
        match written {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => {
                Err(Cause::new("another driver has taken this run over").hint("look who drives it now: howdah status"))
            }
            Err(e) => Err(error::cause("writing the ledger", &e)),
        }
    }

    async fn step_ended(&self, step: StepIndex, spent: Spent, after: Duration) -> Result<(), Cause> {
        let write = async {
            let mut tx = self.durable().await?;
            step_time(&mut tx, self.run, self.epoch, step, spent).await?;
            sqlx::query("UPDATE howdah.step SET ended_after_ms = $4 WHERE run = $1 AND step = $2 AND epoch = $3")
                .bind(self.run.0)
                .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
                .bind(self.epoch)
                .bind(ms(after))
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        };
        write.await.map_err(|e: sqlx::Error| error::cause("writing the step's time", &e))
    }

    async fn step_failed(&self, step: StepIndex, cause: &Cause) -> Result<(), Cause> {
        // A step whose commit went through, but whose answer was lost, has failed here and is done there.
        sqlx::query("UPDATE howdah.step SET state = 'failed', outcome = $4 WHERE run = $1 AND step = $2 AND epoch = $3 AND state <> 'done'")
            .bind(self.run.0)
            .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
            .bind(self.epoch)
            .bind(cause.headline())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|e| error::cause("writing the ledger", &e))
    }

    async fn run_state(&self, state: &RunState, pulse: Pulse) -> Result<(), Cause> {
        let detail = serde_json::to_value(state).map_err(|e| Cause::bug(format!("a state that is not JSON: {e}")))?;
        let write = async {
            let mut tx = self.durable().await?;
            let done = sqlx::query(
                "UPDATE howdah.run SET state = $3, detail = $4, heartbeat = now(), worked_ms = $5, paused_ms = $6, \
                        finished_at = CASE WHEN $7 THEN now() END WHERE id = $1 AND epoch = $2",
            )
            .bind(self.run.0)
            .bind(self.epoch)
            .bind(state.word())
            .bind(detail)
            .bind(ms(pulse.run.worked))
            .bind(ms(pulse.run.paused))
            .bind(state.is_over())
            .execute(&mut *tx)
            .await?;
            if let Some((step, spent)) = pulse.step {
                step_time(&mut tx, self.run, self.epoch, step, spent).await?;
            }
            tx.commit().await?;
            Ok(done.rows_affected())
        };
        match write.await {
            Ok(1) => Ok(()),
            Ok(_) => {
                Err(Cause::new("another driver has taken this run over").hint("look who drives it now: howdah status"))
            }
            Err(e) => Err(error::cause("writing the run's state", &e)),
        }
    }

    fn pulse(&self, pulse: Pulse) {
        self.pulse.send_replace(pulse);
    }

    async fn event(&self, event: &Event) -> Result<(), Cause> {
        sqlx::query("INSERT INTO howdah.event (run, at, level, kind, text) VALUES ($1, $2, $3, $4, $5)")
            .bind(self.run.0)
            .bind(event.at)
            .bind(event.level.word().to_lowercase())
            .bind(event.kind.name())
            .bind(event.text.replace('\0', ""))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|e| error::cause("writing an event", &e))
    }

    fn lost(&self) -> watch::Receiver<Option<Cause>> {
        self.lost.clone()
    }

    async fn close(&self) {
        self.closing.cancel();
        drop(tokio::time::timeout(Duration::from_secs(3), self.closed.cancelled()).await);
    }
}
