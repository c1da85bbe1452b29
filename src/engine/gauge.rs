//! A signal of the governor as it was read: a value or why there is none, and its limits.

use std::time::Duration;

use async_trait::async_trait;

use crate::plan::model::Threshold;
use crate::run::{ByteSize, human};

/// A load is shown and compared up to here: a disk that is full has an infinite one.
const MOST_LOAD: f64 = 1000.0;

/// Where the governor's signals are read.
#[async_trait]
pub trait Gauges: Send + Sync {
    /// Reads every signal once, in a fixed order. What cannot be read says so in its own gauge; the others are not
    /// touched by it. Takes some seconds at most; the caller reads again once this has returned.
    async fn read(&self) -> Vec<Gauge>;
}

/// One signal, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name in one or two words, by which waiting is added up: `replay lag`. A probe's own name. Not cleaned.
    pub key: String,
    /// The value in the unit's own measure; or why there is none, to follow "cannot be read:". Not cleaned.
    pub value: Result<f64, String>,
    /// What the value measures.
    pub unit: Unit,
    /// Where it slows the run down. `None`: it is only shown, and never holds, also when it cannot be read.
    pub limit: Option<Threshold<f64>>,
    /// Whether a value below the limit is past it: free space, free memory.
    pub low_is_bad: bool,
}

/// What a value measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A time in seconds.
    Seconds,
    /// A number of bytes.
    Bytes,
    /// How many.
    Count,
    /// 0 to 100.
    Percent,
    /// Whatever a probe of the plan's own counts.
    Number,
}

impl Gauge {
    /// The value, where there is one that can be compared.
    #[must_use]
    pub fn reading(&self) -> Option<f64> {
        self.value.as_ref().ok().copied().filter(|value| !value.is_nan())
    }

    /// Whether a limit stands without a value to hold against it.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.limit.is_some() && self.reading().is_none()
    }

    /// The value as a share of `slow`, 0 to 1,000: past 1 the signal is past `slow`. `None` without a value or a limit.
    #[must_use]
    pub fn load(&self) -> Option<f64> {
        let (value, slow) = (self.reading()?, self.limit?.slow);
        let (amount, limit) = if self.low_is_bad { (slow, value) } else { (value, slow) };
        // A limit of 0, or below: there is no share of it, but there is a past.
        let without_share = if amount > limit { MOST_LOAD } else { 0.0 };
        Some(if limit > 0.0 { (amount / limit).clamp(0.0, MOST_LOAD) } else { without_share })
    }

    /// Whether the value is past `stop`.
    #[must_use]
    pub fn is_past_stop(&self) -> bool {
        let stop = self.limit.and_then(|limit| limit.stop);
        self.reading().zip(stop).is_some_and(|(value, stop)| if self.low_is_bad { value < stop } else { value > stop })
    }

    /// The value in words, or why there is none.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.value {
            Ok(value) if value.is_nan() => "not a number".to_owned(),
            Ok(value) => self.unit.words(*value),
            Err(why) => why.clone(),
        }
    }
}

impl Unit {
    /// A value in words: `7.2s`, `16 GiB`, `2,048`, `9.5%`.
    #[must_use]
    pub fn words(self, value: f64) -> String {
        match self {
            Self::Seconds => seconds(value),
            Self::Bytes => ByteSize(whole(value)).to_string(),
            Self::Count => human::count(whole(value)),
            Self::Percent => format!("{}%", decimal(value, 1)),
            Self::Number => decimal(value, 2),
        }
    }
}

/// To the millisecond, and without tenths where there are none, so that a limit reads as it was written.
fn seconds(value: f64) -> String {
    let time = Duration::from_millis(whole(value * 1000.0));
    if time.subsec_nanos() == 0 { human::rough_duration(time) } else { human::duration(time) }
}

