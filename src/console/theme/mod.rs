//! Colours by role, never by widget: `assets/themes/*.toml`, or a file of the user's in the same form.
//!
//! | file | what |
//! | --- | --- |
//! | `role` | what a piece of text is for |
//! | `reading` | theme files, read |
//! | `problem` | what can be wrong with one |
//! | `swatch` | a theme, shown role by role, with its contrasts |

mod problem;
mod reading;
mod role;
pub mod swatch;
#[cfg(test)]
mod tests;

use ratatui::style::{Color, Style};

use super::colour::{self, Depth, Environment};
use super::glyphs::Glyphs;
use reading::{COMPILED_IN, Look, named, read};

pub use problem::{ThemeError, ThemeProblem};
pub use role::Role;

/// Where a theme comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The name of one that is compiled in: `dark`, `light`, `mono`.
    Named(&'a str),
    /// The text of a file, and how messages name the file. Roles that it leaves out are those of `base = "..."` in it,
    /// by default of `dark`.
    File {
        /// How messages name the file.
        label: &'a str,
        /// What is in it.
        text: &'a str,
    },
}

/// A style for each role, and the signs to draw with.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    styles: [Style; Role::ALL.len()],
    /// The background that it was made for.
    ground: Option<Color>,
    /// The signs to draw with.
    pub glyphs: Glyphs,
}

impl Theme {
    /// Loads a theme and cuts it down to what the terminal can show. Where the environment asks for no colour, the
    /// result is the theme `mono`, which tells roles apart without colours; an error in the source is reported all the same.
    ///
    /// # Errors
    /// [`ThemeError`] for an unknown name, and for a file that is not TOML, names an unknown role, property or modifier,
    /// or holds something that is not a colour.
    pub fn load(source: Source<'_>, environment: &Environment) -> Result<Self, ThemeError> {
        let depth = environment.depth();
        let mut draft = match source {
            Source::Named(name) => named(name, "theme")?,
            Source::File { label, text } => read(label, text)?,
        };
        if depth == Depth::None {
            draft = named("mono", "mono")?;
        }
        let styles = draft.looks.map(|Look { mut style, ansi }| {
            if depth == Depth::Sixteen {
                style.fg = ansi.or(style.fg);
            }
            style.fg = style.fg.map(|colour| colour::reduce(colour, depth));
            style.bg = style.bg.map(|colour| colour::reduce(colour, depth));
            style
        });
        Ok(Self { styles, ground: draft.ground, glyphs: environment.glyphs() })
    }

    /// The names of the themes that are compiled in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        COMPILED_IN.iter().map(|(name, _)| *name)
    }

    /// The style of a role.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}
