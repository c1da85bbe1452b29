//! How far, how fast, how long yet. Never past 100 %, and "unknown" rather than a wrong number.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::snapshot::SERIES;

/// The stretch of work that the short rate looks back over.
const WINDOW: Duration = Duration::from_secs(10);
/// No rate and no ETA before this much work has been seen...
const MIN_WORK: Duration = Duration::from_secs(2);
/// ... and this many batches.
const MIN_BATCHES: u64 = 3;

/// Rows walked, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Rows walked in this sweep.
    pub walked: u64,
    /// Rows there are.
    pub total: Total,
}

/// How many rows there are to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Total {
    /// Nobody can tell yet.
    Unknown,
    /// An estimate; shown with `~`.
    About(u64),
    /// Counted: the end was reached.
    Exactly(u64),
}

impl Estimate {
    /// The share done, 0 to 1. Below 1 until the end has been reached, whatever the estimate said.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of a row count")]
    pub fn fraction(&self) -> Option<f64> {
        match self.total {
            Total::Unknown => None,
            Total::Exactly(_) => Some(1.0),
            Total::About(total) => Some((self.walked as f64 / total.max(1) as f64).min(0.999)),
        }
    }

    /// Rows left, by the estimate.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.total {
            Total::Unknown => None,
            Total::Exactly(_) => Some(0),
            Total::About(total) => Some(total.saturating_sub(self.walked)),
        }
    }
}

/// Corrects the number of rows foretold by what the walk has shown.
///
/// `foretold` comes from the planner's statistics, `walked` rows lie behind the cursor, and `position` is the cursor's
/// place between the first key and the last, 0 to 1, where keys are numbers. The rows left are a weighted mean of what
/// the statistics leave, `foretold - walked`, and of what the density seen so far promises, `walked (1 - p) / p`. The
/// density's weight is `p^4`: a skewed table must not mislead early, and stale statistics must not mislead late.
/// Without a position, a walk that has passed the estimate tells only that there is at least `next` more.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an estimate of a row count")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, far below 2^64")]
pub fn correct_total(foretold: Option<u64>, walked: u64, position: Option<f64>, next: u64) -> Total {
    let by_statistics = foretold.map(|rows| rows.saturating_sub(walked) as f64);
    let by_density = position.filter(|p| *p > 0.0 && walked > 0).map(|p| {
        let p = p.min(1.0);
        (walked as f64 * (1.0 - p) / p, p.powi(4))
    });
    let left = match (by_statistics, by_density) {
        (Some(statistics), Some((density, weight))) if walked <= foretold.unwrap_or(0) => {
            statistics * (1.0 - weight) + density * weight
        }
        (Some(statistics), None) if walked < foretold.unwrap_or(0) => statistics,
        (_, Some((density, _))) => density,
        (Some(_), None) => next as f64,
        (None, None) => return Total::Unknown,
    };
    Total::About(walked + left.round() as u64)
}

/// When the end will be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eta {
    /// Not to be known yet.
    Unknown,
    /// Between these, from now.
    Within {
        /// At the best of the rates seen.
        least: Duration,
        /// At the worst of the rates seen.
        most: Duration,
    },
}

/// The walk of one sweep, as seen over time at work. Pauses do not exist here.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    walked: u64,
    batches: u64,
    /// Rows walked here, by this driver: what rates are made from.
    seen: u64,
    /// (time at work, rows seen), one point a batch, within the window and one before it.
    points: VecDeque<(Duration, u64)>,
    /// The time at work when this driver began.
    began: Option<Duration>,
    seconds: VecDeque<f64>,
    second: Option<(Duration, u64)>,
}

impl Progress {
    /// Begins at `worked` time of work, with `walked` rows behind from earlier drivers.
    #[must_use]
    pub fn resume(worked: Duration, walked: u64) -> Self {
        Self {
            walked,
            began: Some(worked),
            points: VecDeque::from([(worked, 0)]),
            second: Some((worked, 0)),
            ..Self::default()
        }
    }

