//! One worker on one segment: batch by batch, with what is done when a batch fails.

use std::time::Duration;

use super::failpoint;
use super::gate::Gate;
use super::patience::key;
use super::pool::{Crew, Sharing};
use super::ports::{BatchWorker, Recovered, Reporter, StepError, Trouble};
use super::retry::Delays;
use super::turnstile::{Answer, Ended, NICE, Rest, Ticket};
use super::walk::Step;
use crate::run::{Cause, KeyText, Level, Segment, Tally, human};

/// How long a worker whose batch gave way lets others go first: as long as a batch aims to take, within these bounds.
const AFTER_YOU: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How long a worker rests after it has waited for a lock for `lock_timeout`, at most.
const BLOCKED: Duration = Duration::from_secs(1);
/// Troubles of one kind are told at most this often; every retry is counted.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Rows that must have been walked before the share of rows set aside means anything.
const ENOUGH: u64 = 1000;

/// A worker at work.
pub struct Hand {
    crew: Crew,
    gate: Gate,
    number: u32,
    worker: Box<dyn BatchWorker>,
    delays: Delays,
    /// Whether the worker must recover before anything else.
    hurt: bool,
    /// Whether the segment is known to be this process's.
    claimed: bool,
    /// A member of the run turned out to have it.
    elsewhere: bool,
    /// When a trouble was told last.
    told: Vec<(Trouble, Duration)>,
}

impl Hand {
    /// Worker `number` of the crew.
    #[must_use]
    pub fn new(crew: Crew, gate: Gate, number: u32, worker: Box<dyn BatchWorker>) -> Self {
        let delays = Delays::new(&crew.pacing.retry, fastrand::u64(..));
        Self { crew, gate, number, worker, delays, hurt: false, claimed: false, elsewhere: false, told: Vec::new() }
    }

    /// Everything from now on is news.
    pub fn mark_unchanged(&mut self) {
        self.gate.mark_unchanged();
    }

    /// Waits for news of the run.
    pub async fn news(&mut self) {
        self.gate.news(None).await;
    }

    /// Whether the run goes on.
    ///
    /// # Errors
    /// As [`Gate::alive`].
    pub fn alive(&self) -> Result<(), StepError> {
        self.gate.alive()
    }

    /// Gives the worker's connections back.
    pub async fn close(self) {
        self.worker.close().await;
    }

    /// Walks `segment` to its end, or until there are too many workers.
    ///
    /// # Errors
    /// [`StepError::Stopped`] when the gate closes, else what a batch failed with for good.
    pub async fn walk(&mut self, segment: &mut Segment) -> Result<(), StepError> {
        (self.claimed, self.elsewhere) = (false, false);
        while !segment.done && !self.elsewhere {
            let Some(ticket) = self.enter().await? else { return Ok(()) };
            match self.turn(segment).await {
                Ok(took) => {
                    self.crew.board.close(ticket, &Ended::Well);
                    self.delays.reset();
                    self.rest_nicely(took);
                }
                Err(error) => self.failed(ticket, error, segment)?,
            }
        }
        Ok(())
    }

    /// Waits until a batch may be opened. `None`: this worker is one too many, or another has failed.
    async fn enter(&mut self) -> Result<Option<Ticket>, StepError> {
        loop {
            self.gate.mark_unchanged();
            if self.crew.halt.is_cancelled() {
                return Ok(None);
            }
            self.gate.alive()?;
            let wait = match self.crew.board.admit(self.number, self.hurt) {
                Answer::Open(ticket) => return Ok(Some(ticket)),
                Answer::Leave => return Ok(None),
                Answer::Later(wait) => wait,
            };
            let halt = self.crew.halt.clone();
            tokio::select! {
                biased;
                () = halt.cancelled() => {}
                () = self.gate.news(wait) => {}
            }
        }
    }

