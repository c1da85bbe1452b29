//! What a run would cost, by what a rehearsal has seen. Pure: values in, ranges out.
//!
//! A range says how far the truth may lie from the likely figure; it never hides what was not measured: how far more
//! workers help, whether autovacuum gives space back in time, how full the pages of an index are.

mod pace;
mod room;
mod text;
mod verdict;
mod wal;

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::json::seconds;
use super::rehearsal::{Lock, Surroundings, TableFacts, Trial};
use crate::plan::model::Limits;
pub use verdict::{CODES, findings};
pub(super) use verdict::{OUTSIDE_EFFECTS, REHEARSAL_FAILED};

/// A figure that is not known: at least, most likely, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Foreseen<T> {
    /// At least.
    pub least: T,
    /// Most likely.
    pub likely: T,
    /// At most.
    pub most: T,
}

/// What a forecast is made of.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The plan's limits.
    pub limits: &'a Limits,
    /// The batches that were tried, all of one step.
    pub trials: &'a [Trial],
    /// The step's tables.
    pub table: &'a TableFacts,
    /// The server.
    pub around: &'a Surroundings,
}

/// What a step would cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Rows that would be walked.
    pub rows: u64,
    /// Rows that would be changed.
    pub changed: Foreseen<u64>,
    /// Time at work, pauses and windows apart.
    #[serde(rename = "duration_seconds", serialize_with = "foreseen_seconds")]
    pub duration: Foreseen<Duration>,
    /// Workers that it reckons with; how far they help was not measured.
    pub workers: u32,
    /// Rows of a batch, once its size has settled.
    pub batch_rows: u64,
    /// Batches in all.
    pub batches: u64,
    /// How long a batch would hold its locks, once its size has settled.
    #[serde(rename = "held_seconds", serialize_with = "seconds")]
    pub held: Duration,
    /// WAL in all, in bytes.
    pub wal: Foreseen<u64>,
    /// Of it, full page images: the first change of each page after a checkpoint.
    pub wal_of_full_pages: u64,
    /// WAL in a second, in bytes.
    pub wal_per_second: u64,
    /// By how many bytes the written tables grow, where vacuum does not give space back meanwhile.
    pub table_growth: Foreseen<u64>,
    /// By how many bytes each index grows.
    pub index_growth: Vec<(String, Foreseen<u64>)>,
    /// Rows written into other tables, such as an undo log or a trigger's.
    pub other_rows: Vec<(String, u64)>,
    /// Dead rows that are left behind in all.
    pub dead: u64,
    /// Dead rows at once, at most, where autovacuum does its work meanwhile.
    pub dead_at_once: u64,
    /// Updates without a new entry in any index, 0 to 1. `None`: nothing was updated.
    pub hot: Option<f64>,
    /// Locks on tables and indexes.
    pub locks: Vec<Lock>,
    /// Triggers, with their share of the time of a batch, 0 to 1.
    pub triggers: Vec<TriggerShare>,
}

/// A trigger's part of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TriggerShare {
    /// Its name.
    pub name: String,
    /// The table.
    pub relation: String,
    /// Calls for each row changed.
    pub calls_per_row: f64,
    /// Of the statement's time, 0 to 1.
    pub share: f64,
}

fn foreseen_seconds<S: Serializer>(range: &Foreseen<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let seconds = |duration: Duration| duration.as_secs_f64();
    let in_seconds = Foreseen { least: seconds(range.least), likely: seconds(range.likely), most: seconds(range.most) };
    in_seconds.serialize(to)
}

impl Foreseen<f64> {
    /// The same, of so many.
    fn times(self, n: f64) -> Self {
        Self { least: self.least * n, likely: self.likely * n, most: self.most * n }
    }

