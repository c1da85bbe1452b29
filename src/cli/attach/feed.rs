//! Brings a run's news from the ledger to an attached console, through every outage.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::opening;
use crate::ledger::relay;
use crate::ledger::viewing::Viewer;
use crate::postgres::connect;
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::postgres::listen::listen;
use crate::run::snapshot::COMMANDS;
use crate::run::{Answered, Cause, Presence, RunId, Snapshot};

/// How long a round trip may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How often the run is read although nobody told of news.
const TICK: Duration = Duration::from_secs(2);
/// How often the driver is told that somebody watches.
const GREET: Duration = Duration::from_secs(10);
/// From one attempt to connect to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a run's news come from.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) target: Target,
    pub(super) run: RunId,
    /// Whether the session can write nothing.
    pub(super) read_only: bool,
    /// What finds the database again, behind `howdah resume RUN`. Empty: as the driver says it.
    pub(super) resume_flags: String,
}

impl Feed {
    /// The run as it stands.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn first(&self) -> Result<Snapshot, Cause> {
        let mut connection = self.open().await?;
        let failed = |e: sqlx::Error| error::cause("reading the run", &e);
        within(LIMIT, Viewer::default().read(&mut connection, self.run, true))
            .await
            .map(|s| self.ours(s))
            .map_err(failed)
    }

    async fn open(&self) -> Result<PgConnection, Cause> {
        let session = opening::session("view", &self.run.short(), None);
        let mut connection = connect::one(&self.target, opening::CONNECT, &session).await?;
        if self.read_only {
            let ask = sqlx::query("SET default_transaction_read_only = on").execute(&mut connection);
            within(LIMIT, ask).await.map_err(|e| error::cause("setting up the session", &e))?;
        }
        Ok(connection)
    }

    /// The snapshot as it is for this reader.
    fn ours(&self, mut snapshot: Snapshot) -> Snapshot {
        snapshot.server = self.target.label();
        if !self.resume_flags.is_empty() {
            snapshot.resume_command = format!("howdah resume {}{}", snapshot.run, self.resume_flags);
        }
        snapshot
    }

    /// Publishes every change, and what this console's own commands came to, until it is told to stop.
    pub(super) async fn keep(
        self,
        snapshots: watch::Sender<Arc<Snapshot>>,
        mut answers: mpsc::Receiver<Answered>,
        stop: CancellationToken,
    ) {
        let news = Arc::new(Notify::new());
        let session = opening::session("news", &self.run.short(), None);
        let hearing =
            listen(self.target.clone(), opening::CONNECT, session, relay::channel(self.run), Arc::clone(&news));
        let reading = self.read(&snapshots, &mut answers, &news);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = reading => {}
            () = hearing => {}
        }
    }

    async fn read(
        &self,
        snapshots: &watch::Sender<Arc<Snapshot>>,
        answers: &mut mpsc::Receiver<Answered>,
        news: &Notify,
    ) {
        let mut viewer = Viewer::default();
        let mut connection: Option<PgConnection> = None;
        let mut own: VecDeque<Answered> = VecDeque::new();
        let mut answering = true;
        let mut looked: Option<Instant> = None;
        let mut greeted: Option<Instant> = None;
        let mut reached = snapshots.borrow().now;
        loop {
            let look = looked.is_none_or(|at| at.elapsed() >= TICK);
            let asked = async {
                let mut held = match connection.take() {
                    Some(held) => held,
                    None => self.open().await.map_err(|cause| cause.headline())?,
                };
                let failed = |e: sqlx::Error| error::cause("reading the run", &e).headline();
                if greeted.is_none_or(|at| at.elapsed() >= GREET) {
                    within(LIMIT, Viewer::greet(&mut held, self.run)).await.map_err(failed)?;
                    greeted = Some(Instant::now());
                }
                let snapshot = within(LIMIT, viewer.read(&mut held, self.run, look)).await.map_err(failed)?;
                connection = Some(held);
                Ok::<_, String>(snapshot)
            };
            match asked.await {
                Ok(snapshot) => {
                    if look {
                        looked = Some(Instant::now());
                    }
                    reached = snapshot.now;
                    snapshots.send_replace(Arc::new(with_own(self.ours(snapshot), &own)));
                }
                Err(why) => {
                    let since = reached;
                    snapshots.send_modify(|held| {
                        let presence = Presence::Unreachable { why, since };
                        let mut old = Snapshot { presence, ..Snapshot::clone(held) };
                        old.stand_still();
                        *held = Arc::new(old);
                    });
                    tokio::time::sleep(AGAIN).await;
                    while let Ok(answer) = answers.try_recv() {
                        own.push_back(answer);
                        snapshots.send_modify(|held| *held = Arc::new(with_own(Snapshot::clone(held), &own)));
                    }
                    // Whoever drives the run may have changed meanwhile.
                    viewer = Viewer::default();
                    looked = None;
                    continue;
                }
            }
            tokio::select! {
                biased;
                answer = answers.recv(), if answering => match answer {
                    Some(answer) => {
                        own.push_back(answer);
                        if own.len() > COMMANDS {
                            own.pop_front();
                        }
                    }
                    None => answering = false,
                },
                () = news.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}

/// What no driver has answered stands among what it has.
fn with_own(mut snapshot: Snapshot, own: &VecDeque<Answered>) -> Snapshot {
    for answered in own {
        if !snapshot.commands.contains(answered) {
            snapshot.commands.push_back(answered.clone());
        }
    }
    snapshot.commands.make_contiguous().sort_by_key(|answered| answered.at);
    while snapshot.commands.len() > COMMANDS {
        snapshot.commands.pop_front();
    }
    snapshot
}
