//! `${NAME}` in the strings of a plan. It is filled in after parsing, so that a value can never become TOML.

use super::mistake::Mistake;

/// A reference that could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfilled {
    /// The reference as it is written, to find its place.
    pub(super) reference: String,
    pub(super) mistake: Mistake,
}

/// `text` with `${NAME}` and `${NAME:-default}` filled in from `env`; `$${` stands for `${`.
///
/// As in a shell, the default also takes the place of an empty value. Without a default, an unset and an empty variable
/// are errors.
pub(super) fn fill(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Unfilled> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        if before.ends_with('$') {
            out.push('{');
            rest = after;
            continue;
        }
        let Some((inner, tail)) = after.split_once('}') else {
            return Err(Unfilled { reference: format!("${{{after}"), mistake: Mistake::OpenReference });
        };
        out.push_str(
            &value_of(inner, env).map_err(|mistake| Unfilled { reference: format!("${{{inner}}}"), mistake })?,
        );
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inner: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Mistake> {
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    if !is_name(name) {
        return Err(Mistake::BadReference(format!("${{{name}}}")));
    }
    match (env(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(_), None) => Err(Mistake::EmptyVariable(name.to_owned())),
        (None, None) => Err(Mistake::MissingVariable(name.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "USER" => Some("ann".to_owned()),
            "TRICK" => Some("${USER}\" x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in_once() {
        let table = [
            ("plain $1 $$ {batch}", "plain $1 $$ {batch}"),
            ("${USER}@${HOST:-db}", "ann@db"),
            ("${EMPTY:-full}${NONE:-}", "full"),
            ("${TRICK}", "${USER}\" x"),
            ("$${USER} ${USER}", "${USER} ann"),
            ("'$.a'::jsonpath", "'$.a'::jsonpath"),
        ];
        for (text, expected) in table {
            assert_eq!(fill(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_named_as_it_is_written() {
        let missing = Mistake::MissingVariable("NONE".to_owned());
        let table = [
            ("a ${NONE} b", "${NONE}", missing),
            ("${EMPTY}", "${EMPTY}", Mistake::EmptyVariable("EMPTY".to_owned())),
            ("${}", "${}", Mistake::BadReference("${}".to_owned())),
            ("${1x}", "${1x}", Mistake::BadReference("${1x}".to_owned())),
            ("a ${USER", "${USER", Mistake::OpenReference),
        ];
        for (text, reference, mistake) in table {
            assert_eq!(fill(text, &env), Err(Unfilled { reference: reference.to_owned(), mistake }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_a_reference_stays_as_it_is(text in "[^{]*") {
            prop_assert_eq!(fill(&text, &env), Ok(text));
        }
    }
}
