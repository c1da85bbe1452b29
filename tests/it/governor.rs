//! The governor: what it waits for, what it pauses for, and that it says so and goes on by itself.

use std::time::Duration;

use chrono::{Duration as Span, Timelike, Utc};
use nix::sys::signal::Signal;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::support::{Lab, Running};

async fn items(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0);
         INSERT INTO items SELECT generate_series(1, {rows}); ANALYZE items;
         CREATE FUNCTION slowly(n int, seconds float8) RETURNS int LANGUAGE plpgsql VOLATILE AS
             $$ BEGIN PERFORM pg_sleep(seconds); RETURN n + 1; END $$"
    ))
    .await;
}

/// Batches of 20 rows that take some 30 ms, with `limits`.
fn plan_of(limits: &str) -> String {
    format!(
        r#"
name = "governed"
[limits]
workers = 2
batch = {{ start = 20, min = 20, max = 20, target = "500ms" }}
{limits}
[[step]]
name = "items"
backfill = "items"
set = {{ n = "slowly(n, 0.001)" }}
"#
    )
}

/// A probe that the test turns by hand.
const KNOB: &str = r#"
[[limits.probe]]
name = "knob"
sql = "SELECT v FROM knob"
slow = 10
stop = 100
"#;

async fn expect_each_row_once(lab: &Lab) {
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0, "rows changed other than once");
}

async fn walked(lab: &Lab) -> i64 {
    lab.number("SELECT coalesce(sum(rows_walked), 0)::bigint FROM howdah.segment").await
}

/// Waits until no batch has committed for a second and a half.
async fn until_it_holds(lab: &Lab) {
    let mut before = walked(lab).await;
    let mut still = 0;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = walked(lab).await;
        still = if now == before { still + 1 } else { 0 };
        before = now;
        if still == 15 {
            return;
        }
    }
    panic!("it never held: {before} rows");
}

/// Waits for something that only a run that lives can bring about.
async fn meanwhile(running: &mut Running, what: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = what => {}
        said = running.ended() => panic!("it ended:\n{said}"),
    }
}

async fn until_walked(lab: &Lab, running: &mut Running, rows: i64) {
    meanwhile(running, lab.until_walked(rows)).await;
}

async fn until_it_goes_on(lab: &Lab, running: &mut Running) {
    let walked = walked(lab).await;
    until_walked(lab, running, walked + 100).await;
}

async fn until_state(lab: &Lab, running: &mut Running, state: &str) {
    meanwhile(running, lab.until(&format!("SELECT state = '{state}' FROM howdah.run"))).await;
}

async fn turn(lab: &Lab, value: u32) {
    lab.sql(&format!("UPDATE knob SET v = {value}")).await;
}

