//! The course of a run over time, in three resolutions of a bounded number of points. Pure: time comes as a value.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Points that each resolution holds at most.
pub const POINTS: usize = 120;

/// A span of time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// Its start, in seconds since 1970.
    pub at: i64,
    /// Rows a second, on average.
    pub rate: f32,
    /// The mean time of the batches that committed in it, in milliseconds. 0: none did.
    pub batch_ms: f32,
    /// The longest of them.
    pub worst_ms: f32,
    /// The most replay lag, in seconds. `None`: not read.
    pub lag: Option<f32>,
    /// Dead rows of the plan's tables at its end.
    pub dead: Option<f32>,
    /// Whether the run stood still in it on request.
    pub paused: bool,
    /// Whether an alert was raised in it.
    pub alert: bool,
}

/// The course of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One point a second: the last two minutes.
    pub seconds: VecDeque<Point>,
    /// One point in ten seconds: the last twenty minutes.
    pub tens: VecDeque<Point>,
    /// All of it: one point in `step` seconds, which doubles when there are too many.
    pub all: VecDeque<Point>,
    /// Seconds that a point of `all` spans.
    pub step: i64,
}

impl Default for History {
    fn default() -> Self {
        Self { seconds: VecDeque::new(), tens: VecDeque::new(), all: VecDeque::new(), step: 1 }
    }
}

/// How much of the course is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zoom {
    /// The last minute.
    Minute,
    /// The last ten.
    #[default]
    TenMinutes,
    /// From the first second that this driver has seen.
    All,
}

impl Zoom {
    /// The next one, around.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Minute => Self::TenMinutes,
            Self::TenMinutes => Self::All,
            Self::All => Self::Minute,
        }
    }

    /// Its name on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Minute => "1 min",
            Self::TenMinutes => "10 min",
            Self::All => "all",
        }
    }
}

impl History {
    /// Takes in one second. A second that is not later than the last one is left out.
    pub fn push(&mut self, point: Point) {
        if self.seconds.back().is_some_and(|last| point.at <= last.at) {
            return;
        }
        self.seconds.push_back(point);
        trim(&mut self.seconds);
        gather(&mut self.tens, point, 10);
        trim(&mut self.tens);
        gather(&mut self.all, point, self.step);
        while self.all.len() > POINTS {
            self.step *= 2;
            let finer = std::mem::take(&mut self.all);
            for point in finer {
                gather(&mut self.all, point, self.step);
            }
        }
    }

    /// The points of `zoom` up to `now`, oldest first, and the seconds that each spans.
    #[must_use]
    pub fn points(&self, zoom: Zoom, now: DateTime<Utc>) -> (Vec<Point>, i64) {
        let since = |points: &VecDeque<Point>, span: i64| {
            let from = now.timestamp() - span;
            points.iter().filter(|point| point.at >= from).copied().collect()
        };
        match zoom {
            Zoom::Minute => (since(&self.seconds, 60), 1),
            Zoom::TenMinutes => (since(&self.tens, 600), 10),
            Zoom::All => (self.all.iter().copied().collect(), self.step),
        }
    }
}

fn trim(points: &mut VecDeque<Point>) {
    while points.len() > POINTS {
        points.pop_front();
    }
}

/// Adds a point of a finer resolution to the one that spans `step` seconds.
fn gather(points: &mut VecDeque<Point>, finer: Point, step: i64) {
    let at = finer.at.div_euclid(step) * step;
    match points.back_mut() {
        Some(last) if last.at == at => last.absorb(finer, step),
        _ => points.push_back(Point { at, ..finer }),
    }
}

impl Point {
    /// Takes in a later point. Means weigh what is there by the time that it spans.
    #[expect(clippy::cast_precision_loss, reason = "a share of a span of seconds")]
    fn absorb(&mut self, later: Self, step: i64) {
        let before = (later.at - self.at).clamp(1, step) as f32;
        let mean = |old: f32, new: f32| (old * before + new) / (before + 1.0);
        self.rate = mean(self.rate, later.rate);
        self.batch_ms = match (self.batch_ms > 0.0, later.batch_ms > 0.0) {
            (true, true) => mean(self.batch_ms, later.batch_ms),
            (false, _) => later.batch_ms,
            (true, false) => self.batch_ms,
        };
        self.worst_ms = self.worst_ms.max(later.worst_ms);
        self.lag = match (self.lag, later.lag) {
            (Some(old), Some(new)) => Some(old.max(new)),
            (old, new) => old.or(new),
        };
        self.dead = later.dead.or(self.dead);
        self.paused |= later.paused;
        self.alert |= later.alert;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(at: i64, rate: f32) -> Point {
        Point { at, rate, batch_ms: 100.0, ..Point::default() }
    }

    #[test]
    fn seconds_are_gathered_into_tens_by_their_mean() {
        let mut history = History::default();
        for at in 100..120 {
            history.push(Point { alert: at == 103, ..second(at, if at < 110 { 10.0 } else { 20.0 }) });
        }
        let tens: Vec<_> = history.tens.iter().map(|point| (point.at, point.rate, point.alert)).collect();
        assert_eq!(tens, [(100, 10.0, true), (110, 20.0, false)]);
        let now = DateTime::from_timestamp(119, 0).unwrap_or_default();
        assert_eq!(history.points(Zoom::Minute, now).0.len(), 20);
        history.push(second(90, 1.0));
        assert_eq!(history.seconds.len(), 20, "time does not run backwards");
    }

    proptest! {
        #[test]
        fn no_resolution_grows_past_its_bound(gaps in proptest::collection::vec(1_i64..400, 1..600)) {
            let mut history = History::default();
            let mut at = 0;
            for gap in gaps {
                at += gap;
                history.push(second(at, 5.0));
                prop_assert!([&history.seconds, &history.tens, &history.all].iter().all(|points| points.len() <= POINTS));
                prop_assert!(history.all.iter().all(|point| (point.rate - 5.0).abs() < 0.01));
            }
            prop_assert_eq!(history.all.back().map(|point| point.at), Some(at.div_euclid(history.step) * history.step));
        }
    }
}
