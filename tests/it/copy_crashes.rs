//! Each row copied exactly once, whatever dies and whenever, on either side.

use std::time::Duration;

use nix::libc::SIGKILL;

use crate::copy::{expect_same, plan_of};
use crate::proxy::Proxy;
use crate::support::{Dice, Lab};

/// Without a key on the target a row that came twice would stay twice.
async fn two(rows: u32) -> (Lab, Lab) {
    let (from, to) = (Lab::open().await, Lab::open().await);
    from.sql(&format!(
        "CREATE TABLE notes (id bigint PRIMARY KEY, txt text, n numeric);
         INSERT INTO notes SELECT i * 3, repeat('x', i % 50) || i, i / 7.0 FROM generate_series(1, {rows}) i; ANALYZE notes"
    ))
    .await;
    to.sql("CREATE TABLE notes (id bigint NOT NULL, txt text, n numeric)").await;
    (from, to)
}

async fn killed_at_random((from, source): (&Lab, &str), to: &Lab, plan: &str, kills: u32, seed: u64) {
    let mut dice = Dice::of_test(seed);
    let mut killed = 0;
    let mut fresh = true;
    while killed < kills {
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        let mut running = to.howdah(arguments).start();
        // The instant of the kill is the point of this test.
        std::thread::sleep(Duration::from_millis(20 + dice.below(400)));
        running.kill_hard();
        let ended = running.wait();
        match (ended.signal(), ended.code()) {
            (Some(SIGKILL), _) => {
                killed += 1;
                to.until_undriven().await;
                fresh = to.unfinished().await == 0;
            }
            (_, Some(0)) => fresh = true,
            other => panic!("after {killed} kills: {other:?}\n{}", ended.stderr()),
        }
        if fresh && to.runs("state = 'done'").await > 0 {
            expect_same(from, source, to, "notes").await;
            to.sql("TRUNCATE notes; DELETE FROM howdah.run").await;
        }
    }
    if to.unfinished().await > 0 || to.runs("true").await == 0 {
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        to.howdah(arguments).run().expect_code(0);
    }
    expect_same(from, source, to, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_between_servers_killed_thirty_times_at_random_instants_copies_each_row_once() {
    let (from, to) = two(60_000).await;
    let plan = plan_of(&to, &format!("copy = 'notes'\nfrom = '{}'", from.url));
    killed_at_random((&from, "notes"), &to, &plan, 30, 20_261_126).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_within_a_database_killed_thirty_times_at_random_instants_copies_each_row_once() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE SCHEMA old; CREATE TABLE old.notes (id bigint PRIMARY KEY, txt text, n numeric);
         INSERT INTO old.notes SELECT i * 3, repeat('x', i % 50) || i, i / 7.0 FROM generate_series(1, 60000) i;
         ANALYZE old.notes; CREATE TABLE notes (id bigint NOT NULL, txt text, n numeric)",
    )
    .await;
    let plan = plan_of(&lab, "copy = 'old.notes'\nto = 'notes'");
    killed_at_random((&lab, "old.notes"), &lab, &plan, 30, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_at_any_failpoint_copies_each_row_once() {
    let (from, to) = two(2000).await;
    let plan = plan_of(&to, &format!("copy = 'notes'\nfrom = '{}'\nverify = 'checksum'", from.url));
    for name in [
        "step.started",
        "sweep.planned",
        "batch.begun",
        "batch.bounded",
        "batch.changed",
        "batch.recorded",
        "batch.committed",
        "step.counted",
        "step.finished",
        "run.finishing",
    ] {
        for occurrence in if name.starts_with("batch.") { vec![1, 4] } else { vec![1] } {
            to.sql("TRUNCATE notes; DROP SCHEMA IF EXISTS howdah CASCADE").await;
            let armed = format!("{name}=kill@{occurrence}");
            let killed = to.howdah(&["run", &plan, "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
            to.until_undriven().await;
            let resumed = to.howdah(&["resume", "--headless"]).run();
            assert_eq!(resumed.code(), Some(0), "{armed}:\n{}", resumed.stderr());
            expect_same(&from, "notes", &to, "notes").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_killed_half_way_is_waited_for() {
    let (mut from, to) = two(60_000).await;
    let plan = plan_of(&to, &format!("copy = 'notes'\nfrom = '{}'", from.url));
    let running = to.howdah(&["run", &plan, "--headless"]).start();
    to.until_walked(2000).await;
    from.server.stop_immediate().await.expect("a crash");
    to.until("SELECT sum(retries) > 0 FROM howdah.step").await;
    from.server.restart().await.expect("a server again");
    running.wait().expect_code(0);
    expect_same(&from, "notes", &to, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_killed_half_way_is_waited_for() {
    let (from, mut to) = two(60_000).await;
    let plan = plan_of(&to, &format!("copy = 'notes'\nfrom = '{}'", from.url));
    let mut running = to.howdah(&["run", &plan, "--headless"]).start();
    to.until_walked(2000).await;
    to.server.stop_immediate().await.expect("a crash");
    running.until_said("again in").await;
    to.server.restart().await.expect("a server again");
    running.wait().expect_code(0);
    expect_same(&from, "notes", &to, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_to_the_source_that_is_cut_again_and_again_loses_no_row() {
    let from = Lab::over_tcp("secret").await;
    let to = Lab::open().await;
    from.sql(
        "CREATE TABLE notes (id bigint PRIMARY KEY, txt text, n numeric);
         INSERT INTO notes SELECT i * 3, repeat('x', i % 50) || i, i / 7.0 FROM generate_series(1, 40000) i; ANALYZE notes",
    )
    .await;
    to.sql("CREATE TABLE notes (id bigint NOT NULL, txt text, n numeric)").await;
    let (proxy, through) = Proxy::before_url(&from.url);
    let plan = plan_of(&to, &format!("copy = 'notes'\nfrom = '{through}'"));
    let mut running = to.howdah(&["run", &plan, "--headless"]).start();
    let mut dice = Dice::of_test(11);
    to.until_walked(500).await;
    for _ in 0..10 {
        proxy.cut().await;
        std::thread::sleep(Duration::from_millis(50 + dice.below(200)));
        if running.child.try_wait().expect("a status").is_some() {
            break;
        }
    }
    running.wait().expect_code(0);
    expect_same(&from, "notes", &to, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_go_to_another_database_keep_their_record_there_whatever_is_killed() {
    let (from, to) = two(20_000).await;
    from.sql("UPDATE notes SET n = 99999 WHERE id = 30").await;
    to.sql("ALTER TABLE notes ADD CHECK (n < 50000)").await;
    let plan = plan_of(&from, &format!("copy = 'notes'\ndatabase = '{}'\nverify = 'checksum'", to.url));
    from.howdah(&["check", &plan]).run().expect_code(0);
    let mut dice = Dice::of_test(29);
    let mut armed =
        vec!["sweep.planned=kill@1", "batch.recorded=kill@3", "batch.committed=kill@9", "step.counted=kill@1"];
    armed.resize(12, "");
    for (at, armed) in armed.into_iter().enumerate() {
        let arguments: &[&str] = if at == 0 { &["run", &plan, "--headless"] } else { &["resume", "--headless"] };
        let mut running = from.howdah(arguments).env("HOWDAH_FAILPOINTS", armed).start();
        if armed.is_empty() {
            std::thread::sleep(Duration::from_millis(20 + dice.below(150)));
            running.kill_hard();
        }
        running.wait();
        from.until_undriven().await;
        if from.unfinished().await == 0 {
            break;
        }
    }
    if from.unfinished().await > 0 {
        from.howdah(&["resume", "--headless"]).run().expect_words(&["1 set aside in the ledger of", "checksums agree"]);
    }
    expect_same(&from, "(SELECT * FROM notes WHERE id <> 30)", &to, "notes").await;
    assert_eq!(from.number("SELECT count(*) FROM howdah.segment").await, 0, "the record is where the rows are");
    assert_eq!(to.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await, 20_000);
    // What is set aside is listed and tried again where it was to go.
    from.sql("UPDATE notes SET n = 1 WHERE id = 30").await;
    let with_url = std::fs::read_to_string(&plan).expect("the plan");
    let with_url = from.plan("with-url.toml", &format!("{with_url}\n[database]\nurl = '{}'\n", from.url));
    let run = to.run_id().await;
    to.howdah(&["quarantine", "list", &run]).run().expect_code(0).expect_words(&["30"]);
    to.howdah(&["--database", &to.url, "quarantine", "retry", &run, "--plan", with_url.to_str().expect("a path")])
        .run()
        .expect_code(0)
        .expect_words(&["1 changed"]);
    expect_same(&from, "notes", &to, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_was_replaced_is_refused_where_rows_go_as_well() {
    let (from, to) = two(20_000).await;
    let plan = plan_of(&from, &format!("copy = 'notes'\ndatabase = '{}'", to.url));
    let running = from.howdah(&["run", &plan, "--headless"]).start();
    to.until_walked(500).await;
    // What another driver does there first when it goes on with the step. The old one lives, and has its lock at home.
    to.sql(
        "BEGIN; UPDATE howdah.run SET epoch = epoch + 1; UPDATE howdah.step SET epoch = epoch + 1;
         UPDATE howdah.segment SET epoch = epoch + 1; COMMIT",
    )
    .await;
    let then = to.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    running.wait().expect_code(1).expect_words(&["another driver has taken this run over"]);
    assert_eq!(to.number("SELECT count(*) FROM notes").await, then, "the replaced driver copied no row more");
    from.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_same(&from, "notes", &to, "notes").await;
}
