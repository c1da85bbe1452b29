//! How fast rows are moved, side by side in one run: `cargo bench --bench movers [-- ROWS] [-- import|copy|transform|stdin]`.
//!
//! Each contender starts from the same state of the same private, durable server:
//! - `import`: a CSV file of about 75 bytes a row, by `psql \copy` and by howdah with one worker and with two;
//! - `copy`: inside a database against one `INSERT ... SELECT`; between two databases against `pgcopydb clone` with two jobs
//!   (where it is installed), each from an empty database to a table with its primary key;
//! - `transform`: a Rhai script, and a Python program that echoes, into a table;
//! - `stdin`: 5 GiB through the standard input; only memory counts.
//!
//! Turns alternate, and the medians are compared. CPU and memory are howdah's own, from its start to its end.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

mod lab;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::Turn;

const ROUNDS: usize = 3;
/// What flows through the standard input.
const STREAM: u64 = 5 << 30;
const COLUMNS: &str = "id bigint, name text NOT NULL, email text NOT NULL, balance numeric(12,2) NOT NULL, \
                       created_at timestamptz NOT NULL";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let asked = lab::Asked::read();
    let rows = asked.number().unwrap_or(2_000_000);
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    let home = tempfile::tempdir().expect("a directory");
    println!("PostgreSQL {}, {rows} rows, {ROUNDS} rounds, medians", server.version());
    if asked.wants("import") {
        import(&url, home.path(), rows).await;
    }
    if asked.wants("copy") {
        copy_inside(&url, home.path(), rows).await;
        copy_between(&url, &server.url("target"), home.path(), rows).await;
    }
    if asked.wants("transform") {
        transform(&url, home.path(), rows).await;
    }
    if asked.names("stdin") {
        stdin(&url, home.path());
    }
}

async fn import(url: &str, home: &Path, rows: u64) {
    let file = home.join("people.csv");
    write_csv(&file, rows);
    let bytes = std::fs::metadata(&file).expect("the file").len();
    println!("import of {rows} rows, {:.0} MB of CSV, into a table with a primary key", millions(bytes));
    let (mut psql, mut one, mut two) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty(url, "people").await;
        let copy = format!("\\copy people FROM '{}' WITH (FORMAT csv, HEADER)", file.display());
        psql.push(timed(Command::new("psql").args([url, "-q", "-c", &copy])));
        for (workers, turns) in [(1, &mut one), (2, &mut two)] {
            empty(url, "people").await;
            let step = format!("import = \"{}\"\ninto = \"people\"\n", file.display());
            turns.push(howdah(url, home, workers, &step));
            same(url, "SELECT count(*) FROM people", rows).await;
        }
    }
    let psql = line("psql \\copy", rows, median(psql), None);
    told("howdah, 1 worker", rows, one, psql);
    told("howdah, 2 workers", rows, two, psql);
    std::fs::remove_file(file).expect("removed");
}

async fn copy_inside(url: &str, home: &Path, rows: u64) {
    println!("copy of {rows} rows inside a database, into a table with a primary key");
    fill(url, rows).await;
    let (mut insert, mut one, mut two) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty(url, "people_new").await;
        let began = Instant::now();
        lab::run(url, &["INSERT INTO people_new SELECT * FROM people".to_owned()]).await;
        insert.push(began.elapsed());
        for (workers, turns) in [(1, &mut one), (2, &mut two)] {
            empty(url, "people_new").await;
            turns.push(howdah(url, home, workers, "copy = \"people\"\nto = \"people_new\"\n"));
            same(url, "SELECT count(*) FROM people_new", rows).await;
        }
    }
    let insert = line("one INSERT ... SELECT", rows, median(insert), None);
    told("howdah, 1 worker", rows, one, insert);
    told("howdah, 2 workers", rows, two, insert);
}

