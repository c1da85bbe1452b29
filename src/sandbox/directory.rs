//! A sandbox's directory, and the note in it that says whose it is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::account::Account;
use super::error::SandboxError;
use super::process::{self, Life};

/// How the name of every sandbox's directory begins. The guard removes nothing else.
pub const PREFIX: &str = "howdah-sandbox-";

const OWNER: &str = "owner.json";

/// Where sandboxes lie. /tmp comes first: a socket's path has room for 107 bytes, and TMPDIR may be long.
pub fn parents() -> Vec<PathBuf> {
    let mut parents = vec![PathBuf::from("/tmp")];
    let own = std::env::temp_dir();
    if own != parents[0] {
        parents.push(own);
    }
    parents
}

/// Makes a directory that only `account` (and root) may enter, with the owner's note in it.
///
/// # Errors
/// Neither /tmp nor TMPDIR can be written to.
pub fn make(account: Option<&Account>) -> Result<TempDir, SandboxError> {
    let make_in = |parent: &Path| {
        tempfile::Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)
    };
    let mut failed = None;
    for parent in parents() {
        match make_in(&parent) {
            Ok(directory) => {
                let path = directory.path();
                Owner::this().write(path).map_err(SandboxError::io("write the owner's note into", path))?;
                hand_to(account, path)?;
                return Ok(directory);
            }
            Err(error) => failed = failed.or(Some((parent, error))),
        }
    }
    let (path, source) = failed.unwrap_or_else(|| (PathBuf::from("/tmp"), io::ErrorKind::NotFound.into()));
    Err(SandboxError::Io { action: "make a directory in", path, source })
}

/// Gives a file or directory to the server's user.
///
/// # Errors
/// The system refuses.
pub fn hand_to(account: Option<&Account>, path: &Path) -> Result<(), SandboxError> {
    let Some(account) = account else { return Ok(()) };
    let given = chown(path, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)));
    given.map_err(|errno| SandboxError::io("give to the server's user", path)(errno.into()))
}

/// Who made a sandbox, for those who sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process that made it.
    pub pid: i32,
    /// When that process began: a pid alone may have passed on to another.
    pub started: Option<u64>,
    /// What the pid is a number in; another container's pids say nothing here.
    pub namespace: Option<String>,
    /// The server's pid, once it runs.
    pub postmaster: Option<i32>,
    /// Whether the sandbox is to outlive its owner.
    pub kept: bool,
}

impl Owner {
    /// This process, before its server runs.
    pub fn this() -> Self {
        let pid = nix::unistd::getpid().as_raw();
        let started = match process::life(pid) {
            Life::Alive { started } => started,
            Life::Gone => None,
        };
        Self { pid, started, namespace: process::pid_namespace(), postmaster: None, kept: false }
    }

    /// The note in a directory; `None` where there is none that can be read.
    pub fn read(directory: &Path) -> Option<Self> {
        let file = directory.join(OWNER);
        // A sandbox may be anyone's: no waiting on a pipe, no following of a link.
        if !fs::symlink_metadata(&file).ok()?.is_file() {
            return None;
        }
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Writes the note, all of it or none.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let draft = directory.join("owner.json.new");
        let text = serde_json::to_vec(self)?;
        // Made anew: root must not write through a link that the server's user has put there.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?.write_all(&text)?;
        fs::rename(&draft, directory.join(OWNER))
    }
}

#[cfg(test)]
mod tests {
    use super::super::account;
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_directory_is_closed_to_others_and_says_whose_it_is() {
        let account = account::of_the_server().unwrap();
        let directory = make(account.as_ref()).unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with(PREFIX), "{name}");
        let metadata = fs::metadata(directory.path()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        assert_eq!(metadata.uid(), account.map_or_else(|| Uid::effective().as_raw(), |account| account.uid));
        assert_eq!(Owner::read(directory.path()), Some(Owner::this()));
    }

    #[test]
    fn a_note_is_written_over_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Owner::read(directory.path()), None);
        let mut owner = Owner::this();
        owner.write(directory.path()).unwrap();
        (owner.postmaster, owner.kept) = (Some(4711), true);
        owner.write(directory.path()).unwrap();
        assert_eq!(Owner::read(directory.path()), Some(owner));
        fs::write(directory.path().join(OWNER), "{").unwrap();
        assert_eq!(Owner::read(directory.path()), None);
    }
}
