//! A program that is told: the JSON is on its standard input, and no shell reads its arguments.

use std::io::ErrorKind;
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::again::Verdict;
use super::form;
use super::message::Message;
use crate::run::text::clean;

/// So much of its standard error is told.
const SAID: usize = 300;
/// So long it may still be heard after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Whether a variable is no business of a program's: it may lead to the run's database.
fn is_secret(name: &str) -> bool {
    name == "DATABASE_URL" || name == "REDIS_URL" || name.starts_with("PG") || name.starts_with("HOWDAH_")
}

/// One attempt.
pub(super) async fn run(argv: &[String], timeout: Duration, message: &Message) -> Verdict {
    let Some((program, arguments)) = argv.split_first() else {
        return Verdict::Never("no program is named".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true).process_group(0);
    for (name, _) in std::env::vars_os() {
        if is_secret(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Verdict::Never(clean(&format!("{program}: {error}")).into_owned());
        }
        Err(error) => return Verdict::Later(clean(&format!("{program}: {error}")).into_owned(), None),
    };
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let verdict = match tokio::time::timeout(timeout, heard(&mut child, message)).await {
        Ok(Ok((status, said))) if status.success() => Verdict::Delivered(ended(status, &said)),
        Ok(Ok((status, said))) => Verdict::Later(ended(status, &said), None),
        Ok(Err(error)) => Verdict::Later(clean(&format!("{program}: {error}")).into_owned(), None),
        Err(_) => Verdict::Later("it did not end in time, and was killed".to_owned(), None),
    };
    drop(group);
    verdict
}

/// What it has started besides ends with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn heard(child: &mut Child, message: &Message) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let body = format!("{}\n", form::own(message));
    let tell = async {
        if let Some(mut stdin) = stdin {
            // One that does not read is no failure: it ends as it ends.
            let _ = stdin.write_all(body.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
    };
    let said = Mutex::new(Vec::new());
    let listen = async {
        let Some(mut stderr) = stderr else { return };
        let mut chunk = [0; 1024];
        // What is more than is told is read all the same, so that it does not wait.
        while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let room = SAID.saturating_sub(said.len());
            said.extend_from_slice(&chunk[..read.min(room)]);
        }
    };
    let status = {
        let mut talk = pin!(async { tokio::join!(tell, listen) });
        tokio::select! {
            biased;
            _ = &mut talk => child.wait().await,
            // A child that it leaves behind holds its standard error open: it has ended all the same.
            status = child.wait() => {
                drop(tokio::time::timeout(LAST_WORDS, talk).await);
                status
            }
        }
    }?;
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
}

fn ended(status: std::process::ExitStatus, said: &str) -> String {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    clean(&format!("{status}{said}")).into_owned()
}
