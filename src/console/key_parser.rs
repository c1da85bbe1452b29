//! Bytes that a terminal sends, as keys. Pure: whoever reads the bytes decides how long to wait for more.
//!
//! Understood are UTF-8, control characters, and the cursor, editing and function keys of xterm, rxvt and the Linux
//! console with xterm's modifiers, clicks and the wheel of xterm's mouse in SGR reports, and bracketed paste. A sequence that is
//! not understood, a string that a terminal answers with among them, is skipped whole, never typed as letters.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A sequence longer than this is noise.
const LONGEST: usize = 32;
/// Bytes of a paste that are kept.
const LONGEST_PASTE: usize = 4096;
/// A paste or a string whose end has not come after so many waits has none.
const PATIENCE: u8 = 20;

/// What somebody does with keyboard or mouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Press {
    /// A key.
    Key(KeyEvent),
    /// Text that was pasted, as it came. Not cleaned, cut.
    Paste(String),
    /// The mouse's left button, where it went down, from 0.
    Click { x: u16, y: u16 },
    /// The mouse's wheel, by one notch.
    Wheel {
        /// Towards the hand.
        down: bool,
    },
}

/// Keeps what has come of a sequence that is not complete yet.
#[derive(Debug, Default)]
pub(crate) struct KeyParser {
    pending: Vec<u8>,
    within: Within,
    /// Waits that have passed since anything came.
    waits: u8,
    /// Whether the last thing was an escape that nothing followed in time.
    escaped: bool,
}

/// What the bytes belong to.
#[derive(Debug, Default)]
enum Within {
    /// Keys, one by one.
    #[default]
    Keys,
    /// A paste, up to its closing bracket.
    Paste(Vec<u8>),
    /// A string of the terminal's own (OSC, DCS, APC, PM, SOS), up to its end.
    Text,
}

/// What stands at the front of the pending bytes.
enum Front {
    /// A key that took so many bytes.
    Key(KeyEvent, usize),
    /// A report of the mouse that took so many bytes.
    Mouse(Press, usize),
    /// So many bytes that mean nothing here.
    Noise(usize),
    /// The opening of something longer, of so many bytes.
    Opens(Within, usize),
    /// The beginning of something.
    Incomplete,
}

impl KeyParser {
    /// The keys that `bytes` complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Press> {
        if std::mem::take(&mut self.escaped) && matches!(bytes, [b'[' | b'O', _, ..]) {
            // The rest of a sequence that came too late: its escape was taken for the key.
            self.pending.push(ESCAPE);
        }
        self.waits = 0;
        self.pending.extend_from_slice(bytes);
        let mut presses = Vec::new();
        let mut at = 0;
        while at < self.pending.len() {
            if !matches!(self.within, Within::Keys) {
                let (taken, press) = self.inside(at);
                presses.extend(press);
                at += taken;
                if taken == 0 {
                    break;
                }
                continue;
            }
            match front(&self.pending[at..]) {
                Front::Opens(within, taken) => {
                    self.within = within;
                    at += taken;
                }
                Front::Key(key, taken) => {
                    presses.push(Press::Key(key));
                    at += taken;
                }
                Front::Mouse(press, taken) => {
                    presses.push(press);
                    at += taken;
                }
                Front::Noise(taken) => at += taken,
                Front::Incomplete => break,
            }
        }
        self.pending.drain(..at);
        presses
    }

    /// What the bytes from `at` on are inside of a paste or a string: how many are taken, and the paste where that is whole.
    fn inside(&mut self, at: usize) -> (usize, Option<Press>) {
        let bytes = &self.pending[at..];
        // Where it ends, how long the end is, and what else may be the beginning of it.
        let (end, after, marker) = match self.within {
            Within::Keys => return (0, None),
            Within::Paste(_) => (find(bytes, PASTE_ENDS), PASTE_ENDS.len(), PASTE_ENDS),
            Within::Text => {
                let bell = bytes.iter().position(|byte| *byte == 0x07);
                let terminator = find(bytes, STRING_ENDS);
                match (bell, terminator) {
                    (Some(bell), Some(end)) if end < bell => (Some(end), STRING_ENDS.len(), STRING_ENDS),
                    (Some(bell), _) => (Some(bell), 1, STRING_ENDS),
                    (None, end) => (end, STRING_ENDS.len(), STRING_ENDS),
                }
            }
        };
        // What may be the beginning of the end is left for the next bytes.
        let taken = end.unwrap_or_else(|| bytes.len() - begun(bytes, marker));
        if let Within::Paste(text) = &mut self.within {
            let room = LONGEST_PASTE.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..taken.min(room)]);
        }
        if end.is_none() {
            return (taken, None);
        }
        let press = match std::mem::take(&mut self.within) {
            Within::Paste(text) => Some(Press::Paste(String::from_utf8_lossy(&text).into_owned())),
            Within::Keys | Within::Text => None,
        };
        (taken + after, press)
    }

    /// Whether more bytes may follow that change what the pending ones mean.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !matches!(self.within, Within::Keys)
    }

    /// The key that the pending bytes are if nothing follows: escape alone is the key Esc. Nothing has come for a while.
    pub(crate) fn flush(&mut self) -> Option<Press> {
        if !matches!(self.within, Within::Keys) {
            self.waits += 1;
            if self.waits >= PATIENCE {
                *self = Self::default();
            }
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        let key = match pending[..] {
            [ESCAPE] => {
                self.escaped = true;
                plain(KeyCode::Esc)
            }
            [ESCAPE, letter @ (b'[' | b'O' | b']' | b'P' | b'X' | b'^' | b'_')] => {
                KeyEvent::new(KeyCode::Char(char::from(letter)), KeyModifiers::ALT)
            }
            _ => return None,
        };
        Some(Press::Key(key))
    }
}

