//! The keyboard, and the mouse where the terminal reports it, as a stream of presses.
//!
//! A thread of our own reads, and not crossterm's `EventStream`: when the terminal hangs up, that one reads the end of
//! the file over and over (crossterm 0.29, `event/source/unix/mio.rs`), in its thread or in the task that polls it. A run
//! that goes on without its terminal would lose a core to it, or the console would never be left.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use super::key_parser::KeyParser;
pub(crate) use super::key_parser::Press;

/// How long after an escape the rest of a sequence may come, on a slow line.
const ESCAPE_WAIT: Duration = Duration::from_millis(50);
/// Chunks of bytes that may wait. The thread waits when there are more.
const CHUNKS: usize = 16;

/// What is pressed.
#[derive(Debug)]
pub(crate) struct Input {
    chunks: mpsc::Receiver<Vec<u8>>,
    /// Ends the thread by being dropped.
    _open: Option<PipeWriter>,
    parser: KeyParser,
    ready: VecDeque<Press>,
}

impl Input {
    /// Begins to read from the terminal: from the standard input where that is one, else from the controlling terminal.
    ///
    /// The thread ends when the terminal does, and when the `Input` is dropped: whatever is typed then is for whoever reads
    /// the terminal next.
    pub(crate) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let terminal =
            if stdin.is_terminal() { File::from(stdin.as_fd().try_clone_to_owned()?) } else { File::open("/dev/tty")? };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let (closed, open) = io::pipe()?;
        thread::Builder::new().name("howdah-keys".to_owned()).spawn(move || read(terminal, &closed, &sender))?;
        Ok(Self::over(chunks, Some(open)))
    }

    fn over(chunks: mpsc::Receiver<Vec<u8>>, open: Option<PipeWriter>) -> Self {
        Self { chunks, _open: open, parser: KeyParser::default(), ready: VecDeque::new() }
    }

    /// The next key, or `None` when the terminal is gone. May be dropped and called again without losing a key.
    pub(crate) async fn next(&mut self) -> Option<Press> {
        loop {
            if let Some(press) = self.ready.pop_front() {
                return Some(press);
            }
            let chunk = if self.parser.is_waiting() {
                tokio::time::timeout(ESCAPE_WAIT, self.chunks.recv()).await
            } else {
                Ok(self.chunks.recv().await)
            };
            match chunk {
                Ok(Some(bytes)) => self.ready.extend(self.parser.feed(&bytes)),
                Ok(None) => return None,
                Err(_elapsed) => self.ready.extend(self.parser.flush()),
            }
        }
    }
}

fn read(mut terminal: File, closed: &PipeReader, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 1024];
    loop {
        if is_closed(&terminal, closed) {
            return;
        }
        match terminal.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another program that shares this terminal may have switched it to non-blocking reads.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ESCAPE_WAIT),
            Err(_) => return,
        }
    }
}

/// Waits until there is something to read, or the input is closed. Where that cannot be waited for, reading has to show.
fn is_closed(terminal: &File, closed: &PipeReader) -> bool {
    let mut watched =
        [PollFd::new(terminal.as_fd(), PollFlags::POLLIN), PollFd::new(closed.as_fd(), PollFlags::POLLIN)];
    // An interrupted wait is like one that has ended.
    let _interrupted = poll(&mut watched, PollTimeout::NONE);
    watched[1].revents().is_some_and(|events| !events.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    #[tokio::test]
    async fn keys_come_one_by_one_and_the_end_is_a_hang_up() {
        let (sender, chunks) = mpsc::channel(4);
        let mut input = Input::over(chunks, None);
        sender.send(b"a\x1b[".to_vec()).await.unwrap();
        sender.send(b"A\x1b".to_vec()).await.unwrap();
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(input.next().await.unwrap());
        }
        let keys = [KeyCode::Char('a'), KeyCode::Up, KeyCode::Esc];
        assert_eq!(codes, keys.map(|code| Press::Key(KeyEvent::new(code, KeyModifiers::NONE))));
        drop(sender);
        assert_eq!(input.next().await, None);
    }

    #[test]
    fn a_file_that_ends_ends_the_keys() {
        let (sender, mut chunks) = mpsc::channel(4);
        let (closed, _open) = io::pipe().unwrap();
        read(File::open("/dev/null").unwrap(), &closed, &sender);
        drop(sender);
        assert_eq!(chunks.blocking_recv(), None);
    }

    #[test]
    fn an_input_that_is_closed_takes_nothing_that_is_typed_later() {
        let (sender, mut chunks) = mpsc::channel(4);
        let (typed, mut keyboard) = io::pipe().unwrap();
        let (closed, open) = io::pipe().unwrap();
        let typed = File::from(std::os::fd::OwnedFd::from(typed));
        let mut other = typed.try_clone().unwrap();
        let reader = thread::spawn(move || read(typed, &closed, &sender));
        drop(open);
        reader.join().unwrap();
        std::io::Write::write_all(&mut keyboard, b"q").unwrap();
        assert_eq!(chunks.blocking_recv(), None);
        let mut read = [0; 1];
        other.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"q");
    }
}
