//! What `pg_stat_user_tables` says of the plan's tables and of the busiest others.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::listing::tables::hot_percent;
use super::super::measure::{left, right};
use super::super::theme::Role;
use super::missing;
use crate::run::text::clean;
use crate::run::vitals::TableVitals;
use crate::run::{Snapshot, human};

/// What stands where there are none.
pub(super) const NONE: &str = "statistics tell of no table yet";
/// The name's column is never narrower than this.
const NAME: usize = 11;
const NAME_AT_MOST: usize = 40;

/// A column of numbers, its width with the gap before it, and what it is worth: the least is left out first.
struct Column {
    title: &'static str,
    width: usize,
    worth: u8,
    value: fn(&TableVitals, &Snapshot) -> Option<String>,
}

static COLUMNS: [Column; 8] = [
    Column { title: "live", width: 13, worth: 8, value: |table, _| Some(human::count(table.live)) },
    Column { title: "dead", width: 11, worth: 7, value: |table, _| Some(human::count(table.dead)) },
    Column { title: "dead%", width: 7, worth: 5, value: |table, _| Some(format!("{:.1}", table.dead_percent())) },
    Column { title: "HOT%", width: 5, worth: 1, value: hot },
    Column { title: "ins/s", width: 8, worth: 4, value: |table, _| table.inserts_per_second.map(human::rate) },
    Column { title: "upd/s", width: 8, worth: 6, value: |table, _| table.updates_per_second.map(human::rate) },
    Column { title: "del/s", width: 8, worth: 3, value: |table, _| table.deletes_per_second.map(human::rate) },
    Column { title: "vacuumed", width: 9, worth: 2, value: last_vacuum },
];

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    let inside = canvas.pane(area, &format!("Tables {line} pg_stat_user_tables"));
    let reading = &snapshot.vitals.database;
    if let Some(line) = missing(canvas, reading) {
        canvas.line(inside, 0, &line);
    }
    let Some(database) = reading.value() else { return };
    let width = usize::from(inside.width);
    let columns = fitting(width);
    let name = width.saturating_sub(columns.iter().map(|column| column.width).sum()).min(NAME_AT_MOST);
    let mut heading = left("table", name);
    heading.extend(columns.iter().map(|column| right(column.title, column.width)));
    canvas.line(inside, 0, &Line::from(canvas.span(Role::Title, heading)));
    if database.tables.is_empty() {
        canvas.line(inside, 1, &Line::from(canvas.span(Role::Dim, NONE)));
    }
    for (row, table) in database.tables.iter().enumerate() {
        let role = if table.in_plan { Role::Text } else { Role::Dim };
        let mut text = left(&clean(&table.name), name);
        for column in &columns {
            let value = (column.value)(table, snapshot);
            text.push_str(&right(value.as_deref().unwrap_or(canvas.theme().glyphs.none), column.width));
        }
        canvas.line(inside, row + 1, &Line::from(canvas.span(role, text)));
    }
}

/// The columns that there is room for, those worth most.
fn fitting(width: usize) -> Vec<&'static Column> {
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    while columns.iter().map(|column| column.width).sum::<usize>() + NAME > width {
        let Some(least) = columns.iter().map(|column| column.worth).min() else { break };
        columns.retain(|column| column.worth != least);
    }
    columns
}

/// Of a hundred updates, those that touched no index.
fn hot(table: &TableVitals, snapshot: &Snapshot) -> Option<String> {
    hot_percent(table, snapshot).map(|percent| format!("{:.0}", percent.floor()))
}

/// How long ago, in steps so large that the column seldom changes.
pub(super) fn last_vacuum(table: &TableVitals, snapshot: &Snapshot) -> Option<String> {
    let minutes = (snapshot.now - table.last_vacuum?).num_minutes().max(0);
    let ago = match minutes {
        0 => "<1m".to_owned(),
        1..60 => format!("{minutes}m"),
        60..1440 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    };
    Some(if table.last_vacuum_was_auto { format!("auto {ago}") } else { ago })
}
