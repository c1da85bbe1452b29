//! An alert's rule: which number is looked at, how, and what is too much. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metric::{Metric, Sample};
use super::{ByteSize, Level, RunState, Snapshot, human};

/// What is watched, and what follows.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name: the key of its alert. Not cleaned.
    pub name: String,
    /// The number.
    pub source: Source,
    /// Of several of a kind only this one. `None`: the worst of all.
    pub label: Option<String>,
    /// How the last values become one.
    pub of: Aggregate,
    /// On which side of the limit it is too much.
    pub bound: Bound,
    /// The limit, in the unit of the number.
    pub limit: f64,
    /// The alert is cleared from here on, on the good side of the limit.
    pub clear: f64,
    /// Past this it is critical, whatever `level` says.
    pub grave: Option<f64>,
    /// For how long the limit is passed before the alert is raised. Zero: at once.
    pub hold: Duration,
    /// How much to care.
    pub level: Level,
    /// What is done when it is raised, beside showing and logging it.
    pub acts: Vec<Act>,
    /// How the alert says what the number is. `None`: by the rule's name and the number's.
    pub words: Option<&'static str>,
}

/// Where the number is read.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A number of the snapshot.
    Metric(&'static Metric),
    /// Failed batches as a share of all.
    FailedBatches,
}

impl Source {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metric(metric) => metric.name,
            Self::FailedBatches => "failed batches",
        }
    }

    /// What it counts in.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::Metric(metric) => Unit::of(metric.name),
            Self::FailedBatches => Unit::Ratio,
        }
    }

    /// Whether it tells of the host, the process or the database, and not of the run itself.
    #[must_use]
    pub fn is_resource(self) -> bool {
        let of = ["host_", "process_", "database_", "pool_", "table_"];
        match self {
            Self::Metric(metric) => of.iter().any(|prefix| metric.name.starts_with(prefix)),
            Self::FailedBatches => false,
        }
    }

    /// What it is now. Nothing where nothing was measured.
    #[must_use]
    pub fn read(self, snapshot: &Snapshot) -> Vec<Sample> {
        match self {
            Self::Metric(metric) => metric.samples(snapshot),
            Self::FailedBatches => vec![Sample { label: None, value: failed_share(snapshot) }],
        }
    }
}

/// Batches are not counted as failed while they are tried again, so one at most has failed: the one that ended the run.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn failed_share(snapshot: &Snapshot) -> f64 {
    let committed: u64 = snapshot.steps.iter().map(|step| step.batches).sum();
    match snapshot.state {
        RunState::Failed { .. } if committed > 0 => 1.0 / (committed + 1) as f64,
        RunState::Failed { .. }
        | RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. }
        | RunState::Stopped { .. }
        | RunState::Done { .. } => 0.0,
    }
}

/// How the last 100 values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregate {
    /// The newest.
    #[default]
    Last,
    /// Their mean.
    Avg,
    /// 95 % of them are no larger: the nearest rank.
    P95,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

impl Aggregate {
    /// The words in a plan, in the order of the variants.
    pub const WORDS: [&'static str; 5] = ["last", "avg", "p95", "max", "min"];

    /// The one that a plan calls by the word at that place.
    #[must_use]
    pub fn at(place: usize) -> Self {
        [Self::Last, Self::Avg, Self::P95, Self::Max, Self::Min].get(place).copied().unwrap_or_default()
    }

    /// Its word in a plan.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Avg => "avg",
            Self::P95 => "p95",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// One value of many, which are all numbers, the newest last. `None`: there are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean of at most a hundred values")]
    pub fn of(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        let mut values: Vec<f64> = values.collect();
        let newest = values.last().copied()?;
        Some(match self {
            Self::Last => newest,
            // Each divided first: a sum of large numbers might be none.
            Self::Avg => {
                let count = values.len() as f64;
                values.iter().map(|value| value / count).sum()
            }
            Self::P95 => {
                values.sort_by(f64::total_cmp);
                let rank = (values.len() * 95).div_ceil(100).max(1);
                values.get(rank - 1).copied().unwrap_or(newest)
            }
            Self::Max => values.into_iter().fold(newest, f64::max),
            Self::Min => values.into_iter().fold(newest, f64::min),
        })
    }
}

/// On which side of a limit it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Above it.
    Above,
    /// Below it.
    Below,
}

