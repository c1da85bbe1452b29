//! Rows that were set aside are tried again: each is changed once, or stays set aside, or is told to be gone.

use howdah::engine::failpoint;
use nix::libc::SIGKILL;
use serde_json::Value;
use sqlx::{Connection, Executor};

use crate::support::Lab;

/// Numbers as text; those of `poison` hold none. `hits` counts the changes.
async fn items(lab: &Lab, rows: u32, poison: &str) {
    lab.sql(&format!(
        "CREATE TABLE items (id bigint PRIMARY KEY, txt text NOT NULL, n int, hits int NOT NULL DEFAULT 0);
         INSERT INTO items SELECT i * 10, CASE WHEN i * 10 IN ({poison}) THEN 'x' ELSE '' END || i
         FROM generate_series(1, {rows}) i; ANALYZE items"
    ))
    .await;
}

fn plan_of(lab: &Lab, step: &str) -> String {
    let text = format!(
        r#"
name = "numbers"
[limits]
workers = 1
batch = {{ start = 100, min = 50, max = 100 }}
[retry]
base = "50ms"
[[step]]
name = "numbers"
backfill = "items"
set = {{ n = "txt::int", hits = "hits + 1" }}
{step}
"#
    );
    lab.plan("numbers.toml", &text).to_str().expect("a path").to_owned()
}

const OPEN: &str = "SELECT count(*) FROM howdah.quarantine WHERE resolved_at IS NULL";

