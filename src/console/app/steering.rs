//! What is asked of the run, and what is asked once more before, because it cannot be taken back.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::leaving::Suspension;
use super::{App, redraw};
use crate::console::Leave;
use crate::console::action::{Effect, Haste};
use crate::console::ui::{ListId, Overlay, Question};
use crate::run::details::SessionView;
use crate::run::{Command, RunState, human, why};

/// For how long a key silences an alert.
const SILENCE: Duration = Duration::from_hours(1);

impl App {
    pub(super) fn toggle_pause(&mut self) -> Vec<Effect> {
        // Somebody who takes the pause into their own hands no longer wants to be suspended after it.
        self.suspension = Suspension::None;
        match self.newest.state {
            RunState::Running | RunState::Resuming { .. } => self.ask(Command::Pause),
            RunState::Pausing { .. } | RunState::Paused { .. } => self.ask(Command::Continue),
            RunState::Starting => self.say("the run is still starting: there is nothing to pause yet"),
            RunState::Stopping { .. } | RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => {
                Vec::new()
            }
        }
    }

    /// Asks the engine, where there is one.
    pub(super) fn ask(&mut self, command: Command) -> Vec<Effect> {
        if self.is_over() {
            return Vec::new();
        }
        if self.is_abandoned() {
            return self.say_abandoned();
        }
        self.asked(&command);
        vec![Effect::Send(command), Effect::Redraw(Haste::Quick)]
    }

