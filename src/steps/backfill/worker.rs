//! One worker of a backfill: a connection for batches, one that looks ahead, and what is done when they break.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::batch::{Batch, Way};
use super::{Part, Shared};
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError};
use crate::postgres::deadline::within;
use crate::postgres::error;
use crate::postgres::key::position;
use crate::run::{Advance, Cause, KeyText, Level, Segment, SegmentNo, human};
use crate::steps::batch::{BatchError, Line, Lines, committed, roll_back};
use crate::steps::keyspace::Boundary;
use crate::steps::trouble;

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    lines: Lines,
    /// Looks for the next batch's boundary while this batch's change runs: counting keys takes a twentieth of the time
    /// that changing them does.
    scout: Option<PgConnection>,
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

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        let lines = Lines::new(shared.bench.clone(), Arc::clone(&shared.backends));
        Self { shared, lines, scout: None, scouted: None }
    }

    fn what(&self) -> String {
        self.shared.bench.what()
    }

    fn limit(&self) -> Duration {
        self.shared.bench.deadline()
    }

    fn sql_error(&self, e: &sqlx::Error) -> StepError {
        trouble::step_error(e, error::cause(&self.what(), e))
    }

    /// After a failure: what was looked up ahead goes with a connection that broke.
    fn look_after(&mut self) {
        if !self.lines.is_open() {
            (self.scout, self.scouted) = (None, None);
        }
    }

    /// One batch on `line`: in its own transaction, with the next boundary looked for beside it.
    async fn commit_one(
        &mut self,
        line: &mut Line,
        segment: &Segment,
        rows: u64,
        way: Way,
    ) -> Result<(Advance, Duration), (BatchError, Option<KeyText>)> {
        let part = self.shared.part(segment).map_err(|cause| (BatchError::Plan(cause), None))?;
        let limit = self.limit();
        let begun = within(limit, line.connection.begin_with(self.shared.bench.recorder.begin())).await;
        let mut tx = begun.map_err(|e| (e.into(), None))?;
        failpoint::hit("batch.begun");
        let found = match usable(self.scouted.take(), segment, rows) {
            Some(boundary) => Ok(Some(boundary)),
            None => within(limit, part.keys.boundary(&mut tx, segment.from(), segment.upper.as_ref(), rows)).await,
        };
        let boundary = match found {
            Ok(boundary) => boundary,
            Err(e) => {
                roll_back(tx, limit).await;
                return Err((e.into(), None));
            }
        };
        failpoint::hit("batch.bounded");
        let through = boundary.as_ref().map(|boundary| boundary.key.clone());
        let ahead = through.clone().filter(|through| segment.upper.as_ref() != Some(through));
        let (scout, connector) = (&mut self.scout, &self.shared.bench.connector);
        let name = self.shared.bench.application_name();
        let look_ahead = async {
            let from = ahead?;
            if scout.is_none() {
                *scout = connector.open(&name).await.ok();
            }
            // Whatever fails here is looked for again, in the batch's own transaction.
            let asked = part.keys.boundary(scout.as_mut()?, Some(&from), segment.upper.as_ref(), rows);
            if let Ok(boundary) = within(limit, asked).await {
                return Some(Scouted { from, boundary: boundary? });
            }
            *scout = None;
            None
        };
        let batch = Batch { shared: &self.shared, part: &part, segment, limit };
        let (written, scouted) = tokio::join!(batch.write(&mut tx, boundary, way), look_ahead);
        let committed = match written {
            Ok(written) => match within(limit, tx.commit()).await {
                Ok(()) => committed(&self.shared.bench, segment).await.map(|()| written.kept()),
                Err(e) => Err(BatchError::Sql(e)),
            },
            Err(e) => {
                roll_back(tx, limit).await;
                Err(e)
            }
        };
        let done = committed.map_err(|e| (e, through))?;
        self.scouted = scouted;
        Ok(done)
    }

    fn explain(&self, failure: &BatchError, segment: &Segment, through: Option<&KeyText>, rows: u64) -> Cause {
        let (what, source) = (self.what(), &self.shared.bench.source);
        let mut cause = failure.cause(&what, source);
        if !failure.kept_nothing() {
            return cause;
        }
        let key = self.shared.describe_key(segment);
        let name = |key: Option<&KeyText>| key.map_or_else(|| "the first".to_owned(), |key| key.join(", "));
        let range = match (segment.from(), through) {
            (from @ Some(_), Some(through)) => format!("{key} after {}, through {}", name(from), through.join(", ")),
            (None, Some(through)) => format!("{key} from the first, through {}", through.join(", ")),
            (from, None) => format!("{rows} rows, {key} after {}", name(from)),
        };
        cause.details.push(format!("batch: {range}; nothing of it was kept"));
        cause
    }

    /// Logs the plan of a statement that took long, once a step.
    async fn log_plan(&mut self, line: &mut Line, segment: &Segment, from: Option<&KeyText>, took: Duration) {
        let slow = self.shared.bench.slow;
        if took <= slow || self.shared.explained.swap(true, Ordering::Relaxed) {
            return;
        }
        let (Ok(part), Some(through)) = (self.shared.part(segment), segment.cursor.as_ref()) else { return };
        let Some(sql) = part.sql().map(|sql| &sql.of(from, through).change) else { return };
        let text = format!("EXPLAIN (SETTINGS) {}", sql.as_str());
        let ask = sqlx::query_scalar(AssertSqlSafe(text))
            .bind(from)
            .bind(through)
            .persistent(false)
            .fetch_all(&mut line.connection);
        let plan: Vec<String> = match within(self.limit(), ask).await {
            Ok(plan) => plan,
            Err(e) => vec![format!("its plan could not be had: {e}")],
        };
        let (took, slow) = (human::duration(took), human::duration(slow));
        // The statement itself may hold what `${ENV}` was filled in with; the plan says what the server does with it.
        let plan: Vec<String> = plan.iter().map(|line| without_strings(line)).collect();
        tracing::warn!(step = %self.shared.bench.name, %took, %slow, "slow statement:\n{}", plan.join("\n"));
        let text = format!("a batch's statement took {took} (`database.slow` is {slow}): its plan is in the log");
        self.shared.reporter.explained(segment.no, plan.join("\n"));
        self.shared.reporter.notice(Level::Warning, text);
    }
}

