//! Thresholds: raised once, with hysteresis, cleared, counted. Pure: readings and the time come in as values.

use std::cmp::Reverse;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::run::vitals::Alert;
use crate::run::{ByteSize, Level, human};

/// How many alerts are kept at most.
const KEPT: usize = 50;
/// An alert is cleared once the value lies this share of the limit on the good side of it ...
const MARGIN: f64 = 0.1;
/// ... in this many samples in a row.
const CALM_SAMPLES: u8 = 2;

/// The thresholds, from the plan's `[alerts]`.
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

/// New readings, each `None` where nothing new was measured: its alert then stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inputs {
    /// The run's time at work.
    pub worked: Option<Duration>,
    /// howdah's own resident memory.
    pub memory: Option<ByteSize>,
    /// Free memory of the host, in percent of all.
    pub free_memory_percent: Option<f64>,
    /// Failed batches, in percent of all.
    pub error_rate_percent: Option<f64>,
}

/// The alerts of a run, one for each threshold that was ever crossed.
#[derive(Debug, Clone, Default)]
pub struct AlertBook {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    alert: Alert,
    /// Samples in a row on the good side, margin included.
    calm: u8,
}

struct Check {
    key: &'static str,
    verdict: Verdict,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Past the limit.
    Over(Level),
    /// Kept, but within the margin: nothing is raised and nothing is cleared.
    Near,
    /// Kept, margin included.
    Calm,
}

/// Checks every new reading against its limit and brings the book up to date.
pub fn evaluate(book: &mut AlertBook, inputs: &Inputs, limits: &AlertLimits, now: DateTime<Utc>) {
    for check in checks(inputs, limits) {
        book.apply(check, now);
    }
}

impl AlertBook {
    /// Active alerts, newest first, then cleared ones, the latest cleared first; at most 50.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.entries.iter().map(|entry| entry.alert.clone()).collect()
    }

    fn apply(&mut self, check: Check, now: DateTime<Utc>) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.alert.key == check.key) else {
            if let Verdict::Over(level) = check.verdict {
                self.entries.push(Entry::raised(check, level, now));
                self.arrange();
            }
            return;
        };
        entry.apply(check, now);
        self.arrange();
    }

    fn arrange(&mut self) {
        self.entries.sort_by_key(|Entry { alert, .. }| {
            (!alert.is_active(), Reverse(alert.cleared_at.unwrap_or(alert.raised_at)))
        });
        self.entries.truncate(KEPT);
    }
}

impl Entry {
    fn raised(check: Check, level: Level, now: DateTime<Utc>) -> Self {
        let key = check.key.to_owned();
        Self { alert: Alert { key, level, text: check.text, raised_at: now, cleared_at: None, count: 1 }, calm: 0 }
    }

    fn apply(&mut self, check: Check, now: DateTime<Utc>) {
        let active = self.alert.is_active();
        match check.verdict {
            Verdict::Over(level) if active => {
                self.calm = 0;
                // The level of an alert only rises while it holds: it must not flicker.
                self.alert.level = self.alert.level.max(level);
                self.alert.text = check.text;
            }
            Verdict::Over(level) => {
                let count = self.alert.count.saturating_add(1);
                *self = Self::raised(check, level, now);
                self.alert.count = count;
            }
            Verdict::Near => {
                self.calm = 0;
                if active {
                    self.alert.text = check.text;
                }
            }
            Verdict::Calm if active => {
                self.calm += 1;
                self.alert.text = check.text;
                if self.calm >= CALM_SAMPLES {
                    self.alert.cleared_at = Some(now);
                }
            }
            Verdict::Calm => {}
        }
    }
}

