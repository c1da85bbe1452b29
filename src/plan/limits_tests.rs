//! Plans with workers, windows, signals, probes, and what takes a backfill back; from text to model.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use super::model::{Plan, Signals, StepKind, Threshold, Undo, Vacuum};
use super::tests::{STEP, assert_refused, load};
use super::window::{Place, place};
use crate::run::ByteSize;

/// The plan with that text in `[limits]`.
fn limits(text: &str) -> Plan {
    load(&format!("[limits]\n{text}\n{STEP}")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn signals(text: &str) -> Signals {
    limits(text).limits.signals
}

fn limit<T>(slow: T, stop: impl Into<Option<T>>) -> Threshold<T> {
    Threshold { slow, stop: stop.into() }
}

#[test]
fn every_default_of_the_limits_is_as_documented() {
    let plan = load(STEP).expect("a good plan");
    assert_eq!((plan.database.control.is_none(), plan.database.slow), (true, Duration::from_secs(1)));
    let limits = plan.limits;
    assert!((1..=8).contains(&limits.workers), "{}", limits.workers);
    assert_eq!((limits.max_quarantined, limits.vacuum), (100, Vacuum::Off));
    assert!(limits.nice.abs() < f64::EPSILON);
    assert_eq!(limits.waiters, Some(Duration::from_millis(200)));
    assert_eq!(limits.allowed, []);
    let expected = Signals {
        replay_lag: Some(limit(Duration::from_secs(5), Duration::from_mins(1))),
        wal: Some(limit(ByteSize(16 << 30), ByteSize(64 << 30))),
        archive: Some(limit(256, 2048)),
        free_disk: Some(limit(10.0, 5.0)),
        ..Signals::default()
    };
    assert_eq!(limits.signals, expected);
}

#[test]
fn workers_fit_into_the_pool() {
    let table = [("workers = 1", 4, 1), ("workers = 2", 8, 2), ("workers = 8", 20, 8), ("workers = 64", 132, 64)];
    for (workers, pool, expected) in table {
        let text = format!("[database]\npool = {{ max = {pool} }}\n[limits]\n{workers}\n{STEP}");
        assert_eq!(load(&text).expect(&text).limits.workers, expected, "{text}");
    }
    for (pool, most) in [(4, 1), (5, 1), (7, 1), (8, 2), (11, 3)] {
        let text = format!("[database]\npool = {{ max = {pool} }}\n{STEP}");
        let workers = load(&text).expect(&text).limits.workers;
        assert!((1..=most).contains(&workers), "{workers} with {pool}");
    }
}

#[test]
fn limits_are_read_as_they_are_written() {
    let plan = limits("max_quarantined = 0\nnice = 0.5\nwaiters = \"off\"\nvacuum = \"run\"");
    assert_eq!((plan.limits.max_quarantined, plan.limits.waiters, plan.limits.vacuum), (0, None, Vacuum::Run));
    assert!((plan.limits.nice - 0.5).abs() < f64::EPSILON);
    let plan = limits("nice = 2\nwaiters = \"1s\"\nvacuum = \"wait\"");
    assert_eq!((plan.limits.waiters, plan.limits.vacuum), (Some(Duration::from_secs(1)), Vacuum::Wait));
    assert!((plan.limits.nice - 2.0).abs() < f64::EPSILON);
}

#[test]
fn a_signal_is_a_table_or_slow_alone_or_off() {
    let seconds = Duration::from_secs;
    let lag = |text: &str| signals(text).replay_lag;
    assert_eq!(lag("replay_lag = { slow = \"2s\", stop = \"3s\" }"), Some(limit(seconds(2), seconds(3))));
    assert_eq!(lag("replay_lag = { slow = \"2s\" }"), Some(limit(seconds(2), seconds(60))));
    assert_eq!(lag("replay_lag = \"2s\""), Some(limit(seconds(2), seconds(60))));
    assert_eq!(lag("replay_lag = \"2m\""), Some(limit(seconds(120), None)));
    assert_eq!(lag("replay_lag = { stop = \"2s\" }"), Some(limit(seconds(2), seconds(2))));
    assert_eq!(lag("replay_lag = {}"), Some(limit(seconds(5), seconds(60))));
    assert_eq!(lag("replay_lag = \"off\""), None);
    assert_eq!(lag("replay_lag = \"${NONE:-off}\""), None);
    assert_eq!(signals("wal = \"1GiB\"").wal, Some(limit(ByteSize(1 << 30), ByteSize(64 << 30))));
    assert_eq!(signals("[limits.archive]\nstop = 300").archive, Some(limit(256, 300)));
    assert_eq!(signals("archive = 3000").archive, Some(limit(3000, None)));
    assert_eq!(signals("archive = \"off\"").archive, None);
    assert_eq!(signals("sessions = 50").sessions, Some(limit(50, None)));
    assert_eq!(
        signals("snapshot_age = { slow = \"10m\", stop = \"1h\" }").snapshot_age,
        Some(limit(seconds(600), seconds(3600)))
    );
    assert_eq!(signals("free_disk = \"2%\"").free_disk, Some(limit(2.0, None)));
    assert_eq!(signals("free_disk = { stop = \"20%\" }").free_disk, Some(limit(20.0, 20.0)));
    assert_eq!(signals("host_cpu = { slow = \"80%\" }").host_cpu, Some(limit(80.0, None)));
    assert_eq!(signals("free_memory = { slow = \"20%\", stop = \"5%\" }").free_memory, Some(limit(20.0, 5.0)));
}

#[test]
fn a_probe_without_a_name_is_called_by_its_place() {
    let text = r#"
        [[limits.probe]]
        sql = "SELECT 1"
        slow = 2
        [[limits.probe]]
        name = "queue"
        sql = "SELECT 2"
        slow = -1.5
        stop = 10
        [[limits.probe]]
        sql = "SELECT 3"
        slow = 0"#;
    let probes = signals(text).probes;
    let got: Vec<_> = probes.iter().map(|probe| (&*probe.name, &*probe.sql.text, probe.limit)).collect();
    let limit = |slow, stop| Threshold { slow, stop };
    let expected = [
        ("probe 1", "SELECT 1", limit(2.0, None)),
        ("queue", "SELECT 2", limit(-1.5, Some(10.0))),
        ("probe 3", "SELECT 3", limit(0.0, None)),
    ];
    assert_eq!(got, expected);
}

#[test]
fn windows_come_as_a_text_or_as_a_list_in_either_place() {
    let table = [
        "[limits]\nallowed = \"22:00-06:00 UTC; sat,sun 00:00-24:00 UTC\"",
        "[limits]\nallowed = [\"22:00-06:00 UTC\", 'sat,sun 00:00-24:00 UTC']",
        "allowed = [\"22:00-06:00 UTC;sat,sun 00:00-24:00 ${ZONE:-UTC}\"]",
    ];
    for text in table {
        let windows = load(&format!("{text}{STEP}")).expect(text).limits.allowed;
        let texts: Vec<&str> = windows.iter().map(|window| window.text.as_str()).collect();
        assert_eq!(texts, ["22:00-06:00 UTC", "sat,sun 00:00-24:00 UTC"], "{text}");
        let now: DateTime<Utc> = "2026-01-16T12:00:00Z".parse().expect("a time");
        let opens = "2026-01-16T22:00:00Z".parse().ok();
        assert_eq!(place(&windows, now), Place::Outside { opens }, "{text}");
    }
}

#[test]
fn a_backfill_says_what_takes_it_back() {
    let undo = |keys: &str| {
        let plan = load(&format!("[[step]]\nname = 'x'\nbackfill = 't'\n{keys}\n")).expect(keys);
        match plan.steps.into_iter().next().map(|step| step.kind) {
            Some(StepKind::Backfill(backfill)) => backfill.undo,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(undo("set = { a = '1' }"), Undo::None);
    assert_eq!(undo("set = { a = '1' }\nundo = 'auto'"), Undo::Auto);
    match undo("sql = 'UPDATE t SET a = 1 WHERE {batch}'\nundo_sql = 'UPDATE t SET a = 0 WHERE {batch}'") {
        Undo::Sql(sql) => assert_eq!(sql.text, "UPDATE t SET a = 0 WHERE {batch}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_control_address_is_as_secret_as_the_other() {
    let text = format!("[database]\ncontrol = \"postgres://u:hunter2@db/x#\"{STEP}");
    let plan = load(&text).expect("a good plan");
    assert!(!format!("{:?}", plan.database).contains("hunter2"), "{:?}", plan.database);
    assert_eq!(
        plan.database.control.map(|url| url.expose_secret().to_owned()).as_deref(),
        Some("postgres://u:hunter2@db/x#")
    );
    assert_eq!(plan.source.redacted(), text.replace("hunter2", "***"));
    for bad in [
        "[database]\ncontrol = \"host=db password=hunter2\"",
        "[limits]\nallowed = \"${SECRET}\"",
        "[limits]\nvacuum = \"${SECRET}\"",
    ] {
        let error = load(&format!("{bad}{STEP}")).expect_err(bad);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// Each is followed by a good step. The wrong part, the message, the hint.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "[database]\ncontrol = «\"db:5432\"»",
        "`database.control` is not a postgres:// URL",
        "write it like `control = \"postgres://user@host:5432/database\"`",
    ),
    (
        "[database]\nslow = «\"slow\"»",
        "`database.slow` is not a duration",
        "write it like `slow = \"500ms\"` (units: ms, s, m, h, days)",
    ),
    (
        "[limits]\nworkers = «65»",
        "`limits.workers` is 65; it must be between 1 and 64",
        "set `limits.workers` to a value from 1 to 64",
    ),
    (
        "[limits]\nworkers = «9»",
        "`limits.workers` is 9, which takes 22 connections; `database.pool.max` is 20",
        "lower `limits.workers` to 8 or raise `database.pool.max` to 22: two for each worker, and four",
    ),
    (
        "[database]\npool = { max = 4 }\n[limits]\nworkers = «2»",
        "`limits.workers` is 2, which takes 8 connections; `database.pool.max` is 4",
        "lower `limits.workers` to 1 or raise `database.pool.max` to 8: two for each worker, and four",
    ),
    (
        "[limits]\nmax_quarantined = «-1»",
        "`limits.max_quarantined` is -1; it must be between 0 and 1,000,000,000",
        "set `limits.max_quarantined` to a value from 0 to 1,000,000,000",
    ),
    (
        "[limits]\nnice = «100.5»",
        "`limits.nice` is 100.5; it must be between 0 and 100",
        "set `limits.nice` to a value from 0 to 100",
    ),
    (
        "[limits]\nnice = «nan»",
        "`limits.nice` is NaN; it must be between 0 and 100",
        "set `limits.nice` to a value from 0 to 100",
    ),
    ("[limits]\nnice = «\"1\"»", "`limits.nice` must be a number, not a string", "write it like `nice = 0.5`"),
    (
        "[limits]\nwaiters = «\"never\"»",
        "`limits.waiters` is not a duration",
        "write it like `waiters = \"500ms\"` (units: ms, s, m, h, days), or `waiters = \"off\"`",
    ),
    (
        "[limits]\nvacuum = «\"yes\"»",
        "`limits.vacuum` must be \"off\", \"wait\" or \"run\"",
        "write `vacuum = \"off\"` or `vacuum = \"wait\"` or `vacuum = \"run\"`, or remove it",
    ),
    (
        "[limits]\nreplay_lag = «\"none\"»",
        "`limits.replay_lag` is not a duration",
        "write it like `replay_lag = \"500ms\"` (units: ms, s, m, h, days), or `replay_lag = \"off\"`",
    ),
    (
        "[limits]\nreplay_lag = «5»",
        "`limits.replay_lag` must be a table of `slow` and `stop`, or a string, not a number",
        "write it like `replay_lag = { slow = \"5s\", stop = \"60s\" }`",
    ),
    (
        "[limits]\nreplay_lag = { slow = «\"2m\"», stop = \"60s\" }",
        "`limits.replay_lag.slow` is larger than `limits.replay_lag.stop`",
        "lower `limits.replay_lag.slow` or raise `limits.replay_lag.stop`",
    ),
    (
        "[limits]\nreplay_lag = { «slwo» = \"2m\" }",
        "unknown key `slwo` in `[limits.replay_lag]`",
        "did you mean `slow`?",
    ),
    (
        "[limits]\nwal = { stop = «\"big\"» }",
        "`limits.wal.stop` is not a size in bytes",
        "write it like `stop = \"512MiB\"` (units: B, KiB, MiB, GiB, TiB)",
    ),
    (
        "[limits]\narchive = «\"many\"»",
        "`limits.archive` is neither a whole number nor \"off\"",
        "write it like `archive = { slow = 256, stop = 2048 }`, or `archive = \"off\"`",
    ),
    (
        "[limits]\narchive = «1.5»",
        "`limits.archive` must be a table of `slow` and `stop`, a whole number or \"off\", not a number with a fraction",
        "write it like `archive = { slow = 256, stop = 2048 }`",
    ),
    (
        "[limits]\nsessions = «0»",
        "`limits.sessions` is 0; it must be between 1 and 1,000,000,000",
        "set `limits.sessions` to a value from 1 to 1,000,000,000",
    ),
    ("[limits]\nsessions = «{ stop = 9 }»", "`limits.sessions` has no `slow`", "add `slow = 50`: past it batches wait"),
    (
        "[limits]\nsnapshot_age = { slow = «10» }",
        "`limits.snapshot_age.slow` must be a string, not a number",
        "write it like `slow = \"10m\"`",
    ),
    (
        "[limits]\nfree_disk = { slow = \"5%\", stop = «\"10%\"» }",
        "`limits.free_disk.stop` is larger than `limits.free_disk.slow`",
        "lower `limits.free_disk.stop` or raise `limits.free_disk.slow`",
    ),
    (
        "[limits]\nhost_cpu = «\"80\"»",
        "`limits.host_cpu` is not a percentage from 0% to 100%",
        "write it like `host_cpu = \"10%\"`, or `host_cpu = \"off\"`",
    ),
    ("[limits]\nprobe = [«1»]", "`limits.probe` must be a table, not a number", "write it like `[[limits.probe]]`"),
    (
        "«[limits.probe]»\nsql = \"SELECT 1\"",
        "`limits.probe` must be a list of tables, not a table",
        "write it like `[[limits.probe]]`",
    ),
    (
        "«[[limits.probe]]»\nslow = 1",
        "a probe needs `sql`",
        "add `sql = \"SELECT ...\"`: the first column of its first row, a number, is compared",
    ),
    (
        "«[[limits.probe]]»\nsql = \"SELECT 1\"",
        "`limits.probe` has no `slow`",
        "add `slow = 1000`: past it batches wait",
    ),
    (
        "[[limits.probe]]\nsql = «\"\"»\nslow = 1",
        "`limits.probe.sql` is empty",
        "write it like `sql = \"SELECT count(*) FROM queue\"`, or remove it",
    ),
    (
        "[[limits.probe]]\nsql = \"SELECT 1\"\nslow = «inf»",
        "`limits.probe.slow` is not a finite number",
        "write it like `slow = 1000`",
    ),
    (
        "[[limits.probe]]\nsql = \"SELECT 1\"\nslow = «2»\nstop = 1.5",
        "`limits.probe.slow` is larger than `limits.probe.stop`",
        "lower `limits.probe.slow` or raise `limits.probe.stop`",
    ),
    (
        "[[limits.probe]]\n«query» = \"SELECT 1\"\nslow = 1",
        "unknown key `query` in `[[limits.probe]]`",
        "remove it; the keys here are `name`, `sql`, `slow`, `stop`",
    ),
    (
        "[limits]\nallowed = \"«22:00-06:00»\"",
        "`limits.allowed` has a window without a time zone",
        "add `UTC` or a name such as `Europe/Berlin`: the zones of the server, of this host and yours may differ",
    ),
    (
        "allowed = [\"22:00-06:00 UTC\", \"22:00-06:00 «Europe/Berln»\"]",
        "`allowed` names a time zone that is not known",
        "did you mean `Europe/Berlin`?",
    ),
    (
        "allowed = \"22:00-06:00 UTC; «22-6» UTC\"",
        "`allowed` has a time that is not like 22:00-06:00",
        "write hours and minutes, from 00:00 to 24:00: `22:00-06:00`",
    ),
    (
        "allowed = \"«sa» 22:00-06:00 UTC\"",
        "`allowed` has something else than a day before the time",
        "write days like `mon-fri` or `sat,sun`, then the time, then the zone: `sat,sun 00:00-24:00 UTC`",
    ),
    (
        "allowed = \"«06:00-06:00» UTC\"",
        "`allowed` has a window that opens and closes at the same time",
        "write `00:00-24:00` for a whole day",
    ),
    (
        "allowed = «\"22:00-06:00 UTC;\"»",
        "`allowed` has a window without a time",
        "write it like `22:00-06:00 Europe/Berlin`",
    ),
    (
        "allowed = \"22:00-06:00 UTC «12:00-13:00» UTC\"",
        "`allowed` goes on after the time zone",
        "write `;` between two windows, or a list of strings",
    ),
    ("allowed = «[]»", "`allowed` is empty", "name a window, or remove it to run at any time"),
    (
        "allowed = [\"22:00-06:00 UTC\", «\" \"»]",
        "`allowed` is empty",
        "write it like `allowed = \"22:00-06:00 Europe/Berlin\"`, or remove it",
    ),
    (
        "allowed = [\"22:00-06:00 UTC\", «1»]",
        "`allowed` must be a list of strings, not a number",
        "write it like `allowed = \"22:00-06:00 Europe/Berlin\"`",
    ),
    (
        "[limits]\nallowed = \"«${NOWHERE}»\"",
        "the environment variable NOWHERE is not set",
        "set NOWHERE in the environment, or give a default: `${NOWHERE:-default}`",
    ),
    (
        "[database]\n«allowed» = \"\"",
        "unknown key `allowed` in `[database]`",
        "`allowed` belongs at the top of the plan, before the first `[table]`",
    ),
];

#[test]
fn a_mistake_in_the_limits_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG {
        assert_refused(&format!("{marked}{STEP}"), message, hint);
    }
}

/// The keys of a backfill. The wrong part, the message, the hint.
const WRONG_UNDO: &[(&str, &str, &str)] = &[
    ("set = { a = '1' }\nundo = «'on'»", "`undo` must be \"auto\"", "write `undo = \"auto\"`, or remove it"),
    (
        "set = { a = '1' }\nundo_sql = «'UPDATE t SET a = 0 WHERE {batch}'»",
        "`undo_sql` takes back what `sql` does, and this backfill has `set`",
        "write `undo = \"auto\"` in its place, or remove it",
    ),
    (
        "sql = 'UPDATE t SET a = 1 WHERE {batch}'\nundo = «'auto'»",
        "`undo` keeps the old values of the columns in `set`, and this backfill has `sql`",
        "write `undo_sql = \"UPDATE ... WHERE {batch}\"` in its place, or remove it",
    ),
    (
        "sql = 'UPDATE t SET a = 1 WHERE {batch}'\nundo_sql = «'UPDATE t SET a = 0'»",
        "`undo_sql` does not hold `{batch}`: it would change the whole table in every batch",
        "put `{batch}` where the keys of a batch are to be compared: `WHERE {batch} AND ...`",
    ),
    (
        "sql = 'UPDATE t SET a = 1 WHERE {batch}'\nundo_sql = 'UPDATE t SET a = 0 WHERE {batch} OR «{batch}»'",
        "`undo_sql` holds `{batch}` more than once",
        "keep one `{batch}`; join other tables to the rows that it selects",
    ),
];

#[test]
fn a_mistake_in_what_takes_a_backfill_back_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG_UNDO {
        assert_refused(&format!("[[step]]\nname = 'x'\nbackfill = 't'\n{marked}\n"), message, hint);
    }
    let marked = "[[step]]\nname = 'x'\nstatement = 'x'\n«undo» = 'auto'";
    let hint = "remove `undo`, or move it to the step it is for";
    assert_refused(marked, "`undo` belongs to a backfill, this step is a statement", hint);
}

#[test]
fn what_collides_is_shown_at_both_places() {
    let probe = "[[limits.probe]]\nname = \"probe 2\"\nsql = \"SELECT 1\"\nslow = 1\n";
    let unnamed = "[[limits.probe]]\nsql = \"SELECT 1\"\nslow = 1\n";
    let table = [
        (
            "allowed = \"22:00-06:00 UTC\"\n[limits]\nallowed = \"22:00-07:00 UTC\"\n".to_owned(),
            "`allowed` is given in two places: at the top of the plan and in `[limits]`",
            ["3:11", "1:11"],
        ),
        (format!("{probe}{unnamed}"), "two probes are called `probe 2`", ["5:1", "2:8"]),
    ];
    for (text, message, expected) in table {
        let got = load(&format!("{text}{STEP}")).expect_err(&text).to_string();
        let places: Vec<&str> =
            got.lines().filter_map(|line| line.trim_start().strip_prefix("--> plan.toml:")).collect();
        assert_eq!(got.lines().next(), Some(message), "{got}");
        assert_eq!(places, expected, "{got}");
    }
}
