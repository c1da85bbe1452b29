//! What a copy says of itself at its end: that both sides agree, that they do not, what it set aside, which moment it shows.

use std::time::Duration;

use crate::copy::{expect_same, plan_of, plan_with};
use crate::support::Lab;

async fn two(rows: u32) -> (Lab, Lab) {
    let (from, to) = (Lab::open().await, Lab::open().await);
    let table = "CREATE TABLE items (id bigint PRIMARY KEY, txt text, n int)";
    from.sql(&format!(
        "{table}; INSERT INTO items SELECT i, CASE WHEN i % 5 > 0 THEN 'item ' || i END, i FROM generate_series(1, {rows}) i; ANALYZE items"
    ))
    .await;
    to.sql(table).await;
    (from, to)
}

/// Something on the target that spoils rows as they come in: one is altered, one is swallowed.
const SPOIL: &str = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.id = 777 THEN RETURN NULL; END IF;
        IF NEW.id = 1200 THEN NEW.txt := ''; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER spoil BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION spoil()";

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_differ_are_named_and_copied_again() {
    let (from, to) = two(4000).await;
    to.sql(SPOIL).await;
    from.sql("UPDATE items SET txt = NULL WHERE id = 1200").await;
    let step = format!("copy = 'items'\nfrom = '{}'\nverify = 'checksum'", from.url);
    let plan = plan_of(&to, &step);
    let ended = to.howdah(&["run", &plan, "--headless"]).run().expect_code(1);
    ended.expect_words(&["source and target differ in", "`items`: id ", "with checksum", "repair = true"]);
    to.sql("DROP TRIGGER spoil ON items").await;
    let plan = plan_of(&to, &format!("{step}\nrepair = true"));
    let ended = to.howdah(&["resume", "--plan", &plan, "--headless", "--accept-changed-plan"]).run().expect_code(0);
    ended.expect_words(&["checksums agree", "copied again"]);
    expect_same(&from, "items", &to, "items").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_set_aside_and_copied_once_they_are_mended() {
    let (from, to) = two(2000).await;
    to.sql("INSERT INTO items VALUES (500, 'mine', 0); ALTER TABLE items ADD CHECK (n <> 900), ALTER n TYPE smallint")
        .await;
    from.sql("UPDATE items SET n = 70000 WHERE id = 1001").await;
    let plan = plan_of(&to, &format!("copy = 'items'\nfrom = '{}'\nverify = 'count'", from.url));
    let ended = to.howdah(&["run", &plan, "--headless"]).run();
    // The row that was there is one more in its range.
    let ended = ended.expect_code(1);
    ended.expect_words(&["`items` is not empty", "differ in 1 range"]);
    let aside = "SELECT string_agg(key[1] || ' ' || sqlstate || ' ' || (row_data->>'n'), ', ' ORDER BY key[1]::int)
                 FROM howdah.quarantine WHERE resolved_at IS NULL";
    assert_eq!(to.text(aside).await, "500 23505 500, 900 23514 900, 1001 22003 70000");
    to.sql("DELETE FROM items WHERE id = 500").await;
    from.sql("UPDATE items SET n = 901 WHERE id = 900; DELETE FROM items WHERE id = 1001").await;
    to.howdah(&["resume", "--headless"]).run().expect_code(4).expect_words(&["3 set aside; counts agree"]);
    to.howdah(&["quarantine", "list"]).run().expect_code(0).expect_words(&["500", "900", "1001"]);
    to.howdah(&["quarantine", "retry"]).run().expect_code(0).expect_words(&["2 changed, 1 gone"]);
    expect_same(&from, "items", &to, "items").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consistent_copy_shows_one_moment_while_others_write() {
    let (from, to) = two(20_000).await;
    // Every transaction leaves the sum as it is: a copy of two moments would not have it.
    let sum = from.number("SELECT sum(n)::bigint FROM items").await;
    let writing = tokio::spawn({
        let url = from.url.clone();
        async move {
            use sqlx::{Connection, Executor};
            let mut session = sqlx::PgConnection::connect(&url).await.expect("a session");
            for i in 0_u64.. {
                let (a, b) = (i * 7919 % 20_000 + 1, i * 104_729 % 20_000 + 1);
                let sql = format!(
                    "BEGIN; UPDATE items SET n = n - 5 WHERE id = {a}; UPDATE items SET n = n + 5 WHERE id = {b}; COMMIT"
                );
                session.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("an update");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let plan = plan_of(&to, &format!("copy = 'items'\nfrom = '{}'\nconsistent = true\nverify = 'checksum'", from.url));
    let ended = to.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    writing.abort();
    ended.expect_words(&["20,000 rows copied; checksums agree"]);
    assert_eq!(to.number("SELECT sum(n)::bigint FROM items").await, sum);
    // Within one database as well.
    to.sql("CREATE TABLE again (LIKE items INCLUDING ALL)").await;
    let plan = plan_of(&to, "copy = 'items'\nto = 'again'\nconsistent = true\nverify = 'checksum'");
    to.howdah(&["run", &plan, "--headless", "--new"]).run().expect_code(0).expect_words(&["checksums agree"]);
    expect_same(&to, "items", &to, "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consistent_copy_that_was_killed_half_way_does_not_claim_to_be_of_one_moment() {
    let (from, to) = two(20_000).await;
    let step = format!("copy = 'items'\nfrom = '{}'\nconsistent = true", from.url);
    let plan = plan_with(&to, "workers = 1", &step);
    let kill = |armed: &str| to.howdah(&["run", &plan, "--headless", "--new"]).env("HOWDAH_FAILPOINTS", armed).run();
    assert_eq!(kill("batch.committed=kill@3").code(), None);
    to.until_undriven().await;
    let ended = to.howdah(&["resume", "--headless"]).run().expect_code(1);
    ended.expect_words(&["the one moment that `consistent = true` copies is gone", "TRUNCATE", "--new"]);
    // Before anything is copied a later moment is as good.
    to.sql("TRUNCATE items").await;
    assert_eq!(kill("batch.begun=kill@1").code(), None);
    to.until_undriven().await;
    from.sql("INSERT INTO items VALUES (1000000, 'late', 1)").await;
    to.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_same(&from, "items", &to, "items").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_killed_leaves_no_hole_and_no_row_twice() {
    let (from, to) = two(4000).await;
    let step = format!("copy = 'items'\nfrom = '{}'\nverify = 'checksum'\nrepair = true", from.url);
    let plan = plan_of(&to, &step);
    for armed in ["repair.deleted=kill@1", "repair.committed=kill@1", "step.counted=kill@1"] {
        to.sql("TRUNCATE items; DROP FUNCTION IF EXISTS spoil CASCADE").await;
        to.sql(SPOIL).await;
        let spoilt = to.howdah(&["run", &plan, "--headless", "--new"]).run().expect_code(1);
        spoilt.expect_words(&["they were copied again, and differ still"]);
        to.sql("DROP FUNCTION spoil CASCADE; INSERT INTO items VALUES (100000, 'not of the source', 1)").await;
        // One that is only here, inside of a range.
        from.sql("DELETE FROM items WHERE id = 2000").await;
        let killed = to.howdah(&["resume", "--headless"]).env("HOWDAH_FAILPOINTS", armed).run();
        assert_eq!(killed.code(), None, "{armed}: {}", killed.stderr());
        to.until_undriven().await;
        to.howdah(&["resume", "--headless"]).run().expect_code(0).expect_words(&["checksums agree"]);
        expect_same(&from, "items", &to, "(SELECT * FROM items WHERE id < 100000)").await;
    }
    to.sql("CREATE TABLE notes (item bigint REFERENCES items ON DELETE CASCADE)").await;
    to.howdah(&["check", &plan]).run().expect_code(2).expect_words(&["rows of `notes` would go"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_that_is_lost_with_its_server_ends_the_copy() {
    let (mut from, to) = two(20_000).await;
    let plan = plan_with(&to, "workers = 1", &format!("copy = 'items'\nfrom = '{}'\nconsistent = true", from.url));
    let running = to.howdah(&["run", &plan, "--headless"]).start();
    to.until_walked(500).await;
    from.server.stop_immediate().await.expect("a crash");
    from.server.restart().await.expect("a server again");
    running.wait().expect_code(1).expect_words(&["the one moment that `consistent = true` copies is gone"]);
}
