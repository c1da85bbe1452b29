//! What can be wrong with a theme, and what to do about it.

use super::reading::MODIFIERS;
use super::role::Role;
use crate::console::config_error::{Located, Problem};

/// What can be wrong with a theme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThemeProblem {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// No theme of that name is compiled in.
    #[error("there is no theme `{0}`")]
    UnknownTheme(String),
    /// A key that nobody reads.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What was expected: a role, a property, a modifier.
        what: &'static str,
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// A value of another type than belongs there.
    #[error("`{name}` must be {expected}, not {found}")]
    WrongType {
        /// Whose value it is.
        name: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A text or number that is no colour.
    #[error("`{name}` is not a colour")]
    BadColour {
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
}

impl Problem for ThemeProblem {
    fn hint(&self) -> Option<String> {
        let did_you = |meant: Option<&str>| meant.map(|name| format!("did you mean `{name}`?"));
        match self {
            Self::Syntax(_) => None,
            Self::UnknownTheme(_) => Some("the themes are dark, light and mono; or give the path of a file".to_owned()),
            Self::Unknown { what: "role", meant, .. } => {
                let roles = || Role::ALL.map(Role::name).join(", ");
                did_you(*meant).or_else(|| Some(format!("the roles are {}", roles())))
            }
            Self::Unknown { what: "modifier", meant, .. } => did_you(*meant)
                .or_else(|| Some(format!("the modifiers are {}", MODIFIERS.map(|(name, _)| name).join(", ")))),
            Self::Unknown { meant, .. } => {
                did_you(*meant).or_else(|| Some("the properties are fg, bg, ansi and modifiers".to_owned()))
            }
            Self::WrongType { .. } => {
                Some("write it like warning = { fg = \"#e69f00\", modifiers = [\"bold\"] }".to_owned())
            }
            Self::BadColour { meant, .. } => did_you(*meant).or_else(|| {
                Some("a colour is a name such as light-blue, #rrggbb, or a number from 0 to 255".to_owned())
            }),
        }
    }
}

/// An error in a theme, with its place.
pub type ThemeError = Located<ThemeProblem>;
