//! A line of text that is being typed. Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tui_input::{Input, InputRequest};

use super::ui::Prompt;

/// No more characters than these are typed into one line.
const LONGEST: usize = 500;

/// What `key` makes of the line. Whether its text is another one.
///
/// Control characters are no text: a paste comes as keys, and may hold any.
pub(super) fn edit(prompt: &mut Prompt, key: KeyEvent) -> bool {
    match request(key) {
        Some(InputRequest::InsertChar(_)) if prompt.text.chars().count() >= LONGEST => false,
        Some(request) => {
            let mut input = Input::new(std::mem::take(&mut prompt.text)).with_cursor(prompt.cursor);
            let changed = input.handle(request).is_some_and(|changed| changed.value);
            prompt.cursor = input.cursor();
            input.value().clone_into(&mut prompt.text);
            changed
        }
        None => false,
    }
}

/// The keys of a shell's line.
fn request(key: KeyEvent) -> Option<InputRequest> {
    use InputRequest as R;
    let held = key.modifiers.difference(KeyModifiers::SHIFT);
    Some(match (key.code, held) {
        (KeyCode::Char(c), KeyModifiers::NONE) if !c.is_control() => R::InsertChar(c),
        (KeyCode::Left, KeyModifiers::NONE) | (KeyCode::Char('b'), KeyModifiers::CONTROL) => R::GoToPrevChar,
        (KeyCode::Right, KeyModifiers::NONE) | (KeyCode::Char('f'), KeyModifiers::CONTROL) => R::GoToNextChar,
        (KeyCode::Left, KeyModifiers::CONTROL) | (KeyCode::Char('b'), KeyModifiers::ALT) => R::GoToPrevWord,
        (KeyCode::Right, KeyModifiers::CONTROL) | (KeyCode::Char('f'), KeyModifiers::ALT) => R::GoToNextWord,
        (KeyCode::Home, _) | (KeyCode::Char('a'), KeyModifiers::CONTROL) => R::GoToStart,
        (KeyCode::End, _) | (KeyCode::Char('e'), KeyModifiers::CONTROL) => R::GoToEnd,
        (KeyCode::Backspace, KeyModifiers::NONE) | (KeyCode::Char('h'), KeyModifiers::CONTROL) => R::DeletePrevChar,
        (KeyCode::Delete, _) | (KeyCode::Char('d'), KeyModifiers::CONTROL) => R::DeleteNextChar,
        (KeyCode::Backspace, KeyModifiers::ALT) | (KeyCode::Char('w'), KeyModifiers::CONTROL) => R::DeletePrevWord,
        (KeyCode::Char('d'), KeyModifiers::ALT) => R::DeleteNextWord,
        (KeyCode::Char('u'), KeyModifiers::CONTROL) => R::DeleteFromStart,
        (KeyCode::Char('k'), KeyModifiers::CONTROL) => R::DeleteTillEnd,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::ui::PromptKind;
    use crokey::KeyCombination;
    use proptest::prelude::*;

    fn prompt(text: &str) -> Prompt {
        let cursor = text.chars().count();
        Prompt { kind: PromptKind::Command, text: text.to_owned(), cursor, completions: Vec::new(), error: None }
    }

    fn press(prompt: &mut Prompt, keys: &str) {
        for key in keys.split(' ') {
            let key: KeyCombination = key.parse().unwrap();
            edit(prompt, key.into());
        }
    }

    #[test]
    fn a_line_is_edited_as_in_a_shell() {
        let table = [
            ("set", "x", "setx", 4),
            ("set", "left x", "sext", 3),
            ("set", "ctrl-a x", "xset", 1),
            ("set", "home delete", "et", 0),
            ("set", "left left end x", "setx", 4),
            ("set", "backspace ctrl-h", "s", 1),
            ("set workers", "ctrl-w", "set ", 4),
            ("set workers", "ctrl-left ctrl-u", "workers", 0),
            ("set workers", "alt-b ctrl-k", "set ", 4),
            ("größe表", "backspace left backspace", "gröe", 3),
            ("set", "ctrl-c f5 up alt-x", "set", 3),
            ("", "backspace delete ctrl-w ctrl-u left right", "", 0),
        ];
        for (text, keys, expected, cursor) in table {
            let mut prompt = prompt(text);
            press(&mut prompt, keys);
            assert_eq!((prompt.text.as_str(), prompt.cursor), (expected, cursor), "{keys} in {text}");
        }
    }

    proptest! {
        #[test]
        fn the_cursor_is_always_in_the_text_and_no_control_character_ever(
            keys in proptest::collection::vec((any::<char>(), 0_u8..8, 0_u8..12), 0..80),
        ) {
            let mut prompt = prompt("");
            for (c, modifiers, code) in keys {
                let code = match code {
                    0 => KeyCode::Left,
                    1 => KeyCode::Home,
                    2 => KeyCode::Backspace,
                    3 => KeyCode::Delete,
                    4 => KeyCode::Right,
                    _ => KeyCode::Char(c),
                };
                edit(&mut prompt, KeyEvent::new(code, KeyModifiers::from_bits_truncate(modifiers)));
                prop_assert!(prompt.cursor <= prompt.text.chars().count());
                prop_assert!(!prompt.text.chars().any(char::is_control));
            }
        }
    }
}