    /// [`Self::ask`], for somebody who has typed it: nothing is passed over in silence, and what cannot be taken back is
    /// asked once more.
    pub(super) fn ask_in_words(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Stop => self.ask_to_stop(),
            Command::CancelSession(pid, _) | Command::TerminateSession(pid, _) => self.ask_about(pid, &command),
            Command::Pause
            | Command::Continue
            | Command::LongerBatches
            | Command::ShorterBatches
            | Command::SetTarget(_)
            | Command::MoreWorkers
            | Command::FewerWorkers
            | Command::SetWorkers(_)
            | Command::CloseBreaker
            | Command::SkipWindow
            | Command::Acknowledge(_)
            | Command::Silence(..)
            | Command::Unsilence(_) => {
                if matches!(command, Command::Pause | Command::Continue) {
                    self.suspension = Suspension::None;
                }
                if self.is_over() { self.say_over() } else { self.ask(command) }
            }
        }
    }

    pub(super) fn close_breaker(&mut self) -> Vec<Effect> {
        if self.is_over() || !why::is_closed(&self.newest.pace.breaker) {
            return self.ask(Command::CloseBreaker);
        }
        self.say("the breaker is closed: there is nothing to close")
    }

    /// The alert that is selected, or all that hold and nobody has noted.
    pub(super) fn acknowledge(&mut self) -> Vec<Effect> {
        let selected = match self.ui.list() {
            Some(ListId::Events) => self.ui.lists.events.selected.as_deref(),
            _ => None,
        };
        let keys: Vec<String> = if let Some(key) = selected.and_then(|key| key.strip_prefix("alert:")) {
            vec![key.to_owned()]
        } else {
            let alerts = self.newest.vitals.alerts.iter();
            let open = alerts.filter(|alert| alert.is_active() && !self.newest.is_acknowledged(alert));
            open.map(|alert| alert.key.clone()).collect()
        };
        if self.is_over() {
            return Vec::new();
        }
        if keys.is_empty() {
            return self.say("no alert holds that is not noted already");
        }
        if self.is_abandoned() {
            return self.say_abandoned();
        }
        let mut effects = Vec::new();
        for key in keys {
            let command = Command::Acknowledge(key);
            self.asked(&command);
            effects.push(Effect::Send(command));
        }
        effects.extend(redraw());
        effects
    }

    /// The alert that is selected: quiet for an hour, or no more.
    pub(super) fn silence(&mut self) -> Vec<Effect> {
        let selected = match self.ui.list() {
            Some(ListId::Events) => self.ui.lists.events.selected.as_deref(),
            _ => None,
        };
        let Some(key) = selected.and_then(|key| key.strip_prefix("alert:")).map(str::to_owned) else {
            return self.say("no alert is selected: `:silence KEY 1h` silences one by its key");
        };
        let command = match self.newest.silence(&key) {
            Some(_) => Command::Unsilence(key),
            None => Command::Silence(key, SILENCE),
        };
        if self.is_over() { self.say_over() } else { self.ask(command) }
    }

    pub(super) fn ask_to_stop(&mut self) -> Vec<Effect> {
        if self.is_over() {
            return self.say_over();
        }
        if self.is_abandoned() {
            return self.say_abandoned();
        }
        if matches!(self.newest.state, RunState::Stopping { .. }) {
            return self.say("the run is being stopped already");
        }
        let then = Effect::Send(Command::Stop);
        let consequence = match self.newest.resume_command.as_str() {
            _ if self.newest.state == RunState::Starting => "it has not begun: nothing is changed".to_owned(),
            "" => "the open batch is finished first; this run's server ends with it, and nobody can go on".to_owned(),
            command => format!("the open batch is finished first; then `{command}` goes on"),
        };
        self.question("stop the run?".to_owned(), consequence, then)
    }

    /// The same of the session that is selected.
    pub(super) fn ask_about_selected(&mut self, command: fn(i32, Option<DateTime<Utc>>) -> Command) -> Vec<Effect> {
        let selected = match self.ui.list() {
            Some(ListId::Sessions) => self.ui.lists.sessions.selected.as_deref(),
            _ => None,
        };
        match selected.and_then(|pid| pid.parse().ok()) {
            Some(pid) => self.ask_about(pid, &command(pid, None)),
            None => self.say("no session is selected: the view of the sessions has them"),
        }
    }

    /// Asks once more before a session is disturbed.
    ///
    /// Also where the driver is gone: it may have left a session behind, and this console can ask the server itself.
    fn ask_about(&mut self, pid: i32, command: &Command) -> Vec<Effect> {
        if self.is_over() {
            return self.say_over();
        }
        let sessions = self.details.sessions.value();
        let Some(session) = sessions.and_then(|sessions| sessions.sessions.iter().find(|session| session.pid == pid))
        else {
            return self.say(format!("session {pid} is gone"));
        };
        let ends = matches!(command, Command::TerminateSession(..));
        let start = session.started;
        let command = if ends { Command::TerminateSession(pid, start) } else { Command::CancelSession(pid, start) };
        let text = format!("{} {}?", command.words(), described(session));
        let consequence = consequence(session, ends);
        self.question(text, consequence, Effect::Send(command))
    }

    /// A run whose server ends with it, as the demo's does: nobody can do anything with it afterwards.
    fn ends_with_its_server(&self) -> bool {
        self.is_over() && self.newest.resume_command.is_empty()
    }

    fn say_it_ends(&mut self) -> Vec<Effect> {
        self.say("this run's server ends with it: with `howdah demo --keep` it stays")
    }

    pub(super) fn ask_to_retry(&mut self) -> Vec<Effect> {
        if self.ends_with_its_server() {
            return self.say_it_ends();
        }
        if !self.is_over() && !self.is_abandoned() {
            return self.say("rows that were set aside can be tried again once the run is over");
        }
        let listed = self.details.quarantine.value().map(|quarantine| quarantine.open);
        // What was listed may be old.
        let rows = listed.unwrap_or(0).max(self.newest.quarantined());
        if rows == 0 {
            return self.say("no rows are set aside");
        }
        let text = format!("try {} again that were set aside?", human::rows(rows));
        let consequence = "each one is changed as its step would change it, or stays set aside".to_owned();
        self.question(text, consequence, Effect::Leave(Leave::RetryQuarantine))
    }

    pub(super) fn ask_to_undo(&mut self) -> Vec<Effect> {
        if self.ends_with_its_server() {
            return self.say_it_ends();
        }
        if !self.is_over() && !self.is_abandoned() {
            return self.say("a run can be taken back once it is over: stop it first");
        }
        let text = format!("take run {} back?", self.newest.run);
        let changed = human::rows(self.newest.rows_changed());
        let consequence = format!("of {changed} that it changed, those with an undo log get their old values back");
        self.question(text, consequence, Effect::Leave(Leave::Undo))
    }

    pub(super) fn resume(&mut self) -> Vec<Effect> {
        if self.ends_with_its_server() {
            return self.say_it_ends();
        }
        match &self.newest.state {
            RunState::Done { .. } => self.say("the run is done: there is nothing to go on with"),
            RunState::Failed { resumable: false, .. } => self.say("the run has failed for good: it cannot be resumed"),
            RunState::Stopped { .. } | RunState::Failed { resumable: true, .. } => {
                vec![Effect::Leave(Leave::Resume)]
            }
            RunState::Starting
            | RunState::Running
            | RunState::Pausing { .. }
            | RunState::Paused { .. }
            | RunState::Resuming { .. }
            | RunState::Stopping { .. }
                if self.is_abandoned() =>
            {
                vec![Effect::Leave(Leave::Resume)]
            }
            RunState::Pausing { .. } | RunState::Paused { .. } => {
                self.say("the run is paused, and its driver lives: `:continue` goes on with it")
            }
            RunState::Starting | RunState::Running | RunState::Resuming { .. } | RunState::Stopping { .. } => {
                self.say("the run has a driver: there is nothing to resume")
            }
        }
    }

    /// Opens a question, with no marked.
    pub(super) fn question(&mut self, text: String, consequence: String, then: Effect) -> Vec<Effect> {
        self.ui.prompt = None;
        self.ui.overlay = Overlay::Confirm(Question { text, consequence, then: Box::new(then), yes: false });
        redraw()
    }

    /// Does what was asked about, or not.
    pub(super) fn answer(&mut self, yes: bool) -> Vec<Effect> {
        let Overlay::Confirm(question) = &self.ui.overlay else { return Vec::new() };
        let then = (*question.then).clone();
        let closed = self.close();
        match then {
            _ if !yes => closed,
            Effect::Send(command) => self.ask(command),
            Effect::Order(order) => self.order(order),
            Effect::Look(_)
            | Effect::Redraw(_)
            | Effect::AwaitKey
            | Effect::Bell
            | Effect::Repaint
            | Effect::Suspend
            | Effect::Leave(_) => vec![then],
        }
    }

    fn say_over(&mut self) -> Vec<Effect> {
        self.say("the run is over: there is nothing left to ask of it")
    }

    fn say_abandoned(&mut self) -> Vec<Effect> {
        let resumes = match self.ui.keymap.first_key(&crate::console::action::Action::Resume) {
            Some(key) => format!("{key} resumes it"),
            None => ":resume goes on with it".to_owned(),
        };
        self.say(format!("nobody drives this run, so nobody would do that: {resumes}"))
    }
}

/// Who a session is, behind its process id.
fn described(session: &SessionView) -> String {
    match session.application.as_str() {
        "" => format!("of {}, without a name, from {}", session.user, session.client),
        application => format!("of {} ({application}), from {}", session.user, session.client),
    }
}

fn consequence(session: &SessionView, ends: bool) -> String {
    let becomes = if ends {
        "its transaction is rolled back and its connection closed"
    } else {
        "its statement fails; its transaction, if it has one, with it"
    };
    if session.is_ours {
        format!("it is one of THIS RUN'S OWN sessions: {becomes}, and the run tries its work again")
    } else {
        becomes.to_owned()
    }
}
