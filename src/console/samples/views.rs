//! A long run from near, for every view: many tables, sessions that wait for each other, segments, commands, a course.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{ago, event, ms, now, running};
use crate::run::details::{LogLine, LogTail, Quarantine, QuarantinedRow, SessionView, Sessions};
use crate::run::event::EventKind;
use crate::run::history::{History, Point};
use crate::run::rule::{RuleView, Standing};
use crate::run::snapshot::{Acknowledged, Silenced};
use crate::run::vitals::{Alert, Reading, TableVitals, VacuumView};
use crate::run::work::{Cell, Latency, SegmentView, SlowBatch, Work};
use crate::run::{Answered, Asker, ByteSize, Command, Details, Level, Presence, Snapshot};

/// A run in its stride, with all that any view can show.
pub(crate) fn full() -> Snapshot {
    let mut snapshot = running();
    (snapshot.steps[1].retries, snapshot.steps[1].quarantined) = (3, 37);
    snapshot.events.extend([
        event(
            60,
            Level::Warning,
            EventKind::Retried,
            "segment 9 after 1,180,000: deadlock detected (40P01), again in 1.2s",
        ),
        event(
            41,
            Level::Warning,
            EventKind::Retried,
            "segment 12 after 1,210,400: lock not available (55P03), again in 800ms",
        ),
        event(
            40,
            Level::Info,
            EventKind::Commanded,
            "set workers=4, asked for by ann@ops2 (an attached console): 4 workers now",
        ),
        event(12, Level::Critical, EventKind::Breaker, "the breaker opened for 5s: connection to db1:5432 reset"),
        event(7, Level::Info, EventKind::Breaker, "the breaker closed: a trial batch went through"),
        event(
            3,
            Level::Warning,
            EventKind::Quarantined,
            "step 2 emails: 1 row quarantined: id 1425077, value too long (22001)",
        ),
    ]);
    snapshot.commands = commands();
    let vitals = Arc::make_mut(&mut snapshot.vitals);
    if let Reading::Value(database) = &mut vitals.database {
        database.tables = tables(&database.tables[0]);
    }
    let first = vitals.alerts[0].clone();
    let alert = |key: &str, level, text: &str, raised, count| Alert {
        key: key.to_owned(),
        level,
        text: text.to_owned(),
        raised_at: ago(raised),
        count,
        ..first.clone()
    };
    vitals.alerts.push(alert("dead_rows", Level::Warning, "dead tuples of users 13% (limit 10%)", 300, 4));
    vitals.alerts.push(alert("disk", Level::Critical, "free disk 4.1 GiB (limit 5 GiB)", 30, 1));
    snapshot.acknowledged =
        vec![Acknowledged { key: "dead_rows".to_owned(), count: 4, who: "ann@ops2".to_owned(), at: ago(200) }];
    snapshot.work = Arc::new(work());
    snapshot.history = Arc::new(history());
    snapshot
}

/// An alert is silenced, and the plan has a rule whose number nobody measures.
pub(crate) fn silenced() -> Snapshot {
    let mut snapshot = full();
    let (key, who) = ("disk".to_owned(), "ann@ops2".to_owned());
    snapshot.silenced = vec![Silenced { key, until: snapshot.now + chrono::TimeDelta::hours(1), who }];
    let rule = |name: &str, condition: &str, value: Option<&str>, standing| RuleView {
        name: name.to_owned(),
        level: Level::Warning,
        condition: condition.to_owned(),
        value: value.map(str::to_owned),
        standing,
    };
    Arc::make_mut(&mut snapshot.vitals).rules = vec![
        rule("disk", "signal of free disk below 5368709120", Some("4402341478 (free disk)"), Standing::Raised),
        rule("standby", "replay_lag_seconds above 30s for 10s", None, Standing::NoValue),
    ];
    snapshot
}

/// What belongs to [`full`].
pub(crate) fn details() -> Details {
    Details {
        sessions: Reading::Value(Arc::new(sessions())),
        quarantine: Reading::Value(Arc::new(quarantine())),
        log: Reading::Value(Arc::new(log())),
        queue: super::queue::news(),
    }
}

