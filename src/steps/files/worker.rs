//! One worker over files: a connection for the ledger, and a thread for the program.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::stage::{self, Placed, Ready, Staged, Target};
use super::tool::Desk;
use super::{Purpose, Shared};
use crate::cache::LookError;
use crate::engine::failpoint;
use crate::engine::ports::{BatchDone, BatchWorker, Recovered, StepError};
use crate::postgres::deadline::within;
use crate::postgres::record::{FileRow, FileState, RecordError, SetAside};
use crate::postgres::session;
use crate::run::{Advance, Cause, Segment, SegmentNo, Tally};
use crate::steps::batch::{BatchError, Line, Lines, Places, committed, recorded, roll_back};

/// A batch ends when its files come to so many bytes.
const BYTES: u64 = 32 << 20;

/// A worker.
pub(super) struct Worker {
    shared: Shared,
    lines: Lines,
    desk: Option<Desk>,
}

/// What came of a batch's files.
#[derive(Default)]
struct Outcome {
    ready: Vec<Ready>,
    done: Vec<FileRow>,
    /// What was to be replaced and stays as it is.
    kept: Vec<FileRow>,
    aside: Vec<SetAside>,
    bytes: u64,
}

impl Outcome {
    /// `was`: what is to be taken back.
    fn take(&mut self, target: Target, was: Option<FileRow>, staged: Staged) {
        match staged {
            Staged::Same { bytes } => self.bytes += bytes,
            Staged::Ready(ready) => {
                self.bytes += ready.bytes;
                self.ready.push(*ready);
            }
            Staged::Already { row, bytes } => {
                self.bytes += bytes;
                self.done.push(row);
            }
            Staged::Wrong { told, bytes } => {
                self.bytes += bytes;
                self.aside.push(set_aside(&target.name, bytes, told));
                let known = target.known.filter(|row| row.state == FileState::Intended);
                let back = |was: FileRow| FileRow { before: was.after, after: was.before, backup: None, ..was };
                self.kept.extend(known.or(was.map(back)).map(|row| FileRow { state: FileState::Kept, ..row }));
            }
        }
    }

    fn placed(&mut self, placed: Placed) {
        self.done.extend(placed.done);
        for (name, row, told) in placed.kept {
            let bytes = Path::new(&row.path).symlink_metadata().map_or(0, |about| about.len());
            self.aside.push(set_aside(&name, bytes, told));
            self.kept.push(row);
        }
    }
}

