//! What the console costs, on a real run in a real pseudo-terminal of 140x40: `cargo bench --bench console`.
//!
//! Prints the time to the first frame, the bytes a second while the run is at work and while it is paused, howdah's own
//! CPU, and its peak memory. The budget stands beside each figure.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use howdah::sandbox::{Options, Server, users};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

const PLAN: &str = include_str!("../assets/plans/normalise-emails.toml");
const WATCHED: Duration = Duration::from_secs(15);
const PAUSED: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Seen {
    first: Option<Instant>,
    text: Vec<u8>,
    writes: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Server::start(Options::default(), &|_| {}).await.expect("a PostgreSQL server");
    let url = server.url("postgres");
    let pool = sqlx::PgPool::connect(&url).await.expect("a connection");
    users::fill(&pool, 3_000_000, |_| {}).await.expect("users");
    pool.close().await;
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    std::fs::write(&plan, PLAN).expect("a plan");

    let size = PtySize { rows: 40, cols: 140, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_howdah"));
    command.args(["run", plan.to_str().expect("a path"), "--database", &url]);
    for (name, value) in
        [("HOME", home.path().to_str().expect("a path")), ("TERM", "xterm-256color"), ("LANG", "C.UTF-8")]
    {
        command.env(name, value);
    }
    let mut reader = pair.master.try_clone_reader().expect("a reader");
    let mut writer = pair.master.take_writer().expect("a writer");
    let seen = Arc::new(Mutex::new(Seen::default()));
    let sink = Arc::clone(&seen);
    let began = Instant::now();
    let mut child = pair.slave.spawn_command(command).expect("howdah starts");
    std::thread::spawn(move || {
        let mut chunk = vec![0_u8; 65536];
        while let Ok(n) = reader.read(&mut chunk) {
            if n == 0 {
                return;
            }
            let mut seen = sink.lock().expect("seen");
            seen.text.extend_from_slice(&chunk[..n]);
            seen.writes += 1;
            // The first frame is there when its last line is.
            if seen.first.is_none() && seen.text.windows(4).any(|window| window == b"quit") {
                seen.first = Some(Instant::now());
            }
        }
    });
    let until = |words: &str| {
        let end = Instant::now() + Duration::from_mins(1);
        while !seen.lock().expect("seen").text.windows(words.len()).any(|window| window == words.as_bytes()) {
            assert!(Instant::now() < end, "never seen: {words}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let bytes = || seen.lock().expect("seen").text.len();
    let pid = child.process_id().expect("a pid");

    until("quit");
    let first = seen.lock().expect("seen").first.expect("a first frame") - began;
    println!("first frame              {:>8.1} ms      (budget 15 ms)", first.as_secs_f64() * 1e3);
    until("rows/s");
    std::thread::sleep(Duration::from_secs(3));
    let (from, cpu) = (bytes(), used(pid));
    std::thread::sleep(WATCHED);
    let (to, cpu_after) = (bytes(), used(pid));
    per_second("running", to - from, WATCHED, 1000);
    println!(
        "CPU of howdah            {:>8.2} % of a core (budget 5 %)",
        cpu_after.saturating_sub(cpu).as_secs_f64() * 100.0 / WATCHED.as_secs_f64()
    );
    writer.write_all(b" ").and_then(|()| writer.flush()).expect("a key");
    until("PAUSED");
    std::thread::sleep(Duration::from_secs(2));
    let (from, cpu) = (bytes(), used(pid));
    std::thread::sleep(PAUSED);
    let (to, cpu_after) = (bytes(), used(pid));
    per_second("paused", to - from, PAUSED, 30);
    println!(
        "CPU of howdah, paused    {:>8.2} % of a core",
        cpu_after.saturating_sub(cpu).as_secs_f64() * 100.0 / PAUSED.as_secs_f64()
    );
    println!("peak RSS                 {:>8.1} MiB     (budget 25 MiB)", peak_mib(pid));
    writer.write_all(b"\x03").and_then(|()| writer.flush()).expect("a key");
    std::thread::sleep(Duration::from_millis(300));
    writer.write_all(b"\x03").and_then(|()| writer.flush()).expect("a key");
    let status = child.wait().expect("a status");
    assert_eq!(status.exit_code(), 3, "paused and quit");
}

fn per_second(what: &str, bytes: usize, span: Duration, budget: u32) {
    let rate = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / span.as_secs_f64();
    println!("to the terminal, {what:<8}{rate:>8.0} bytes/s (budget {budget})");
}

/// CPU time of a process, by Linux's /proc, in ticks of a hundredth of a second.
fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).expect("a number").parse::<f64>().expect("a number") / 1024.0
}
