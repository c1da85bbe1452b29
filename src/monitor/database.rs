//! The database's counters, made into rates by difference.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::run::ByteSize;
use crate::run::vitals::{DatabaseVitals, TableVitals, VacuumView};

/// The stretch of time that a rate looks back over.
///
/// PostgreSQL's sessions hand in their counts at most once a second, at the end of a transaction: over a single second
/// the difference would be 0 and double in turn.
const WINDOW: Duration = Duration::from_secs(5);

/// Samples over which the number of a table's dead rows is kept.
const DEAD: usize = 40;

/// Raw counters, as read from the server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DatabaseSample {
    /// The database's size on disk.
    pub size: ByteSize,
    /// Connections of howdah's pool that are at work.
    pub pool_in_use: u32,
    /// Connections of howdah's pool that are idle.
    pub pool_idle: u32,
    /// The tables, in the order in which they are shown.
    pub tables: Vec<TableSample>,
    /// Tables that are left out.
    pub more_tables: u32,
}

/// What the server tells of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableSample {
    /// `schema.table`, or only `table` in schema `public`. Not cleaned.
    pub name: String,
    /// Whether the plan names it.
    pub in_plan: bool,
    /// `n_live_tup`.
    pub live: u64,
    /// `n_dead_tup`.
    pub dead: u64,
    /// `n_tup_ins`, since the statistics were reset.
    pub inserted: u64,
    /// `n_tup_upd`.
    pub updated: u64,
    /// `n_tup_hot_upd`.
    pub hot: u64,
    /// `n_tup_del`.
    pub deleted: u64,
    /// The later of `last_vacuum` and `last_autovacuum`.
    pub last_vacuum: Option<DateTime<Utc>>,
    /// Whether that was autovacuum.
    pub last_vacuum_was_auto: bool,
    /// Its size on disk with TOAST, and that of its indexes. `None`: not measured.
    pub sizes: Option<(ByteSize, ByteSize)>,
    /// The vacuum that works on it.
    pub vacuum: Option<VacuumView>,
}

/// Where samples of the database come from.
#[async_trait]
pub trait DatabaseSource: Send + Sync {
    /// Reads the counters once. At most one call is open at a time; a slow one is waited for and not dropped, except
    /// at the end of the process.
    ///
    /// # Errors
    /// Why there is no sample, in one line: it is shown, and the next sample is asked for at the usual pace.
    async fn sample(&self) -> Result<DatabaseSample, String>;
}

/// Makes rates out of counters. Pure: the time comes with the sample.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    tables: HashMap<String, Course>,
}

/// The course of one table.
#[derive(Debug, Clone, Default)]
struct Course {
    points: VecDeque<Point>,
    /// Dead rows, oldest first.
    dead: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Duration,
    /// Rows inserted, updated, deleted.
    counts: [u64; 3],
}

impl Rates {
    /// The vitals of `sample`, taken at `at` by a monotonic clock.
    ///
    /// A table's rates are `None` in its first sample, and once when a counter went back: its statistics were reset.
    pub fn vitals(&mut self, sample: DatabaseSample, at: Duration) -> DatabaseVitals {
        self.tables.retain(|name, _| sample.tables.iter().any(|table| table.name == *name));
        let tables = sample.tables.into_iter().map(|table| self.table(table, at)).collect();
        DatabaseVitals {
            size: sample.size,
            pool_in_use: sample.pool_in_use,
            pool_idle: sample.pool_idle,
            tables,
            more_tables: sample.more_tables,
        }
    }

    fn table(&mut self, table: TableSample, at: Duration) -> TableVitals {
        let counts = [table.inserted, table.updated, table.deleted];
        let course = self.tables.entry(table.name.clone()).or_default();
        let rates = rates(&mut course.points, Point { at, counts });
        if course.dead.len() == DEAD {
            course.dead.pop_front();
        }
        course.dead.push_back(table.dead);
        TableVitals {
            name: table.name,
            in_plan: table.in_plan,
            live: table.live,
            dead: table.dead,
            updated: table.updated,
            hot: table.hot,
            deleted: table.deleted,
            inserts_per_second: rates.map(|[inserts, _, _]| inserts),
            updates_per_second: rates.map(|[_, updates, _]| updates),
            deletes_per_second: rates.map(|[_, _, deletes]| deletes),
            last_vacuum: table.last_vacuum,
            last_vacuum_was_auto: table.last_vacuum_was_auto,
            heap_bytes: table.sizes.map(|(heap, _)| heap),
            index_bytes: table.sizes.map(|(_, indexes)| indexes),
            vacuum: table.vacuum,
            dead_series: course.dead.clone(),
        }
    }
}

