//! Processes that have joined a run and walk segments of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process that has joined a run. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberView {
    /// Its number among all that ever joined the run, from 1.
    pub place: u32,
    /// Its host.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Its workers.
    pub workers: u32,
    /// Whether it has no batch open and opens none, as the driver wants.
    pub is_resting: bool,
    /// Whether it has workers without a segment.
    pub is_dry: bool,
    /// Segments that it holds.
    pub segments: u32,
    /// Since it was heard last.
    pub silent: Duration,
    /// Why it waits.
    pub says: Option<String>,
}

/// A member that was not heard for so long is gone: the driver takes back what it held.
pub const LEASE: Duration = Duration::from_secs(15);