    /// A batch of `rows` committed at `worked` time of work.
    pub fn batch(&mut self, worked: Duration, rows: u64) {
        self.walked += rows;
        self.seen += rows;
        self.batches += 1;
        self.points.push_back((worked, self.seen));
        while self.points.get(1).is_some_and(|(at, _)| worked.saturating_sub(*at) > WINDOW) {
            self.points.pop_front();
        }
    }

    /// Closes the seconds of work that have passed, for the series. Called about once a second.
    pub fn tick(&mut self, worked: Duration) {
        let Some((since, seen)) = self.second else {
            self.second = Some((worked, self.seen));
            return;
        };
        let open = worked.saturating_sub(since);
        if open < Duration::from_millis(900) {
            return;
        }
        self.seconds.push_back(per_second(self.seen - seen, open));
        if self.seconds.len() > SERIES {
            self.seconds.pop_front();
        }
        self.second = Some((worked, self.seen));
    }

    /// Rows walked in this sweep.
    #[must_use]
    pub fn walked(&self) -> u64 {
        self.walked
    }

    /// Rows a second, one point a second of work, oldest first.
    #[must_use]
    pub fn series(&self) -> &VecDeque<f64> {
        &self.seconds
    }

    /// Rows a second over the last ten seconds of work. A batch that takes long makes it fall while it is open.
    #[must_use]
    pub fn rate(&self, worked: Duration) -> Option<f64> {
        if !self.is_known(worked) {
            return None;
        }
        // The last point before the window, so that an open batch makes the rate fall, to nothing in the end.
        let since = worked.saturating_sub(WINDOW);
        let before = self.points.iter().rev().find(|(at, _)| *at <= since);
        let (at, seen) = before.or_else(|| self.points.front())?;
        let span = worked.saturating_sub(*at);
        (span > Duration::ZERO).then(|| per_second(self.seen - seen, span))
    }

    /// Rows a second over this driver's whole time at work on the sweep.
    #[must_use]
    pub fn mean_rate(&self, worked: Duration) -> Option<f64> {
        let span = worked.saturating_sub(self.began?);
        self.is_known(worked).then(|| per_second(self.seen, span))
    }

