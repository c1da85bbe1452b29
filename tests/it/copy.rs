//! Rows copied within a database and between two servers: which, in which order, and what is said where it cannot be.

use crate::support::Lab;

/// A plan of one copy.
pub(crate) fn plan_of(lab: &Lab, step: &str) -> String {
    plan_with(lab, "workers = 2", step)
}

/// A plan of one copy, with limits of its own.
pub(crate) fn plan_with(lab: &Lab, limits: &str, step: &str) -> String {
    let text = format!(
        r#"
name = "copies"
[limits]
{limits}
batch = {{ start = 100, min = 50, max = 500, target = "500ms" }}
[retry]
base = "50ms"
[breaker]
reset = "2s"
[[step]]
name = "copy"
{step}
"#
    );
    lab.plan("copies.toml", &text).to_str().expect("a path").to_owned()
}

/// All rows of a table as text, in an order that both sides share.
pub(crate) async fn rows(lab: &Lab, table: &str) -> String {
    lab.text(&format!(
        "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\"), '') FROM {table} AS t"
    ))
    .await
}

pub(crate) async fn expect_same(from: &Lab, source: &str, to: &Lab, target: &str) {
    let (there, here) = (rows(from, source).await, rows(to, target).await);
    assert!(there == here, "{source} and {target} differ:\n{there:.2000}\n---\n{here:.2000}");
}

/// Values of many types, some NULL, some of them odd.
const PEOPLE: &str =
    "CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, mail varchar(60),
        n numeric(20,4), f float8, at timestamptz, day date, raw bytea, doc jsonb, tags text[], ok boolean, u uuid,
        span interval, net inet, upper_name text GENERATED ALWAYS AS (upper(name)) STORED)";

