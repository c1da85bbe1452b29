//! The course of a run over all its drivers, as the ledger keeps it: a bounded number of samples at any length. Pure.

use serde::{Deserialize, Serialize};

use super::history::Point;
use super::{Level, Snapshot};

/// Samples that a run keeps at most.
pub const SAMPLES: usize = 2000;

/// What a run did in a span of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Its start, in seconds since 1970.
    pub at: i64,
    /// Seconds that it spans. Not all of them need have been seen: whoever drove the run may have died in it.
    pub step: i64,
    /// Seconds of it that were seen.
    pub seen: i64,
    /// Rows a second, on average over what was seen.
    pub rate: f32,
    /// The mean time of the batches that committed in it, in milliseconds. `None`: none did.
    pub batch_ms: Option<f32>,
    /// The longest of them.
    pub worst_ms: Option<f32>,
    /// The most replay lag, in seconds. `None`: not read.
    pub lag: Option<f32>,
    /// The most dead rows of the plan's tables.
    pub dead: Option<f32>,
    /// The mean use of the driver's CPUs, from 0 to 1.
    pub cpu: Option<f32>,
    /// The most memory of the driver's host in use, as a share of all, from 0 to 1.
    pub memory: Option<f32>,
    /// howdah's own resident memory at most, in bytes.
    pub rss: Option<f32>,
    /// The most workers at work.
    pub workers: Option<i16>,
    /// Seconds of those seen in which the run stood still on request.
    pub paused_s: i64,
    /// Seconds of those seen in which batches waited.
    pub waits_s: i64,
    /// What batches waited for in it, the longest. Not cleaned.
    pub waits: Option<String>,
    /// The worst alert that was raised in it.
    pub alert: Option<Level>,
}

impl Sample {
    /// One second of a run. `snapshot`: as it stood then, where that is known; a second that was caught up on has its point only.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a point of a chart")]
    pub fn of(point: &Point, snapshot: Option<&Snapshot>) -> Self {
        let host = snapshot.and_then(|snapshot| snapshot.vitals.host.value());
        let rss = snapshot.and_then(|snapshot| snapshot.vitals.process.value()).map(|process| process.rss.0 as f32);
        let committed = |ms: f32| (ms > 0.0).then_some(ms);
        let hold = snapshot.and_then(|snapshot| snapshot.pace.hold.as_ref());
        let raised = |snapshot: &Snapshot| {
            let alerts = snapshot.vitals.alerts.iter().filter(|alert| alert.raised_at.timestamp() >= point.at - 1);
            alerts.map(|alert| alert.level).max()
        };
        Self {
            at: point.at,
            step: 1,
            seen: 1,
            rate: point.rate,
            batch_ms: committed(point.batch_ms),
            worst_ms: committed(point.worst_ms),
            lag: point.lag,
            dead: point.dead,
            cpu: host.and_then(|host| host.cpu_percent).map(|percent| percent / 100.0),
            memory: host
                .filter(|host| host.memory_total.0 > 0)
                .map(|host| (host.memory_used.0 as f64 / host.memory_total.0 as f64).min(1.0) as f32),
            rss,
            workers: snapshot.map(|snapshot| i16::try_from(snapshot.pace.workers).unwrap_or(i16::MAX)),
            paused_s: point.paused.into(),
            waits_s: hold.is_some().into(),
            waits: hold.map(|hold| hold.key.clone()),
            alert: point.alert.then(|| snapshot.and_then(raised).unwrap_or(Level::Warning)),
        }
    }

