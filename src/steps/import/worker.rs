//! One worker of an import: a connection, and the file that it reads.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;

use super::Shared;
use super::batch::{Batch, Way};
use super::feed::{self, Block, Feed, FeedError, Place};
use super::files;
use super::look::Planned;
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError};
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::run::{Advance, Cause, KeyText, Segment, SegmentNo, Tally, human};
use crate::steps::batch::{BatchError, Line, Lines, committed, roll_back};

/// A file that is being read, and what of it is read and not committed yet.
pub(super) struct Reading {
    of: (u32, SegmentNo),
    feed: Feed,
    pending: VecDeque<Block>,
    /// Why nothing more can be read.
    failure: Option<(Place, FeedError)>,
    /// Whether the last block is among the pending, or was.
    ended: bool,
}

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    lines: Lines,
    reading: Option<Reading>,
}

/// A place as the ledger has it.
pub(super) fn key(place: Place) -> KeyText {
    vec![place.offset.to_string(), place.line.to_string()]
}

/// A place from the ledger.
pub(super) fn place(key: &KeyText) -> Option<Place> {
    let [offset, line] = key.as_slice() else { return None };
    Some(Place { offset: offset.parse().ok()?, line: line.parse().ok()? })
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        let lines = Lines::new(shared.bench.clone(), std::sync::Arc::clone(&shared.backends));
        Self { shared, lines, reading: None }
    }

    fn file(&self, segment: &Segment) -> Result<std::sync::Arc<Planned>, StepError> {
        self.shared.file(segment).map_err(StepError::Failed)
    }

    /// Where the segment's next record begins.
    fn from(file: &Planned, segment: &Segment) -> Place {
        segment.from().and_then(place).unwrap_or(file.start)
    }

    /// The reading of the segment, at `from`.
    fn reading(&mut self, file: &Planned, segment: &Segment, from: Place) -> Result<Reading, StepError> {
        let of = (segment.sweep, segment.no);
        self.lay_down(of);
        let found = self.reading.take().or_else(|| self.shared.readings().remove(&of));
        if let Some(mut reading) = found {
            while reading.pending.front().is_some_and(|block| block.to.offset <= from.offset && !block.is_last) {
                reading.pending.pop_front();
            }
            if let Some(front) = reading.pending.front_mut() {
                drop(front.split_before(file.framing, from.offset));
            }
            let next = reading.pending.front().map_or(reading.feed.next, |block| block.from);
            if next.offset == from.offset {
                return Ok(reading);
            }
        }
        let feed = Feed::begin(&file.input, file.framing, from).map_err(|e| {
            StepError::Failed(Cause::new(format!("{}: no thread to read with: {e}", self.shared.bench.what())))
        })?;
        Ok(Reading { of, feed, pending: VecDeque::new(), failure: None, ended: false })
    }

    /// Lays the reading of another segment down, for whoever goes on with that.
    fn lay_down(&mut self, of: (u32, SegmentNo)) {
        if let Some(other) = self.reading.take_if(|reading| reading.of != of) {
            self.shared.readings().insert(other.of, other);
        }
    }

    /// Reads on until `rows` records, or a part of bytes, are at hand; and says how many blocks they are. Records behind `upper`
    /// are not of this segment.
    async fn gather(
        &self,
        reading: &mut Reading,
        file: &Planned,
        upper: Option<Place>,
        rows: u64,
    ) -> Result<usize, StepError> {
        let part = usize::try_from(self.shared.import.part.0).unwrap_or(usize::MAX);
        let (mut taken, mut records, mut bytes) = (0, 0, 0);
        loop {
            if taken == reading.pending.len() {
                if reading.ended {
                    return Ok(taken);
                }
                if reading.failure.is_some() {
                    // What could be read comes first; the next batch tells.
                    return if taken > 0 { Ok(taken) } else { Err(self.unreadable(file, reading)) };
                }
                match reading.feed.block().await {
                    Some(Ok(block)) => {
                        reading.ended = block.is_last;
                        reading.pending.push_back(block);
                    }
                    Some(Err(failure)) => reading.failure = Some(failure),
                    None => {
                        let gone = std::io::Error::other("the reading thread is gone");
                        reading.failure = Some((reading.feed.next, FeedError::Read(gone)));
                    }
                }
                continue;
            }
            let block = &mut reading.pending[taken];
            if let Some(upper) = upper
                && block.to.offset > upper.offset
            {
                if block.from.offset >= upper.offset {
                    return Ok(taken);
                }
                if let Some(first) = block.split_before(file.framing, upper.offset) {
                    reading.pending.insert(taken, first);
                    continue;
                }
            }
            if taken > 0 && (records >= rows || bytes + block.data.len() > part) {
                return Ok(taken);
            }
            let most = rows.saturating_sub(records).max(1);
            if let Some(first) = block.split_off(file.framing, most) {
                reading.pending.insert(taken, first);
            }
            let block = &reading.pending[taken];
            records += block.records;
            bytes += block.data.len();
            taken += 1;
        }
    }

    fn unreadable(&self, file: &Planned, reading: &Reading) -> StepError {
        let (what, path) = (self.shared.bench.what(), &file.input.path);
        let Some((place, failure)) = &reading.failure else {
            return StepError::Failed(Cause::bug("a file that can be read was said to be unreadable"));
        };
        let cause = match failure {
            FeedError::Endless { .. } => Cause::new(format!("{what}, {path}: {failure}"))
                .hint("probably a quote that is never closed; `quote` and `escape` say what quotes are"),
            FeedError::Changed(changed) => {
                Cause::new(format!("{what}: file {path} has changed while it was loaded: {changed}"))
                    .hint("what was read before is loaded; load files that nobody writes to any more")
                    .hint("give the file back as it was and resume, or begin a new run: howdah run PLAN --new")
            }
            FeedError::Read(e) => Cause::new(format!(
                "{what}, {path}, behind line {} (byte {}): {}",
                human::count(place.line.saturating_sub(1)),
                human::count(place.offset),
                files::words(e)
            ))
            .hint(
                "what comes before that is loaded; mend or complete the file and begin a run for the rest, or resume",
            ),
        };
        StepError::Failed(cause)
    }

    /// What the batch is to say of itself.
    fn advance(file: &Planned, segment: &Segment, from: Place, blocks: &[Block], upper: Option<Place>) -> Advance {
        let Some(last) = blocks.last() else {
            return Advance { cursor: None, done: true, tally: Tally::default(), output: None };
        };
        let before = if segment.from().is_none() { 0 } else { from.offset };
        let done = last.is_last || upper.is_some_and(|upper| last.to.offset >= upper.offset);
        let bytes = if file.input.is_plain() || file.input.is_stdin() {
            last.to.offset - before
        } else if last.is_last {
            file.input.size.saturating_sub(segment.tally.bytes)
        } else {
            last.read.saturating_sub(segment.tally.bytes)
        };
        let walked = blocks.iter().map(|block| block.records).sum();
        Advance {
            cursor: Some(key(last.to)),
            done,
            tally: Tally { walked, batches: 1, bytes, ..Tally::default() },
            output: None,
        }
    }

    /// One batch on `line`.
    async fn commit_one(
        &self,
        line: &mut Line,
        file: &Planned,
        segment: &Segment,
        (blocks, advance): (&[Block], &Advance),
        way: Way,
    ) -> Result<Advance, BatchError> {
        let limit = self.shared.bench.deadline();
        let mut tx = within(limit, line.connection.begin_with(self.shared.bench.recorder.begin())).await?;
        failpoint::hit("batch.begun");
        let batch = Batch { bench: &self.shared.bench, file, segment, blocks, advance: advance.clone(), limit };
        match batch.write(&mut tx, way).await {
            Ok(written) => {
                within(limit, tx.commit()).await.map_err(BatchError::Sql)?;
                committed(&self.shared.bench, segment).await?;
                written.aside.keep();
                Ok(written.advance)
            }
            Err(BatchError::Sql(e)) if error::is_lost(&e) => {
                // In the middle of a COPY, perhaps: nothing more can be said on this connection.
                Err(BatchError::Sql(e))
            }
            Err(e) => {
                roll_back(tx, limit).await;
                Err(e)
            }
        }
    }

    fn explain(&self, failure: &BatchError, file: &Planned, blocks: &[Block]) -> Cause {
        let mut cause = failure.cause(&self.shared.bench.what(), &self.shared.bench.source);
        if let (false, Some(first), Some(last)) = (!failure.kept_nothing(), blocks.first(), blocks.last()) {
            cause.details.push(format!(
                "batch: {}, lines {} to {}; nothing of it was kept",
                file.input.path,
                human::count(first.from.line),
                human::count(last.to.line.saturating_sub(1).max(first.from.line))
            ));
        }
        cause
    }

    async fn load(
        &mut self,
        reading: &mut Reading,
        file: &Planned,
        segment: &mut Segment,
        rows: u64,
    ) -> Result<BatchDone, StepError> {
        let from = Self::from(file, segment);
        let upper = segment.upper.as_ref().and_then(place);
        let taken = self.gather(reading, file, upper, rows).await?;
        let mut line = self.lines.take().await?;
        let pid = line.pid();
        let blocks = reading.pending.make_contiguous();
        let blocks = &blocks[..taken];
        let advance = Self::advance(file, segment, from, blocks, upper);
        let can_set_aside = self.shared.bench.limits.max_quarantined > 0;
        // COPY would pass over what stands behind it, and not say so.
        let careful_at_once = blocks.iter().any(|block| file.framing.may_end_data(&block.data));
        self.shared.backends.begin(pid);
        let way = if careful_at_once { Way::Careful } else { Way::Whole };
        let mut done = self.commit_one(&mut line, file, segment, (blocks, &advance), way).await;
        if let Err(failure) = &done
            && way == Way::Whole
            && failure.is_data()
            && can_set_aside
        {
            done = self.commit_one(&mut line, file, segment, (blocks, &advance), Way::Careful).await;
        }
        let gave_way = self.shared.backends.end(pid);
        match done {
            Ok(advance) => {
                self.lines.keep(line, false);
                segment.apply(&advance);
                reading.pending.drain(..taken);
                Ok(BatchDone { tally: advance.tally, position: position(file, segment) })
            }
            Err(failure) => {
                let cause = self.explain(&failure, file, blocks);
                Err(self.lines.failed(line, failure, cause, gave_way).await)
            }
        }
    }
}

