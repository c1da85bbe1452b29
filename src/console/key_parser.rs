//! Bytes that a terminal sends, as keys. Pure: whoever reads the bytes decides how long to wait for more.
//!
//! Understood are UTF-8, control characters, and the cursor, editing and function keys of xterm, rxvt and the Linux
//! console with xterm's modifiers, and the wheel of xterm's mouse in SGR reports. A sequence that is not understood is
//! skipped whole, never typed as letters.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A sequence longer than this is noise.
const LONGEST: usize = 32;

/// What somebody does with keyboard or mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Press {
    /// A key.
    Key(KeyEvent),
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
}

/// What stands at the front of the pending bytes.
enum Front {
    /// A key that took so many bytes.
    Key(KeyEvent, usize),
    /// A report of the mouse that took so many bytes.
    Mouse(Press, usize),
    /// So many bytes that mean nothing here.
    Noise(usize),
    /// The beginning of something.
    Incomplete,
}

impl KeyParser {
    /// The keys that `bytes` complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Press> {
        self.pending.extend_from_slice(bytes);
        let mut presses = Vec::new();
        let mut at = 0;
        while at < self.pending.len() {
            match front(&self.pending[at..]) {
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

    /// Whether more bytes may follow that change what the pending ones mean.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The key that the pending bytes are if nothing follows: escape alone is the key Esc.
    pub(crate) fn flush(&mut self) -> Option<Press> {
        let pending = std::mem::take(&mut self.pending);
        let key = match pending[..] {
            [0x1b] => plain(KeyCode::Esc),
            [0x1b, letter @ (b'[' | b'O')] => KeyEvent::new(KeyCode::Char(char::from(letter)), KeyModifiers::ALT),
            _ => return None,
        };
        Some(Press::Key(key))
    }
}

fn plain(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn control(letter: u8) -> KeyEvent {
    KeyEvent::new(KeyCode::Char(char::from(letter)), KeyModifiers::CONTROL)
}

fn front(bytes: &[u8]) -> Front {
    match *bytes {
        [] | [0x1b] => Front::Incomplete,
        [0x1b, b'[', ..] => csi(bytes),
        [0x1b, b'O', ..] => ss3(bytes),
        [0x1b, 0x1b, ..] => Front::Key(plain(KeyCode::Esc), 1),
        [0x1b, ref rest @ ..] => match front(rest) {
            Front::Key(key, taken) => Front::Key(KeyEvent::new(key.code, key.modifiers | KeyModifiers::ALT), taken + 1),
            Front::Mouse(press, taken) => Front::Mouse(press, taken + 1),
            Front::Noise(taken) => Front::Noise(taken + 1),
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
            Press::Click { x, y } => format!("click {x} {y}"),
            Press::Wheel { down } => if down { "wheel-down" } else { "wheel-up" }.to_owned(),
        };
        presses.into_iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn terminals_are_understood() {
        let table: [(&[u8], &str); 20] = [
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
            (b"\x1b[200~q", "q"),
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
