//! The list of keys, from the live keymap.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::{Canvas, cells};
use super::super::key_help::sections;
use super::super::measure::{left, width};
use super::super::theme::Role;
use super::super::ui::{Overlay, Ui};

/// The title of the box with everything in it.
const TITLE: &str = "Keys";

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, ui: &Ui, scroll: usize) {
    let sections = sections(ui);
    let keys = sections.iter().flat_map(|section| &section.lines).map(|line| width(&line.keys)).max().unwrap_or(0);
    let words = sections.iter().flat_map(|section| &section.lines).map(|line| width(line.about)).max().unwrap_or(0);
    let names = sections.iter().flat_map(|section| &section.lines).map(|line| width(line.name)).max().unwrap_or(0);
    // The name in the file, where there is room for it: margins, frame and gaps take ten cells.
    let named = keys + words + names + 10 <= usize::from(over.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for section in &sections {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(canvas.span(Role::Title, section.context.about())));
        lines.extend(section.lines.iter().map(|line| {
            let bound = canvas.span(Role::Key, format!("  {}  ", left(&line.keys, keys)));
            let about = canvas.span(Role::Text, left(line.about, words));
            let name = if named { format!("  {}", line.name) } else { String::new() };
            Line::from(vec![bound, about, canvas.span(Role::Dim, name)])
        }));
    }
    let title = match &ui.overlay {
        Overlay::Help { filter, typing: true, .. } => format!("{TITLE} with /{filter}_"),
        Overlay::Help { filter, .. } if !filter.is_empty() => format!("{TITLE} with /{filter}"),
        Overlay::Help { .. } | Overlay::None | Overlay::Quit { .. } | Overlay::Confirm(_) | Overlay::Detail { .. } => {
            TITLE.to_owned()
        }
    };
    if lines.is_empty() {
        lines.push(Line::from(canvas.span(Role::Dim, "no key does that")));
    }
    let widest = lines.iter().map(Line::width).chain([width(&title) + 4]).max().unwrap_or(0);
    let inside = canvas.popup(place(over, widest + 4, lines.len() + 2), &title);
    let first = canvas.scrolled(scroll, lines.len(), inside.height);
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
