//! From a plan and an address to a run that is ours: connect, check, take the lock, make the steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use super::environment::of_plan;
use super::probe::PoolSource;
use super::undoing::{self, Undoing};
use crate::engine::ports::{Ledger, Opened, OpenedStep, Pacing};
use crate::ledger::lock::Reopen;
use crate::ledger::migrate;
use crate::ledger::open::{self, Draft, Driver, StepRecord, Taken};
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::record::PostgresRecorder;
use crate::monitor::{AlertLimits, DatabaseSource, free_percent};
use crate::plan::load;
use crate::plan::model::{Limits, Plan, Step, StepKind};
use crate::postgres::catalog::Table;
use crate::postgres::connect::{self, Connector, PoolShape};
use crate::postgres::dsn::Target;
use crate::postgres::pooler;
use crate::postgres::session::{Session, application_name};
use crate::run::id::RunRef;
use crate::run::vitals::Reading;
use crate::run::{Cause, Level, RunId, StepState, Vitals};
use crate::steps::gauges::{CurrentTable, HostReading, HostSource, PgGauges};
use crate::steps::{self, Task, Workbench, preflight};

/// Where the monitor's view of the database goes once there is one.
pub type SourceSlot = watch::Sender<Option<Arc<dyn DatabaseSource>>>;

/// Where the plan's thresholds go once the plan is known.
pub type AlertSlot = watch::Sender<Option<AlertLimits>>;

/// How long the connection that resumes a run may take, before the plan is known.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// What the opening of any run needs.
pub struct Opening {
    /// The database.
    pub target: Target,
    /// This process.
    pub driver: Driver,
    /// Where the monitor's view of the database goes.
    pub slot: SourceSlot,
    /// Where the plan's thresholds go.
    pub alerts: AlertSlot,
    /// What the monitor measures, for the governor.
    pub vitals: watch::Receiver<Arc<Vitals>>,
    /// What stands behind `howdah resume RUN` to find the database again: ` --plan FILE`, ` --database ...`, or nothing.
    /// `None`: nobody can resume it, the server goes with the run.
    pub resume_flags: Option<String>,
}

/// A session of howdah's own: for the lock, for looking around.
pub(super) fn session(part: &str, run: &str, limits: Option<&Limits>) -> Session {
    Session {
        application_name: application_name(run, part),
        lock_timeout: limits.map_or(Duration::from_secs(2), |limits| limits.lock_timeout),
        statement_timeout: Duration::from_secs(30),
        idle_in_transaction_timeout: limits.map_or(Duration::from_mins(1), |limits| limits.idle_in_transaction_timeout),
    }
}

/// Connects outside of any run, to look something up.
///
/// # Errors
/// Why it cannot connect.
pub async fn look(target: &Target) -> Result<PgConnection, Cause> {
    connect::one(target, CONNECT, &session("look", "cli", None)).await
}

/// Connects and checks a plan, and changes nothing.
///
/// # Errors
/// Why the plan cannot run.
pub async fn check(target: &Target, plan: &Plan) -> Result<preflight::Found, Cause> {
    let mut connection =
        connect::one(target, plan.database.pool_connect, &session("check", "cli", Some(&plan.limits))).await?;
    preflight::check(&mut connection, plan, |_| false).await
}

/// Makes a run of `plan` and takes it.
///
/// # Errors
/// Why it cannot be run. Nothing was changed then, and no run was made.
pub async fn begin(opening: Opening, plan: Plan, run: RunId, anew: bool) -> Result<Opened, Cause> {
    let settings = session("ledger", &run.short(), Some(&plan.limits));
    let mut lock = connect::one(&opening.target, plan.database.pool_connect, &settings).await?;
    refuse_pooler(&opening.target, plan.database.pool_connect, &mut lock).await?;
    let found = preflight::check(&mut lock, &plan, |_| false).await?;
    migrate::migrate(&mut lock).await?;
    let steps = planned(&plan);
    let drafts = drafts(&steps);
    let draft = Draft { run, name: &plan.name, plan: &plan, steps: drafts, undoes: None };
    let taken = open::create(&mut lock, &draft, &opening.driver, anew).await?;
    let name = plan.name.clone();
    Ok(assemble(&opening, plan, name, &steps, &taken, lock, &found, Vec::new()))
}

