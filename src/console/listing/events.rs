//! The rows of alerts and events: alerts that hold, the gravest first and what is silenced last; then commands and events, the newest first.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::text::clean;
use crate::run::vitals::Alert;
use crate::run::{Answered, Event, EventKind, Level};

pub(crate) const COLUMNS: [&str; 4] = ["at", "level", "kind", "what"];

/// Something that happened, or holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Happening<'a> {
    /// An alert that holds.
    Alert(&'a Alert),
    /// A command, and what came of it.
    Command(&'a Answered),
    /// Anything else; with its number among those of the same time.
    Event(&'a Event, usize),
}

impl Happening<'_> {
    pub(crate) fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Alert(alert) => alert.raised_at,
            Self::Command(command) => command.at,
            Self::Event(event, _) => event.at,
        }
    }

    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Alert(alert) => alert.level,
            Self::Command(command) if command.taken => Level::Info,
            Self::Command(_) => Level::Warning,
            Self::Event(event, _) => event.level,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Alert(_) => "alert",
            Self::Command(_) => "command",
            Self::Event(event, _) => kind(event.kind),
        }
    }

    /// What happened, in a sentence. Cleaned.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Alert(alert) => clean(&alert.text).into_owned(),
            Self::Command(command) => {
                let answer = if command.taken { "taken" } else { "refused" };
                let words = format!("{}: {} by {}", command.command.words(), answer, command.asker());
                let outcome = if command.outcome.is_empty() { String::new() } else { format!("; {}", command.outcome) };
                clean(&format!("{words}{outcome}")).into_owned()
            }
            Self::Event(event, _) => clean(&event.text).into_owned(),
        }
    }

    fn key(&self) -> String {
        let micros = self.at().timestamp_micros();
        match self {
            Self::Alert(alert) => format!("alert:{}", alert.key),
            Self::Command(_) => format!("command:{micros}"),
            Self::Event(_, no) => format!("event:{micros}/{no}"),
        }
    }
}

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<Happening<'a>>> {
    let snapshot = scene.snapshot;
    let list = &scene.ui.lists.events;
    let mut alerts: Vec<&Alert> = snapshot.vitals.alerts.iter().filter(|alert| alert.is_active()).collect();
    alerts.sort_by_key(|alert| (snapshot.silence(&alert.key).is_some(), Reverse(alert.level)));

    // An alert that holds, and a command, are not told a second time as an event.
    let told = |event: &Event| match event.kind {
        EventKind::AlertRaised => alerts.iter().any(|alert| alert.raised_at == event.at),
        // The event is made a moment after the command was answered.
        EventKind::Commanded => snapshot.commands.front().is_some_and(|oldest| oldest.at <= event.at),
        EventKind::RunStarted
        | EventKind::RunResumed
        | EventKind::StateChanged
        | EventKind::StepStarted
        | EventKind::StepFinished
        | EventKind::SweepStarted
        | EventKind::Notice
        | EventKind::Retried
        | EventKind::Breaker
        | EventKind::Governor
        | EventKind::Quarantined
        | EventKind::AlertCleared
        | EventKind::RunFinished => false,
    };
    let mut numbers: HashMap<DateTime<Utc>, usize> = HashMap::new();
    let numbered = snapshot.events.iter().map(|event| {
        let no = numbers.entry(event.at).or_default();
        *no += 1;
        Happening::Event(event, *no)
    });
    let mut course: Vec<Happening<'a>> = numbered
        .filter(|happening| !matches!(happening, Happening::Event(event, _) if told(event)))
        .chain(snapshot.commands.iter().map(Happening::Command))
        .collect();
    // Newest first; of those at the same time the later one.
    course.reverse();
    course.sort_by_key(|happening| Reverse(happening.at()));

    let mut rows = keyed(alerts.into_iter().map(Happening::Alert).chain(course), Happening::key);
    rows.retain(|row| is_shown(row.of.level(), list.level));
    filter(&mut rows, list, |happening| vec![happening.text(), happening.kind().to_owned()]);
    sort(&mut rows, list, value);
    rows
}

/// Whether a level passes a list's own: 0 all, 1 warnings, 2 what is critical.
pub(crate) fn is_shown(level: Level, least: u8) -> bool {
    match least {
        0 => true,
        1 => level >= Level::Warning,
        _ => level >= Level::Critical,
    }
}

/// The word for a kind of event in a narrow column.
fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::RunStarted | EventKind::RunResumed | EventKind::RunFinished => "run",
        EventKind::StateChanged => "state",
        EventKind::Commanded => "command",
        EventKind::StepStarted | EventKind::StepFinished => "step",
        EventKind::SweepStarted => "sweep",
        EventKind::Notice => "notice",
        EventKind::Retried => "retry",
        EventKind::Breaker => "breaker",
        EventKind::Governor => "governor",
        EventKind::Quarantined => "set aside",
        EventKind::AlertRaised => "alert",
        EventKind::AlertCleared => "cleared",
    }
}

fn value(happening: &Happening<'_>, column: usize) -> Value {
    match column {
        #[expect(clippy::cast_precision_loss, reason = "only for the order of rows")]
        0 => Value::Number(happening.at().timestamp_millis() as f64),
        1 => Value::Number(f64::from(happening.level() as u8)),
        2 => Value::text(happening.kind()),
        3 => Value::text(&happening.text()),
        _ => Value::None,
    }
}