/// A file as the quarantine keeps it.
pub(super) fn set_aside(name: &str, bytes: u64, message: String) -> SetAside {
    let row = serde_json::json!({ "path": name, "bytes": bytes }).to_string();
    SetAside { part: None, key: vec![name.to_owned()], row: Some(row), sqlstate: None, message }
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        let lines = Lines::new(shared.bench.clone(), Arc::clone(&shared.backends));
        Self { shared, lines, desk: None }
    }

    fn limit(&self) -> Duration {
        self.shared.bench.deadline()
    }

    /// What the ledger has of these files, under this run's step or that of the run which is taken back.
    async fn rows(
        &self,
        connection: &mut PgConnection,
        of: Option<Purpose>,
        paths: &[String],
    ) -> Result<Vec<FileRow>, BatchError> {
        let bench = &self.shared.bench;
        let (run, step) = match of {
            Some(Purpose::Restore { run, step }) => (run, step),
            Some(Purpose::Change) | None => (bench.run_id, bench.index),
        };
        let asked = bench.recorder.files(connection, run, step, paths);
        recorded(tokio::time::timeout(self.limit(), asked).await)
    }

    async fn stage(&mut self, line: &mut Line, names: &[String]) -> Result<Outcome, BatchError> {
        let shared = self.shared.clone();
        let paths: Vec<String> = names.iter().map(|name| shared.absolute(name)).collect();
        let mut known = self.rows(&mut line.connection, None, &paths).await?;
        let mut changed = match shared.purpose {
            Purpose::Change => Vec::new(),
            Purpose::Restore { .. } => self.rows(&mut line.connection, Some(shared.purpose), &paths).await?,
        };
        let take = |rows: &mut Vec<FileRow>, path: &str| {
            let at = rows.iter().position(|row| row.path == path)?;
            Some(rows.swap_remove(at))
        };
        let mut outcome = Outcome::default();
        for (name, path) in names.iter().zip(paths) {
            let known = take(&mut known, &path);
            let was = take(&mut changed, &path);
            let target = Target { name: name.clone(), path, known };
            let permit = Arc::clone(&shared.places).acquire_owned().await;
            let permit = permit.map_err(|_| BatchError::Plan(Cause::bug("the places of files are closed")))?;
            let (site, asked) = (Arc::clone(&shared.site), target.clone());
            let staged = match (shared.purpose, was.clone()) {
                (Purpose::Change, _) => {
                    let desk = self.desk().map_err(BatchError::Plan)?;
                    let asked = desk.ask(move |tool| stage::change(tool, &site, &asked)).await;
                    match (asked.and_then(|staged| staged), desk.failure()) {
                        (Err(_), Some(LookError::Passing(trouble, cause))) => {
                            return Err(BatchError::Passing(trouble, self.of_step(cause)));
                        }
                        (Err(_), Some(LookError::Failed(cause))) => Err(cause),
                        (staged, _) => staged,
                    }
                }
                (Purpose::Restore { .. }, Some(was)) => blocking(move || stage::restore(&site, &asked, &was)).await,
                (Purpose::Restore { .. }, None) => Ok(Staged::Same { bytes: 0 }),
            };
            drop(permit);
            outcome.take(target, was, staged.map_err(|cause| BatchError::Plan(self.of_step(cause)))?);
        }
        Ok(outcome)
    }

    fn of_step(&self, mut cause: Cause) -> Cause {
        let what = self.shared.bench.what();
        if !cause.message.starts_with(&what) {
            cause.message = format!("{what}: {}", cause.message);
        }
        cause
    }

    fn desk(&mut self) -> Result<&mut Desk, Cause> {
        if self.desk.is_none() {
            let bench = &self.shared.bench;
            let (files, source) = (Arc::clone(&self.shared.files), Arc::clone(&bench.source));
            self.desk = Some(Desk::begin(bench.what(), files, source, bench.caches.as_ref())?);
        }
        self.desk.as_mut().ok_or_else(|| Cause::bug("a thread that was started is not there"))
    }

    /// Writes down, durably, what is about to become of files: under this driver's epoch, and only while the segment is
    /// where this worker thinks it is.
    async fn intend(&self, line: &mut Line, segment: &Segment, rows: &[FileRow]) -> Result<(), BatchError> {
        let (bench, limit) = (&self.shared.bench, self.limit());
        let mut tx = within(limit, line.connection.begin_with(session::DURABLE)).await?;
        let write = async {
            let asked = bench.recorder.segment(&mut tx, bench.index, segment);
            let held = recorded(tokio::time::timeout(limit, asked).await)?;
            if held.is_none_or(|held| held.done || held.cursor != segment.cursor || held.upper != segment.upper) {
                return Err(BatchError::Record(RecordError::Fenced));
            }
            let written = bench.recorder.write_files(&mut tx, bench.index, rows);
            recorded(tokio::time::timeout(limit, written).await)
        };
        match write.await {
            Ok(()) => Ok(within(limit, tx.commit()).await?),
            Err(e) => {
                roll_back(tx, limit).await;
                Err(e)
            }
        }
    }

    /// Writes down what has become of the files, and that they are walked.
    async fn conclude(
        &self,
        line: &mut Line,
        segment: &Segment,
        outcome: &Outcome,
        mut advance: Advance,
    ) -> Result<Advance, BatchError> {
        let (bench, limit) = (&self.shared.bench, self.limit());
        let mut tx = within(limit, line.connection.begin_with(bench.recorder.begin())).await?;
        failpoint::hit("batch.begun");
        let mut places = Places::new(Arc::clone(&bench.set_aside));
        let write = async {
            let rows = [outcome.done.as_slice(), &outcome.kept].concat();
            let written = bench.recorder.write_files(&mut tx, bench.index, &rows);
            recorded(tokio::time::timeout(limit, written).await)?;
            for row in &outcome.aside {
                let is_new = places.put(&mut tx, bench, row, "path", limit).await?;
                advance.tally.quarantined += u64::from(is_new);
            }
            failpoint::hit("batch.changed");
            let moved = bench.recorder.advance(&mut tx, bench.index, segment, &advance);
            recorded(tokio::time::timeout(limit, moved).await)?;
            failpoint::hit("batch.recorded");
            Ok(())
        };
        match write.await {
            Ok(()) => {
                within(limit, tx.commit()).await?;
                committed(bench, segment).await?;
                places.keep();
                Ok(advance)
            }
            Err(e) => {
                roll_back(tx, limit).await;
                Err(e)
            }
        }
    }

    async fn walk(&mut self, line: &mut Line, segment: &Segment, range: Range<usize>) -> Result<Advance, BatchError> {
        let list = Arc::clone(&self.shared.list);
        let names = list.names(range.clone());
        let mut outcome = self.stage(line, names).await?;
        if !outcome.ready.is_empty() {
            let rows: Vec<FileRow> = outcome.ready.iter().map(|ready| ready.row.clone()).collect();
            self.intend(line, segment, &rows).await?;
            failpoint::hit("file.intended");
            let (ready, becomes) = (std::mem::take(&mut outcome.ready), self.shared.purpose.becomes());
            let site = Arc::clone(&self.shared.site);
            let placed = blocking(move || stage::place(&site, ready, becomes)).await;
            outcome.placed(placed.map_err(|cause| BatchError::Plan(self.of_step(cause)))?);
        }
        let tally = Tally {
            walked: names.len() as u64,
            changed: outcome.done.len() as u64,
            batches: 1,
            bytes: outcome.bytes,
            ..Tally::default()
        };
        let done = range.end == list.rest(segment).end;
        let cursor = names.last().map(|name| vec![name.clone()]);
        self.conclude(line, segment, &outcome, Advance { cursor, done, tally, output: None }).await
    }
}

