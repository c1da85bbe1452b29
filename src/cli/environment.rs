//! What the process finds around itself: variables, directories, terminal.

use std::io::IsTerminal;
use std::path::PathBuf;

use etcetera::{AppStrategy, AppStrategyArgs, app_strategy};

use super::ShowArgs;
use super::headless::Style;
use crate::run::Cause;

/// A variable of the environment, where it is set and is text.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The environment of a plan: `--database` answers for `DATABASE_URL`, since it would win over it anyway.
pub fn of_plan(flag: Option<&str>) -> impl Fn(&str) -> Option<String> {
    let flag = flag.map(str::to_owned);
    move |name| if name == "DATABASE_URL" && flag.is_some() { flag.clone() } else { variable(name) }
}

fn strategy() -> Option<app_strategy::Xdg> {
    let args = AppStrategyArgs {
        top_level_domain: "org".to_owned(),
        author: "howdah".to_owned(),
        app_name: "howdah".to_owned(),
    };
    app_strategy::Xdg::new(args).ok()
}

/// `$XDG_STATE_HOME/howdah/log`, by default `~/.local/state/howdah/log`.
///
/// # Errors
/// There is no home directory.
pub fn log_directory() -> Result<PathBuf, Cause> {
    strategy()
        .and_then(|xdg| xdg.in_state_dir("log"))
        .ok_or_else(|| Cause::usage("there is no home directory to keep the log in").hint("set HOME or XDG_STATE_HOME"))
}

/// `$XDG_CONFIG_HOME/howdah/keymap.toml`, by default `~/.config/howdah/keymap.toml`, where it is there.
#[must_use]
pub fn user_keymap() -> Option<PathBuf> {
    strategy().map(|xdg| xdg.in_config_dir("keymap.toml")).filter(|path| path.is_file())
}

/// `$XDG_CONFIG_HOME/howdah/themes/NAME.toml`, where it is there.
#[must_use]
pub fn user_theme(name: &str) -> Option<PathBuf> {
    strategy().map(|xdg| xdg.in_config_dir(format!("themes/{name}.toml"))).filter(|path| path.is_file())
}

/// `$XDG_CONFIG_HOME/howdah/themes/*.toml`, in the order of their names.
#[must_use]
pub fn user_themes() -> Vec<PathBuf> {
    let directory = strategy().map(|xdg| xdg.in_config_dir("themes"));
    let entries = directory.and_then(|directory| std::fs::read_dir(directory).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut themes: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "toml")).collect();
    themes.sort();
    themes
}

/// How the run is to be shown: `None` is the console.
#[must_use]
pub fn style(show: &ShowArgs) -> Option<Style> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let dumb = variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if show.json {
        Some(Style::Json)
    } else if !show.headless && terminal && !dumb {
        None
    } else if std::io::stderr().is_terminal() && !dumb {
        Some(Style::Bar)
    } else {
        Some(Style::Lines)
    }
}

/// The host's name, for people to recognise.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// Who sits here, for the record of commands: `ann@ops2`.
#[must_use]
pub fn who() -> String {
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name);
    format!("{name}@{}", host())
}

/// An id for a new run.
#[must_use]
pub fn new_run() -> crate::run::RunId {
    super::detach::run_id().unwrap_or_else(|| crate::run::RunId(uuid::Uuid::now_v7()))
}
