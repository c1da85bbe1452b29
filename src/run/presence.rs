//! Who drives a run, as far as a reader of it can tell.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Who drives a run, and whether that driver lives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "driver")]
pub enum Presence {
    /// This very process.
    #[default]
    Here,
    /// Another process, on the snapshot's host, which holds the lock on the run.
    Elsewhere {
        /// Its process id.
        pid: u32,
        /// Since its last heartbeat, by the server's clock.
        beat: Duration,
    },
    /// Nobody holds the lock on the run: its last driver is gone.
    Gone {
        /// Its process id.
        pid: u32,
        /// Its last heartbeat, by the server's clock.
        since: DateTime<Utc>,
    },
    /// No run is shown: the console looks at a queue alone.
    NoRun,
    /// The database does not answer this reader: what is shown is old.
    Unreachable {
        /// Why. Not cleaned.
        why: String,
        /// When it answered last.
        since: DateTime<Utc>,
    },
}
