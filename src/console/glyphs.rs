//! The signs that are not letters, once in Unicode and once in ASCII. Each takes one cell.

use ratatui::symbols::border;

use crate::run::work::Cell;
use crate::run::{Effect, JobState, Level, RunState, StepState};

/// One set of signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    /// Whether there are no signs for charts and the like but those of ASCII.
    pub ascii: bool,
    /// The signs beside ASCII that the terminal has. `None`: all.
    font: Option<&'static str>,
    /// The frame of a pane.
    pub border: border::Set<'static>,
    /// A full cell of a bar.
    pub full: &'static str,
    /// An empty cell of a bar.
    pub empty: &'static str,
    /// A cell of a bar that is one eighth to seven eighths full; empty where there are no such signs.
    pub eighths: &'static [&'static str],
    /// The heights of a sparkline, lowest first.
    pub levels: &'static [&'static str],
    /// What stands where nothing is known.
    pub none: &'static str,
    /// From one value to the next.
    pub arrow: &'static str,
    /// Before what is this run's own: its tables, its sessions.
    pub ours: &'static str,
    /// Before who waits for the one above.
    pub below: &'static str,
    /// Beside the heading of a column that is sorted from the smallest, and from the largest.
    pub sorted: [&'static str; 2],
    /// The foot of a chart.
    pub axis: &'static str,
    /// A cell of the key space's map where nothing is done, and where a batch is tried again.
    map_waiting: &'static str,
    map_retrying: &'static str,
    starting: &'static str,
    running: &'static str,
    /// Of a run that could go on, and waits.
    pub holding: &'static str,
    pausing: &'static str,
    paused: &'static str,
    resuming: &'static str,
    stopping: &'static str,
    stopped: &'static str,
    failed: &'static str,
    done: &'static str,
    waiting: &'static str,
    current: &'static str,
    info: &'static str,
    warning: &'static str,
    critical: &'static str,
}

/// For terminals that take UTF-8.
pub(crate) const UNICODE: Glyphs = Glyphs {
    ascii: false,
    font: None,
    border: border::ROUNDED,
    full: "█",
    empty: "░",
    eighths: &["▏", "▎", "▍", "▌", "▋", "▊", "▉"],
    levels: &["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    none: "—",
    arrow: "→",
    ours: "◆",
    below: "└",
    sorted: ["▴", "▾"],
    axis: "─",
    map_waiting: "·",
    map_retrying: "~",
    starting: "◌",
    running: "●",
    holding: "◔",
    pausing: "◐",
    paused: "‖",
    resuming: "◑",
    stopping: "◒",
    stopped: "■",
    failed: "✗",
    done: "✓",
    waiting: "·",
    current: "▶",
    info: "•",
    warning: "▲",
    critical: "✖",
};

/// For every other terminal.
pub(crate) const ASCII: Glyphs = Glyphs {
    ascii: true,
    font: Some(""),
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
    full: "#",
    empty: ".",
    eighths: &[],
    levels: &["_", ".", ":", "-", "=", "+", "*", "#"],
    none: "-",
    arrow: ">",
    ours: "*",
    below: "`",
    sorted: ["^", "v"],
    axis: "-",
    map_waiting: ".",
    map_retrying: "~",
    starting: "o",
    running: "*",
    holding: ":",
    pausing: "~",
    paused: "=",
    resuming: "~",
    stopping: "~",
    stopped: "#",
    failed: "x",
    done: "v",
    waiting: ".",
    current: ">",
    info: "i",
    warning: "!",
    critical: "X",
};

/// For the console of Linux, whose fonts hold 256 or 512 signs: those that both the kernel's own (code page 437) and Debian's
/// (Lat15) have. There are no rounded corners, no eighths and no braille among them.
pub(crate) const CONSOLE: Glyphs = Glyphs {
    font: Some("─│┌┐└┘├┤┬┴┼█▄░▒▓■·→←↑↓°±"),
    border: border::PLAIN,
    full: "█",
    empty: "░",
    levels: &["_", "_", "▄", "▄", "▄", "█", "█", "█"],
    arrow: "→",
    stopped: "■",
    waiting: "·",
    ..ASCII
};

impl Glyphs {
    /// Whether the terminal can show `symbol`.
    #[must_use]
    pub fn shows(&self, symbol: &str) -> bool {
        self.font.is_none_or(|font| symbol.is_ascii() || font.contains(symbol))
    }

    /// The sign of a run's state.
    #[must_use]
    pub fn state(&self, state: &RunState) -> &'static str {
        match state {
            RunState::Starting => self.starting,
            RunState::Running => self.running,
            RunState::Pausing { .. } => self.pausing,
            RunState::Paused { .. } => self.paused,
            RunState::Resuming { .. } => self.resuming,
            RunState::Stopping { .. } => self.stopping,
            RunState::Stopped { .. } => self.stopped,
            RunState::Failed { .. } => self.failed,
            RunState::Done { .. } => self.done,
        }
    }

    /// The sign of a step's state.
    #[must_use]
    pub fn step(&self, state: StepState) -> &'static str {
        match state {
            StepState::Waiting => self.waiting,
            StepState::Running => self.current,
            StepState::Done => self.done,
            StepState::Failed => self.failed,
        }
    }

    /// The sign of what one of the governor's signals does.
    #[must_use]
    pub fn effect(&self, effect: Effect) -> &'static str {
        match effect {
            Effect::Shown | Effect::Free => self.waiting,
            Effect::Holds => self.info,
            Effect::Sheds | Effect::Waits | Effect::Unread => self.warning,
            Effect::Pauses => self.critical,
        }
    }

    /// The sign of a cell of the key space's map, and of a segment.
    #[must_use]
    pub fn cell(&self, cell: Cell) -> &'static str {
        match cell {
            Cell::Waiting => self.map_waiting,
            Cell::Running => self.current,
            Cell::Done => self.full,
            Cell::Retrying => self.map_retrying,
            Cell::Failed => self.failed,
        }
    }

    /// The sign of where a job stands.
    #[must_use]
    pub fn job(&self, state: JobState) -> &'static str {
        match state {
            JobState::Active => self.current,
            JobState::Waiting => self.waiting,
            JobState::Delayed => self.holding,
            JobState::Blocked => self.paused,
            JobState::Failed => self.failed,
            JobState::Completed => self.done,
        }
    }

    /// The sign of a pause.
    #[must_use]
    pub fn pause(&self) -> &'static str {
        self.paused
    }

    /// Before the pane that keys go to.
    #[must_use]
    pub fn focus(&self) -> &'static str {
        self.current
    }

    /// The sign of an event or an alert.
    #[must_use]
    pub fn level(&self, level: Level) -> &'static str {
        match level {
            Level::Info => self.info,
            Level::Warning => self.warning,
            Level::Critical => self.critical,
        }
    }
}