/// Appends `new` to the points of the window and tells the rates from the oldest point to it.
#[expect(clippy::cast_precision_loss, reason = "a rate made from a row count")]
fn rates(points: &mut VecDeque<Point>, new: Point) -> Option<[f64; 3]> {
    let went_back = |last: &Point| last.counts.iter().zip(new.counts).any(|(before, now)| now < *before);
    if points.back().is_some_and(went_back) {
        points.clear();
    }
    points.push_back(new);
    // The oldest point is the last one that lies a whole window back, so that there is always one to compare with.
    while points.get(1).is_some_and(|second| new.at.saturating_sub(second.at) >= WINDOW) {
        points.pop_front();
    }
    let oldest = points.front()?;
    let elapsed = new.at.saturating_sub(oldest.at);
    (!elapsed.is_zero())
        .then(|| std::array::from_fn(|kind| (new.counts[kind] - oldest.counts[kind]) as f64 / elapsed.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(tables: &[(&str, [u64; 3])]) -> DatabaseSample {
        let table = |&(name, [inserted, updated, deleted]): &(&str, [u64; 3])| TableSample {
            name: name.to_owned(),
            inserted,
            updated,
            deleted,
            ..TableSample::default()
        };
        DatabaseSample { tables: tables.iter().map(table).collect(), ..DatabaseSample::default() }
    }

    fn seen(vitals: &DatabaseVitals) -> Vec<Option<[f64; 3]>> {
        let rates = |table: &TableVitals| {
            Some([table.inserts_per_second?, table.updates_per_second?, table.deletes_per_second?])
        };
        vitals.tables.iter().map(rates).collect()
    }

    #[test]
    fn rates_are_differences_over_the_time_that_passed() {
        let mut rates = Rates::default();
        let table = [
            ("first", 0, [10, 100, 1000], None),
            ("after two seconds", 2000, [12, 100, 1500], Some([1.0, 0.0, 250.0])),
            ("over the window", 4000, [12, 500, 1500], Some([0.5, 100.0, 125.0])),
            ("at the same instant", 4000, [12, 500, 1500], Some([0.5, 100.0, 125.0])),
            ("a counter went back", 5000, [0, 500, 1500], None),
            ("and is counted again", 6000, [7, 500, 1500], Some([7.0, 0.0, 0.0])),
            ("long after", 60_000, [61, 500, 1500], Some([1.0, 0.0, 0.0])),
            ("only the window counts", 62_000, [61, 500, 1500], Some([54.0 / 56.0, 0.0, 0.0])),
            ("the old has left it", 65_000, [61, 500, 1500], Some([0.0, 0.0, 0.0])),
        ];
        for (name, ms, counts, expected) in table {
            let vitals = rates.vitals(sample(&[("users", counts)]), Duration::from_millis(ms));
            assert_eq!(seen(&vitals), [expected], "{name}");
        }
    }

    #[test]
    fn a_table_that_comes_late_or_comes_back_starts_anew() {
        let mut rates = Rates::default();
        let second = Duration::from_secs;
        rates.vitals(sample(&[("users", [0; 3]), ("orders", [0; 3])]), second(0));
        let vitals = rates.vitals(sample(&[("users", [5; 3]), ("late", [9; 3])]), second(1));
        assert_eq!(seen(&vitals), [Some([5.0; 3]), None]);
        let vitals = rates.vitals(sample(&[("orders", [99; 3])]), second(2));
        assert_eq!(seen(&vitals), [None]);
    }

    #[test]
    fn the_last_numbers_of_dead_rows_are_kept() {
        let mut rates = Rates::default();
        let mut last = DatabaseVitals::default();
        for n in 0..100 {
            let table = TableSample { name: "users".to_owned(), dead: n, ..TableSample::default() };
            let sample = DatabaseSample { tables: vec![table], ..DatabaseSample::default() };
            last = rates.vitals(sample, Duration::from_secs(n));
        }
        assert_eq!(last.tables[0].dead_series, (60..100).collect::<VecDeque<_>>());
    }

    proptest! {
        #[test]
        fn no_rate_is_negative_or_infinite(
            steps in proptest::collection::vec((0_u64..9000, any::<[u64; 3]>()), 1..40)
        ) {
            let mut rates = Rates::default();
            let mut now = Duration::ZERO;
            for (ms, counts) in steps {
                now += Duration::from_millis(ms);
                let vitals = rates.vitals(sample(&[("t", counts)]), now);
                for rate in seen(&vitals).into_iter().flatten().flatten() {
                    prop_assert!(rate.is_finite() && rate >= 0.0);
                }
            }
        }
    }
}
