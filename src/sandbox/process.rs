//! Which processes exist, and what they are. From /proc where there is one, else from `ps`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whether a process exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// No such process, or one that has ended and that its parent has not noticed yet.
    Gone,
    /// It runs.
    Alive {
        /// When it began, in clock ticks since boot, where /proc tells.
        started: Option<u64>,
    },
}

/// Looks a process up. A pid of 0 or below names a group of processes, never one.
pub fn life(pid: i32) -> Life {
    if pid <= 0 {
        return Life::Gone;
    }
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
        && let Some((state, started)) = parse_stat(&stat)
    {
        return if matches!(state, 'Z' | 'X') { Life::Gone } else { Life::Alive { started: Some(started) } };
    }
    match kill(Pid::from_raw(pid), None::<Signal>) {
        Ok(()) | Err(Errno::EPERM) => Life::Alive { started: None },
        Err(_) => Life::Gone,
    }
}

/// The state and the start time of a line of `/proc/PID/stat`: fields 3 and 22 of proc(5).
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The namespace that this process's pids are numbers in: two containers may share /tmp, but no pids.
pub fn pid_namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok().map(|target| target.to_string_lossy().into_owned())
}

/// The processes of the cluster in `data`, whose `cluster_name` is `name`.
///
/// The postmaster is known by its arguments, its children by the title that they give themselves. One that is on its way
/// out has neither any more, and may hold the shared memory for a moment longer: [`life`] tells when it has ended.
pub fn of_cluster(data: &Path, name: &str) -> Vec<i32> {
    let argument = format!("-D {}", data.display());
    let title = format!("postgres: {name}: ");
    let ours = |command: &str| command.contains(&argument) || command.starts_with(&title);
    commands().into_iter().filter(|(_, command)| ours(command)).map(|(pid, _)| pid).collect()
}

/// The pids and command lines of all processes that may be read.
fn commands() -> Vec<(i32, String)> {
    if Path::new("/proc/self/cmdline").exists()
        && let Ok(entries) = fs::read_dir("/proc")
    {
        return entries
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let bytes = fs::read(entry.path().join("cmdline")).ok()?;
                Some((pid, String::from_utf8_lossy(&bytes).replace('\0', " ")))
            })
            .collect();
    }
    let listing = Command::new("ps").args(["-axo", "pid=,command="]).output();
    let line = |line: &str| {
        let (pid, command) = line.trim_start().split_once(' ')?;
        Some((pid.parse().ok()?, command.trim_start().to_owned()))
    };
    listing.map(|output| String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect()).unwrap_or_default()
}

/// Waits for a child, without blocking the thread. `None`: it still runs after `limit`.
///
/// # Errors
/// The system cannot tell.
pub async fn exit_of(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a child and blocks the thread: for drops. Whether it ended within `limit`.
pub fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let tail = "R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242 20 21";
        for name in ["sh", "a b", "(odd) name", ") R 1"] {
            assert_eq!(parse_stat(&format!("77 ({name}) {tail}")), Some(('R', 424_242)), "{name}");
        }
        for bad in ["", "77 (sh", "77 (sh) R 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_is_alive_and_a_reaped_child_is_gone() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(life(own), Life::Alive { .. }));
        assert_eq!(life(own), life(own));
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(ended_within(&mut child, Duration::from_secs(10)));
        assert_eq!(life(pid), Life::Gone);
        assert_eq!(life(0), Life::Gone);
        assert_eq!(life(-1), Life::Gone);
    }
}
