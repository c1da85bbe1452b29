//! Errors that pass, by what is done about them.

use serde::{Deserialize, Serialize};

/// An error that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A deadlock, a serialization failure: tried again, as often as the plan's `[retry]` says.
    Transient,
    /// The batch ran into its time limit: tried again with fewer rows. At the smallest batch it is [`Trouble::Transient`].
    TooLong,
    /// Another session holds a lock for longer than `lock_timeout`: tried again until it is free.
    Blocked,
    /// Another session waited for a lock of the batch, so the batch was given up: tried again with fewer rows.
    GaveWay,
    /// The server, the network or a resource is gone: waited out under the breaker.
    Outage,
}
