//! The last row: what is going on for a moment, and the keys that matter now, from the live keymap.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::action::Action;
use super::super::canvas::Canvas;
use super::super::theme::Role;
use super::super::ui::{Overlay, Ui};
use crate::run::text::clean;
use crate::run::{RunState, Snapshot, why};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui) {
    let mut line = Line::default();
    if let Some(text) = feedback(snapshot, ui) {
        line.push_span(canvas.span(Role::Busy, format!(" {text}")));
        line.push_span(canvas.span(Role::Text, "  "));
    }
    for (actions, what) in offered(snapshot, ui) {
        let keys: Vec<String> = actions.iter().filter_map(|action| ui.keymap.first_key(action)).collect();
        if keys.is_empty() {
            continue;
        }
        line.push_span(canvas.span(Role::Key, format!(" {}", keys.join("/"))));
        line.push_span(canvas.span(Role::Text, format!(" {what}  ")));
    }
    canvas.line(area, 0, &line);
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
    let help = || (vec![Action::Help], "help");
    match &ui.overlay {
        Overlay::Confirm(_) | Overlay::Detail { .. } => vec![(vec![Action::Dismiss], "close")],
        Overlay::Help { .. } => {
            vec![(vec![Action::Next, Action::Previous], "scroll"), (vec![Action::Dismiss], "close")]
        }
        Overlay::Quit { .. } => vec![
            (vec![Action::Next, Action::Previous], "choose"),
            (vec![Action::Confirm], "take it"),
            (vec![Action::Dismiss], "close"),
        ],
        Overlay::None => match &snapshot.state {
            RunState::Running | RunState::Resuming { .. } => working("pause", snapshot),
            RunState::Pausing { .. } | RunState::Paused { .. } => working("continue", snapshot),
            RunState::Starting => vec![help(), (vec![Action::Quit], "quit")],
            RunState::Stopping { .. } => vec![help(), (vec![Action::Interrupt], "leave at once")],
            RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => {
                vec![(vec![Action::Quit], "leave"), help()]
            }
        },
    }
}

fn working(toggle: &'static str, snapshot: &Snapshot) -> Vec<Offer> {
    let mut offers = vec![(vec![Action::TogglePause], toggle)];
    if !why::is_closed(&snapshot.pace.breaker) {
        offers.push((vec![Action::CloseBreaker], "close breaker"));
    }
    offers.extend([
        (vec![Action::LongerBatches, Action::ShorterBatches], "batch"),
        (vec![Action::FewerWorkers, Action::MoreWorkers], "workers"),
        (vec![Action::Help], "help"),
        (vec![Action::Quit], "quit"),
    ]);
    offers
}
