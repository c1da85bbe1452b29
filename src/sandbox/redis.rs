//! A private, throwaway Redis, for the tests and the benchmarks: on a port and in a directory of its own, with a password,
//! ended by its own pid.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::ended_within;
use crate::run::Cause;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A port that was free may be taken the next moment.
const TRIES: u32 = 5;

/// A Redis server that ends when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    directory: TempDir,
    port: u16,
    settings: Vec<String>,
}

/// The password of every sandboxed Redis.
pub const PASSWORD: &str = "sandbox-secret";

impl RedisServer {
    /// Starts one without persistence. `settings` are further arguments of `redis-server`, such as `--appendonly yes`, each
    /// word an element; a later one wins.
    ///
    /// # Errors
    /// There is no `redis-server` on this host, or it does not start.
    pub fn start(settings: &[&str]) -> Result<Self, Cause> {
        let failed = |e: std::io::Error| Cause::new(format!("cannot start a Redis: {e}"));
        let directory = tempfile::Builder::new().prefix("howdah-redis-").tempdir().map_err(failed)?;
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { child: None, directory, port: 0, settings };
        let mut tries = 0;
        loop {
            server.port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(failed)?.port();
            tries += 1;
            match server.begin() {
                Ok(()) => return Ok(server),
                Err(_) if tries < TRIES && has(&binary()?) => {}
                Err(cause) => return Err(cause),
            }
        }
    }

    /// `redis://:password@127.0.0.1:port/0`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it as `kill -9` does. [`RedisServer::restart`] brings it back, with what its persistence has kept.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            ended_within(&mut child, Duration::from_secs(10));
        }
    }

    /// Starts it again, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Cause> {
        self.kill();
        self.begin()
    }

    fn begin(&mut self) -> Result<(), Cause> {
        let binary = binary()?;
        let log = self.directory.path().join("log");
        let port = self.port.to_string();
        let mut command = Command::new(&binary);
        command.current_dir(self.directory.path()).args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--requirepass", PASSWORD, "--daemonize", "no", "--logfile"]).arg(&log);
        command.args(&self.settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| Cause::new(format!("cannot start {}: {e}", binary.display())))?;
        let child = self.child.insert(child);
        let end = Instant::now() + PATIENCE;
        loop {
            let answers = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            let ended = child.try_wait().ok().flatten();
            if let Some(status) = ended {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
                self.child = None;
                return Err(Cause::new(format!("redis-server ended at once ({status}): {last}")));
            }
            if answers {
                return Ok(());
            }
            if Instant::now() > end {
                self.kill();
                return Err(Cause::new("redis-server does not answer".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn has(binary: &Path) -> bool {
    binary.is_file()
}

/// `HOWDAH_REDIS_BIN`, else `redis-server` of the PATH.
fn binary() -> Result<PathBuf, Cause> {
    let named = std::env::var_os("HOWDAH_REDIS_BIN").map(PathBuf::from).filter(|path| has(path));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || std::env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|path| has(path));
    named.or_else(found).ok_or_else(|| {
        Cause::new("there is no redis-server on this host")
            .hint("install it (Debian: apt-get install redis-server), or name the program in HOWDAH_REDIS_BIN")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_starts_answers_dies_comes_back_and_leaves_nothing() {
        let mut server = RedisServer::start(&[]).expect("install redis-server");
        let ask = |server: &RedisServer| {
            let client = redis::Client::open(server.url()).expect("an address");
            let mut connection = client.get_connection()?;
            redis::cmd("PING").query::<String>(&mut connection)
        };
        assert_eq!(ask(&server).ok().as_deref(), Some("PONG"));
        server.kill();
        assert!(ask(&server).is_err());
        server.restart().expect("it comes back");
        assert_eq!(ask(&server).ok().as_deref(), Some("PONG"));
        let directory = server.directory().to_owned();
        drop(server);
        assert!(!directory.exists());
    }
}
