//! A rehearsal changes nothing, honours its limits, and its forecast holds the run that follows.

use std::path::Path;

use serde_json::Value;

use crate::support::Lab;

/// Rows with an indexed column, and a trigger that writes beside.
async fn orders(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, cents bigint NOT NULL, note text);
         CREATE INDEX orders_customer ON orders (customer);
         CREATE TABLE audit (at timestamptz, id bigint);
         CREATE FUNCTION heard() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO audit VALUES (clock_timestamp(), NEW.id); PERFORM nextval(''counter''); RETURN NULL; END';
         CREATE SEQUENCE counter;
         INSERT INTO orders SELECT i, 'Customer ' || md5(i::text), i, repeat('x', 60) FROM generate_series(1, {rows}) AS i;
         CREATE TRIGGER heard AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION heard()"
    ))
    .await;
    lab.sql("VACUUM ANALYZE orders").await;
    lab.sql("CHECKPOINT").await;
}

const PLAN: &str = r#"
name = "rehearsed"
[limits]
workers = 1
batch = { start = 200, min = 50, max = 1000, target = "200ms" }
[[step]]
name = "later"
statement = "CREATE TABLE nothing_yet (id int)"
[[step]]
name = "small letters"
backfill = "orders"
set = { customer = "lower(customer)" }
where = "customer <> lower(customer)"
undo = "auto"
[[step]]
name = "of it"
backfill = "nothing_yet"
set = { id = "id + 1" }
"#;

async fn state(lab: &Lab) -> (String, i64, i64) {
    let hash = lab.text("SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o").await;
    (hash, lab.number("SELECT count(*) FROM orders").await, lab.number("SELECT count(*) FROM audit").await)
}

fn rehearsed(lab: &Lab, plan: &Path, more: &[&str]) -> Value {
    let mut words = vec!["check", plan.to_str().expect("a path"), "--rehearse", "--yes", "--json"];
    words.extend(more);
    let said = lab.howdah(&words).run().expect_code(0).stdout();
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}

fn number(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or_else(|| panic!("no number at {path} in {value:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_changes_nothing_and_its_forecast_holds_the_wal_of_the_run() {
    let lab = Lab::open().await;
    orders(&lab, 20_000).await;
    let plan = lab.plan("rehearsed.toml", PLAN);
    let before = state(&lab).await;
    let told = rehearsed(&lab, &plan, &[]);
    assert_eq!(state(&lab).await, before, "each batch was rolled back");
    assert_eq!(lab.number("SELECT (to_regnamespace('howdah') IS NOT NULL)::int::bigint").await, 0, "nothing is left");
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid <> pg_backend_pid()").await,
        0
    );

    let outlook = &told["outlook"]["steps"];
    assert_eq!(outlook[1]["walks"][0]["key"], "id");
    assert!(
        outlook[1]["walks"][0]["batch"]["change"].as_str().is_some_and(|sql| sql.contains("UPDATE")),
        "{outlook:#}"
    );
    assert!(outlook[2]["untold"].as_str().is_some_and(|why| why.contains("earlier statement")), "{outlook:#}");

    let step = &told["rehearsal"]["steps"][1];
    assert_eq!(step["note"], Value::Null, "{step:#}");
    let trials = step["trials"].as_array().expect("trials");
    let places: std::collections::BTreeSet<&str> = trials.iter().filter_map(|trial| trial["at"].as_str()).collect();
    assert_eq!(places.into_iter().collect::<Vec<_>>(), ["beginning", "end", "middle"]);
    assert!(trials.iter().any(|trial| trial["walked"] == 100) && trials.iter().any(|trial| trial["walked"] == 200));
    let forecast = &step["forecast"];
    assert_eq!(number(forecast, "/changed/likely"), 20_000);
    let locks: Vec<&str> =
        forecast["locks"].as_array().expect("locks").iter().filter_map(|l| l["mode"].as_str()).collect();
    assert!(locks.contains(&"RowExclusiveLock"), "{locks:?}");
    assert_eq!(forecast["triggers"][0]["name"], "heard", "{forecast:#}");
    let codes: Vec<&str> =
        told["findings"].as_array().expect("findings").iter().filter_map(|f| f["code"].as_str()).collect();
    assert!(codes.contains(&"outside-effects"), "a trigger that takes a sequence's number is told: {codes:?}");
    assert!(number(step, "/dead_left") > 0);

    let start = lab.text("SELECT pg_current_wal_insert_lsn()::text").await;
    let run = PLAN.split("[[step]]\nname = \"of it\"").next().expect("the steps before");
    let run = lab.plan("run.toml", run);
    lab.howdah(&["run", run.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let wal = lab.number(&format!("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{start}')::bigint")).await;
    let (least, most) = (number(forecast, "/wal/least"), number(forecast, "/wal/most"));
    assert!(least / 2 < wal && wal < most * 2, "{least} to {most} bytes were foretold, and {wal} were written");
    assert_eq!(lab.number("SELECT count(*) FROM audit").await, before.2 + 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_gives_way_keeps_its_time_and_asks_first() {
    let lab = Lab::open().await;
    orders(&lab, 2_000).await;
    let text = PLAN.replace("workers = 1", "workers = 1\nlock_timeout = \"200ms\"");
    let plan = lab.plan("rehearsed.toml", &text);
    let path = plan.to_str().expect("a path");
    // Nobody is at a terminal to be asked.
    lab.howdah(&["check", path, "--rehearse"]).run().expect_code(2).expect_words(&["--yes", "rolls each batch back"]);
    lab.howdah(&["check", path, "--for", "5s"]).run().expect_code(2);

    // Somebody holds every row: a trial waits as long as a batch may, and no longer.
    let mut other = lab.session().await;
    sqlx::raw_sql("BEGIN; SELECT FROM orders FOR UPDATE").execute(&mut other).await.expect("locked");
    let told = rehearsed(&lab, &plan, &["--for", "10s"]);
    let step = &told["rehearsal"]["steps"][1];
    assert!(step["note"].as_str().is_some_and(|note| note.contains("lock")), "{step:#}");
    assert_eq!(step["trials"].as_array().map(Vec::len), Some(0));
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("given back");

    // A row that cannot be changed is told, and is no error of the plan: a run sets it aside.
    lab.sql("ALTER TABLE orders ADD CHECK (customer <> lower('Customer ' || md5('50')))").await;
    lab.howdah(&["check", path, "--rehearse", "--yes"]).run().expect_code(0).expect_words(&[
        "rehearsal-failed",
        "violates check constraint",
        "step \"small letters\"",
        "finds its last key by",
    ]);
}
