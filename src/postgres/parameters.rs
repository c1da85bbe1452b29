//! Parameters of SQL from a plan, carried as text whatever their types are.

use std::fmt::Write as _;

use super::tokens::{dollar_tag, skip_comment, skip_dollar, skip_string_by, skip_until};

/// The SQL with each `$n` read from a text: `(($1::text)::integer)`. `types`: of the parameters in their order, as SQL
/// writes them.
#[must_use]
pub fn from_text(sql: &str, types: &[String]) -> String {
    let chars: Vec<char> = sql.chars().collect();
    let mut out = String::with_capacity(sql.len() + 40 * types.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let end = match c {
            '-' if next == Some('-') => skip_until(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => skip_comment(&chars, at),
            '\'' => {
                let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
                let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let escapes = matches!(before(1), Some('e' | 'E')) && !before(2).is_some_and(is_name);
                skip_string_by(&chars, at, '\'', escapes)
            }
            '"' => skip_string_by(&chars, at, '"', false),
            '$' => {
                if let Some(tag) = dollar_tag(&chars, at) {
                    skip_dollar(&chars, at, &tag)
                } else {
                    let end = skip_until(&chars, at + 1, |c| !c.is_ascii_digit());
                    let number: String = chars[at + 1..end].iter().collect();
                    let type_name = number.parse::<usize>().ok().and_then(|n| types.get(n.checked_sub(1)?));
                    if let Some(type_name) = type_name {
                        // Writing to a String cannot fail.
                        let _ = write!(out, "((${number}::text)::{type_name})");
                        at = end;
                        continue;
                    }
                    end
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                skip_until(&chars, at, |c| !(c.is_alphanumeric() || c == '_' || c == '$'))
            }
            _ => at + 1,
        };
        out.extend(&chars[at..end.max(at + 1).min(chars.len())]);
        at = end.max(at + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_read_from_texts_and_nothing_else_is_touched() {
        let types = ["integer".to_owned(), "timestamp with time zone".to_owned()];
        let table = [
            ("SELECT $1", "SELECT (($1::text)::integer)"),
            ("a=$1::int AND b>-$2", "a=(($1::text)::integer)::int AND b>-(($2::text)::timestamp with time zone)"),
            (
                "'$1' \"$1\" $$ $1 $$ $t$ $1 $t$ a$1 -- $1\n/* $1 */",
                "'$1' \"$1\" $$ $1 $$ $t$ $1 $t$ a$1 -- $1\n/* $1 */",
            ),
            ("E'\\'$1' $1", "E'\\'$1' (($1::text)::integer)"),
            ("name'\\' $1", "name'\\' (($1::text)::integer)"),
            ("$3 $0 $12", "$3 $0 $12"),
        ];
        for (sql, expected) in table {
            assert_eq!(from_text(sql, &types), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn without_parameters_any_text_stays_as_it_is(text in r#"[-/*'"$ae\\ .\n1é]{0,40}"#) {
            prop_assert_eq!(from_text(&text, &[]), text);
        }
    }
}
