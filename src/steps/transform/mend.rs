//! Rows that were set aside, given to the program again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgTransaction;
use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;

use super::look::{self, By, Look, Ready, To, View};
use super::reading::{self, Range, Share};
use super::rows::{Answer, Asked};
use super::runner::Runner;
use crate::cache::Caches;
use crate::engine::ports::StepError;
use crate::plan::model::PlanSource;
use crate::plan::movers::Transform;
use crate::postgres::deadline::within;
use crate::postgres::record::AsideRow;
use crate::run::{Cause, Tally};
use crate::steps::batch::BatchError;
use crate::steps::mending::{Applied, Mending};

/// Gives rows of a transform to its program again.
struct Mender {
    ready: Ready,
    what: String,
    limit: Duration,
    runner: Mutex<Runner>,
}

/// What tries the rows of a transform again.
///
/// # Errors
/// What the plan names is not there any more; or rows went into files, which are complete.
pub async fn mending(
    connection: &mut PgConnection,
    (step, what): (&str, &str),
    transform: &Transform,
    (source, caches): (&PlanSource, Option<&Arc<Caches>>),
    limit: Duration,
) -> Result<Box<dyn Mending>, Cause> {
    let look = Look { step, what, source, caches };
    let ready = look::look(connection, look, transform, View::Passing).await?;
    if matches!(ready.to, To::File(_)) {
        return Err(Cause::usage(format!("{what}: its files are complete, and nothing is added to them"))
            .hint("write the rows that were set aside out: howdah quarantine export"));
    }
    Ok(Box::new(Mender { ready, what: what.to_owned(), limit, runner: Mutex::default() }))
}

impl Mender {
    fn share(&self, row: &AsideRow) -> Result<Arc<Share>, BatchError> {
        self.ready.share(row.part.as_deref()).map_err(BatchError::Plan)
    }
}

#[async_trait]
impl Mending for Mender {
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        _kept: Option<&str>,
    ) -> Result<Applied, BatchError> {
        let share = self.share(row)?;
        let from = within(self.limit, share.keys.before(tx, &row.key)).await?;
        let sql = share.sql(&Range { from, through: row.key.clone() }, share.versioned);
        let read = reading::read(tx, &sql, share.key.columns.len(), usize::MAX);
        let (rows, _) = within(self.limit, read).await.map_err(|e| BatchError::Change(e, sql.clone()))?;
        if rows.len() == 0 {
            let exists = within(self.limit, reading::row(tx, &share, &row.key)).await?.is_some();
            return Ok(if exists { Applied::Untouched { matches: Some(false) } } else { Applied::Gone });
        }
        let rows = Arc::new(rows);
        let asked = Asked { rows: Arc::clone(&rows), which: (0..rows.len()).collect() };
        let answers = self.runner.lock().await.ask(&self.ready, &self.what, asked, None).await;
        let answers = answers.map_err(|e| match e {
            // What it had looked up could not be had.
            StepError::Passing(trouble, cause) if matches!(self.ready.by, By::Script(_)) => {
                BatchError::Passing(trouble, cause)
            }
            StepError::Failed(cause) | StepError::Passing(_, cause) => BatchError::Wrong(None, cause.message),
            StepError::Stopped => {
                BatchError::Plan(Cause::bug("a row was tried again by something that can be stopped"))
            }
        })?;
        if let Some(Answer::Wrong(message)) = answers.iter().find(|answer| matches!(answer, Answer::Wrong(_))) {
            return Err(BatchError::Wrong(None, message.clone()));
        }
        let which: Vec<usize> = (0..answers.len()).collect();
        let changed = match &self.ready.to {
            To::Update(of_shares) => {
                let at = self.ready.shares.iter().position(|known| known.part() == share.part());
                let Some(sql) = at.and_then(|at| of_shares.get(at)) else { return Ok(Applied::Gone) };
                sql.put(tx, (&rows, &answers, &which), self.limit).await?.1
            }
            To::Insert(sql, _) => sql.put(tx, (&answers, &which), self.limit).await?,
            To::File(_) => 0,
        };
        Ok(if changed > 0 {
            Applied::Changed(Tally { changed, ..Tally::default() })
        } else {
            Applied::Untouched { matches: Some(false) }
        })
    }

    async fn look(&self, tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Option<String>, BatchError> {
        let share = self.share(row)?;
        Ok(within(self.limit, reading::row(tx, &share, &row.key)).await?)
    }

    fn key_name(&self, row: &AsideRow) -> String {
        self.ready.key_name(row.part.as_deref())
    }
}
