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
    for (actions, what) in offered(snapshot, ui) {
        let keys: Vec<String> = actions.iter().filter_map(|action| key(ui, action)).collect();
        if keys.is_empty() {
            continue;
        }
        line.push_span(canvas.span(Role::Key, format!(" {}", keys.join("/"))));
        line.push_span(canvas.span(Role::Text, format!(" {what}  ")));
    }
    let mode = match ui.mode {
        Mode::Driver => Line::default(),
        Mode::Attached => Line::from(canvas.span(Role::Dim, "attached ")),
        Mode::ReadOnly => Line::from(canvas.span(Role::Warning, "read-only ")),
    };
    canvas.sides(area, 0, &line, &mode);
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

type Offer = (Vec<Action>, &'static str);

fn offered(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    match &ui.overlay {
        Overlay::Detail { .. } => {
            vec![(vec![Action::Next, Action::Previous], "scroll"), (vec![Action::Dismiss], "close")]
        }
        Overlay::Confirm(_) => vec![
            (vec![Action::Answer(true)], "yes"),
            (vec![Action::Answer(false)], "no"),
            (vec![Action::Confirm], "take what is marked"),
            (vec![Action::Dismiss], "close"),
        ],
        Overlay::Help { typing: true, .. } => {
            vec![(vec![Action::Confirm], "keep"), (vec![Action::Dismiss], "show all again")]
        }
        Overlay::Help { .. } => vec![
            (vec![Action::Next, Action::Previous], "scroll"),
            (vec![Action::Prompt(PromptKind::Filter)], "look for"),
            (vec![Action::Dismiss], "close"),
        ],
        Overlay::Quit { .. } => vec![
            (vec![Action::Next, Action::Previous], "choose"),
            (vec![Action::Confirm], "take it"),
            (vec![Action::Dismiss], "close"),
        ],
        Overlay::None => {
            let mut offers = of_view(snapshot, ui);
            offers.extend(of_state(snapshot, ui));
            offers
        }
    }
}

/// What the open view has of its own.
fn of_view(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let steers = ui.mode != Mode::ReadOnly && !snapshot.state.is_over();
    let filter = (vec![Action::Prompt(PromptKind::Filter)], "filter");
    let detail = (vec![Action::Confirm], "detail");
    let sort = (vec![Action::Sort], "sort");
    let level = (vec![Action::Level], "level");
    match ui.view {
        View::Overview if ui.charts => {
            vec![(vec![Action::Zoom], "zoom"), (vec![Action::Charts], "panes")]
        }
        View::Overview => Vec::new(),
        View::Tables => vec![detail, sort, filter],
        View::Sessions if steers => vec![
            detail,
            (vec![Action::CancelSession], "cancel"),
            (vec![Action::TerminateSession], "terminate"),
            sort,
            filter,
        ],
        View::Sessions => vec![detail, sort, filter],
        View::Segments => vec![(vec![Action::PreviousPane, Action::NextPane], "pane"), detail, sort, filter],
        View::Events if steers => vec![(vec![Action::Acknowledge], "acknowledge"), detail, level, filter],
        View::Events => vec![detail, level, filter],
        View::Log => vec![(vec![Action::Last], "follow"), detail, level, filter],
    }
}

/// What the run's state has to offer.
fn of_state(snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let help = (vec![Action::Help], "help");
    let quit = (vec![Action::Quit], "quit");
    let leave = (vec![Action::Quit], "leave");
    let mut offers = match ui.mode {
        Mode::ReadOnly => return vec![help, leave],
        Mode::Driver | Mode::Attached => match &snapshot.state {
            state if !state.is_over() && matches!(snapshot.presence, Presence::Gone { .. }) => {
                vec![(vec![Action::Resume], "resume")]
            }
            RunState::Running | RunState::Resuming { .. } => working("pause", snapshot, ui),
            RunState::Pausing { .. } | RunState::Paused { .. } => working("continue", snapshot, ui),
            RunState::Starting => Vec::new(),
            RunState::Stopping { .. } if ui.mode == Mode::Driver => {
                return vec![help, (vec![Action::Interrupt], "leave at once")];
            }
            RunState::Stopping { .. } => Vec::new(),
            RunState::Stopped { .. } | RunState::Failed { resumable: true, .. } => {
                return vec![leave, (vec![Action::Resume], "resume"), (vec![Action::Undo], "undo"), help];
            }
            RunState::Done { .. } if snapshot.quarantined() > 0 => {
                return vec![leave, (vec![Action::RetryQuarantine], "retry"), (vec![Action::Undo], "undo"), help];
            }
            RunState::Failed { .. } | RunState::Done { .. } => {
                return vec![leave, (vec![Action::Undo], "undo"), help];
            }
        },
    };
    if ui.view == View::Overview && !matches!(snapshot.state, RunState::Starting) {
        offers.push((vec![Action::Prompt(PromptKind::Command)], "command"));
    }
    offers.push(help);
    offers.push(match ui.mode {
        Mode::Driver => quit,
        Mode::Attached | Mode::ReadOnly => leave,
    });
    offers
}

fn working(toggle: &'static str, snapshot: &Snapshot, ui: &Ui) -> Vec<Offer> {
    let mut offers = vec![(vec![Action::TogglePause], toggle)];
    if !why::is_closed(&snapshot.pace.breaker) {
        offers.push((vec![Action::CloseBreaker], "close breaker"));
    }
    if snapshot.pace.hold.as_ref().is_some_and(|hold| hold.key == "window") {
        offers.push((vec![Action::SkipWindow], "skip the window"));
    }
    if ui.view == View::Overview {
        offers.extend([
            (vec![Action::LongerBatches, Action::ShorterBatches], "batch"),
            (vec![Action::FewerWorkers, Action::MoreWorkers], "workers"),
            (vec![Action::NextView], "view"),
        ]);
    }
    offers
}
