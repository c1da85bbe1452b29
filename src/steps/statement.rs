//! `statement`: one SQL statement, with its `down`.
//!
//! Where PostgreSQL allows it, the statement and its record commit together. Where it does not (`CONCURRENTLY`, `VACUUM`),
//! the statement may run again after a crash; a half-built index is recognised, dropped and built again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection};

use super::index::leftovers;
use super::interruptible::{self, Interrupted, OwnConnection, Watch};
use super::{Workbench, trouble};
use crate::engine::failpoint;
use crate::engine::ports::{Once, StepContext, StepError};
use crate::plan::model::{Sql, Statement};
use crate::postgres::record::RecordError;
use crate::postgres::sql::SqlText;
use crate::postgres::tokens::{self, ConcurrentIndex, Token};
use crate::postgres::{error, session, sqlstate};
use crate::run::{Cause, Level, human};

/// A `statement` step.
pub struct StatementStep {
    bench: Workbench,
    statement: Statement,
    /// Whether it takes something back: what is not there any more is then taken back already.
    takes_back: bool,
    /// Whether this driver has begun it: its commit may have come about although the answer was lost.
    begun: AtomicBool,
}

/// What a statement's end leaves to write down.
enum Ended {
    /// It has run, and its record was committed with it.
    Recorded(u64),
    /// It has run outside a transaction.
    Unrecorded(u64),
}

