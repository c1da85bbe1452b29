//! Alerts: rules held against the run's numbers, raised once, with hysteresis, cleared, counted. Pure: the numbers and the
//! time come in as values.
//!
//! | file | what |
//! | --- | --- |
//! | `mod` | the rules of a run: howdah's own four, and the plan's |
//! | `watch` | one rule over time: the last values, how long the limit is passed |
//! | `book` | the alerts that were raised, in their order |

mod book;
mod watch;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use book::AlertBook;

use crate::run::metric;
use crate::run::rule::{Act, Aggregate, Bound, Rule, Source};
use crate::run::{ByteSize, Level};

/// How often what is measured of host, process and database is held against the rules, unless the plan says otherwise.
pub const EVERY: Duration = Duration::from_secs(30);

/// The thresholds of howdah's own rules, from the plan's `[alerts]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertLimits {
    /// A run that has worked longer than this.
    pub duration: Duration,
    /// howdah's own resident memory.
    pub memory: ByteSize,
    /// Free memory of the host, in percent of all.
    pub free_memory_percent: f64,
    /// Failed batches, in percent of all.
    pub error_rate_percent: f64,
}

/// What the alerts of a run go by.
#[derive(Debug, Clone)]
pub struct AlertRules {
    /// howdah's own, then the plan's.
    pub rules: Vec<Rule>,
    /// How often what is measured of host, process and database is looked at. The run's own numbers are each second.
    pub every: Duration,
}

impl AlertRules {
    /// howdah's own rules, and those of the plan after them.
    #[must_use]
    pub fn new(limits: &AlertLimits, of_plan: Vec<Rule>, every: Duration) -> Self {
        Self { rules: own(limits).into_iter().chain(of_plan).collect(), every }
    }
}

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time of day: for people.
    pub utc: DateTime<Utc>,
    /// A monotonic clock: for what has to last.
    pub elapsed: Duration,
}

/// The four rules that every run has.
#[expect(clippy::cast_precision_loss, reason = "compared with a number, not counted")]
fn own(limits: &AlertLimits) -> Vec<Rule> {
    let named = |name| metric::named(name).map(Source::Metric);
    let (above, below) = (Bound::Above, Bound::Below);
    let (warning, critical) = (Level::Warning, Level::Critical);
    let free = limits.free_memory_percent / 100.0;
    let rules = [
        ("duration", named("run_work_seconds_total"), above, limits.duration.as_secs_f64(), warning, "at work for"),
        (
            "memory",
            named("process_resident_memory_bytes"),
            above,
            limits.memory.0 as f64,
            critical,
            "howdah's own memory",
        ),
        ("free_memory", named("host_memory_free_ratio"), below, free, warning, "free memory of the host"),
        (
            "error_rate",
            Some(Source::FailedBatches),
            above,
            limits.error_rate_percent / 100.0,
            warning,
            "failed batches",
        ),
    ];
    let rule = |(name, source, bound, limit, level, words): (&str, Option<Source>, Bound, f64, Level, &'static str)| {
        Some(Rule {
            name: name.to_owned(),
            source: source?,
            label: None,
            of: Aggregate::Last,
            bound,
            limit,
            clear: bound.clear_of(limit),
            // A host that has not even half of it left is about to kill somebody.
            grave: (bound == Bound::Below).then_some(limit / 2.0),
            hold: Duration::ZERO,
            level,
            acts: Act::usual(level),
            words: Some(words),
        })
    };
    rules.into_iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests;
