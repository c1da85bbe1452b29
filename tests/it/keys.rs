//! Tables of every shape of key are walked whole, in small batches, each row once.

use std::fmt::Write;

use crate::support::Lab;

/// What the tables need: types, collations, an extension whose operators are not on the search path.
const TYPES: &str = "CREATE EXTENSION citext; CREATE SCHEMA far; CREATE SCHEMA \"Odd schema\";
    CREATE TYPE mood AS ENUM ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine');
    CREATE DOMAIN positive AS bigint CHECK (value > 0);
    CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    ALTER EXTENSION citext SET SCHEMA far";

/// Mixed cases, quotes, commas, backslashes and braces, in 1,000 texts that differ in more than case.
const WORDS: &str = "SELECT CASE WHEN i % 3 = 0 THEN 'É' WHEN i % 3 = 1 THEN 'b' ELSE 'B' END || md5(i::text) || ' ''\"\\,{}' FROM generate_series(1, 1000) i";

/// Name, columns, rows, and the key: of a primary key, or a whole index with its directions.
const TABLES: &[(&str, &str, &str, &str)] = &[
    ("k_bigint", "id bigint", "SELECT (i - 500) * 1000000000000000 FROM generate_series(1, 1000) i", "id"),
    ("k_int", "id int", "SELECT (i - 500) * 4000000 FROM generate_series(1, 1000) i", "id"),
    ("k_smallint", "id smallint", "SELECT i - 500 FROM generate_series(1, 1000) i", "id"),
    ("k_uuid", "id uuid", "SELECT md5(i::text)::uuid FROM generate_series(1, 1000) i", "id"),
    ("k_text", "id text", WORDS, "id"),
    ("k_text_c", "id text COLLATE \"C\"", WORDS, "id"),
    ("k_text_icu", "id text COLLATE \"de-x-icu\"", WORDS, "id"),
    ("k_text_caseless", "id text COLLATE caseless", WORDS, "id"),
    ("k_varchar", "id varchar(80)", WORDS, "id"),
    ("k_char", "id char(6)", "SELECT lpad(to_hex(i), 3, 'x') FROM generate_series(1, 1000) i", "id"),
    ("k_citext", "id far.citext", WORDS, "id"),
    (
        "k_citext_pair",
        "a far.citext, b int",
        "SELECT CASE WHEN i % 2 = 0 THEN 'Aa' ELSE 'b' END || i % 10, i FROM generate_series(1, 1000) i",
        "a, b",
    ),
    (
        "k_timestamptz",
        "id timestamptz",
        "SELECT '2026-03-29 00:30+00'::timestamptz + i * interval '17.000001 s' FROM generate_series(1, 1000) i",
        "id",
    ),
    (
        "k_old_timestamptz",
        "id timestamptz",
        "SELECT '0044-03-15 BC'::timestamptz + i * interval '5 years 1 us' FROM generate_series(1, 1000) i",
        "id",
    ),
    (
        "k_timestamp",
        "id timestamp",
        "SELECT '1999-12-31 23:59:59.999'::timestamp + i * interval '1 us' FROM generate_series(1, 1000) i",
        "id",
    ),
    ("k_date", "id date", "SELECT '0001-01-01'::date + i FROM generate_series(1, 1000) i", "id"),
    ("k_numeric", "id numeric", "SELECT (i - 500) / 7.0 FROM generate_series(1, 999) i UNION ALL SELECT 'NaN'", "id"),
    ("k_bytea", "id bytea", "SELECT decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i", "id"),
    (
        "k_enum",
        "a mood, b int",
        "SELECT (enum_range(NULL::mood))[1 + i % 10], i FROM generate_series(1, 1000) i",
        "a, b",
    ),
    ("k_domain", "id positive", "SELECT i FROM generate_series(1, 1000) i", "id"),
    ("k_boolean", "a boolean, b int", "SELECT i % 2 = 0, i FROM generate_series(1, 1000) i", "a, b"),
    ("k_inet", "id inet", "SELECT '10.0.0.0'::inet + i FROM generate_series(1, 1000) i", "id"),
    (
        "k_float",
        "id float8",
        "SELECT (i - 500) / 3.0::float8 FROM generate_series(1, 997) i UNION ALL SELECT unnest('{NaN,Infinity,-Infinity}'::float8[])",
        "id",
    ),
    (
        "k_interval",
        "id interval",
        "SELECT (i - 500) * interval '1 day -3 hours 0.000001 s' FROM generate_series(1, 1000) i",
        "id",
    ),
    ("\"K pair\"", "a int, \"B\" text", "SELECT i % 10, md5(i::text) FROM generate_series(1, 1000) i", "a, \"B\""),
    (
        "k_four",
        "a int, b date, c uuid, d numeric",
        "SELECT i % 2, '2026-01-01'::date + i % 3, md5(i::text)::uuid, i FROM generate_series(1, 1000) i",
        "a, b, c, d",
    ),
    ("u_plain", "id bigint NOT NULL", "SELECT i * 3 FROM generate_series(1, 1000) i", "UNIQUE INDEX (id)"),
    (
        "u_down",
        "a int NOT NULL, b text NOT NULL",
        "SELECT i % 4, md5(i::text) FROM generate_series(1, 1000) i",
        "UNIQUE INDEX (a DESC, b DESC)",
    ),
    (
        "u_mixed",
        "a int NOT NULL, b date NOT NULL",
        "SELECT i % 3, '2000-01-01'::date + i FROM generate_series(1, 1000) i",
        "UNIQUE INDEX (a, b DESC)",
    ),
    (
        "u_mixed_four",
        "a boolean NOT NULL, b mood NOT NULL, c timestamptz NOT NULL, d text NOT NULL",
        "SELECT i % 2 = 0, (enum_range(NULL::mood))[1 + i % 3], '2026-01-01'::timestamptz + (i % 5) * interval '1 us', md5(i::text) FROM generate_series(1, 1000) i",
        "UNIQUE INDEX (a DESC, b, c DESC, d)",
    ),
    ("u_collated", "id text NOT NULL", WORDS, "UNIQUE INDEX (id COLLATE \"C\")"),
    (
        "\"schön \"\" größe.ñ 象 a_name_of_sixty_three_bytes_in_all_quix\"",
        "\"Ключ %s {batch} $1\" int",
        "SELECT i FROM generate_series(1, 1000) i",
        "\"Ключ %s {batch} $1\"",
    ),
];

