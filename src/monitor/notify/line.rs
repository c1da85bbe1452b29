//! Messages that wait for one recipient. Bounded: where there is no more room the oldest goes, and is counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::Message;
use crate::run::notify::Occasion;

/// Messages that wait at most.
pub(super) const ROOM: usize = 100;

/// The line before one recipient.
#[derive(Debug)]
pub struct Line {
    name: String,
    inner: Mutex<Inner>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Each with when it came.
    waiting: VecDeque<(Message, Instant)>,
    /// When the one came that is taken out, and not yet delivered.
    out: Option<Instant>,
    closed: bool,
    dropped: u64,
    given_up: u64,
    why: Option<String>,
}

/// What has not got out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The recipient. Not cleaned.
    pub name: String,
    /// Messages that still wait, or are on their way.
    pub waiting: u64,
    /// Messages that were given up: after all attempts, or because there was no more room.
    pub lost: u64,
    /// Why, as the last attempt said. Cleaned.
    pub why: Option<String>,
}

impl Line {
    /// An empty one.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, inner: Mutex::default(), pushed: Notify::new() }
    }

    /// Appends a message. Where the recipient is away, one that says that an alert is cleared takes the place of those that
    /// wait to say that it is raised.
    pub fn push(&self, message: Message) {
        let mut inner = self.lock();
        if inner.why.is_some() {
            inner.waiting.retain(|(earlier, _)| !ends(&message, earlier));
        }
        if inner.waiting.len() == ROOM {
            inner.waiting.pop_front();
            inner.dropped += 1;
            tracing::warn!(recipient = %crate::run::text::clean(&self.name), "too many messages wait: the oldest is dropped");
        }
        inner.waiting.push_back((message, Instant::now()));
        drop(inner);
        self.pushed.notify_one();
    }

    /// Nothing comes any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_one();
    }

    /// The next message, once there is one. `None`: there will be none.
    pub async fn next(&self) -> Option<Message> {
        loop {
            {
                let mut inner = self.lock();
                if let Some((message, came)) = inner.waiting.pop_front() {
                    inner.out = Some(came);
                    return Some(message);
                }
                if inner.closed {
                    return None;
                }
            }
            self.pushed.notified().await;
        }
    }

    /// How old the message is that is taken out.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.lock().out.map_or(Duration::ZERO, |came| came.elapsed())
    }

    /// Whether one waits that ends what `message` tells.
    #[must_use]
    pub fn is_stale(&self, message: &Message) -> bool {
        self.lock().waiting.iter().any(|(later, _)| ends(later, message))
    }

    /// The message that was taken out is not told any more, and that is no loss.
    pub fn put_by(&self) {
        self.lock().out = None;
    }

    /// The message that was taken out has arrived, or is given up for this reason.
    pub fn done(&self, given_up: Option<&str>) {
        let mut inner = self.lock();
        inner.out = None;
        match given_up {
            None => inner.why = None,
            Some(why) => {
                inner.given_up += 1;
                inner.why = Some(why.to_owned());
            }
        }
    }

    /// An attempt has failed.
    pub fn failed(&self, why: &str) {
        self.lock().why = Some(why.to_owned());
    }

    /// What has not got out.
    #[must_use]
    pub fn left(&self) -> Left {
        let inner = self.lock();
        Left {
            name: self.name.clone(),
            waiting: inner.waiting.len() as u64 + u64::from(inner.out.is_some()),
            lost: inner.dropped + inner.given_up,
            why: inner.why.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `later` says that what `earlier` tells is over.
fn ends(later: &Message, earlier: &Message) -> bool {
    (earlier.occasion, later.occasion) == (Occasion::Raised, Occasion::Cleared)
        && earlier.dedup_key() == later.dedup_key()
}
