//! Each row changed exactly once, whatever dies and whenever.

use std::time::Duration;

use howdah::engine::failpoint;
use nix::libc::SIGKILL;

use crate::support::{Dice, Ended, Lab};

const PLAN: &str = r#"
name = "credit"
[limits]
batch = { start = 100, min = 50, max = 100, target = "500ms" }
[[step]]
name = "balances"
backfill = "accounts"
set = { balance = "balance + 1" }
"#;

async fn accounts(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO accounts SELECT i * 7, 0 FROM generate_series(1, {rows}) AS i;
         ANALYZE accounts"
    ))
    .await;
}

async fn expect_each_row_changed(lab: &Lab, times: i64) {
    let wrong = lab.number(&format!("SELECT count(*) FROM accounts WHERE balance <> {times}")).await;
    let sum = lab.number("SELECT coalesce(sum(balance), 0)::bigint FROM accounts").await;
    let rows = lab.number("SELECT count(*) FROM accounts").await;
    assert_eq!((wrong, sum), (0, rows * times), "rows changed other than {times} times, and the sum of all changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_thirty_times_at_random_instants_changes_each_row_once() {
    let lab = Lab::open().await;
    accounts(&lab, 200_000).await;
    let plan = lab.plan("credit.toml", PLAN);
    let plan = plan.to_str().expect("a path");
    let seed = 20_261_123;
    let mut dice = Dice::new(seed);
    let mut kills = 0;
    let mut fresh = true;
    while kills < 30 {
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        let mut running = lab.howdah(arguments).start();
        // The instant of the kill is the point of this test.
        std::thread::sleep(Duration::from_millis(20 + dice.below(400)));
        running.kill_hard();
        let ended = running.wait();
        match (ended.signal(), ended.code()) {
            (Some(SIGKILL), _) => {
                kills += 1;
                // A kill may come before the run was made.
                fresh = unfinished(&lab).await == 0;
            }
            (_, Some(0)) => fresh = true,
            other => panic!("seed {seed}, after {kills} kills: {other:?}\n{}", ended.stderr()),
        }
    }
    if unfinished(&lab).await > 0 {
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    }
    // Of a run that was killed after its end only the ledger knows that it ended.
    let finished = lab.number("SELECT count(*) FROM howdah.run WHERE state = 'done'").await;
    assert!(finished >= 1);
    expect_each_row_changed(&lab, finished).await;
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert_eq!(walked, finished * 200_000, "the ledger counts each row once as well");
}

async fn unfinished(lab: &Lab) -> i64 {
    if lab.number("SELECT (to_regclass('howdah.run') IS NOT NULL)::int::bigint").await == 0 {
        return 0;
    }
    lab.number("SELECT count(*) FROM howdah.run WHERE state NOT IN ('done', 'superseded')").await
}

/// Steps of every kind, so that every failpoint is on the way.
const EVERY_KIND: &str = r#"
name = "every-kind"
[limits]
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
async fn a_run_killed_at_any_failpoint_changes_each_row_once() {
    let lab = Lab::open().await;
    let plan = lab.plan("every-kind.toml", EVERY_KIND);
    let plan = plan.to_str().expect("a path");
    for name in failpoint::ALL {
        let per_batch = name.starts_with("batch.");
        for occurrence in if per_batch { vec![1, 4] } else { vec![1] } {
            lab.sql("DROP TABLE IF EXISTS accounts; DROP SCHEMA IF EXISTS howdah CASCADE").await;
            accounts(&lab, 3000).await;
            let armed = format!("{name}=kill@{occurrence}");
            let killed = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
            let resumed = lab.howdah(&["resume", "--headless"]).run();
            assert_eq!(resumed.code(), Some(0), "{armed}:\n{}", resumed.stderr());
            let wrong = lab
                .number("SELECT count(*) FROM accounts WHERE marks <> 1 OR balance <> 1 + (CASE WHEN id <= 700 THEN 1000 ELSE 0 END)")
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
    let plan = lab.plan("credit.toml", PLAN);
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
async fn a_server_killed_and_restarted_changes_each_row_once() {
    let mut lab = Lab::open().await;
    accounts(&lab, 200_000).await;
    let plan = lab.plan("credit.toml", PLAN);
    let plan = plan.to_str().expect("a path").to_owned();
    let mut dice = Dice::new(42);
    let mut arguments = vec!["run", plan.as_str(), "--headless"];
    for crash in 0..6_u32 {
        let running = lab.howdah(&arguments).start();
        let from = i64::from(crash) * 15_000;
        lab.until(&format!(
            "SELECT to_regclass('howdah.segment') IS NOT NULL AND coalesce((SELECT sum(rows_walked) FROM howdah.segment), 0) > {from}"
        ))
        .await;
        std::thread::sleep(Duration::from_millis(dice.below(150)));
        lab.server.kill().await.expect("the server dies");
        let ended: Ended = running.wait();
        ended.expect_code(1).expect_words(&["lost the connection to the server", "howdah resume"]);
        lab.server.restart().await.expect("the server comes back");
        arguments = vec!["resume", "--headless"];
    }
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_each_row_changed(&lab, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_was_replaced_but_lives_is_refused_its_next_commit() {
    let lab = Lab::open().await;
    accounts(&lab, 20_000).await;
    let plan = lab.plan("credit.toml", PLAN);
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until("SELECT coalesce((SELECT sum(rows_walked) FROM howdah.segment), 0) > 500").await;
    // What another driver does first when it takes a run over.
    lab.sql("BEGIN; UPDATE howdah.run SET epoch = epoch + 1; UPDATE howdah.step SET epoch = epoch + 1; UPDATE howdah.segment SET epoch = epoch + 1; COMMIT")
        .await;
    let then = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    running.wait().expect_code(1).expect_words(&["another driver has taken this run over"]);
    let changed = lab.number("SELECT count(*) FROM accounts WHERE balance = 1").await;
    assert_eq!(changed, then, "the replaced driver changed no row more");
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_each_row_changed(&lab, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_fences_a_driver_that_has_lost_its_lock() {
    let lab = Lab::open().await;
    accounts(&lab, 20_000).await;
    let plan = lab.plan("credit.toml", PLAN);
    let plan = plan.to_str().expect("a path");
    let old = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "batch.recorded=sleep@20").start();
    lab.until("SELECT coalesce((SELECT sum(rows_walked) FROM howdah.segment), 0) >= 1900").await;
    // The lock goes with its session; the batch that is open stays open, and holds its segment's row.
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'").await;
    lab.until("SELECT NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory')").await;
    let new = lab.howdah(&["run", plan, "--headless", "--new"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')").await;
    let mut old = old;
    old.kill_hard();
    old.wait();
    new.wait().expect_code(0);
    let (once, twice) = (
        lab.number("SELECT count(*) FROM accounts WHERE balance = 1").await,
        lab.number("SELECT count(*) FROM accounts WHERE balance = 2").await,
    );
    assert_eq!((once, twice), (18_100, 1900), "nineteen batches of the old run, then all of the new one");
}
