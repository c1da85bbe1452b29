//! Slow statements are logged with their plan, once for each shape.

use crate::support::Lab;

const PLAN: &str = r#"
name = "slow"
[database]
slow = "100ms"
[limits]
workers = 2
batch = { start = 40, min = 40, max = 40 }
[[step]]
name = "quick"
backfill = "quick_items"
set = { n = "n + 1" }
[[step]]
name = "slow"
backfill = "slow_items"
set = { n = "slowly(n, 0.005)" }
[[step]]
name = "slow too"
backfill = "slow_items"
set = { m = "slowly(m, 0.005)" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_is_logged_with_its_plan_once_for_each_shape() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE quick_items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
         INSERT INTO quick_items SELECT generate_series(1, 400);
         CREATE TABLE slow_items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, m int NOT NULL DEFAULT 0);
         INSERT INTO slow_items SELECT generate_series(1, 400); ANALYZE quick_items, slow_items;
         CREATE FUNCTION slowly(n int, seconds float8) RETURNS int LANGUAGE plpgsql VOLATILE AS
             $$ BEGIN PERFORM pg_sleep(seconds); RETURN n + 1; END $$",
    )
    .await;
    let plan = lab.plan("slow.toml", PLAN);
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    // EXPLAIN must not run the statement again.
    assert_eq!(lab.number("SELECT count(*) FROM slow_items WHERE n <> 1 OR m <> 1").await, 0);
    let directory = lab.files.path().join(".local/state/howdah/log");
    let log: String = std::fs::read_dir(&directory)
        .expect("a log directory")
        .map(|entry| std::fs::read_to_string(entry.expect("a file").path()).expect("text"))
        .collect();
    let of = |table: &str| log.lines().filter(|line| line.contains("Update on") && line.contains(table)).count();
    assert_eq!((of("slow_items"), of("quick_items")), (2, 0), "plans of twenty slow statements of two shapes:\n{log}");
}
