//! Tries again what failed for a reason that passes: everything that is not a batch.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::ports::{StepError, Trouble};
use super::retry::Delays;
use super::turnstile::Rest;
use crate::plan::model::Retry;
use crate::run::{Level, human};

/// The number under which the run itself rests, where workers have theirs.
const NOBODY: u32 = u32::MAX;

/// How often, and how long apart.
#[derive(Clone)]
pub struct Patience {
    /// Where retries are told.
    pub board: Arc<Board>,
    /// The plan's `[retry]`.
    pub retry: Retry,
    /// The plan's `limits.lock_retry`.
    pub lock_retry: Retry,
    /// Cancelled when the run is to stop.
    pub stop: CancellationToken,
}

impl Patience {
    /// Does `work` until it succeeds, fails for good, or the run is to stop. An outage is waited out, and so are the locks of
    /// others; other errors that pass are tried again as often as the plan says.
    ///
    /// # Errors
    /// What `work` failed with last; [`StepError::Stopped`].
    pub async fn with<'a, T>(
        &self,
        work: impl FnMut() -> BoxFuture<'a, Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        self.trying(Locks::WaitedOut, work).await
    }

    /// The same for a step that is one thing, such as a statement: where it cannot have a lock, it is tried again as often as
    /// `limits.lock_retry` says. Between two attempts nobody queues behind it.
    ///
    /// # Errors
    /// What `work` failed with last; [`StepError::Stopped`].
    pub async fn with_lock_retry<'a, T>(
        &self,
        work: impl FnMut() -> BoxFuture<'a, Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        self.trying(Locks::Counted, work).await
    }

    async fn trying<'a, T>(
        &self,
        locks: Locks,
        mut work: impl FnMut() -> BoxFuture<'a, Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        let mut delays = Delays::new(&self.retry, fastrand::u64(..));
        let mut lock_delays = Delays::new(&self.lock_retry, fastrand::u64(..));
        let mut blocked = 0_u32;
        loop {
            let (trouble, cause) = match work().await {
                Err(StepError::Passing(trouble, cause)) => (trouble, cause),
                other => return other,
            };
            let delay = match trouble {
                Trouble::Blocked if locks == Locks::Counted => lock_delays.next_delay(),
                Trouble::Outage | Trouble::Blocked => Some(delays.next_outage_delay()),
                Trouble::Transient | Trouble::TooLong | Trouble::GaveWay => delays.next_delay(),
            };
            let counted = trouble == Trouble::Blocked && locks == Locks::Counted;
            let Some(delay) = delay else {
                let attempts = if counted { self.lock_retry.attempts } else { self.retry.attempts };
                let cause = cause.detail(format!("tried {attempts} times"));
                return Err(StepError::Failed(if counted {
                    cause.hint(
                        "raise `attempts` or `max` of `limits.lock_retry`, or `limits.lock_timeout`; or resume later",
                    )
                } else {
                    cause
                }));
            };
            let attempt = if counted {
                blocked += 1;
                format!(" (attempt {} of {})", blocked + 1, self.lock_retry.attempts)
            } else {
                String::new()
            };
            let text = format!("again in {}{attempt}: {}", human::duration(delay), cause.headline());
            self.board.retried(Level::Warning, text);
            let until = self.board.elapsed() + delay;
            self.board.presence(NOBODY, true);
            self.board.rest(
                NOBODY,
                Rest { key: key(trouble), reason: Some(format!("{}{attempt}", cause.headline())), until },
            );
            let stopped = tokio::select! {
                biased;
                () = self.stop.cancelled() => true,
                () = tokio::time::sleep(delay.max(Duration::from_millis(10))) => false,
            };
            self.board.presence(NOBODY, false);
            if stopped {
                return Err(StepError::Stopped);
            }
        }
    }
}

/// What is done where others hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locks {
    /// It is tried again for ever.
    WaitedOut,
    /// It is tried again as often as the plan says.
    Counted,
}

/// The word by which time lost to a trouble is added up.
#[must_use]
pub fn key(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Transient | Trouble::TooLong => "retries",
        Trouble::Blocked => "locks",
        Trouble::GaveWay => "giving way",
        Trouble::Outage => "outage",
    }
}