const ESCAPE: u8 = 0x1b;
const PASTE_ENDS: &[u8] = b"\x1b[201~";
const STRING_ENDS: &[u8] = b"\x1b\\";

fn find(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end)
}

/// How many of the last bytes are the first of `end`.
fn begun(bytes: &[u8], end: &[u8]) -> usize {
    (1..end.len()).rev().find(|length| bytes.ends_with(&end[..*length])).unwrap_or(0)
}

fn plain(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn control(letter: u8) -> KeyEvent {
    KeyEvent::new(KeyCode::Char(char::from(letter)), KeyModifiers::CONTROL)
}

fn front(bytes: &[u8]) -> Front {
    match *bytes {
        // With one of these, alone, it is a key that is held with alt, once nothing follows.
        [] | [0x1b] | [0x1b, b']' | b'P' | b'X' | b'^' | b'_'] => Front::Incomplete,
        [0x1b, b'[', ..] => csi(bytes),
        [0x1b, b'O', ..] => ss3(bytes),
        [0x1b, b']' | b'P' | b'X' | b'^' | b'_', ..] => Front::Opens(Within::Text, 2),
        [0x1b, 0x1b, ..] => Front::Key(plain(KeyCode::Esc), 1),
        [0x1b, ref rest @ ..] => match front(rest) {
            Front::Key(key, taken) => Front::Key(KeyEvent::new(key.code, key.modifiers | KeyModifiers::ALT), taken + 1),
            Front::Mouse(press, taken) => Front::Mouse(press, taken + 1),
            Front::Noise(taken) => Front::Noise(taken + 1),
            Front::Opens(within, taken) => Front::Opens(within, taken + 1),
            Front::Incomplete => Front::Incomplete,
        },
        [b'\r', ..] => Front::Key(plain(KeyCode::Enter), 1),
        [b'\t', ..] => Front::Key(plain(KeyCode::Tab), 1),
        [0x7f, ..] => Front::Key(plain(KeyCode::Backspace), 1),
        [0, ..] => Front::Key(control(b' '), 1),
        [byte @ 0x01..=0x1a, ..] => Front::Key(control(byte - 1 + b'a'), 1),
        [byte @ 0x1c..=0x1f, ..] => Front::Key(control(byte - 0x1c + b'4'), 1),
        [0x20..=0x7e | 0x80..=0xff, ..] => character(bytes),
    }
}

fn character(bytes: &[u8]) -> Front {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let Some(whole) = bytes.get(..length) else {
        return Front::Incomplete;
    };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => Front::Key(plain(KeyCode::Char(c)), length),
        None => Front::Noise(1),
    }
}

/// `ESC O` and one letter.
fn ss3(bytes: &[u8]) -> Front {
    match bytes.get(2) {
        None => Front::Incomplete,
        Some(letter) => match lettered(*letter) {
            Some(code) => Front::Key(plain(code), 3),
            None => Front::Noise(3),
        },
    }
}

