//! Text by the cells it takes on a terminal: cutting, padding, wrapping.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many cells `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text`, cut to at most `cells`; what was cut ends in an ellipsis.
pub(crate) fn fit(text: &str, cells: usize) -> Cow<'_, str> {
    if width(text) <= cells {
        return Cow::Borrowed(text);
    }
    let Some(room) = cells.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    // A sequence of characters may be wider than its parts.
    while width(&kept) > room {
        kept.pop();
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// `text` in exactly `cells`, at the left.
pub(crate) fn left(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let gap = cells.saturating_sub(width(&text));
    format!("{text}{:gap$}", "")
}

/// `text` in exactly `cells`, at the right.
pub(crate) fn right(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let gap = cells.saturating_sub(width(&text));
    format!("{:gap$}{text}", "")
}

/// `text` in lines of at most `cells`, broken between words where possible. Indentation stays.
pub(crate) fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(1);
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut row = String::new();
        for word in line.split_inclusive(' ') {
            let wide = width(word.trim_end());
            if !row.is_empty() && width(&row) + wide > cells {
                lines.push(std::mem::take(&mut row).trim_end().to_owned());
            }
            if wide <= cells {
                row.push_str(word);
                continue;
            }
            for c in word.chars() {
                if !row.is_empty() && width(&row) + c.width().unwrap_or(0) > cells {
                    lines.push(std::mem::take(&mut row));
                }
                row.push(c);
            }
        }
        lines.push(row.trim_end().to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_cut_by_cells_with_an_ellipsis() {
        let table =
            [("emails", 6, "emails"), ("emails", 5, "emai…"), ("表表表", 4, "表…"), ("ab", 1, "…"), ("ab", 0, "")];
        for (text, cells, expected) in table {
            assert_eq!(fit(text, cells), expected, "{text} in {cells}");
        }
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(right("ab", 4), "  ab");
    }

    #[test]
    fn lines_break_between_words_and_keep_their_indentation() {
        assert_eq!(wrap("resume it with howdah", 10), ["resume it", "with", "howdah"]);
        assert_eq!(wrap("    ^^^", 10), ["    ^^^"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\nb", 4), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_place(text in "\\PC{0,60}", cells in 0_usize..40) {
            prop_assert!(width(&fit(&text, cells)) <= cells);
        }

        #[test]
        fn wrapping_loses_nothing_but_spaces(text in "[a-z ]{0,80}", cells in 1_usize..30) {
            let lines = wrap(&text, cells);
            prop_assert!(lines.iter().all(|line| width(line) <= cells));
            prop_assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }
}
