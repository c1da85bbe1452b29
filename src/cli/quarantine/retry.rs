//! `howdah quarantine retry`: each row that is set aside is tried again, one transaction a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RetryArgs;
use crate::cache::Caches;
use crate::cli::environment::{of_plan, variable};
use crate::cli::log::Log;
use crate::cli::run::resume_flags;
use crate::cli::{Exit, Global, books, caches, opening, say};
use crate::ledger::migrate;
use crate::ledger::open::{self, StepRecord};
use crate::ledger::quarantine::{self, Wanted};
use crate::ledger::record::PostgresRecorder;
use crate::ledger::runs;
use crate::plan::model::{Plan, Store};
use crate::plan::{PlanError, load};
use crate::postgres::connect;
use crate::postgres::dsn::Target;
use crate::postgres::error;
use crate::postgres::record::{AsideRow, Recorder};
use crate::postgres::session::Session;
use crate::run::text::clean;
use crate::run::{Cause, Level, RunId, StepIndex, StepState, human};
use crate::steps::quarantine::{Mender, Tried};

/// Rows that are looked up at once.
const PAGE: u32 = 500;
/// Failures that are told one by one; the log and `list` have them all.
const TOLD: u64 = 20;

/// Tries them again.
pub(super) async fn run(global: &Global, args: RetryArgs) -> Result<Exit, Cause> {
    let plan = match &args.which.plan {
        Some(path) => Some(load::from_file(path, &of_plan(global.database.as_deref())).map_err(PlanError::into_cause)?),
        None => None,
    };
    let refused = "rows are tried again";
    if plan.as_ref().is_some_and(|plan| plan.store == Store::Redis) {
        return Err(books::only_in_the_database(refused));
    }
    let database = plan.as_ref().map(|plan| &plan.database);
    let url = database.and_then(|database| database.control.as_ref().or(database.url.as_ref()));
    let target = Target::resolve(global.database.as_deref(), url, &variable)?;
    let limit = database.map_or(opening::CONNECT, |database| database.pool_connect);
    let log = Log::begin(global.log_level.as_deref())?;
    let mut connection = connect::one(&target, limit, &opening::session("quarantine", "retry", None)).await?;
    opening::refuse_pooler(&target, limit, &mut connection).await?;
    let run = match runs::find(&mut connection, args.which.run.as_ref(), false).await {
        Ok(run) => run,
        Err(cause) => {
            let named = args.which.run.as_ref();
            return Err(books::not_found(global.redis.as_deref(), &target, named, (cause, refused)).await);
        }
    };
    log.of_run(run)?;
    migrate::migrate(&mut connection).await?;
    let step = super::step(&mut connection, run, args.which.step.as_deref()).await?;
    let epoch = quarantine::take(&mut connection, run, step, &opening::this_process()).await?;
    let plan = if let Some(plan) = plan {
        plan
    } else {
        let mut notices = Vec::new();
        let plan = opening::find_plan(&mut connection, run, global.database.as_deref(), &mut notices).await?;
        for (_, text) in &notices {
            say::err(&clean(text));
        }
        plan
    };
    let steps = open::steps(&mut connection, run).await.map_err(|e| error::cause("reading the ledger", &e))?;
    if let Some(text) = opening::same_steps(&opening::planned(&plan), &steps, args.accept_changed_plan)? {
        say::err(&clean(&text));
    }
    let settings = opening::session("quarantine", &run.short(), Some(&plan.limits));
    Session { statement_timeout: plan.limits.statement_timeout, ..settings }
        .apply(&mut connection)
        .await
        .map_err(|e| error::cause("setting up the session", &e))?;
    let redis = caches::address(&plan, global.redis.as_deref())?;
    let settings = opening::session("lookups", &run.short(), Some(&plan.limits));
    let caches = caches::of_plan(&plan, &target, settings, redis.as_ref());
    let flags = resume_flags(global, args.which.plan.is_some().then_some(&plan));
    let mut round = Round {
        run,
        recorder: Arc::new(PostgresRecorder { run, epoch, member: None }),
        plan,
        caches,
        steps,
        menders: BTreeMap::new(),
        interrupts: Interrupts::listen()?,
        counts: Counts::default(),
        flags,
    };
    let ended = round.walk(&mut connection, Wanted { run, step, resolved: false, with_row: false }).await;
    let exit = round.conclude(&mut connection, ended).await;
    drop(connection.close().await);
    exit
}

/// One round over the rows that are set aside.
struct Round {
    run: RunId,
    recorder: Arc<dyn Recorder>,
    plan: Plan,
    caches: Option<Arc<Caches>>,
    steps: Vec<StepRecord>,
    menders: BTreeMap<StepIndex, Mender>,
    interrupts: Interrupts,
    counts: Counts,
    flags: String,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    changed: u64,
    failed: u64,
    gone: u64,
    unmatched: u64,
    elsewhere: u64,
}

/// Whether the round came to its end, or was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walked {
    ToTheEnd,
    Interrupted,
}

impl Round {
    async fn walk(&mut self, connection: &mut PgConnection, wanted: Wanted) -> Result<Walked, Cause> {
        let mut after: Option<AsideRow> = None;
        loop {
            let page = quarantine::page(connection, wanted, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(Walked::ToTheEnd) };
            after = Some(last.clone());
            for row in &page {
                // Between two transactions: none is ever left in the middle.
                if self.interrupts.came() {
                    return Ok(Walked::Interrupted);
                }
                let tried = self.mender(connection, row.step).await?.again(connection, row).await?;
                self.tell(row, tried);
            }
        }
    }

