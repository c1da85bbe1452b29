//! Each row changed exactly once, whatever dies and whenever.

use std::time::Duration;

use howdah::engine::failpoint;
use nix::libc::SIGKILL;
use nix::sys::signal::Signal;

use crate::support::{Dice, Lab};

/// A change that is not idempotent, in small batches.
fn plan_with(workers: u32) -> String {
    format!(
        r#"
name = "credit"
[limits]
workers = {workers}
batch = {{ start = 100, min = 50, max = 100, target = "500ms" }}
[[step]]
name = "balances"
backfill = "accounts"
set = {{ balance = "balance + 1" }}
"#
    )
}

/// Accounts that all differ, so that a row which was changed in another's place shows.
async fn accounts(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO accounts SELECT i * 7, i * 1000 FROM generate_series(1, {rows}) AS i;
         DROP TABLE IF EXISTS before; CREATE TABLE before AS TABLE accounts;
         ANALYZE accounts"
    ))
    .await;
}

/// Row by row: the table is what it was, with every balance raised by `times`.
async fn expect_each_row_changed(lab: &Lab, times: i64) {
    let wrong = lab
        .text(&format!(
            "SELECT coalesce(string_agg(format('%s: %s became %s', id, was, now), ', '), 'none') FROM (
                 SELECT id, b.balance AS was, a.balance AS now FROM before b FULL JOIN accounts a USING (id)
                 WHERE a.balance IS DISTINCT FROM b.balance + {times} ORDER BY id LIMIT 20) wrong"
        ))
        .await;
    assert_eq!(wrong, "none", "rows changed other than {times} times");
}

/// The ledger's account of `runs` whole runs: each row counted once, and segments that leave no gap and never overlap.
async fn expect_whole_ledger(lab: &Lab, runs: i64) {
    let rows = lab.number("SELECT count(*) FROM accounts").await;
    let (walked, changed) = (
        lab.number("SELECT coalesce(sum(rows_walked), 0)::bigint FROM howdah.segment").await,
        lab.number("SELECT coalesce(sum(rows_changed), 0)::bigint FROM howdah.segment").await,
    );
    assert_eq!((walked, changed), (runs * rows, runs * rows), "the ledger counts each row once as well");
    let most = lab
        .number("SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM howdah.segment GROUP BY run, step) s")
        .await;
    assert!(most <= 4096, "{most} segments in one step");
    let torn = lab
        .number(
            "SELECT count(*) FROM (
                 SELECT lower_key, lag(upper_key) OVER w AS before, row_number() OVER w AS place FROM howdah.segment
                 WINDOW w AS (PARTITION BY run, step, sweep ORDER BY lower_key[1]::bigint NULLS FIRST, upper_key[1]::bigint NULLS LAST)
             ) s WHERE place > 1 AND lower_key IS DISTINCT FROM before",
        )
        .await;
    assert_eq!(torn, 0, "segments that do not begin where the one before ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_four_workers_killed_a_hundred_times_at_random_instants_changes_each_row_once() {
    let lab = Lab::open().await;
    accounts(&lab, 250_000).await;
    let plan = lab.plan("credit.toml", &plan_with(4));
    let plan = plan.to_str().expect("a path");
    let mut dice = Dice::of_test(20_261_123);
    let mut kills = 0;
    let mut fresh = true;
    while kills < 100 {
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        let mut running = lab.howdah(arguments).start();
        // The instant of the kill is the point of this test.
        std::thread::sleep(Duration::from_millis(20 + dice.below(300)));
        running.kill_hard();
        let ended = running.wait();
        match (ended.signal(), ended.code()) {
            (Some(SIGKILL), _) => {
                kills += 1;
                lab.until_undriven().await;
                // A kill may come before the run was made, or after its end was written down.
                fresh = lab.unfinished().await == 0;
            }
            (_, Some(0)) => fresh = true,
            other => panic!("after {kills} kills: {other:?}\n{}", ended.stderr()),
        }
    }
    if lab.unfinished().await > 0 {
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    }
    // Of a run that was killed after its end only the ledger knows that it ended.
    let finished = lab.number("SELECT count(*) FROM howdah.run WHERE state = 'done'").await;
    assert!(finished >= 1);
    expect_each_row_changed(&lab, finished).await;
    expect_whole_ledger(&lab, finished).await;
}

