//! Steps in order, from the first to the clean-up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch_size::BatchSize;
use super::board::Board;
use super::failpoint;
use super::news::failure;
use super::ports::{Batched, Conclusion, Ledger, Opened, OpenedStep, StepBody, StepContext, StepError};
use super::worker;
use crate::run::{Cause, EventKind, Level, RunState, Signal, Snapshot, StepIndex, StepState};

/// Where a worker waits while the run is paused, and learns that it is to stop.
pub struct Gate {
    board: Arc<Board>,
    ledger: Arc<dyn Ledger>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    lost: watch::Receiver<Option<Cause>>,
}

/// How long the last word of a run may take to reach the ledger.
const SETTLE: Duration = Duration::from_secs(15);
/// How long an open batch may still take once the lock on the run is lost. Its connection is as dead as the lock's, as a
/// rule; nobody else says so when packets are dropped.
const GRACE: Duration = Duration::from_secs(5);

impl Gate {
    /// Waits for `work`, but not for ever once the lock is lost.
    ///
    /// This is the one place where a future inside a transaction may be dropped: the lock is gone, and whatever the
    /// transaction comes to, its record comes to the same.
    ///
    /// # Errors
    /// What `work` failed with, or why the lock was lost.
    pub async fn unless_lost<T>(&self, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        let mut lost = self.lost.clone();
        let loss = async {
            let cause = lost.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
            match cause {
                Some(cause) => {
                    tokio::time::sleep(GRACE).await;
                    cause
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            cause = loss => Err(StepError::Failed(cause)),
        }
    }

    /// Passes at a batch's edge: at once while the run is running, after the pause while it is paused.
    ///
    /// # Errors
    /// [`StepError::Stopped`] when the run is to stop, [`StepError::Failed`] when the lock on it was lost.
    pub async fn pass(&mut self) -> Result<(), StepError> {
        loop {
            if let Some(cause) = self.lost.borrow().clone() {
                return Err(StepError::Failed(cause));
            }
            if self.lost.has_changed().is_err() {
                let cause = Cause::bug("the task that keeps the lock on the run has ended");
                return Err(StepError::Failed(cause.hint("what was committed is safe: resume the run")));
            }
            self.snapshots.mark_unchanged();
            let state = self.board.state();
            match state {
                RunState::Running | RunState::Starting => return Ok(()),
                RunState::Pausing { .. } | RunState::Resuming { .. } => {
                    // The ledger first: whoever sees "paused" may stop this process at once.
                    let now = self.board.snapshots().borrow().now;
                    if let Ok(next) = state.after(&Signal::AtEdge, now) {
                        self.ledger.run_state(&next, self.board.pulse()).await?;
                    }
                    // Another command may have come between: then the state is looked at again, and written again.
                    if self.board.state() == state {
                        let _ = self.board.signal(&Signal::AtEdge);
                    }
                }
                RunState::Paused { .. } => {
                    tokio::select! {
                        biased;
                        changed = self.snapshots.changed() => drop(changed),
                        changed = self.lost.changed() => drop(changed),
                    }
                }
                RunState::Stopping { .. }
                | RunState::Stopped { .. }
                | RunState::Failed { .. }
                | RunState::Done { .. } => {
                    return Err(StepError::Stopped);
                }
            }
        }
    }
}

/// Runs a plan to one of its ends, and leaves the state on the board.
pub async fn run(
    board: Arc<Board>,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    stop: CancellationToken,
    adopt: impl FnOnce(Arc<dyn Ledger>, Vec<BoxFuture<'static, ()>>) + Send,
) {
    let opened = match opener.await {
        Ok(opened) => opened,
        Err(cause) => {
            drop(board.signal(&failure(cause, false)));
            return;
        }
    };
    board.opened(&opened);
    let Opened { steps, ledger, keepers, resumed, notices, .. } = opened;
    adopt(Arc::clone(&ledger), keepers);
    failpoint::hit("run.created");
    // Whoever asked to stop while we were connecting finds the run stopped before it began.
    if board.signal(&Signal::Begin).is_ok() {
        let (kind, text) = if resumed {
            (EventKind::RunResumed, "the run goes on where it stood")
        } else {
            (EventKind::RunStarted, "the run begins")
        };
        board.event(Level::Info, kind, text.to_owned());
        for (level, text) in notices {
            board.event(level, EventKind::Notice, text);
        }
    }
    let runner = Runner {
        gate: Gate {
            board: Arc::clone(&board),
            ledger: Arc::clone(&ledger),
            snapshots: board.snapshots(),
            lost: ledger.lost(),
        },
        context: StepContext { stop, reporter: board.clone() },
        board: Arc::clone(&board),
        ledger: Arc::clone(&ledger),
    };
    let ended = runner.steps(&steps).await;
    settle(&board, &ledger, ended).await;
    ledger.close().await;
}

/// Writes the end down, in the ledger first: the screen never says "done" before the ledger does.
async fn settle(board: &Board, ledger: &Arc<dyn Ledger>, ended: Result<(), StepError>) {
    let signal = match ended {
        Ok(()) => Signal::Finish,
        Err(StepError::Stopped) => Signal::AtEdge,
        Err(StepError::Failed(cause)) => failure(cause, true),
    };
    failpoint::hit("run.finishing");
    let now = board.snapshots().borrow().now;
    let next = board.state().after(&signal, now);
    let written = match &next {
        Ok(state) => match tokio::time::timeout(SETTLE, ledger.run_state(state, board.pulse())).await {
            Ok(written) => written,
            Err(_) => Err(Cause::new("the server does not answer: the run's end is not written down")
                .hint("what was committed is safe; when the server answers again, resume the run")),
        },
        Err(illegal) => Err(Cause::bug(illegal.to_string())),
    };
    let signal = match (signal, written) {
        (signal, Ok(())) => signal,
        // The first failure is the one that matters; that the ledger cannot be written follows from it, as a rule.
        (signal @ Signal::Fail { .. }, Err(cause)) => {
            tracing::error!("the ledger does not know of the failure: {}", cause.headline());
            signal
        }
        (_, Err(cause)) => failure(cause, true),
    };
    if let Err(illegal) = board.signal(&signal) {
        tracing::error!("{illegal}");
    }
}

struct Runner {
    gate: Gate,
    context: StepContext,
    board: Arc<Board>,
    ledger: Arc<dyn Ledger>,
}

impl Runner {
    async fn steps(mut self, steps: &[OpenedStep]) -> Result<(), StepError> {
        self.gate.pass().await?;
        self.ledger.run_state(&self.board.state(), self.board.pulse()).await?;
        failpoint::hit("run.begun");
        for (index, step) in (0_u32..).map(StepIndex).zip(steps) {
            if step.view.state == StepState::Done {
                continue;
            }
            self.gate.pass().await?;
            self.step(index, step).await?;
            failpoint::hit("step.finished");
        }
        let indexed: Vec<_> = (0_u32..).map(StepIndex).zip(steps).collect();
        for (index, step) in indexed.into_iter().rev() {
            if step.wants_cleanup {
                self.gate.pass().await?;
                self.clean_up(index, step).await?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, index: StepIndex, step: &OpenedStep) -> Result<(), StepError> {
        self.ledger.step_started(index).await?;
        self.board.step_started(index);
        failpoint::hit("step.started");
        let ended = match &step.body {
            StepBody::Once(once) => self.gate.unless_lost(once.execute(&self.context)).await,
            StepBody::Batched(batched) => self.batches(index, batched.as_ref()).await,
        };
        match ended {
            Ok(outcome) => {
                self.board.step_ended(StepState::Done, outcome);
                let view = self.board.snapshots().borrow().steps.get(index.as_usize()).cloned();
                if let Some(view) = view {
                    self.ledger.step_ended(index, view.spent, view.ended_after.unwrap_or_default()).await?;
                }
                Ok(())
            }
            Err(StepError::Stopped) => {
                self.board.idle();
                Err(StepError::Stopped)
            }
            Err(StepError::Failed(cause)) => {
                if let Err(also) = self.ledger.step_failed(index, &cause).await {
                    tracing::error!("the ledger does not know of the step's failure: {}", also.headline());
                }
                self.board.step_ended(StepState::Failed, None);
                Err(StepError::Failed(cause))
            }
        }
    }

    async fn batches(&mut self, index: StepIndex, step: &dyn Batched) -> Result<Option<String>, StepError> {
        let target = self.board.wanted_target().unwrap_or_else(|| step.target());
        let mut size = BatchSize::new(step.bounds(), target);
        loop {
            let mut sweep = self.gate.unless_lost(step.open(&self.context)).await?;
            failpoint::hit("sweep.planned");
            self.board.sweep_started(&sweep, &size, step.target());
            let mut worker = step.worker().await?;
            let mut walked = Ok(());
            for segment in &mut sweep.segments {
                walked = worker::walk(&self.board, &mut self.gate, index, worker.as_mut(), segment, &mut size).await;
                if walked.is_err() {
                    break;
                }
            }
            worker.close().await;
            walked?;
            self.board.sweep_ended();
            self.gate.pass().await?;
            match self.gate.unless_lost(step.conclude(&self.context)).await? {
                Conclusion::Done(outcome) => return Ok(outcome),
                Conclusion::Again { left } => {
                    let text =
                        format!("{} rows came in behind the cursor: sweeping again", crate::run::human::count(left));
                    self.board.event(Level::Info, EventKind::SweepStarted, text);
                }
            }
        }
    }

    async fn clean_up(&mut self, index: StepIndex, step: &OpenedStep) -> Result<(), StepError> {
        let StepBody::Once(once) = &step.body else { return Ok(()) };
        let cleaned = self.gate.unless_lost(once.clean_up(&self.context)).await;
        self.board.idle();
        match cleaned {
            Ok(()) => {
                self.board.outcome(index, "cleaned up".to_owned());
                let text = format!("step `{}` is cleaned up", step.view.name);
                self.board.event(Level::Info, EventKind::StepFinished, text);
                Ok(())
            }
            Err(StepError::Stopped) => Err(StepError::Stopped),
            Err(StepError::Failed(mut cause)) => {
                cause.message = format!("every step is done, but the clean-up failed: {}", cause.message);
                Err(StepError::Failed(cause))
            }
        }
    }
}
