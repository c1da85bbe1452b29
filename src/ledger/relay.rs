//! The driver's end of the line to consoles elsewhere: writes the newest snapshot once a second, and takes their requests.
//!
//! It has connections of its own, so that neither a batch nor the heartbeat ever waits for it; what fails here is tried
//! again, and disturbs nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::diary::Diary;
use super::{commands, wire};
use crate::postgres::connect::Connector;
use crate::postgres::deadline::within;
use crate::postgres::error;
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
/// How long all that is written at a run's end may take: shorter than the run waits for whoever writes.
const ENDS: Duration = Duration::from_millis(2800);
/// How long a round trip may take then: so that there is a second one.
const LIMIT_AT_END: Duration = Duration::from_millis(1400);
/// From one attempt to the next then.
const AGAIN_AT_END: Duration = Duration::from_millis(200);
/// From one attempt to the next; it doubles up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Commands whose numbers are kept.
const DELIVERED: usize = 1000;

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
            delivered: VecDeque::new(),
            course_at: None,
            failed: 0,
            heard: None,
            diary: Diary::new(self.run, self.epoch),
            ending: false,
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
    silenced: usize,
    step: Option<usize>,
}

impl Urgent {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            state: snapshot.state.clone(),
            answered: snapshot.commands.back().cloned(),
            acknowledged: snapshot.acknowledged.len(),
            silenced: snapshot.silenced.len(),
            step: snapshot.current_step().map(|(index, _)| index),
        }
    }
}

struct Line<'a> {
    relay: &'a Relay,
    poke: Arc<Notify>,
    requests: mpsc::Sender<Request>,
    connection: Option<PgConnection>,
    /// Commands that were taken to the engine.
    delivered: VecDeque<i64>,
    course_at: Option<Instant>,
    /// How often it has failed in a row.
    failed: u32,
    /// When a console, or a command line, was heard of last.
    heard: Option<Instant>,
    /// What outlives the run's driver.
    diary: Diary,
    /// Whether the run is over: there is little time left.
    ending: bool,
}

impl Line<'_> {
    async fn publish(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let mut urgent = None;
        let mut written = Instant::now();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            self.diary.take(&snapshot);
            if snapshot.state.is_over() {
                self.finish(&snapshot).await;
                break;
            }
            let now = Urgent::of(&snapshot);
            let still = matches!(snapshot.state, RunState::Paused { .. }) || !self.is_watched();
            let due = written + if still { STILL } else { EVERY };
            if urgent.as_ref() != Some(&now) || Instant::now() >= due {
                if self.write(&snapshot).await {
                    urgent = Some(now);
                }
                written = Instant::now();
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

    /// Writes the last row, the last samples and the summary, and tries again for as long as the end may take; then the
    /// ledger's own tables are all there is.
    async fn finish(&mut self, snapshot: &Snapshot) {
        self.ending = true;
        let all = async { while !self.write(snapshot).await {} };
        if tokio::time::timeout(ENDS, all).await.is_err() {
            tracing::warn!("the last seconds of this run's course may be missing from its report");
        }
    }

    fn limit(&self) -> Duration {
        if self.ending { LIMIT_AT_END } else { LIMIT }
    }

    /// Whether the row is written; at the end of the run, also all else.
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
        let Some(mut connection) = self.connected().await else { return false };
        let has_course = course.is_some();
        match within(self.limit(), write(&mut connection, self.relay, row, course)).await {
            Ok(waiting) => {
                self.connection = Some(connection);
                self.failed = 0;
                if has_course {
                    self.course_at = Some(Instant::now());
                }
                // A notification may have been lost on a connection that nobody knew was dead.
                if waiting {
                    self.fetch().await;
                }
                let is_kept = self.keep_diary(snapshot.state.is_over()).await;
                if self.ending && !is_kept {
                    self.rest().await;
                }
                is_kept || !self.ending
            }
            Err(e) => {
                self.fail(connection, "consoles elsewhere get no news of this run", &e).await;
                false
            }
        }
    }

    /// Writes what outlives the driver, when it is due. What fails here holds nothing up, and is tried again. Whether nothing
    /// is left to be written now.
    async fn keep_diary(&mut self, is_over: bool) -> bool {
        if !self.diary.is_due(is_over) {
            return true;
        }
        let limit = self.limit();
        let Some(mut connection) = self.connection.take() else { return false };
        match within(limit, self.diary.write(&mut connection, is_over)).await {
            Ok(()) => {
                self.connection = Some(connection);
                true
            }
            Err(e) => {
                self.diary.fail(&e);
                if !error::is_lost(&e) {
                    self.connection = Some(connection);
                }
                false
            }
        }
    }

    async fn connected(&mut self) -> Option<PgConnection> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let opened = self.relay.open().await;
        if opened.is_none() {
            self.rest().await;
        }
        opened
    }

    /// Told once, and tried again ever more seldom: a role that lacks a right will not get it in a second.
    async fn fail(&mut self, connection: PgConnection, what: &str, e: &sqlx::Error) {
        if self.failed == 0 {
            tracing::warn!("{what}: {e}");
        }
        if !error::is_lost(e) {
            self.connection = Some(connection);
        }
        self.rest().await;
    }

    async fn rest(&mut self) {
        if self.ending {
            return tokio::time::sleep(AGAIN_AT_END).await;
        }
        let pause = (AGAIN * 2_u32.saturating_pow(self.failed)).min(LONGEST);
        self.failed = (self.failed + 1).min(8);
        tokio::time::sleep(pause).await;
    }

    /// Takes what was asked for elsewhere to the engine.
    async fn fetch(&mut self) {
        let Some(mut connection) = self.connected().await else { return };
        let known: Vec<i64> = self.delivered.iter().copied().collect();
        match within(LIMIT, commands::claim(&mut connection, self.relay.run, self.relay.epoch, &known)).await {
            Ok(requests) => {
                self.connection = Some(connection);
                for request in requests {
                    self.delivered.extend(request.id);
                    if self.delivered.len() > DELIVERED {
                        self.delivered.pop_front();
                    }
                    if self.requests.send(request).await.is_err() {
                        return;
                    }
                }
            }
            Err(e) => self.fail(connection, "commands from elsewhere cannot be read", &e).await,
        }
    }
}

/// Writes the row, tells the consoles, and returns whether a command waits to be heard.
async fn write(
    connection: &mut PgConnection,
    relay: &Relay,
    row: String,
    course: Option<String>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "WITH written AS ( \
             INSERT INTO howdah.snapshot AS s (run, epoch, at, snapshot, course) \
             VALUES ($1, $2, clock_timestamp(), $3, $4) \
             ON CONFLICT (run) DO UPDATE SET epoch = excluded.epoch, at = excluded.at, snapshot = excluded.snapshot, \
                 course = coalesce(excluded.course, s.course) \
             WHERE s.epoch <= excluded.epoch RETURNING run) \
         SELECT EXISTS (SELECT FROM howdah.command WHERE run = $1 AND state = 'asked') FROM written, pg_notify($5, '')",
    )
    .bind(relay.run.0)
    .bind(relay.epoch)
    .bind(row)
    .bind(course)
    .bind(channel(relay.run))
    .fetch_optional(connection)
    .await
    .map(|waiting| waiting.unwrap_or(false))
}
