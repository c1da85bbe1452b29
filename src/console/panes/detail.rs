//! All of the selected row of a list, in a box over the view.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::grid::Shown;
use super::super::measure::{left, width as cells, wrap};
use super::super::theme::Role;
use super::super::ui::ListId;
use super::super::view::Scene;
use super::help::place;
use super::{event_list, finish, job_list, log, quarantine, segment_list, session_list, slowest, table_list};

/// Lines longer than this are hard to read.
const WIDTH: usize = 110;

/// What is known of a row: short fields, and blocks of text.
pub(crate) struct Page {
    title: String,
    parts: Vec<Part>,
}

/// Texts are cleaned by who adds them.
enum Part {
    Field { name: &'static str, text: String },
    Block { name: &'static str, text: String },
}

impl Page {
    pub(crate) fn new(title: String) -> Self {
        Self { title, parts: Vec::new() }
    }

    pub(crate) fn field(&mut self, name: &'static str, text: &str) {
        self.parts.push(Part::Field { name, text: text.to_owned() });
    }

    /// A text of many lines, whose indentation matters.
    pub(crate) fn block(&mut self, name: &'static str, text: &str) {
        self.parts.push(Part::Block { name, text: text.to_owned() });
    }

    fn lines(&self, canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
        let names = self.parts.iter().map(|part| match part {
            Part::Field { name, .. } => cells(name) + 2,
            Part::Block { .. } => 0,
        });
        let names = names.max().unwrap_or(0).min(width / 2);
        let mut lines = Vec::new();
        for part in &self.parts {
            match part {
                Part::Field { name, text } => {
                    let wrapped = wrap(text, width.saturating_sub(names));
                    for (index, text) in wrapped.into_iter().enumerate() {
                        let name = if index == 0 { *name } else { "" };
                        let name = canvas.span(Role::Dim, left(name, names));
                        lines.push(Line::from(vec![name, canvas.span(Role::Text, text)]));
                    }
                }
                Part::Block { name, text } => {
                    lines.push(Line::default());
                    lines.push(Line::from(canvas.span(Role::Title, *name)));
                    lines.extend(wrap(text, width).into_iter().map(|text| Line::from(canvas.span(Role::Text, text))));
                }
            }
        }
        lines
    }
}

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, scene: &Scene<'_>, scroll: usize) {
    let page = selected(canvas, scene).unwrap_or_else(|| {
        let mut page = Page::new("Gone".to_owned());
        page.block("", "What was selected is no longer in the list.");
        page
    });
    let width = (WIDTH + 4).min(usize::from(over.width));
    let lines = page.lines(canvas, width.saturating_sub(4).max(1));
    let area = place(over, width, lines.len() + 2);
    let inside = canvas.popup(area, &page.title);
    let height = usize::from(inside.height);
    let first = canvas.scrolled(scroll, lines.len(), inside.height);
    for (row, line) in lines[first..].iter().enumerate() {
        canvas.line(inside, row, line);
    }
    finish(canvas, area, Shown { first, rows: height.min(lines.len()), all: lines.len() }, None);
}

fn selected(canvas: &Canvas<'_>, scene: &Scene<'_>) -> Option<Page> {
    let list = scene.ui.list()?;
    let key = scene.ui.lists.get(list).selected.as_deref()?;
    match list {
        ListId::Tables => table_list::detail(canvas, scene, key),
        ListId::Sessions => session_list::detail(canvas, scene, key),
        ListId::Segments => segment_list::detail(canvas, scene, key),
        ListId::Slowest => slowest::detail(scene, key),
        ListId::Quarantine => quarantine::detail(canvas, scene, key),
        ListId::Events => event_list::detail(canvas, scene, key),
        ListId::Log => log::detail(scene, key),
        ListId::Queue => job_list::detail(canvas, scene, key),
    }
}