/// Makes a run that takes another back, and takes it.
///
/// # Errors
/// Why it cannot be taken back. Nothing was changed then, and no run was made.
pub async fn begin_undo(opening: Opening, plan: Plan, run: RunId, undo: Undoing) -> Result<Opened, Cause> {
    let settings = session("ledger", &run.short(), Some(&plan.limits));
    let mut lock = connect::one(&opening.target, plan.database.pool_connect, &settings).await?;
    refuse_pooler(&opening.target, plan.database.pool_connect, &mut lock).await?;
    migrate::migrate(&mut lock).await?;
    let way_back = undoing::plan(&mut lock, &plan, &undo).await?;
    let name = undoing::name(&plan.name);
    let undoes = Some((undo.run, undo.step.clone()));
    let draft = Draft { run, name: &name, plan: &plan, steps: drafts(&way_back.steps), undoes };
    let taken = open::create(&mut lock, &draft, &opening.driver, false).await?;
    let found = undoing::found(&mut lock, &plan, &way_back.steps).await;
    Ok(assemble(&opening, plan, name, &way_back.steps, &taken, lock, &found, way_back.notices))
}

/// A step of a run, ready to be written down and driven.
pub struct Planned {
    /// Its name.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// What it does, as one number.
    pub fingerprint: String,
}

/// The steps of a plan.
#[must_use]
pub fn planned(plan: &Plan) -> Vec<Planned> {
    let step = |step: &Step| Planned {
        name: step.name.clone(),
        task: Task::Plan(step.kind.clone()),
        fingerprint: step.fingerprint(),
    };
    plan.steps.iter().map(step).collect()
}

fn drafts(steps: &[Planned]) -> Vec<(String, &'static str, String)> {
    steps.iter().map(|step| (step.name.clone(), step.task.word(), step.fingerprint.clone())).collect()
}

/// What is to be resumed, and with which plan.
pub struct Wanted {
    /// The run; without it, the newest that is unfinished.
    pub run: Option<RunRef>,
    /// The plan, where it was given; else the run's own.
    pub plan: Option<Plan>,
    /// Whether to go on although its steps have changed.
    pub accept_changed: bool,
    /// `--database`, which answers for `DATABASE_URL` in the plan.
    pub flag: Option<String>,
}

/// Finds a run and takes it over.
///
/// # Errors
/// Why it cannot be resumed.
pub async fn take_over(opening: Opening, wanted: Wanted, learn: impl FnOnce(RunId) + Send) -> Result<Opened, Cause> {
    let limit = wanted.plan.as_ref().map_or(CONNECT, |plan| plan.database.pool_connect);
    let mut lock = connect::one(&opening.target, limit, &session("ledger", "resume", None)).await?;
    refuse_pooler(&opening.target, limit, &mut lock).await?;
    let run = open::find(&mut lock, wanted.run.as_ref(), true).await?;
    learn(run);
    migrate::migrate(&mut lock).await?;
    let taken = open::resume(&mut lock, run, &opening.driver).await?;
    let mut notices = Vec::new();
    let plan = match wanted.plan {
        Some(plan) => plan,
        None => find_plan(&mut lock, run, wanted.flag.as_deref(), &mut notices).await?,
    };
    session("ledger", &run.short(), Some(&plan.limits))
        .apply(&mut lock)
        .await
        .map_err(|e| crate::postgres::error::cause("setting up the session", &e))?;
    let undoes = open::undoes(&mut lock, run).await;
    let undoes = undoes.map_err(|e| crate::postgres::error::cause("reading the run", &e))?;
    let steps = match &undoes {
        None => planned(&plan),
        Some((undone, step)) => {
            let undo = Undoing { run: *undone, step: step.clone(), again: true };
            undoing::plan(&mut lock, &plan, &undo).await?.steps
        }
    };
    let changed = same_steps(&steps, &taken.steps, wanted.accept_changed)?;
    notices.extend(changed.map(|text| (Level::Warning, text)));
    if undoes.is_some() {
        let found = undoing::found(&mut lock, &plan, &steps).await;
        let name = undoing::name(&plan.name);
        return Ok(assemble(&opening, plan, name, &steps, &taken, lock, &found, notices));
    }
    let done = |index: usize| taken.steps.get(index).is_some_and(|step| step.view.state == StepState::Done);
    let found = preflight::check(&mut lock, &plan, done).await?;
    let name = plan.name.clone();
    Ok(assemble(&opening, plan, name, &steps, &taken, lock, &found, notices))
}

