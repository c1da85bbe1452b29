//! The last values of something, for a sparkline.

use std::collections::VecDeque;

use crate::run::snapshot::SERIES;

/// The last [`SERIES`] values, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Series<T> {
    values: VecDeque<T>,
}

impl<T> Series<T> {
    /// Appends the newest value; the oldest one goes where there is no more room.
    pub fn push(&mut self, value: T) {
        if self.values.len() == SERIES {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// The values, oldest first.
    #[must_use]
    pub fn values(&self) -> &VecDeque<T> {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_series_holds_the_newest_values_in_order(pushed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut series = Series::default();
            for value in &pushed {
                series.push(*value);
            }
            let newest: Vec<u8> = pushed[pushed.len().saturating_sub(SERIES)..].to_vec();
            prop_assert_eq!(series.values().iter().copied().collect::<Vec<_>>(), newest);
        }
    }
}
