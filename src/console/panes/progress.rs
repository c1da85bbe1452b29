//! How far the running step is, how fast, and how long yet.

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{left, right};
use super::super::theme::Role;
use super::clock;
use crate::run::human;
use crate::run::progress::Eta;
use crate::run::snapshot::{Activity, BatchActivity};
use crate::run::text::clean;
use crate::run::{RunState, Snapshot};

/// The widest sparkline. All of its cells change once a second, and each costs up to three bytes.
const SPARK: usize = 40;
/// The highest chart, in lines.
const CHART: usize = 5;
/// `1,000,000` rows a second: what follows stays where it is.
const RATE: usize = 9;
/// ` 100.0%`
const PERCENT: usize = 7;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let inside = canvas.pane(area, &title(canvas, snapshot));
    let width = usize::from(inside.width);
    let lines = match &snapshot.activity {
        Activity::Batches(batches) => of_batches(canvas, snapshot, batches, width, usize::from(inside.height)),
        Activity::Statement { what, fraction, since } => {
            let mut lines = vec![gauge(canvas, *fraction, width)];
            let elapsed = (snapshot.now - *since).to_std().unwrap_or_default();
            lines.push(Line::from(canvas.span(Role::Text, clean(what))));
            lines.push(Line::from(canvas.span(Role::Text, format!("for {}", human::rough_duration(elapsed)))));
            lines
        }
        Activity::Idle => vec![
            gauge(canvas, matches!(snapshot.state, RunState::Done { .. }).then_some(1.0), width),
            Line::from(canvas.span(Role::Dim, idle(&snapshot.state))),
        ],
    };
    for (row, line) in lines.iter().enumerate() {
        canvas.line(inside, row, line);
    }
}

fn title(canvas: &Canvas<'_>, snapshot: &Snapshot) -> String {
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    let mut title = "Progress".to_owned();
    if let Some((at, step)) = snapshot.current_step() {
        title = format!("{title} {line} step {}/{} {}", at + 1, snapshot.steps.len(), clean(&step.name));
    }
    match &snapshot.activity {
        Activity::Batches(batches) if batches.sweep > 1 => format!("{title} {line} sweep {}", batches.sweep),
        Activity::Batches(_) | Activity::Statement { .. } | Activity::Idle => title,
    }
}

fn idle(state: &RunState) -> &'static str {
    match state {
        RunState::Starting => "connecting, and checking the plan against the database",
        RunState::Running | RunState::Resuming { .. } => "between two steps",
        RunState::Pausing { .. } | RunState::Stopping { .. } => "finishing what is open",
        RunState::Paused { .. } => "holding still; nothing is open",
        RunState::Stopped { .. } => "stopped; nothing is open",
        RunState::Failed { .. } => "failed; nothing is open",
        RunState::Done { .. } => "every step is done and checked",
    }
}

fn of_batches(
    canvas: &Canvas<'_>,
    snapshot: &Snapshot,
    batches: &BatchActivity,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let text = |text: String| Line::from(canvas.span(Role::Text, text));
    let mut lines = vec![gauge(canvas, batches.estimate.fraction(), width)];

    // Side by side where both fit, so that a wide pane leaves its last lines to the sparkline.
    let rows = human::estimate(&batches.estimate);
    let eta = format!("ETA {}{}", human::eta(batches.eta), at_most(snapshot.now, batches.eta));
    if rows.chars().count() + eta.chars().count() + 3 <= width {
        let room = width - eta.chars().count();
        lines.push(text(format!("{}{eta}", left(&rows, room))));
    } else {
        lines.push(text(rows));
        lines.push(text(eta));
    }

    let none = canvas.theme().glyphs.none;
    let rate = |rate: Option<f64>| rate.map_or_else(|| none.to_owned(), human::rate);
    lines.push(text(format!("{} rows/s   mean {}", right(&rate(batches.rate), RATE), rate(batches.mean_rate))));
    lines.push(batch(canvas, batches, width));

    let room = width.saturating_sub(" 1,000,000".len()).min(SPARK);
    let skipped = snapshot.rate_series.len().saturating_sub(room);
    let points = || snapshot.rate_series.iter().skip(skipped).copied();
    let most = points().fold(0.0, f64::max);
    // What height is left makes the sparkline a chart, its highest value beside its top.
    let rows = height.saturating_sub(lines.len()).clamp(1, CHART);
    for row in (0..rows).rev() {
        let label = match row {
            0 => " rows/s".to_owned(),
            _ if row == rows - 1 && most > 0.0 => format!(" {}", human::rate(most)),
            _ => String::new(),
        };
        let bars = canvas.chart_row(points(), most, rows, row);
        lines.push(Line::from(vec![bars, canvas.span(Role::Dim, label)]));
    }
    lines
}

fn gauge(canvas: &Canvas<'_>, fraction: Option<f64>, width: usize) -> Line<'static> {
    let percent = fraction.map_or_else(|| canvas.theme().glyphs.none.to_owned(), human::percent);
    let mut spans = canvas.bar(fraction.unwrap_or(0.0), width.saturating_sub(PERCENT));
    spans.push(canvas.span(Role::Text, right(&percent, PERCENT)));
    Line::from(spans)
}

/// The clock time when the end will have been reached at the latest.
fn at_most(now: DateTime<Utc>, eta: Eta) -> String {
    match eta {
        Eta::Unknown => String::new(),
        Eta::Within { most, .. } => TimeDelta::from_std(most)
            .ok()
            .and_then(|most| now.checked_add_signed(most).map(|at| (most, at)))
            .map(
                |(most, at)| if most < TimeDelta::hours(20) { clock(at) } else { at.format("%b %e %H:%M").to_string() },
            )
            .map_or_else(String::new, |at| format!(" ({at})")),
    }
}

/// The batch that committed last, what comes next, and what it aims at; shorter where room is short.
fn batch(canvas: &Canvas<'_>, batches: &BatchActivity, width: usize) -> Line<'static> {
    let arrow = canvas.theme().glyphs.arrow;
    let next = human::count(batches.next_size);
    let target = human::duration(batches.target);
    let mut text = match batches.last {
        Some(last) => format!("batch {} in {} {arrow} {next}", human::count(last.rows), human::duration(last.took)),
        None => format!("first batch {next} rows"),
    };
    let workers = String::new();
    let _ = batches;
    for more in [format!("   target {target}"), workers] {
        if text.chars().count() + more.chars().count() <= width {
            text.push_str(&more);
        }
    }
    let mut spans = vec![canvas.span(Role::Text, text)];
    if batches.at_floor {
        spans.push(canvas.span(Role::Warning, "   at batch.min, and still too slow"));
    }
    Line::from(spans)
}
