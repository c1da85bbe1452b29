//! What can be wrong in a keymap file, in words.

use super::super::config_error::{Located, Problem};

/// What can be wrong in a keymap file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeymapProblem {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A table, or a key outside of every table, that nobody reads.
    #[error("there is no context `{name}`")]
    UnknownContext {
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// An action that does not exist.
    #[error("there is no action `{name}` in [{context}]")]
    UnknownAction {
        /// Where.
        context: &'static str,
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// An action that does nothing in its context.
    #[error("`{name}` does nothing in [{context}]")]
    OutOfPlace {
        /// Where.
        context: &'static str,
        /// The action.
        name: &'static str,
        /// Where it belongs.
        belongs: String,
    },
    /// Something that is no table, list or text where one belongs.
    #[error("`{name}` must be {expected}, not {found}")]
    WrongType {
        /// Whose value it is.
        name: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A text that names no key.
    #[error("`{0}` is not a key that a terminal can send")]
    BadKey(String),
    /// A key that types text, where text is typed.
    #[error("`{0}` is text while a line is typed")]
    Text(String),
    /// A key that is bound to two actions at a time.
    #[error("the key `{key}` is bound to `{first}` and to `{second}`")]
    DuplicateKey {
        /// The key.
        key: String,
        /// One action.
        first: &'static str,
        /// The other action.
        second: &'static str,
        /// The other action's context.
        context: &'static str,
    },
    /// A key that is bound, and also begins a sequence of keys: it would have to wait for the next one.
    #[error("the key `{short}` of `{shorter}` begins the keys `{long}` of `{longer}`")]
    Prefix {
        /// The key, or keys.
        short: String,
        /// What they do.
        shorter: &'static str,
        /// The keys that go on from them.
        long: String,
        /// What those do.
        longer: &'static str,
    },
}

impl Problem for KeymapProblem {
    fn hint(&self) -> Option<String> {
        let meant = |meant: Option<&str>| meant.map(|name| format!("did you mean `{name}`?"));
        match self {
            Self::Syntax(_) => None,
            Self::UnknownContext { meant: likely, .. } => {
                let names = super::Context::ALL.map(|context| format!("[{}]", context.name())).join(" ");
                meant(*likely).or_else(|| Some(format!("the contexts are {names}")))
            }
            Self::UnknownAction { meant: likely, .. } => {
                meant(*likely).or_else(|| Some("`howdah keymap` prints every action".to_owned()))
            }
            Self::OutOfPlace { belongs, .. } => Some(format!("it works in {belongs}")),
            Self::WrongType { .. } => Some("write it like pause = [\"space\", \"p\"]".to_owned()),
            Self::BadKey(_) => Some(
                "write it like a, space, enter, esc, f1, up, hyphen, ctrl-c, or \"g g\" for two keys one after the other; `howdah keymap` has examples".into(),
            ),
            Self::Text(_) => Some("take a key with ctrl- or alt-, or one like tab, up, f2".to_owned()),
            Self::DuplicateKey { first, second, .. } if first == second => {
                Some("once is enough".to_owned())
            }
            Self::DuplicateKey { second, context, .. } => {
                Some(format!("give `{second}` another key, or none: {second} = [], in [{context}]"))
            }
            Self::Prefix { .. } => Some("a key is either an action of its own or the beginning of others".to_owned()),
        }
    }
}

/// An error in a keymap file.
pub type KeymapError = Located<KeymapProblem>;