fn start(lab: &Lab, limits: &str) -> Running {
    let plan = lab.plan("governed.toml", &plan_of(limits));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_past_slow_holds_batches_past_stop_pauses_and_below_both_lets_them_go_on() {
    let lab = Lab::open().await;
    items(&lab, 20_000).await;
    lab.sql("CREATE TABLE knob (v float8); INSERT INTO knob VALUES (0)").await;
    let mut running = start(&lab, KNOB);
    until_walked(&lab, &mut running, 100).await;

    turn(&lab, 50).await;
    until_it_holds(&lab).await;
    running.until_said("knob").await;
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "running", "it waits, and is not paused");
    turn(&lab, 0).await;
    until_it_goes_on(&lab, &mut running).await;

    turn(&lab, 1000).await;
    until_state(&lab, &mut running, "paused").await;
    until_it_holds(&lab).await;
    // By itself: nobody says `continue`.
    turn(&lab, 0).await;
    until_state(&lab, &mut running, "running").await;
    until_it_goes_on(&lab, &mut running).await;

    let ended = running.wait().expect_code(0);
    let told = ended.events_of("governor");
    assert!(told.iter().any(|text| text.contains("knob")), "{told:?}");
    expect_each_row_once(&lab).await;
    let waited = lab.text("SELECT waited::text FROM howdah.run").await;
    assert!(waited.contains("knob"), "time lost to it is written down: {waited}");
    lab.howdah(&["report"]).run().expect_code(0).expect_words(&["knob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_cannot_be_read_holds_batches_and_says_so() {
    let lab = Lab::open().await;
    items(&lab, 10_000).await;
    lab.sql("CREATE TABLE knob (v float8); INSERT INTO knob VALUES (0)").await;
    let mut running = start(&lab, KNOB);
    until_walked(&lab, &mut running, 100).await;
    lab.sql("ALTER TABLE knob RENAME TO elsewhere").await;
    until_it_holds(&lab).await;
    running.until_said("knob").await;
    lab.sql("ALTER TABLE elsewhere RENAME TO knob").await;
    until_it_goes_on(&lab, &mut running).await;
    // An answer that is no number is no answer.
    lab.sql("DELETE FROM knob").await;
    until_it_holds(&lab).await;
    lab.sql("INSERT INTO knob VALUES (1)").await;
    running.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_cannot_be_read_from_the_start_lets_nothing_be_changed() {
    let lab = Lab::open().await;
    items(&lab, 1000).await;
    lab.sql("CREATE TABLE knob (v float8)").await;
    let mut running = start(&lab, KNOB);
    running.until_said("knob").await;
    // Longer than a probe's interval.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM items").await, 0, "nothing is changed unseen");
    lab.sql("INSERT INTO knob VALUES (0)").await;
    running.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_the_server_does_not_understand_is_refused_before_anything_is_changed() {
    let lab = Lab::open().await;
    items(&lab, 100).await;
    start(&lab, KNOB).wait().expect_code(2).expect_words(&["knob", "42P01"]);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM items").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_its_windows_a_run_is_paused_and_says_when_the_next_one_opens() {
    let lab = Lab::open().await;
    items(&lab, 2000).await;
    // Two hours ahead, wherever the clock stands: also over midnight.
    let clock = |ahead: i64| {
        let at = Utc::now() + Span::hours(ahead);
        format!("{:02}:{:02}", at.hour(), at.minute())
    };
    let (opens, closes) = (clock(2), clock(3));
    let mut running = start(&lab, &format!("allowed = \"{opens}-{closes} UTC\""));
    until_state(&lab, &mut running, "paused").await;
    running.until_said(&opens).await;
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(3);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM items").await, 0, "nothing was changed outside");
    // Inside a window the same run goes on.
    lab.plan("governed.toml", &plan_of(&format!("allowed = \"{}-{closes} UTC\"", clock(-1))));
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nice_run_rests_for_its_share_after_each_batch() {
    let lab = Lab::open().await;
    items(&lab, 1000).await;
    let mut took = Vec::new();
    for nice in ["0.0", "2.0"] {
        lab.sql("DROP SCHEMA IF EXISTS howdah CASCADE; UPDATE items SET n = 0").await;
        let _ = start(&lab, &format!("nice = {nice}")).wait().expect_code(0);
        expect_each_row_once(&lab).await;
        took.push(
            lab.number("SELECT (extract(epoch FROM finished_at - started_at) * 1000)::bigint FROM howdah.step").await,
        );
    }
    // Two batches' time of rest after each: three times as long, less what is not batches.
    assert!(took[1] > took[0] * 2, "without and with `nice`: {took:?} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_falls_behind_holds_batches_and_they_go_on_when_it_has_caught_up() {
    let mut lab = Lab::open().await;
    items(&lab, 20_000).await;
    let standby = lab.server.standby(Vec::new()).await.expect("a standby");
    lab.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await;
    let mut follower = PgConnection::connect(&standby.url("postgres")).await.expect("a session on it");
    let mut running = start(&lab, "replay_lag = { slow = \"1s\", stop = \"5m\" }");
    until_walked(&lab, &mut running, 100).await;

    follower.execute("SELECT pg_wal_replay_pause()").await.expect("replay stands still");
    until_it_holds(&lab).await;
    running.until_said("replay lag").await;
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "running", "it waits, and is not paused");
    follower.execute("SELECT pg_wal_replay_resume()").await.expect("replay goes on");
    until_it_goes_on(&lab, &mut running).await;

    let ended = running.wait().expect_code(0);
    let told = ended.events_of("governor");
    assert!(told.iter().any(|text| text.contains("replay lag")), "{told:?}");
    expect_each_row_once(&lab).await;
    // A server that stops waits for the standbys that are connected.
    drop(follower);
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_rows_are_vacuumed_between_batches_where_the_plan_says_so() {
    let lab = Lab::tuned(&[("autovacuum", "off")]).await;
    items(&lab, 20_000).await;
    lab.sql(
        "CREATE FUNCTION crawl(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN
             PERFORM pg_sleep(0.0005); RETURN n + 1; END $$",
    )
    .await;
    let plan = lab.plan(
        "tidy.toml",
        r#"
name = "tidy"
[limits]
workers = 2
vacuum = "run"
batch = { start = 200, min = 200, max = 200, target = "500ms" }
[[step]]
name = "items"
backfill = "items"
set = { n = "crawl(n)" }
"#,
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(0)
        .expect_words(&["batches wait: dead rows", "VACUUM"]);
    assert!(lab.number("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'items'").await >= 1);
    expect_each_row_once(&lab).await;
}
