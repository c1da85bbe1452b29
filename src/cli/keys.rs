//! The console's keys and colours, as this user wants them.

use super::{Exit, KeymapArgs, environment, say};
use crate::console::ui::View;
use crate::console::{Keymap, Mode, Options};
use crate::engine::failpoint;
use crate::run::Cause;
use crate::run::text::clean;

/// Prints the keymap in force, or says what is wrong in a file.
///
/// # Errors
/// The user's file is wrong, or the file cannot be read.
pub fn run(args: &KeymapArgs) -> Result<Exit, Cause> {
    if let Some(path) = &args.check {
        return check(path);
    }
    say::out(keymap()?.to_toml().trim_end());
    Ok(Exit::Done)
}

/// Reports every mistake of a file. What it says is the answer, so it goes to the standard output.
fn check(path: &std::path::Path) -> Result<Exit, Cause> {
    let label = path.display().to_string();
    let mistakes = Keymap::check(&label, &read(path)?);
    for mistake in &mistakes {
        say::out(&mistake.to_string());
    }
    let label = clean(&label);
    Ok(match mistakes.len() {
        0 => {
            say::out(&format!("{label} is fine"));
            Exit::Done
        }
        1 => {
            say::err(&format!("{label}: 1 mistake"));
            Exit::Usage
        }
        many => {
            say::err(&format!("{label}: {many} mistakes"));
            Exit::Usage
        }
    })
}

/// Everything that the console needs to know before it opens.
///
/// # Errors
/// The user's keys or colours are wrong.
pub fn console_options(theme: Option<&str>, mouse: bool, mode: Mode, farewell: Vec<String>) -> Result<Options, Cause> {
    Ok(Options {
        keymap: keymap()?,
        theme: super::theme::load(theme, &super::theme::surroundings())?,
        mode,
        who: environment::who(),
        farewell,
        view: View::default(),
        notice: None,
        mouse,
        failpoint: failpoint::hit,
    })
}

pub(super) fn read(path: &std::path::Path) -> Result<String, Cause> {
    std::fs::read_to_string(path).map_err(|e| {
        Cause::usage(format!("{} cannot be read: {}", path.display(), crate::postgres::error::io_words(&e)))
    })
}

fn keymap() -> Result<Keymap, Cause> {
    match environment::user_keymap() {
        None => Ok(Keymap::defaults()),
        Some(path) => Keymap::merged(&path.display().to_string(), &read(&path)?).map_err(|e| as_cause(&e.to_string())),
    }
}

/// The first line is the message, the rest the excerpt and the hints.
pub(super) fn as_cause(text: &str) -> Cause {
    let mut lines = text.lines();
    let mut cause = Cause::usage(lines.next().unwrap_or_default().trim_start_matches("error: "));
    for line in lines {
        match line.strip_prefix("hint: ") {
            Some(hint) => cause.hints.push(hint.to_owned()),
            None => cause.details.push(line.to_owned()),
        }
    }
    cause
}
