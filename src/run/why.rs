//! Why a run goes no faster than it does, in words. One place, so that the console, the progress line and the report
//! agree. Texts from outside are cleaned here. Times of day are UTC and say so.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::text::clean;
use super::{
    Asker, BreakerView, Effect, Guarantee, Hold, Pace, Presence, RunState, SignalView, Snapshot, Waited, human,
};

/// The key of a [`Hold`] that the breaker makes: [`breaker`] says more of it than its reason does.
pub const BREAKER: &str = "breaker";

/// `4 workers`; `2 of 4 workers` where the governor has taken some away. `None` where none were ever wanted.
#[must_use]
pub fn workers(pace: &Pace) -> Option<String> {
    let Pace { workers, most, .. } = *pace;
    let noun = |n: u32| if n == 1 { "worker" } else { "workers" };
    if workers == 0 && most == 0 {
        None
    } else if is_governed(pace) || workers == 0 {
        Some(format!("{} of {most} {}", workers.min(most), noun(most)))
    } else {
        Some(format!("{workers} {}", noun(workers)))
    }
}

/// Whether the governor wants fewer workers than there may be.
#[must_use]
pub fn is_governed(pace: &Pace) -> bool {
    pace.wanted < pace.most
}

/// Whether batches may begin now. Where not, an estimate of the time left is one of the work left.
#[must_use]
pub fn goes_on(snapshot: &Snapshot) -> bool {
    let is_driven = !matches!(snapshot.presence, Presence::Gone { .. });
    is_driven && snapshot.state.is_working() && snapshot.pace.hold.is_none() && is_closed(&snapshot.pace.breaker)
}

/// Whether a run that could go on waits: it is [`RunState::Running`], and yet no batch begins.
#[must_use]
pub fn is_waiting(snapshot: &Snapshot) -> bool {
    snapshot.state == RunState::Running && snapshot.pace.hold.is_some()
}

/// What batches wait for, how long already, and until when where that is known: `waiting 12s: replay lag 7.2s (slow 5s)`.
///
/// `None` where nothing is waited for, where the run is over, and where [`breaker`] says the same.
#[must_use]
pub fn hold(snapshot: &Snapshot) -> Option<String> {
    let hold = snapshot.pace.hold.as_ref()?;
    if hold.key == BREAKER && !is_closed(&snapshot.pace.breaker) {
        return None;
    }
    let begun = match &snapshot.state {
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => format!("waiting {}", human::rough_duration(since(hold, snapshot.now))),
        // A paused screen stands still, and the state says since when.
        RunState::Paused { by: Asker::Governor, .. } => "paused".to_owned(),
        RunState::Paused {
            by:
                Asker::Console
                | Asker::Attached
                | Asker::Script
                | Asker::Signal
                | Asker::Engine
                | Asker::HangUp
                | Asker::Driver
                | Asker::Alert,
            ..
        } => "would wait".to_owned(),
        RunState::Stopped { .. } | RunState::Failed { .. } | RunState::Done { .. } => return None,
    };
    let until = hold.until.filter(|until| *until > snapshot.now).map(|until| moment(until, snapshot.now));
    let until = until.map_or_else(String::new, |until| format!(", until {until}"));
    Some(format!("{begun}{until}: {}", clean(&hold.reason)))
}

/// The breaker where it is not closed, and the failure that opened it: `breaker OPEN, trial in 42s (b closes it)`, and
/// `connection refused`. `key` is the key that closes it, where there is one.
#[must_use]
pub fn breaker(breaker: &BreakerView, now: DateTime<Utc>, key: Option<&str>) -> Option<(String, String)> {
    match breaker {
        BreakerView::Closed { .. } => None,
        BreakerView::Open { until, cause } => {
            let trial = match (*until - now).to_std() {
                Ok(left) if left >= Duration::from_millis(500) => format!("trial in {}", human::rough_duration(left)),
                Ok(_) | Err(_) => "trial due".to_owned(),
            };
            let key = key.map_or_else(String::new, |key| format!(" ({key} closes it)"));
            Some((format!("breaker OPEN, {trial}{key}"), clean(cause).into_owned()))
        }
        BreakerView::HalfOpen { cause } => {
            Some(("breaker HALF-OPEN, one trial under way".to_owned(), clean(cause).into_owned()))
        }
    }
}

