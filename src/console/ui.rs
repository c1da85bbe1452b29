//! What the operator has opened and chosen.

use super::keymap::Keymap;

/// What the operator has opened and chosen; with a snapshot, all that the view depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ui {
    /// The box that lies over the view.
    pub overlay: Overlay,
    /// Which key does what: for the hints and the help.
    pub keymap: Keymap,
    /// Lines below the outcome.
    pub farewell: Vec<String>,
    /// A passing remark in the last row.
    pub notice: Option<&'static str>,
}

impl Ui {
    /// Nothing opened.
    #[must_use]
    pub fn new(keymap: Keymap, farewell: Vec<String>) -> Self {
        Self { overlay: Overlay::None, keymap, farewell, notice: None }
    }
}

/// The box that lies over the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// None. When the run is over, its outcome.
    None,
    /// The keys.
    Help {
        /// Lines scrolled away.
        scroll: usize,
    },
    /// How to leave.
    Quit {
        /// The marked choice.
        selected: Choice,
    },
}

/// How to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The run goes on without a console.
    KeepRunning,
    /// The run stops at the batch's edge, resumable.
    PauseAndQuit,
    /// Go on watching.
    Stay,
}

impl Choice {
    /// All of them, as they are listed.
    pub const ALL: [Self; 3] = [Self::KeepRunning, Self::PauseAndQuit, Self::Stay];

    /// The choice so many lines further on; the list has ends.
    pub(super) fn step(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|choice| *choice == self).unwrap_or(0);
        let at = at.saturating_add_signed(by).min(Self::ALL.len() - 1);
        Self::ALL[at]
    }
}
