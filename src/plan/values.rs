//! Single values: filled in from the environment, then read as what they stand for. What is wrong is noted, and reading
//! goes on, so that all mistakes are shown at once.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::error::Problem;
use super::format;
use super::interpolate;
use super::mistake::Mistake;
use super::model::Sql;
use super::raw::{Located, Text};
use crate::run::ByteSize;
use crate::run::human;

/// PostgreSQL holds timeouts as milliseconds in 32 bits, which is a little more than this.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_hours(24 * 24);

/// For durations that only howdah uses: ten years.
pub(super) const LONGEST: Duration = Duration::from_hours(24 * 3652);

/// Reads values and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// `text` is the plan's text, to find places in it.
    pub(super) fn new(text: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { text, env, problems: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn report(&mut self, span: Range<usize>, mistake: Mistake) {
        self.problems.push(Problem::new(span, mistake));
    }

    /// A mistake that collides with an earlier place.
    pub(super) fn report_second(&mut self, span: Range<usize>, first: Range<usize>, mistake: Mistake) {
        self.problems.push(Problem { mistake, span, first: Some(first) });
    }

    /// The text, filled in and not empty.
    pub(super) fn text(&mut self, key: &str, field: Text) -> Option<Sql> {
        let text = self.filled(&field)?;
        if text.trim().is_empty() {
            let example = format::key_of(key).map_or("", |key| key.example);
            let advice = format!("write it like `{example}`, or remove it");
            self.report(field.span, Mistake::Empty { key: key.to_owned(), advice });
            return None;
        }
        Some(Sql { text, span: field.span })
    }

    /// A duration of at least a millisecond.
    pub(super) fn duration(&mut self, key: &str, field: Option<Text>, most: Duration) -> Option<Located<Duration>> {
        let least = Duration::from_millis(1);
        let field = field?;
        let Some(value) = parse_duration(&self.filled(&field)?) else {
            self.report(field.span, Mistake::BadDuration { key: key.to_owned() });
            return None;
        };
        if (least..=most).contains(&value) {
            return Some(Located { value, span: field.span });
        }
        let [value, least, most] = [value, least, most].map(human::duration);
        self.report(field.span, Mistake::OutOfRange { key: key.to_owned(), value, least, most });
        None
    }

    /// A whole number in a range.
    pub(super) fn whole(
        &mut self,
        key: &str,
        field: Option<Located<i64>>,
        range: &RangeInclusive<u64>,
    ) -> Option<Located<u64>> {
        let Located { value, span } = field?;
        match u64::try_from(value) {
            Ok(value) if range.contains(&value) => Some(Located { value, span }),
            _ => {
                let [least, most] = [range.start(), range.end()].map(|bound| human::count(*bound));
                self.report(span, Mistake::OutOfRange { key: key.to_owned(), value: value.to_string(), least, most });
                None
            }
        }
    }

    /// A number in a range.
    pub(super) fn number(
        &mut self,
        key: &str,
        field: Option<Located<f64>>,
        range: &RangeInclusive<f64>,
    ) -> Option<Located<f64>> {
        let Located { value, span } = field?;
        if range.contains(&value) {
            return Some(Located { value, span });
        }
        let [value, least, most] = [&value, range.start(), range.end()].map(f64::to_string);
        self.report(span, Mistake::OutOfRange { key: key.to_owned(), value, least, most });
        None
    }

    /// A number, not infinite.
    pub(super) fn finite(&mut self, key: &str, field: Located<f64>) -> Option<f64> {
        if !field.value.is_finite() {
            self.report(field.span, Mistake::NotFinite { key: key.to_owned() });
            return None;
        }
        Some(field.value)
    }

    /// One of the words, by its place among them.
    pub(super) fn word(&mut self, key: &'static str, field: &Text, words: &'static [&'static str]) -> Option<usize> {
        let text = self.filled(field)?;
        let place = words.iter().position(|word| *word == text.trim());
        if place.is_none() {
            self.report(field.span.clone(), Mistake::NotOneOf { key, words });
        }
        place
    }

    /// Whether it says "off". What cannot be filled in does not, and is told where its value is read.
    pub(super) fn is_off(&self, field: &Text) -> bool {
        interpolate::fill(&field.value, self.env).is_ok_and(|text| text.trim() == "off")
    }

    /// A number of bytes, not zero.
    pub(super) fn size(&mut self, key: &str, field: Option<Text>) -> Option<ByteSize> {
        let field = field?;
        let size = self.filled(&field)?.parse::<ByteSize>().ok().filter(|size| size.0 > 0);
        if size.is_none() {
            self.report(field.span, Mistake::BadSize { key: key.to_owned() });
        }
        size
    }

    /// A percentage, from 0 to 100.
    pub(super) fn percentage(&mut self, key: &str, field: Option<Text>) -> Option<f64> {
        let field = field?;
        let percentage = parse_percentage(&self.filled(&field)?);
        if percentage.is_none() {
            self.report(field.span, Mistake::BadPercentage { key: key.to_owned() });
        }
        percentage
    }

    /// The part of the plan's text inside `span` that reads `part`, `nth` from 0; else all of `span`.
    pub(super) fn part_of(&self, span: Range<usize>, part: &str, nth: usize) -> Range<usize> {
        let inside = self.text.get(span.clone()).unwrap_or_default();
        match inside.match_indices(part).nth(nth) {
            Some((at, part)) if !part.is_empty() => span.start + at..span.start + at + part.len(),
            _ => span,
        }
    }

    /// The text, filled in; unlike elsewhere, nothing may be what is meant.
    pub(super) fn possibly_empty(&mut self, field: &Text) -> Option<String> {
        self.filled(field)
    }

    fn filled(&mut self, field: &Text) -> Option<String> {
        match interpolate::fill(&field.value, self.env) {
            Ok(text) => Some(text),
            Err(unfilled) => {
                let span = self.part_of(field.span.clone(), &unfilled.reference, 0);
                self.report(span, unfilled.mistake);
                None
            }
        }
    }
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    // `humantime` panics where a sum passes what a Duration can hold; nobody needs numbers that long.
    let is_sane = text.len() <= 64 && text.split(|c: char| !c.is_ascii_digit()).all(|digits| digits.len() <= 9);
    if is_sane { humantime::parse_duration(text.trim()).ok() } else { None }
}

pub(super) fn parse_percentage(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let is_plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    if !is_plain {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    (0.0..=100.0).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentages_need_their_sign_and_stay_within_a_hundred() {
        let table = [("10%", Some(10.0)), (" 2.5 % ", Some(2.5)), ("0%", Some(0.0)), ("100%", Some(100.0))];
        for (text, value) in table {
            assert_eq!(parse_percentage(text), value, "{text}");
        }
        for bad in ["10", "101%", "-1%", "NaN%", "inf%", "1e1%", "%", "", "ten%", "1.2.3%"] {
            assert_eq!(parse_percentage(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_human() {
        let table = [("500ms", 500), ("2s", 2000), (" 1m 30s ", 90_000), ("1.5h", 5_400_000), ("0", 0)];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "5", "-2s", "2 parsecs", "18446744073709551615s 1000ms"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_duration_never_panics(text in "([0-9]{1,12}(\\.[0-9]{0,3})?(ns|ms|s|m|h|d|y|x| )?){0,8}") {
            let _ = parse_duration(&text);
        }
    }
}
