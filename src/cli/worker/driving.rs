//! A job driven as a run, in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::MissedTickBehavior;

use super::progress::{progress, returned};
use crate::cli::drive;
use crate::cli::environment::{of_plan, variable};
use crate::cli::opening::{self, Slots, Wanted};
use crate::cli::run::resume_flags;
use crate::cli::{Global, books, opening::Opening};
use crate::engine::ports::Opened;
use crate::engine::{Handle, failpoint};
use crate::ledger::book::Book;
use crate::ledger::runs;
use crate::monitor::metrics::Exposition;
use crate::plan::model::Plan;
use crate::plan::{PlanError, load};
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::queue::Verdict;
use crate::queue::job::JobData;
use crate::queue::worker::{Driver, Reins, Task, reason};
use crate::run::cause::Fault;
use crate::run::id::RunRef;
use crate::run::{Asker, Cause, Command, Event, Request, RunId, RunState, Snapshot};

/// Drives jobs in this process.
pub(super) struct Hosted {
    pub(super) global: Global,
    /// Where the plans lie that jobs only name.
    pub(super) plans: Option<PathBuf>,
    /// `host:pid`.
    pub(super) name: String,
    /// Where the runs of this process are told to Prometheus.
    pub(super) told: Arc<Exposition>,
}

#[async_trait]
impl Driver for Hosted {
    async fn drive(&self, task: Task, reins: Reins) -> Verdict {
        match self.try_to(&task, &reins).await {
            Ok(verdict) => verdict,
            Err(cause) => judged(&cause),
        }
    }
}

/// What becomes of a job whose run could not go on.
fn judged(cause: &Cause) -> Verdict {
    if cause.is_busy {
        // What comes after the semicolon is another each time: the age of a heartbeat.
        let who = cause.message.split(';').next().unwrap_or_default();
        return Verdict::Waits { says: format!("waits: {who}") };
    }
    Verdict::Failed { reason: reason(cause), may_pass: cause.fault != Fault::Usage }
}

impl Hosted {
    async fn try_to(&self, task: &Task, reins: &Reins) -> Result<Verdict, Cause> {
        let plan = self.plan(&task.data, &task.name)?;
        let address = plan.database.control.as_ref().or(plan.database.url.as_ref());
        let target = Target::resolve(self.global.database.as_deref(), address, &variable)?;
        let mut look = match opening::look(&target).await {
            Ok(look) => look,
            // An outage must not use up the attempts of all that waits.
            Err(cause) if cause.fault == Fault::Work => {
                return Ok(Verdict::Waits { says: format!("waits: {}", cause.headline()) });
            }
            Err(cause) => return Err(cause),
        };
        let standing = match books::of_plan(self.global.redis.as_deref(), &plan).await? {
            Book::Postgres => {
                let state = runs::state(&mut look, task.run).await;
                state.map_err(|e| error::cause("looking for the job's run", &e))?
            }
            Book::Redis(book) => book.kept(task.run).await?.map(|kept| kept.text("state").to_owned()),
        };
        drop(look);
        failpoint::hit("job.taken");
        let short = task.run.short();
        let slots = Slots::of(&self.global);
        let opening = slots.opening(target, Some(resume_flags(&self.global, Some(&plan))));
        slots.tell_those_of(&plan);
        let start = drive::starting(short.clone(), plan.name.clone());
        let (news, opener): (_, BoxFuture<'static, Result<Opened, Cause>>) = match standing.as_deref() {
            Some("done") => {
                reins.tell.note("done", format!("run {short} is done already"));
                let says = "its run was done already";
                return Ok(Verdict::Done(json!({ "run": short, "state": "done", "says": says })));
            }
            Some("superseded") => {
                let reason = format!("run {short} was superseded by another one: it can never go on");
                return Ok(Verdict::Failed { reason, may_pass: false });
            }
            Some(_) => {
                let resumed = resumed(opening, plan, task.run, self.global.database.clone());
                (("resumes", format!("run {short} goes on")), Box::pin(resumed))
            }
            None => {
                let begun = opening::begin(opening, plan, task.run, false);
                (("begins", format!("run {short} begins")), Box::pin(begun))
            }
        };
        let (handle, measuring) = drive::engage(start, opener, &slots);
        self.told.show(handle.snapshots.clone());
        let last = self.follow(handle, reins, news).await;
        measuring.end().await;
        Ok(ended(&last, task, reins))
    }

