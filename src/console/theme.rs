//! Colours by role, never by widget: `assets/themes/*.toml`, or a file of the user's in the same form.

use std::ops::Range;

use ratatui::style::{Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::colour::{self, Depth, Environment};
use super::config_error::{Located, Problem, did_you_mean};
use super::glyphs::{self, Glyphs};
use crate::run::{Effect, Level, RunState, StepState};

/// What a piece of text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything that has no other role.
    Text,
    /// What may be overlooked.
    Dim,
    /// Headings of panes and columns.
    Title,
    /// Names: the plan, the running step, the tables of the plan.
    Accent,
    /// Frames of panes.
    Border,
    /// What goes well.
    Ok,
    /// What is in transition.
    Busy,
    /// Look when you can.
    Warning,
    /// Look now.
    Critical,
    /// The full part of a bar.
    Gauge,
    /// The empty part of a bar.
    GaugeEmpty,
    /// A sparkline.
    Spark,
    /// A key to press.
    Key,
    /// The marked choice.
    Selected,
}

impl Role {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Text,
        Self::Dim,
        Self::Title,
        Self::Accent,
        Self::Border,
        Self::Ok,
        Self::Busy,
        Self::Warning,
        Self::Critical,
        Self::Gauge,
        Self::GaugeEmpty,
        Self::Spark,
        Self::Key,
        Self::Selected,
    ];

    /// The name in a theme file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Dim => "dim",
            Self::Title => "title",
            Self::Accent => "accent",
            Self::Border => "border",
            Self::Ok => "ok",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Gauge => "gauge",
            Self::GaugeEmpty => "gauge-empty",
            Self::Spark => "spark",
            Self::Key => "key",
            Self::Selected => "selected",
        }
    }

    /// The role of a run's state.
    #[must_use]
    pub fn of_state(state: &RunState) -> Self {
        match state {
            RunState::Running | RunState::Done { .. } => Self::Ok,
            RunState::Starting | RunState::Pausing { .. } | RunState::Resuming { .. } | RunState::Stopping { .. } => {
                Self::Busy
            }
            RunState::Paused { .. } | RunState::Stopped { .. } => Self::Warning,
            RunState::Failed { .. } => Self::Critical,
        }
    }

    /// The role of a step's state.
    #[must_use]
    pub fn of_step(state: StepState) -> Self {
        match state {
            StepState::Waiting => Self::Dim,
            StepState::Running => Self::Accent,
            StepState::Done => Self::Ok,
            StepState::Failed => Self::Critical,
        }
    }

    /// The role of what one of the governor's signals does.
    #[must_use]
    pub fn of_effect(effect: Effect) -> Self {
        match effect {
            Effect::Shown => Self::Dim,
            Effect::Free | Effect::Holds => Self::Text,
            Effect::Sheds | Effect::Waits | Effect::Unread => Self::Warning,
            Effect::Pauses => Self::Critical,
        }
    }

    /// The role of an event or an alert.
    #[must_use]
    pub fn of_level(level: Level) -> Self {
        match level {
            Level::Info => Self::Text,
            Level::Warning => Self::Warning,
            Level::Critical => Self::Critical,
        }
    }
}

/// The themes that are compiled in: name, and text.
const COMPILED_IN: [(&str, &str); 3] = [
    ("dark", include_str!("../../assets/themes/dark.toml")),
    ("light", include_str!("../../assets/themes/light.toml")),
    ("mono", include_str!("../../assets/themes/mono.toml")),
];

const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underline", Modifier::UNDERLINED),
    ("reverse", Modifier::REVERSED),
];

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
                did_you(*meant).or_else(|| Some("the properties are fg, bg and modifiers".to_owned()))
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
        let mut styles = match source {
            Source::Named(name) => named(name, "theme")?,
            Source::File { label, text } => read(label, text)?,
        };
        if depth == Depth::None {
            styles = named("mono", "mono")?;
        }
        for style in &mut styles {
            style.fg = style.fg.map(|colour| colour::reduce(colour, depth));
            style.bg = style.bg.map(|colour| colour::reduce(colour, depth));
        }
        let glyphs = if environment.is_utf8() { glyphs::UNICODE } else { glyphs::ASCII };
        Ok(Self { styles, glyphs })
    }

    /// The style of a role.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}

