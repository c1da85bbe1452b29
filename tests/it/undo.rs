//! Undo: the table is what it was before, row by row; and where somebody has changed a row since, theirs is kept.

use std::time::Duration;

use nix::libc::SIGKILL;

use crate::support::{Dice, Lab};

/// Values of many types, with NULLs among them.
async fn items(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, txt text, n int, price numeric, at timestamptz, tags text[],
                             data jsonb, raw bytea, other int NOT NULL DEFAULT 0);
         INSERT INTO items SELECT i * 3, CASE WHEN i % 5 > 0 THEN 'Text ''\"\\ ' || i END, CASE WHEN i % 7 > 0 THEN i END,
             i / 7.0, CASE WHEN i % 3 > 0 THEN '2026-01-01Z'::timestamptz + i * interval '1.000001 s' END,
             CASE WHEN i % 4 > 0 THEN ARRAY['a', NULL, i::text] END, jsonb_build_object('i', i, 'none', NULL),
             decode(md5(i::text), 'hex') FROM generate_series(1, {rows}) i;
         CREATE TABLE before AS TABLE items; CREATE TABLE trace (id int GENERATED ALWAYS AS IDENTITY, what text);
         ANALYZE items"
    ))
    .await;
}

/// Rows that are not as they were: in either direction, as often as they are there.
const DIFFERENT: &str = "SELECT count(*) FROM (
    (TABLE before EXCEPT ALL TABLE items) UNION ALL (TABLE items EXCEPT ALL TABLE before)) different";

async fn expect_as_before(lab: &Lab) {
    assert_eq!(lab.number(DIFFERENT).await, 0, "rows that are not as they were");
}

fn plan_of(limits: &str) -> String {
    format!(
        r#"
name = "changes"
[limits]
workers = 4
{limits}
[[step]]
name = "first"
statement = "INSERT INTO trace (what) VALUES ('first up')"
down = "INSERT INTO trace (what) VALUES ('first down')"
[[step]]
name = "second"
statement = "INSERT INTO trace (what) VALUES ('second up')"
down = "INSERT INTO trace (what) VALUES ('second down')"
[[step]]
name = "texts"
backfill = "items"
set = {{ txt = "upper(txt)", tags = "tags || 'z'::text", data = "data || '{{\"new\": 1}}'", at = "now()" }}
undo = "auto"
[[step]]
name = "numbers"
backfill = "items"
set = {{ n = "n + 1", price = "price * 2", raw = "raw || '\\x00'" }}
undo = "auto"
"#
    )
}

const SMALL: &str = "batch = { start = 100, min = 50, max = 100 }";

