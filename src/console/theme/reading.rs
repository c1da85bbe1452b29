//! Reads theme files: TOML, a table a role, with the place of every mistake.

use std::ops::Range;

use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ThemeError, ThemeProblem};
use super::role::Role;
use crate::console::colour;
use crate::console::config_error::{Located, did_you_mean};

/// The themes that are compiled in: name, and text.
pub(super) const COMPILED_IN: [(&str, &str); 3] = [
    ("dark", include_str!("../../../assets/themes/dark.toml")),
    ("light", include_str!("../../../assets/themes/light.toml")),
    ("mono", include_str!("../../../assets/themes/mono.toml")),
];

/// A theme as it was written, for terminals of every kind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Draft {
    /// By role.
    pub(super) looks: [Look; Role::ALL.len()],
    /// The background that it was made for.
    pub(super) ground: Option<Color>,
}

/// How a role looks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Look {
    /// Where there are colours enough.
    pub(super) style: Style,
    /// The foreground where there are sixteen colours. `None`: the nearest to the other.
    pub(super) ansi: Option<Color>,
}

/// The names of modifiers.
pub(super) const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underline", Modifier::UNDERLINED),
    ("reverse", Modifier::REVERSED),
];

/// Reads one of the themes that are compiled in.
pub(super) fn named(name: &str, label: &str) -> Result<Draft, ThemeError> {
    match COMPILED_IN.into_iter().find(|(known, _)| *known == name) {
        Some((name, text)) => read(name, text),
        None => Err(Located::new(ThemeProblem::UnknownTheme(name.to_owned()), label, name, &(0..name.len()))),
    }
}

/// Reads one theme file, with its base.
pub(super) fn read(label: &str, text: &str) -> Result<Draft, ThemeError> {
    let wrong = |span: Range<usize>, problem| Located::new(problem, label, text, &span);
    let document = DeTable::parse(text)
        .map_err(|error| wrong(error.span().unwrap_or_default(), ThemeProblem::Syntax(error.message().to_owned())))?;
    let document = document.get_ref();
    let is_compiled_in = COMPILED_IN.iter().any(|(_, compiled_in)| *compiled_in == text);
    let mut draft = match document.get("base") {
        Some(base) => match base.get_ref() {
            DeValue::String(name) if COMPILED_IN.iter().any(|(known, _)| **known == **name) => named(name, label)?,
            DeValue::String(name) => return Err(wrong(base.span(), ThemeProblem::UnknownTheme(name.to_string()))),
            _ => return Err(wrong(base.span(), wrong_type("base", "the name of a theme", base))),
        },
        None if is_compiled_in => Draft::default(),
        None => named("dark", label)?,
    };
    for (name, value) in document {
        match &**name.get_ref() {
            "base" => continue,
            "background" => {
                let ground = colour_of("background", value).map_err(|(span, problem)| wrong(span, problem))?;
                draft.ground = Some(ground);
                continue;
            }
            _ => {}
        }
        let Some(role) = Role::ALL.into_iter().find(|role| *role.name() == **name.get_ref()) else {
            let meant = did_you_mean(name.get_ref(), Role::ALL.map(Role::name));
            return Err(wrong(name.span(), unknown("role", name.get_ref(), meant)));
        };
        let DeValue::Table(properties) = value.get_ref() else {
            return Err(wrong(value.span(), wrong_type(role.name(), "a table", value)));
        };
        draft.looks[role as usize] = look(properties).map_err(|(span, problem)| wrong(span, problem))?;
    }
    Ok(draft)
}

type Misplaced = (Range<usize>, ThemeProblem);

fn look(properties: &DeTable<'_>) -> Result<Look, Misplaced> {
    let mut look = Look::default();
    for (name, value) in properties {
        match &**name.get_ref() {
            "fg" => look.style.fg = Some(colour_of(name.get_ref(), value)?),
            "bg" => look.style.bg = Some(colour_of(name.get_ref(), value)?),
            "ansi" => look.ansi = Some(colour_of(name.get_ref(), value)?),
            "modifiers" => look.style = look.style.add_modifier(modifiers_of(value)?),
            other => {
                let meant = did_you_mean(other, ["fg", "bg", "ansi", "modifiers"]);
                return Err((name.span(), unknown("property", other, meant)));
            }
        }
    }
    Ok(look)
}

fn colour_of(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Color, Misplaced> {
    let written = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        _ => return Err((value.span(), wrong_type(name, "a colour", value))),
    };
    colour::parse(&written).ok_or_else(|| {
        let meant = did_you_mean(&written, colour::names());
        (value.span(), ThemeProblem::BadColour { name: written, meant })
    })
}

fn modifiers_of(value: &Spanned<DeValue<'_>>) -> Result<Modifier, Misplaced> {
    let expected = "a list of modifiers";
    let DeValue::Array(words) = value.get_ref() else {
        return Err((value.span(), wrong_type("modifiers", expected, value)));
    };
    let mut modifiers = Modifier::empty();
    for word in words {
        let DeValue::String(text) = word.get_ref() else {
            return Err((word.span(), wrong_type("modifiers", expected, word)));
        };
        let Some((_, modifier)) = MODIFIERS.iter().find(|(known, _)| **known == **text) else {
            let meant = did_you_mean(text, MODIFIERS.map(|(name, _)| name));
            return Err((word.span(), unknown("modifier", text, meant)));
        };
        modifiers |= *modifier;
    }
    Ok(modifiers)
}

fn unknown(what: &'static str, name: &str, meant: Option<&'static str>) -> ThemeProblem {
    ThemeProblem::Unknown { what, name: name.to_owned(), meant }
}

fn wrong_type(name: &str, expected: &'static str, found: &Spanned<DeValue<'_>>) -> ThemeProblem {
    ThemeProblem::WrongType { name: name.to_owned(), expected, found: found.get_ref().type_str() }
}
