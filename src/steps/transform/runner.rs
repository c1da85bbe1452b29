//! What answers the rows of one worker: a thread with a script in it, or a program that was started.

use std::sync::Arc;
use std::time::Duration;

use super::lines::{self, Lines};
use super::look::{By, Ready};
use super::rhai::Thread;
use super::rows::{Answer, Asked};
use crate::engine::ports::StepError;

/// It is begun when it is first asked.
#[derive(Default)]
pub(super) enum Runner {
    /// It is not there yet.
    #[default]
    Waiting,
    /// A thread with a script.
    Script(Thread),
    /// A program, which talks in lines.
    Command(Box<Lines>),
}

impl Runner {
    /// The answers, in the order of what is asked; fewer, at least one, once `linger` has passed.
    pub(super) async fn ask(
        &mut self,
        ready: &Ready,
        what: &str,
        asked: Asked,
        linger: Option<Duration>,
    ) -> Result<Vec<Answer>, StepError> {
        if asked.which.is_empty() {
            return Ok(Vec::new());
        }
        if matches!(ready.by, By::Server) {
            return Ok(asked
                .which
                .iter()
                .map(|at| lines::as_read(&asked.rows, *at, &ready.read, &ready.shape))
                .collect());
        }
        if matches!(self, Self::Waiting) {
            *self = match &ready.by {
                By::Script(script) => {
                    let script = (Arc::clone(script), ready.caches.as_ref());
                    Self::Script(Thread::start(script, Arc::clone(&ready.read), Arc::clone(&ready.shape))?)
                }
                By::Server => Self::Waiting,
                By::Command { argv, timeout } => {
                    Self::Command(Box::new(Lines::new(argv.clone(), *timeout, what.to_owned())))
                }
            };
        }
        match self {
            Self::Waiting => Ok(Vec::new()),
            Self::Script(thread) => thread.ask(asked, linger).await,
            Self::Command(lines) => lines.ask(asked, (&ready.read, &ready.shape), linger).await,
        }
    }

    /// Lets a program end.
    pub(super) async fn close(self) {
        if let Self::Command(lines) = self {
            lines.close().await;
        }
    }
}
