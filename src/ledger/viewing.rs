//! A run as a console elsewhere reads it: the driver's newest snapshot where there is one, else what the ledger itself knows.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::{commands, open, read, wire};
use crate::run::snapshot::EVENTS;
use crate::run::{Event, History, Presence, RunId, RunState, Snapshot};

/// What a viewer has read so far.
#[derive(Debug, Default)]
pub struct Viewer {
    /// The last event that was read.
    event: i64,
    events: std::collections::VecDeque<Event>,
    history: Arc<History>,
    /// Under which epoch the course was read.
    epoch: Option<i64>,
    /// Whether a driver holds the lock, as it was asked last.
    driven: bool,
}

/// What a driver writes of itself.
struct Driver {
    state: RunState,
    is_over: bool,
    epoch: i64,
    host: String,
    pid: u32,
    beat: DateTime<Utc>,
    now: DateTime<Utc>,
    snapshot: Option<String>,
    course: Option<String>,
}

impl Viewer {
    /// Reads the run as it stands now. `look`: whether to ask who holds its lock; it is asked whenever that may have changed.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn read(
        &mut self,
        connection: &mut PgConnection,
        run: RunId,
        look: bool,
    ) -> Result<Snapshot, sqlx::Error> {
        let anew = self.epoch.is_none();
        let driver = Self::driver(connection, run, anew).await?;
        if self.epoch != Some(driver.epoch) || look {
            self.driven = open::is_driven(connection, run).await?;
        }
        self.read_events(connection, run).await?;
        let wire = driver.snapshot.as_deref().and_then(|text| {
            wire::unpack(text).map_err(|e| tracing::warn!("a snapshot of another version of howdah: {e}")).ok()
        });
        let mut snapshot = match wire {
            Some(wire) => {
                // Only at first: what this viewer has seen of drivers before is more than a new one knows.
                if let Some(course) = driver.course.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
                    self.history = Arc::new(course);
                }
                if let Some(point) = wire.point {
                    Arc::make_mut(&mut self.history).push(point);
                }
                wire.snapshot
            }
            // The driver has not written yet, or the server has crashed and lost the row.
            None => read::read(connection, run).await?.snapshot,
        };
        self.epoch = Some(driver.epoch);
        snapshot.host = driver.host;
        snapshot.events = self.events.clone();
        snapshot.history = Arc::clone(&self.history);
        if driver.is_over {
            // The ledger's word is the last one.
            snapshot.state = driver.state;
        }
        let beat = (driver.now - driver.beat).to_std().unwrap_or_default();
        snapshot.presence = match (driver.is_over, self.driven) {
            (true, _) => Presence::Elsewhere { pid: driver.pid, beat: Duration::ZERO },
            (false, true) => Presence::Elsewhere { pid: driver.pid, beat },
            (false, false) => Presence::Gone { pid: driver.pid, since: driver.beat },
        };
        if matches!(snapshot.presence, Presence::Gone { .. }) {
            snapshot.stand_still();
        }
        Ok(snapshot)
    }

    /// Tells the driver that somebody watches: from then on it writes every second, for a while.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn greet(connection: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_notify($1, '')").bind(commands::channel(run)).execute(connection).await.map(drop)
    }

    async fn driver(connection: &mut PgConnection, run: RunId, anew: bool) -> Result<Driver, sqlx::Error> {
        let row = sqlx::query(
            "SELECT r.state, r.detail, r.epoch, r.driver_host, r.driver_pid, r.heartbeat, clock_timestamp() AS now, s.snapshot, \
                    CASE WHEN $2 THEN s.course END AS course \
             FROM howdah.run r LEFT JOIN howdah.snapshot s ON s.run = r.id AND s.epoch = r.epoch WHERE r.id = $1",
        )
        .bind(run.0)
        .bind(anew)
        .fetch_one(connection)
        .await?;
        let detail: serde_json::Value = row.try_get("detail")?;
        let word: String = row.try_get("state")?;
        let state: RunState = serde_json::from_value(detail).unwrap_or(RunState::Starting);
        let pid: i32 = row.try_get("driver_pid")?;
        Ok(Driver {
            is_over: state.is_over() || word == "superseded",
            state,
            epoch: row.try_get("epoch")?,
            host: row.try_get("driver_host")?,
            pid: pid.cast_unsigned(),
            beat: row.try_get("heartbeat")?,
            now: row.try_get("now")?,
            snapshot: row.try_get("snapshot")?,
            course: row.try_get("course")?,
        })
    }

    async fn read_events(&mut self, connection: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
        let (newest, events) = read::events_after(connection, run, self.event).await?;
        self.event = newest;
        self.events.extend(events);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        Ok(())
    }
}