fn checks(inputs: &Inputs, limits: &AlertLimits) -> Vec<Check> {
    let duration = inputs.worked.map(|worked| Check {
        key: "duration",
        verdict: at_most(worked.as_secs_f64(), limits.duration.as_secs_f64(), Level::Warning),
        text: format!(
            "at work for {} (limit {})",
            human::rough_duration(worked),
            human::rough_duration(limits.duration)
        ),
    });
    let memory = inputs.memory.map(|rss| Check {
        key: "memory",
        verdict: at_most(bytes(rss), bytes(limits.memory), Level::Critical),
        text: format!("howdah's own memory {rss} (limit {})", limits.memory),
    });
    let free_memory = inputs.free_memory_percent.map(|free| Check {
        key: "free_memory",
        verdict: at_least(free, limits.free_memory_percent),
        text: format!("free memory of the host {free:.1}% (limit {}%)", limits.free_memory_percent),
    });
    let error_rate = inputs.error_rate_percent.map(|rate| Check {
        key: "error_rate",
        verdict: at_most(rate, limits.error_rate_percent, Level::Warning),
        text: format!("failed batches {rate:.1}% (limit {}%)", limits.error_rate_percent),
    });
    [duration, memory, free_memory, error_rate].into_iter().flatten().collect()
}

/// A value that must not pass `limit` upwards.
fn at_most(value: f64, limit: f64, level: Level) -> Verdict {
    if value > limit {
        Verdict::Over(level)
    } else if value <= limit * (1.0 - MARGIN) {
        Verdict::Calm
    } else {
        Verdict::Near
    }
}

/// A value that must not fall below `limit`: critical below half of it.
fn at_least(value: f64, limit: f64) -> Verdict {
    if value < limit / 2.0 {
        Verdict::Over(Level::Critical)
    } else if value < limit {
        Verdict::Over(Level::Warning)
    } else if value >= limit * (1.0 + MARGIN) {
        Verdict::Calm
    } else {
        Verdict::Near
    }
}

