//! What is written in the same transaction as a change: the seam between the steps and the ledger.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use crate::run::{Advance, Cause, Segment, StepIndex};

/// Why a record was not written. The transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another driver has taken the run over.
    #[error("another driver has taken this run over")]
    Fenced,
    /// The database's or the driver's error.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl RecordError {
    /// Describes the failure: `what` was being done, such as `step "emails"`.
    #[must_use]
    pub fn cause(&self, what: &str) -> Cause {
        match self {
            Self::Fenced => Cause::new(format!("{what}: another driver has taken this run over"))
                .hint("look who drives it now: howdah status"),
            Self::Sql(error) => super::error::cause(&format!("{what}: writing the ledger"), error),
        }
    }
}

/// The sweep that a step is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweeps {
    /// All segments of all sweeps, in order.
    pub segments: Vec<Segment>,
    /// Rows foretold for the newest sweep.
    pub foretold: Option<u64>,
}

/// Writes the record of a change, on the connection and in the transaction of that change.
///
/// Every write names the epoch under which this driver took the run; a driver that was replaced is refused.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Moves a segment's cursor.
    async fn advance(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        advance: &Advance,
    ) -> Result<(), RecordError>;

    /// What a step has walked so far.
    async fn sweeps(&self, connection: &mut PgConnection, step: StepIndex) -> Result<Sweeps, RecordError>;

    /// Adds the segments of a new sweep, and the rows foretold for it.
    async fn add_sweep(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segments: &[Segment],
        foretold: Option<u64>,
    ) -> Result<(), RecordError>;

    /// Writes a step down as done, with what it has to say.
    async fn step_done(&self, tx: &mut PgConnection, step: StepIndex, outcome: Option<&str>)
    -> Result<(), RecordError>;

    /// Writes down that a step's clean-up has run.
    async fn step_cleaned(&self, tx: &mut PgConnection, step: StepIndex) -> Result<(), RecordError>;
}
