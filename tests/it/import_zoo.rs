//! Files in which something is wrong: what is good of them is loaded, what is not is set aside, and nothing is both or neither.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use sqlx::{Connection, Executor};

use crate::support::Lab;

const TABLE: &str = "CREATE TABLE people (id bigint PRIMARY KEY, name text, price numeric DEFAULT 1.5)";

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/import/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A plan that imports `files` into `people`.
fn plan(lab: &Lab, files: &str, more: &str) -> PathBuf {
    lab.plan("zoo.toml", &format!("[[step]]\nname = \"people\"\nimport = {files}\ninto = \"people\"\n{more}\n"))
}

fn run(lab: &Lab, plan: &std::path::Path) -> (Option<i32>, String) {
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--new", "--headless"]).run();
    (ended.code(), ended.stderr())
}

async fn emptied(lab: &Lab) {
    lab.sql(&format!("DROP TABLE IF EXISTS people; {TABLE}; DROP SCHEMA IF EXISTS howdah CASCADE")).await;
}

/// Everything that is in the table, as one text.
async fn rows(lab: &Lab) -> String {
    lab.text("SELECT coalesce(string_agg(format('%s|%s|%s', id, name, price), ';' ORDER BY id), '') FROM people").await
}

/// Line and SQLSTATE of everything that was set aside.
async fn aside(lab: &Lab) -> String {
    let sql = "SELECT coalesce(string_agg(key[1] || ' ' || sqlstate, ', ' ORDER BY key[1]::int), '') \
               FROM howdah.quarantine";
    lab.text(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_dirty_file_what_is_good_is_loaded_and_the_rest_set_aside() {
    let lab = Lab::open().await;
    let table = [
        ("lines-in-the-first-record.csv", "1|a\nb|1.5;2|good|1.5;3|c|1.5", "5 22P02"),
        ("lines-in-the-first-record.tsv", "1|a\nb|;2|good|2;3|c|4", "4 22P02"),
        ("other-ends-inside-quotes.csv", "1|a\nb|1.5;2|c\n\nd|1.5;3|good|1.5;4|e|1.5", "8 22P02"),
        ("mixed-ends.csv", "1|a|1.5;2|b|1.5;3|c\nd|1.5;4|e|1.5", ""),
        ("mixed-carriage-returns.csv", "1|a|1.5;2|b|1.5;3|c|1.5", ""),
        ("mixed-ends.tsv", "1|a|1.5;2|b|1.5;3|c\r|1.5;4|d|1.5", ""),
        ("end-of-data.csv", "1|a|1.5;2|b|1.5;3|\n\\.\n|1.5", "3 22P04"),
        ("end-of-data.tsv", "1|a|1;3|c|3;4|d|4;5|e\\.|5", "2 22P04, 4 22P04"),
        ("end-of-data.jsonl", "1|a|1.5;2|b|1.5", "2 22P04"),
        (
            "dirty.jsonl",
            "1||1.5;2||1.5;5||1.5;7||1.5",
            "3 22P02, 5 22P05, 6 22023, 7 22023, 8 22023, 10 22P04, 11 22P02",
        ),
        ("open-quote.csv", "", "2 22P04"),
        ("quotes.csv", "1|q \"in\" q|1.5;2|abc|1.5;3|xy|1.5", "5 22P04"),
        ("carriage-return-inside.csv", "3|c|1.5", "2 22P04"),
        ("only-a-mark.csv", "", ""),
    ];
    let mut wrong = String::new();
    for (name, expected, expected_aside) in table {
        emptied(&lab).await;
        let more = if name.starts_with("mixed") { "fields = ['id', 'name']" } else { "" };
        let (code, told) = run(&lab, &plan(&lab, &format!("'{}'", fixture(name)), more));
        let found = (code, rows(&lab).await, aside(&lab).await);
        let wanted =
            (Some(if expected_aside.is_empty() { 0 } else { 4 }), expected.to_owned(), expected_aside.to_owned());
        if found != wanted {
            writeln!(wrong, "{name}: {found:?}\n  wanted {wanted:?}\n{told}").expect("written");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_be_set_aside_a_line_that_ends_the_data_swallows_nothing() {
    let lab = Lab::open().await;
    for name in ["end-of-data.csv", "end-of-data.tsv", "end-of-data.jsonl"] {
        emptied(&lab).await;
        let text = format!(
            "[limits]\nmax_quarantined = 0\n[[step]]\nname = \"people\"\nimport = '{}'\ninto = \"people\"\n",
            fixture(name)
        );
        let (code, told) = run(&lab, &lab.plan("zoo.toml", &text));
        assert_eq!((code, rows(&lab).await.as_str()), (Some(1), ""), "{name}: {told}");
        assert!(told.contains("takes for the end of the data"), "{name}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_late_in_a_file_of_documents_is_loaded() {
    let lab = Lab::open().await;
    let mut text = String::new();
    for n in 1..=40_000 {
        writeln!(text, "{{\"id\":{n},\"note\":\"{}\"}}", "x".repeat(30)).expect("written");
    }
    assert!(text.len() > 1 << 20, "more than is looked at");
    text.push_str("{\"id\":40001,\"name\":\"late\",\"price\":7}\n");
    let path = lab.files.path().join("late.jsonl");
    std::fs::write(&path, text).expect("written");
    lab.sql(&format!("{TABLE}; ALTER TABLE people ADD seen bigint GENERATED ALWAYS AS IDENTITY")).await;
    let (code, told) = run(&lab, &plan(&lab, &format!("'{}'", path.display()), ""));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(lab.text("SELECT format('%s %s', name, price) FROM people WHERE id = 40001").await, "late 7");
    assert_eq!(lab.number("SELECT count(DISTINCT seen) FROM people WHERE price IN (1.5, 7)").await, 40_001);
    let checked = lab.howdah(&["check", lab.files.path().join("zoo.toml").to_str().expect("a path")]).run();
    assert!(checked.stdout().contains("`note`"), "a key without a column is told: {}", checked.stdout());
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_whole_and_never_taken_for_files_themselves() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let long = "y".repeat(200_000);
    let path = lab.files.path().join("people.csv");
    std::fs::write(&path, format!("id,name\n1,a\nx,\"{long}\"\n2,b\n\n\n\n\n\n\nz,\u{e9}\n")).expect("written");
    let glob = format!("'{}/people*'", lab.files.path().display());
    let plan = plan(&lab, &glob, "rejects = true\nformat = 'csv'\non_conflict = 'skip'");
    for _ in 0..2 {
        let (code, told) = run(&lab, &plan);
        assert_eq!(code, Some(4), "{told}");
        let rejects = std::fs::read_to_string(lab.files.path().join("people.csv.rejects")).expect("rejects");
        assert!(rejects == format!("x,\"{long}\"\nz,\u{e9}\n"), "{} bytes", rejects.len());
    }
    assert_eq!(lab.number("SELECT count(*) FROM people").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_named_in_two_ways_is_loaded_once() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE people (id bigint, name text)").await;
    let home = lab.files.path().display();
    std::fs::write(lab.files.path().join("a.csv"), "id,name\n1,a\n").expect("written");
    let files =
        format!("['{home}/a.csv', '{home}/../{}/a.csv']", lab.files.path().file_name().expect("a name").display());
    let (code, told) = run(&lab, &plan(&lab, &files, ""));
    assert_eq!((code, lab.number("SELECT count(*) FROM people").await), (Some(0), 1), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_server_can_tell_is_found_by_the_check() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let path = lab.files.path().join("good.csv");
    std::fs::write(&path, "id,name\n1,a\n").expect("written");
    let table = [
        ("on_conflict = 'skip'\nkey = ['name']", "no unique", "key"),
        ("encoding = 'klingon'", "encoding", "klingon"),
        ("null = 'a,b'", "delimiter", "NULL"),
    ];
    for (more, message, hint) in table {
        let plan = plan(&lab, &format!("'{}'", path.display()), more);
        let checked = lab.howdah(&["check", plan.to_str().expect("a path")]).run();
        let told = checked.stderr();
        assert!(checked.code() == Some(2) && told.contains(message) && told.contains(hint), "{more}: {told}");
    }
    let plan = plan(&lab, &format!("'{}'", fixture("utf-16.csv")), "");
    let checked = lab.howdah(&["check", plan.to_str().expect("a path")]).run();
    assert!(checked.code() == Some(2) && checked.stderr().contains("iconv"), "{}", checked.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zstd_file_that_breaks_off_is_never_done() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let text: String = std::iter::once("id,name\n".to_owned())
        .chain((1..=100_000).map(|n: u64| format!("{n},{}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        .collect();
    let whole = zstd::encode_all(text.as_bytes(), 1).expect("compressed");
    let path = lab.files.path().join("cut.csv.zst");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let (code, told) = run(&lab, &plan(&lab, &format!("'{}'", path.display()), ""));
    assert_eq!(code, Some(1), "{told}");
    let loaded = lab.number("SELECT count(*) FROM people").await;
    assert!(loaded > 0 && loaded == lab.number("SELECT max(id) FROM people").await, "{loaded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_still_writes_to_is_never_done() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let path = lab.files.path().join("grows.csv");
    let mut text = "id,name\n".to_owned();
    for n in 1..=300_000 {
        writeln!(text, "{n},{}", "x".repeat(40)).expect("written");
    }
    // Longer than what is read ahead of the first batch.
    assert!(text.len() > 12 << 20);
    std::fs::write(&path, text).expect("written");
    let plan = plan(&lab, &format!("'{}'", path.display()), "part = '1MiB'");
    let mut session = lab.session().await;
    let mut held = session.begin().await.expect("a transaction");
    held.execute("LOCK TABLE people IN SHARE MODE").await.expect("a lock");
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("the file");
    file.write_all(b"300001,half a rec").expect("written");
    held.rollback().await.expect("given back");
    let ended = running.wait().expect_code(1);
    ended.expect_words(&["has changed while it was loaded: its size"]);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE id > 300000").await, 0);
}

/// The standard input of the test below.
fn stream(rows: i64, name: &str) -> Vec<u8> {
    let mut text = "id,name\n".to_owned();
    for n in 1..=rows {
        writeln!(text, "{n},\"{name}\n{n}\"").expect("written");
    }
    text.into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_input_that_was_cut_off_is_read_again_and_goes_on_behind_what_is_loaded() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE people (id bigint NOT NULL, name text)").await;
    let text = "[limits]\nbatch = { start = 500, min = 100, max = 1000 }\n[[step]]\nname = \"people\"\n\
                import = '-'\nformat = 'csv'\ninto = \"people\"\npart = \"16KiB\"\n\
                [[step]]\nname = \"gate\"\nverify = \"SELECT to_regclass('gate') IS NOT NULL\"\nexpect = true\n";
    let plan = lab.plan("stdin.toml", text);
    let plan = plan.to_str().expect("a path");
    // Whoever is killed does not read on.
    let fed = |bytes: Vec<u8>| move |mut stdin: std::process::ChildStdin| drop(stdin.write_all(&bytes));
    let rows = 40_000;
    for point in ["batch.changed=kill@3", "batch.committed=kill@4", "batch.recorded=kill@2"] {
        let arguments: &[&str] =
            if lab.runs("true").await == 0 { &["run", plan, "--headless"] } else { &["resume", "--headless"] };
        let ended = lab.howdah(arguments).env("HOWDAH_FAILPOINTS", point).fed(fed(stream(rows, "a")));
        assert_eq!(ended.signal(), Some(nix::libc::SIGKILL), "{point}: {}", ended.stderr());
        lab.until_undriven().await;
    }
    let before = lab.number("SELECT count(*) FROM people").await;
    assert!(before > 0, "some of it is loaded");
    // Another stream is refused, before anything of it is loaded.
    let other = lab.howdah(&["resume", "--headless"]).fed(fed(stream(rows, "b")));
    other.expect_code(1).expect_words(&["has changed since the run began"]);
    assert_eq!(lab.number("SELECT count(*) FROM people").await, before);
    lab.howdah(&["resume", "--headless"]).fed(fed(stream(rows, "a"))).expect_code(1).expect_words(&["gate"]);
    let wrong = "SELECT count(*) FROM (SELECT id FROM people GROUP BY id HAVING count(*) <> 1 \
                 UNION ALL SELECT id FROM people WHERE name <> E'a\\n' || id) AS wrong";
    assert_eq!((lab.number(wrong).await, lab.number("SELECT count(*) FROM people").await), (0, rows));
    // Once all of it is loaded, nobody needs it again.
    lab.sql("CREATE TABLE gate ()").await;
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
}
