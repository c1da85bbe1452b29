//! The rows of the slowest batches.

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::text::clean;
use crate::run::work::SlowBatch;

pub(crate) const COLUMNS: [&str; 6] = ["took", "at", "segment", "rows", "plan", "keys"];

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<&'a SlowBatch>> {
    let list = &scene.ui.lists.slowest;
    let key = |batch: &&SlowBatch| format!("{}/{}", batch.segment, batch.from.as_deref().unwrap_or_default());
    let mut rows = keyed(&scene.snapshot.work.slowest, key);
    filter(&mut rows, list, |batch| {
        let texts = [&batch.from, &batch.to, &batch.plan].into_iter().flatten();
        let mut texts: Vec<String> = texts.map(|text| clean(text).into_owned()).collect();
        texts.push(batch.segment.to_string());
        texts
    });
    sort(&mut rows, list, |batch, column| value(batch, column));
    rows
}

fn value(batch: &SlowBatch, column: usize) -> Value {
    match column {
        0 => Value::duration(Some(batch.took)),
        #[expect(clippy::cast_precision_loss, reason = "only for the order of rows")]
        1 => Value::Number(batch.at.timestamp_millis() as f64),
        2 => Value::count(u64::from(batch.segment)),
        3 => Value::count(batch.rows),
        4 => batch.plan.as_ref().map_or(Value::None, |_| Value::Number(1.0)),
        5 => batch.from.as_deref().map_or(Value::None, Value::text),
        _ => Value::None,
    }
}
