//! The rows of the quarantine.

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::details::QuarantinedRow;
use crate::run::text::clean;

pub(crate) const COLUMNS: [&str; 7] = ["at", "step", "part", "key", "code", "tries", "why"];

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<&'a QuarantinedRow>> {
    let list = &scene.ui.lists.quarantine;
    let Some(quarantine) = scene.details.quarantine.value() else { return Vec::new() };
    let mut rows = keyed(&quarantine.rows, |row| format!("{}/{}/{}", row.step, row.part, words(&row.key)));
    filter(&mut rows, list, |row| {
        let code = row.sqlstate.as_deref().unwrap_or_default();
        let key = words(&row.key);
        [&row.step, &row.part, &key, code, &row.message].map(|text| clean(text).into_owned()).to_vec()
    });
    sort(&mut rows, list, |row, column| value(row, column));
    rows
}

/// A key as people read it. Not cleaned.
pub(crate) fn words(key: &[String]) -> String {
    key.join(", ")
}

fn value(row: &QuarantinedRow, column: usize) -> Value {
    match column {
        #[expect(clippy::cast_precision_loss, reason = "only for the order of rows")]
        0 => Value::Number(row.at.timestamp_millis() as f64),
        1 => Value::text(&row.step),
        2 => Value::text(&row.part),
        // Keys that are numbers are sorted as such.
        3 => {
            let key = words(&row.key);
            key.parse().map_or_else(|_| Value::text(&key), |number| Value::number(Some(number)))
        }
        4 => row.sqlstate.as_deref().map_or(Value::None, Value::text),
        5 => Value::count(u64::from(row.attempts)),
        6 => Value::text(&row.message),
        _ => Value::None,
    }
}
