//! What a key, a signal or a snapshot changes, and what must follow. No I/O: the event loop carries out the effects.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `pressing` | which action a key is, in the layers that are open |
//! | `moving` | views, panes, lists, and the boxes over them |
//! | `steering` | what is asked of the run, and what is asked once more before |
//! | `queueing` | what is asked of the queue, and which run is looked at next |
//! | `typing` | the line that is being typed |
//! | `remarks` | what came of what was asked, and other passing remarks |
//! | `leaving` | the ways out |

mod leaving;
mod moving;
mod pressing;
mod queueing;
mod remarks;
mod steering;
#[cfg(test)]
mod tests;
mod typing;

use std::sync::Arc;

use chrono::TimeDelta;
use crokey::KeyCombination;

use self::leaving::Suspension;
use self::moving::Rows;
pub(super) use self::moving::stepped;
use self::remarks::Remarks;
use self::typing::Typing;
use super::Leave;
use super::action::{Action, Effect, Haste};
use super::canvas::Seen;
use super::ui::{Mode, Overlay, Ui, View};
use super::view::Scene;
use crate::run::rule::Act;
use crate::run::vitals::Alert;
use crate::run::{self, BreakerView, Command, Details, Interest, Pace, Presence, RunState, Snapshot};

/// How often a run that stands still is shown anew: it costs bytes on a slow line, and says little.
const STILL: TimeDelta = TimeDelta::seconds(10);

/// The console's state.
#[derive(Debug)]
pub struct App {
    /// What the operator has opened.
    pub ui: Ui,
    newest: Arc<Snapshot>,
    shown: Arc<Snapshot>,
    details: Arc<Details>,
    /// What was last told to be looked at.
    interest: Interest,
    /// The keys of a sequence that has begun.
    pressed: Vec<KeyCombination>,
    rows: Rows,
    seen: Seen,
    typing: Typing,
    remarks: Remarks,
    leaving: Option<Leave>,
    suspension: Suspension,
}

