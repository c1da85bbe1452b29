//! A run's snapshot as it lies in `howdah.snapshot`: one small row a second. Pure.
//!
//! What a reader can have elsewhere is left out: events are in `howdah.event`, and the course over time comes point by point.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::run::history::Point;
use crate::run::vitals::Reading;
use crate::run::{History, Snapshot};

/// Tables outside of the plan that are told of at most.
const OTHER_TABLES: usize = 20;

/// What is written once a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wire {
    /// The snapshot, without events.
    pub snapshot: Snapshot,
    /// The newest second of its course.
    pub point: Option<Point>,
}

/// The row of `snapshot`, as JSON.
///
/// # Errors
/// It is not JSON: a number that is none.
pub fn pack(snapshot: &Snapshot) -> Result<String, serde_json::Error> {
    let mut snapshot = Snapshot { events: VecDeque::new(), ..snapshot.clone() };
    let point = snapshot.history.seconds.back().copied();
    snapshot.history = Arc::default();
    let vitals = Arc::make_mut(&mut snapshot.vitals);
    if let Reading::Value(database) = &mut vitals.database {
        let planned = database.tables.iter().filter(|table| table.in_plan).count();
        let all = database.tables.len();
        database.tables.truncate(planned + OTHER_TABLES);
        database.more_tables += u32::try_from(all - database.tables.len()).unwrap_or(u32::MAX);
        for table in database.tables.iter_mut().filter(|table| !table.in_plan) {
            table.dead_series.clear();
        }
    }
    serde_json::to_string(&Wire { snapshot, point })
}

/// The row as it was read.
///
/// # Errors
/// It was written by a version that this one does not understand.
pub fn unpack(text: &str) -> Result<Wire, serde_json::Error> {
    serde_json::from_str(text)
}

/// The course over time, as JSON.
///
/// # Errors
/// As [`pack`].
pub fn pack_course(history: &History) -> Result<String, serde_json::Error> {
    serde_json::to_string(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_snapshot_comes_out_as_it_went_in_but_for_events_and_course() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut snapshot = Snapshot::starting(now, "7f3a09c2".into(), "emails".into(), "db1".into());
        let point = Point { at: 1_800_000_000, rate: 5.0, ..Point::default() };
        Arc::make_mut(&mut snapshot.history).push(point);
        let wire = unpack(&pack(&snapshot).unwrap()).unwrap();
        assert_eq!(wire.point, Some(point));
        snapshot.history = Arc::default();
        assert_eq!(wire.snapshot, snapshot);
    }
}
