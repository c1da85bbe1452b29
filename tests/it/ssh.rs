//! A run that is watched over SSH, and loses its line: a real sshd on the loopback, with keys and a port of its own.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::CommandBuilder;

use crate::screen::{PLAN, Screen};
use crate::support::{DEADLINE, Lab};

const MISSING: &str = "OpenSSH's server and client: install `openssh-server` and `openssh-client` (tests/run does it)";

/// An sshd of the test's own. Dropping it stops it.
struct Sshd {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Sshd {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.expect(MISSING).success(), "ssh-keygen");
        }
        std::fs::copy(at("user.pub"), at("authorized")).expect("an authorized key");
        if nix::unistd::geteuid().is_root() {
            // What Debian's own start script makes.
            std::fs::create_dir_all("/run/sshd").expect("sshd's empty directory");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a port").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\n",
            at("host").display(),
            at("authorized").display()
        );
        std::fs::write(at("config"), config).expect("a config");
        let log = std::fs::File::create(at("log")).expect("a log");
        let child = Command::new(sshd())
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        let mut sshd = Self { child, port, directory };
        let end = Instant::now() + DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = sshd.child.try_wait().expect("a status");
            assert!(ended.is_none() && Instant::now() < end, "sshd does not listen ({ended:?}):\n{}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A client with a terminal, that runs `command` there.
    fn client(&self, command: &str) -> CommandBuilder {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("a user").expect("a user").name;
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let mut ssh = CommandBuilder::new("ssh");
        ssh.env("TERM", "xterm-256color");
        ssh.args(["-tt", "-F", "none", "-p", &self.port.to_string(), "-i", &at("user")]);
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            "ControlPath=none",
            &format!("UserKnownHostsFile={}", at("known")),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args([&format!("{user}@127.0.0.1"), "--", command]);
        ssh
    }
}

impl Drop for Sshd {
    #[expect(clippy::print_stderr, reason = "what it said is shown where a test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sshd said:\n{}", self.log());
        }
        // Nearly always it is there, and is told to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// sshd wants to be started by its whole path.
fn sshd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join("sshd")).find(|sshd| is_program(sshd)).expect(MISSING)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// howdah in the words of a shell, with nothing of sshd's environment that matters.
fn howdah(lab: &Lab, arguments: &str) -> String {
    let home = lab.files.path().display();
    format!("env HOME='{home}' LANG=C.UTF-8 DATABASE_URL='{}' '{}' {arguments}", lab.url, env!("CARGO_BIN_EXE_howdah"))
}

/// The time at work of a process so far, by Linux's count of hundredths of a second.
#[cfg(target_os = "linux")]
fn worked(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

async fn items(lab: &Lab, rows: u32) -> String {
    lab.items(rows).await;
    // A row takes a millisecond, so that howdah itself has next to nothing to do.
    lab.plan("watched.toml", &PLAN.replace("0.00002", "0.001")).display().to_string()
}

async fn driver(lab: &Lab) -> i32 {
    lab.until("SELECT driver_pid > 0 FROM howdah.run").await;
    i32::try_from(lab.number("SELECT driver_pid::bigint FROM howdah.run").await).expect("a pid")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_client_was_killed_goes_on_without_it_to_its_end() {
    let (lab, sshd) = (Lab::open().await, Sshd::start());
    let plan = items(&lab, 9_000).await;
    let mut screen = Screen::spawn(sshd.client(&howdah(&lab, &format!("run '{plan}'"))));
    screen.until_shown("● RUNNING");
    lab.until_walked(200).await;
    let pid = driver(&lab).await;
    let client = screen.child.process_id().and_then(|pid| i32::try_from(pid).ok()).expect("a client");
    kill(Pid::from_raw(client), Signal::SIGKILL).expect("a client to kill");
    let _ended = screen.child.wait().expect("a status");
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert!(walked < 3_000, "it is done before anything could be seen: {walked}");
    lab.until_walked(walked + 500).await;
    #[cfg(target_os = "linux")]
    {
        let before = worked(pid);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let share = worked(pid).checked_sub(before).expect("time passes");
        assert!(share < Duration::from_millis(300), "it worked {share:?} in a second");
    }
    kill(Pid::from_raw(pid), None).expect("the same process drives it");
    // Who comes back finds it as it was left, and all that is looked up beside it.
    let mut again = Screen::spawn(sshd.client(&howdah(&lab, "attach")));
    again.until_shown("● RUNNING");
    again.press("3");
    again.until("the run's own sessions", |text| text.contains("◆") && text.contains("howdah/"));
    again.press("6");
    again.until("the log of the driver, which is on this host", |text| text.contains("the terminal is gone"));
    let client = again.child.process_id().and_then(|pid| i32::try_from(pid).ok()).expect("a client");
    kill(Pid::from_raw(client), Signal::SIGKILL).expect("a client to kill");
    lab.until("SELECT state = 'done' FROM howdah.run").await;
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
    assert_eq!(lab.number("SELECT driver_pid::bigint FROM howdah.run").await, i64::from(pid));
    let end = Instant::now() + DEADLINE;
    while kill(Pid::from_raw(pid), None).is_ok() {
        assert!(Instant::now() < end, "the process does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_over_ssh_pauses_and_continues_and_leaves_with_the_runs_code() {
    let (lab, sshd) = (Lab::open().await, Sshd::start());
    let plan = items(&lab, 1_500).await;
    let mut screen = Screen::spawn(sshd.client(&howdah(&lab, &format!("run '{plan}'"))));
    screen.until_shown("● RUNNING");
    screen.press(" ");
    screen.until_shown("‖ PAUSED");
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "paused");
    screen.press(" ");
    screen.until_shown("DONE: every step is done and checked");
    screen.press("q");
    assert_eq!(screen.child.wait().expect("a status").exit_code(), 0);
}
