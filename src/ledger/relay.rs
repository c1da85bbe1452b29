//! The driver's end of the line to consoles elsewhere: writes the newest snapshot once a second, and takes their requests.
//!
//! It has connections of its own, so that neither a batch nor the heartbeat ever waits for it; what fails here is tried
//! again, and disturbs nothing.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{commands, wire};
use crate::postgres::connect::Connector;
use crate::postgres::deadline::within;
use crate::postgres::listen::listen;
use crate::postgres::session::Session;
use crate::run::{Answered, Request, RunId, RunState, Snapshot};

/// Between two snapshots of a run at work that somebody watches.
const EVERY: Duration = Duration::from_secs(1);
/// Between two snapshots of a run that stands still, or that nobody watches.
const STILL: Duration = Duration::from_secs(5);
/// For how long somebody watches who was heard of. Consoles say so every ten seconds.
const WATCHED: Duration = Duration::from_secs(30);
/// Between two snapshots whatever happens.
const LEAST: Duration = Duration::from_millis(50);
/// How often the course over time is written.
const COURSE: Duration = Duration::from_secs(10);
/// How long a round trip may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From one attempt to connect to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// The channel on which consoles hear of a run's news.
#[must_use]
pub fn channel(run: RunId) -> String {
    format!("howdah_news_{}", run.0.simple())
}

/// The driver's end of the line.
pub struct Relay {
    /// The run.
    pub run: RunId,
    /// The epoch under which this driver took it.
    pub epoch: i64,
    /// Opens its connections.
    pub connector: Connector,
    /// The name of its sessions.
    pub name: String,
}

impl Relay {
    /// Goes on until the run is over and its last snapshot is written.
    pub async fn keep(self, snapshots: watch::Receiver<Arc<Snapshot>>, requests: mpsc::Sender<Request>) {
        let poke = Arc::new(Notify::new());
        let Connector { target, limit, session } = self.connector.clone();
        let session = Session { application_name: self.name.clone(), ..session };
        let hearing = listen(target, limit, session, commands::channel(self.run), Arc::clone(&poke));
        let line = Line {
            relay: &self,
            poke,
            requests,
            connection: None,
            newest: 0,
            course_at: None,
            cleared: false,
            heard: None,
        };
        tokio::select! {
            () = line.publish(snapshots) => {}
            () = hearing => {}
        }
    }

    async fn open(&self) -> Option<PgConnection> {
        let mut connection = match self.connector.open(&self.name).await {
            Ok(connection) => connection,
            Err(refused) => {
                tracing::debug!("consoles elsewhere get no news: {}", refused.cause.headline());
                return None;
            }
        };
        let settings = "SET synchronous_commit = off";
        within(LIMIT, sqlx::query(settings).execute(&mut connection)).await.ok()?;
        Some(connection)
    }
}

/// What a snapshot says that must not wait for the next second.
#[derive(PartialEq)]
struct Urgent {
    state: RunState,
    answered: Option<Answered>,
    acknowledged: usize,
    step: Option<usize>,
}

impl Urgent {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            state: snapshot.state.clone(),
            answered: snapshot.commands.back().cloned(),
            acknowledged: snapshot.acknowledged.len(),
            step: snapshot.current_step().map(|(index, _)| index),
        }
    }
}

struct Line<'a> {
    relay: &'a Relay,
    poke: Arc<Notify>,
    requests: mpsc::Sender<Request>,
    connection: Option<PgConnection>,
    /// The last command that was taken to the engine.
    newest: i64,
    course_at: Option<Instant>,
    /// Whether what was asked of the last driver is refused.
    cleared: bool,
    /// When a console, or a command line, was heard of last.
    heard: Option<Instant>,
}

