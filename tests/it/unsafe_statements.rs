//! What `check` says of statements, held against a server: which rewrite a table, which locks they take, whether what is
//! proposed in their place works.

use std::fmt::Write as _;

use howdah::check::Finding;
use howdah::check::statements::{Known, look_with};
use howdah::plan::load;
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::support::Lab;

/// One column of one table is known.
struct Column<'a>(&'a str);

impl Known for Column<'_> {
    fn rows(&self, _: &str) -> Option<u64> {
        None
    }

    fn column_type(&self, _: &str, column: &str) -> Option<String> {
        (column == "x").then(|| self.0.to_owned())
    }
}

/// What is said of these statements, one step each.
fn said(statements: &[String], column: &str) -> Vec<Finding> {
    let mut text = "name = \"p\"\n".to_owned();
    for (at, sql) in statements.iter().enumerate() {
        let sql = toml::Value::String(sql.clone());
        writeln!(text, "[[step]]\nname = \"s{at}\"\nstatement = {sql}").expect("a line");
    }
    let plan = load::from_text("p.toml", None, &text, &|_| None).expect("a plan");
    look_with(&plan, &Column(column))
}

fn has(findings: &[Finding], codes: &[&str]) -> bool {
    findings.iter().any(|finding| codes.contains(&finding.code.0))
}

/// Which file the table lies in.
const FILE: &str = "SELECT pg_relation_filenode('t')::bigint";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_said_to_rewrite_a_table_does_and_no_other() {
    let lab = Lab::open().await;
    let rewriting = ["change-type", "add-column-rewrites", "rewrites-table"];
    let to = |from: &str, to: &str| (from.to_owned(), format!("ALTER TABLE t ALTER COLUMN x TYPE {to}"));
    let add = |column: &str| ("integer".to_owned(), format!("ALTER TABLE t ADD COLUMN y {column}"));
    let other = |sql: &str| ("integer".to_owned(), sql.to_owned());
    let table = [
        to("character varying(10)", "varchar(20)"),
        to("character varying(10)", "varchar(10)"),
        to("character varying(10)", "varchar"),
        to("character varying(10)", "text"),
        to("character varying(10)", "text USING x::text"),
        to("character varying(10)", "text USING lower(x)"),
        to("character varying(20)", "varchar(10)"),
        to("text", "varchar"),
        to("text", "varchar(100)"),
        to("character(10)", "text"),
        to("numeric(8,2)", "numeric(10,2)"),
        to("numeric(8,2)", "numeric"),
        to("numeric(8,2)", "numeric(10,4)"),
        to("numeric(8,2)", "numeric(6,2)"),
        to("numeric", "decimal(10,2)"),
        to("timestamp(3) without time zone", "timestamp(6)"),
        to("timestamp(3) without time zone", "timestamp"),
        to("timestamp(3) without time zone", "timestamp(1)"),
        to("time(3) without time zone", "time"),
        to("timestamp with time zone", "date"),
        to("integer", "bigint"),
        to("integer", "text"),
        to("json", "jsonb"),
        to("cidr", "inet"),
        to("bit varying(8)", "varbit(16)"),
        to("bit(8)", "bit varying"),
        to("interval(3)", "interval"),
        to("character varying(10)[]", "varchar(20)[]"),
        add("int"),
        add("int NOT NULL DEFAULT 1"),
        add("timestamptz DEFAULT now()"),
        add("timestamptz DEFAULT clock_timestamp()"),
        add("double precision DEFAULT random()"),
        add("text DEFAULT lower('X') || md5('y')"),
        add("numeric(8, 2) DEFAULT 1.5::numeric(8, 2)"),
        add("bigserial"),
        add("bigint GENERATED ALWAYS AS IDENTITY"),
        add("int GENERATED ALWAYS AS (id * 2) STORED"),
        add("text CHECK (y <> '')"),
        other("ALTER TABLE t ALTER COLUMN x SET NOT NULL"),
        other("ALTER TABLE t SET (fillfactor = 70)"),
        other("ALTER TABLE t SET UNLOGGED"),
        other("VACUUM FULL t"),
        other("VACUUM (FULL, ANALYZE) t"),
        other("VACUUM (FULL off) t"),
        other("CLUSTER t USING t_pkey"),
    ];
    for (from, sql) in table {
        lab.sql(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, x {from}); INSERT INTO t SELECT generate_series(1, 10)"
        ))
        .await;
        if sql.contains("NOT NULL") && sql.contains("SET") {
            lab.sql("UPDATE t SET x = 1").await;
        }
        let before = lab.number(FILE).await;
        lab.sql(&sql).await;
        let is_rewritten = before != lab.number(FILE).await;
        assert_eq!(has(&said(std::slice::from_ref(&sql), &from), &rewriting), is_rewritten, "x {from}: {sql}");
    }
    // By the session's time zone, so that it is told in any case.
    for (zone, expected) in [("UTC", false), ("Europe/Zurich", true)] {
        lab.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (x timestamp); INSERT INTO t VALUES (now())").await;
        let before = lab.number(FILE).await;
        lab.sql(&format!("SET TimeZone = '{zone}'; ALTER TABLE t ALTER COLUMN x TYPE timestamptz; RESET TimeZone"))
            .await;
        assert_eq!(before != lab.number(FILE).await, expected, "{zone}");
    }

    // No function that the server calls volatile counts as steady.
    let names = "SELECT DISTINCT proname::text FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace
                 AND provolatile = 'v' AND prokind = 'f' AND proname ~ '^[a-z][a-z0-9_]*$'
                 AND proname NOT IN (SELECT proname FROM pg_proc WHERE provolatile <> 'v') ORDER BY 1";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&lab.pool).await.expect("functions");
    assert!(names.len() > 50 && names.contains(&"gen_random_uuid".to_owned()), "{names:?}");
    let statements: Vec<String> =
        names.iter().map(|name| format!("ALTER TABLE t{name} ADD COLUMN y text DEFAULT {name}()")).collect();
    let told = said(&statements, "integer");
    let told = told.iter().filter(|finding| finding.code.0 == "add-column-rewrites").count();
    assert_eq!(told, names.len());
}

