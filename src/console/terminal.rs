//! The terminal itself. Nothing else in this program writes to it while a console is open.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode, window_size};
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Rect, Size};
use ratatui::{Frame, Terminal};
use tokio::sync::Notify;

use super::paint::Painter;

/// Whether a console is open: what a panic must restore.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Told when a panic has restored the terminal under an open console.
static GIVEN_BACK: Notify = Notify::const_new();

/// The alternate screen, without a cursor; pastes in brackets, so that nobody's clipboard steers a run; and no reports of the
/// mouse, which a program before may have left switched on.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l";
/// Reports of the mouse's buttons and wheel, with coordinates as numbers (SGR).
const MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1006h";
/// Shows what a synchronized update holds back, and undoes [`MOUSE`] and [`ENTER`].
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[?1006l\x1b[?1000l\x1b[?2004l\x1b[m\x1b[?25h\x1b[?1049l";

/// The size that is taken for one that is not known, as on a pseudo-terminal of 0 x 0 cells.
const FALLBACK: Size = Size { width: 80, height: 24 };

/// An open console. Dropping it restores the terminal.
///
/// A write to a slow line blocks the thread that draws: draw on the thread of the runtime's `block_on`, which is not one
/// of its workers.
#[derive(Debug)]
pub(crate) struct Tty {
    terminal: Terminal<Screen>,
    mouse: bool,
}

impl Tty {
    /// Takes over the terminal on the standard output, and its mouse where that is wanted.
    pub(crate) fn open(mouse: bool) -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("the standard output is not a terminal"));
        }
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut tty = Self { terminal: Terminal::new(Screen { file, painter: Painter::default() })?, mouse };
        tty.enter()?;
        Ok(tty)
    }

    /// Draws a frame. A frame that is like the one before writes nothing; any other is one write.
    pub(crate) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if !OPEN.load(Ordering::SeqCst) {
            // A task of the run has panicked, and the hook gave the terminal back for the message. The message stays on
            // the normal screen; the console goes on.
            self.enter()?;
        }
        render(&mut self.terminal.get_frame());
        self.terminal.flush()?;
        self.terminal.swap_buffers();
        self.terminal.backend_mut().flush()
    }

    /// Rings the bell, which a terminal makes a sound or a sign of, as its user wants. A terminal that was given back is left
    /// alone; that one takes nothing more is noticed with the next frame.
    pub(crate) fn bell(&mut self) {
        if OPEN.load(Ordering::SeqCst) {
            let _ = self.terminal.backend_mut().file.write_all(b"\x07");
        }
    }

    /// Forgets what is on the screen, whose size may have changed. The next frame draws all of it.
    pub(crate) fn repaint(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back, until [`Self::enter`].
    pub(crate) fn leave() {
        restore();
    }

    /// Takes the terminal over (again).
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        OPEN.store(true, Ordering::SeqCst);
        let file = &mut self.terminal.backend_mut().file;
        file.write_all(ENTER)?;
        if self.mouse {
            file.write_all(MOUSE)?;
        }
        self.repaint()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        restore();
    }
}

/// Returns when a panic of another task has taken the terminal from an open console: the next frame takes it over again.
pub(crate) async fn given_back() {
    GIVEN_BACK.notified().await;
}

/// Gives the terminal back if a console has it, and returns whether one had. Errors mean that there is nothing left to
/// restore.
fn restore() -> bool {
    let was_open = OPEN.swap(false, Ordering::SeqCst);
    if was_open {
        let mut stdout = io::stdout();
        let _ = stdout.write_all(LEAVE).and_then(|()| stdout.flush());
        let _ = disable_raw_mode();
    }
    was_open
}

/// Makes a panic restore the terminal before its message is printed. Without an open console it changes nothing.
///
/// Install it after other panic hooks: the one that is installed now is called next.
pub fn install_panic_restore() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let was_open = restore();
            next(panic);
            if was_open {
                GIVEN_BACK.notify_one();
            }
        }));
    });
}

/// The terminal as ratatui sees it: collects a frame, and writes it in one piece.
#[derive(Debug)]
struct Screen {
    file: File,
    painter: Painter,
}

impl Backend for Screen {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.painter.cells(content);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.painter.take();
        if bytes.is_empty() { Ok(()) } else { self.file.write_all(&bytes) }
    }

    fn clear(&mut self) -> io::Result<()> {
        self.painter.clear();
        Ok(())
    }

    fn clear_region(&mut self, _region: ClearType) -> io::Result<()> {
        // Only ever asked for the whole screen: the viewport is the whole screen.
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        // Not `crossterm::terminal::size`, which runs the program `tput` where there is no answer.
        let size = window_size().map_or(FALLBACK, |size| Size::new(size.columns, size.rows));
        Ok(if size.width == 0 || size.height == 0 { FALLBACK } else { size })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    // The cursor stays hidden and has no place.

    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _position: P) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    /// A terminal of a file's, in the state of an open console.
    fn on(file: &File) -> Terminal<Screen> {
        Terminal::new(Screen { file: file.try_clone().unwrap(), painter: Painter::default() }).unwrap()
    }

    fn draw(terminal: &mut Terminal<Screen>, text: &str) {
        terminal.get_frame().buffer_mut().set_string(0, 0, text, ratatui::style::Style::new());
        terminal.flush().unwrap();
        terminal.swap_buffers();
        terminal.backend_mut().flush().unwrap();
    }

    #[test]
    fn a_frame_is_written_whole_and_an_equal_one_not_at_all() {
        let mut file = tempfile::tempfile().unwrap();
        let mut terminal = on(&file);
        draw(&mut terminal, "howdah");
        let first = file.metadata().unwrap().len();
        draw(&mut terminal, "howdah");
        assert_eq!(file.metadata().unwrap().len(), first);
        let mut written = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut written).unwrap();
        assert_eq!(written, "\u{1b}[?2026h\u{1b}[1;1Hhowdah\u{1b}[?2026l");
    }

    #[test]
    fn after_a_repaint_the_same_frame_is_written_again() {
        let file = tempfile::tempfile().unwrap();
        let mut terminal = on(&file);
        draw(&mut terminal, "howdah");
        let first = file.metadata().unwrap().len();
        let size = terminal.size().unwrap();
        terminal.resize(Rect::new(0, 0, size.width, size.height)).unwrap();
        draw(&mut terminal, "howdah");
        assert!(file.metadata().unwrap().len() > 2 * first);
    }

    #[test]
    fn without_a_console_nothing_is_restored() {
        assert!(!OPEN.load(Ordering::SeqCst));
        restore();
        assert!(!OPEN.load(Ordering::SeqCst));
    }
}
