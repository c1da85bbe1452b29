//! What can go wrong with a sandbox, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::run::Cause;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// `HOWDAH_PG_BIN` was given, and is wrong: nothing else is tried.
    #[error("HOWDAH_PG_BIN is {}, which holds no usable PostgreSQL server: {why}", .path.display())]
    BadPgBin {
        /// Its value.
        path: PathBuf,
        /// What was found there.
        why: String,
    },
    /// None on this host, and none to be had.
    #[error("{} was found on this host, and none could be downloaded ({source}); {advice}", wanted(*.version))]
    NoServer {
        /// The major version that was asked for.
        version: Option<u32>,
        /// The command that installs one.
        advice: String,
        /// Why the download failed.
        source: FetchError,
    },
    /// PostgreSQL refuses to run as root.
    #[error("PostgreSQL must not run as root, and there is no user `postgres` or `nobody` to run it as")]
    NoAccount,
    /// A file, a directory or a process.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make a database cluster: {output}")]
    Initdb {
        /// Its last lines.
        output: String,
    },
    /// The server ended while it was starting.
    #[error("the server ended while it was starting ({status}): {log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but has not let anyone in.
    #[error("the server did not answer within {seconds} s: {why}; its log ends: {log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The last attempt's error.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// Something of it is left.
    #[error("the sandbox in {} could not be cleared away", .directory.display())]
    NotCleared {
        /// What is left.
        directory: PathBuf,
    },
}

/// Why no server could be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The archive's host did not give it.
    #[error("{from}: {why}")]
    Download {
        /// Which host.
        from: &'static str,
        /// What happened.
        why: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("there is no directory to keep it in: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The archive arrived, but is no server that runs here.
    #[error("the archive holds no server that runs on this host: {0}")]
    Unusable(String),
    /// A file or a directory.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn wanted(version: Option<u32>) -> String {
    version.map_or_else(|| "no PostgreSQL server".to_owned(), |major| format!("no PostgreSQL {major} server"))
}

impl SandboxError {
    /// Names the verb and the object of a failed system call.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The same, for the screen and the exit message: message, details, hints.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::BadPgBin { path, why } => {
                Cause::usage(format!("HOWDAH_PG_BIN is {}, which holds no usable PostgreSQL server", path.display()))
                    .detail(why)
                    .hint("set HOWDAH_PG_BIN to the directory that holds `initdb` and `postgres`, or unset it")
            }
            Self::NoServer { version, advice, source } => {
                Cause::new(format!("{} was found on this host, and none could be downloaded", wanted(*version)))
                    .detail(source.to_string())
                    .hint(advice)
            }
            Self::NoAccount => Cause::new(self.to_string())
                .hint("run howdah as an ordinary user, or add one: `useradd --system postgres`"),
            Self::Initdb { output } => with_lines(Cause::new("initdb could not make a database cluster"), output),
            Self::Exited { status, log } => {
                with_lines(Cause::new(format!("the server ended while it was starting ({status})")), log)
            }
            Self::NotReady { seconds, why, log } => {
                let message = format!("the server did not answer within {seconds} s");
                with_lines(Cause::new(message).detail(why), log)
            }
            Self::NotCleared { directory } => Cause::new(self.to_string())
                .hint(format!("the next start clears it; or remove {} yourself", directory.display())),
            Self::Io { .. } => Cause::new(self.to_string()),
        }
    }
}

impl FetchError {
    /// Names the verb and the object of a failed system call.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl From<&SandboxError> for Cause {
    fn from(error: &SandboxError) -> Self {
        error.cause()
    }
}

fn with_lines(cause: Cause, lines: &str) -> Cause {
    lines.lines().fold(cause, Cause::detail)
}

/// The last `count` lines of a file that say something, for an error; empty when it cannot be read.
pub(super) fn last_lines(file: &Path, count: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_for_want_of_a_server_names_the_version_the_cause_and_the_package() {
        let source = FetchError::Download { from: "HOWDAH_PG_ARCHIVE", why: "connection refused".to_owned() };
        let advice = "install one: `apt-get install postgresql-17`".to_owned();
        let error = SandboxError::NoServer { version: Some(17), advice, source };
        let text = error.to_string();
        for part in ["PostgreSQL 17", "connection refused", "apt-get install postgresql-17"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let cause = error.cause();
        assert_eq!(cause.details, ["HOWDAH_PG_ARCHIVE: connection refused"]);
        assert_eq!(cause.hints, ["install one: `apt-get install postgresql-17`"]);
    }

    #[test]
    fn the_last_lines_of_a_log_skip_blank_ones() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\n\nthree\n\n").unwrap();
        assert_eq!(last_lines(file.path(), 2), "two\nthree");
        assert_eq!(last_lines(Path::new("/no/such/file"), 2), "");
    }
}
