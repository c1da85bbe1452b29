//! A row of a copy that was set aside, copied again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgTransaction};

use super::look::{Look, Sides};
use super::origin;
use super::pair::{Ready, Share};
use super::pipe::{Side, pipe};
use crate::plan::model::Plan;
use crate::plan::movers::Copy;
use crate::postgres::connect;
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::record::AsideRow;
use crate::postgres::session::{Session, application_name};
use crate::run::{Cause, KeyText, Tally};
use crate::steps::batch::BatchError;
use crate::steps::mending::{Applied, Mending};

/// Rows of a copy.
pub(in crate::steps) struct ByCopy {
    ready: Ready,
    from: Option<Target>,
    piped: bool,
    connect: Duration,
    settings: Session,
    limit: Duration,
}

impl ByCopy {
    /// Looks at the tables on both sides.
    ///
    /// # Errors
    /// They cannot be copied any more.
    pub(in crate::steps) async fn prepare(
        connection: &mut PgConnection,
        plan: &Plan,
        (step, what): (&str, &str),
        copy: &Copy,
        limit: Duration,
    ) -> Result<Self, Cause> {
        let from = match (origin::target(copy)?, copy.database.is_some(), &plan.database.url) {
            (from @ Some(_), ..) | (from @ None, false, _) => from,
            // Its rows went elsewhere, and so did what is set aside: this connection leads there, and the run's own
            // database is read.
            (None, true, Some(url)) => {
                Some(Target::of_step("`database.url` of the plan", url, &|name| std::env::var(name).ok())?)
            }
            (None, true, None) => {
                return Err(Cause::usage(format!("{what}: its rows come from the database that the run was begun on"))
                    .hint(
                        "write that one as `database.url` in the plan, and give this command the plan: --plan FILE",
                    ));
            }
        };
        let settings = Session {
            application_name: application_name("quarantine", step),
            lock_timeout: plan.limits.lock_timeout,
            statement_timeout: plan.limits.statement_timeout,
            idle_in_transaction_timeout: plan.limits.idle_in_transaction_timeout,
        };
        let connect = plan.database.pool_connect;
        let mut there = match &from {
            Some(target) => Some(connect::one(target, connect, &settings).await?),
            None => None,
        };
        // One row is read now: a copy of one moment is of that moment no more.
        let now = Copy { consistent: false, ..copy.clone() };
        let label = from.as_ref().map_or_else(|| "this database".to_owned(), Target::label);
        let look = Look { step, what, origin: &label, copy: &now, plan: &plan.source };
        let sides = &mut Sides { target: connection, source: there.as_mut() };
        let ready = look.ready(sides).await.map_err(super::check::final_cause)?;
        if let Some(there) = there {
            drop(there.close().await);
        }
        Ok(Self { ready, piped: from.is_some(), from, connect, settings, limit })
    }

    fn share(&self, row: &AsideRow) -> Result<Arc<Share>, BatchError> {
        self.ready.share(row.part.as_deref()).map_err(BatchError::Plan)
    }

    /// A connection to the source, in one snapshot.
    async fn there(&self) -> Result<Option<PgConnection>, BatchError> {
        let Some(target) = &self.from else { return Ok(None) };
        let mut there = connect::one(target, self.connect, &self.settings).await.map_err(BatchError::Plan)?;
        let begun = sqlx::Executor::execute(&mut there, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        within(self.limit, begun).await?;
        Ok(Some(there))
    }

    async fn row(&self, on: &mut PgConnection, share: &Share, key: &KeyText) -> Result<Looked, BatchError> {
        let before = within(self.limit, share.keys.before(on, key)).await?;
        let sql = share.row(before.as_ref(), key);
        let row = sqlx::query_scalar(AssertSqlSafe(sql)).bind(before.as_ref()).bind(key).persistent(false);
        let row = within(self.limit, row.fetch_optional(on)).await?;
        Ok(Looked { before, row })
    }
}

/// A row of the source as it is now.
struct Looked {
    /// The key just before it.
    before: Option<KeyText>,
    /// The row, as JSON. `None`: it is gone.
    row: Option<String>,
}

#[async_trait]
impl Mending for ByCopy {
    /// As of a backfill: from the key just before through the row's own there is this row alone, in one snapshot.
    async fn apply(
        &self,
        tx: &mut PgTransaction<'_>,
        row: &AsideRow,
        _kept: Option<&str>,
    ) -> Result<Applied, BatchError> {
        let (share, key, limit) = (self.share(row)?, &row.key, self.limit);
        let mut there = self.there().await?;
        let looked = self.row(there.as_mut().unwrap_or(&mut **tx), &share, key).await?;
        if looked.row.is_none() {
            return Ok(Applied::Gone);
        }
        let before = looked.before.as_ref();
        let changed = match there.as_mut().filter(|_| self.piped) {
            None => {
                let sql = share.insert(before, key);
                let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind(before).bind(key).persistent(false);
                let done = within(limit, query.execute(&mut **tx)).await;
                done.map_err(|e| BatchError::Change(e, sql))?.rows_affected()
            }
            Some(source) => {
                let (out, into) = (share.copy_out(before, key), share.pair.copy_in());
                let piped = pipe((source, out.as_str()), (&mut **tx, &into), limit).await;
                piped.map_err(|torn| match torn.side {
                    Side::Source => BatchError::Change(torn.error, out),
                    Side::Target => BatchError::Sql(torn.error),
                })?
            }
        };
        if changed > 0 {
            return Ok(Applied::Changed(Tally { changed, ..Tally::default() }));
        }
        let sql = share.matching(before, key);
        let on = there.as_mut().unwrap_or(&mut **tx);
        let query = sqlx::query_scalar(AssertSqlSafe(sql.as_str())).bind(before).bind(key).persistent(false);
        let matching: i64 = within(limit, query.fetch_one(on)).await?;
        Ok(Applied::Untouched { matches: Some(matching > 0) })
    }

    async fn look(&self, tx: &mut PgTransaction<'_>, row: &AsideRow) -> Result<Option<String>, BatchError> {
        let share = self.share(row)?;
        let mut there = self.there().await?;
        Ok(self.row(there.as_mut().unwrap_or(&mut **tx), &share, &row.key).await?.row)
    }

    fn key_name(&self, row: &AsideRow) -> String {
        self.share(row).map_or_else(|_| "key".to_owned(), |share| share.key_name())
    }
}
