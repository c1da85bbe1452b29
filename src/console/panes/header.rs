//! The first row: which run this is, where it stands, on which server, and when.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::canvas::Canvas;
use super::super::measure::fit;
use super::super::theme::Role;
use super::super::ui::Mode;
use super::clock;
use crate::run::text::clean;
use crate::run::{Asker, Guarantee, Level, Presence, RunState, Snapshot, human, why};

/// A part of the row, with what it is worth: the least is left out first.
struct Part<'a> {
    worth: u8,
    span: Span<'a>,
}

/// Nothing is worth more than the state.
const STATE: u8 = 9;
const PLAN: u8 = 8;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, mode: Mode) {
    let width = usize::from(area.width);
    let plan = clean(&snapshot.plan);
    // Who drives a run from elsewhere, and that nobody does, is worth more than its number and its server.
    let (driver_worth, run, server) = match snapshot.presence {
        Presence::Elsewhere { .. } => (6, 5, 3),
        Presence::Here | Presence::NoRun | Presence::Gone { .. } | Presence::Unreachable { .. } => (2, 6, 5),
    };
    let since_worth = match snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun => 4,
        Presence::Gone { .. } | Presence::Unreachable { .. } => 6,
    };
    let mut left = vec![
        part(3, canvas.span(Role::Accent, "howdah")),
        part(PLAN, canvas.span(Role::Text, plan)),
        part(run, canvas.span(Role::Dim, snapshot.run.as_str())),
        part(STATE, chip(canvas, snapshot)),
    ];
    left.extend(since(snapshot).map(|text| part(since_worth, canvas.span(Role::Text, text))));
    if mode == Mode::ReadOnly {
        left.push(part(7, canvas.span(Role::Dim, "read-only")));
    }
    if snapshot.guarantee == Guarantee::AtLeastOnce {
        // What the run promises of each row is worth more than where it is.
        left.push(part(7, canvas.span(Role::Warning, snapshot.guarantee.word())));
    }
    let mut right = Vec::new();
    if !snapshot.server.is_empty() {
        right.push(part(server, canvas.span(Role::Text, clean(&snapshot.server))));
    }
    right.extend(driver(snapshot).map(|text| part(driver_worth, canvas.span(Role::Dim, text))));
    right.push(part(7, canvas.span(Role::Text, time(snapshot))));
    right.push(part(1, canvas.span(Role::Dim, "UTC")));

    while taken(&left) + taken(&right) > width {
        let Some(worth) = left.iter().chain(&right).map(|part| part.worth).filter(|worth| *worth < PLAN).min() else {
            break;
        };
        left.retain(|part| part.worth != worth);
        right.retain(|part| part.worth != worth);
    }
    // Only the plan's name and the state are left, and still too long: the name is cut.
    let too_long = taken(&left).saturating_sub(width);
    for part in left.iter_mut().filter(|part| too_long > 0 && part.worth == PLAN) {
        let room = part.span.width().saturating_sub(too_long);
        part.span.content = fit(&part.span.content, room).into_owned().into();
    }
    let [left, right] = [left, right].map(joined);
    canvas.sides(area, 0, &left, &right);
}

