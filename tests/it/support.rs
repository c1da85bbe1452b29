//! A private server, plans on disk, and the binary.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use howdah::sandbox::{Listen, Options, Server};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor};

/// Nothing here takes longer, on a machine that is busy as well.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// A server of the test's own, a directory for files, and howdah to be started on them.
pub struct Lab {
    pub server: Server,
    pub pool: PgPool,
    pub files: tempfile::TempDir,
    pub url: String,
}

impl Lab {
    pub async fn open() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn over_tcp(password: &str) -> Self {
        Self::with(Options { listen: Listen::Tcp { password: password.to_owned().into() }, ..Options::default() }).await
    }

    /// With server settings of its own.
    pub async fn tuned(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::with(Options { settings, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let server = Server::start(options, &|_| {})
            .await
            .expect("a PostgreSQL server: install `postgresql`, or set HOWDAH_PG_BIN");
        let url = server.url("postgres");
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(20))
            .connect_lazy(&url)
            .expect("a pool");
        Self { server, pool, files: tempfile::tempdir().expect("a directory"), url }
    }

    pub async fn sql(&self, sql: &str) {
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// A table `items` of so many rows: `id` from 1 on, `n` is 0.
    pub async fn items(&self, rows: u32) {
        let made = "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)";
        self.sql(&format!("{made}; INSERT INTO items SELECT generate_series(1, {rows}); ANALYZE items")).await;
    }

    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// A session of its own, for what another person or an application does.
    pub async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("a session")
    }

    /// The newest run's short id.
    pub async fn run_id(&self) -> String {
        self.text("SELECT right(id::text, 8) FROM howdah.run ORDER BY created_at DESC LIMIT 1").await
    }

    /// How many runs there are that fulfil a condition; none where there is no ledger yet.
    pub async fn runs(&self, condition: &str) -> i64 {
        if self.number("SELECT (to_regclass('howdah.run') IS NOT NULL)::int::bigint").await == 0 {
            return 0;
        }
        self.number(&format!("SELECT count(*) FROM howdah.run WHERE {condition}")).await
    }

    /// How many runs have not come to their end.
    pub async fn unfinished(&self) -> i64 {
        self.runs("state NOT IN ('done', 'superseded')").await
    }

    /// Waits until more than `rows` rows are walked, over all runs and sweeps.
    pub async fn until_walked(&self, rows: i64) {
        self.until(&format!("SELECT coalesce(sum(rows_walked), 0) > {rows} FROM howdah.segment")).await;
    }

    /// Waits until nobody drives a run: the server has noticed that a killed driver is gone.
    pub async fn until_undriven(&self) {
        self.until("SELECT NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory')").await;
    }

    /// Waits until `sql` answers true; what cannot be asked yet is not true.
    pub async fn until(&self, sql: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer: Result<bool, _> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await;
            if matches!(answer, Ok(true)) {
                return;
            }
            assert!(Instant::now() < end, "never came true: {sql} ({answer:?})");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn plan(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).expect("a plan on disk");
        path
    }

    /// howdah with an environment of its own.
    pub fn howdah(&self, arguments: &[&str]) -> Howdah {
        let mut command = bare(self.files.path());
        command.args(arguments);
        Howdah { command, url: Some(self.url.clone()) }
    }
}

/// howdah, with nothing of the caller's environment but what it needs to find a server's programs.
pub fn bare(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
    if let Some(bin) = std::env::var_os("HOWDAH_PG_BIN") {
        command.env("HOWDAH_PG_BIN", bin);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub struct Howdah {
    pub command: Command,
    url: Option<String>,
}

impl Howdah {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without `DATABASE_URL`.
    pub fn without_url(mut self) -> Self {
        self.url = None;
        self
    }

    /// With another `DATABASE_URL`.
    pub fn at(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
        self
    }

    pub fn start(mut self) -> Running {
        if let Some(url) = &self.url {
            self.command.env("DATABASE_URL", url);
        }
        let mut child = self.command.spawn().expect("howdah starts");
        let stdout = Said::listen(child.stdout.take().expect("a pipe"));
        let stderr = Said::listen(child.stderr.take().expect("a pipe"));
        Running { child, stdout, stderr }
    }

    pub fn run(self) -> Ended {
        self.start().wait()
    }

    /// With `feed` writing to its standard input, until it ends.
    pub fn fed(mut self, feed: impl FnOnce(ChildStdin) + Send + 'static) -> Ended {
        self.command.stdin(Stdio::piped());
        let mut running = self.start();
        let to = running.child.stdin.take().expect("a pipe");
        let feeder = std::thread::spawn(move || feed(to));
        let ended = running.wait();
        feeder.join().expect("everything was read");
        ended
    }
}

/// What a process has said so far.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

impl Said {
    fn listen(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&bytes);
        let listener = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            }
        });
        Self { bytes, listener: Some(listener) }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything; the process has ended.
    fn all(&mut self) -> Vec<u8> {
        self.listener.take().map(JoinHandle::join).transpose().expect("all of the output");
        self.so_far()
    }
}

