//! A plan that was refused: where, why, and what to do.

use std::fmt;
use std::io;
use std::ops::Range;

use super::mistake::Mistake;
use super::model::PlanSource;
use crate::run::Cause;

/// Of more mistakes than this, the rest is only counted.
const SHOWN: usize = 5;

/// Why a plan was refused. [`PlanError::into_cause`] and `Display` show every mistake with its line, a caret and a
/// hint.
#[derive(Debug)]
pub struct PlanError(Kind);

#[derive(Debug)]
enum Kind {
    Unreadable { label: String, error: io::Error },
    NotText { label: String, line: usize },
    TooLarge { label: String, most: u64 },
    Wrong { plan: PlanSource, problems: Vec<Problem> },
}

/// A mistake at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) mistake: Mistake,
    /// What is wrong, in bytes of the plan's text.
    pub(super) span: Range<usize>,
    /// The earlier place that it collides with.
    pub(super) first: Option<Range<usize>>,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, mistake: Mistake) -> Self {
        Self { mistake, span, first: None }
    }

    fn excerpt(&self, plan: &PlanSource) -> Vec<String> {
        let mut lines = plan.excerpt(self.span.clone());
        if let Some(first) = &self.first {
            lines.push("the first is here:".to_owned());
            lines.extend(plan.excerpt(first.clone()));
        }
        lines
    }
}

impl PlanError {
    pub(super) fn unreadable(label: &str, error: io::Error) -> Self {
        Self(Kind::Unreadable { label: label.to_owned(), error })
    }

    pub(super) fn not_text(label: &str, line: usize) -> Self {
        Self(Kind::NotText { label: label.to_owned(), line })
    }

    pub(super) fn too_large(label: &str, most: u64) -> Self {
        Self(Kind::TooLarge { label: label.to_owned(), most })
    }

    /// The problems are shown in the order of the text.
    pub(super) fn wrong(plan: PlanSource, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        Self(Kind::Wrong { plan, problems })
    }

    /// How many mistakes are known. What kept the plan from being read is one.
    #[must_use]
    pub fn mistakes(&self) -> usize {
        match &self.0 {
            Kind::Wrong { problems, .. } => problems.len(),
            Kind::Unreadable { .. } | Kind::NotText { .. } | Kind::TooLarge { .. } => 1,
        }
    }

    /// The variables that are not set, where nothing else is wrong with the plan.
    #[must_use]
    pub fn only_missing(&self) -> Option<impl Iterator<Item = &str>> {
        let Kind::Wrong { problems, .. } = &self.0 else { return None };
        let missing = |problem: &Problem| matches!(problem.mistake, Mistake::MissingVariable(_));
        problems.iter().all(missing).then(|| {
            problems.iter().filter_map(|problem| match &problem.mistake {
                Mistake::MissingVariable(name) => Some(name.as_str()),
                _ => None,
            })
        })
    }

    /// The plan as it was read, where it could be read.
    #[must_use]
    pub fn source_text(&self) -> Option<&PlanSource> {
        match &self.0 {
            Kind::Wrong { plan, .. } => Some(plan),
            Kind::Unreadable { .. } | Kind::NotText { .. } | Kind::TooLarge { .. } => None,
        }
    }

    /// The same as a [`Cause`]: a mistake of the plan's author, which exits with code 2.
    #[must_use]
    pub fn into_cause(self) -> Cause {
        self.cause()
    }

    fn cause(&self) -> Cause {
        match &self.0 {
            Kind::Unreadable { label, error } => unreadable(label, error),
            Kind::NotText { label, line } => {
                Cause::usage(format!("the plan `{label}` is not UTF-8 text (line {line})"))
                    .hint("save it as UTF-8; a plan is a TOML file")
            }
            Kind::TooLarge { label, most } => {
                Cause::usage(format!("`{label}` is larger than {} MiB: that is no plan", most >> 20))
                    .hint("give the path of a plan, a TOML file")
            }
            Kind::Wrong { plan, problems } => wrong(plan, problems),
        }
    }
}

fn unreadable(label: &str, error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::usage(format!("there is no file `{label}`"))
            .hint("give the path of a plan, a TOML file; the repository has examples in assets/plans"),
        io::ErrorKind::PermissionDenied => Cause::usage(format!("the plan `{label}` may not be read"))
            .hint(format!("let this user read it: chmod u+r '{label}', or ask its owner")),
        io::ErrorKind::IsADirectory => {
            Cause::usage(format!("`{label}` is a directory, not a plan")).hint("give the path of a file in it")
        }
        _ => Cause::usage(format!("the plan `{label}` cannot be read: {error}")).hint("check the path and the disk"),
    }
}

fn wrong(plan: &PlanSource, problems: &[Problem]) -> Cause {
    let headline = problems.first().map_or_else(|| "the plan is wrong".to_owned(), |first| first.mistake.to_string());
    let mut cause = Cause::usage(headline);
    for (index, problem) in problems.iter().take(SHOWN).enumerate() {
        let hint = problem.mistake.hint();
        if index == 0 {
            cause.hints.push(hint);
        } else {
            cause.details.push(format!("also: {}", problem.mistake));
            cause.hints.push(format!("line {}: {hint}", plan.place(problem.span.start).0));
        }
        cause.details.extend(problem.excerpt(plan));
    }
    match problems.len().saturating_sub(SHOWN) {
        0 => cause,
        1 => cause.detail("and 1 more mistake"),
        more => cause.detail(format!("and {more} more mistakes")),
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cause { message, details, hints, .. } = self.cause();
        let hints = hints.into_iter().map(|hint| format!("hint: {hint}"));
        let lines: Vec<String> = std::iter::once(message).chain(details).chain(hints).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PlanError {}
