//! "Done" means checked: rows that come in behind the cursor, and conditions that the change does not falsify.

use crate::support::Lab;

const MARK: &str = r#"
name = "mark"
[limits]
workers = 1
batch = { start = 200, min = 200, max = 200 }
[[step]]
name = "marks"
backfill = "items"
set = { n = "n + 1", done = "true" }
where = "NOT done"
"#;

async fn items(lab: &Lab) {
    lab.sql(
        "CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, done boolean NOT NULL DEFAULT false, kind text DEFAULT 'a');
         INSERT INTO items (id) SELECT i * 10 FROM generate_series(1, 20000) i",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_in_behind_the_cursor_are_found_by_a_second_sweep() {
    let lab = Lab::open().await;
    items(&lab).await;
    let plan = lab.plan("mark.toml", MARK);
    // One row is written behind the walk by the walk itself, so that there is nothing to time.
    lab.sql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 150000 THEN INSERT INTO items (id) SELECT i * 10 + 1 FROM generate_series(1, 37) i; END IF; RETURN NULL; END $$;
         CREATE TRIGGER late AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION late()",
    )
    .await;
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(0)
        .expect_words(&["37 rows came in behind the cursor", "0 left"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1 OR NOT done").await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM items").await, 20_037);
    assert_eq!(lab.number("SELECT max(sweep)::bigint FROM howdah.segment").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_never_stop_coming_are_told_and_never_called_done() {
    let lab = Lab::open().await;
    items(&lab).await;
    let plan = lab.plan("mark.toml", MARK);
    lab.sql(
        "CREATE SEQUENCE more;
         CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO items (id) VALUES (-nextval('more')); RETURN NULL; END $$;
         CREATE TRIGGER late AFTER UPDATE ON items FOR EACH STATEMENT EXECUTE FUNCTION late()",
    )
    .await;
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["match `where` after 2 sweeps", "howdah resume"]);
    lab.sql("DROP TRIGGER late ON items").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1 OR NOT done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_the_change_leaves_true_changes_no_row_twice() {
    let lab = Lab::open().await;
    items(&lab).await;
    let plan = lab.plan(
        "kind.toml",
        r#"
name = "kind"
[[step]]
name = "kinds"
backfill = "items"
set = { n = "n + 1" }
where = "kind = 'a' AND id % 20 = 0"
"#,
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(0)
        .expect_words(&["10,000 match `where` still"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> (id % 20 = 0)::int").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_statement_swept_twice_changes_no_row_twice() {
    let lab = Lab::open().await;
    items(&lab).await;
    lab.sql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 150000 THEN INSERT INTO items (id) VALUES (5), (140005); END IF; RETURN NULL; END $$;
         CREATE TRIGGER late AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION late()",
    )
    .await;
    let plan = lab.plan(
        "raw.toml",
        r#"
name = "raw"
[limits]
workers = 1
batch = { start = 200, min = 200, max = 200 }
[[step]]
name = "marks"
backfill = "items"
alias = "i"
sql = "UPDATE items AS i SET n = n + 1, done = true WHERE {batch}"
where = "NOT done"
"#,
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(0)
        .expect_words(&["2 rows came in behind the cursor", "0 left"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1 OR NOT done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_never_changed_are_not_called_done_behind_a_condition_that_stays_true() {
    let lab = Lab::open().await;
    items(&lab).await;
    lab.sql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 150000 THEN INSERT INTO items (id) VALUES (5); END IF; RETURN NULL; END $$;
         CREATE TRIGGER late AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION late()",
    )
    .await;
    let plan = lab.plan(
        "kind.toml",
        "name = \"kind\"\n[[step]]\nname = \"kinds\"\nbackfill = \"items\"\nset = { n = \"n + 1\" }\nwhere = \"kind = 'a'\"\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
        .run()
        .expect_code(1)
        .expect_words(&["20,001 rows match `where`, at least 1 of them never changed"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n > 1").await, 0);
}
