//! What was tried again, newest first.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::fit;
use super::super::theme::Role;
use super::clock;
use crate::run::text::clean;
use crate::run::{EventKind, Snapshot, human};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    let tried: u64 = snapshot.steps.iter().map(|step| step.retries).sum();
    let inside = canvas.pane(area, &format!("Retries {line} {}", human::count(tried)));
    let retries = snapshot.events.iter().rev().filter(|event| event.kind == EventKind::Retried);
    let mut none = true;
    for (row, event) in retries.take(usize::from(inside.height)).enumerate() {
        none = false;
        let sign = canvas.theme().glyphs.level(event.level);
        let text = Line::from(vec![
            canvas.span(Role::Dim, format!("{} ", clock(event.at))),
            canvas.span(Role::of_level(event.level), format!("{sign} ")),
            canvas
                .span(Role::Text, fit(&clean(&event.text), usize::from(inside.width).saturating_sub(11)).into_owned()),
        ]);
        canvas.line(inside, row, &text);
    }
    if none {
        let nothing = if tried == 0 { "no batch was tried again" } else { "none of the newest events is a retry" };
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, nothing)));
    }
}
