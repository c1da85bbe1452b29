//! Makes the database cluster of a sandbox.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::account::{self, Account};
use super::directory::hand_to;
use super::error::{SandboxError, last_lines};
use super::find::Installation;
use super::guard::Guard;
use super::{Listen, SUPERUSER, process};

/// It takes about a second; a busy host may need more.
const LIMIT: Duration = Duration::from_mins(2);

/// The first that the host knows: macOS before 15 has no `C.UTF-8`.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// Makes the cluster in `directory/data`, and leaves what initdb said in `directory/initdb.log`.
///
/// # Errors
/// initdb fails, or cannot be started.
pub async fn make_cluster(
    directory: &Path,
    installation: &Installation,
    account: Option<&Account>,
    listen: &Listen,
    guard: &mut Guard,
) -> Result<(), SandboxError> {
    let password = directory.join("password");
    if let Listen::Tcp { password: secret } = listen {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password)
            .and_then(|mut file| writeln!(file, "{}", secret.expose_secret()));
        written.map_err(SandboxError::io("write", &password))?;
        hand_to(account, &password)?;
    }
    let log = directory.join("initdb.log");
    let mut done = false;
    for locale in LOCALES {
        let arguments = arguments(directory, locale, listen);
        done = run(directory, &log, installation, account, &arguments, guard).await?;
        if done || !last_lines(&log, 20).contains("locale") {
            break;
        }
    }
    if let Listen::Tcp { .. } = listen {
        fs::remove_file(&password).map_err(SandboxError::io("remove", &password))?;
    }
    if done { Ok(()) } else { Err(SandboxError::Initdb { output: last_lines(&log, 8) }) }
}

/// Runs initdb once. Whether it succeeded; when it fails it removes what it made.
async fn run(
    directory: &Path,
    log: &Path,
    installation: &Installation,
    account: Option<&Account>,
    arguments: &[String],
    guard: &mut Guard,
) -> Result<bool, SandboxError> {
    let program = installation.bin.join("initdb");
    let out = File::create(log).map_err(SandboxError::io("write", log))?;
    let err = out.try_clone().map_err(SandboxError::io("write", log))?;
    let mut child = account::command(&program, account)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(SandboxError::io("start", &program))?;
    guard.tell(child.id()).map_err(SandboxError::io("reach the guard of", directory))?;
    match process::exit_of(&mut child, LIMIT).await.map_err(SandboxError::io("wait for", &program))? {
        Some(status) => Ok(status.success()),
        None => {
            // The guard ends it, with the sandbox.
            Err(SandboxError::Initdb { output: format!("it still ran after {} s", LIMIT.as_secs()) })
        }
    }
}

fn arguments(directory: &Path, locale: &str, listen: &Listen) -> Vec<String> {
    let data = directory.join("data").display().to_string();
    let mut arguments: Vec<String> = ["-D", &data, "-U", SUPERUSER, "-E", "UTF8", "--no-sync", "--auth-local=trust"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    arguments.push(format!("--locale={locale}"));
    match listen {
        // Only the owner of the directory reaches the socket, so the socket needs no password.
        Listen::Socket => arguments.push("--auth-host=trust".to_owned()),
        Listen::Tcp { .. } => {
            arguments.push("--auth-host=scram-sha-256".to_owned());
            arguments.push(format!("--pwfile={}", directory.join("password").display()));
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_asks_for_a_password_and_the_password_is_no_argument() {
        let listen = Listen::Tcp { password: "hunter2".into() };
        let line = arguments(Path::new("/tmp/howdah-sandbox-x"), "C", &listen).join(" ");
        assert!(line.contains("--auth-host=scram-sha-256 --pwfile=/tmp/howdah-sandbox-x/password"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
        let line = arguments(Path::new("/tmp/howdah-sandbox-x"), "C", &Listen::Socket).join(" ");
        assert!(line.contains("-D /tmp/howdah-sandbox-x/data -U demo -E UTF8"), "{line}");
    }
}
