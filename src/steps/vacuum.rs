//! `vacuum = "run"`: clears the dead rows of the step's table while its batches wait for that.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::gauges::DEAD_TRIGGERS;
use crate::engine::ports::Reporter;
use crate::postgres::connect::Connector;
use crate::postgres::deadline::within;
use crate::postgres::signals;
use crate::run::{Level, human};

/// How often the dead rows are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);

/// A table to be kept clear of dead rows.
pub struct Tidy {
    /// Opens the connection that VACUUM runs on, without a time limit.
    pub connector: Arc<Connector>,
    /// What its session is called.
    pub name: String,
    /// The table's object id.
    pub table: i64,
    /// The table, quoted.
    pub quoted: String,
    /// Where it is told.
    pub reporter: Arc<dyn Reporter>,
}

impl Tidy {
    /// Watches the table until it is dropped, and runs VACUUM when it has too many dead rows.
    pub async fn keep(self) {
        let mut line: Option<PgConnection> = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let mut connection = match line.take() {
                Some(connection) => connection,
                None => match self.connector.open(&self.name).await {
                    Ok(connection) => connection,
                    Err(refused) => {
                        tracing::debug!("no connection to run VACUUM on: {}", refused.cause.headline());
                        continue;
                    }
                },
            };
            match self.look(&mut connection).await {
                Ok(()) => line = Some(connection),
                Err(why) => self.reporter.notice(Level::Warning, format!("VACUUM {} failed: {why}", self.quoted)),
            }
        }
    }

    async fn look(&self, connection: &mut PgConnection) -> Result<(), String> {
        let looked = tokio::time::timeout(LOOK, signals::dead_rows(connection, self.table)).await;
        let dead = looked.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
        let Some(dead) = dead else { return Ok(()) };
        if dead.dead <= dead.trigger * DEAD_TRIGGERS || dead.is_vacuumed_now {
            return Ok(());
        }
        let began = std::time::Instant::now();
        let run = async {
            connection.ping().await?;
            // As long as it takes: it holds nobody up, and batches wait for it.
            let sql = "SET statement_timeout = 0".to_owned();
            sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *connection).await?;
            sqlx::query(AssertSqlSafe(format!("VACUUM {}", self.quoted)))
                .persistent(false)
                .execute(&mut *connection)
                .await
        };
        run.await.map_err(|e| e.to_string())?;
        // The statistics tell of it a moment later; until then it would be run again.
        let settle = sqlx::query("SELECT pg_sleep(1)").persistent(false).execute(connection);
        within(LOOK, settle).await.map_err(|e| e.to_string())?;
        let took = human::duration(began.elapsed());
        self.reporter.notice(Level::Info, format!("VACUUM {} took {took}", self.quoted));
        Ok(())
    }
}
