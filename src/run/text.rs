//! Text from outside, made harmless before it meets a terminal.

use std::borrow::Cow;

/// Replaces what could steer a terminal or mislead a reader with U+FFFD, except line breaks and tabs, which become spaces.
///
/// Replaced are C0 and C1 control characters (escape sequences begin with one), bidirectional overrides and isolates,
/// zero-width characters and Unicode's line separators.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| replacement(c).is_some()) {
        Cow::Owned(text.chars().map(|c| replacement(c).unwrap_or(c)).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// [`clean`], line by line: line breaks stay.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

fn replacement(c: char) -> Option<char> {
    match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{0}'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => Some('\u{fffd}'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(clean("a\x1b[31mb\x07"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(clean("two\nlines\tand a tab"), "two lines and a tab");
        assert_eq!(clean("abc\u{202e}fed"), "abc\u{fffd}fed");
        assert!(matches!(clean("plain ünïcode 表"), Cow::Borrowed(_)));
        assert_eq!(clean_lines("a\x1b\nb"), "a\u{fffd}\nb");
    }

    proptest! {
        #[test]
        fn nothing_that_was_cleaned_holds_a_control_character(text in any::<String>()) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(char::is_control));
            prop_assert_eq!(cleaned.chars().count(), text.chars().count());
        }
    }
}
