//! Where answers come from in the end: the database, which the cache knows by this trait only.

use async_trait::async_trait;

use crate::plan::model::CachedLookup;
use crate::run::{Cause, Trouble};

/// What a look-up is asked for: texts, as the server reads them. `None`: NULL.
pub type Arguments = Vec<Option<String>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookError {
    /// What was asked is wrong, such as a text that is no number: a matter of the row.
    Row(Cause),
    /// It may be answered later.
    Passing(Trouble, Cause),
    /// It is never answered: the plan is wrong.
    Failed(Cause),
}

impl LookError {
    /// What is to be told.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        let (Self::Row(cause) | Self::Passing(_, cause) | Self::Failed(cause)) = self;
        cause
    }
}

/// Answers look-ups.
#[async_trait]
pub trait Source: Send + Sync {
    /// Which database it is, and as whom it is asked: what is the same has the same answers, on whatever host.
    async fn identity(&self) -> Result<Identity, LookError>;
    /// The first row, as JSON: its value, or an object of its columns where it has several. `None`: there is no row.
    async fn look(&self, cache: &CachedLookup, arguments: &[Option<String>]) -> Result<Option<String>, LookError>;
}

/// A database, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The database.
    pub database: String,
    /// The role and where it looks for tables.
    pub reader: String,
}