    async fn mender(&mut self, connection: &mut PgConnection, step: StepIndex) -> Result<&Mender, Cause> {
        if !self.menders.contains_key(&step) {
            let at = step.as_usize();
            let (Some(of_plan), Some(record)) = (self.plan.steps.get(at), self.steps.get(at)) else {
                return Err(Cause::usage(format!("the plan has no step {step}, and rows of it are set aside")));
            };
            let is_done = record.view.state == StepState::Done;
            let recorder = (Arc::clone(&self.recorder), self.caches.as_ref());
            let mender = Mender::prepare(connection, &self.plan, (self.run, step), of_plan, is_done, recorder).await?;
            self.menders.insert(step, mender);
        }
        self.menders.get(&step).ok_or_else(|| Cause::bug("a step that was prepared is not there"))
    }

    fn tell(&mut self, row: &AsideRow, tried: Tried) {
        let name = self.plan.steps.get(row.step.as_usize()).map_or("", |step| step.name.as_str());
        tracing::info!(step = name, key = ?row.key, ?tried, "tried again");
        match tried {
            Tried::Changed => self.counts.changed += 1,
            Tried::Gone => self.counts.gone += 1,
            Tried::Unmatched => self.counts.unmatched += 1,
            Tried::Resolved => self.counts.elsewhere += 1,
            Tried::FailedAgain { key_name, sqlstate, message } => {
                self.counts.failed += 1;
                if self.counts.failed <= TOLD {
                    let code = sqlstate.map_or_else(String::new, |code| format!(" (SQLSTATE {code})"));
                    let key = row.key.join(", ");
                    say::err(&clean(&format!("failed again: {name}, {key_name} {key}: {message}{code}")));
                }
            }
        }
    }

    /// Says what came of it. What was done before something failed is told as well.
    async fn conclude(&self, connection: &mut PgConnection, ended: Result<Walked, Cause>) -> Result<Exit, Cause> {
        let summary = self.counts.summary();
        if let Some(summary) = &summary {
            if self.counts.failed > TOLD {
                say::err(&format!("and {} more", human::count(self.counts.failed - TOLD)));
            }
            say::out(summary);
        }
        let walked = ended.map_err(|mut cause| {
            // It is this command that goes on, and not `howdah resume`.
            cause.hints.retain(|hint| !hint.contains("resume the run"));
            cause.hint("what is resolved stays resolved; to go on, give the same command again")
        })?;
        if let Some(summary) = &summary {
            let level = if self.counts.failed > 0 { Level::Warning } else { Level::Info };
            quarantine::note(connection, self.run, level, &format!("rows that were set aside, tried again: {summary}"))
                .await?;
        }
        let run = self.run.short();
        let left = quarantine::count(connection, self.run, None).await?.open;
        let flags = &self.flags;
        match (walked, left) {
            (_, 0) if summary.is_none() => say::out(&format!("no row of run {run} is set aside")),
            (_, 0) => say::err(&format!("no row of run {run} is set aside any more")),
            (Walked::ToTheEnd, left) => {
                say::err(&format!("{} set aside still: howdah quarantine list {run}{flags}", human::rows(left)));
            }
            (Walked::Interrupted, left) => say::err(&format!(
                "interrupted; {} set aside still. To go on: howdah quarantine retry {run}{flags}",
                human::rows(left)
            )),
        }
        Ok(match (walked, left) {
            (_, 0) => Exit::Done,
            (Walked::ToTheEnd, _) => Exit::Quarantined,
            (Walked::Interrupted, _) => Exit::Resumable,
        })
    }
}

impl Counts {
    /// `34 changed, 2 failed again, 1 gone`. `None`: there was no row.
    fn summary(self) -> Option<String> {
        let Self { changed, failed, gone, unmatched, elsewhere } = self;
        let parts = [
            (changed, "changed"),
            (failed, "failed again"),
            (gone, "gone"),
            (unmatched, "with nothing to change any more"),
            (elsewhere, "resolved by somebody else"),
        ];
        let told: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", human::count(*n))).collect();
        Some(told.join(", ")).filter(|told| !told.is_empty())
    }
}

/// SIGINT, SIGTERM and SIGHUP, heard between two rows.
struct Interrupts {
    streams: [Signal; 3],
}

impl Interrupts {
    fn listen() -> Result<Self, Cause> {
        let hear = |kind| signal(kind).map_err(|e| Cause::new(format!("signals cannot be listened to: {e}")));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hang_up] = kinds.map(hear);
        Ok(Self { streams: [interrupt?, terminate?, hang_up?] })
    }

    /// Whether one has come.
    fn came(&mut self) -> bool {
        use futures_util::FutureExt;
        self.streams.iter_mut().any(|stream| stream.recv().now_or_never().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn the_summary_names_what_there_was() {
        let counts = Counts { changed: 34, failed: 2, gone: 1, ..Counts::default() };
        assert_eq!(counts.summary().as_deref(), Some("34 changed, 2 failed again, 1 gone"));
        let counts = Counts { changed: 1200, unmatched: 3, ..Counts::default() };
        assert_eq!(counts.summary().as_deref(), Some("1,200 changed, 3 with nothing to change any more"));
        assert_eq!(Counts::default().summary(), None);
    }
}
