//! Sessions and quarantine, over one connection that comes and goes.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Desk, show};
use crate::ledger::{quarantine, runs};
use crate::postgres::connect;
use crate::postgres::deadline::within;
use crate::postgres::session::{Session, application_name};
use crate::postgres::{error, sessions};
use crate::run::details::{Quarantine, QuarantinedRow, Sessions};
use crate::run::vitals::Reading;
use crate::run::{Details, Interest, RunId};

/// Rows of the quarantine that are shown at most.
const ROWS: u32 = 200;
/// Letters of one such row that are shown at most.
const LETTERS: u32 = 8_000;
/// A reading that took long is followed by a pause of so many times that long: at most a twentieth of a core.
const REST: u32 = 19;
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// From a lost connection to the next attempt; it doubles with each that fails ...
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// ... up to this.
const LAST_DELAY: Duration = Duration::from_secs(10);

/// Looks up sessions and quarantine while they are looked at, until `stop`, or until nobody is left to look.
pub(super) async fn keep(
    desk: &Desk,
    mut interest: watch::Receiver<Interest>,
    details: &watch::Sender<Arc<Details>>,
    stop: &CancellationToken,
) {
    let mut reader = Reader { desk, details, link: Link::Closed { failures: 0, again: Instant::now() }, rows: None };
    let (mut sessions, mut quarantine) = (Turn::default(), Turn::default());
    let mut idle_since = Instant::now();
    loop {
        let wanted = *interest.borrow_and_update();
        sessions.want(wanted.sessions);
        quarantine.want(wanted.quarantine);
        let due = [sessions.due, quarantine.due].into_iter().flatten().min();
        let next = match (due, &reader.link) {
            (Some(due), Link::Closed { again, .. }) => Some(due.max(*again)),
            (Some(due), Link::Open { .. }) => Some(due),
            (None, Link::Open { .. }) => Some(idle_since + desk.pace.linger),
            (None, Link::Closed { .. }) => None,
        };
        let moment = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = interest.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
            () = moment => {}
        }
        if due.is_none() {
            reader.close().await;
            continue;
        }
        let reading = async {
            if reader.open(wanted).await && sessions.is_due() {
                let began = Instant::now();
                reader.sessions(wanted).await;
                sessions.rest(began, desk.pace.sessions);
            }
            if reader.is_open() && quarantine.is_due() {
                let began = Instant::now();
                reader.quarantine(wanted).await;
                quarantine.rest(began, desk.pace.quarantine);
            }
        };
        tokio::select! {
            biased;
            // The connection that the reading is in the middle of goes with it.
            () = stop.cancelled() => return,
            () = reading => {}
        }
        idle_since = Instant::now();
    }
    reader.close().await;
}

/// When something is to be read again. `None`: nobody looks at it.
#[derive(Default)]
struct Turn {
    due: Option<Instant>,
}

impl Turn {
    /// What somebody begins to look at is read at once.
    fn want(&mut self, wanted: bool) {
        self.due = wanted.then(|| self.due.unwrap_or_else(Instant::now));
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn rest(&mut self, began: Instant, every: Duration) {
        let now = Instant::now();
        self.due = Some((began + every).max(now + (now - began) * REST));
    }
}

enum Link {
    Open {
        connection: PgConnection,
        /// The short id that its session is called by.
        short: String,
        /// The run's whole id, once the ledger knows it.
        run: Option<RunId>,
    },
    Closed {
        /// Attempts that have failed in a row.
        failures: u32,
        /// When to try again.
        again: Instant,
    },
}

struct Reader<'a> {
    desk: &'a Desk,
    details: &'a watch::Sender<Arc<Details>>,
    link: Link,
    /// How the quarantine stood when its rows were read.
    rows: Option<(RunId, quarantine::Standing)>,
}

