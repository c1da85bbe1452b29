//! What `howdah check` finds: each finding on a database that shows it, and not on one that does not.

use std::time::Duration;

use howdah::check::facts::Facts;
use howdah::check::upkeep::Patience;
use howdah::check::{Finding, Severity, look};
use howdah::plan::load;
use howdah::plan::model::Plan;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::Lab;

fn plan(text: &str) -> Plan {
    load::from_text("checks.toml", None, text, &|_| None).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn backfill(table: &str, more: &str) -> String {
    format!("[[step]]\nname = 's'\nbackfill = '{table}'\n{more}\n")
}

/// Everything that is found, by the library: as `howdah check` asks, and with the facts.
async fn all(connection: &mut PgConnection, text: &str, patience: Patience) -> (Vec<Finding>, Facts) {
    let plan = plan(text);
    let looked = look::cheap(connection, &plan, patience).await.expect("facts");
    let mut findings = looked.findings.clone();
    findings.extend(look::rest(connection, &plan, &looked).await);
    (look::in_order(findings, &plan), looked.facts)
}

async fn one(connection: &mut PgConnection, text: &str, code: &str, patience: Patience) -> Option<Finding> {
    all(connection, text, patience).await.0.into_iter().find(|finding| finding.code.0 == code)
}

/// A database that shows a finding, and the same one when it is mended.
struct Shown {
    code: &'static str,
    /// What makes it so.
    so: &'static str,
    plan: String,
    /// What mends it. `None`: the statements that the finding carries.
    mended: Option<&'static str>,
    /// By whom the database is asked: a role, or the superuser.
    role: Option<&'static str>,
}

fn shown(code: &'static str, so: &'static str, plan: String, mended: Option<&'static str>) -> Shown {
    Shown { code, so, plan, mended, role: None }
}

fn of_tables() -> Vec<Shown> {
    let n = |table: &str| backfill(table, "set = { n = 'n + 1' }");
    vec![
        shown(
            "no-key",
            "CREATE TABLE keyless (n int); INSERT INTO keyless VALUES (1)",
            backfill("keyless", "set = { n = '1' }\nwhere = 'n IS NULL'"),
            None,
        ),
        shown(
            "no-index-for-where",
            "CREATE TABLE sparse (id int PRIMARY KEY, n int, seen text);
             INSERT INTO sparse SELECT i, i, CASE WHEN i % 1000 <> 0 THEN 'x' END FROM generate_series(1, 20000) i;
             ANALYZE sparse",
            backfill("sparse", "set = { seen = '1' }\nwhere = 'seen IS NULL'"),
            Some("CREATE INDEX sparse_todo ON sparse (id) WHERE seen IS NULL"),
        ),
        shown(
            "sequential-scan-in-batch",
            "CREATE TABLE baskets (id int PRIMARY KEY, n int); INSERT INTO baskets SELECT i, 0 FROM generate_series(1, 2000) i;
             CREATE TABLE lines (basket int, n int); INSERT INTO lines SELECT i / 10, 1 FROM generate_series(1, 20000) i;
             ANALYZE baskets; ANALYZE lines",
            backfill(
                "baskets",
                "alias = 'b'\nsql = 'UPDATE baskets b SET n = (SELECT sum(l.n) FROM lines l WHERE l.basket = b.id) WHERE {batch}'",
            ),
            Some("CREATE INDEX ON lines (basket)"),
        ),
        shown(
            "indexed-column-set",
            "CREATE TABLE indexed (id int PRIMARY KEY, n int, seen int);
             CREATE INDEX indexed_todo ON indexed (id) WHERE n IS NULL",
            n("indexed"),
            Some("DROP INDEX indexed_todo; CREATE INDEX indexed_seen ON indexed (seen)"),
        ),
        shown(
            "fillfactor-full",
            "CREATE TABLE filled (id int PRIMARY KEY, n int); INSERT INTO filled SELECT i FROM generate_series(1, 120000) i;
             ANALYZE filled",
            n("filled"),
            None,
        ),
        shown(
            "triggers-fire",
            "CREATE TABLE audited (id int PRIMARY KEY, n int, m int);
             CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
             CREATE TRIGGER audit BEFORE UPDATE OF n ON audited FOR EACH ROW EXECUTE FUNCTION audit()",
            n("audited"),
            Some(
                "ALTER TABLE audited DISABLE TRIGGER audit;
                 CREATE TRIGGER other BEFORE UPDATE OF m ON audited FOR EACH ROW EXECUTE FUNCTION audit()",
            ),
        ),
        shown(
            "foreign-key-checked",
            "CREATE TABLE cities (id int PRIMARY KEY); CREATE TABLE people (id int PRIMARY KEY, n int REFERENCES cities)",
            n("people"),
            Some("ALTER TABLE people DROP CONSTRAINT people_n_fkey"),
        ),
        shown(
            "foreign-key-without-index",
            "CREATE TABLE clients (id int PRIMARY KEY, n int UNIQUE);
             CREATE TABLE bills (client int REFERENCES clients ON DELETE CASCADE)",
            backfill("clients", "sql = 'DELETE FROM clients WHERE {batch}'"),
            None,
        ),
        shown(
            "foreign-key-fires",
            "CREATE TABLE accounts (id int PRIMARY KEY, n int UNIQUE);
             CREATE TABLE moves (account int REFERENCES accounts (n) ON UPDATE CASCADE)",
            n("accounts"),
            Some("DROP TABLE moves"),
        ),
        shown(
            "constraint-not-validated",
            "CREATE TABLE loose (id int PRIMARY KEY, n int); ALTER TABLE loose ADD CONSTRAINT tight CHECK (n > 0) NOT VALID",
            n("loose"),
            None,
        ),
    ]
}

fn of_what_follows() -> Vec<Shown> {
    let n = |table: &str| backfill(table, "set = { n = 'n + 1' }");
    vec![
        shown(
            "no-replica-identity",
            "CREATE TABLE sent (id int NOT NULL, n int); CREATE UNIQUE INDEX sent_id ON sent (id);
             CREATE PUBLICATION sends FOR TABLE sent",
            n("sent"),
            None,
        ),
        shown("replica-identity-full", "", n("sent"), Some("ALTER TABLE sent REPLICA IDENTITY USING INDEX sent_id")),
        shown(
            "autovacuum-off",
            "CREATE TABLE kept (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off)",
            n("kept"),
            None,
        ),
        shown(
            "autovacuum-lazy",
            "CREATE TABLE lazy (id int PRIMARY KEY, n int) WITH (autovacuum_vacuum_threshold = 4000000)",
            n("lazy"),
            None,
        ),
        shown(
            "locks-short",
            "CREATE TABLE many (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
             DO $$ BEGIN FOR i IN 0..39 LOOP EXECUTE format(
                'CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%s) TO (%s)', i, i * 10, i * 10 + 10); END LOOP; END $$",
            format!("[limits]\nworkers = 4\n{}", backfill("many", "sql = 'UPDATE many SET n = 1 WHERE {batch}'")),
            Some("DO $$ BEGIN FOR i IN 5..39 LOOP EXECUTE format('DROP TABLE many_%s', i); END LOOP; END $$"),
        ),
    ]
}

fn of_rights() -> Vec<Shown> {
    let clerk = |code, so, plan, mended| Shown { role: Some("clerk"), ..shown(code, so, plan, mended) };
    let email = |table: &str| backfill(table, "set = { email = 'lower(email)' }");
    vec![
        clerk(
            "missing-right",
            "CREATE SCHEMA app; CREATE TABLE app.closed (id int PRIMARY KEY, email text, n int)",
            email("app.closed"),
            None,
        ),
        // Rights on the whole table do not reach its partitions.
        clerk(
            "missing-right",
            "CREATE TABLE split (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
             CREATE TABLE split_a PARTITION OF split FOR VALUES FROM (0) TO (9);
             CREATE TABLE split_b PARTITION OF split FOR VALUES FROM (9) TO (99);
             GRANT ALL ON split TO clerk",
            email("split"),
            None,
        ),
        clerk(
            "missing-right",
            "CREATE TABLE owned (id int PRIMARY KEY); CREATE ROLE keeper; ALTER TABLE owned OWNER TO keeper",
            "[[step]]\nname = 's'\nstatement = 'CREATE INDEX CONCURRENTLY i ON owned (id)'\n".to_owned(),
            None,
        ),
        clerk(
            "sequence-right",
            "CREATE TABLE numbered (id serial PRIMARY KEY, email text); GRANT INSERT ON numbered TO clerk",
            "[[step]]\nname = 's'\nimport = 'x.csv'\ninto = 'numbered'\n".to_owned(),
            None,
        ),
        clerk(
            "not-checked",
            "CREATE TABLE open (id int PRIMARY KEY, email text); INSERT INTO open VALUES (1), (2); GRANT ALL ON open TO clerk;
             CREATE TABLE shut (n int)",
            backfill("open", "set = { email = '(SELECT max(n)::text FROM shut)' }"),
            Some("GRANT SELECT ON shut TO clerk"),
        ),
        clerk("ledger-right", "", email("open"), None),
        clerk("statistics-hidden", "", email("open"), None),
        clerk("rows-hidden", "ALTER TABLE open ENABLE ROW LEVEL SECURITY", email("open"), None),
        clerk(
            "connections-short",
            "ALTER ROLE clerk CONNECTION LIMIT 3",
            format!("[limits]\nworkers = 2\n{}", email("open")),
            Some("ALTER ROLE clerk CONNECTION LIMIT -1"),
        ),
    ]
}

async fn mend(lab: &Lab, finding: &Finding) {
    for line in finding.mend.iter().filter(|line| !line.starts_with("--")) {
        lab.sql(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_finding_is_shown_by_a_database_and_gone_once_it_is_mended() {
    let mut lab = Lab::tuned(&[
        ("max_locks_per_transaction", "10"),
        ("max_connections", "25"),
        ("max_prepared_transactions", "2"),
        ("wal_level", "logical"),
    ])
    .await;
    lab.sql("CREATE ROLE clerk; REVOKE CREATE ON DATABASE postgres FROM PUBLIC").await;
    let mut session = lab.session().await;
    for Shown { code, so, plan, mended, role } in of_tables().into_iter().chain(of_what_follows()).chain(of_rights()) {
        lab.sql(so).await;
        let role = role.map_or_else(|| "RESET ROLE".to_owned(), |role| format!("SET ROLE {role}"));
        session.execute(sqlx::raw_sql(AssertSqlSafe(role))).await.expect("a role");
        let (found, _) = all(&mut session, &plan, Patience::default()).await;
        let Some(finding) = found.iter().find(|finding| finding.code.0 == code) else {
            panic!("{code} is not found on {so}: {found:#?}");
        };
        assert!(!finding.what.is_empty() && !finding.why.is_empty(), "{finding:?}");
        match mended {
            Some(sql) => lab.sql(sql).await,
            None => mend(&lab, finding).await,
        }
        let still = one(&mut session, &plan, code, Patience::default()).await;
        assert_eq!(still, None, "{code} is still found");
    }
    session.execute("RESET ROLE").await.expect("the superuser");
    of_the_rest(&lab, &mut session).await;
    drop(session);
    of_replication(&mut lab).await;
}

/// What takes more than a statement to be shown.
async fn of_the_rest(lab: &Lab, session: &mut PgConnection) {
    let usual = Patience::default();
    let at_once = Patience { transaction: Duration::ZERO, ids: 1, ..usual };
    let n = backfill("lazy", "set = { n = 'n + 1' }");

    lab.sql("CREATE TABLE torn (id int PRIMARY KEY, n int); INSERT INTO torn VALUES (1, 1), (2, 1)").await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY torn_n ON torn (n)";
    assert!(lab.pool.execute(build).await.is_err(), "it cannot be built");
    let torn = backfill("torn", "set = { n = 'n + 1' }");
    let invalid = one(session, &torn, "invalid-index", usual).await.expect("an invalid index");
    mend(lab, &invalid).await;
    assert_eq!(one(session, &torn, "invalid-index", usual).await, None);

    lab.sql(
        "CREATE TABLE dead (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = off);
         INSERT INTO dead SELECT i FROM generate_series(1, 20000) i",
    )
    .await;
    lab.sql("UPDATE dead SET n = 1").await;
    lab.until("SELECT n_dead_tup >= 20000 FROM pg_stat_user_tables WHERE relname = 'dead'").await;
    let dead = backfill("dead", "set = { n = 'n + 1' }");
    let found = one(session, &dead, "dead-rows", usual).await.expect("dead rows");
    mend(lab, &found).await;
    lab.until("SELECT n_dead_tup = 0 FROM pg_stat_user_tables WHERE relname = 'dead'").await;
    assert_eq!(one(session, &dead, "dead-rows", usual).await, None);
    let waits = format!("[limits]\nvacuum = 'wait'\n{dead}");
    let stuck = one(session, &waits, "autovacuum-off", usual).await.expect("no autovacuum");
    assert_eq!(stuck.severity, Severity::Error);

    let mut other = lab.session().await;
    other.execute("SET application_name = 'forgotten'; BEGIN; SELECT 1").await.expect("a transaction");
    let open = one(session, &n, "long-transaction", at_once).await.expect("an open transaction");
    assert!(open.what.contains("(forgotten, role"), "{}", open.what);
    assert_eq!(one(session, &n, "long-transaction", usual).await, None, "it is young");
    mend(lab, &open).await;
    lab.until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'forgotten')").await;
    assert_eq!(one(session, &n, "long-transaction", at_once).await, None);

    lab.sql("BEGIN; SELECT count(*) FROM torn; PREPARE TRANSACTION 'it''s forgotten'").await;
    let prepared = one(session, &n, "prepared-transaction", at_once).await.expect("a prepared transaction");
    assert_eq!(one(session, &n, "prepared-transaction", usual).await, None, "it is young");
    mend(lab, &prepared).await;
    assert_eq!(one(session, &n, "prepared-transaction", at_once).await, None);

    assert!(one(session, &n, "wraparound-near", at_once).await.is_some(), "every id is older than nothing");
    assert_eq!(one(session, &n, "wraparound-near", usual).await, None);

    session.execute("SET track_activities = off").await.expect("a setting");
    assert!(one(session, &n, "statistics-off", usual).await.is_some());
    session.execute("RESET track_activities").await.expect("a setting");
    assert_eq!(one(session, &n, "statistics-off", usual).await, None);

    let disk = |limit: &str| format!("[limits]\nfree_disk = {limit}\n{n}");
    assert!(one(session, &disk("{ slow = '100%', stop = '1%' }"), "disk-nearly-full", usual).await.is_some());
    assert_eq!(one(session, &disk("'off'"), "disk-nearly-full", usual).await, None);

    let lock = |timeout: &str| {
        format!(
            "[limits]\nlock_timeout = '{timeout}'\n[[step]]\nname = 's'\nstatement = 'ALTER TABLE torn ADD m int'\n"
        )
    };
    assert!(one(session, &lock("1m"), "lock-timeout-long", usual).await.is_some());
    assert_eq!(one(session, &lock("2s"), "lock-timeout-long", usual).await, None);

    let (found, facts) = all(session, &n, usual).await;
    let is_old = found.iter().any(|finding| finding.code.0 == "server-end-of-life");
    // Newer ones outlive this test for a while.
    if facts.database.version_num < 140_000 || facts.database.version_num >= 180_000 {
        assert_eq!(is_old, facts.database.version_num < 140_000);
    }
}

async fn of_replication(lab: &mut Lab) {
    let usual = Patience::default();
    let session = &mut lab.session().await;
    let n = backfill("lazy", "set = { n = 'n + 1' }");
    lab.sql("SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')").await;
    assert!(one(session, &n, "logical-slot", usual).await.is_some());
    let unread = one(session, &n, "slot-unread", usual).await.expect("a slot");
    mend(lab, &unread).await;
    assert_eq!(one(session, &n, "logical-slot", usual).await, None);
    assert_eq!(one(session, &n, "slot-unread", usual).await, None);

    let standby = lab.server.standby(vec![]).await.expect("a standby");
    // The server was stopped to be copied.
    let session = &mut lab.session().await;
    let mut there = PgConnection::connect(&standby.url("postgres")).await.expect("a session");
    let refused = one(&mut there, &n, "server-is-standby", usual).await.expect("a standby");
    assert_eq!(refused.severity, Severity::Error);
    assert_eq!(one(session, &n, "server-is-standby", usual).await, None);

    let ask_for = async |names: &str| {
        lab.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
        lab.sql("SELECT pg_reload_conf()").await;
        lab.until(&format!("SELECT current_setting('synchronous_standby_names') = '{names}'")).await;
    };
    ask_for("nobody").await;
    let alone = one(session, &n, "synchronous-standby", usual).await.expect("a wait for ever");
    assert_eq!(alone.severity, Severity::Warning);
    ask_for("").await;
    assert_eq!(one(session, &n, "synchronous-standby", usual).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn hypopg_proves_the_index_that_is_proposed() {
    let lab = Lab::open().await;
    if lab.number("SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'").await == 0 {
        return;
    }
    lab.sql(
        "CREATE EXTENSION hypopg; CREATE TABLE users (id int PRIMARY KEY, email text, seen timestamptz);
         INSERT INTO users SELECT i, 'a' || i, CASE WHEN i % 500 <> 0 THEN now() END FROM generate_series(1, 200000) i;
         ANALYZE users",
    )
    .await;
    let mut session = lab.session().await;
    let text =
        |condition: &str| backfill("users", &format!("set = {{ email = 'lower(email)' }}\nwhere = \"{condition}\""));
    let told =
        one(&mut session, &text("seen IS NULL"), "no-index-for-where", Patience::default()).await.expect("no index");
    assert!(told.what.contains("hypopg proves that this one does: cost"), "{}", told.what);
    assert_eq!(told.severity, Severity::Warning);
    assert!(told.mend.contains(&"index = { on = 'users (\"id\")', where = 'seen IS NULL', during = true }".to_owned()));
    let told =
        one(&mut session, &text("seen < now() - interval '1 year'"), "no-index-for-where", Patience::default()).await;
    let told = told.expect("no index");
    assert!(told.what.contains("none can be built for it"), "{}", told.what);
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = 'users'")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_people_and_machines_and_keeps_a_run_from_harm() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE events (id int NOT NULL, n int NOT NULL DEFAULT 0); CREATE UNIQUE INDEX ON events (id);
         INSERT INTO events SELECT i FROM generate_series(1, 1000) i; CREATE PUBLICATION sends FOR TABLE events;
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
         CREATE TRIGGER audit BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION audit()",
    )
    .await;
    let plan = |allow: &str| {
        let text = format!("name = \"old\"\n[check]\nallow = {allow}\n{}", backfill("events", "set = { n = 'n + 1' }"));
        lab.plan("old.toml", &text).to_str().expect("a path").to_owned()
    };
    let both = plan("[]");
    let checked = lab.howdah(&["check", &both]).run().expect_code(2).expect_words(&[
        "old: 1 step, checked against",
        "changes rows of \"public\".\"events\", walked by id",
        "error[no-replica-identity] step \"s\": events: it is published by `sends`, and has no replica identity",
        "mend: ALTER TABLE \"public\".\"events\" REPLICA IDENTITY FULL;",
        "see:  assets/reference/checks/no-replica-identity.md",
        "warning[triggers-fire]",
        "1 error, 1 warning",
        "`howdah run` refuses the plan",
    ]);
    assert_eq!(checked.stderr(), "");
    let json: Value =
        serde_json::from_str(&lab.howdah(&["check", &both, "--json"]).run().expect_code(2).stdout()).expect("JSON");
    assert_eq!(json["may_run"], false);
    assert_eq!(json["counts"]["errors"], 1);
    assert_eq!(json["findings"][0]["code"], "no-replica-identity");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["walks"][0]["by"], "id");

    lab.howdah(&["run", &both, "--headless"]).run().expect_code(2).expect_words(&[
        "the check before the run has found an error",
        "no-replica-identity",
        "howdah check",
        "[check] allow = [\"no-replica-identity\"]",
    ]);
    assert_eq!(lab.runs("true").await, 0, "no run was made");

    lab.howdah(&["check", &plan("['no-replica-identiti']")]).run().expect_code(2).expect_words(&[
        "there is no finding `no-replica-identiti`",
        "did you mean `no-replica-identity`?",
        "old.toml:3:11",
    ]);

    // An accepted error does not block; the server then refuses, as it was foretold.
    let accepted = plan("[\"no-replica-identity\"]");
    lab.howdah(&["check", &accepted]).run().expect_code(0).expect_words(&[
        "allowed: error[no-replica-identity]",
        "1 warning",
        "1 allowed",
    ]);
    lab.howdah(&["run", &accepted, "--json"]).run().expect_code(1).expect_words(&["does not have a replica identity"]);

    lab.sql("ALTER TABLE events REPLICA IDENTITY USING INDEX events_id_idx").await;
    let ended = lab.howdah(&["run", &both, "--new", "--json"]).run().expect_code(0);
    let notices = ended.events_of("notice");
    assert!(
        notices.iter().any(|text| text.starts_with("warning[triggers-fire] step \"s\": events: a trigger fires")),
        "{notices:?}"
    );
    let quiet = lab.howdah(&["run", &plan("'triggers-fire'"), "--json"]).run().expect_code(0);
    assert!(!quiet.events_of("notice").iter().any(|text| text.contains("triggers-fire")), "{:?}", quiet.events());
    assert_eq!(lab.number("SELECT count(*) FROM events WHERE n <> 2").await, 0);
}
