//! What a job's progress says, and what it returns: for dashboards, and for the console's view of a queue.

use serde_json::{Value, json};

use crate::cli::progress_line::{fraction, status};
use crate::run::snapshot::Activity;
use crate::run::{Eta, RunState, Snapshot, human};

/// A run's progress as the job carries it. Durations are seconds and say so; what is not known is `null`.
pub(super) fn progress(snapshot: &Snapshot, worker: &str) -> Value {
    let batches = match &snapshot.activity {
        Activity::Batches(batches) => Some(batches),
        Activity::Idle | Activity::Statement { .. } => None,
    };
    let eta = batches.and_then(|batches| match batches.eta {
        Eta::Unknown => None,
        Eta::Within { most, .. } => Some(most.as_secs()),
    });
    let percent = match snapshot.state {
        RunState::Done { .. } => Some(100.0),
        _ => fraction(snapshot).map(|fraction| (fraction * 1000.0).floor() / 10.0),
    };
    json!({
        "state": snapshot.state.word(),
        "step": snapshot.current_step().map(|(_, step)| &step.name),
        "percent": percent,
        "rows": snapshot.rows_changed(),
        "rate": batches.and_then(|batches| batches.rate).map(f64::round),
        "eta_seconds": eta,
        "run": snapshot.run,
        "says": status(snapshot),
        "worker": worker,
    })
}

/// What a job returns that is done.
pub(super) fn returned(snapshot: &Snapshot) -> Value {
    let (changed, quarantined) = (snapshot.rows_changed(), snapshot.quarantined());
    let says = match quarantined {
        0 => format!("{} changed", human::rows(changed)),
        _ => format!("{} changed, {} set aside", human::rows(changed), human::rows(quarantined)),
    };
    json!({
        "run": snapshot.run,
        "state": snapshot.state.word(),
        "rows_changed": changed,
        "quarantined": quarantined,
        "seconds": (snapshot.spent.worked + snapshot.spent.paused).as_secs_f64(),
        "says": says,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::headless_samples::{batches, snapshot};

    #[test]
    fn progress_tells_a_dashboard_how_far_it_is_and_who_does_it() {
        let told = progress(&snapshot(RunState::Running, "emails", batches()), "ops2:77");
        assert_eq!(
            (&told["percent"], &told["worker"], &told["state"]),
            (&json!(71.3), &json!("ops2:77"), &json!("running"))
        );
        assert_eq!((&told["rate"], &told["eta_seconds"]), (&json!(48210.0), &json!(13)));
        assert!(told["says"].as_str().is_some_and(|says| says.contains("71.3%") && !says.contains('\u{1b}')));
    }
}
