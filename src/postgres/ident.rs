//! Identifiers: the one place where they are quoted, and where a plan's way of writing them is read.

/// Quotes an identifier for use in SQL, always with double quotes.
///
/// A NUL cannot be part of an identifier; it is dropped, since the server would refuse the whole statement.
#[must_use]
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for c in name.chars().filter(|c| *c != '\0') {
        if c == '"' {
            quoted.push('"');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A name is not written as SQL writes names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one SQL identifier: write it plain (folded to lower case) or in double quotes")]
pub struct BadIdentifier(pub String);

/// Reads one identifier as SQL does: plain ones fold to lower case, quoted ones are taken as they stand.
///
/// # Errors
/// [`BadIdentifier`] where the text is empty, holds anything else, or its quotes do not close.
pub fn parse(written: &str) -> Result<String, BadIdentifier> {
    let bad = || BadIdentifier(written.to_owned());
    let text = written.trim();
    if let Some(inner) = text.strip_prefix('"') {
        let inner = inner.strip_suffix('"').ok_or_else(bad)?;
        let unescaped = inner.replace("\"\"", "\u{0}");
        if unescaped.contains('"') || inner.contains('\0') || inner.is_empty() {
            return Err(bad());
        }
        return Ok(unescaped.replace('\u{0}', "\""));
    }
    let mut chars = text.chars();
    let first = chars.next().ok_or_else(bad)?;
    let starts = first.is_alphabetic() || first == '_';
    if starts && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '$') {
        // PostgreSQL folds ASCII letters only, in a UTF-8 database.
        Ok(text.to_ascii_lowercase())
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        assert_eq!(parse("Email"), Ok("email".to_owned()));
        assert_eq!(parse(" \"Odd name\" "), Ok("Odd name".to_owned()));
        assert_eq!(parse("\"a\"\"b\""), Ok("a\"b".to_owned()));
        assert_eq!(parse("größe"), Ok("größe".to_owned()));
        for bad in ["", "\"", "\"\"", "a b", "1a", "a;--", "\"a\"b\"", "a.b", "\"a"] {
            assert_eq!(parse(bad), Err(BadIdentifier(bad.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_was_quoted_reads_back_as_itself(name in "[^\u{0}]{1,80}") {
            prop_assert_eq!(parse(&quote(&name)), Ok(name));
        }

        #[test]
        fn a_quoted_name_never_ends_early(name in any::<String>()) {
            let quoted = quote(&name);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
            prop_assert!(!quoted.contains('\0'));
        }
    }
}
