//! What the monitor measures: host, process, database, alerts. Plain readings; every one may be missing, with the reason.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::rule::{Act, RuleView};
use super::{ByteSize, Event, EventKind, Level};

/// A reading, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(Default)]
pub enum Reading<T> {
    /// Nothing has been measured yet.
    #[default]
    Pending,
    /// The newest value.
    Value(T),
    /// The probe failed: why. It is tried again at its own pace.
    Unavailable(String),
}

impl<T> Reading<T> {
    /// The value, where there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Pending | Self::Unavailable(_) => None,
        }
    }
}

/// All that the monitor knows, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// The machine that howdah runs on.
    pub host: Reading<HostVitals>,
    /// howdah's own process.
    pub process: Reading<ProcessVitals>,
    /// The database.
    pub database: Reading<DatabaseVitals>,
    /// Raised alerts, newest first, then cleared ones.
    pub alerts: Vec<Alert>,
    /// Every rule that may raise one, and how it stands.
    #[serde(default)]
    pub rules: Vec<RuleView>,
}

/// The machine that howdah runs on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostVitals {
    /// The whole machine's CPU use in percent, 0 to 100. `None` until two samples exist.
    pub cpu_percent: Option<f32>,
    /// Each core's use in percent, 0 to 100.
    pub core_percent: Vec<f32>,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory in use, by the cgroup's count where a cgroup limits it.
    pub memory_used: ByteSize,
    /// Memory there is, by the cgroup's limit where there is one.
    pub memory_total: ByteSize,
    /// Time since the machine started.
    pub uptime: Duration,
    /// CPU percent, the last samples, oldest first.
    pub cpu_series: VecDeque<f32>,
}

/// howdah's own process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessVitals {
    /// Resident memory.
    pub rss: ByteSize,
    /// The most it has ever been.
    pub peak_rss: ByteSize,
}

/// The database, as its statistics views tell.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DatabaseVitals {
    /// The size on disk.
    pub size: ByteSize,
    /// Connections of howdah's pool that are at work.
    pub pool_in_use: u32,
    /// Connections of howdah's pool that are idle.
    pub pool_idle: u32,
    /// The plan's tables first, then the busiest others.
    pub tables: Vec<TableVitals>,
    /// Tables that are left out.
    #[serde(default)]
    pub more_tables: u32,
}

/// One row of `pg_stat_user_tables`, with rates by difference.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TableVitals {
    /// `schema.table`, or only `table` in schema `public`. Not cleaned.
    pub name: String,
    /// Whether the plan names it.
    pub in_plan: bool,
    /// `n_live_tup`, an estimate of the server's.
    pub live: u64,
    /// `n_dead_tup`, an estimate of the server's.
    pub dead: u64,
    /// `n_tup_upd` since the statistics were reset.
    pub updated: u64,
    /// `n_tup_hot_upd` since the statistics were reset: updates that touched no index.
    pub hot: u64,
    /// `n_tup_del` since the statistics were reset.
    pub deleted: u64,
    /// Rows inserted per second. `None` until two samples exist.
    pub inserts_per_second: Option<f64>,
    /// Rows updated per second.
    pub updates_per_second: Option<f64>,
    /// Rows deleted per second.
    pub deletes_per_second: Option<f64>,
    /// When it was last vacuumed, by hand or by autovacuum.
    pub last_vacuum: Option<DateTime<Utc>>,
    /// Whether `last_vacuum` was autovacuum.
    pub last_vacuum_was_auto: bool,
    /// The table with its TOAST on disk, without indexes. `None`: not measured.
    #[serde(default)]
    pub heap_bytes: Option<ByteSize>,
    /// Its indexes on disk.
    #[serde(default)]
    pub index_bytes: Option<ByteSize>,
    /// The vacuum that works on it now.
    #[serde(default)]
    pub vacuum: Option<VacuumView>,
    /// Dead rows over the last samples, oldest first.
    #[serde(default)]
    pub dead_series: VecDeque<u64>,
}

/// A vacuum at work, by `pg_stat_progress_vacuum`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VacuumView {
    /// Its phase, in the server's words.
    pub phase: String,
    /// Share of the heap that it has scanned or cleaned, 0 to 1.
    pub fraction: Option<f64>,
}

impl TableVitals {
    /// Dead rows in percent of all rows, 0 to 100.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage of an estimate")]
    pub fn dead_percent(&self) -> f64 {
        let all = self.live + self.dead;
        if all == 0 { 0.0 } else { self.dead as f64 * 100.0 / all as f64 }
    }
}

/// An alert: a threshold that was crossed, and when it was kept again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Which threshold: a stable key such as `memory`.
    pub key: String,
    /// How much to care.
    pub level: Level,
    /// The newest value and the limit, in words.
    pub text: String,
    /// When it was raised.
    pub raised_at: DateTime<Utc>,
    /// When it was cleared. `None` while it holds.
    pub cleared_at: Option<DateTime<Utc>>,
    /// How often it has been raised in this run, or has become critical.
    pub count: u32,
    /// What is done when it is raised, beside showing and logging it.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// What was measured.
    #[serde(default)]
    pub measured: Measured,
}

/// What an alert was raised for, for machines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The name of the number. Empty: it is no number.
    pub metric: String,
    /// Which one of several of a kind. Not cleaned.
    pub label: Option<String>,
    /// The newest value, in the unit that the name says. `None`: it is no longer measured.
    pub value: Option<f64>,
    /// The limit.
    pub limit: Option<f64>,
}

impl Alert {
    /// Whether it still holds.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.cleared_at.is_none()
    }

    /// How its end is told.
    #[must_use]
    pub fn ending(&self) -> String {
        let is_lost = !self.measured.metric.is_empty() && self.measured.value.is_none();
        format!("{}: {}", if is_lost { "no longer measured" } else { "kept again" }, self.text)
    }
}

/// What changed from one list of alerts to the next, as events: for the log, the ledger and a reader of lines.
#[must_use]
pub fn alert_changes(before: &[Alert], after: &[Alert]) -> Vec<Event> {
    let mut events = Vec::new();
    for alert in after {
        let earlier = before.iter().find(|earlier| earlier.key == alert.key);
        let raised = alert.count > earlier.map_or(0, |earlier| earlier.count);
        if raised {
            let (at, level) = (alert.raised_at, alert.level);
            events.push(Event { at, level, kind: EventKind::AlertRaised, text: alert.text.clone() });
        }
        if let Some(at) = alert.cleared_at
            && (raised || earlier.is_some_and(Alert::is_active))
        {
            events.push(Event { at, level: Level::Info, kind: EventKind::AlertCleared, text: alert.ending() });
        }
    }
    events.sort_by_key(|event| event.at);
    events
}