async fn copy_between(url: &str, target: &str, home: &Path, rows: u64) {
    println!("copy of {rows} rows between two databases, from nothing to a table with its primary key");
    fill(url, rows).await;
    let (mut pgcopydb, mut ours) = (Vec::new(), Vec::new());
    let there = Command::new("pgcopydb").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    for _ in 0..ROUNDS {
        if there {
            anew(url).await;
            let scratch = home.join("pgcopydb");
            let mut command = Command::new("pgcopydb");
            command.args(["clone", "--source", url, "--target", target, "--table-jobs", "2", "--index-jobs", "2"]);
            command.args(["--split-tables-larger-than", "64MB", "--no-owner", "--restart"]);
            command.arg("--dir").arg(&scratch).stdout(Stdio::null()).stderr(Stdio::null());
            pgcopydb.push(timed(&mut command));
            same(target, "SELECT count(*) FROM people", rows).await;
        }
        anew(url).await;
        let step = format!("copy = \"people\"\nfrom = \"{url}\"\n");
        ours.push(between(target, home, &step));
        same(target, "SELECT count(*) FROM people", rows).await;
    }
    if there {
        let pgcopydb = line("pgcopydb clone, 2 jobs", rows, median(pgcopydb), None);
        told("howdah, 2 workers", rows, ours, pgcopydb);
    } else {
        println!("  pgcopydb is not installed: nothing to compare with");
        let turn = middle(ours);
        line("howdah, 2 workers", rows, turn.took, None);
    }
}

async fn transform(url: &str, home: &Path, rows: u64) {
    println!("transform of {rows} rows of 5 columns, into a table without an index; 1 worker");
    fill(url, rows).await;
    let echo = home.join("echo.py");
    std::fs::write(&echo, "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line)\n    sys.stdout.flush()\n")
        .expect("a program");
    let programs = [
        ("rhai", "rhai = \"row.name = row.name.to_upper(); row\"\n".to_owned()),
        ("command: a Python that echoes", format!("command = [\"python3\", \"{}\"]\n", echo.display())),
    ];
    for (name, program) in programs {
        let mut turns = Vec::new();
        for _ in 0..ROUNDS {
            lab::run(
                url,
                &["DROP TABLE IF EXISTS people_new".to_owned(), format!("CREATE TABLE people_new ({COLUMNS})")],
            )
            .await;
            turns.push(howdah(url, home, 1, &format!("transform = \"people\"\n{program}into = \"people_new\"\n")));
            same(url, "SELECT count(*) FROM people_new", rows).await;
        }
        let turn = middle(turns);
        line(name, rows, turn.took, None);
        let rate = millions(rows) / turn.cpu.as_secs_f64();
        println!("    {:.0} rows for each second of howdah's own CPU, {}", rate * 1e6, cost(&turn));
    }
}

/// Rows of one column, made as fast as they are read.
fn stdin(url: &str, home: &Path) {
    println!("5 GiB of CSV through the standard input");
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runtime.block_on(lab::run(
            url,
            &[
                "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
                "DROP TABLE IF EXISTS sink".to_owned(),
                "CREATE UNLOGGED TABLE sink (a text)".to_owned(),
                // What is loaded is thrown away at once: the disk is not what is measured.
                "CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
                    .to_owned(),
                "CREATE TRIGGER nothing BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION nothing()".to_owned(),
            ],
        ));
        let plan = plan(home, 1, "import = \"-\"\nformat = \"csv\"\nheader = false\ninto = \"sink\"\n");
        let mut record = vec![b'x'; 1023];
        record.push(b'\n');
        let block = record.repeat(1024);
        let feed = move |mut to: std::process::ChildStdin| {
            let mut left = STREAM;
            while left > 0 {
                to.write_all(&block).expect("howdah reads");
                left = left.saturating_sub(u64::try_from(block.len()).expect("small"));
            }
        };
        let turn = lab::howdah_fed(home, &["run", &plan, "--json", "--database", url], feed);
        println!("  {:.0}s, {}", turn.took.as_secs_f64(), cost(&turn));
    });
}

/// A plan of one step.
fn plan(home: &Path, workers: u32, step: &str) -> String {
    let path = home.join("plan.toml");
    let text = format!("name = \"bench\"\n[limits]\nworkers = {workers}\n[[step]]\nname = \"move\"\n{step}");
    std::fs::write(&path, text).expect("a plan");
    path.to_str().expect("a path").to_owned()
}

