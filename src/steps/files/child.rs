//! A program over a file: one process, fed and read at once, in bounded memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::disk::Hashing;
use super::halt::Halt;
use super::tool::Made;
use crate::postgres::error::io_words;
use crate::run::{Cause, human};
use crate::steps::program::command::is_secret;

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;
/// Chunks that wait to be written.
const WAITING: usize = 4;
/// Bytes of what a program said last on its standard error that are kept.
const LAST_WORDS: usize = 4 << 10;
/// Lines of them that are shown.
const LINES: usize = 3;

/// What a program has done last.
#[derive(Clone)]
struct Beat {
    begun: Instant,
    at: Arc<AtomicU64>,
}

impl Beat {
    fn now() -> Self {
        Self { begun: Instant::now(), at: Arc::default() }
    }

    fn beat(&self) {
        self.at.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.at.load(Ordering::Relaxed)))
    }
}

/// A process and those that it has started. Ended when it is dropped before its end.
struct Leash {
    child: Child,
    has_ended: bool,
}

impl Leash {
    fn status(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.has_ended |= status.is_some();
        Ok(status)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may have ended by itself just now; it is not waited for yet, so that its number is still its own.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        drop(self.child.wait());
    }
}

fn start(argv: &[String]) -> Result<Child, Halt> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Halt::Fatal(Cause::bug("a command without a program")));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // How to get into the database is no business of the program's.
    for (name, _) in std::env::vars_os() {
        if is_secret(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.spawn().map_err(|e| {
        Halt::Fatal(
            Cause::usage(format!("program `{program}` cannot be started: {}", io_words(&e)))
                .hint("`command` names a program on the PATH, or its path, and its arguments; no shell reads them"),
        )
    })
}

/// Gives the file to the program; says what the hash of all of it is.
fn feed(mut file: File, stdin: ChildStdin, beat: &Beat) -> std::io::Result<String> {
    let mut hashing = Hashing::new(std::io::sink());
    let mut chunk = vec![0; CHUNK];
    let mut stdin = Some(stdin);
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(hashing.digest().0);
        }
        hashing.write_all(&chunk[..n])?;
        let mut rest = &chunk[..n];
        while let Some(pipe) = stdin.as_mut().filter(|_| !rest.is_empty()) {
            match pipe.write(rest) {
                Ok(written @ 1..) => {
                    beat.beat();
                    rest = &rest[written..];
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // It does not want to know the rest.
                Ok(0) | Err(_) => stdin = None,
            }
        }
        if stdin.is_none() {
            // Nobody is silent: the rest of a large file is only hashed.
            beat.beat();
        }
    }
}

fn listen(mut stdout: impl Read, chunks: &SyncSender<Vec<u8>>, beat: &Beat) {
    loop {
        let mut chunk = vec![0; CHUNK];
        match stdout.read(&mut chunk) {
            Ok(n @ 1..) => {
                beat.beat();
                chunk.truncate(n);
                if chunks.send(chunk).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// What it said last.
fn last_words(mut stderr: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = vec![0; LAST_WORDS];
    while let Ok(n @ 1..) = stderr.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..n]);
        if kept.len() > LAST_WORDS {
            kept.drain(..kept.len() - LAST_WORDS);
        }
    }
    kept
}

/// What is done on a thread of its own; its answer comes through the channel.
fn aside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<Receiver<T>, Halt> {
    let (answer, answered) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Whoever waited may have given up.
        drop(answer.send(work()));
    });
    thread.map_err(|e| Halt::Fatal(Cause::new(format!("no thread for a program: {}", io_words(&e)))))?;
    Ok(answered)
}

