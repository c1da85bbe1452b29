//! Other sessions' locks: howdah waits for theirs, gives way with its own, and survives every deadlock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::task::JoinSet;

use crate::support::{Dice, Lab};

async fn items(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, touched int NOT NULL DEFAULT 0);
         INSERT INTO items SELECT generate_series(1, {rows}); ANALYZE items;
         -- A change that takes its time, so that a batch holds its rows for a while.
         CREATE FUNCTION slowly(n int, seconds float8) RETURNS int LANGUAGE plpgsql VOLATILE AS
             $$ BEGIN PERFORM pg_sleep(seconds); RETURN n + 1; END $$"
    ))
    .await;
}

async fn expect_each_row_once(lab: &Lab) {
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0, "rows changed other than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_another_session_holds_for_ten_seconds_is_waited_for() {
    let lab = Lab::open().await;
    items(&lab, 20_000).await;
    let mut other = lab.session().await;
    other.execute("BEGIN; UPDATE items SET touched = touched + 1 WHERE id = 10000").await.expect("a lock");
    let plan = lab.plan(
        "held.toml",
        r#"
name = "held"
[limits]
workers = 4
batch = { start = 200, min = 100, max = 200, target = "500ms" }
lock_timeout = "500ms"
[retry]
base = "100ms"
max = "500ms"
[breaker]
failures = 3
reset = "1s"
[[step]]
name = "items"
backfill = "items"
set = { n = "n + 1" }
"#,
    );
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).start();
    // The length of the hold is the point of this test.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(lab.number("SELECT n::bigint FROM items WHERE id = 10000").await, 0, "it is held");
    other.execute("COMMIT").await.expect("the lock is given back");
    let ended = running.wait().expect_code(0);
    let told = ended.events();
    assert!(
        told.iter().any(|(kind, text)| kind == "retried" && text.contains("55P03")),
        "nothing tells of the lock: {told:?}"
    );
    expect_each_row_once(&lab).await;
    assert_eq!(lab.number("SELECT sum(touched)::bigint FROM items").await, 1, "the other session's change is kept");
}

/// Rows of the table that somebody else touches.
const TOUCHED: u32 = 6000;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_wants_a_row_of_a_batch_waits_less_than_a_second() {
    let lab = Lab::open().await;
    items(&lab, TOUCHED).await;
    lab.sql(
        "CREATE FUNCTION touch(wanted bigint) RETURNS float8 LANGUAGE plpgsql AS $$
         DECLARE began timestamptz := clock_timestamp();
         BEGIN
             UPDATE items SET touched = touched + 1 WHERE id = wanted;
             RETURN extract(epoch FROM clock_timestamp() - began);
         END $$",
    )
    .await;
    // Batches begin at more than a second, and so long would somebody wait who is not given way to.
    let plan = lab.plan(
        "gentle.toml",
        r#"
name = "gentle"
[limits]
workers = 4
batch = { start = 1500, min = 10, max = 1500, target = "2s" }
waiters = "200ms"
[retry]
base = "50ms"
max = "200ms"
[[step]]
name = "items"
backfill = "items"
set = { n = "slowly(n, 0.0005)" }
"#,
    );
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).start();
    lab.until(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%slowly%'
             AND application_name LIKE 'howdah/%')",
    )
    .await;
    let over = Arc::new(AtomicBool::new(false));
    let mut sessions = JoinSet::new();
    for seed in 1..=2 {
        sessions.spawn(touch(lab.session().await, Arc::clone(&over), Dice::of_test(seed)));
    }
    let ended = tokio::task::spawn_blocking(move || running.wait()).await.expect("it ends");
    over.store(true, Ordering::SeqCst);
    let mut waits = Vec::new();
    for of_one in sessions.join_all().await {
        waits.extend(of_one);
    }
    let ended = ended.expect_code(0);
    let longest = waits.iter().copied().fold(0.0, f64::max);
    let long = waits.iter().filter(|wait| **wait > 0.05).count();
    assert!(long > 0, "nobody ever waited, so nothing was shown: {} touches", waits.len());
    assert!(longest < 1.0, "of {} touches {long} waited, one of them {longest} s: {:?}", waits.len(), ended.events());
    expect_each_row_once(&lab).await;
    let touched = lab.number("SELECT sum(touched)::bigint FROM items").await;
    assert_eq!(usize::try_from(touched), Ok(waits.len()), "no touch is lost");
}