impl App {
    /// A console that shows `snapshot`.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, ui: Ui) -> Self {
        Self {
            ui,
            remarks: Remarks::since(&snapshot),
            shown: snapshot.clone(),
            newest: snapshot,
            details: Arc::default(),
            interest: Interest::default(),
            pressed: Vec::new(),
            rows: Rows::default(),
            seen: Seen::default(),
            typing: Typing::default(),
            leaving: None,
            suspension: Suspension::None,
        }
    }

    /// What to draw. Its snapshot is older than the newest one while the run stands still.
    #[must_use]
    pub fn scene(&self) -> Scene<'_> {
        Scene { snapshot: &self.shown, details: &self.details, ui: &self.ui }
    }

    /// Takes in what the last frame told of itself.
    pub(super) fn drawn(&mut self, seen: Seen) {
        if let (Overlay::Help { scroll, .. } | Overlay::Detail { scroll }, Some(last)) =
            (&mut self.ui.overlay, seen.last_scroll)
        {
            // It shows the same; and the next key back is seen.
            *scroll = (*scroll).min(last);
        }
        self.seen = seen;
    }

    /// Takes in one action, and says what must follow, in order.
    pub fn update(&mut self, action: Action) -> Vec<Effect> {
        let mut effects = self.act(action);
        self.keep_selection();
        let interest = Interest {
            sessions: self.ui.view == View::Sessions,
            quarantine: self.ui.view == View::Segments,
            log: self.ui.view == View::Log,
            queue: self.ui.view == View::Queue,
        };
        if self.interest != interest {
            self.interest = interest;
            effects.insert(0, Effect::Look(interest));
        }
        effects
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        if action.steers() && self.ui.mode == Mode::ReadOnly {
            return self.say("this console only watches: it was opened with --read-only");
        }
        if action.steers() && !action.is_for_the_queue() && self.newest.presence == Presence::NoRun {
            return self.say_no_run();
        }
        match action {
            Action::TogglePause => self.toggle_pause(),
            Action::LongerBatches => self.ask(Command::LongerBatches),
            Action::ShorterBatches => self.ask(Command::ShorterBatches),
            Action::MoreWorkers => self.ask(Command::MoreWorkers),
            Action::FewerWorkers => self.ask(Command::FewerWorkers),
            Action::CloseBreaker => self.close_breaker(),
            Action::SkipWindow => self.ask(Command::SkipWindow),
            Action::Ask(command) => self.ask_in_words(command),
            Action::Stop => self.ask_to_stop(),
            Action::CancelSession => self.ask_about_selected(Command::CancelSession),
            Action::TerminateSession => self.ask_about_selected(Command::TerminateSession),
            Action::Acknowledge => self.acknowledge(),
            Action::Silence => self.silence(),
            Action::RetryQuarantine => self.ask_to_retry(),
            Action::Undo => self.ask_to_undo(),
            Action::RetryJob => self.retry_job(),
            Action::PromoteJob => self.promote_job(),
            Action::RemoveJob => self.remove_job(),
            Action::ToggleQueue => self.toggle_queue(),
            Action::Order(order) => self.order_in_words(order),
            Action::AttachJob => self.attach_job(),
            Action::Attach(run) => self.attach(run),
            Action::Resume => self.resume(),
            Action::Goto(view) => self.goto(view),
            Action::NextView => self.goto(self.ui.view.step(1)),
            Action::PreviousView => self.goto(self.ui.view.step(-1)),
            Action::NextPane => self.next_pane(1),
            Action::PreviousPane => self.next_pane(-1),
            Action::Charts => self.charts(),
            Action::Zoom => {
                self.ui.zoom = self.ui.zoom.next();
                redraw()
            }
            Action::Sort => self.sort(),
            Action::ReverseSort => self.reverse_sort(),
            Action::Level => self.level(),
            Action::Click(x, y) => self.click(x, y),
            Action::Next => self.step(1),
            Action::Previous => self.step(-1),
            Action::PageDown => self.page(1),
            Action::PageUp => self.page(-1),
            Action::First => self.go_to_end(false),
            Action::Last => self.go_to_end(true),
            Action::Confirm => self.confirm(),
            Action::Answer(yes) => self.answer(yes),
            Action::Dismiss => self.dismiss(),
            Action::Help => self.help(),
            Action::Prompt(kind) => self.prompt(kind),
            Action::Typed(key) => self.typed(key),
            Action::Pasted(text) => self.pasted(&text),
            Action::Complete { back } => self.complete(back),
            Action::NoKeyCame => self.no_key_came(),
            Action::Quit => self.quit(),
            Action::Interrupt => self.interrupt(),
            Action::Suspend => self.suspend(),
            Action::Repaint => vec![Effect::Repaint],
            Action::Details(details) => {
                self.details = details;
                let haste = if self.hear_of_orders() { Haste::Quick } else { Haste::Calm };
                vec![Effect::Redraw(haste)]
            }
            Action::Snapshot(snapshot) => self.observe(snapshot),
            Action::FeedClosed => self.feed_closed(),
            Action::NotTaken => {
                // What was waited for will not come about.
                self.leaving = None;
                self.suspension = Suspension::None;
                self.remarks.forget_asked();
                self.say("the engine is busy and did not take that: press the key again")
            }
            Action::OrderNotTaken => self.say("that was not taken: press the key again"),
            Action::Terminate => self.terminate(),
            Action::HangUp => self.hang_up(),
            Action::Woken => self.woken(),
            Action::NoShell => {
                let mut effects = self.woken();
                effects.extend(self.say("there is no shell here to go back to; q asks how to leave"));
                effects
            }
        }
    }

    fn is_over(&self) -> bool {
        self.newest.state.is_over()
    }

    /// Whether nobody drives the run any more, although it is not over.
    fn is_abandoned(&self) -> bool {
        !self.is_over() && matches!(self.newest.presence, Presence::Gone { .. })
    }

    fn observe(&mut self, snapshot: Arc<Snapshot>) -> Vec<Effect> {
        let rings = rings(&self.newest, &snapshot);
        self.newest = snapshot;
        let state_changed = self.newest.state != self.shown.state;
        let mut effects = if rings { vec![Effect::Bell] } else { Vec::new() };
        let remark_changed = self.hear(state_changed);
        if self.is_over() {
            if let Some(leave) = self.leaving {
                return vec![Effect::Leave(leave)];
            }
            let never_began = matches!(self.newest.state, RunState::Failed { .. }) && self.newest.started_at.is_none();
            if never_began && self.ui.mode == Mode::Driver {
                return vec![Effect::Leave(Leave::EndedEarly)];
            }
        }
        self.drop_vain_question();
        let stands_still = self.is_over() || matches!(self.newest.state, RunState::Paused { .. });
        let went_on = matches!(self.shown.state, RunState::Pausing { .. } | RunState::Resuming { .. })
            && self.newest.state == RunState::Running;
        if went_on && matches!(self.suspension, Suspension::Waiting { .. }) {
            // Somebody has ended the pause: a later one is not this one.
            self.suspension = Suspension::None;
        }
        if let (Suspension::Waiting { ours }, true) = (self.suspension, stands_still) {
            self.suspension = Suspension::Stopped { ours };
            effects.push(Effect::Suspend);
        }
        if stands_still && !state_changed && !remark_changed && !self.has_news() {
            return effects;
        }
        self.shown = self.newest.clone();
        effects.push(Effect::Redraw(if state_changed { Haste::Quick } else { Haste::Calm }));
        effects
    }

    /// A question about a run that goes on has no answer when it is over; nor has one about its end when somebody resumes it.
    fn drop_vain_question(&mut self) {
        let (over, abandoned) = (self.is_over(), self.is_abandoned());
        let is_vain = match &self.ui.overlay {
            Overlay::Quit { .. } => over,
            Overlay::Confirm(question) if matches!(*question.then, Effect::Leave(_)) => !over && !abandoned,
            Overlay::Confirm(question) => over && matches!(*question.then, Effect::Send(_)),
            Overlay::None | Overlay::Help { .. } | Overlay::Detail { .. } => false,
        };
        if is_vain {
            self.ui.overlay = Overlay::None;
        }
    }

    /// Whether the newest snapshot is worth showing although the run stands still.
    fn has_news(&self) -> bool {
        let (shown, newest) = (&self.shown, &self.newest);
        let alerts = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.vitals.alerts.iter().map(|alert| (alert.key.clone(), alert.count, alert.is_active())).collect()
        };
        newest.now - shown.now >= STILL
            || newest.events.back() != shown.events.back()
            || newest.commands.back() != shown.commands.back()
            || newest.acknowledged != shown.acknowledged
            || newest.silenced != shown.silenced
            || std::mem::discriminant(&newest.presence) != std::mem::discriminant(&shown.presence)
            || alerts(newest) != alerts(shown)
            || pace_news(&newest.pace) != pace_news(&shown.pace)
    }
}

/// Whether an alert that rings was raised meanwhile, and is not silenced.
fn rings(before: &Snapshot, after: &Snapshot) -> bool {
    let count = |key: &str| before.vitals.alerts.iter().find(|alert| alert.key == key).map_or(0, |alert| alert.count);
    let rings = |alert: &Alert| alert.is_active() && alert.acts.contains(&Act::Bell) && alert.count > count(&alert.key);
    after.vitals.alerts.iter().any(|alert| rings(alert) && after.silence(&alert.key).is_none())
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
