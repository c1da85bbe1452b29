//! All that is known of a run once it is looked back at: its report, its course, its record. Pure data.

use chrono::{DateTime, Utc};

use super::report::Report;
use super::sample::Sample;
use super::summary::Summary;
use super::{Event, KeyText};

/// Events that a dossier holds at most, the newest.
pub const EVENTS: usize = 500;
/// Commands that a dossier holds at most, the newest.
pub const COMMANDS: usize = 200;
/// Rows set aside that a dossier shows.
pub const ROWS: usize = 10;
/// Reasons for which rows were set aside that a dossier tells apart, the most frequent.
pub const REASONS: usize = 20;

/// All that is known of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Dossier {
    /// What it did.
    pub report: Report,
    /// How it stands now: the report's word, or `interrupted` where its driver is gone.
    pub state: String,
    /// Its whole id.
    pub id: String,
    /// The time at which this was read.
    pub read_at: DateTime<Utc>,
    /// When its driver was heard of last.
    pub seen_at: DateTime<Utc>,
    /// Its course, oldest first.
    pub samples: Vec<Sample>,
    /// Why there is none, where there cannot be any.
    pub no_samples: Option<&'static str>,
    /// What outlived its drivers.
    pub summary: Summary,
    /// What happened, oldest first, at most [`EVENTS`].
    pub events: Vec<Event>,
    /// Events before those.
    pub earlier_events: u64,
    /// What was asked for, oldest first, at most [`COMMANDS`].
    pub commands: Vec<Asked>,
    /// Commands before those.
    pub earlier_commands: u64,
    /// Why rows were set aside, the most frequent first, at most [`REASONS`].
    pub aside: Vec<AsideReason>,
    /// Rows that were set aside, the newest first, at most [`ROWS`].
    pub aside_rows: Vec<AsideRow>,
    /// When each step of the report began and ended.
    pub step_times: Vec<StepTimes>,
    /// The process that drives it, or drove it last.
    pub driver: LastDriver,
    /// Its plan, as the ledger keeps it: passwords replaced. Not cleaned.
    pub plan_source: String,
    /// Where the plan lay.
    pub plan_path: Option<String>,
    /// The limits in force, by name and value, as far as the plan could be read.
    pub settings: Vec<(String, String)>,
    /// The run that it takes back.
    pub undoes: Option<String>,
    /// The runs that take it back, or have: id and state.
    pub undone_by: Vec<(String, String)>,
}

/// The process that drives a run, or drove it last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastDriver {
    /// Its host. Not cleaned.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Its version of howdah.
    pub version: String,
}

/// When a step began and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepTimes {
    /// When it began first.
    pub began: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
}

/// A command, as the record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: DateTime<Utc>,
    /// What. Not cleaned.
    pub words: String,
    /// By which way: `console`, `script` ...
    pub via: String,
    /// Who, as the asking process knows itself. Not cleaned.
    pub who: String,
    /// The role that wrote it.
    pub role: String,
    /// The address that it came from. `None`: the driver's own process.
    pub client: Option<String>,
    /// `asked`, `heard`, `taken`, `refused`.
    pub state: String,
    /// What came of it. Not cleaned.
    pub outcome: Option<String>,
    /// When it was answered.
    pub applied_at: Option<DateTime<Utc>>,
}

/// Rows that were set aside for the same kind of error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideReason {
    /// The error's SQLSTATE.
    pub sqlstate: Option<String>,
    /// Rows of it that are set aside now.
    pub open: u64,
    /// Rows of it that a retry has resolved since.
    pub resolved: u64,
    /// One of its messages. Not cleaned.
    pub example: String,
}

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideRow {
    /// Its step. Not cleaned.
    pub step: String,
    /// The partition that it lies in, quoted.
    pub part: Option<String>,
    /// Its key. Not cleaned.
    pub key: KeyText,
    /// The error's SQLSTATE.
    pub sqlstate: Option<String>,
    /// The error in the server's words. Not cleaned.
    pub message: String,
    /// When it failed last.
    pub at: DateTime<Utc>,
}

impl Dossier {
    /// The exit code of the process that ended it. `None`: it has not ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match self.state.as_str() {
            "done" if self.report.quarantined > 0 => Some(4),
            "done" => Some(0),
            "failed" => Some(1),
            "stopped" => Some(3),
            _ => None,
        }
    }

    /// When its driver was heard of last, where that is gone and the run has not ended.
    #[must_use]
    pub fn left_at(&self) -> Option<DateTime<Utc>> {
        (self.state == "interrupted" && self.report.finished_at.is_none()).then_some(self.seen_at)
    }

    /// From the run's start to its end, to its driver's last heartbeat, or to now where somebody drives it.
    #[must_use]
    pub fn took(&self) -> Option<std::time::Duration> {
        let ended = self.report.finished_at.or(self.left_at()).unwrap_or(self.read_at);
        (ended - self.report.started_at?).to_std().ok()
    }
}
