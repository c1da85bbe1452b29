//! Files into tables: every format, every kind of dirt, and every instant at which something can be killed.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use howdah::engine::failpoint;
use nix::libc::SIGKILL;

use crate::support::{Dice, Lab};

const TABLE: &str = "CREATE TABLE people (id bigint PRIMARY KEY, name text, price numeric DEFAULT 1.5)";

/// A plan that imports `files` into `people`.
fn plan(lab: &Lab, files: &str, more: &str) -> PathBuf {
    let limits = "[limits]\nworkers = 2\n";
    let text = format!("{limits}[[step]]\nname = \"people\"\nimport = {files}\ninto = \"people\"\n{more}\n");
    lab.plan("import.toml", &text)
}

fn write(lab: &Lab, name: &str, bytes: &[u8]) -> String {
    let path = lab.files.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.to_str().expect("a path").to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// Everything that is in the table, as one text.
async fn rows(lab: &Lab) -> String {
    lab.text("SELECT coalesce(string_agg(format('%s|%s|%s', id, name, price), ';' ORDER BY id), '') FROM people").await
}

fn run(lab: &Lab, plan: &std::path::Path) -> (Option<i32>, String) {
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--new", "--headless"]).run();
    (ended.code(), ended.stderr())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_loaded_as_they_are_meant() {
    let lab = Lab::open().await;
    let nested = lab.files.path().join("dir");
    std::fs::create_dir(&nested).expect("a directory");
    std::fs::write(nested.join("a.csv"), "id,name\n1,a\n").expect("written");
    std::fs::write(nested.join("b.jsonl"), "{\"id\":2}\n").expect("written");
    let two = [gzip(b"id,name\n1,a\n"), gzip(b"2,b\n")].concat();
    let zstd = zstd::encode_all(&b"id,name\n1,z\n"[..], 3).expect("compressed");
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("plain.csv", b"id,name,price\n1,a,2\n2,\"b\"\"c\",\n".to_vec(), "", "1|a|2;2|b\"c|"),
        ("crlf.csv", b"id,name\r\n1,a\r\n2,\"x\r\ny\"\r\n".to_vec(), "", "1|a|1.5;2|x\r\ny|1.5"),
        ("cr.csv", b"id,name\r1,a\r2,b".to_vec(), "", "1|a|1.5;2|b|1.5"),
        ("bom.csv", b"\xef\xbb\xbfid,name\n1,a\n".to_vec(), "", "1|a|1.5"),
        ("newlines.csv", b"id,name\n1,\"a\n\n,b\"\n2,c".to_vec(), "", "1|a\n\n,b|1.5;2|c|1.5"),
        ("order.csv", b"name,id\na,1\n".to_vec(), "", "1|a|1.5"),
        ("semicolon.csv", b"id;name;price\n1;'a;b';NULL\n".to_vec(), "delimiter = ';'\nquote = \"'\"\nnull = 'NULL'", "1|a;b|"),
        ("escape.csv", b"id,name\n1,\"a\\\"b\"\n".to_vec(), "escape = '\\'", "1|a\"b|1.5"),
        ("bare.csv", b"7,x,3\n".to_vec(), "header = false", "7|x|3"),
        ("fields.csv", b"x,7\n".to_vec(), "header = false\nfields = ['name', 'id']", "7|x|1.5"),
        ("renamed.csv", b"No,Full name,other\n1,a,b\n".to_vec(), "columns = { id = '\"No\"', name = '\"Full name\"' }\nskip = ['other']", "1|a|1.5"),
        ("computed.csv", b"id,name,euro\n1,ANN,\"1,50\"\n".to_vec(), "columns = { name = 'lower(name)', price = \"replace(euro, ',', '.')::numeric\" }", "1|ann|1.50"),
        ("text.tsv", b"1\ta\\tb\t\\N\n2\tc\\\nd\t9\n".to_vec(), "", "1|a\tb|;2|c\nd|9"),
        ("dump.copy", b"1\ta\t2\n\\.\n".to_vec(), "", "1|a|2"),
        ("lines.jsonl", b"{\"id\":1,\"name\":\"a\",\"price\":12345678901234567890.123}\n\n{\"id\":2,\"name\":null}\n{\"price\":null,\"id\":3,\"new\":[1]}".to_vec(), "", "1|a|12345678901234567890.123;2||1.5;3||"),
        ("computed.jsonl", b"{\"id\":1,\"first\":\"Ann\",\"last\":\"Lee\"}\n".to_vec(), "columns = { name = \"first || ' ' || last\" }", "1|Ann Lee|1.5"),
        ("two.csv.gz", two, "", "1|a|1.5;2|b|1.5"),
        ("one.csv.zst", zstd, "", "1|z|1.5"),
        ("latin1.csv", b"id,name\n1,J\xfcrgen\n".to_vec(), "encoding = 'latin1'", "1|Jürgen|1.5"),
        ("empty.csv", Vec::new(), "", ""),
        ("header.csv", b"id,name\n".to_vec(), "", ""),
    ];
    for (name, bytes, more, expected) in table {
        lab.sql(&format!("DROP TABLE IF EXISTS people; {TABLE}")).await;
        let path = write(&lab, name, &bytes);
        let plan = plan(&lab, &format!("'{path}'"), more);
        let (code, told) = run(&lab, &plan);
        assert_eq!((code, rows(&lab).await.as_str()), (Some(0), expected), "{name}: {told}");
    }
    lab.sql(&format!("DROP TABLE people; {TABLE}")).await;
    let (code, told) = run(&lab, &plan(&lab, &format!("'{}'", nested.display()), ""));
    assert_eq!((code, rows(&lab).await.as_str()), (Some(0), "1|a|1.5;2||1.5"), "a directory: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_key_is_there_is_set_aside_or_skipped_or_updated() {
    let lab = Lab::open().await;
    let path = write(&lab, "keys.csv", b"id,name\n1,new\n2,b\n2,c\n");
    for (how, code, expected) in
        [("error", 4, "1|old|9;2|b|1.5"), ("skip", 0, "1|old|9;2|b|1.5"), ("update", 0, "1|new|9;2|c|1.5")]
    {
        lab.sql(&format!("DROP TABLE IF EXISTS people; {TABLE}; INSERT INTO people VALUES (1, 'old', 9)")).await;
        let plan = plan(&lab, &format!("'{path}'"), &format!("on_conflict = '{how}'"));
        let (ended, told) = run(&lab, &plan);
        assert_eq!((ended, rows(&lab).await.as_str()), (Some(code), expected), "{how}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_set_aside_with_their_place_and_loaded_once_they_can_be() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let long = "x".repeat(1 << 20);
    let mut bytes = b"id,name\n1,good\nx,\"not a\nnumber\"\n3,too,many\n4\n\n5,nul\x00\n6,\xff\xfe\n1,twice\n".to_vec();
    bytes.extend(format!("8,\"{long}\"\n9,\"quotes \"\" in \"\"quotes\"\"\"\n\\.\n10,after\n").into_bytes());
    let path = write(&lab, "dirty.csv", &bytes);
    let plan = plan(&lab, &format!("'{path}'"), "rejects = true");
    let (code, told) = run(&lab, &plan);
    assert_eq!(code, Some(4), "{told}");
    let loaded = lab.text("SELECT string_agg(id || ':' || length(name), ' ' ORDER BY id) FROM people").await;
    assert_eq!(loaded, "1:4 8:1048576 9:20 10:5");
    let aside = lab
        .text("SELECT string_agg(key[1] || ' ' || sqlstate, ', ' ORDER BY key[1]::int) FROM howdah.quarantine WHERE part = '{}'".replace("{}", &path).as_str())
        .await;
    assert_eq!(aside, "3 22P02, 5 22P04, 6 22P04, 8 22021, 9 22021, 10 23505, 13 22P04");
    let rejects = std::fs::read(format!("{path}.rejects")).expect("rejects");
    assert!(rejects.windows(4).any(|part| part == b"6,\xff\xfe"), "{rejects:?}");
    // What is wrong with the table can be mended; what is wrong with a record cannot.
    lab.sql("DELETE FROM people WHERE id = 1").await;
    let retried = lab.howdah(&["quarantine", "retry"]).run().expect_code(4);
    retried.expect_words(&["1 changed, 6 failed again", "NUL byte"]);
    assert_eq!(lab.text("SELECT name FROM people WHERE id = 1").await, "twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_off_is_loaded_as_far_as_it_goes_and_never_done() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let text: String = std::iter::once("id,name\n".to_owned())
        .chain((1..=200_000).map(|n: u64| format!("{n},{}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        .collect();
    let whole = gzip(text.as_bytes());
    let path = write(&lab, "cut.csv.gz", &whole[..whole.len() / 2]);
    let plan = plan(&lab, &format!("'{path}'"), "");
    let (code, told) = run(&lab, &plan);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("cut.csv.gz, behind line"), "{told}");
    let loaded = lab.number("SELECT count(*) FROM people").await;
    assert!(loaded > 50_000 && loaded == lab.number("SELECT max(id) FROM people").await, "{loaded}");
    // The whole file is another one.
    std::fs::write(&path, &whole).expect("written");
    let resumed = lab.howdah(&["resume", "--headless"]).run();
    assert_eq!(resumed.code(), Some(1), "{}", resumed.stderr());
    assert!(resumed.stderr().contains("has changed since the run began: its size"), "{}", resumed.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_input_is_loaded_as_it_comes() {
    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let plan = plan(&lab, "'-'", "format = 'csv'");
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]);
    let ended = running.fed(|mut stdin| {
        stdin.write_all(b"id,name\n").expect("written");
        for n in 1..=100_000 {
            stdin.write_all(format!("{n},\"name {n}\"\n").as_bytes()).expect("written");
        }
    });
    ended.expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE name = 'name ' || id").await, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_refused_before_anything_is_changed() {
    let lab = Lab::open().await;
    lab.sql(&format!("{TABLE}; CREATE INDEX people_name ON people (name)")).await;
    let path = write(&lab, "people.csv", b"id,nmae\n1,a\n");
    let table = [
        (format!("'{path}'"), "", "no column for the field `nmae`", "did you mean column `name`?"),
        ("'nowhere-*.csv'".to_owned(), "", "no file fits `nowhere-*.csv`", "relative paths"),
        (format!("'{path}'"), "columns = { name = 'nope(nmae)' }", "function nope", "nope(nmae)"),
        ("'-'".to_owned(), "", "what the standard input holds", "format ="),
    ];
    for (files, more, message, hint) in table {
        let checked = lab.howdah(&["check", plan(&lab, &files, more).to_str().expect("a path")]).run();
        let told = checked.stderr();
        assert!(checked.code() == Some(2) && told.contains(message) && told.contains(hint), "{told}");
    }
    let good = write(&lab, "good.csv", b"id,name\n1,a\n");
    let checked = lab.howdah(&["check", plan(&lab, &format!("'{good}'"), "").to_str().expect("a path")]).run();
    assert!(checked.stdout().contains("people_name"), "the advice on indexes: {}", checked.stdout());
}

/// Files of 60,000 records each, with line breaks inside, some plain and some not; and what is in them all.
fn many(lab: &Lab, compressed: bool) -> (String, i64) {
    let rows = 120_000_i64;
    for part in 0..2 {
        let mut text = "id,name\n".to_owned();
        for n in (1..=rows).filter(|n| n % 2 == part) {
            writeln!(text, "{n},\"name\n{n}\"").expect("written");
        }
        if compressed {
            write(lab, &format!("part-{part}.csv.gz"), &gzip(text.as_bytes()));
        } else {
            write(lab, &format!("part-{part}.csv"), text.as_bytes());
        }
    }
    (format!("'{}/part-*'", lab.files.path().display()), rows)
}

/// A table in which a record that is loaded twice shows: it has no key.
const BARE: &str = "CREATE TABLE people (id bigint NOT NULL, name text)";

async fn expect_each_record_once(lab: &Lab, rows: i64) {
    let wrong = "SELECT count(*) FROM (SELECT id FROM people GROUP BY id HAVING count(*) <> 1 \
                 UNION ALL SELECT id FROM people WHERE name <> E'name\\n' || id) AS wrong";
    assert_eq!(lab.number(wrong).await, 0, "records that are there twice, or are not what they were");
    assert_eq!(lab.number("SELECT count(*) FROM people").await, rows);
    let (walked, changed) = (
        lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await,
        lab.number("SELECT sum(rows_changed)::bigint FROM howdah.segment").await,
    );
    assert_eq!((walked, changed), (rows, rows), "the ledger counts each record once as well");
}

async fn killed_thirty_times(compressed: bool) {
    let lab = Lab::open().await;
    let (files, rows) = many(&lab, compressed);
    killed_thirty_times_on(&lab, &files, rows, "").await;
}

async fn killed_thirty_times_on(lab: &Lab, files: &str, rows: i64, more: &str) {
    lab.sql(BARE).await;
    let text = format!(
        "[limits]\nworkers = 3\nbatch = {{ start = 500, min = 100, max = 1000 }}\n\
         [[step]]\nname = \"people\"\nimport = {files}\ninto = \"people\"\npart = \"16KiB\"\n{more}\n"
    );
    let plan = lab.plan("import.toml", &text);
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
            // It was quicker than the dice: the same again, from nothing.
            expect_each_record_once(lab, rows).await;
            lab.sql("TRUNCATE people; DROP SCHEMA howdah CASCADE").await;
        }
    }
    if fresh {
        lab.howdah(&["run", plan, "--headless"]).run().expect_code(0);
    } else {
        lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    }
    expect_each_record_once(lab, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_through_a_stage_killed_thirty_times_loads_each_record_once() {
    let lab = Lab::open().await;
    let (files, rows) = many(&lab, false);
    killed_thirty_times_on(&lab, &files, rows, "columns = { name = \"name || ''\" }").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_documents_killed_thirty_times_loads_each_record_once() {
    let lab = Lab::open().await;
    let rows = 60_000;
    let mut text = String::new();
    for n in 1..=rows {
        writeln!(text, "{{\"id\":{n},\"name\":\"name\\n{n}\"}}").expect("written");
    }
    let path = write(&lab, "people.jsonl", text.as_bytes());
    killed_thirty_times_on(&lab, &format!("'{path}'"), rows, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_plain_files_killed_thirty_times_loads_each_record_once() {
    killed_thirty_times(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_compressed_files_killed_thirty_times_loads_each_record_once() {
    killed_thirty_times(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_any_failpoint_loads_each_record_once() {
    let lab = Lab::open().await;
    let (files, rows) = many(&lab, false);
    let text = format!(
        "[limits]\nworkers = 2\nbatch = {{ start = 20000, min = 10000 }}\n\
         [[step]]\nname = \"people\"\nimport = {files}\ninto = \"people\"\n"
    );
    let plan = lab.plan("import.toml", &text);
    let points = failpoint::ALL.iter().chain(&failpoint::SPLIT);
    let points = points
        .filter(|point| ["batch.", "split.", "segment.", "sweep.", "step."].iter().any(|of| point.starts_with(of)));
    let mut killed = 0;
    for point in points {
        for nth in [1, 3] {
            lab.sql(&format!("DROP TABLE IF EXISTS people; DROP SCHEMA IF EXISTS howdah CASCADE; {BARE}")).await;
            let arguments = ["run", plan.to_str().expect("a path"), "--headless"];
            let ended = lab.howdah(&arguments).env("HOWDAH_FAILPOINTS", &format!("{point}=kill@{nth}")).run();
            killed += u32::from(ended.signal() == Some(SIGKILL));
            if ended.code() != Some(0) {
                lab.until_undriven().await;
                let arguments: &[&str] =
                    if lab.runs("true").await == 0 { &arguments } else { &["resume", "--headless"] };
                lab.howdah(arguments).run().expect_code(0);
            }
            expect_each_record_once(&lab, rows).await;
        }
    }
    assert!(killed >= 10, "{killed} of the instants were reached");
}

#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn a_parquet_file_is_loaded_by_the_names_of_its_columns() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;

    let lab = Lab::open().await;
    lab.sql(TABLE).await;
    let schema = "message people { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY name (UTF8); \
                  REQUIRED INT64 price (DECIMAL(18, 2)); }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).expect("a schema"));
    let path = lab.files.path().join("people.parquet");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, std::sync::Arc::default()).expect("a writer");
    let mut columns = writer.next_row_group().expect("a group");
    let mut column = columns.next_column().expect("a column").expect("id");
    column.typed::<Int64Type>().write_batch(&[1, i64::MAX], None, None).expect("written");
    column.close().expect("closed");
    let mut column = columns.next_column().expect("a column").expect("name");
    column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("a\n\"b\"")], Some(&[1, 0]), None).expect("written");
    column.close().expect("closed");
    let mut column = columns.next_column().expect("a column").expect("price");
    column.typed::<Int64Type>().write_batch(&[-5, 1_234_567_890_123_456_789], None, None).expect("written");
    column.close().expect("closed");
    columns.close().expect("closed");
    writer.close().expect("closed");
    let (code, told) = run(&lab, &plan(&lab, &format!("'{}'", path.display()), ""));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(rows(&lab).await, "1|a\n\"b\"|-0.05;9223372036854775807||12345678901234567.89");
}
