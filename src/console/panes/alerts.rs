//! What needs eyes: alerts that hold, then what happened, newest first. Each has a word, a sign and a style.

use chrono::{DateTime, Utc};
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::theme::Role;
use super::clock;
use crate::run::text::clean;
use crate::run::{Event, EventKind, Level, Snapshot};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let inside = canvas.pane(area, "Alerts and events");
    let mut alerts: Vec<_> = snapshot.vitals.alerts.iter().filter(|alert| alert.is_active()).collect();
    // The gravest first, and what is silenced last; the sort is stable, so the newest of them stays first.
    alerts.sort_by_key(|alert| (snapshot.silence(&alert.key).is_some(), std::cmp::Reverse(alert.level)));
    let held = alerts.len();
    let raised =
        |event: &Event| event.kind == EventKind::AlertRaised && alerts.iter().any(|alert| alert.raised_at == event.at);
    let events = snapshot.events.iter().rev().filter(|event| !raised(event));
    let mut lines: Vec<Line<'static>> = alerts
        .iter()
        .map(|alert| line(canvas, alert.raised_at, alert.level, &alert.text, snapshot.silence(&alert.key).is_some()))
        .chain(events.map(|event| line(canvas, event.at, event.level, &event.text, false)))
        .take(usize::from(inside.height))
        .collect();
    if lines.is_empty() {
        lines.push(Line::from(canvas.span(Role::Dim, "nothing yet")));
    }
    if inside.height == 1 && held > 1 {
        let more = Line::from(canvas.span(Role::Warning, format!("+{} more ", held - 1)));
        canvas.sides(inside, 0, &lines[0], &more);
        return;
    }
    for (row, line) in lines.iter().enumerate() {
        canvas.line(inside, row, line);
    }
}

fn line(canvas: &Canvas<'_>, at: DateTime<Utc>, level: Level, text: &str, silenced: bool) -> Line<'static> {
    let sign = canvas.theme().glyphs.level(level);
    let (word, role) = match level {
        Level::Info => ("", Role::Dim),
        Level::Warning | Level::Critical if silenced => (level.word(), Role::Dim),
        Level::Warning | Level::Critical => (level.word(), Role::of_level(level)),
    };
    Line::from(vec![
        canvas.span(Role::Dim, format!(" {}  ", clock(at))),
        canvas.span(role, format!("{sign} {word:<4}")),
        canvas.span(if silenced { Role::Dim } else { Role::Text }, format!(" {}", clean(text))),
    ])
}