/// Runs `argv` over a file; what it writes goes to `out`. `silence`: how long it may neither read nor write.
///
/// # Errors
/// It cannot be started, fails, is silent for too long; nothing can be written.
pub fn run(argv: &[String], silence: Duration, file: File, out: &mut dyn Write) -> Result<Made, Halt> {
    let mut leash = Leash { child: start(argv)?, has_ended: false };
    let child = &mut leash.child;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Halt::Fatal(Cause::bug("a program was started without its pipes")));
    };
    let beat = Beat::now();
    let (sender, chunks) = sync_channel(WAITING);
    let fed = aside("howdah-feed", {
        let beat = beat.clone();
        move || feed(file, stdin, &beat)
    })?;
    let said = aside("howdah-stderr", move || last_words(stderr))?;
    aside("howdah-stdout", {
        let beat = beat.clone();
        move || listen(stdout, &sender, &beat)
    })?;
    let name = argv.first().map_or("", String::as_str);
    let too_silent = || {
        let silence = human::duration(silence);
        Halt::Wrong(format!("`{name}` was silent for {silence} and was ended: `timeout` says how long it may be"))
    };
    let mut after = Hashing::new(out);
    loop {
        match chunks.recv_timeout(silence.saturating_sub(beat.silence())) {
            Ok(chunk) => {
                after.write_all(&chunk).map_err(|e| Halt::unwritable("it cannot be written anew", &e))?;
                beat.beat();
            }
            Err(RecvTimeoutError::Timeout) if beat.silence() >= silence => return Err(too_silent()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut pause = Duration::from_micros(200);
    let status = loop {
        match leash.status() {
            Ok(Some(status)) => break status,
            Ok(None) if beat.silence() >= silence => return Err(too_silent()),
            Ok(None) => std::thread::sleep(pause),
            Err(e) => return Err(Halt::Wrong(format!("how `{name}` ended cannot be told: {}", io_words(&e)))),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    if !status.success() {
        // Another that it has started may still hold its standard error.
        let said = said.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join(" / ");
        let said = if last.is_empty() { "and said nothing".to_owned() } else { format!("and said: {last}") };
        return Err(Halt::Wrong(format!("`{name}` ended with {status} {said}")));
    }
    let before = loop {
        match fed.recv_timeout(silence.saturating_sub(beat.silence())) {
            Ok(hashed) => break hashed.map_err(|e| Halt::unreadable(&e))?,
            Err(RecvTimeoutError::Timeout) if beat.silence() < silence => {}
            Err(_) => return Err(too_silent()),
        }
    };
    Ok(Made { before, after: after.digest().0 })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    fn made(script: &str, input: &[u8], silence: Duration) -> (Result<Made, Halt>, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(input).expect("written");
        file.seek(SeekFrom::Start(0)).expect("at its beginning");
        let argv = ["sh", "-c", script].map(str::to_owned);
        let mut out = Vec::new();
        (run(&argv, silence, file, &mut out), out)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_large_file_goes_through_whether_the_program_reads_all_of_it_or_not() {
        let large = vec![b'x'; 3 << 20];
        let (whole, out) = made("cat", &large, LONG);
        assert!(whole.is_ok_and(|made| made.before == made.after) && out == large);
        let (head, out) = made("head -c 5", &large, LONG);
        assert!(head.is_ok_and(|made| made.before != made.after) && out == b"xxxxx");
        let (empty, out) = made("cat >/dev/null", &large, LONG);
        assert!(empty.is_ok() && out.is_empty());
    }

    #[test]
    fn a_program_that_fails_or_falls_silent_is_told_of() {
        let wrong = |script: &str, silence| match made(script, b"a", silence).0 {
            Err(Halt::Wrong(told)) => told,
            other => panic!("{script}: {other:?}"),
        };
        let told = wrong("echo one >&2; echo two >&2; exit 3", LONG);
        assert!(told.contains("exit status: 3") && told.contains("one / two"), "{told}");
        assert!(wrong("kill -9 $$", LONG).contains("signal: 9"));
        let begun = Instant::now();
        assert!(wrong("sleep 60 & wait", Duration::from_millis(300)).contains("silent"));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_is_not_there_stops_the_run() {
        let file = tempfile::tempfile().expect("a file");
        let made = run(&["/no/such/program".to_owned()], LONG, file, &mut Vec::new());
        assert!(matches!(made, Err(Halt::Fatal(cause)) if cause.message.contains("/no/such/program")));
    }
}
