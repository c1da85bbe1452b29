//! What happened in a run, one fact at a time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How much a reader should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Look when you can.
    Warning,
    /// Look now.
    Critical,
}

impl Level {
    /// The word that stands beside the glyph, at most five letters.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARN",
            Self::Critical => "CRIT",
        }
    }
}

/// One fact, with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the driver's clock.
    pub at: DateTime<Utc>,
    /// How much to care.
    pub level: Level,
    /// What kind of fact, for machines.
    pub kind: EventKind,
    /// The fact in words, for people.
    pub text: String,
}

/// The kinds of fact. The ledger stores the snake-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The run began.
    RunStarted,
    /// The run went on after an interruption.
    RunResumed,
    /// The run's state changed: pause, continue, stop.
    StateChanged,
    /// Somebody asked for something, and this came of it.
    Commanded,
    /// A step began.
    StepStarted,
    /// A step ended.
    StepFinished,
    /// Rows that match were left after a sweep, so another began.
    SweepStarted,
    /// Something worth a line.
    Notice,
    /// A batch failed and is tried again.
    Retried,
    /// The circuit breaker opened, let a trial through, or closed.
    Breaker,
    /// The governor holds batches back, or lets them go on.
    Governor,
    /// Rows were set aside.
    Quarantined,
    /// A threshold was crossed.
    AlertRaised,
    /// A threshold is kept again.
    AlertCleared,
    /// The run ended, well or not.
    RunFinished,
}

impl EventKind {
    /// The name in the ledger and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::RunResumed => "run_resumed",
            Self::StateChanged => "state_changed",
            Self::Commanded => "commanded",
            Self::StepStarted => "step_started",
            Self::StepFinished => "step_finished",
            Self::SweepStarted => "sweep_started",
            Self::Notice => "notice",
            Self::Retried => "retried",
            Self::Breaker => "breaker",
            Self::Governor => "governor",
            Self::Quarantined => "quarantined",
            Self::AlertRaised => "alert_raised",
            Self::AlertCleared => "alert_cleared",
            Self::RunFinished => "run_finished",
        }
    }
}
