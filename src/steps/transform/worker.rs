//! One worker of a transform: a connection, a program, and what is done when one of them breaks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;

use super::Shared;
use super::batch::{Answered, Batch, Failure, Way};
use super::file::Place;
use super::look::To;
use super::reading::{self, MOST_BYTES, Range, Share};
use super::rows::{Asked, Rows};
use super::runner::Runner;
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError};
use crate::postgres::deadline::within;
use crate::postgres::key::position;
use crate::postgres::{error, session};
use crate::run::{Advance, Cause, KeyText, Segment, SegmentNo, Tally};
use crate::steps::batch::{BatchError, Line, Lines, committed, roll_back};
use crate::steps::trouble;

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    lines: Lines,
    runner: Runner,
    /// Rows that are as many bytes as a batch may hold, where they were found to be large.
    most_rows: Option<u64>,
}

/// Rows that are read and answered, and how far the cursor moves with them.
struct Gathered {
    range: Option<Range>,
    answered: Answered,
    advance: Advance,
    /// Why the one row of the range could not be read.
    unread: Option<(Option<String>, String)>,
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        let lines = Lines::new(shared.bench.clone(), Arc::clone(&shared.backends));
        Self { shared, lines, runner: Runner::default(), most_rows: None }
    }

    fn limit(&self) -> Duration {
        self.shared.bench.deadline()
    }

    fn share(&self, segment: &Segment) -> Result<Arc<Share>, Cause> {
        self.shared.ready.share(segment.part.as_deref()).map_err(|cause| {
            let message = format!("{}: {}", self.shared.bench.what(), cause.message);
            Cause { message, ..cause }
        })
    }

    /// Reads the next rows and asks the program. No transaction is open, and nothing is locked.
    async fn gather(&mut self, line: &mut Line, segment: &Segment, rows: u64) -> Result<Gathered, Failure> {
        let limit = self.limit();
        let share = self.share(segment).map_err(BatchError::Plan)?;
        let mut rows = self.most_rows.map_or(rows, |most| rows.min(most)).max(1);
        let none = || Answered { rows: Arc::new(Rows::new(share.key.columns.len())), answers: Vec::new() };
        let (range, boundary, read) = loop {
            let asked = share.keys.boundary(&mut line.connection, segment.from(), segment.upper.as_ref(), rows);
            let Some(boundary) = within(limit, asked).await? else {
                let advance = Advance { cursor: None, done: true, tally: Tally::default(), output: None };
                return Ok(Gathered { range: None, answered: none(), advance, unread: None });
            };
            let range = Range { from: segment.from().cloned(), through: boundary.key.clone() };
            let sql = share.sql(&range, false);
            let read = reading::read(&mut line.connection, &sql, share.key.columns.len(), MOST_BYTES);
            match within(limit, read).await.map_err(|e| BatchError::Change(e, sql.clone())) {
                Ok(read) => break (range, boundary, read),
                Err(e) if e.is_data() && boundary.rows > 1 => rows = boundary.rows / 2,
                Err(e) if e.is_data() && self.shared.bench.limits.max_quarantined > 0 => {
                    // The server cannot compute what is read of this one row.
                    let done = segment.upper.as_ref() == Some(&range.through);
                    let tally = Tally { walked: 1, batches: 1, ..Tally::default() };
                    let advance = Advance { cursor: Some(boundary.key), done, tally, output: None };
                    return Ok(Gathered { range: Some(range), answered: none(), advance, unread: Some(e.told()) });
                }
                Err(e) => return Err(e.into()),
            }
        };
        let mut range = range;
        let (mut rows, mut cut) = read;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        if cut {
            self.most_rows = Some(count(rows.len()));
        }
        let which = (0..rows.len()).collect();
        let rows_read = Arc::new(std::mem::take(&mut rows));
        let asked = Asked { rows: Arc::clone(&rows_read), which };
        let answers = self
            .runner
            .ask(&self.shared.ready, &self.shared.bench.what(), asked, self.shared.linger)
            .await
            .map_err(Failure::Program)?;
        cut |= answers.len() < rows_read.len();
        let mut walked = boundary.rows;
        if cut && let Some(last) = answers.len().checked_sub(1) {
            range.through = rows_read.key(last);
            walked = count(answers.len());
        }
        let done = !cut && segment.upper.as_ref() == Some(&range.through);
        let tally = Tally { walked, batches: 1, ..Tally::default() };
        let advance = Advance { cursor: Some(range.through.clone()), done, tally, output: None };
        Ok(Gathered { range: Some(range), answered: Answered { rows: rows_read, answers }, advance, unread: None })
    }

    /// Writes what was gathered, with the cursor, in one transaction.
    async fn commit_one(
        &mut self,
        line: &mut Line,
        segment: &Segment,
        gathered: &Gathered,
        way: Way,
    ) -> Result<Advance, Failure> {
        let limit = self.limit();
        let share = self.share(segment).map_err(BatchError::Plan)?;
        let spec = match &self.shared.ready.to {
            To::File(spec) => Some(spec),
            To::Update(_) | To::Insert(..) => None,
        };
        // A file gets its name when the server cannot forget any more that it is complete.
        let begin = if spec.is_some() { session::DURABLE } else { self.shared.bench.recorder.begin() };
        let mut tx = within(limit, line.connection.begin_with(begin)).await?;
        failpoint::hit("batch.begun");
        let unread = gathered.unread.as_ref();
        let batch = Batch { shared: &self.shared, share: &share, segment, limit, unread };
        let what = (gathered.range.as_ref(), &gathered.answered, gathered.advance.clone());
        match batch.write(&mut tx, &mut self.runner, what, way).await {
            Ok(written) => {
                within(limit, tx.commit()).await?;
                committed(&self.shared.bench, segment).await?;
                written.aside.keep();
                if let Some(spec) = spec {
                    failpoint::hit("batch.unnamed");
                    let mut after = segment.clone();
                    after.apply(&written.advance);
                    let (spec, place) = (spec.clone(), Place::of(&after).map_err(BatchError::Plan)?);
                    // Where this fails the end of the step does it again, and tells.
                    drop(tokio::task::spawn_blocking(move || spec.name_complete(after.no, place)).await);
                }
                Ok(written.advance)
            }
            // In the middle of a COPY, perhaps: nothing more can be said on this connection.
            Err(failure) if failure.is_lost() => Err(failure),
            Err(failure) => {
                roll_back(tx, limit).await;
                Err(failure)
            }
        }
    }

    async fn one(&mut self, line: &mut Line, segment: &Segment, rows: u64) -> Result<Advance, Failure> {
        let gathered = self.gather(line, segment, rows).await?;
        failpoint::hit("batch.bounded");
        let written = self.commit_one(line, segment, &gathered, Way::Whole).await;
        match written {
            Err(failure) if failure.is_data() && self.shared.bench.limits.max_quarantined > 0 => {
                self.commit_one(line, segment, &gathered, Way::Careful).await
            }
            other => other,
        }
    }

    fn explain(&self, failure: &BatchError, segment: &Segment) -> Cause {
        let mut cause = failure.cause(&self.shared.bench.what(), &self.shared.bench.source);
        if failure.kept_nothing() {
            let key = self.shared.ready.key_name(segment.part.as_deref());
            let from = segment.from().map_or_else(|| "the first".to_owned(), |key| key.join(", "));
            cause.details.push(format!("batch: {key} after {from}; nothing of it was kept"));
        }
        cause
    }
}

