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

use howdah::queue::job::JobData;
use howdah::redis::Address;
use howdah::sandbox::redis::RedisServer;

const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let asked = lab::Asked::read();
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    let home = tempfile::tempdir().expect("a directory");
    println!("PostgreSQL {}", server.version());
    if asked.wants("join") {
        join(&url, home.path(), asked.number().unwrap_or(150_000)).await;
    }
    if asked.wants("queue") {
        queue(&url, home.path(), asked.number().unwrap_or(10_000)).await;
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

/// Tiny jobs, each a run of one statement, drained by one worker; and the time from `enqueue` to the run's begin.
async fn queue(url: &str, home: &Path, jobs: u64) {
    let redis = RedisServer::start(&["--appendonly", "yes"]).expect("redis-server");
    lab::run(
        url,
        &[
            "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
            "DROP TABLE IF EXISTS tiny".to_owned(),
            "CREATE TABLE tiny (job bigint NOT NULL)".to_owned(),
        ],
    )
    .await;
    println!("{jobs} jobs of one statement each, concurrency 8, Redis with appendonly");
    let address = redis.url();
    let redis_address = Address::resolve(Some(&address), None, &|_| None).expect("an address").expect("one");
    let options = bullmq::QueueOptions::new().connection(redis_address.bullmq().expect("options")).prefix("howdah");
    let line = bullmq::Queue::with_options("howdah", options).await.expect("a queue");
    let plan = |no: u64| {
        format!("name = \"tiny-{no}\"\n[[step]]\nname = \"one\"\nstatement = \"INSERT INTO tiny VALUES ({no})\"\n")
    };
    let added = Instant::now();
    for no in 0..jobs {
        let data = JobData { plan: Some(plan(no)), name: Some(format!("tiny-{no}")), ..JobData::default() };
        line.add(&format!("tiny-{no}"), serde_json::to_value(&data).expect("JSON")).await.expect("added");
    }
    println!("  added         {:6.1} s   {:.0} a second", added.elapsed().as_secs_f64(), rate(jobs, added.elapsed()));
    let began = Instant::now();
    let arguments = ["worker", "--once", "--concurrency", "8", "--database", url, "--redis", &address];
    let status = lab::start(home, &arguments, Stdio::null()).wait().expect("it ends");
    let took = began.elapsed();
    println!("  drained       {:6.1} s   {:.1} a second, {status}", took.as_secs_f64(), rate(jobs, took));
    assert_eq!(lab::number(url, "SELECT count(DISTINCT job) FROM tiny").await, i64::try_from(jobs).expect("few"));
    assert_eq!(lab::number(url, "SELECT count(*) FROM tiny").await, i64::try_from(jobs).expect("few"), "one each");
    latency(url, home, &address, &line).await;
}

/// A worker waits; a job is added; its run stands in the ledger.
async fn latency(url: &str, home: &Path, address: &str, line: &bullmq::Queue) {
    let mut worker = lab::start(home, &["worker", "--database", url, "--redis", address], Stdio::null());
    let mut times = Vec::new();
    for no in 0..20 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let name = format!("late-{no}");
        let plan =
            format!("name = \"{name}\"\n[[step]]\nname = \"one\"\nstatement = \"INSERT INTO tiny VALUES (0)\"\n");
        let data = JobData { plan: Some(plan), name: Some(name.clone()), ..JobData::default() };
        let added = chrono::Utc::now();
        line.add(&name, serde_json::to_value(&data).expect("JSON")).await.expect("added");
        let begun = format!("SELECT count(*) FROM howdah.run WHERE plan_name = '{name}' AND state = 'done'");
        while lab::number(url, &begun).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let at = format!(
            "SELECT (extract(epoch FROM created_at) * 1000)::bigint FROM howdah.run WHERE plan_name = '{name}'"
        );
        times.push(lab::number(url, &at).await - added.timestamp_millis());
    }
    worker.kill().expect("a signal");
    drop(worker.wait());
    times.sort_unstable();
    println!("  from enqueue to the run's begin: median {} ms, longest {} ms of 20", times[10], times[19]);
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(jobs: u64, took: Duration) -> f64 {
    jobs as f64 / took.as_secs_f64()
}
