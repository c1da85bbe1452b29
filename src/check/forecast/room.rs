//! How much room a run takes, and the dead rows that it leaves.

use super::pace::Course;
use super::{Foreseen, Given, real, share, whole};
use crate::check::rehearsal::Trial;

/// Bytes of an index entry where the statistics do not tell.
const ENTRY: f64 = 40.0;

pub(super) struct Room {
    pub(super) table: Foreseen<u64>,
    pub(super) indexes: Vec<(String, Foreseen<u64>)>,
    pub(super) others: Vec<(String, u64)>,
    pub(super) dead: u64,
    pub(super) dead_at_once: u64,
    pub(super) hot: Option<f64>,
}

/// Rows that trials wrote, for each row that they changed.
#[derive(Debug, Clone, Copy, Default)]
struct PerRow {
    inserted: f64,
    updated: f64,
    hot: f64,
    deleted: f64,
}

pub(super) fn forecast(given: &Given<'_>, trials: &[&Trial], changed: Foreseen<f64>, course: &Course) -> Room {
    let rows: f64 = trials.iter().map(|trial| real(trial.changed)).sum();
    let mut own = PerRow::default();
    let mut others: Vec<(String, f64)> = Vec::new();
    for trial in trials {
        for written in &trial.written {
            if written.oid == trial.own {
                own.inserted += real(written.inserted);
                own.updated += real(written.updated);
                own.hot += real(written.hot);
                own.deleted += real(written.deleted);
            } else {
                let n = share(real(written.inserted + written.updated + written.deleted), rows) * changed.likely;
                match others.iter_mut().find(|(name, _)| *name == written.table) {
                    Some((_, all)) => *all += n,
                    None => others.push((written.table.clone(), n)),
                }
            }
        }
    }
    let hot = (own.updated > 0.0).then(|| share(own.hot, own.updated));
    let of_each = |n: f64| share(n, rows) * changed.likely;
    let moved = of_each(own.updated - own.hot);
    let inserted = of_each(own.inserted);
    let dead = of_each(own.updated + own.deleted);
    let table = given.table;
    let row_bytes = if table.written_rows > 0 { real(table.bytes) / real(table.written_rows) } else { table.row_bytes };
    let kept = if table.is_looked_after { 0.3 } else { 0.9 };
    let more = share(changed.most, changed.likely).max(1.0) * 1.1;
    let growth = |moved: f64, inserted: f64| Foreseen {
        least: moved * kept + inserted * 0.9,
        likely: moved + inserted,
        most: (moved + inserted) * more,
    };
    let index = |bytes: u64, entries: u64| {
        let entry = if entries > 0 { real(bytes) / real(entries) } else { ENTRY };
        // New entries of old rows find room that dead ones give back, or split full pages.
        Foreseen {
            least: (moved * 0.1 + inserted * 0.8) * entry,
            likely: (moved * 0.7 + inserted) * entry,
            most: (moved * 1.6 + inserted * 1.6) * entry * more,
        }
        .whole()
    };
    Room {
        table: growth(moved, inserted).times(row_bytes).whole(),
        indexes: table.indexes.iter().map(|one| (one.name.clone(), index(one.bytes, one.entries))).collect(),
        others: others.into_iter().map(|(name, n)| (name, whole(n))).collect(),
        dead: whole(dead),
        dead_at_once: whole(dead_at_once(given, dead, course)),
        hot,
    }
}

/// Dead rows that gather until autovacuum has woken, has come round and has gone through the table once.
fn dead_at_once(given: &Given<'_>, dead: f64, course: &Course) -> f64 {
    let (table, vacuum) = (given.table, given.around.autovacuum);
    let already = real(table.dead);
    if !table.is_looked_after {
        return already + dead;
    }
    let pages = real(table.pages) + real(table.indexes.iter().map(|index| index.pages).sum());
    let pass = vacuum.pages_per_second.map_or(0.0, |pace| share(pages, pace));
    let rate = share(dead, course.duration.likely.as_secs_f64());
    let gathered = real(table.dead_that_wake) + rate * (vacuum.naptime.as_secs_f64() + pass);
    gathered.min(already + dead)
}
