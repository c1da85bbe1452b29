//! Answers on Redis, shared by all processes that ask the same database. Whatever is wrong with Redis, the work goes on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;

use crate::redis::{Link, LinkError};
use crate::run::Level;

/// Larger answers, in bytes, are not kept there.
const LARGEST: usize = 1 << 20;

/// What is kept on Redis.
pub(super) struct Shared {
    link: Link,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// Whether it failed the last time.
    reads: bool,
    writes: bool,
    news: VecDeque<(Level, String)>,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Reading,
    Writing,
}

impl Shared {
    pub(super) fn new(link: Link) -> Self {
        Self { link, health: Mutex::default() }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// An answer, and for how long it still holds.
    pub(super) async fn get(&self, key: &str, ttl: Duration) -> Option<(String, Duration)> {
        let mut asked = redis::pipe();
        asked.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let answer = self.link.pipeline::<(Option<String>, i64)>(&asked).await;
        let (text, left) = self.told(Doing::Reading, answer)?;
        // Whatever somebody else has put there is no answer.
        let text = text.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok())?;
        match left {
            // It has gone meanwhile.
            // Or it has no end, and is not ours: it would never be fresher.
            -2 | -1 => None,
            left => Some((text, u64::try_from(left).map_or(ttl, Duration::from_millis).min(ttl))),
        }
    }

    /// Keeps an answer for `left`.
    pub(super) async fn put(&self, key: &str, text: &str, left: Duration) {
        let (seconds, millis) = (left.as_secs(), left.subsec_millis());
        if (seconds, millis) == (0, 0) || text.len() > LARGEST {
            return;
        }
        let mut command = redis::cmd("SET");
        command.arg(key).arg(text);
        // Whole seconds, never too many.
        if seconds > 0 {
            command.arg("EX").arg(seconds)
        } else {
            command.arg("PX").arg(millis)
        };
        let written = self.link.query::<()>(&command).await;
        self.told(Doing::Writing, written);
    }

    /// What is to be told since this was last asked.
    pub(super) fn news(&self) -> Vec<(Level, String)> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).news.drain(..).collect()
    }

    /// Tells once that it does not work, and once that it does again.
    fn told<T>(&self, doing: Doing, answer: Result<T, LinkError>) -> Option<T> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = match doing {
            Doing::Reading => &mut health.reads,
            Doing::Writing => &mut health.writes,
        };
        let before = std::mem::replace(failed, answer.is_err());
        let other = match doing {
            Doing::Reading => health.writes,
            Doing::Writing => health.reads,
        };
        match &answer {
            // One outage is told once, whichever notices it first.
            Err(e) if !(before || other && e.is_away()) => {
                let text = format!("look-ups go on without the shared cache: {e}");
                health.news.push_back((Level::Warning, text));
            }
            Ok(_) if before && !other => {
                let label = self.link.address().label();
                health.news.push_back((Level::Info, format!("the shared cache is there again: Redis ({label})")));
            }
            Ok(_) | Err(_) => {}
        }
        answer.ok()
    }
}
