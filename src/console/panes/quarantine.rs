//! Rows that the run has set aside, and why.

use ratatui::layout::Rect;

use super::super::canvas::Canvas;
use super::super::grid::{Column, Grid, Ink, outside, plain};
use super::super::listing::quarantine::{self, words};
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::{clock, finish, list_title, missing};
use crate::run::details::QuarantinedRow;
use crate::run::human;
use crate::run::text::{clean, clean_lines};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>, focused: Option<bool>) {
    let list = &scene.ui.lists.quarantine;
    let rows = quarantine::rows(scene);
    let reading = &scene.details.quarantine;
    let all = reading.value().map_or(0, |quarantine| quarantine.rows.len());
    let inside = canvas.pane(area, &list_title(canvas, "Quarantine", focused, list, rows.len(), all));
    if let Some(line) = missing(canvas, reading) {
        canvas.line(inside, 0, &line);
    }
    let Some(quarantine) = reading.value() else { return };
    let grid = Grid { columns: columns().into(), sign: |row, ink| sign(row, ink), list, empty: "no row was set aside" };
    let shown = grid.draw(canvas, inside, scene.snapshot, &rows);
    let (open, resolved) = (human::count(quarantine.open), human::count(quarantine.resolved));
    let totals = (quarantine.open + quarantine.resolved > 0).then(|| format!("{open} open, {resolved} resolved"));
    finish(canvas, area, shown, totals.as_deref());
}

fn sign(row: &QuarantinedRow, ink: &Ink<'_>) -> (&'static str, Role) {
    if row.is_resolved { (ink.glyphs.step(crate::run::StepState::Done), Role::Dim) } else { ("", Role::Text) }
}

pub(crate) fn columns<'a>() -> [Column<&'a QuarantinedRow>; 7] {
    [
        Column::left("at", 0, 8, 14, |row, _| plain(clock(row.at))),
        Column::left("step", 1, 12, 13, |row, _| outside(&row.step)),
        Column::left("part", 2, 14, 11, |row, _| outside(&row.part)),
        Column::left("key", 3, 14, 99, |row, _| outside(&words(&row.key))),
        Column::left("code", 4, 6, 15, |row, _| row.sqlstate.as_deref().and_then(outside)),
        Column::right("tries", 5, 6, 12, |row, _| plain(row.attempts.to_string())),
        Column::rest("why", 6, 16, 20, |row, _| outside(&row.message)),
    ]
}

/// All of the selected row, as it was.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = quarantine::rows(scene);
    let row = rows.iter().find(|row| row.key == key)?.of;
    let none = canvas.theme().glyphs.none;
    let text = |text: &str| if text.is_empty() { none.to_owned() } else { clean(text).into_owned() };
    let mut page = Page::new(format!("Row {}", text(&words(&row.key))));
    page.field("step", &text(&row.step));
    if !row.part.is_empty() {
        page.field("part", &text(&row.part));
    }
    page.field("key", &text(&words(&row.key)));
    page.field("set aside", &format!("{} UTC", row.at.format("%Y-%m-%d %H:%M:%S")));
    page.field("tried", &format!("{} times", row.attempts));
    page.field("resolved", if row.is_resolved { "yes, by a retry" } else { "no" });
    page.field("SQLSTATE", row.sqlstate.as_deref().map_or_else(|| none.to_owned(), text).as_str());
    page.field("why", &text(&row.message));
    match &row.row {
        Some(row) => page.block("the row as it was", &clean_lines(row)),
        None => page.field("row", "not kept"),
    }
    Some(page)
}
