//! What changes of state tell, in words. Pure.

use crate::run::{Asker, Cause, EventKind, Level, RunState, Signal};

/// What a new state tells, as an event. States on the way to another tell nothing of their own.
#[must_use]
pub fn describe(state: &RunState) -> (Level, EventKind, Option<String>) {
    match state {
        RunState::Starting | RunState::Running => (Level::Info, EventKind::StateChanged, None),
        // Whoever else asked is told of with the request.
        RunState::Pausing { by: by @ (Asker::Governor | Asker::Engine), .. } => {
            (Level::Info, EventKind::StateChanged, Some(format!("pause asked for by {}", by.name())))
        }
        RunState::Pausing { .. } | RunState::Resuming { .. } | RunState::Stopping { .. } => {
            (Level::Info, EventKind::StateChanged, None)
        }
        RunState::Paused { .. } => (Level::Info, EventKind::StateChanged, Some("paused; nothing is open".to_owned())),
        RunState::Stopped { .. } => {
            (Level::Warning, EventKind::RunFinished, Some("stopped before the end; it can be resumed".to_owned()))
        }
        RunState::Failed { cause, .. } => (Level::Critical, EventKind::RunFinished, Some(cause.headline())),
        RunState::Done { .. } => {
            (Level::Info, EventKind::RunFinished, Some("done: every step is finished and checked".to_owned()))
        }
    }
}

/// A failure as a signal. Everything that has begun can be resumed.
#[must_use]
pub fn failure(cause: Cause, resumable: bool) -> Signal {
    Signal::Fail { cause, resumable }
}
