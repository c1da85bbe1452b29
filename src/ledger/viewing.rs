//! A run as a console elsewhere reads it: the driver's newest snapshot where there is one, else what the ledger itself knows.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::{commands, read, runs, wire};
use crate::run::snapshot::EVENTS;
use crate::run::{Event, History, Presence, RunId, RunState, Snapshot};

/// A driver that has told nothing for so long is not believed to be at work: it writes every five seconds at least.
const SILENT: TimeDelta = TimeDelta::seconds(15);

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
    /// When it has written its newest snapshot.
    told: Option<DateTime<Utc>>,
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
        let mut driver = Self::driver(connection, run, anew).await?;
        if self.epoch != Some(driver.epoch) || look {
            self.driven = runs::is_driven(connection, run).await?;
            if !self.driven && !driver.state.is_over() {
                // It may have ended between the two looks: a driver that came to its end is not gone.
                driver = Self::driver(connection, run, anew).await?;
            }
        }
        self.read_events(connection, run).await?;
        let wire = driver.snapshot.as_deref().and_then(|text| {
            wire::unpack(text).map_err(|e| tracing::warn!("a snapshot of another version of howdah: {e}")).ok()
        });
        let has_row = wire.is_some();
        // What the ledger itself knows: where the driver has not written yet, where the server has crashed and lost the
        // row, and of a run that nobody drives: a retry of its quarantine changes it behind the driver's last word.
        let record = if has_row && self.driven { None } else { Some(read::read(connection, run).await?) };
        let mut snapshot = match (wire, &record) {
            (Some(wire), _) => {
                // Only at first: what this viewer has seen of drivers before is more than a new one knows.
                if let Some(course) = driver.course.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
                    self.history = Arc::new(course);
                }
                if let Some(point) = wire.point {
                    Arc::make_mut(&mut self.history).push(point);
                }
                wire.snapshot
            }
            (None, Some(record)) => record.snapshot.clone(),
            (None, None) => return Err(sqlx::Error::RowNotFound),
        };
        if let Some(record) = record {
            snapshot.steps = record.snapshot.steps;
            snapshot.spent = record.snapshot.spent;
        }
        self.epoch = Some(driver.epoch);
        snapshot.run = run.short();
        snapshot.host = driver.host;
        snapshot.events = self.events.clone();
        snapshot.history = Arc::clone(&self.history);
        // The ledger's word is the last one, but for a driver that has just taken the run over, and waits.
        let begins = self.driven && has_row && !snapshot.state.is_over();
        let is_over = driver.state.is_over() && !begins;
        if is_over {
            snapshot.state = driver.state;
        }
        let beat = (driver.now - driver.beat).to_std().unwrap_or_default();
        let silent = driver.told.filter(|told| driver.now - *told > SILENT);
        snapshot.presence = match (is_over, self.driven, silent) {
            (true, ..) => Presence::Elsewhere { pid: driver.pid, beat: Duration::ZERO },
            (false, false, _) => Presence::Gone { pid: driver.pid, since: driver.beat },
            (false, true, Some(since)) => Presence::Unreachable {
                why: format!("process {} on {} holds the run, and says nothing", driver.pid, snapshot.host),
                since,
            },
            (false, true, None) => Presence::Elsewhere { pid: driver.pid, beat },
        };
        if matches!(snapshot.presence, Presence::Gone { .. } | Presence::Unreachable { .. }) {
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
            "SELECT r.state, r.detail, r.epoch, r.driver_host, r.driver_pid, r.heartbeat, clock_timestamp() AS now, s.snapshot, s.at AS told, r.finished_at, \
                    CASE WHEN $2 THEN s.course END AS course \
             FROM howdah.run r LEFT JOIN howdah.snapshot s ON s.run = r.id AND s.epoch = r.epoch WHERE r.id = $1",
        )
        .bind(run.0)
        .bind(anew)
        .fetch_one(connection)
        .await?;
        let pid: i32 = row.try_get("driver_pid")?;
        Ok(Driver {
            state: read::state(&row)?,
            told: row.try_get("told")?,
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
