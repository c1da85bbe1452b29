//! What can happen to the console, and what can follow: the words that keys, signals, the engine and tests share.

use std::sync::Arc;

use super::Leave;
use crate::run::{Command, Snapshot};

/// Everything that can happen to the console. Keys, signals, the engine and tests all speak in these.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Pause, or continue after a pause.
    TogglePause,
    /// Aim at longer batches.
    LongerBatches,
    /// Aim at shorter batches.
    ShorterBatches,
    /// One more worker.
    MoreWorkers,
    /// One worker less.
    FewerWorkers,
    /// Close the circuit breaker: try again now.
    CloseBreaker,
    /// Show or hide the keys.
    Help,
    /// Ask how to leave, or leave if the run is over.
    Quit,
    /// Ask how to leave; the second time: stop the run and leave; the third time: leave at once.
    Interrupt,
    /// Pause, restore the terminal and stop the process.
    Suspend,
    /// Draw everything again.
    Repaint,
    /// To the next line or choice.
    Next,
    /// To the previous line or choice.
    Previous,
    /// A page on.
    PageDown,
    /// A page back.
    PageUp,
    /// Take the choice.
    Confirm,
    /// Close the box.
    Dismiss,
    /// The engine has published a snapshot.
    Snapshot(Arc<Snapshot>),
    /// Nobody will publish snapshots any more.
    FeedClosed,
    /// The engine's queue of commands is full or closed.
    NotTaken,
    /// A signal asks for an end: SIGTERM or SIGINT.
    Terminate,
    /// The terminal is gone.
    HangUp,
    /// The process runs again after [`Effect::Suspend`].
    Woken,
    /// The process was to be stopped, and there is no shell that could continue it.
    NoShell,
}

/// What the event loop must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask the engine, without waiting.
    Send(Command),
    /// Draw, soon.
    Redraw(Haste),
    /// Forget what is on the screen, and draw.
    Repaint,
    /// Restore the terminal, stop the process, and set the terminal up again when it goes on.
    Suspend,
    /// Close the console.
    Leave(Leave),
}

/// How soon a change must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// Within a second.
    Calm,
    /// Within a tenth of a second.
    Quick,
}
