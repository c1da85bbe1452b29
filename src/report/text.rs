//! What the report for a person has beside the counts: a few lines.

use crate::run::dossier::Dossier;
use crate::run::text::clean;
use crate::run::{EventKind, human};

/// Lines that end with a line break; empty where nothing is known.
#[must_use]
pub fn text(dossier: &Dossier) -> String {
    let summary = &dossier.summary;
    let mut lines = Vec::new();
    for of in &summary.latency {
        let [p50, p90, p99, most] =
            [of.latency.p50, of.latency.p90, of.latency.p99, of.latency.most].map(human::duration);
        let step = clean(&of.step);
        lines.push(format!(
            "batches of {step}: half within {p50}, 9 of 10 within {p90}, 99 of 100 within {p99}, longest {most}"
        ));
    }
    if let Some(slow) = summary.slowest.first() {
        lines.push(format!(
            "slowest batch: {} for {} of {}, keys {}",
            human::duration(slow.batch.took),
            human::rows(slow.batch.rows),
            clean(&slow.step),
            clean(&super::deeds::range(slow.batch.from.as_deref(), slow.batch.to.as_deref()))
        ));
    }
    if summary.drivers.len() > 1 {
        let told = |span: &crate::run::summary::DriverSpan| format!("{} (process {})", clean(&span.host), span.pid);
        let drivers: Vec<String> = summary.drivers.iter().map(told).collect();
        lines.push(format!("driven by {} processes, one after the other: {}", drivers.len(), drivers.join(", ")));
    }
    let alerts = dossier.events.iter().filter(|event| event.kind == EventKind::AlertRaised).count();
    if alerts > 0 {
        lines.push(format!("alerts raised: {alerts}"));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
