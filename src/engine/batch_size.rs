//! How many rows the next batch holds: by the time that the last ones took.
//!
//! Source of the rule: the blueprint, section 5. `next = size * clamp(target / p90, 0.5, 1.5)`, where p90 is taken over
//! the last batches of about that size; a single batch past five times the target shrinks the size to a tenth at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::ports::Trouble;

/// Batches that are looked back on.
const SAMPLES: usize = 10;
/// A batch that takes more than this many targets shrinks the size at once.
const FAR_TOO_LONG: u32 = 5;

/// For so many batches the size stays where a retreat has put it.
const CEILING_BATCHES: u32 = 20;

/// Bounds of a batch's size, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first batch.
    pub start: u64,
    /// Never fewer.
    pub min: u64,
    /// Never more.
    pub max: u64,
}

/// The rule and what it remembers.
#[derive(Debug, Clone)]
pub struct BatchSize {
    bounds: Bounds,
    target: Duration,
    size: u64,
    samples: VecDeque<(u64, Duration)>,
    at_floor: bool,
    /// After a batch gave way: no larger than this, for so many batches more.
    ceiling: Option<(u64, u32)>,
}

impl BatchSize {
    /// Begins at `bounds.start`, and aims at `target` a batch.
    #[must_use]
    pub fn new(bounds: Bounds, target: Duration) -> Self {
        let size = bounds.start.clamp(bounds.min, bounds.max);
        Self { bounds, target, size, samples: VecDeque::new(), at_floor: false, ceiling: None }
    }

    /// Rows in the next batch.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.size
    }

    /// The time that a batch aims at.
    #[must_use]
    pub fn target(&self) -> Duration {
        self.target
    }

    /// Whether the size stands at its minimum and batches still take too long.
    #[must_use]
    pub fn at_floor(&self) -> bool {
        self.at_floor
    }

    /// Aims at another time from now on, and goes there from the present size.
    pub fn aim(&mut self, target: Duration) {
        self.target = target;
        if let Some(p90) = self.p90() {
            self.size = self.bounded(scale(self.size, ratio(target, p90).clamp(0.1, 2.0)));
        }
        self.samples.clear();
    }

    /// Makes batches smaller after a failure of one. Returns whether they were at their minimum before.
    ///
    /// A batch that ran into its time limit is cut to a tenth; one that stood in somebody's way or met another's lock, to
    /// a half, which then is the most for a while: what grows back at once stands in the way again.
    pub fn retreat(&mut self, trouble: Trouble) -> bool {
        let at_floor = self.size == self.bounds.min;
        match trouble {
            Trouble::Outage => return at_floor,
            Trouble::TooLong => self.size = self.bounded(self.size / 10),
            Trouble::Transient | Trouble::Blocked | Trouble::GaveWay => {
                self.size = self.bounded(self.size / 2);
                self.ceiling = Some((self.size, CEILING_BATCHES));
            }
        }
        self.samples.clear();
        at_floor
    }

    /// Learns from a batch of `rows` rows that took `took`. A batch that was cut short by the end of its segment teaches
    /// only when it was slow.
    ///
    /// Returns `true` once, when the size has come to its floor and batches still take longer than the target.
    pub fn learn(&mut self, rows: u64, took: Duration) -> bool {
        self.ceiling = self.ceiling.and_then(|(most, left)| (left > 1).then(|| (most, left - 1)));
        let cut_short = rows * 2 < self.size;
        if took > self.target * FAR_TOO_LONG {
            self.samples.clear();
            self.size = self.bounded(self.size / 10);
        } else if !cut_short {
            self.samples.push_back((rows, took));
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
            if let Some(p90) = self.p90() {
                self.size = self.bounded(scale(self.size, ratio(self.target, p90).clamp(0.5, 1.5)));
            }
        }
        let floored = self.size == self.bounds.min && took > self.target;
        let news = floored && !self.at_floor;
        self.at_floor = floored;
        news
    }

    /// The 90th percentile, by nearest rank, of the time of batches of about the present size, scaled to that size.
    fn p90(&self) -> Option<Duration> {
        let near = |rows: u64| rows * 2 >= self.size && rows <= self.size * 2;
        let mut times: Vec<Duration> = self
            .samples
            .iter()
            .filter(|(rows, _)| near(*rows))
            .map(|(rows, took)| took.mul_f64(ratio_of(self.size, *rows)))
            .collect();
        times.sort_unstable();
        let rank = (times.len() * 9).div_ceil(10).checked_sub(1)?;
        times.get(rank).copied()
    }

    /// Within bounds, and rounded to two leading digits, so that the number on the screen can be read.
    fn bounded(&self, rows: u64) -> u64 {
        let mut unit = 1;
        while rows / unit >= 100 {
            unit *= 10;
        }
        let rounded = (rows + unit / 2) / unit * unit;
        let most = self.ceiling.map_or(self.bounds.max, |(most, _)| most.clamp(self.bounds.min, self.bounds.max));
        rounded.clamp(self.bounds.min, most)
    }
}

