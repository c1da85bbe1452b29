//! The command line: what can be typed behind `:`, what it does, and what could stand next. Pure.

mod completion;

use std::time::Duration;

use super::action::Action;
use super::config_error::did_you_mean;
use super::listing;
use super::ui::View;
use super::view::Scene;
use crate::run::history::Zoom;
use crate::run::{Command, QueueOrder};

pub(super) use completion::{Completion, complete};

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// What a key could ask for as well.
    Do(Action),
    /// So much time in the charts.
    Zoom(Zoom),
    /// The list by this column, and whether from the largest; or in its own order.
    Sort(Option<(usize, bool)>),
    /// Only lines that hold this.
    Filter(String),
}

/// What stands behind a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Settings,
    View,
    Zoom,
    Column,
    Text,
    Alert,
    Silence,
    Pid,
    Path,
    Job,
    Run,
}

/// A command, and what else it is called.
struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    takes: Takes,
}

const fn spec(name: &'static str, aliases: &'static [&'static str], takes: Takes) -> Spec {
    Spec { name, aliases, takes }
}

static SPECS: [Spec; 37] = [
    spec("pause", &[], Takes::Nothing),
    spec("continue", &["cont", "c"], Takes::Nothing),
    spec("stop", &[], Takes::Nothing),
    spec("set", &[], Takes::Settings),
    spec("goto", &["go", "view"], Takes::View),
    spec("overview", &["ov"], Takes::Nothing),
    spec("tables", &["table", "tab"], Takes::Nothing),
    spec("sessions", &["session", "ps"], Takes::Nothing),
    spec("segments", &["segment", "seg"], Takes::Nothing),
    spec("events", &["event", "ev", "alerts"], Takes::Nothing),
    spec("log", &["logs"], Takes::Nothing),
    spec("queue", &["jobs"], Takes::Nothing),
    spec("skip-window", &["skip"], Takes::Nothing),
    spec("close-breaker", &["close"], Takes::Nothing),
    spec("ack", &["acknowledge"], Takes::Alert),
    spec("silence", &[], Takes::Silence),
    spec("unsilence", &[], Takes::Silence),
    spec("cancel", &[], Takes::Pid),
    spec("terminate", &["kill"], Takes::Pid),
    spec("retry-quarantine", &["retry"], Takes::Nothing),
    spec("undo", &[], Takes::Nothing),
    spec("resume", &[], Takes::Nothing),
    spec("enqueue", &[], Takes::Path),
    spec("retry-job", &[], Takes::Job),
    spec("promote-job", &["promote"], Takes::Job),
    spec("remove-job", &["remove", "rm"], Takes::Job),
    spec("attach", &[], Takes::Run),
    spec("pause-queue", &[], Takes::Nothing),
    spec("resume-queue", &[], Takes::Nothing),
    spec("drain", &[], Takes::Nothing),
    spec("zoom", &[], Takes::Zoom),
    spec("charts", &["chart"], Takes::Nothing),
    spec("sort", &[], Takes::Column),
    spec("filter", &["grep"], Takes::Text),
    spec("repaint", &["redraw"], Takes::Nothing),
    spec("help", &["h"], Takes::Nothing),
    spec("quit", &["q", "q!", "qa", "wq", "x", "exit"], Takes::Nothing),
];

/// The words that name a span of time of the charts.
const ZOOMS: [(&str, Zoom); 3] = [("1m", Zoom::Minute), ("10m", Zoom::TenMinutes), ("all", Zoom::All)];
/// What `:set` sets.
const SETTINGS: [&str; 2] = ["workers", "target"];
const SET_USAGE: &str = "such as `set workers=2` or `set target=250ms`";

fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name || spec.aliases.contains(&name))
}

/// Whether something stands behind the command `name`.
pub(super) fn goes_on(name: &str) -> bool {
    find(name).is_some_and(|spec| spec.takes != Takes::Nothing)
}

