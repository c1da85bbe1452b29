//! A standby of a sandbox: the same cluster a second time, which follows the first.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::account::{self, Account};
use super::directory::hand_to;
use super::error::{SandboxError, last_lines};
use super::guard::Guard;
use super::process;

/// A small cluster takes a fraction of a second.
const LIMIT: Duration = Duration::from_mins(2);

/// Copies the data directory of the server in `from`, which must not run, to `to`, and marks it as a standby's.
///
/// By `cp`, and not by `pg_basebackup`: not every package of a server carries that.
///
/// # Errors
/// `cp` fails, or cannot be started.
pub async fn copy_cluster(
    from: &Path,
    to: &Path,
    account: Option<&Account>,
    guard: &mut Guard,
) -> Result<(), SandboxError> {
    let (source, data, log) = (from.join("data"), to.join("data"), to.join("copy.log"));
    let out = File::create(&log).map_err(SandboxError::io("write", &log))?;
    // As the server's user, to whom the copy will belong.
    let mut child = account::command(Path::new("cp"), account)
        .arg("-Rp")
        .args([&source, &data])
        .current_dir(to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .process_group(0)
        .spawn()
        .map_err(SandboxError::io("copy", &source))?;
    guard.tell(child.id()).map_err(SandboxError::io("reach the guard of", to))?;
    let ended = process::exit_of(&mut child, LIMIT).await.map_err(SandboxError::io("copy", &source))?;
    if !ended.is_some_and(|status| status.success()) {
        let source_error = std::io::Error::other(last_lines(&log, 4));
        return Err(SandboxError::Io { action: "copy", path: source, source: source_error });
    }
    let signal = data.join("standby.signal");
    OpenOptions::new().write(true).create_new(true).open(&signal).map_err(SandboxError::io("write", &signal))?;
    hand_to(account, &signal)
}
