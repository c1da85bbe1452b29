//! The end of the run's log. It follows, until a line is selected.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::grid::Shown;
use super::super::listing::{log, tail};
use super::super::measure::fit;
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::{clock, finish, list_title, missing};
use crate::run::Level;
use crate::run::details::LogLine;
use crate::run::text::clean;

/// The cells before a line's text: mark, time, sign, level.
const BEFORE: usize = 17;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let list = &scene.ui.lists.log;
    let reading = &scene.details.log;
    let rows = log::rows(scene);
    let all = reading.value().map_or(0, |log| log.lines.len());
    let inside = canvas.pane(area, &list_title(canvas, "Log", None, list, rows.len(), all));
    if let Some(line) = missing(canvas, reading) {
        canvas.line(inside, 0, &line);
    }
    let Some(log) = reading.value() else { return };
    if rows.is_empty() {
        let nothing = if all == 0 { "the log is empty" } else { "nothing passes the filter" };
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, nothing)));
    }
    let height = usize::from(inside.height);
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    // A filter has its own count of lines, which nobody keeps.
    let dropped = if rows.len() == all { log.lines.front().map_or(0, |line| line.no) } else { 0 };
    let (first, selected) = tail(&keys, list.selected.as_deref(), height, usize::try_from(dropped).unwrap_or(0));
    let page = &rows[first..rows.len().min(first + height)];
    for (row, line) in page.iter().enumerate() {
        let marked = selected == Some(first + row);
        canvas.row(inside, row, &line.key);
        canvas.line(inside, row, &one(canvas, line.of, marked, usize::from(inside.width)));
        if marked {
            canvas.tint(inside, row, canvas.theme().style(Role::Selected));
        }
    }
    let follows = if selected.is_some() { "stands still" } else { "follows" };
    finish(
        canvas,
        area,
        Shown { first, rows: page.len(), all: rows.len() },
        Some(&format!("{follows}   {}", clean(&log.path))),
    );
}

fn one(canvas: &Canvas<'_>, line: &LogLine, marked: bool, width: usize) -> Line<'static> {
    let mark = if marked { ">" } else { " " };
    let at = line.at.map_or_else(|| " ".repeat(8), clock);
    let (sign, word) = match (line.level, line.at) {
        // What goes on from the line before has said its level there.
        (_, None) | (Level::Info, _) => (" ", ""),
        (level @ (Level::Warning | Level::Critical), Some(_)) => (canvas.theme().glyphs.level(level), level.word()),
    };
    let role = Role::of_level(line.level);
    Line::from(vec![
        canvas.span(Role::Dim, format!("{mark}{at} ")),
        canvas.span(role, format!("{sign} {word:<4} ")),
        canvas.span(Role::Text, fit(&clean(&line.text), width.saturating_sub(BEFORE)).into_owned()),
    ])
}

/// All of the selected line.
pub(crate) fn detail(scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = log::rows(scene);
    let line = rows.iter().find(|row| row.key == key)?.of;
    let mut page = Page::new(format!("Line {}", line.no));
    if let Some(at) = line.at {
        page.field("at", &at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string());
    }
    page.field("level", line.level.word());
    page.block("line", &clean(&line.text));
    Some(page)
}
