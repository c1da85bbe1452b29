//! The last row: what is going on for a moment, and the keys that matter now, from the live keymap.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::action::Action;
use super::super::canvas::Canvas;
use super::super::keymap::Context;
use super::super::theme::Role;
use super::super::ui::{Mode, Overlay, PromptKind, Ui, View};
use super::prompt;
use crate::run::text::clean;
use crate::run::{Presence, RunState, Snapshot, why};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui) {
    if let Some(prompt) = &ui.prompt {
        prompt::render(canvas, area, prompt);
        return;
    }
    let mut line = Line::default();
    if !ui.pending.is_empty() {
        line.push_span(canvas.span(Role::Key, format!(" {}", clean(&ui.pending))));
        line.push_span(canvas.span(Role::Text, "  "));
    }
    if let Some(text) = feedback(snapshot, ui) {
        line.push_span(canvas.span(Role::Busy, format!(" {text}")));
        line.push_span(canvas.span(Role::Text, "  "));
    }
    let Offers { first, last } = offered(snapshot, ui);
    let [first, last] =
        [first, last].map(|offers| offers.iter().filter_map(|offer| written(canvas, ui, offer)).collect::<Vec<_>>());
    // Help and the way out stay in sight; of the rest, what there is room for.
    let mut room = usize::from(area.width).saturating_sub(line.width());
    let kept: usize = last.iter().map(Line::width).sum();
    for offer in first {
        if offer.width() + kept > room + GAP {
            break;
        }
        room = room.saturating_sub(offer.width());
        line.extend(offer);
    }
    line.extend(last.into_iter().flatten());
    let mode = match ui.mode {
        Mode::Driver => Line::default(),
        Mode::Attached if snapshot.presence == Presence::NoRun => Line::default(),
        Mode::Attached => Line::from(canvas.span(Role::Dim, "attached ")),
        Mode::ReadOnly => Line::from(canvas.span(Role::Warning, "read-only ")),
    };
    // The header says it as well, where there is no room here.
    let mode = if line.width() + mode.width() > usize::from(area.width) { Line::default() } else { mode };
    canvas.sides(area, 0, &line, &mode);
}

/// Its keys, and what they do. `None`: it has no key here.
fn written(canvas: &Canvas<'_>, ui: &Ui, (actions, what): &Offer) -> Option<Line<'static>> {
    let keys: Vec<String> = actions.iter().filter_map(|action| key(ui, action)).collect();
    let what = canvas.span(Role::Text, format!(" {what}{:GAP$}", ""));
    (!keys.is_empty()).then(|| Line::from(vec![canvas.span(Role::Key, format!(" {}", keys.join("/"))), what]))
}

/// The key of an action where keys go now.
fn key(ui: &Ui, action: &Action) -> Option<String> {
    match &ui.overlay {
        Overlay::None => ui.keymap.key_in(Context::layers(ui.view), action),
        Overlay::Help { typing: true, .. } => ui.keymap.key_in(&[Context::Prompt, Context::Global], action),
        Overlay::Help { .. } | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
            ui.keymap.key_in(&[Context::Dialogue, Context::Global], action)
        }
    }
}

/// What was asked for and has not come about yet.
fn feedback(snapshot: &Snapshot, ui: &Ui) -> Option<String> {
    if let Some(notice) = &ui.notice {
        return Some(clean(notice).into_owned());
    }
    match &snapshot.state {
        RunState::Pausing { by, .. } => Some(format!("pause asked for by {}, finishing the open batch", by.name())),
        RunState::Stopping { by, .. } => Some(format!("stop asked for by {}, finishing the open batch", by.name())),
        RunState::Resuming { .. } => Some("going on with the next batch".to_owned()),
        RunState::Starting
        | RunState::Running
        | RunState::Paused { .. }
        | RunState::Stopped { .. }
        | RunState::Failed { .. }
        | RunState::Done { .. } => None,
    }
}

/// Between what is offered.
const GAP: usize = 2;

