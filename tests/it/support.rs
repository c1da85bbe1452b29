//! A private server, plans on disk, and the binary.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use howdah::sandbox::{Listen, Options, Server};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Executor};

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

    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Waits until `sql` answers true.
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

    pub fn start(mut self) -> Running {
        if let Some(url) = &self.url {
            self.command.env("DATABASE_URL", url);
        }
        Running { child: self.command.spawn().expect("howdah starts") }
    }

    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

pub struct Running {
    pub child: Child,
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

    pub fn wait(mut self) -> Ended {
        let (mut stdout, mut stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let out = std::thread::spawn(move || all(stdout.as_mut()));
        let err = std::thread::spawn(move || all(stderr.as_mut()));
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
        Ended { output: Output { status, stdout: out.join().expect("stdout"), stderr: err.join().expect("stderr") } }
    }
}

fn all(from: Option<&mut impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.read_to_end(&mut bytes).expect("output");
    }
    bytes
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

/// A small generator of numbers, seeded: the same "random" instants every time, printed where they matter.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Knuth's MMIX constants.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
