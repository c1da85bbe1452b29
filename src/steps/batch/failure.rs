//! Why a batch did not commit.

use crate::plan::model::PlanSource;
use crate::postgres::record::RecordError;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, trouble};
use crate::run::{Cause, Segment, Trouble};
use crate::steps::Workbench;

/// Why a batch, or the change of one row, did not commit.
pub enum BatchError {
    /// The plan's SQL, or the rows.
    Change(sqlx::Error, SqlText),
    /// Anything else that the server or the driver said.
    Sql(sqlx::Error),
    /// The rows are wrong, as howdah itself has found: an SQLSTATE that says what of it is, and words.
    Wrong(Option<String>, String),
    /// The record was refused.
    Record(RecordError),
    /// What the rows' program needed could not be had, and may be had later.
    Passing(Trouble, Cause),
    /// It must not go on.
    Plan(Cause),
}

impl From<sqlx::Error> for BatchError {
    fn from(e: sqlx::Error) -> Self {
        Self::Sql(e)
    }
}

impl BatchError {
    /// Whether the rows themselves are wrong. A constraint that is checked at the commit fails there.
    #[must_use]
    pub fn is_data(&self) -> bool {
        match self {
            Self::Change(e, _) | Self::Sql(e) => trouble::is_data(e),
            Self::Wrong(..) => true,
            Self::Record(_) | Self::Passing(..) | Self::Plan(_) => false,
        }
    }

    /// Whether nothing of the batch was kept, as far as its failure itself does not say what was.
    #[must_use]
    pub fn kept_nothing(&self) -> bool {
        !matches!(self, Self::Plan(_) | Self::Record(RecordError::Store(..)))
    }

    /// The server's SQLSTATE and its words, for a row that is set aside.
    #[must_use]
    pub fn told(&self) -> (Option<String>, String) {
        match self {
            Self::Change(e, _) | Self::Sql(e) => (
                error::code(e).map(str::to_owned),
                error::database(e).map_or_else(|| e.to_string(), |db| db.message().to_owned()),
            ),
            Self::Wrong(sqlstate, message) => (sqlstate.clone(), message.clone()),
            Self::Record(e) => (None, e.to_string()),
            Self::Passing(_, cause) | Self::Plan(cause) => (cause.sqlstate.clone(), cause.message.clone()),
        }
    }

    /// The failure as a person is told it; `what` failed, such as `step "emails"`.
    #[must_use]
    pub fn cause(&self, what: &str, source: &PlanSource) -> Cause {
        match self {
            Self::Change(e, sql) => error::cause_in_plan(what, e, sql, source),
            Self::Sql(e) => error::cause(what, e),
            Self::Wrong(sqlstate, message) => {
                let cause = Cause::new(format!("{what}: {message}"));
                match sqlstate {
                    Some(code) => cause.sqlstate(code),
                    None => cause,
                }
            }
            Self::Record(e) => e.cause(what),
            Self::Passing(_, cause) | Self::Plan(cause) => cause.clone(),
        }
    }
}

/// The answer to a record, which may not have come in time.
///
/// # Errors
/// The record was refused, or there was no answer.
pub fn recorded<T>(written: Result<Result<T, RecordError>, tokio::time::error::Elapsed>) -> Result<T, BatchError> {
    match written {
        Ok(written) => written.map_err(BatchError::Record),
        Err(_) => Err(BatchError::Sql(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer to the batch's record",
        )))),
    }
}

/// Tells the ledger that the batch which has advanced `segment` has committed.
///
/// # Errors
/// It lies elsewhere and was not written: what the batch has changed is done again, or found to be recorded after all.
pub async fn committed(bench: &Workbench, segment: &Segment) -> Result<(), BatchError> {
    bench.recorder.committed(bench.index, Some(segment)).await.map_err(BatchError::Record)
}
