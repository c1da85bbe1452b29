//! A run that is ours, put together: connections, ledger, governor, steps.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

use super::alarming;
use super::caches;
use super::opening::{Opening, Planned, session};
use super::probe::PoolSource;
use super::seat::{Line, Role, Seat, is_joinable};
use crate::engine::ports::{Lookups, Opened, OpenedStep, Pacing};
use crate::engine::sharing::Shares;
use crate::ledger::lock::Reopen;
use crate::ledger::mirror::{NoMirror, PostgresMirror};
use crate::ledger::open::Taken;
use crate::ledger::record::PostgresRecorder;
use crate::ledger::redis::record::RedisRecorder;
use crate::ledger::relay::Relay;
use crate::ledger::shares::PostgresShares;
use crate::monitor::free_percent;
use crate::plan::model::{Plan, StepKind};
use crate::postgres::catalog::Table;
use crate::postgres::connect::{self, Connector, PoolShape};
use crate::postgres::record::{Mirror, Recorder};
use crate::postgres::session::{Session, application_name};
use crate::redis::Address;
use crate::run::vitals::Reading;
use crate::run::{Guarantee, Level, StepIndex, StepState, Vitals};
use crate::steps::gauges::{CurrentTable, HostReading, HostSource, PgGauges};
use crate::steps::{self, Task, Workbench, lookup, preflight};

