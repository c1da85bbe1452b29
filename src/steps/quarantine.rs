//! A row that was set aside, tried again: the step's change of exactly that row, and the record that it is resolved.
//!
//! Exact, at whatever instant the process or the server is killed, and whoever else is at work:
//!
//! - Change and record commit together, in a transaction that has claimed the row's place in the quarantine: what a crash
//!   leaves is a row that is set aside and unchanged, or one that is changed and resolved.
//! - The claim also holds the run's epoch: no driver takes the run over, and no newer run takes its place, between the
//!   change and its commit.
//! - A driver that lost its lock, but lives, is ahead of the rows that it has set aside. Only a later sweep comes back to
//!   them, by the step's `where`; what is changed here does not match that any more, or waits until the step is done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, PgTransaction};

use super::backfill::{self, Part, Purpose, Ready};
use super::batch::BatchError;
use super::copy::ByCopy;
use super::mending::{Applied, Mending};
use crate::cache::Caches;
use crate::engine::failpoint;
use crate::engine::ports::{StepError, Trouble};
use crate::engine::retry::Delays;
use crate::plan::model::{Change, Plan, PlanSource, Retry, Step, StepKind};
use crate::postgres::deadline::within;
use crate::postgres::record::{AsideRow, RecordError, Recorder, Resolution, SetAside};
use crate::postgres::{session, trouble};
use crate::run::{Cause, RunId, StepIndex, Tally};

/// Tries rows of one step again.
pub struct Mender {
    what: String,
    by: Box<dyn Mending>,
    source: Arc<PlanSource>,
    recorder: Arc<dyn Recorder>,
    retry: Retry,
    limit: Duration,
    /// Whether no sweep of the step comes any more.
    is_done: bool,
    /// Whether a change without a `where` is for every row.
    is_for_all: bool,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It was changed, and is resolved.
    Changed,
    /// It failed again, and is still set aside.
    FailedAgain {
        /// The column or columns of its key, as a person names them.
        key_name: String,
        /// The error's SQLSTATE.
        sqlstate: Option<String>,
        /// The error in the server's words. Not cleaned.
        message: String,
    },
    /// It is not there any more, and is resolved.
    Gone,
    /// There is nothing to change in it any more: it does not match `where`. It is resolved.
    Unmatched,
    /// Somebody else has resolved it meanwhile.
    Resolved,
}

/// What a transaction came to.
enum Written {
    /// It is to commit.
    Done(Tried),
    /// It is to be rolled back: the row cannot be changed now, for this reason.
    Refused(String),
}

impl Mender {
    /// Looks at the table of a step. `is_done`: whether the ledger says that the step is done.
    ///
    /// # Errors
    /// The step is no backfill any more, or its table cannot be walked any more.
    pub async fn prepare(
        connection: &mut PgConnection,
        plan: &Plan,
        (run, index): (RunId, StepIndex),
        step: &Step,
        is_done: bool,
        (recorder, caches): (Arc<dyn Recorder>, Option<&Arc<Caches>>),
    ) -> Result<Self, Cause> {
        let what = super::what(&step.name);
        let limit = super::deadline(&plan.limits);
        let (by, is_for_all): (Box<dyn Mending>, bool) = match &step.kind {
            StepKind::Backfill(backfill) => {
                let named = backfill::Named { run, step: index, name: &step.name, source: &plan.source };
                let ready = backfill::ready(connection, &named, backfill, Purpose::Change, backfill::Log::IfThere)
                    .await
                    .map_err(final_cause)?;
                (Box::new(ByBackfill { ready, limit }), matches!(backfill.change, Change::Set { .. }))
            }
            StepKind::Import(import) => {
                (super::import::mending(connection, &step.name, import, &plan.source, limit).await?, true)
            }
            StepKind::Copy(copy) => {
                let by = ByCopy::prepare(connection, plan, (&step.name, &what), copy, limit).await?;
                (Box::new(by), true)
            }
            StepKind::Files(files) => {
                let of = super::files::Mended { run, step: index, name: &step.name, files };
                (
                    super::files::mending(connection, of, (&plan.source, caches), Arc::clone(&recorder), limit).await?,
                    false,
                )
            }
            StepKind::Transform(transform) => {
                let names = (step.name.as_str(), what.as_str());
                (super::transform::mending(connection, names, transform, (&plan.source, caches), limit).await?, true)
            }
            StepKind::Statement(_)
            | StepKind::Index(_)
            | StepKind::Reindex(_)
            | StepKind::Analyze(_)
            | StepKind::Verify(_) => {
                return Err(Cause::usage(format!("{what} is a {} now, and has no rows to change", step.kind.word())));
            }
        };
        Ok(Self {
            what,
            by,
            source: Arc::new(plan.source.clone()),
            recorder,
            retry: plan.retry.clone(),
            limit,
            is_done,
            is_for_all,
        })
    }

