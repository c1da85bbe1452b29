//! A program in a pseudo-terminal, with the time of everything that it writes.

#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]
#![allow(dead_code, reason = "not every benchmark needs everything")]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};

/// What has been written: when, and what.
#[derive(Default)]
struct Seen {
    chunks: Vec<(Instant, Vec<u8>)>,
}

/// A program in a pseudo-terminal.
pub struct Pty {
    seen: Arc<Mutex<Seen>>,
    writer: Box<dyn Write + Send>,
    /// The program.
    pub child: Box<dyn Child + Send + Sync>,
    /// When it was started.
    pub began: Instant,
}

impl Pty {
    /// Starts `program` with `arguments` in a terminal of `columns` x `rows`, at home in `home`.
    pub fn start(program: &str, arguments: &[&str], (columns, rows): (u16, u16), home: &Path) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        for (name, value) in [
            ("HOME", home.to_str().expect("a path")),
            ("TERM", "xterm-256color"),
            ("COLORTERM", "truecolor"),
            ("LANG", "C.UTF-8"),
        ] {
            command.env(name, value);
        }
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let writer = pair.master.take_writer().expect("a writer");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sink = Arc::clone(&seen);
        let began = Instant::now();
        let child = pair.slave.spawn_command(command).expect("it starts");
        std::thread::spawn(move || {
            // Kept until the program ends: without its master the terminal would hang up.
            let _master = pair.master;
            let mut chunk = vec![0_u8; 65536];
            while let Ok(n) = reader.read(&mut chunk) {
                if n == 0 {
                    return;
                }
                sink.lock().expect("seen").chunks.push((Instant::now(), chunk[..n].to_vec()));
            }
        });
        Self { seen, writer, child, began }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).and_then(|()| self.writer.flush()).expect("a key");
    }

    /// Everything that was written so far, with its time since the start.
    pub fn written(&self) -> Vec<(Duration, Vec<u8>)> {
        let seen = self.seen.lock().expect("seen");
        seen.chunks.iter().map(|(at, bytes)| (*at - self.began, bytes.clone())).collect()
    }

    /// How many bytes have been written.
    pub fn bytes(&self) -> usize {
        self.seen.lock().expect("seen").chunks.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The time of the first byte after the first `bytes` ones. `None`: there is none yet.
    pub fn after(&self, bytes: usize) -> Option<Instant> {
        let seen = self.seen.lock().expect("seen");
        let mut sum = 0;
        seen.chunks.iter().find_map(|(at, chunk)| {
            sum += chunk.len();
            (sum > bytes).then_some(*at)
        })
    }

    /// Waits until `words` have been written, in one piece, and returns when.
    pub fn until(&self, words: &str) -> Instant {
        let end = Instant::now() + Duration::from_mins(2);
        loop {
            let all: Vec<u8> = self.written().into_iter().flat_map(|(_, bytes)| bytes).collect();
            if let Some(at) = all.windows(words.len()).position(|window| window == words.as_bytes()) {
                return self.after(at + words.len() - 1).expect("it was written");
            }
            assert!(Instant::now() < end, "never seen: {words}\n{}", String::from_utf8_lossy(&all));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// CPU time of a process, by Linux's /proc, in ticks of a hundredth of a second.
pub fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// The most resident memory that a process has had.
pub fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).expect("a number").parse::<f64>().expect("a number") / 1024.0
}