/// What a run is made of.
pub struct Materials {
    /// The plan.
    pub plan: Plan,
    /// The run's name.
    pub name: String,
    /// Its steps.
    pub planned: Vec<Planned>,
    /// What the ledger says of it.
    pub taken: Taken,
    /// What this process is to the run.
    pub role: Role,
    /// What the check found out.
    pub found: preflight::Found,
    /// What the operator should know.
    pub notices: Vec<(Level, String)>,
    /// The Redis of its cached look-ups, where they have one.
    pub redis: Option<Address>,
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

/// Opens connections for the lock on a run.
fn reopener(connector: &Connector, settings: Session) -> Reopen {
    let name = settings.application_name.clone();
    let connector = Connector { session: settings, ..connector.clone() };
    Arc::new(move || {
        let (connector, name) = (connector.clone(), name.clone());
        Box::pin(async move { connector.open(&name).await })
    })
}

/// The steps as the engine drives them.
fn bodies(bench: &Workbench, planned: &[Planned], taken: &Taken, drives: bool) -> Vec<OpenedStep> {
    let mut steps = Vec::new();
    for ((index, step), record) in (0_u32..).zip(planned).zip(&taken.steps) {
        // Refused with "already exists" (42P07): what is there was somebody else's from the start.
        let refused = record.view.outcome.as_deref().is_some_and(|outcome| outcome.ends_with("(SQLSTATE 42P07)"));
        let bench = Workbench {
            index: StepIndex(index),
            name: step.name.clone(),
            begun_before: matches!(record.view.state, StepState::Running | StepState::Failed) && !refused,
            ..bench.clone()
        };
        let shares = (drives && is_joinable(&step.task)).then(|| {
            let shares: Arc<dyn Shares> = Arc::new(PostgresShares {
                pool: bench.pool.clone(),
                run: taken.run,
                epoch: taken.epoch,
                step: StepIndex(index),
                set_aside: Arc::clone(&bench.set_aside),
            });
            shares
        });
        let cleans = match &step.task {
            Task::Plan(StepKind::Statement(statement)) => statement.cleanup,
            Task::Plan(StepKind::Index(index)) => index.during,
            _ => false,
        };
        steps.push(OpenedStep {
            view: record.view.clone(),
            body: steps::body(bench, &step.task),
            wants_cleanup: cleans && !record.cleaned,
            shares,
        });
    }
    steps
}

/// What the check found out, for the operator.
fn told(found: &preflight::Found) -> impl Iterator<Item = (Level, String)> {
    let later = (!found.later.is_empty()).then(|| {
        let steps = found.later.join(", ");
        (
            Level::Info,
            format!("checked only when it begins, since an earlier statement may make what it needs: {steps}"),
        )
    });
    found.notices.iter().map(|text| (Level::Warning, text.clone())).chain(later)
}

/// What writes the records of the run's changes, wherever its ledger lies.
fn writers(taken: &Taken, member: Option<i64>) -> (Arc<dyn Recorder>, Arc<dyn Mirror>) {
    let (run, epoch) = (taken.run, taken.epoch);
    match &taken.notes {
        None => (Arc::new(PostgresRecorder { run, epoch, member }), Arc::new(PostgresMirror { run, epoch })),
        Some(notes) => (Arc::new(RedisRecorder::new(notes.clone())), Arc::new(NoMirror)),
    }
}

/// Puts a run together.
#[must_use]
pub fn assemble(opening: &Opening, materials: Materials) -> Opened {
    let Materials { plan, name, planned, taken, role, found, mut notices, redis } = materials;
    let member = match &role {
        Role::Driver(_) => None,
        Role::Member(place) => Some(place.member),
    };
    let run = taken.run;
    opening.slots.on_hangup.send_replace(plan.on_hangup);
    opening.slots.run.send_replace(Some(run));
    opening.slots.resumed.send_replace(taken.resumed);
    opening.slots.alerts.send_replace(Some(Arc::new(alarming::rules(&plan, member.is_none()))));
    opening.slots.notify.send_replace(Some(Arc::new(alarming::recipients(&plan, member.is_none()))));
    // Look-ups have connections of their own.
    let lookups = if plan.caches.is_empty() { 0 } else { lookup::CONNECTIONS };
    let most_workers = most_workers(plan.database.pool_max.saturating_sub(lookups));
    let workers = plan.limits.workers.clamp(1, most_workers);
    let shape = PoolShape {
        max: plan.database.pool_max.saturating_sub(2 * most_workers + lookups).max(4),
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
    let relay = Relay {
        run,
        epoch: taken.epoch,
        connector: Connector { session: session("relay", &run.short(), Some(&plan.limits)), ..connector.clone() },
        name: application_name(&run.short(), "relay"),
    };
    let reopen = reopener(&connector, session("ledger", &run.short(), Some(&plan.limits)));
    notices.extend(told(&found));
    let oids = |table: &Table| table.parts.iter().map(|part| part.oid).collect::<Vec<_>>();
    let tables = found.tables.iter().flat_map(oids).collect();
    opening.slots.source.send_replace(Some(Arc::new(PoolSource::new(pool.clone(), tables))));
    let current_table = CurrentTable::default();
    let host = host_readings(opening.slots.vitals.subscribe());
    let gauges = PgGauges::new(pool.clone(), &run.short(), &plan.limits, current_table.clone(), host);
    let settings = session("lookups", &run.short(), Some(&plan.limits));
    let caches = caches::of_plan(&plan, &opening.target, settings, redis.as_ref());
    let (recorder, mirror) = writers(&taken, member);
    let bench = Workbench {
        pool: pool.clone(),
        current_table,
        connector: Arc::new(connector),
        set_aside: Arc::new(AtomicU64::new(taken.set_aside)),
        slow: plan.database.slow,
        recorder,
        mirror,
        run_id: run,
        run: run.short(),
        source: Arc::new(plan.source.clone()),
        caches: caches.clone(),
        limits: plan.limits.clone(),
        index: StepIndex(0),
        name: String::new(),
        resumed: taken.resumed,
        begun_before: false,
    };
    let exact = taken.notes.is_none();
    let steps = bodies(&bench, &planned, &taken, member.is_none() && exact);
    let guarantee = if exact { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce };
    let seat = Seat::take(role, &planned, &bench, Line { relay, reopen, notes: taken.notes.clone() });
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
        leases: seat.leases,
        ledger: seat.ledger,
        keepers: vec![seat.keeper],
        relay: seat.relay,
        guarantee,
        notices,
        waited: taken.waited,
        lookups: caches.map(|caches| caches as Arc<dyn Lookups>),
        pacing: Pacing {
            workers,
            most_workers,
            nice: plan.limits.nice,
            retry: plan.retry,
            lock_retry: plan.limits.lock_retry,
            breaker: plan.breaker,
            error_rate_percent: plan.alerts.error_rate_percent,
            allowed: plan.limits.allowed,
            gauges: Arc::new(gauges),
        },
    }
}
