//! Messages that wait for one recipient. Bounded: where there is no more room the oldest goes, and is counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::message::Message;

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
    waiting: VecDeque<Message>,
    /// Whether one is taken out, and not yet delivered.
    out: bool,
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

    /// Appends a message.
    pub fn push(&self, message: Message) {
        let mut inner = self.lock();
        if inner.waiting.len() == ROOM {
            inner.waiting.pop_front();
            inner.dropped += 1;
            tracing::warn!(recipient = %crate::run::text::clean(&self.name), "too many messages wait: the oldest is dropped");
        }
        inner.waiting.push_back(message);
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
                if let Some(message) = inner.waiting.pop_front() {
                    inner.out = true;
                    return Some(message);
                }
                if inner.closed {
                    return None;
                }
            }
            self.pushed.notified().await;
        }
    }

    /// The message that was taken out has arrived, or is given up for this reason.
    pub fn done(&self, given_up: Option<&str>) {
        let mut inner = self.lock();
        inner.out = false;
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
            waiting: inner.waiting.len() as u64 + u64::from(inner.out),
            lost: inner.dropped + inner.given_up,
            why: inner.why.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