    /// Whole numbers, none below nothing.
    fn whole(self) -> Foreseen<u64> {
        Foreseen { least: whole(self.least), likely: whole(self.likely), most: whole(self.most) }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, kept in range")]
fn whole(n: f64) -> u64 {
    n.clamp(0.0, 1e18).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn real(n: u64) -> f64 {
    n as f64
}

/// The quotient; nothing of nothing is nothing.
fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

/// The trials that each place is judged by: the largest that was not tried before on the same rows. `prefer` ranks them.
fn judged<K: Ord>(trials: &[Trial], prefer: impl Fn(&Trial) -> Option<K>) -> Vec<&Trial> {
    let mut best: Vec<&Trial> = Vec::new();
    for trial in trials.iter().filter(|trial| !trial.is_repeated && prefer(trial).is_some()) {
        match best.iter_mut().find(|other| other.at == trial.at && other.part == trial.part) {
            Some(other) => {
                if (prefer(trial), trial.walked) > (prefer(other), other.walked) {
                    *other = trial;
                }
            }
            None => best.push(trial),
        }
    }
    best
}

/// Forecasts a step. `None`: no batch of it could be tried.
#[must_use]
pub fn forecast(given: &Given<'_>) -> Option<Forecast> {
    let counted = judged(given.trials, |trial| trial.explained.as_ref().map(|_| ()));
    let all = if counted.is_empty() { judged(given.trials, |_| Some(())) } else { counted.clone() };
    let walked: f64 = all.iter().map(|trial| real(trial.walked)).sum();
    if walked <= 0.0 {
        return None;
    }
    let rows = real(given.table.rows);
    let of_walked = |trial: &&Trial| share(real(trial.changed), real(trial.walked));
    let changed = Foreseen {
        least: all.iter().map(of_walked).fold(f64::MAX, f64::min),
        likely: all.iter().map(|trial| real(trial.changed)).sum::<f64>() / walked,
        most: all.iter().map(of_walked).fold(0.0, f64::max),
    }
    .times(rows);
    let course = pace::course(given)?;
    let wal = wal::forecast(given, changed, &course);
    let room = room::forecast(given, &all, changed, &course);
    let mut locks: Vec<Lock> = given.trials.iter().flat_map(|trial| trial.locks.iter().cloned()).collect();
    locks.sort_unstable();
    locks.dedup();
    Some(Forecast {
        rows: given.table.rows,
        changed: changed.whole(),
        duration: course.duration,
        workers: course.workers,
        batch_rows: course.batch_rows,
        batches: course.batches,
        held: course.held,
        wal: wal.bytes.whole(),
        wal_of_full_pages: whole(wal.of_full_pages),
        wal_per_second: whole(share(wal.bytes.likely, course.duration.likely.as_secs_f64())),
        table_growth: room.table,
        index_growth: room.indexes,
        other_rows: room.others,
        dead: room.dead,
        dead_at_once: room.dead_at_once,
        hot: room.hot,
        locks,
        triggers: triggers(given.trials),
    })
}

/// What the triggers took, by the trials that have timed them.
fn triggers(trials: &[Trial]) -> Vec<TriggerShare> {
    let mut shares: Vec<(TriggerShare, f64)> = Vec::new();
    let (mut rows, mut time) = (0.0, 0.0);
    for trial in trials {
        let Some(explained) = trial.explained.as_ref().filter(|_| trial.look == super::rehearsal::Look::Close) else {
            continue;
        };
        rows += real(trial.changed);
        time += explained.execution.as_secs_f64();
        for trigger in &explained.triggers {
            let (calls, took) = (real(trigger.calls), trigger.took.unwrap_or_default().as_secs_f64());
            let same = |one: &TriggerShare| one.name == trigger.name && one.relation == trigger.relation;
            if let Some((one, total)) = shares.iter_mut().find(|(one, _)| same(one)) {
                one.calls_per_row += calls;
                *total += took;
            } else {
                let (name, relation) = (trigger.name.clone(), trigger.relation.clone());
                shares.push((TriggerShare { name, relation, calls_per_row: calls, share: 0.0 }, took));
            }
        }
    }
    let finish = |(one, took): (TriggerShare, f64)| TriggerShare {
        calls_per_row: share(one.calls_per_row, rows),
        share: share(took, time).min(1.0),
        ..one
    };
    shares.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests;
