//! One worker of a copy: a connection to the target for batches, one or two to the source, and what is done when one breaks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;

use super::Shared;
use super::batch::{Batch, Failure, Way};
use super::origin::Reader;
use super::pair::Share;
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError};
use crate::postgres::deadline::within;
use crate::postgres::key::position;
use crate::run::{Advance, Cause, KeyText, Segment, SegmentNo};
use crate::steps::batch::{BatchError, Line, Lines, committed, roll_back};
use crate::steps::keyspace::Boundary;
use crate::steps::trouble;

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    lines: Lines,
    /// Reads the rows, where they come over a connection of their own.
    reader: Reader,
    /// Looks for the next batch's boundary while this batch's rows are copied.
    scout: Reader,
    scouted: Option<Scouted>,
}

/// A boundary that was found ahead of its batch.
struct Scouted {
    /// The batch begins behind this key.
    from: KeyText,
    boundary: Boundary,
}

/// The boundary that was found ahead, where it fits the batch: it begins at the same key, and holds about as many rows
/// as are wanted now.
fn usable(scouted: Option<Scouted>, segment: &Segment, rows: u64) -> Option<Boundary> {
    let scouted = scouted.filter(|scouted| Some(&scouted.from) == segment.from())?;
    let found = scouted.boundary.rows;
    (found <= rows.saturating_mul(5) / 4 && found * 2 >= rows).then_some(scouted.boundary)
}

/// A batch that did not commit, and the key that it went to, where that was known.
type Broken = (Failure, Option<KeyText>);

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        let lines = Lines::new(shared.bench.clone(), Arc::clone(&shared.backends));
        let reader = || Reader::new(Arc::clone(&shared.origin));
        let (reader, scout) = (reader(), reader());
        Self { shared, lines, reader, scout, scouted: None }
    }

    fn limit(&self) -> Duration {
        self.shared.bench.deadline()
    }

    fn share(&self, segment: &Segment) -> Result<Arc<Share>, Cause> {
        self.shared.share(segment)
    }

    /// One batch on `line`: in its own transaction, with the next boundary looked for beside it.
    async fn commit_one(&mut self, line: &mut Line, segment: &Segment, rows: u64, way: Way) -> Result<Advance, Broken> {
        let limit = self.limit();
        let share = self.share(segment).map_err(|cause| (BatchError::Plan(cause).into(), None))?;
        let begun = within(limit, line.connection.begin_with(self.shared.bench.recorder.begin())).await;
        let mut tx = begun.map_err(|e| (e.into(), None))?;
        failpoint::hit("batch.begun");
        let batch = Batch { bench: &self.shared.bench, share: &share, limit };
        let ends = (segment.from(), segment.upper.as_ref());
        let found = match usable(self.scouted.take(), segment, rows) {
            Some(boundary) => Ok(Some(boundary)),
            None => batch.boundary(&mut tx, &mut self.reader, ends, rows).await,
        };
        let boundary = match found {
            Ok(boundary) => boundary,
            Err(e) => {
                roll_back(tx, limit).await;
                return Err((e, None));
            }
        };
        failpoint::hit("batch.bounded");
        let through = boundary.as_ref().map(|boundary| boundary.key.clone());
        let ahead = through.clone().filter(|through| segment.upper.as_ref() != Some(through));
        let scout = &mut self.scout;
        let look_ahead = async {
            let from = ahead?;
            // Whatever fails here is looked for again by the batch itself.
            let source = scout.get().await.ok()?;
            let asked = share.keys.boundary(source, Some(&from), segment.upper.as_ref(), rows);
            if let Ok(boundary) = within(limit, asked).await {
                return Some(Scouted { from, boundary: boundary? });
            }
            scout.abandon();
            None
        };
        let write = batch.write(&mut tx, &mut self.reader, (segment, boundary), way);
        let (written, scouted) = tokio::join!(write, look_ahead);
        let committed = match written {
            Ok(written) => match within(limit, tx.commit()).await {
                Ok(()) => committed(&self.shared.bench, segment).await.map_err(Failure::Here).map(|()| {
                    written.aside.keep();
                    written.advance
                }),
                Err(e) => Err(Failure::from(e)),
            },
            Err(failure @ Failure::There { target_ruined: true, .. }) => {
                // Nothing can be asked on it any more; the caller drops the connection.
                drop(tx);
                Err(failure)
            }
            Err(failure) => {
                roll_back(tx, limit).await;
                Err(failure)
            }
        };
        let advance = committed.map_err(|e| (e, through))?;
        self.scouted = scouted;
        Ok(advance)
    }

    fn explain(&self, failure: &Failure, segment: &Segment, through: Option<&KeyText>) -> Cause {
        let mut cause = failure.cause(&self.shared.bench, &self.shared.origin);
        if matches!(failure, Failure::Here(BatchError::Plan(_)) | Failure::Unread(_)) {
            return cause;
        }
        let Ok(share) = self.share(segment) else { return cause };
        let name = |key: Option<&KeyText>| key.map_or_else(|| "the first".to_owned(), |key| key.join(", "));
        let through = through.map_or_else(String::new, |through| format!(", through {}", through.join(", ")));
        cause.details.push(format!(
            "batch: {} of `{}` after {}{through}; nothing of it was kept",
            share.key_name(),
            share.part().label(),
            name(segment.from())
        ));
        cause
    }

    /// What a failed batch means. `line` is kept or dropped here.
    async fn failed(&mut self, line: Line, (failure, through): Broken, segment: &Segment, gave_way: bool) -> StepError {
        let cause = self.explain(&failure, segment, through.as_ref());
        let error = match failure {
            Failure::Here(failure) => self.lines.failed(line, failure, cause, gave_way).await,
            Failure::There { error, target_ruined, .. } => {
                self.lines.keep(line, target_ruined);
                trouble::step_error(&error, cause)
            }
            Failure::Unread(refused) => {
                self.lines.keep(line, false);
                refused
            }
        };
        // What was looked up ahead goes with a connection that broke.
        self.scouted = None;
        if !self.lines.is_open() && !self.shared.origin.piped {
            self.scout.abandon();
        }
        error
    }
}