/// The whole program, from its start to its end: connecting, checking, the ledger, the step.
fn howdah(url: &str, home: &Path, workers: u32, step: &str) -> Turn {
    let plan = plan(home, workers, step);
    lab::howdah(home, &["run", &plan, "--new", "--json", "--database", url], || false)
}

/// As [`howdah`], with the table made before and its key after.
fn between(target: &str, home: &Path, step: &str) -> Turn {
    let path = home.join("plan.toml");
    let text = format!(
        "name = \"bench\"\n[limits]\nworkers = 2\n\
         [[step]]\nname = \"table\"\nstatement = \"CREATE TABLE people ({COLUMNS})\"\n\
         [[step]]\nname = \"move\"\n{step}\
         [[step]]\nname = \"key\"\nstatement = \"ALTER TABLE people ADD PRIMARY KEY (id)\"\n"
    );
    std::fs::write(&path, text).expect("a plan");
    lab::howdah(home, &["run", path.to_str().expect("a path"), "--json", "--database", target], || false)
}

async fn empty(url: &str, table: &str) {
    let statements = [
        "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
        format!("DROP TABLE IF EXISTS {table}"),
        format!("CREATE TABLE {table} ({COLUMNS}, PRIMARY KEY (id))"),
        "CHECKPOINT".to_owned(),
    ];
    lab::run(url, &statements).await;
}

async fn fill(url: &str, rows: u64) {
    empty(url, "people").await;
    let statements = [
        "DROP TABLE IF EXISTS people_new".to_owned(),
        format!(
            "INSERT INTO people SELECT i, 'Person ' || i, 'person' || i || '@example.org', i % 1000 / 8.0, \
             '2020-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, {rows}) AS i"
        ),
        "VACUUM (ANALYZE, FREEZE) people".to_owned(),
        "CHECKPOINT".to_owned(),
    ];
    lab::run(url, &statements).await;
}

/// The target database, made anew.
async fn anew(url: &str) {
    let statements = [
        "DROP SCHEMA IF EXISTS howdah CASCADE",
        "DROP DATABASE IF EXISTS target",
        "CREATE DATABASE target",
        "CHECKPOINT",
    ];
    lab::run(url, &statements.map(str::to_owned)).await;
}

fn write_csv(path: &Path, rows: u64) {
    let mut file = BufWriter::new(std::fs::File::create(path).expect("a file"));
    writeln!(file, "id,name,email,balance,created_at").expect("written");
    for i in 1..=rows {
        let (whole, minute, second) = (i % 1000, i / 60 % 60, i % 60);
        writeln!(file, "{i},Person {i},person{i}@example.org,{whole}.25,2020-01-01 00:{minute:02}:{second:02}+00")
            .expect("written");
    }
    file.into_inner().expect("written").sync_all().expect("synced");
}

async fn same(url: &str, sql: &str, rows: u64) {
    assert_eq!(u64::try_from(lab::number(url, sql).await), Ok(rows), "{sql}");
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let ended = command.status().expect("it starts");
    assert!(ended.success(), "{command:?}: {ended}");
    began.elapsed()
}

fn line(name: &str, rows: u64, took: Duration, against: Option<Duration>) -> Duration {
    let rate = millions(rows) * 1e6 / took.as_secs_f64();
    let ratio = against.map_or(String::new(), |other| format!("   {:.2}x", other.as_secs_f64() / took.as_secs_f64()));
    println!("  {name:<32} {:>8.2}s {rate:>12.0} rows/s{ratio}", took.as_secs_f64());
    took
}

fn told(name: &str, rows: u64, turns: Vec<Turn>, against: Duration) {
    let turn = middle(turns);
    line(name, rows, turn.took, Some(against));
    println!("    {}", cost(&turn));
}

fn cost(turn: &Turn) -> String {
    let (cpu, took) = (turn.cpu.as_secs_f64(), turn.took.as_secs_f64());
    format!("CPU {cpu:.2}s = {:.1} % of a core, RSS at most {:.1} MiB", cpu * 100.0 / took, turn.rss_mib.2)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn millions(n: u64) -> f64 {
    n as f64 / 1e6
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn middle(mut turns: Vec<Turn>) -> Turn {
    turns.sort_by_key(|turn| turn.took);
    turns[turns.len() / 2]
}
