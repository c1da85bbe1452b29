//! `howdah worker --join RUN`: walks segments of a run that another process drives, on this host or another.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::Connection;
use tokio::signal::unix::{SignalKind, signal};

use super::desk;
use super::drive::{self, Job};
use super::environment::{of_plan, variable};
use super::exporting::MetricsArgs;
use super::log::Log;
use super::opening::{self, Slots, Wanted};
use super::{Exit, Global, ShowArgs, books, say};
use crate::ledger::runs;
use crate::plan::model::Store;
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::run::id::RunRef;
use crate::run::{Cause, RunId};

/// How often it looks for a driver.
const AGAIN: Duration = Duration::from_secs(1);

/// What is wanted of a process that joins a run.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The run. `None`: the newest that is unfinished.
    pub run: Option<RunRef>,
    /// The plan's file, where it has moved or holds the database's address.
    pub plan: Option<PathBuf>,
    /// How many workers. `None`: as the plan says.
    pub workers: Option<u32>,
    /// Lines of JSON on standard output.
    pub json: bool,
    /// Where its numbers are told.
    pub metrics: MetricsArgs,
}

/// Joins a run, and again whenever it gets another driver, until it is over.
///
/// # Errors
/// The command is wrong. What goes wrong later is in the exit code.
pub async fn run(global: &Global, joining: Joining) -> Result<Exit, Cause> {
    let file = joining.plan.as_deref();
    let read = |path| load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause);
    let plan = file.map(read).transpose()?;
    let address = plan.as_ref().and_then(|plan| plan.database.control.as_ref().or(plan.database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), address, &variable)?;
    if plan.as_ref().is_some_and(|plan| plan.store == Store::Redis) {
        return Err(books::only_in_the_database("a run is joined from elsewhere"));
    }
    let log = Log::begin(global.log_level.as_deref())?;
    let mut connection = opening::look(&target).await?;
    let run = runs::find(&mut connection, joining.run.as_ref(), true).await?;
    drop(connection.close().await);
    log.of_run(run)?;
    let show = ShowArgs { headless: true, json: joining.json, metrics: joining.metrics, ..ShowArgs::default() };
    let (mut told, mut joined) = (false, false);
    loop {
        let slots = Slots::of(global);
        let wanted = Wanted {
            run: Some(RunRef::Full(run)),
            plan: plan.clone(),
            accept_changed: false,
            flag: global.database.clone(),
        };
        let opened = opening::join(slots.opening(target.clone(), None), wanted, joining.workers).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(cause) if cause.is_busy => {
                if !told {
                    say::err(&format!("{}; waiting for a driver", cause.headline()));
                    told = true;
                }
                if waited_for_a_signal().await? {
                    return Ok(Exit::Resumable);
                }
                continue;
            }
            // It was over before this process could join it again.
            Err(_) if joined && is_over(&target, run).await => return Ok(Exit::Done),
            Err(cause) => return Err(cause),
        };
        (told, joined) = (false, true);
        let job = Job {
            start: drive::starting(run.short(), opened.plan.clone()),
            farewell: Vec::new(),
            opener: Box::pin(std::future::ready(Ok(opened))),
            slots,
            target: target.clone(),
            queue: desk::queue::named(global, plan.as_ref(), None),
        };
        let driven = drive::drive(job, &show).await?;
        match driven.exit {
            // It lost its place: the run has another driver, or the driver took it for gone.
            Exit::Failed if lost_its_place(&driven.last) => {}
            exit => return Ok(exit),
        }
    }
}

/// Whether the membership ended although neither the run nor this process did.
fn lost_its_place(last: &crate::run::Snapshot) -> bool {
    matches!(&last.state, crate::run::RunState::Failed { cause, .. } if cause.is_busy)
}

/// Whether the run has come to an end. In doubt it has not.
async fn is_over(target: &Target, run: RunId) -> bool {
    let ask = async {
        let mut connection = opening::look(target).await?;
        let ended = runs::is_ended(&mut connection, run).await.map_err(|e| error::cause("reading the run", &e));
        drop(connection.close().await);
        ended
    };
    ask.await.unwrap_or(false)
}

/// Waits a moment. `true`: a signal came that ends this process.
async fn waited_for_a_signal() -> Result<bool, Cause> {
    let failed = |e: std::io::Error| Cause::new(format!("signals cannot be listened to: {e}"));
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(true),
        _ = terminate.recv() => Ok(true),
        () = tokio::time::sleep(AGAIN) => Ok(false),
    }
}
