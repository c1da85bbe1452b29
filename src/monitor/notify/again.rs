//! What an answer means, and when to try again. Pure: the randomness comes from a seed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};

/// A recipient that asks for more patience than this is not waited for that long.
const LONGEST: Duration = Duration::from_mins(5);

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has arrived; what the recipient said. Cleaned.
    Delivered(String),
    /// It may arrive later: why not now, and when the recipient wants it again. Cleaned.
    Later(String, Option<Duration>),
    /// It never will, as it is. Cleaned.
    Never(String),
}

/// What a status of HTTP means.
pub(super) fn of_status(status: u16, said: &str, retry_after: Option<Duration>) -> Verdict {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let words = format!("HTTP {status}{said}");
    match status {
        200..=299 => Verdict::Delivered(words),
        300..=399 => Verdict::Never(format!("HTTP {status}: it points elsewhere, and that is not followed")),
        // Neither a time-out nor "too many" are the message's fault.
        408 | 425 | 429 => Verdict::Later(words, retry_after),
        400..=499 => Verdict::Never(words),
        _ => Verdict::Later(words, retry_after),
    }
}

/// `Retry-After`: seconds, or a date.
pub(super) fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    let after = match header.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(header).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(after.min(LONGEST))
}

/// The delays between the attempts at one message: exponential, with full jitter.
pub(super) struct Delays {
    exponential: <ExponentialBuilder as BackoffBuilder>::Backoff,
    most: Duration,
    random: fastrand::Rng,
}

impl Delays {
    pub(super) fn new(base: Duration, most: Duration, attempts: u32, seed: u64) -> Self {
        let times = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let shape = ExponentialBuilder::new().with_factor(2.0).with_min_delay(base).with_max_delay(most);
        Self { exponential: shape.with_max_times(times).build(), most, random: fastrand::Rng::with_seed(seed) }
    }

    /// Before the next attempt; `None` once all are used. What the recipient asks for is the least.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let most = self.exponential.next()?.min(self.most);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Some(Duration::from_micros(self.random.u64(0..=micros)).max(asked.unwrap_or_default()))
    }
}
