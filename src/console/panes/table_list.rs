//! Every table: its rows, what happens to them, its size, its vacuum; the plan's tables first.

use ratatui::layout::Rect;

use super::super::canvas::Canvas;
use super::super::grid::{Cell, Column, Grid, Ink, Side, Wide, outside, plain};
use super::super::listing::tables;
use super::super::measure::fit;
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::tables::last_vacuum;
use super::{finish, list_title, missing};
use crate::run::human;
use crate::run::text::clean;
use crate::run::vitals::{TableVitals, VacuumView};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let list = &scene.ui.lists.tables;
    let rows = tables::rows(scene);
    let reading = &scene.snapshot.vitals.database;
    let all = reading.value().map_or(0, |database| database.tables.len());
    let inside = canvas.pane(area, &list_title(canvas, "Tables", None, list, rows.len(), all));
    if let Some(line) = missing(canvas, reading) {
        canvas.line(inside, 0, &line);
        return;
    }
    let grid = Grid { columns: columns().into(), sign: |row, ink| sign(row, ink), list, empty: super::tables::NONE };
    let shown = grid.draw(canvas, inside, scene.snapshot, &rows);
    let mut notes = format!("{} of the plan", canvas.theme().glyphs.ours);
    let more = reading.value().map_or(0, |database| database.more_tables);
    if more > 0 {
        notes = format!("{notes}   {} quiet ones not shown", human::count(more.into()));
    }
    finish(canvas, area, shown, Some(&notes));
}

fn sign(table: &TableVitals, ink: &Ink<'_>) -> (&'static str, Role) {
    if table.in_plan { (ink.glyphs.ours, Role::Text) } else { ("", Role::Dim) }
}

fn rate(rate: Option<f64>) -> Cell {
    rate.and_then(|rate| plain(human::rate(rate)))
}

pub(crate) fn columns<'a>() -> [Column<&'a TableVitals>; 13] {
    [
        Column {
            title: "table",
            sort: Some(0),
            wide: Wide::Rest { least: 12, most: 44 },
            worth: 99,
            side: Side::Left,
            cell: |table, _| outside(&table.name),
        },
        Column::right("live", 1, 12, 20, |table, _| plain(human::count(table.live))),
        Column::right("dead", 2, 11, 19, |table, _| plain(human::count(table.dead))),
        Column::right("dead%", 3, 7, 17, |table, _| plain(format!("{:.1}", table.dead_percent()))),
        Column::right("HOT%", 4, 6, 9, |table, ink| {
            tables::hot_percent(table, ink.snapshot).and_then(|percent| plain(format!("{:.0}", percent.floor())))
        }),
        Column::right("ins/s", 5, 8, 12, |table, _| rate(table.inserts_per_second)),
        Column::right("upd/s", 6, 8, 18, |table, _| rate(table.updates_per_second)),
        Column::right("del/s", 7, 8, 11, |table, _| rate(table.deletes_per_second)),
        Column::right("heap", 8, 9, 14, |table, _| table.heap_bytes.and_then(|bytes| plain(bytes.to_string()))),
        Column::right("indexes", 9, 9, 10, |table, _| table.index_bytes.and_then(|bytes| plain(bytes.to_string()))),
        Column::right("vacuumed", 10, 10, 13, |table, ink| last_vacuum(table, ink.snapshot).and_then(plain)),
        Column {
            title: "vacuum",
            sort: Some(11),
            wide: Wide::Cells(19),
            worth: 8,
            side: Side::Left,
            cell: |table, ink| table.vacuum.as_ref().map(|vacuum| (Some(Role::Busy), vacuuming(vacuum, ink.width))),
        },
        Column {
            title: "dead, lately",
            sort: None,
            wide: Wide::Cells(14),
            worth: 7,
            side: Side::Left,
            cell: |table, ink| trend(table, ink),
        },
    ]
}

/// `scanning heap 37%`; the phase is cut, never the share.
fn vacuuming(vacuum: &VacuumView, width: usize) -> String {
    let phase = clean(&vacuum.phase);
    match vacuum.fraction {
        Some(fraction) => {
            let percent = format!(" {:.0}%", (fraction.clamp(0.0, 1.0) * 100.0).floor());
            let room = width.saturating_sub(percent.len());
            format!("{}{percent}", fit(&phase, room))
        }
        None => phase.into_owned(),
    }
}

/// Dead rows over the last samples, each from nothing to the most there have been.
fn trend(table: &TableVitals, ink: &Ink<'_>) -> Cell {
    let levels = ink.glyphs.levels;
    let skipped = table.dead_series.len().saturating_sub(ink.width);
    let points = || table.dead_series.iter().skip(skipped).copied();
    let most = points().max()?.max(1);
    let level = |dead: u64| {
        let level = u128::from(dead) * levels.len() as u128 / u128::from(most);
        levels[usize::try_from(level).unwrap_or(0).clamp(1, levels.len()) - 1]
    };
    Some((Some(Role::Spark), points().map(level).collect()))
}

/// All of the selected table.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = tables::rows(scene);
    let table = rows.iter().find(|row| row.key == key)?.of;
    let snapshot = scene.snapshot;
    let none = canvas.theme().glyphs.none;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| none.to_owned());
    let per_second = |rate: Option<f64>| or_none(rate.map(human::rate));
    let bytes = |bytes: Option<human::ByteSize>| or_none(bytes.map(|bytes| bytes.to_string()));
    let mut page = Page::new(format!("Table {}", clean(&table.name)));
    page.field("table", &clean(&table.name));
    page.field("plan", if table.in_plan { "the plan names it" } else { "not in the plan" });
    page.field("live rows", &format!("about {}", human::count(table.live)));
    page.field("dead rows", &format!("about {}, {:.1}%", human::count(table.dead), table.dead_percent()));
    page.field("inserted", &format!("{}/s", per_second(table.inserts_per_second)));
    page.field(
        "updated",
        &format!("{}/s, {} in all", per_second(table.updates_per_second), human::count(table.updated)),
    );
    let hot = tables::hot_percent(table, snapshot).map(|percent| format!("{:.0}% of updates", percent.floor()));
    page.field("HOT", &or_none(hot));
    page.field(
        "deleted",
        &format!("{}/s, {} in all", per_second(table.deletes_per_second), human::count(table.deleted)),
    );
    page.field("heap", &bytes(table.heap_bytes));
    page.field("indexes", &bytes(table.index_bytes));
    let vacuumed = table.last_vacuum.map(|at| {
        let by = if table.last_vacuum_was_auto { ", by autovacuum" } else { ", by hand" };
        format!("{} UTC{by}", at.format("%Y-%m-%d %H:%M:%S"))
    });
    page.field("vacuumed", &vacuumed.unwrap_or_else(|| "never, as far as statistics tell".to_owned()));
    let vacuum = table.vacuum.as_ref().map(|vacuum| vacuuming(vacuum, usize::MAX));
    page.field("vacuum now", &or_none(vacuum));
    if let (Some(first), Some(last)) = (table.dead_series.front(), table.dead_series.back()) {
        let arrow = canvas.theme().glyphs.arrow;
        page.field("dead, lately", &format!("{} {arrow} {}", human::count(*first), human::count(*last)));
    }
    Some(page)
}
