//! The rows of the tables: the plan's first, until they are sorted otherwise.

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::text::clean;
use crate::run::vitals::TableVitals;
use crate::run::{Churn, Snapshot};

pub(crate) const COLUMNS: [&str; 12] =
    ["table", "live", "dead", "dead%", "HOT%", "ins/s", "upd/s", "del/s", "heap", "indexes", "vacuumed", "vacuum"];

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<&'a TableVitals>> {
    let snapshot = scene.snapshot;
    let list = &scene.ui.lists.tables;
    let tables = snapshot.vitals.database.value().map_or(&[][..], |database| &database.tables);
    let mut rows = keyed(tables, |table| table.name.clone());
    rows.sort_by_key(|row| !row.of.in_plan);
    filter(&mut rows, list, |table| vec![clean(&table.name).into_owned()]);
    sort(&mut rows, list, |table, column| value(table, column, snapshot));
    rows
}

fn value(table: &TableVitals, column: usize, snapshot: &Snapshot) -> Value {
    match column {
        0 => Value::text(&table.name),
        1 => Value::count(table.live),
        2 => Value::count(table.dead),
        3 => Value::Number(table.dead_percent()),
        4 => Value::number(hot_percent(table, snapshot)),
        5 => Value::number(table.inserts_per_second),
        6 => Value::number(table.updates_per_second),
        7 => Value::number(table.deletes_per_second),
        8 => table.heap_bytes.map_or(Value::None, |bytes| Value::count(bytes.0)),
        9 => table.index_bytes.map_or(Value::None, |bytes| Value::count(bytes.0)),
        // What was vacuumed long ago is large, as its column says.
        10 => Value::duration(table.last_vacuum.and_then(|at| (snapshot.now - at).to_std().ok())),
        11 => table.vacuum.as_ref().map_or(Value::None, |vacuum| Value::Number(vacuum.fraction.unwrap_or(0.0))),
        _ => Value::None,
    }
}

/// Of a hundred updates, those that touched no index: of the newest step's that tells, where that can only be this
/// table's, else of all since the statistics were reset.
pub(crate) fn hot_percent(table: &TableVitals, snapshot: &Snapshot) -> Option<f64> {
    let database = snapshot.vitals.database.value()?;
    let alone = table.in_plan && database.tables.iter().filter(|table| table.in_plan).count() == 1;
    let of_steps = || snapshot.steps.iter().rev().find_map(|step| step.churn?.hot_percent());
    let since_reset = || Churn { updated: table.updated, hot: table.hot, ..Churn::default() }.hot_percent();
    alone.then(of_steps).flatten().or_else(since_reset)
}
