//! Round ticks for axes, and what stands beside them. Pure.

use chrono::DateTime;

/// What an axis of values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Rows, or rows a second.
    Count,
    /// Seconds.
    Seconds,
    /// A share from 0 to 1, shown in percent.
    Share,
}

/// The ticks of an axis, with what stands beside each.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticks {
    /// The value at the axis's end.
    pub end: f64,
    /// The ticks, in their order.
    pub at: Vec<(f64, String)>,
}

impl Ticks {
    /// What stands beside the tick at `value`.
    #[must_use]
    pub fn label(&self, value: f64) -> String {
        // The nearest: a margin by the size of the values would take two seconds of this century for one.
        let far = |tick: &(f64, String)| (tick.0 - value).abs();
        let nearest = self.at.iter().min_by(|a, b| far(a).total_cmp(&far(b)));
        nearest.map(|(_, label)| label.clone()).unwrap_or_default()
    }

    /// The values alone.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.at.iter().map(|(value, _)| *value).collect()
    }
}

/// From 0 to a round value not below `most`, in about `about` steps.
#[must_use]
pub fn of_values(most: f64, unit: Unit, about: u32) -> Ticks {
    let most = match unit {
        Unit::Share => 1.0,
        Unit::Count => most.max(1.0),
        // Nothing but zeros: an axis of a second, which is read at a glance.
        Unit::Seconds if most <= 0.0 => 1.0,
        Unit::Seconds => most.max(0.001),
    };
    let step = round_step(most / f64::from(about.max(1)), unit);
    let steps = (most / step - 1e-9).ceil().clamp(1.0, 100.0);
    let end = step * steps;
    let mut at = Vec::new();
    let mut n = 0.0;
    while n <= steps {
        let value = step * n;
        at.push((value, told(value, step, unit)));
        n += 1.0;
    }
    Ticks { end, at }
}

/// A round step not below `least`: 1, 2 or 5 times a power of ten; of seconds past a minute 1, 2, 5, 10, 15, 30 minutes and hours.
fn round_step(least: f64, unit: Unit) -> f64 {
    const LONG: [f64; 14] = [
        60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0,
        604_800.0,
    ];
    if unit == Unit::Share {
        return if least > 0.25 { 0.5 } else { 0.25 };
    }
    if unit == Unit::Seconds && least > 30.0 {
        let longest = 604_800.0;
        return LONG.into_iter().find(|step| *step >= least).unwrap_or((least / longest).ceil() * longest);
    }
    if unit == Unit::Seconds && least > 10.0 {
        return if least > 20.0 { 30.0 } else { 20.0 };
    }
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= least * (1.0 - 1e-9));
    let step = step.unwrap_or(power * 10.0);
    if unit == Unit::Count { step.max(1.0) } else { step }
}

/// A value at a tick. `step`: from one tick to the next.
fn told(value: f64, step: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{:.0}%", value * 100.0),
        Unit::Count => short(value),
        Unit::Seconds if value <= 0.0 => "0".to_owned(),
        Unit::Seconds if value < 1.0 || step < 0.1 => format!("{}ms", trimmed(value * 1e3, 2)),
        Unit::Seconds if value < 120.0 && step < 60.0 => format!("{}s", trimmed(value, 1)),
        Unit::Seconds if step < 3600.0 && value < 7200.0 => format!("{}min", trimmed(value / 60.0, 1)),
        Unit::Seconds if step < 86_400.0 => format!("{}h", trimmed(value / 3600.0, 1)),
        Unit::Seconds => format!("{}d", trimmed(value / 86_400.0, 1)),
    }
}

/// A count in as few letters as can be: `950`, `1.5k`, `20M`.
#[must_use]
pub fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", trimmed(v / 1e9, 2)),
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6, 2)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3, 2)),
        v => trimmed(v, 1),
    }
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Steps of a time axis in seconds.
const TIMES: [i64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000,
];

fn time_step(span: i64, most: i64) -> i64 {
    let least = (span / most.max(1)).max(1);
    TIMES.into_iter().find(|step| *step >= least).unwrap_or_else(|| (least / 2_592_000 + 1) * 2_592_000)
}

