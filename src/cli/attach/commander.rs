//! Takes what an attached console asks for to the run's driver, by the ledger; answers what no driver hears.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::opening;
use crate::ledger::commands::{self, Standing};
use crate::postgres::connect;
use crate::postgres::deadline::within;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::{Answered, Command, Presence, Request, RunId, Snapshot};

/// How long a round trip may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the driver may take to answer.
pub(in crate::cli) const PATIENCE: Duration = Duration::from_secs(10);

/// Takes commands to a driver elsewhere.
pub(super) struct Commander {
    target: Target,
    run: RunId,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    answers: mpsc::Sender<Answered>,
    connection: Option<PgConnection>,
    /// What is not answered: its number, what it was, until when it is waited for.
    open: Vec<(i64, Request, Instant)>,
}

impl Commander {
    pub(super) fn new(
        target: Target,
        run: RunId,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        answers: mpsc::Sender<Answered>,
    ) -> Self {
        Self { target, run, snapshots, answers, connection: None, open: Vec::new() }
    }

    /// Goes on until the console is closed.
    pub(super) async fn keep(mut self, mut asked: mpsc::Receiver<Request>, stop: CancellationToken) {
        loop {
            let due = self.open.first().map(|(_, _, until)| *until);
            let waiting = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // What was asked for before the console was closed still counts.
                    asked.close();
                    while let Some(request) = asked.recv().await {
                        self.ask(request).await;
                    }
                    return;
                }
                request = asked.recv() => match request {
                    Some(request) => self.ask(request).await,
                    None => return,
                },
                () = waiting => self.give_up().await,
            }
        }
    }

    async fn ask(&mut self, request: Request) {
        let presence = self.snapshots.borrow().presence.clone();
        let is_errand = matches!(request.command, Command::CancelSession(..) | Command::TerminateSession(..));
        match presence {
            Presence::Gone { .. } if is_errand => self.run_errand(request).await,
            Presence::Gone { .. } => {
                self.answer(request, Err("nobody drives the run: resume it first".to_owned())).await;
            }
            Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun | Presence::Unreachable { .. } => {
                let run = self.run;
                let asked = self.with(async |connection| commands::ask(connection, run, &request).await).await;
                match asked {
                    Ok(id) => self.open.push((id, request, Instant::now() + PATIENCE)),
                    Err(why) => self.answer(request, Err(why)).await,
                }
            }
        }
    }

    /// Does what needs no driver, and writes it down.
    async fn run_errand(&mut self, request: Request) {
        let run = self.run;
        let command = request.command.clone();
        let outcome = self.with(async |connection| commands::errand(connection, &command).await).await;
        let answered = self.answered(request, outcome);
        let record = answered.clone();
        if let Err(why) = self.with(async |connection| commands::answer(connection, run, &record).await).await {
            tracing::warn!("a command is not in the record: {why}");
        }
        drop(self.answers.send(answered).await);
    }

    /// What the driver has not answered in time is withdrawn, unless it has.
    async fn give_up(&mut self) {
        let Some((id, request, _)) = (!self.open.is_empty()).then(|| self.open.remove(0)) else { return };
        let why = "no answer from its driver in time";
        let withdrawn = self.with(async |connection| commands::withdraw(connection, id, why).await).await;
        match withdrawn {
            Ok(false) => self.tell_standing(id, request).await,
            Ok(true) => self.answer(request, Err(why.to_owned())).await,
            Err(unknown) => self.answer(request, Err(format!("nobody knows whether it was heard: {unknown}"))).await,
        }
    }

    /// The driver has heard it: what it answered, if it did.
    async fn tell_standing(&mut self, id: i64, request: Request) {
        let standing = self.with(async |connection| commands::look(connection, id).await).await;
        let told = self.snapshots.borrow().commands.iter().any(|answered| answered.id == Some(id));
        match standing {
            Ok(Standing::Answered(..)) if told => {}
            Ok(Standing::Answered(true, outcome)) => self.answer(request, Ok(outcome)).await,
            Ok(Standing::Answered(false, why)) => self.answer(request, Err(why)).await,
            Ok(Standing::Asked | Standing::Heard) => {
                let why = "its driver has heard it, and has not answered in time: it may come about yet";
                self.answer(request, Err(why.to_owned())).await;
            }
            Err(unknown) => self.answer(request, Err(format!("nobody knows whether it was done: {unknown}"))).await,
        }
    }

    async fn answer(&self, request: Request, outcome: Result<String, String>) {
        drop(self.answers.send(self.answered(request, outcome)).await);
    }

    /// Does something on the connection, which is opened when it is first needed.
    async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, String> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let session = opening::session("ask", &self.run.short(), None);
            let opened = connect::one(&self.target, opening::CONNECT, &session).await;
            opened.map_err(|cause| cause.headline())?
        };
        match within(LIMIT, work(&mut connection)).await {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(e) => {
                if !error::is_lost(&e) {
                    self.connection = Some(connection);
                }
                Err(error::cause("asking the driver", &e).headline())
            }
        }
    }

    /// By the run's clock, as all other answers: this host's may be another one.
    fn answered(&self, request: Request, outcome: Result<String, String>) -> Answered {
        let Request { id, command, by, who } = request;
        let (taken, outcome) = match outcome {
            Ok(words) => (true, words),
            Err(why) => (false, why),
        };
        let at = self.snapshots.borrow().now;
        Answered { id, at, command, by, who, taken, outcome }
    }
}
