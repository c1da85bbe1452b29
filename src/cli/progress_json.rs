//! A run's progress as a line of JSON. Durations are seconds and say so; what is not known is `null`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::progress_line::{fraction, retries};
use crate::run::progress::Total;
use crate::run::snapshot::{Activity, BatchActivity};
use crate::run::text::clean;
use crate::run::{BreakerView, CacheView, Effect, Eta, Hold, Pace, SignalView, Snapshot};

/// The progress as JSON. Durations are seconds and say so; what is not known is `null`.
pub(super) fn progress(snapshot: &Snapshot) -> Value {
    let step = snapshot.current_step();
    let batches = match &snapshot.activity {
        Activity::Batches(batches) => Some(batches),
        Activity::Idle | Activity::Statement { .. } => None,
    };
    let what = match &snapshot.activity {
        Activity::Statement { what, .. } => Some(what),
        Activity::Idle | Activity::Batches(_) => None,
    };
    let pace = &snapshot.pace;
    json!({
        "type": "progress",
        "at": snapshot.now,
        "run": snapshot.run,
        "state": snapshot.state.word(),
        "step": step.map(|(_, step)| &step.name),
        "step_number": step.map(|(index, _)| index + 1),
        "steps": snapshot.steps.len(),
        "statement": what,
        "fraction": fraction(snapshot),
        "walked": batches.map(|batches| batches.estimate.walked),
        "total": batches.map(|batches| total(batches.estimate.total)),
        "unit": batches.map(|batches| batches.unit.word()),
        "bytes": batches.and_then(|batches| batches.bytes).map(|bytes| json!({ "done": bytes.done, "all": bytes.all })),
        "sweep": batches.map(|batches| batches.sweep),
        "rows_per_second": batches.and_then(|batches| batches.rate),
        "eta_seconds": batches.and_then(|batches| eta(batches.eta)),
        "batch": batches.map(batch),
        "rows_changed": snapshot.rows_changed(),
        "worked_seconds": snapshot.spent.worked.as_secs_f64(),
        "paused_seconds": snapshot.spent.paused.as_secs_f64(),
        "waited_seconds": waited(pace),
        "segments": batches.map(|batches| json!({ "done": batches.segments.done, "all": batches.segments.all })),
        "workers": pace.workers,
        "wanted_workers": pace.wanted,
        "most_workers": pace.most,
        "hold": pace.hold.as_ref().map(hold),
        "breaker": breaker(&pace.breaker),
        "retries": retries(snapshot),
        "quarantined": snapshot.quarantined(),
        "caches": snapshot.caches.iter().map(cache).collect::<Vec<_>>(),
        "signals": pace.signals.iter().map(signal).collect::<Vec<_>>(),
    })
}

fn cache(cache: &CacheView) -> Value {
    let mut object = json!(cache);
    object["hit_rate"] = json!(cache.hit_rate());
    object
}

/// Time lost, by reason.
fn waited(pace: &Pace) -> Map<String, Value> {
    pace.waited.iter().map(|waited| (waited.reason.clone(), json!(waited.time.as_secs_f64()))).collect()
}

fn hold(hold: &Hold) -> Value {
    json!({ "key": hold.key, "reason": hold.reason, "since": hold.since, "until": hold.until })
}

fn breaker(breaker: &BreakerView) -> Value {
    match breaker {
        BreakerView::Closed { failures, limit } => json!({ "state": "closed", "failures": failures, "limit": limit }),
        BreakerView::Open { until, cause } => json!({ "state": "open", "until": until, "cause": cause }),
        BreakerView::HalfOpen { cause } => json!({ "state": "half_open", "cause": cause }),
    }
}

fn signal(signal: &SignalView) -> Value {
    let read = signal.effect != Effect::Unread;
    json!({
        "name": signal.name,
        "value": read.then_some(&signal.value),
        "error": (!read).then_some(&signal.value),
        "slow": signal.slow,
        "stop": signal.stop,
        "load": signal.load,
        "age_seconds": signal.age.as_secs_f64(),
        "effect": signal.effect,
    })
}

fn total(total: Total) -> Value {
    match total {
        Total::Unknown => json!({ "kind": "unknown", "rows": null }),
        Total::About(rows) => json!({ "kind": "about", "rows": rows }),
        Total::Exactly(rows) => json!({ "kind": "exactly", "rows": rows }),
    }
}

fn eta(eta: Eta) -> Option<Value> {
    match eta {
        Eta::Unknown => None,
        Eta::Within { least, most } => Some(json!({ "least": least.as_secs_f64(), "most": most.as_secs_f64() })),
    }
}

fn batch(batches: &BatchActivity) -> Value {
    json!({
        "rows": batches.last.map(|last| last.rows),
        "seconds": batches.last.map(|last| last.took.as_secs_f64()),
        "next_rows": batches.next_size,
        "target_seconds": batches.target.as_secs_f64(),
    })
}

