//! Windows of time in which batches may run.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A window that comes back every day, or on some days of the week, in a time zone of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// As written in the plan.
    pub text: String,
}

/// Where the time stands to a plan's windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Inside one, or there are none.
    Inside,
    /// Outside all of them.
    Outside {
        /// When the next one opens, within eight days.
        opens: Option<DateTime<Utc>>,
    },
}

/// Where `now` stands to `windows`.
#[must_use]
pub fn place(windows: &[Window], now: DateTime<Utc>) -> Place {
    let _ = (windows, now, Duration::ZERO);
    Place::Inside
}