/// What waits for a disk, on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Cause::bug(format!("a thread that works on files: {e}"))))
}

#[async_trait]
impl BatchWorker for Worker {
    async fn batch(&mut self, segment: &mut Segment, rows: u64) -> Result<BatchDone, StepError> {
        let range = self.shared.list.next(segment, rows, BYTES);
        let mut line = self.lines.take().await?;
        match self.walk(&mut line, segment, range).await {
            Ok(advance) => {
                self.lines.keep(line, false);
                segment.apply(&advance);
                Ok(BatchDone { tally: advance.tally, position: Some(position(&self.shared, segment)) })
            }
            Err(failure) => {
                let cause = failure.cause(&self.shared.bench.what(), &self.shared.bench.source);
                Err(self.lines.failed(line, failure, cause, false).await)
            }
        }
    }

    async fn split(
        &mut self,
        segment: &mut Segment,
        number: SegmentNo,
        ahead: u64,
    ) -> Result<Option<Segment>, StepError> {
        let list = Arc::clone(&self.shared.list);
        let rest = list.rest(segment);
        let ahead = usize::try_from(ahead.max(1)).unwrap_or(usize::MAX);
        if ahead >= rest.len() {
            return Ok(None);
        }
        let middle = list.names(rest.start + ahead - 1..rest.start + ahead).to_vec();
        let rest = Segment::new(segment.sweep, number, Some(middle), segment.upper.clone());
        self.lines.split(segment, rest).await.map(Some)
    }

    async fn recover(&mut self, segment: &mut Segment) -> Result<Recovered, StepError> {
        self.lines.recover(segment).await
    }

    async fn close(self: Box<Self>) {
        self.lines.close().await;
    }
}

/// Where the cursor stands in its segment, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn position(shared: &Shared, segment: &Segment) -> f64 {
    let whole = shared.list.weight(&shared.list.whole(segment));
    let rest = shared.list.weight(&shared.list.rest(segment));
    1.0 - rest as f64 / whole.max(1) as f64
}