type Styles = [Style; Role::ALL.len()];

fn named(name: &str, label: &str) -> Result<Styles, ThemeError> {
    match COMPILED_IN.into_iter().find(|(known, _)| *known == name) {
        Some((name, text)) => read(name, text),
        None => Err(Located::new(ThemeProblem::UnknownTheme(name.to_owned()), label, name, &(0..name.len()))),
    }
}

/// Reads one theme file, with its base.
fn read(label: &str, text: &str) -> Result<Styles, ThemeError> {
    let wrong = |span: Range<usize>, problem| Located::new(problem, label, text, &span);
    let document = DeTable::parse(text)
        .map_err(|error| wrong(error.span().unwrap_or_default(), ThemeProblem::Syntax(error.message().to_owned())))?;
    let document = document.get_ref();
    let is_compiled_in = COMPILED_IN.iter().any(|(_, compiled_in)| *compiled_in == text);
    let mut styles = match document.get("base") {
        Some(base) => match base.get_ref() {
            DeValue::String(name) if COMPILED_IN.iter().any(|(known, _)| **known == **name) => named(name, label)?,
            DeValue::String(name) => return Err(wrong(base.span(), ThemeProblem::UnknownTheme(name.to_string()))),
            _ => return Err(wrong(base.span(), wrong_type("base", "the name of a theme", base))),
        },
        None if is_compiled_in => [Style::new(); Role::ALL.len()],
        None => named("dark", label)?,
    };
    for (name, value) in document {
        if **name.get_ref() == *"base" {
            continue;
        }
        let Some(role) = Role::ALL.into_iter().find(|role| *role.name() == **name.get_ref()) else {
            let meant = did_you_mean(name.get_ref(), Role::ALL.map(Role::name));
            return Err(wrong(name.span(), unknown("role", name.get_ref(), meant)));
        };
        let DeValue::Table(properties) = value.get_ref() else {
            return Err(wrong(value.span(), wrong_type(role.name(), "a table", value)));
        };
        styles[role as usize] = style(properties).map_err(|(span, problem)| wrong(span, problem))?;
    }
    Ok(styles)
}

type Misplaced = (Range<usize>, ThemeProblem);

fn style(properties: &DeTable<'_>) -> Result<Style, Misplaced> {
    let mut style = Style::new();
    for (name, value) in properties {
        match &**name.get_ref() {
            "fg" => style.fg = Some(colour_of(name.get_ref(), value)?),
            "bg" => style.bg = Some(colour_of(name.get_ref(), value)?),
            "modifiers" => style = style.add_modifier(modifiers_of(value)?),
            other => {
                let meant = did_you_mean(other, ["fg", "bg", "modifiers"]);
                return Err((name.span(), unknown("property", other, meant)));
            }
        }
    }
    Ok(style)
}

