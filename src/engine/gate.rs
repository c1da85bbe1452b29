//! Where the run waits at its edges, and learns that it is to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::board::Board;
use super::ports::{Ledger, StepError};
use crate::run::{Cause, RunState, Signal, Snapshot};

/// How long an open statement may still take once the lock on the run is lost.
const GRACE: Duration = Duration::from_secs(5);
/// How soon a state that could not be written down is written again.
const AGAIN: Duration = Duration::from_millis(500);

/// The gate between two batches, and between two steps.
#[derive(Clone)]
pub struct Gate {
    board: Arc<Board>,
    ledger: Arc<dyn Ledger>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    lost: watch::Receiver<Option<Cause>>,
}

impl Gate {
    /// The gate of a run.
    #[must_use]
    pub fn new(board: Arc<Board>, ledger: Arc<dyn Ledger>) -> Self {
        let (snapshots, lost) = (board.snapshots(), ledger.lost());
        Self { board, ledger, snapshots, lost }
    }

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

    /// Passes between two steps: at once while the run is running and nothing holds it, else after the pause.
    ///
    /// # Errors
    /// [`StepError::Stopped`] when the run is to stop, [`StepError::Failed`] when the lock on it was lost.
    pub async fn pass(&mut self) -> Result<(), StepError> {
        loop {
            self.snapshots.mark_unchanged();
            self.alive()?;
            self.edge().await?;
            if matches!(self.board.state(), RunState::Running | RunState::Starting) && self.board.held().is_none() {
                return Ok(());
            }
            if !matches!(self.board.state(), RunState::Pausing { .. } | RunState::Resuming { .. }) {
                self.news(None).await;
            }
        }
    }

    /// Whether the run still goes on, and is still ours.
    ///
    /// # Errors
    /// As [`Gate::pass`].
    pub fn alive(&self) -> Result<(), StepError> {
        if let Some(cause) = self.lost.borrow().clone() {
            return Err(StepError::Failed(cause));
        }
        if self.lost.has_changed().is_err() {
            let cause = Cause::bug("the task that keeps the lock on the run has ended");
            return Err(StepError::Failed(cause.hint("what was committed is safe: resume the run")));
        }
        match self.board.state() {
            RunState::Starting
            | RunState::Running
            | RunState::Pausing { .. }
            | RunState::Paused { .. }
            | RunState::Resuming { .. } => Ok(()),
            RunState::Stopping { .. } | RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => {
                Err(StepError::Stopped)
            }
        }
    }

    /// At the edge of the last open batch, a pause that was asked for has come about; and going on begins at once.
    ///
    /// # Errors
    /// The ledger cannot be written, and trying again would not help.
    pub async fn edge(&mut self) -> Result<(), StepError> {
        let state = self.board.state();
        match state {
            RunState::Pausing { .. } if self.board.is_open() => return Ok(()),
            RunState::Pausing { .. } | RunState::Resuming { .. } => {}
            RunState::Starting
            | RunState::Running
            | RunState::Paused { .. }
            | RunState::Stopping { .. }
            | RunState::Stopped { .. }
            | RunState::Failed { .. }
            | RunState::Done { .. } => return Ok(()),
        }
        // The ledger first: whoever sees "paused" may stop this process at once.
        if let Ok(next) = state.after(&Signal::AtEdge, self.board.utc()) {
            match self.ledger.run_state(&next, self.board.pulse()).await {
                Ok(()) => {}
                Err(StepError::Passing(_, cause)) => {
                    tracing::warn!("the run's state cannot be written down yet: {}", cause.headline());
                    tokio::time::sleep(AGAIN).await;
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
        // Another command may have come between: then the state is looked at again, and written again.
        if self.board.state() == state {
            let _ = self.board.signal(&Signal::AtEdge);
        }
        Ok(())
    }

    /// Everything from now on is news.
    pub fn mark_unchanged(&mut self) {
        self.snapshots.mark_unchanged();
    }

    /// Waits until something has changed since [`Gate::mark_unchanged`], or for `most`.
    pub async fn news(&mut self, most: Option<Duration>) {
        let time_is_up = async {
            match most {
                Some(most) => tokio::time::sleep(most).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.snapshots.changed() => drop(changed),
            changed = self.lost.changed() => drop(changed),
            () = time_is_up => {}
        }
    }
}
