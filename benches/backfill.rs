//! How fast a backfill is, side by side in one run: `cargo bench --bench backfill [-- ROWS]`.
//!
//! Each contender changes the same table on the same private, durable server, filled anew before each turn:
//! - one bare `UPDATE` of the whole table, by a simple client;
//! - two simple clients, each with half of the batches of a range: what two connections can do at all on this machine;
//! - howdah with one worker and with two, and with two and an undo log, at its defaults, ledger on, no console;
//! - at a tenth of the rows, the loop that people write: `UPDATE ... WHERE id IN (SELECT id ... ORDER BY id OFFSET n LIMIT m)`.
//!
//! Turns alternate, and the medians are compared: these machines are noisy. CPU and memory are howdah's own.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

mod lab;

use std::time::{Duration, Instant};

use lab::Turn;
use sqlx::{AssertSqlSafe, Executor};

const ROUNDS: usize = 3;
const SET: &str = "balance = balance + 1";
/// Rows of a batch of the simple clients: about what howdah comes to on such a machine.
const BATCH: u64 = 40_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rows: u64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(2_000_000);
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    println!("PostgreSQL {}, {rows} rows, {ROUNDS} rounds, medians", server.version());
    let (mut bare, mut raw) = (Vec::new(), Vec::new());
    let (mut one, mut two, mut logged) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fill(&url, rows).await;
        bare.push(timed_sql(&url, &format!("UPDATE accounts SET {SET}")).await);
        fill(&url, rows).await;
        raw.push(two_clients(&url, rows).await);
        fill(&url, rows).await;
        one.push(turn(&url, rows, 1, false).await);
        fill(&url, rows).await;
        two.push(turn(&url, rows, 2, false).await);
        fill(&url, rows).await;
        logged.push(turn(&url, rows, 2, true).await);
    }
    let (bare, raw) = (median(bare), median(raw));
    line("one bare UPDATE", rows, bare, None);
    line("two simple clients, in batches", rows, raw, Some(bare));
    for (name, turns) in
        [("howdah, 1 worker", one), ("howdah, 2 workers", two.clone()), ("howdah, 2 workers, undo log", logged)]
    {
        let turn = middle(turns);
        line(name, rows, turn.took, Some(bare));
        println!(
            "    CPU of howdah {:.2}s = {:.1} % of a core, RSS at most {:.1} MiB",
            turn.cpu.as_secs_f64(),
            turn.cpu.as_secs_f64() * 100.0 / turn.took.as_secs_f64(),
            turn.rss_mib.2
        );
    }
    let over = middle(two).took.as_secs_f64() / raw.as_secs_f64() - 1.0;
    println!("  howdah with 2 workers against two simple clients: {:+.1} % of time", over * 100.0);
    against_the_loop(&url, rows / 10).await;
}

async fn against_the_loop(url: &str, few: u64) {
    println!("at {few} rows:");
    fill(url, few).await;
    let small = turn(url, few, 2, false).await.took;
    line("howdah, 2 workers", few, small, None);
    fill(url, few).await;
    let best = timed_sql(url, &format!("UPDATE accounts SET {SET}")).await;
    line("one bare UPDATE", few, best, None);
    for batch in [1000, 500] {
        fill(url, few).await;
        let naive = offset_loop(url, few, batch).await;
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn middle(mut turns: Vec<Turn>) -> Turn {
    turns.sort_by_key(|turn| turn.took);
    turns[turns.len() / 2]
}

async fn fill(url: &str, rows: u64) {
    let statements = [
        "DROP SCHEMA IF EXISTS howdah CASCADE".to_owned(),
        "DROP TABLE IF EXISTS accounts".to_owned(),
        "CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL, balance numeric(12,2) NOT NULL)".to_owned(),
        format!("INSERT INTO accounts SELECT i, 'account ' || i, i % 1000 FROM generate_series(1, {rows}) AS i"),
        "VACUUM (ANALYZE, FREEZE) accounts".to_owned(),
        "CHECKPOINT".to_owned(),
    ];
    lab::run(url, &statements).await;
}

async fn timed_sql(url: &str, sql: &str) -> Duration {
    let mut connection = lab::connect(url).await;
    let began = Instant::now();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("the UPDATE");
    began.elapsed()
}

/// Two connections that take turns at the batches of a range, without ledger, limits or anything else.
async fn two_clients(url: &str, rows: u64) -> Duration {
    let began = Instant::now();
    let client = |which: u64| async move {
        let mut connection = lab::connect(url).await;
        connection.execute("SET synchronous_commit = off").await.expect("a setting");
        for from in (0..rows).step_by(usize::try_from(BATCH).expect("small")).skip(usize::from(which == 1)).step_by(2) {
            let sql = format!("UPDATE accounts SET {SET} WHERE id > {from} AND id <= {}", from + BATCH);
            connection.execute(AssertSqlSafe(sql)).await.expect("a batch");
        }
    };
    tokio::join!(client(0), client(1));
    began.elapsed()
}

/// The loop that people write. Each batch skips all the rows before it.
async fn offset_loop(url: &str, rows: u64, batch: usize) -> Duration {
    let mut connection = lab::connect(url).await;
    let began = Instant::now();
    for offset in (0..rows).step_by(batch) {
        let sql = format!(
            "UPDATE accounts SET {SET} WHERE id IN (SELECT id FROM accounts ORDER BY id OFFSET {offset} LIMIT {batch})"
        );
        connection.execute(AssertSqlSafe(sql)).await.expect("a batch");
    }
    began.elapsed()
}

/// The whole program, from its start to its end: connecting, checking, the ledger, the backfill.
async fn turn(url: &str, rows: u64, workers: u32, undo: bool) -> Turn {
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    let (_, expression) = SET.split_once("= ").expect("an assignment");
    let undo = if undo { "undo = \"auto\"\n" } else { "" };
    let text = format!(
        "name = \"bench\"\n[limits]\nworkers = {workers}\n[[step]]\nname = \"balances\"\nbackfill = \"accounts\"\n\
         set = {{ balance = \"{expression}\" }}\n{undo}"
    );
    std::fs::write(&plan, text).expect("a plan");
    let turn =
        lab::howdah(home.path(), &["run", plan.to_str().expect("a path"), "--json", "--database", url], || false);
    let changed = lab::number(url, "SELECT sum(balance - id % 1000)::bigint FROM accounts").await;
    assert_eq!(u64::try_from(changed), Ok(rows), "each row changed once");
    turn
}
