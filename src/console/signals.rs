//! Signals of the process, as actions.

use std::io;

use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::action::Action;

/// The signals that the console answers to.
#[derive(Debug)]
pub(crate) struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
    stop: Signal,
    resize: Signal,
}

impl Signals {
    /// Begins to listen. From now on these signals no longer do what they do by default.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(Number::SIGTSTP as i32))?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// The next signal. May be dropped and called again without losing one.
    pub(crate) async fn next(&mut self) -> Action {
        tokio::select! {
            biased;
            _ = self.hang_up.recv() => Action::HangUp,
            _ = self.terminate.recv() => Action::Terminate,
            _ = self.interrupt.recv() => Action::Terminate,
            _ = self.stop.recv() => Action::Suspend,
            _ = self.resize.recv() => Action::Repaint,
        }
    }
}

/// Whether somebody is there who can continue a stopped job: a shell with job control gives each job a process group of
/// its own. In the session leader's own group (`ssh -t host howdah`, a terminal that was started with a command) nobody is.
#[must_use]
pub fn has_shell() -> bool {
    nix::unistd::getsid(None).is_ok_and(|session| session != nix::unistd::getpgrp())
}

/// Stops the foreground job, and returns when it has been continued.
///
/// The whole process group, as the terminal's own Ctrl-Z does it: under `cargo run`, or in a pipeline, the shell waits for
/// all of the job, and would not come back if only this process stopped. The signal may take effect a moment after it was
/// sent; waiting for SIGCONT keeps the terminal from being set up again in that moment.
pub(crate) async fn stop_job() -> io::Result<()> {
    let mut continued = signal(SignalKind::from_raw(Number::SIGCONT as i32))?;
    kill(Pid::from_raw(0), Number::SIGSTOP)?;
    continued.recv().await;
    Ok(())
}
