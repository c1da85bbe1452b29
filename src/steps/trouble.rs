//! Failures of the server, as the engine knows them.

use crate::engine::ports::{StepError, Trouble};
use crate::postgres::connect::Refused;
use crate::postgres::record::RecordError;
use crate::postgres::trouble;
use crate::run::Cause;

/// What a failure of the server's or the driver's means. `cause` describes it.
#[must_use]
pub fn step_error(failure: &sqlx::Error, cause: Cause) -> StepError {
    StepError::of(trouble::of(failure), cause)
}

/// What it means that a record could not be written.
#[must_use]
pub fn of_record(failure: &RecordError, what: &str) -> StepError {
    let cause = failure.cause(what);
    match failure {
        RecordError::Fenced | RecordError::Already => StepError::Failed(cause),
        RecordError::Store(trouble, _) => StepError::of(*trouble, cause),
        RecordError::Sql(sql) => step_error(sql, cause),
    }
}

/// What it means that no connection could be opened.
#[must_use]
pub fn of_refusal(refused: Refused) -> StepError {
    StepError::of(refused.may_pass.then_some(Trouble::Outage), refused.cause)
}
