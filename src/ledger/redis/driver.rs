//! The ledger of the run that this process drives: state, heartbeat, events.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::keys::of_step;
use super::notes::{Hash, Notes, Writes, step_error};
use crate::engine::ports::{Ledger, Pulse, StepError, StepPulse};
use crate::ledger::commands;
use crate::ledger::lock::{Heart, Keeper, Reopen};
use crate::ledger::postgres::{milliseconds, waited_json};
use crate::postgres::record::RecordError;
use crate::run::{Answered, Cause, Command, Event, RunState, StepIndex, StepView};

/// How long a heartbeat waits for Redis: the lock's session must not be taken for a broken one meanwhile.
const BEAT: Duration = Duration::from_secs(5);
/// Events and commands of a run that are kept, the newest.
const MOST: isize = 1000;

/// The ledger of one run, held by its driver.
pub struct RedisLedger {
    notes: Notes,
    pool: PgPool,
    pulse: watch::Sender<Pulse>,
    lost: watch::Receiver<Option<Cause>>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl RedisLedger {
    /// The ledger, and the work that keeps the lock: it owns `lock`, the connection whose session holds it, and takes it
    /// again on another one, made by `reopen`, when that is lost.
    pub fn new(
        pool: PgPool,
        notes: Notes,
        lock: PgConnection,
        reopen: Reopen,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (pulse, newest) = watch::channel(Pulse::default());
        let (loss, lost) = watch::channel(None);
        let closing = CancellationToken::new();
        let closed = CancellationToken::new();
        let heart = Arc::new(RedisHeart { notes: notes.clone() });
        let run = notes.run;
        let keeper =
            Keeper { run, heart, reopen, pulse: newest, loss, closing: closing.clone(), closed: closed.clone() };
        (Arc::new(Self { notes, pool, pulse, lost, closing, closed }), keeper.keep(lock))
    }

    async fn write(&self, what: &str, step: StepIndex, writes: Writes) -> Result<(), StepError> {
        match self.notes.write(step, &writes).await {
            Ok(()) | Err(RecordError::Already) => Ok(()),
            Err(e) => Err(step_error(&e, what)),
        }
    }

    async fn append(&self, key: String, line: String) -> Result<(), Cause> {
        let failed = |e: RecordError| e.cause("keeping the run's history");
        self.notes.ask::<()>(cmd("RPUSH").arg(&key).arg(line)).await.map_err(failed)?;
        self.notes.ask::<()>(cmd("LTRIM").arg(&key).arg(-MOST).arg(-1)).await.map_err(failed)
    }
}

fn counted(d: Duration) -> u64 {
    milliseconds(d).max(0).cast_unsigned()
}

/// Writes the course of a step.
fn step_time(writes: Writes, step: &StepPulse) -> Writes {
    let field = |name| of_step(step.index, name);
    writes
        .at_least(Hash::Steps, field("worked_ms"), counted(step.spent.worked))
        .at_least(Hash::Steps, field("paused_ms"), counted(step.spent.paused))
        .at_least(Hash::Steps, field("waited_ms"), counted(step.waited))
        .at_least(Hash::Steps, field("retries"), step.retries)
}

/// Writes the course of a run, with that of the step that it is in.
fn run_time(pulse: &Pulse) -> Writes {
    let mut writes = Writes::default()
        .now(Hash::Run, "heartbeat")
        .at_least(Hash::Run, "worked_ms", counted(pulse.run.worked))
        .at_least(Hash::Run, "paused_ms", counted(pulse.run.paused));
    if !pulse.waited.is_empty() {
        writes = writes.set(Hash::Run, "waited", waited_json(pulse).to_string());
    }
    match &pulse.step {
        Some(step) => step_time(writes, step),
        None => writes,
    }
}

/// Beats on Redis.
struct RedisHeart {
    notes: Notes,
}

#[async_trait]
impl Heart for RedisHeart {
    async fn beat(&self, connection: &mut PgConnection, pulse: &Pulse) -> Result<bool, sqlx::Error> {
        sqlx::query("SELECT 1").execute(connection).await?;
        let writes = run_time(pulse);
        match tokio::time::timeout(BEAT, self.notes.write(StepIndex(0), &writes)).await {
            Ok(Ok(()) | Err(RecordError::Already)) => Ok(true),
            Ok(Err(RecordError::Fenced)) => Ok(false),
            Ok(Err(RecordError::Sql(e))) => Err(e),
            // The lock is held all the same. What has to be written waits for Redis by itself, and says so.
            Ok(Err(RecordError::Store(_, cause))) => {
                tracing::warn!("a heartbeat was not written: {}", cause.headline());
                Ok(true)
            }
            Err(_) => {
                tracing::warn!("a heartbeat was not written: Redis does not answer");
                Ok(true)
            }
        }
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn step_started(&self, step: StepIndex) -> Result<(), StepError> {
        let writes = Writes::default()
            .set(Hash::Steps, of_step(step, "state"), "running")
            .first_now(Hash::Steps, of_step(step, "started_at"));
        self.write("writing the ledger", step, writes).await
    }

    async fn step_ended(&self, step: StepIndex, view: &StepView) -> Result<(), StepError> {
        let (spent, waited, retries) = (view.spent, view.waited, view.retries);
        let mut writes = step_time(Writes::default(), &StepPulse { index: step, spent, waited, retries });
        let ended_after = counted(view.ended_after.unwrap_or_default()).to_string();
        writes = writes.set(Hash::Steps, of_step(step, "ended_after_ms"), ended_after);
        if let Some(churn) = view.churn.and_then(|churn| serde_json::to_string(&churn).ok()) {
            writes = writes.set(Hash::Steps, of_step(step, "churn"), churn);
        }
        self.write("writing the step's time", step, writes).await
    }

    async fn step_failed(&self, step: StepIndex, cause: &Cause) -> Result<(), StepError> {
        // A step that was written down as done, but whose answer was lost, has failed here and is done there.
        let writes = Writes::default()
            .only_if_not(Hash::Steps, of_step(step, "state"), "done")
            .set(Hash::Steps, of_step(step, "state"), "failed")
            .set(Hash::Steps, of_step(step, "outcome"), cause.headline());
        self.write("writing the ledger", step, writes).await
    }

    async fn run_state(&self, state: &RunState, pulse: Pulse) -> Result<(), StepError> {
        let detail = serde_json::to_string(state).map_err(|e| Cause::bug(format!("a state that is not JSON: {e}")))?;
        let writes = run_time(&pulse).set(Hash::Run, "state", state.word()).set(Hash::Run, "detail", detail);
        let writes =
            if state.is_over() { writes.now(Hash::Run, "finished_at") } else { writes.drop(Hash::Run, "finished_at") };
        self.write("writing the run's state", StepIndex(0), writes).await
    }

    fn pulse(&self, pulse: Pulse) {
        self.pulse.send_replace(pulse);
    }

    async fn event(&self, event: &Event) -> Result<(), Cause> {
        let line = serde_json::to_string(event).map_err(|e| Cause::bug(format!("an event that is not JSON: {e}")))?;
        self.append(self.notes.keys.events(), line).await
    }

    async fn command(&self, answered: &Answered) -> Result<(), Cause> {
        let line =
            serde_json::to_string(answered).map_err(|e| Cause::bug(format!("a command that is not JSON: {e}")))?;
        self.append(self.notes.keys.commands(), line).await
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
