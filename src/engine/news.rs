//! What changes of state and of alerts tell, in words. Pure.

use chrono::{DateTime, Utc};

use crate::run::{Cause, EventKind, Level, RunState, Signal, Vitals};

/// What a new state tells, as an event. States on the way to another tell nothing of their own.
#[must_use]
pub fn describe(state: &RunState) -> (Level, EventKind, Option<String>) {
    match state {
        RunState::Starting | RunState::Running => (Level::Info, EventKind::StateChanged, None),
        RunState::Pausing { by, .. } => {
            (Level::Info, EventKind::StateChanged, Some(format!("pause asked for by {}", by.name())))
        }
        RunState::Paused { .. } => (Level::Info, EventKind::StateChanged, Some("paused; nothing is open".to_owned())),
        RunState::Resuming { .. } => (Level::Info, EventKind::StateChanged, Some("going on".to_owned())),
        RunState::Stopping { by, .. } => {
            (Level::Info, EventKind::StateChanged, Some(format!("stop asked for by {}", by.name())))
        }
        RunState::Stopped { .. } => {
            (Level::Warning, EventKind::RunFinished, Some("stopped before the end; it can be resumed".to_owned()))
        }
        RunState::Failed { cause, .. } => (Level::Critical, EventKind::RunFinished, Some(cause.headline())),
        RunState::Done { .. } => {
            (Level::Info, EventKind::RunFinished, Some("done: every step is finished and checked".to_owned()))
        }
    }
}

/// Alerts that were raised or cleared, with the time when they were: the pane tells an alert's event by it.
#[must_use]
pub fn alert_news(before: &Vitals, now: &Vitals) -> Vec<(DateTime<Utc>, Level, EventKind, String)> {
    let was = |key: &str| before.alerts.iter().find(|alert| alert.key == key);
    now.alerts
        .iter()
        .filter_map(|alert| {
            let old = was(&alert.key);
            let was_active = old.is_some_and(|old| old.is_active() && old.count == alert.count);
            match (was_active, alert.is_active()) {
                (false, true) => Some((alert.raised_at, alert.level, EventKind::AlertRaised, alert.text.clone())),
                (true, false) => {
                    let at = alert.cleared_at.unwrap_or(alert.raised_at);
                    Some((at, Level::Info, EventKind::AlertCleared, format!("over: {}", alert.text)))
                }
                (true, true) | (false, false) => None,
            }
        })
        .collect()
}

/// A failure as a signal. Everything that has begun can be resumed.
#[must_use]
pub fn failure(cause: Cause, resumable: bool) -> Signal {
    Signal::Fail { cause, resumable }
}
