//! Rows through programs: every program, every sink, and every instant at which something can be killed.

use std::path::PathBuf;

use howdah::engine::failpoint;
use nix::libc::SIGKILL;

use crate::support::{Dice, Lab};

/// A plan of one transform.
fn plan(lab: &Lab, limits: &str, step: &str) -> PathBuf {
    lab.plan("transform.toml", &format!("name = \"t\"\n[limits]\n{limits}\n[[step]]\nname = \"rows\"\n{step}\n"))
}

async fn run(lab: &Lab, plan: &std::path::Path) -> (Option<i32>, String) {
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--new", "--headless"]).run();
    (ended.code(), ended.stderr())
}

/// Everything that is in a table, as one text.
async fn rows(lab: &Lab, table: &str) -> String {
    lab.text(&format!("SELECT coalesce(string_agg(t::text, ';' ORDER BY t::text COLLATE \"C\"), '') FROM {table} t"))
        .await
}

const ODD: &str = "CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE odd (id bigint PRIMARY KEY, n numeric, f float8, b bool, t text, y bytea, w timestamptz, j jsonb, a text[], m mood, d numeric(6,2));
    INSERT INTO odd VALUES
    (1, 12345678901234567890.123456789, 0.1, true, E'tab\\t\\\\ nl\\n \"q\" é', '\\x00ff5c', '2024-02-29 12:34:56.789012+00', '{\"a\": 1.10}', '{a,NULL,\"b \\\"c\"}', 'glad', 1.50),
    (9223372036854775807, 'NaN', 'Infinity', false, '', '', 'infinity', 'null', '{}', 'sad', 0),
    (-5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn every_value_comes_through_a_script_as_it_was() {
    let lab = Lab::open().await;
    lab.sql(ODD).await;
    lab.sql("CREATE TABLE same (LIKE odd); CREATE TABLE before AS TABLE odd").await;
    let (code, told) = run(&lab, &plan(&lab, "", "transform = 'odd'\nrhai = 'row'\ninto = 'same'")).await;
    assert_eq!((code, rows(&lab, "same").await), (Some(0), rows(&lab, "before").await), "{told}");
    let all = "['n', 'f', 'b', 't', 'y', 'w', 'j', 'a', 'm', 'd']";
    let (code, told) = run(&lab, &plan(&lab, "", &format!("transform = 'odd'\nrhai = 'row'\nupdate = {all}"))).await;
    assert_eq!((code, rows(&lab, "odd").await), (Some(0), rows(&lab, "before").await), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_updates_what_it_names_and_leaves_rows_out() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE people (id int, part text, name text, age int, PRIMARY KEY (part, id));
             INSERT INTO people SELECT i, 'p' || i % 3, 'n' || i, i FROM generate_series(1, 2000) AS i",
    )
    .await;
    let step = "transform = 'people'\nwhere = 'id > 1000'\nupdate = ['name', 'age']\n\
                rhai = 'if row.id % 2 == 0 { () } else if row.id % 3 == 0 { #{ age: () } } else { #{ name: row.name + \"!\", age: row.age + 1 } }'";
    let (code, told) = run(&lab, &plan(&lab, "workers = 2", step)).await;
    assert_eq!(code, Some(0), "{told}");
    let wrong = "SELECT count(*) FROM people WHERE (name, age) IS DISTINCT FROM CASE \
                 WHEN id <= 1000 OR id % 2 = 0 THEN ('n' || id, id) WHEN id % 3 = 0 THEN ('n' || id, NULL::int) ELSE ('n' || id || '!', id + 1) END";
    assert_eq!(lab.number(wrong).await, 0);
    assert_eq!(lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_go_wrong_are_set_aside_and_the_rest_goes_on() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int CHECK (age < 1000));
             INSERT INTO people SELECT i, 'n' || i, i FROM generate_series(1, 200) AS i",
    )
    .await;
    let script = r#"
switch row.id {
    7 => throw "seven",
    8 => { row.age = 5000; row },
    9 => { row.age = "x"; row },
    10 => "text",
    11 => [row],
    12 => { row.nmae = 1; row },
    13 => { loop { } },
    14 => { row.age = [1]; row },
    _ => { row.age += 100; row }
}
"#;
    let step = format!("transform = 'people'\nupdate = ['age']\noperations = 10000\nrhai = '''{script}'''");
    let (code, told) = run(&lab, &plan(&lab, "", &step)).await;
    assert_eq!(code, Some(4), "{told}");
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE age = id + 100").await, 192);
    let aside = lab
        .text("SELECT string_agg(key[1] || ' ' || message, E'\\n' ORDER BY key[1]::int) FROM howdah.quarantine")
        .await;
    for words in [
        "7 line 2, column 10: Runtime error: seven",
        "8 new row for relation",
        "9 invalid input syntax",
        "10 the script returned a value of type string, not a map or ()",
        "11 with `update` a row becomes one row or none",
        "12 `update` of `people` has no column `nmae`",
        "13 line 8, column",
        "14 column `age`: a value of type array",
    ] {
        assert!(aside.contains(words), "`{words}` is not in:\n{aside}");
    }
    assert_eq!(lab.text("SELECT (row_data::jsonb)->>'name' FROM howdah.quarantine WHERE key = '{8}'").await, "n8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_makes_rows_of_another_table() {
    let lab = Lab::open().await;
    for (how, code, expected) in
        [("error", 4, "(1,a,7);(2,old,0)"), ("skip", 0, "(1,a,7);(2,old,0)"), ("update", 0, "(1,a,7);(2,z,0)")]
    {
        lab.sql(
            "DROP TABLE IF EXISTS people, names; CREATE TABLE people (id int PRIMARY KEY, name text);
                 INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, '');
                 CREATE TABLE names (id int PRIMARY KEY, name text, n int DEFAULT 7);
                 INSERT INTO names VALUES (2, 'old', 0)",
        )
        .await;
        let step = format!(
            "transform = 'people'\ninto = 'names'\non_conflict = '{how}'\n\
            rhai = 'if row.name == \"\" {{ [] }} else if row.id == 2 {{ [row, #{{ name: \"z\", id: 2 }}] }} else {{ row }}'"
        );
        let (ended, told) = run(&lab, &plan(&lab, "", &step)).await;
        assert_eq!((ended, rows(&lab, "names").await.as_str()), (Some(code), expected), "{how}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_reading_and_writing_is_never_lost() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL);
             INSERT INTO counters SELECT i, 0 FROM generate_series(1, 300) AS i",
    )
    .await;
    let step = "transform = 'counters'\nupdate = ['n']\n\
                rhai = 'let x = 0; for i in 0..300 { x += i; } row.n += 1000000; row'";
    let plan = plan(&lab, "workers = 2\nbatch = { start = 50, min = 50, max = 50 }", step);
    let mut running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    let mut raised = 0;
    let mut other = lab.session().await;
    while running.child.try_wait().expect("a status").is_none() {
        let raise = "UPDATE counters SET n = n + 1 WHERE id % 7 = 0";
        raised += i64::from(sqlx::query(raise).execute(&mut other).await.expect("raised").rows_affected() > 0);
    }
    running.wait().expect_code(0);
    assert!(raised > 3, "{raised}");
    let wrong =
        format!("SELECT count(*) FROM counters WHERE n <> 1000000 + CASE WHEN id % 7 = 0 THEN {raised} ELSE 0 END");
    assert_eq!(
        lab.number(&wrong).await,
        0,
        "{}",
        lab.text("SELECT string_agg(DISTINCT n::text, ' ') FROM counters").await
    );
}

/// A program in Python that answers each row by `answer`, a statement about `row`; on disk.
fn python(lab: &Lab, answer: &str) -> String {
    let program = format!(
        "import json, os, sys, time\nfor line in sys.stdin:\n    row = json.loads(line)\n    out = row\n{}\n    print(json.dumps(out), flush=True)\n",
        answer.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
    );
    let path = lab.files.path().join("program.py");
    std::fs::write(&path, program).expect("a program");
    format!("command = ['python3', '{}']", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_comes_through_a_program_as_it_was() {
    let lab = Lab::open().await;
    lab.sql(ODD).await;
    lab.sql("CREATE TABLE same (LIKE odd); CREATE TABLE before AS TABLE odd").await;
    for command in ["command = ['cat']".to_owned(), python(&lab, "assert type(row['id']) is str")] {
        lab.sql("TRUNCATE same").await;
        let (code, told) = run(&lab, &plan(&lab, "", &format!("transform = 'odd'\n{command}\ninto = 'same'"))).await;
        assert_eq!(
            (code, rows(&lab, "same").await.replace("1.10", "1.1")),
            (Some(0), rows(&lab, "before").await.replace("1.10", "1.1")),
            "{told}"
        );
    }
    // More than any pipe holds, in both directions at once.
    lab.sql("CREATE TABLE wide (id int PRIMARY KEY, t text); INSERT INTO wide SELECT i, repeat('x', 3000) FROM generate_series(1, 2000) i").await;
    let step = "transform = 'wide'\ncommand = ['cat']\nupdate = ['t']\nbatch = 2000";
    let (code, told) = run(&lab, &plan(&lab, "", step)).await;
    assert_eq!(
        (code, lab.number("SELECT count(*) FROM wide WHERE t = repeat('x', 3000)").await),
        (Some(0), 2000),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_dies_is_started_again_and_the_row_that_it_dies_of_is_set_aside() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE people (id int PRIMARY KEY, n int)").await;
    let answer = "if row['id'] == 77: os._exit(3)\nif row['id'] == 78: out = {'$error': 'no seventy-eight'}\n\
                  if row['id'] == 79: out = None\nif row['id'] == 80: out = [row]\nif row['id'] == 81: time.sleep(30)\n\
                  if row['id'] % 10 == 2: out = {'n': 5}\nelif out is row: row['n'] += 1\n\
                  if os.environ.get('PGPASSWORD') or os.environ.get('DATABASE_URL'): os._exit(9)";
    let command = python(&lab, answer);
    lab.sql("INSERT INTO people SELECT i, 0 FROM generate_series(1, 500) AS i").await;
    let step = format!("transform = 'people'\n{command}\ntimeout = '500ms'\nupdate = ['n']");
    let (code, told) = run(&lab, &plan(&lab, "[retry]\nbase = '20ms'", &step)).await;
    assert_eq!(code, Some(4), "{told}");
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE n = CASE WHEN id BETWEEN 77 AND 81 THEN 0 WHEN id % 10 = 2 THEN 5 ELSE 1 END").await, 500);
    let aside = lab
        .text("SELECT string_agg(key[1] || ' ' || message, E'\\n' ORDER BY key[1]::int) FROM howdah.quarantine")
        .await;
    for words in [
        "77 the program fails on it: python3: it has ended (exit status: 3)",
        "78 no seventy-eight",
        "80 with `update`",
        "81 the program fails on it: python3: silent for 500ms",
    ] {
        assert!(aside.contains(words), "`{words}` is not in:\n{aside}");
    }
    // One that can never answer is not the rows' fault.
    let broken = "transform = 'people'\ncommand = ['python3', '-c', 'import nothing_of_the_kind']\nupdate = ['n']";
    let (code, told) = run(&lab, &plan(&lab, "[retry]\nbase = '5ms'\nattempts = 3", broken)).await;
    assert!(code == Some(1) && told.contains("nothing_of_the_kind"), "{code:?} {told}");
    let checked = lab
        .howdah(&[
            "check",
            plan(&lab, "", "transform = 'people'\ncommand = ['no-such-program']\nupdate = ['n']")
                .to_str()
                .expect("a path"),
        ])
        .run();
    assert!(
        checked.code() == Some(2) && checked.stderr().contains("no program no-such-program"),
        "{}",
        checked.stderr()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_makes_rows_of_another_table() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TYPE mood AS ENUM ('sad', 'glad');
             CREATE TABLE people (id int PRIMARY KEY, born timestamptz, x float8);
             INSERT INTO people SELECT i, '2020-01-01 12:00+00', i + 0.4 FROM generate_series(1, 300) AS i;
             CREATE TABLE target (id bigint, born date, n int, m mood, said text)",
    )
    .await;
    let step = "transform = 'people'\nwhere = 'id > 10'\ninto = 'target'\n\
                set = { id = 'id', born = 'born', n = 'x * (1 / (id - 100))::int + x', m = \"'glad'\", said = 'id > 5' }";
    let (code, told) = run(&lab, &plan(&lab, "", step)).await;
    assert_eq!(code, Some(4), "{told}");
    let wrong = "SELECT count(*) FROM target WHERE (born, n, m, said) <> ('2020-01-01', id + CASE WHEN id IN (99, 101) THEN n - id ELSE 0 END, 'glad', 'true')";
    assert_eq!(
        (lab.number("SELECT count(*) FROM target").await, lab.number(wrong).await),
        (289, 0),
        "{}",
        rows(&lab, "(SELECT * FROM target LIMIT 3)").await
    );
    assert_eq!(lab.text("SELECT string_agg(key[1] || ' ' || sqlstate, ',') FROM howdah.quarantine").await, "100 22012");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_walked_by_its_key() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, who text, cents int);
             INSERT INTO orders SELECT i, 'w' || i % 1500, i FROM generate_series(1, 6000) AS i;
             CREATE TABLE target (who text PRIMARY KEY, euros numeric)",
    )
    .await;
    let step = "transform = 'SELECT who, sum(cents) AS cents, max(id) AS last FROM orders GROUP BY who'\nkey = ['who']\ninto = 'target'\n\
                rhai = '#{ who: row.who, euros: parse_decimal(row.cents.to_string()) / parse_decimal(\"100\") }'";
    let (code, told) = run(&lab, &plan(&lab, "workers = 2\nbatch = { start = 100, min = 100, max = 100 }", step)).await;
    assert_eq!(code, Some(0), "{told}");
    let wrong = "SELECT count(*) FROM target FULL JOIN (SELECT who, sum(cents) / 100.0 AS euros FROM orders GROUP BY who) o USING (who) WHERE target.euros IS DISTINCT FROM o.euros";
    assert_eq!((lab.number("SELECT count(*) FROM target").await, lab.number(wrong).await), (1500, 0));
    assert_eq!(lab.number("SELECT count(*) FROM pg_views WHERE viewname LIKE 'source%'").await, 0);
    for (query, key, words) in [
        ("SELECT who, cents FROM orders", "who", "is the same in several rows"),
        ("SELECT nullif(id, 5) AS id FROM orders", "id", "is NULL in some rows"),
        ("SELECT id FROM orders", "nope", "no column `nope`"),
    ] {
        let step = format!("transform = '{query}'\nkey = ['{key}']\ninto = 'target'\nrhai = '()'");
        let (code, told) = run(&lab, &plan(&lab, "", &step)).await;
        assert!(code != Some(0) && told.contains(words), "{code:?} {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_set_aside_can_be_tried_again_and_an_update_cannot_be_taken_back() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE people (id int PRIMARY KEY, n int); INSERT INTO people SELECT i, i FROM generate_series(1, 50) AS i").await;
    let step = "transform = 'people'\nupdate = ['n']\nrhai = 'if row.n == 7 || row.n == 8 { throw \"not yet\" } row.n += 100; row'";
    let (code, told) = run(&lab, &plan(&lab, "", step)).await;
    assert_eq!(code, Some(4), "{told}");
    lab.howdah(&["quarantine", "list"]).run().expect_words(&["Runtime error: not"]);
    lab.sql("UPDATE people SET n = 70 WHERE id = 7").await;
    lab.howdah(&["quarantine", "retry"]).run().expect_words(&["1 changed, 1 failed again"]);
    assert_eq!(lab.number("SELECT n::bigint FROM people WHERE id = 7").await, 170);
    lab.howdah(&["undo"]).run().expect_words(&["cannot be taken back"]);
}

/// Everything in the files of a directory, in the order of their names.
fn files(lab: &Lab, directory: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(lab.files.path().join(directory))
        .expect("a directory")
        .map(|entry| entry.expect("a file"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("read")))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_files_of_every_kind() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE people (id bigint PRIMARY KEY, name text, n numeric);
             INSERT INTO people VALUES (1, 'a,\"b\"', 12345678901234567890.50), (9007199254740993, NULL, 1), (3, '', NULL)").await;
    let at = lab.files.path().display().to_string();
    for (name, program, expected) in [
        (
            "a-{n}.csv",
            "rhai = 'row'",
            "id,name,n\n1,\"a,\"\"b\"\"\",12345678901234567890.50\n3,\"\",\n9007199254740993,,1\n",
        ),
        (
            "b-{n}.jsonl",
            "command = ['cat']",
            "{\"id\":\"1\",\"name\":\"a,\\\"b\\\"\",\"n\":\"12345678901234567890.50\"}\n{\"id\":\"3\",\"name\":\"\",\"n\":null}\n{\"id\":\"9007199254740993\",\"name\":null,\"n\":\"1\"}\n",
        ),
        (
            "c-{n}.jsonl",
            "set = { id = 'id', n = 'n + 1' }",
            "{\"id\":1,\"n\":12345678901234567891.50}\n{\"id\":3,\"n\":null}\n{\"id\":9007199254740993,\"n\":2}\n",
        ),
        (
            "d-{n}.jsonl",
            "rhai = '#{ id: row.id, more: [1, 0.5, ()] }'",
            "{\"id\":1,\"more\":[1,0.5,null]}\n{\"id\":3,\"more\":[1,0.5,null]}\n{\"id\":9007199254740993,\"more\":[1,0.5,null]}\n",
        ),
    ] {
        let step = format!("transform = 'people'\n{program}\nfile = '{at}/out/{name}'");
        let plan = plan(&lab, "", &step);
        let (code, told) = run(&lab, &plan).await;
        let read = std::fs::read_to_string(lab.files.path().join("out").join(name.replace("{n}", "0000-001")));
        assert_eq!((code, read.unwrap_or_default().as_str()), (Some(0), expected), "{name}: {told}");
        let (code, told) = run(&lab, &plan).await;
        assert!(code == Some(1) && told.contains("is there already"), "{code:?} {told}");
    }
    let (code, told) =
        run(&lab, &plan(&lab, "", &format!("transform = 'people'\nrhai = 'row'\nfile = '{at}/gz/a-{{n}}.csv.gz'")))
            .await;
    assert_eq!(code, Some(0), "{told}");
    let mut text = String::new();
    let (_, bytes) = &files(&lab, "gz")[0];
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut text).expect("gzip");
    assert!(text.starts_with("id,name,n\n1,"), "{text}");
}

/// Kills at random instants, or at failpoints, and then: each row in one file, once, and every file with its name.
async fn files_are_whole_however_it_is_killed(points: &[&str], kills: u32) {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE source (id int PRIMARY KEY); INSERT INTO source SELECT generate_series(1, 6000)").await;
    let at = lab.files.path().display().to_string();
    let step = format!("transform = 'source'\nrhai = 'row'\nfile = '{at}/out/f-{{n}}.csv.zst'\nrotate = '1KiB'");
    let plan = small_batches(&lab, &step);
    let plan = plan.to_str().expect("a path");
    let expect_whole = async |told: &str| {
        let mut ids: Vec<u32> = Vec::new();
        for (name, bytes) in files(&lab, "out") {
            assert!(name.ends_with(".zst"), "{told}: {name}");
            let text = String::from_utf8(zstd::decode_all(&bytes[..]).expect("zstd")).expect("text");
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some("id"), "{told}: {name}");
            ids.extend(lines.map(|line| line.parse::<u32>().expect("an id")));
        }
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(1..=6000), "{told}: {} rows", ids.len());
        std::fs::remove_dir_all(lab.files.path().join("out")).expect("removed");
        lab.sql("DROP SCHEMA howdah CASCADE").await;
    };
    for point in points {
        for nth in [1, 3] {
            let armed = format!("{point}=kill@{nth}");
            let ended = lab.howdah(&["run", plan, "--headless"]).env("HOWDAH_FAILPOINTS", &armed).run();
            assert!(ended.signal() == Some(SIGKILL) || nth > 1, "{armed}: {}", ended.stderr());
            if ended.code() != Some(0) {
                lab.until_undriven().await;
                lab.howdah(&["resume", "--headless"]).run().expect_code(0);
            }
            expect_whole(&armed).await;
        }
    }
    let mut dice = Dice::of_test(20_261_127);
    let (mut killed, mut fresh) = (0, true);
    while killed < kills {
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        let mut running = lab.howdah(arguments).start();
        std::thread::sleep(std::time::Duration::from_millis(20 + dice.below(250)));
        running.kill_hard();
        let ended = running.wait();
        if ended.signal() == Some(SIGKILL) {
            killed += 1;
            lab.until_undriven().await;
            fresh = lab.unfinished().await == 0;
        } else {
            assert_eq!(ended.code(), Some(0), "after {killed} kills: {}", ended.stderr());
            fresh = true;
        }
        if fresh && lab.runs("state = 'done'").await > 0 {
            expect_whole(&format!("after {killed} kills")).await;
        }
    }
    if !fresh {
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
        expect_whole("at the end").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_whole_after_thirty_kills() {
    files_are_whole_however_it_is_killed(&[], 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_whole_after_a_kill_at_any_failpoint() {
    let points = [
        "batch.begun",
        "batch.bounded",
        "batch.changed",
        "batch.recorded",
        "batch.unnamed",
        "batch.committed",
        "step.finished",
    ];
    files_are_whole_however_it_is_killed(&points, 0).await;
}

/// A plan of small batches that takes long enough to be killed thirty times.
fn small_batches(lab: &Lab, step: &str) -> PathBuf {
    plan(lab, "workers = 3\nbatch = { start = 200, min = 100, max = 400 }", step)
}

/// What a kill test walks, and how it is told that each row went through once.
struct Course<'a> {
    fresh: &'a str,
    step: &'a str,
    /// Counts what is not as it should be.
    wrong: &'a str,
    rows: i64,
}

impl Course<'_> {
    async fn set_up(&self, lab: &Lab) {
        lab.sql(&format!("DROP SCHEMA IF EXISTS howdah CASCADE; DROP TABLE IF EXISTS source, target; {}", self.fresh))
            .await;
    }

    async fn expect_each_row_once(&self, lab: &Lab, told: &str) {
        assert_eq!(lab.number(self.wrong).await, 0, "{told}: rows that are not as they should be");
        let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
        assert_eq!(walked, self.rows, "{told}: the ledger counts each row once as well");
    }

    async fn killed_thirty_times(&self, lab: &Lab) {
        self.set_up(lab).await;
        let plan = small_batches(lab, self.step);
        let plan = plan.to_str().expect("a path");
        let mut dice = Dice::of_test(20_261_126);
        let (mut kills, mut fresh) = (0, true);
        while kills < 30 {
            let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
            let mut running = lab.howdah(arguments).start();
            // The instant of the kill is the point of this test.
            std::thread::sleep(std::time::Duration::from_millis(20 + dice.below(250)));
            running.kill_hard();
            let ended = running.wait();
            match (ended.signal(), ended.code()) {
                (Some(SIGKILL), _) => {
                    kills += 1;
                    lab.until_undriven().await;
                    fresh = lab.unfinished().await == 0;
                }
                (_, Some(0)) => fresh = true,
                other => panic!("after {kills} kills: {other:?}\n{}", ended.stderr()),
            }
            if fresh && lab.runs("state = 'done'").await > 0 {
                self.expect_each_row_once(lab, &format!("after {kills} kills")).await;
                self.set_up(lab).await;
            }
        }
        let arguments: &[&str] = if fresh { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        lab.howdah(arguments).run().expect_code(0);
        self.expect_each_row_once(lab, "at the end").await;
    }

    async fn killed_at_every_failpoint(&self, lab: &Lab) {
        let limits = "workers = 2\nbatch = { start = 500, min = 500, max = 500 }";
        let plan = plan(lab, limits, self.step);
        let points = failpoint::ALL.iter().chain(&failpoint::SPLIT);
        let points = points
            .filter(|point| ["batch.", "split.", "segment.", "sweep.", "step."].iter().any(|of| point.starts_with(of)));
        let mut killed = 0;
        for point in points {
            for nth in [1, 3] {
                self.set_up(lab).await;
                let arguments = ["run", plan.to_str().expect("a path"), "--headless"];
                let ended = lab.howdah(&arguments).env("HOWDAH_FAILPOINTS", &format!("{point}=kill@{nth}")).run();
                killed += u32::from(ended.signal() == Some(SIGKILL));
                if ended.code() != Some(0) {
                    lab.until_undriven().await;
                    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
                }
                self.expect_each_row_once(lab, point).await;
            }
        }
        assert!(killed >= 12, "{killed} kills");
    }
}

const RAISED: Course<'static> = Course {
    fresh: "CREATE TABLE source (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); \
            INSERT INTO source SELECT generate_series(1, 6000)",
    step: "transform = 'source'\nupdate = ['n']\nrhai = 'row.n += 1; row'",
    wrong: "SELECT count(*) FROM source WHERE n <> 1",
    rows: 6000,
};

const INSERTED: Course<'static> = Course {
    fresh: "CREATE TABLE source (id int PRIMARY KEY); INSERT INTO source SELECT generate_series(1, 6000); \
            CREATE TABLE target (id int)",
    step: "transform = 'source'\ninto = 'target'\nrhai = 'if row.id % 2 == 0 { [row, row] } else { row }'",
    wrong: "SELECT count(*) FROM source s LEFT JOIN (SELECT id, count(*) AS n FROM target GROUP BY id) t USING (id) \
            WHERE t.n IS DISTINCT FROM 2 - s.id % 2",
    rows: 6000,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_update_killed_thirty_times_changes_each_row_once() {
    RAISED.killed_thirty_times(&Lab::open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_into_a_table_killed_thirty_times_are_there_once() {
    INSERTED.killed_thirty_times(&Lab::open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_killed_at_any_failpoint_changes_each_row_once() {
    RAISED.killed_at_every_failpoint(&Lab::open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_into_a_table_killed_at_any_failpoint_are_there_once() {
    INSERTED.killed_at_every_failpoint(&Lab::open().await).await;
}
