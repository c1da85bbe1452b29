//! An error in a file that configures the console, with its line and a caret under it.

use std::fmt;
use std::ops::Range;

use super::measure::width;
use crate::run::Cause;
use crate::run::text::clean;

/// What can be wrong in a file.
pub trait Problem: std::error::Error {
    /// What to change.
    fn hint(&self) -> Option<String>;
}

/// A problem, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<P> {
    /// What is wrong.
    pub problem: P,
    /// Where, with an excerpt.
    pub place: Box<Place>,
}

impl<P> Located<P> {
    /// A problem with the bytes `span` of `text`, which messages call `label`.
    #[must_use]
    pub fn new(problem: P, label: &str, text: &str, span: &Range<usize>) -> Self {
        Self { problem, place: Box::new(Place::new(label, text, span)) }
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// How messages name the file.
    pub label: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line itself, and carets under the place.
    pub excerpt: [String; 2],
}

impl Place {
    /// The place of the bytes `span` in `text`.
    #[must_use]
    pub fn new(label: &str, text: &str, span: &Range<usize>) -> Self {
        let boundary = |at: usize| {
            let at = at.min(text.len());
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let start = boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = boundary(span.end).clamp(start, line_end);
        let line = text[..line_start].matches('\n').count() + 1;
        let before = clean(&text[line_start..start]);
        let carets = width(&clean(&text[start..end])).max(1);
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let shown = clean(text[line_start..line_end].trim_end());
        Self {
            label: label.to_owned(),
            line,
            column: text[line_start..start].chars().count() + 1,
            excerpt: [
                format!("{number} | {shown}"),
                format!("{gutter} | {}{}", " ".repeat(width(&before)), "^".repeat(carets)),
            ],
        }
    }
}

impl<P: Problem> fmt::Display for Located<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { label, line, column, excerpt: [text, carets] } = &*self.place;
        write!(f, "{label}:{line}:{column}: {}\n{text}\n{carets}", self.problem)?;
        match self.problem.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl<P: Problem> std::error::Error for Located<P> {}

impl<P: Problem> From<Located<P>> for Cause {
    fn from(error: Located<P>) -> Self {
        let Place { label, line, column, excerpt } = &*error.place;
        let mut cause = Self::usage(format!("{label}:{line}:{column}: {}", error.problem));
        cause.details.extend(excerpt.iter().cloned());
        cause.hints.extend(error.problem.hint());
        cause
    }
}

/// The known name that was most likely meant.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_shows_its_line_and_carets_under_it() {
        let text = "[view]\npause = [\"spce\"]\nquit = []\n";
        let at = text.find("\"spce\"").unwrap();
        let place = Place::new("keys.toml", text, &(at..at + 6));
        assert_eq!((place.line, place.column), (2, 10));
        assert_eq!(place.excerpt[0], "2 | pause = [\"spce\"]");
        assert_eq!(place.excerpt[1], "  |          ^^^^^^");
    }

    #[test]
    fn the_likeliest_name_is_meant_or_none() {
        let known = ["pause", "quit", "help"];
        assert_eq!(did_you_mean("puase", known), Some("pause"));
        assert_eq!(did_you_mean("zzz", known), None);
    }

    proptest! {
        #[test]
        fn any_span_in_any_text_has_a_place(text in any::<String>(), start in 0_usize..100, len in 0_usize..100) {
            let place = Place::new("x", &text, &(start..start + len));
            prop_assert!(place.line >= 1 && place.column >= 1);
        }
    }
}