/// Times of day between two moments in seconds since 1970, UTC: `14:05`, `14:05:30`, and the date where a day begins.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
pub fn of_times(from: i64, to: i64, most: i64) -> Ticks {
    let step = time_step(to - from, most);
    let first = (from + step - 1).div_euclid(step) * step;
    let moments = (0..).map(|n| first + n * step).take_while(|at| *at <= to);
    let label = |at: i64| {
        let Some(moment) = DateTime::from_timestamp(at, 0) else { return String::new() };
        let format = match step {
            86_400.. => "%b %-d",
            _ if at.rem_euclid(86_400) == 0 => "%b %-d",
            60.. => "%H:%M",
            _ => "%H:%M:%S",
        };
        moment.format(format).to_string()
    };
    Ticks { end: to as f64, at: moments.map(|at| (at as f64, label(at))).collect() }
}

/// Time since a beginning, in seconds from 0: `0`, `30s`, `10min`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of a run fit")]
pub fn of_elapsed(to: i64, most: i64) -> Ticks {
    let step = time_step(to, most);
    let moments = (0..).map(|n| n * step).take_while(|at| *at <= to);
    Ticks { end: to as f64, at: moments.map(|at| (at as f64, told(at as f64, step as f64, Unit::Seconds))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(ticks: &Ticks) -> Vec<&str> {
        ticks.at.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_have_units() {
        let table: [(f64, Unit, &[&str]); 10] = [
            (0.0, Unit::Seconds, &["0", "500ms", "1s"]),
            (0.0009, Unit::Seconds, &["0", "0.5ms", "1ms"]),
            (48_210.0, Unit::Count, &["0", "20k", "40k", "60k"]),
            (3.0, Unit::Count, &["0", "1", "2", "3"]),
            (0.4, Unit::Count, &["0", "1"]),
            (1_250_000.0, Unit::Count, &["0", "500k", "1M", "1.5M"]),
            (0.431, Unit::Seconds, &["0", "200ms", "400ms", "600ms"]),
            (4.2, Unit::Seconds, &["0", "2s", "4s", "6s"]),
            (400.0, Unit::Seconds, &["0", "5min", "10min"]),
            (0.3, Unit::Share, &["0%", "50%", "100%"]),
        ];
        for (most, unit, expected) in table {
            assert_eq!(labels(&of_values(most, unit, 3)), expected, "{most} {unit:?}");
        }
    }

    #[test]
    fn times_stand_at_round_moments() {
        let day = 1_800_000_000_i64.div_euclid(86_400) * 86_400;
        let noon = day + 43_200;
        assert_eq!(labels(&of_times(noon + 3, noon + 41, 4)), ["12:00:10", "12:00:20", "12:00:30", "12:00:40"]);
        assert_eq!(labels(&of_times(noon - 60, noon + 1800, 4)), ["12:00", "12:10", "12:20", "12:30"]);
        assert_eq!(labels(&of_times(day - 7200, day + 7300, 4)), ["22:00", "Jan 15", "02:00"]);
        // Each has its own, also where they are a second apart.
        let seconds = of_times(noon, noon + 4, 8);
        let told: Vec<String> = seconds.values().into_iter().map(|at| seconds.label(at)).collect();
        assert_eq!(told, ["12:00:00", "12:00:01", "12:00:02", "12:00:03", "12:00:04"]);
        assert_eq!(labels(&of_elapsed(95, 4)), ["0", "30s", "60s", "90s"]);
        assert_eq!(labels(&of_elapsed(1500, 4)), ["0", "10min", "20min"]);
    }

    proptest! {
        #[test]
        fn an_axis_holds_its_most_and_has_few_ticks(most in 0.0_f64..1e13, unit in 0..3_u8) {
            let unit = [Unit::Count, Unit::Seconds, Unit::Share][usize::from(unit)];
            let most = if unit == Unit::Share { most / 1e13 } else { most };
            let ticks = of_values(most, unit, 3);
            prop_assert!(ticks.end >= most * (1.0 - 1e-6));
            prop_assert!((2..=6).contains(&ticks.at.len()), "{:?}", ticks);
        }

        #[test]
        fn a_time_axis_has_few_ticks_inside_of_it(from in 0_i64..4_000_000_000, span in 1_i64..100_000_000) {
            let ticks = of_times(from, from + span, 8);
            prop_assert!(ticks.at.len() <= 10, "{:?}", ticks);
            let (first, last) = (f64::from(u32::try_from(from).unwrap()), f64::from(u32::try_from(from + span).unwrap()));
            prop_assert!(ticks.at.iter().all(|(at, _)| (first..=last).contains(at)));
        }
    }
}
