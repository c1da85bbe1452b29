//! Time, as a seam.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Where the engine learns what time it is.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn utc(&self) -> DateTime<Utc>;
    /// A monotonic clock: the time since some fixed moment.
    fn elapsed(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    began: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn utc(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