fn ratio(target: Duration, took: Duration) -> f64 {
    target.as_secs_f64() / took.as_secs_f64().max(1e-6)
}

#[expect(clippy::cast_precision_loss, reason = "a share of a row count")]
fn ratio_of(size: u64, rows: u64) -> f64 {
    size as f64 / rows.max(1) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a bounded row count"
)]
fn scale(rows: u64, factor: f64) -> u64 {
    (rows as f64 * factor).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { start: 1000, min: 100, max: 100_000 };
    const TARGET: Duration = Duration::from_millis(500);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_batch_moves_the_size_as_the_rule_says() {
        let table = [
            // took -> next
            (ms(50), 1500),
            (ms(250), 1500),
            (ms(400), 1300),
            (ms(500), 1000),
            (ms(1000), 500),
            (ms(2400), 500),
            (ms(2501), 100),
        ];
        for (took, next) in table {
            let mut size = BatchSize::new(BOUNDS, TARGET);
            size.learn(1000, took);
            assert_eq!(size.rows(), next, "{took:?}");
        }
    }

    #[test]
    fn the_floor_is_told_once() {
        let mut size = BatchSize::new(Bounds { start: 100, ..BOUNDS }, TARGET);
        assert!(size.learn(100, ms(900)));
        assert!(!size.learn(100, ms(900)));
        assert!(size.at_floor());
        assert!(!size.learn(100, ms(100)));
        assert!(!size.at_floor());
    }

    #[test]
    fn the_short_last_batch_of_a_segment_teaches_nothing() {
        let mut size = BatchSize::new(BOUNDS, TARGET);
        size.learn(3, ms(1));
        assert_eq!(size.rows(), 1000);
    }

    #[test]
    fn a_batch_that_stood_in_the_way_stays_small_for_a_while() {
        let mut size = BatchSize::new(BOUNDS, TARGET);
        assert!(!size.retreat(Trouble::GaveWay));
        for batch in 0..40 {
            let rows = size.rows();
            assert_eq!(rows > 500, batch > 19, "batch {batch} of {rows} rows");
            size.learn(rows, ms(100));
        }
        assert!(!size.retreat(Trouble::Outage), "an outage says nothing of the size");
        let mut size = BatchSize::new(Bounds { start: 1000, min: 400, max: 5000 }, TARGET);
        assert!(!size.retreat(Trouble::TooLong));
        assert_eq!(size.rows(), 400);
        assert!(size.retreat(Trouble::TooLong), "at its floor, the time limit is no matter of size");
    }

    #[test]
    fn a_new_target_is_reached_in_few_batches() {
        let mut size = BatchSize::new(BOUNDS, TARGET);
        let per_row = Duration::from_micros(50);
        let settle = |size: &mut BatchSize| {
            for _ in 0..15 {
                let rows = size.rows();
                size.learn(rows, per_row * u32::try_from(rows).unwrap());
            }
            per_row * u32::try_from(size.rows()).unwrap()
        };
        let close = |took: Duration, target: Duration| took > target.mul_f64(0.8) && took < target.mul_f64(1.2);
        assert!(close(settle(&mut size), TARGET));
        size.aim(ms(100));
        assert!(close(settle(&mut size), ms(100)));
    }

    proptest! {
        #[test]
        fn the_size_never_leaves_its_bounds(times in proptest::collection::vec(0_u64..20_000, 0..100), min in 1_u64..500, span in 0_u64..100_000) {
            let bounds = Bounds { start: 1000, min, max: min + span };
            let mut size = BatchSize::new(bounds, TARGET);
            for took in times {
                let rows = size.rows();
                size.learn(rows, ms(took));
                prop_assert!((bounds.min..=bounds.max).contains(&size.rows()));
            }
        }

        #[test]
        fn any_steady_speed_settles_near_the_target(micros_per_row in 5_u32..4000) {
            let mut size = BatchSize::new(Bounds { start: 1000, min: 10, max: 1_000_000 }, TARGET);
            let took = |rows: u64| Duration::from_micros(u64::from(micros_per_row) * rows);
            for _ in 0..40 {
                let rows = size.rows();
                size.learn(rows, took(rows));
            }
            let last = took(size.rows());
            prop_assert!(last > TARGET.mul_f64(0.75) && last < TARGET.mul_f64(1.25), "{:?}", last);
        }
    }
}
