//! The questions that a walk asks of a table, asked of a real server: ends, boundaries, cuts, middles.

use howdah::plan::model::{PlanSource, Sql};
use howdah::postgres::catalog::{self, Table};
use howdah::postgres::key::End;
use howdah::postgres::walk::Walk;
use howdah::run::{KeyText, SegmentNo};
use howdah::steps::keyspace::Keyspace;
use howdah::steps::segments;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::keys::every_kind_of_table;
use crate::support::Lab;

pub async fn table(connection: &mut PgConnection, written: &str) -> Table {
    let source = PlanSource { path: None, label: "plan.toml".into(), text: String::new() };
    let sql = Sql { text: written.into(), span: 0..0 };
    catalog::table(connection, "s", &sql, &source).await.unwrap_or_else(|e| panic!("{written}: {e:?}"))
}

async fn keys(connection: &mut PgConnection, written: &str) -> Keyspace {
    Keyspace::new(table(connection, written).await.parts.remove(0))
}

async fn connect(lab: &Lab) -> PgConnection {
    let mut connection = PgConnection::connect(&lab.url).await.expect("a connection");
    let session = howdah::postgres::session::Session {
        application_name: "howdah/test".into(),
        lock_timeout: std::time::Duration::from_secs(10),
        statement_timeout: std::time::Duration::from_mins(1),
        idle_in_transaction_timeout: std::time::Duration::from_mins(1),
    };
    session.apply(&mut connection).await.expect("a session");
    connection
}

/// Every key of the table in the walk's order, by one plain query.
async fn walked(connection: &mut PgConnection, keys: &Keyspace) -> Vec<KeyText> {
    let Walk::Key(key) = &keys.part().walk else { panic!("a key") };
    let sql = format!("SELECT {} FROM {} AS t ORDER BY {}", key.as_text("t"), keys.part().quoted(), key.order("t"));
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await.expect("keys")
}

/// Walks from the first key to the last in batches of `rows`, and checks each boundary against the list of all keys.
async fn walk_all(connection: &mut PgConnection, keys: &Keyspace, lower: Option<&KeyText>, rows: usize) {
    let all = walked(connection, keys).await;
    let upper = keys.end(connection, End::Last).await.expect("an end").expect("rows");
    assert_eq!(all.last(), Some(&upper));
    let mut at = lower.map_or(0, |lower| all.iter().position(|key| key == lower).expect("a key") + 1);
    let mut from = lower.cloned();
    while at < all.len() {
        let end = (at + rows).min(all.len());
        let boundary = keys.boundary(connection, from.as_ref(), Some(&upper), rows as u64).await.expect("a boundary");
        let boundary = boundary.expect("rows are left");
        assert_eq!((&boundary.key, boundary.rows), (&all[end - 1], (end - at) as u64), "after {from:?}");
        if at > 0 {
            assert_eq!(keys.before(connection, &all[at]).await.expect("a key"), Some(all[at - 1].clone()));
        }
        let middle = keys.middle(connection, from.as_ref(), &upper, rows as u64).await.expect("a middle");
        assert_eq!(middle, all.get(at + rows - 1).filter(|key| **key != upper).cloned(), "after {from:?}");
        from = Some(boundary.key);
        at = end;
    }
    assert_eq!(keys.boundary(connection, from.as_ref(), Some(&upper), 5).await.expect("an answer"), None);
    assert_eq!(keys.before(connection, &all[0]).await.expect("an answer"), None);
}