async fn people(lab: &Lab, rows: u32) {
    lab.sql(PEOPLE).await;
    lab.sql(&format!(
        "INSERT INTO people (name, mail, n, f, at, day, raw, doc, tags, ok, u, span, net)
         SELECT CASE WHEN i % 7 = 0 THEN NULL WHEN i % 7 = 1 THEN '' ELSE E'it''s \\\\ \\t \\n ' || i END,
                'm' || i || '@example.com', i * 1.0625, i / 3.0, timestamptz '2020-01-01' + i * interval '1 hour',
                date '2020-01-01' + i, decode(lpad(to_hex(i), 8, '0'), 'hex'), jsonb_build_object('i', i, 'x', NULL),
                ARRAY['a', NULL, i::text], i % 3 = 0, md5(i::text)::uuid, i * interval '1 minute', '10.0.0.0'::inet + i
         FROM generate_series(1, {rows}) i; ANALYZE people"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_copied_within_its_database_and_the_sequence_follows() {
    let lab = Lab::open().await;
    people(&lab, 3000).await;
    lab.sql(&PEOPLE.replace("people", "archive")).await;
    let plan = plan_of(&lab, "copy = 'people'\nto = 'archive'\nverify = 'checksum'");
    lab.howdah(&["check", &plan]).run().expect_code(0);
    let ended = lab.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    ended.expect_words(&["3,000 rows copied; checksums agree", "not of one moment"]);
    expect_same(&lab, "people", &lab, "archive").await;
    lab.sql("INSERT INTO archive (name) VALUES ('next')").await;
    assert_eq!(lab.number("SELECT max(id) FROM archive").await, 3001, "the sequence goes on behind the last row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_copied_between_two_servers_in_binary_and_as_text() {
    let (from, to) = (Lab::open().await, Lab::open().await);
    people(&from, 3000).await;
    to.sql(PEOPLE).await;
    // An enum is not the server's own: that table goes as text.
    let moods =
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE moods (id int PRIMARY KEY, mood mood, price money)";
    from.sql(moods).await;
    to.sql(moods).await;
    from.sql("INSERT INTO moods SELECT i, CASE WHEN i % 2 = 0 THEN 'glad' ELSE 'sad' END::mood, i::money FROM generate_series(-500, 500) i")
        .await;
    let step = format!("copy = ['people', 'moods']\nfrom = '{}'\nverify = 'checksum'", from.url);
    let plan = plan_of(&to, &step);
    to.howdah(&["check", &plan]).run().expect_code(0);
    let ended = to.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    ended.expect_words(&["4,001 rows copied; checksums agree"]);
    expect_same(&from, "people", &to, "people").await;
    expect_same(&from, "moods", &to, "moods").await;
    assert_eq!(from.number("SELECT (to_regnamespace('howdah') IS NOT NULL)::int::bigint").await, 0, "only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_mapped_and_rows_are_chosen_on_both_ways() {
    let (from, to) = (Lab::open().await, Lab::open().await);
    for lab in [&from, &to] {
        people(lab, 1000).await;
        lab.sql("CREATE TABLE mails (no numeric PRIMARY KEY, mail varchar(60) NOT NULL, len int, at date DEFAULT '2001-02-03')")
            .await;
    }
    let step = "copy = 'people'\nto = 'mails'\ncolumns = { no = 'id', mail = 'lower(people.mail) -- small', len = 'length(mail)' }\n\
                where = 'id % 2 = 0 -- even'\nverify = 'checksum'";
    for step in [step.to_owned(), format!("{step}\nfrom = '{}'", from.url)] {
        to.sql("TRUNCATE mails").await;
        let plan = plan_of(&to, &step);
        let ended = to.howdah(&["run", &plan, "--headless", "--new"]).run().expect_code(0);
        ended.expect_words(&["500 rows copied; checksums agree"]);
        let odd = "SELECT count(*) FROM mails WHERE no % 2 <> 0 OR len <> length(mail) OR at <> '2001-02-03'";
        assert_eq!(to.number(odd).await, 0);
        assert_eq!(to.number("SELECT count(*) FROM mails").await, 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_copied_behind_those_that_they_refer_to() {
    let (from, to) = (Lab::open().await, Lab::open().await);
    let shop = "CREATE SCHEMA shop;
        CREATE TABLE shop.lines (order_id int, no int, item int, PRIMARY KEY (order_id, no));
        CREATE TABLE shop.orders (id int PRIMARY KEY, customer int NOT NULL);
        CREATE TABLE shop.customers (id int PRIMARY KEY, referred_by int);
        CREATE TABLE shop.items (id int PRIMARY KEY, name text);
        CREATE TABLE shop.empty (id int PRIMARY KEY);
        CREATE TABLE shop.days (day date, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
        CREATE TABLE shop.days_1 PARTITION OF shop.days FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
        CREATE TABLE shop.days_2 PARTITION OF shop.days FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');";
    from.sql(shop).await;
    from.sql(
        "INSERT INTO shop.items SELECT i, 'item ' || i FROM generate_series(1, 700) i;
         INSERT INTO shop.customers SELECT i, nullif(i / 2, 0) FROM generate_series(1, 600) i;
         INSERT INTO shop.orders SELECT i, 1 + i % 600 FROM generate_series(1, 900) i;
         INSERT INTO shop.lines SELECT i / 3 + 1, i % 3, 1 + i % 700 FROM generate_series(0, 2600) i;
         INSERT INTO shop.days SELECT date '2020-01-01' + i % 60, i FROM generate_series(1, 800) i; ANALYZE",
    )
    .await;
    to.sql(&shop.replace("shop", "copy")).await;
    to.sql(
        "ALTER TABLE copy.orders ADD FOREIGN KEY (customer) REFERENCES copy.customers;
         ALTER TABLE copy.customers ADD FOREIGN KEY (referred_by) REFERENCES copy.customers;
         ALTER TABLE copy.lines ADD FOREIGN KEY (order_id) REFERENCES copy.orders, ADD FOREIGN KEY (item) REFERENCES copy.items",
    )
    .await;
    let step = format!("copy = 'shop.*'\nfrom = '{}'\nto = 'copy.*'\nverify = 'count'", from.url);
    let plan = plan_of(&to, &step);
    to.howdah(&["check", &plan]).run().expect_code(0);
    let ended = to.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    ended.expect_words(&["copy.orders", "copy.lines", "5,601 rows copied; counts agree", "refer to each other"]);
    for table in ["lines", "orders", "customers", "items", "empty", "days"] {
        expect_same(&from, &format!("shop.{table}"), &to, &format!("copy.{table}")).await;
    }
    // In a circle nobody can go first.
    to.sql(
        "ALTER TABLE copy.items ADD CONSTRAINT circle FOREIGN KEY (id) REFERENCES copy.orders NOT VALID;
            ALTER TABLE copy.orders ADD FOREIGN KEY (id) REFERENCES copy.items NOT VALID",
    )
    .await;
    to.howdah(&["check", &plan]).run().expect_code(2).expect_words(&["`copy.orders`", "`copy.items`", "in a circle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_shape_are_copied_between_two_servers() {
    let (from, to) = (Lab::open().await, Lab::open().await);
    let tables = [
        ("ints", "a int, b int, PRIMARY KEY (a, b)", "i % 10, i"),
        ("texts", "a text PRIMARY KEY, b int", "E'it''s \\\\ $1 \"' || i, i"),
        ("uuids", "a uuid PRIMARY KEY", "md5(i::text)::uuid"),
        (
            "times",
            "a timestamptz, b numeric, PRIMARY KEY (a, b)",
            "timestamptz '2020-01-01' + (i % 50) * interval '1 h', -i / 7.0",
        ),
        ("bytes", "a bytea PRIMARY KEY", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
        ("odd", "\"a$1\" int, \"b\"\"q\" date, PRIMARY KEY (\"a$1\", \"b\"\"q\")", "i, date '2020-01-01' + i"),
        ("none", "a int, b text", "i, i::text"),
    ];
    for (name, columns, values) in tables {
        let table = format!("CREATE TABLE {name} ({columns})");
        from.sql(&table).await;
        to.sql(&table).await;
        from.sql(&format!("INSERT INTO {name} SELECT {values} FROM generate_series(1, 1500) i; ANALYZE {name}")).await;
    }
    // An index of two directions is the only key.
    let mixed = "CREATE TABLE mixed (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX ON mixed (a DESC, b)";
    from.sql(mixed).await;
    to.sql(mixed).await;
    from.sql("INSERT INTO mixed SELECT i % 20, i FROM generate_series(1, 1500) i; ANALYZE mixed").await;
    let step = format!("copy = '*'\nfrom = '{}'\nverify = 'checksum'", from.url);
    let plan = plan_of(&to, &step);
    let ended = to.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    ended.expect_words(&["12,000 rows copied; checksums agree", "`none` has no key"]);
    for name in tables.map(|(name, ..)| name).into_iter().chain(["mixed"]) {
        expect_same(&from, name, &to, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_refused_with_what_to_do() {
    let (from, to) = (Lab::open().await, Lab::open().await);
    from.sql("CREATE TABLE a (id int PRIMARY KEY, email text, extra text); CREATE TABLE b (id int PRIMARY KEY)").await;
    to.sql(
        "CREATE TABLE a (id int PRIMARY KEY, email text NOT NULL, at date NOT NULL); CREATE TABLE c (id int PRIMARY KEY);
         CREATE TABLE b (id int PRIMARY KEY)",
    )
    .await;
    to.sql("CREATE DATABASE other").await;
    from.sql("CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; GRANT SELECT ON b TO reader").await;
    to.sql("CREATE ROLE writer LOGIN; GRANT CREATE ON DATABASE postgres TO writer").await;
    let source = &from.url;
    let reader = source.replace("demo@", "reader@");
    let other = to.url.replace("/postgres", "/other");
    let table: [(String, &[&str]); 9] = [
        (format!("copy = 'a'\nfrom = '{source}'"), &["`a` has no column `extra`, which `a` has", "columns ="]),
        (
            format!("copy = 'a'\nfrom = '{source}'\ncolumns = {{ id = 'id', email = 'email' }}"),
            &["column `at` of `a` is NOT NULL, has no default", "SET DEFAULT"],
        ),
        (format!("copy = 'nothing'\nfrom = '{source}'"), &["there is no table `nothing`"]),
        (format!("copy = 'b'\nfrom = '{source}'\nto = 'd'"), &["there is no table `d`", "pg_dump --schema-only"]),
        (format!("copy = 'zoo.*'\nfrom = '{source}'"), &["no table that fits `zoo.*`"]),
        (format!("copy = ['a', 'b']\nfrom = '{source}'\nto = 'c'"), &["2 tables cannot all go into `c`", "archive.*"]),
        ("copy = 'b'\nto = 'b'".to_owned(), &["`b` would be copied into itself"]),
        (format!("copy = 'a'\nfrom = '{reader}'\nto = 'c'\ncolumns = {{ id = 'id' }}"), &["permission denied", "a"]),
        (
            format!("copy = 'b'\nfrom = '{source}'\ndatabase = '{other}'"),
            &["there is no table", "pg_dump --schema-only"],
        ),
    ];
    for (step, words) in table {
        let plan = plan_of(&to, &step);
        let ended = to.howdah(&["check", &plan]).run();
        assert_ne!(ended.code(), Some(0), "{step}");
        ended.expect_words(words);
    }
    let at = to.url.replace("demo@", "writer@");
    let plan = plan_of(&to, &format!("copy = 'b'\nfrom = '{source}'"));
    to.howdah(&["check", &plan])
        .at(&at)
        .run()
        .expect_code(1)
        .expect_words(&["role `writer` may not write `b`", "GRANT INSERT"]);
}
