//! How fast a backfill is, side by side in one run: `cargo bench --bench backfill [-- ROWS]`.
//!
//! Each contender changes the same table on the same private server, filled anew before each turn:
//! - one bare `UPDATE` of the whole table, by `psql`-like simple client;
//! - howdah, one worker, batches at their defaults, ledger on, no console (the release binary's own `run --json`);
//! - at a tenth of the rows, the loop that people write: `UPDATE ... WHERE id IN (SELECT id ... ORDER BY id OFFSET n LIMIT m)`.
//!
//! Turns alternate, and the medians are compared: these machines are noisy. howdah's CPU and peak memory are its own.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use howdah::sandbox::{Options, Server};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

const ROUNDS: usize = 3;
const SET: &str = "balance = balance + 1";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows: u64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2_000_000);
    // A sandbox does without durability. What is compared here writes to the disk as it does in production.
    let durable = [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on"), ("max_wal_size", "4GB")];
    let settings = durable.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let server = Server::start(Options { settings, ..Options::default() }, &|_| {}).await.expect("a PostgreSQL server");
    let url = server.url("postgres");
    println!("PostgreSQL {}, {rows} rows, {ROUNDS} rounds, medians", server.version());
    let mut bare = Vec::new();
    let mut howdah = Vec::new();
    for _ in 0..ROUNDS {
        fill(&url, rows).await;
        bare.push(timed_sql(&url, &format!("UPDATE accounts SET {SET}")).await);
        fill(&url, rows).await;
        howdah.push(run_howdah(&url, rows).await);
    }
    let bare = median(&mut bare);
    howdah.sort_by_key(|turn| turn.took);
    let turn = howdah[ROUNDS / 2];
    line("one bare UPDATE", rows, bare, None);
    line("howdah, 1 worker", rows, turn.took, Some(bare));
    println!(
        "  howdah itself: {:.2}s of CPU = {:.1} % of a core, peak RSS {:.1} MiB",
        turn.cpu.as_secs_f64(),
        turn.cpu.as_secs_f64() * 100.0 / turn.took.as_secs_f64(),
        turn.peak_mib
    );
    let few = rows / 10;
    println!("at {few} rows:");
    fill(&url, few).await;
    let small = run_howdah(&url, few).await.took;
    line("howdah, 1 worker", few, small, None);
    fill(&url, few).await;
    let best = timed_sql(&url, &format!("UPDATE accounts SET {SET}")).await;
    line("one bare UPDATE", few, best, None);
    for batch in [1000, 500] {
        fill(&url, few).await;
        let naive = offset_loop(&url, few, batch).await;
        line(&format!("OFFSET loop, batches of {batch}"), few, naive, None);
        let times = |other: Duration| naive.as_secs_f64() / other.as_secs_f64();
        println!("    howdah against it: {:.1}x; one bare UPDATE against it: {:.1}x", times(small), times(best));
    }
}

fn line(name: &str, rows: u64, took: Duration, against: Option<Duration>) {
    let rate = u32::try_from(rows).map_or(0.0, f64::from) / took.as_secs_f64();
    let ratio = against.map_or(String::new(), |other| format!("   {:.2}x", other.as_secs_f64() / took.as_secs_f64()));
    println!("  {name:<32} {:>8.2}s {rate:>12.0} rows/s{ratio}", took.as_secs_f64());
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn connect(url: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    options.disable_statement_logging().connect().await.expect("a connection")
}

async fn fill(url: &str, rows: u64) {
    let mut connection = connect(url).await;
    for sql in [
        "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
        "DROP TABLE IF EXISTS accounts".to_owned(),
        "CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL, balance numeric(12,2) NOT NULL)".to_owned(),
        format!("INSERT INTO accounts SELECT i, 'account ' || i, i % 1000 FROM generate_series(1, {rows}) AS i"),
        "VACUUM (ANALYZE, FREEZE) accounts".to_owned(),
        "CHECKPOINT".to_owned(),
    ] {
        connection.execute(AssertSqlSafe(sql)).await.expect("filling");
    }
    connection.close().await.expect("closed");
}

async fn timed_sql(url: &str, sql: &str) -> Duration {
    let mut connection = connect(url).await;
    let began = Instant::now();
    connection.execute(AssertSqlSafe(sql)).await.expect("the UPDATE");
    began.elapsed()
}

/// The loop that people write. Each batch skips all the rows before it.
async fn offset_loop(url: &str, rows: u64, batch: usize) -> Duration {
    let mut connection = connect(url).await;
    let began = Instant::now();
    for offset in (0..rows).step_by(batch) {
        let sql = format!(
            "UPDATE accounts SET {SET} WHERE id IN (SELECT id FROM accounts ORDER BY id OFFSET {offset} LIMIT {batch})"
        );
        connection.execute(AssertSqlSafe(sql)).await.expect("a batch");
    }
    began.elapsed()
}

#[derive(Clone, Copy)]
struct Turn {
    took: Duration,
    cpu: Duration,
    peak_mib: f64,
}

/// The whole program, from its start to its end: connecting, checking, the ledger, the backfill.
async fn run_howdah(url: &str, rows: u64) -> Turn {
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    let text = format!(
        "name = \"bench\"\n[[step]]\nname = \"balances\"\nbackfill = \"accounts\"\nset = {{ balance = \"{}\" }}\n",
        SET.split_once("= ").expect("an assignment").1
    );
    std::fs::write(&plan, text).expect("a plan");
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_howdah"))
        .args(["run", plan.to_str().expect("a path"), "--json", "--database", url])
        .env("HOME", home.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("howdah starts");
    let stat = format!("/proc/{}", child.id());
    let (mut cpu, mut peak_mib) = (Duration::ZERO, 0.0);
    while child.try_wait().expect("a status").is_none() {
        if let Some((used, peak)) = usage(&stat) {
            (cpu, peak_mib) = (used, peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    let mut connection = connect(url).await;
    let changed: i64 = sqlx::query_scalar("SELECT sum(balance - id % 1000)::bigint FROM accounts")
        .fetch_one(&mut connection)
        .await
        .expect("the sum");
    assert_eq!(u64::try_from(changed), Ok(rows), "each row changed once");
    Turn { took, cpu, peak_mib }
}

/// CPU time and peak memory of a process, by Linux's /proc. Clock ticks are hundredths of a second there.
fn usage(proc: &str) -> Option<(Duration, f64)> {
    let stat = std::fs::read_to_string(format!("{proc}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("{proc}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((Duration::from_millis(ticks * 10), kib / 1024.0))
}