/// The strongest lock that the statement takes on `relation`, seen from inside of its transaction.
async fn lock(lab: &Lab, sql: &str, relation: &str) -> String {
    let mut session = lab.session().await;
    session.execute("BEGIN").await.expect("a transaction");
    session.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let modes = format!(
        "SELECT mode FROM pg_locks WHERE relation = '{relation}'::regclass AND pid = pg_backend_pid() AND granted
         ORDER BY array_position(ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock',
                  'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'], mode) DESC LIMIT 1"
    );
    let mode = session.fetch_optional(AssertSqlSafe(modes)).await.expect("locks").map(|row| row.get::<String, _>(0));
    session.execute("ROLLBACK").await.expect("an end");
    mode.unwrap_or_else(|| "none".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locks_are_those_that_are_told_and_what_is_proposed_works() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 100);
         CREATE TABLE t (id int NOT NULL, a int, r int4range); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
         CREATE INDEX t_a ON t (a); CREATE MATERIALIZED VIEW v AS SELECT * FROM u;
         CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 (id int); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    )
    .await;
    let (share, row, all) = ("ShareLock", "ShareRowExclusiveLock", "AccessExclusiveLock");
    for (sql, relation, mode) in [
        ("CREATE INDEX i ON t (a)", "t", share),
        ("REINDEX INDEX t_a", "t", share),
        ("REINDEX INDEX t_a", "t_a", all),
        ("DROP INDEX t_a", "t", all),
        ("ALTER TABLE t ALTER a SET NOT NULL", "t", all),
        ("ALTER TABLE t ADD CHECK (a > 0)", "t", all),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u", "t", row),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u", "u", row),
        ("ALTER TABLE t ADD UNIQUE (a)", "t", all),
        ("ALTER TABLE t ADD EXCLUDE USING gist (r WITH &&)", "t", all),
        ("CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()", "t", row),
        ("REFRESH MATERIALIZED VIEW v", "v", all),
        ("TRUNCATE t", "t", all),
        ("ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (1) TO (100)", "p", "ShareUpdateExclusiveLock"),
        ("ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (1) TO (100)", "p1", all),
        ("ALTER TABLE p DETACH PARTITION p2", "p", all),
        ("CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (200) TO (300)", "p", all),
    ] {
        assert_eq!(lock(&lab, sql, relation).await, mode, "{sql}: {relation}");
        assert!(!said(&[sql.to_owned()], "").is_empty(), "{sql}");
    }

    // What is proposed is what the server takes, and nothing is said of it.
    for (sql, last) in [
        ("CREATE UNIQUE INDEX i ON t (a) WHERE a > 5", "DROP INDEX i"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "ALTER TABLE t DROP CONSTRAINT c"),
        ("ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u (id)", "ALTER TABLE t DROP CONSTRAINT k"),
        ("ALTER TABLE t ADD UNIQUE (a)", "ALTER TABLE t DROP CONSTRAINT t_key"),
        ("ALTER TABLE t ALTER a SET NOT NULL", "ALTER TABLE t ALTER a DROP NOT NULL"),
        ("DROP INDEX IF EXISTS t_a", "CREATE INDEX t_a ON t (a)"),
        ("REINDEX TABLE t", "SELECT 1"),
    ] {
        let mend = said(&[sql.to_owned()], "").remove(0).mend;
        for statement in &mend {
            lab.sql(statement).await;
        }
        let again = said(&mend, "");
        assert!(again.is_empty(), "{mend:?}: {again:?}");
        lab.sql(last).await;
    }
}
