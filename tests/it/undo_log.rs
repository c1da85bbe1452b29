//! `undo = "auto"`: the log holds what was replaced, also under the hands of other sessions, and leads back to it.

use howdah::plan::model::{Backfill, Change, PlanSource, Sql, Undo};
use howdah::postgres::catalog::Table;
use howdah::postgres::key::End;
use howdah::run::{KeyText, RunId, StepIndex};
use howdah::steps::change::undo::{Reverted, UndoLog, UndoSql};
use howdah::steps::change::{self, Aside};
use howdah::steps::keyspace::Keyspace;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::keyspace::table;
use crate::support::Lab;

const RUN: RunId = RunId(uuid::Uuid::from_u128(0x7f3a_09c2));
const STEP: StepIndex = StepIndex(1);

/// One backfill with a log, driven by hand.
struct Logged {
    backfill: Backfill,
    table: Table,
    source: PlanSource,
    log: UndoLog,
}

fn sql(text: &str) -> Sql {
    Sql { text: text.into(), span: 0..0 }
}

impl Logged {
    async fn new(connection: &mut PgConnection, name: &str, set: &[(&str, &str)], filter: Option<&str>) -> Self {
        let set = set.iter().map(|(column, expression)| ((*column).to_owned(), sql(expression))).collect();
        let backfill =
            Backfill { table: sql(name), change: Change::Set { set, filter: filter.map(sql) }, undo: Undo::Auto };
        let source = PlanSource { path: None, label: "plan.toml".into(), text: String::new() };
        let table = table(connection, name).await;
        let log = UndoLog::of(RUN, STEP, "s", &backfill, &table, &source).expect("a log").expect("is kept");
        connection
            .execute(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS howdah; {}", log.create())))
            .await
            .expect("a log");
        Self { backfill, table, source, log }
    }

    /// Changes the rows of every part in `(from, through]`, in a transaction; the counts.
    async fn change(&self, connection: &mut PgConnection, from: Option<&KeyText>, through: &KeyText) -> (i64, i64) {
        let mut tx = connection.begin().await.expect("a transaction");
        let mut counts = (0, 0);
        for part in &self.table.parts {
            let made =
                change::batch_sql("s", &self.backfill, &self.table, part, Some(&self.log), &self.source).expect("sql");
            let text = made.of(from, through).change.as_str().to_owned();
            let query = sqlx::query(AssertSqlSafe(text)).bind(from).bind(through);
            let row = query.fetch_one(&mut *tx).await.expect("a change");
            counts.0 += row.get::<i64, _>(0);
            counts.1 += row.get::<i64, _>(1);
        }
        tx.commit().await.expect("committed");
        counts
    }

    /// Walks the log back in batches of `rows`, newest first.
    async fn undo(&self, connection: &mut PgConnection, rows: u64) -> Reverted {
        let undo = UndoSql::new(self.log.clone(), &self.table).expect("sql");
        let keys = Keyspace::new(self.log.part(connection).await.expect("an answer").expect("a log"));
        let upper = keys.end(connection, End::Last).await.expect("an end");
        let (mut from, mut all) = (None, Reverted::default());
        while let Some(batch) =
            keys.boundary(connection, from.as_ref(), upper.as_ref(), rows).await.expect("a boundary")
        {
            let mut tx = connection.begin().await.expect("a transaction");
            let done = undo.revert(&mut tx, from.as_ref(), &batch.key).await.expect("a revert");
            tx.commit().await.expect("committed");
            assert_eq!(done.reverted + done.kept, batch.rows);
            all.reverted += done.reverted;
            all.kept += done.kept;
            from = Some(batch.key);
        }
        all
    }
}

async fn connect(lab: &Lab) -> PgConnection {
    PgConnection::connect(&lab.url).await.expect("a connection")
}

const WAITS: &str = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

fn key(id: &str) -> KeyText {
    vec![id.to_owned()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logged_old_value_is_the_one_that_the_change_replaced_also_when_another_session_wrote_it_meanwhile() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE users (id bigint PRIMARY KEY, email text, n int NOT NULL DEFAULT 0);
         INSERT INTO users SELECT i, 'U' || i FROM generate_series(1, 100) i",
    )
    .await;
    let (mut ours, mut theirs) = (connect(&lab).await, connect(&lab).await);
    let logged = Logged::new(&mut ours, "users", &[("email", "lower(email)")], Some("email <> lower(email)")).await;
    let mut tx = theirs.begin().await.expect("a transaction");
    // One row gets another value, one no longer matches, one is deleted, one moves out of the batch.
    for change in [
        "UPDATE users SET email = 'THEIRS' WHERE id = 50",
        "UPDATE users SET email = 'done' WHERE id = 51",
        "DELETE FROM users WHERE id = 52",
        "UPDATE users SET id = 500 WHERE id = 53",
    ] {
        tx.execute(change).await.expect("a change");
    }
    let last = key("100");
    let change = logged.change(&mut ours, None, &last);
    let commit = async {
        lab.until(WAITS).await;
        tx.commit().await.expect("committed");
    };
    let (counts, ()) = tokio::join!(change, commit);
    assert_eq!(counts, (97, 0));
    assert_eq!(lab.text("SELECT o1 || ' ' || n1 FROM howdah.undo_7f3a09c2_1 WHERE k1 = 50").await, "THEIRS theirs");
    assert_eq!(lab.number("SELECT count(*) FROM howdah.undo_7f3a09c2_1 WHERE k1 IN (51, 52, 53, 500)").await, 0);
    let same = "SELECT count(*) FROM users u JOIN howdah.undo_7f3a09c2_1 l ON l.k1 = u.id WHERE u.email <> l.n1";
    assert_eq!(lab.number(same).await, 0);

    // And back, while another session changes one of the rows at that very moment.
    let mut tx = theirs.begin().await.expect("a transaction");
    tx.execute("UPDATE users SET email = 'newer' WHERE id = 60").await.expect("a change");
    tx.execute("UPDATE users SET n = 5 WHERE id = 61").await.expect("a change");
    let undo = logged.undo(&mut ours, 1000);
    let commit = async {
        lab.until(WAITS).await;
        tx.commit().await.expect("committed");
    };
    let (done, ()) = tokio::join!(undo, commit);
    assert_eq!(done, Reverted { reverted: 96, kept: 1 });
    assert_eq!(lab.text("SELECT email FROM users WHERE id = 60").await, "newer", "left as it is");
    assert_eq!(lab.text("SELECT email || n FROM users WHERE id = 61").await, "U615", "another column is no hindrance");
    assert_eq!(lab.text("SELECT email FROM users WHERE id = 50").await, "THEIRS");
    let kept: Vec<(String, Vec<Option<String>>)> =
        sqlx::query_as(AssertSqlSafe(logged.log.kept())).fetch_all(&mut ours).await.expect("a list");
    assert_eq!(kept, [(String::new(), vec![Some("60".to_owned())])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undone_table_equals_the_table_before_row_by_row_whatever_the_types() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE DOMAIN name AS text NOT NULL CHECK (value <> 'never');
         CREATE TABLE odd (\"K\" text, at date, j json, p point, x xml, num numeric(12, 2), f float8, a int[], d name DEFAULT 'd',
             howdah_k1 text, c char(5), PRIMARY KEY (\"K\", at));
         INSERT INTO odd SELECT md5(i::text), '2026-01-01'::date + i % 3, CASE WHEN i % 5 > 0 THEN json_build_object('i', i) END,
             point(i, i), '<a/>', CASE WHEN i % 7 > 0 THEN i END, 'NaN', ARRAY[i, NULL], 'd' || i, NULL, i % 90 FROM generate_series(1, 500) i;
         CREATE TABLE before AS SELECT * FROM odd",
    )
    .await;
    let mut connection = connect(&lab).await;
    let set = [
        ("j", "'{\"new\": 1}'"),
        ("p", "point(0, 0)"),
        ("x", "NULL"),
        ("num", "coalesce(num, 0) + 1"),
        ("f", "1.5"),
        ("a", "a || 1"),
        ("d", "upper(d)"),
        ("howdah_k1", "'set'"),
        ("c", "'x'"),
    ];
    let logged = Logged::new(&mut connection, "odd", &set, None).await;
    let keys = Keyspace::new(logged.table.parts[0].clone());
    let (mut from, last) = (None, keys.end(&mut connection, End::Last).await.expect("an end").expect("rows"));
    while let Some(batch) = keys.boundary(&mut connection, from.as_ref(), Some(&last), 120).await.expect("a boundary") {
        let counts = logged.change(&mut connection, from.as_ref(), &batch.key).await;
        assert_eq!(counts, (i64::try_from(batch.rows).expect("few"), 0));
        from = Some(batch.key);
    }
    let unlike = "SELECT count(*) FROM odd o JOIN before b USING (\"K\", at) WHERE o.*::text <> b.*::text";
    assert_eq!(lab.number(unlike).await, 500);
    assert_eq!(logged.undo(&mut connection, 70).await, Reverted { reverted: 500, kept: 0 });
    assert_eq!(lab.number(unlike).await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM odd").await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_in_two_sweeps_goes_back_two_steps_even_within_one_batch_of_the_undo() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) i")
        .await;
    let mut connection = connect(&lab).await;
    let logged = Logged::new(&mut connection, "t", &[("n", "n + 1")], Some("n < 100")).await;
    for _ in 0..3 {
        assert_eq!(logged.change(&mut connection, None, &key("50")).await, (50, 50));
    }
    // One row was changed in between, and one since.
    lab.sql("UPDATE howdah.undo_7f3a09c2_1 SET n1 = 7 WHERE k1 = 3 AND n1 = 2; UPDATE t SET n = 9 WHERE id = 4").await;
    let done = logged.undo(&mut connection, 1000).await;
    assert_eq!(done, Reverted { reverted: 150 - 2 - 3, kept: 2 + 3 });
    assert_eq!(lab.number("SELECT count(*) FROM t WHERE n = 0").await, 48);
    assert_eq!(lab.text("SELECT string_agg(n::text, ' ' ORDER BY id) FROM t WHERE id IN (3, 4)").await, "2 9");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_share_a_log_and_one_that_is_gone_is_told() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE p (id int, at date, n int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE p2 PARTITION OF p DEFAULT; INSERT INTO p SELECT i, '2026-01-01'::date + i, 0 FROM generate_series(0, 59) i",
    )
    .await;
    let mut connection = connect(&lab).await;
    let mut logged = Logged::new(&mut connection, "p", &[("n", "n + 1")], Some("n = 0")).await;
    assert_eq!(logged.change(&mut connection, None, &vec!["100".into(), "2027-01-01".into()]).await, (60, 0));
    assert_eq!(lab.number("SELECT count(DISTINCT part) FROM howdah.undo_7f3a09c2_1").await, 2);
    lab.sql("ALTER TABLE p DETACH PARTITION p1").await;
    logged.table = table(&mut connection, "p").await;
    assert_eq!(logged.undo(&mut connection, 25).await, Reverted { reverted: 29, kept: 31 });
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM p").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_the_quarantine_are_not_what_is_left() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE t (id numeric PRIMARY KEY, t text, n int); INSERT INTO t SELECT i / 2.0, 'x', 0 FROM generate_series(1, 10) i;
         CREATE SCHEMA howdah; CREATE TABLE howdah.quarantine (run uuid, step int, part text, key text[], resolved_at timestamptz);
         INSERT INTO howdah.quarantine SELECT '00000000-0000-0000-0000-00007f3a09c2', 1, '', ARRAY[id::text], CASE WHEN id = 1 THEN now() END
             FROM t WHERE id <= 2",
    )
    .await;
    let mut connection = connect(&lab).await;
    let logged = Logged::new(&mut connection, "t", &[("n", "1")], Some("n = 0")).await;
    let part = &logged.table.parts[0];
    let made = change::batch_sql("s", &logged.backfill, &logged.table, part, None, &logged.source).expect("sql");
    let left = made.left_without(&Aside::Schema { run: RUN, step: STEP }).expect("a condition");
    assert_eq!(lab.number(left.as_str()).await, 7);
}