/// `ESC [`, parameters, and one final byte.
fn csi(bytes: &[u8]) -> Front {
    // The Linux console's F1 to F5 are `ESC [ [ A` to `ESC [ [ E`.
    if bytes.get(2) == Some(&b'[') {
        return match bytes.get(3) {
            None => Front::Incomplete,
            Some(letter @ b'A'..=b'E') => Front::Key(plain(KeyCode::F(letter - b'A' + 1)), 4),
            Some(_) => Front::Noise(4),
        };
    }
    let Some(length) = bytes[2..].iter().position(|byte| !(0x20..=0x3f).contains(byte)) else {
        return if bytes.len() > LONGEST { Front::Noise(bytes.len()) } else { Front::Incomplete };
    };
    let (parameters, last) = (&bytes[2..2 + length], bytes[2 + length]);
    let taken = 3 + length;
    if !(0x40..=0x7e).contains(&last) {
        // Something else began in the middle: it is looked at on its own.
        return Front::Noise(taken - 1);
    }
    match (parameters, last) {
        (b"200", b'~') => return Front::Opens(Within::Paste(Vec::new()), taken),
        // The mouse as xterm told of it first: three bytes follow, which are no keys.
        (b"", b'M') if bytes.len() < taken + 3 => return Front::Incomplete,
        (b"", b'M') => return Front::Noise(taken + 3),
        _ => {}
    }
    if let Some(report) = parameters.strip_prefix(b"<") {
        return mouse(report, last, taken);
    }
    let mut numbers = parameters.split(|byte| *byte == b';').map(number);
    let first = numbers.next().flatten();
    let modifiers = modifiers(numbers.next().flatten());
    let code = match (last, first) {
        (b'Z', _) => return Front::Key(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT), taken),
        (b'~', Some(number)) => numbered(number),
        (letter, None | Some(1)) => lettered(letter),
        _ => None,
    };
    match code {
        Some(code) => Front::Key(KeyEvent::new(code, modifiers), taken),
        None => Front::Noise(taken),
    }
}

/// `ESC [ < button ; column ; row M`, from 1. Bits 2 to 4 of the button are what is held; 0 is the left button, 64 the wheel
/// upwards, 65 downwards. A small `m` at the end tells that a button was let go.
fn mouse(report: &[u8], last: u8, taken: usize) -> Front {
    let mut numbers = report.split(|byte| *byte == b';').map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let mut number = || -> Option<u16> { numbers.next().flatten() };
    let press = match (last, number().map(|button| button & !0b1_1100), number(), number()) {
        (b'M', Some(0), Some(x @ 1..), Some(y @ 1..)) => Press::Click { x: x - 1, y: y - 1 },
        (b'M', Some(64), ..) => Press::Wheel { down: false },
        (b'M', Some(65), ..) => Press::Wheel { down: true },
        _ => return Front::Noise(taken),
    };
    Front::Mouse(press, taken)
}