/// The run that is taken back: the oldest. Undo runs come after it.
async fn first_run(lab: &Lab) -> String {
    lab.text("SELECT right(id::text, 8) FROM howdah.run ORDER BY created_at LIMIT 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_undo_the_table_is_what_it_was_and_statements_are_taken_back_in_reverse_order() {
    let lab = Lab::open().await;
    items(&lab, 20_000).await;
    let plan = lab.plan("changes.toml", &plan_of(SMALL));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    assert_eq!(lab.number(DIFFERENT).await, 40_000, "every row was changed");
    let id = first_run(&lab).await;
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(0);
    expect_as_before(&lab).await;
    let trace = lab.text("SELECT string_agg(what, ', ' ORDER BY id) FROM trace").await;
    assert_eq!(trace, "first up, second up, second down, first down");
    let undoes = lab.number("SELECT count(*) FROM howdah.run WHERE undoes IS NOT NULL AND state = 'done'").await;
    assert_eq!(undoes, 1, "undo is itself a run");
    // What is undone is not undone twice.
    let again = lab.howdah(&["undo", &id, "--headless", "--yes"]).run();
    assert_ne!(again.code(), Some(101), "{}", again.stderr());
    expect_as_before(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_on_its_way_and_an_undo_killed_twenty_times_leave_the_table_as_it_was() {
    let lab = Lab::open().await;
    items(&lab, 100_000).await;
    let mut dice = Dice::of_test(20);
    let plan = lab.plan("changes.toml", &plan_of(SMALL));
    run_killed(&lab, &["run", plan.to_str().expect("a path"), "--headless"], 5, &mut dice).await;
    assert_eq!(lab.number(DIFFERENT).await, 200_000, "every row was changed");
    let id = first_run(&lab).await;
    let kills = run_killed(&lab, &["undo", &id, "--headless", "--yes"], 20, &mut dice).await;
    assert!(kills >= 10, "only {kills} kills: give the test more rows");
    expect_as_before(&lab).await;
    let trace = lab.text("SELECT string_agg(what, ', ' ORDER BY id) FROM trace").await;
    assert_eq!(trace, "first up, second up, second down, first down");
    let conflicts = lab.number("SELECT count(*) FROM howdah.quarantine").await;
    assert_eq!(conflicts, 0, "its own work is no conflict to an undo that goes on");
}

/// Runs a command and resumes its run, killed at random instants, to its end. How often it was killed.
async fn run_killed(lab: &Lab, command: &[&str], most: u32, dice: &mut Dice) -> u32 {
    let before = lab.runs("true").await;
    let mut kills = 0;
    loop {
        let is_begun = lab.runs("true").await > before;
        let mut running = lab.howdah(if is_begun { &["resume", "--headless"] } else { command }).start();
        if kills < most {
            // The instant of the kill is the point of these tests.
            std::thread::sleep(Duration::from_millis(20 + dice.below(300)));
            running.kill_hard();
        }
        let ended = running.wait();
        if ended.signal() != Some(SIGKILL) {
            let _ = ended.expect_code(0);
            return kills;
        }
        kills += 1;
        lab.until_undriven().await;
        // Killed after its end.
        if lab.runs("true").await > before && lab.unfinished().await == 0 {
            return kills;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_somebody_has_changed_since_are_kept_and_listed() {
    let lab = Lab::open().await;
    items(&lab, 3000).await;
    let plan = lab.plan("changes.toml", &plan_of(SMALL));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    // Columns that the run has set; one that it has not; and a row that is gone.
    lab.sql(
        "UPDATE items SET n = -999 WHERE id IN (30, 300, 3000); UPDATE items SET txt = NULL WHERE id = 6003;
         UPDATE items SET other = 7 WHERE id IN (33, 303); UPDATE before SET other = 7 WHERE id IN (33, 303);
         DELETE FROM items WHERE id = 90; DELETE FROM before WHERE id = 90",
    )
    .await;
    let id = first_run(&lab).await;
    let _ = lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(4);
    let undo = lab.run_id().await;
    assert_ne!(undo, id);
    let list = lab.howdah(&["quarantine", "list", &undo]).run().expect_code(0).stdout();
    for key in ["30", "300", "3000", "6003"] {
        assert!(list.split(|c: char| !c.is_ascii_digit()).any(|word| word == key), "{key} is not in:\n{list}");
    }
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n = -999").await, 3, "what somebody wrote is kept");
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE id = 6003 AND txt IS NULL").await, 1);
    let others = format!("{DIFFERENT} WHERE id NOT IN (30, 300, 3000, 6003)");
    assert_eq!(
        lab.number(&others).await,
        0,
        "all the others are as they were, and what the run did not set is untouched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_step_alone_can_be_taken_back() {
    let lab = Lab::open().await;
    items(&lab, 3000).await;
    let plan = lab.plan("changes.toml", &plan_of(SMALL));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let id = first_run(&lab).await;
    lab.howdah(&["undo", &id, "--step", "numbers", "--headless", "--yes"]).run().expect_code(0);
    let left = |columns: &str| {
        format!(
            "SELECT count(*) FROM items i JOIN before b USING (id)
             WHERE ROW({0}) IS DISTINCT FROM ROW({1})",
            columns.replace('$', "i"),
            columns.replace('$', "b")
        )
    };
    assert_eq!(lab.number(&left("$.n, $.price, $.raw")).await, 0, "the step is taken back");
    assert_eq!(lab.number(&left("$.txt, $.tags, $.data, $.at")).await, 3000, "the other one is not");
    assert_eq!(lab.number("SELECT count(*) FROM trace").await, 2, "no statement was taken back");
    lab.howdah(&["undo", &id, "--step", "nonsense", "--headless", "--yes"])
        .run()
        .expect_code(2)
        .expect_words(&["nonsense", "numbers"]);
    // And then the rest.
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(0);
    expect_as_before(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_ones_own_is_taken_back_by_the_one_that_the_plan_names() {
    let lab = Lab::open().await;
    items(&lab, 5000).await;
    let plan = lab.plan(
        "own.toml",
        r#"
name = "own"
[limits]
workers = 4
batch = { start = 100, min = 50, max = 100 }
[[step]]
name = "numbers"
backfill = "items"
alias = "i"
sql = "UPDATE items AS i SET n = i.n + 10 WHERE {batch}"
undo_sql = "UPDATE items AS i SET n = i.n - 10 WHERE {batch}"
"#,
    );
    let mut dice = Dice::of_test(50);
    run_killed(&lab, &["run", plan.to_str().expect("a path"), "--headless"], 3, &mut dice).await;
    assert_eq!(lab.number("SELECT sum(i.n - b.n)::bigint FROM items i JOIN before b USING (id)").await, 10 * 4286);
    let id = first_run(&lab).await;
    run_killed(&lab, &["undo", &id, "--headless", "--yes"], 3, &mut dice).await;
    expect_as_before(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_log_that_was_dropped_is_gone_and_the_run_can_no_longer_be_taken_back() {
    let lab = Lab::open().await;
    items(&lab, 3000).await;
    let plan = lab.plan("changes.toml", &plan_of(SMALL));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let logs = "SELECT count(*) FROM pg_tables WHERE schemaname = 'howdah' AND tablename LIKE 'undo%'";
    assert!(lab.number(logs).await > 0, "old values are kept in schema howdah");
    let id = first_run(&lab).await;
    lab.howdah(&["undo", "--drop-log", &id, "--yes"]).run().expect_code(0);
    assert_eq!(lab.number(logs).await, 0, "the log is gone");
    let refused = lab.howdah(&["undo", &id, "--headless", "--yes"]).run();
    assert!(matches!(refused.code(), Some(1 | 2)), "{:?}\n{}", refused.code(), refused.stderr());
    let _ = refused.expect_words(&["undo"]);
    assert_eq!(lab.number(DIFFERENT).await, 6000, "nothing was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_keeps_no_old_values_cannot_be_taken_back_and_says_so() {
    let lab = Lab::open().await;
    items(&lab, 500).await;
    let plan = lab.plan(
        "plain.toml",
        "name = \"plain\"\n[[step]]\nname = \"numbers\"\nbackfill = \"items\"\nset = { n = \"n + 1\" }\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let refused = lab.howdah(&["undo", "--headless", "--yes"]).run();
    assert!(matches!(refused.code(), Some(1 | 2)), "{:?}\n{}", refused.code(), refused.stderr());
    let _ = refused.expect_words(&["numbers", "undo = \"auto\""]);
}