    /// Whether it stood still on request for at least half of what was seen.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_s > 0 && self.paused_s * 2 >= self.seen
    }

    /// Whether batches waited for at least half of what was seen.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits_s > 0 && self.waits_s * 2 >= self.seen
    }

    /// Takes in a later one. Means weigh by the seconds that were seen, seconds add up, the rest keeps its most.
    #[expect(clippy::cast_precision_loss, reason = "a share of a span of seconds")]
    fn absorb(&mut self, later: Self) {
        let (old, new) = (self.seen.max(1) as f32, later.seen.max(1) as f32);
        let mean = |a: f32, b: f32| (a * old + b * new) / (old + new);
        self.batch_ms = both(self.batch_ms, later.batch_ms, mean);
        self.worst_ms = both(self.worst_ms, later.worst_ms, f32::max);
        self.lag = both(self.lag, later.lag, f32::max);
        self.dead = both(self.dead, later.dead, f32::max);
        self.cpu = both(self.cpu, later.cpu, mean);
        self.rate = mean(self.rate, later.rate);
        self.memory = both(self.memory, later.memory, f32::max);
        self.rss = both(self.rss, later.rss, f32::max);
        self.workers = both(self.workers, later.workers, i16::max);
        if later.waits_s > self.waits_s || self.waits.is_none() {
            self.waits = later.waits.or(self.waits.take());
        }
        self.paused_s += later.paused_s;
        self.waits_s += later.waits_s;
        self.alert = both(self.alert, later.alert, Level::max);
        self.seen += later.seen;
    }
}

/// What becomes of two values of which either may be missing.
fn both<T>(a: Option<T>, b: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

/// The samples of a run, one in `step` seconds, which doubles when there are too many.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    samples: Vec<Sample>,
    step: i64,
    most: usize,
    /// The place of the first sample that was not told of yet.
    changed: usize,
    /// Whether all of them were made anew since they were told of.
    anew: bool,
    /// Seconds by which those that come are put later, since the clock that they come from is behind.
    shift: i64,
}

/// What has changed of a course since it was asked last.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Samples to be written, in the place of those that begin when they do.
    pub samples: Vec<Sample>,
    /// Those that span less than so many seconds are gone, where they are not among `samples`. `None`: none is.
    pub below: Option<i64>,
}

impl Course {
    /// A course of at most `most` samples, as far as it was written before. They are in their order.
    #[must_use]
    pub fn new(samples: Vec<Sample>, most: usize) -> Self {
        let step = samples.iter().map(|sample| sample.step).max().unwrap_or(1).max(1);
        // Where they span different times, a driver of another version has left them so.
        let anew = samples.iter().any(|sample| sample.step != step);
        let samples = if anew { gathered(samples, step) } else { samples };
        let changed = samples.len();
        let mut course = Self { samples, step, most: most.max(2), changed, anew, shift: 0 };
        course.settle();
        course
    }

    /// Seconds by which the clock that samples come from is behind the samples that were there. 0: it is not.
    #[must_use]
    pub fn shift(&self) -> i64 {
        self.shift
    }

    /// The samples, oldest first.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Takes in a later sample: a second, as a rule.
    ///
    /// One that says it began before the last sample did comes from a clock that is behind, or was put back. It follows the last
    /// one, as do all after it until the clock is past the last one: what happened is kept, if at a later time.
    pub fn push(&mut self, mut later: Sample) {
        if later.step > self.step {
            self.step = later.step;
            self.samples = gathered(std::mem::take(&mut self.samples), self.step);
            self.anew = true;
        }
        match self.samples.last() {
            Some(last) if later.at < last.at => {
                let follows = last.at + last.seen.clamp(1, last.step);
                if later.at + self.shift < last.at {
                    self.shift = follows - later.at;
                }
                later.at += self.shift;
            }
            _ => self.shift = 0,
        }
        let place = gather(&mut self.samples, later, self.step);
        self.changed = self.changed.min(place);
        self.settle();
    }

    fn settle(&mut self) {
        while self.samples.len() > self.most {
            self.step *= 2;
            self.samples = gathered(std::mem::take(&mut self.samples), self.step);
            self.anew = true;
        }
    }

    /// What has to be written. Nothing is taken as written before [`written`](Self::written) says so.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        if self.anew {
            return Some(Change { samples: self.samples.clone(), below: Some(self.step) });
        }
        let samples = self.samples.get(self.changed..).unwrap_or_default();
        (!samples.is_empty()).then(|| Change { samples: samples.to_vec(), below: None })
    }

    /// What [`change`](Self::change) told of is written.
    pub fn written(&mut self) {
        self.changed = self.samples.len();
        self.anew = false;
    }
}