    /// Tries a row again, in a transaction of its own; when that is disturbed by others, as often as the plan's `[retry]`
    /// says.
    ///
    /// # Errors
    /// Anything but a row that is wrong. The row is set aside as before.
    pub async fn again(&self, connection: &mut PgConnection, row: &AsideRow) -> Result<Tried, Cause> {
        // One row at a time: nobody to stay apart from.
        let mut delays = Delays::new(&self.retry, 0);
        loop {
            let cause = match self.once(connection, row).await {
                Ok(tried) => return Ok(tried),
                Err(StepError::Passing(Trouble::Outage, cause)) => return Err(cause),
                Err(StepError::Passing(trouble, cause)) => {
                    tracing::info!(?trouble, key = ?row.key, "not tried again yet: {}", cause.headline());
                    cause
                }
                Err(other) => return Err(final_cause(other)),
            };
            match delays.next_delay() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(cause),
            }
        }
    }

    async fn once(&self, connection: &mut PgConnection, row: &AsideRow) -> Result<Tried, StepError> {
        let reason = match self.change(connection, row).await {
            Ok(Written::Done(tried)) => return Ok(tried),
            Ok(Written::Refused(words)) => (None, words),
            Err(failure) if failure.is_data() => failure.told(),
            Err(failure) => return Err(self.step_error(&failure)),
        };
        self.keep(connection, row, reason).await.map_err(|failure| self.step_error(&failure))
    }

    /// The change of a row and its record, in one transaction.
    async fn change(&self, connection: &mut PgConnection, row: &AsideRow) -> Result<Written, BatchError> {
        let mut tx = within(self.limit, connection.begin_with(session::SNAPSHOT)).await?;
        match self.write(&mut tx, row).await {
            Ok(written @ Written::Done(_)) => {
                within(self.limit, tx.commit()).await?;
                failpoint::hit("retry.committed");
                Ok(written)
            }
            Ok(refused @ Written::Refused(_)) => {
                within(self.limit, tx.rollback()).await?;
                Ok(refused)
            }
            Err(failure) => {
                // Best effort: when it fails the connection is gone, and the transaction with it.
                drop(within(self.limit, tx.rollback()).await);
                Err(failure)
            }
        }
    }

    async fn write(&self, tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Written, BatchError> {
        if !self.recorded(self.recorder.claim(tx, row)).await? {
            return Ok(Written::Done(Tried::Resolved));
        }
        failpoint::hit("retry.claimed");
        let kept = self.recorded(self.recorder.kept(tx, row)).await?;
        // What is checked only at the commit is the row's own failure, and is told as that.
        within(self.limit, tx.execute("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        let (tried, tally, word) = match self.by.apply(tx, row, kept.as_deref()).await? {
            Applied::Changed(tally) if tally.still_matching > 0 && !self.is_done => {
                return Ok(Written::Refused(
                    "it matches `where` still after its change, and a later sweep would change it again: it can be \
                     tried once the run is done"
                        .to_owned(),
                ));
            }
            Applied::Changed(tally) => (Tried::Changed, tally, None),
            Applied::Refused(words) => return Ok(Written::Refused(words)),
            Applied::Gone => (Tried::Gone, Tally::default(), Some("the row is gone")),
            // Without a `where`, a statement of the plan's own knows alone which rows it is for.
            Applied::Untouched { matches } if !matches.unwrap_or(self.is_for_all) => {
                (Tried::Unmatched, Tally::default(), Some("there was nothing to change any more"))
            }
            Applied::Untouched { .. } => {
                return Ok(Written::Refused(
                    "the change leaves it as it is: a trigger, a rule or row security holds it back".to_owned(),
                ));
            }
        };
        failpoint::hit("retry.changed");
        self.recorded(self.recorder.resolve(tx, row, &Resolution { tally, word })).await?;
        failpoint::hit("retry.recorded");
        Ok(Written::Done(tried))
    }

    /// Writes down that a row failed again, and how it looks now.
    async fn keep(
        &self,
        connection: &mut PgConnection,
        row: &AsideRow,
        (sqlstate, message): (Option<String>, String),
    ) -> Result<Tried, BatchError> {
        let mut tx = within(self.limit, connection.begin_with(session::SNAPSHOT)).await?;
        let written = async {
            if !self.recorded(self.recorder.claim(&mut tx, row)).await? {
                return Ok(Tried::Resolved);
            }
            let now = self.by.look(&mut tx, row).await?;
            let (part_name, key) = (row.part.clone(), row.key.clone());
            let aside = SetAside { part: part_name, key, row: now, sqlstate, message };
            self.recorded(self.recorder.set_aside(&mut tx, row.step, &aside)).await?;
            let SetAside { sqlstate, message, .. } = aside;
            Ok(Tried::FailedAgain { key_name: self.by.key_name(row), sqlstate, message })
        };
        match written.await {
            Ok(tried) => {
                within(self.limit, tx.commit()).await?;
                Ok(tried)
            }
            Err(failure) => {
                drop(within(self.limit, tx.rollback()).await);
                Err(failure)
            }
        }
    }

    async fn recorded<T>(&self, record: impl Future<Output = Result<T, RecordError>>) -> Result<T, BatchError> {
        // The deadline counts for what the record asks of the server.
        let answer = async {
            match record.await {
                Ok(value) => Ok(Ok(value)),
                Err(RecordError::Sql(e)) => Err(e),
                Err(other @ (RecordError::Fenced | RecordError::Already | RecordError::Store(..))) => Ok(Err(other)),
            }
        };
        within(self.limit, answer).await?.map_err(BatchError::Record)
    }

    fn step_error(&self, failure: &BatchError) -> StepError {
        let cause = failure.cause(&self.what, &self.source);
        let passing = match failure {
            BatchError::Change(e, _) | BatchError::Sql(e) | BatchError::Record(RecordError::Sql(e)) => trouble::of(e),
            BatchError::Passing(trouble, _) => Some(*trouble),
            BatchError::Record(RecordError::Store(trouble, _)) => *trouble,
            BatchError::Record(RecordError::Fenced | RecordError::Already)
            | BatchError::Wrong(..)
            | BatchError::Plan(_) => None,
        };
        StepError::of(passing, cause)
    }
}

/// Rows of a backfill.
struct ByBackfill {
    ready: Ready,
    limit: Duration,
}

impl ByBackfill {
    fn part(&self, row: &AsideRow) -> Result<Arc<Part>, BatchError> {
        self.ready.part(row.part.as_deref()).map_err(BatchError::Plan)
    }
}

#[async_trait]
impl Mending for ByBackfill {
    /// A change goes over a range of keys. From the key just before, which is not part of it, through `key` there is this row
    /// alone, by what "just before" means; and it stays alone, because both are looked at in one snapshot: a row that others
    /// insert between the two meanwhile is seen by no statement of this transaction. When others change or delete the row
    /// itself meanwhile, the change fails with 40001, nothing of it is kept, and it is begun anew.
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        _kept: Option<&str>,
    ) -> Result<Applied, BatchError> {
        let (part, key, limit) = (self.part(row)?, &row.key, self.limit);
        let before = within(limit, part.keys.before(tx, key)).await?;
        let tally = part.change(tx, before.as_ref(), key, limit).await?;
        if tally.changed > 0 {
            return Ok(Applied::Changed(tally));
        }
        if within(limit, part.row(tx, before.as_ref(), key)).await?.is_none() {
            return Ok(Applied::Gone);
        }
        let matching = within(limit, part.matching(tx, before.as_ref(), key)).await?;
        Ok(Applied::Untouched { matches: matching.map(|rows| rows > 0) })
    }

    async fn look(&self, tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Option<String>, BatchError> {
        let (part, limit) = (self.part(row)?, self.limit);
        let before = within(limit, part.keys.before(tx, &row.key)).await?;
        Ok(within(limit, part.row(tx, before.as_ref(), &row.key)).await?)
    }

    fn key_name(&self, row: &AsideRow) -> String {
        self.part(row).map_or_else(|_| "key".to_owned(), |part| part.key_name())
    }
}

/// The cause of a failure after which nothing is tried again.
fn final_cause(failure: StepError) -> Cause {
    match failure {
        StepError::Failed(cause) | StepError::Passing(_, cause) => cause,
        StepError::Stopped => Cause::bug("a row was tried again by something that can be stopped"),
    }
}
