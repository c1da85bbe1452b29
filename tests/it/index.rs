//! Indexes: built once whatever crashes, told apart from those of others, and gone when they are to be.

use std::time::Duration;

use nix::libc::SIGKILL;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{Howdah, Lab};

async fn items(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE items (id int PRIMARY KEY, n int, t text);
         INSERT INTO items SELECT i, i % 100, 'x' || i FROM generate_series(1, {rows}) i"
    ))
    .await;
}

fn plan(lab: &Lab, name: &str, steps: &str) -> String {
    let text = format!(
        "name = \"{name}\"\n[limits]\nlock_timeout = \"300ms\"\nlock_retry = {{ base = \"100ms\", max = \"200ms\" }}\n{steps}"
    );
    lab.plan(&format!("{name}.toml"), &text).to_str().expect("a path").to_owned()
}

fn run(lab: &Lab, plan: &str) -> Howdah {
    lab.howdah(&["run", plan, "--headless"])
}

/// Indexes of the table, valid or not, beside its primary key.
async fn indexes(lab: &Lab, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT c.relname || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = '{table}'::regclass AND NOT i.indisprimary ORDER BY 1"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&lab.pool).await.expect("the indexes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_instant_leaves_one_valid_index_and_none_that_is_not() {
    let lab = Lab::open().await;
    items(&lab, 2000).await;
    let plan = plan(&lab, "crash", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\" }\n");
    for (failpoint, settled) in [("index.before", false), ("index.built", false), ("step.committed", true)] {
        let killed = run(&lab, &plan).env("HOWDAH_FAILPOINTS", &format!("{failpoint}=kill")).run();
        assert_eq!(killed.signal(), Some(SIGKILL), "{failpoint}: {}", killed.stderr());
        assert_eq!(indexes(&lab, "items").await == ["items_n_idx"], settled, "{failpoint}");
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
        assert_eq!(indexes(&lab, "items").await, ["items_n_idx"], "{failpoint}");
        let id = lab.run_id().await;
        let comment = lab.text("SELECT obj_description('items_n_idx'::regclass, 'pg_class')").await;
        assert!(comment.starts_with("howdah run ") && comment.contains(&format!("{id} step 1")), "{comment}");
        // And it is this run's to take back, also where that is cut off.
        let undone =
            lab.howdah(&["undo", &id, "--headless", "--yes"]).env("HOWDAH_FAILPOINTS", "index.dropped=kill").run();
        assert_eq!(undone.signal(), Some(SIGKILL), "{failpoint}: {}", undone.stderr());
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
        assert_eq!(indexes(&lab, "items").await, [""; 0], "{failpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_waits_for_old_transactions_says_so_and_survives_a_kill() {
    let lab = Lab::open().await;
    items(&lab, 2000).await;
    let plan =
        plan(&lab, "wait", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\", name = \"i\", during = true }\n");
    let mut other = lab.session().await;
    other
        .execute("SET application_name = 'old psql'; BEGIN; UPDATE items SET n = n WHERE id = 1")
        .await
        .expect("a lock");
    let building = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%')";
    let mut running = lab.howdah(&["run", &plan, "--json"]).start();
    // Told after a while, with the phase and whom it waits for.
    tokio::time::timeout(
        Duration::from_secs(40),
        running.until_said("waiting for writers before build (2 of 8): pid "),
    )
    .await
    .expect("the wait is told");
    running.until_said("old psql, idle in transaction").await;
    lab.until(building).await;
    running.kill_hard();
    drop(running);
    lab.until_undriven().await;
    // The backend that was left behind goes on, or is gone: both are waited out.
    let resumed = lab.howdah(&["resume", "--headless"]).start();
    lab.until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'howdah/%')").await;
    other.execute("COMMIT").await.expect("the lock is given back");
    resumed.wait().expect_code(0);
    // `during`: it is gone again.
    assert_eq!(indexes(&lab, "items").await, [""; 0]);
    assert_eq!(lab.runs("state = 'done'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_of_a_build_is_waited_out_and_the_index_built_again() {
    let mut lab = Lab::open().await;
    items(&lab, 2000).await;
    let plan = plan(&lab, "dies", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\", unique = false }\n");
    let mut other = lab.session().await;
    other.execute("BEGIN; UPDATE items SET n = n WHERE id = 1").await.expect("a lock");
    let running = run(&lab, &plan).start();
    lab.until("SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%')").await;
    lab.server.kill().await.expect("the server dies");
    lab.server.restart().await.expect("the server is back");
    running.wait().expect_code(0);
    assert_eq!(indexes(&lab, "items").await, ["items_n_idx"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_somebody_elses_stays_and_another_of_its_name_is_an_error() {
    let lab = Lab::open().await;
    items(&lab, 100).await;
    lab.sql("CREATE INDEX theirs ON items (lower(t)) WHERE n > 1").await;
    let steps = "[[step]]\nname = \"i\"\nindex = { on = \"items (lower(t))\", where = \"(n) > 1\", name = \"theirs\", during = true }\n\
                 [[step]]\nname = \"j\"\nindex = { on = \"items ( LOWER(t) )\", where = \"n>1\" }\n";
    let same = plan(&lab, "same", steps);
    run(&lab, &same)
        .run()
        .expect_code(0)
        .expect_words(&["was there already, not made by this run", "no index was dropped"]);
    assert_eq!(indexes(&lab, "items").await, ["theirs"]);
    let id = lab.run_id().await;
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(0).expect_words(&["nothing to take back"]);
    assert_eq!(indexes(&lab, "items").await, ["theirs"]);
    let other = plan(&lab, "other", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\", name = \"theirs\" }\n");
    run(&lab, &other).run().expect_code(1).expect_words(&["it is another", "there:", "lower(t)", "wanted:", "(n)"]);
    let taken = plan(&lab, "taken", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\", name = \"items_pkey\" }\n");
    run(&lab, &taken).run().expect_code(1).expect_words(&["it is another"]);
    // The definition is looked at before anything runs, with its place in the plan.
    let wrong = plan(&lab, "wrong", "[[step]]\nname = \"i\"\nindex = { on = \"items (m)\" }\n");
    run(&lab, &wrong).run().expect_code(2).expect_words(&["column \"m\" does not exist", "index = { on = ", "^"]);
    lab.howdah(&["check", &wrong]).run().expect_code(2).expect_words(&["column \"m\" does not exist"]);
    assert_eq!(indexes(&lab, "items").await, ["theirs"]);
    assert_eq!(lab.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'howdah_%' AND relkind = 'i' AND relnamespace = 'public'::regnamespace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_shown_and_leave_nothing_behind_and_invalid_leftovers_are_cleared() {
    let lab = Lab::open().await;
    items(&lab, 1000).await;
    let unique = "[[step]]\nname = \"u\"\nindex = { on = \"items (n)\", unique = true, name = \"items_n\" }\n";
    let plan_of = plan(&lab, "unique", unique);
    run(&lab, &plan_of).run().expect_code(1).expect_words(&["23505", "is duplicated"]);
    assert_eq!(indexes(&lab, "items").await, [""; 0]);
    // Somebody else's try, of the same definition, that failed.
    let failed = lab.pool.execute("CREATE UNIQUE INDEX CONCURRENTLY items_n ON items (n)").await;
    assert!(failed.is_err());
    assert_eq!(indexes(&lab, "items").await, ["items_n INVALID"]);
    lab.sql("UPDATE items SET n = id").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0).expect_words(&["was left INVALID"]);
    assert_eq!(indexes(&lab, "items").await, ["items_n"]);

    // A rebuild that was cut off leaves `_ccnew`: it is what a failed build under that name looks like.
    lab.sql("INSERT INTO items SELECT 2000 + i, -1, 'y' FROM generate_series(1, 1) i").await;
    assert!(lab.pool.execute("CREATE UNIQUE INDEX CONCURRENTLY items_n_ccnew ON items ((id % 7))").await.is_err());
    assert_eq!(indexes(&lab, "items").await, ["items_n", "items_n_ccnew INVALID"]);
    let steps = "[[step]]\nname = \"r\"\nreindex = \"items_n\"\n[[step]]\nname = \"t\"\nreindex = { table = \"items\" }\n\
                 [[step]]\nname = \"a\"\nanalyze = [\"items (n, t)\", \"items\"]\n";
    let rebuild = plan(&lab, "rebuild", steps);
    let before = lab.number("SELECT pg_relation_filenode('items_n')::bigint").await;
    run(&lab, &rebuild).run().expect_code(0).expect_words(&["by an earlier rebuild", "built anew"]);
    assert_eq!(indexes(&lab, "items").await, ["items_n"]);
    assert_ne!(lab.number("SELECT pg_relation_filenode('items_n')::bigint").await, before);
    assert_eq!(lab.number("SELECT count(*) FROM pg_stats WHERE tablename = 'items'").await, 3);
    let id = lab.run_id().await;
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(2).expect_words(&["nothing to take back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_is_indexed_part_by_part_and_goes_on_where_it_stood() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE events (id int, day int, n int) PARTITION BY RANGE (day);
         CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (2);
         CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2) TO (3) PARTITION BY RANGE (id);
         CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES FROM (0) TO (500);
         CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES FROM (500) TO (5000);
         INSERT INTO events SELECT i, 1 + i % 2, i FROM generate_series(1, 1000) i",
    )
    .await;
    let plan = plan(&lab, "parts", "[[step]]\nname = \"i\"\nindex = { on = \"events (n)\" }\n");
    let killed = run(&lab, &plan).env("HOWDAH_FAILPOINTS", "index.part=kill@2").run();
    assert_eq!(killed.signal(), Some(SIGKILL), "{}", killed.stderr());
    // One that comes meanwhile has its part from the server.
    lab.sql("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (3) TO (4)").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(indexes(&lab, "events").await, ["events_n_idx"]);
    for table in ["events_1", "events_2", "events_2a", "events_2b"] {
        assert_eq!(indexes(&lab, table).await, [format!("{table}_n_idx")], "{table}");
    }
    assert_eq!(indexes(&lab, "events_3").await.len(), 1);
    assert_eq!(lab.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
    let id = lab.run_id().await;
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(0).expect_words(&["dropped events_n_idx"]);
    assert_eq!(
        lab.number(
            "SELECT count(*) FROM pg_class WHERE relkind IN ('i', 'I') AND relname ~ 'events|howdah_[0-9a-f]{32}'"
        )
        .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_had_is_asked_for_again_and_again_and_its_holder_is_named() {
    let lab = Lab::open().await;
    items(&lab, 100).await;
    let mut other = lab.session().await;
    other.execute("SET application_name = 'holder'; BEGIN; LOCK TABLE items IN SHARE MODE").await.expect("a lock");
    let steps = "[[step]]\nname = \"add\"\nstatement = \"ALTER TABLE items ADD m int\"\n";
    let text = format!(
        "name = \"bounded\"\n[limits]\nlock_timeout = \"600ms\"\nlock_retry = {{ attempts = 2, base = \"10ms\", max = \"10ms\" }}\n{steps}"
    );
    let bounded = lab.plan("bounded.toml", &text);
    run(&lab, bounded.to_str().expect("a path")).run().expect_code(1).expect_words(&[
        "attempt 2 of 2",
        "held by pid ",
        "(holder, idle in transaction",
        "tried 2 times",
        "limits.lock_retry",
    ]);
    let patient = plan(&lab, "patient", steps);
    let mut running = run(&lab, &patient).start();
    running.until_said("(attempt 3 of 30)").await;
    other.execute("COMMIT").await.expect("the lock is given back");
    running.wait().expect_code(0);
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'm'").await,
        1
    );
}