#[expect(clippy::cast_precision_loss, reason = "compared with a limit, not counted")]
fn bytes(size: ByteSize) -> f64 {
    size.0 as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::EventKind;
    use crate::run::vitals::alert_changes;
    use proptest::prelude::*;

    const LIMITS: AlertLimits = AlertLimits {
        duration: Duration::from_mins(5),
        memory: ByteSize(1000 << 20),
        free_memory_percent: 10.0,
        error_rate_percent: 10.0,
    };

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn memory(mib: u64) -> Inputs {
        Inputs { memory: Some(ByteSize(mib << 20)), ..Inputs::default() }
    }

    fn free(percent: f64) -> Inputs {
        Inputs { free_memory_percent: Some(percent), ..Inputs::default() }
    }

    /// Evaluates one input a second and writes each outcome: `-` no alert, `A` active, `c` cleared, with count.
    fn play(inputs: &[Inputs]) -> String {
        let mut book = AlertBook::default();
        let mut seen = Vec::new();
        for (second, input) in (0..).zip(inputs) {
            evaluate(&mut book, input, &LIMITS, at(second));
            seen.push(match book.alerts().first() {
                None => "-".to_owned(),
                Some(alert) => format!("{}{}", if alert.is_active() { 'A' } else { 'c' }, alert.count),
            });
        }
        seen.join(" ")
    }

    #[test]
    fn an_alert_is_raised_once_cleared_with_hysteresis_and_counted() {
        let table: [(&str, &[u64], &str); 6] = [
            ("kept", &[0, 999, 1000], "- - -"),
            ("raised once", &[1001, 1500, 2000], "A1 A1 A1"),
            ("within the margin", &[1001, 901, 950, 1000], "A1 A1 A1 A1"),
            ("one calm sample is not enough", &[1001, 900, 901, 900, 950], "A1 A1 A1 A1 A1"),
            ("two in a row are", &[1001, 900, 900, 950], "A1 A1 c1 c1"),
            ("raised again", &[1001, 100, 100, 1001, 100, 100], "A1 A1 c1 A2 A2 c2"),
        ];
        for (name, values, expected) in table {
            let inputs: Vec<Inputs> = values.iter().map(|mib| memory(*mib)).collect();
            assert_eq!(play(&inputs), expected, "{name}");
        }
    }

    #[test]
    fn low_memory_is_a_warning_and_below_half_the_limit_critical() {
        let mut book = AlertBook::default();
        let table = [
            (9.9, Level::Warning, true),
            (4.9, Level::Critical, true),
            (9.0, Level::Critical, true),
            (11.5, Level::Critical, true),
            (11.5, Level::Critical, false),
            (9.0, Level::Warning, true),
        ];
        for (second, (percent, level, active)) in (0..).zip(table) {
            evaluate(&mut book, &free(percent), &LIMITS, at(second));
            let alert = book.alerts().remove(0);
            assert_eq!((alert.level, alert.is_active()), (level, active), "{percent}");
        }
        assert_eq!(book.alerts()[0].count, 2);
    }

    #[test]
    fn nothing_new_measured_leaves_an_alert_as_it_is() {
        assert_eq!(play(&[memory(2000), Inputs::default(), free(50.0), Inputs::default()]), "A1 A1 A1 A1");
    }

    #[test]
    fn a_value_that_is_no_number_neither_raises_nor_clears() {
        assert_eq!(play(&[free(f64::NAN)]), "-");
        assert_eq!(play(&[free(1.0), free(f64::NAN), free(f64::NAN)]), "A1 A1 A1");
    }

    #[test]
    fn each_threshold_tells_its_value_and_its_limit() {
        let mut book = AlertBook::default();
        let inputs = Inputs {
            worked: Some(Duration::from_secs(312)),
            memory: Some(ByteSize(1100 << 20)),
            free_memory_percent: Some(8.26),
            error_rate_percent: Some(12.0),
        };
        evaluate(&mut book, &inputs, &LIMITS, at(0));
        let texts: Vec<String> =
            book.alerts().into_iter().map(|alert| format!("{}: {}", alert.key, alert.text)).collect();
        let expected = [
            "duration: at work for 5m12s (limit 5m00s)",
            "memory: howdah's own memory 1.1 GiB (limit 1000 MiB)",
            "free_memory: free memory of the host 8.3% (limit 10%)",
            "error_rate: failed batches 12.0% (limit 10%)",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn active_alerts_stand_first_newest_first_then_cleared_ones() {
        let mut book = AlertBook::default();
        let slow = Inputs { worked: Some(Duration::from_secs(301)), ..Inputs::default() };
        for (second, input) in (0..).zip([memory(2000), slow, free(1.0), memory(1), memory(1)]) {
            evaluate(&mut book, &input, &LIMITS, at(second));
        }
        let keys: Vec<String> = book.alerts().into_iter().map(|alert| alert.key).collect();
        assert_eq!(keys, ["free_memory", "duration", "memory"]);
    }

    #[test]
    fn changes_are_told_once_as_events() {
        let mut book = AlertBook::default();
        let mut told = Vec::new();
        for (second, mib) in (0..).zip([1, 2000, 2000, 1, 1, 1, 2000]) {
            let before = book.alerts();
            evaluate(&mut book, &memory(mib), &LIMITS, at(second));
            told.extend(alert_changes(&before, &book.alerts()).into_iter().map(|event| (event.kind, event.at)));
        }
        let (raised, cleared) = (EventKind::AlertRaised, EventKind::AlertCleared);
        assert_eq!(told, [(raised, at(1)), (cleared, at(4)), (raised, at(6))]);
        assert_eq!(alert_changes(&[], &book.alerts()).len(), 1);
    }

    proptest! {
        #[test]
        fn an_alert_never_clears_while_the_limit_is_passed(values in proptest::collection::vec(0_u64..2000, 1..60)) {
            let mut book = AlertBook::default();
            let mut count = 0;
            for (second, mib) in (0..).zip(values) {
                evaluate(&mut book, &memory(mib), &LIMITS, at(second));
                let alert = book.alerts().pop();
                prop_assert!(mib <= 1000 || alert.as_ref().is_some_and(Alert::is_active));
                let now = alert.map_or(0, |alert| alert.count);
                prop_assert!(now == count || now == count + 1);
                count = now;
            }
        }
    }
}
