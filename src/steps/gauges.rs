//! Reads the governor's signals: on the server, and on the host where the server is on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::time::timeout;

use super::host_gauges::{self, Disk, Place};
pub use super::host_gauges::{HostReading, HostSource};
use crate::engine::gauge::{Gauge, Gauges, Unit};
use crate::plan::model::{Limits, Probe, Signals, Threshold, Vacuum};
use crate::postgres::error;
use crate::postgres::session::{self, Session};
use crate::postgres::signals::{self, DeadRows, ReplayLag, SignalError};
use crate::postgres::whereabouts::Whereabouts;
use crate::run::human;

/// How long one signal may take, and a connection to ask it by.
const DEADLINE: Duration = Duration::from_secs(3);
/// The server gives up a little earlier by itself, so that the connection stays whole.
const STATEMENT: Duration = Duration::from_millis(2500);
/// Batches wait once a table has more dead rows than this many times what wakes autovacuum.
pub const DEAD_TRIGGERS: f64 = 2.0;
/// PostgreSQL's own default for a small table: shown as long as a table's trigger has never been read.
const LEAST_TRIGGER: f64 = 50.0;

/// The table that the running step changes, by its object id: whoever changes it says so here, and takes it away again.
#[derive(Debug, Clone, Default)]
pub struct CurrentTable(Arc<Mutex<Option<i64>>>);

impl CurrentTable {
    /// Names the table; `None`: there is none.
    pub fn set(&self, oid: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = oid;
    }

    /// The table that was named last.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that a plan has limits for.
///
/// It keeps one connection of its own beside the pool, opened when it is first needed and again when it was lost: workers
/// that hold all connections of the pool while they wait for the governor must not keep it from seeing that all is well.
pub struct PgGauges {
    pool: PgPool,
    session: Session,
    signals: Signals,
    vacuum: Vacuum,
    table: CurrentTable,
    host: HostSource,
    /// Taken out while a reading is under way.
    memory: Mutex<Memory>,
}

/// What lasts from one reading to the next.
#[derive(Default)]
struct Memory {
    connection: Option<PgConnection>,
    /// Where the server was when the connection was opened.
    place: Option<Place>,
    lag: ReplayLag,
    /// What wakes autovacuum on the table that was read last.
    trigger: Option<(i64, f64)>,
    disk: Disk,
}

/// A question to the server.
enum Question<'a> {
    ReplayLag,
    SlotWal,
    ArchiveBacklog,
    ActiveSessions,
    OldestSnapshot,
    Probe(&'a Probe),
}

impl PgGauges {
    /// The signals of `limits`, for the run with the short id `run`, on the server that `pool` leads to. The plan's
    /// `vacuum` decides whether dead rows of `table` are among them.
    #[must_use]
    pub fn new(pool: PgPool, run: &str, limits: &Limits, table: CurrentTable, host: HostSource) -> Self {
        let session = Session {
            application_name: session::application_name(run, "governor"),
            lock_timeout: STATEMENT,
            statement_timeout: STATEMENT,
            idle_in_transaction_timeout: limits.idle_in_transaction_timeout,
        };
        let signals = limits.signals.clone();
        Self { pool, session, signals, vacuum: limits.vacuum, table, host, memory: Mutex::default() }
    }