/// Whether batches go through the breaker.
#[must_use]
pub fn is_closed(breaker: &BreakerView) -> bool {
    match breaker {
        BreakerView::Closed { .. } => true,
        BreakerView::Open { .. } | BreakerView::HalfOpen { .. } => false,
    }
}

/// How near a closed breaker is to opening: `failures 3/5`. `None` without a failure.
#[must_use]
pub fn failures(breaker: &BreakerView) -> Option<String> {
    match breaker {
        BreakerView::Closed { failures, limit } if *failures > 0 => Some(format!("failures {failures}/{limit}")),
        BreakerView::Closed { .. } | BreakerView::Open { .. } | BreakerView::HalfOpen { .. } => None,
    }
}

/// The signal that slows the run most. `None` where none does.
#[must_use]
pub fn worst(signals: &[SignalView]) -> Option<&SignalView> {
    let load = |signal: &SignalView| signal.load.filter(|load| !load.is_nan()).unwrap_or(0.0);
    signals
        .iter()
        .filter(|signal| signal.effect > Effect::Free)
        .rev()
        .max_by(|a, b| a.effect.cmp(&b.effect).then_with(|| load(a).total_cmp(&load(b))))
}

/// What a signal does, its value, and its limit apart: `sheds workers: replay lag 3.9s`, and ` (slow 5s)`.
#[must_use]
pub fn signal(signal: &SignalView) -> (String, String) {
    let (name, value) = (clean(&signal.name), clean(&signal.value));
    let does = does(signal.effect);
    if signal.effect == Effect::Unread {
        return (format!("{does}: {name}: {value}"), String::new());
    }
    let (slow, stop) = (("slow", &signal.slow), ("stop", &signal.stop));
    let nearest = if signal.effect == Effect::Pauses { [stop, slow] } else { [slow, stop] };
    let limit = nearest.into_iter().find_map(|(word, limit)| Some(format!(" ({word} {})", clean(limit.as_deref()?))));
    (format!("{does}: {name} {value}"), limit.unwrap_or_default())
}

/// What a signal does to the pace, in two or three words.
#[must_use]
pub fn does(effect: Effect) -> &'static str {
    match effect {
        Effect::Shown => "no limit",
        Effect::Free => "ok",
        Effect::Holds => "holds workers",
        Effect::Sheds => "sheds workers",
        Effect::Waits => "batches wait",
        Effect::Unread => "unread, waits",
        Effect::Pauses => "pauses the run",
    }
}

