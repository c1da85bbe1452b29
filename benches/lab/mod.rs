//! What the benchmarks share: a durable private server, howdah as a process, and its use of the machine.

#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]
#![allow(dead_code, reason = "not every benchmark needs everything")]

use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use howdah::sandbox::{Options, Server};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// What a benchmark was asked for: the names of its parts, all of them where none is named, and a number.
pub struct Asked {
    words: Vec<String>,
}

impl Asked {
    /// By the command line. Cargo's own flags are left out.
    pub fn read() -> Self {
        Self { words: std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect() }
    }

    /// The number, where there is one.
    pub fn number(&self) -> Option<u64> {
        self.words.iter().find_map(|word| word.parse().ok())
    }

    /// Whether a part is named.
    pub fn names(&self, part: &str) -> bool {
        self.words.iter().any(|word| word == part)
    }

    /// Whether a part is wanted: it is named, or none is.
    pub fn wants(&self, part: &str) -> bool {
        self.words.iter().all(|word| word.parse::<u64>().is_ok() || word == part)
    }
}

/// A server that writes to the disk as it does in production. A sandbox does without durability.
pub async fn durable_server() -> Server {
    let settings = [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("shared_buffers", "1GB"),
        ("max_wal_size", "8GB"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Server::start(Options { settings, ..Options::default() }, &|_| {}).await.expect("a PostgreSQL server")
}

/// A connection of the benchmark's own.
pub async fn connect(url: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    options.disable_statement_logging().connect().await.expect("a connection")
}

/// Runs statements, one by one.
pub async fn run(url: &str, statements: &[String]) {
    let mut connection = connect(url).await;
    for sql in statements {
        connection.execute(AssertSqlSafe(sql.clone())).await.expect("a statement");
    }
    connection.close().await.expect("closed");
}

/// One number from the server.
pub async fn number(url: &str, sql: &str) -> i64 {
    let mut connection = connect(url).await;
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("a number")
}

/// One text from the server.
pub async fn text(url: &str, sql: &str) -> String {
    let mut connection = connect(url).await;
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("a text")
}

/// One run of howdah, as a process of its own.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// From its start to its end.
    pub took: Duration,
    /// CPU time of the process.
    pub cpu: Duration,
    /// Resident memory a second after the start, at the end, and at most, in MiB.
    pub rss_mib: (f64, f64, f64),
}

/// Runs the release binary with `arguments` to its end. `stop_at`: it is killed with SIGKILL once this is true.
pub fn howdah(home: &std::path::Path, arguments: &[&str], stop_at: impl FnMut() -> bool) -> Turn {
    watched(start(home, arguments, Stdio::null()), stop_at)
}

/// As [`howdah`], with `feed` writing to its standard input meanwhile.
pub fn howdah_fed(home: &std::path::Path, arguments: &[&str], feed: impl FnOnce(ChildStdin) + Send + 'static) -> Turn {
    let mut child = start(home, arguments, Stdio::piped());
    let to = child.stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || feed(to));
    let turn = watched(child, || false);
    feeder.join().expect("everything was read");
    turn
}

/// Starts the release binary with `arguments`.
pub fn start(home: &std::path::Path, arguments: &[&str], stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_howdah"))
        .args(arguments)
        .env("HOME", home)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("howdah starts")
}

fn watched(mut child: Child, mut stop_at: impl FnMut() -> bool) -> Turn {
    let began = Instant::now();
    let proc = format!("/proc/{}", child.id());
    let (mut cpu, mut rss) = (Duration::ZERO, (0.0, 0.0, 0.0));
    while child.try_wait().expect("a status").is_none() {
        if let Some((used, now, peak)) = usage(&proc) {
            cpu = used;
            let first = if began.elapsed() < Duration::from_secs(1) || rss.0 == 0.0 { now } else { rss.0 };
            rss = (first, now, peak);
        }
        if stop_at() {
            child.kill().expect("a signal");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Turn { took: began.elapsed(), cpu, rss_mib: rss }
}

/// CPU time, resident memory and its peak, by Linux's /proc. Clock ticks are hundredths of a second there.
fn usage(proc: &str) -> Option<(Duration, f64, f64)> {
    let stat = std::fs::read_to_string(format!("{proc}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("{proc}/status")).ok()?;
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    Some((Duration::from_millis(ticks * 10), mib("VmRSS:")?, mib("VmHWM:")?))
}
