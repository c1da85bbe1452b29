//! `howdah run --dry-run`: what would become of the first files, as a diff.

use std::io::IsTerminal;

use super::{Exit, Global, caches, check, environment, opening, say};
use crate::plan::model::{Plan, StepKind};
use crate::postgres::dsn::Target;
use crate::run::text::clean;
use crate::run::{ByteSize, Cause, human};
use crate::steps::files::{self, Preview};

/// Files that would be set aside and are told one by one.
const TOLD: usize = 10;

/// Checks a plan, shows what it would do with files, and changes nothing.
///
/// # Errors
/// Why it would not run.
pub(super) async fn run(global: &Global, target: &Target, plan: &Plan) -> Result<Exit, Cause> {
    let redis = caches::address(plan, global.redis.as_deref())?;
    let settings = opening::session("lookups", "cli", Some(&plan.limits));
    let caches = caches::of_plan(plan, target, settings, redis.as_ref());
    let exit = check::tell(global, target, plan).await?;
    if exit != Exit::Done {
        return Ok(exit);
    }
    let coloured = std::io::stdout().is_terminal() && environment::variable("NO_COLOR").is_none_or(|no| no.is_empty());
    for step in &plan.steps {
        let StepKind::Files(files) = &step.kind else { continue };
        let what = format!("step \"{}\"", step.name);
        let preview = files::preview(&what, files, &plan.source, caches.as_ref()).await?;
        tell(&what, &preview, coloured);
    }
    Ok(Exit::Done)
}

fn tell(what: &str, preview: &Preview, coloured: bool) {
    let Preview { files, bytes, looked_at, changes, wrong } = preview;
    let of = if *files == 1 { "1 file".to_owned() } else { format!("{} files", human::count(*files)) };
    say::out(&format!("{}: {of}, {}", clean(what), ByteSize(*bytes)));
    for change in changes {
        say::out("");
        let is_diff = change.lines.first().is_some_and(|line| line.starts_with("--- "));
        if !is_diff {
            say::out(&clean(&change.path));
        }
        for line in &change.lines {
            say::out(&painted(line, coloured && is_diff));
        }
    }
    if !wrong.is_empty() {
        say::out("");
    }
    for (path, told) in wrong.iter().take(TOLD) {
        say::out(&format!("would be set aside: {}: {}", clean(path), clean(told)));
    }
    if wrong.len() > TOLD {
        say::out(&format!("and {} more", human::count((wrong.len() - TOLD) as u64)));
    }
    let same = looked_at.saturating_sub((changes.len() + wrong.len()) as u64);
    say::out(&format!(
        "tried on the first {}: {} would change, {} would stay as they are, {} would be set aside; nothing was changed",
        human::count(*looked_at),
        human::count(changes.len() as u64),
        human::count(same),
        human::count(wrong.len() as u64)
    ));
}

/// A line of a diff: cleaned, and in its colour.
fn painted(line: &str, coloured: bool) -> String {
    // A lone carriage return at the end is the file's own line end: nothing to be seen.
    let line = clean(line.strip_suffix('\r').unwrap_or(line));
    let colour = match line.as_bytes().first() {
        _ if line.starts_with("--- ") || line.starts_with("+++ ") => "1",
        Some(b'+') => "32",
        Some(b'-') => "31",
        Some(b'@') => "36",
        _ => return line.into_owned(),
    };
    if coloured { format!("\x1b[{colour}m{line}\x1b[0m") } else { line.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cleaned_before_it_gets_its_colour() {
        assert_eq!(painted("+a\x1b[2Jb", true), "\x1b[32m+a\u{fffd}[2Jb\x1b[0m");
        assert_eq!(painted("-a\r", false), "-a");
        assert_eq!(painted(" same", true), " same");
    }
}