/// howdah at work. Dropping it kills it: no test that fails leaves it behind.
pub struct Running {
    pub child: Child,
    stdout: Said,
    stderr: Said,
}

impl Running {
    pub fn kill_hard(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a signal");
    }

    /// What it has said so far, on both outputs.
    pub fn said(&self) -> String {
        [&self.stdout, &self.stderr].map(|said| String::from_utf8_lossy(&said.so_far()).into_owned()).concat()
    }

    /// Waits until it has said this.
    pub async fn until_said(&mut self, words: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            // Whether it has ended is asked first: what it said last is heard then.
            let ended = self.child.try_wait().expect("a status");
            let said = self.said();
            if said.contains(words) {
                return;
            }
            assert!(ended.is_none() && Instant::now() < end, "never said `{words}` ({ended:?}):\n{said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it has ended, and returns what it said.
    pub async fn ended(&mut self) -> String {
        while self.child.try_wait().expect("a status").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.said()
    }

    pub fn wait(mut self) -> Ended {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended { output: Output { status, stdout: self.stdout.all(), stderr: self.stderr.all() } }
    }
}

impl Drop for Running {
    #[expect(clippy::print_stderr, reason = "what it said last is shown where a test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let last: Vec<&str> =
                said.lines().filter(|line| !line.contains(r#""type":"progress""#)).rev().take(30).collect();
            eprintln!("howdah said last:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        // Nearly always it has ended, and both are told so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Ended {
    pub output: Output,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.output.status.signal()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The facts of a run with `--json`: kind and text, in order.
    pub fn events(&self) -> Vec<(String, String)> {
        let words = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        self.stdout()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["type"] == "event")
            .map(|line| (words(&line, "kind"), words(&line, "text")))
            .collect()
    }

    /// The texts of the facts of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<String> {
        self.events().into_iter().filter(|(of, _)| of == kind).map(|(_, text)| text).collect()
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }

    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        let said = format!("{}{}", self.stdout(), self.stderr());
        for word in words {
            assert!(said.contains(word), "`{word}` is not in:\n{said}");
        }
        self
    }
}

/// A small generator of numbers, seeded: the same "random" instants every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The dice of a test: by `HOWDAH_SEED` where it is set, else by the test's own seed, which a failure shows.
    #[expect(clippy::print_stderr, reason = "the seed is shown where a test fails")]
    pub fn of_test(seed: u64) -> Self {
        let given = std::env::var("HOWDAH_SEED").ok().map(|text| text.parse().expect("HOWDAH_SEED is a number"));
        let seed = given.unwrap_or(seed);
        eprintln!("seed: HOWDAH_SEED={seed}");
        Self(seed)
    }

    /// Knuth's MMIX constants.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// So many different numbers below `limit`, in their order.
    pub fn distinct(&mut self, many: usize, limit: u64) -> Vec<u64> {
        let mut drawn = BTreeSet::new();
        while drawn.len() < many {
            drawn.insert(self.below(limit));
        }
        drawn.into_iter().collect()
    }
}