    /// When `estimate` will have been walked, as a range between the short rate and the mean rate.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a duration made from a row count")]
    pub fn eta(&self, worked: Duration, estimate: &Estimate) -> Eta {
        let (Some(short), Some(mean), Some(left)) = (self.rate(worked), self.mean_rate(worked), estimate.left()) else {
            return Eta::Unknown;
        };
        let after = |rate: f64| {
            (rate > 0.0).then(|| left as f64 / rate).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        match (after(short.max(mean)), after(short.min(mean))) {
            (Some(least), Some(most)) if most < Duration::from_hours(876_000) => Eta::Within { least, most },
            _ => Eta::Unknown,
        }
    }

    fn is_known(&self, worked: Duration) -> bool {
        let span = self.began.map_or(Duration::ZERO, |began| worked.saturating_sub(began));
        self.batches >= MIN_BATCHES && span >= MIN_WORK
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(rows: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { rows as f64 / span.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_total_follows_the_statistics_early_and_the_keys_late() {
        let table = [
            // foretold, walked, position, next -> total
            (Some(1000), 0, None, 10, Total::About(1000)),
            (Some(1000), 400, None, 10, Total::About(1000)),
            (Some(1000), 1000, None, 10, Total::About(1010)),
            (Some(1000), 5000, None, 10, Total::About(5010)),
            (None, 500, None, 10, Total::Unknown),
            (None, 0, Some(0.0), 10, Total::Unknown),
            (None, 500, Some(0.5), 10, Total::About(1000)),
            // Skewed: nine tenths of the rows lie in the first tenth of the keys. The statistics are believed.
            (Some(1_000_000), 900_000, Some(0.1), 10, Total::About(1_000_800)),
            // Stale: half of the rows are gone. Near the end the keys are believed.
            (Some(2000), 990, Some(0.99), 10, Total::About(1039)),
            // Past the estimate: the density tells what is left.
            (Some(1000), 2000, Some(0.5), 10, Total::About(4000)),
            (Some(1000), 1000, Some(1.0), 10, Total::About(1000)),
        ];
        for (foretold, walked, position, next, expected) in table {
            let total = correct_total(foretold, walked, position, next);
            assert_eq!(total, expected, "{foretold:?} {walked} {position:?}");
        }
    }

    #[test]
    fn rates_and_eta_are_unknown_until_they_can_be_known() {
        let mut progress = Progress::resume(s(0.0), 0);
        let estimate = Estimate { walked: 0, total: Total::About(10_000) };
        assert_eq!(progress.eta(s(5.0), &estimate), Eta::Unknown);
        progress.batch(s(1.0), 100);
        progress.batch(s(1.5), 100);
        assert_eq!(progress.rate(s(3.0)), None, "two batches are too few");
        progress.batch(s(1.8), 100);
        assert_eq!(progress.rate(s(1.8)), None, "two seconds are too short");
        assert_eq!(progress.rate(s(3.0)), Some(100.0));
        let unknown = Estimate { walked: 300, total: Total::Unknown };
        assert_eq!(progress.eta(s(3.0), &unknown), Eta::Unknown);
    }

    #[test]
    fn a_stalled_walk_loses_its_rate_and_then_its_eta_grows() {
        let mut progress = Progress::resume(s(0.0), 0);
        for second in 1..=20 {
            progress.batch(s(f64::from(second)), 1000);
        }
        assert_eq!(progress.rate(s(20.0)), Some(1000.0));
        let estimate = Estimate { walked: 20_000, total: Total::About(30_000) };
        assert_eq!(progress.eta(s(20.0), &estimate), Eta::Within { least: s(10.0), most: s(10.0) });
        let slower = progress.eta(s(25.0), &estimate);
        assert_eq!(slower, Eta::Within { least: s(12.5), most: s(20.0) });
        assert_eq!(progress.rate(s(60.0)), Some(0.0));
        assert_eq!(progress.eta(s(60.0), &estimate), Eta::Unknown);
    }

    #[test]
    fn rows_of_an_earlier_driver_count_as_progress_but_not_as_speed() {
        let mut progress = Progress::resume(s(100.0), 5000);
        for second in 1..=4 {
            progress.batch(s(100.0 + f64::from(second)), 10);
        }
        assert_eq!(progress.walked(), 5040);
        assert_eq!(progress.mean_rate(s(104.0)), Some(10.0));
    }

    #[test]
    fn the_series_has_a_point_a_second_and_no_more_than_its_length() {
        let mut progress = Progress::resume(s(0.0), 0);
        for second in 1..=150 {
            progress.batch(s(f64::from(second)), 7);
            progress.tick(s(f64::from(second)));
        }
        assert_eq!(progress.series().len(), SERIES);
        assert!(progress.series().iter().all(|rate| (rate - 7.0).abs() < 1e-9));
    }

    proptest! {
        #[test]
        fn a_share_is_never_past_one_and_is_one_only_at_the_end(
            foretold in proptest::option::of(0_u64..10_000_000), walked in 0_u64..10_000_000,
            position in proptest::option::of(0.0_f64..=1.0), next in 1_u64..100_000,
        ) {
            let total = correct_total(foretold, walked, position, next);
            let estimate = Estimate { walked, total };
            if let Total::About(total) = total {
                prop_assert!(total >= walked);
            }
            if let Some(fraction) = estimate.fraction() {
                prop_assert!((0.0..1.0).contains(&fraction));
            }
        }

        #[test]
        fn the_eta_is_a_range_the_right_way_round(batches in proptest::collection::vec((1_u64..5000, 0.01_f64..3.0), 3..60), left in 0_u64..1_000_000) {
            let mut now = 0.0;
            let mut progress = Progress::resume(s(0.0), 0);
            for (rows, took) in batches {
                now += took;
                progress.batch(s(now), rows);
            }
            let estimate = Estimate { walked: progress.walked(), total: Total::About(progress.walked() + left) };
            if let Eta::Within { least, most } = progress.eta(s(now + 0.5), &estimate) {
                prop_assert!(least <= most);
            }
        }
    }
}
