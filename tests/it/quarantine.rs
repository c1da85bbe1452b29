//! Rows whose data is wrong are set aside, exactly they, and everything else is changed.

use std::time::Duration;

use nix::libc::SIGKILL;
use serde_json::Value;

use crate::support::{Dice, Lab};

/// Numbers as text, of which some hold none.
async fn items(lab: &Lab, rows: u64, poison: &[u64]) {
    let ids = poison.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    lab.sql(&format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, txt text NOT NULL, n int, hits int NOT NULL DEFAULT 0);
         INSERT INTO items SELECT i, (i % 1000)::text FROM generate_series(0, {rows} - 1) i;
         UPDATE items SET txt = 'x' || id WHERE id IN ({ids});
         CREATE TABLE poison AS SELECT id FROM items WHERE id IN ({ids}); ANALYZE items"
    ))
    .await;
}

/// A plan over `items`, with `limits` and lines of the step.
fn plan_of(limits: &str, step: &str) -> String {
    format!(
        r#"
name = "numbers"
[limits]
workers = 4
{limits}
[[step]]
name = "numbers"
backfill = "items"
set = {{ n = "txt::int", hits = "hits + 1" }}
{step}
"#
    )
}

const SMALL: &str = "batch = { start = 200, min = 50, max = 200 }";

/// Rows of the quarantine that are not resolved.
const OPEN: &str = "SELECT count(*) FROM howdah.quarantine WHERE resolved_at IS NULL";

/// Everything but the poison is changed once, and the poison is as it was.
async fn expect_all_but_the_poison(lab: &Lab) {
    let wrong = lab
        .number(
            "SELECT count(*) FROM items LEFT JOIN poison p USING (id)
             WHERE CASE WHEN p IS NULL THEN n IS DISTINCT FROM (id % 1000)::int OR hits <> 1 ELSE n IS NOT NULL OR hits <> 0 END",
        )
        .await;
    assert_eq!(wrong, 0, "sound rows that were not changed once, or poison that was");
    let differ = lab
        .number(
            "SELECT count(*) FROM (SELECT key[1]::bigint AS id FROM howdah.quarantine WHERE resolved_at IS NULL) q
             FULL JOIN poison p USING (id) WHERE p.id IS NULL OR q.id IS NULL",
        )
        .await;
    assert_eq!(differ, 0, "the quarantine holds the poison and nothing else");
}

async fn expect_all_changed_once(lab: &Lab) {
    let wrong = lab.number("SELECT count(*) FROM items WHERE n IS DISTINCT FROM (id % 1000)::int OR hits <> 1").await;
    assert_eq!(wrong, 0, "rows changed other than once");
}

async fn mend(lab: &Lab, which: &str) {
    lab.sql(&format!("UPDATE items SET txt = (id % 1000)::text WHERE id IN (SELECT id FROM poison) AND {which}")).await;
}