fn number(digits: &[u8]) -> Option<u8> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// xterm's modifiers: one more than a sum of 1 for shift, 2 for alt, 4 for ctrl.
fn modifiers(number: Option<u8>) -> KeyModifiers {
    let bits = number.unwrap_or(1).saturating_sub(1);
    [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(KeyModifiers::NONE, |all, (_, modifier)| all | modifier)
}

fn lettered(letter: u8) -> Option<KeyCode> {
    Some(match letter {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'H' => KeyCode::Home,
        b'F' => KeyCode::End,
        b'P'..=b'S' => KeyCode::F(letter - b'P' + 1),
        _ => return None,
    })
}

fn numbered(number: u8) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(number - 10),
        17..=21 => KeyCode::F(number - 11),
        23..=24 => KeyCode::F(number - 12),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crokey::KeyCombination;
    use proptest::prelude::*;

    fn names(presses: impl IntoIterator<Item = Press>) -> String {
        let name = |press| match press {
            Press::Key(key) => KeyCombination::from(key).to_string().to_lowercase(),
            Press::Paste(text) => format!("paste {}", text.escape_debug()),
            Press::Click { x, y } => format!("click {x} {y}"),
            Press::Wheel { down } => if down { "wheel-down" } else { "wheel-up" }.to_owned(),
        };
        presses.into_iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn terminals_are_understood() {
        let table: [(&[u8], &str); 26] = [
            (b"q?+-", "q ? + hyphen"),
            (b"Q", "shift-q"),
            (b" \r\t\x7f", "space enter tab backspace"),
            (b"\x03\x1a\x0c", "ctrl-c ctrl-z ctrl-l"),
            ("é表".as_bytes(), "é 表"),
            (b"\x1b[A\x1b[B\x1bOC\x1bOD", "up down right left"),
            (b"\x1b[1;5A\x1b[1;2B", "ctrl-up shift-down"),
            (b"\x1b[5~\x1b[6~\x1b[3~", "pageup pagedown delete"),
            (b"\x1b[H\x1b[4~\x1b[7~", "home end home"),
            (b"\x1bOP\x1b[15~\x1b[24~", "f1 f5 f12"),
            (b"\x1b[[A", "f1"),
            (b"\x1b[Z", "backtab"),
            (b"\x1bx", "alt-x"),
            (b"\x1b\x1b[A", "esc up"),
            (b"\x1b[?1;2cq", "q"),
            (b"\x1b[200~p\nq\x1b[201~r", "paste p\\nq r"),
            (b"\x1b[201~q", "q"),
            (b"\x1b]11;rgb:1c1c/1c1c/1c1c\x1b\\q", "q"),
            (b"\x1b]11;rgb:1c1c/1c1c/1c1c\x07q", "q"),
            (b"\x1bP1$r0m\x1b\\q", "q"),
            (b"\x1b[M !!q", "q"),
            (b"\x1b\x1b]0;title\x07q", "esc q"),
            (b"\x1b[12\x1b[A", "up"),
            (b"\xff\xc3q", "q"),
            (b"\x1b[<64;10;5M\x1b[<65;10;5M\x1b[<69;10;5M", "wheel-up wheel-down wheel-down"),
            (b"\x1b[<0;310;5M\x1b[<0;310;5m\x1b[<2;1;1M\x1b[<0;0;1M\x1b[<;;Mq", "click 309 4 q"),
        ];
        for (bytes, expected) in table {
            assert_eq!(names(KeyParser::default().feed(bytes)), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut parser = KeyParser::default();
        assert!(parser.feed(b"\x1b").is_empty() && parser.is_waiting());
        assert_eq!(names(parser.flush()), "esc");
        assert!(!parser.is_waiting());
        assert_eq!(names(parser.flush()), "");
    }

    #[test]
    fn what_comes_too_late_for_its_escape_is_no_letters() {
        let mut parser = KeyParser::default();
        assert!(parser.feed(b"\x1b").is_empty());
        assert_eq!(names(parser.flush()), "esc");
        assert_eq!(names(parser.feed(b"[A")), "up");
        assert!(parser.feed(b"\x1b").is_empty());
        assert_eq!(names(parser.flush()), "esc");
        assert_eq!(names(parser.feed(b"[")), "[", "somebody who has pressed it");
        assert!(parser.feed(b"\x1b]").is_empty());
        assert_eq!(names(parser.flush()), "alt-]");
    }

    #[test]
    fn a_paste_or_a_string_without_an_end_swallows_keys_for_a_moment_only() {
        for opening in [&b"\x1b[200~abc"[..], b"\x1b]11;abc"] {
            let mut parser = KeyParser::default();
            assert_eq!(parser.feed(opening), []);
            for _ in 0..PATIENCE {
                assert!(parser.is_waiting());
                assert_eq!(parser.flush(), None);
            }
            assert!(!parser.is_waiting());
            assert_eq!(names(parser.feed(b"q")), "q");
        }
    }

    #[test]
    fn no_paste_takes_more_memory_than_a_line_has_room_for() {
        let mut parser = KeyParser::default();
        parser.feed(b"\x1b[200~");
        for _ in 0..1000 {
            parser.feed(&[b'x'; 1000]);
        }
        let presses = parser.feed(b"\x1b[201~q");
        assert!(matches!(&presses[..], [Press::Paste(text), Press::Key(_)] if text.len() == LONGEST_PASTE));
    }

    proptest! {
        #[test]
        fn keys_do_not_depend_on_how_the_bytes_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0_usize..60) {
            let cut = cut.min(bytes.len());
            let whole = KeyParser::default().feed(&bytes);
            let mut parser = KeyParser::default();
            let mut parts = parser.feed(&bytes[..cut]);
            parts.extend(parser.feed(&bytes[cut..]));
            prop_assert_eq!(whole, parts);
        }
    }
}
