//! The sandbox itself: starting, killing, restarting and stopping a private server.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::account::{self, Account};
use super::directory::{self, Owner};
use super::error::{SandboxError, last_lines};
use super::find::{Installation, Places};
use super::guard::{self, Guard};
use super::{Listen, Options, SUPERUSER, Stage, initdb, locate, process, standby, sweep};

/// How long a server may take to let the first client in; one that was killed recovers first.
const READY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How long a killed process may take to vanish.
const VANISH: Duration = Duration::from_secs(10);
/// How often a start is tried with another port, when someone else takes the free one in between.
const PORTS: u32 = 3;
/// A socket has no port; this is only a part of its file's name.
const SOCKET_PORT: u16 = 5432;

/// What stays as it is in a URL: RFC 3986's unreserved characters.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A private PostgreSQL server. Dropping it stops the server and removes its directory, unless it was kept; the drop
/// blocks until nothing is left, usually for a fraction of a second, at most for some 10 s.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    installation: Installation,
    account: Option<Account>,
    listen: Listen,
    port: u16,
    settings: Vec<(String, String)>,
    /// `None` while no server runs: before the first start, and after [`Server::kill`] or [`Server::stop_immediate`].
    postmaster: Option<Child>,
    /// `None` once the sandbox is kept.
    guard: Option<Guard>,
}

impl Server {
    /// Clears away what dead owners left, finds or downloads a server, makes a cluster and starts it.
    ///
    /// # Errors
    /// There is no server and none to be had, or one of its steps failed; whatever was made is gone again.
    pub async fn start(options: Options, progress: &(dyn Fn(Stage) + Sync)) -> Result<Self, SandboxError> {
        progress(Stage::Finding);
        if let Err(error) = tokio::task::spawn_blocking(sweep::sweep).await {
            tracing::warn!(%error, "left-over sandboxes were not looked for");
        }
        let account = account::of_the_server()?;
        let places = Places::from_environment();
        let installation = locate(&places, options.version, account.as_ref(), progress).await?;

        let directory = directory::make(account.as_ref())?;
        let mut guard = Guard::watch(directory.path()).map_err(SandboxError::io("watch", directory.path()))?;
        let directory = directory.keep();
        progress(Stage::Initialising { version: installation.version.text.clone() });
        initdb::make_cluster(&directory, &installation, account.as_ref(), &options.listen, &mut guard).await?;

        let mut server = Self {
            directory,
            installation,
            account,
            port: SOCKET_PORT,
            listen: options.listen,
            settings: options.settings,
            postmaster: None,
            guard: Some(guard),
        };
        progress(Stage::Starting);
        server.start_on_a_free_port().await?;
        if options.keep {
            server.keep();
        }
        Ok(server)
    }

    /// A standby of this server, in a sandbox of its own, which streams from here; read-only connections are welcome. It
    /// has this server's settings and then `settings`. This server stops for a moment while it is copied.
    ///
    /// Clear the standby away first: a server that stops waits for the standbys that are connected.
    ///
    /// # Errors
    /// One of the steps failed. What was made of the standby is gone again; this server runs again, unless it is the one
    /// that failed.
    pub async fn standby(&mut self, settings: Vec<(String, String)>) -> Result<Self, SandboxError> {
        let directory = directory::make(self.account.as_ref())?;
        let mut guard = Guard::watch(directory.path()).map_err(SandboxError::io("watch", directory.path()))?;
        let directory = directory.keep();
        self.shut_down().await?;
        let copied = standby::copy_cluster(&self.directory, &directory, self.account.as_ref(), &mut guard).await;
        self.launch().await?;
        copied?;
        let socket = self.directory.to_string_lossy().replace('\\', r"\\").replace('\'', r"\'");
        let primary = format!("host='{socket}' port={} user={SUPERUSER}", self.port);
        let own = self.settings.iter().cloned().chain([("primary_conninfo".to_owned(), primary)]);
        let mut server = Self {
            directory,
            installation: self.installation.clone(),
            account: self.account.clone(),
            port: SOCKET_PORT,
            listen: self.listen.clone(),
            settings: own.chain(settings).collect(),
            postmaster: None,
            guard: Some(guard),
        };
        server.start_on_a_free_port().await?;
        Ok(server)
    }

    async fn start_on_a_free_port(&mut self) -> Result<(), SandboxError> {
        if let Listen::Socket = self.listen {
            return self.launch().await;
        }
        let mut tries = PORTS;
        loop {
            tries -= 1;
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            self.port = free.map_err(SandboxError::io("find a free port for", &self.directory))?.port();
            match self.launch().await {
                Err(SandboxError::Exited { log, .. }) if tries > 0 && log.contains("in use") => {}
                result => return result,
            }
        }
    }