fn colour_of(name: &str, value: &Spanned<DeValue<'_>>) -> Result<ratatui::style::Color, Misplaced> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Color;

    fn terminal(no_color: &str, colorterm: &str, term: &str, lang: &str) -> Environment {
        let set = |text: &str| Some(text.to_owned());
        Environment {
            no_color: set(no_color),
            colorterm: set(colorterm),
            term: set(term),
            lang: set(lang),
            ..Environment::default()
        }
    }

    fn full() -> Environment {
        terminal("", "truecolor", "xterm-256color", "C.UTF-8")
    }

    #[test]
    fn roles_are_in_the_order_of_their_declaration() {
        for (index, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, index, "{}", role.name());
        }
    }

    #[test]
    fn every_compiled_in_theme_can_be_loaded_at_every_depth() {
        let depths = [("", "truecolor", "xterm"), ("", "", "xterm-256color"), ("", "", "xterm"), ("1", "", "xterm")];
        for (name, _) in COMPILED_IN {
            for (no_color, colorterm, term) in depths {
                Theme::load(Source::Named(name), &terminal(no_color, colorterm, term, "C")).unwrap();
            }
        }
    }

    #[test]
    fn alerts_differ_from_plain_text_in_every_theme() {
        for (name, _) in COMPILED_IN {
            let theme = Theme::load(Source::Named(name), &full()).unwrap();
            let [text, warning, critical] = [Role::Text, Role::Warning, Role::Critical].map(|role| theme.style(role));
            assert!(text != warning && text != critical && warning != critical, "{name}");
        }
    }

    #[test]
    fn no_color_leaves_no_colour_whatever_the_theme_says() {
        let environment = terminal("yes", "truecolor", "xterm-256color", "C.UTF-8");
        for source in [Source::Named("light"), Source::File { label: "x", text: "text = { fg = \"red\", bg = 3 }" }] {
            let theme = Theme::load(source, &environment).unwrap();
            for role in Role::ALL {
                let style = theme.style(role);
                assert_eq!((style.fg, style.bg), (None, None), "{}", role.name());
            }
        }
        let empty = terminal("", "truecolor", "xterm-256color", "C.UTF-8");
        let theme = Theme::load(Source::Named("dark"), &empty).unwrap();
        assert!(Role::ALL.into_iter().any(|role| theme.style(role).fg.is_some()));
    }

    #[test]
    fn a_locale_without_utf_8_gets_ascii_signs() {
        assert!(Theme::load(Source::Named("dark"), &terminal("", "", "xterm", "C")).unwrap().glyphs.ascii);
        assert!(!Theme::load(Source::Named("dark"), &full()).unwrap().glyphs.ascii);
    }

    #[test]
    fn a_file_changes_the_roles_that_it_names() {
        let text =
            "base = \"light\"\nok = { fg = \"#010203\", modifiers = [\"bold\", \"reverse\"] }\nbusy = { bg = 208 }\n";
        let theme = Theme::load(Source::File { label: "mine", text }, &full()).unwrap();
        let light = Theme::load(Source::Named("light"), &full()).unwrap();
        let ok = Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD | Modifier::REVERSED);
        assert_eq!(theme.style(Role::Ok), ok);
        assert_eq!(theme.style(Role::Busy), Style::new().bg(Color::Indexed(208)));
        assert_eq!(theme.style(Role::Critical), light.style(Role::Critical));
    }

    #[test]
    fn what_is_wrong_in_a_theme_is_refused_with_its_line() {
        let table = [
            ("ok = {", 1, "", None),
            ("\nwarming = {}\n", 2, "there is no role `warming`", Some("did you mean `warning`?")),
            ("ok = { fgg = 1 }\n", 1, "there is no property `fgg`", Some("did you mean `fg`?")),
            ("ok = { fg = \"light-bleu\" }\n", 1, "`light-bleu` is not a colour", Some("did you mean `light-blue`?")),
            ("ok = { fg = 256 }\n", 1, "`256` is not a colour", None),
            ("ok = { fg = true }\n", 1, "`fg` must be a colour, not boolean", None),
            ("ok = { modifiers = [\"bald\"] }\n", 1, "there is no modifier `bald`", Some("did you mean `bold`?")),
            ("ok = \"red\"\n", 1, "`ok` must be a table, not string", None),
            ("base = \"darkness\"\n", 1, "there is no theme `darkness`", None),
        ];
        for (text, line, message, hint) in table {
            let error = Theme::load(Source::File { label: "mine.toml", text }, &full()).unwrap_err();
            assert_eq!(error.place.line, line, "{error}");
            assert!(error.problem.to_string().starts_with(message), "{error}");
            if hint.is_some() {
                assert_eq!(error.problem.hint().as_deref(), hint);
            }
        }
        assert!(Theme::load(Source::Named("solarized"), &full()).is_err());
    }
}
