//! The rows of the segments of the running sweep.

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::text::clean;
use crate::run::work::{Cell, SegmentView};

pub(crate) const COLUMNS: [&str; 11] =
    ["segment", "state", "part", "done", "share", "rows", "rows/s", "worker", "retries", "set aside", "keys"];

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<&'a SegmentView>> {
    let list = &scene.ui.lists.segments;
    let mut rows = keyed(&scene.snapshot.work.segments, |segment| segment.no.to_string());
    filter(&mut rows, list, |segment| {
        let SegmentView { part, lower, upper, cursor, .. } = segment;
        let texts = [part, lower, upper, cursor].into_iter().flatten();
        let mut texts: Vec<String> = texts.map(|text| clean(text).into_owned()).collect();
        texts.extend([word(segment.state).to_owned(), segment.no.to_string()]);
        texts
    });
    sort(&mut rows, list, |segment, column| value(segment, column));
    rows
}

/// How a segment or a cell of the map stands, in a word.
pub(crate) fn word(state: Cell) -> &'static str {
    match state {
        Cell::Waiting => "waiting",
        Cell::Running => "running",
        Cell::Done => "done",
        Cell::Retrying => "retrying",
        Cell::Failed => "failed",
    }
}

/// The share of a segment that is done: all of it, where it is done.
pub(crate) fn position(segment: &SegmentView) -> Option<f64> {
    match segment.state {
        Cell::Done => Some(1.0),
        Cell::Waiting | Cell::Running | Cell::Retrying | Cell::Failed => segment.position,
    }
}

fn value(segment: &SegmentView, column: usize) -> Value {
    match column {
        0 => Value::count(u64::from(segment.no)),
        1 => Value::text(word(segment.state)),
        2 => segment.part.as_deref().map_or(Value::None, Value::text),
        3 => Value::number(position(segment)),
        4 => Value::number(Some(segment.share)),
        5 => Value::count(segment.walked),
        6 => Value::number(segment.rate),
        7 => Value::number(segment.worker.map(f64::from)),
        8 => Value::count(segment.retries),
        9 => Value::count(segment.quarantined),
        10 => segment.lower.as_deref().map_or(Value::None, Value::text),
        _ => Value::None,
    }
}
