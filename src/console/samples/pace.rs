//! Runs that go slower than they could, or stand still, and why.

use chrono::TimeDelta;

use super::{ago, done, event, ms, now, paused, running};
use crate::run::event::EventKind;
use crate::run::{Asker, BreakerView, Effect, Hold, Level, Pace, RunState, SignalView, Snapshot, Waited};

/// Batches wait for the standby.
pub(crate) fn waiting() -> Snapshot {
    let mut snapshot = running();
    snapshot.pace.hold = Some(Hold {
        key: "replay lag".to_owned(),
        reason: "replay lag 7.2s (slow 5s)".to_owned(),
        since: ago(12),
        until: None,
    });
    reads(&mut snapshot.pace, 0, "7.2s", 1.44, Effect::Waits);
    (snapshot.pace.workers, snapshot.pace.wanted) = (2, 2);
    lost(&mut snapshot, &[("replay lag", 15_100)]);
    snapshot.events.push_back(event(12, Level::Warning, EventKind::Governor, "waiting: replay lag 5.3s (slow 5s)"));
    snapshot
}

/// The governor has taken two of four workers away, and one signal is old.
pub(crate) fn governed() -> Snapshot {
    let mut snapshot = running();
    (snapshot.pace.workers, snapshot.pace.wanted) = (2, 2);
    reads(&mut snapshot.pace, 0, "3.9s", 0.78, Effect::Sheds);
    reads(&mut snapshot.pace, 8, "61%", 0.68, Effect::Holds);
    snapshot.pace.signals[2].age = ms(23_000);
    lost(&mut snapshot, &[("replay lag", 2000), ("lock waiters", 1100)]);
    snapshot.steps[1].retries = 2;
    snapshot
}

/// The server is gone, and nothing is tried for a while.
pub(crate) fn breaker_open() -> Snapshot {
    let mut snapshot = running();
    let cause = "connection to db1:5432 refused, five times in a row";
    snapshot.pace.breaker = BreakerView::Open { until: now() + TimeDelta::seconds(42), cause: cause.to_owned() };
    snapshot.pace.hold = Some(Hold {
        key: "breaker".to_owned(),
        reason: format!("the breaker is open: {cause}"),
        since: ago(18),
        until: Some(now() + TimeDelta::seconds(42)),
    });
    for index in [0, 2, 7] {
        reads(&mut snapshot.pace, index, "not connected", 0.0, Effect::Unread);
        (snapshot.pace.signals[index].load, snapshot.pace.signals[index].age) = (None, ms(19_000));
    }
    lost(&mut snapshot, &[("breaker", 18_000)]);
    snapshot.steps[1].retries = 7;
    let text = format!("the breaker opened for 60s: {cause}");
    snapshot.events.push_back(event(18, Level::Critical, EventKind::Breaker, &text));
    snapshot
}

/// One trial is under way.
pub(crate) fn breaker_half_open() -> Snapshot {
    let mut snapshot = breaker_open();
    snapshot.pace.breaker =
        BreakerView::HalfOpen { cause: "connection to db1:5432 refused, five times in a row".to_owned() };
    snapshot.pace.hold = None;
    snapshot.pace.workers = 1;
    lost(&mut snapshot, &[("breaker", 60_000)]);
    snapshot
}

/// Rows were set aside, and the breaker counts failures.
pub(crate) fn quarantined() -> Snapshot {
    let mut snapshot = running();
    (snapshot.steps[1].retries, snapshot.steps[1].quarantined) = (1, 37);
    snapshot.pace.breaker = BreakerView::Closed { failures: 3, limit: 5 };
    let text = "step 2 emails: 1 row quarantined: id 1425077, value too long (SQLSTATE 22001)";
    snapshot.events.push_back(event(3, Level::Warning, EventKind::Quarantined, text));
    snapshot
}

/// A signal is past its `stop`.
pub(crate) fn paused_by_governor() -> Snapshot {
    let mut snapshot = paused();
    snapshot.state = RunState::Paused { since: ago(250), by: Asker::Governor };
    snapshot.pace.hold = Some(Hold {
        key: "replay lag".to_owned(),
        reason: "replay lag 65s (stop 60s)".to_owned(),
        since: ago(251),
        until: None,
    });
    reads(&mut snapshot.pace, 0, "65s", 13.0, Effect::Pauses);
    lost(&mut snapshot, &[("replay lag", 15_100)]);
    snapshot
}

/// The time is outside the plan's windows.
pub(crate) fn outside_window() -> Snapshot {
    let mut snapshot = paused();
    snapshot.state = RunState::Paused { since: ago(250), by: Asker::Governor };
    snapshot.pace.hold = Some(Hold {
        key: "hours".to_owned(),
        reason: "outside of 22:00-06:00 Europe/Berlin".to_owned(),
        since: ago(250),
        until: Some(now() + TimeDelta::hours(7) - TimeDelta::seconds(202)),
    });
    snapshot
}

/// [`done`], but some rows were set aside.
pub(crate) fn done_quarantined() -> Snapshot {
    let mut snapshot = done();
    (snapshot.steps[1].retries, snapshot.steps[1].quarantined) = (1, 37);
    lost(&mut snapshot, &[("replay lag", 3100)]);
    snapshot
}

/// What one of the governor's signals says, and does.
fn reads(pace: &mut Pace, index: usize, value: &str, load: f64, effect: Effect) {
    let signal = &mut pace.signals[index];
    (signal.value, signal.load, signal.effect) = (value.to_owned(), Some(load), effect);
}

/// Time lost to waiting, by reason, in milliseconds.
fn lost(snapshot: &mut Snapshot, waited: &[(&str, u64)]) {
    let waited = waited.iter().map(|(reason, time)| Waited { reason: (*reason).to_owned(), time: ms(*time) });
    snapshot.pace.waited = waited.collect();
}

/// Four workers, and signals far below their limits.
pub(super) fn fast() -> Pace {
    let signal = |name: &str, value: &str, limits: [Option<&str>; 2], load| SignalView {
        number: None,
        name: name.to_owned(),
        value: value.to_owned(),
        slow: limits[0].map(str::to_owned),
        stop: limits[1].map(str::to_owned),
        load,
        age: ms(800),
        effect: if load.is_some() { Effect::Free } else { Effect::Shown },
    };
    let signals = vec![
        signal("replay lag", "0.9s", [Some("5s"), Some("60s")], Some(0.18)),
        signal("slot WAL", "1.2 GiB", [Some("8 GiB"), Some("16 GiB")], Some(0.15)),
        signal("archive backlog", "0", [Some("50"), Some("500")], Some(0.0)),
        signal("lock waiters", "0", [Some("1"), None], Some(0.0)),
        signal("active sessions", "7", [Some("40"), None], Some(0.17)),
        signal("oldest snapshot", "3m", [Some("30m"), None], Some(0.1)),
        signal("dead rows", "13.5%", [None, None], None),
        signal("free disk", "212 GiB", [Some("20 GiB"), Some("5 GiB")], Some(0.09)),
        signal("host CPU", "52%", [Some("90%"), None], Some(0.38)),
        signal("free memory", "69%", [Some("10%"), Some("5%")], Some(0.14)),
        signal("queue depth", "118", [Some("1000"), Some("5000")], Some(0.12)),
    ];
    Pace { workers: 4, wanted: 4, most: 4, signals, ..Pace::default() }
}
