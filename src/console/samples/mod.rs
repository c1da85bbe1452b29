//! Snapshots of one run at telling moments, for tests of how they look.

mod pace;
pub(crate) mod queue;
mod views;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::run::event::{Event, EventKind};
use crate::run::progress::{Estimate, Eta, Total};
use crate::run::snapshot::{Activity, BatchActivity, BatchView, Bytes, Parts, Unit};
use crate::run::timer::Spent;
use crate::run::vitals::{Alert, DatabaseVitals, HostVitals, ProcessVitals, Reading, TableVitals};
use crate::run::{
    Asker, BreakerView, ByteSize, Cause, Churn, Effect, Hold, Level, RunState, Snapshot, StepState, StepView, Vitals,
    Waited,
};
pub(crate) use pace::{
    breaker_half_open, breaker_open, done_quarantined, governed, outside_window, paused_by_governor, quarantined,
    waiting,
};

pub(crate) use views::{attached, details, driver_gone, full, hostile_details, hostile_full, silenced, unreachable};

/// 14:03:22 on a day in November.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_442_602, 0).unwrap_or_default()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Every sample, with its name.
pub(crate) fn all() -> Vec<(&'static str, Snapshot)> {
    vec![
        ("starting", starting()),
        ("indexing", indexing()),
        ("running", running()),
        ("importing", importing()),
        ("transforming_files", transforming_files()),
        ("pausing", pausing()),
        ("paused", paused()),
        ("unavailable", unavailable()),
        ("hostile", hostile()),
        ("stopped", stopped()),
        ("failed", failed()),
        ("done", done()),
        ("waiting", waiting()),
        ("governed", governed()),
        ("breaker_open", breaker_open()),
        ("breaker_half_open", breaker_half_open()),
        ("quarantined", quarantined()),
        ("paused_by_governor", paused_by_governor()),
        ("outside_window", outside_window()),
        ("done_quarantined", done_quarantined()),
    ]
}

/// Before anything is known.
pub(crate) fn starting() -> Snapshot {
    Snapshot::starting(now(), "7f3a09c2".to_owned(), "normalise-emails".to_owned(), "ops1".to_owned())
}

/// A backfill in its stride, with an alert.
pub(crate) fn running() -> Snapshot {
    let batch = BatchView { rows: 6200, took: ms(431) };
    let activity = Activity::Batches(BatchActivity {
        estimate: Estimate { walked: 1_426_000, total: Total::About(2_000_000) },
        sweep: 1,
        eta: Eta::Within { least: ms(11_200), most: ms(12_900) },
        rate: Some(48_210.0),
        mean_rate: Some(47_900.0),
        last: Some(batch),
        next_size: 7000,
        target: ms(500),
        at_floor: false,
        segments: Parts { done: 44, all: 64 },
        bytes: None,
        unit: Unit::Rows,
    });
    Snapshot {
        server: "axisor@db1:5432".to_owned(),
        state: RunState::Running,
        started_at: Some(ago(100)),
        spent: Spent { worked: ms(100_200), paused: Duration::ZERO },
        steps: vec![
            step("index", "statement", StepState::Done, ms(12_400), Some(ms(12_400)), None),
            StepView {
                rows_walked: 1_426_000,
                rows_changed: 1_425_100,
                batches: 287,
                churn: Some(Churn { updated: 1_425_100, hot: 1_025_300, dead_made: 1_425_100, cleared: 1_113_896 }),
                ..step("emails", "backfill", StepState::Running, ms(87_800), None, None)
            },
            step("nothing left", "verify", StepState::Waiting, Duration::ZERO, None, None),
        ],
        activity,
        rate_series: rates(87),
        events: VecDeque::from([
            event(100, Level::Info, EventKind::RunStarted, "run 7f3a09c2 began"),
            event(100, Level::Info, EventKind::StepStarted, "step 1 index began"),
            event(88, Level::Info, EventKind::StepFinished, "step 1 index ended after 12.4s"),
            event(88, Level::Info, EventKind::StepStarted, "step 2 emails began"),
            event(71, Level::Warning, EventKind::AlertRaised, "free memory 8.9% (limit 10%)"),
        ]),
        pace: pace::fast(),
        vitals: Arc::new(vitals()),
        resume_command: "howdah resume 7f3a09c2".to_owned(),
        ..starting()
    }
}