impl Bound {
    /// Its word in a plan.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Whether `value` lies past `limit`.
    #[must_use]
    pub fn is_past(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::Below => value < limit,
        }
    }

    /// The worse of two.
    #[must_use]
    pub fn worse(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Above => one.max(other),
            Self::Below => one.min(other),
        }
    }

    /// Where an alert is cleared that says nothing of it: 10 % of the limit on its good side.
    #[must_use]
    pub fn clear_of(self, limit: f64) -> f64 {
        match self {
            Self::Above => limit - limit.abs() * MARGIN,
            Self::Below => limit + limit.abs() * MARGIN,
        }
    }
}

/// An alert is cleared once the value lies this share of the limit on the good side of it.
const MARGIN: f64 = 0.1;

/// What is done when an alert is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The terminal's bell.
    Bell,
    /// The plan's `[[notify]]` hear of it.
    Notify,
    /// The run is paused, until somebody continues it.
    Pause,
}

impl Act {
    /// The words in a plan, in the order of the variants.
    pub const WORDS: [&'static str; 3] = ["bell", "notify", "pause"];

    /// The one that a plan calls by the word at that place.
    #[must_use]
    pub fn at(place: usize) -> Option<Self> {
        [Self::Bell, Self::Notify, Self::Pause].get(place).copied()
    }

    /// What is done about an alert of `level` that says nothing of it.
    #[must_use]
    pub fn usual(level: Level) -> Vec<Self> {
        match level {
            Level::Info | Level::Warning => vec![Self::Notify],
            Level::Critical => vec![Self::Bell, Self::Notify],
        }
    }
}

/// What a number counts in, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; written as a time.
    Seconds,
    /// Bytes; written as a size.
    Bytes,
    /// A share from 0 to 1; written as a percentage.
    Ratio,
    /// A plain number.
    Count,
}

impl Unit {
    /// The unit of the metric of that name.
    #[must_use]
    pub fn of(metric: &str) -> Self {
        let name = metric.strip_suffix("_total").unwrap_or(metric);
        if name.ends_with("_timestamp_seconds") {
            Self::Count
        } else if name.ends_with("_seconds") {
            Self::Seconds
        } else if name.ends_with("_bytes") {
            Self::Bytes
        } else if name.ends_with("_ratio") {
            Self::Ratio
        } else {
            Self::Count
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Count => "",
        }
    }

    /// A value that was measured.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => duration(value),
            Self::Bytes => size(value),
            Self::Ratio => format!("{:.1}%", value * 100.0),
            Self::Count => number(value),
        }
    }

    /// A limit as it was written.
    #[must_use]
    pub fn show_limit(self, limit: f64) -> String {
        match self {
            Self::Ratio => format!("{}%", number(limit * 100.0)),
            Self::Seconds | Self::Bytes | Self::Count => self.show(limit),
        }
    }
}

fn duration(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if seconds >= 60.0 => human::rough_duration(time),
        Ok(time) if seconds < 1.0 => human::duration(time),
        Ok(_) | Err(_) => format!("{}s", number(seconds)),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are shown in three digits")]
fn size(bytes: f64) -> String {
    if bytes < 0.0 { format!("-{}", ByteSize(-bytes as u64)) } else { ByteSize(bytes as u64).to_string() }
}

/// With two digits behind the point at most, and none that say nothing; the thousands apart.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), human::count);
    part.map_or_else(|| format!("{sign}{whole}"), |part| format!("{sign}{whole}.{part}"))
}

impl Rule {
    /// What it waits for, in words: `p95 of batch_seconds above 2s for 30s`.
    #[must_use]
    pub fn condition(&self) -> String {
        let unit = self.source.unit();
        let of = match self.of {
            Aggregate::Last => String::new(),
            other => format!("{} of ", other.word()),
        };
        let label = self.label.as_ref().map_or_else(String::new, |label| format!(" of {label}"));
        let hold =
            if self.hold.is_zero() { String::new() } else { format!(" for {}", duration(self.hold.as_secs_f64())) };
        let limit = unit.show_limit(self.limit);
        format!("{of}{}{label} {} {limit}{hold}", self.source.name(), self.bound.word())
    }

