//! One rule over time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::series::Series;
use crate::run::Level;
use crate::run::metric::Sample;
use crate::run::rule::{Rule, RuleView, Standing};

/// Values of a kind that a rule follows at most: each keeps its last hundred.
const LABELS: usize = 64;
/// An alert whose number has had no value for so long is cleared.
const LOST: Duration = Duration::from_mins(10);
/// A sample that is due in less than this is taken now: clocks are not that exact.
const SLACK: Duration = Duration::from_millis(500);

/// What a rule has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    series: BTreeMap<Option<String>, Series<f64>>,
    /// Since when the limit has been passed without a break.
    past_since: Option<Duration>,
    checked_at: Option<Duration>,
    /// Since when nothing has been measured.
    absent_since: Option<Duration>,
    /// What it found last. `None`: nothing was measured.
    found: Option<Found>,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The value, by the rule's aggregate; the worst of all.
    pub(super) value: f64,
    /// Of which one it is.
    pub(super) label: Option<String>,
    /// What that means.
    pub(super) verdict: Verdict,
}

/// What a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Past the limit, for as long as the rule wants.
    Over(Level),
    /// Past the limit, and not yet for long enough.
    Waiting(Level),
    /// Kept, but within the margin: nothing is raised and nothing is cleared.
    Near,
    /// Kept, margin included.
    Calm,
}

impl Watch {
    /// Whether it is time for the next look, at a pace of `every`.
    pub(super) fn is_due(&self, every: Duration, now: Duration) -> bool {
        self.checked_at.is_none_or(|last| now.saturating_sub(last) + SLACK.min(every / 2) >= every)
    }

    /// Takes what was measured. Returns what was found; nothing where nothing was measured. Then an alert that
    /// holds goes on holding, but no time passes towards one: nobody knows whether the limit is passed.
    pub(super) fn take(&mut self, rule: &Rule, samples: Vec<Sample>, now: Duration) -> Option<&Found> {
        let wanted = |sample: &Sample| {
            sample.value.is_finite() && rule.label.as_ref().is_none_or(|label| sample.label.as_ref() == Some(label))
        };
        let samples: Vec<Sample> = samples.into_iter().filter(wanted).collect();
        if samples.is_empty() {
            self.found = None;
            self.past_since = None;
            self.absent_since.get_or_insert(now);
            return None;
        }
        self.absent_since = None;
        self.checked_at = Some(now);
        if self.series.len() + samples.len() > LABELS {
            self.series.retain(|label, _| samples.iter().any(|sample| sample.label == *label));
        }
        let mut worst: Option<(f64, Option<String>)> = None;
        for Sample { label, value } in samples {
            if self.series.len() >= LABELS && !self.series.contains_key(&label) {
                continue;
            }
            let series = self.series.entry(label.clone()).or_default();
            series.push(value);
            let Some(value) = rule.of.of(series.values().iter().copied()) else { continue };
            if worst.as_ref().is_none_or(|(so_far, _)| rule.bound.is_past(value, *so_far)) {
                worst = Some((value, label));
            }
        }
        let (value, label) = worst?;
        let verdict = self.judge(rule, value, now);
        Some(self.found.insert(Found { value, label, verdict }))
    }

    /// Whether nothing has been measured for so long that what was found before says nothing any more.
    pub(super) fn is_lost(&self, now: Duration) -> bool {
        self.absent_since.is_some_and(|since| now.saturating_sub(since) >= LOST)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    fn judge(&mut self, rule: &Rule, value: f64, now: Duration) -> Verdict {
        if !rule.bound.is_past(value, rule.limit) {
            self.past_since = None;
            return if rule.bound.is_past(value, rule.clear) { Verdict::Near } else { Verdict::Calm };
        }
        let grave = rule.grave.is_some_and(|grave| rule.bound.is_past(value, grave));
        let level = if grave { Level::Critical } else { rule.level };
        let since = *self.past_since.get_or_insert(now);
        if now.saturating_sub(since) >= rule.hold { Verdict::Over(level) } else { Verdict::Waiting(level) }
    }

    /// How the rule stands. `raised`: whether its alert holds.
    pub(super) fn view(&self, rule: &Rule, raised: bool) -> RuleView {
        let value = self.found.as_ref().map(|found| {
            let label = found.label.as_ref().map_or_else(String::new, |label| format!(" ({label})"));
            format!("{}{label}", rule.source.unit().show(found.value))
        });
        let standing = match self.found.as_ref().map(|found| found.verdict) {
            None => Standing::NoValue,
            Some(_) if raised => Standing::Raised,
            Some(Verdict::Waiting(_) | Verdict::Over(_)) => Standing::Waiting,
            Some(Verdict::Near | Verdict::Calm) => Standing::Kept,
        };
        RuleView { name: rule.name.clone(), level: rule.level, condition: rule.condition(), value, standing }
    }
}