/// The driver lives elsewhere.
pub(crate) fn attached() -> Snapshot {
    Snapshot { presence: Presence::Elsewhere { pid: 4711, beat: ms(1200) }, ..full() }
}

/// The driver is gone.
pub(crate) fn driver_gone() -> Snapshot {
    Snapshot { presence: Presence::Gone { pid: 4711, since: ago(95) }, ..full() }
}

/// The database does not answer.
pub(crate) fn unreachable() -> Snapshot {
    let why = "connection to db1:5432 refused".to_owned();
    Snapshot { presence: Presence::Unreachable { why, since: ago(21) }, ..full() }
}

fn commands() -> VecDeque<Answered> {
    let answered = |seconds, command, by, who: &str, taken, outcome: &str| Answered {
        id: None,
        at: ago(seconds),
        command,
        by,
        who: who.to_owned(),
        taken,
        outcome: outcome.to_owned(),
    };
    VecDeque::from([
        answered(80, Command::Pause, Asker::Console, "", true, "pausing at the edge of the open batches"),
        answered(68, Command::Continue, Asker::Console, "", true, "going on"),
        answered(41, Command::SetWorkers(4), Asker::Attached, "ann@ops2", true, "4 workers now"),
        answered(20, Command::MoreWorkers, Asker::Script, "cron@ops1", false, "the plan's limits.workers is 4"),
    ])
}

fn tables(one: &TableVitals) -> Vec<TableVitals> {
    let names =
        ["orders", "order_lines", "app.invoices", "app.audit_of_everything_that_ever_happened", "表の名前", "sessions"];
    let others = names.iter().cycle().take(40).zip(0_u64..).map(|(name, n)| TableVitals {
        name: if n < 6 { (*name).to_owned() } else { format!("{name}_{n}") },
        live: 8_112_004 / (n + 1),
        dead: 1002 * (n % 7),
        inserts_per_second: (n % 5 > 0).then_some(f64::from(u32::try_from(n).unwrap_or(0)) * 1.5),
        updates_per_second: Some(40.0),
        heap_bytes: Some(ByteSize(900_000_000 / (n + 1))),
        index_bytes: (n % 3 > 0).then_some(ByteSize(300_000_000 / (n + 1))),
        vacuum: (n == 1).then(|| VacuumView { phase: "scanning heap".to_owned(), fraction: Some(0.374) }),
        dead_series: (0..30).map(|at| at * (n % 4) * 100).collect(),
        in_plan: n == 3,
        ..one.clone()
    });
    let users = TableVitals {
        heap_bytes: Some(ByteSize(1_100_000_000)),
        index_bytes: Some(ByteSize(312_000_000)),
        vacuum: Some(VacuumView { phase: "vacuuming indexes".to_owned(), fraction: Some(0.91) }),
        dead_series: (0..40).map(|at| 120_000 + at * 5000 - if at > 25 { 90_000 } else { 0 }).collect(),
        ..one.clone()
    };
    std::iter::once(users).chain(others).collect()
}

