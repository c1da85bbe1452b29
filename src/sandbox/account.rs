//! Whom the server runs as: PostgreSQL refuses to run as root.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{Uid, User};

use super::error::SandboxError;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
}

/// The user that root drops to: `postgres`, else `nobody`. `None`: howdah is not root, and runs the server as itself.
///
/// # Errors
/// howdah is root, and neither user exists.
pub fn of_the_server() -> Result<Option<Account>, SandboxError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = user.ok_or(SandboxError::NoAccount)?;
    Ok(Some(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// A command for one of PostgreSQL's own programs: as `account`, without the caller's `PG*` variables and locale,
/// which would change what the program does or the language that it answers in.
pub fn command(program: &std::path::Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    if let Some(account) = account {
        // Setting the user id as root also drops root's supplementary groups (std does).
        command.gid(account.gid).uid(account.uid);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_drops_to_another_user() {
        let account = of_the_server().unwrap();
        assert_eq!(account.is_some(), Uid::effective().is_root());
        assert!(account.is_none_or(|account| account.uid != 0));
    }
}
