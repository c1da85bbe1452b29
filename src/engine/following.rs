//! A process that has joined a run: it goes where the driver goes, and walks what it can lease.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::batch_size::BatchSize;
use super::pool::{Crew, Sharing, Work};
use super::ports::{OpenedStep, Reporter, StepBody, StepError};
use super::runner::Runner;
use super::sharing::{Lead, Leases};
use crate::run::{Asker, Signal, StepIndex};

/// How long it waits, where nobody says anything.
const PATIENCE: Duration = Duration::from_secs(1);

impl Runner {
    /// Follows the driver until the run is over.
    ///
    /// # Errors
    /// [`StepError::Stopped`] when this process or the run was stopped; else what went wrong here: the run itself goes on.
    pub(super) async fn follow(mut self, steps: &[OpenedStep], leases: &Arc<dyn Leases>) -> Result<(), StepError> {
        let mut standing = leases.standing();
        loop {
            self.gate.pass().await?;
            let now = standing.borrow_and_update().clone();
            match now.lead {
                Lead::Over(state) if state == "done" => return Ok(()),
                Lead::Over(_) => {
                    drop(self.board.signal(&Signal::AskStop { by: Asker::Driver }));
                    return Err(StepError::Stopped);
                }
                Lead::Wait(reason) => {
                    self.board.doing(&reason, None);
                    self.wait(&mut standing).await;
                }
                Lead::Help { step, sweep } => {
                    if !self.help(step, sweep, steps, leases).await? {
                        self.wait(&mut standing).await;
                    }
                }
            }
        }
    }

    async fn wait(&mut self, standing: &mut tokio::sync::watch::Receiver<super::sharing::Standing>) {
        self.gate.mark_unchanged();
        tokio::select! {
            biased;
            changed = standing.changed() => drop(changed),
            () = self.gate.news(Some(PATIENCE)) => {}
        }
    }

    /// Walks segments of one sweep as long as the driver does. `false`: it is not the sweep that is there now.
    async fn help(
        &mut self,
        index: StepIndex,
        number: u32,
        steps: &[OpenedStep],
        leases: &Arc<dyn Leases>,
    ) -> Result<bool, StepError> {
        let Some(StepBody::Batched(step)) = steps.get(index.as_usize()).map(|step| &step.body) else {
            return Ok(false);
        };
        self.board.step_started(index);
        let sweep = self.patience.with(|| Box::pin(self.gate.unless_lost(step.open(&self.context)))).await?;
        if sweep.number != number {
            return Ok(false);
        }
        let target = self.board.wanted_target().unwrap_or_else(|| step.target());
        let size = Arc::new(Mutex::new(BatchSize::new(step.bounds(), target)));
        let (pacing, sharing) = (self.pacing.clone(), Sharing::Member(Arc::clone(leases)));
        let work = Work { step: Arc::clone(step), index, size: Arc::clone(&size), pacing, sharing };
        // What the others have done is not this process's to tell.
        let own =
            super::ports::Sweep { segments: Vec::new(), weights: Vec::new(), foretold: None, bytes: None, ..sweep };
        let crew = Crew::new(Arc::clone(&self.board), work, own.clone());
        let now = size.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.board.sweep_started(&own, &now, step.target(), crew.parts(), crew.survey());
        crew.walk(&mut self.gate, &self.context).await?;
        self.board.idle();
        Ok(true)
    }
}
