//! The jobs of the queue, in the order in which they are taken.

use chrono::{DateTime, Utc};

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::JobView;
use crate::run::text::clean;

pub(crate) const COLUMNS: [&str; 11] =
    ["state", "id", "plan", "prio", "tries", "next", "age", "run", "done", "worker", "says"];

/// A job, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Read<'a> {
    pub job: &'a JobView,
    pub at: DateTime<Utc>,
}

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<Read<'a>>> {
    let list = &scene.ui.lists.queue;
    let Some(view) = scene.details.queue.reading.view() else { return Vec::new() };
    let read = |job| Read { job, at: view.at };
    let mut rows = keyed(view.jobs.iter().map(read), |read| read.job.id.clone());
    filter(&mut rows, list, |read| texts(read.job));
    sort(&mut rows, list, value);
    rows
}

/// What a filter looks at.
fn texts(job: &JobView) -> Vec<String> {
    let JobView { id, name, asked_by, worker, run, says, .. } = job;
    let optional = [asked_by, worker, run, says].into_iter().flatten();
    let texts = [id, name].into_iter().chain(optional).map(|text| clean(text).into_owned());
    texts.chain([job.state.word().to_owned()]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "only for the order of rows")]
fn value(read: &Read<'_>, column: usize) -> Value {
    let job = read.job;
    let text = |text: &Option<String>| text.as_deref().map_or(Value::None, Value::text);
    match column {
        // Where it stands has an order of its own.
        0 => Value::Number(f64::from(job.state as u8)),
        // Ids that are numbers are sorted as such.
        1 => job.id.parse().map_or_else(|_| Value::text(&job.id), |number| Value::number(Some(number))),
        2 => Value::text(&job.name),
        3 => Value::count(u64::from(job.priority)),
        4 => Value::count(u64::from(job.attempts)),
        5 => Value::number(job.next_try.map(|at| at.timestamp_millis() as f64)),
        6 => Value::Number(-(job.asked_at.timestamp_millis() as f64)),
        7 => text(&job.run),
        8 => Value::number(job.done),
        9 => text(&job.worker),
        10 => text(&job.says),
        _ => Value::None,
    }
}
