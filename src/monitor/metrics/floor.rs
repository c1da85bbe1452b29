//! What counts upwards never goes back while this process lives.
//!
//! A batch whose commit is in doubt is counted when the ledger has told; what is read again may then be less than what was
//! told. Prometheus would take that for a restart, and count everything before it twice.

use std::collections::{BTreeSet, HashMap};

/// The highest value of each counter that was told.
#[derive(Debug, Default)]
pub(super) struct Floor {
    highest: HashMap<(&'static str, String, String), f64>,
}

impl Floor {
    /// The value to be told for the counter `name` of `run` with `label`.
    pub(super) fn at_least(&mut self, name: &'static str, run: &str, label: &str, value: f64) -> f64 {
        let highest = self.highest.entry((name, run.to_owned(), label.to_owned())).or_insert(value);
        *highest = highest.max(value);
        *highest
    }

    /// Forgets the runs that are not told any more.
    pub(super) fn keep(&mut self, runs: &BTreeSet<&str>) {
        self.highest.retain(|(_, run, _), _| runs.contains(run.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_counter_has_a_floor_of_its_own_which_goes_with_its_run() {
        let mut floor = Floor::default();
        let told = [("a", "r1", "x", 5.0), ("a", "r1", "y", 1.0), ("a", "r2", "x", 2.0), ("a", "r1", "x", 3.0)];
        let values: Vec<f64> =
            told.iter().map(|(name, run, label, value)| floor.at_least(name, run, label, *value)).collect();
        assert!(
            values.iter().zip([5.0, 1.0, 2.0, 5.0]).all(|(is, wanted)| (is - wanted).abs() < f64::EPSILON),
            "{values:?}"
        );
        floor.keep(&BTreeSet::from(["r2"]));
        assert!(floor.at_least("a", "r1", "x", 1.0) < 2.0);
    }

    proptest! {
        #[test]
        fn a_series_of_a_counter_never_falls(values in proptest::collection::vec(0.0..1e12_f64, 1..50)) {
            let mut floor = Floor::default();
            let told: Vec<f64> = values.iter().map(|value| floor.at_least("n", "r", "", *value)).collect();
            prop_assert!(told.windows(2).all(|pair| pair[0] <= pair[1]));
        }
    }
}