const SMALL: &str = "[limits]\nbatch = { start = 64, min = 1, max = 64 }\n";

/// Makes all of them, and returns their names as SQL writes them.
pub async fn every_kind_of_table(lab: &Lab) -> Vec<String> {
    lab.sql(TYPES).await;
    // Settings of the database that change what a text looks like.
    lab.sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''SQL, DMY''', current_database());
         EXECUTE format('ALTER DATABASE %I SET extra_float_digits = 0', current_database());
         EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database());
         EXECUTE format('ALTER DATABASE %I SET intervalstyle = sql_standard', current_database()); END $$",
    )
    .await;
    let bare = |column: &str| match column.strip_prefix('"') {
        Some(quoted) => format!("\"{}\"", quoted.split_once('"').expect("a quoted name").0),
        None => column.split(' ').next().expect("a name").to_owned(),
    };
    for (name, columns, rows, key) in TABLES {
        let (constraint, index) = match key.strip_prefix("UNIQUE INDEX ") {
            Some(on) => (String::new(), format!("CREATE UNIQUE INDEX ON \"Odd schema\".{name} {on};")),
            None => (format!(", PRIMARY KEY ({key})"), String::new()),
        };
        let names: Vec<String> = columns.split(", ").map(bare).collect();
        lab.sql(&format!(
            "CREATE TABLE \"Odd schema\".{name} ({columns}, n int NOT NULL DEFAULT 0{constraint}); {index}
             INSERT INTO \"Odd schema\".{name} ({}) {rows}",
            names.join(", ")
        ))
        .await;
    }
    TABLES.iter().map(|(name, ..)| format!("\"Odd schema\".{name}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_walked_each_row_once() {
    let lab = Lab::open().await;
    let tables = every_kind_of_table(&lab).await;
    let mut plan = format!("name = \"keys\"\n{SMALL}");
    for (number, name) in tables.iter().enumerate() {
        write!(plan, "[[step]]\nname = 'table {number}'\nbackfill = '{name}'\nset = {{ n = \"n + 1\" }}\n")
            .expect("text");
    }
    let plan = lab.plan("keys.toml", &plan);
    // Walked in two sittings, so that keys also come back from the ledger.
    let run = ["run", plan.to_str().expect("a path"), "--headless"];
    lab.howdah(&run).env("HOWDAH_FAILPOINTS", "batch.committed=kill@200").run();
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    for name in &tables {
        let wrong = lab.number(&format!("SELECT count(*) FROM {name} WHERE n <> 1")).await;
        assert_eq!(wrong, 0, "{name}");
    }
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert_eq!(walked, 1000 * i64::try_from(tables.len()).expect("few"));
    let batches =
        lab.number("SELECT min(b) FROM (SELECT sum(batches)::bigint AS b FROM howdah.segment GROUP BY step) s").await;
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

/// Partitions by range with a default, by hash, sub-partitioned; one leaf in another schema, one without a row.
const PARTITIONED: &str = "CREATE SCHEMA attic;
    CREATE TABLE by_range (id bigint, at date, n int NOT NULL DEFAULT 0, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE TABLE attic.\"by range 2025\" PARTITION OF by_range FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE by_range_2026 PARTITION OF by_range FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
    CREATE TABLE by_range_2026_0 PARTITION OF by_range_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE by_range_2026_1 PARTITION OF by_range_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE by_range_empty PARTITION OF by_range FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
    CREATE TABLE by_range_rest PARTITION OF by_range DEFAULT;
    INSERT INTO by_range (id, at) SELECT i, '2024-07-01'::date + i % 1200 FROM generate_series(1, 3000) i;
    CREATE TABLE by_hash (id int PRIMARY KEY, n int NOT NULL DEFAULT 0) PARTITION BY HASH (id);
    CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO by_hash SELECT i FROM generate_series(1, 2000) i";

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_are_walked_partition_by_partition_each_row_once() {
    let lab = Lab::open().await;
    lab.sql(PARTITIONED).await;
    let plan = lab.plan(
        "parts.toml",
        &format!(
            r#"
name = "parts"
{SMALL}
[[step]]
name = "set"
backfill = "by_range"
set = {{ n = "by_range.n + 1" }}
[[step]]
name = "raw"
backfill = "by_range"
alias = "r"
sql = "UPDATE by_range AS r SET n = r.n + 10 WHERE {{batch}}"
where = "r.n < 10"
[[step]]
name = "hash"
backfill = "by_hash"
set = {{ n = "n + 1" }}
where = "n = 0"
"#
        ),
    );
    let plan = plan.to_str().expect("a path");
    lab.howdah(&["check", plan])
        .run()
        .expect_code(0)
        .expect_words(&["\"public\".\"by_range\", walked by (at, id), in 5 partitions"]);
    lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "batch.committed=kill@30").run();
    lab.howdah(&["resume", "--headless"]).env("HOWDAH_FAILPOINTS", "batch.changed=kill@30").run();
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM by_range WHERE n <> 11").await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM by_hash WHERE n <> 1").await, 0);
    assert_eq!(lab.number("SELECT count(DISTINCT part) FROM howdah.segment WHERE step = 0").await, 4, "one has no row");
    assert_eq!(lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment WHERE step = 0").await, 3000);
    assert_eq!(
        lab.number("SELECT count(DISTINCT step) FROM howdah.segment WHERE part LIKE '\"attic\".\"by range 2025\"'")
            .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_walked_by_blocks_with_a_condition() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE heap (a int, n int NOT NULL DEFAULT 0, done boolean NOT NULL DEFAULT false, pad text);
         INSERT INTO heap SELECT i % 7, 0, false, repeat('x', i % 100) FROM generate_series(1, 5000) i;
         CREATE TABLE stays (a int, n int NOT NULL DEFAULT 0); INSERT INTO stays SELECT i FROM generate_series(1, 500) i;
         CREATE TABLE mixed_parts (a int, n int NOT NULL DEFAULT 0) PARTITION BY LIST (a);
         CREATE TABLE with_key PARTITION OF mixed_parts FOR VALUES IN (1); CREATE TABLE without PARTITION OF mixed_parts DEFAULT;
         ALTER TABLE with_key ALTER a SET NOT NULL; CREATE UNIQUE INDEX ON with_key (a); INSERT INTO mixed_parts SELECT i FROM generate_series(1, 400) i",
    )
    .await;
    let run = |name: &str, step: &str| {
        let text = format!("name = \"{name}\"\n{SMALL}[[step]]\nname = \"s\"\n{step}\n");
        let plan = lab.plan(&format!("{name}.toml"), &text);
        lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"])
    };
    run("heap", "backfill = \"heap\"\nset = { n = \"n + 1\", done = \"true\" }\nwhere = \"NOT done\"")
        .env("HOWDAH_FAILPOINTS", "batch.committed=kill@20")
        .run();
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM heap WHERE n <> 1 OR NOT done").await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM heap").await, 5000);
    run(
        "raw",
        "backfill = \"heap\"\nalias = \"h\"\nsql = \"UPDATE heap AS h SET n = n + 1, done = false WHERE {batch}\"\nwhere = \"h.done\"",
    )
    .run()
    .expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM heap WHERE n <> 2 OR done").await, 0);
    run("parts", "backfill = \"mixed_parts\"\nset = { n = \"n + 1\" }\nwhere = \"n = 0\"").run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM mixed_parts WHERE n <> 1").await, 0);
    // A condition that the change leaves true would change rows again where the server has put them.
    run("stays", "backfill = \"stays\"\nset = { n = \"n + 1\" }\nwhere = \"a > 0\"")
        .run()
        .expect_code(1)
        .expect_words(&["match `where` still after their change", "a `where` that the change makes false"]);
    assert_eq!(lab.number("SELECT count(*) FROM stays WHERE n <> 0").await, 0);
    run("bare", "backfill = \"heap\"\nset = { n = \"n + 1\" }").run().expect_code(2).expect_words(&[
        "`heap` has no primary key",
        "needs a `where`",
        "that the change makes false",
        "ALTER TABLE \"public\".\"heap\" ADD COLUMN id bigint",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_triggers_foreign_keys_and_names_in_other_schemas_do_what_they_do() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE SCHEMA app; CREATE TABLE app.tenants (id int PRIMARY KEY); INSERT INTO app.tenants SELECT generate_series(1, 3);
         CREATE TABLE app.users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int NOT NULL REFERENCES app.tenants,
             email text NOT NULL, folded text GENERATED ALWAYS AS (lower(email)) STORED, touched int NOT NULL DEFAULT 0,
             number int GENERATED BY DEFAULT AS IDENTITY);
         INSERT INTO app.users (tenant, email) SELECT 1 + i % 3, 'U' || i FROM generate_series(1, 1000) i;
         CREATE TABLE app.letters (user_id bigint REFERENCES app.users ON UPDATE CASCADE); INSERT INTO app.letters SELECT id FROM app.users;
         CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END $$;
         CREATE TRIGGER touch BEFORE UPDATE ON app.users FOR EACH ROW EXECUTE FUNCTION app.touch()",
    )
    .await;
    let plan = lab.plan(
        "users.toml",
        &format!("name = \"users\"\n{SMALL}[[step]]\nname = \"s\"\nbackfill = \"app.users\"\nset = {{ email = \"'x' || email\", tenant = \"1 + tenant % 3\", number = \"number + 1000\" }}\nwhere = \"email NOT LIKE 'x%'\"\n"),
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let right = "email = 'xU' || id AND folded = lower(email) AND touched = 1 AND number = id + 1000 AND tenant = 1 + (1 + id % 3) % 3";
    assert_eq!(lab.number(&format!("SELECT count(*) FROM app.users WHERE {right}")).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_walked_or_set_is_refused_with_the_place_and_a_hint() {
    let lab = Lab::open().await;
    lab.sql(PARTITIONED).await;
    lab.sql(
        "CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY, x int, y int GENERATED ALWAYS AS (x + 1) STORED, k int PRIMARY KEY);
         CREATE TABLE old (id int PRIMARY KEY, n int); CREATE TABLE young () INHERITS (old);
         CREATE MATERIALIZED VIEW seen AS SELECT 1 AS a; CREATE SEQUENCE numbers;
         CREATE TABLE heap (a int);
         CREATE TABLE by_expression (id int, k text, n int) PARTITION BY LIST (lower(k));
         CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE TABLE spread (id int, n int) PARTITION BY LIST (id); CREATE TABLE spread_1 PARTITION OF spread FOR VALUES IN (1);
         CREATE FOREIGN TABLE spread_far PARTITION OF spread FOR VALUES IN (2) SERVER files OPTIONS (filename '/dev/null')",
    )
    .await;
    let refusals: [(&str, &str, &[&str]); 11] = [
        ("made", "y = \"1\"", &["`y` is a generated column", "computed from", ":6:"]),
        ("made", "id = \"1\"", &["`id` is GENERATED ALWAYS AS IDENTITY", "SET GENERATED BY DEFAULT", ":6:"]),
        ("by_range", "at = \"at + 1\"", &["`at` is part of the partition key of `by_range`", "move rows"]),
        ("by_range", "id = \"id + 1\"", &["`id` is part of the partition key"]),
        ("by_range_2026_0", "at = \"at + 1\"", &["`at` is part of the partition key of `by_range_2026_0`"]),
        ("by_expression", "k = \"upper(k)\"", &["`k` is part of the partition key"]),
        ("old", "n = \"1\"", &["has tables that inherit from it"]),
        ("seen", "a = \"1\"", &["is a materialised view"]),
        ("numbers", "a = \"1\"", &["is not a table"]),
        ("spread", "n = \"1\"", &["has a partition that is a foreign table, public.spread_far"]),
        ("spread_far", "n = \"1\"", &["is a foreign table"]),
    ];
    for (table, set, words) in refusals {
        let text = format!("name = \"r\"\n\n[[step]]\nname = \"s\"\nbackfill = \"{table}\"\nset = {{ {set} }}\n");
        let plan = lab.plan("refused.toml", &text);
        lab.howdah(&["check", plan.to_str().expect("a path")])
            .run()
            .expect_code(2)
            .expect_words(words)
            .expect_words(&["refused.toml"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_and_missing_rights_on_a_partition_are_said_before_anything_is_changed() {
    let lab = Lab::open().await;
    lab.sql(PARTITIONED).await;
    lab.sql(
        "CREATE ROLE clerk LOGIN; CREATE SCHEMA howdah AUTHORIZATION clerk; GRANT USAGE ON SCHEMA attic TO clerk;
         CREATE TABLE notes (id int PRIMARY KEY, owner text, n int NOT NULL DEFAULT 0);
         INSERT INTO notes SELECT i, CASE WHEN i % 4 = 0 THEN 'clerk' ELSE 'boss' END FROM generate_series(1, 400) i;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (owner = current_user);
         GRANT SELECT, UPDATE ON notes, by_range, by_hash, by_hash_0 TO clerk; GRANT SELECT ON by_hash_1 TO clerk",
    )
    .await;
    let url = lab.url.replace("demo@", "clerk@");
    let run = |name: &str, table: &str| {
        let text = format!(
            "name = \"{name}\"\n{SMALL}[[step]]\nname = \"s\"\nbackfill = \"{table}\"\nset = {{ n = \"n + 1\" }}\n"
        );
        let plan = lab.plan(&format!("{name}.toml"), &text);
        lab.howdah(&["run", plan.to_str().expect("a path"), "--headless", "--database", &url])
    };
    run("notes", "notes").run().expect_code(0).expect_words(&[
        "row security hides rows of `notes` from role `clerk`: only rows that it shows are changed and counted",
    ]);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM notes").await, 100);
    run("hash", "by_hash").run().expect_code(1).expect_words(&[
        "role `clerk` may not change partition `by_hash_1` of `by_hash`",
        "42501",
        "GRANT SELECT, UPDATE ON \"public\".\"by_hash_1\" TO \"clerk\"",
    ]);
    run("range", "by_range").run().expect_code(1).expect_words(&["partition `attic.by range 2025`"]);
    lab.sql("GRANT UPDATE (n) ON by_hash_1 TO clerk").await;
    run("hash", "by_hash").run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM by_hash WHERE n <> 1").await, 0);
}
