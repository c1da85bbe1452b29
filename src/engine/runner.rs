//! Steps in order, from the first to the clean-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batch_size::BatchSize;
use super::board::Board;
use super::failpoint;
use super::gate::Gate;
use super::governing;
use super::news::failure;
use super::patience::Patience;
use super::pool::{Crew, Sharing, Work};
use super::ports::{Batched, Conclusion, Ledger, Opened, OpenedStep, Pacing, StepBody, StepContext, StepError};
use super::sharing::Shares;
use crate::run::{Cause, EventKind, Level, Request, Signal, StepIndex, StepState, human};

/// How long the last word of a run may take to reach the ledger.
const SETTLE: Duration = Duration::from_secs(15);
/// Runs a plan to one of its ends, and leaves the state on the board.
pub async fn run(
    board: Arc<Board>,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    stop: CancellationToken,
    requests: mpsc::Sender<Request>,
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
    let Opened { steps, ledger, mut keepers, relay, resumed, notices, pacing, leases, .. } = opened;
    keepers.extend(relay.map(|relay| relay(board.snapshots(), requests)));
    keepers.push(Box::pin(governing::govern(Arc::clone(&board), pacing.clone())));
    adopt(Arc::clone(&ledger), keepers);
    failpoint::hit("run.created");
    // Whoever asked to stop while we were connecting finds the run stopped before it began.
    if board.signal(&Signal::Begin).is_ok() {
        let (kind, text) = if leases.is_some() {
            (EventKind::Notice, "this process has joined the run")
        } else if resumed {
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
        gate: Gate::new(Arc::clone(&board), Arc::clone(&ledger)),
        patience: Patience {
            board: Arc::clone(&board),
            retry: pacing.retry.clone(),
            lock_retry: pacing.lock_retry.clone(),
            stop: stop.clone(),
        },
        context: StepContext { stop, reporter: board.clone() },
        board: Arc::clone(&board),
        ledger: Arc::clone(&ledger),
        pacing,
    };
    let ended = match leases {
        None => runner.steps(&steps).await,
        Some(leases) => runner.follow(&steps, &leases).await,
    };
    settle(&board, &ledger, ended).await;
    ledger.close().await;
}

/// Writes the end down, in the ledger first: the screen never says "done" before the ledger does.
async fn settle(board: &Board, ledger: &Arc<dyn Ledger>, ended: Result<(), StepError>) {
    let signal = match ended {
        Ok(()) => Signal::Finish,
        Err(StepError::Stopped) => Signal::AtEdge,
        Err(StepError::Failed(cause) | StepError::Passing(_, cause)) => failure(cause, true),
    };
    failpoint::hit("run.finishing");
    let now = board.snapshots().borrow().now;
    let next = board.state().after(&signal, now);
    let written = match &next {
        Ok(state) => match tokio::time::timeout(SETTLE, ledger.run_state(state, board.pulse())).await {
            Ok(written) => written,
            Err(_) => Err(StepError::Failed(
                Cause::new("the server does not answer: the run's end is not written down")
                    .hint("what was committed is safe; when the server answers again, resume the run"),
            )),
        },
        Err(illegal) => Err(StepError::Failed(Cause::bug(illegal.to_string()))),
    };
    let written = written.map_err(|error| match error {
        StepError::Stopped => Cause::bug("the ledger was asked to stop"),
        StepError::Failed(cause) | StepError::Passing(_, cause) => cause,
    });
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

/// What drives the steps of a run, or follows whoever does.
pub(super) struct Runner {
    pub(super) gate: Gate,
    pub(super) patience: Patience,
    pub(super) context: StepContext,
    pub(super) board: Arc<Board>,
    ledger: Arc<dyn Ledger>,
    pub(super) pacing: Pacing,
}

impl Runner {
    async fn steps(mut self, steps: &[OpenedStep]) -> Result<(), StepError> {
        self.gate.pass().await?;
        self.patience.with(|| self.write_state()).await?;
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

    fn write_state(&self) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(async { self.ledger.run_state(&self.board.state(), self.board.pulse()).await })
    }

    async fn step(&mut self, index: StepIndex, step: &OpenedStep) -> Result<(), StepError> {
        self.patience.with(|| self.ledger.step_started(index)).await?;
        self.board.step_started(index);
        failpoint::hit("step.started");
        let ended = match &step.body {
            StepBody::Once(once) => {
                self.patience.with_lock_retry(|| Box::pin(self.gate.unless_lost(once.execute(&self.context)))).await
            }
            StepBody::Batched(batched) => self.batches(index, batched, step.shares.as_ref()).await,
        };
        match ended {
            Ok(outcome) => {
                self.board.step_ended(StepState::Done, outcome);
                let view = self.board.snapshots().borrow().steps.get(index.as_usize()).cloned();
                if let Some(view) = view {
                    self.patience.with(|| self.ledger.step_ended(index, &view)).await?;
                }
                Ok(())
            }
            Err(StepError::Stopped) => {
                self.board.idle();
                Err(StepError::Stopped)
            }
            Err(StepError::Failed(cause) | StepError::Passing(_, cause)) => {
                if let Err(also) = self.ledger.step_failed(index, &cause).await {
                    tracing::error!("the ledger does not know of the step's failure: {also:?}");
                }
                self.board.step_ended(StepState::Failed, None);
                Err(StepError::Failed(cause))
            }
        }
    }

    async fn batches(
        &mut self,
        index: StepIndex,
        step: &Arc<dyn Batched>,
        shares: Option<&Arc<dyn Shares>>,
    ) -> Result<Option<String>, StepError> {
        let sharing = shares.map_or(Sharing::None, |shares| Sharing::Driver(Arc::clone(shares)));
        let target = self.board.wanted_target().unwrap_or_else(|| step.target());
        let size = Arc::new(Mutex::new(BatchSize::new(step.bounds(), target)));
        loop {
            let sweep = self.patience.with(|| Box::pin(self.gate.unless_lost(step.open(&self.context)))).await?;
            failpoint::hit("sweep.planned");
            let work = Work {
                step: Arc::clone(step),
                index,
                size: Arc::clone(&size),
                pacing: self.pacing.clone(),
                sharing: sharing.clone(),
            };
            let crew = Crew::new(Arc::clone(&self.board), work, sweep.clone());
            let now = size.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.board.sweep_started(&sweep, &now, step.target(), crew.parts(), crew.survey());
            crew.walk(&mut self.gate, &self.context).await?;
            self.board.sweep_ended(crew.parts());
            self.gate.pass().await?;
            match self.patience.with(|| Box::pin(self.gate.unless_lost(step.conclude(&self.context)))).await? {
                Conclusion::Done(outcome) => return Ok(outcome),
                Conclusion::Again { left } => {
                    let text = format!("{} rows came in behind the cursor: sweeping again", human::count(left));
                    self.board.event(Level::Info, EventKind::SweepStarted, text);
                }
                Conclusion::Next(what) => {
                    self.board.event(Level::Info, EventKind::SweepStarted, format!("next: {what}"));
                }
                Conclusion::Unfinished => {
                    let text = "segments are not done, by the ledger: walking them".to_owned();
                    self.board.event(Level::Warning, EventKind::Notice, text);
                }
            }
        }
    }

    async fn clean_up(&mut self, index: StepIndex, step: &OpenedStep) -> Result<(), StepError> {
        let StepBody::Once(once) = &step.body else { return Ok(()) };
        let cleaned =
            self.patience.with_lock_retry(|| Box::pin(self.gate.unless_lost(once.clean_up(&self.context)))).await;
        self.board.idle();
        match cleaned {
            Ok(()) => {
                self.board.outcome(index, "cleaned up".to_owned());
                let text = format!("step `{}` is cleaned up", step.view.name);
                self.board.event(Level::Info, EventKind::StepFinished, text);
                Ok(())
            }
            Err(StepError::Stopped) => Err(StepError::Stopped),
            Err(StepError::Failed(mut cause) | StepError::Passing(_, mut cause)) => {
                cause.message = format!("every step is done, but the clean-up failed: {}", cause.message);
                Err(StepError::Failed(cause))
            }
        }
    }
}
