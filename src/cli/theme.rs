//! The console's colours, as this user wants them, and `howdah theme`, which shows them.

use clap::Args;

use super::keys::{as_cause, read};
use super::{Exit, environment, say};
use crate::console::theme::Source;
use crate::console::{Environment, Theme};
use crate::run::Cause;

/// `howdah theme`.
#[derive(Debug, Args)]
pub struct ThemeArgs {
    /// The theme: dark, light, mono, one of your own in ~/.config/howdah/themes, or a file
    #[arg(value_name = "NAME|FILE", default_value = "dark")]
    pub theme: String,
    /// List the themes that have a name
    #[arg(long, conflicts_with = "theme")]
    pub list: bool,
}

/// Shows a theme, role by role, in the colours of this terminal.
///
/// # Errors
/// There is no such theme, or its file is wrong.
pub fn run(args: &ThemeArgs) -> Result<Exit, Cause> {
    if args.list {
        let mut names: Vec<String> = Theme::names().map(str::to_owned).collect();
        names.extend(environment::user_themes().into_iter().map(|path| path.display().to_string()));
        say::out(&names.join("\n"));
        return Ok(Exit::Done);
    }
    let surroundings = surroundings();
    let coloured = say::stream().1 && surroundings.no_color.as_deref().is_none_or(str::is_empty);
    // Without colours it is told what they would be.
    let theme = load(Some(&args.theme), &Environment { no_color: None, ..surroundings })?;
    say::out(&theme.swatch(coloured));
    Ok(Exit::Done)
}

/// What the environment says about the terminal.
#[must_use]
pub fn surroundings() -> Environment {
    Environment {
        no_color: environment::variable("NO_COLOR"),
        colorterm: environment::variable("COLORTERM"),
        term: environment::variable("TERM"),
        lc_all: environment::variable("LC_ALL"),
        lc_ctype: environment::variable("LC_CTYPE"),
        lang: environment::variable("LANG"),
    }
}

/// A theme by its name, or from a file.
///
/// # Errors
/// There is no such theme, or its file is wrong.
pub fn load(wanted: Option<&str>, surroundings: &Environment) -> Result<Theme, Cause> {
    let wanted = wanted.unwrap_or("dark");
    let file = if wanted.contains(['/', '.']) { Some(wanted.into()) } else { environment::user_theme(wanted) };
    match file {
        Some(path) => {
            Theme::load(Source::File { label: &path.display().to_string(), text: &read(&path)? }, surroundings)
        }
        None => Theme::load(Source::Named(wanted), surroundings),
    }
    .map_err(|e| as_cause(&e.to_string()))
}
