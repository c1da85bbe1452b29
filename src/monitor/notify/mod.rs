//! Who else hears of alerts, and of a run's end. Each recipient has a task and a line of its own, so that one who does not
//! answer holds up neither the others nor, by any way, a batch.
//!
//! | file | what |
//! | --- | --- |
//! | `mod` | the task: snapshots in, messages out |
//! | `message` | what is news, and for whom. Pure |
//! | `form` | the bodies: JSON, Slack, `PagerDuty`. Pure |
//! | `line` | messages that wait for a recipient: bounded, the oldest goes first |
//! | `again` | what an answer means, and when to try again. Pure |
//! | `web`, `program` | the two ways out |
//! | `deliver` | one recipient's task |

mod again;
mod deliver;
mod form;
mod line;
mod message;
mod program;
mod web;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use again::Verdict;
pub use deliver::{Patience, attempt};
pub use line::{Left, Line};
pub use message::{Message, Teller, wants};

use super::Troubles;
use crate::run::Snapshot;
use crate::run::notify::Recipient;

/// Recipients, once the plan is known.
pub type Recipients = watch::Receiver<Option<Arc<Vec<Recipient>>>>;

/// The lines of all recipients: what waits in them can be asked at any time.
pub type Lines = Arc<std::sync::Mutex<Vec<Arc<Line>>>>;

/// What the messengers need.
pub struct Office {
    /// Who is told.
    pub recipients: Recipients,
    /// What happens.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Where it is said that somebody cannot be reached.
    pub troubles: watch::Sender<Troubles>,
    /// Where the lines are put for whoever asks what is left.
    pub lines: Lines,
    /// How long messengers wait between attempts.
    pub patience: Patience,
}

impl Office {
    /// Tells the recipients what happens until `closing`, or until the run is over; then until their lines are empty.
    pub async fn keep(mut self, closing: CancellationToken) {
        let recipients = tokio::select! {
            biased;
            known = self.recipients.wait_for(Option::is_some) => match known {
                Ok(known) => known.clone().unwrap_or_default(),
                Err(_) => return,
            },
            () = closing.cancelled() => return,
        };
        if recipients.is_empty() {
            return;
        }
        let mut messengers = JoinSet::new();
        let mut lines = Vec::new();
        for recipient in recipients.iter() {
            let line = Arc::new(Line::new(recipient.name.clone()));
            lines.push(Arc::clone(&line));
            let troubles = self.troubles.clone();
            messengers.spawn(deliver::keep(recipient.clone(), line, troubles, self.patience, closing.clone()));
        }
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(&lines);
        let mut teller = Teller::default();
        loop {
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            for message in teller.hear(&snapshot) {
                for (recipient, line) in recipients.iter().zip(&lines) {
                    if wants(recipient, &message) {
                        line.push(message.clone());
                    }
                }
            }
            if snapshot.state.is_over() || closing.is_cancelled() {
                break;
            }
            tokio::select! {
                biased;
                // Once more: the last news must get out.
                () = closing.cancelled() => {}
                changed = self.snapshots.changed() => if changed.is_err() { break },
            }
        }
        for line in &lines {
            line.close();
        }
        while let Some(ended) = messengers.join_next().await {
            if let Err(panic) = ended {
                tracing::error!("a messenger failed: {panic}");
            }
        }
    }
}

/// How long the lines may take to empty at the end of a run.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