    /// The value and the limit, as the alert says them. `label`: of which one the value is.
    #[must_use]
    pub fn text(&self, value: f64, label: Option<&str>) -> String {
        let unit = self.source.unit();
        let (value, limit) = (unit.show(value), unit.show_limit(self.limit));
        if let Some(words) = self.words {
            return format!("{words} {value} (limit {limit})");
        }
        let of = match self.of {
            Aggregate::Last => String::new(),
            other => format!("{} of ", other.word()),
        };
        let label = label.map_or_else(String::new, |label| format!(" of {label}"));
        format!("{}: {of}{}{label} {value} ({} {limit})", self.name, self.source.name(), self.bound.word())
    }
}

/// How a rule stands, for a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its name. Not cleaned.
    pub name: String,
    /// How much to care.
    pub level: Level,
    /// [`Rule::condition()`]. Not cleaned.
    pub condition: String,
    /// The value, in words, with what it is of. `None`: there is none. Not cleaned.
    pub value: Option<String>,
    /// How it stands.
    pub standing: Standing,
}

/// How a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing has been measured that it could be held against: it neither raises nor clears anything.
    NoValue,
    /// Its limit is kept.
    Kept,
    /// Its limit is passed, but not yet for long enough.
    Waiting,
    /// Its alert holds.
    Raised,
}

impl Standing {
    /// How a list says it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoValue => "no value",
            Self::Kept => "kept",
            Self::Waiting => "waiting",
            Self::Raised => "raised",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metric::{METRICS, named};
    use proptest::prelude::*;

    #[test]
    fn a_number_is_shown_by_its_unit() {
        let table = [
            ("batch_seconds", 0.25, "250ms", "250ms"),
            ("batch_seconds", 2.0, "2s", "2s"),
            ("batch_seconds", 12.345, "12.35s", "12.35s"),
            ("run_work_seconds_total", 312.0, "5m12s", "5m12s"),
            ("database_size_bytes", 1_181_116_006.0, "1.1 GiB", "1.1 GiB"),
            ("host_cpu_ratio", 0.07, "7.0%", "7%"),
            ("table_dead_rows", 1200.0, "1,200", "1,200"),
            ("run_start_timestamp_seconds", 1.5, "1.5", "1.5"),
        ];
        for (name, value, shown, limit) in table {
            let unit = Unit::of(named(name).unwrap().name);
            assert_eq!((unit.show(value).as_str(), unit.show_limit(value).as_str()), (shown, limit), "{name}");
        }
    }

    #[test]
    fn the_last_values_become_one() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let table = [
            (Aggregate::Last, 1.0),
            (Aggregate::Avg, 50.5),
            (Aggregate::P95, 95.0),
            (Aggregate::Max, 100.0),
            (Aggregate::Min, 1.0),
        ];
        for (of, expected) in table {
            let value = of.of(hundred.iter().copied()).unwrap();
            assert!((value - expected).abs() < 1e-9, "{}: {value}", of.word());
            assert_eq!(of.of(std::iter::empty()), None);
            assert_eq!(of.of(std::iter::once(7.0)), Some(7.0));
            assert_eq!(Aggregate::WORDS.iter().position(|word| *word == of.word()).map(Aggregate::at), Some(of));
        }
    }

    #[test]
    fn resources_are_told_from_the_runs_own_numbers() {
        let resource = |name: &str| Source::Metric(named(name).unwrap()).is_resource();
        assert!(resource("process_resident_memory_bytes") && resource("table_dead_ratio"));
        assert!(!resource("batch_seconds") && !resource("replay_lag_seconds"));
    }

    proptest! {
        #[test]
        fn one_of_many_values_lies_among_them(values in proptest::collection::vec(-1e300_f64..1e300, 1..100)) {
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            for place in 0..Aggregate::WORDS.len() {
                let value = Aggregate::at(place).of(values.iter().copied()).unwrap();
                let slack = (most - least).abs().max(most.abs()).max(least.abs()) * 1e-9;
                prop_assert!(value >= least - slack && value <= most + slack);
            }
        }

        #[test]
        fn no_value_makes_showing_it_panic(value in any::<f64>()) {
            for metric in METRICS {
                let unit = Unit::of(metric.name);
                let _ = (unit.show(value), unit.show_limit(value));
            }
        }
    }
}