/// The plan of a run that is resumed: its file, else the text that the ledger keeps.
pub async fn find_plan(
    lock: &mut PgConnection,
    run: RunId,
    flag: Option<&str>,
    notices: &mut Vec<(Level, String)>,
) -> Result<Plan, Cause> {
    let stored = open::stored_plan(lock, run).await?;
    let env = of_plan(flag);
    if let Some(path) = stored.path.as_ref().map(PathBuf::from) {
        if path.is_file() {
            return load::from_file(&path, &env).map_err(crate::plan::PlanError::into_cause);
        }
        notices.push((
            Level::Warning,
            format!("{} is gone: going on with the plan that the ledger keeps", path.display()),
        ));
    }
    let label = stored.path.clone().unwrap_or_else(|| format!("{} (from the ledger)", stored.name));
    load::from_text(&label, stored.path.map(PathBuf::from), &stored.source, &env)
        .map_err(crate::plan::PlanError::into_cause)
}

/// Whether the plan's steps are what they were when the run began. Returns a remark where a change was accepted.
pub fn same_steps(steps: &[Planned], records: &[StepRecord], accept: bool) -> Result<Option<String>, Cause> {
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let were: Vec<&str> = records.iter().map(|step| step.view.name.as_str()).collect();
    if names != were {
        return Err(Cause::usage(format!(
            "the plan has other steps than when the run began: {} now, {} then",
            names.join(", "),
            were.join(", ")
        ))
        .hint("undo the change to go on, or begin a new run: howdah run PLAN --new"));
    }
    let changed: Vec<String> = steps
        .iter()
        .zip(records)
        .filter(|(now, then)| now.fingerprint != then.fingerprint)
        .map(|(now, _)| format!("`{}`", now.name))
        .collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let changed = changed.join(", ");
    if accept {
        return Ok(Some(format!("the plan has changed since the run began, in {changed}; going on with it, as asked")));
    }
    Err(Cause::usage(format!("the plan has changed since the run began, in step {changed}"))
        .hint("rows that are done were changed by the old plan, the rest would be changed by the new one")
        .hint("undo the change, or add --accept-changed-plan to go on with the new plan from where the run stands"))
}

/// Refuses an address that leads to a pooler in transaction mode.
pub(super) async fn refuse_pooler(target: &Target, limit: Duration, lock: &mut PgConnection) -> Result<(), Cause> {
    let mut other = connect::one(target, limit, &session("look", "cli", None)).await?;
    let shared = pooler::shares_sessions(lock, &mut other).await;
    drop(other.close().await);
    match shared {
        Ok(false) => Ok(()),
        Ok(true) => Err(Cause::usage(format!(
            "{} leads to a pooler that shares sessions out by the transaction: howdah's lock on a run, and its timeouts, \
             need sessions of their own",
            target.server()
        ))
        .hint("give the server's own address as `database.control` in the plan, or as --database")
        .hint("or let the pooler serve this database in session mode (PgBouncer: pool_mode = session)")),
        Err(e) => Err(crate::postgres::error::cause("looking whether a pooler stands before the server", &e)),
    }
}

/// How many workers the connections allow: each takes two, and four are needed beside them.
fn most_workers(pool_max: u32) -> u32 {
    (pool_max.saturating_sub(4) / 2).clamp(1, 64)
}

/// What the monitor measures of this host, for the governor.
fn host_readings(vitals: watch::Receiver<Arc<Vitals>>) -> HostSource {
    Arc::new(move || {
        let vitals = Arc::clone(&vitals.borrow());
        let host = match &vitals.host {
            Reading::Value(host) => Ok(host),
            Reading::Pending => Err("nothing has been measured yet".to_owned()),
            Reading::Unavailable(why) => Err(why.clone()),
        };
        let cpu_percent = host.clone().and_then(|host| {
            host.cpu_percent.map(f64::from).ok_or_else(|| "it takes two samples, a moment apart".to_owned())
        });
        let free_memory_percent =
            host.and_then(|host| free_percent(host).ok_or_else(|| "the host does not tell".to_owned()));
        HostReading { cpu_percent, free_memory_percent }
    })
}