/// What stands for `symbol` on a terminal that takes nothing but ASCII. It takes as many cells as its first one.
pub(crate) fn to_ascii(symbol: &str) -> &'static str {
    match symbol {
        "–" | "—" | "─" => "-",
        "…" => "~",
        "→" | "▶" => ">",
        "µ" => "u",
        "·" | "•" => ".",
        "×" => "x",
        "‘" | "’" => "'",
        "“" | "”" => "\"",
        "│" => "|",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::measure::width;

    fn all(glyphs: &Glyphs) -> Vec<&'static str> {
        let mut all = vec![glyphs.full, glyphs.empty, glyphs.none, glyphs.arrow, glyphs.waiting, glyphs.current];
        all.extend([glyphs.starting, glyphs.running, glyphs.holding, glyphs.pausing, glyphs.paused, glyphs.resuming]);
        all.extend([glyphs.stopping, glyphs.stopped, glyphs.failed, glyphs.done]);
        all.extend([glyphs.ours, glyphs.below, glyphs.sorted[0], glyphs.sorted[1], glyphs.axis]);
        all.extend([glyphs.map_waiting, glyphs.map_retrying]);
        all.extend([glyphs.info, glyphs.warning, glyphs.critical]);
        all.extend([glyphs.border.top_left, glyphs.border.vertical_left, glyphs.border.horizontal_top]);
        all.extend(glyphs.eighths.iter().chain(glyphs.levels));
        all
    }

    #[test]
    fn every_sign_takes_one_cell() {
        for glyph in [UNICODE, ASCII, CONSOLE].iter().flat_map(all) {
            assert_eq!(width(glyph), 1, "{glyph}");
        }
    }

    #[test]
    fn the_ascii_set_is_ascii() {
        assert!(all(&ASCII).iter().all(|glyph| glyph.is_ascii()));
    }

    #[test]
    fn the_map_of_the_key_space_reads_without_colour() {
        let cells = [Cell::Waiting, Cell::Running, Cell::Done, Cell::Retrying, Cell::Failed];
        for glyphs in [UNICODE, ASCII] {
            let signs: std::collections::HashSet<_> = cells.map(|cell| glyphs.cell(cell)).into_iter().collect();
            assert_eq!(signs.len(), cells.len());
        }
    }

    #[test]
    fn where_a_job_stands_can_be_told_without_colour() {
        for glyphs in [UNICODE, ASCII, CONSOLE] {
            let signs: std::collections::HashSet<_> =
                JobState::ALL.into_iter().map(|state| glyphs.job(state)).collect();
            assert_eq!(signs.len(), JobState::ALL.len());
        }
    }

    #[test]
    fn every_sign_of_a_set_can_be_shown_by_the_terminals_that_it_is_for() {
        for glyphs in [UNICODE, ASCII, CONSOLE] {
            assert!(all(&glyphs).into_iter().all(|glyph| glyphs.shows(glyph)));
        }
        assert!(CONSOLE.shows("┌") && !CONSOLE.shows("╭") && !CONSOLE.shows("⣿") && !ASCII.shows("─"));
    }

    #[test]
    fn levels_are_told_apart_without_colour() {
        for glyphs in [UNICODE, ASCII, CONSOLE] {
            assert_ne!(glyphs.info, glyphs.warning);
            assert_ne!(glyphs.warning, glyphs.critical);
            assert_eq!(glyphs.levels.len(), 8);
        }
    }
}
