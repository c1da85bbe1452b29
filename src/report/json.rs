//! The report of a run for machines: what [`crate::run::report`] says of it, and the rest of what is known. Every duration is
//! a number of seconds and says so in its name.

use serde_json::{Value, json};

use crate::run::dossier::{Asked, Dossier};
use crate::run::sample::Sample;
use crate::run::summary::{StepBatch, StepLatency, Worst};

/// The report of a run.
#[must_use]
pub fn json(dossier: &Dossier) -> Value {
    let mut value = serde_json::to_value(&dossier.report).unwrap_or_else(|_| json!({}));
    let more = json!({
        "id": dossier.id,
        "state_now": dossier.state,
        "exit_code": dossier.exit_code(),
        "settings": dossier.settings.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "drivers": dossier.summary.drivers,
        "peak_rss_bytes": Some(dossier.summary.peak_rss).filter(|peak| *peak > 0),
        "batch_seconds": dossier.summary.latency.iter().map(latency).collect::<Vec<_>>(),
        "slowest_batches": dossier.summary.slowest.iter().map(slow).collect::<Vec<_>>(),
        "worst_signals": dossier.summary.signals.iter().map(worst).collect::<Vec<_>>(),
        "quarantine_by_sqlstate": dossier.aside.iter().map(|reason| json!({
            "sqlstate": reason.sqlstate, "open": reason.open, "resolved": reason.resolved, "example": reason.example,
        })).collect::<Vec<_>>(),
        "commands": dossier.commands.iter().map(asked).collect::<Vec<_>>(),
        "earlier_commands": dossier.earlier_commands,
        "events": dossier.events,
        "earlier_events": dossier.earlier_events,
        "course": dossier.samples.iter().map(sample).collect::<Vec<_>>(),
        "no_course_because": dossier.no_samples,
        "undoes": dossier.undoes,
        "undone_by": dossier.undone_by.iter().map(|(run, state)| json!({"run": run, "state": state})).collect::<Vec<_>>(),
    });
    if let (Some(into), Value::Object(more)) = (value.as_object_mut(), more) {
        into.extend(more);
    }
    value
}

fn latency(of: &StepLatency) -> Value {
    json!({
        "step": of.step,
        "p50": of.latency.p50.as_secs_f64(),
        "p90": of.latency.p90.as_secs_f64(),
        "p99": of.latency.p99.as_secs_f64(),
        "most": of.latency.most.as_secs_f64(),
        "counted": of.latency.count,
    })
}

fn slow(of: &StepBatch) -> Value {
    json!({
        "step": of.step,
        "at": of.batch.at,
        "segment": of.batch.segment,
        "after": of.batch.from,
        "up_to": of.batch.to,
        "rows": of.batch.rows,
        "took_seconds": of.batch.took.as_secs_f64(),
        "plan": of.batch.plan,
    })
}

fn worst(of: &Worst) -> Value {
    json!({
        "signal": of.signal, "number": of.number, "value": of.value, "slow": of.slow, "load": of.load, "effect": of.effect,
        "at": of.at,
    })
}

fn asked(of: &Asked) -> Value {
    json!({
        "asked_at": of.at, "command": of.words, "via": of.via, "who": of.who, "role": of.role, "client": of.client,
        "answer": of.state, "outcome": of.outcome, "applied_at": of.applied_at,
    })
}

fn sample(of: &Sample) -> Value {
    json!({
        "at": of.at,
        "span_seconds": of.step,
        "seen_seconds": of.seen,
        "rows_per_second": of.rate,
        "batch_seconds": of.batch_ms.map(|ms| f64::from(ms) / 1e3),
        "worst_batch_seconds": of.worst_ms.map(|ms| f64::from(ms) / 1e3),
        "replay_lag_seconds": of.lag,
        "dead_rows": of.dead,
        "cpu_ratio": of.cpu,
        "memory_ratio": of.memory,
        "rss_bytes": of.rss,
        "workers": of.workers,
        "paused_seconds": of.paused_s,
        "waited_seconds": of.waits_s,
        "waits": of.waits,
        "alert": of.alert,
    })
}