/// An import in its stride: it counts bytes as well.
pub(crate) fn importing() -> Snapshot {
    let mut snapshot = running();
    snapshot.plan = "import-users".to_owned();
    snapshot.steps[1] = StepView {
        rows_walked: 1_426_000,
        rows_changed: 1_425_963,
        quarantined: 37,
        batches: 21,
        ..step("users", "import", StepState::Running, ms(5400), None, None)
    };
    if let Activity::Batches(batches) = &mut snapshot.activity {
        batches.rate = Some(264_074.0);
        batches.last = Some(BatchView { rows: 92_310, took: ms(431) });
        batches.next_size = 104_000;
        batches.segments = Parts { done: 1, all: 5 };
        batches.bytes = Some(Bytes { done: 112_100_000, all: 157_286_400 });
    }
    snapshot
}

/// A transform of files: it walks files.
pub(crate) fn transforming_files() -> Snapshot {
    let mut snapshot = running();
    snapshot.plan = "transform-files".to_owned();
    snapshot.steps[1] = StepView {
        rows_walked: 713,
        rows_changed: 690,
        batches: 240,
        ..step("settings", "files", StepState::Running, ms(5400), None, None)
    };
    if let Activity::Batches(batches) = &mut snapshot.activity {
        batches.estimate = Estimate { walked: 713, total: Total::About(1000) };
        batches.rate = Some(132.0);
        batches.mean_rate = Some(131.0);
        batches.last = Some(BatchView { rows: 4, took: ms(31) });
        batches.next_size = 4;
        batches.bytes = Some(Bytes { done: 7_340_032, all: 10_485_760 });
        batches.unit = Unit::Files;
    }
    snapshot.rate_series = snapshot.rate_series.iter().map(|rate| rate / 365.0).collect();
    snapshot
}

/// [`running`], a second later: what a frame a second must write.
pub(crate) fn a_second_later() -> Snapshot {
    let mut later = running();
    later.now += TimeDelta::seconds(1);
    later.spent.worked += ms(1000);
    later.steps[1].spent.worked += ms(1000);
    later.rate_series = rates(88);
    if let Activity::Batches(batches) = &mut later.activity {
        batches.estimate.walked += 48_377;
        batches.rate = Some(48_377.0);
        batches.mean_rate = Some(47_905.0);
        batches.eta = Eta::Within { least: ms(10_200), most: ms(11_900) };
        batches.last = Some(BatchView { rows: 7000, took: ms(487) });
        batches.next_size = 7190;
    }
    later.pace.signals[0].value = "1.1s".to_owned();
    later.pace.signals[4].value = "8".to_owned();
    later.pace.signals[6].value = "13.6%".to_owned();
    later.pace.signals[8].value = "58%".to_owned();
    let mut vitals = vitals();
    if let Reading::Value(host) = &mut vitals.host {
        host.cpu_percent = Some(57.9);
        host.core_percent = vec![91.0, 40.0, 33.0, 66.0, 12.0, 8.0, 70.0, 55.0];
        host.load = [1.3, 0.9, 0.7];
    }
    if let Reading::Value(database) = &mut vitals.database {
        database.size = ByteSize(1_310_000_000);
        database.tables[0].dead += 48_377;
        database.tables[0].updates_per_second = Some(48_377.0);
        database.tables[1].live += 12;
        database.tables[1].inserts_per_second = Some(11.0);
    }
    later.vitals = Arc::new(vitals);
    later
}

/// An index is being built.
pub(crate) fn indexing() -> Snapshot {
    let mut snapshot = running();
    snapshot.steps[0] = step("index", "statement", StepState::Running, ms(4100), None, None);
    snapshot.steps[1] = step("emails", "backfill", StepState::Waiting, Duration::ZERO, None, None);
    snapshot.activity =
        Activity::Statement { what: "building index: scanning table".to_owned(), fraction: Some(0.372), since: ago(4) };
    snapshot.rate_series.clear();
    snapshot.spent.worked = ms(4100);
    snapshot
}

/// A pause was asked for.
pub(crate) fn pausing() -> Snapshot {
    Snapshot { state: RunState::Pausing { since: ago(0), by: Asker::Console }, ..running() }
}

/// Holding still.
pub(crate) fn paused() -> Snapshot {
    let spent = Spent { worked: ms(88_200), paused: ms(12_000) };
    Snapshot { state: RunState::Paused { since: ago(12), by: Asker::Console }, spent, ..running() }
}

