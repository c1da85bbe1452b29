//! The process that outlives howdah by a moment, so that nothing else does.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::process::ended_within;

const SCRIPT: &str = include_str!("guard.sh");

/// The script ends a server in at most 8 s, and then removes a directory.
const LIMIT: Duration = Duration::from_secs(10);

/// A shell that watches one sandbox: when this value is dropped, or when this process dies in whatever way, it stops
/// the server and removes the directory.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    shell: Child,
    /// Closed by the kernel when we die: Rust opens pipes close-on-exec, so no other process holds this end.
    line: Option<ChildStdin>,
}

impl Guard {
    /// Starts to watch `directory`.
    ///
    /// # Errors
    /// There is no `/bin/sh`, or no process to be had.
    pub fn watch(directory: &Path) -> io::Result<Self> {
        let mut shell = spawn(directory)?;
        let line = shell.stdin.take();
        Ok(Self { directory: directory.to_owned(), shell, line })
    }

    /// Tells which process runs in the sandbox now.
    ///
    /// # Errors
    /// The guard has died.
    pub fn tell(&mut self, pid: u32) -> io::Result<()> {
        self.say(&pid.to_string())
    }

    /// Dismisses the guard: server and directory stay.
    ///
    /// # Errors
    /// The guard has died.
    pub fn keep(mut self) -> io::Result<()> {
        self.say("keep")?;
        self.line = None;
        ended_within(&mut self.shell, LIMIT);
        Ok(())
    }

    fn say(&mut self, word: &str) -> io::Result<()> {
        // One write a line, so that the shell never reads half a pid.
        self.line.as_mut().map_or(Ok(()), |line| line.write_all(format!("{word}\n").as_bytes()))
    }
}

impl Drop for Guard {
    /// Stops the server and removes the directory, and blocks until that is done, at most 10 s.
    fn drop(&mut self) {
        if self.line.is_none() {
            return;
        }
        // A failed write means that the guard is dead; then the directory is still there below.
        drop(self.say("stop"));
        self.line = None;
        let ended = ended_within(&mut self.shell, LIMIT);
        if ended && self.directory.exists() {
            clear(&self.directory, None);
        }
    }
}

/// Does what a guard does, at once: stops the server in `directory` and removes it. Whether nothing is left.
///
/// `pid` is the server's, where the pid file may be missing. Blocks for at most some 10 s.
pub fn clear(directory: &Path, pid: Option<i32>) -> bool {
    let Ok(mut shell) = spawn(directory) else { return false };
    if let Some(mut line) = shell.stdin.take() {
        let words = pid.map_or_else(|| "stop\n".to_owned(), |pid| format!("{pid}\nstop\n"));
        drop(line.write_all(words.as_bytes()));
    }
    ended_within(&mut shell, LIMIT) && !directory.exists()
}

/// Its own process group, so that the terminal's Ctrl-C and Ctrl-Z pass it by.
fn spawn(directory: &Path) -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "howdah-guard"])
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::super::process::{Life, life};
    use super::*;

    /// A directory like a sandbox's, and a process that looks like its server.
    fn sandbox(parent: &Path) -> (PathBuf, Child) {
        let directory = parent.join("howdah-sandbox-test");
        let data = directory.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let script = "while :; do sleep 0.1; done";
        let server = Command::new("sh").args(["-c", script, "postgres", "-D"]).arg(&data).spawn().unwrap();
        std::fs::write(data.join("postmaster.pid"), format!("{}\n{}\n", server.id(), data.display())).unwrap();
        (directory, server)
    }

    fn pid_of(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn the_end_of_the_owner_ends_the_server_and_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, mut server) = sandbox(parent.path());
        let mut guard = Guard::watch(&directory).unwrap();
        // What the kernel does to the pipe of an owner that is killed.
        guard.line = None;
        assert!(ended_within(&mut guard.shell, LIMIT));
        assert!(ended_within(&mut server, LIMIT));
        assert!(!directory.exists());
    }

    #[test]
    fn a_drop_returns_when_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, mut server) = sandbox(parent.path());
        std::fs::remove_file(directory.join("data/postmaster.pid")).unwrap();
        let mut guard = Guard::watch(&directory).unwrap();
        guard.tell(server.id()).unwrap();
        drop(guard);
        assert!(!directory.exists());
        assert!(server.try_wait().unwrap().is_some());
        assert_eq!(life(pid_of(&server)), Life::Gone);
    }

    #[test]
    fn a_kept_sandbox_stays() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, mut server) = sandbox(parent.path());
        Guard::watch(&directory).unwrap().keep().unwrap();
        assert!(directory.exists());
        assert!(matches!(life(pid_of(&server)), Life::Alive { .. }));
        assert!(clear(&directory, None));
        server.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_not_the_server_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, mut server) = sandbox(parent.path());
        let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(directory.join("data/postmaster.pid"), format!("{}\n", bystander.id())).unwrap();
        assert!(clear(&directory, Some(pid_of(&bystander))));
        assert!(matches!(life(pid_of(&bystander)), Life::Alive { .. }));
        for child in [&mut bystander, &mut server] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn only_a_sandbox_is_ever_removed() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["precious", "howdah-sandbox", "howdah-sandbox-x/data"] {
            let directory = parent.path().join(name);
            std::fs::create_dir_all(&directory).unwrap();
            assert!(!clear(&directory, None), "{name}");
            assert!(directory.exists(), "{name}");
        }
    }
}
