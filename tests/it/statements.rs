//! Statements: with their record in one transaction, or outside where PostgreSQL asks for it.

use std::time::Duration;

use nix::libc::SIGKILL;
use nix::sys::signal::Signal;

use crate::support::Lab;

const INDEX: &str = r#"
name = "index"
[[step]]
name = "index"
statement = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS items_n ON items (n)"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_index_is_dropped_and_built_again() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, i % 100 FROM generate_series(1, 1000) i").await;
    let plan = lab.plan("index.toml", INDEX);
    let plan = plan.to_str().expect("a path");
    lab.howdah(&["run", plan, "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["could not create unique index", "23505"]);
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await,
        1,
        "PostgreSQL leaves it behind"
    );
    lab.sql("UPDATE items SET n = id").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0).expect_words(&["was left INVALID"]);
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_index WHERE indexrelid = 'items_n'::regclass AND indisvalid").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_and_its_record_commit_together() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO items VALUES (1)").await;
    let plan =
        lab.plan("s.toml", "name = \"s\"\n[[step]]\nname = \"add\"\nstatement = \"UPDATE items SET n = n + 1\"\n");
    let plan = plan.to_str().expect("a path");
    let killed = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "statement.executed=kill").run();
    assert_eq!(killed.signal(), Some(SIGKILL));
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT n::bigint FROM items").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_is_cancelled_when_the_run_is_to_stop() {
    let lab = Lab::open().await;
    let plan =
        lab.plan("sleep.toml", "name = \"sleep\"\n[[step]]\nname = \"sleep\"\nstatement = \"SELECT pg_sleep(600)\"\n");
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND application_name LIKE 'howdah/%/sleep')").await;
    running.signal(Signal::SIGTERM);
    let ended = running.wait().expect_code(3).expect_words(&["howdah resume"]);
    assert!(!ended.stderr().contains("error"), "{}", ended.stderr());
    lab.until("SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%')").await;
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verify_that_does_not_hold_fails_and_is_asked_again_by_resume() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items SELECT generate_series(1, 17)").await;
    let plan = lab.plan(
        "v.toml",
        "name = \"v\"\n[[step]]\nname = \"none\"\nverify = \"SELECT count(*) FROM items\"\nexpect = 0\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["expected 0, got 17"]);
    lab.sql("DELETE FROM items").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0).expect_words(&["is 0, as expected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_of_a_run_has_its_limits_and_its_name() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, n text); INSERT INTO items SELECT generate_series(1, 10)").await;
    let plan = lab.plan(
        "limits.toml",
        r#"
name = "limits"
[limits]
lock_timeout = "1500ms"
statement_timeout = "7s"
[[step]]
name = "look"
backfill = "items"
set = { n = "concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('synchronous_commit'))" }
[[step]]
name = "named"
statement = "UPDATE items SET n = n || ' ' || current_setting('application_name') || ' ' || current_setting('synchronous_commit')"
"#,
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let found = lab.text("SELECT min(n) FROM items").await;
    let id = lab.text("SELECT right(id::text, 8) FROM howdah.run").await;
    assert_eq!(found, format!("1500ms 7s 1min off howdah/{id}/named on"));
    // Nothing is left behind on the server.
    tokio::time::timeout(
        Duration::from_secs(20),
        lab.until("SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'howdah/%')"),
    )
    .await
    .expect("no session is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_somebody_elses_is_never_taken_for_the_steps_own() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, a int, b int); CREATE INDEX i ON items (a)").await;
    let plan = lab.plan(
        "i.toml",
        "name = \"i\"\n[[step]]\nname = \"index\"\nstatement = \"CREATE INDEX CONCURRENTLY i ON items (b)\"\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(1).expect_words(&["42P07"]);
    lab.howdah(&["resume", "--headless"]).run().expect_code(1).expect_words(&["42P07"]);
    lab.sql("DROP INDEX i").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert!(lab.text("SELECT pg_get_indexdef('i'::regclass)").await.ends_with("(b)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_that_names_nothing_is_not_called_cleaned_up() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY)").await;
    let plan = lab.plan(
        "c.toml",
        "name = \"c\"\n[[step]]\nname = \"index\"\nstatement = \"CREATE INDEX CONCURRENTLY items_i ON items (id)\"\n\
         down = \"DROP INDEX CONCURRENTLY item_i\"\ncleanup = true\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(1).expect_words(&[
        "every step is done, but the clean-up failed",
        "item_i",
        "c.toml:5",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_called_like_the_ledger_does_not_confuse_its_tables_with_the_ledgers() {
    let lab = Lab::open().await;
    lab.sql("CREATE ROLE howdah SUPERUSER LOGIN; CREATE TABLE event (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO event VALUES (1)").await;
    let url = lab.url.replace("demo@", "howdah@");
    let plan = lab.plan(
        "e.toml",
        "name = \"e\"\n[[step]]\nname = \"make\"\nstatement = \"CREATE TABLE notes (id int)\"\n\
         [[step]]\nname = \"event\"\nbackfill = \"event\"\nset = { n = \"n + 1\" }\n",
    );
    let plan = plan.to_str().expect("a path");
    lab.howdah(&["run", plan, "--headless", "--database", &url]).run().expect_code(0);
    lab.sql("DROP TABLE public.notes").await;
    lab.howdah(&["run", plan, "--headless", "--database", &url]).run().expect_code(0);
    assert_eq!(lab.text("SELECT schemaname::text FROM pg_tables WHERE tablename = 'notes'").await, "public");
    assert_eq!(lab.number("SELECT n::bigint FROM public.event").await, 2);
}
