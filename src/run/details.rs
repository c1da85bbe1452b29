//! What a console looks up beside the snapshot, only while somebody looks at it: sessions, the quarantine, the log, the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::KeyText;
use super::event::Level;
use super::queue::QueueNews;
use super::vitals::Reading;

/// Which details are looked at now.
#[expect(clippy::struct_excessive_bools, reason = "each is looked at or not, whatever becomes of the others")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// `pg_stat_activity`.
    pub sessions: bool,
    /// Rows set aside.
    pub quarantine: bool,
    /// The log's end.
    pub log: bool,
    /// The queue of plans.
    pub queue: bool,
}

/// The newest of each. What nobody looks at stays as it was.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// Sessions of the database.
    pub sessions: Reading<Arc<Sessions>>,
    /// Rows that this run has set aside.
    pub quarantine: Reading<Arc<Quarantine>>,
    /// The end of the log.
    pub log: Reading<Arc<LogTail>>,
    /// The queue of plans.
    pub queue: QueueNews,
}

/// Sessions of the server that this database's operator may see.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sessions {
    /// When they were read, by the server's clock.
    pub at: DateTime<Utc>,
    /// Ours first, then who waits, then by age.
    pub sessions: Vec<SessionView>,
    /// Sessions that were left out, of more than are shown.
    pub more: u32,
    /// Sessions of clients, the console's own among them: those count against the limit.
    pub clients: u32,
    /// `max_connections`.
    pub limit: u32,
}

/// One row of `pg_stat_activity`. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionView {
    /// The backend's process id.
    pub pid: i32,
    /// When it was opened. `None`: not visible to this role.
    pub started: Option<DateTime<Utc>>,
    /// The role.
    pub user: String,
    /// `application_name`.
    pub application: String,
    /// Where it connects from: an address, or `local`.
    pub client: String,
    /// `active`, `idle in transaction`, ...
    pub state: String,
    /// What it waits for, as `Lock: transactionid`.
    pub wait: Option<String>,
    /// How long its transaction has been open.
    pub transaction: Option<Duration>,
    /// How long its statement has been running, or it has been idle.
    pub in_state: Option<Duration>,
    /// Its statement, or its last one: cut, secrets masked.
    pub query: String,
    /// Whether it is one of this run's.
    pub is_ours: bool,
    /// The sessions that it waits for.
    pub blocked_by: Vec<i32>,
}

/// Rows that a run has set aside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quarantine {
    /// The newest first.
    pub rows: Vec<QuarantinedRow>,
    /// How many there are in all, unresolved.
    pub open: u64,
    /// How many have been resolved by a retry.
    pub resolved: u64,
}

/// A row that was set aside. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuarantinedRow {
    /// The step's name.
    pub step: String,
    /// The partition, file or table that it lies in. Empty: the step's table.
    pub part: String,
    /// Its key.
    pub key: KeyText,
    /// PostgreSQL's code.
    pub sqlstate: Option<String>,
    /// Why.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was set aside.
    pub at: DateTime<Utc>,
    /// Whether a retry has resolved it.
    pub is_resolved: bool,
    /// The row as it was, as JSON on many lines; cut.
    pub row: Option<String>,
}

/// The end of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTail {
    /// The file.
    pub path: String,
    /// Its last lines, newest last.
    pub lines: VecDeque<LogLine>,
}

/// A line of a log. Not cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number since the log was opened: tells lines apart.
    pub no: u64,
    /// When. `None`: it goes on from the line before.
    pub at: Option<DateTime<Utc>>,
    /// How grave. Debug and trace count as [`Level::Info`].
    pub level: Level,
    /// What stands behind time and level.
    pub text: String,
}
