//! The database as the monitor asks it.

use async_trait::async_trait;
use sqlx::PgPool;

use crate::engine::clock::{Clock, SystemClock};
use crate::monitor::{DatabaseSample, DatabaseSource, Now, TableSample};
use crate::postgres::{error, stats};
use crate::run::ByteSize;

/// Tables shown at most.
const TABLES: i64 = 50;
/// The size of the database is asked for once in so many samples: it reads the whole directory.
const SIZE_EVERY: u32 = 10;

/// Asks through the run's own pool.
pub struct PoolSource {
    pool: PgPool,
    plan: Vec<i64>,
    size: std::sync::Mutex<(u32, ByteSize)>,
}

impl PoolSource {
    /// A source that shows the tables with these object ids first.
    #[must_use]
    pub fn new(pool: PgPool, plan: Vec<i64>) -> Self {
        Self { pool, plan, size: std::sync::Mutex::new((0, ByteSize(0))) }
    }

    fn known_size(&self) -> (u32, ByteSize) {
        *self.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<DatabaseSample, sqlx::Error> {
        // Before the probe takes one itself.
        let (all, idle) = (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX));
        let mut connection = self.pool.acquire().await?;
        let (count, mut size) = self.known_size();
        if count.is_multiple_of(SIZE_EVERY) {
            match stats::database_size(&mut connection).await {
                Ok(bytes) => size = ByteSize(bytes),
                Err(e) if error::is_lost(&e) => return Err(e),
                // It reads every file of the database, and may run into the plan's time limit.
                Err(e) => tracing::warn!("the size of the database is not known: {e}"),
            }
        }
        *self.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (count.wrapping_add(1), size);
        let rows = stats::tables(&mut connection, &self.plan, TABLES).await?;
        let tables = rows
            .into_iter()
            .map(|row| TableSample {
                in_plan: self.plan.contains(&row.oid),
                name: row.name,
                live: row.live,
                dead: row.dead,
                inserted: row.inserted,
                updated: row.updated,
                hot: row.hot,
                deleted: row.deleted,
                last_vacuum: row.last_vacuum,
                last_vacuum_was_auto: row.last_vacuum_was_auto,
            })
            .collect();
        Ok(DatabaseSample { size, pool_in_use: all.saturating_sub(idle), pool_idle: idle, tables })
    }
}

#[async_trait]
impl DatabaseSource for PoolSource {
    async fn sample(&self) -> Result<DatabaseSample, String> {
        self.ask().await.map_err(|e| error::cause("statistics", &e).message)
    }
}

impl Now for SystemClock {
    fn utc(&self) -> chrono::DateTime<chrono::Utc> {
        Clock::utc(self)
    }

    fn elapsed(&self) -> std::time::Duration {
        Clock::elapsed(self)
    }
}