fn part(worth: u8, span: Span<'_>) -> Part<'_> {
    Part { worth, span }
}

/// The cells that the parts take, with a margin and two spaces between them.
fn taken(parts: &[Part<'_>]) -> usize {
    parts.iter().filter(|part| part.span.width() > 0).map(|part| part.span.width() + 2).sum()
}

fn joined(parts: Vec<Part<'_>>) -> Line<'_> {
    let mut line = Line::default();
    for part in parts.into_iter().filter(|part| part.span.width() > 0) {
        line.push_span(Span::raw(if line.spans.is_empty() { " " } else { "  " }));
        line.push_span(part.span);
    }
    line
}

/// The state: a sign, a word, and a style; with what an operator must not overlook about it.
fn chip(canvas: &Canvas<'_>, snapshot: &Snapshot) -> Span<'static> {
    let glyphs = &canvas.theme().glyphs;
    let state = &snapshot.state;
    let word = || state.word().to_uppercase();
    match &snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } => {}
        Presence::NoRun => return canvas.span(Role::Dim, format!("{} no run", glyphs.none)),
        Presence::Gone { .. } | Presence::Unreachable { .. } if state.is_over() => {}
        Presence::Gone { .. } => {
            return canvas.span(Role::Critical, format!("{} DRIVER GONE", glyphs.level(Level::Critical)));
        }
        Presence::Unreachable { .. } => {
            return canvas.span(Role::Critical, format!("{} NO CONTACT", glyphs.level(Level::Critical)));
        }
    }
    let (role, sign, text) = match state {
        RunState::Running if why::is_waiting(snapshot) => (Role::Warning, glyphs.holding, "WAITING".to_owned()),
        RunState::Paused { by: by @ Asker::Governor, .. } => {
            (Role::of_state(state), glyphs.state(state), format!("{} by {}", word(), by.name()))
        }
        RunState::Done { .. } if snapshot.quarantined() > 0 => {
            let text = format!("{}, {} quarantined", word(), human::count(snapshot.quarantined()));
            (Role::Warning, glyphs.level(Level::Warning), text)
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. }
        | RunState::Stopped { .. }
        | RunState::Failed { .. }
        | RunState::Done { .. } => (Role::of_state(state), glyphs.state(state), word()),
    };
    canvas.span(role, format!("{sign} {text}"))
}

/// Since when, and who asked. A fixed time, and not how long ago: a paused screen stands still.
fn since(snapshot: &Snapshot) -> Option<String> {
    match &snapshot.presence {
        Presence::Gone { since, .. } if !snapshot.state.is_over() => {
            return Some(format!("since {}", since.format("%H:%M")));
        }
        Presence::Unreachable { since, .. } => return Some(format!("shown as of {}", clock(*since))),
        Presence::Here | Presence::Elsewhere { .. } | Presence::Gone { .. } | Presence::NoRun => {}
    }
    match &snapshot.state {
        RunState::Paused { since, by: Asker::Governor } => Some(format!("since {}", since.format("%H:%M"))),
        RunState::Paused { since, by } => Some(format!("since {} by {}", since.format("%H:%M"), by.name())),
        RunState::Stopped { at, by } => Some(format!("at {} by {}", at.format("%H:%M"), by.name())),
        RunState::Failed { at, .. } | RunState::Done { at } => Some(format!("at {}", at.format("%H:%M"))),
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => None,
    }
}

/// Who drives the run, and from where. The heartbeat in steps so large that it seldom changes while the driver lives.
fn driver(snapshot: &Snapshot) -> Option<String> {
    let host = Some(clean(&snapshot.host)).filter(|host| !host.is_empty());
    match &snapshot.presence {
        Presence::Here | Presence::NoRun | Presence::Unreachable { .. } => host.map(|host| format!("on {host}")),
        Presence::Elsewhere { pid, beat } => {
            let host = host.map_or_else(String::new, |host| format!("{host} "));
            let beat = match beat.as_secs() {
                0..5 => "<5s".to_owned(),
                5..60 => format!("{}s", beat.as_secs() / 5 * 5),
                seconds => format!("{}m", seconds / 60),
            };
            Some(format!("driver {host}pid {pid}, heartbeat {beat}"))
        }
        Presence::Gone { pid, .. } => host.map(|host| format!("on {host}, pid {pid}")),
    }
}

/// The time; to the second only while something moves.
fn time(snapshot: &Snapshot) -> String {
    let stands_still = match snapshot.presence {
        Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun => false,
        Presence::Gone { .. } | Presence::Unreachable { .. } => true,
    };
    if stands_still || snapshot.state.is_over() || matches!(snapshot.state, RunState::Paused { .. }) {
        snapshot.now.format("%H:%M").to_string()
    } else {
        clock(snapshot.now)
    }
}
