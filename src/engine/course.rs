//! How the running step's batches have gone: how long they take, and which took longest. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::run::work::{Latency, SLOWEST, SlowBatch};

/// Batches whose time is kept.
const KEPT: usize = 1024;
/// Classes of the histogram: up to 1 ms, 2 ms, ... 16 s, and the rest.
const CLASSES: usize = 16;

/// How batches have gone.
#[derive(Debug, Default)]
pub struct Course {
    times: VecDeque<Duration>,
    slowest: Vec<SlowBatch>,
    /// Rows, batches, their time, the longest: since the last second was told.
    second: (u64, u32, Duration, Duration),
    /// Plans of statements that were slow, by the segment whose next batch is told.
    explained: Option<(u32, String)>,
}

impl Course {
    /// A step begins: its batches are another matter.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// The plan of the statement of the batch that segment `no` tells of next.
    pub fn explain(&mut self, no: u32, plan: String) {
        self.explained = Some((no, plan));
    }

    /// A batch has committed.
    pub fn push(&mut self, mut batch: SlowBatch) {
        if self.explained.as_ref().is_some_and(|(no, _)| *no == batch.segment) {
            batch.plan = self.explained.take().map(|(_, plan)| plan);
        }
        self.times.push_back(batch.took);
        if self.times.len() > KEPT {
            self.times.pop_front();
        }
        let (rows, batches, time, worst) = &mut self.second;
        *rows += batch.rows;
        *batches += 1;
        *time += batch.took;
        *worst = (*worst).max(batch.took);
        let place = self.slowest.partition_point(|slow| slow.took >= batch.took);
        if place < SLOWEST {
            self.slowest.insert(place, batch);
            self.slowest.truncate(SLOWEST);
        }
    }

    /// Rows, the mean time of a batch and the longest, since this was asked last.
    pub fn second(&mut self) -> (u64, Duration, Duration) {
        let (rows, batches, time, worst) = std::mem::take(&mut self.second);
        (rows, if batches == 0 { Duration::ZERO } else { time / batches }, worst)
    }

    /// The slowest batches, the slowest first.
    #[must_use]
    pub fn slowest(&self) -> &[SlowBatch] {
        &self.slowest
    }

    /// How long batches take. `None`: none has committed.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest rank: the smallest time that so many percent of the batches do not pass.
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1];
        let most = *sorted.last()?;
        let mut histogram = vec![0_u32; CLASSES];
        for time in &sorted {
            let milliseconds = u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            let class = usize::try_from(milliseconds.next_power_of_two().trailing_zeros()).unwrap_or(CLASSES);
            histogram[class.min(CLASSES - 1)] += 1;
        }
        let count = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        Some(Latency { p50: at(50), p90: at(90), p99: at(99), most, count, histogram })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn batch(ms: u64) -> SlowBatch {
        SlowBatch {
            at: DateTime::default(),
            segment: 0,
            from: None,
            to: None,
            rows: 10,
            took: Duration::from_millis(ms),
            plan: None,
        }
    }

    #[test]
    fn the_slowest_come_first_and_percentiles_are_of_the_nearest_rank() {
        let mut course = Course::default();
        assert_eq!(course.latency(), None);
        for ms in 1..=100 {
            course.push(batch(ms));
        }
        let latency = course.latency().unwrap();
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!((latency.p50, latency.p90, latency.p99, latency.most), (ms(50), ms(90), ms(99), ms(100)));
        assert_eq!(latency.histogram[..8], [1, 1, 2, 4, 8, 16, 32, 36]);
        let slowest: Vec<_> = course.slowest().iter().map(|batch| batch.took.as_millis()).collect();
        assert_eq!(slowest, (89..=100).rev().collect::<Vec<_>>());
        assert_eq!(course.second(), (1000, Duration::from_micros(50_500), ms(100)));
        assert_eq!(course.second(), (0, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_plan_goes_to_the_batch_that_it_was_taken_of() {
        let mut course = Course::default();
        course.explain(3, "Seq Scan".to_owned());
        course.push(batch(5));
        course.push(SlowBatch { segment: 3, ..batch(1) });
        assert_eq!(course.slowest()[0].plan, None);
        assert_eq!(course.slowest()[1].plan.as_deref(), Some("Seq Scan"));
    }
}
