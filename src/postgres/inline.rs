//! Keys as literals, for statements that take no parameters: COPY is one.

use super::session::literal;
use crate::run::KeyText;

/// Puts keys in the place of `$1` and `$2` of a condition that [`Walk::batch`](super::walk::Walk::batch) has written. What
/// stands in quotes is left alone: a column may be called `a$1`. A key that is not given is written as NULL.
#[must_use]
pub fn keys(condition: &str, from: Option<&KeyText>, through: Option<&KeyText>) -> String {
    let mut text = String::with_capacity(condition.len() + 64);
    let mut quote: Option<char> = None;
    let mut chars = condition.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) => {
                if c == open {
                    // A doubled quote opens again at once.
                    quote = None;
                }
                text.push(c);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                text.push(c);
            }
            (None, '$') if chars.next_if_eq(&'1').is_some() => text.push_str(&key(from)),
            (None, '$') if chars.next_if_eq(&'2').is_some() => text.push_str(&key(through)),
            (None, c) => text.push(c),
        }
    }
    text
}

/// A key as a value of type `text[]`.
#[must_use]
pub fn key(key: Option<&KeyText>) -> String {
    let Some(key) = key else { return "NULL".to_owned() };
    let columns: Vec<String> = key.iter().map(|column| literal(column)).collect();
    format!("ARRAY[{}]", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::key::{Key, KeyColumn};
    use crate::postgres::walk::Walk;
    use proptest::prelude::*;

    fn text(columns: &[&str]) -> KeyText {
        columns.iter().map(|column| (*column).to_owned()).collect()
    }

    #[test]
    fn keys_take_the_place_of_parameters_and_of_nothing_else() {
        let walk = Walk::Key(Key { columns: vec![KeyColumn::new("a$1", "bigint"), KeyColumn::new("b", "text")] });
        let condition = walk.batch("t", true, 0);
        assert_eq!(
            keys(&condition, Some(&text(&["7", "it's"])), Some(&text(&["9", r"\$2"]))),
            r#"(t."a$1", t."b") > ((ARRAY[E'7', E'it''s']::text[])[1]::bigint, (ARRAY[E'7', E'it''s']::text[])[2]::text) AND (t."a$1", t."b") <= ((ARRAY[E'9', E'\\$2']::text[])[1]::bigint, (ARRAY[E'9', E'\\$2']::text[])[2]::text)"#
        );
        assert_eq!(keys("'$1' || \"$2\"\"$1\" || $1", None, None), "'$1' || \"$2\"\"$1\" || NULL");
    }

    proptest! {
        /// Outside of what was put in, no quote is left open, whatever a key holds.
        #[test]
        fn a_key_never_leaves_its_literal(column in any::<String>()) {
            let made = keys("x = $1", Some(&vec![column.clone()]), None);
            let inner = made.strip_prefix("x = ARRAY[E'").and_then(|rest| rest.strip_suffix("']")).expect("a literal");
            let mut chars = inner.chars();
            let mut read = String::new();
            while let Some(c) = chars.next() {
                if c == '\\' || c == '\'' {
                    prop_assert_eq!(chars.next(), Some(c));
                }
                read.push(c);
            }
            prop_assert_eq!(read, column.replace('\0', ""));
        }
    }
}