    /// Starts the server on its data directory, and waits for its first answer.
    async fn launch(&mut self) -> Result<(), SandboxError> {
        let log = self.log();
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(SandboxError::io("write", &log))?;
        let err = out.try_clone().map_err(SandboxError::io("write", &log))?;
        let program = self.installation.bin.join("postgres");
        let child = account::command(&program, self.account.as_ref())
            .args(arguments(&self.directory, &self.listen, self.port, &self.settings))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // The terminal's Ctrl-C goes to the group in the foreground: a console must be able to pause first.
            .process_group(0)
            .spawn()
            .map_err(SandboxError::io("start", &program))?;
        let pid = child.id();
        self.postmaster = Some(child);
        if let Some(guard) = &mut self.guard {
            guard.tell(pid).map_err(SandboxError::io("reach the guard of", &self.directory))?;
        }
        self.note();
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<(), SandboxError> {
        let options = self.connect_options();
        let log = self.log();
        let deadline = Instant::now() + READY;
        loop {
            if let Some(child) = &mut self.postmaster
                && let Some(status) = child.try_wait().map_err(SandboxError::io("wait for", &self.directory))?
            {
                self.postmaster = None;
                return Err(SandboxError::Exited { status: status.to_string(), log: last_lines(&log, 12) });
            }
            let why = match tokio::time::timeout(Duration::from_secs(2), PgConnection::connect_with(&options)).await {
                Ok(Ok(connection)) => {
                    if let Err(error) = connection.close().await {
                        tracing::debug!(%error, "the first connection did not close well");
                    }
                    return Ok(());
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a connection took longer than 2 s".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(SandboxError::NotReady { seconds: READY.as_secs(), why, log: last_lines(&log, 12) });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The superuser's connection to `postgres`, whatever `PG*` says.
    fn connect_options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(SUPERUSER)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging();
        match &self.listen {
            Listen::Socket => options.socket(&self.directory),
            Listen::Tcp { password } => options.host("127.0.0.1").password(password.expose_secret()),
        }
    }

    /// The superuser's URL of a database, for sqlx and psql alike. It holds the password, where there is one.
    ///
    /// The database `postgres` exists; others are for the caller to make.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let (database, port) = (encode(database), self.port);
        match &self.listen {
            // A URL with a user needs a host as well; the parameter wins over it.
            Listen::Socket => {
                let host = encode(&self.directory.to_string_lossy());
                format!("postgresql://{SUPERUSER}@localhost:{port}/{database}?host={host}&sslmode=disable")
            }
            Listen::Tcp { password } => {
                let password = encode(password.expose_secret());
                format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
            }
        }
    }

    /// The sandbox's directory: socket, data and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server's own programs: `psql` may be among them.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.installation.bin
    }

    /// The server's version: `15.13`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.installation.version.text
    }

    /// The postmaster's pid; `None` while no server runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Kills the server with SIGKILL, as a crash would, and waits until it and all its children are gone.
    ///
    /// # Errors
    /// The system refuses, or a process is still there after 10 s.
    pub async fn kill(&mut self) -> Result<(), SandboxError> {
        let running = self.processes();
        if let Some(child) = &mut self.postmaster {
            child.kill().map_err(SandboxError::io("kill the server of", &self.directory))?;
            self.wait_for_exit().await?;
        }
        // Its children notice by themselves, a moment later. Until then they hold the data directory.
        self.wait_until_cleared(running).await
    }

    /// Stops the server as `pg_ctl stop -m immediate` does, and waits until it and all its children are gone: sessions are
    /// told and cut off, nothing is written down, and the next start recovers.
    ///
    /// # Errors
    /// A process is still there after 10 s.
    pub async fn stop_immediate(&mut self) -> Result<(), SandboxError> {
        let running = self.processes();
        if let Some(pid) = self.pid() {
            // It may have ended by itself: then there is nobody to signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            self.wait_for_exit().await?;
        }
        self.wait_until_cleared(running).await
    }

    /// The server's processes, the postmaster among them.
    fn processes(&self) -> BTreeSet<i32> {
        process::of_cluster(&self.directory.join("data"), &name_of(&self.directory)).into_iter().collect()
    }

    /// Waits until these and all other processes of the server have ended.
    async fn wait_until_cleared(&self, mut left: BTreeSet<i32>) -> Result<(), SandboxError> {
        let deadline = Instant::now() + VANISH;
        loop {
            left.extend(self.processes());
            left.retain(|pid| process::life(*pid) != process::Life::Gone);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(SandboxError::NotCleared { directory: self.directory.clone() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the server again, on the same data directory and the same socket or port. One that runs is stopped first.
    ///
    /// # Errors
    /// It does not stop, or does not start.
    pub async fn restart(&mut self) -> Result<(), SandboxError> {
        self.shut_down().await?;
        self.launch().await
    }

    /// PostgreSQL's fast shutdown, where a server runs.
    async fn shut_down(&mut self) -> Result<(), SandboxError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // It may have ended by itself: then there is nobody to signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        self.wait_for_exit().await
    }

    async fn wait_for_exit(&mut self) -> Result<(), SandboxError> {
        let Some(child) = &mut self.postmaster else { return Ok(()) };
        let status = process::exit_of(child, VANISH).await;
        if status.map_err(SandboxError::io("wait for the server of", &self.directory))?.is_none() {
            return Err(SandboxError::NotCleared { directory: self.directory.clone() });
        }
        self.postmaster = None;
        Ok(())
    }

    /// Stops the server and removes its directory, even if it was kept.
    ///
    /// # Errors
    /// Something of it is still there after some 10 s.
    pub async fn stop(mut self) -> Result<(), SandboxError> {
        let rest = Rest { directory: self.directory.clone(), pid: self.pid(), postmaster: self.postmaster.take() };
        let guard = self.guard.take();
        let cleared = tokio::task::spawn_blocking(move || rest.clear(guard)).await.unwrap_or(false);
        if cleared { Ok(()) } else { Err(SandboxError::NotCleared { directory: self.directory.clone() }) }
    }

    /// Lets server and directory outlive this value and this process. See [`Server::stop_command`].
    pub fn keep(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        // First the note, so that no sweep takes it for a left-over.
        self.note();
        if let Err(error) = guard.keep() {
            tracing::warn!(%error, "the sandbox's guard had died");
        }
    }

    /// A shell command that stops a kept server and removes its directory.
    #[must_use]
    pub fn stop_command(&self) -> String {
        let directory = quoted(&self.directory.to_string_lossy());
        let pid_file = quoted(&self.directory.join("data/postmaster.pid").to_string_lossy());
        format!(
            "kill -INT \"$(head -n 1 {pid_file})\" && while [ -e {pid_file} ]; do sleep 0.1; done; rm -rf {directory}"
        )
    }

    /// Writes the owner's note: what runs here, and whether it is kept.
    fn note(&self) {
        let owner = Owner { postmaster: self.pid(), kept: self.guard.is_none(), ..Owner::this() };
        if let Err(error) = owner.write(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "the owner's note could not be written");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let rest = Rest { directory: self.directory.clone(), pid: self.pid(), postmaster: self.postmaster.take() };
        if !rest.clear(Some(guard)) {
            tracing::warn!(directory = %self.directory.display(), "the sandbox could not be cleared away");
        }
    }
}

/// What is to be cleared away.
struct Rest {
    directory: PathBuf,
    pid: Option<i32>,
    postmaster: Option<Child>,
}

impl Rest {
    /// Blocks until it is done. Whether nothing is left.
    fn clear(mut self, guard: Option<Guard>) -> bool {
        let cleared = match guard {
            Some(guard) => {
                drop(guard);
                !self.directory.exists()
            }
            None => guard::clear(&self.directory, self.pid),
        };
        // It is our child: until we have asked for its status, it stays in the process table.
        cleared && self.postmaster.as_mut().is_none_or(|child| process::ended_within(child, VANISH))
    }
}

/// The directory's own name: also the `cluster_name`, by which the server's processes can be told from others.
fn name_of(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The postmaster's arguments.
fn arguments(directory: &Path, listen: &Listen, port: u16, settings: &[(String, String)]) -> Vec<String> {
    let addresses = match listen {
        Listen::Socket => "",
        Listen::Tcp { .. } => "127.0.0.1",
    };
    let own = [
        ("unix_socket_directories", directory.display().to_string()),
        ("listen_addresses", addresses.to_owned()),
        ("port", port.to_string()),
        ("cluster_name", name_of(directory)),
        // The data outlives a killed server (it is in the kernel's cache), but not a crash of the host; neither does
        // the sandbox.
        ("fsync", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("shared_buffers", "128MB".to_owned()),
        ("max_wal_size", "2GB".to_owned()),
        // In the data directory instead of /dev/shm, where a killed server would leave it behind.
        ("dynamic_shared_memory_type", "mmap".to_owned()),
    ];
    let mut arguments = vec!["-D".to_owned(), directory.join("data").display().to_string()];
    let all = own.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in all.chain(settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        arguments.push("-c".to_owned());
        arguments.push(format!("{name}={value}"));
    }
    arguments
}

/// A word for the shell; as it is, where nothing in it needs quoting.
fn quoted(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_callers_settings_come_last_and_so_win() {
        let settings = [("fsync".to_owned(), "on".to_owned()), ("work_mem".to_owned(), "8MB".to_owned())];
        let line = arguments(Path::new("/tmp/howdah-sandbox-x"), &Listen::Socket, 5432, &settings).join(" ");
        assert!(line.starts_with("-D /tmp/howdah-sandbox-x/data -c unix_socket_directories=/tmp/howdah-sandbox-x -c"));
        assert!(line.contains("-c listen_addresses= -c port=5432 -c cluster_name=howdah-sandbox-x"), "{line}");
        assert!(line.ends_with("-c fsync=on -c work_mem=8MB"), "{line}");
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_one_word_to_a_shell(word in "[ -~é\n]{1,30}") {
            let script = format!("printf %s {}", quoted(&word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
