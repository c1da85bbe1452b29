//! Bytes of a log made into lines: time, level, text. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::run::Level;
use crate::run::details::LogLine;

/// Lines that are kept.
const KEPT: usize = 1_000;
/// Letters of a line that are kept.
const LETTERS: usize = 2_000;
/// A line that has not ended after so many bytes is cut there.
const ENDLESS: usize = 64 * 1024;

/// The last lines of a log that grows.
#[derive(Debug)]
pub(super) struct Lines {
    /// The newest last.
    pub(super) kept: VecDeque<LogLine>,
    /// A line whose end has not come yet.
    open: Vec<u8>,
    next: u64,
    /// Of the last line with a time: what follows without one belongs to it.
    level: Level,
}

impl Default for Lines {
    fn default() -> Self {
        Self { kept: VecDeque::new(), open: Vec::new(), next: 0, level: Level::Info }
    }
}

impl Lines {
    /// Takes in what was appended. Returns whether there are new lines.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let before = self.next;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.open.extend_from_slice(&rest[..end]);
            self.end();
            rest = &rest[end + 1..];
        }
        self.open.extend_from_slice(rest);
        if self.open.len() > ENDLESS {
            self.end();
        }
        self.next != before
    }

    /// Forgets a line whose end has not come: what follows does not belong to it.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
    }

    /// Forgets everything but the number of the next line.
    pub(super) fn forget(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.open);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        let (at, text) = match parts(line) {
            Some((at, level, text)) => {
                self.level = level;
                (Some(at), text)
            }
            None => (None, line),
        };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(LogLine {
            no: self.next,
            at,
            level: self.level,
            text: text.chars().take(LETTERS).collect(),
        });
        self.next += 1;
    }
}

/// `2026-11-26T03:52:46.123456Z  INFO target: text`, in its parts.
fn parts(line: &str) -> Option<(DateTime<Utc>, Level, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let at = DateTime::parse_from_rfc3339(time).ok()?.with_timezone(&Utc);
    let rest = rest.trim_start();
    let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let level = match word {
        "ERROR" => Level::Critical,
        "WARN" => Level::Warning,
        "INFO" | "DEBUG" | "TRACE" => Level::Info,
        _ => return None,
    };
    Some((at, level, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(lines: &Lines) -> Vec<(u64, bool, Level, &str)> {
        lines.kept.iter().map(|line| (line.no, line.at.is_some(), line.level, line.text.as_str())).collect()
    }

    #[test]
    fn lines_have_a_time_a_level_and_a_text_and_what_has_no_time_goes_on_from_the_line_before() {
        let mut lines = Lines::default();
        lines.push(
            b"2026-11-26T03:52:46.123456Z  INFO howdah::run: began\n2026-11-26T03:52:47Z ERROR howdah: it broke:\n  in two lines\r\n\
              2026-11-26T03:52:48.5Z  WARN x: y\n2026-11-26T03:52:48.5Z DEBUG x: z\nno time at all\n",
        );
        let expected = [
            (0, true, Level::Info, "howdah::run: began"),
            (1, true, Level::Critical, "howdah: it broke:"),
            (2, false, Level::Critical, "  in two lines"),
            (3, true, Level::Warning, "x: y"),
            (4, true, Level::Info, "x: z"),
            (5, false, Level::Info, "no time at all"),
        ];
        assert_eq!(seen(&lines), expected);
        assert_eq!(lines.kept[0].at.unwrap().to_rfc3339(), "2026-11-26T03:52:46.123456+00:00");
    }

    #[test]
    fn a_line_is_shown_once_its_end_has_come_and_only_the_last_are_kept() {
        let mut lines = Lines::default();
        assert!(!lines.push(b"half a"));
        assert!(lines.push(b" line\nand"));
        assert_eq!(seen(&lines), [(0, false, Level::Info, "half a line")]);
        lines.push(&b"x\n".repeat(KEPT + 10));
        assert_eq!((lines.kept.len(), lines.kept[0].no), (KEPT, 11));
        lines.push(&b"y".repeat(ENDLESS + 1));
        assert_eq!(lines.kept.back().unwrap().text.len(), LETTERS);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), cut in 0_usize..200
        ) {
            let (mut whole, mut halves) = (Lines::default(), Lines::default());
            whole.push(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            halves.push(first);
            halves.push(second);
            prop_assert_eq!(seen(&whole), seen(&halves));
        }
    }
}
