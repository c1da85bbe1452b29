//! What stands on the time axis beside the curves: pauses, waits, alerts, ends of steps, times without a driver. Pure.

use crate::run::dossier::Dossier;
use crate::run::sample::Sample;
use crate::run::{EventKind, Level};

/// Ends of steps that are marked at most.
const STEPS: usize = 30;
/// Alerts that are marked at most.
const ALERTS: usize = 200;

/// Why a span of time is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It stood still on request.
    Paused,
    /// Batches waited, for the server's sake.
    Waited,
    /// Nobody drove it.
    Undriven,
}

impl Why {
    /// The word beside it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Waited => "waited",
            Self::Undriven => "not driven",
        }
    }
}

/// A span of time that is marked, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// Its first second.
    pub from: i64,
    /// The second after its last.
    pub to: i64,
    /// Why.
    pub why: Why,
}

/// The marks of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// Spans, in their order.
    pub bands: Vec<Band>,
    /// When alerts were raised.
    pub alerts: Vec<(i64, Level)>,
    /// When steps ended, and which.
    pub steps: Vec<(i64, String)>,
}

/// Seconds without a sample from which on nobody is believed to have driven the run.
#[must_use]
pub fn gap(sample: &Sample) -> i64 {
    (2 * sample.step).max(10)
}

impl Marks {
    /// The marks of a run whose samples were gathered into `columns`.
    #[must_use]
    pub fn of(dossier: &Dossier, columns: &[Sample]) -> Self {
        let mut marks = Self { bands: bands(columns), ..Self::default() };
        let raised = dossier.events.iter().filter(|event| event.kind == EventKind::AlertRaised);
        marks.alerts = raised.map(|event| (event.at.timestamp(), event.level)).take(ALERTS).collect();
        // Where the record of events was cut, the samples still know.
        for sample in columns {
            let told = |at: i64| (sample.at - 2..=sample.at + sample.step + 1).contains(&at);
            if let Some(level) = sample.alert
                && marks.alerts.len() < ALERTS
                && !marks.alerts.iter().any(|(at, _)| told(*at))
            {
                marks.alerts.push((sample.at, level));
            }
        }
        marks.alerts.sort_unstable_by_key(|(at, _)| *at);
        let ended = dossier.report.steps.iter().zip(&dossier.step_times);
        let ended = ended.filter_map(|(step, times)| Some((times.ended?.timestamp(), step.name.clone())));
        marks.steps = ended.take(STEPS).collect();
        marks.steps.sort_by_key(|(at, _)| *at);
        marks
    }
}

fn bands(columns: &[Sample]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let mut before: Option<&Sample> = None;
    let mut why_before = None;
    for sample in columns {
        if let Some(before) = before
            && sample.at - (before.at + before.step) > gap(before)
        {
            bands.push(Band { from: before.at + before.step, to: sample.at, why: Why::Undriven });
            why_before = None;
        }
        before = Some(sample);
        // A moment of one is not shown as the whole of a long sample; the table of figures has its seconds.
        // A signal that stops a run pauses it as well: it waits for the server's sake, and not on request.
        let why = if sample.is_waiting() {
            Some(Why::Waited)
        } else if sample.is_paused() {
            Some(Why::Paused)
        } else {
            None
        };
        let goes_on = std::mem::replace(&mut why_before, why) == why;
        let Some(why) = why else { continue };
        let to = sample.at + sample.step;
        match bands.last_mut() {
            Some(last) if goes_on => last.to = to,
            _ => bands.push(Band { from: sample.at, to, why }),
        }
    }
    bands
}

/// The samples of a span of time, gathered into at most about `most` columns.
#[must_use]
pub fn columns(samples: &[Sample], most: i64) -> Vec<Sample> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let span = last.at + last.step - first.at;
    let finest = samples.iter().map(|sample| sample.step).max().unwrap_or(1);
    let step = (span / most.max(1) + 1).max(finest);
    if step <= finest { samples.to_vec() } else { crate::run::sample::gathered(samples.to_vec(), step) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(at: i64) -> Sample {
        Sample { at, step: 1, seen: 1, ..Sample::default() }
    }

    #[test]
    fn pauses_waits_and_gaps_become_bands() {
        let samples: Vec<Sample> = (0..10)
            .chain(60..70)
            .map(|at| Sample {
                paused_s: (3..6).contains(&at).into(),
                waits_s: (60..62).contains(&at).into(),
                waits: (60..62).contains(&at).then(|| "replay lag".to_owned()),
                ..sample(at)
            })
            .collect();
        let band = |from, to, why| Band { from, to, why };
        assert_eq!(bands(&samples), [band(3, 6, Why::Paused), band(10, 60, Why::Undriven), band(60, 62, Why::Waited)]);
    }

    #[test]
    fn work_between_two_pauses_is_not_paused_and_a_stop_by_a_signal_is_a_wait() {
        let mut samples: Vec<Sample> = (0..12).map(sample).collect();
        for at in [2, 3, 6, 9, 10] {
            samples[at].paused_s = 1;
        }
        for at in [9, 10] {
            samples[at].waits_s = 1;
        }
        // A second that nobody saw parts nothing.
        samples.remove(3);
        samples[3].paused_s = 1;
        let band = |from, to, why| Band { from, to, why };
        assert_eq!(bands(&samples), [band(2, 5, Why::Paused), band(6, 7, Why::Paused), band(9, 11, Why::Waited)]);
    }

    #[test]
    fn a_moment_of_a_pause_or_a_wait_is_no_band() {
        let long = |at, paused_s, waits_s| Sample { at, step: 64, seen: 60, paused_s, waits_s, ..Sample::default() };
        let band = |from, to, why| Band { from, to, why };
        let marked = bands(&[long(0, 1, 0), long(64, 0, 29), long(128, 30, 0), long(192, 0, 31), long(256, 0, 0)]);
        assert_eq!(marked, [band(128, 192, Why::Paused), band(192, 256, Why::Waited)]);
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_bounded_and_keeps_the_worst(
            gaps in proptest::collection::vec((1_i64..100_000, 0.0_f32..1e6), 1..500),
            most in 10_i64..800,
        ) {
            let mut at = 0;
            let mut samples = Vec::new();
            for (gap, worst) in &gaps {
                at += gap;
                samples.push(Sample { worst_ms: Some(*worst), ..sample(at) });
            }
            let columns = columns(&samples, most);
            prop_assert!(i64::try_from(columns.len()).unwrap() <= most + 1);
            let worst = |samples: &[Sample]| samples.iter().filter_map(|sample| sample.worst_ms).fold(0.0, f32::max);
            prop_assert!((worst(&columns) - worst(&samples)).abs() < f32::EPSILON);
        }
    }
}