/// A list as JSON: one array, or an object a line.
fn rows_of(json: &str) -> Vec<Value> {
    match serde_json::from_str(json) {
        Ok(Value::Array(rows)) => rows,
        _ => json.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_seven_poison_rows_among_a_million_are_set_aside_and_changed_once_they_are_mended() {
    let lab = Lab::open().await;
    let poison = Dice::of_test(37).distinct(37, 1_000_000);
    items(&lab, 1_000_000, &poison).await;
    let plan = lab.plan("numbers.toml", &plan_of("", ""));
    let plan = plan.to_str().expect("a path");
    let ended = lab.howdah(&["run", plan, "--headless"]).run().expect_code(4).expect_words(&["37 rows quarantined"]);
    drop(ended);
    expect_all_but_the_poison(&lab).await;
    let told = lab
        .number(
            "SELECT count(*) FROM howdah.quarantine q JOIN poison p ON p.id = q.key[1]::bigint
             WHERE sqlstate = '22P02' AND message LIKE 'invalid input syntax for type integer: \"x%'
               AND row_data ->> 'txt' = 'x' || p.id AND (row_data ->> 'id')::bigint = p.id AND row_data ->> 'n' IS NULL",
        )
        .await;
    assert_eq!(told, 37, "each with its key, its row, the SQLSTATE and the message");
    assert_eq!(lab.number("SELECT sum(quarantined)::bigint FROM howdah.segment").await, 37);
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert_eq!(walked, 1_000_000, "the ledger counts each row once");

    let id = lab.run_id().await;
    let list = lab.howdah(&["quarantine", "list", &id]).run().expect_code(0).stdout();
    let json = lab.howdah(&["quarantine", "list", &id, "--json"]).run().expect_code(0).stdout();
    let csv = lab.howdah(&["quarantine", "export", &id]).run().expect_code(0).stdout();
    for id in &poison {
        for (form, text) in [("list", &list), ("JSON", &json), ("CSV", &csv)] {
            assert!(text.contains(&id.to_string()), "{id} is not in the {form}:\n{text}");
        }
    }
    assert!(list.contains("22P02") && list.contains("invalid input syntax"), "{list}");
    let rows = rows_of(&json);
    assert_eq!(rows.len(), 37, "{json}");
    assert!(rows.iter().all(|row| row["sqlstate"] == "22P02" && !row["key"].is_null()), "{json}");
    assert_eq!(csv.trim_end().lines().count(), 38, "a header, and a line for each row:\n{csv}");

    // Half of them are mended: those are changed, the others stay.
    mend(&lab, "id IN (SELECT id FROM poison ORDER BY id LIMIT 20)").await;
    lab.howdah(&["quarantine", "retry", &id]).run().expect_code(4);
    lab.sql("DELETE FROM poison WHERE id IN (SELECT id FROM poison ORDER BY id LIMIT 20)").await;
    expect_all_but_the_poison(&lab).await;
    assert_eq!(lab.number("SELECT min(attempts)::bigint FROM howdah.quarantine WHERE resolved_at IS NULL").await, 2);
    mend(&lab, "true").await;
    lab.howdah(&["quarantine", "retry", &id]).run().expect_code(0);
    expect_all_changed_once(&lab).await;
    assert_eq!(lab.number(OPEN).await, 0);
    let rest = lab.howdah(&["quarantine", "list", &id, "--json"]).run().expect_code(0).stdout();
    assert_eq!(rows_of(&rest).len(), 0, "{rest}");
    // Nothing is left to retry, and nothing is changed twice.
    lab.howdah(&["quarantine", "retry", &id]).run().expect_code(0);
    expect_all_changed_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_under_a_condition_is_told_and_never_swept_for_ever() {
    let lab = Lab::open().await;
    let poison = Dice::of_test(3).distinct(37, 20_000);
    items(&lab, 20_000, &poison).await;
    let plan = lab.plan("numbers.toml", &plan_of(SMALL, "where = \"n IS NULL\""));
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(4);
    let _ = ended.expect_words(&["37 rows quarantined"]);
    expect_all_but_the_poison(&lab).await;
    assert!(lab.number("SELECT max(sweep)::bigint FROM howdah.segment").await <= 2, "it swept again and again");
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "done");
    mend(&lab, "true").await;
    lab.howdah(&["quarantine", "retry"]).run().expect_code(0);
    expect_all_changed_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_a_constraint_is_set_aside_like_one_that_cannot_be_computed() {
    let lab = Lab::open().await;
    let poison = [0, 1, 199, 200, 1500, 1501, 1502, 2999];
    items(&lab, 3000, &poison).await;
    // Nothing is wrong with the text; the table does not take the number.
    lab.sql(
        "UPDATE items SET txt = (id % 1000)::text;
         CREATE TABLE bad AS TABLE poison; CREATE FUNCTION is_bad(bigint) RETURNS boolean LANGUAGE sql STABLE AS
             'SELECT EXISTS (SELECT 1 FROM bad WHERE id = $1)';
         ALTER TABLE items ADD CONSTRAINT sound CHECK (n IS NULL OR NOT is_bad(id)) NOT VALID",
    )
    .await;
    let plan = lab.plan("numbers.toml", &plan_of(SMALL, ""));
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(4);
    let _ = ended.expect_words(&["8 rows quarantined"]);
    expect_all_but_the_poison(&lab).await;
    let told = lab
        .number("SELECT count(*) FROM howdah.quarantine WHERE sqlstate = '23514' AND message LIKE '%\"sound\"%'")
        .await;
    assert_eq!(told, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_more_than_may_be_set_aside_stops_the_run_and_it_can_be_resumed() {
    let lab = Lab::open().await;
    let poison = Dice::of_test(10).distinct(37, 20_000);
    items(&lab, 20_000, &poison).await;
    let few = format!("{SMALL}\nmax_quarantined = 10");
    let plan = lab.plan("numbers.toml", &plan_of(&few, ""));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["max_quarantined", "howdah resume"]);
    let aside = lab.number(OPEN).await;
    assert!(aside <= 10, "{aside} rows are set aside");
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits > 1").await, 0);
    // Again: it stops again, and changes nothing twice.
    lab.howdah(&["resume", "--headless"]).run().expect_code(1).expect_words(&["max_quarantined"]);
    let many = few.replace("max_quarantined = 10", "max_quarantined = 100");
    lab.plan("numbers.toml", &plan_of(&many, ""));
    lab.howdah(&["resume", "--headless"]).run().expect_code(4);
    expect_all_but_the_poison(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_share_of_poison_stops_the_run() {
    let lab = Lab::open().await;
    let poison = Dice::of_test(5).distinct(1000, 20_000);
    items(&lab, 20_000, &poison).await;
    let limits = format!("{SMALL}\nmax_quarantined = 100000\n[alerts]\nerror_rate = \"1%\"");
    let plan = lab.plan("numbers.toml", &plan_of(&limits, ""));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["error_rate", "howdah resume"]);
    assert!(lab.number(OPEN).await < 1000, "it went on to the end");
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits > 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_while_it_sets_rows_aside_sets_each_aside_once_and_changes_the_rest_once() {
    let lab = Lab::open().await;
    let mut dice = Dice::of_test(77);
    let poison = dice.distinct(77, 150_000);
    items(&lab, 150_000, &poison).await;
    let plan = lab.plan("numbers.toml", &plan_of("batch = { start = 100, min = 50, max = 100 }", ""));
    let plan = plan.to_str().expect("a path");
    let mut kills = 0;
    let ended = loop {
        let is_begun = lab.runs("true").await == 1;
        let arguments: &[&str] = if is_begun { &["resume", "--headless"] } else { &["run", plan, "--headless"] };
        let mut running = lab.howdah(arguments).start();
        if kills < 15 {
            // The instant of the kill is the point of this test.
            std::thread::sleep(Duration::from_millis(20 + dice.below(300)));
            running.kill_hard();
        }
        let ended = running.wait();
        if ended.signal() != Some(SIGKILL) {
            break ended;
        }
        kills += 1;
        lab.until_undriven().await;
        let is_done = lab.runs("state = 'done'").await == 1;
        assert!(!is_done, "killed after its end, after {kills} kills: give the test more rows");
    };
    let _ = ended.expect_code(4).expect_words(&["77 rows quarantined"]);
    assert!(kills >= 5, "only {kills} kills: give the test more rows");
    expect_all_but_the_poison(&lab).await;
    assert_eq!(lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await, 150_000);
}
