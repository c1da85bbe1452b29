//! Nobody drives the run any more, or the database does not answer: what that means, and how to go on.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::action::Action;
use super::super::canvas::{Canvas, cells};
use super::super::measure::wrap;
use super::super::theme::Role;
use super::super::ui::{Mode, Ui};
use crate::run::text::clean;
use crate::run::{Level, Presence, Snapshot};

/// Lines longer than this are hard to read.
const WIDTH: usize = 96;

/// Whether there is anything to say: a run that is over needs no driver.
pub(crate) fn is_due(snapshot: &Snapshot) -> bool {
    match snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun => false,
        Presence::Gone { .. } | Presence::Unreachable { .. } => !snapshot.state.is_over(),
    }
}

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, snapshot: &Snapshot, ui: &Ui) {
    let Some((title, paragraphs)) = paragraphs(snapshot, ui) else { return };
    let lines = lines(canvas, over, &paragraphs);
    // At the lower edge: how far it came stays in sight.
    let height = cells(lines.len() + 2).min(over.height);
    let width = cells(width(over));
    let area = Rect { x: over.x + (over.width - width) / 2, y: over.bottom() - height, width, height };
    let inside = canvas.popup(area, title);
    for (row, line) in lines.iter().enumerate() {
        canvas.line(inside, row, line);
    }
}

/// The lines that [`render`] takes of the lower edge of `over`.
pub(crate) fn height(canvas: &Canvas<'_>, over: Rect, snapshot: &Snapshot, ui: &Ui) -> u16 {
    paragraphs(snapshot, ui).map_or(0, |(_, paragraphs)| cells(lines(canvas, over, &paragraphs).len() + 2))
}

fn width(over: Rect) -> usize {
    (WIDTH + 4).min(usize::from(over.width))
}

/// The first paragraph is what happened, with its level as a sign.
fn lines(canvas: &Canvas<'_>, over: Rect, paragraphs: &[(Option<Level>, String)]) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (level, text) in paragraphs {
        let (role, text) = match level {
            Some(level) => (Role::of_level(*level), format!("{} {text}", canvas.theme().glyphs.level(*level))),
            None => (Role::Text, text.clone()),
        };
        let wrapped = wrap(&text, width(over).saturating_sub(4));
        lines.extend(wrapped.into_iter().map(|line| Line::from(canvas.span(role, line))));
    }
    lines
}

type Paragraphs = Vec<(Option<Level>, String)>;

fn paragraphs(snapshot: &Snapshot, ui: &Ui) -> Option<(&'static str, Paragraphs)> {
    match &snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun => None,
        Presence::Gone { pid, since } => {
            let host = Some(clean(&snapshot.host)).filter(|host| !host.is_empty());
            let driver = host.map_or_else(|| "The driver".to_owned(), |host| format!("The driver on {host}"));
            let gone = format!("{driver} (pid {pid}) is gone since {} UTC.", since.format("%H:%M:%S"));
            let safe = "What was committed is safe, and recorded. Nothing changes any more.".to_owned();
            let mut text = vec![(Some(Level::Critical), gone), (None, safe)];
            text.extend(resume(snapshot, ui).into_iter().map(|line| (None, line)));
            Some(("Driver gone", text))
        }
        Presence::Unreachable { why, since } => {
            let silent = format!("Nothing is heard of the run: {}", clean(why));
            let since = since.format("%H:%M:%S");
            let old = format!("What is shown is from {since} UTC. The run may be going on; this console keeps trying.");
            Some(("No contact", vec![(Some(Level::Warning), silent), (None, old)]))
        }
    }
}

/// The command that goes on, and the key for it, where there are any.
fn resume(snapshot: &Snapshot, ui: &Ui) -> Vec<String> {
    let command = Some(clean(&snapshot.resume_command)).filter(|command| !command.is_empty());
    let key = ui.keymap.first_key(&Action::Resume).filter(|_| ui.mode != Mode::ReadOnly);
    match (command, key) {
        (Some(command), Some(key)) => {
            vec![format!("To go on: {command}"), format!("or press {key} to go on from here.")]
        }
        (Some(command), None) => vec![format!("To go on: {command}")],
        (None, Some(key)) => vec![format!("Press {key} to go on from here.")],
        (None, None) => Vec::new(),
    }
}
