//! The database as the monitor asks it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool};

use crate::engine::clock::{Clock, SystemClock};
use crate::monitor::{DatabaseSample, DatabaseSource, Now, TableSample};
use crate::postgres::{error, stats};
use crate::run::ByteSize;
use crate::run::vitals::VacuumView;

/// Tables shown at most.
const TABLES: i64 = 50;
/// Tables beside the plan's whose size is measured.
const MEASURED: usize = 10;
/// What reads the counters of every table, or looks files up, is asked for once in so many samples ...
const SELDOM: u32 = 10;
/// ... and the size of the database, which looks all of them up, once in so many.
const HARDLY: u32 = 30;

/// Asks through the run's own pool.
pub struct PoolSource {
    pool: PgPool,
    plan: Vec<i64>,
    known: Mutex<Known>,
}

/// What is asked for more seldom than the rest.
#[derive(Debug, Clone, Default)]
struct Known {
    samples: u32,
    size: ByteSize,
    /// The tables that are looked at.
    chosen: Vec<i64>,
    /// How many there are.
    all: i64,
    /// Tables with their TOAST, and their indexes.
    sizes: HashMap<i64, (ByteSize, ByteSize)>,
}

impl PoolSource {
    /// A source that shows the tables with these object ids first.
    #[must_use]
    pub fn new(pool: PgPool, plan: Vec<i64>) -> Self {
        Self { pool, plan, known: Mutex::default() }
    }

    async fn ask(&self) -> Result<DatabaseSample, sqlx::Error> {
        // Before the probe takes one itself.
        let (all, idle) = (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX));
        let mut connection = self.pool.acquire().await?;
        // One sample is taken at a time: nobody else changes it meanwhile.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.samples.is_multiple_of(SELDOM) {
            self.ask_seldom(&mut connection, &mut known).await?;
        }
        known.samples = known.samples.wrapping_add(1);
        let rows = stats::tables(&mut connection, &known.chosen).await?;
        let tables = rows.into_iter().map(|row| self.table(row, &known)).collect();
        let size = known.size;
        let more = known.all - i64::try_from(known.chosen.len()).unwrap_or(i64::MAX);
        let more_tables = u32::try_from(more.max(0)).unwrap_or(u32::MAX);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(DatabaseSample { size, pool_in_use: all.saturating_sub(idle), pool_idle: idle, tables, more_tables })
    }

    async fn ask_seldom(&self, connection: &mut PgConnection, known: &mut Known) -> Result<(), sqlx::Error> {
        (known.chosen, known.all) = stats::busiest(connection, &self.plan, TABLES).await?;
        let measured = known.chosen.iter().filter(|oid| self.plan.contains(oid)).count() + MEASURED;
        let measured = &known.chosen[..measured.min(known.chosen.len())];
        match stats::sizes(connection, measured).await {
            // Of a table that somebody holds, the size before is as good as any.
            Ok(sizes) => {
                known.sizes.extend(sizes.iter().map(|size| (size.oid, (bytes(size.heap), bytes(size.indexes)))));
            }
            Err(e) if error::is_lost(&e) => return Err(e),
            Err(e) => tracing::debug!("the sizes of tables are not known: {e}"),
        }
        known.sizes.retain(|oid, _| known.chosen.contains(oid));
        if !known.samples.is_multiple_of(HARDLY) {
            return Ok(());
        }
        match stats::database_size(connection).await {
            Ok(size) => known.size = ByteSize(size),
            Err(e) if error::is_lost(&e) => return Err(e),
            // It reads every file of the database, and may run into the plan's time limit.
            Err(e) => tracing::warn!("the size of the database is not known: {e}"),
        }
        Ok(())
    }

    fn table(&self, row: stats::TableRow, known: &Known) -> TableSample {
        TableSample {
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
            sizes: known.sizes.get(&row.oid).copied(),
            vacuum: row.vacuum.map(|(phase, fraction)| VacuumView { phase, fraction }),
        }
    }
}

fn bytes(n: i64) -> ByteSize {
    ByteSize(n.max(0).cast_unsigned())
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