/// Where the cursor stands in its segment, 0 to 1, where keys tell.
fn place(part: &Part, segment: &Segment) -> Option<f64> {
    let first = segment.lower.as_ref().or(part.first.as_ref());
    let ends = first.zip(segment.upper.as_ref());
    ends.zip(segment.cursor.as_ref())
        .filter(|_| part.has_distances())
        .and_then(|((first, last), cursor)| position(first, last, cursor))
}

/// A line of a plan without the strings in it: they may be secrets.
fn without_strings(line: &str) -> String {
    let mut parts = line.split('\'');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    while parts.next().is_some() {
        shown.push_str("'...'");
        shown.push_str(parts.next().unwrap_or_default());
    }
    shown
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        let mut line = self.lines.take().await?;
        let pid = line.pid();
        let from = segment.from().cloned();
        self.shared.backends.begin(pid);
        let mut done = self.commit_one(&mut line, segment, rows, Way::Whole).await;
        if let Err((failure, _)) = &done
            && failure.is_data()
            && self.shared.bench.limits.max_quarantined > 0
            && self.shared.part(segment).is_ok_and(|part| part.can_set_aside())
        {
            // Row by row where it must be, in a transaction that begins anew.
            done = self.commit_one(&mut line, segment, rows, Way::Careful).await;
        }
        let gave_way = self.shared.backends.end(pid);
        match done {
            Ok((advance, took)) => {
                segment.apply(&advance);
                let part = self.shared.part(segment).map_err(StepError::Failed)?;
                let position = place(&part, segment);
                self.log_plan(&mut line, segment, from.as_ref(), took).await;
                self.lines.keep(line, false);
                Ok(BatchDone { tally: advance.tally, position })
            }
            Err((failure, through)) => {
                let cause = self.explain(&failure, segment, through.as_ref(), rows);
                let error = self.lines.failed(line, failure, cause, gave_way).await;
                self.look_after();
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
        let part = self.shared.part(segment).map_err(StepError::Failed)?;
        // A segment without an end was not planned by this version.
        let Some(upper) = segment.upper.clone() else { return Ok(None) };
        let mut line = self.lines.take().await?;
        let asked = part.keys.middle(&mut line.connection, segment.from(), &upper, ahead);
        let found = within(self.limit(), asked).await;
        self.lines.keep(line, found.as_ref().is_err_and(error::is_lost));
        self.look_after();
        let Some(middle) = found.map_err(|e| self.sql_error(&e))? else { return Ok(None) };
        let mut rest = Segment::new(segment.sweep, number, Some(middle), Some(upper));
        rest.part.clone_from(&segment.part);
        let rest = self.lines.split(segment, rest).await;
        self.scouted = None;
        self.look_after();
        rest.map(Some)
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        self.scouted = None;
        let recovered = self.lines.recover(segment).await;
        self.look_after();
        recovered
    }

    async fn close(self: Box<Self>) {
        self.lines.close().await;
        if let Some(scout) = self.scout {
            drop(tokio::time::timeout(Duration::from_secs(1), scout.close()).await);
        }
    }
}
