//! What an operator may ask of a running engine, who asked, and what came of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::human;

/// One thing that can be asked for. The engine acts at the next edge of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Commit the open batch, then hold still.
    Pause,
    /// Go on after a pause.
    Continue,
    /// Commit the open batch (or cancel the open statement), then end, resumable.
    Stop,
    /// Aim at longer batches: more rows a second, longer locks.
    LongerBatches,
    /// Aim at shorter batches: gentler.
    ShorterBatches,
    /// Aim at batches of this time.
    SetTarget(Duration),
    /// One more worker, at once.
    MoreWorkers,
    /// One worker less, at its batch's edge.
    FewerWorkers,
    /// At most so many workers.
    SetWorkers(u32),
    /// Close the circuit breaker: try again now.
    CloseBreaker,
    /// Go on outside of the allowed hours, until they begin anew.
    SkipWindow,
    /// Take note of an alert, by its key: it stays, and no longer calls.
    Acknowledge(String),
    /// Keep an alert quiet for this time, by its key: it stays, and neither rings nor is told to anybody.
    Silence(String, Duration),
    /// End that time.
    Unsilence(String),
    /// Cancel the statement of another session, by its process id and its start: a later session may get the same number.
    CancelSession(i32, Option<DateTime<Utc>>),
    /// End another session, by the same.
    TerminateSession(i32, Option<DateTime<Utc>>),
}

impl Command {
    /// What is asked for, as the record of commands and the screen say it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Pause => "pause".to_owned(),
            Self::Continue => "continue".to_owned(),
            Self::Stop => "stop".to_owned(),
            Self::LongerBatches => "longer batches".to_owned(),
            Self::ShorterBatches => "shorter batches".to_owned(),
            Self::SetTarget(target) => format!("set target={}", human::duration(*target)),
            Self::MoreWorkers => "one more worker".to_owned(),
            Self::FewerWorkers => "one worker less".to_owned(),
            Self::SetWorkers(workers) => format!("set workers={workers}"),
            Self::CloseBreaker => "close the breaker".to_owned(),
            Self::SkipWindow => "skip the window".to_owned(),
            Self::Acknowledge(key) => format!("acknowledge {key}"),
            Self::Silence(key, time) => format!("silence {key} for {}", human::duration(*time)),
            Self::Unsilence(key) => format!("unsilence {key}"),
            Self::CancelSession(pid, _) => format!("cancel session {pid}"),
            Self::TerminateSession(pid, _) => format!("terminate session {pid}"),
        }
    }
}

/// A command on its way to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number in the ledger, where it came from there.
    pub id: Option<i64>,
    /// What.
    pub command: Command,
    /// By which way.
    pub by: Asker,
    /// Who, and from where: `ann@ops2`. Empty: nobody in particular. Not cleaned.
    pub who: String,
}

impl Request {
    /// A request of this process's own.
    #[must_use]
    pub fn new(command: Command, by: Asker) -> Self {
        Self { id: None, command, by, who: String::new() }
    }
}

/// A command, and what came of it: for the screen, and for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Its number in the ledger, where it came from there.
    #[serde(default)]
    pub id: Option<i64>,
    /// When the engine took it.
    pub at: DateTime<Utc>,
    /// What.
    pub command: Command,
    /// By which way.
    pub by: Asker,
    /// Who, and from where: `ann@ops2`. Not cleaned.
    pub who: String,
    /// Whether it was done, or is being done.
    pub taken: bool,
    /// What came of it, or why nothing did. Not cleaned.
    pub outcome: String,
}

impl Answered {
    /// Who asked, for a sentence: `ann@ops2 by an attached console`, `the console`.
    #[must_use]
    pub fn asker(&self) -> String {
        if self.who.is_empty() { self.by.name().to_owned() } else { format!("{} ({})", self.who, self.by.name()) }
    }
}

/// By which way something was asked for, so that the record can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A person at the console of the process that drives the run.
    Console,
    /// A person at a console that is attached from elsewhere.
    Attached,
    /// A command line: `howdah pause`.
    Script,
    /// A signal to the process: SIGINT or SIGTERM.
    Signal,
    /// The engine itself.
    Engine,
    /// The governor: a signal is past its `stop`, or the time is outside the allowed windows.
    Governor,
    /// The loss of the terminal, by the plan's `on_hangup`.
    HangUp,
    /// The process that drives the run, of one that has joined it.
    Driver,
    /// An alert whose rule says `pause`; [`Request::who`] names it.
    Alert,
}

impl Asker {
    /// How a sentence names the asker.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "the console",
            Self::Attached => "an attached console",
            Self::Script => "a command",
            Self::Signal => "a signal",
            Self::Engine => "the engine",
            Self::Governor => "the governor",
            Self::HangUp => "the loss of the terminal",
            Self::Driver => "the driver",
            Self::Alert => "an alert",
        }
    }

    /// The word in the ledger.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Attached => "attached",
            Self::Script => "script",
            Self::Signal => "signal",
            Self::Engine => "engine",
            Self::Governor => "governor",
            Self::HangUp => "hang_up",
            Self::Driver => "driver",
            Self::Alert => "alert",
        }
    }
}