/// Actions, and what they do together.
type Offer = (Vec<Action>, &'static str);

/// What the keys can do now.
#[derive(Default)]
struct Offers {
    /// What the moment has, the most important first.
    first: Vec<Offer>,
    /// What must be seen however little room there is.
    last: Vec<Offer>,
}

fn one(action: Action, what: &'static str) -> Offer {
    (vec![action], what)
}

fn offered(snapshot: &Snapshot, ui: &Ui) -> Offers {
    let scroll = (vec![Action::Next, Action::Previous], "scroll");
    let close = one(Action::Dismiss, "close");
    let of_box = match &ui.overlay {
        Overlay::Detail { .. } => vec![scroll, close],
        Overlay::Confirm(_) => vec![
            one(Action::Answer(true), "yes"),
            one(Action::Answer(false), "no"),
            one(Action::Confirm, "take what is marked"),
            close,
        ],
        Overlay::Help { typing: true, .. } => {
            vec![one(Action::Confirm, "keep"), one(Action::Dismiss, "show all again")]
        }
        Overlay::Help { .. } => vec![scroll, one(Action::Prompt(PromptKind::Filter), "look for"), close],
        Overlay::Quit { .. } => {
            vec![(vec![Action::Next, Action::Previous], "choose"), one(Action::Confirm, "take it"), close]
        }
        Overlay::None => {
            let mut first = of_view(snapshot, ui);
            first.extend(of_state(snapshot, ui));
            return Offers { first, last: ways_out(snapshot, ui) };
        }
    };
    Offers { first: of_box, last: Vec::new() }
}

/// What the open view has of its own.
fn of_view(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let steers = ui.mode != Mode::ReadOnly && !snapshot.state.is_over();
    let filter = one(Action::Prompt(PromptKind::Filter), "filter");
    let detail = one(Action::Confirm, "detail");
    let sort = one(Action::Sort, "sort");
    let level = one(Action::Level, "level");
    match ui.view {
        View::Overview if ui.charts => vec![one(Action::Zoom, "zoom"), one(Action::Charts, "panes")],
        View::Overview => Vec::new(),
        View::Sessions if steers => {
            let [cancel, terminate] =
                [one(Action::CancelSession, "cancel"), one(Action::TerminateSession, "terminate")];
            vec![detail, cancel, terminate, sort, filter]
        }
        View::Tables | View::Sessions => vec![detail, sort, filter],
        View::Segments => vec![(vec![Action::PreviousPane, Action::NextPane], "pane"), detail, sort, filter],
        View::Events if steers => {
            vec![one(Action::Acknowledge, "acknowledge"), one(Action::Silence, "silence"), detail, level, filter]
        }
        View::Events => vec![detail, level, filter],
        View::Queue if ui.mode != Mode::ReadOnly => vec![
            detail,
            one(Action::RetryJob, "retry"),
            one(Action::PromoteJob, "promote"),
            one(Action::RemoveJob, "remove"),
            one(Action::AttachJob, "attach"),
            one(Action::ToggleQueue, "hold queue"),
            filter,
        ],
        View::Queue => vec![detail, one(Action::AttachJob, "attach"), sort, filter],
        View::Log => vec![one(Action::Last, "follow"), detail, level, filter],
    }
}

/// What the run's state has to offer.
fn of_state(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let resume = || one(Action::Resume, "resume");
    let undo = || one(Action::Undo, "undo");
    let is_elsewhere = ui.view == View::Queue || snapshot.presence == Presence::NoRun;
    if is_elsewhere || ui.mode == Mode::ReadOnly || snapshot.state.is_over() && snapshot.resume_command.is_empty() {
        return Vec::new();
    }
    if !snapshot.state.is_over() && matches!(snapshot.presence, Presence::Gone { .. }) {
        return vec![resume()];
    }
    match &snapshot.state {
        RunState::Running | RunState::Resuming { .. } => working("pause", snapshot, ui),
        RunState::Pausing { .. } | RunState::Paused { .. } => working("continue", snapshot, ui),
        RunState::Starting | RunState::Stopping { .. } => Vec::new(),
        RunState::Stopped { .. } | RunState::Failed { resumable: true, .. } => vec![resume(), undo()],
        RunState::Done { .. } if snapshot.quarantined() > 0 => {
            vec![one(Action::RetryQuarantine, "retry the rows"), undo()]
        }
        RunState::Failed { .. } | RunState::Done { .. } => vec![undo()],
    }
}

fn working(toggle: &'static str, snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let mut offers = vec![one(Action::TogglePause, toggle)];
    if !why::is_closed(&snapshot.pace.breaker) {
        offers.push(one(Action::CloseBreaker, "close breaker"));
    }
    if snapshot.pace.hold.as_ref().is_some_and(|hold| hold.key == "hours") {
        offers.push(one(Action::SkipWindow, "skip window"));
    }
    if ui.view == View::Overview {
        offers.extend([
            (vec![Action::LongerBatches, Action::ShorterBatches], "batch"),
            (vec![Action::FewerWorkers, Action::MoreWorkers], "workers"),
            one(Action::NextView, "view"),
            one(Action::Prompt(PromptKind::Command), "command"),
        ]);
    }
    offers
}

fn ways_out(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let help = one(Action::Help, "help");
    let out = match (&snapshot.state, ui.mode) {
        (RunState::Stopping { .. }, Mode::Driver) => one(Action::Interrupt, "leave at once"),
        (RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. }, _)
        | (_, Mode::Attached | Mode::ReadOnly) => one(Action::Quit, "leave"),
        (
            RunState::Starting
            | RunState::Running
            | RunState::Pausing { .. }
            | RunState::Paused { .. }
            | RunState::Resuming { .. },
            Mode::Driver,
        ) => one(Action::Quit, "quit"),
    };
    vec![help, out]
}
