//! Words on standard output and standard error, where no console is open. A closed pipe is nobody's failure.

use std::io::{BufRead as _, IsTerminal as _, Write};

use super::Exit;
use crate::run::cause::Fault;
use crate::run::{Cause, text};

/// A text on standard output, with a line's end.
pub fn out(words: &str) {
    // Whoever closed the pipe does not want to hear more.
    drop(writeln!(std::io::stdout().lock(), "{words}"));
}

/// Standard output, for what is too long to be put together first; and whether a terminal shows it.
#[must_use]
pub fn stream() -> (impl Write, bool) {
    let to_terminal = std::io::stdout().is_terminal();
    (std::io::stdout().lock(), to_terminal)
}

/// A text on standard error, with a line's end.
pub fn err(words: &str) {
    drop(writeln!(std::io::stderr().lock(), "{words}"));
}

/// A question on standard error; the answer is typed behind it.
pub fn ask(words: &str) {
    let mut err = std::io::stderr().lock();
    drop(write!(err, "{words}"));
    drop(err.flush());
}

/// Asks a person, unless `--yes` has answered. `what` says what would be done, as in `this takes changes back`.
///
/// # Errors
/// There is no terminal to ask at.
pub fn confirmed(question: &str, yes: bool, what: &str) -> Result<bool, Cause> {
    if yes {
        return Ok(true);
    }
    let (stdin, terminal) = (std::io::stdin(), std::io::stderr().is_terminal());
    if !stdin.is_terminal() || !terminal {
        let mut cause = Cause::usage(format!("{what}, and there is no terminal to ask at"));
        cause.details = question.lines().map(str::to_owned).collect();
        return Err(cause.hint("add --yes when that is what you want"));
    }
    err(question);
    ask("go on? [y/N] ");
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// Tells a failure: what, where, what to do. Returns the exit code that goes with it.
#[must_use]
pub fn failure(cause: &Cause) -> Exit {
    err(&failure_text(cause));
    exit_of(cause)
}

/// The exit code that goes with a failure.
#[must_use]
pub fn exit_of(cause: &Cause) -> Exit {
    match cause.fault {
        Fault::Usage => Exit::Usage,
        Fault::Work | Fault::Bug => Exit::Failed,
    }
}

/// A failure as text.
#[must_use]
pub fn failure_text(cause: &Cause) -> String {
    let mut lines = vec![format!("error: {}", text::clean(&cause.headline()))];
    lines.extend(cause.details.iter().map(|line| text::clean(line).into_owned()));
    lines.extend(cause.hints.iter().map(|line| format!("hint: {}", text::clean(line))));
    if cause.fault == Fault::Bug {
        lines.push("this is a bug in howdah: please report it, with the log file".to_owned());
    }
    lines.join("\n")
}