/// Checks cuts: inside, each behind the one before, and no segment with more than `most` percent of its share.
async fn cut_fairly(connection: &mut PgConnection, keys: &Keyspace, wanted: u32, most: usize) -> usize {
    let all = walked(connection, keys).await;
    let upper = keys.end(connection, End::Last).await.expect("an end").expect("rows");
    let cuts = keys.cuts(connection, None, &upper, wanted).await.expect("cuts");
    assert!(cuts.len() < wanted as usize, "{}", cuts.len());
    let places: Vec<usize> =
        cuts.iter().map(|cut| all.iter().position(|key| key == cut).expect("a key that is there")).collect();
    assert!(places.iter().all(|place| (1..all.len() - 1).contains(place)), "inside: {places:?}");
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "each behind the one before: {places:?}");
    let mut ends = vec![0];
    ends.extend(&places);
    ends.push(all.len());
    let largest = ends.windows(2).map(|pair| pair[1] - pair[0]).max().expect("segments");
    let share_in_percent = largest * wanted as usize * 100 / all.len();
    assert!(share_in_percent <= most, "{share_in_percent} % of a share: {places:?}");
    let segments = segments::cut(1, SegmentNo(0), None, None, Some(upper), cuts.clone());
    assert_eq!(segments.len(), cuts.len() + 1);
    cuts.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_mixed_directions_and_collations_are_walked_in_the_indexs_own_order() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE mixed (a int NOT NULL, b text NOT NULL, c timestamptz NOT NULL, n int);
         CREATE UNIQUE INDEX ON mixed (a, b DESC, c);
         INSERT INTO mixed SELECT i % 3, chr(65 + i % 7), '2026-01-01'::timestamptz + i * interval '1 us'
             FROM generate_series(1, 1000) i;
         CREATE TABLE down (a int NOT NULL, b int NOT NULL);
         CREATE UNIQUE INDEX ON down (a DESC, b DESC);
         INSERT INTO down SELECT i % 10, i FROM generate_series(1, 500) i;
         CREATE TABLE worded (k text NOT NULL);
         CREATE UNIQUE INDEX ON worded (k COLLATE \"en-x-icu\");
         INSERT INTO worded SELECT CASE WHEN i % 2 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END FROM generate_series(1, 700) i;
         CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE folded (k text COLLATE caseless PRIMARY KEY);
         INSERT INTO folded SELECT CASE WHEN i % 2 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END FROM generate_series(1, 700) i;
         ANALYZE",
    )
    .await;
    let mut connection = connect(&lab).await;
    for (name, rows) in [("mixed", 37), ("mixed", 1), ("mixed", 5000), ("down", 11), ("worded", 50), ("folded", 50)] {
        let keys = keys(&mut connection, name).await;
        walk_all(&mut connection, &keys, None, rows).await;
        cut_fairly(&mut connection, &keys, 8, 200).await;
    }
    let keys = keys(&mut connection, "down").await;
    let first = keys.end(&mut connection, End::First).await.expect("an end").expect("rows");
    assert_eq!(first, ["0", "10"], "an index that only descends is walked upwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_cut_and_bounded_in_their_own_order_with_statistics_and_without() {
    let lab = Lab::open().await;
    let tables = every_kind_of_table(&lab).await;
    let mut connection = connect(&lab).await;
    for name in &tables {
        let keys = keys(&mut connection, name).await;
        walk_all(&mut connection, &keys, None, 130).await;
        let unknown = cut_fairly(&mut connection, &keys, 8, 150).await;
        connection.execute(AssertSqlSafe(format!("ANALYZE {name}"))).await.expect("analysed");
        let analysed = cut_fairly(&mut connection, &keys, 8, 150).await;
        assert_eq!((unknown, analysed), (7, 7), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boundary_is_an_index_scan_without_a_sort_whatever_the_directions() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE mixed (a int NOT NULL, b int NOT NULL, pad text);
         CREATE UNIQUE INDEX ON mixed (a, b DESC);
         INSERT INTO mixed SELECT i % 2, i FROM generate_series(1, 100000) i",
    )
    .await;
    lab.sql("VACUUM ANALYZE mixed").await;
    let mut connection = connect(&lab).await;
    let keys = keys(&mut connection, "mixed").await;
    let Walk::Key(key) = &keys.part().walk else { panic!("a key") };
    // Deep inside the first of two huge groups: what is in front must not be read again.
    let (from, upper): (KeyText, KeyText) = (vec!["0".into(), "20000".into()], vec!["1".into(), "2".into()]);
    let relation = Some(howdah::postgres::key::Relation::Through);
    for piece in key.pieces("t", true, relation, key.shared(Some(&from), Some(&upper))) {
        let sql = format!(
            "EXPLAIN SELECT {} FROM mixed t WHERE {piece} ORDER BY {} OFFSET 999 LIMIT 1",
            key.as_text("t"),
            key.order("t")
        );
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&from)
            .bind(&upper)
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan = lines.join("\n");
        assert!(plan.contains("Index Only Scan") && plan.contains("Index Cond") && !plan.contains("Sort"), "{plan}");
    }
    let sql = format!(
        "EXPLAIN (ANALYZE, FORMAT TEXT, TIMING OFF) SELECT count(*) FROM mixed t WHERE {}",
        key.between("t", true, relation, 1)
    );
    let near: KeyText = vec!["0".into(), "18000".into()];
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(&from)
        .bind(&near)
        .fetch_all(&mut connection)
        .await
        .expect("a plan");
    let plan = lines.join("\n");
    assert!(plan.contains("Index Cond") && !plan.contains("Rows Removed"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_cut_into_equal_parts_by_its_statistics_or_by_a_sample_and_never_by_a_scan() {
    let lab = Lab::open().await;
    // Sparse and skewed on purpose: half of the keys within a thousandth of the space.
    lab.sql(
        "CREATE TABLE skewed (id bigint PRIMARY KEY, pad text);
         INSERT INTO skewed SELECT CASE WHEN i <= 50000 THEN i ELSE i * 1000000000::bigint END, repeat('x', 50)
             FROM generate_series(1, 100000) i;
         CREATE TABLE pairs (a int, b uuid, pad text, PRIMARY KEY (a, b));
         INSERT INTO pairs SELECT i % 20, md5(i::text)::uuid, repeat('x', 50) FROM generate_series(1, 100000) i;
         CREATE TABLE few (id int PRIMARY KEY); INSERT INTO few SELECT generate_series(1, 5);
         CREATE TABLE none (id int PRIMARY KEY); CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1);
         CREATE TYPE mood AS ENUM ('low', 'mid', 'high'); CREATE TABLE moods (m mood PRIMARY KEY);
         INSERT INTO moods VALUES ('low'), ('high'), ('mid')",
    )
    .await;
    let mut connection = connect(&lab).await;
    for analysed in [false, true] {
        for name in ["skewed", "pairs"] {
            let keys = keys(&mut connection, name).await;
            // A sample of blocks is coarser than a histogram of rows.
            let cuts = cut_fairly(&mut connection, &keys, 64, if analysed { 200 } else { 300 }).await;
            assert!(cuts >= 60, "{name}: {cuts}");
        }
        let keys_few = keys(&mut connection, "few").await;
        assert!(cut_fairly(&mut connection, &keys_few, 64, 6400).await <= 3);
        let moods = keys(&mut connection, "moods").await;
        assert_eq!(cut_fairly(&mut connection, &moods, 3, 300).await, 1);
        let one = keys(&mut connection, "one").await;
        assert_eq!(one.cuts(&mut connection, None, &vec!["1".into()], 8).await.expect("cuts"), Vec::<KeyText>::new());
        let none = keys(&mut connection, "none").await;
        assert_eq!(none.end(&mut connection, End::Last).await.expect("an answer"), None);
        if !analysed {
            connection.execute("ANALYZE").await.expect("analysed");
        }
    }
    let keys = keys(&mut connection, "skewed").await;
    let (lower, upper) = (vec!["1000".to_owned()], vec!["2000".to_owned()]);
    let cuts = keys.cuts(&mut connection, Some(&lower), &upper, 4).await.expect("cuts");
    assert!(cuts.iter().all(|cut| (1001..2000).contains(&cut[0].parse::<i64>().expect("a number"))), "{cuts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_walked_by_blocks_and_every_row_is_in_one_batch() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE heap (n int, pad text); INSERT INTO heap SELECT i, repeat('x', i % 200) FROM generate_series(1, 5000) i;
         DELETE FROM heap WHERE n BETWEEN 1000 AND 2500; ANALYZE heap;
         CREATE TABLE empty (n int)",
    )
    .await;
    let mut connection = connect(&lab).await;
    let empty = keys(&mut connection, "empty").await;
    assert_eq!(empty.end(&mut connection, End::Last).await.expect("an answer"), None);
    let keys = keys(&mut connection, "heap").await;
    let Walk::Blocks(blocks) = keys.part().walk else { panic!("blocks") };
    let upper = keys.end(&mut connection, End::Last).await.expect("an end").expect("blocks");
    // PostgreSQL 13 lists places where newer servers compare them; both find the same rows.
    for scan in [howdah::postgres::walk::BlockScan::Range, howdah::postgres::walk::BlockScan::List] {
        let walk = Walk::Blocks(howdah::postgres::walk::Blocks { scan, ..blocks });
        let keys = Keyspace::new(howdah::postgres::catalog::Part { walk, ..keys.part().clone() });
        let (mut from, mut rows) = (None, 0);
        while let Some(boundary) = keys.boundary(&mut connection, from.as_ref(), Some(&upper), 300).await.expect("rows")
        {
            assert!((1..600).contains(&boundary.rows), "{boundary:?}");
            rows += boundary.rows;
            from = Some(boundary.key);
        }
        assert_eq!(rows, 3499);
    }
    let cuts = keys.cuts(&mut connection, None, &upper, 8).await.expect("cuts");
    assert_eq!(cuts.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_key_that_holds_every_row_once_is_chosen() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE EXTENSION citext; CREATE SCHEMA far; ALTER EXTENSION citext SET SCHEMA far;
         CREATE TABLE a (x bigint NOT NULL, y int NOT NULL, z text NOT NULL, w int, UNIQUE (x, y), UNIQUE (z), UNIQUE (w));
         CREATE UNIQUE INDEX ON a (y) WHERE y > 0; CREATE UNIQUE INDEX ON a (lower(z));
         ALTER TABLE a ADD UNIQUE (y) DEFERRABLE; CREATE UNIQUE INDEX ON a (x NULLS FIRST);
         CREATE TABLE b (x bigint NOT NULL UNIQUE, y smallint NOT NULL UNIQUE, z text PRIMARY KEY);
         CREATE TABLE c (x bigint NOT NULL UNIQUE, y smallint NOT NULL UNIQUE);
         CREATE TABLE d (x text NOT NULL); CREATE UNIQUE INDEX ON d (x text_pattern_ops);
         CREATE DOMAIN positive AS int CHECK (value > 0); CREATE DOMAIN small_positive AS positive CHECK (value < 100);
         CREATE TABLE e (x small_positive PRIMARY KEY);
         CREATE TABLE f (x far.citext PRIMARY KEY);
         CREATE TABLE g (x int PRIMARY KEY) PARTITION BY HASH (x);
         CREATE TABLE g0 PARTITION OF g FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE g1 PARTITION OF g FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    )
    .await;
    let mut connection = connect(&lab).await;
    let table_of =
        [("a", "z"), ("b", "z"), ("c", "y"), ("d", "block"), ("e", "x"), ("f", "x"), ("g", "x, in 2 partitions")];
    for (name, walk) in table_of {
        assert_eq!(table(&mut connection, name).await.describe_walk(), walk, "{name}");
    }
    let column = async |connection: &mut PgConnection, name: &str| match &keys(connection, name).await.part().walk {
        Walk::Key(key) => key.columns[0].clone(),
        Walk::Blocks(_) => panic!("a key"),
    };
    assert_eq!(column(&mut connection, "e").await.type_name, "integer", "beneath both domains");
    let far = column(&mut connection, "f").await;
    assert_eq!((far.type_name.as_str(), far.operators.as_deref()), ("far.citext", Some("far")));
    assert_eq!(table(&mut connection, "g").await.partition_key, ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_analysed_right_after_they_came_are_not_foretold_twice() {
    let lab = Lab::open().await;
    let mut one = connect(&lab).await;
    for sql in [
        "CREATE TABLE fresh (id int PRIMARY KEY)",
        "INSERT INTO fresh SELECT generate_series(1, 50000)",
        "ANALYZE fresh",
    ] {
        one.execute(sql).await.expect("rows");
    }
    // Now its counts reach the server's statistics: those of the ANALYZE, and the inserted ones beside them.
    one.close().await.expect("closed");
    lab.until("SELECT n_live_tup > 75000 FROM pg_stat_user_tables WHERE relname = 'fresh'").await;
    let mut connection = connect(&lab).await;
    let keys = keys(&mut connection, "fresh").await;
    let rows = keys.rows(&mut connection).await.expect("statistics").expect("an estimate");
    assert!((45_000..55_000).contains(&rows), "{rows}");
}