/// What `text` asks for. Nothing, if it is blank.
///
/// # Errors
/// What is wrong with it, and what would be right, in a line. Not cleaned.
pub(super) fn parse(text: &str, scene: &Scene<'_>) -> Result<Vec<Order>, String> {
    let text = text.trim().trim_start_matches(':').trim_start();
    let (name, rest) = text.split_once(char::is_whitespace).map_or((text, ""), |(name, rest)| (name, rest.trim()));
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let Some(spec) = find(name) else {
        let known = SPECS.iter().map(|spec| spec.name);
        return Err(unknown(&format!("there is no command `{name}`"), name, known, "Tab shows what there is"));
    };
    let orders = match spec.takes {
        Takes::Nothing if !rest.is_empty() => return Err(format!("`{}` takes nothing behind it", spec.name)),
        Takes::Nothing => vec![Order::Do(plain(spec.name))],
        Takes::Settings => settings(rest)?,
        Takes::View => vec![Order::Do(Action::Goto(view(rest)?))],
        Takes::Zoom => vec![Order::Zoom(zoom(rest)?)],
        Takes::Column => vec![Order::Sort(column(rest, scene)?)],
        Takes::Text if scene.ui.list().is_none() => return Err(no_list("filter")),
        Takes::Text => vec![Order::Filter(rest.to_owned())],
        Takes::Alert => vec![Order::Do(alert(rest, scene)?)],
        Takes::Silence => vec![Order::Do(Action::Ask(silence(spec.name, rest, scene)?))],
        Takes::Pid => {
            let pid = session(spec.name, rest, scene)?;
            let command = if spec.name == "cancel" {
                Command::CancelSession(pid, None)
            } else {
                Command::TerminateSession(pid, None)
            };
            vec![Order::Do(Action::Ask(command))]
        }
        Takes::Path if rest.is_empty() => return Err("`enqueue` takes a plan's file".to_owned()),
        Takes::Path => vec![Order::Do(Action::Order(QueueOrder::Enqueue { path: rest.to_owned() }))],
        Takes::Job => vec![Order::Do(job(spec.name, rest, scene)?)],
        Takes::Run => vec![Order::Do(run(rest)?)],
    };
    Ok(orders)
}

/// What a command does that takes nothing.
fn plain(name: &str) -> Action {
    match name {
        "pause" => Action::Ask(Command::Pause),
        "continue" => Action::Ask(Command::Continue),
        "stop" => Action::Stop,
        "skip-window" => Action::SkipWindow,
        "close-breaker" => Action::CloseBreaker,
        "retry-quarantine" => Action::RetryQuarantine,
        "undo" => Action::Undo,
        "resume" => Action::Resume,
        "pause-queue" => Action::Order(QueueOrder::Pause),
        "resume-queue" => Action::Order(QueueOrder::Resume),
        "drain" => Action::Order(QueueOrder::Drain),
        "charts" => Action::Charts,
        "repaint" => Action::Repaint,
        "quit" => Action::Quit,
        name => View::ALL.into_iter().find(|view| view.name() == name).map_or(Action::Help, Action::Goto),
    }
}

fn settings(rest: &str) -> Result<Vec<Order>, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let pairs: Vec<(&str, &str)> = match words[..] {
        [] => return Err(format!("`set` what? {SET_USAGE}")),
        [name, value] if !rest.contains('=') => vec![(name, value)],
        _ => words.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect(),
    };
    pairs.into_iter().map(|(name, value)| setting(name, value).map(|command| Order::Do(Action::Ask(command)))).collect()
}

fn setting(name: &str, value: &str) -> Result<Command, String> {
    match name {
        "workers" => match value.parse() {
            Ok(workers) if workers > 0 => Ok(Command::SetWorkers(workers)),
            Ok(_) | Err(_) => Err("`workers` is a number from 1 on, such as `set workers=2`".to_owned()),
        },
        "target" => match humantime::parse_duration(value) {
            Ok(target) if !target.is_zero() => Ok(Command::SetTarget(target)),
            Ok(_) | Err(_) => Err("`target` is the time of a batch, such as `set target=250ms`".to_owned()),
        },
        name => Err(unknown(&format!("there is no setting `{name}`"), name, SETTINGS, SET_USAGE)),
    }
}

fn view(name: &str) -> Result<View, String> {
    let by_number = || name.parse().ok().and_then(|number: usize| View::ALL.get(number.checked_sub(1)?).copied());
    View::ALL.into_iter().find(|view| view.name() == name).or_else(by_number).ok_or_else(|| {
        let names = View::ALL.map(View::name);
        let all = format!("there are {}", names.join(", "));
        if name.is_empty() {
            format!("`goto` where? {all}")
        } else {
            unknown(&format!("there is no view `{name}`"), name, names, &all)
        }
    })
}

fn zoom(name: &str) -> Result<Zoom, String> {
    ZOOMS
        .into_iter()
        .find(|(word, _)| *word == name)
        .map(|(_, zoom)| zoom)
        .ok_or_else(|| "`zoom` takes 1m, 10m or all".to_owned())
}

/// A column with `asc` or `desc` behind it; without either a name comes from its first letter and a number from the largest.
fn column(rest: &str, scene: &Scene<'_>) -> Result<Option<(usize, bool)>, String> {
    let columns = scene.ui.list().map_or(&[][..], listing::columns);
    if columns.is_empty() {
        return Err(no_list("sort"));
    }
    let wanted = rest.to_lowercase();
    let (name, descending) = match wanted.rsplit_once(' ') {
        Some((name, "asc")) => (name.trim(), Some(false)),
        Some((name, "desc")) => (name.trim(), Some(true)),
        _ => (wanted.as_str(), None),
    };
    if name.is_empty() {
        return Ok(None);
    }
    if let Some(index) = columns.iter().position(|column| column.to_lowercase() == name) {
        return Ok(Some((index, descending.unwrap_or_else(|| from_the_largest(columns[index])))));
    }
    let all = format!("there are {}", columns.join(", "));
    Err(unknown(&format!("there is no column `{name}` to sort by"), name, columns.iter().copied(), &all))
}

