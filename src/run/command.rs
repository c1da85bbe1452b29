//! What an operator may ask of a running engine.

use serde::{Deserialize, Serialize};

/// One request to the engine. It acts at the next edge of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Commit the open batch, then hold still.
    Pause(Asker),
    /// Go on after a pause.
    Continue(Asker),
    /// Commit the open batch (or cancel the open statement), then end, resumable.
    Stop(Asker),
    /// Aim at longer batches: more rows a second, longer locks.
    LongerBatches(Asker),
    /// Aim at shorter batches: gentler.
    ShorterBatches(Asker),
    /// One more worker, at once.
    MoreWorkers(Asker),
    /// One worker less, at its batch's edge.
    FewerWorkers(Asker),
    /// Close the circuit breaker: try again now.
    CloseBreaker(Asker),
}

/// Who asked, so that the record can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A person at the console.
    Console,
    /// A signal to the process: SIGINT or SIGTERM.
    Signal,
    /// The engine itself.
    Engine,
    /// The governor: a signal is past its `stop`, or the time is outside the allowed windows.
    Governor,
}

impl Asker {
    /// How a sentence names the asker.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "the console",
            Self::Signal => "a signal",
            Self::Engine => "the engine",
            Self::Governor => "the governor",
        }
    }
}
