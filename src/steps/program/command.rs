//! A program of the plan's author: started without a shell, in a group of its own, and ended with everything it started.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::run::text::clean;

/// Lines of its standard error that are told when it fails.
const LAST: usize = 5;
/// Bytes of a line of its standard error that are kept.
const LONGEST_LINE: u64 = 4096;
/// How long a program that has ended may take to be known as ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A program at work. Dropping it kills it.
pub struct Process {
    child: Child,
    /// Leads the group that the program is in.
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    said: Arc<Mutex<VecDeque<String>>>,
    /// Ends the thread that listens to its standard error, by being dropped.
    _listening: oneshot::Sender<()>,
    name: String,
}

/// Whether a variable is no business of a program's: it may lead to the run's database, or is meant for a driver alone.
pub(in crate::steps) fn is_secret(name: &str) -> bool {
    name == "DATABASE_URL" || name == "REDIS_URL" || name.starts_with("PG") || name.starts_with("HOWDAH_")
}

impl Process {
    /// Starts `argv`. What leads to the run's database is not in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(argv: &[String]) -> std::io::Result<Self> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(std::io::Error::other("no program is named"));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(0);
        for (name, _) in std::env::vars_os() {
            if is_secret(&name.to_string_lossy()) {
                command.env_remove(&name);
            }
        }
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(std::io::Error::other("it has no pipes"));
        };
        let said = Arc::<Mutex<VecDeque<String>>>::default();
        let (heard, name) = (Arc::clone(&said), program.clone());
        let (listening, ended) = oneshot::channel::<()>();
        let handle = tokio::runtime::Handle::current();
        let listen = listen(stderr, heard, name.clone(), ended);
        std::thread::Builder::new().name("stderr".to_owned()).spawn(move || handle.block_on(listen))?;
        let stdout = BufReader::with_capacity(64 << 10, stdout);
        Ok(Self { child, group, stdin, stdout, said, _listening: listening, name })
    }

    /// Its two ends: what is written to it, and what it answers.
    pub fn ends(&mut self) -> (Option<&mut ChildStdin>, &mut BufReader<ChildStdout>) {
        (self.stdin.as_mut(), &mut self.stdout)
    }

    /// Why it does not answer: how it ended, and what it said last. It is killed if it lives.
    pub async fn autopsy(&mut self, otherwise: &str) -> String {
        self.stdin = None;
        let ended = tokio::time::timeout(Duration::from_millis(200), self.child.wait()).await;
        let how = match ended {
            Ok(Ok(status)) => format!("it has ended ({status})"),
            Ok(Err(_)) | Err(_) => otherwise.to_owned(),
        };
        self.kill();
        drop(tokio::time::timeout(FAREWELL, self.child.wait()).await);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let name = clean(&self.name);
        if said.is_empty() { format!("{name}: {how}") } else { format!("{name}: {how}; it said: {}", said.join(" | ")) }
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.start_kill();
    }

    /// Lets it end by itself: there is no more input.
    pub async fn close(mut self) {
        self.stdin = None;
        drop(tokio::time::timeout(FAREWELL, self.child.wait()).await);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads one line, its end not included. `None`: there are no more.
///
/// # Errors
/// It cannot be read, or is longer than `most` bytes.
pub async fn line(from: &mut BufReader<ChildStdout>, to: &mut Vec<u8>, most: u64) -> std::io::Result<Option<()>> {
    to.clear();
    let read = (&mut *from).take(most).read_until(b'\n', to).await?;
    if to.last() == Some(&b'\n') {
        to.pop();
    } else if read as u64 >= most {
        return Err(std::io::Error::other(format!("an answer of more than {most} bytes")));
    }
    Ok((read > 0).then_some(()))
}

/// Writes all of it.
///
/// # Errors
/// It does not read any more.
pub async fn write(to: &mut ChildStdin, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Takes what a program says on its standard error into the log.
async fn listen(
    from: tokio::process::ChildStderr,
    said: Arc<Mutex<VecDeque<String>>>,
    name: String,
    ended: oneshot::Receiver<()>,
) {
    let mut from = BufReader::new(from);
    let read = async {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let text = clean(String::from_utf8_lossy(&bytes).trim_end()).into_owned();
            tracing::info!(target: "program", program = %clean(&name), "{text}");
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_back(text);
            if said.len() > LAST {
                said.pop_front();
            }
        }
    };
    // Something that the program has started may hold its end open.
    let gone = async {
        let _ = ended.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        () = read => {}
        () = gone => {}
    }
}

/// Where a program that a plan names lies. `None`: it is not there, or cannot be run.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &std::path::PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(std::path::PathBuf::from(program)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(is_program)
}
