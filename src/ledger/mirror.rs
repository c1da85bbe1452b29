//! A run's record in another database than its own: for steps whose rows go there.
//!
//! The run itself is driven, shown and resumed where it was begun; there it is written down as done, so that nobody takes it
//! for one to be resumed, and its rows that are set aside can be tried again.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::migrate;
use crate::postgres::error;
use crate::postgres::record::{Mirror, RecordError};
use crate::run::{Cause, RunId};

/// Mirrors one run, under one driver's epoch.
#[derive(Debug, Clone, Copy)]
pub struct PostgresMirror {
    /// The run.
    pub run: RunId,
    /// The epoch under which this driver took it.
    pub epoch: i64,
}

#[async_trait]
impl Mirror for PostgresMirror {
    async fn align(&self, here: &mut PgConnection, there: &mut PgConnection) -> Result<(), Cause> {
        migrate::migrate(there).await?;
        match self.write(here, there).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RecordError::Fenced.cause("keeping the record where rows go")),
            Err(e) => Err(error::cause("keeping the record where rows go", &e)),
        }
    }
}

/// Of a run whose ledger does not lie in its database: its rows go nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct NoMirror;

#[async_trait]
impl Mirror for NoMirror {
    async fn align(&self, _here: &mut PgConnection, _there: &mut PgConnection) -> Result<(), Cause> {
        Err(Cause::usage("rows that go to another database need a ledger in the run's own")
            .hint("remove `ledger.store` from the plan, or run the plan on the database that the rows go to"))
    }
}

impl PostgresMirror {
    /// `false`: another driver has been there.
    async fn write(&self, here: &mut PgConnection, there: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let run = sqlx::query(
            "SELECT plan_name, plan_path, plan_source, fingerprint, detail::text AS detail, created_at::text AS created_at, \
                    driver_host, driver_pid, driver_version FROM howdah.run WHERE id = $1 AND epoch = $2",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .fetch_optional(&mut *here)
        .await?;
        let Some(run) = run else { return Ok(false) };
        let steps = sqlx::query("SELECT step, name, kind, fingerprint FROM howdah.step WHERE run = $1 ORDER BY step")
            .bind(self.run.0)
            .fetch_all(here)
            .await?;
        let mut tx = there.begin().await?;
        let taken = sqlx::query(
            "INSERT INTO howdah.run AS r (id, plan_name, plan_path, plan_source, fingerprint, state, detail, epoch, created_at, \
                    driver_host, driver_pid, driver_version) \
             VALUES ($1, $2, $3, $4, $5, 'done', $6::text::jsonb, $7, $8::text::timestamptz, $9, $10, $11) \
             ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, driver_host = excluded.driver_host, \
                    driver_pid = excluded.driver_pid, driver_version = excluded.driver_version, heartbeat = now() \
             WHERE r.epoch <= excluded.epoch",
        )
        .bind(self.run.0)
        .bind(run.try_get::<String, _>("plan_name")?)
        .bind(run.try_get::<Option<String>, _>("plan_path")?)
        .bind(run.try_get::<String, _>("plan_source")?)
        .bind(run.try_get::<String, _>("fingerprint")?)
        .bind(run.try_get::<String, _>("detail")?)
        .bind(self.epoch)
        .bind(run.try_get::<String, _>("created_at")?)
        .bind(run.try_get::<String, _>("driver_host")?)
        .bind(run.try_get::<i32, _>("driver_pid")?)
        .bind(run.try_get::<String, _>("driver_version")?)
        .execute(&mut *tx)
        .await?;
        if taken.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        for step in &steps {
            sqlx::query(
                "INSERT INTO howdah.step (run, step, name, kind, fingerprint, epoch) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (run, step) DO UPDATE SET epoch = excluded.epoch",
            )
            .bind(self.run.0)
            .bind(step.try_get::<i32, _>("step")?)
            .bind(step.try_get::<String, _>("name")?)
            .bind(step.try_get::<String, _>("kind")?)
            .bind(step.try_get::<String, _>("fingerprint")?)
            .bind(self.epoch)
            .execute(&mut *tx)
            .await?;
        }
        // Waits for a batch of the former driver that is on its way to commit; one that comes later finds its epoch gone.
        sqlx::query("UPDATE howdah.segment SET epoch = $2 WHERE run = $1 AND NOT done")
            .bind(self.run.0)
            .bind(self.epoch)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}
