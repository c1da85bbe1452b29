//! The limits that a run's plan has, in words.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::environment;
use crate::plan::model::{Plan, Threshold, Vacuum};
use crate::plan::{PlanError, load};
use crate::run::dossier::Dossier;
use crate::run::human;

/// What every stand-in holds. No address ends in it, ever (RFC 6761).
const UNSET: &str = "unset.invalid";
/// What stands in for a variable that is not set here, in the order in which they are tried: nothing, so that its default holds;
/// an address of a webhook, of a database, of a mailbox; a plain word. No number and no duration: a limit that depends on one is not known.
const STAND_INS: [&str; 6] =
    ["", "http://unset.invalid/x", "postgres://unset.invalid/x", "redis://unset.invalid/0", "x@unset.invalid", UNSET];

/// The limits of a plan as the ledger keeps it. Empty: it cannot be read here.
pub(super) fn of_source(dossier: &Dossier, flag: Option<&str>) -> Vec<(String, String)> {
    let path = dossier.plan_path.as_ref().map(PathBuf::from);
    match read(&dossier.plan_source, path.as_ref(), &environment::of_plan(flag)) {
        Ok(plan) => {
            let mut told = of_plan(&plan);
            told.retain(|(name, value)| !name.contains(UNSET) && !value.contains(UNSET));
            told
        }
        Err(e) => {
            tracing::debug!("the plan of a run cannot be read: {}", e.into_cause().headline());
            Vec::new()
        }
    }
}

/// Reads a plan whose variables need not be set here: no address of it is used, and no stand-in is shown. For each variable
/// the stand-in is taken with which the fewest mistakes are left.
fn read(source: &str, path: Option<&PathBuf>, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, PlanError> {
    let unset: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let load = || {
        let filled = |name: &str| {
            env(name).filter(|value| !value.is_empty()).or_else(|| {
                let has_default = source.contains(&format!("${{{name}:-"));
                let taken = *unset.borrow_mut().entry(name.to_owned()).or_insert(usize::from(!has_default));
                STAND_INS.get(taken).map(|text| (*text).to_owned())
            })
        };
        load::from_text("the run's plan", path.cloned(), source, &filled)
    };
    let mut best = load();
    let names: Vec<String> = unset.borrow().keys().cloned().collect();
    for name in names {
        let mut taken = unset.borrow().get(&name).copied().unwrap_or_default();
        for stand_in in 1..STAND_INS.len() {
            let Err(left) = &best else { return best };
            unset.borrow_mut().insert(name.clone(), stand_in);
            let other = load();
            let is_better = other.as_ref().map_or_else(|e| e.mistakes() < left.mistakes(), |_| true);
            if is_better {
                (best, taken) = (other, stand_in);
            }
        }
        unset.borrow_mut().insert(name, taken);
    }
    best
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

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "[[step]]\nname = 'a'\nbackfill = 'a'\nset = { n = '1' }\n";

    #[test]
    fn a_plan_is_read_where_its_addresses_are_not_known() {
        let plan = format!(
            "name = 'p'\n[database]\nurl = '${{DB}}'\ncontrol = '${{CONTROL}}'\n[limits]\nworkers = 3\nlock_timeout = '${{WAIT:-4s}}'\n\
             [[notify]]\nname = 'ops'\nurl = '${{HOOK}}'\nheaders = {{ X = '${{TOKEN}}' }}\n\
             [[notify]]\nname = 'parts'\nurl = 'https://${{HOST}}/${{PATH_OF_IT}}'\n\
             [[limits.probe]]\nname = 'rows of ${{TABLE}}'\nsql = 'SELECT 1'\nslow = 5\n{STEP}"
        );
        let read_plan = read(&plan, None, &|_| None);
        let told = of_plan(&read_plan.unwrap_or_else(|e| panic!("{:?}", e.into_cause())));
        let of = |name: &str| told.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
        assert_eq!((of("workers"), of("lock_timeout")), (Some("3"), Some("4.0s")));
        // An empty variable is as good as none; one that is set is used.
        let env = |name: &str| Some(if name == "DB" { "postgres://db/x".to_owned() } else { String::new() });
        assert!(read(&plan, None, &env).is_ok());
    }

    #[test]
    fn a_limit_that_depends_on_what_is_not_set_is_not_made_up() {
        let plan = format!("[limits]\nlock_timeout = '${{WAIT}}'\n{STEP}");
        assert!(read(&plan, None, &|_| None).is_err());
        assert!(read("name = ", None, &|_| None).is_err());
    }
}
