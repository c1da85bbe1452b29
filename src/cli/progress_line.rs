//! A run's progress in one line, for a bar or a log. Times of day are UTC.

use crate::run::snapshot::Activity;
use crate::run::text::clean;
use crate::run::{Asker, Event, RunState, Snapshot, human, why};

/// The bar's cells.
const CELLS: u16 = 12;

/// `███████████░░░░░ emails 71.3% ...`
pub(super) fn bar_line(snapshot: &Snapshot) -> String {
    let gauge = fraction(snapshot).map_or_else(String::new, gauge);
    [gauge, status(snapshot)].iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn gauge(fraction: f64) -> String {
    let full = (0..CELLS).filter(|cell| f64::from(cell + 1) <= fraction * f64::from(CELLS)).count();
    "█".repeat(full) + "░".repeat(usize::from(CELLS) - full).as_str()
}

pub(super) fn fraction(snapshot: &Snapshot) -> Option<f64> {
    match &snapshot.activity {
        Activity::Idle => None,
        Activity::Batches(batches) => batches.estimate.fraction(),
        Activity::Statement { fraction, .. } => *fraction,
    }
}

/// `14:03:22 emails 71.3% ETA 11–13s 48,210 rows/s 1,426,000 / ~2,000,000 rows`. Times are UTC, as in the events.
pub(super) fn line(snapshot: &Snapshot) -> String {
    format!("{} {}", snapshot.now.format("%H:%M:%S"), status(snapshot))
}

/// `14:03:22 WARN free memory of the host 8.2% (limit 10%)`
pub(super) fn event_line(event: &Event) -> String {
    format!("{} {} {}", event.at.format("%H:%M:%S"), event.level.word(), clean(&event.text))
}

/// What the run does, in words: step, state where it is not simply running, what it waits for, share, ETA, rate, workers,
/// rows, trouble.
pub(super) fn status(snapshot: &Snapshot) -> String {
    let mut parts = Vec::new();
    if let Some((_, step)) = snapshot.current_step() {
        parts.push(clean(&step.name).into_owned());
    }
    // What matters most comes first: a narrow terminal cuts the end off.
    let says_paused =
        matches!(snapshot.state, RunState::Paused { by: Asker::Governor, .. }) && why::hold(snapshot).is_some();
    if !says_paused && (snapshot.state != RunState::Running || parts.is_empty()) {
        parts.push(snapshot.state.word().to_owned());
    }
    parts.extend(why_not(snapshot).iter().map(|why| format!("{why};")));
    match &snapshot.activity {
        Activity::Idle => {}
        Activity::Batches(batches) => {
            if batches.sweep > 1 {
                parts.push(format!("sweep {}", batches.sweep));
            }
            parts.extend(batches.estimate.fraction().map(human::percent));
            // While nothing goes on, nobody knows the end.
            if why::goes_on(snapshot) {
                parts.push(format!("ETA {}", human::eta(batches.eta)));
                parts.extend(batches.rate.map(|rate| format!("{} {}/s", human::rate(rate), batches.unit.word())));
            }
            if snapshot.state.is_working() {
                parts.extend(why::workers(&snapshot.pace).filter(|_| snapshot.pace.most > 1));
            }
            parts.push(human::walked(batches));
        }
        Activity::Statement { what, fraction, since } => {
            parts.push(clean(what).into_owned());
            parts.extend(fraction.map(human::percent));
            if snapshot.state.is_working() {
                let open = (snapshot.now - *since).to_std().unwrap_or_default();
                parts.push(format!("for {}", human::rough_duration(open)));
            }
        }
    }
    parts.extend(trouble(snapshot));
    parts.join(" ").trim_end_matches(';').to_owned()
}

/// Why no batch begins: the breaker, and what is waited for.
fn why_not(snapshot: &Snapshot) -> Vec<String> {
    if snapshot.state.is_over() {
        return Vec::new();
    }
    let breaker = why::breaker(&snapshot.pace.breaker, snapshot.now, None);
    breaker.map(|(what, cause)| format!("{what}: {cause}")).into_iter().chain(why::hold(snapshot)).collect()
}

/// Retries and quarantined rows, where there are any.
fn trouble(snapshot: &Snapshot) -> Vec<String> {
    let counted = |n: u64, what: &str| (n > 0).then(|| format!("{what} {}", human::count(n)));
    let failures = why::failures(&snapshot.pace.breaker).filter(|_| !snapshot.state.is_over());
    let retries = counted(retries(snapshot), "retries");
    failures.into_iter().chain(retries).chain(counted(snapshot.quarantined(), "quarantined")).collect()
}

pub(super) fn retries(snapshot: &Snapshot) -> u64 {
    snapshot.steps.iter().map(|step| step.retries).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::headless_samples::{batches, now, open, pace, snapshot};
    use crate::run::{BreakerView, Pace};
    use std::time::Duration;

    #[test]
    fn a_line_says_time_step_share_rows_rate_and_eta() {
        let paused = RunState::Paused { since: now(), by: Asker::Signal };
        let what = "building index".to_owned();
        let since = now() - Duration::from_secs(12);
        let statement = Activity::Statement { what, fraction: Some(0.43), since };
        let rows = "1,426,000 / ~2,000,000 rows";
        let table = [
            (RunState::Running, batches(), format!("14:03:22 st\u{fffd}ep 71.3% ETA 11–13s 48,210 rows/s {rows}")),
            (paused, batches(), format!("14:03:22 st\u{fffd}ep paused 71.3% {rows}")),
            (RunState::Running, statement, "14:03:22 st\u{fffd}ep building index 43.0% for 12s".to_owned()),
        ];
        for (state, activity, expected) in table {
            assert_eq!(line(&snapshot(state, "st\x1bep", activity)), expected);
        }
        let starting = Snapshot::starting(now(), "r".into(), "p".into(), "h".into());
        assert_eq!(line(&starting), "14:03:22 starting");
    }

    #[test]
    fn a_line_says_why_it_goes_no_faster() {
        let working = "71.3% ETA 11–13s 48,210 rows/s";
        let rows = "1,426,000 / ~2,000,000 rows";
        let hold = "replay lag 7.2s (slow 5s)";
        let running = RunState::Running;
        let [governor, console] = [Asker::Governor, Asker::Console].map(|by| RunState::Paused { since: now(), by });
        let none = Pace { hold: None, ..pace() };
        let failing = BreakerView::Closed { failures: 3, limit: 5 };
        let table = [
            (&running, pace(), format!("waiting 12s: {hold}; 71.3% 2 of 4 workers {rows}")),
            (&running, none.clone(), format!("{working} 2 of 4 workers {rows}")),
            (
                &running,
                Pace { breaker: open(), wanted: 4, workers: 4, ..none.clone() },
                format!("breaker OPEN, trial in 42s: connection refused; 71.3% 4 workers {rows}"),
            ),
            (
                &running,
                Pace { breaker: failing, wanted: 4, workers: 4, ..none },
                format!("{working} 4 workers {rows} failures 3/5"),
            ),
            (&governor, pace(), format!("paused: {hold}; 71.3% {rows}")),
            (&console, pace(), format!("paused would wait: {hold}; 71.3% {rows}")),
        ];
        for (state, pace, expected) in table {
            let snapshot = Snapshot { pace, ..snapshot(state.clone(), "emails", batches()) };
            assert_eq!(status(&snapshot), format!("emails {expected}"));
        }
        let mut troubled = snapshot(RunState::Running, "emails", Activity::Idle);
        (troubled.steps[0].retries, troubled.steps[0].quarantined) = (2, 1037);
        assert_eq!(status(&troubled), "emails retries 2 quarantined 1,037");
        let idle = Snapshot { pace: pace(), ..snapshot(RunState::Running, "emails", Activity::Idle) };
        assert_eq!(status(&idle), format!("emails waiting 12s: {hold}"));
    }

    #[test]
    fn the_gauge_is_full_only_at_the_end() {
        for (fraction, full) in [(0.0, 0), (0.5, 6), (0.999, 11), (1.0, 12), (7.0, 12), (f64::NAN, 0)] {
            let cells: Vec<char> = gauge(fraction).chars().collect();
            assert_eq!((cells.len(), cells.iter().filter(|cell| **cell == '█').count()), (12, full), "{fraction}");
        }
    }
}