    async fn read_all(&self, memory: &mut Memory) -> Vec<Gauge> {
        let mut line = Line { gauges: self, memory, refused: None };
        let Signals { replay_lag, wal, archive, sessions, snapshot_age, probes, .. } = &self.signals;
        let of_the_server = [
            (Question::ReplayLag, replay_lag.map(|limit| limit_in(limit, |time| time.as_secs_f64()))),
            (Question::SlotWal, wal.map(|limit| limit_in(limit, |bytes| number(bytes.0)))),
            (Question::ArchiveBacklog, archive.map(|limit| limit_in(limit, number))),
            (Question::ActiveSessions, sessions.map(|limit| limit_in(limit, number))),
            (Question::OldestSnapshot, snapshot_age.map(|limit| limit_in(limit, |time| time.as_secs_f64()))),
        ];
        let mut gauges = Vec::new();
        for (question, limit) in of_the_server {
            if let Some(limit) = limit {
                gauges.push(line.gauge(&question, limit).await);
            }
        }
        if self.vacuum != Vacuum::Off
            && let Some(table) = self.table.get()
        {
            gauges.extend(line.dead_rows(table).await);
        }
        if host_gauges::any_in(&self.signals) {
            let place = line.place().await;
            let host = (self.host)();
            gauges.extend(host_gauges::read(&self.signals, &place, host, &mut line.memory.disk, DEADLINE).await);
        }
        for probe in probes {
            gauges.push(line.gauge(&Question::Probe(probe), probe.limit).await);
        }
        gauges
    }
}

#[async_trait]
impl Gauges for PgGauges {
    async fn read(&self) -> Vec<Gauge> {
        let memory = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        // A reading that is dropped half way loses its memory, and with it a connection that is half way too.
        let mut taken = std::mem::take(&mut *memory());
        let gauges = self.read_all(&mut taken).await;
        *memory() = taken;
        gauges
    }
}

/// The way to the server, during one reading.
struct Line<'a> {
    gauges: &'a PgGauges,
    memory: &'a mut Memory,
    /// Why no connection can be had: in one reading that is waited for once.
    refused: Option<String>,
}

impl Line<'_> {
    async fn gauge(&mut self, question: &Question<'_>, limit: Threshold<f64>) -> Gauge {
        let value = match self.open().await {
            Ok(mut connection) => {
                let answer = timeout(DEADLINE, question.ask(&mut connection, &mut self.memory.lag)).await;
                self.settle(connection, answer)
            }
            Err(why) => Err(why),
        };
        let (key, unit) = question.name();
        Gauge { key: key.to_owned(), value, unit, limit: Some(limit), low_is_bad: false }
    }

    /// `None` when there is no such table.
    async fn dead_rows(&mut self, table: i64) -> Option<Gauge> {
        let answer = match self.open().await {
            Ok(mut connection) => {
                let answer = timeout(DEADLINE, signals::dead_rows(&mut connection, table)).await;
                self.settle(connection, answer)
            }
            Err(why) => Err(why),
        };
        let rows = answer.transpose()?;
        if let Ok(rows) = &rows {
            self.memory.trigger = Some((table, rows.trigger));
        }
        let trigger = self.memory.trigger.filter(|(of, _)| *of == table).map_or(LEAST_TRIGGER, |(_, trigger)| trigger);
        Some(dead_gauge(rows, trigger, self.gauges.vacuum))
    }

    /// Where the server is.
    async fn place(&mut self) -> Place {
        if self.memory.place.is_none()
            && let Ok(connection) = self.open().await
        {
            self.memory.connection = Some(connection);
        }
        let unknown = || Place::Unknown(self.refused.clone().unwrap_or_default());
        self.memory.place.clone().unwrap_or_else(unknown)
    }

    /// The connection, to be given back by [`settle`](Self::settle).
    async fn open(&mut self) -> Result<PgConnection, String> {
        if let Some(connection) = self.memory.connection.take() {
            return Ok(connection);
        }
        if let Some(why) = &self.refused {
            return Err(why.clone());
        }
        let connected = match timeout(DEADLINE, self.connect()).await {
            Ok(connected) => connected.map_err(|why| why.to_string()),
            Err(_) => Err(format!("no connection within {}", human::rough_duration(DEADLINE))),
        };
        if let Err(why) = &connected {
            self.refused = Some(why.clone());
        }
        connected
    }

    /// Opens a connection, and finds out where the server is, where that matters.
    async fn connect(&mut self) -> Result<PgConnection, SignalError> {
        let mut connection = PgConnection::connect_with(&self.gauges.pool.connect_options()).await?;
        self.gauges.session.apply(&mut connection).await?;
        sqlx::raw_sql("SET default_transaction_read_only = on").execute(&mut connection).await?;
        if host_gauges::any_in(&self.gauges.signals) {
            self.memory.place = Some(Place::find(Whereabouts::ask(&mut connection).await?).await);
        }
        Ok(connection)
    }

    /// Keeps the connection for the next question, unless it is lost, or the answer may still be on its way: whoever asked
    /// next would get that one.
    fn settle<T>(
        &mut self,
        connection: PgConnection,
        answer: Result<Result<T, SignalError>, tokio::time::error::Elapsed>,
    ) -> Result<T, String> {
        let Ok(answer) = answer else {
            return Err(format!("no answer within {}", human::rough_duration(DEADLINE)));
        };
        if !matches!(&answer, Err(SignalError::Server(why)) if error::is_lost(why)) {
            self.memory.connection = Some(connection);
        }
        answer.map_err(|why| why.to_string())
    }
}