/// An object whose first key is its `type`.
pub(super) fn typed(kind: &str, content: &impl Serialize) -> Value {
    let mut object = Map::new();
    object.insert("type".to_owned(), Value::from(kind));
    if let Ok(Value::Object(fields)) = serde_json::to_value(content) {
        object.extend(fields);
    }
    Value::Object(object)
}

/// The JSON text with everything that could steer a terminal as `\u` escapes: harmless to look at, and nothing is lost.
pub(super) fn harmless(value: &Value) -> String {
    let text = value.to_string();
    if matches!(clean(&text), Cow::Borrowed(_)) {
        return text;
    }
    let escaped = text.chars().map(|c| match clean(c.encode_utf8(&mut [0; 4])) {
        Cow::Borrowed(_) => c.to_string(),
        Cow::Owned(_) => format!("\\u{:04x}", u32::from(c)),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::headless_samples::{batches, now, open, pace, snapshot};
    use crate::cli::progress_line::event_line;
    use crate::run::{Event, EventKind, Level, RunState};

    #[test]
    fn progress_in_json_names_its_units_and_says_null_where_nothing_is_known() {
        let told = progress(&snapshot(RunState::Running, "emails", batches()));
        assert_eq!(told["type"], json!("progress"));
        assert_eq!((&told["step"], &told["step_number"]), (&json!("emails"), &json!(1)));
        assert_eq!(told["walked"], json!(1_426_000));
        assert_eq!(told["total"], json!({ "kind": "about", "rows": 2_000_000 }));
        assert_eq!(told["eta_seconds"], json!({ "least": 11.0, "most": 13.0 }));
        assert_eq!(told["batch"]["rows"], json!(null));
        let idle = progress(&snapshot(RunState::Running, "emails", Activity::Idle));
        assert_eq!((&idle["total"], &idle["batch"], &idle["fraction"]), (&json!(null), &json!(null), &json!(null)));
    }

    #[test]
    fn progress_in_json_tells_the_pace() {
        let running = |pace| progress(&Snapshot { pace, ..snapshot(RunState::Running, "emails", batches()) });
        let told = running(pace());
        assert_eq!((&told["workers"], &told["wanted_workers"]), (&json!(2), &json!(2)));
        let hold = json!({
            "key": "replay lag",
            "reason": "replay lag 7.2s (slow 5s)",
            "since": "2026-03-01T14:03:10Z",
            "until": null,
        });
        assert_eq!(told["hold"], hold);
        assert_eq!(told["breaker"], json!({ "state": "closed", "failures": 0, "limit": 0 }));
        assert_eq!(told["waited_seconds"], json!({ "replay lag": 12.0, "breaker": 3.0 }));
        assert_eq!(told["segments"], json!({ "done": 44, "all": 64 }));
        let signal = &told["signals"][0];
        assert_eq!((&signal["value"], &signal["effect"]), (&json!("7.2s"), &json!("waits")));
        assert_eq!((&signal["age_seconds"], &signal["error"]), (&json!(1.5), &json!(null)));
        let unread = &told["signals"][1];
        assert_eq!((&unread["value"], &unread["error"]), (&json!(null), &json!("permission denied")));
        let open = running(Pace { hold: None, breaker: open(), ..pace() });
        assert_eq!(open["hold"], json!(null));
        let breaker = json!({ "state": "open", "until": "2026-03-01T14:04:04Z", "cause": "connection refused" });
        assert_eq!(open["breaker"], breaker);
    }

    #[test]
    fn progress_in_json_tells_how_caches_are_used() {
        let mut snapshot = snapshot(RunState::Running, "emails", batches());
        assert_eq!(progress(&snapshot)["caches"], json!([]));
        let view = CacheView { asked: 4, process: 2, redis: 1, database: 1, ..CacheView::default() };
        snapshot.caches = vec![CacheView { name: "countries".to_owned(), ..view }];
        let told = &progress(&snapshot)["caches"][0];
        assert_eq!((&told["name"], &told["hit_rate"]), (&json!("countries"), &json!(0.75)));
        assert_eq!((&told["asked"], &told["database"]), (&json!(4), &json!(1)));
    }

    #[test]
    fn json_cannot_steer_a_terminal_and_loses_nothing() {
        let text = "a\x1b[2J\u{9b}\u{202e}é\n".to_owned();
        let event = Event { at: now(), level: Level::Warning, kind: EventKind::Notice, text: text.clone() };
        let line = harmless(&typed("event", &event));
        assert!(line.starts_with(r#"{"type":"event","at":"2026-03-01T14:03:22Z","level":"warning","kind":"notice""#));
        assert!(line.contains("\\u009b\\u202eé\\n") && !line.chars().any(char::is_control), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], Value::from(text));
        assert_eq!(event_line(&event), "14:03:22 WARN a\u{fffd}[2J\u{fffd}\u{fffd}é ");
    }
}
