//! The terminal console: shows a run's snapshots, turns keys into commands.
//!
//! Absences that hold here: no database, no engine, no clock, no environment (what the environment says comes in as an
//! [`Environment`]). Only [`terminal`] writes to the terminal. [`view::render`] is a pure function of a snapshot, the
//! [`Ui`] and the [`Theme`]; [`app::App::update`] does no I/O and returns what is to be done.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `action`, `ui` | what can happen, what can follow, what is open |
//! | `app` | what a key, a signal or a snapshot changes, and what must follow |
//! | `event_loop`, `pace` | waits for signals, keys and snapshots; carries out effects; when to draw |
//! | `view`, `layout`, `panes/*` | how a snapshot looks |
//! | `listing/*` | the rows of each list: filtered, sorted, with keys that outlive an update |
//! | `canvas`, `measure`, `grid`, `plot` | drawing and measuring text in cells; lists in columns; lines over time |
//! | `command_line`, `line_editor` | what can be typed, and how it is edited |
//! | `keymap`, `key_help`, `theme`, `colour`, `glyphs` | what can be configured, and its defaults |
//! | `contrast` | how well colours are told apart |
//! | `config_error` | an error in a keymap or theme file, with line and caret |
//! | `input`, `key_parser` | bytes of the terminal to keys |
//! | `terminal`, `paint` | cells to bytes, and the terminal's modes |
//! | `signals` | signals of the process, suspension |

pub mod action;
pub mod app;
mod canvas;
mod colour;
mod command_line;
pub mod config_error;
mod contrast;
mod event_loop;
mod glyphs;
mod grid;
mod input;
mod key_help;
mod key_parser;
pub mod keymap;
mod layout;
mod line_editor;
pub(crate) mod listing;
pub(crate) mod measure;
mod pace;
mod paint;
mod panes;
mod plot;
#[cfg(test)]
mod samples;
mod signals;
pub mod terminal;
pub mod theme;
pub mod ui;
pub mod view;

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::run::{Details, Interest, QueueOrder, Request, ShortId, Snapshot};

pub use colour::Environment;
pub use event_loop::run;
pub use keymap::Keymap;
pub use signals::has_shell;
pub use theme::Theme;
pub use ui::{Mode, Ui};

/// The console's only ties to whoever drives the run.
#[derive(Debug)]
pub struct Link {
    /// The newest snapshot wins.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What is looked up beside the snapshot, while it is looked at.
    pub details: watch::Receiver<Arc<Details>>,
    /// Which details are looked at.
    pub interest: watch::Sender<Interest>,
    /// What the operator asks for.
    pub requests: mpsc::Sender<Request>,
    /// What the operator wants of the queue. What comes of it is told among the details.
    pub orders: mpsc::Sender<QueueOrder>,
}

/// How the console looks and feels.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which key does what.
    pub keymap: Keymap,
    /// Colours and glyphs.
    pub theme: Theme,
    /// What this console may do.
    pub mode: Mode,
    /// Who sits at it, and where: `ann@ops2`.
    pub who: String,
    /// Lines shown below the outcome when the run is over, such as what to try next.
    pub farewell: Vec<String>,
    /// The view that is open at first.
    pub view: ui::View,
    /// A remark to begin with. Not cleaned.
    pub notice: Option<String>,
    /// Whether the terminal reports its mouse. It then no longer selects text by itself.
    pub mouse: bool,
    /// What is called with the names of instants at which a test may want a panic: `console.key` with each key,
    /// `console.frame` before each frame but the first.
    pub failpoint: fn(&str),
}

/// Why the console was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The run is over.
    Over,
    /// The operator wants the run to go on without a console.
    KeepRunning,
    /// The operator wanted the run to be stopped, resumable.
    PauseAndQuit,
    /// The terminal is gone.
    HungUp,
    /// The run failed before it began: there was nothing to show.
    EndedEarly,
    /// The operator wants to go on with a run that nobody drives.
    Resume,
    /// The operator wants the run to be taken back, and has confirmed it.
    Undo,
    /// The operator wants the rows that were set aside to be tried again.
    RetryQuarantine,
    /// The operator wants to see another run: one that is a job of the queue.
    Attach(ShortId),
    /// A signal wants an end of a console that only watches.
    Terminated,
}

/// The console cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// There is no terminal, or it refuses.
    #[error("cannot open the console on this terminal: {0}")]
    Terminal(#[source] io::Error),
    /// The keyboard cannot be read.
    #[error("cannot read keys from this terminal: {0}")]
    Keys(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// The console itself failed, with this message. The run goes on.
    #[error("the console panicked: {0}")]
    Panicked(String),
}

impl ConsoleError {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Terminal(_) | Self::Keys(_) | Self::Signals(_) => "run it with --headless to do without a console",
            Self::Panicked(_) => "this is a mistake of howdah's: please report it with the message above",
        }
    }
}
