//! Bad input: each mistake gets a clear word of where and what to do, changes nothing, and has the right exit code.

use std::net::TcpListener;

use crate::support::{Lab, bare};

fn plan_of(step: &str) -> String {
    format!("name = \"mistake\"\n\n[[step]]\nname = \"emails\"\n{step}\n")
}

async fn users(lab: &Lab) {
    lab.sql(
        "CREATE TABLE users (id bigint PRIMARY KEY, email text, n int NOT NULL DEFAULT 0);
         INSERT INTO users SELECT i, 'U' || i FROM generate_series(1, 3000) i;
         CREATE TABLE keyless (a int); CREATE VIEW seen AS SELECT * FROM users;
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_plans_sql_are_shown_with_a_caret_before_anything_is_changed() {
    let lab = Lab::open().await;
    users(&lab).await;
    let table: [(&str, &[&str]); 13] = [
        (
            "backfill = \"users\"\nset = { email = \"lower(emial)\" }",
            &[
                "step \"emails\", `set.email`: column \"emial\" does not exist",
                "42703",
                ":6:24",
                "|                        ^",
            ],
        ),
        ("backfill = \"users\"\nset = { email = \"lower(email\" }", &["`set.email`", "syntax error"]),
        ("backfill = \"users\"\nset = { emial = \"1\" }", &["has no column `emial`", "did you mean `email`?"]),
        ("backfill = \"users\"\nset = { id = \"id + 1\" }", &["part of the key"]),
        (
            "backfill = \"users\"\nset = { email = \"1\" }\nwhere = \"nope IS NULL\"",
            &["`where`: column \"nope\" does not exist", ":7:10"],
        ),
        (
            "backfill = \"usres\"\nset = { email = \"1\" }",
            &["there is no table `usres`", "did you mean `users`?", ":5:13"],
        ),
        ("backfill = \"a.b.c.d\"\nset = { email = \"1\" }", &["improper", "write the table as in SQL"]),
        (
            "backfill = \"keyless\"\nset = { a = \"1\" }",
            &["no primary key", "ALTER TABLE \"public\".\"keyless\" ADD COLUMN"],
        ),
        ("backfill = \"seen\"\nset = { email = \"1\" }", &["is a view"]),
        ("backfill = \"parts\"\nset = { id = \"1\" }", &["part of the partition key"]),
        ("statement = \"CREATE TABEL x (y int)\"", &["`statement`: syntax error", ":5:21"]),
        ("statement = \"SELECT 1; SELECT 2\"", &["multiple commands", "write a step for each"]),
        ("verify = \"SELECT count(*) FROM nowhere\"\nexpect = 0", &["relation \"nowhere\" does not exist", "42P01"]),
    ];
    for (step, words) in table {
        let plan = lab.plan("mistake.toml", &plan_of(step));
        let plan = plan.to_str().expect("a path");
        for command in [vec!["check", plan], vec!["run", plan, "--headless"]] {
            let ended = lab.howdah(&command).run();
            assert_eq!(ended.code(), Some(2), "{step}\n{}", ended.stderr());
            ended.expect_words(words).expect_words(&["error: ", "mistake.toml"]);
        }
    }
    assert_eq!(lab.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'howdah'").await, 0, "no run was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_stops_the_run_with_its_bounds_and_can_be_resumed() {
    let lab = Lab::open().await;
    users(&lab).await;
    lab.sql("ALTER TABLE users ADD CONSTRAINT n_small CHECK (n < 1 OR id <> 1500)").await;
    let plan = lab.plan(
        "m.toml",
        "name = \"m\"\n[limits]\nworkers = 1\nmax_quarantined = 0\nbatch = { start = 100, min = 100, max = 100 }\n[[step]]\nname = \"n\"\nbackfill = \"users\"\nset = { n = \"n + 1\" }\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(1).expect_words(&[
        "violates check constraint \"n_small\"",
        "23514",
        "batch: id after 1",
        "nothing of it was kept",
        "howdah resume",
    ]);
    // Of the hundred rows of the batch that failed, none was changed; what is before it was.
    assert_eq!(lab.number("SELECT n::bigint FROM users WHERE id = 1500").await, 0);
    assert!(lab.number("SELECT sum(n)::bigint FROM users").await >= 1400);
    lab.sql("ALTER TABLE users DROP CONSTRAINT n_small").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM users WHERE n <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_was_changed_since_the_run_began_is_refused_unless_accepted() {
    let lab = Lab::open().await;
    users(&lab).await;
    let text = |add: u32| {
        format!(
            "name = \"m\"\n[limits]\nworkers = 1\nbatch = {{ start = 100, min = 100, max = 100 }}\n[[step]]\nname = \"n\"\nbackfill = \"users\"\nset = {{ n = \"n + {add}\" }}\n"
        )
    };
    let plan = lab.plan("m.toml", &text(1));
    let plan = plan.to_str().expect("a path");
    lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "batch.committed=kill@10").run();
    lab.plan("m.toml", &text(2));
    lab.howdah(&["resume", "--headless"]).run().expect_code(2).expect_words(&[
        "has changed since the run began",
        "`n`",
        "--accept-changed-plan",
    ]);
    // Limits and comments are not what a step does.
    lab.plan(
        "m.toml",
        &text(1)
            .replace("100, max = 100", "50, max = 50")
            .replace("start = 100", "start = 50")
            .replace("[[step]]", "# slower\n[[step]]"),
    );
    lab.howdah(&["resume", "--headless"]).env("HOWDAH_FAILPOINTS", "batch.committed=kill@2").run();
    let before = lab.number("SELECT sum(n)::bigint FROM users").await;
    assert!((1000..2000).contains(&before), "{before}");
    lab.plan("m.toml", &text(2));
    lab.howdah(&["resume", "--headless", "--accept-changed-plan"]).run().expect_code(0).expect_words(&["as asked"]);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM users").await, before + 2 * (3000 - before));
    // A file that is gone is no hindrance: the ledger keeps the plan.
    lab.sql("DROP SCHEMA howdah CASCADE; UPDATE users SET n = 0").await;
    lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", "batch.committed=kill@10").run();
    std::fs::remove_file(plan).expect("gone");
    lab.howdah(&["resume", "--headless"])
        .run()
        .expect_code(0)
        .expect_words(&["is gone: going on with the plan that the ledger keeps"]);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM users").await, 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_connect_is_told_why() {
    let lab = Lab::over_tcp("hunter2").await;
    let plan = lab.plan("p.toml", "name = \"p\"\n[[step]]\nname = \"v\"\nverify = \"SELECT 1\"\nexpect = 1\n");
    let plan = plan.to_str().expect("a path");
    let closed =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port that accepts and says nothing");
    let silent_port = silent.local_addr().expect("an address").port();
    let wrong = lab.url.replace("hunter2", "hunter3");
    let nowhere = lab.url.replace("/postgres", "/nowhere");
    let table: [(String, i32, &[&str]); 6] = [
        (
            format!("postgres://u@127.0.0.1:{closed}/x"),
            1,
            &["connection refused", "is a server running there?", "pg_isready"],
        ),
        (format!("postgres://u@127.0.0.1:{silent_port}/x"), 1, &["no answer from", "within 2.0s"]),
        ("postgres:///x?host=/nonexistent&user=u".into(), 1, &["no such file or directory"]),
        (wrong, 1, &["password authentication failed", "28P01", "~/.pgpass"]),
        (nowhere, 1, &["database \"nowhere\" does not exist", "3D000"]),
        ("mysql://u@h/x".into(), 2, &["must begin with postgres://"]),
    ];
    for (url, code, words) in table {
        for command in
            [["run", plan, "--headless", "--database", &url], ["resume", "abcd", "--headless", "--database", &url]]
        {
            let ended = lab.howdah(&command).without_url().run().expect_code(code).expect_words(words);
            let said = ended.stderr();
            assert!(!said.contains("hunter") && !said.contains("timed out"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_is_told_the_very_sql_that_lets_it() {
    let lab = Lab::open().await;
    users(&lab).await;
    lab.sql("CREATE ROLE clerk LOGIN; REVOKE ALL ON SCHEMA public FROM clerk; GRANT SELECT ON users TO clerk").await;
    let url = lab.url.replace("demo@", "clerk@");
    let text = plan_of("backfill = \"users\"\nset = { n = \"n + 1\" }");
    let plan = lab.plan("p.toml", &text);
    let run = ["run", plan.to_str().expect("a path"), "--headless", "--database", &url];
    // All of it at once, before anything is begun.
    lab.howdah(&run).run().expect_code(2).expect_words(&[
        "role `clerk` lacks UPDATE (n)",
        "mend: GRANT UPDATE (\"n\") ON \"public\".\"users\" TO \"clerk\";",
        "mend: CREATE SCHEMA howdah AUTHORIZATION \"clerk\";",
    ]);
    // And whoever accepts that is told where it fails.
    let allow = "\n[check]\nallow = [\"missing-right\", \"ledger-right\"]\n\n[[step]]";
    let plan = lab.plan("p.toml", &text.replace("\n[[step]]", allow));
    let run = ["run", plan.to_str().expect("a path"), "--headless", "--database", &url];
    let ended =
        lab.howdah(&run).run().expect_code(1).expect_words(&["42501", "CREATE SCHEMA howdah AUTHORIZATION \"clerk\";"]);
    let sql = ended
        .stderr()
        .lines()
        .find_map(|line| line.split_once(": CREATE SCHEMA").map(|(_, sql)| format!("CREATE SCHEMA{sql}")))
        .expect("the SQL");
    lab.sql(&sql).await;
    lab.howdah(&run).run().expect_code(1).expect_words(&[
        "permission denied for table users",
        "42501",
        "grant the role what it lacks",
    ]);
    lab.sql("GRANT UPDATE ON users TO clerk").await;
    lab.howdah(&["resume", "--headless", "--database", &url]).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM users WHERE n <> 1").await, 0);
}

#[test]
fn mistakes_on_the_command_line_are_told_without_a_server() {
    let home = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let broken = write("broken.toml", "name = \"x\n[[step]]\n");
    let unknown =
        write("unknown.toml", "name = \"x\"\nlimitz = 1\n[[step]]\nname = \"v\"\nverify = \"SELECT 1\"\nexpect = 1\n");
    let empty = write("empty.toml", "");
    let table: [(&[&str], &[&str]); 9] = [
        (&["run", "/nonexistent/plan.toml"], &["there is no file `/nonexistent/plan.toml`", "hint:"]),
        (&["run", "/tmp"], &["/tmp", "hint:"]),
        (&["run", &broken], &["broken.toml:1:", "^"]),
        (&["run", &unknown], &["unknown.toml:2:1", "`limitz`", "did you mean `limits`?"]),
        (&["run", &empty], &["empty.toml", "hint:"]),
        (&["resume", "what?"], &["is not a run"]),
        (&["run"], &["Usage:"]),
        (&["fly"], &["unrecognized subcommand"]),
        (&["demo", "--database", "postgres://x@y/z"], &["a server of its own"]),
    ];
    for (arguments, words) in table {
        let output = bare(home.path()).args(arguments).output().expect("howdah starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is not in:\n{said}");
        }
        assert!(!said.contains("RUST_BACKTRACE") && !said.contains("panicked"), "{said}");
    }
}