    /// The plan of a job: its text, else the file of that name.
    fn plan(&self, data: &JobData, name: &str) -> Result<Plan, Cause> {
        let usual = of_plan(self.global.database.as_deref());
        let env = |asked: &str| data.vars.get(asked).cloned().or_else(|| usual(asked));
        if let Some(text) = &data.plan {
            let path = data.path.as_ref().map(PathBuf::from);
            return load::from_text(name, path, text, &env).map_err(PlanError::into_cause);
        }
        // Another worker may have it: not the plan's own mistake.
        let Some(folder) = &self.plans else {
            return Err(Cause::new(format!(
                "the job only names its plan `{name}`, and worker {} has no --plans",
                self.name
            ))
            .hint("start the worker with --plans DIR, or enqueue the plan without --by-name"));
        };
        let path = folder.join(format!("{name}.toml"));
        if !path.is_file() {
            return Err(Cause::new(format!("worker {} has no plan {}", self.name, path.display()))
                .hint("put it there, or enqueue the plan without --by-name"));
        }
        load::from_file(&path, &env).map_err(PlanError::into_cause)
    }

    /// Reports the run until it is over, and has it stopped where this worker is to end or has lost the job. `news`: told once
    /// the run is ours, and not while it waits for somebody else.
    async fn follow(&self, handle: Handle, reins: &Reins, news: (&'static str, String)) -> Arc<Snapshot> {
        let mut news = Some(news);
        let (mut snapshots, mut events) = (handle.snapshots.clone(), handle.events.resubscribe());
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut asked, mut telling) = (false, true);
        while !snapshots.borrow_and_update().state.is_over() {
            if let Some((kind, text)) = news.take_if(|_| snapshots.borrow().started_at.is_some()) {
                reins.tell.note(kind, text);
            }
            tokio::select! {
                biased;
                () = either(reins), if !asked => {
                    asked = true;
                    drop(handle.requests.send(Request::new(Command::Stop, Asker::Signal)).await);
                }
                told = events.recv(), if telling => match told {
                    Ok(event) => reins.report.line(&line(&event)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => telling = false,
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                _ = ticks.tick() => reins.report.progress(progress(&snapshots.borrow(), &self.name)),
            }
        }
        let last = drive::put_away(handle).await;
        loop {
            match events.try_recv() {
                Ok(event) => reins.report.line(&line(&event)),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        reins.report.progress(progress(&last, &self.name));
        last
    }
}

async fn resumed(opening: Opening, plan: Plan, run: RunId, flag: Option<String>) -> Result<Opened, Cause> {
    let wanted = Wanted { run: Some(RunRef::Full(run)), plan: Some(plan), accept_changed: false, flag };
    opening::take_over(opening, wanted, |_| {}).await
}

async fn either(reins: &Reins) {
    tokio::select! {
        () = reins.stop.cancelled() => {}
        () = reins.lost.cancelled() => {}
    }
}

/// `2026-11-26 14:03:22 WARN free memory of the host 8.2% (limit 10%)`
fn line(event: &Event) -> String {
    format!("{} {} {}", event.at.format("%Y-%m-%d %H:%M:%S"), event.level.word(), event.text)
}

/// What becomes of a job by how its run has ended.
fn ended(last: &Snapshot, task: &Task, reins: &Reins) -> Verdict {
    let short = task.run.short();
    match &last.state {
        RunState::Done { .. } => {
            let value = returned(last);
            reins.tell.note("done", format!("run {short} is done: {}", value["says"].as_str().unwrap_or_default()));
            Verdict::Done(value)
        }
        RunState::Failed { cause, .. } => judged(cause),
        RunState::Stopped { .. } if reins.lost.is_cancelled() => Verdict::Lost,
        // Nothing but this worker's own end signals to a run.
        RunState::Stopped { by: Asker::Signal, .. } => Verdict::HandedBack,
        RunState::Stopped { by: Asker::Engine, .. } => {
            Verdict::Failed { reason: format!("run {short} was stopped by the engine"), may_pass: true }
        }
        RunState::Stopped { by, .. } => {
            let reason =
                format!("run {short} was stopped by {}; go on with it: howdah queue retry {}", by.name(), task.id);
            Verdict::Failed { reason, may_pass: false }
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => {
            Verdict::Failed { reason: format!("the engine of run {short} ended before its run"), may_pass: true }
        }
    }
}
