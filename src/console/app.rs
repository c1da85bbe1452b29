//! What a key, a signal or a snapshot changes, and what must follow. No I/O: the event loop carries out the effects.

use std::sync::Arc;

use chrono::TimeDelta;
use crokey::KeyCombination;

use super::Leave;
use super::action::{Action, Effect, Haste};
use super::keymap::{BINDABLE_COUNT, Context};
use super::ui::{Choice, Overlay, Ui};
use super::view::Scene;
use crate::run::{self, Asker, BreakerView, Command, Details, Pace, RunState, Snapshot, why};

/// How often a run that stands still is shown anew: it costs bytes on a slow line, and says little.
const STILL: TimeDelta = TimeDelta::seconds(10);
/// The lines of a page in the help.
const PAGE: usize = 10;
/// No more lines than this are ever scrolled away: every binding, and a heading and a gap for each context.
const MAX_SCROLL: usize = BINDABLE_COUNT + 2 * Context::ALL.len();

/// Where a suspension stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspension {
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

/// The console's state.
#[derive(Debug)]
pub struct App {
    /// What the operator has opened.
    pub ui: Ui,
    newest: Arc<Snapshot>,
    shown: Arc<Snapshot>,
    details: Arc<Details>,
    leaving: Option<Leave>,
    suspension: Suspension,
}