/// How a column is sorted first: names and the like from their first letter, and numbers and times from the largest.
pub(super) fn from_the_largest(heading: &str) -> bool {
    /// Columns that do not count anything.
    const NAMES: [&str; 25] = [
        "table",
        "vacuum",
        "pid",
        "state",
        "wait",
        "user",
        "application",
        "client",
        "query",
        "segment",
        "part",
        "keys",
        "plan",
        "step",
        "key",
        "code",
        "why",
        "kind",
        "what",
        "id",
        "prio",
        "next",
        "worker",
        "run",
        "says",
    ];
    !NAMES.contains(&heading)
}

fn alert(key: &str, scene: &Scene<'_>) -> Result<Action, String> {
    let keys = scene.snapshot.vitals.alerts.iter().map(|alert| alert.key.as_str());
    if key.is_empty() {
        Ok(Action::Acknowledge)
    } else if keys.clone().any(|known| known == key) {
        Ok(Action::Ask(Command::Acknowledge(key.to_owned())))
    } else {
        Err(unknown(&format!("there is no alert `{key}`"), key, keys, "Tab shows what there is; none takes all"))
    }
}

/// `silence KEY 1h`, an hour where no time is named; `unsilence KEY`. A key may hold blanks.
fn silence(name: &str, rest: &str, scene: &Scene<'_>) -> Result<Command, String> {
    const HOUR: Duration = Duration::from_hours(1);
    if rest.is_empty() {
        return Err(format!("`{name}` takes an alert's key: Tab shows what there is"));
    }
    let (key, time) = match rest.rsplit_once(' ') {
        Some((key, time)) if name == "silence" => match humantime::parse_duration(time) {
            Ok(time) => (key.trim(), time),
            Err(_) => (rest, HOUR),
        },
        _ => (rest, HOUR),
    };
    let known = silenceable(scene);
    if !known.contains(&key) {
        let all = "Tab shows what there is; `silence KEY 1h`";
        return Err(unknown(&format!("there is no alert `{key}`"), key, known, all));
    }
    let key = key.to_owned();
    Ok(if name == "silence" { Command::Silence(key, time) } else { Command::Unsilence(key) })
}

/// Alerts that were raised, and rules that may raise others.
fn silenceable<'a>(scene: &Scene<'a>) -> Vec<&'a str> {
    let vitals = &scene.snapshot.vitals;
    let mut keys: Vec<&str> = vitals.alerts.iter().map(|alert| alert.key.as_str()).collect();
    let rules = vitals.rules.iter().map(|rule| rule.name.as_str());
    keys.extend(rules.filter(|name| !vitals.alerts.iter().any(|alert| alert.key == *name)));
    keys
}

fn session(name: &str, pid: &str, scene: &Scene<'_>) -> Result<i32, String> {
    let Ok(pid) = pid.parse::<i32>() else {
        return Err(format!("`{name}` takes the process id of a session, as `goto sessions` shows them"));
    };
    match scene.details.sessions.value() {
        None => Err("the sessions have not been read yet: `goto sessions` first".to_owned()),
        Some(sessions) if sessions.sessions.iter().any(|session| session.pid == pid) => Ok(pid),
        Some(_) => Err(format!("there is no session {pid}: `goto sessions` shows which there are")),
    }
}

/// A job by its id; without one, the selected job.
fn job(name: &str, id: &str, scene: &Scene<'_>) -> Result<Action, String> {
    let known = scene.details.queue.reading.view().is_none_or(|view| view.jobs.iter().any(|job| job.id == id));
    if !id.is_empty() && !known {
        return Err(format!("there is no job {id} in sight: `goto queue` shows which there are"));
    }
    let id = id.to_owned();
    Ok(match name {
        "retry-job" if id.is_empty() => Action::RetryJob,
        "promote-job" if id.is_empty() => Action::PromoteJob,
        "retry-job" => Action::Order(QueueOrder::Retry { id }),
        "promote-job" => Action::Order(QueueOrder::Promote { id }),
        _ if id.is_empty() => Action::RemoveJob,
        _ => Action::Order(QueueOrder::Remove { id }),
    })
}

/// The run that is to be looked at; without one, that of the selected job.
fn run(rest: &str) -> Result<Action, String> {
    if rest.is_empty() {
        return Ok(Action::AttachJob);
    }
    rest.parse().map(Action::Attach).map_err(|_| "`attach` takes a run's short id, eight hex digits".to_owned())
}

fn no_list(what: &str) -> String {
    format!("there is nothing to {what} here: every other view has a list")
}

/// What is not known, and what was probably meant.
fn unknown<'a>(message: &str, name: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    match did_you_mean(name, known) {
        Some(meant) => format!("{message}: did you mean `{meant}`?"),
        None => format!("{message}: {otherwise}"),
    }
}

#[cfg(test)]
mod tests;