/// Without zeros at the end; a large number has commas instead of decimals.
fn decimal(value: f64, digits: usize) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:.2e}");
    }
    if value.abs() >= 1000.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", human::count(whole(value.abs())));
    }
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn whole(value: f64) -> u64 {
    value.clamp(0.0, 1e18).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gauge(value: f64, slow: f64, stop: Option<f64>, low_is_bad: bool) -> Gauge {
        let limit = Some(Threshold { slow, stop });
        Gauge { key: "x".into(), value: Ok(value), unit: Unit::Number, limit, low_is_bad }
    }

    #[test]
    fn a_load_is_the_share_of_slow_whichever_way_is_bad() {
        let table = [
            (2.5, 5.0, false, 0.5),
            (5.0, 5.0, false, 1.0),
            (0.0, 5.0, false, 0.0),
            (-3.0, 5.0, false, 0.0),
            (f64::INFINITY, 5.0, false, MOST_LOAD),
            (20.0, 10.0, true, 0.5),
            (10.0, 10.0, true, 1.0),
            (5.0, 10.0, true, 2.0),
            (0.0, 10.0, true, MOST_LOAD),
            (0.0, 0.0, false, 0.0),
            (0.1, 0.0, false, MOST_LOAD),
            (-1.0, -5.0, false, MOST_LOAD),
            (-9.0, -5.0, false, 0.0),
            (1.0, 0.0, true, 0.0),
        ];
        for (value, slow, low_is_bad, load) in table {
            assert_eq!(gauge(value, slow, None, low_is_bad).load(), Some(load), "{value} of {slow}, low {low_is_bad}");
        }
    }

    #[test]
    fn without_a_limit_or_a_value_there_is_no_load() {
        let limited = gauge(1.0, 5.0, None, false);
        assert_eq!(Gauge { limit: None, ..limited.clone() }.load(), None);
        for value in [Err("refused".to_owned()), Ok(f64::NAN)] {
            let unread = Gauge { value, ..limited.clone() };
            assert!(unread.is_unread() && unread.load().is_none() && !unread.is_past_stop(), "{unread:?}");
            assert!(!Gauge { limit: None, ..unread }.is_unread());
        }
    }

    #[test]
    fn stop_is_past_on_the_bad_side_only() {
        for (value, low_is_bad, past) in
            [(60.0, false, false), (60.1, false, true), (5.0, true, false), (4.9, true, true)]
        {
            let stop = if low_is_bad { 5.0 } else { 60.0 };
            assert_eq!(gauge(value, 10.0, Some(stop), low_is_bad).is_past_stop(), past, "{value}");
        }
        assert!(!gauge(1e9, 10.0, None, false).is_past_stop());
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        let table = [
            (Unit::Seconds, 0.0, "0s"),
            (Unit::Seconds, 0.0421, "42ms"),
            (Unit::Seconds, 5.0, "5s"),
            (Unit::Seconds, 7.21, "7.2s"),
            (Unit::Seconds, 60.0, "1m00s"),
            (Unit::Seconds, -1.0, "0s"),
            (Unit::Bytes, 17_179_869_184.0, "16 GiB"),
            (Unit::Count, 2048.0, "2,048"),
            (Unit::Percent, 9.46, "9.5%"),
            (Unit::Percent, 57.0, "57%"),
            (Unit::Number, 0.25, "0.25"),
            (Unit::Number, -0.001, "0"),
            (Unit::Number, 100.0, "100"),
            (Unit::Number, -12345.6, "-12,346"),
            (Unit::Number, 1.5e20, "1.50e20"),
        ];
        for (unit, value, words) in table {
            assert_eq!(unit.words(value), words, "{unit:?} {value}");
        }
    }

    proptest! {
        #[test]
        fn a_load_is_past_one_exactly_when_the_value_is_past_slow(
            value in -1e6_f64..1e6, slow in -1e3_f64..1e6, low_is_bad: bool
        ) {
            let load = gauge(value, slow, None, low_is_bad).load().expect("a load");
            prop_assert!((0.0..=MOST_LOAD).contains(&load));
            let past = if low_is_bad { value < slow } else { value > slow };
            // Next to 1 the division rounds.
            prop_assert!((load > 1.0) == past || (load - 1.0).abs() < 1e-9);
        }
    }
}
