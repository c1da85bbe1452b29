//! From a plan and an address to a run that is ours: connect, check, take the lock, make the steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use super::alarming;
use super::assembly::{Materials, assemble};
use super::environment::{self, of_plan};
use super::seat::Role;
use super::undoing::{self, Undoing, WayBack};
use super::{Global, caches};
use super::{beforehand, books};
use crate::check::allow;
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::ports::Opened;
use crate::ledger::member;
use crate::ledger::migrate;
use crate::ledger::open::{self, Draft, Driver, StepRecord, StoredPlan, Taken};
use crate::ledger::runs;
use crate::monitor::{AlertRules, DatabaseSource};
use crate::plan::load;
use crate::plan::model::{Limits, OnHangup, Plan, Step};
use crate::postgres::catalog::{Part, Table};
use crate::postgres::connect::{self};
use crate::postgres::dsn::Target;
use crate::postgres::pooler;
use crate::postgres::session::{Session, application_name};
use crate::run::id::RunRef;
use crate::run::notify::Recipient;
use crate::run::timer::Spent;
use crate::run::{Cause, Level, RunId, StepState, StepView, Vitals};
use crate::steps::{Task, preflight};

/// Where the monitor's view of the database goes once there is one.
pub type SourceSlot = watch::Sender<Option<Arc<dyn DatabaseSource>>>;

/// Where the rules that raise alerts go once the plan is known.
pub type AlertSlot = watch::Sender<Option<Arc<AlertRules>>>;

/// How long the connection that resumes a run may take, before the plan is known.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// Where the opening of a run puts what the rest of the process needs of it, and finds what is measured.
#[derive(Clone)]
pub struct Slots {
    /// Where the monitor's view of the database goes.
    pub source: SourceSlot,
    /// Where the rules that raise alerts go.
    pub alerts: AlertSlot,
    /// Where those go who are told of them.
    pub notify: watch::Sender<Option<Arc<Vec<Recipient>>>>,
    /// Whether it goes on from where another driver has left it.
    pub resumed: watch::Sender<bool>,
    /// Where what the monitor measures is put: the governor reads it.
    pub vitals: watch::Sender<Arc<Vitals>>,
    /// What the plan wants done when the terminal is lost.
    pub on_hangup: watch::Sender<OnHangup>,
    /// Which run it is, once that is known.
    pub run: watch::Sender<Option<RunId>>,
    /// `--redis`.
    pub redis: Option<String>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            source: watch::Sender::new(None),
            alerts: watch::Sender::new(None),
            notify: watch::Sender::new(None),
            resumed: watch::Sender::new(false),
            vitals: watch::Sender::new(Arc::default()),
            on_hangup: watch::Sender::new(OnHangup::default()),
            run: watch::Sender::new(None),
            redis: None,
        }
    }
}

impl Slots {
    /// What the command line says of the run's surroundings.
    #[must_use]
    pub fn of(global: &Global) -> Self {
        Self { redis: global.redis.clone(), ..Self::default() }
    }

    /// Who hears of it, known as soon as the plan is: a run that cannot be opened is told of as well.
    pub fn tell_those_of(&self, plan: &Plan) {
        self.notify.send_replace(Some(Arc::new(alarming::recipients(plan, true))));
    }

    /// What the opening of a run on `target` needs.
    #[must_use]
    pub fn opening(&self, target: Target, resume_flags: Option<String>) -> Opening {
        Opening { target, driver: this_process(), slots: self.clone(), resume_flags }
    }
}

/// This process, as a driver.
#[must_use]
pub fn this_process() -> Driver {
    Driver { host: environment::host(), pid: std::process::id() }
}

