//! Several processes walk one run, and each row changes once, whoever dies.

use nix::sys::signal::Signal;

use crate::support::{Lab, Running};

/// Each row takes a moment: there is something to share. 64 segments of about 1,000 rows.
const PLAN: &str = r#"
name = "shared"
[limits]
workers = 2
batch = { start = 50, min = 50, max = 50 }
[retry]
base = "50ms"
max = "500ms"
[[step]]
name = "count up"
backfill = "items"
set = { n = "n + 1 + length(pg_sleep(0.0003)::text)" }
[[step]]
name = "nothing left"
verify = "SELECT count(*) FROM items WHERE n <> 1"
expect = 0
"#;

async fn items(lab: &Lab, rows: u32) -> String {
    lab.items(rows).await;
    lab.plan("shared.toml", PLAN).to_str().expect("a path").to_owned()
}

/// Rows that members have walked.
const BY_MEMBERS: &str = "SELECT coalesce(sum(rows_walked), 0)::bigint FROM howdah.segment WHERE epoch < 0";

async fn until_members_walk(lab: &Lab, rows: i64) {
    lab.until(&format!("SELECT ({BY_MEMBERS}) > {rows}")).await;
}

async fn expect_each_row_once(lab: &Lab) {
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "done");
    let wrong = "SELECT count(*) FROM items WHERE n <> 1";
    assert_eq!(lab.number(wrong).await, 0, "rows changed other than once");
    let walked = "SELECT (SELECT sum(rows_walked) FROM howdah.segment) - (SELECT count(*) FROM items)";
    assert_eq!(lab.number(&format!("SELECT ({walked})::bigint")).await, 0, "the ledger counts each row once");
}

fn member(lab: &Lab, run: &str) -> Running {
    lab.howdah(&["worker", "--join", run, "--workers", "2"]).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_walk_one_run_pause_with_it_and_are_done_with_it() {
    let lab = Lab::open().await;
    let plan = items(&lab, 40_000).await;
    let driver = lab.howdah(&["run", &plan, "--json"]).start();
    lab.until_walked(500).await;
    let run = lab.run_id().await;
    let members = [member(&lab, &run), member(&lab, &run)];
    lab.until("SELECT count(*) = 2 FROM howdah.member").await;
    until_members_walk(&lab, 500).await;
    lab.until("SELECT count(DISTINCT epoch) = 2 FROM howdah.segment WHERE epoch < 0").await;

    // All of them stand still at their batches' edges, and only then it is called paused.
    lab.howdah(&["pause", "--wait"]).run().expect_code(0);
    let still = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    lab.until("SELECT bool_and(rests AND rested = wish) FROM howdah.member WHERE left_at IS NULL").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n = 1").await, still, "somebody went on");
    lab.howdah(&["continue"]).run().expect_code(0);

    let ended = driver.wait().expect_code(0);
    let told = ended.events_of("notice").iter().filter(|text| text.contains("has joined")).count();
    assert_eq!(told, 2, "{:?}", ended.events());
    for member in members {
        member.wait().expect_code(0);
    }
    assert!(lab.number(BY_MEMBERS).await > 5_000, "members had a good part of it");
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_killed_or_stand_still_lose_their_segments_and_no_row() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let driver = lab.howdah(&["run", &plan, "--json"]).start();
    lab.until_walked(500).await;
    let run = lab.run_id().await;
    let (mut dies, sleeps) = (member(&lab, &run), member(&lab, &run));
    lab.until("SELECT count(DISTINCT epoch) = 2 FROM howdah.segment WHERE epoch < 0 AND NOT done AND rows_walked > 0")
        .await;
    dies.kill_hard();
    // As long as a host that was suspended: its lease runs out, and it knows nothing of that when it wakes up.
    sleeps.signal(Signal::SIGSTOP);
    lab.until("SELECT count(*) = 2 FROM howdah.member WHERE left_at IS NOT NULL").await;
    lab.until("SELECT count(*) = 0 FROM howdah.segment WHERE epoch < 0 AND NOT done").await;
    sleeps.signal(Signal::SIGCONT);
    let ended = driver.wait().expect_code(0);
    let gone = ended.events_of("notice").iter().filter(|text| text.contains("is gone")).count();
    assert!(gone >= 2, "{:?}", ended.events());
    // It joined again, or found the run over.
    sleeps.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_outlives_its_driver_and_goes_on_with_the_next_one() {
    let lab = Lab::open().await;
    let plan = items(&lab, 40_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(500).await;
    let run = lab.run_id().await;
    let member = member(&lab, &run);
    until_members_walk(&lab, 300).await;
    driver.kill_hard();
    lab.until_undriven().await;
    let next = lab.howdah(&["resume", &run, "--headless"]).start();
    lab.until("SELECT count(*) = 2 FROM howdah.member").await;
    lab.until("SELECT count(*) > 0 FROM howdah.segment WHERE epoch = -2").await;
    next.wait().expect_code(0);
    member.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plans_never_change_one_table_at_once() {
    let lab = Lab::open().await;
    let plan = items(&lab, 20_000).await;
    let other = lab.plan("other.toml", "[[step]]\nname = \"x\"\nbackfill = \"items\"\nset = { n = \"n\" }\n");
    let other = other.to_str().expect("a path");
    let driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(100).await;
    let refused = lab.howdah(&["run", other, "--headless"]).run();
    assert!(refused.stderr().contains("of `shared` changes items, driven by"), "{}", refused.stderr());
    assert_eq!(refused.code(), Some(1));
    driver.wait().expect_code(0);
    lab.howdah(&["run", other, "--headless"]).run().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_begin_at_once_in_a_new_database_make_one_ledger() {
    let lab = Lab::open().await;
    let table = |no: usize| format!("CREATE TABLE t{no} (id int PRIMARY KEY, n int); INSERT INTO t{no} VALUES (1, 0)");
    let mut runs = Vec::new();
    for no in 0..8 {
        lab.sql(&table(no)).await;
        let plan =
            format!("name = \"p{no}\"\n[[step]]\nname = \"x\"\nbackfill = \"t{no}\"\nset = {{ n = \"n + 1\" }}\n");
        runs.push(lab.plan(&format!("p{no}.toml"), &plan));
    }
    let runs: Vec<Running> =
        runs.iter().map(|plan| lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start()).collect();
    for run in runs {
        run.wait().expect_code(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_run_that_is_stopped_end_with_it_and_are_welcome_when_it_is_resumed() {
    let lab = Lab::open().await;
    let plan = items(&lab, 40_000).await;
    let driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(300).await;
    let run = lab.run_id().await;
    let first = member(&lab, &run);
    until_members_walk(&lab, 300).await;
    lab.howdah(&["stop", "--wait"]).run().expect_code(0);
    driver.wait().expect_code(3);
    first.wait().expect_code(3);
    let still = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    let held = lab.number("SELECT count(*) FROM howdah.segment WHERE epoch < 0 AND NOT done").await;
    assert_eq!(held, 0, "it gave back what it held");
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n = 1").await, still);
    let next = lab.howdah(&["resume", &run, "--headless"]).start();
    let second = member(&lab, &run);
    next.wait().expect_code(0);
    second.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}
