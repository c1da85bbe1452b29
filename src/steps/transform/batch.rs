//! What happens inside the transaction of one batch: the rows that came out of the program, whole or by halves, and their
//! record.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Executor, PgTransaction};

use super::Shared;
use super::file::{FileSpec, Place};
use super::look::To;
use super::reading::{self, Range, Share};
use super::rows::{Answer, Asked, Rows};
use super::runner::Runner;
use crate::engine::failpoint;
use crate::engine::ports::StepError;
use crate::postgres::deadline::within;
use crate::postgres::record::SetAside;
use crate::run::{Advance, Cause, KeyText, Segment, Tally};
use crate::steps::batch::{BatchError, Places, recorded};

/// How a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// At once.
    Whole,
    /// By halves, down to the rows whose data is wrong: those are set aside.
    Careful,
}

/// Why a batch was not written.
pub(super) enum Failure {
    /// The database, or the rows.
    Batch(BatchError),
    /// The program.
    Program(StepError),
}

impl From<BatchError> for Failure {
    fn from(e: BatchError) -> Self {
        Self::Batch(e)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(e: sqlx::Error) -> Self {
        Self::Batch(BatchError::Sql(e))
    }
}

impl Failure {
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Self::Batch(e) if e.is_data())
    }

    /// Whether nothing more can be said on the connection.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Batch(BatchError::Sql(e) | BatchError::Change(e, _)) if crate::postgres::error::is_lost(e))
    }
}

/// Rows that were read, and what a program has said of them.
#[derive(Clone)]
pub(super) struct Answered {
    pub(super) rows: Arc<Rows>,
    /// One for each row.
    pub(super) answers: Vec<Answer>,
}

/// A batch that is written and not committed yet.
pub(super) struct Written {
    pub(super) advance: Advance,
    /// The places of the rows that it sets aside; given back unless the batch commits.
    pub(super) aside: Places,
}

/// One batch.
pub(super) struct Batch<'a> {
    pub(super) shared: &'a Shared,
    pub(super) share: &'a Share,
    pub(super) segment: &'a Segment,
    pub(super) limit: Duration,
    /// Why the one row of the range could not be read.
    pub(super) unread: Option<&'a (Option<String>, String)>,
}