    /// Recovers where that is needed, then one batch, and a split where somebody wants a share.
    async fn turn(&mut self, segment: &mut Segment) -> Result<Duration, StepError> {
        if self.hurt {
            let recovered = self.worker.recover(segment).await?;
            self.hurt = false;
            if recovered.vanished && matches!(self.crew.sharing, Sharing::Driver(_)) {
                // A member has it, or nobody: whoever looks after the members finds out.
                self.elsewhere = true;
                self.crew.yard().goes_afield(segment.no);
                return Ok(Duration::ZERO);
            }
            // Whatever of it is not done is found by the ledger once all segments are.
            segment.done |= recovered.vanished;
            self.take_over(segment, recovered);
            // It may have been let through only for that.
            if segment.done || self.crew.board.held().is_some() {
                return Ok(Duration::ZERO);
            }
        }
        if !self.claimed {
            if let Sharing::Driver(shares) = &self.crew.sharing
                && !shares.claim(segment).await?
            {
                self.elsewhere = true;
                self.crew.yard().goes_afield(segment.no);
                return Ok(Duration::ZERO);
            }
            self.claimed = true;
        }
        let (board, rows) = (&self.crew.board, self.rows());
        let from = segment.from().cloned();
        let began = board.elapsed();
        let done = self.worker.batch(segment, rows).await?;
        let took = board.elapsed().saturating_sub(began);
        failpoint::hit("batch.committed");
        tracing::debug!(
            step = %self.crew.index,
            segment = %segment.no,
            worker = self.number,
            after = ?from,
            through = ?segment.cursor,
            asked = rows,
            walked = done.tally.walked,
            changed = done.tally.changed,
            took_ms = took.as_secs_f64() * 1e3,
            "batch committed"
        );
        let floored = done.tally.walked > 0 && self.crew.size().learn(done.tally.walked, took);
        if floored {
            let rows = self.rows();
            board.notice(
                Level::Warning,
                format!("batches are at the plan's minimum of {rows} rows and still take longer than their target"),
            );
        }
        self.tell(segment, &done.tally, Some(took), done.position, from.as_ref());
        self.too_much_set_aside()?;
        self.share(segment).await?;
        Ok(took)
    }

    fn rows(&self) -> u64 {
        let mut size = self.crew.size();
        if let Some(target) = self.crew.board.wanted_target()
            && target != size.target()
        {
            size.aim(target);
        }
        size.rows()
    }

    fn tell(
        &self,
        segment: &Segment,
        tally: &Tally,
        took: Option<Duration>,
        within: Option<f64>,
        from: Option<&KeyText>,
    ) {
        let now = self.crew.board.elapsed();
        let (position, parts) = {
            let mut yard = self.crew.yard();
            yard.advanced(segment, within, now);
            (yard.position(), yard.parts())
        };
        let size = self.crew.size();
        self.crew.board.batch(&Step { segment, from, tally, took, size: &size, position, parts });
    }

    /// Halves the segment, where a worker without one has asked for it.
    async fn share(&mut self, segment: &mut Segment) -> Result<(), StepError> {
        if segment.done {
            return Ok(());
        }
        let least = self.crew.size().rows();
        let wanted = self.crew.yard().wants_split(segment.no, least);
        let Some((number, ahead)) = wanted else { return Ok(()) };
        let mut rest = self.worker.split(segment, number, ahead).await?;
        if rest.is_none() && ahead > least {
            rest = self.worker.split(segment, number, least).await?;
        }
        failpoint::hit("segment.split");
        self.crew.yard().split(segment.no, rest);
        self.crew.wake();
        Ok(())
    }

    /// What had come about unnoticed is told as if it had been noticed.
    fn take_over(&self, segment: &Segment, recovered: Recovered) {
        if let Some(rest) = recovered.split {
            self.crew.yard().split(segment.no, Some(rest));
            self.crew.wake();
        }
        if let Some(tally) = recovered.tally {
            self.tell(segment, &tally, None, None, None);
        }
    }

    fn rest_nicely(&self, took: Duration) {
        let rest = took.mul_f64(self.crew.pacing.nice);
        if !rest.is_zero() {
            let until = self.crew.board.elapsed() + rest;
            self.crew.board.rest(self.number, Rest { key: NICE, reason: None, until });
        }
    }

