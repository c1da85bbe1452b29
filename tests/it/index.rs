//! Indexes: built once whatever crashes, told apart from those of others, and gone when they are to be.

use std::time::Duration;

use nix::libc::SIGKILL;
use nix::sys::signal::Signal;
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
    let steps = "[[step]]\nname = \"i\"\nindex = { on = \"items (lower(t))\", where = \"(n) > 1\", name = \"theirs\", tablespace = \"pg_default\", during = true }\n\
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

/// A partitioned table with two partitions and a thousand rows.
const EVENTS: &str = "CREATE TABLE events (id int, n int) PARTITION BY RANGE (id);
     CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (500);
     CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (500) TO (5000);
     INSERT INTO events SELECT i, i FROM generate_series(1, 1000) i";

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_parts_somebody_attaches_is_not_dropped_nor_are_their_parts_of_ours() {
    let lab = Lab::open().await;
    lab.sql(EVENTS).await;
    // Not valid for as long as its owner takes to attach the parts.
    lab.sql("CREATE INDEX theirs ON ONLY events (n)").await;
    let named = plan(&lab, "theirs", "[[step]]\nname = \"i\"\nindex = { on = \"events (n)\", name = \"theirs\" }\n");
    let words = ["somebody may be attaching its parts", "DROP INDEX \"public\".\"theirs\""];
    run(&lab, &named).run().expect_code(1).expect_words(&words);
    assert_eq!(indexes(&lab, "events").await, ["theirs INVALID"]);
    lab.sql("DROP INDEX theirs").await;

    let plan_of = plan(&lab, "ours", "[[step]]\nname = \"i\"\nindex = { on = \"events (n)\" }\n");
    run(&lab, &plan_of).run().expect_code(0);
    let marked = "SELECT count(*) FROM pg_class WHERE relkind IN ('i', 'I') \
                  AND obj_description(oid, 'pg_class') LIKE 'howdah run % step 1'";
    assert_eq!(lab.number(marked).await, 3);
    // One that the server has made goes with the index; one that somebody had before does not.
    lab.sql(
        "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (5000) TO (6000);
         CREATE TABLE events_4 (id int, n int); CREATE INDEX mine ON events_4 (n);
         ALTER TABLE events ATTACH PARTITION events_4 FOR VALUES FROM (6000) TO (7000)",
    )
    .await;
    assert_eq!(indexes(&lab, "events_4").await, ["mine"]);
    let id = lab.run_id().await;
    let words = ["`events_n_idx` is not dropped: index `mine` of partition `events_4` would go with it"];
    lab.howdah(&["undo", &id, "--headless", "--yes"]).run().expect_code(0).expect_words(&words);
    assert_eq!(indexes(&lab, "events").await, ["events_n_idx"]);
    assert_eq!(indexes(&lab, "events_4").await, ["mine"]);

    // What rebuilds of partitions have left is found by way of the parent, and the size is that of all.
    let failed = "CREATE UNIQUE INDEX CONCURRENTLY events_1_n_idx_ccnew ON events_1 ((n % 7))";
    assert!(lab.pool.execute(failed).await.is_err());
    let steps = "[[step]]\nname = \"r\"\nreindex = \"events_n_idx\"\n\
                 [[step]]\nname = \"t\"\nreindex = { table = \"events\" }\n";
    let rebuild = plan(&lab, "rebuild", steps);
    if lab.number("SELECT current_setting('server_version_num')::bigint").await < 140_000 {
        run(&lab, &rebuild).run().expect_code(2).expect_words(&["is partitioned", "each partition", "^"]);
        return;
    }
    let ended = run(&lab, &rebuild).run().expect_code(0);
    let ended = ended.expect_words(&["events_1_n_idx_ccnew was left INVALID by an earlier rebuild", "built anew"]);
    assert!(![ended.stdout(), ended.stderr()].concat().contains("0 B before"), "{}", ended.stderr());
    assert_eq!(indexes(&lab, "events_1").await, ["events_1_n_idx"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_waits_for_a_backend_that_a_killed_driver_has_left_waiting_for_its_lock() {
    let lab = Lab::open().await;
    items(&lab, 100).await;
    let plan = plan(&lab, "orphan", "[[step]]\nname = \"i\"\nindex = { on = \"items (n)\" }\n");
    let mut other = lab.session().await;
    other.execute("BEGIN; LOCK TABLE items IN SHARE MODE").await.expect("a lock");
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'items'::regclass AND NOT granted)";
    let mut running = run(&lab, &plan).start();
    lab.until(waits).await;
    running.kill_hard();
    drop(running);
    lab.until_undriven().await;
    // There is no index yet, and there would be one after the lock is given back.
    lab.until(waits).await;
    assert_eq!(indexes(&lab, "items").await, [""; 0]);
    let id = lab.run_id().await;
    let undo = lab.howdah(&["undo", &id, "--headless", "--yes"]).start();
    lab.until("SELECT EXISTS (SELECT FROM howdah.step WHERE kind = 'undo' AND state <> 'waiting')").await;
    other.execute("COMMIT").await.expect("the lock is given back");
    undo.wait().expect_code(0);
    assert_eq!(indexes(&lab, "items").await, [""; 0]);
    let idle = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX%')";
    lab.until(idle).await;
    assert_eq!(indexes(&lab, "items").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_rebuild_leaves_is_told_and_undone_as_far_as_the_role_may() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE ROLE plain LOGIN; CREATE SCHEMA howdah AUTHORIZATION plain; CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs SELECT i, 'x' FROM generate_series(1, 100) i; ALTER TABLE docs OWNER TO plain;
         GRANT CREATE ON SCHEMA public TO plain",
    )
    .await;
    let url = lab.url.replace("demo@", "plain@");
    let plan = plan(&lab, "docs", "[[step]]\nname = \"r\"\nreindex = { table = \"docs\" }\n");
    let mut other = lab.session().await;
    other.execute("BEGIN; UPDATE docs SET body = 'y' WHERE id = 1").await.expect("a lock");
    let running = run(&lab, &plan).at(&url).start();
    lab.until("SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%')").await;
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(3).expect_words(&["an INVALID index public.docs_pkey_ccnew is left"]);
    other.execute("COMMIT").await.expect("the lock is given back");
    let left = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                WHERE NOT i.indisvalid AND c.relname LIKE '%_ccnew'";
    assert_eq!(lab.number(left).await, 2);
    let id = lab.run_id().await;
    lab.howdah(&["undo", &id, "--headless", "--yes"]).at(&url).run().expect_code(0).expect_words(&[
        "public.docs_pkey_ccnew was left INVALID",
        "a superuser may: DROP INDEX CONCURRENTLY pg_toast.pg_toast_",
    ]);
    // What lies out of the role's reach does not stand in the way of the next rebuild.
    run(&lab, &plan).at(&url).run().expect_code(0).expect_words(&["built anew", "a superuser may"]);
    lab.sql(&lab.text("SELECT 'DROP INDEX ' || i.indexrelid::regclass FROM pg_index i WHERE NOT i.indisvalid").await)
        .await;
    assert_eq!(lab.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
}