/// Nothing can be measured, and nothing is known of the total.
pub(crate) fn unavailable() -> Snapshot {
    let mut snapshot = running();
    if let Activity::Batches(batches) = &mut snapshot.activity {
        batches.estimate.total = Total::Unknown;
        batches.eta = Eta::Unknown;
        batches.rate = None;
        batches.mean_rate = None;
        batches.last = None;
        batches.sweep = 2;
        batches.at_floor = true;
    }
    let why = || "permission denied for view pg_stat_user_tables".to_owned();
    snapshot.vitals = Arc::new(Vitals {
        host: Reading::Unavailable("no /proc here".to_owned()),
        process: Reading::Pending,
        database: Reading::Unavailable(why()),
        alerts: Vec::new(),
        rules: Vec::new(),
    });
    snapshot.rate_series.clear();
    snapshot.events.clear();
    snapshot
}

/// Names and numbers that want to break the screen.
pub(crate) fn hostile() -> Snapshot {
    let mut snapshot = running();
    snapshot.plan = format!("red \u{1b}[31m alert \u{7} {}", "表".repeat(60));
    snapshot.server = format!("{}@[2001:db8::1]:5432", "data".repeat(20));
    for step in &mut snapshot.steps {
        step.name = format!("\u{202e}{}", "step\n表".repeat(20));
        step.outcome = Some("x\u{1b}]0;title\u{7}".repeat(10));
    }
    if let Activity::Batches(batches) = &mut snapshot.activity {
        batches.estimate = Estimate { walked: u64::MAX, total: Total::About(u64::MAX) };
        batches.eta = Eta::Within { least: ms(0), most: Duration::from_hours(867_240) };
        batches.rate = Some(f64::MAX);
        batches.mean_rate = Some(f64::NAN);
        batches.next_size = u64::MAX;
    }
    let pace = &mut snapshot.pace;
    (pace.workers, pace.wanted, pace.most) = (u32::MAX, 0, u32::MAX);
    pace.hold = Some(Hold {
        key: "x\u{1b}[2J".to_owned(),
        reason: "because\n表".repeat(50),
        since: DateTime::<Utc>::MAX_UTC,
        until: Some(DateTime::<Utc>::MAX_UTC),
    });
    pace.breaker = BreakerView::Open { until: DateTime::<Utc>::MAX_UTC, cause: "no\u{1b}]0;title\u{7} 表".repeat(50) };
    for (index, signal) in pace.signals.iter_mut().enumerate() {
        signal.name = "表\u{1b}[2J".repeat(9);
        signal.value = "\u{202e}9表".repeat(9);
        (signal.slow, signal.stop) = (Some("y\n".repeat(30)), None);
        signal.load = Some(f64::NAN);
        signal.age = Duration::MAX;
        signal.effect = if index % 2 == 0 { Effect::Unread } else { Effect::Pauses };
    }
    pace.waited = vec![Waited { reason: "z\u{7}".repeat(60), time: Duration::from_hours(867_240) }];
    for step in &mut snapshot.steps {
        (step.retries, step.quarantined) = (u64::MAX / 4, u64::MAX / 4);
    }
    snapshot.rate_series = VecDeque::from([f64::NAN, f64::INFINITY, 0.0, -1.0, 1e300]);
    let mut vitals = vitals();
    if let Reading::Value(host) = &mut vitals.host {
        host.cpu_percent = Some(f32::NAN);
        host.core_percent = vec![1e9; 400];
        host.memory_total = ByteSize(0);
    }
    if let Reading::Value(database) = &mut vitals.database {
        database.size = ByteSize(u64::MAX);
        let odd = TableVitals { name: "\"Odd \u{1b}[2J name\".表".repeat(9), ..database.tables[0].clone() };
        database.tables = vec![odd; 30];
    }
    vitals.alerts = vec![Alert { text: "long\n".repeat(100), ..vitals.alerts[0].clone() }; 9];
    snapshot.vitals = Arc::new(vitals);
    snapshot
}

/// Ended on request.
pub(crate) fn stopped() -> Snapshot {
    let state = RunState::Stopped { at: now(), by: Asker::Console };
    Snapshot { state, activity: Activity::Idle, ..paused() }
}

