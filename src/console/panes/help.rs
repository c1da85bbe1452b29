//! The list of keys, from the live keymap.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::{Canvas, cells};
use super::super::keymap::Context;
use super::super::measure::{left, width};
use super::super::theme::Role;
use super::super::ui::Ui;

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, ui: &Ui, scroll: usize) {
    let bindings = Context::ALL.map(|context| (context, ui.keymap.help(context).collect::<Vec<_>>()));
    let keys = bindings.iter().flat_map(|(_, keys)| keys).map(|(keys, _)| width(keys)).max().unwrap_or(0);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (context, bindings) in bindings.iter().filter(|(_, bindings)| !bindings.is_empty()) {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(canvas.span(Role::Title, context.about())));
        lines.extend(bindings.iter().map(|(bound, about)| {
            let bound = canvas.span(Role::Key, format!("  {}  ", left(bound, keys)));
            Line::from(vec![bound, canvas.span(Role::Text, *about)])
        }));
    }
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let inside = canvas.popup(place(over, widest + 4, lines.len() + 2), "Keys");
    // A scroll past the end shows the end.
    let first = scroll.min(lines.len().saturating_sub(usize::from(inside.height)));
    for (row, line) in lines[first..].iter().enumerate() {
        canvas.line(inside, row, line);
    }
}

/// A place of the wanted size in the middle of `over`, or as much of it as there is.
pub(super) fn place(over: Rect, width: usize, height: usize) -> Rect {
    let width = cells(width).min(over.width);
    let height = cells(height).min(over.height);
    Rect { x: over.x + (over.width - width) / 2, y: over.y + (over.height - height) / 2, width, height }
}