/// The samples, gathered into such that span `step` seconds each.
#[must_use]
pub fn gathered(samples: Vec<Sample>, step: i64) -> Vec<Sample> {
    let mut into = Vec::new();
    for sample in samples {
        gather(&mut into, sample, step);
    }
    into
}

/// Adds a sample to the one that spans `step` seconds, and returns that one's place.
fn gather(samples: &mut Vec<Sample>, finer: Sample, step: i64) -> usize {
    let at = finer.at.div_euclid(step) * step;
    match samples.last_mut() {
        Some(last) if last.at >= at => last.absorb(finer),
        _ => samples.push(Sample { at, step, ..finer }),
    }
    samples.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(at: i64, worst: f32) -> Sample {
        Sample {
            at,
            step: 1,
            seen: 1,
            rate: 5.0,
            batch_ms: Some(1.0),
            worst_ms: Some(worst),
            lag: Some(worst / 2.0),
            dead: Some(worst * 3.0),
            ..Sample::default()
        }
    }

    #[test]
    fn samples_are_gathered_by_means_and_by_what_was_most() {
        let mut course = Course::new(Vec::new(), 2);
        for (at, worst) in [(100, 1.0), (101, 9.0), (103, 2.0)] {
            course.push(Sample {
                rate: worst,
                paused_s: (at == 101).into(),
                waits_s: (at == 101).into(),
                waits: (at == 101).then(|| "lag".into()),
                ..second(at, worst)
            });
        }
        assert_eq!(course.samples().len(), 2);
        let first = &course.samples()[0];
        assert_eq!((first.at, first.step, first.seen, first.rate, first.worst_ms), (100, 2, 2, 5.0, Some(9.0)));
        assert!(first.is_paused() && first.is_waiting(), "half of the time");
        assert_eq!((first.paused_s, first.waits_s, first.waits.as_deref()), (1, 1, Some("lag")));
        assert!(!course.samples()[1].is_paused() && !course.samples()[1].is_waiting());
    }

    #[test]
    fn a_second_of_a_pause_or_a_wait_stays_a_second_in_a_long_sample() {
        let seconds = (0..64).map(|at| Sample {
            paused_s: (at == 5).into(),
            waits_s: (!(3..=60).contains(&at)).into(),
            waits: match at {
                0 => Some("wal".into()),
                61.. => Some("lag".into()),
                _ => None,
            },
            ..second(at, 1.0)
        });
        let long = gathered(gathered(seconds.collect(), 16), 64);
        assert_eq!(long.len(), 1);
        assert_eq!((long[0].seen, long[0].paused_s, long[0].waits_s), (64, 1, 6));
        assert!(!long[0].is_paused() && !long[0].is_waiting());
        assert!(!Sample::default().is_paused() && !Sample::default().is_waiting());
    }

    #[test]
    fn a_driver_whose_clock_is_behind_goes_on_after_the_last_sample() {
        let mut course = Course::new(vec![second(1000, 1.0), second(1001, 2.0)], 100);
        for (at, worst) in [(400, 7.0), (401, 3.0), (405, 4.0)] {
            course.push(second(at, worst));
        }
        assert_eq!(course.shift(), 602);
        let kept = |course: &Course| {
            course.samples().iter().map(|sample| (sample.at, sample.worst_ms.unwrap_or(0.0))).collect::<Vec<_>>()
        };
        assert_eq!(kept(&course), [(1000, 1.0), (1001, 2.0), (1002, 7.0), (1003, 3.0), (1007, 4.0)]);
        // Its clock was put right meanwhile: nothing is behind any more, and nothing runs backwards.
        course.push(second(1010, 5.0));
        assert_eq!((course.shift(), kept(&course).last()), (0, Some(&(1010, 5.0))));
        // Samples of longer steps stand at the start of what they span: that is no clock that is behind.
        let mut course = Course::new(vec![second(101, 1.0)], 100);
        course.push(Sample { at: 100, step: 4, ..second(100, 2.0) });
        assert_eq!((course.shift(), kept(&course)), (0, vec![(100, 2.0)]));
    }

    #[test]
    fn what_was_written_is_not_told_of_again_until_it_changes() {
        let mut course = Course::new(vec![second(10, 1.0)], 3);
        assert_eq!(course.change(), None);
        course.push(second(12, 1.0));
        assert_eq!(course.change().map(|change| (change.samples.len(), change.below)), Some((1, None)));
        assert_eq!(course.change().map(|change| change.samples.len()), Some(1), "until it is written");
        course.written();
        assert_eq!(course.change(), None);
        course.push(second(13, 1.0));
        course.push(second(14, 1.0));
        // 10, 12 with 13, 14: every sample is another one than was written.
        let change = course.change().unwrap();
        assert_eq!(change.below, Some(2));
        assert_eq!(change.samples.iter().map(|sample| sample.at).collect::<Vec<_>>(), [10, 12, 14]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_clocks_say(
            jumps in proptest::collection::vec((-5_000_i64..5_000, 1.0_f32..1e6), 1..300),
            most in 2_usize..40,
        ) {
            let mut course = Course::new(Vec::new(), most);
            let (mut at, mut worst) = (1_800_000_000, 0.0_f32);
            for (jump, ms) in &jumps {
                at += jump;
                worst = worst.max(*ms);
                course.push(second(at, *ms));
            }
            let samples = course.samples();
            prop_assert!(samples.len() <= most);
            prop_assert!(samples.windows(2).all(|pair| pair[0].at + pair[0].step <= pair[1].at));
            prop_assert_eq!(samples.iter().map(|sample| sample.seen).sum::<i64>(), i64::try_from(jumps.len()).unwrap());
            let most = samples.iter().filter_map(|sample| sample.worst_ms).fold(0.0, f32::max);
            prop_assert!((most - worst).abs() < f32::EPSILON);
        }

        #[test]
        fn a_course_of_any_length_with_any_gaps_keeps_its_bound_its_order_and_its_most(
            gaps in proptest::collection::vec((1_i64..5_000, 1.0_f32..1e6), 1..400),
            most in 2_usize..40,
            resumed_every in 1_usize..50,
        ) {
            let mut course = Course::new(Vec::new(), most);
            // As the ledger would hold it.
            let mut kept: std::collections::BTreeMap<i64, Sample> = std::collections::BTreeMap::new();
            let mut at = 1_800_000_000;
            let mut worst = 0.0_f32;
            for (n, (gap, ms)) in gaps.iter().enumerate() {
                at += gap;
                worst = worst.max(*ms);
                course.push(second(at, *ms));
                prop_assert!(course.samples().len() <= most);
                if n % 3 == 0 && let Some(change) = course.change() {
                    let new: Vec<i64> = change.samples.iter().map(|sample| sample.at).collect();
                    kept.retain(|at, sample| change.below.is_none_or(|below| sample.step >= below) || new.contains(at));
                    kept.extend(change.samples.into_iter().map(|sample| (sample.at, sample)));
                    course.written();
                    prop_assert_eq!(kept.values().cloned().collect::<Vec<_>>(), course.samples());
                    if n % resumed_every == 0 {
                        course = Course::new(kept.values().cloned().collect(), most);
                    }
                }
            }
            let samples = course.samples();
            prop_assert!(samples.windows(2).all(|pair| pair[0].at + pair[0].step <= pair[1].at));
            let most = |of: fn(&Sample) -> Option<f32>| samples.iter().filter_map(of).fold(0.0, f32::max);
            prop_assert!((most(|sample| sample.worst_ms) - worst).abs() < f32::EPSILON);
            prop_assert!((most(|sample| sample.lag) - worst / 2.0).abs() < f32::EPSILON);
            prop_assert_eq!(samples.iter().map(|sample| sample.seen).sum::<i64>(), i64::try_from(gaps.len()).unwrap());
            prop_assert!(samples.iter().all(|sample| (sample.rate - 5.0).abs() < 0.01));
        }
    }
}