fn sessions() -> Sessions {
    let session = |pid: i32| SessionView {
        pid,
        user: "app".to_owned(),
        application: "shop-web".to_owned(),
        client: format!("10.0.3.{}", pid % 250),
        state: "idle".to_owned(),
        in_state: Some(ms(u64::from(pid.unsigned_abs()) * 13)),
        query: "COMMIT".to_owned(),
        ..SessionView::default()
    };
    let ours = |pid, query: &str| SessionView {
        user: "howdah".to_owned(),
        application: "howdah 7f3a09c2".to_owned(),
        client: "10.0.9.1".to_owned(),
        state: "active".to_owned(),
        wait: Some("IO: DataFileRead".to_owned()),
        transaction: Some(ms(310)),
        in_state: Some(ms(120)),
        query: query.to_owned(),
        is_ours: true,
        ..session(pid)
    };
    let update = "UPDATE users SET email_norm = lower(trim(email)) WHERE (id) > ($1) AND (id) <= ($2)";
    let waits = |pid, blocked_by: &[i32], query: &str| SessionView {
        state: "active".to_owned(),
        wait: Some("Lock: transactionid".to_owned()),
        transaction: Some(ms(42_000)),
        in_state: Some(ms(41_000)),
        query: query.to_owned(),
        blocked_by: blocked_by.to_vec(),
        ..session(pid)
    };
    let mut sessions = vec![
        ours(4801, update),
        ours(4802, update),
        SessionView { blocked_by: vec![5120], wait: Some("Lock: tuple".to_owned()), ..ours(4803, update) },
        ours(4804, "SELECT pid, state, wait_event FROM pg_stat_activity"),
        waits(5010, &[4801], "UPDATE users SET last_seen = now() WHERE id = 1420077"),
        waits(5011, &[5010], "UPDATE users SET last_seen = now() WHERE id = 1420077"),
        waits(5012, &[5011, 5010], "DELETE FROM users WHERE id = 1420077"),
        SessionView {
            user: "ann".to_owned(),
            application: "psql".to_owned(),
            client: "local".to_owned(),
            state: "idle in transaction".to_owned(),
            transaction: Some(ms(754_000)),
            in_state: Some(ms(700_000)),
            query: "SELECT *\n  FROM users\n WHERE id = 1430000\n   FOR UPDATE".to_owned(),
            ..session(5120)
        },
    ];
    sessions.extend((5200..5252).map(session));
    Sessions { at: now(), sessions, more: 3, clients: 63, limit: 100 }
}

fn work() -> Work {
    let cell = |n: usize| match n {
        0..140 | 150..=169 => Cell::Done,
        140 | 171 | 190 => Cell::Running,
        172 => Cell::Retrying,
        210 => Cell::Failed,
        _ => Cell::Waiting,
    };
    let segment = |no: u32| {
        let state = match no {
            0..44 => Cell::Done,
            44..47 => Cell::Running,
            47 => Cell::Retrying,
            60 => Cell::Failed,
            _ => Cell::Waiting,
        };
        let is_open = (44..48).contains(&no);
        SegmentView {
            no,
            part: no.is_multiple_of(4).then(|| "users_2024".to_owned()),
            lower: (no > 0).then(|| (no * 31_250).to_string()),
            upper: (no < 63).then(|| ((no + 1) * 31_250).to_string()),
            cursor: is_open.then(|| (no * 31_250 + 14_100).to_string()),
            state,
            worker: is_open.then(|| no - 44),
            host: None,
            share: 1.0 / 64.0,
            position: is_open.then_some(0.451),
            walked: if no < 44 {
                31_250
            } else if is_open {
                14_100
            } else {
                0
            },
            batches: if no < 44 { 6 } else { 0 },
            quarantined: if no == 45 { 37 } else { 0 },
            retries: if no == 47 { 3 } else { 0 },
            rate: is_open.then_some(12_050.0),
        }
    };
    let mut segments: Vec<SegmentView> = (44..48).chain(60..61).map(segment).collect();
    segments.extend((48..60).chain(61..64).chain(0..44).map(segment));
    let plan = "Update on users  (actual time=812.1..812.1 rows=0)\n  Buffers: shared hit=41822 read=9120\n  ->  Index Scan using users_pkey on users  (actual time=0.1..402.7 rows=6200)\n        Index Cond: ((id > 1426000) AND (id <= 1432200))";
    let slow = |n: u32| SlowBatch {
        at: ago(i64::from(n) * 7),
        segment: 40 + n,
        from: Some((1_426_000 + n * 6200).to_string()),
        to: Some((1_432_200 + n * 6200).to_string()),
        rows: 6200,
        took: ms(2610 - u64::from(n) * 140),
        plan: (n < 2).then(|| plan.to_owned()),
    };
    Work {
        map: (0..256).map(cell).collect(),
        segments,
        more: 0,
        slowest: (0..12).map(slow).collect(),
        latency: Some(Latency {
            p50: ms(431),
            p90: ms(612),
            p99: ms(1840),
            most: ms(2610),
            count: 287,
            histogram: vec![0, 0, 0, 0, 1, 3, 9, 22, 61, 151, 34, 5, 1, 0, 0, 0],
        }),
    }
}

