//! What a step does to its table, by the difference of the server's counters. Pure.

use crate::run::{Churn, Vitals};

/// The counters of one table at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baseline {
    updated: u64,
    hot: u64,
    deleted: u64,
    dead: u64,
}

impl Baseline {
    /// The counters of `table` in `vitals`, where they are known.
    #[must_use]
    pub fn of(vitals: &Vitals, table: &str) -> Option<Self> {
        let table = vitals.database.value()?.tables.iter().find(|row| row.name == table)?;
        Some(Self { updated: table.updated, hot: table.hot, deleted: table.deleted, dead: table.dead })
    }

    /// What has come about since `earlier`. Counters that went back were reset: then nothing is known of before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Churn {
        let updated = self.updated.saturating_sub(earlier.updated);
        let dead_made = updated + self.deleted.saturating_sub(earlier.deleted);
        Churn {
            updated,
            hot: self.hot.saturating_sub(earlier.hot),
            dead_made,
            cleared: (earlier.dead + dead_made).saturating_sub(self.dead),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_rows_are_made_by_changes_and_cleared_by_what_is_missing_of_them() {
        let before = Baseline { updated: 100, hot: 50, deleted: 10, dead: 30 };
        let after = Baseline { updated: 1100, hot: 750, deleted: 20, dead: 140 };
        assert_eq!(after.since(before), Churn { updated: 1000, hot: 700, dead_made: 1010, cleared: 900 });
        assert_eq!(before.since(after), Churn { updated: 0, hot: 0, dead_made: 0, cleared: 110 });
    }
}