#[expect(clippy::too_many_arguments, reason = "everything that a run is made of comes together here, once")]
fn assemble(
    opening: &Opening,
    plan: Plan,
    name: String,
    planned: &[Planned],
    taken: &Taken,
    lock: PgConnection,
    found: &preflight::Found,
    mut notices: Vec<(Level, String)>,
) -> Opened {
    let run = taken.run;
    opening.alerts.send_replace(Some(AlertLimits {
        duration: plan.alerts.duration,
        memory: plan.alerts.memory,
        free_memory_percent: plan.alerts.free_memory_percent,
        error_rate_percent: plan.alerts.error_rate_percent,
    }));
    let most_workers = most_workers(plan.database.pool_max);
    let workers = plan.limits.workers.clamp(1, most_workers);
    let shape = PoolShape {
        max: plan.database.pool_max.saturating_sub(2 * workers).max(4),
        idle: plan.database.pool_idle,
        connect: plan.database.pool_connect,
        session: Session {
            statement_timeout: plan.limits.statement_timeout,
            ..session("pool", &run.short(), Some(&plan.limits))
        },
    };
    let pool = connect::pool(&opening.target, &shape);
    let connector =
        Connector { target: opening.target.clone(), limit: plan.database.pool_connect, session: shape.session.clone() };
    let reopen: Reopen = {
        let settings = session("ledger", &run.short(), Some(&plan.limits));
        let connector = Connector { session: settings.clone(), ..connector.clone() };
        let name = settings.application_name;
        Arc::new(move || {
            let (connector, name) = (connector.clone(), name.clone());
            Box::pin(async move { connector.open(&name).await })
        })
    };
    notices.extend(found.notices.iter().map(|text| (Level::Warning, text.clone())));
    let oids = |table: &Table| table.parts.iter().map(|part| part.oid).collect::<Vec<_>>();
    let tables = found.tables.iter().flat_map(oids).collect();
    opening.slot.send_replace(Some(Arc::new(PoolSource::new(pool.clone(), tables))));
    let current_table = CurrentTable::default();
    let host = host_readings(opening.vitals.clone());
    let gauges = PgGauges::new(pool.clone(), &run.short(), &plan.limits, current_table.clone(), host);
    let bench = Workbench {
        pool: pool.clone(),
        current_table,
        connector: Arc::new(connector),
        set_aside: Arc::new(AtomicU64::new(taken.set_aside)),
        slow: plan.database.slow,
        recorder: Arc::new(PostgresRecorder { run, epoch: taken.epoch }),
        run_id: run,
        run: run.short(),
        source: Arc::new(plan.source.clone()),
        limits: plan.limits.clone(),
        index: crate::run::StepIndex(0),
        name: String::new(),
        resumed: taken.resumed,
        begun_before: false,
    };
    let mut steps = Vec::new();
    for ((index, step), record) in (0_u32..).zip(planned).zip(&taken.steps) {
        // Refused with "already exists" (42P07): what is there was somebody else's from the start.
        let refused = record.view.outcome.as_deref().is_some_and(|outcome| outcome.ends_with("(SQLSTATE 42P07)"));
        let bench = Workbench {
            index: crate::run::StepIndex(index),
            name: step.name.clone(),
            begun_before: matches!(record.view.state, StepState::Running | StepState::Failed) && !refused,
            ..bench.clone()
        };
        let cleans = matches!(&step.task, Task::Plan(StepKind::Statement(statement)) if statement.cleanup);
        steps.push(OpenedStep {
            view: record.view.clone(),
            body: steps::body(bench, &step.task),
            wants_cleanup: cleans && !record.cleaned,
        });
    }
    if !found.later.is_empty() {
        let text = format!(
            "checked only when it begins, since an earlier statement may make what it needs: {}",
            found.later.join(", ")
        );
        notices.push((Level::Info, text));
    }
    let (ledger, keeper) = PostgresLedger::new(pool, run, taken.epoch, lock, reopen);
    let ledger: Arc<dyn Ledger> = ledger;
    Opened {
        run: run.short(),
        plan: name,
        resume_command: opening
            .resume_flags
            .as_ref()
            .map_or_else(String::new, |flags| format!("howdah resume {}{flags}", run.short())),
        server: opening.target.label(),
        started_at: taken.created_at,
        spent: taken.spent,
        resumed: taken.resumed,
        steps,
        ledger,
        keepers: vec![Box::pin(keeper)],
        notices,
        waited: taken.waited.clone(),
        pacing: Pacing {
            workers,
            most_workers,
            nice: plan.limits.nice,
            retry: plan.retry,
            breaker: plan.breaker,
            error_rate_percent: plan.alerts.error_rate_percent,
            allowed: plan.limits.allowed,
            gauges: Arc::new(gauges),
        },
    }
}
