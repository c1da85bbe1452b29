//! `analyze`: statistics that the server's planner needs, gathered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::check;
use crate::engine::ports::{Once, StepContext, StepError};
use crate::plan::indexing::{Analyze, TableAndList};
use crate::postgres::catalog;
use crate::postgres::deadline::on_pool;
use crate::postgres::error;
use crate::postgres::sql::SqlText;
use crate::steps::interruptible::{self, OwnConnection, Watch};
use crate::steps::{Workbench, trouble};

/// An `analyze` step. Run twice it is done twice, and nothing else.
pub struct AnalyzeStep {
    bench: Workbench,
    analyze: Analyze,
    begun: AtomicBool,
}

impl AnalyzeStep {
    /// A step that is ready to run.
    #[must_use]
    pub fn new(bench: Workbench, analyze: Analyze) -> Self {
        Self { bench, analyze, begun: AtomicBool::new(false) }
    }

    async fn one(&self, context: &StepContext, on: &TableAndList) -> Result<(), StepError> {
        let what = self.bench.what();
        let found = on_pool(&self.bench.pool, self.bench.deadline(), async |connection| {
            catalog::relation(connection, on.table()).await
        });
        let found = found.await.map_err(|e| trouble::step_error(&e, error::cause(&what, &e)))?;
        let table = check::analyzed(&what, on, found, &self.bench.source)?;
        let mut sql = SqlText::default().ours(&format!("ANALYZE {}", table.quoted()));
        if let Some(list) = &on.list {
            sql = sql.ours(" (").plans_part("analyze", &on.written, list.clone()).ours(")");
        }
        let limit = self.analyze.timeout.unwrap_or(Duration::ZERO);
        let mut own = OwnConnection::take(&self.bench, limit, self.bench.limits.lock_timeout).await?;
        let pid = own.pid;
        let work = sqlx::query(AssertSqlSafe(sql.as_str().to_owned())).persistent(false).execute(own.get());
        let shown = format!("analyze {}", table.name);
        let done = interruptible::wait(&self.bench.pool, pid, context, &shown, Watch::Analyze, work).await;
        let done =
            done.map(drop).map_err(|e| e.into_step_error(|e| error::cause_in_plan(&what, e, &sql, &self.bench.source)));
        own.close().await;
        done
    }
}

#[async_trait]
impl Once for AnalyzeStep {
    async fn execute(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        if self.begun.swap(true, Ordering::Relaxed)
            && let Some(outcome) = self.bench.done_unnoticed().await?
        {
            return Ok(outcome);
        }
        for table in &self.analyze.tables {
            self.one(context, table).await?;
        }
        let outcome = match self.analyze.tables.len() {
            1 => None,
            n => Some(format!("{n} tables")),
        };
        self.bench.step_done(outcome.as_deref()).await?;
        Ok(outcome)
    }

    async fn clean_up(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
