//! A private, throwaway PostgreSQL server, for `howdah demo` and for the tests.
//!
//! [`Server::start`] finds a server on this host or downloads one, makes a database cluster in a directory of its own,
//! and starts it there. Nobody else can reach it: it listens on a socket inside that directory, which only its user may
//! enter, or, when asked, on 127.0.0.1 with a password.
//!
//! What holds here: whatever was started is stopped, and whatever was made is removed, in three layers. [`Server`]'s
//! drop does it; a guard process does it when the owner dies without a drop (`kill -9`); [`sweep()`] does it at the next
//! start when the guard died too. Processes are ended by pid, after a check that the pid still is that server; never by
//! name. Nothing here knows of plans, runs or the console, beyond [`crate::run::Cause`].

mod account;
mod directory;
mod error;
mod fetch;
mod find;
mod guard;
mod initdb;
mod mirror;
mod package;
mod process;
pub mod redis;
mod server;
mod standby;
mod sweep;
#[cfg(test)]
mod tests;
pub mod users;

use secrecy::SecretString;

use account::Account;
pub use error::{FetchError, SandboxError};
use find::{Installation, Places};
pub use server::Server;
pub use sweep::{Swept, sweep};

/// The superuser of every sandbox.
pub const SUPERUSER: &str = "demo";

/// What kind of server is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The major version; `None`: the first that is found, else the newest that can be downloaded.
    pub version: Option<u32>,
    /// How it is reached.
    pub listen: Listen,
    /// Server settings, name and value; a later one wins over an earlier one and over the sandbox's own.
    pub settings: Vec<(String, String)>,
    /// Whether the server and its directory outlive their owner. See [`Server::stop_command`].
    pub keep: bool,
}

/// How a sandbox is reached.
#[derive(Debug, Clone, Default)]
pub enum Listen {
    /// By a socket in the sandbox's directory; no password.
    #[default]
    Socket,
    /// By a free port of 127.0.0.1, with a password (SCRAM).
    Tcp {
        /// The superuser's password.
        password: SecretString,
    },
}

/// What [`Server::start`] is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Looking for a server on this host, and clearing away what dead owners left.
    Finding,
    /// Fetching a server, about 15 MB.
    Downloading {
        /// The version.
        version: String,
        /// Where from, in a word or two.
        from: &'static str,
    },
    /// Making the database cluster.
    Initialising {
        /// The server's version.
        version: String,
    },
    /// Waiting for the server's first answer.
    Starting,
}

/// Finds a server on this host, else downloads one.
///
/// # Errors
/// `HOWDAH_PG_BIN` names no usable server, or there is none and none could be downloaded.
async fn locate(
    places: &Places,
    version: Option<u32>,
    account: Option<&Account>,
    progress: &(dyn Fn(Stage) + Sync),
) -> Result<Installation, SandboxError> {
    if let Some(found) = find::find(places, version, account)? {
        return Ok(found);
    }
    fetch::fetch(places, version, account, progress).await.map_err(|source| SandboxError::NoServer {
        version,
        advice: package::advice(places, version),
        source,
    })
}
