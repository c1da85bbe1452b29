//! How long a run would take: the rule that sizes batches, played through with the times that trials took.

use std::time::Duration;

use super::{Foreseen, Given, judged, real, share};
use crate::check::rehearsal::{Look, Trial};
use crate::engine::batch_size::{BatchSize, Bounds};
use crate::steps::segments;

/// Batches that are played through one by one; what comes behind them goes on as the last ones did.
const PLAYED: u64 = 2_000;
/// Segments of a large table.
const SEGMENTS: u32 = 64;
/// What trials of a second do not see: caches and WAL buffers that are full, files that are written out, and the other
/// sessions that are met in a run.
const SUSTAINED: f64 = 1.15;
/// A machine that is a little less busy than it was, or a little more.
const QUICKER: f64 = 0.85;
const SLOWER: f64 = 1.25;
/// So much of a worker's gain is likely to be had of each further one: they share the disk, the WAL and the locks of
/// the indexes. It was not measured here.
const SCALING: f64 = 0.6;

/// How a run goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    pub(super) duration: Foreseen<Duration>,
    pub(super) workers: u32,
    pub(super) batches: u64,
    pub(super) batch_rows: u64,
    /// How long a batch of that size takes.
    pub(super) held: Duration,
}

/// The time of a batch, in seconds: so much, and so much for each row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    fixed: f64,
    row: f64,
}

impl Cost {
    fn of(self, rows: u64) -> Duration {
        Duration::try_from_secs_f64(self.fixed + self.row * real(rows)).unwrap_or(Duration::MAX / 4)
    }
}

/// Plays a run through. `None`: no row was tried.
pub(super) fn course(given: &Given<'_>) -> Option<Course> {
    // The clock of howdah alone, as in a run; else the server's account, whose clocks cost some time of their own.
    let rank = |trial: &Trial| match trial.look {
        Look::Plain => 2,
        Look::Counted => 1,
        Look::Close => 0,
    };
    let best = judged(given.trials, |trial| Some(rank(trial)));
    let places = best.iter().map(|best| place(given.trials, best));
    let rates: Vec<f64> = places.filter(|rate| *rate > 0.0).collect();
    if rates.is_empty() {
        return None;
    }
    // Each place stands for as many rows, however large its trials were.
    let mean = rates.iter().sum::<f64>() / real(rates.len() as u64);
    let rates = Foreseen {
        least: rates.iter().copied().fold(f64::MAX, f64::min),
        likely: mean * SUSTAINED,
        most: rates.iter().copied().fold(0.0, f64::max) * SUSTAINED,
    };
    let fixed = fixed(given.trials, mean);
    let around = median(given.trials.iter().map(|trial| trial.around.as_secs_f64()).collect());
    let limits = given.limits;
    let many = segments::segments_for(Some(given.table.rows), limits.batch.start, SEGMENTS);
    let workers = limits.workers.clamp(1, many);
    let largest = best.iter().map(|trial| trial.walked).max().unwrap_or(1).max(1);
    let play = |row: f64| {
        // A batch's own part is in what its rows took, where the trial was as large as a batch.
        let row = (row - fixed / real(largest)).max(row / 2.0);
        walk(given, Cost { fixed: fixed + around, row }, many)
    };
    let likely = play(rates.likely);
    let gain = f64::from(workers);
    let rest = 1.0 + limits.nice;
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds * rest).unwrap_or(Duration::MAX / 4);
    Some(Course {
        duration: Foreseen {
            least: time(play(rates.least).seconds * QUICKER / gain),
            likely: time(likely.seconds / gain.powf(SCALING)),
            most: time(play(rates.most).seconds * SLOWER),
        },
        workers,
        batches: likely.batches,
        batch_rows: likely.size,
        held: likely.held,
    })
}

/// Seconds for each row walked at one place, by all trials there that are like its best one.
fn place(trials: &[Trial], best: &Trial) -> f64 {
    let (mut seconds, mut rows) = (0.0, 0.0);
    for trial in trials.iter().filter(|trial| !trial.is_repeated && trial.look == best.look) {
        // One that was cut short by the end of the place tells more of beginning and ending than of rows.
        if trial.at == best.at && trial.part == best.part && trial.walked * 2 > best.walked {
            // The last key is looked for beside the batch before, which has so much less of the machine.
            seconds += (trial.took + trial.bounding).as_secs_f64();
            rows += real(trial.walked);
        }
    }
    share(seconds, rows)
}

/// What a batch takes beside its rows, by the smallest trials: the quickest of them, since the first ones also warm up.
fn fixed(trials: &[Trial], per_row: f64) -> f64 {
    let small = trials.iter().map(|trial| trial.walked).min().unwrap_or(0);
    let rest = trials
        .iter()
        .filter(|trial| trial.walked <= small.saturating_mul(2))
        .map(|trial| (trial.took.as_secs_f64() - per_row * real(trial.walked)).max(0.0));
    let rest = rest.fold(f64::MAX, f64::min);
    if rest < f64::MAX { rest } else { 0.0 }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

struct Walked {
    seconds: f64,
    batches: u64,
    size: u64,
    held: Duration,
}

/// One worker over all segments, one after the other.
fn walk(given: &Given<'_>, cost: Cost, segments: u32) -> Walked {
    let limits = given.limits.batch;
    let bounds = Bounds { start: limits.start, min: limits.min, max: limits.max };
    let mut size = BatchSize::new(bounds, limits.target);
    let rows = given.table.rows;
    let of_segment = rows.div_ceil(u64::from(segments.max(1))).max(1);
    let (mut left, mut in_segment) = (rows, of_segment);
    let (mut seconds, mut batches) = (0.0, 0_u64);
    while left > 0 && batches < PLAYED {
        let n = size.rows().min(in_segment).min(left).max(1);
        let took = cost.of(n);
        size.learn(n, took);
        seconds += took.as_secs_f64();
        (left, in_segment, batches) = (left - n, in_segment - n, batches + 1);
        if in_segment == 0 {
            in_segment = of_segment;
        }
    }
    let steady = size.rows().min(of_segment).max(1);
    if left > 0 {
        let more = left.div_ceil(of_segment).saturating_mul(of_segment.div_ceil(steady));
        seconds += cost.row * real(left) + cost.fixed * real(more);
        batches = batches.saturating_add(more);
    }
    Walked { seconds, batches, size: steady, held: cost.of(steady) }
}
