//! The governor's signals, each against what really goes on in a server.
#![expect(clippy::float_cmp, reason = "nothing is exactly nothing, and a count is a whole number")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use howdah::engine::governor::{Gauge, Gauges, Governor};
use howdah::plan::model::{BatchLimits, Limits, Probe, Retry, Signals, Sql, Threshold, Vacuum};
use howdah::postgres::signals::{self, ReplayLag, SignalError};
use howdah::postgres::whereabouts::{Whereabouts, free_disk_percent};
use howdah::run::{ByteSize, Effect};
use howdah::sandbox::{Options, Server};
use howdah::steps::gauges::{CurrentTable, HostReading, PgGauges};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::{DEADLINE, Lab};

async fn with(settings: &[(&str, &str)]) -> Lab {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Lab::with(Options { settings, ..Options::default() }).await
}

async fn connect(lab: &Lab) -> PgConnection {
    PgConnection::connect(&lab.url).await.expect("a connection")
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// A connection that may see no more than anybody.
async fn plain(lab: &Lab) -> PgConnection {
    lab.sql("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$").await;
    let url = lab.url.replacen("://demo@", "://plain@", 1);
    PgConnection::connect(&url).await.expect("a connection")
}

#[track_caller]
fn refused(answer: Result<f64, SignalError>) -> String {
    let why = answer.expect_err("hidden").to_string();
    assert!(why.contains("grant it pg_monitor, or switch this limit off"), "{why}");
    why
}

async fn on(standby: &Server, sql: &str) {
    let mut connection = PgConnection::connect(&standby.url("postgres")).await.expect("a standby");
    run(&mut connection, sql).await;
    connection.close().await.expect("a goodbye");
}

/// Reads the lag every 100 ms for `time`, and returns all readings.
async fn watch(lag: &mut ReplayLag, connection: &mut PgConnection, time: Duration) -> Vec<f64> {
    let end = Instant::now() + time;
    let mut seen = Vec::new();
    while Instant::now() < end {
        seen.push(lag.read(connection).await.expect("a lag"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    seen
}

async fn until_caught_up(lag: &mut ReplayLag, connection: &mut PgConnection) {
    let end = Instant::now() + DEADLINE;
    while lag.read(connection).await.expect("a lag") > 0.0 {
        assert!(Instant::now() < end, "it never caught up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const TWO_SECONDS: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_replay_stands_still_is_further_behind_with_every_second() {
    let mut lab = Lab::open().await;
    let mut lag = ReplayLag::default();
    assert_eq!(lag.read(&mut connect(&lab).await).await.expect("a lag"), 0.0, "no standby, no lag");

    let standby = lab.server.standby(vec![]).await.expect("a standby");
    let standby_directory = standby.directory().to_owned();
    lab.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await;
    let mut connection = connect(&lab).await;
    run(&mut connection, "CREATE TABLE t (n int)").await;
    until_caught_up(&mut lag, &mut connection).await;
    let idle = watch(&mut lag, &mut connection, TWO_SECONDS).await;
    assert!(idle.iter().all(|lag| *lag < 0.5), "caught up and idle: {idle:?}");

    // On a primary that writes all the time.
    on(&standby, "SELECT pg_wal_replay_pause()").await;
    let writer = tokio::spawn({
        let pool = lab.pool.clone();
        async move {
            for n in 0..40 {
                sqlx::query("INSERT INTO t VALUES ($1)").bind(n).execute(&pool).await.expect("a row");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let busy = watch(&mut lag, &mut connection, TWO_SECONDS).await;
    writer.await.expect("rows");
    assert!(busy.windows(2).all(|pair| pair[1] >= pair[0]), "it grows: {busy:?}");
    let last = *busy.last().expect("readings");
    assert!((1.2..2.6).contains(&last), "{busy:?}");

    // And on one that is idle.
    let idle = watch(&mut lag, &mut connection, TWO_SECONDS).await;
    let now = *idle.last().expect("readings");
    assert!((last + 1.2..last + 2.8).contains(&now), "{last}, then {idle:?}");

    let why = refused(lag.read(&mut plain(&lab).await).await);
    assert!(why.starts_with("the standbys are hidden from the role"), "{why}");
    lab.sql("GRANT pg_monitor TO plain").await;
    assert!(lag.read(&mut plain(&lab).await).await.expect("a lag") > now);

    on(&standby, "SELECT pg_wal_replay_resume()").await;
    until_caught_up(&mut lag, &mut connection).await;

    // One single change on an idle primary, which the standby is told to hold back.
    on(&standby, "ALTER SYSTEM SET recovery_min_apply_delay = '3s'").await;
    on(&standby, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    run(&mut connection, "INSERT INTO t VALUES (-1)").await;
    let delayed = watch(&mut lag, &mut connection, TWO_SECONDS).await;
    assert!((1.2..2.8).contains(delayed.last().expect("readings")), "{delayed:?}");
    until_caught_up(&mut lag, &mut connection).await;

    standby.stop().await.expect("it stops");
    assert!(!standby_directory.exists());
    assert_eq!(lag.read(&mut connection).await.expect("a lag"), 0.0, "its slot, if it had one, says what it keeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_that_a_slot_keeps_is_counted_for_everybody() {
    let lab = Lab::open().await;
    let mut connection = plain(&lab).await;
    assert_eq!(signals::slot_wal(&mut connection).await.expect("bytes"), 0.0);
    lab.sql("SELECT pg_create_physical_replication_slot('x', true)").await;
    lab.sql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)").await;
    let kept = signals::slot_wal(&mut connection).await.expect("bytes");
    assert!((3e6..2e7).contains(&kept), "{kept}");
    lab.sql("SELECT pg_drop_replication_slot('x')").await;
    assert_eq!(signals::slot_wal(&mut connection).await.expect("bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_archived_are_counted() {
    let lab = with(&[("archive_mode", "on"), ("archive_command", "/bin/false")]).await;
    let mut connection = connect(&lab).await;
    let before = signals::archive_backlog(&mut connection).await.expect("files");
    lab.sql("CREATE TABLE t (n int)").await;
    for _ in 0..3 {
        lab.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()").await;
    }
    let after = signals::archive_backlog(&mut connection).await.expect("files");
    assert!((before + 3.0..before + 5.0).contains(&after), "{before}, then {after}");

    let mut plain = plain(&lab).await;
    let why = refused(signals::archive_backlog(&mut plain).await);
    assert!(why.starts_with("permission denied for function pg_ls_archive_statusdir;"), "{why}");
    lab.sql("GRANT pg_monitor TO plain").await;
    assert_eq!(signals::archive_backlog(&mut plain).await.expect("files"), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_archived_nothing_waits_whoever_asks() {
    let lab = Lab::open().await;
    assert_eq!(signals::archive_backlog(&mut plain(&lab).await).await.expect("files"), 0.0);
}

/// Sleeps on a connection of its own until the server is asked to end it.
async fn sleeper(lab: &Lab, name: &str) -> tokio::task::JoinHandle<()> {
    let mut other = connect(lab).await;
    run(&mut other, &format!("SET application_name = '{name}'")).await;
    let sleeper = tokio::spawn(async move {
        let ended = other.execute("SELECT pg_sleep(600)").await;
        assert!(ended.is_err());
    });
    let name = name.replace('\'', "''");
    lab.until(&format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'active'"
    ))
    .await;
    sleeper
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_are_counted_and_howdahs_are_not() {
    let lab = Lab::open().await;
    let mut connection = connect(&lab).await;
    assert_eq!(signals::active_sessions(&mut connection).await.expect("sessions"), 0.0);
    let sleepers = [sleeper(&lab, "shop").await, sleeper(&lab, "howdah/7f3a09c2/emails").await];
    assert_eq!(signals::active_sessions(&mut connection).await.expect("sessions"), 1.0);
    // A long statement has a snapshot, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let age = signals::oldest_snapshot(&mut connection).await.expect("an age");
    assert!((0.3..60.0).contains(&age), "{age}");

    let why = refused(signals::active_sessions(&mut plain(&lab).await).await);
    assert!(why.starts_with("other sessions are hidden from the role"), "{why}");
    refused(signals::oldest_snapshot(&mut plain(&lab).await).await);

    lab.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()",
    )
    .await;
    for sleeper in sleepers {
        sleeper.await.expect("it ends");
    }
    lab.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'")
        .await;
    assert_eq!(signals::active_sessions(&mut connection).await.expect("sessions"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_vacuum_from_clearing_rows_has_an_age() {
    let lab = with(&[("max_prepared_transactions", "2")]).await;
    lab.sql("CREATE TABLE t (n int)").await;
    let mut connection = connect(&lab).await;
    let mut age = async || signals::oldest_snapshot(&mut connection).await.expect("an age");
    assert_eq!(age().await, 0.0);
    let kinds = [
        ("a snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", "ROLLBACK", true),
        ("an id", "BEGIN; INSERT INTO t VALUES (1)", "ROLLBACK", true),
        (
            "a prepared transaction",
            "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p'",
            "ROLLBACK PREPARED 'p'",
            true,
        ),
        ("nothing that counts", "BEGIN; SELECT 1", "ROLLBACK", false),
        ("one of howdah's", "SET application_name = 'howdah/a/b'; BEGIN; INSERT INTO t VALUES (1)", "ROLLBACK", false),
    ];
    for (what, begin, end, counts) in kinds {
        let mut other = connect(&lab).await;
        run(&mut other, begin).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let seen = age().await;
        assert_eq!((0.4..30.0).contains(&seen), counts, "{what}: {seen}");
        run(&mut other, end).await;
        other.close().await.expect("a goodbye");
        assert_eq!(age().await, 0.0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_are_held_against_what_wakes_autovacuum_on_this_table() {
    let lab = with(&[("autovacuum_naptime", "1h")]).await;
    lab.sql(
        "CREATE TABLE t (n int) WITH (fillfactor = 10);
         INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t; UPDATE t SET n = n + 1",
    )
    .await;
    lab.until("SELECT n_dead_tup > 900 FROM pg_stat_user_tables WHERE relname = 't'").await;
    let oid = lab.number("SELECT 't'::regclass::oid::int8").await;
    let mut connection = plain(&lab).await;
    let mut read = async |oid| signals::dead_rows(&mut connection, oid).await.expect("rows");
    let rows = read(oid).await.expect("a table");
    // 50 rows and a fifth of the table.
    assert_eq!((rows.dead, rows.trigger, rows.is_looked_after), (1000.0, 250.0, true), "{rows:?}");
    let settings = [
        ("autovacuum_vacuum_threshold = 7", 207.0, true),
        ("autovacuum_vacuum_threshold = 7, autovacuum_vacuum_scale_factor = 0.001", 8.0, true),
        ("autovacuum_vacuum_scale_factor = 1.5, autovacuum_enabled = off", 1507.0, false),
    ];
    for (setting, trigger, looked_after) in settings {
        lab.sql(&format!("ALTER TABLE t SET ({setting})")).await;
        let rows = read(oid).await.expect("a table");
        assert_eq!((rows.trigger, rows.is_looked_after), (trigger, looked_after), "{setting}");
    }
    assert_eq!(read(1).await, None);

    let mut vacuum = connect(&lab).await;
    run(&mut vacuum, "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1").await;
    let vacuum = tokio::spawn(async move { vacuum.execute("VACUUM t").await.map(drop) });
    let mut seeing = connect(&lab).await;
    let end = Instant::now() + DEADLINE;
    while !signals::dead_rows(&mut seeing, oid).await.expect("rows").expect("a table").is_vacuumed_now {
        assert!(Instant::now() < end && !vacuum.is_finished(), "a running VACUUM is never seen");
    }
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_vacuum").await;
    assert!(vacuum.await.expect("it ends").is_err());
    lab.sql("VACUUM t").await;
    let end = Instant::now() + DEADLINE;
    while read(oid).await.expect("a table").dead > 0.0 {
        assert!(Instant::now() < end, "VACUUM has cleared nothing");
    }
}

fn sql(text: &str) -> Sql {
    Sql { text: text.to_owned(), span: 0..0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_answers_with_one_number_and_changes_nothing() {
    let lab = Lab::open().await;
    lab.sql("CREATE SEQUENCE s").await;
    let mut connection = connect(&lab).await;
    for (text, answer) in [
        ("SELECT 42", Ok(42.0)),
        ("SELECT 1.5::numeric, 'more' -- said", Ok(1.5)),
        ("VALUES ('7'), ('8')", Ok(7.0)),
        ("SELECT NULL::int", Err("it answers NULL, and not a number")),
        ("SELECT 1 WHERE false", Err("it answers with no row, and not a number")),
        ("SELECT 'NaN'::float8", Err("it answers NaN, and not a number")),
        ("SELECT 'many'", Err("invalid input syntax for type double precision: \"many\"")),
        ("SELECT nextval('s')", Err("cannot execute nextval() in a read-only transaction")),
        ("SELECT 1; SELECT 2", Err("syntax error at or near \";\"")),
    ] {
        let got = signals::probe(&mut connection, &sql(text)).await.map_err(|why| why.to_string());
        assert_eq!(got, answer.map_err(str::to_owned), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_here_when_its_process_is() {
    let lab = Lab::open().await;
    let here = Whereabouts::ask(&mut connect(&lab).await).await.expect("an answer");
    // The backend has gone with its connection; a live one is needed to be found.
    let mut connection = connect(&lab).await;
    let live = Whereabouts::ask(&mut connection).await.expect("an answer");
    assert!(live.is_here(), "{live:?}");
    assert_eq!(live.data_directory.as_deref(), Some(&*lab.server.directory().join("data")));
    let another = Whereabouts { backend_began: live.backend_began.map(|began| began - 60.0), ..live };
    assert!(!another.is_here(), "another process of that number");
    // It leaves the list of sessions a moment before the system's list of processes.
    let end = std::time::Instant::now() + crate::support::DEADLINE;
    while here.is_here() {
        assert!(std::time::Instant::now() < end, "{here:?} stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let mut plain = plain(&lab).await;
    let hidden = Whereabouts::ask(&mut plain).await.expect("an answer");
    assert!(hidden.is_here() && hidden.data_directory.is_none(), "{hidden:?}");
    // Somebody who acts as another may not see even the session's own times: in doubt it is elsewhere.
    run(&mut connection, "SET ROLE plain").await;
    let hidden = Whereabouts::ask(&mut connection).await.expect("an answer");
    assert!(hidden.backend_began.is_none() && !hidden.is_here(), "{hidden:?}");
    let free = free_disk_percent(&lab.server.directory().join("data")).expect("a file system");
    let tmp = free_disk_percent(Path::new("/tmp")).expect("a file system");
    assert!((free - tmp).abs() < 5.0, "{free} and {tmp}");
}

fn limits(signals: Signals) -> Limits {
    Limits {
        workers: 4,
        batch: BatchLimits { start: 1000, min: 100, max: 10_000, target: Duration::from_millis(500) },
        lock_timeout: Duration::from_secs(2),
        lock_retry: Retry { attempts: 30, base: Duration::from_secs(1), max: Duration::from_secs(30) },
        statement_timeout: Duration::from_secs(5),
        idle_in_transaction_timeout: Duration::from_mins(1),
        count_timeout: Duration::from_mins(10),
        max_quarantined: 100,
        nice: 0.0,
        waiters: None,
        vacuum: Vacuum::Wait,
        allowed: Vec::new(),
        signals,
    }
}

fn every_signal(probes: &[(&str, &str)]) -> Signals {
    let percent = |slow| Some(Threshold { slow, stop: None });
    Signals {
        replay_lag: Some(Threshold { slow: Duration::from_secs(5), stop: Some(Duration::from_mins(1)) }),
        wal: Some(Threshold { slow: ByteSize(16 << 30), stop: None }),
        archive: Some(Threshold { slow: 256, stop: Some(2048) }),
        sessions: Some(Threshold { slow: 1000, stop: None }),
        snapshot_age: Some(Threshold { slow: Duration::from_hours(1), stop: None }),
        free_disk: percent(0.001),
        host_cpu: percent(100.0),
        free_memory: percent(1.0),
        probes: probes
            .iter()
            .map(|(name, text)| Probe {
                name: (*name).to_owned(),
                sql: sql(text),
                limit: Threshold { slow: 100.0, stop: None },
            })
            .collect(),
    }
}

fn gauges(pool: PgPool, signals: Signals, table: CurrentTable) -> PgGauges {
    let host = || HostReading { cpu_percent: Ok(12.5), free_memory_percent: Err("not measured yet".to_owned()) };
    PgGauges::new(pool, "7f3a09c2", &limits(signals), table, Arc::new(host))
}

fn unread(gauges: &[Gauge]) -> Vec<&str> {
    gauges.iter().filter(|gauge| gauge.value.is_err()).map(|gauge| gauge.key.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_read_in_its_place_and_fails_alone() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE t (n int)").await;
    let table = CurrentTable::default();
    let probes = [
        ("queue", "SELECT 7"),
        ("asleep", "SELECT 1 FROM pg_sleep(60)"),
        ("odd", "SELECT 'odd'"),
        ("last", "SELECT 8"),
    ];
    let gauges = gauges(lab.pool.clone(), every_signal(&probes), table.clone());
    table.set(Some(lab.number("SELECT 't'::regclass::oid::int8").await));
    let began = Instant::now();
    let read = gauges.read().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let keys: Vec<&str> = read.iter().map(|gauge| gauge.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "replay lag",
            "slot WAL",
            "archive backlog",
            "active sessions",
            "oldest snapshot",
            "dead rows",
            "free disk",
            "host CPU",
            "free memory",
            "queue",
            "asleep",
            "odd",
            "last"
        ]
    );
    assert_eq!(unread(&read), ["free memory", "asleep", "odd"], "{read:#?}");
    assert!(read.iter().all(|gauge| gauge.limit.is_some()), "{read:#?}");
    assert_eq!(read[10].value, Err("no answer in time".to_owned()));
    assert_eq!((&read[7].value, &read[12].value), (&Ok(12.5), &Ok(8.0)));
    assert_eq!(lab.number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%'").await, 1);
    let name = lab.text("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'howdah/%'").await;
    assert_eq!(name, "howdah/7f3a09c2/governor");

    table.set(None);
    assert!(!gauges.read().await.iter().any(|gauge| gauge.key == "dead rows"));
    let mut governor = Governor::new(4, Duration::ZERO);
    governor.observe(read, Duration::ZERO);
    assert_eq!(governor.verdict(Duration::ZERO).hold.map(|held| held.key).as_deref(), Some("free memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_fails_closed_at_once_and_is_found_again() {
    let mut lab = Lab::open().await;
    let mut signals = every_signal(&[("queue", "SELECT 7")]);
    signals.free_memory = None;
    let gauges = gauges(lab.pool.clone(), signals, CurrentTable::default());
    let mut governor = Governor::new(4, Duration::ZERO);
    governor.observe(gauges.read().await, Duration::ZERO);
    assert_eq!(governor.verdict(Duration::ZERO).hold, None);
    assert_eq!(governor.verdict(Duration::ZERO).wanted, 4);

    lab.server.kill().await.expect("it dies");
    let began = Instant::now();
    let read = gauges.read().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    governor.observe(read, Duration::from_secs(1));
    let hold = governor.verdict(Duration::from_secs(1)).hold.expect("it waits");
    assert!(hold.reason.starts_with("replay lag cannot be read: "), "{}", hold.reason);
    let views = governor.views(Duration::from_secs(1));
    let of_the_host = ["free disk", "host CPU"];
    assert!(
        views.iter().all(|view| (view.effect == Effect::Unread) != of_the_host.contains(&view.name.as_str())),
        "{views:#?}"
    );

    lab.server.restart().await.expect("it is back");
    governor.observe(gauges.read().await, Duration::from_secs(2));
    assert_eq!(governor.verdict(Duration::from_secs(2)).hold, None);
    assert_eq!(governor.verdict(Duration::from_secs(2)).wanted, 4);
}