/// Where the cursor stands in its segment, 0 to 1, where keys tell.
fn place(share: &Share, segment: &Segment) -> Option<f64> {
    let first = segment.lower.as_ref().or(share.first.as_ref());
    let ends = first.zip(segment.upper.as_ref());
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
        let mut done = self.commit_one(&mut line, segment, rows, Way::Whole).await;
        if let Err((failure, _)) = &done
            && failure.is_data()
            && self.shared.bench.limits.max_quarantined > 0
            && self.share(segment).is_ok_and(|share| share.can_set_aside())
        {
            // Row by row where it must be, in a transaction that begins anew.
            done = self.commit_one(&mut line, segment, rows, Way::Careful).await;
        }
        let gave_way = self.shared.backends.end(pid);
        match done {
            Ok(advance) => {
                self.lines.keep(line, false);
                segment.apply(&advance);
                let share = self.share(segment).map_err(StepError::Failed)?;
                Ok(BatchDone { tally: advance.tally, position: place(&share, segment) })
            }
            Err(broken) => Err(self.failed(line, broken, segment, gave_way).await),
        }
    }

    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError> {
        let share = self.share(segment).map_err(StepError::Failed)?;
        // Rows that refer to each other go in their order. A last segment without an end has no middle.
        let Some(upper) = segment.upper.clone().filter(|_| !share.pair.refers_to_itself) else { return Ok(None) };
        let limit = self.limit();
        let source = self.scout.get().await?;
        let found = within(limit, share.keys.middle(source, segment.from(), &upper, ahead)).await;
        let found = found.map_err(|e| {
            self.scout.after(&e);
            self.shared.origin.failed(&e)
        });
        let Some(middle) = found? else { return Ok(None) };
        let mut rest = Segment::new(segment.sweep, number, Some(middle), Some(upper));
        rest.part.clone_from(&segment.part);
        let rest = self.lines.split(segment, rest).await;
        self.scouted = None;
        rest.map(Some)
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        self.scouted = None;
        // A connection to the source that broke was given up when it did: the next batch opens one.
        let recovered = self.lines.recover(segment).await?;
        if self.shared.origin.piped {
            self.reader.look_alive(self.limit()).await?;
        }
        Ok(recovered)
    }

    async fn close(self: Box<Self>) {
        let Self { lines, reader, scout, .. } = *self;
        lines.close().await;
        reader.close().await;
        scout.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_found_ahead_is_used_where_it_fits() {
        let mut segment = Segment::new(1, SegmentNo(0), Some(vec!["1".into()]), None);
        let scouted = |from: &str, rows| {
            Some(Scouted { from: vec![from.into()], boundary: Boundary { key: vec!["9".into()], rows } })
        };
        assert!(usable(scouted("1", 100), &segment, 100).is_some());
        assert!(usable(scouted("1", 200), &segment, 100).is_none(), "too many");
        assert!(usable(scouted("1", 40), &segment, 100).is_none(), "too few");
        segment.cursor = Some(vec!["2".into()]);
        assert!(usable(scouted("1", 100), &segment, 100).is_none(), "elsewhere");
    }
}
