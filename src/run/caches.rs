//! How far cached look-ups spare the database.

use serde::{Deserialize, Serialize};

use super::human;

/// One cache, as this driver has used it since it began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheView {
    /// Its name in the plan. Not cleaned.
    pub name: String,
    /// Look-ups in all.
    pub asked: u64,
    /// Answered out of this process.
    pub process: u64,
    /// Answered by Redis.
    pub redis: u64,
    /// Answered by the database.
    pub database: u64,
    /// Answers of Redis and of the database that said that there is nothing.
    pub nothing: u64,
    /// Look-ups that failed.
    pub errors: u64,
}

impl CacheView {
    /// The share that did not get to the database, 0 to 1. `None`: nothing was asked.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.process.saturating_add(self.redis);
        (self.asked > 0).then(|| hits as f64 / self.asked as f64)
    }

    /// `98.2% of 1,204,311`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.hit_rate() {
            Some(rate) => format!("{} of {}", human::percent(rate), human::count(self.asked)),
            None => "nothing asked yet".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_what_was_asked() {
        let view = CacheView { asked: 1000, process: 950, redis: 32, database: 18, ..CacheView::default() };
        assert_eq!(view.words(), "98.2% of 1,000");
        assert_eq!(CacheView::default().words(), "nothing asked yet");
    }
}
