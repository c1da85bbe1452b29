//! What each kind of step does. A step knows PostgreSQL and its own change; the engine knows when.

use std::sync::Arc;

use sqlx::PgPool;

use crate::engine::ports::{StepBody, StepError};
use crate::plan::model::{Limits, PlanSource, Step, StepKind};
use crate::postgres::record::{RecordError, Recorder};
use crate::postgres::session;
use crate::run::StepIndex;

pub mod backfill;
pub mod change;
pub mod interruptible;
pub mod keyspace;
pub mod preflight;
pub mod segments;
pub mod statement;
pub mod verify;

/// What every step has at hand.
#[derive(Clone)]
pub struct Workbench {
    /// Connections, set up with the plan's limits.
    pub pool: PgPool,
    /// Writes records.
    pub recorder: Arc<dyn Recorder>,
    /// The run's short id, for `application_name`.
    pub run: String,
    /// The plan's text, for excerpts.
    pub source: Arc<PlanSource>,
    /// The plan's limits.
    pub limits: Limits,
    /// The step's place in the plan.
    pub index: StepIndex,
    /// The step's name.
    pub name: String,
    /// Whether an earlier driver had the run.
    pub resumed: bool,
    /// Whether an earlier driver has begun the step, and what it does may have been done by it.
    pub begun_before: bool,
}

impl Workbench {
    /// How messages name the step.
    #[must_use]
    pub fn what(&self) -> String {
        format!("step \"{}\"", self.name)
    }

    /// Writes the step down as done, durably, in a transaction of its own.
    ///
    /// # Errors
    /// The ledger cannot be written, or another driver has taken the run over.
    pub async fn step_done(&self, outcome: Option<&str>) -> Result<(), StepError> {
        let write = async {
            let mut tx = self.pool.begin_with(session::DURABLE).await?;
            self.recorder.step_done(&mut tx, self.index, outcome).await?;
            tx.commit().await?;
            Ok::<(), RecordError>(())
        };
        write.await.map_err(|e| StepError::Failed(e.cause(&self.what())))
    }

    /// The step's `application_name`.
    #[must_use]
    pub fn application_name(&self) -> String {
        session::application_name(&self.run, &self.name)
    }
}

/// Makes what the engine drives.
#[must_use]
pub fn body(bench: Workbench, step: &Step) -> StepBody {
    match &step.kind {
        StepKind::Statement(statement) => {
            StepBody::Once(Arc::new(statement::StatementStep::new(bench, statement.clone())))
        }
        StepKind::Verify(verify) => StepBody::Once(Arc::new(verify::VerifyStep::new(bench, verify.clone()))),
        StepKind::Backfill(backfill) => {
            StepBody::Batched(Arc::new(backfill::BackfillStep::new(bench, backfill.clone())))
        }
    }
}
