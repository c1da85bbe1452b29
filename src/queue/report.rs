//! A job's progress and log lines on their way to Redis. What cannot be sent waits; the run does not.

use std::collections::VecDeque;
use std::time::Duration;

use bullmq::{Job, JobProgress};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::line::Line;
use crate::run::{Cause, text};

/// Between two reports of a job's progress.
const EVERY: Duration = Duration::from_secs(1);
/// Log lines that may wait for Redis. The oldest are given up.
const WAITING: usize = 500;

/// Takes what a run has to say about a job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    progress: watch::Sender<Option<Value>>,
    lines: mpsc::Sender<String>,
}

impl Reporter {
    /// The newest progress; what was not sent yet is replaced.
    pub fn progress(&self, progress: Value) {
        self.progress.send_replace(Some(progress));
    }

    /// A line of the job's log.
    pub fn line(&self, line: &str) {
        // A full box holds more lines than anybody reads of an outage.
        drop(self.lines.try_send(text::clean(line).into_owned()));
    }
}

/// What waits to be sent.
pub struct Outbox {
    progress: watch::Receiver<Option<Value>>,
    lines: mpsc::Receiver<String>,
    held: VecDeque<String>,
}

/// Both ends.
#[must_use]
pub fn channel() -> (Reporter, Outbox) {
    let (progress, newest) = watch::channel(None);
    let (lines, waiting) = mpsc::channel(WAITING);
    (Reporter { progress, lines }, Outbox { progress: newest, lines: waiting, held: VecDeque::new() })
}

impl Outbox {
    /// Sends for as long as it is polled.
    pub async fn keep(&mut self, line: &Line, job: &mut Job) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // The hold on the job says that Redis is away.
            drop(self.send(line, job).await);
        }
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Redis does not answer: the rest still waits.
    pub async fn send(&mut self, line: &Line, job: &mut Job) -> Result<(), Cause> {
        while let Ok(said) = self.lines.try_recv() {
            if self.held.len() >= WAITING {
                self.held.pop_front();
            }
            self.held.push_back(said);
        }
        while let Some(said) = self.held.front() {
            line.asked("writing a job's log", job.log(said)).await?;
            self.held.pop_front();
        }
        // Its sender is gone once the run is over: what it said last counts.
        if self.progress.has_changed().unwrap_or(true) {
            let newest = self.progress.borrow_and_update().clone();
            if let Some(newest) = newest {
                let sending = job.update_progress(JobProgress::Object(newest));
                if let Err(cause) = line.asked("reporting a job's progress", sending).await {
                    self.progress.mark_changed();
                    return Err(cause);
                }
            }
        }
        Ok(())
    }
}
