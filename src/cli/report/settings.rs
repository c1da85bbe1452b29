//! The limits that a run's plan has, in words.

use std::path::PathBuf;

use crate::cli::environment;
use crate::plan::load;
use crate::plan::model::{Plan, Threshold, Vacuum};
use crate::run::dossier::Dossier;
use crate::run::human;

/// The limits of a plan as the ledger keeps it. Empty: it cannot be read here.
pub(super) fn of_source(dossier: &Dossier, flag: Option<&str>) -> Vec<(String, String)> {
    // What is not set here is not asked for: no address is used.
    let known = environment::of_plan(flag);
    let env = |name: &str| known(name).or_else(|| Some(String::new()));
    let path = dossier.plan_path.as_ref().map(PathBuf::from);
    match load::from_text("the run's plan", path, &dossier.plan_source, &env) {
        Ok(plan) => of_plan(&plan),
        Err(e) => {
            tracing::debug!("the plan of a run cannot be read: {}", e.into_cause().headline());
            Vec::new()
        }
    }
}

fn threshold<T: Copy>(limit: Option<Threshold<T>>, told: impl Fn(T) -> String) -> String {
    match limit {
        None => "off".to_owned(),
        Some(Threshold { slow, stop: None }) => format!("slow {}", told(slow)),
        Some(Threshold { slow, stop: Some(stop) }) => format!("slow {}, stop {}", told(slow), told(stop)),
    }
}

fn of_plan(plan: &Plan) -> Vec<(String, String)> {
    let (limits, signals) = (&plan.limits, &plan.limits.signals);
    let percent = |share: f64| format!("{share}%");
    let batch = &limits.batch;
    let mut told = vec![
        ("workers", limits.workers.to_string()),
        (
            "batch",
            format!(
                "{} at first, {} to {}, aiming at {}",
                human::rows(batch.start),
                human::count(batch.min),
                human::count(batch.max),
                human::duration(batch.target)
            ),
        ),
        ("lock_timeout", human::duration(limits.lock_timeout)),
        ("statement_timeout", human::duration(limits.statement_timeout)),
        ("waiters", limits.waiters.map_or_else(|| "off".to_owned(), human::duration)),
        ("nice", limits.nice.to_string()),
        ("max_quarantined", human::count(limits.max_quarantined)),
        (
            "vacuum",
            match limits.vacuum {
                Vacuum::Off => "off",
                Vacuum::Wait => "wait",
                Vacuum::Run => "run",
            }
            .to_owned(),
        ),
        ("replay_lag", threshold(signals.replay_lag, human::duration)),
        ("wal", threshold(signals.wal, |size| size.to_string())),
        ("archive", threshold(signals.archive, human::count)),
        ("sessions", threshold(signals.sessions, human::count)),
        ("snapshot_age", threshold(signals.snapshot_age, human::duration)),
        ("free_disk", threshold(signals.free_disk, percent)),
        ("host_cpu", threshold(signals.host_cpu, percent)),
        ("free_memory", threshold(signals.free_memory, percent)),
    ];
    if !limits.allowed.is_empty() {
        told.push(("allowed", format!("{} windows", limits.allowed.len())));
    }
    let probes = signals.probes.iter().map(|probe| {
        let limit = threshold(Some(probe.limit), |value: f64| value.to_string());
        (format!("probe {}", probe.name), limit)
    });
    let retry = format!(
        "{} attempts, from {} to {}",
        plan.retry.attempts,
        human::duration(plan.retry.base),
        human::duration(plan.retry.max)
    );
    let breaker =
        format!("opens after {} failures, for {}", plan.breaker.failures, human::duration(plan.breaker.reset));
    let pool = format!("{} connections at most", plan.database.pool_max);
    let mut all: Vec<(String, String)> = told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(probes);
    all.extend([("retry".to_owned(), retry), ("breaker".to_owned(), breaker), ("pool".to_owned(), pool)]);
    all
}