impl StatementStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, statement: Statement) -> Self {
        Self { bench, statement, takes_back: false, begun: AtomicBool::new(false) }
    }

    /// A step that takes back what a statement of another run has done.
    #[must_use]
    pub fn taking_back(bench: Workbench, statement: Statement) -> Self {
        Self { takes_back: true, ..Self::new(bench, statement) }
    }

    fn explain(&self, label: &str, sql: &Sql, failure: &sqlx::Error) -> Cause {
        let text = SqlText::default().plans(label, sql);
        let mut cause = error::cause_in_plan(&self.bench.what(), failure, &text, &self.bench.source);
        if error::database(failure).is_some_and(|db| db.message().contains("multiple commands")) {
            cause = cause.hint("a step holds one statement: write a step for each");
        }
        cause
    }

    /// Runs one of the step's statements, in a transaction with its record where PostgreSQL allows it.
    async fn run(&self, context: &StepContext, label: &str, sql: &Sql, purpose: Purpose) -> Result<Ended, StepError> {
        let outside = tokens::refuses_transaction(&sql.text);
        let limit = self.statement.timeout.unwrap_or(Duration::ZERO);
        // A concurrent build waits for old transactions under `lock_timeout` too, but holds nobody up while it does.
        let lock = if outside { Duration::ZERO } else { self.bench.limits.lock_timeout };
        let mut own = OwnConnection::take(&self.bench, limit, lock).await?;
        let ended = if outside {
            self.outside(context, label, sql, &mut own).await
        } else {
            match self.inside(context, label, sql, purpose, &mut own).await {
                // Not recognised by its words: the server says that it wants no transaction, and nothing has happened.
                Err(Interrupted::Failed(e)) if error::code(&e) == Some(sqlstate::ACTIVE_SQL_TRANSACTION) => {
                    self.outside(context, label, sql, &mut own).await
                }
                other => other.map_err(|e| e.into_step_error(|e| self.explain(label, sql, e))),
            }
        };
        own.close().await;
        ended
    }

    async fn inside(
        &self,
        context: &StepContext,
        label: &str,
        sql: &Sql,
        purpose: Purpose,
        own: &mut OwnConnection,
    ) -> Result<Ended, Interrupted> {
        let pid = own.pid;
        let mut tx = own.get().begin_with(session::DURABLE).await.map_err(Interrupted::Failed)?;
        let work = sqlx::query(AssertSqlSafe(sql.text.clone())).persistent(false).execute(&mut *tx);
        let waited = interruptible::wait(&self.bench.pool, pid, context, label, watch(sql), work).await;
        let done = match waited {
            Ok(done) => done,
            Err(interrupted) => {
                // Over a network that has lost it, nothing is answered: the connection is dropped, and the transaction with it.
                drop(tokio::time::timeout(Duration::from_secs(2), tx.rollback()).await);
                return Err(interrupted);
            }
        };
        failpoint::hit("statement.executed");
        let outcome = rows(done.rows_affected());
        let recorded = match purpose {
            Purpose::Step => self.bench.recorder.step_done(&mut tx, self.bench.index, outcome.as_deref()).await,
            Purpose::CleanUp => self.bench.recorder.step_cleaned(&mut tx, self.bench.index).await,
        };
        match recorded {
            Ok(()) => tx.commit().await.map_err(Interrupted::Failed)?,
            Err(RecordError::Sql(e)) => return Err(Interrupted::Failed(e)),
            // Done before, unnoticed: what was done here once more is rolled back.
            Err(RecordError::Already) => {
                drop(tokio::time::timeout(Duration::from_secs(2), tx.rollback()).await);
                return Ok(Ended::Recorded(done.rows_affected()));
            }
            Err(fenced @ RecordError::Fenced) => {
                return Err(Interrupted::Failed(sqlx::Error::Protocol(fenced.to_string())));
            }
            Err(store @ RecordError::Store(..)) => {
                drop(tokio::time::timeout(Duration::from_secs(2), tx.rollback()).await);
                return Err(Interrupted::Unrecorded(trouble::of_record(&store, &self.bench.what())));
            }
        }
        self.told(context).await.map_err(Interrupted::Unrecorded)?;
        Ok(Ended::Recorded(done.rows_affected()))
    }

    /// Tells the ledger that the statement has committed. One that lies elsewhere and is away is waited for: the statement
    /// would run twice if it were tried again.
    async fn told(&self, context: &StepContext) -> Result<(), StepError> {
        loop {
            let error = match self.bench.recorder.committed(self.bench.index, None).await {
                Ok(()) => return Ok(()),
                Err(e) => trouble::of_record(&e, &self.bench.what()),
            };
            let StepError::Passing(_, cause) = error else { return Err(error) };
            context.reporter.doing(&format!("done, and not written down yet: {}", cause.headline()), None);
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return Err(StepError::Stopped),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }

    async fn outside(
        &self,
        context: &StepContext,
        label: &str,
        sql: &Sql,
        own: &mut OwnConnection,
    ) -> Result<Ended, StepError> {
        let pid = own.pid;
        let work = sqlx::query(AssertSqlSafe(sql.text.clone())).persistent(false).execute(own.get());
        let what = match watch(sql) {
            Watch::Index | Watch::Indexes => "building index",
            Watch::Analyze | Watch::Nothing => label,
        };
        let done = interruptible::wait(&self.bench.pool, pid, context, what, watch(sql), work)
            .await
            .map_err(|e| e.into_step_error(|e| self.explain(label, sql, e)))?;
        failpoint::hit("statement.executed");
        Ok(Ended::Unrecorded(done.rows_affected()))
    }

    /// Looks at the index that the statement builds. `Some` says that there is nothing left to do.
    async fn look_at_index(
        &self,
        context: &StepContext,
        wanted: &ConcurrentIndex,
    ) -> Result<Option<String>, StepError> {
        // A crash may have come between the build and its record. Built by somebody else, it is the statement's own affair: IF
        // NOT EXISTS passes, anything else fails, and says why.
        let is_there = leftovers::settled(&self.bench, context, wanted).await?;
        let may_be_ours = self.bench.begun_before || self.begun.load(Ordering::Relaxed);
        Ok((is_there && may_be_ours).then(|| "index is there".to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Step,
    CleanUp,
}

fn watch(sql: &Sql) -> Watch {
    let tokens = tokens::tokens(&sql.text);
    let has = |word: &str| tokens.contains(&Token::Word(word.to_owned()));
    match tokens.first() {
        Some(Token::Word(first)) if first == "create" && has("index") => Watch::Index,
        Some(Token::Word(first)) if first == "reindex" => Watch::Indexes,
        Some(Token::Word(first)) if first == "analyze" || first == "analyse" => Watch::Analyze,
        _ => Watch::Nothing,
    }
}

fn rows(affected: u64) -> Option<String> {
    (affected > 0).then(|| format!("{} rows", human::count(affected)))
}

#[async_trait]
impl Once for StatementStep {
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        failpoint::hit("statement.before");
        let sql = &self.statement.sql;
        if self.begun.load(Ordering::Relaxed)
            && let Some(outcome) = self.bench.done_unnoticed().await?
        {
            return Ok(outcome);
        }
        if let Some(wanted) = tokens::concurrent_index(&sql.text)
            && let Some(outcome) = self.look_at_index(context, &wanted).await?
        {
            self.bench.step_done(Some(&outcome)).await?;
            return Ok(Some(outcome));
        }
        let again = self.begun.swap(true, Ordering::Relaxed) || self.bench.begun_before;
        match self.run(context, "statement", sql, Purpose::Step).await {
            // Gone already: a crash came between the statement and its record.
            Err(StepError::Failed(cause))
                if self.takes_back
                    && again
                    && tokens::refuses_transaction(&sql.text)
                    && cause.sqlstate.as_deref().is_some_and(sqlstate::is_undefined) =>
            {
                let outcome = Some("taken back already".to_owned());
                self.bench.step_done(outcome.as_deref()).await?;
                Ok(outcome)
            }
            Err(other) => Err(other),
            Ok(Ended::Recorded(affected)) => {
                failpoint::hit("statement.recorded");
                Ok(rows(affected))
            }
            Ok(Ended::Unrecorded(affected)) => {
                let outcome = rows(affected);
                self.bench.step_done(outcome.as_deref()).await?;
                failpoint::hit("statement.recorded");
                Ok(outcome)
            }
        }
    }

    async fn clean_up(&self, context: &StepContext) -> Result<(), StepError> {
        let Some(down) = &self.statement.down else { return Ok(()) };
        match self.run(context, "down", down, Purpose::CleanUp).await {
            Ok(Ended::Recorded(_)) => Ok(()),
            Ok(Ended::Unrecorded(_)) => {
                failpoint::hit("cleanup.executed");
                self.bench.step_cleaned().await
            }
            // Gone already: a crash came between the clean-up and its record. Where both commit together that cannot be.
            Err(StepError::Failed(cause))
                if self.bench.resumed
                    && tokens::refuses_transaction(&down.text)
                    && cause.sqlstate.as_deref().is_some_and(sqlstate::is_undefined) =>
            {
                context.reporter.notice(Level::Info, format!("nothing to clean up: {}", cause.message));
                self.bench.step_cleaned().await
            }
            Err(other) => Err(other),
        }
    }
}