/// What the opening of any run needs.
pub struct Opening {
    /// The database.
    pub target: Target,
    /// This process.
    pub driver: Driver,
    /// What the rest of the process needs of the run.
    pub slots: Slots,
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

/// Makes a run of `plan` and takes it.
///
/// # Errors
/// Why it cannot be run. Nothing was changed then, and no run was made.
pub async fn begin(opening: Opening, plan: Plan, run: RunId, anew: bool) -> Result<Opened, Cause> {
    let settings = session("ledger", &run.short(), Some(&plan.limits));
    let mut lock = connect::one(&opening.target, plan.database.pool_connect, &settings).await?;
    refuse_pooler(&opening.target, plan.database.pool_connect, &mut lock).await?;
    let book = books::of_plan(opening.slots.redis.as_deref(), &plan).await?;
    let mut notices: Vec<_> = book.advice().await?.into_iter().map(|text| (Level::Warning, text)).collect();
    let allowed = allow::codes(&plan)?;
    let (before, found) =
        tokio::join!(beforehand::look(&opening.target, &plan, &allowed), preflight::check(&mut lock, &plan, |_| false));
    let found = found.map_err(|cause| before.explains(cause))?;
    notices.extend(before.judge(&plan, &found.notices)?);
    book.prepare(&mut lock).await?;
    let steps = planned(&plan);
    let drafts = drafts(&steps);
    let draft = Draft { run, name: &plan.name, plan: &plan, steps: drafts, undoes: None, tables: changed(&found) };
    let taken = book.create(&mut lock, &draft, &opening.driver, anew).await?;
    let name = plan.name.clone();
    let redis = caches::address(&plan, opening.slots.redis.as_deref())?;
    let role = Role::Driver(lock);
    let materials = Materials { plan, name, planned: steps, taken, role, found, notices, redis };
    Ok(assemble(&opening, materials))
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
    let found = undoing::found(&mut lock, &plan, &way_back.steps).await;
    let steps = drafts(&way_back.steps);
    let draft = Draft { run, name: &name, plan: &plan, steps, undoes, tables: changed(&found) };
    let taken = open::create(&mut lock, &draft, &opening.driver, false).await?;
    let WayBack { steps: planned, notices } = way_back;
    let role = Role::Driver(lock);
    Ok(assemble(&opening, Materials { plan, name, planned, taken, role, found, notices, redis: None }))
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

/// The tables that a plan changes, as the ledger names them.
fn changed(found: &preflight::Found) -> Vec<String> {
    // With their partitions: a plan may name one of them.
    let names = |table: &Table| std::iter::once(table.quoted()).chain(table.parts.iter().map(Part::quoted)).collect();
    let mut names: Vec<String> = found.tables.iter().flat_map::<Vec<String>, _>(names).collect();
    names.sort_unstable();
    names.dedup();
    names
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
    let books = books::all(opening.slots.redis.as_deref(), wanted.plan.as_ref()).await?;
    let (book, run) = books::find(books, &mut lock, wanted.run.as_ref(), true).await?;
    learn(run);
    book.prepare(&mut lock).await?;
    let taken = book.resume(&mut lock, run, &opening.driver).await?;
    let mut notices = Vec::new();
    let plan = if let Some(plan) = wanted.plan {
        plan
    } else {
        let mut plan = plan_of(book.stored_plan(&mut lock, run).await?, wanted.flag.as_deref(), &mut notices)?;
        notices.extend(alarming::leave_out_masked(&mut plan).map(|text| (Level::Warning, text)));
        plan
    };
    opening.slots.tell_those_of(&plan);
    session("ledger", &run.short(), Some(&plan.limits))
        .apply(&mut lock)
        .await
        .map_err(|e| crate::postgres::error::cause("setting up the session", &e))?;
    let undoes = book.undoes(&mut lock, run).await?;
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
        let role = Role::Driver(lock);
        let materials = Materials { plan, name, planned: steps, taken, role, found, notices, redis: None };
        return Ok(assemble(&opening, materials));
    }
    let done = |index: usize| taken.steps.get(index).is_some_and(|step| step.view.state == StepState::Done);
    let found = preflight::check(&mut lock, &plan, done).await?;
    let name = plan.name.clone();
    let redis = caches::address(&plan, opening.slots.redis.as_deref())?;
    let role = Role::Driver(lock);
    Ok(assemble(&opening, Materials { plan, name, planned: steps, taken, role, found, notices, redis }))
}

/// Joins a run that another process drives.
///
/// # Errors
/// Why it cannot be joined. Nothing was changed then.
pub async fn join(opening: Opening, wanted: Wanted, workers: Option<u32>) -> Result<Opened, Cause> {
    let limit = wanted.plan.as_ref().map_or(CONNECT, |plan| plan.database.pool_connect);
    let mut connection = connect::one(&opening.target, limit, &session("look", "join", None)).await?;
    let run = runs::find(&mut connection, wanted.run.as_ref(), true).await?;
    migrate::ready_for_members(&mut connection).await?;
    let read = |e: sqlx::Error| crate::postgres::error::cause("reading the run", &e);
    let mut notices = Vec::new();
    let mut plan = match wanted.plan {
        Some(plan) => plan,
        None => find_plan(&mut connection, run, wanted.flag.as_deref(), &mut notices).await?,
    };
    if let Some(workers) = workers {
        plan.limits.workers = workers;
    }
    if runs::undoes(&mut connection, run).await.map_err(read)?.is_some() {
        return Err(Cause::usage(format!("run {} takes another one back: nobody else can join that", run.short())));
    }
    let steps = planned(&plan);
    let records = open::steps(&mut connection, run).await.map_err(read)?;
    let changed = same_steps(&steps, &records, wanted.accept_changed)?;
    notices.extend(changed.map(|text| (Level::Warning, text)));
    let done = |index: usize| records.get(index).is_some_and(|step| step.view.state == StepState::Done);
    let found = preflight::check(&mut connection, &plan, done).await?;
    let place = member::join(&mut connection, run, &opening.driver, plan.limits.workers).await?;
    drop(connection.close().await);
    let name = plan.name.clone();
    let taken = Taken {
        run,
        epoch: place.epoch,
        created_at: SystemClock::start().utc(),
        spent: Spent::default(),
        waited: Vec::new(),
        set_aside: 0,
        steps: records.into_iter().map(as_of_now).collect(),
        resumed: true,
        notes: None,
    };
    let redis = caches::address(&plan, opening.slots.redis.as_deref())?;
    let role = Role::Member(place);
    Ok(assemble(&opening, Materials { plan, name, planned: steps, taken, role, found, notices, redis }))
}

/// A step of a run that was joined: what others have done in it is not this process's to tell.
fn as_of_now(record: StepRecord) -> StepRecord {
    StepRecord { view: StepView::new(record.view.name, record.view.kind), ..record }
}

/// The plan of a run that is resumed: its file, else the text that the ledger keeps.
///
/// # Errors
/// There is neither, or it is wrong.
pub async fn find_plan(
    lock: &mut PgConnection,
    run: RunId,
    flag: Option<&str>,
    notices: &mut Vec<(Level, String)>,
) -> Result<Plan, Cause> {
    plan_of(open::stored_plan(lock, run).await?, flag, notices)
}

/// As [`find_plan`], of what the ledger keeps.
fn plan_of(stored: StoredPlan, flag: Option<&str>, notices: &mut Vec<(Level, String)>) -> Result<Plan, Cause> {
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
///
/// # Errors
/// They are not, and that was not accepted.
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
