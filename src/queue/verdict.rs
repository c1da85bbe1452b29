//! What becomes of a job that was taken: carried out by us and not by the crate's loop, which tries once, knows neither cap
//! nor jitter, and keeps no reason of a failure that is tried again.

use std::time::Duration;

use bullmq::{Error, Job, JobProgress};
use chrono::Utc;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::hold::{Held, Hold};
use super::line::Line;
use super::worker::Teller;
use crate::run::{Cause, human};

/// Who finds somebody else at it looks again after a time between these.
const LOOK_AGAIN: std::ops::Range<u64> = 2000..5000;
/// Between two tries to reach Redis at the end of a job.
const PAUSE: Duration = Duration::from_millis(500);

/// How the driving of a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The run is done; this is what the job returns.
    Done(Value),
    /// It failed.
    Failed {
        /// Why, for people.
        reason: String,
        /// Whether another attempt may do better.
        may_pass: bool,
    },
    /// Somebody else is at it, or something else has to be done first. No attempt is used up.
    Waits {
        /// For what, for people.
        says: String,
    },
    /// This worker ends; another one goes on. No attempt is used up.
    HandedBack,
    /// Another worker has the job.
    Lost,
}

/// What a verdict came to, once Redis knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Completed.
    Done,
    /// Failed for good.
    Failed,
    /// Failed, and will be tried again.
    TriedAgain,
    /// Waits for something, or was handed back.
    Waits,
    /// Handed back, because this worker ends.
    HandedBack,
    /// It is another's, or nobody's.
    NotOurs,
}

/// A job at its end.
pub struct Ending<'a> {
    /// Its queue.
    pub line: &'a Line,
    /// The job.
    pub job: &'a mut Job,
    /// The hold on it.
    pub hold: &'a Hold,
    /// Where it is told.
    pub tell: &'a Teller,
    /// Cancelled once this process is to end.
    pub ending: &'a CancellationToken,
}

impl Ending<'_> {
    /// Carries a verdict out, and returns what the crate's loop is to be told: it moves a job that is done or has failed for
    /// good, and nothing else.
    ///
    /// # Errors
    /// That is how the crate's loop is told that a job has failed, or that it was moved already.
    pub async fn carry_out(mut self, verdict: Verdict) -> (Outcome, Result<Value, Error>) {
        if verdict == Verdict::Lost || !self.is_ours().await {
            return (Outcome::NotOurs, Err(Error::Delayed));
        }
        let moved = match verdict {
            Verdict::Lost => return (Outcome::NotOurs, Err(Error::Delayed)),
            Verdict::Done(value) => return (Outcome::Done, Ok(value)),
            Verdict::Failed { reason, may_pass } => {
                let (made, most) = (self.job.attempts_made() + 1, self.job.opts().attempts.unwrap_or(1));
                if !may_pass || made >= most {
                    self.tell.warn("failed", format!("failed for good: {reason}"));
                    return (Outcome::Failed, Err(Error::Unrecoverable(reason)));
                }
                let rest = Backoff::of(self.job.opts().backoff.as_ref()).rest(made, fastrand::f64());
                let after = human::rough_duration(rest);
                self.tell
                    .warn("tried_again", format!("attempt {made} of {most} failed, the next in {after}: {reason}"));
                (Outcome::TriedAgain, self.try_again(&reason, rest).await)
            }
            Verdict::Waits { says } => (Outcome::Waits, self.wait(&says).await),
            Verdict::HandedBack => {
                self.tell.note("handed_back", "handed back: another worker goes on with its run".to_owned());
                (Outcome::HandedBack, self.hand_back().await)
            }
        };
        if let (_, Err(cause)) = &moved {
            self.tell.warn(
                "redis_away",
                format!("{}; the job is given out again once its lock has run out", cause.headline()),
            );
        }
        (moved.0, Err(Error::Delayed))
    }

    /// Whether the job is ours, as soon as Redis can tell.
    async fn is_ours(&self) -> bool {
        let mut said = false;
        loop {
            let away = match self.hold.renew().await {
                // The crate's own connection comes back in its own time.
                Ok(Held::Ours) => match self.line.asked("ending the job", self.job.get_state()).await {
                    Ok(_) => return true,
                    Err(cause) => cause.headline(),
                },
                Ok(Held::Lost | Held::GivenOut) => {
                    self.tell.note("not_ours", "the job is no longer this worker's: another one ends it".to_owned());
                    return false;
                }
                Ok(Held::Gone) => {
                    self.tell.note("not_ours", "Redis knows this job no more: there is nothing to end".to_owned());
                    return false;
                }
                Err(error) => error.to_string(),
            };
            if self.ending.is_cancelled() {
                self.tell
                    .warn("redis_away", format!("{away}; how the job ended is found out by whoever takes it next"));
                return false;
            }
            if !std::mem::replace(&mut said, true) {
                self.tell.warn("redis_away", format!("{away}; how the job ended is reported once it is back"));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.ending.cancelled() => {}
            }
        }
    }

    /// The attempt counts and its reason stays, also should the job not reach the delayed ones.
    async fn try_again(&self, reason: &str, rest: Duration) -> Result<(), Cause> {
        let key = self.line.keys().job_key(self.job.id());
        let failed = |e: crate::redis::link::LinkError| e.cause("noting a failure");
        let mut kept = redis::cmd("HSET");
        kept.arg(&key).arg("failedReason").arg(reason);
        self.line.link.query::<i64>(&kept).await.map_err(failed)?;
        let mut counted = redis::cmd("HINCRBY");
        counted.arg(&key).arg("atm").arg(1);
        self.line.link.query::<i64>(&counted).await.map_err(failed)?;
        self.delay(rest).await
    }

    async fn wait(&mut self, says: &str) -> Result<(), Cause> {
        let known = matches!(self.job.progress(), JobProgress::Object(said) if said.get("waits") == Some(&json!(says)));
        if !known {
            self.tell.note("waits", says.to_owned());
            let progress = JobProgress::Object(json!({ "state": "waiting", "waits": says, "says": says }));
            self.line.asked("reporting a job's progress", self.job.update_progress(progress)).await?;
            self.line.asked("writing a job's log", self.job.log(says)).await?;
        }
        self.delay(Duration::from_millis(fastrand::u64(LOOK_AGAIN))).await
    }

    async fn delay(&self, rest: Duration) -> Result<(), Cause> {
        let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
        // A delay of nothing would be one without an end to BullMQ's score.
        let at = now.saturating_add(u64::try_from(rest.as_millis()).unwrap_or(u64::MAX).max(1));
        self.line.asked("delaying the job", self.job.move_to_delayed(at)).await
    }

    async fn hand_back(&self) -> Result<(), Cause> {
        self.line.asked("handing the job back", self.job.move_to_wait(None)).await?;
        wake(self.line).await
    }
}

/// Wakes a worker that waits: BullMQ sets no marker for a job with a priority that is handed back.
///
/// # Errors
/// Redis does not answer.
pub async fn wake(line: &Line) -> Result<(), Cause> {
    let mut marker = redis::cmd("ZADD");
    marker.arg(line.keys().marker()).arg(0).arg("0");
    line.link.query::<i64>(&marker).await.map(drop).map_err(|e| e.cause("waking a worker"))
}