/// Touches random rows until it is over. How long each touch took, in seconds, by the server's clock.
async fn touch(mut session: PgConnection, over: Arc<AtomicBool>, mut dice: Dice) -> Vec<f64> {
    let mut waits = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let id = i64::try_from(dice.below(u64::from(TOUCHED))).expect("a key") + 1;
        let wait: f64 =
            sqlx::query_scalar("SELECT touch($1)").bind(id).fetch_one(&mut session).await.expect("a touch never fails");
        waits.push(wait);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    waits
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlocks_provoked_on_purpose_are_tried_again_until_each_row_is_changed_once() {
    // howdah's sessions notice a deadlock at once, and so are the ones that the server ends.
    let lab = Lab::tuned(&[("deadlock_timeout", "20ms")]).await;
    items(&lab, 20_000).await;
    let plan = lab.plan(
        "deadlocks.toml",
        r#"
name = "deadlocks"
[limits]
workers = 4
batch = { start = 100, min = 100, max = 100, target = "500ms" }
lock_timeout = "5s"
waiters = "off"
[retry]
attempts = 10
base = "10ms"
max = "100ms"
[breaker]
failures = 20
reset = "1s"
[[step]]
name = "items"
backfill = "items"
set = { n = "slowly(n, 0.0001)" }
"#,
    );
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).start();
    lab.until_walked(0).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut sessions = JoinSet::new();
    for seed in 11..=12 {
        sessions.spawn(cross(lab.session().await, Arc::clone(&over), Dice::of_test(seed)));
    }
    let ended = tokio::task::spawn_blocking(move || running.wait()).await.expect("it ends");
    over.store(true, Ordering::SeqCst);
    let touches: i64 = sessions.join_all().await.into_iter().sum();
    let ended = ended.expect_code(0);
    lab.until("SELECT deadlocks >= 5 FROM pg_stat_database WHERE datname = current_database()").await;
    let told = ended.events_of("retried");
    assert!(told.iter().any(|text| text.contains("40P01")), "no deadlock is told of: {told:?}");
    assert!(lab.number("SELECT sum(retries)::bigint FROM howdah.step").await > 0, "retries are counted");
    expect_each_row_once(&lab).await;
    assert_eq!(lab.number("SELECT sum(touched)::bigint FROM items").await, touches, "no touch is lost");
}

/// Locks two rows that a batch will want next, the later one first, until it is over. How many touches were committed.
async fn cross(mut session: PgConnection, over: Arc<AtomicBool>, mut dice: Dice) -> i64 {
    session.execute("SET deadlock_timeout = '30s'").await.expect("a superuser may");
    let mut touches = 0;
    while !over.load(Ordering::SeqCst) {
        let cursors: Vec<i64> = sqlx::query_scalar(
            "SELECT cursor_key[1]::bigint FROM howdah.segment WHERE NOT done AND cursor_key IS NOT NULL",
        )
        .fetch_all(&mut session)
        .await
        .expect("the ledger");
        // Not at every batch, also where one segment alone is left: its batches are to come through.
        let drawn = usize::try_from(dice.below(4)).expect("small");
        let Some(cursor) = cursors.get(drawn) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let low = cursor + 1 + i64::try_from(dice.below(40)).expect("small");
        let high = low + 20 + i64::try_from(dice.below(30)).expect("small");
        let touch = |id: i64| AssertSqlSafe(format!("UPDATE items SET touched = touched + 1 WHERE id = {id}"));
        let mut tx = session.begin().await.expect("a transaction");
        let first = tx.execute(touch(high)).await.expect("the first row").rows_affected();
        tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
        let second = tx.execute(touch(low)).await.expect("the second row: howdah is the one that gives in");
        tx.commit().await.expect("a commit");
        touches += i64::try_from(first + second.rows_affected()).expect("small");
        tokio::time::sleep(Duration::from_millis(30 + dice.below(100))).await;
    }
    touches
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_whole_is_waited_for() {
    let lab = Lab::open().await;
    items(&lab, 5000).await;
    let plan = lab.plan(
        "locked.toml",
        r#"
name = "locked"
[limits]
workers = 2
batch = { start = 50, min = 50, max = 50, target = "500ms" }
lock_timeout = "300ms"
[retry]
base = "50ms"
max = "200ms"
[breaker]
failures = 3
reset = "1s"
[[step]]
name = "items"
backfill = "items"
set = { n = "n + 1" }
"#,
    );
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).start();
    lab.until_walked(200).await;
    let mut other = lab.session().await;
    other.execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    // Longer than a batch's attempts last.
    tokio::time::sleep(Duration::from_secs(4)).await;
    other.execute("COMMIT").await.expect("the lock is given back");
    running.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}
