//! What more than one process is worth: `cargo bench --bench hosts [-- join|queue] [-- NUMBER]`.
//!
//! - `join`: a transform by a Rhai script that is bound by the CPU, in one process with one worker, and in two, one of which has
//!   joined the run of the other. Turns alternate, and the medians are compared.
//! - `queue`: tiny jobs, drained by one worker process; and how long it takes from `enqueue` to the begin of the run.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

mod lab;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number: Option<u64> = words.iter().find_map(|word| word.parse().ok());
    let wants = |what: &str| words.iter().all(|word| word.parse::<u64>().is_ok() || word == what);
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    let home = tempfile::tempdir().expect("a directory");
    println!("PostgreSQL {}", server.version());
    if wants("join") {
        join(&url, home.path(), number.unwrap_or(100_000)).await;
    }
}

/// A step that is all arithmetic in a script: the server has next to nothing to do.
fn plan(url: &str, home: &Path) -> PathBuf {
    let text = format!(
        "name = \"mix\"\n[database]\nurl = \"{url}\"\n[limits]\nworkers = 1\nbatch = {{ start = 200, target = \"200ms\" }}\n\
         [[step]]\nname = \"mix\"\ntransform = \"people\"\nread = [\"id\", \"seed\"]\nupdate = [\"mixed\"]\n\
         rhai = \"let x = row.seed; for i in 0..1500 {{ x = (x * 1103515245 + 12345) % 2147483648; }} row.mixed = x; row\"\n"
    );
    let path = home.join("mix.toml");
    std::fs::write(&path, text).expect("a plan");
    path
}

async fn join(url: &str, home: &Path, rows: u64) {
    println!("a transform of {rows} rows by a script of 1,500 rounds a row, {ROUNDS} rounds, medians");
    let plan = plan(url, home);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(turn(url, home, &plan, rows, false).await);
        two.push(turn(url, home, &plan, rows, true).await);
    }
    one.sort();
    two.sort();
    let (one, two) = (one[ROUNDS / 2], two[ROUNDS / 2]);
    println!("  1 process     {:6.1} s", one.as_secs_f64());
    println!("  2 processes   {:6.1} s   {:.2}x", two.as_secs_f64(), one.as_secs_f64() / two.as_secs_f64());
}

async fn turn(url: &str, home: &Path, plan: &Path, rows: u64, joined: bool) -> Duration {
    lab::run(
        url,
        &[
            "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
            "DROP TABLE IF EXISTS people".to_owned(),
            "CREATE TABLE people (id bigint PRIMARY KEY, seed bigint NOT NULL, mixed bigint)".to_owned(),
            format!("INSERT INTO people SELECT i, i * 7919 % 2147483648 FROM generate_series(1, {rows}) i"),
            "VACUUM ANALYZE people".to_owned(),
        ],
    )
    .await;
    let path = plan.to_str().expect("a path");
    let began = Instant::now();
    let mut driver = lab::start(home, &["run", path, "--headless"], Stdio::null());
    let member = if joined {
        let run = loop {
            let there = lab::number(url, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('howdah.run')").await;
            if there > 0 && lab::number(url, "SELECT count(*) FROM howdah.run WHERE state = 'running'").await > 0 {
                break lab::text(url, "SELECT id::text FROM howdah.run").await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let arguments = ["worker", "--join", &run, "--workers", "1", "--database", url];
        Some(lab::start(home, &arguments, Stdio::null()))
    } else {
        None
    };
    assert!(driver.wait().expect("it ends").success(), "the run failed");
    let took = began.elapsed();
    if let Some(mut member) = member {
        assert!(member.wait().expect("it ends").success(), "the member failed");
        let shared = lab::number(url, "SELECT sum(rows_walked)::bigint FROM howdah.segment WHERE epoch < 0").await;
        assert!(shared > 0, "the member did nothing");
    }
    assert_eq!(lab::number(url, "SELECT count(*) FROM people WHERE mixed IS NULL").await, 0);
    took
}
