//! The slowest batches of the step.

use ratatui::layout::Rect;

use super::super::canvas::Canvas;
use super::super::grid::{Column, Grid, plain};
use super::super::listing::slowest;
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::segment_list::bounds;
use super::{clock, finish, list_title};
use crate::run::human;
use crate::run::text::{clean, clean_lines};
use crate::run::work::SlowBatch;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>, focused: Option<bool>) {
    let list = &scene.ui.lists.slowest;
    let rows = slowest::rows(scene);
    let all = scene.snapshot.work.slowest.len();
    let inside = canvas.pane(area, &list_title(canvas, "Slowest batches", focused, list, rows.len(), all));
    let grid =
        Grid { columns: columns().into(), sign: |_, _| ("", Role::Text), list, empty: "no batch has committed yet" };
    let shown = grid.draw(canvas, inside, scene.snapshot, &rows);
    finish(canvas, area, shown, None);
}

pub(crate) fn columns<'a>() -> [Column<&'a SlowBatch>; 6] {
    [
        Column::right("took", 0, 7, 99, |batch, _| plain(human::duration(batch.took))),
        Column::left("at", 1, 9, 17, |batch, _| plain(clock(batch.at))),
        Column::right("segment", 2, 8, 16, |batch, _| plain(batch.segment.to_string())),
        Column::right("rows", 3, 9, 18, |batch, _| plain(human::count(batch.rows))),
        Column::left("plan", 4, 5, 15, |batch, _| {
            Some((Some(Role::Accent), if batch.plan.is_some() { "plan" } else { "" }.to_owned()))
        }),
        Column::rest("keys", 5, 14, 19, |batch, ink| {
            plain(bounds(batch.from.as_deref(), batch.to.as_deref(), ink.glyphs.arrow))
        }),
    ]
}

/// All of the selected batch, with its plan.
pub(crate) fn detail(scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = slowest::rows(scene);
    let batch = rows.iter().find(|row| row.key == key)?.of;
    let mut page = Page::new(format!("Batch of segment {}", batch.segment));
    page.field("took", &human::duration(batch.took));
    page.field("committed", &format!("{} UTC", batch.at.format("%Y-%m-%d %H:%M:%S")));
    page.field("rows", &human::count(batch.rows));
    page.field("segment", &batch.segment.to_string());
    page.field("larger than", &batch.from.as_deref().map_or("any key: from the first".into(), clean));
    page.field("up to", &batch.to.as_deref().map_or("the last key".into(), clean));
    match &batch.plan {
        Some(plan) => page.block("plan of its statement", &clean_lines(plan)),
        None => page.field("plan", "not taken"),
    }
    Some(page)
}
