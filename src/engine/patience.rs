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
    /// Cancelled when the run is to stop.
    pub stop: CancellationToken,
}

impl Patience {
    /// Does `work` until it succeeds, fails for good, or the run is to stop. An outage is waited out; other errors that
    /// pass are tried again as often as the plan says.
    ///
    /// # Errors
    /// What `work` failed with last; [`StepError::Stopped`].
    pub async fn with<'a, T>(
        &self,
        mut work: impl FnMut() -> BoxFuture<'a, Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        let mut delays = Delays::new(&self.retry, fastrand::u64(..));
        loop {
            let (trouble, cause) = match work().await {
                Err(StepError::Passing(trouble, cause)) => (trouble, cause),
                other => return other,
            };
            let delay = match trouble {
                Trouble::Outage | Trouble::Blocked => Some(delays.next_outage_delay()),
                Trouble::Transient | Trouble::TooLong | Trouble::GaveWay => delays.next_delay(),
            };
            let Some(delay) = delay else {
                return Err(StepError::Failed(cause.detail(format!("tried {} times", self.retry.attempts))));
            };
            self.board.retried(Level::Warning, format!("again in {}: {}", human::duration(delay), cause.headline()));
            let until = self.board.elapsed() + delay;
            self.board.presence(NOBODY, true);
            self.board.rest(NOBODY, Rest { key: key(trouble), reason: Some(cause.headline()), until });
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