impl App {
    /// A console that shows `snapshot`.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, ui: Ui) -> Self {
        Self {
            ui,
            shown: snapshot.clone(),
            newest: snapshot,
            details: Arc::default(),
            leaving: None,
            suspension: Suspension::None,
        }
    }

    /// What to draw. Its snapshot is older than the newest one while the run stands still.
    #[must_use]
    pub fn scene(&self) -> Scene<'_> {
        Scene { snapshot: &self.shown, details: &self.details, ui: &self.ui }
    }

    /// What a key does now.
    #[must_use]
    pub fn on_key(&self, key: KeyCombination) -> Option<Action> {
        let keymap = &self.ui.keymap;
        let action = match &self.ui.overlay {
            Overlay::Help { .. } | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
                keymap.action(Context::Dialogue, key)
            }
            // The outcome is a box, and the keys that leave the view leave it as well.
            Overlay::None if self.is_over() => {
                keymap.action(Context::Dialogue, key).or_else(|| keymap.action(Context::View, key))
            }
            Overlay::None => keymap.action(Context::View, key),
        };
        action.cloned()
    }

    /// Takes in one action, and says what must follow, in order.
    pub fn update(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::TogglePause => self.toggle_pause(),
            Action::LongerBatches => self.ask(Command::LongerBatches),
            Action::ShorterBatches => self.ask(Command::ShorterBatches),
            Action::MoreWorkers => self.ask(Command::MoreWorkers),
            Action::FewerWorkers => self.ask(Command::FewerWorkers),
            Action::CloseBreaker => self.close_breaker(),
            Action::Help => {
                self.ui.overlay = match self.ui.overlay {
                    Overlay::None | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
                        Overlay::Help { scroll: 0, filter: String::new(), typing: false }
                    }
                    Overlay::Help { .. } => Overlay::None,
                };
                redraw()
            }
            Action::Quit => self.quit(),
            Action::Interrupt => self.interrupt(),
            Action::Suspend => self.suspend(),
            Action::Repaint => vec![Effect::Repaint],
            Action::Next => self.step(1),
            Action::Previous => self.step(-1),
            Action::PageDown => self.page(PAGE.cast_signed()),
            Action::PageUp => self.page(-PAGE.cast_signed()),
            Action::Confirm => self.confirm(),
            Action::Dismiss => match &self.ui.overlay {
                Overlay::None if self.is_over() => vec![Effect::Leave(Leave::Over)],
                Overlay::None => Vec::new(),
                Overlay::Help { .. } | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
                    self.close()
                }
            },
            Action::Details(details) => {
                self.details = details;
                vec![Effect::Redraw(Haste::Calm)]
            }
            Action::Ask(command) => self.ask(command),
            // Built next: see the brief of the console.
            Action::Stop
            | Action::SkipWindow
            | Action::RetryQuarantine
            | Action::Undo
            | Action::Resume
            | Action::Acknowledge
            | Action::CancelSession
            | Action::TerminateSession
            | Action::Goto(_)
            | Action::NextView
            | Action::PreviousView
            | Action::NextPane
            | Action::PreviousPane
            | Action::Charts
            | Action::Zoom
            | Action::Sort
            | Action::ReverseSort
            | Action::Level
            | Action::Prompt(_)
            | Action::Typed(_)
            | Action::First
            | Action::Last => Vec::new(),
            Action::Snapshot(snapshot) => self.observe(snapshot),
            Action::FeedClosed => self.feed_closed(),
            Action::NotTaken => {
                // What was waited for will not come about.
                self.leaving = None;
                self.suspension = Suspension::None;
                self.ui.notice = Some("the engine is busy and did not take that: press the key again".to_owned());
                redraw()
            }
            Action::Terminate => self.stop(Some(Asker::Signal), Leave::Over),
            Action::HangUp => self.hang_up(),
            Action::Woken => self.woken(),
            Action::NoShell => {
                let effects = self.woken();
                self.ui.notice = Some("there is no shell here to go back to; q asks how to leave".to_owned());
                effects
            }
        }
    }

    fn is_over(&self) -> bool {
        self.newest.state.is_over()
    }

    fn toggle_pause(&mut self) -> Vec<Effect> {
        // Somebody who takes the pause into their own hands no longer wants to be suspended after it.
        self.suspension = Suspension::None;
        match self.newest.state {
            RunState::Running | RunState::Resuming { .. } => self.ask(Command::Pause),
            RunState::Pausing { .. } | RunState::Paused { .. } => self.ask(Command::Continue),
            RunState::Starting => {
                self.ui.notice = Some("the run is still starting: there is nothing to pause yet".to_owned());
                redraw()
            }
            RunState::Stopping { .. } | RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => {
                Vec::new()
            }
        }
    }

    fn ask(&mut self, command: Command) -> Vec<Effect> {
        if self.is_over() {
            return Vec::new();
        }
        self.ui.notice = None;
        vec![Effect::Send(command), Effect::Redraw(Haste::Quick)]
    }

    fn close_breaker(&mut self) -> Vec<Effect> {
        if self.is_over() || !why::is_closed(&self.newest.pace.breaker) {
            return self.ask(Command::CloseBreaker);
        }
        self.ui.notice = Some("the breaker is closed: there is nothing to close".to_owned());
        redraw()
    }

    fn quit(&mut self) -> Vec<Effect> {
        if self.is_over() {
            return vec![Effect::Leave(Leave::Over)];
        }
        if self.leaving.is_some() {
            return redraw();
        }
        self.ui.overlay = Overlay::Quit { selected: Choice::KeepRunning };
        redraw()
    }

    fn interrupt(&mut self) -> Vec<Effect> {
        match (self.leaving, &self.ui.overlay) {
            (Some(leave), _) => vec![Effect::Leave(leave)],
            (None, Overlay::Quit { .. }) => self.stop(None, Leave::PauseAndQuit),
            (None, _) => self.quit(),
        }
    }

    /// Asks for an end, and leaves when it has come.
    fn stop(&mut self, by: Option<Asker>, leave: Leave) -> Vec<Effect> {
        if self.is_over() {
            return vec![Effect::Leave(leave)];
        }
        self.ui.overlay = Overlay::None;
        self.suspension = Suspension::None;
        let already_asked = self.leaving.is_some() || matches!(self.newest.state, RunState::Stopping { .. });
        self.leaving = self.leaving.or(Some(leave));
        match by {
            _ if already_asked => redraw(),
            None => self.ask(Command::Stop),
            Some(by) => vec![Effect::SendFor(by, Command::Stop), Effect::Redraw(Haste::Quick)],
        }
    }

    fn suspend(&mut self) -> Vec<Effect> {
        let waits = |app: &mut Self, ours| {
            app.suspension = Suspension::Waiting { ours };
            app.ui.notice = Some("back to the shell as soon as the open batch has committed".to_owned());
        };
        match self.newest.state {
            RunState::Running | RunState::Resuming { .. } => {
                let effects = self.ask(Command::Pause);
                waits(self, true);
                effects
            }
            RunState::Pausing { .. } | RunState::Stopping { .. } => {
                waits(self, false);
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

    fn hang_up(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        // A pause that was only for the shell must not outlive the terminal.
        if matches!(self.suspension, Suspension::Waiting { ours: true } | Suspension::Stopped { ours: true }) {
            effects.push(Effect::Send(Command::Continue));
        }
        effects.push(Effect::Leave(Leave::HungUp));
        effects
    }

    fn woken(&mut self) -> Vec<Effect> {
        let ours = self.suspension == Suspension::Stopped { ours: true };
        self.suspension = Suspension::None;
        self.ui.notice = None;
        if ours && matches!(self.newest.state, RunState::Paused { .. }) {
            self.ask(Command::Continue)
        } else {
            redraw()
        }
    }

    fn step(&mut self, by: isize) -> Vec<Effect> {
        if let Overlay::Quit { selected } = &mut self.ui.overlay {
            *selected = selected.step(by);
            redraw()
        } else {
            self.page(by)
        }
    }

    fn page(&mut self, by: isize) -> Vec<Effect> {
        if let Overlay::Help { scroll, .. } = &mut self.ui.overlay {
            *scroll = scroll.saturating_add_signed(by).min(MAX_SCROLL);
            redraw()
        } else {
            Vec::new()
        }
    }

    fn confirm(&mut self) -> Vec<Effect> {
        match &self.ui.overlay {
            Overlay::Help { .. }
            | Overlay::Quit { selected: Choice::Stay }
            | Overlay::Confirm(_)
            | Overlay::Detail { .. } => self.close(),
            Overlay::Quit { selected: Choice::KeepRunning } => {
                let mut effects = Vec::new();
                // Without a console nobody could end the pause; the governor ends its own.
                if let RunState::Pausing { by, .. } | RunState::Paused { by, .. } = self.newest.state
                    && by != Asker::Governor
                {
                    effects.push(Effect::Send(Command::Continue));
                }
                effects.push(Effect::Leave(Leave::KeepRunning));
                effects
            }
            Overlay::Quit { selected: Choice::PauseAndQuit } => self.stop(None, Leave::PauseAndQuit),
            Overlay::None if self.is_over() => vec![Effect::Leave(Leave::Over)],
            Overlay::None => Vec::new(),
        }
    }

    fn close(&mut self) -> Vec<Effect> {
        self.ui.overlay = Overlay::None;
        redraw()
    }

    fn feed_closed(&self) -> Vec<Effect> {
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

    fn observe(&mut self, snapshot: Arc<Snapshot>) -> Vec<Effect> {
        self.newest = snapshot;
        let state_changed = self.newest.state != self.shown.state;
        let mut effects = Vec::new();
        if state_changed {
            self.ui.notice = None;
        }
        if self.is_over() {
            if let Some(leave) = self.leaving {
                return vec![Effect::Leave(leave)];
            }
            if matches!(self.newest.state, RunState::Failed { .. }) && self.newest.started_at.is_none() {
                return vec![Effect::Leave(Leave::EndedEarly)];
            }
            if matches!(self.ui.overlay, Overlay::Quit { .. }) {
                self.ui.overlay = Overlay::None;
            }
        }
        let stands_still = self.is_over() || matches!(self.newest.state, RunState::Paused { .. });
        if let (Suspension::Waiting { ours }, true) = (self.suspension, stands_still) {
            self.suspension = Suspension::Stopped { ours };
            effects.push(Effect::Suspend);
        }
        if stands_still && !state_changed && !self.has_news() {
            return effects;
        }
        self.shown = self.newest.clone();
        effects.push(Effect::Redraw(if state_changed { Haste::Quick } else { Haste::Calm }));
        effects
    }

    /// Whether the newest snapshot is worth showing although the run stands still.
    fn has_news(&self) -> bool {
        let (shown, newest) = (&self.shown, &self.newest);
        let alerts = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.vitals.alerts.iter().map(|alert| (alert.key.clone(), alert.count, alert.is_active())).collect()
        };
        newest.now - shown.now >= STILL
            || newest.events.back() != shown.events.back()
            || alerts(newest) != alerts(shown)
            || pace_news(&newest.pace) != pace_news(&shown.pace)
    }
}

/// What of the pace is news: what is waited for, what each signal does, the workers, the breaker. Values are not.
fn pace_news(pace: &Pace) -> (Option<&str>, Vec<run::Effect>, [u32; 2], std::mem::Discriminant<BreakerView>) {
    let hold = pace.hold.as_ref().map(|hold| hold.key.as_str());
    let effects = pace.signals.iter().map(|signal| signal.effect).collect();
    (hold, effects, [pace.wanted, pace.most], std::mem::discriminant(&pace.breaker))
}

fn redraw() -> Vec<Effect> {
    vec![Effect::Redraw(Haste::Quick)]
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
