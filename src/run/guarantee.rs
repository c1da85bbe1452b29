//! How often a row is changed when something dies in the middle of it.

use serde::{Deserialize, Serialize};

/// What a run promises of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Guarantee {
    /// Its change and the record of it commit together.
    #[default]
    #[serde(rename = "exactly once")]
    ExactlyOnce,
    /// The record comes after the change: a crash between the two makes a batch run twice.
    #[serde(rename = "at least once")]
    AtLeastOnce,
}

impl Guarantee {
    /// As people read it, and as JSON has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly once",
            Self::AtLeastOnce => "at least once",
        }
    }
}
