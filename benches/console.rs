//! What the console costs, on a real run in a real pseudo-terminal of 140x40: `cargo bench --bench console`.
//!
//! Prints each figure beside its budget: the time to the first frame, the bytes a second of the overview while the run is at
//! work and while it is paused, howdah's CPU and peak memory with the engine in it, the time from a key to its paint, the
//! writes a frame (counted by `strace`, where that is installed), how soon a command from elsewhere takes effect, and what
//! a console elsewhere costs the database.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

#[path = "lab/pty.rs"]
mod pty;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use howdah::sandbox::{Options, Server, users};
use pty::{Pty, peak_mib, used};
use sqlx::PgPool;

const PLAN: &str = include_str!("../assets/plans/normalise-emails.toml");
const HOWDAH: &str = env!("CARGO_BIN_EXE_howdah");
const SIZE: (u16, u16) = (140, 40);
const WATCHED: Duration = Duration::from_secs(20);
const KEYS: u32 = 60;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let server = Server::start(Options::default(), &|_| {}).await.expect("a PostgreSQL server");
    let url = server.url("postgres");
    let pool = PgPool::connect(&url).await.expect("a connection");
    users::fill(&pool, 12_000_000, |_| {}).await.expect("users");
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    std::fs::write(&plan, PLAN).expect("a plan");
    let run = ["run", plan.to_str().expect("a path"), "--database", &url];
    let mut console = Pty::start(HOWDAH, &run, SIZE, home.path());
    let pid = console.child.process_id().expect("a pid");

    let first = console.until("quit") - console.began;
    figure("first frame", first.as_secs_f64() * 1e3, "ms", 15.0);
    console.until("rows/s");
    std::thread::sleep(Duration::from_secs(3));
    let (from, cpu) = (console.bytes(), used(pid));
    std::thread::sleep(WATCHED);
    let (bytes, cpu) = (console.bytes() - from, used(pid).saturating_sub(cpu));
    figure("overview, running", per_second(bytes, WATCHED), "bytes/s", 700.0);
    figure("CPU with the engine", cpu.as_secs_f64() * 100.0 / WATCHED.as_secs_f64(), "% of a core", 0.6);
    writes_a_frame(pid);
    elsewhere(&pool, &url, home.path()).await;
    keys(&mut console);

    console.press(" ");
    console.until("PAUSED");
    // The answer to the key stands in the last row for six seconds.
    std::thread::sleep(Duration::from_secs(8));
    let (from, cpu) = (console.bytes(), used(pid));
    std::thread::sleep(WATCHED);
    let (bytes, cpu) = (console.bytes() - from, used(pid).saturating_sub(cpu));
    figure("overview, paused", per_second(bytes, WATCHED), "bytes/s", 30.0);
    println!("CPU, paused              {:>8.2} % of a core", cpu.as_secs_f64() * 100.0 / WATCHED.as_secs_f64());
    figure("peak RSS with the engine", peak_mib(pid), "MiB", 25.0);
    for _ in 0..2 {
        console.press("\x03");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(console.child.wait().expect("a status").exit_code(), 3, "stopped, and resumable");
    pool.close().await;
}

fn figure(what: &str, value: f64, unit: &str, budget: f64) {
    let verdict = if value <= budget { "" } else { "   MISS" };
    println!("{what:<25}{value:>8.2} {unit} (budget {budget}){verdict}");
}

fn per_second(bytes: usize, span: Duration) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / span.as_secs_f64()
}

/// From a key to the first byte of what it changes: one view and another, in turn.
fn keys(console: &mut Pty) {
    let mut times = Vec::new();
    for round in 0..KEYS {
        // At an odd time in the second, so that the frame that is due anyway is seldom the one that is counted.
        std::thread::sleep(Duration::from_millis(u64::from(130 + 37 * (round % 7))));
        let (before, pressed) = (console.bytes(), Instant::now());
        console.press(if round % 2 == 0 { "2" } else { "1" });
        let painted = loop {
            if let Some(at) = console.after(before) {
                break at;
            }
            std::thread::yield_now();
        };
        times.push(painted.saturating_duration_since(pressed));
    }
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    figure("key to paint, median", ms(times.len() / 2), "ms", 20.0);
    println!("key to paint, p90        {:>8.2} ms", ms(times.len() * 9 / 10));
}

/// Writes to the terminal against frames: each write begins a synchronized update, and the next begins another.
fn writes_a_frame(pid: u32) {
    let trace = Command::new("strace")
        .args(["-f", "-e", "trace=write", "-e", "signal=none", "-s", "16", "-p", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut trace) = trace else {
        println!("writes a frame: not counted, strace is not installed");
        return;
    };
    std::thread::sleep(Duration::from_secs(6));
    let target = nix::unistd::Pid::from_raw(i32::try_from(trace.id()).expect("a pid"));
    nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGINT).expect("strace is there");
    let mut calls = String::new();
    std::io::Read::read_to_string(trace.stderr.as_mut().expect("a pipe"), &mut calls).expect("its words");
    drop(trace.wait());
    // Whatever else howdah writes to (sockets, its log, its own wake-ups) does not begin like this.
    let writes = calls.lines().filter(|line| line.contains(r#""\33["#)).count();
    let frames = calls.lines().filter(|line| line.contains(r#""\33[?2026h"#)).count();
    println!("writes to the terminal   {writes:>8} of which {frames} are whole frames, by strace");
}

/// A command from elsewhere, and a console elsewhere.
async fn elsewhere(pool: &PgPool, url: &str, home: &std::path::Path) {
    let backends = |name: &'static str| async move {
        sqlx::query_scalar::<_, i32>("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/' || $1")
            .bind(name)
            .fetch_all(pool)
            .await
            .expect("backends")
    };
    let spent = |pids: &[i32]| pids.iter().map(|pid| used(pid.cast_unsigned())).sum::<Duration>();
    for round in 0..10 {
        let target = if round % 2 == 0 { "target=400ms" } else { "target=500ms" };
        let status = Command::new(HOWDAH)
            .args(["set", target, "--database", url])
            .env("HOME", home)
            .stdout(Stdio::null())
            .status()
            .expect("howdah starts");
        assert!(status.success());
    }
    let times: Vec<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM applied_at - asked_at)::float8 * 1000 FROM howdah.command WHERE via = 'script' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .expect("times");
    figure("command, median", times[times.len() / 2], "ms to its effect", 300.0);
    println!("command, longest         {:>8.2} ms", times[times.len() - 1]);

    let mut viewer = Pty::start(HOWDAH, &["attach", "--database", url], SIZE, home);
    viewer.until("rows/s");
    std::thread::sleep(Duration::from_secs(2));
    let mut theirs = backends("view").await;
    theirs.extend(backends("news").await);
    let ours = backends("relay").await;
    let (before, relay_before, bytes) = (spent(&theirs), spent(&ours), viewer.bytes());
    std::thread::sleep(WATCHED);
    let percent = |time: Duration| time.as_secs_f64() * 100.0 / WATCHED.as_secs_f64();
    figure("a viewer, in the database", percent(spent(&theirs).saturating_sub(before)), "% of a core", 1.0);
    println!("the driver's relay there {:>8.2} % of a core", percent(spent(&ours).saturating_sub(relay_before)));
    println!("the viewer's terminal    {:>8.0} bytes/s", per_second(viewer.bytes() - bytes, WATCHED));
    println!("the viewer's peak RSS    {:>8.1} MiB", peak_mib(viewer.child.process_id().expect("a pid")));
    viewer.press("q");
    viewer.child.wait().expect("a status");
}