impl Reader<'_> {
    fn is_open(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    /// Whether there is a connection, after one was tried to be opened where there was none.
    async fn open(&mut self, wanted: Interest) -> bool {
        let short = self.desk.runs.borrow().run.clone();
        match &self.link {
            Link::Open { short: named, .. } if *named == short => return true,
            // The run's id has come: the session is to be called by it.
            Link::Open { .. } => self.close().await,
            Link::Closed { .. } => {}
        }
        let settings = Session {
            application_name: application_name(&short, "desk"),
            lock_timeout: Duration::from_secs(1),
            statement_timeout: self.desk.pace.deadline.mul_f32(0.8),
            idle_in_transaction_timeout: Duration::from_secs(10),
        };
        let connected = connect::try_one(&self.desk.target, CONNECT, &settings).await;
        let connected = match connected {
            Ok(mut connection) => {
                within(self.desk.pace.deadline, connection.execute("SET default_transaction_read_only = on"))
                    .await
                    .map(|_| connection)
                    .map_err(|e| error::cause("setting up the session", &e).message)
            }
            Err(refused) => Err(refused.cause.message),
        };
        match connected {
            Ok(connection) => {
                self.link = Link::Open { connection, short, run: None };
                true
            }
            Err(why) => {
                self.lost(wanted, &why);
                false
            }
        }
    }

    async fn close(&mut self) {
        let closed = Link::Closed { failures: 0, again: Instant::now() };
        if let Link::Open { connection, .. } = std::mem::replace(&mut self.link, closed) {
            // A server that does not take the farewell sees the socket close.
            drop(timeout(Duration::from_secs(1), connection.close()).await);
        }
    }

    /// Drops the connection, says why there is nothing, and waits before the next attempt.
    fn lost(&mut self, wanted: Interest, why: &str) {
        let failures = match &self.link {
            Link::Open { .. } => 0,
            Link::Closed { failures, .. } => *failures,
        };
        let delay = FIRST_DELAY.saturating_mul(1 << failures.min(8)).min(LAST_DELAY);
        self.link = Link::Closed { failures: failures.saturating_add(1), again: Instant::now() + delay };
        tracing::debug!(why, "the desk has no connection");
        self.rows = None;
        show(self.details, |details| {
            if wanted.sessions {
                details.sessions = Reading::Unavailable(why.to_owned());
            }
            if wanted.quarantine {
                details.quarantine = Reading::Unavailable(why.to_owned());
            }
        });
    }

    async fn sessions(&mut self, wanted: Interest) {
        let Link::Open { connection, short, .. } = &mut self.link else { return };
        match within(self.desk.pace.deadline, sessions::sessions(connection, short)).await {
            Ok(read) => self.show_sessions(Reading::Value(Arc::new(read))),
            Err(e) if error::is_lost(&e) => self.lost(wanted, &error::cause("reading the sessions", &e).message),
            Err(e) => self.show_sessions(Reading::Unavailable(error::cause("reading the sessions", &e).message)),
        }
    }

    fn show_sessions(&self, reading: Reading<Arc<Sessions>>) {
        show(self.details, |details| details.sessions = reading);
    }

    async fn quarantine(&mut self, wanted: Interest) {
        let Link::Open { connection, short, run } = &mut self.link else { return };
        let read = read_quarantine(connection, short, run, self.rows);
        // Up to three round trips.
        match within(self.desk.pace.deadline * 2, read).await {
            Ok(Read::Rows(key, rows)) => {
                self.rows = key;
                show(self.details, |details| details.quarantine = Reading::Value(Arc::new(rows)));
            }
            Ok(Read::Unchanged) => {}
            Err(e) if error::is_lost(&e) => self.lost(wanted, &error::cause("reading the quarantine", &e).message),
            Err(e) => {
                self.rows = None;
                let why = error::cause("reading the quarantine", &e).message;
                show(self.details, |details| details.quarantine = Reading::Unavailable(why));
            }
        }
    }
}

enum Read {
    Unchanged,
    Rows(Option<(RunId, quarantine::Standing)>, Quarantine),
}

async fn read_quarantine(
    connection: &mut PgConnection,
    short: &str,
    run: &mut Option<RunId>,
    before: Option<(RunId, quarantine::Standing)>,
) -> Result<Read, sqlx::Error> {
    if run.is_none() {
        *run = runs::by_short_id(connection, short).await?;
    }
    // A run that the ledger does not know yet has set nothing aside.
    let Some(id) = *run else { return Ok(Read::Rows(None, Quarantine::default())) };
    let Some(standing) = quarantine::standing(connection, id).await? else {
        return Ok(Read::Rows(None, Quarantine::default()));
    };
    if before == Some((id, standing)) {
        return Ok(Read::Unchanged);
    }
    let rows = quarantine::newest(connection, id, ROWS, LETTERS).await?;
    let rows = rows.into_iter().map(row).collect();
    let quarantine::Counts { open, resolved } = standing.counts;
    Ok(Read::Rows(Some((id, standing)), Quarantine { rows, open, resolved }))
}

fn row(entry: quarantine::Entry) -> QuarantinedRow {
    QuarantinedRow {
        step: entry.step,
        part: entry.part.unwrap_or_default(),
        key: entry.key,
        sqlstate: entry.sqlstate,
        message: entry.message,
        attempts: entry.attempts,
        at: entry.at,
        is_resolved: entry.resolved_at.is_some(),
        row: entry.row,
    }
}