impl Question<'_> {
    async fn ask(&self, connection: &mut PgConnection, lag: &mut ReplayLag) -> Result<f64, SignalError> {
        match self {
            Self::ReplayLag => lag.read(connection).await,
            Self::SlotWal => signals::slot_wal(connection).await,
            Self::ArchiveBacklog => signals::archive_backlog(connection).await,
            Self::ActiveSessions => signals::active_sessions(connection).await,
            Self::OldestSnapshot => signals::oldest_snapshot(connection).await,
            Self::Probe(probe) => signals::probe(connection, &probe.sql).await,
        }
    }

    fn name(&self) -> (&str, Unit) {
        match self {
            Self::ReplayLag => ("replay lag", Unit::Seconds),
            Self::SlotWal => ("slot WAL", Unit::Bytes),
            Self::ArchiveBacklog => ("archive backlog", Unit::Count),
            Self::ActiveSessions => ("active sessions", Unit::Count),
            Self::OldestSnapshot => ("oldest snapshot", Unit::Seconds),
            Self::Probe(probe) => (&probe.name, Unit::Number),
        }
    }
}

/// Dead rows, by what wakes autovacuum. Where it never wakes, and howdah does not vacuum either, there is nothing to wait
/// for: shown only.
fn dead_gauge(rows: Result<DeadRows, String>, trigger: f64, vacuum: Vacuum) -> Gauge {
    let limit = Some(Threshold { slow: trigger * DEAD_TRIGGERS, stop: None });
    let (value, limit) = match rows {
        Ok(rows) if rows.is_looked_after || vacuum == Vacuum::Run => (Ok(rows.dead), limit),
        Ok(rows) => {
            let dead = Unit::Count.words(rows.dead);
            (Err(format!("{dead}, but autovacuum is off for the table: nothing to wait for")), None)
        }
        Err(why) => (Err(why), limit),
    };
    Gauge { key: "dead rows".to_owned(), value, unit: Unit::Count, limit, low_is_bad: false }
}

fn limit_in<T: Copy>(limit: Threshold<T>, unit: impl Fn(T) -> f64) -> Threshold<f64> {
    Threshold { slow: unit(limit.slow), stop: limit.stop.map(unit) }
}

#[expect(clippy::cast_precision_loss, reason = "a limit, given in round numbers")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_rows_count_only_where_someone_clears_them() {
        let rows = |is_looked_after| DeadRows { dead: 300.0, trigger: 100.0, is_looked_after, is_vacuumed_now: false };
        let limit = Some(Threshold { slow: 200.0, stop: None });
        let table = [
            (Ok(rows(true)), Vacuum::Wait, Ok(300.0), limit),
            (Ok(rows(false)), Vacuum::Run, Ok(300.0), limit),
            (
                Ok(rows(false)),
                Vacuum::Wait,
                Err("300, but autovacuum is off for the table: nothing to wait for".to_owned()),
                None,
            ),
            (Err("refused".to_owned()), Vacuum::Wait, Err("refused".to_owned()), limit),
        ];
        for (rows, vacuum, value, limit) in table {
            let gauge = dead_gauge(rows.clone(), 100.0, vacuum);
            assert_eq!((gauge.value, gauge.limit), (value, limit), "{rows:?} {vacuum:?}");
        }
    }
}