/// Where the segment's place stands in it, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn position(file: &Planned, segment: &Segment) -> Option<f64> {
    if file.input.is_stdin() {
        return None;
    }
    if !file.input.is_plain() {
        return Some((segment.tally.bytes as f64 / file.input.size.max(1) as f64).min(1.0));
    }
    let from = segment.lower.as_ref().and_then(place).map_or(0, |place| place.offset);
    let to = segment.upper.as_ref().and_then(place).map_or(file.input.size, |place| place.offset);
    let at = segment.cursor.as_ref().and_then(place)?.offset;
    Some(((at.saturating_sub(from)) as f64 / (to.saturating_sub(from)).max(1) as f64).min(1.0))
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        let file = self.file(segment)?;
        let from = Self::from(&file, segment);
        let mut reading = self.reading(&file, segment, from)?;
        let loaded = self.load(&mut reading, &file, segment, rows).await;
        // A failed read is tried anew from the place that is committed.
        if !segment.done && (loaded.is_ok() || reading.failure.is_none()) {
            self.reading = Some(reading);
        }
        loaded
    }

    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError> {
        let file = self.file(segment)?;
        if !file.input.is_plain() {
            return Ok(None);
        }
        let from = Self::from(&file, segment);
        let upper = segment.upper.as_ref().and_then(place).map_or(file.input.size, |place| place.offset);
        let (input, framing) = (file.input.clone(), file.framing);
        let found = tokio::task::spawn_blocking(move || feed::ahead(&input, framing, from, upper, ahead)).await;
        // What cannot be read is told by the batch that comes to it.
        let Ok(Ok(Some(middle))) = found else { return Ok(None) };
        let mut rest = Segment::new(segment.sweep, number, Some(key(middle)), segment.upper.clone());
        rest.part.clone_from(&segment.part);
        self.lines.split(segment, rest).await.map(Some)
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        self.lines.recover(segment).await
    }

    async fn close(mut self: Box<Self>) {
        if let Some(reading) = self.reading.take() {
            self.shared.readings().insert(reading.of, reading);
        }
        let closing = self.lines.close();
        drop(tokio::time::timeout(Duration::from_secs(2), closing).await);
    }
}
