//! howdah in a pseudo-terminal.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

use crate::support::{DEADLINE, Lab};

/// howdah in a pseudo-terminal, and what that terminal shows.
pub struct Screen {
    pub seen: Arc<Mutex<Seen>>,
    pub writer: Option<Box<dyn Write + Send>>,
    pub child: Box<dyn Child + Send + Sync>,
    pub master: Option<Box<dyn MasterPty + Send>>,
}

/// What a test leaves behind would drive its run for ever: without a terminal it goes on, and waits for a server that is gone.
impl Drop for Screen {
    fn drop(&mut self) {
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), self.child.process_id()) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            drop(self.child.wait());
        }
    }
}

pub struct Seen {
    pub parser: vt100::Parser,
    pub bytes: Vec<u8>,
    pub times: Vec<(Instant, usize)>,
    /// Whether the terminal's last reader has seen its end.
    pub closed: bool,
}

impl Screen {
    pub fn open(lab: &Lab, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_howdah"));
        command.env_clear();
        for (name, value) in [
            ("HOME", lab.files.path().to_str().expect("a path")),
            ("LANG", "C.UTF-8"),
            ("TERM", "xterm-256color"),
            ("DATABASE_URL", &lab.url),
        ] {
            command.env(name, value);
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        command.args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(command: CommandBuilder) -> Self {
        let size = PtySize { rows: 40, cols: 140, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let child = pair.slave.spawn_command(command).expect("howdah starts");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let writer = pair.master.take_writer().expect("a writer");
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(40, 140, 0),
            bytes: Vec::new(),
            times: Vec::new(),
            closed: false,
        }));
        let sink = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut chunk = vec![0_u8; 65536];
            while let Ok(n) = reader.read(&mut chunk) {
                if n == 0 {
                    break;
                }
                let mut seen = sink.lock().expect("seen");
                seen.parser.process(&chunk[..n]);
                seen.bytes.extend_from_slice(&chunk[..n]);
                seen.times.push((Instant::now(), n));
            }
            sink.lock().expect("seen").closed = true;
        });
        Self { seen, writer: Some(writer), child, master: Some(pair.master) }
    }

    pub fn press(&mut self, keys: &str) {
        let writer = self.writer.as_mut().expect("the terminal is open");
        writer.write_all(keys.as_bytes()).and_then(|()| writer.flush()).expect("a key");
    }

    /// Gives the terminal another size, as a window that is dragged does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.seen.lock().expect("seen").parser.screen_mut().set_size(rows, columns);
        self.master.as_ref().expect("the terminal is open").resize(size).expect("a size");
    }

    pub fn text(&self) -> String {
        self.seen.lock().expect("seen").parser.screen().contents()
    }

    #[track_caller]
    pub fn until(&self, what: &str, fulfilled: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let text = self.text();
            if fulfilled(&text) {
                return text;
            }
            assert!(Instant::now() < end, "never seen: {what}\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub fn until_shown(&self, words: &str) -> String {
        self.until(words, |text| text.contains(words))
    }

    /// A run works and a batch of it has committed. Its size is not asked: where a segment ends, a batch is short.
    #[track_caller]
    pub fn until_running(&self) -> String {
        self.until("rows walked", |text| {
            text.contains("RUNNING") && text.lines().any(|line| line.contains(" batch ") && line.contains(" in "))
        })
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                // What it said last may still be on its way.
                let drained = Instant::now() + Duration::from_secs(2);
                while Instant::now() < drained && !self.seen.lock().expect("seen").closed {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return status;
            }
            assert!(Instant::now() < end, "howdah does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The terminal is as it was before: the normal screen, a cursor, no colours, cooked mode.
    #[track_caller]
    pub fn expect_restored(&self) {
        self.expect_normal_screen();
        let seen = self.seen.lock().expect("seen");
        let screen = seen.parser.screen();
        assert!(!screen.bracketed_paste() && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None);
        drop(seen);
        let termios = self.master.as_ref().and_then(|master| master.get_termios()).expect("the terminal's modes");
        let modes = format!("{:?}", termios.local_flags);
        assert!(["ICANON", "ECHO", "ISIG"].iter().all(|mode| modes.contains(mode)), "{modes}");
    }

    /// The normal screen and a cursor: what a shell finds, before it sets its own modes.
    #[track_caller]
    pub fn expect_normal_screen(&self) {
        let seen = self.seen.lock().expect("seen");
        let screen = seen.parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "the terminal was not restored");
        let (entered, left) = (count(&seen.bytes, b"\x1b[?2026h"), count(&seen.bytes, b"\x1b[?2026l"));
        assert!(left >= entered, "a synchronized update was left open: {entered} {left}");
    }
}

pub fn count(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}

/// Each row takes a moment, so that there is something to watch.
pub const PLAN: &str = r#"
name = "watched"
[limits]
batch = { start = 50, min = 50, max = 50 }
[[step]]
name = "count up"
backfill = "items"
set = { n = "n + 1 + length(pg_sleep(0.00002)::text)" }
where = "n = 0"
[[step]]
name = "nothing left"
verify = "SELECT count(*) FROM items WHERE n <> 1"
expect = 0
"#;

pub async fn items(lab: &Lab, rows: u32) -> String {
    lab.items(rows).await;
    lab.plan("watched.toml", PLAN).to_str().expect("a path").to_owned()
}

pub fn signal(screen: &Screen, signal: nix::sys::signal::Signal) {
    let pid = i32::try_from(screen.child.process_id().expect("a pid")).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("a signal");
}
