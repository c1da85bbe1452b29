//! What a kind of step knows of its rows that are set aside: how one of them is tried again.

use async_trait::async_trait;
use sqlx::PgTransaction;

use super::batch::BatchError;
use crate::postgres::record::AsideRow;
use crate::run::Tally;

/// What the step's change has done to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It has changed it.
    Changed(Tally),
    /// The row is not there.
    Gone,
    /// Nothing: it cannot be changed still, for this reason, and the server has not said so.
    Refused(String),
    /// Nothing, although the row is there; and whether it matches the step's `where`, if there is one.
    Untouched {
        /// Whether it does.
        matches: Option<bool>,
    },
}

/// Tries rows of one step again. `kept` is the row as the quarantine keeps it, as JSON.
#[async_trait]
pub trait Mending: Send + Sync {
    /// Applies the step's change to one row, in a transaction that holds it in the quarantine, and that sees the database as
    /// it was at its first statement. What is checked only at the commit is to be checked at once.
    ///
    /// # Errors
    /// The row is wrong still: [`BatchError::is_data`]. Anything else.
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        kept: Option<&str>,
    ) -> Result<Applied, BatchError>;

    /// The row as it is now, as JSON. `None`: it is gone, or what is kept is all there is.
    ///
    /// # Errors
    /// It cannot be read.
    async fn look(&self, tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Option<String>, BatchError>;

    /// How its key is named: `id`, `line`.
    fn key_name(&self, row: &AsideRow) -> String;
}
