//! Why something failed, in the form that every reader of it shares: screen, log, ledger, exit message.

use serde::{Deserialize, Serialize};

/// Why a run stopped: what happened, what lay beneath, and what to do.
///
/// Texts may hold words from the database; they are cleaned of control characters where they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cause {
    /// One sentence without a full stop: what went wrong, and where in the plan.
    pub message: String,
    /// PostgreSQL's five-character SQLSTATE, where it had one to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// Further lines: the server's detail, the batch's bounds, an excerpt with a caret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to change or type next; each names the key, flag, file or command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Whose mistake it is, which decides the exit code.
    #[serde(default)]
    pub fault: Fault,
    /// Somebody else is at it now: it may succeed once they are done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_busy: bool,
}

/// Where the mistake lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The work failed: the server, the network, the data. Exit code 1.
    #[default]
    Work,
    /// The plan or the command is wrong. Exit code 2.
    Usage,
    /// howdah itself is wrong: worth a bug report. Exit code 1.
    Bug,
}

impl Cause {
    /// A failure of the work itself.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// A mistake in the plan or in the command.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { fault: Fault::Usage, ..Self::new(message) }
    }

    /// A mistake of ours.
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self { fault: Fault::Bug, ..Self::new(message) }
    }

    /// Somebody else is at it now.
    #[must_use]
    pub fn busy(mut self) -> Self {
        self.is_busy = true;
        self
    }

    /// Adds a line of detail.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }

    /// Names the SQLSTATE.
    #[must_use]
    pub fn sqlstate(mut self, code: impl Into<String>) -> Self {
        self.sqlstate = Some(code.into());
        self
    }

    /// The first line as it is shown: the message, and the SQLSTATE where there is one.
    #[must_use]
    pub fn headline(&self) -> String {
        match &self.sqlstate {
            Some(code) => format!("{} (SQLSTATE {code})", self.message),
            None => self.message.clone(),
        }
    }
}
