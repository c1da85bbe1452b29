//! The ledger on the target database itself: state, heartbeat, events, and the lock that makes one driver the only one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::commands;
use super::lock::{Keeper, PostgresHeart, Reopen};
use crate::engine::ports::{Ledger, Pulse, StepError, StepPulse};
use crate::postgres::deadline::on_pool;
use crate::postgres::{error, session, trouble};
use crate::run::{Answered, Cause, Command, Event, RunId, RunState, StepIndex, StepView};

/// How long any write may take.
const LIMIT: Duration = Duration::from_secs(10);

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
    /// The ledger, and the work that keeps the lock: it owns `lock`, the connection whose session holds it, and takes it
    /// again on another one, made by `reopen`, when that is lost.
    pub fn new(
        pool: PgPool,
        run: RunId,
        epoch: i64,
        lock: PgConnection,
        reopen: Reopen,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (pulse, newest) = watch::channel(Pulse::default());
        let (loss, lost) = watch::channel(None);
        let closing = CancellationToken::new();
        let closed = CancellationToken::new();
        let keeper = Keeper {
            run,
            heart: Arc::new(PostgresHeart { run, epoch }),
            reopen,
            pulse: newest,
            loss,
            closing: closing.clone(),
            closed: closed.clone(),
        };
        (Arc::new(Self { pool, run, epoch, pulse, lost, closing, closed }), keeper.keep(lock))
    }

    /// Writes something that this driver's epoch must allow: one row.
    async fn write(
        &self,
        what: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<u64, sqlx::Error>,
    ) -> Result<(), StepError> {
        match on_pool(&self.pool, LIMIT, work).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(StepError::Failed(
                Cause::new("another driver has taken this run over")
                    .hint("look who drives it now: howdah status")
                    .busy(),
            )),
            Err(e) => Err(StepError::of(trouble::of(&e), error::cause(what, &e))),
        }
    }
}

/// Whole milliseconds, as the ledger keeps times.
pub(super) fn milliseconds(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// Time lost to waiting, as the ledger keeps it.
pub(super) fn waited_json(pulse: &Pulse) -> serde_json::Value {
    pulse.waited.iter().map(|waited| (waited.reason.clone(), milliseconds(waited.time))).collect()
}

/// Writes the course of the running step.
pub(super) async fn step_time(
    connection: &mut PgConnection,
    run: RunId,
    epoch: i64,
    step: &StepPulse,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE howdah.step SET worked_ms = greatest(worked_ms, $4), paused_ms = greatest(paused_ms, $5), \
                waited_ms = greatest(waited_ms, $6), retries = greatest(retries, $7) \
         WHERE run = $1 AND step = $2 AND epoch = $3",
    )
    .bind(run.0)
    .bind(i32::try_from(step.index.0).unwrap_or(i32::MAX))
    .bind(epoch)
    .bind(milliseconds(step.spent.worked))
    .bind(milliseconds(step.spent.paused))
    .bind(milliseconds(step.waited))
    .bind(i64::try_from(step.retries).unwrap_or(i64::MAX))
    .execute(connection)
    .await
    .map(drop)
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn step_started(&self, step: StepIndex) -> Result<(), StepError> {
        self.write("writing the ledger", async |connection| {
            let done = sqlx::query(
                "UPDATE howdah.step SET state = 'running', started_at = coalesce(started_at, now()) \
                 WHERE run = $1 AND step = $2 AND epoch = $3",
            )
            .bind(self.run.0)
            .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
            .bind(self.epoch)
            .execute(connection)
            .await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn step_ended(&self, step: StepIndex, view: &StepView) -> Result<(), StepError> {
        let churn = view.churn.and_then(|churn| serde_json::to_value(churn).ok());
        self.write("writing the step's time", async |connection| {
            let mut tx = connection.begin_with(session::DURABLE).await?;
            let (spent, waited, retries) = (view.spent, view.waited, view.retries);
            step_time(&mut tx, self.run, self.epoch, &StepPulse { index: step, spent, waited, retries }).await?;
            let done = sqlx::query(
                "UPDATE howdah.step SET ended_after_ms = $4, churn = $5 WHERE run = $1 AND step = $2 AND epoch = $3",
            )
            .bind(self.run.0)
            .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
            .bind(self.epoch)
            .bind(milliseconds(view.ended_after.unwrap_or_default()))
            .bind(churn)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn step_failed(&self, step: StepIndex, cause: &Cause) -> Result<(), StepError> {
        self.write("writing the ledger", async |connection| {
            // A step whose commit went through, but whose answer was lost, has failed here and is done there.
            sqlx::query(
                "UPDATE howdah.step SET state = 'failed', outcome = $4 \
                 WHERE run = $1 AND step = $2 AND epoch = $3 AND state <> 'done'",
            )
            .bind(self.run.0)
            .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
            .bind(self.epoch)
            .bind(cause.headline())
            .execute(connection)
            .await?;
            Ok(1)
        })
        .await
    }

    async fn run_state(&self, state: &RunState, pulse: Pulse) -> Result<(), StepError> {
        let detail = serde_json::to_value(state).map_err(|e| Cause::bug(format!("a state that is not JSON: {e}")))?;
        self.write("writing the run's state", async |connection| {
            let mut tx = connection.begin_with(session::DURABLE).await?;
            let done = sqlx::query(
                "UPDATE howdah.run SET state = $3, detail = $4, heartbeat = now(), worked_ms = $5, paused_ms = $6, \
                        finished_at = CASE WHEN $7 THEN now() END, \
                        waited = CASE WHEN $8 = '{}'::jsonb THEN waited ELSE $8 END WHERE id = $1 AND epoch = $2",
            )
            .bind(self.run.0)
            .bind(self.epoch)
            .bind(state.word())
            .bind(detail)
            .bind(milliseconds(pulse.run.worked))
            .bind(milliseconds(pulse.run.paused))
            .bind(state.is_over())
            .bind(waited_json(&pulse))
            .execute(&mut *tx)
            .await?;
            if let Some(step) = &pulse.step {
                step_time(&mut tx, self.run, self.epoch, step).await?;
            }
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }

    fn pulse(&self, pulse: Pulse) {
        self.pulse.send_replace(pulse);
    }

    async fn event(&self, event: &Event) -> Result<(), Cause> {
        on_pool(&self.pool, LIMIT, async |connection| {
            sqlx::query("INSERT INTO howdah.event (run, at, level, kind, text) VALUES ($1, $2, $3, $4, $5)")
                .bind(self.run.0)
                .bind(event.at)
                .bind(event.level.word().to_lowercase())
                .bind(event.kind.name())
                .bind(event.text.replace('\0', ""))
                .execute(connection)
                .await
                .map(drop)
        })
        .await
        .map_err(|e| error::cause("writing an event", &e))
    }

    async fn command(&self, answered: &Answered) -> Result<(), Cause> {
        on_pool(&self.pool, LIMIT, async |connection| commands::answer(connection, self.run, answered).await)
            .await
            .map_err(|e| error::cause("writing a command", &e))
    }

    async fn errand(&self, command: &Command) -> Result<String, Cause> {
        commands::errand_by(&self.pool, command).await
    }

    fn lost(&self) -> watch::Receiver<Option<Cause>> {
        self.lost.clone()
    }

    async fn close(&self) {
        self.closing.cancel();
        drop(tokio::time::timeout(Duration::from_secs(3), self.closed.cancelled()).await);
    }
}
