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
        Presence::Here | Presence::Elsewhere { .. } => false,
        Presence::Gone { .. } => !snapshot.state.is_over(),
        Presence::Unreachable { .. } => true,
    }
}

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, snapshot: &Snapshot, ui: &Ui) {
    let (title, role, paragraphs) = match &snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } => return,
        Presence::Gone { pid, since } => {
            let host = if snapshot.host.is_empty() {
                "a host that did not say its name".into()
            } else {
                clean(&snapshot.host)
            };
            let mut text = vec![
                format!("The driver on {host} (pid {pid}) is gone since {} UTC.", since.format("%H:%M:%S")),
                "What was committed is safe, and recorded. Nothing changes any more.".to_owned(),
            ];
            text.extend(resume(snapshot, ui));
            ("Driver gone", Role::Critical, text)
        }
        Presence::Unreachable { why, since } => (
            "No contact",
            Role::Warning,
            vec![
                format!("The database does not answer this console: {}", clean(why)),
                format!(
                    "What is shown is from {} UTC. The run may be going on; this console keeps trying.",
                    since.format("%H:%M:%S")
                ),
            ],
        ),
    };
    let width = (WIDTH + 4).min(usize::from(over.width));
    let level = if role == Role::Critical { Level::Critical } else { Level::Warning };
    let sign = canvas.theme().glyphs.level(level);
    let mut lines = Vec::new();
    for (index, text) in paragraphs.iter().enumerate() {
        let (role, text) = if index == 0 { (role, format!("{sign} {text}")) } else { (Role::Text, text.clone()) };
        let wrapped = wrap(&text, width.saturating_sub(4));
        lines.extend(wrapped.into_iter().map(|line| Line::from(canvas.span(role, line))));
    }
    let height = cells(lines.len() + 2).min(over.height);
    let width = cells(width);
    let area = Rect { x: over.x + (over.width - width) / 2, y: over.bottom() - height, width, height };
    let inside = canvas.popup(area, title);
    for (row, line) in lines.iter().enumerate() {
        canvas.line(inside, row, line);
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
