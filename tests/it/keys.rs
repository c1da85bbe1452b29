//! Tables of every shape of key are walked whole, in small batches, each row once.

use std::fmt::Write;

use crate::support::Lab;

/// Name, columns with the key, rows, key.
const TABLES: [(&str, &str, &str, &str); 9] = [
    ("k_bigint", "id bigint", "SELECT (i - 500) * 1000000000000000 FROM generate_series(1, 1000) i", "id"),
    ("k_smallint", "id smallint", "SELECT i - 500 FROM generate_series(1, 1000) i", "id"),
    ("k_uuid", "id uuid", "SELECT md5(i::text)::uuid FROM generate_series(1, 1000) i", "id"),
    (
        "k_text",
        "id text COLLATE \"C.utf8\"",
        "SELECT CASE WHEN i % 3 = 0 THEN 'É' ELSE '' END || md5(i::text) || ' ''\"\\,{}' FROM generate_series(1, 1000) i",
        "id",
    ),
    (
        "k_timestamptz",
        "id timestamptz",
        "SELECT '2026-01-01'::timestamptz + i * interval '1.000001 s' FROM generate_series(1, 1000) i",
        "id",
    ),
    ("k_numeric", "id numeric", "SELECT (i - 500) / 7.0 FROM generate_series(1, 1000) i", "id"),
    ("k_date", "id date", "SELECT '0001-01-01'::date + i FROM generate_series(1, 1000) i", "id"),
    ("k_bytea", "id bytea", "SELECT decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i", "id"),
    ("\"K pair\"", "a int, \"B\" text", "SELECT i % 10, md5(i::text) FROM generate_series(1, 1000) i", "a, \"B\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_walked_each_row_once() {
    let lab = Lab::open().await;
    lab.sql("CREATE SCHEMA \"Odd schema\"").await;
    let mut plan = String::from("name = \"keys\"\n[limits]\nbatch = { start = 64, min = 1, max = 64 }\n");
    for (name, columns, rows, key) in TABLES {
        lab.sql(&format!(
            "CREATE TABLE \"Odd schema\".{name} ({columns}, n int NOT NULL DEFAULT 0, PRIMARY KEY ({key}));
             INSERT INTO \"Odd schema\".{name} ({key}) {rows}"
        ))
        .await;
        write!(plan, "[[step]]\nname = '{name}'\nbackfill = '\"Odd schema\".{name}'\nset = {{ n = \"n + 1\" }}\n")
            .expect("text");
    }
    let plan = lab.plan("keys.toml", &plan);
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    for (name, ..) in TABLES {
        let wrong = lab.number(&format!("SELECT count(*) FROM \"Odd schema\".{name} WHERE n <> 1")).await;
        assert_eq!(wrong, 0, "{name}");
    }
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert_eq!(walked, 9000);
    let batches = lab.number("SELECT min(batches) FROM howdah.segment").await;
    assert!(batches >= 16, "every table took many batches: {batches}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_and_a_table_of_one_row_are_done_at_once() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE none (id int PRIMARY KEY, n int DEFAULT 0); CREATE TABLE one (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO one VALUES (5)").await;
    let plan = lab.plan(
        "small.toml",
        "name = \"small\"\n[[step]]\nname = \"none\"\nbackfill = \"none\"\nset = { n = \"n + 1\" }\n[[step]]\nname = \"one\"\nbackfill = \"one\"\nset = { n = \"n + 1\" }\nwhere = \"n = 0\"\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT n::bigint FROM one").await, 1);
}