/// Where the cursor stands in its segment, 0 to 1, where keys tell.
fn place(share: &Share, segment: &Segment) -> Option<f64> {
    let first = segment.lower.as_ref().or(share.first.as_ref());
    let ends: Option<(&KeyText, &KeyText)> = first.zip(segment.upper.as_ref());
    ends.zip(segment.cursor.as_ref())
        .filter(|_| share.part().walk.has_distances())
        .and_then(|((first, last), cursor)| position(first, last, cursor))
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        let mut line = self.lines.take().await?;
        let pid = line.pid();
        self.shared.backends.begin(pid);
        let done = self.one(&mut line, segment, rows).await;
        let gave_way = self.shared.backends.end(pid);
        match done {
            Ok(advance) => {
                self.lines.keep(line, false);
                segment.apply(&advance);
                let share = self.share(segment).map_err(StepError::Failed)?;
                Ok(BatchDone { tally: advance.tally, position: place(&share, segment) })
            }
            Err(Failure::Batch(failure)) => {
                let cause = self.explain(&failure, segment);
                Err(self.lines.failed(line, failure, cause, gave_way).await)
            }
            Err(Failure::Program(error)) => {
                self.lines.keep(line, false);
                Err(error)
            }
        }
    }

    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError> {
        let share = self.share(segment).map_err(StepError::Failed)?;
        let Some(upper) = segment.upper.clone() else { return Ok(None) };
        let mut line = self.lines.take().await?;
        let asked = share.keys.middle(&mut line.connection, segment.from(), &upper, ahead);
        let found = within(self.limit(), asked).await;
        self.lines.keep(line, found.as_ref().is_err_and(error::is_lost));
        let what = self.shared.bench.what();
        let Some(middle) = found.map_err(|e| trouble::step_error(&e, error::cause(&what, &e)))? else {
            return Ok(None);
        };
        let mut rest = Segment::new(segment.sweep, number, Some(middle), Some(upper));
        rest.part.clone_from(&segment.part);
        self.lines.split(segment, rest).await.map(Some)
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        self.lines.recover(segment).await
    }

    async fn close(self: Box<Self>) {
        let Self { lines, runner, .. } = *self;
        runner.close().await;
        lines.close().await;
    }
}
