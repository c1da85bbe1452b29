//! Keys pressed one after the other, as the file spells them and as the screen shows them.

use crokey::{KeyCombination, OneToThree};
use crossterm::event::{KeyCode, KeyModifiers};

/// One key, or some that are pressed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence(Vec<KeyCombination>);

impl Sequence {
    /// Reads keys with blanks between them. `None`: one of them is no key that a terminal can send, or there is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let keys: Vec<_> = text.split_whitespace().map(key).collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether `self` is `pressed`, or goes on from it.
    pub(super) fn begins_with(&self, pressed: &[KeyCombination]) -> bool {
        self.0.starts_with(pressed)
    }

    /// Whether its first key types text.
    pub(super) fn begins_with_text(&self) -> bool {
        self.0.first().is_some_and(|key| is_text(*key))
    }

    /// Whether it is exactly `pressed`.
    pub(super) fn is(&self, pressed: &[KeyCombination]) -> bool {
        self.0 == pressed
    }

    /// Its keys.
    pub(super) fn pressed(&self) -> &[KeyCombination] {
        &self.0
    }

    /// Whether whoever presses one of them has pressed the other one, or is on the way to it.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        self.begins_with(&other.0) || other.begins_with(&self.0)
    }

    /// As the file spells it.
    #[must_use]
    pub fn spelling(&self) -> String {
        join(&self.0, spelling, " ")
    }

    /// As the screen shows it.
    #[must_use]
    pub fn label(&self) -> String {
        join(&self.0, label, " ")
    }
}

/// Whether a key types a character where text is typed.
pub(crate) fn is_text(key: KeyCombination) -> bool {
    let plain = key.modifiers.difference(KeyModifiers::SHIFT).is_empty();
    plain && matches!(key.codes, OneToThree::One(KeyCode::Char(c)) if !c.is_control())
}

/// Keys that have been pressed of a sequence that goes on, as the screen shows them.
pub(crate) fn pending(pressed: &[KeyCombination]) -> String {
    join(pressed, label, "-") + "-"
}

fn join(keys: &[KeyCombination], word: fn(KeyCombination) -> String, between: &str) -> String {
    keys.iter().map(|key| word(*key)).collect::<Vec<_>>().join(between)
}

/// Reads a key. A capital letter means the letter with shift, as it does on the keyboard.
fn key(text: &str) -> Option<KeyCombination> {
    let with_shift;
    let text = match text.as_bytes() {
        [letter] if letter.is_ascii_uppercase() => {
            with_shift = format!("shift-{text}");
            with_shift.as_str()
        }
        _ => text,
    };
    // Keys held together reach a program only by a protocol that few terminals speak.
    crokey::parse(text).ok().filter(|key| key.is_ansi_compatible())
}

/// The key as the file spells it.
fn spelling(key: KeyCombination) -> String {
    let spelled = key.to_string().to_lowercase();
    match spelled.strip_prefix("shift-").map(str::as_bytes) {
        Some([letter]) if letter.is_ascii_lowercase() => char::from(letter.to_ascii_uppercase()).to_string(),
        _ => spelled,
    }
}

/// The key as the screen shows it.
fn label(key: KeyCombination) -> String {
    let spelled = spelling(key);
    match spelled.strip_suffix("hyphen") {
        Some(modifiers) => format!("{modifiers}-"),
        None => spelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_spelled_one_after_the_other() {
        let table = [
            ("g g", "g g", "g g"),
            (" z  Z ", "z Z", "z Z"),
            ("shift-g", "G", "G"),
            ("ctrl-d", "ctrl-d", "ctrl-d"),
            ("ctrl-w hyphen", "ctrl-w hyphen", "ctrl-w -"),
            (":", ":", ":"),
            ("/", "/", "/"),
        ];
        for (text, spelled, shown) in table {
            let sequence = Sequence::parse(text).unwrap();
            assert_eq!((sequence.spelling().as_str(), sequence.label().as_str()), (spelled, shown), "{text}");
            assert_eq!(Sequence::parse(&sequence.spelling()), Some(sequence));
        }
        for text in ["", "  ", "g spce", "a-b"] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_sequence_clashes_with_its_beginning_and_with_itself() {
        let keys = |text| Sequence::parse(text).unwrap();
        assert!(keys("g").clashes(&keys("g g")) && keys("g g").clashes(&keys("g")) && keys("g").clashes(&keys("g")));
        assert!(!keys("g g").clashes(&keys("g h")) && !keys("h").clashes(&keys("g h")));
    }

    #[test]
    fn what_has_been_pressed_is_shown_with_a_dash_behind_it() {
        assert_eq!(pending(&keys_of("g")), "g-");
        assert_eq!(pending(&keys_of("ctrl-w x")), "ctrl-w-x-");
    }

    fn keys_of(text: &str) -> Vec<KeyCombination> {
        Sequence::parse(text).unwrap().0
    }
}