/// The ledger's sums follow what is set aside and what is changed.
async fn expect_sums(lab: &Lab, aside: i64, changed: i64) {
    let sums = "SELECT format('%s %s', sum(quarantined), sum(rows_changed)) FROM howdah.segment";
    assert_eq!(lab.text(sums).await, format!("{aside} {changed}"));
    assert_eq!(lab.number(OPEN).await, aside);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_told_as_what_became_of_it() {
    let lab = Lab::open().await;
    items(&lab, 1000, "10, 20, 30, 40, 10000").await;
    let plan = plan_of(&lab, "where = \"n IS NULL\"");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4).expect_words(&[
        "5 rows quarantined",
        "0 left, 5 set aside",
        "howdah quarantine list",
    ]);
    expect_sums(&lab, 5, 995).await;
    let id = lab.run_id().await;
    lab.howdah(&["status", &id]).run().expect_code(0).expect_words(&["5 rows quarantined"]);
    // Mended; gone; filled in by somebody else; moved to another key. The last one is as it was.
    lab.sql(
        "UPDATE items SET txt = '1' WHERE id = 10; DELETE FROM items WHERE id = 20;
         UPDATE items SET n = 7 WHERE id = 30; UPDATE items SET id = 41 WHERE id = 40",
    )
    .await;
    lab.howdah(&["quarantine", "retry"]).run().expect_code(4).expect_words(&[
        "1 changed, 1 failed again, 2 gone, 1 with nothing to change any more",
        "failed again: numbers, id 10000: invalid input syntax for type integer: \"x1000\" (SQLSTATE 22P02)",
        "1 row set aside still",
    ]);
    expect_sums(&lab, 1, 996).await;
    assert_eq!(
        lab.text(
            "SELECT string_agg(id || ':' || coalesce(n::text, '-') || ':' || hits, ' ' ORDER BY id)
        FROM items WHERE id IN (10, 30, 41, 10000)"
        )
        .await,
        "10:1:1 30:7:0 41:-:0 10000:-:0"
    );
    lab.howdah(&["status", &id]).run().expect_code(0).expect_words(&["1 row quarantined"]);
    let all = lab.howdah(&["quarantine", "list", "--all"]).run().expect_code(0).stdout();
    assert_eq!(all.lines().count(), 6, "{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
    assert!(all.contains("the row is gone") && all.contains("resolved") && all.contains("aside"), "{all}");
    let said = lab.text("SELECT text FROM howdah.event WHERE kind = 'quarantined' ORDER BY id DESC LIMIT 1").await;
    assert!(said.contains("1 changed, 1 failed again"), "{said}");
    // The last one is mended as well.
    lab.sql("UPDATE items SET txt = '1000' WHERE id = 10000").await;
    lab.howdah(&["quarantine", "retry", "--step", "numbers"]).run().expect_code(0).expect_words(&["1 changed"]);
    expect_sums(&lab, 0, 997).await;
    lab.howdah(&["quarantine", "retry"]).run().expect_code(0).expect_words(&["no row of run"]);
    lab.howdah(&["quarantine", "list"]).run().expect_code(0).expect_words(&["5 rows resolved", "--all"]);
    lab.howdah(&["quarantine", "retry", "--step", "number"]).run().expect_code(2).expect_words(&["did you mean"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_killed_at_any_failpoint_changes_each_row_once() {
    let lab = Lab::open().await;
    items(&lab, 500, "10, 20, 30").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    lab.sql("CREATE TABLE was AS TABLE items; CREATE TABLE aside AS TABLE howdah.quarantine").await;
    for name in failpoint::RETRY {
        for occurrence in [1, 2, 3] {
            lab.sql(
                "TRUNCATE items; INSERT INTO items TABLE was; DELETE FROM howdah.quarantine;
                 INSERT INTO howdah.quarantine TABLE aside; UPDATE howdah.segment SET quarantined = 0;
                 UPDATE howdah.segment SET quarantined = 3, rows_changed = 0 WHERE segment = 0;
                 UPDATE items SET txt = '1' WHERE id IN (10, 20, 30)",
            )
            .await;
            let armed = format!("{name}=kill@{occurrence}");
            let killed = lab.howdah(&["quarantine", "retry"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
            lab.until_undriven().await;
            let differ = "SELECT count(*) FROM howdah.quarantine q JOIN items ON id = key[1]::bigint
                WHERE (resolved_at IS NOT NULL) <> (hits = 1)";
            assert_eq!(lab.number(differ).await, 0, "{armed}: changed and not resolved, or resolved and not changed");
            lab.howdah(&["quarantine", "retry"]).run().expect_code(0);
            assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits <> 1 OR n IS NULL").await, 0, "{armed}");
            let sums =
                "SELECT format('%s %s', sum(quarantined), sum(rows_changed)) FROM howdah.segment WHERE segment = 0";
            assert_eq!(lab.text(sums).await, "0 3", "{armed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_in_beside_it_is_left_alone() {
    let lab = Lab::open().await;
    items(&lab, 500, "200").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    lab.sql("UPDATE items SET txt = '20' WHERE id = 200").await;
    // The retry has its snapshot and waits for its row of the quarantine.
    let mut other = lab.session().await;
    let mut tx = other.begin().await.expect("a transaction");
    tx.execute("SELECT FROM howdah.quarantine FOR UPDATE").await.expect("a lock");
    let retry = lab.howdah(&["quarantine", "retry"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')").await;
    tx.execute("INSERT INTO items VALUES (199, '7'), (195, '8')").await.expect("rows");
    tx.commit().await.expect("a commit");
    let _ = retry.wait().expect_code(0).expect_words(&["1 changed"]);
    assert_eq!(lab.number("SELECT sum(hits)::bigint FROM items WHERE id IN (195, 199)").await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE id % 10 = 0 AND hits <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_written_meanwhile_is_changed_as_it_is_then() {
    let lab = Lab::open().await;
    items(&lab, 500, "200").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    lab.sql("UPDATE items SET txt = '20' WHERE id = 200").await;
    let mut other = lab.session().await;
    let mut tx = other.begin().await.expect("a transaction");
    tx.execute("UPDATE items SET txt = '21', hits = 5 WHERE id = 200").await.expect("a lock");
    let retry = lab.howdah(&["quarantine", "retry"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')").await;
    tx.commit().await.expect("a commit");
    let _ = retry.wait().expect_code(0).expect_words(&["1 changed"]);
    assert_eq!(lab.text("SELECT format('%s %s', n, hits) FROM items WHERE id = 200").await, "21 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_driven_or_superseded_is_not_tried_again() {
    let lab = Lab::open().await;
    items(&lab, 30_000, "200").await;
    let plan = plan_of(&lab, "");
    let running = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM howdah.quarantine)").await;
    lab.sql("UPDATE items SET txt = '20' WHERE id = 200").await;
    let words = format!("is being driven by process {}", running.child.id());
    lab.howdah(&["quarantine", "retry"]).run().expect_code(1).expect_words(&[&words]);
    lab.howdah(&["quarantine", "list"]).run().expect_code(0).expect_words(&["22P02"]);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().expect_code(3);
    // Stopped: its row can be mended at once, and the run goes on behind it.
    lab.howdah(&["quarantine", "retry"]).run().expect_code(0).expect_words(&["1 changed"]);
    let old = lab.run_id().await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits <> 1").await, 0);
    assert_eq!(lab.number("SELECT sum(rows_changed)::bigint FROM howdah.segment").await, 30_000);
    lab.sql("UPDATE howdah.run SET state = 'superseded'").await;
    lab.howdah(&["quarantine", "retry", &old]).run().expect_code(2).expect_words(&["superseded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_another_back_or_was_taken_back_is_not_tried_again() {
    let lab = Lab::open().await;
    items(&lab, 500, "200").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    let id = lab.run_id().await;
    lab.sql("UPDATE items SET txt = '20' WHERE id = 200").await;
    let other = "'00000000-0000-7000-8000-00000000abcd'";
    lab.sql(&format!("UPDATE howdah.run SET undoes = {other}")).await;
    lab.howdah(&["quarantine", "retry", &id]).run().expect_code(2).expect_words(&["takes run 0000abcd back"]);
    // As an undo of the whole run leaves it, and of a step of it.
    lab.sql(&format!(
        "UPDATE howdah.run SET undoes = NULL; CREATE TEMP TABLE undo AS TABLE howdah.run;
         UPDATE undo SET undoes = id, id = {other}; INSERT INTO howdah.run TABLE undo; DROP TABLE undo"
    ))
    .await;
    for (step, code) in [("NULL", 2), ("'numbers'", 2), ("'another'", 0)] {
        lab.sql(&format!("UPDATE howdah.run SET undo_step = {step} WHERE undoes IS NOT NULL")).await;
        let ended = lab.howdah(&["quarantine", "retry", &id]).run().expect_code(code);
        let _ = ended.expect_words(&[if code == 0 { "1 changed" } else { "is taken back by run 0000abcd" }]);
    }
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_mended_is_accepted_where_it_is_asked_for() {
    let lab = Lab::open().await;
    items(&lab, 500, "200, 210").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    let text = std::fs::read_to_string(&plan).expect("the plan");
    lab.plan("numbers.toml", &text.replace("txt::int", "ltrim(txt, 'x')::int"));
    lab.howdah(&["quarantine", "retry"]).run().expect_code(2).expect_words(&["--accept-changed-plan"]);
    lab.howdah(&["quarantine", "retry", "--accept-changed-plan"]).run().expect_code(0).expect_words(&["2 changed"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE hits <> 1 OR n <> id / 10").await, 0);
    // A plan that is wrong is told with its place, and nothing is marked as tried.
    lab.sql("UPDATE howdah.quarantine SET resolved_at = NULL").await;
    lab.plan("numbers.toml", &text.replace("txt::int", "oops(txt)"));
    let told = lab.howdah(&["quarantine", "retry", "--accept-changed-plan"]).run().expect_code(2);
    let _ = told.expect_words(&["oops", "^", "give the same command again"]);
    assert_eq!(lab.number(OPEN).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_trigger_holds_back_is_not_called_done() {
    let lab = Lab::open().await;
    items(&lab, 500, "200").await;
    let plan = plan_of(&lab, "where = \"n IS NULL\"");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    lab.sql(
        "UPDATE items SET txt = '20' WHERE id = 200; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN RETURN NULL; END'; CREATE TRIGGER no BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION no()",
    )
    .await;
    lab.howdah(&["quarantine", "retry"]).run().expect_code(4).expect_words(&["1 failed again", "trigger"]);
    assert_eq!(lab.number(OPEN).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_sweep_over_poison_sets_none_aside_twice() {
    let lab = Lab::open().await;
    items(&lab, 2000, "1010, 1020, 1030").await;
    // Rows come in behind the walk, on both sides of the poison.
    lab.sql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 15000 THEN
             INSERT INTO items (id, txt) VALUES (5, '1'), (5005, '1'); END IF; RETURN NULL; END $$;
         CREATE TRIGGER late AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION late()",
    )
    .await;
    let text = std::fs::read_to_string(plan_of(&lab, "where = \"n IS NULL\"")).expect("the plan");
    let plan = lab.plan("numbers.toml", &text.replace("workers = 1", "workers = 1\nmax_quarantined = 3"));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(4).expect_words(&[
        "2 rows came in behind the cursor",
        "0 left, 3 set aside",
        "3 rows quarantined",
    ]);
    expect_sums(&lab, 3, 1999).await;
    assert_eq!(lab.number("SELECT min(attempts)::bigint FROM howdah.quarantine").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_the_rows_whole() {
    let lab = Lab::open().await;
    items(&lab, 500, "200, 210, 220").await;
    lab.sql("UPDATE items SET txt = E'a,\"b\"\\n\\x1b[31m' WHERE id = 210").await;
    let plan = plan_of(&lab, "");
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    let lines = lab.howdah(&["quarantine", "export", "--format", "jsonl"]).run().expect_code(0).stdout();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[1]["key"][0], &rows[1]["row"]["txt"]), (&"210".into(), &"a,\"b\"\n\x1b[31m".into()));
    let file = lab.files.path().join("aside.csv");
    let file = file.to_str().expect("a path");
    lab.howdah(&["quarantine", "export", "--output", file]).run().expect_code(0).expect_words(&["3 rows in"]);
    let text = std::fs::read_to_string(file).expect("a file");
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let records: Vec<csv::StringRecord> = csv.records().map(|record| record.expect("CSV")).collect();
    assert_eq!(records.len(), 3);
    let row: Value = serde_json::from_str(&records[1][7]).expect("JSON");
    assert_eq!((&records[1][2], row["txt"].as_str()), ("[\"210\"]", Some("a,\"b\"\n\x1b[31m")));
    let list = lab.howdah(&["quarantine", "list"]).run().expect_code(0).stdout();
    assert!(!list.chars().any(|c| c.is_control() && c != '\n'), "{list:?}");
    lab.howdah(&["quarantine", "export", "--output", "/no/such/place.csv"])
        .run()
        .expect_code(2)
        .expect_words(&["/no/such/place.csv cannot be written", "--output"]);
}