/// Ended by an error in the plan's own SQL.
pub(crate) fn failed() -> Snapshot {
    let cause = Cause::new("step 2 emails: division by zero")
        .sqlstate("22012")
        .detail("batch of 6,200 rows after id 1426000, to id 1432200; nothing of it was changed")
        .detail("plan.toml:14\n   | set = { score = \"points / games\" }\n   |                 ^^^^^^^^^^^^^^^^")
        .hint("mend the expression in plan.toml, then resume with --accept-changed-plan");
    let mut snapshot = running();
    snapshot.state = RunState::Failed { at: now(), cause, resumable: true };
    snapshot.steps[1].state = StepState::Failed;
    snapshot.activity = Activity::Idle;
    snapshot
}

/// Ended well, after a pause.
pub(crate) fn done() -> Snapshot {
    let mut snapshot = running();
    snapshot.state = RunState::Done { at: now() };
    snapshot.activity = Activity::Idle;
    snapshot.spent = Spent { worked: ms(112_700), paused: ms(12_000) };
    snapshot.steps[1] = StepView {
        rows_walked: 2_000_000,
        rows_changed: 1_998_750,
        batches: 402,
        churn: Some(Churn { updated: 1_998_750, hot: 1_439_100, dead_made: 1_998_750, cleared: 1_200_000 }),
        ..step("emails", "backfill", StepState::Done, ms(100_100), Some(ms(124_500)), Some("0 left"))
    };
    snapshot.steps[2] =
        step("nothing left", "verify", StepState::Done, ms(200), Some(ms(124_700)), Some("0, as expected"));
    snapshot
}

fn step(
    name: &str,
    kind: &str,
    state: StepState,
    worked: Duration,
    ended_after: Option<Duration>,
    outcome: Option<&str>,
) -> StepView {
    StepView {
        state,
        spent: Spent { worked, paused: Duration::ZERO },
        ended_after,
        outcome: outcome.map(str::to_owned),
        ..StepView::new(name.to_owned(), kind.to_owned())
    }
}

fn event(seconds_ago: i64, level: Level, kind: EventKind, text: &str) -> Event {
    Event { at: ago(seconds_ago), level, kind, text: text.to_owned() }
}

/// Rates that sway a little and dip once, the same every time.
fn rates(seconds: u32) -> VecDeque<f64> {
    (0..seconds)
        .map(|second| if second == 60 { 12_000.0 } else { 46_000.0 + f64::from(second * 7919 % 41) * 100.0 })
        .collect()
}

fn vitals() -> Vitals {
    let host = HostVitals {
        cpu_percent: Some(52.4),
        core_percent: vec![88.0, 45.0, 30.0, 71.0, 10.0, 12.0, 65.0, 50.0],
        load: [1.2, 0.9, 0.7],
        memory_used: ByteSize(7_945_689_498),
        memory_total: ByteSize(24 << 30),
        uptime: Duration::from_hours(960),
        cpu_series: VecDeque::new(),
    };
    let table = |name: &str, in_plan, live, dead, rates: [f64; 3]| TableVitals {
        updated: dead * 3,
        hot: dead * 2,
        deleted: 0,
        name: name.to_owned(),
        in_plan,
        live,
        dead,
        inserts_per_second: Some(rates[0]),
        updates_per_second: Some(rates[1]),
        deletes_per_second: Some(rates[2]),
        last_vacuum: Some(ago(260)),
        last_vacuum_was_auto: true,
        ..TableVitals::default()
    };
    let mut new = table("app.audit_of_everything_that_ever_happened", false, 0, 0, [0.0; 3]);
    (new.inserts_per_second, new.updates_per_second, new.deletes_per_second) = (None, None, None);
    new.last_vacuum = None;
    Vitals {
        host: Reading::Value(host),
        process: Reading::Value(ProcessVitals { rss: ByteSize(19 << 20), peak_rss: ByteSize(21 << 20) }),
        database: Reading::Value(DatabaseVitals {
            size: ByteSize(1_302_000_000),
            pool_in_use: 2,
            pool_idle: 1,
            more_tables: 0,
            tables: vec![
                table("users", true, 2_000_000, 311_204, [0.0, 48_210.0, 0.0]),
                table("orders", false, 8_112_004, 1002, [12.0, 40.0, 0.0]),
                new,
            ],
        }),
        rules: Vec::new(),
        alerts: vec![Alert {
            key: "free_memory".to_owned(),
            level: Level::Warning,
            text: "free memory 8.9% (limit 10%)".to_owned(),
            raised_at: ago(71),
            cleared_at: None,
            count: 1,
            acts: Vec::new(),
            measured: crate::run::vitals::Measured::default(),
        }],
    }
}
