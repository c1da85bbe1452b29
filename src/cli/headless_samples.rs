//! Moments of a run, for tests of how they are told without a console.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::run::progress::Total;
use crate::run::snapshot::{Activity, BatchActivity, Parts};
use crate::run::{
    BreakerView, Effect, Estimate, Eta, Hold, Pace, RunState, SignalView, Snapshot, StepState, StepView, Waited,
};

/// 14:03:22 on a day in March.
pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_373_802, 0).unwrap()
}

/// A run of one step.
pub(super) fn snapshot(state: RunState, name: &str, activity: Activity) -> Snapshot {
    let mut snapshot = Snapshot::starting(now(), "7f3a09c2".into(), "p".into(), "h".into());
    snapshot.state = state;
    snapshot.activity = activity;
    snapshot.steps.push(StepView {
        state: StepState::Running,
        rows_changed: 5,
        ..StepView::new(name.to_owned(), "backfill".to_owned())
    });
    snapshot
}

/// A backfill in its stride.
pub(super) fn batches() -> Activity {
    let (least, most) = (Duration::from_secs(11), Duration::from_secs(13));
    Activity::Batches(BatchActivity {
        estimate: Estimate { walked: 1_426_000, total: Total::About(2_000_000) },
        sweep: 1,
        eta: Eta::Within { least, most },
        rate: Some(48_210.0),
        mean_rate: None,
        last: None,
        next_size: 7000,
        target: Duration::from_millis(500),
        at_floor: false,
        segments: Parts { done: 44, all: 64 },
        bytes: None,
        unit: crate::run::snapshot::Unit::Rows,
    })
}

/// A pace that a standby holds back.
pub(super) fn pace() -> Pace {
    let lost = |reason: &str, seconds| Waited { reason: reason.to_owned(), time: Duration::from_secs(seconds) };
    let signal = |name: &str, value: &str, effect| SignalView {
        number: None,
        name: name.to_owned(),
        value: value.to_owned(),
        slow: Some("5s".to_owned()),
        stop: None,
        load: Some(1.44),
        age: Duration::from_millis(1500),
        effect,
    };
    Pace {
        workers: 2,
        wanted: 2,
        most: 4,
        hold: Some(Hold {
            key: "replay lag".to_owned(),
            reason: "replay lag 7.2s (slow 5s)".to_owned(),
            since: now() - Duration::from_secs(12),
            until: None,
        }),
        signals: vec![
            signal("replay lag", "7.2s", Effect::Waits),
            signal("free disk", "permission denied", Effect::Unread),
        ],
        breaker: BreakerView::default(),
        waited: vec![lost("replay lag", 12), lost("breaker", 3)],
    }
}

/// A breaker that is open.
pub(super) fn open() -> BreakerView {
    BreakerView::Open { until: now() + Duration::from_secs(42), cause: "connection refused".to_owned() }
}