impl Line<'_> {
    async fn publish(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let mut urgent = None;
        let mut written = Instant::now();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let now = Urgent::of(&snapshot);
            let still = matches!(snapshot.state, RunState::Paused { .. }) || !self.is_watched();
            let due = written + if still { STILL } else { EVERY };
            if urgent.as_ref() != Some(&now) || Instant::now() >= due {
                if self.write(&snapshot).await {
                    urgent = Some(now);
                }
                written = Instant::now();
                if snapshot.state.is_over() && (urgent.is_some() || self.connection.is_none()) {
                    break;
                }
            }
            let poke = Arc::clone(&self.poke);
            tokio::select! {
                biased;
                () = poke.notified() => {
                    // The first who comes wants to see something.
                    if !self.is_watched() {
                        urgent = None;
                    }
                    self.heard = Some(Instant::now());
                    self.fetch().await;
                }
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // Many changes come at once: not every one of them is a row.
                    sleep_until(written + LEAST).await;
                }
                () = sleep_until(due) => {}
            }
        }
        if let Some(connection) = self.connection.take() {
            drop(tokio::time::timeout(Duration::from_secs(1), connection.close()).await);
        }
    }

    fn is_watched(&self) -> bool {
        self.heard.is_some_and(|at| at.elapsed() < WATCHED)
    }

    /// Whether the row is written.
    async fn write(&mut self, snapshot: &Snapshot) -> bool {
        let course = self.course_at.is_none_or(|at| at.elapsed() >= COURSE) || snapshot.state.is_over();
        let packed = wire::pack(snapshot);
        let course = course.then(|| wire::pack_course(&snapshot.history).ok()).flatten();
        let row = match packed {
            Ok(row) => row,
            Err(e) => {
                tracing::error!("a snapshot that is not JSON: {e}");
                return true;
            }
        };
        if self.connection.is_none() {
            self.connection = self.relay.open().await;
        }
        if !self.cleared
            && let Some(mut connection) = self.connection.take()
        {
            // Who takes a run over does not want the orders that its last driver did not live to hear.
            if within(LIMIT, commands::refuse_old(&mut connection, self.relay.run)).await.is_ok() {
                self.cleared = true;
                self.connection = Some(connection);
            }
        }
        let Some(mut connection) = self.connection.take() else {
            tokio::time::sleep(AGAIN).await;
            return false;
        };
        let has_course = course.is_some();
        match within(LIMIT, write(&mut connection, self.relay, snapshot, row, course)).await {
            Ok(waiting) => {
                self.connection = Some(connection);
                if has_course {
                    self.course_at = Some(Instant::now());
                }
                // A notification may have been lost on a connection that nobody knew was dead.
                if waiting.is_some_and(|id| id > self.newest) {
                    self.fetch().await;
                }
                true
            }
            Err(e) => {
                tracing::debug!("consoles elsewhere get no news: {e}");
                tokio::time::sleep(AGAIN).await;
                false
            }
        }
    }

    /// Takes what was asked for elsewhere to the engine.
    async fn fetch(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match within(LIMIT, commands::waiting(&mut connection, self.relay.run, self.newest)).await {
            Ok(waiting) => {
                self.connection = Some(connection);
                for (id, request) in waiting {
                    if self.requests.send(request).await.is_err() {
                        return;
                    }
                    self.newest = id;
                }
            }
            Err(e) => tracing::debug!("commands cannot be read: {e}"),
        }
    }
}

/// Writes the row, tells the consoles, and returns the newest command that is not answered.
async fn write(
    connection: &mut PgConnection,
    relay: &Relay,
    snapshot: &Snapshot,
    row: String,
    course: Option<String>,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH written AS ( \
             INSERT INTO howdah.snapshot AS s (run, epoch, at, snapshot, course) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (run) DO UPDATE SET epoch = excluded.epoch, at = excluded.at, snapshot = excluded.snapshot, \
                 course = coalesce(excluded.course, s.course) \
             WHERE s.epoch <= excluded.epoch RETURNING run) \
         SELECT (SELECT max(id) FROM howdah.command WHERE run = $1 AND state = 'asked') FROM written, pg_notify($6, '')",
    )
    .bind(relay.run.0)
    .bind(relay.epoch)
    .bind(snapshot.now)
    .bind(row)
    .bind(course)
    .bind(channel(relay.run))
    .fetch_optional(connection)
    .await
    .map(Option::flatten)
}