    /// What is to be done about a failure: a rest before the next try, or the end.
    fn failed(&mut self, ticket: Ticket, error: StepError, segment: &Segment) -> Result<(), StepError> {
        self.hurt = true;
        let board = &self.crew.board;
        let (trouble, cause) = match error {
            StepError::Passing(trouble, cause) => (trouble, cause),
            other => {
                board.close(ticket, &Ended::Neither);
                if matches!(other, StepError::Failed(_)) {
                    self.crew.yard().failed(segment.no, true);
                }
                return Err(other);
            }
        };
        let at_floor = self.crew.size().retreat(trouble);
        let trouble = if trouble == Trouble::TooLong && at_floor { Trouble::Transient } else { trouble };
        let ended = match trouble {
            Trouble::Transient | Trouble::Outage => Ended::Badly(cause.headline()),
            Trouble::TooLong | Trouble::Blocked | Trouble::GaveWay => Ended::Neither,
        };
        board.close(ticket, &ended);
        self.crew.yard().failed(segment.no, false);
        let delay = match trouble {
            Trouble::Transient => self.delays.next_delay().ok_or_else(|| {
                let attempts = self.crew.pacing.retry.attempts;
                let cause = cause.clone().detail(format!("tried {attempts} times; `retry.attempts` says how often"));
                self.crew.yard().failed(segment.no, true);
                StepError::Failed(cause)
            })?,
            Trouble::TooLong => Duration::from_millis(50),
            Trouble::Blocked => Duration::from_millis(fastrand::u64(100..=millis(BLOCKED))),
            Trouble::GaveWay => self.crew.size().target().clamp(AFTER_YOU.0, AFTER_YOU.1),
            Trouble::Outage => self.delays.next_outage_delay(),
        };
        self.say(trouble, &cause, delay, segment);
        let until = self.crew.board.elapsed() + delay;
        self.crew.board.rest(self.number, Rest { key: key(trouble), reason: Some(cause.headline()), until });
        Ok(())
    }

    /// Counts a retry, and tells of it: not of every one, where they come in crowds.
    fn say(&mut self, trouble: Trouble, cause: &Cause, delay: Duration, segment: &Segment) {
        let now = self.crew.board.elapsed();
        let at =
            segment.from().map_or_else(|| "at the first key".to_owned(), |key| format!("after {}", key.join(", ")));
        let text = format!("batch {at}: again in {}: {}", human::duration(delay), cause.headline());
        let last = self.told.iter_mut().find(|(told, _)| *told == trouble);
        let quiet = last.as_ref().is_some_and(|(_, when)| now.saturating_sub(*when) < TELL_EVERY);
        if quiet {
            tracing::info!("{text}");
            self.crew.board.counted_retry();
            return;
        }
        match last {
            Some((_, when)) => *when = now,
            None => self.told.push((trouble, now)),
        }
        let level = match trouble {
            Trouble::Transient | Trouble::Outage | Trouble::Blocked => Level::Warning,
            Trouble::TooLong | Trouble::GaveWay => Level::Info,
        };
        self.crew.board.retried(level, text);
    }

    /// More rows were set aside than the plan's `alerts.error_rate` allows: something is wrong with the plan.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    fn too_much_set_aside(&self) -> Result<(), StepError> {
        let (aside, walked) = self.crew.board.set_aside();
        let limit = self.crew.pacing.error_rate_percent;
        let percent = aside as f64 * 100.0 / walked.max(1) as f64;
        if aside == 0 || walked < ENOUGH || percent <= limit {
            return Ok(());
        }
        let cause = Cause::new(format!(
            "{} of {} rows were set aside: {percent:.1}%, and `alerts.error_rate` is {limit}%",
            human::count(aside),
            human::count(walked)
        ));
        Err(StepError::Failed(
            cause
                .hint("look at them: howdah quarantine list")
                .hint("mend the data or the plan, or raise `alerts.error_rate`; then resume the run"),
        ))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
