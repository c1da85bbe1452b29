//! What is shown of a queue of plans: its jobs by state, and who works on it. Pure data.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A queue as it was read at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// The Redis that it lies on: `host:port/0`.
    pub server: String,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// Whether no job is given out.
    pub is_paused: bool,
    /// How many jobs there are in each state.
    pub counts: JobCounts,
    /// Jobs: at work first, then those that wait in the order in which they will be taken, delayed, failed, completed; the
    /// newest of each of the last two first.
    pub jobs: Vec<JobView>,
    /// Jobs that were left out, of more than are shown.
    pub more: u64,
    /// Who is ready to take jobs.
    pub workers: Vec<WorkerView>,
}

/// How many jobs there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobCounts {
    /// Ready to be taken.
    pub waiting: u64,
    /// At work.
    pub active: u64,
    /// Not ready before a time.
    pub delayed: u64,
    /// Not ready before another job is done.
    pub blocked: u64,
    /// Given up.
    pub failed: u64,
    /// Done.
    pub completed: u64,
}

impl JobCounts {
    /// How many there are in one state.
    #[must_use]
    pub fn of(&self, state: JobState) -> u64 {
        match state {
            JobState::Active => self.active,
            JobState::Waiting => self.waiting,
            JobState::Delayed => self.delayed,
            JobState::Blocked => self.blocked,
            JobState::Failed => self.failed,
            JobState::Completed => self.completed,
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// At work.
    Active,
    /// Ready to be taken.
    Waiting,
    /// Not ready before a time: it was asked for later, is to be tried again, or waits in line for a table.
    Delayed,
    /// Not ready before another job is done.
    Blocked,
    /// Given up.
    Failed,
    /// Done.
    Completed,
}

impl JobState {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Waiting, Self::Delayed, Self::Blocked, Self::Failed, Self::Completed];

    /// The word on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }
}

/// A job. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id in the queue.
    pub id: String,
    /// The plan's name.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// The lower, the sooner. 0: none was given, which comes before all.
    pub priority: u32,
    /// How often it was begun and came to nothing.
    pub attempts: u32,
    /// How often it may be.
    pub most_attempts: u32,
    /// When it is tried next, where it is delayed.
    pub next_try: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// When somebody took it last.
    pub begun_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who asked for it: `ann@ops2`.
    pub asked_by: Option<String>,
    /// Who works on it, or did last: `host:pid`.
    pub worker: Option<String>,
    /// The run that it is, by its short id, once it was begun.
    pub run: Option<String>,
    /// Share done, 0 to 1.
    pub done: Option<f64>,
    /// What there is to say: what it does or waits for, why it failed, what came of it.
    pub says: Option<String>,
}

/// A process that takes jobs. Texts are not cleaned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// `host:pid`.
    pub name: String,
    /// Where it connects from.
    pub client: String,
}

/// What an operator wants of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueOrder {
    /// Put a plan's file into line.
    Enqueue {
        /// The file.
        path: String,
    },
    /// Try a failed job again.
    Retry {
        /// Which.
        id: String,
    },
    /// Take a delayed job now.
    Promote {
        /// Which.
        id: String,
    },
    /// Forget a job that is not at work.
    Remove {
        /// Which.
        id: String,
    },
    /// Give no more jobs out.
    Pause,
    /// Give jobs out again.
    Resume,
    /// Forget every job that waits, also those that are delayed.
    Drain,
}

impl QueueOrder {
    /// What is asked for, in words. Not cleaned.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Enqueue { path } => format!("enqueue {path}"),
            Self::Retry { id } => format!("retry job {id}"),
            Self::Promote { id } => format!("promote job {id}"),
            Self::Remove { id } => format!("remove job {id}"),
            Self::Pause => "pause the queue".to_owned(),
            Self::Resume => "resume the queue".to_owned(),
            Self::Drain => "drain the queue".to_owned(),
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAnswer {
    /// Its number among those of this console, from 1.
    pub no: u64,
    /// What was wanted.
    pub order: QueueOrder,
    /// What came of it, or why nothing did. Not cleaned.
    pub outcome: Result<String, String>,
}

/// What a console knows of the queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueNews {
    /// The queue, as far as it could be read.
    pub reading: QueueReading,
    /// What came of the last orders of this console, newest last, at most [`ANSWERS`].
    pub answers: VecDeque<OrderAnswer>,
}

/// How many answers are kept.
pub const ANSWERS: usize = 8;

/// The queue, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum QueueReading {
    /// Nobody has named a Redis.
    #[default]
    Unnamed,
    /// It is being read for the first time.
    Pending,
    /// As it was read last.
    Read(Arc<QueueView>),
    /// It cannot be read. It is tried again.
    Silent {
        /// Why. Not cleaned.
        why: String,
        /// Since when, by this host's clock.
        since: DateTime<Utc>,
        /// As it was read last.
        last: Option<Arc<QueueView>>,
    },
}

impl QueueReading {
    /// The queue as it was read last.
    #[must_use]
    pub fn view(&self) -> Option<&QueueView> {
        match self {
            Self::Unnamed | Self::Pending => None,
            Self::Read(view) => Some(view),
            Self::Silent { last, .. } => last.as_deref(),
        }
    }

    /// What is known after a reading has failed at `now`.
    #[must_use]
    pub fn failed(&self, why: String, now: DateTime<Utc>) -> Self {
        match self {
            Self::Unnamed | Self::Pending => Self::Silent { why, since: now, last: None },
            Self::Read(view) => Self::Silent { why, since: now, last: Some(Arc::clone(view)) },
            Self::Silent { since, last, .. } => Self::Silent { why, since: *since, last: last.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_falls_silent_is_known_as_it_was_and_since_when() {
        let [first, later] = [0, 60].map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap());
        let view = Arc::new(QueueView { name: "howdah".to_owned(), ..QueueView::default() });
        let silent = QueueReading::Read(Arc::clone(&view)).failed("refused".to_owned(), first);
        let longer = silent.failed("no answer".to_owned(), later);
        let expected = QueueReading::Silent { why: "no answer".to_owned(), since: first, last: Some(view.clone()) };
        assert_eq!(longer, expected);
        assert_eq!(longer.view(), Some(&*view));
        assert_eq!(QueueReading::Pending.failed("refused".to_owned(), first).view(), None);
    }
}