/// Steps of every kind, so that every failpoint is on the way.
const EVERY_KIND: &str = r#"
name = "every-kind"
[limits]
workers = WORKERS
batch = { start = 500, min = 500, max = 500, target = "500ms" }
[[step]]
name = "column"
statement = "ALTER TABLE accounts ADD COLUMN marks bigint NOT NULL DEFAULT 0"
[[step]]
name = "index"
statement = "CREATE INDEX CONCURRENTLY accounts_marks ON accounts (id) WHERE marks = 0"
down = "DROP INDEX CONCURRENTLY accounts_marks"
cleanup = true
[[step]]
name = "once"
statement = "UPDATE accounts SET balance = balance + 1000 WHERE id <= 700"
[[step]]
name = "marks"
backfill = "accounts"
set = { balance = "balance + 1", marks = "marks + 1" }
where = "marks = 0"
[[step]]
name = "check"
verify = "SELECT count(*) FROM accounts WHERE marks <> 1"
expect = 0
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_one_worker_killed_at_any_failpoint_changes_each_row_once() {
    walk_the_failpoints(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_four_workers_killed_at_any_failpoint_changes_each_row_once() {
    walk_the_failpoints(4).await;
}

async fn walk_the_failpoints(workers: u32) {
    let lab = Lab::open().await;
    let plan = lab.plan("every-kind.toml", &EVERY_KIND.replace("WORKERS", &workers.to_string()));
    let plan = plan.to_str().expect("a path");
    for name in failpoint::ALL {
        let per_batch = name.starts_with("batch.");
        for occurrence in if per_batch { vec![1, 4] } else { vec![1] } {
            lab.sql("DROP TABLE IF EXISTS accounts; DROP SCHEMA IF EXISTS howdah CASCADE").await;
            accounts(&lab, 3000).await;
            let armed = format!("{name}=kill@{occurrence}");
            let killed = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
            lab.until_undriven().await;
            let resumed = lab.howdah(&["resume", "--headless"]).run();
            assert_eq!(resumed.code(), Some(0), "{armed}:\n{}", resumed.stderr());
            let wrong = lab
                .number(
                    "SELECT count(*) FROM accounts a FULL JOIN before b USING (id) WHERE a.marks IS DISTINCT FROM 1
                     OR a.balance IS DISTINCT FROM b.balance + 1 + (CASE WHEN id <= 700 THEN 1000 ELSE 0 END)",
                )
                .await;
            assert_eq!(wrong, 0, "{armed}: rows changed other than once");
            let index = lab.number("SELECT count(*) FROM pg_class WHERE relname = 'accounts_marks'").await;
            assert_eq!(index, 0, "{armed}: the clean-up did not take the index away");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_engine_ends_the_run_as_failed_and_it_can_be_resumed() {
    let lab = Lab::open().await;
    accounts(&lab, 3000).await;
    let plan = lab.plan("credit.toml", &plan_with(4));
    let plan = plan.to_str().expect("a path");
    let armed = "batch.recorded=panic@7";
    lab.howdah(&["run", plan, "--headless"])
        .env("HOWDAH_FAILPOINTS", armed)
        .run()
        .expect_code(1)
        .expect_words(&["howdah itself failed: failpoint batch.recorded", "howdah resume"]);
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_each_row_changed(&lab, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_was_replaced_but_lives_is_refused_its_next_commit() {
    let lab = Lab::open().await;
    accounts(&lab, 20_000).await;
    let plan = lab.plan("credit.toml", &plan_with(4));
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until_walked(500).await;
    // What another driver does first when it takes a run over.
    lab.sql("BEGIN; UPDATE howdah.run SET epoch = epoch + 1; UPDATE howdah.step SET epoch = epoch + 1; UPDATE howdah.segment SET epoch = epoch + 1; COMMIT")
        .await;
    let then = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    running.wait().expect_code(1).expect_words(&["another driver has taken this run over"]);
    let changed =
        lab.number("SELECT sum(a.balance - b.balance)::bigint FROM accounts a JOIN before b USING (id)").await;
    assert_eq!(changed, then, "the replaced driver changed no row more");
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_each_row_changed(&lab, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_fences_a_driver_that_has_lost_its_lock() {
    let lab = Lab::open().await;
    accounts(&lab, 20_000).await;
    let plan = lab.plan("credit.toml", &plan_with(1));
    let plan = plan.to_str().expect("a path");
    let mut old = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "batch.recorded=sleep@20").start();
    // The twentieth batch is open, and holds its segment's row.
    lab.until(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/balances'
             AND state = 'idle in transaction' AND now() - state_change > interval '300 ms')",
    )
    .await;
    // The lock goes with its session, and the process cannot take it again.
    old.signal(Signal::SIGSTOP);
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'").await;
    lab.until_undriven().await;
    let new = lab.howdah(&["run", plan, "--headless", "--new"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')").await;
    old.kill_hard();
    old.wait();
    new.wait().expect_code(0);
    let raised = async |times: i64| {
        lab.number(&format!(
            "SELECT count(*) FROM accounts a JOIN before b USING (id) WHERE a.balance = b.balance + {times}"
        ))
        .await
    };
    let (once, twice) = (raised(1).await, raised(2).await);
    assert_eq!((once, twice), (18_100, 1900), "nineteen batches of the old run, then all of the new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_while_a_segment_is_split_changes_each_row_once() {
    let lab = Lab::open().await;
    // One segment of eight batches, and three workers that want a share of it.
    let plan = lab.plan(
        "split.toml",
        r#"
name = "split"
[limits]
workers = 4
batch = { start = 100, min = 100, max = 100, target = "500ms" }
[[step]]
name = "n"
backfill = "shared"
set = { n = "n + 1" }
"#,
    );
    let plan = plan.to_str().expect("a path");
    for name in failpoint::SPLIT {
        lab.sql(
            "DROP TABLE IF EXISTS shared; DROP SCHEMA IF EXISTS howdah CASCADE;
             CREATE TABLE shared (id int PRIMARY KEY, n int NOT NULL);
             INSERT INTO shared SELECT i, 0 FROM generate_series(1, 780) AS i; ANALYZE shared",
        )
        .await;
        let armed = format!("{name}=kill@1");
        let killed = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
        assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
        assert_eq!(lab.number("SELECT count(*) FROM shared WHERE n <> 1").await, 0, "{armed}");
        assert_eq!(lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await, 780, "{armed}");
    }
}