impl Batch<'_> {
    /// Writes what came out of the program for the rows of `range`, and moves the cursor by `advance`.
    pub(super) async fn write(
        &self,
        tx: &mut PgTransaction<'_>,
        runner: &mut Runner,
        (range, answered, mut advance): (Option<&Range>, &Answered, Advance),
        way: Way,
    ) -> Result<Written, Failure> {
        let mut aside = Places::new(Arc::clone(&self.shared.bench.set_aside));
        if let (Some(range), Some(why)) = (range, self.unread) {
            let is_new = self.aside(tx, range.through.clone(), why.clone(), &mut aside).await?;
            advance.tally.quarantined = u64::from(is_new);
        } else if let Some(range) = range {
            let tally = match way {
                Way::Whole => self.whole(tx, runner, range, answered, &mut aside).await?,
                Way::Careful => self.carefully(tx, runner, range, answered, &mut aside).await?,
            };
            advance.tally.changed = tally.changed;
            advance.tally.quarantined = tally.quarantined;
        }
        if let To::File(spec) = &self.shared.ready.to {
            advance.output = Some(self.append(spec, answered, advance.done).await?.text());
        }
        failpoint::hit("batch.changed");
        let bench = &self.shared.bench;
        let moved = bench.recorder.advance(&mut *tx, bench.index, self.segment, &advance);
        recorded(tokio::time::timeout(self.limit, moved).await)?;
        failpoint::hit("batch.recorded");
        Ok(Written { advance, aside })
    }

    /// Appends the rows to the segment's file.
    async fn append(&self, spec: &FileSpec, answered: &Answered, done: bool) -> Result<Place, BatchError> {
        let place = Place::of(self.segment).map_err(BatchError::Plan)?;
        let (no, spec, answers) = (self.segment.no, spec.clone(), answered.answers.clone());
        let write = move || spec.append(no, place, &spec.text(&answers), done);
        let written = tokio::task::spawn_blocking(write).await;
        let failed = |e: String| Cause::new(format!("{}: writing a file: {e}", self.shared.bench.what()));
        let written = written.map_err(|e| BatchError::Plan(failed(e.to_string())))?;
        written.map_err(|e| {
            let hint = "make room, or move what is in the way, and resume: what is committed stays";
            BatchError::Plan(failed(e.to_string()).hint(hint))
        })
    }

    async fn whole(
        &self,
        tx: &mut PgTransaction<'_>,
        runner: &mut Runner,
        range: &Range,
        answered: &Answered,
        aside: &mut Places,
    ) -> Result<Tally, Failure> {
        let may_differ = matches!(self.shared.ready.to, To::Update(_));
        if may_differ {
            within(self.limit, tx.execute("SAVEPOINT howdah_versions")).await?;
        }
        let all: Vec<usize> = (0..answered.answers.len()).collect();
        let (wanted, mut changed) = self.put(tx, answered, &all).await?;
        let mut latest = None;
        if may_differ && changed < wanted {
            // Somebody has changed rows since they were read: as they are now, and now nobody else can.
            within(self.limit, tx.execute("ROLLBACK TO SAVEPOINT howdah_versions")).await?;
            let again = self.again(tx, runner, range, answered).await?;
            let all: Vec<usize> = (0..again.answers.len()).collect();
            (_, changed) = self.put(tx, &again, &all).await?;
            latest = Some(again);
        }
        let quarantined = self.set_wrong_aside(tx, latest.as_ref().unwrap_or(answered), aside).await?;
        Ok(Tally { changed, quarantined, ..Tally::default() })
    }

    /// Writes by halves where it fails, down to single rows, which are set aside.
    async fn carefully(
        &self,
        tx: &mut PgTransaction<'_>,
        runner: &mut Runner,
        range: &Range,
        answered: &Answered,
        aside: &mut Places,
    ) -> Result<Tally, Failure> {
        // What is checked only at the commit could not be told from row to row.
        within(self.limit, tx.execute("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        let locked = match &self.shared.ready.to {
            To::Update(_) => Some(self.again(tx, runner, range, answered).await?),
            To::Insert(..) | To::File(_) => None,
        };
        let answered = locked.as_ref().unwrap_or(answered);
        let mut total = Tally::default();
        let mut pieces: Vec<Vec<usize>> = vec![(0..answered.answers.len()).collect()];
        while let Some(mut piece) = pieces.pop() {
            within(self.limit, tx.execute("SAVEPOINT howdah_piece")).await?;
            match self.put(tx, answered, &piece).await {
                Ok((_, changed)) => {
                    within(self.limit, tx.execute("RELEASE SAVEPOINT howdah_piece")).await?;
                    total.changed += changed;
                }
                Err(failure) if failure.is_data() => {
                    within(self.limit, tx.execute("ROLLBACK TO SAVEPOINT howdah_piece")).await?;
                    if let [row] = piece.as_slice() {
                        let (sqlstate, message) = failure.told();
                        total.quarantined +=
                            u64::from(self.aside(tx, answered.rows.key(*row), (sqlstate, message), aside).await?);
                    } else {
                        let second = piece.split_off(piece.len() / 2);
                        pieces.extend([second, piece]);
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        total.quarantined += self.set_wrong_aside(tx, answered, aside).await?;
        Ok(total)
    }

    /// Writes the rows that the answers `which` are. Returns how many there were to write, and how many are written.
    async fn put(
        &self,
        tx: &mut PgTransaction<'_>,
        answered: &Answered,
        which: &[usize],
    ) -> Result<(u64, u64), BatchError> {
        match &self.shared.ready.to {
            To::Update(of_shares) => {
                let at = self.shared.ready.shares.iter().position(|share| share.part() == self.share.part());
                let Some(sql) = at.and_then(|at| of_shares.get(at)) else {
                    return Err(BatchError::Plan(Cause::bug("a share without an update")));
                };
                sql.put(tx, (&answered.rows, &answered.answers, which), self.limit).await
            }
            To::Insert(sql, _) => {
                let written = sql.put(tx, (&answered.answers, which), self.limit).await?;
                Ok((written, written))
            }
            To::File(_) => {
                let rows = which.iter().map(|at| answered.answers[*at].rows().len()).sum::<usize>();
                let rows = u64::try_from(rows).unwrap_or(u64::MAX);
                Ok((rows, rows))
            }
        }
    }

    /// The rows of the range as they are now, kept from others, and what the program says of those that have changed.
    async fn again(
        &self,
        tx: &mut PgTransaction<'_>,
        runner: &mut Runner,
        range: &Range,
        before: &Answered,
    ) -> Result<Answered, Failure> {
        let sql = self.share.sql(range, true);
        let read = reading::read(tx, &sql, self.share.key.columns.len(), usize::MAX);
        let (rows, _) = within(self.limit, read).await.map_err(|e| BatchError::Change(e, sql.clone()))?;
        failpoint::hit("batch.bounded");
        let rows = Arc::new(rows);
        let known = before.rows.by_head();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(rows.len());
        let mut which = Vec::new();
        for at in 0..rows.len() {
            let answer = known.get(rows.head(at)).and_then(|at| before.answers.get(*at)).cloned();
            if answer.is_none() {
                which.push(at);
            }
            answers.push(answer);
        }
        let asked = Asked { rows: Arc::clone(&rows), which };
        let mut new = runner
            .ask(&self.shared.ready, &self.shared.bench.what(), asked, None)
            .await
            .map_err(Failure::Program)?
            .into_iter();
        let lacking = || Failure::Program(StepError::Failed(Cause::bug("a program has left out a row")));
        let answers = answers.into_iter().map(|answer| answer.or_else(|| new.next()).ok_or_else(lacking));
        Ok(Answered { answers: answers.collect::<Result<_, _>>()?, rows })
    }

    /// Sets aside what the program could not answer.
    async fn set_wrong_aside(
        &self,
        tx: &mut PgTransaction<'_>,
        answered: &Answered,
        aside: &mut Places,
    ) -> Result<u64, BatchError> {
        let mut quarantined = 0;
        for (at, answer) in answered.answers.iter().enumerate() {
            if let Answer::Wrong(message) = answer {
                quarantined += u64::from(self.aside(tx, answered.rows.key(at), (None, message.clone()), aside).await?);
            }
        }
        Ok(quarantined)
    }

    /// Sets one row aside, unless that is one too many.
    async fn aside(
        &self,
        tx: &mut PgTransaction<'_>,
        key: KeyText,
        (sqlstate, message): (Option<String>, String),
        aside: &mut Places,
    ) -> Result<bool, BatchError> {
        let row = within(self.limit, reading::row(tx, self.share, &key)).await?;
        let row = SetAside { part: self.segment.part.clone(), key, row, sqlstate, message };
        aside.put(tx, &self.shared.bench, &row, &self.share.key.describe(), self.limit).await
    }
}