/// Time lost, by reason: `replay lag 2.0s, breaker 1.1s`. Empty where none was.
#[must_use]
pub fn reasons(waited: &[Waited]) -> String {
    let lost = waited.iter().filter(|waited| !waited.time.is_zero());
    lost.map(|waited| format!("{} {}", clean(&waited.reason), human::duration(waited.time)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Time lost, and the reason that took most of it: `3.1s (mostly replay lag)`. `None` where none was.
#[must_use]
pub fn waited(pace: &Pace) -> Option<String> {
    let lost: Vec<&Waited> = pace.waited.iter().filter(|waited| !waited.time.is_zero()).collect();
    let main = lost.iter().max_by_key(|waited| waited.time)?;
    let mostly = if lost.len() > 1 { "mostly " } else { "" };
    Some(format!("{} ({mostly}{})", human::duration(pace.waited_in_all()), clean(&main.reason)))
}

/// The command that lists a run's quarantine. `None` where it is empty, or where nobody could look at it any more.
#[must_use]
pub fn quarantine_command(snapshot: &Snapshot) -> Option<String> {
    // The database that the run's other commands name. What else they name belongs to the plan.
    let (_, flags) = snapshot.resume_command.split_once(&snapshot.run)?;
    let named = flags.starts_with(" --database ") || snapshot.guarantee == Guarantee::AtLeastOnce;
    let flags = if named { flags } else { "" };
    (snapshot.quarantined() > 0).then(|| format!("howdah quarantine list {}{flags}", snapshot.run))
}

fn since(hold: &Hold, now: DateTime<Utc>) -> Duration {
    (now - hold.since).to_std().unwrap_or_default()
}

/// A time to come: of the day, with the date where that is far.
fn moment(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let format = if at - now < TimeDelta::hours(20) { "%H:%M:%S UTC" } else { "%b %-d %H:%M UTC" };
    at.format(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{StepState, StepView};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_373_802, 0).unwrap()
    }

    fn held(state: RunState, key: &str, until: Option<i64>) -> Snapshot {
        let mut snapshot = Snapshot::starting(now(), "7f3a09c2".into(), "p".into(), "h".into());
        snapshot.state = state;
        snapshot.pace.hold = Some(Hold {
            key: key.to_owned(),
            reason: "replay lag\x1b 7.2s (slow 5s)".to_owned(),
            since: now() - TimeDelta::seconds(12),
            until: until.map(|seconds| now() + TimeDelta::seconds(seconds)),
        });
        snapshot
    }

    fn open(seconds: i64) -> BreakerView {
        BreakerView::Open { until: now() + TimeDelta::seconds(seconds), cause: "connection\nrefused".to_owned() }
    }

    #[test]
    fn workers_are_counted_against_those_that_the_governor_took_away() {
        let table = [
            ((0, 0, 0), None),
            ((1, 1, 1), Some("1 worker")),
            ((4, 4, 4), Some("4 workers")),
            ((2, 2, 4), Some("2 of 4 workers")),
            ((1, 1, 4), Some("1 of 4 workers")),
            // One is at the last batch before it is let go.
            ((3, 2, 4), Some("3 of 4 workers")),
            // The operator wants one more; it is on its way.
            ((4, 5, 5), Some("4 workers")),
            // The operator wants fewer; they go at their batches' edges.
            ((4, 2, 2), Some("4 workers")),
            // The last segments: fewer workers than there might be, and nobody took them away.
            ((1, 4, 4), Some("1 worker")),
            ((0, 4, 4), Some("0 of 4 workers")),
        ];
        for ((workers, wanted, most), expected) in table {
            let pace = Pace { workers, wanted, most, ..Pace::default() };
            assert_eq!(super::workers(&pace).as_deref(), expected, "{workers} {wanted} {most}");
        }
    }

    #[test]
    fn what_is_waited_for_is_said_as_the_state_has_it() {
        let by = |by| RunState::Paused { since: now(), by };
        let reason = "replay lag\u{fffd} 7.2s (slow 5s)";
        let table = [
            (RunState::Running, None, Some(format!("waiting 12s: {reason}"))),
            (RunState::Running, Some(42), Some(format!("waiting 12s, until 14:04:04 UTC: {reason}"))),
            (RunState::Running, Some(-1), Some(format!("waiting 12s: {reason}"))),
            (by(Asker::Governor), Some(86_400), Some(format!("paused, until Mar 2 14:03 UTC: {reason}"))),
            (by(Asker::Console), None, Some(format!("would wait: {reason}"))),
            (RunState::Done { at: now() }, None, None),
        ];
        for (state, until, expected) in table {
            assert_eq!(hold(&held(state, "replay lag", until)), expected);
        }
    }

    #[test]
    fn batches_go_on_while_nothing_holds_them() {
        let paused = RunState::Paused { since: now(), by: Asker::Console };
        for (state, expected) in [(RunState::Running, true), (RunState::Starting, false), (paused, false)] {
            let mut snapshot = held(state, "x", None);
            assert!(!goes_on(&snapshot));
            snapshot.pace.hold = None;
            assert_eq!(goes_on(&snapshot), expected);
            snapshot.pace.breaker = open(42);
            assert!(!goes_on(&snapshot));
        }
    }

    #[test]
    fn an_open_breaker_is_said_once_and_by_itself() {
        let mut snapshot = held(RunState::Running, BREAKER, None);
        assert!(hold(&snapshot).is_some(), "closed meanwhile");
        snapshot.pace.breaker = open(42);
        assert_eq!(hold(&snapshot), None);
    }

    #[test]
    fn the_breaker_counts_down_to_its_trial() {
        let half = BreakerView::HalfOpen { cause: "x".to_owned() };
        let closed = |failures| BreakerView::Closed { failures, limit: 5 };
        let table = [
            (open(42), Some("b"), Some("breaker OPEN, trial in 42s (b closes it): connection refused")),
            (open(42), None, Some("breaker OPEN, trial in 42s: connection refused")),
            (open(0), None, Some("breaker OPEN, trial due: connection refused")),
            (open(-7), None, Some("breaker OPEN, trial due: connection refused")),
            (half, Some("b"), Some("breaker HALF-OPEN, one trial under way: x")),
            (closed(3), Some("b"), None),
        ];
        for (view, key, expected) in table {
            let said = breaker(&view, now(), key).map(|(what, cause)| format!("{what}: {cause}"));
            assert_eq!(said.as_deref(), expected);
        }
        assert_eq!(failures(&closed(3)).as_deref(), Some("failures 3/5"));
        assert_eq!((failures(&closed(0)), failures(&open(1))), (None, None));
    }

    fn a_signal(name: &str, effect: Effect, load: Option<f64>) -> SignalView {
        SignalView {
            number: None,
            name: name.to_owned(),
            value: "3.9s".to_owned(),
            slow: Some("5s".to_owned()),
            stop: Some("60s".to_owned()),
            load,
            age: Duration::ZERO,
            effect,
        }
    }

    #[test]
    fn the_worst_signal_is_the_one_that_does_most() {
        let name = |signals: &[SignalView]| worst(signals).map(|signal| signal.name.clone());
        let mut signals = vec![a_signal("a", Effect::Free, Some(0.3)), a_signal("b", Effect::Shown, None)];
        assert_eq!(name(&signals), None);
        signals.extend([a_signal("c", Effect::Sheds, Some(0.8)), a_signal("d", Effect::Sheds, Some(0.9))]);
        signals.push(a_signal("e", Effect::Sheds, Some(f64::NAN)));
        assert_eq!(name(&signals).as_deref(), Some("d"));
        signals.push(a_signal("f", Effect::Unread, None));
        assert_eq!(name(&signals).as_deref(), Some("f"));
        signals.push(a_signal("g", Effect::Pauses, Some(1.0)));
        assert_eq!(name(&signals).as_deref(), Some("g"));
    }

    #[test]
    fn a_signal_tells_its_limit_and_what_it_does() {
        let table = [
            (Effect::Holds, ("holds workers: lag 3.9s", " (slow 5s)")),
            (Effect::Waits, ("batches wait: lag 3.9s", " (slow 5s)")),
            (Effect::Pauses, ("pauses the run: lag 3.9s", " (stop 60s)")),
            (Effect::Unread, ("unread, waits: lag: 3.9s", "")),
        ];
        for (effect, (does, limit)) in table {
            assert_eq!(signal(&a_signal("lag", effect, None)), (does.to_owned(), limit.to_owned()));
        }
    }

    #[test]
    fn time_lost_is_told_by_reason() {
        let lost = |reason: &str, ms| Waited { reason: reason.to_owned(), time: Duration::from_millis(ms) };
        let mut pace = Pace::default();
        assert_eq!((reasons(&pace.waited).as_str(), waited(&pace)), ("", None));
        pace.waited = vec![lost("replay lag", 2000), lost("window", 0)];
        assert_eq!(waited(&pace).as_deref(), Some("2.0s (replay lag)"));
        pace.waited.push(lost("breaker", 1100));
        assert_eq!(waited(&pace).as_deref(), Some("3.1s (mostly replay lag)"));
        assert_eq!(reasons(&pace.waited), "replay lag 2.0s, breaker 1.1s");
    }

    #[test]
    fn the_command_for_the_quarantine_names_the_runs_database() {
        let mut snapshot = held(RunState::Running, "x", None);
        snapshot.resume_command = "howdah resume 7f3a09c2 --database postgres://db1/axisor".to_owned();
        assert_eq!(quarantine_command(&snapshot), None);
        let step = StepView::new("emails".to_owned(), "backfill".to_owned());
        snapshot.steps.push(StepView { state: StepState::Running, quarantined: 37, ..step });
        let expected = "howdah quarantine list 7f3a09c2 --database postgres://db1/axisor";
        assert_eq!(quarantine_command(&snapshot).as_deref(), Some(expected));
        snapshot.resume_command = "howdah resume 7f3a09c2 --plan p.toml".to_owned();
        assert_eq!(quarantine_command(&snapshot).as_deref(), Some("howdah quarantine list 7f3a09c2"));
        // A server that ends with its run.
        snapshot.resume_command = String::new();
        assert_eq!(quarantine_command(&snapshot), None);
    }
}