fn quarantine() -> Quarantine {
    let row = |n: i64| QuarantinedRow {
        step: "emails".to_owned(),
        part: if n % 2 == 0 { "users_2024".to_owned() } else { String::new() },
        key: vec![(1_425_077 - n * 311).to_string()],
        sqlstate: Some("22001".to_owned()),
        message: "value too long for type character varying(64)".to_owned(),
        attempts: 2,
        at: ago(3 + n * 11),
        is_resolved: n == 5,
        row: Some(format!(
            "{{\n  \"id\": {},\n  \"email\": \"{}@example.org\",\n  \"note\": null\n}}",
            1_425_077 - n * 311,
            "x".repeat(90)
        )),
    };
    Quarantine { rows: (0..37).map(row).collect(), open: 36, resolved: 1 }
}

fn log() -> LogTail {
    let line = |no: u64| {
        let (level, text) = match no % 9 {
            3 => (Level::Warning, "segment 12: lock not available (55P03), tried again in 800ms".to_owned()),
            7 => (Level::Critical, "breaker opened: connection reset by peer".to_owned()),
            _ => (
                Level::Info,
                format!("batch committed segment=44 rows=6200 took=431ms cursor={}", 1_400_000 + no * 6200),
            ),
        };
        let at = (no % 9 != 8).then(|| ago(200 - i64::try_from(no).unwrap_or(0)));
        LogLine { no, at, level, text: if at.is_none() { "    while reading from db1:5432".to_owned() } else { text } }
    };
    LogTail { path: "/home/ann/.local/state/howdah/7f3a09c2.log".to_owned(), lines: (40..200).map(line).collect() }
}

/// Half an hour: a dip, a pause of two minutes, two alerts.
fn history() -> History {
    let mut history = History::default();
    let end = now().timestamp();
    for at in end - 1800..end {
        let ago = end - at;
        let paused = (300..420).contains(&ago);
        let sway = f32::from(u16::try_from(at.rem_euclid(41)).unwrap_or(0));
        let rate =
            if paused { 0.0 } else { 44_000.0 + sway * 110.0 - if (50..70).contains(&ago) { 30_000.0 } else { 0.0 } };
        history.push(Point {
            at,
            rate,
            batch_ms: if paused { 0.0 } else { 400.0 + sway * 3.0 },
            worst_ms: if paused { 0.0 } else { 700.0 + sway * 45.0 },
            lag: Some(0.4 + sway / 12.0),
            dead: Some(100_000.0 + f32::from(u16::try_from(1800 - ago).unwrap_or(0)) * 110.0),
            paused,
            alert: ago == 71 || ago == 700,
        });
    }
    history
}

/// [`full`] and [`details`] with texts and numbers that want to break the screen.
pub(crate) fn hostile_details() -> Details {
    let bad = "\u{1b}]52;c;aGFjaw==\u{7}\u{202e}drop\u{2066} \u{9b}31m表שלום\r\n\t\u{200f}".repeat(3);
    let mut sessions = sessions();
    for (index, session) in sessions.sessions.iter_mut().enumerate() {
        for text in
            [&mut session.user, &mut session.application, &mut session.client, &mut session.state, &mut session.query]
        {
            text.clone_from(&bad);
        }
        session.wait = Some(bad.clone());
        session.transaction = Some(Duration::MAX);
        session.in_state = Some(Duration::MAX);
        // All in one circle of waiting, and one that waits for itself.
        session.pid = i32::MAX - i32::try_from(index).unwrap_or(0);
        session.blocked_by = vec![session.pid - 1, session.pid];
    }
    (sessions.more, sessions.limit) = (u32::MAX, 1);
    let mut quarantine = quarantine();
    for row in &mut quarantine.rows {
        row.key = vec![bad.clone(), bad.clone()];
        (row.step, row.part, row.message) = (bad.clone(), bad.clone(), bad.clone());
        (row.sqlstate, row.row) = (Some(bad.clone()), Some(bad.clone()));
        row.at = DateTime::<Utc>::MAX_UTC;
    }
    (quarantine.open, quarantine.resolved) = (u64::MAX / 2, u64::MAX / 2);
    let mut log = log();
    log.path.clone_from(&bad);
    for line in &mut log.lines {
        line.text.clone_from(&bad);
        line.at = line.at.map(|_| DateTime::<Utc>::MIN_UTC);
    }
    Details {
        sessions: Reading::Value(Arc::new(sessions)),
        quarantine: Reading::Value(Arc::new(quarantine)),
        log: Reading::Value(Arc::new(log)),
        queue: super::queue::hostile(&bad),
    }
}

