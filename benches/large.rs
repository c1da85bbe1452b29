//! A large table, once: `cargo bench --bench large [-- ROWS]`, by default 100,000,000 narrow rows.
//!
//! Tells the time, the rows of the ledger, howdah's memory at the start and at the end, and how long a run that was killed
//! in the middle takes until it works again. Needs about 25 GB of disk at the default size.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

mod lab;

use std::time::{Duration, Instant};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rows: u64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000_000);
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    let began = Instant::now();
    lab::run(
        &url,
        &[
            "CREATE TABLE narrow (id bigint NOT NULL, n integer NOT NULL)".to_owned(),
            format!("INSERT INTO narrow SELECT i, 0 FROM generate_series(1, {rows}) AS i"),
            "SET maintenance_work_mem = '2GB'".to_owned(),
            "ALTER TABLE narrow ADD PRIMARY KEY (id)".to_owned(),
            "VACUUM (ANALYZE, FREEZE) narrow".to_owned(),
        ],
    )
    .await;
    println!("PostgreSQL {}, {rows} rows, filled in {:.0}s", server.version(), began.elapsed().as_secs_f64());
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    let text = "name = \"large\"\n[limits]\nworkers = 2\n[[step]]\nname = \"n\"\nbackfill = \"narrow\"\nset = { n = \"n + 1\" }\n";
    std::fs::write(&plan, text).expect("a plan");
    let plan = plan.to_str().expect("a path");
    let half = Duration::from_secs(rows / 1_000_000);
    let began = Instant::now();
    let killed = lab::howdah(home.path(), &["run", plan, "--json", "--database", &url], || began.elapsed() >= half);
    println!("killed with SIGKILL after {:.0}s, at {}", killed.took.as_secs_f64(), memory(&killed));
    let walked = lab::number(&url, "SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    println!("  {walked} rows had been changed; ledger: {}", ledger(&url).await);
    let resumed = Instant::now();
    let (sees, stop) = (resume_time(url.clone(), walked, resumed), || false);
    let watch = std::thread::spawn(sees);
    let turn = lab::howdah(home.path(), &["resume", "--json", "--plan", plan, "--database", &url], stop);
    let first = watch.join().expect("the watch").as_secs_f64();
    println!("resumed: the first batch had committed after {first:.2}s");
    let all = killed.took + turn.took;
    let rate = u32::try_from(rows).map_or(0.0, f64::from) / all.as_secs_f64();
    println!("done after {:.0}s in all, {rate:.0} rows/s, at {}", all.as_secs_f64(), memory(&turn));
    println!("  CPU of howdah {:.1}s; ledger: {}", turn.cpu.as_secs_f64(), ledger(&url).await);
    let wrong = lab::number(&url, "SELECT count(*) FROM narrow WHERE n <> 1").await;
    assert_eq!(wrong, 0, "each row changed once");
    println!("each of the {rows} rows was changed once");
}

fn memory(turn: &lab::Turn) -> String {
    let (first, last, peak) = turn.rss_mib;
    format!("RSS {first:.1} MiB after the start, {last:.1} MiB at the end, {peak:.1} MiB at most")
}

async fn ledger(url: &str) -> String {
    let rows = lab::number(url, "SELECT count(*) FROM howdah.segment").await;
    let size = lab::number(url, "SELECT pg_total_relation_size('howdah.segment')").await;
    format!("{rows} segments, {} KiB", size / 1024)
}

/// How long it takes from `since` until more rows are walked than had been.
fn resume_time(url: String, walked: i64, since: Instant) -> impl FnOnce() -> Duration {
    move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = lab::connect(&url).await;
            loop {
                let now: i64 = sqlx::query_scalar("SELECT sum(rows_walked)::bigint FROM howdah.segment")
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number");
                if now > walked {
                    return since.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
}
