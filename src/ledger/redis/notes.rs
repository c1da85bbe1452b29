//! What a driver writes of its run: checked and written by one script, under the driver's epoch.

use std::sync::LazyLock;

use redis::Script;

use super::keys::Keys;
use crate::engine::ports::StepError;
use crate::postgres::record::RecordError;
use crate::redis::{Link, LinkError};
use crate::run::{Cause, RunId, StepIndex, Trouble};

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("write.lua")));

/// Words of a Redis that cannot write now, and may be able to later.
const PASSING: [&str; 11] = [
    "loading",
    "read only",
    "maxmemory",
    "good replicas",
    "master",
    "AOF",
    "persist",
    "cluster",
    "busy",
    "BUSY",
    "max number of clients",
];

/// What a refusal of Redis means for what was to be written.
#[must_use]
pub fn record_error(error: &LinkError, what: &str) -> RecordError {
    let passes = match error {
        LinkError::Away { .. } => true,
        LinkError::Refused { text, .. } => PASSING.iter().any(|word| text.contains(word)),
    };
    let cause = error.cause(what).hint("the run's ledger lies on that Redis: it goes on when Redis is back");
    RecordError::Store(passes.then_some(Trouble::Outage), cause)
}

/// What it means for the engine.
#[must_use]
pub fn step_error(error: &RecordError, what: &str) -> StepError {
    match error {
        RecordError::Store(trouble, _) => StepError::of(*trouble, error.cause(what)),
        RecordError::Fenced | RecordError::Already | RecordError::Sql(_) => StepError::Failed(error.cause(what)),
    }
}

/// A run that is not on Redis any more.
#[must_use]
pub fn gone(run: RunId, label: &str) -> Cause {
    Cause::new(format!("run {} is gone from Redis ({label}): it was flushed, or has lost what it held", run.short()))
        .hint("what the run has changed stays changed; which rows that are, nobody knows any more")
        .hint("begin anew, from the first row: howdah run PLAN --new")
        .hint("let Redis keep what it is told: `appendonly yes`, and `maxmemory-policy noeviction`")
}

/// Which hash is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// The run's own.
    Run,
    /// That of all its steps.
    Steps,
    /// That of one step's segments.
    Segments,
    /// That of one step's rows that are set aside.
    Aside,
}

impl Hash {
    /// Its place among the script's keys.
    fn place(self) -> &'static str {
        match self {
            Self::Run => "1",
            Self::Steps => "2",
            Self::Segments => "3",
            Self::Aside => "4",
        }
    }
}

/// Checks and writes that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes(Vec<String>);

impl Writes {
    fn put(mut self, what: &str, hash: Hash, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.extend([what.to_owned(), hash.place().to_owned(), field.into(), value.into()]);
        self
    }

    /// Only if a segment stands where `mark` says.
    #[must_use]
    pub fn only_if_at(self, field: impl Into<String>, mark: impl Into<String>) -> Self {
        self.put("mark", Hash::Segments, field, mark)
    }

    /// Only if the field does not hold this.
    #[must_use]
    pub fn only_if_not(self, hash: Hash, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.put("not", hash, field, value)
    }

    /// Only if there is no such field.
    #[must_use]
    pub fn only_if_new(self, hash: Hash, field: impl Into<String>) -> Self {
        self.put("new", hash, field, "")
    }

    /// Writes a field.
    #[must_use]
    pub fn set(self, hash: Hash, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.put("set", hash, field, value)
    }

    /// Writes the server's time into a field, in milliseconds since 1970.
    #[must_use]
    pub fn now(self, hash: Hash, field: impl Into<String>) -> Self {
        self.put("now", hash, field, "")
    }

    /// The same, unless the field is there.
    #[must_use]
    pub fn first_now(self, hash: Hash, field: impl Into<String>) -> Self {
        self.put("first", hash, field, "")
    }

    /// Takes a field away.
    #[must_use]
    pub fn drop(self, hash: Hash, field: impl Into<String>) -> Self {
        self.put("drop", hash, field, "")
    }

    /// Writes a number where it is more than what is there.
    #[must_use]
    pub fn at_least(self, hash: Hash, field: impl Into<String>, value: u64) -> Self {
        self.put("most", hash, field, value.to_string())
    }
}

/// A run on Redis, in the hands of its driver.
#[derive(Clone)]
pub struct Notes {
    /// Where it lies.
    pub link: Link,
    /// Under which keys.
    pub keys: Keys,
    /// The run.
    pub run: RunId,
    /// The epoch under which this driver took it.
    pub epoch: i64,
    /// Tells this driver from another one of the same epoch: a Redis that has lost its last seconds gives one out twice.
    pub token: String,
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").field("run", &self.run).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Notes {
    /// Checks and writes, all of it or nothing. `step` says whose segments and rows are meant.
    ///
    /// # Errors
    /// Another driver has the run; a check failed ([`RecordError::Already`]); Redis is away, or has lost the run.
    pub async fn write(&self, step: StepIndex, writes: &Writes) -> Result<(), RecordError> {
        let (steps, segments, aside) = (self.keys.steps(), self.keys.segments(step), self.keys.aside(step));
        let keys = [self.keys.run(), &steps, &segments, &aside];
        let epoch = self.epoch.to_string();
        let mut words = vec![epoch.as_str(), self.token.as_str()];
        words.extend(writes.0.iter().map(String::as_str));
        let answer: Result<String, LinkError> = self.link.script(&WRITE, &keys, &words).await;
        match answer.as_deref() {
            Ok("ok") => Ok(()),
            Ok("fenced") => Err(RecordError::Fenced),
            Ok("gone") => Err(RecordError::Store(None, self.gone())),
            Ok(_) => Err(RecordError::Already),
            Err(e) => Err(record_error(e, "writing the ledger")),
        }
    }

    /// A question to Redis.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, RecordError> {
        self.link.query(command).await.map_err(|e| record_error(&e, "reading the ledger"))
    }

    /// That the run is not there any more.
    #[must_use]
    pub fn gone(&self) -> Cause {
        gone(self.run, &self.link.address().label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_cannot_do_now_passes_and_what_it_may_not_does_not() {
        let refused = |text: &str| LinkError::Refused { label: "db".to_owned(), text: text.to_owned() };
        let trouble = |error: &LinkError| match record_error(error, "writing") {
            RecordError::Store(trouble, _) => trouble,
            other => panic!("{other}"),
        };
        for text in ["Redis is loading the dataset in memory", "You can't write against a read only replica."] {
            assert_eq!(trouble(&refused(text)), Some(Trouble::Outage), "{text}");
        }
        let away = LinkError::Away { label: "db".to_owned(), text: "connection refused".to_owned() };
        assert_eq!(trouble(&away), Some(Trouble::Outage));
        assert_eq!(trouble(&refused("this user has no permissions to run the 'evalsha' command")), None);
    }
}