/// The snapshot that belongs to [`hostile_details`].
pub(crate) fn hostile_full() -> Snapshot {
    let bad = "\u{1b}]52;c;aGFjaw==\u{7}\u{202e}drop\u{2066} \u{9b}31m表שלום\r\n\t\u{200f}".repeat(3);
    let mut snapshot = Snapshot { commands: commands(), ..super::hostile() };
    let mut work = work();
    for segment in &mut work.segments {
        for text in [&mut segment.part, &mut segment.lower, &mut segment.upper, &mut segment.cursor] {
            *text = Some(bad.clone());
        }
        (segment.share, segment.position, segment.rate) = (f64::NAN, Some(f64::INFINITY), Some(f64::NEG_INFINITY));
        (segment.walked, segment.retries, segment.quarantined) = (u64::MAX, u64::MAX, u64::MAX);
        segment.worker = Some(u32::MAX);
    }
    for batch in &mut work.slowest {
        (batch.from, batch.to, batch.plan) = (Some(bad.clone()), Some(bad.clone()), Some(bad.clone()));
        (batch.took, batch.at) = (Duration::MAX, DateTime::<Utc>::MIN_UTC);
    }
    if let Some(latency) = &mut work.latency {
        (latency.most, latency.histogram) = (Duration::MAX, vec![u32::MAX; 90]);
    }
    snapshot.work = Arc::new(work);
    for command in &mut snapshot.commands {
        command.command = Command::Acknowledge(bad.clone());
        (command.who, command.outcome) = (bad.clone(), bad.clone());
    }
    for (event, kind) in snapshot.events.iter_mut().zip([EventKind::Retried, EventKind::Notice].into_iter().cycle()) {
        (event.text, event.kind) = (bad.clone(), kind);
    }
    let vitals = Arc::make_mut(&mut snapshot.vitals);
    for alert in &mut vitals.alerts {
        (alert.key, alert.count) = (bad.clone(), u32::MAX);
    }
    snapshot.acknowledged =
        vec![Acknowledged { key: bad.clone(), count: u32::MAX, who: bad.clone(), at: DateTime::<Utc>::MAX_UTC }];
    snapshot.silenced = vec![Silenced { key: bad.clone(), until: DateTime::<Utc>::MAX_UTC, who: bad.clone() }];
    if let Reading::Value(database) = &mut vitals.database {
        for table in &mut database.tables {
            table.name.clone_from(&bad);
            table.heap_bytes = Some(ByteSize(u64::MAX));
            table.vacuum = Some(VacuumView { phase: bad.clone(), fraction: Some(f64::NAN) });
            table.dead_series = VecDeque::from([0, u64::MAX, 3]);
            table.inserts_per_second = Some(f64::NAN);
        }
    }
    let mut history = history();
    for point in &mut history.all {
        (point.rate, point.batch_ms, point.worst_ms) = (f32::NAN, f32::INFINITY, f32::MAX);
        (point.lag, point.dead) = (Some(-1.0), Some(f32::MAX));
    }
    history.all.extend([Point { at: i64::MAX, ..Point::default() }, Point { at: i64::MIN, ..Point::default() }]);
    history.step = 0;
    snapshot.history = Arc::new(history);
    snapshot.resume_command.clone_from(&bad);
    snapshot.presence = Presence::Unreachable { why: bad, since: DateTime::<Utc>::MIN_UTC };
    snapshot
}
