//! At which pace a run goes, and why not faster: workers, what is waited for, the governor's signals, the breaker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The pace of a run at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pace {
    /// Workers at work now.
    pub workers: u32,
    /// Workers that may be at work, by the governor and the operator.
    pub wanted: u32,
    /// Workers that the governor may not pass: the plan's `limits.workers`, or what the operator has set.
    pub most: u32,
    /// What batches wait for. `None` while they may go on.
    pub hold: Option<Hold>,
    /// The governor's signals, in a fixed order.
    pub signals: Vec<SignalView>,
    /// The circuit breaker.
    pub breaker: BreakerView,
    /// Time lost to waiting, by reason, the most first. Part of the time at work.
    pub waited: Vec<Waited>,
}

impl Pace {
    /// Time lost to waiting, for all reasons.
    #[must_use]
    pub fn waited_in_all(&self) -> Duration {
        self.waited.iter().map(|waited| waited.time).sum()
    }
}

/// What batches wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The reason in one or two words, by which waiting time is added up: `replay lag`, `window`, `breaker`.
    pub key: String,
    /// The reason in a sentence, with value and limit. Not cleaned.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when, where that is known.
    pub until: Option<DateTime<Utc>>,
}

/// Time lost to one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// [`Hold::key`].
    pub reason: String,
    /// The time.
    pub time: Duration,
}

/// One signal of the governor, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// Its name in one or two words: `replay lag`, `slot WAL`. A probe's own name. Not cleaned.
    pub name: String,
    /// The newest value in words, such as `3.2s`; or why there is none. Not cleaned.
    pub value: String,
    /// The same as a number, in seconds, bytes, or whatever it counts.
    #[serde(default)]
    pub number: Option<f64>,
    /// Where it begins to wait, in words.
    pub slow: Option<String>,
    /// Where it pauses, in words.
    pub stop: Option<String>,
    /// The value as a share of `slow`: past 1 it waits. `None` without a value or a limit.
    pub load: Option<f64>,
    /// Since it was read.
    pub age: Duration,
    /// What it does now.
    pub effect: Effect,
}

/// What a signal does to the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It has no limit: shown only.
    Shown,
    /// Far below its limit: workers may be added.
    Free,
    /// Workers stay as they are.
    Holds,
    /// One worker less.
    Sheds,
    /// Past `slow`: batches wait.
    Waits,
    /// It cannot be read, or not yet: batches wait.
    Unread,
    /// Past `stop`: the run is paused.
    Pauses,
}

impl Effect {
    /// The effect in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Shown | Self::Free => "ok",
            Self::Holds => "holds",
            Self::Sheds => "sheds",
            Self::Waits => "waits",
            Self::Unread => "unread",
            Self::Pauses => "pauses",
        }
    }
}

/// The circuit breaker as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "breaker")]
pub enum BreakerView {
    /// Batches go through.
    Closed {
        /// Failures in a row.
        failures: u32,
        /// Failures that open it.
        limit: u32,
    },
    /// Nothing is tried.
    Open {
        /// When one trial is let through.
        until: DateTime<Utc>,
        /// The failure that opened it. Not cleaned.
        cause: String,
    },
    /// One trial is under way.
    HalfOpen {
        /// The failure that opened it. Not cleaned.
        cause: String,
    },
}

impl Default for BreakerView {
    fn default() -> Self {
        Self::Closed { failures: 0, limit: 0 }
    }
}

/// What a step's changes did to its table, by the server's statistics since the step began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Churn {
    /// Rows updated by anybody: `n_tup_upd`.
    pub updated: u64,
    /// Of these, updates that touched no index: `n_tup_hot_upd`.
    pub hot: u64,
    /// Dead rows made: updated and deleted.
    pub dead_made: u64,
    /// Dead rows that vacuum and page pruning have cleared since.
    pub cleared: u64,
}

impl Churn {
    /// HOT updates in percent of all updates.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn hot_percent(&self) -> Option<f64> {
        (self.updated > 0).then(|| self.hot.min(self.updated) as f64 * 100.0 / self.updated as f64)
    }
}
