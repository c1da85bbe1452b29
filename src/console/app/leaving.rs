//! The ways out: for good, to the shell and back, by signals, because the terminal is gone or the run is.

use super::{App, redraw};
use crate::console::Leave;
use crate::console::action::Effect;
use crate::console::ui::{Choice, Mode, Overlay};
use crate::run::{Asker, Command, RunState};

/// Where a suspension stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspension {
    None,
    /// Waiting until nothing is open. `ours`: the pause was asked for only to suspend.
    Waiting {
        ours: bool,
    },
    /// The process is stopped, or about to be.
    Stopped {
        ours: bool,
    },
}

impl App {
    /// Whether leaving the console has no effect on the run.
    fn is_spectator(&self) -> bool {
        match self.ui.mode {
            Mode::Driver => false,
            Mode::Attached | Mode::ReadOnly => true,
        }
    }

    pub(super) fn quit(&mut self) -> Vec<Effect> {
        if self.is_over() || self.is_spectator() {
            return vec![Effect::Leave(Leave::Over)];
        }
        if self.leaving.is_some() {
            return redraw();
        }
        self.ui.prompt = None;
        self.ui.overlay = Overlay::Quit { selected: Choice::KeepRunning };
        redraw()
    }

    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        if self.is_typing() {
            return self.dismiss();
        }
        match (self.leaving, &self.ui.overlay) {
            (Some(leave), _) => vec![Effect::Leave(leave)],
            (None, Overlay::Quit { .. }) => self.stop(),
            (None, _) => self.quit(),
        }
    }

    pub(super) fn terminate(&mut self) -> Vec<Effect> {
        // Whoever drives the run hears the signal as well, and stops it: also while this console waits for its terminal.
        if self.is_spectator() { vec![Effect::Leave(Leave::Terminated)] } else { self.leave_with_the_end(Leave::Over) }
    }

    /// Asks for an end, and leaves when it has come.
    fn stop(&mut self) -> Vec<Effect> {
        let asked_already = self.leaving.is_some() || matches!(self.newest.state, RunState::Stopping { .. });
        let effects = self.leave_with_the_end(Leave::PauseAndQuit);
        if asked_already || self.is_over() { effects } else { self.ask(Command::Stop) }
    }

    /// Leaves once the run has come to its end.
    fn leave_with_the_end(&mut self, leave: Leave) -> Vec<Effect> {
        if self.is_over() {
            return vec![Effect::Leave(leave)];
        }
        self.ui.overlay = Overlay::None;
        self.suspension = Suspension::None;
        self.leaving = self.leaving.or(Some(leave));
        redraw()
    }

    /// Takes the marked way out.
    pub(super) fn leave_by(&mut self, choice: Choice) -> Vec<Effect> {
        match choice {
            Choice::Stay => self.close(),
            Choice::KeepRunning => {
                let mut effects = Vec::new();
                // A pause of this console's own ends with it; whoever else paused the run, or attaches, ends theirs. In a
                // demo nobody could.
                if let RunState::Pausing { by, .. } | RunState::Paused { by, .. } = self.newest.state
                    && (by == Asker::Console || by != Asker::Governor && self.newest.resume_command.is_empty())
                {
                    effects.push(Effect::Send(Command::Continue));
                }
                effects.push(Effect::Leave(Leave::KeepRunning));
                effects
            }
            Choice::PauseAndQuit => self.stop(),
        }
    }

    pub(super) fn suspend(&mut self) -> Vec<Effect> {
        let waits = |app: &mut Self, ours| {
            app.suspension = Suspension::Waiting { ours };
            app.say_until_the_state_changes("back to the shell as soon as the open batch has committed");
        };
        if self.is_spectator() {
            self.suspension = Suspension::Stopped { ours: false };
            return vec![Effect::Suspend];
        }
        match self.newest.state {
            RunState::Running | RunState::Resuming { .. } => {
                let effects = self.ask(Command::Pause);
                waits(self, true);
                effects
            }
            RunState::Pausing { .. } | RunState::Stopping { .. } => {
                // Asked for once more while its own pause is on the way: that is still to end with `fg`.
                let ours = matches!(self.suspension, Suspension::Waiting { ours: true });
                waits(self, ours);
                redraw()
            }
            // Nothing is open, so nothing is held while the process is stopped.
            RunState::Starting
            | RunState::Paused { .. }
            | RunState::Stopped { .. }
            | RunState::Failed { .. }
            | RunState::Done { .. } => {
                self.suspension = Suspension::Stopped { ours: false };
                vec![Effect::Suspend]
            }
        }
    }

    pub(super) fn hang_up(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        // A pause that was only for the shell must not outlive the terminal.
        if matches!(self.suspension, Suspension::Waiting { ours: true } | Suspension::Stopped { ours: true }) {
            effects.push(Effect::Send(Command::Continue));
        }
        effects.push(Effect::Leave(Leave::HungUp));
        effects
    }

    pub(super) fn woken(&mut self) -> Vec<Effect> {
        let ours = self.suspension == Suspension::Stopped { ours: true };
        self.suspension = Suspension::None;
        self.unsay();
        if ours && matches!(self.newest.state, RunState::Paused { .. }) {
            self.ask(Command::Continue)
        } else {
            redraw()
        }
    }

    pub(super) fn feed_closed(&self) -> Vec<Effect> {
        if self.is_spectator() {
            return vec![Effect::Leave(Leave::Over)];
        }
        match self.newest.state {
            RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => Vec::new(),
            RunState::Starting => vec![Effect::Leave(Leave::EndedEarly)],
            // Whoever drove the run has gone without a word: the caller knows why.
            RunState::Running
            | RunState::Pausing { .. }
            | RunState::Paused { .. }
            | RunState::Resuming { .. }
            | RunState::Stopping { .. } => vec![Effect::Leave(self.leaving.unwrap_or(Leave::Over))],
        }
    }
}
