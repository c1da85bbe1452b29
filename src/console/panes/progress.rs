//! How far the running step is, how fast, how long yet, and why no faster.

use chrono::TimeDelta;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{left, right, width as cells, wrap};
use super::super::theme::Role;
use super::super::ui::Ui;
use super::{GAP, clock, hold, in_a_row, members};
use crate::run::human;
use crate::run::progress::Eta;
use crate::run::snapshot::{Activity, BatchActivity, Unit};
use crate::run::text::clean;
use crate::run::{Presence, RunState, Snapshot, why};

/// The widest sparkline. All of its cells change once a second, and each costs up to three bytes.
const SPARK: usize = 40;
/// The highest chart, in lines.
const CHART: usize = 5;
/// `1,000,000` rows a second: what follows stays where it is.
const RATE: usize = 9;
/// ` 100.0%`
const PERCENT: usize = 7;

/// A line, with what it is worth: where room is short, the least goes first.
struct Row {
    worth: u8,
    line: Line<'static>,
}

const GAUGE: u8 = 9;
const WHY: u8 = 8;
const ROWS: u8 = 7;
const COUNTS: u8 = 6;
const CACHES: u8 = 5;
const WHY_ON: u8 = 5;
const ETA: u8 = 4;
const BATCH: u8 = 3;
const SPEED: u8 = 2;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui) {
    let inside = canvas.pane(area, &title(canvas, snapshot));
    let width = usize::from(inside.width);
    let height = usize::from(inside.height);
    let plain = |role, text: String| Line::from(canvas.span(role, text));
    let mut rows = match &snapshot.activity {
        Activity::Batches(batches) => of_batches(canvas, snapshot, batches, width),
        Activity::Statement { what, fraction, since } => {
            let elapsed = (snapshot.now - *since).to_std().unwrap_or_default();
            let elapsed = format!("for {}", human::rough_duration(elapsed));
            // Whom it waits for stands at its end: nothing of it is cut where there is room below.
            let what = wrap(&clean(what), width).into_iter().enumerate();
            let worth = |at: usize| if at == 0 { ROWS } else { WHY_ON };
            let mut rows = vec![Row { worth: GAUGE, line: gauge(canvas, *fraction, width) }];
            rows.extend(what.map(|(at, text)| Row { worth: worth(at), line: plain(Role::Text, text) }));
            rows.push(Row { worth: ETA, line: plain(Role::Text, elapsed) });
            rows
        }
        Activity::Idle => {
            let fraction = matches!(snapshot.state, RunState::Done { .. }).then_some(1.0);
            vec![
                Row { worth: GAUGE, line: gauge(canvas, fraction, width) },
                Row { worth: ROWS, line: plain(Role::Dim, idle(snapshot)) },
            ]
        }
    };
    rows.extend(counts(canvas, snapshot, width).map(|line| Row { worth: COUNTS, line }));
    rows.extend(caches(canvas, snapshot, width).map(|line| Row { worth: CACHES, line }));
    let why = hold::lines(canvas, snapshot, ui, width).into_iter();
    rows.extend(why.map(|(first, line)| Row { worth: if first { WHY } else { WHY_ON }, line }));
    while rows.len() > height {
        // Of lines that are worth the same, the last one goes.
        let Some((least, _)) = rows.iter().enumerate().rev().min_by_key(|(_, row)| row.worth) else { break };
        rows.remove(least);
    }
    let mut lines: Vec<Line<'static>> = rows.into_iter().map(|row| row.line).collect();
    if matches!(snapshot.activity, Activity::Batches(_)) {
        let room = height - lines.len();
        lines.extend(chart(canvas, snapshot, width, room.min(CHART)));
    }
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

fn idle(snapshot: &Snapshot) -> String {
    let text = match &snapshot.state {
        RunState::Starting => "connecting, and checking the plan against the database",
        RunState::Running | RunState::Resuming { .. } => "between two steps",
        RunState::Pausing { .. } | RunState::Stopping { .. } => "finishing what is open",
        RunState::Paused { .. } => "holding still; nothing is open",
        RunState::Stopped { .. } => "stopped; nothing is open",
        RunState::Failed { .. } => "failed; nothing is open",
        RunState::Done { .. } if snapshot.quarantined() > 0 => "done, but for the quarantined rows",
        RunState::Done { .. } => "every step is done and checked",
    };
    text.to_owned()
}

fn of_batches(canvas: &Canvas<'_>, snapshot: &Snapshot, batches: &BatchActivity, width: usize) -> Vec<Row> {
    let text = |worth, text: String| Row { worth, line: Line::from(canvas.span(Role::Text, text)) };
    let mut rows = vec![Row { worth: GAUGE, line: gauge(canvas, batches.estimate.fraction(), width) }];

    // Side by side where both fit, so that a wide pane leaves its last lines to the sparkline.
    let walked = human::walked(batches);
    let eta = format!("ETA {}{}", human::eta(batches.eta), at_most(snapshot, batches.eta));
    if cells(&walked) + cells(&eta) + 3 <= width {
        let room = width - cells(&eta);
        rows.push(text(ROWS, format!("{}{eta}", left(&walked, room))));
    } else if let Some(bytes) = batches.bytes {
        let bytes = human::bytes_of(bytes);
        let beside = cells(&bytes) + cells(&eta) + GAP.len() <= width;
        rows.push(text(ROWS, human::walked(&BatchActivity { bytes: None, ..batches.clone() })));
        rows.push(text(ETA, if beside { format!("{eta}{GAP}{bytes}") } else { eta }));
    } else {
        rows.push(text(ROWS, walked));
        rows.push(text(ETA, eta));
    }

    let none = canvas.theme().glyphs.none;
    let rate = |rate: Option<f64>| rate.map_or_else(|| none.to_owned(), human::rate);
    // What nobody drives has no rate.
    let now = batches.rate.filter(|_| !matches!(snapshot.presence, Presence::Gone { .. }));
    let speed = format!("{} {}/s   mean {}", right(&rate(now), RATE), batches.unit.word(), rate(batches.mean_rate));
    rows.push(text(SPEED, speed));
    rows.push(Row { worth: BATCH, line: batch(canvas, batches, width) });
    rows
}

/// Workers, segments, retries, failures and the quarantine, as far as there is room. What is nought is said only beside
/// a running backfill.
fn counts(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize) -> Option<Line<'static>> {
    let pace = &snapshot.pace;
    let mut items: Vec<(u8, Role, String)> = Vec::new();
    let mut add = |worth, role, text: Option<String>| items.extend(text.map(|text| (worth, role, text)));
    let batches = match &snapshot.activity {
        Activity::Batches(batches) => Some(batches),
        Activity::Idle | Activity::Statement { .. } => None,
    };
    if let Some(batches) = batches {
        let role = if why::is_governed(pace) { Role::Warning } else { Role::Text };
        let workers = why::workers(pace).map(|here| match members::beside(snapshot) {
            Some(beside) => format!("{here} {beside}"),
            None => here,
        });
        add(6, role, workers);
        let parts = batches.segments;
        add(3, Role::Text, (parts.all > 1).then(|| format!("segments {}/{}", parts.done, parts.all)));
    }
    let retries: u64 = snapshot.steps.iter().map(|step| step.retries).sum();
    let told = |n: u64| batches.is_some() || n > 0;
    let worth = |n: u64, worth| if n > 0 { worth } else { 1 };
    add(worth(retries, 4), Role::Text, told(retries).then(|| format!("retries {}", human::count(retries))));
    add(5, Role::Warning, why::failures(&pace.breaker));
    let quarantined = snapshot.quarantined();
    let role = if quarantined > 0 { Role::Warning } else { Role::Text };
    let text = told(quarantined).then(|| format!("quarantined {}", human::count(quarantined)));
    add(worth(quarantined, 7), role, text);

    let line = in_a_row(canvas, &items, width);
    (!line.spans.is_empty()).then_some(line)
}

/// How far the caches of the run's scripts spare the database; those that are asked most first.
fn caches(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize) -> Option<Line<'static>> {
    let mut caches: Vec<_> = snapshot.caches.iter().filter(|cache| cache.asked > 0).collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.asked));
    let worth = |at: usize| u8::try_from(caches.len().saturating_sub(at)).unwrap_or(u8::MAX);
    let told = |(at, cache): (usize, &&crate::run::CacheView)| {
        let role = if cache.errors > 0 { Role::Warning } else { Role::Text };
        (worth(at), role, format!("cache {} {}", clean(&cache.name), cache.words()))
    };
    let items: Vec<(u8, Role, String)> = caches.iter().enumerate().map(told).collect();
    (!items.is_empty()).then(|| in_a_row(canvas, &items, width))
}

/// Rows a second over the last seconds: a sparkline, and in more lines a chart with its highest value beside its top.
fn chart(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize, rows: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(" 1,000,000".len()).min(SPARK);
    let skipped = snapshot.rate_series.len().saturating_sub(room);
    let points = || snapshot.rate_series.iter().skip(skipped).copied();
    let most = points().fold(0.0, f64::max);
    let unit = match &snapshot.activity {
        Activity::Batches(batches) => batches.unit,
        Activity::Idle | Activity::Statement { .. } => Unit::Rows,
    };
    let line = |row| {
        let label = match row {
            0 => format!(" {}/s", unit.word()),
            _ if row == rows - 1 && most > 0.0 => format!(" {}", human::rate(most)),
            _ => String::new(),
        };
        let bars = canvas.chart_row(points(), most, rows, row);
        Line::from(vec![bars, canvas.span(Role::Dim, label)])
    };
    (0..rows).rev().map(line).collect()
}

fn gauge(canvas: &Canvas<'_>, fraction: Option<f64>, width: usize) -> Line<'static> {
    let percent = fraction.map_or_else(|| canvas.theme().glyphs.none.to_owned(), human::percent);
    let mut spans = canvas.bar(fraction.unwrap_or(0.0), width.saturating_sub(PERCENT));
    spans.push(canvas.span(Role::Text, right(&percent, PERCENT)));
    Line::from(spans)
}

/// The clock time when the end will have been reached at the latest. None while nobody knows when the work goes on.
fn at_most(snapshot: &Snapshot, eta: Eta) -> String {
    let now = snapshot.now;
    match eta {
        Eta::Unknown => String::new(),
        Eta::Within { .. } if !why::goes_on(snapshot) => " once it goes on".to_owned(),
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
        None => format!("first batch {next} {}", batches.unit.word()),
    };
    let target = format!("   target {target}");
    if cells(&text) + cells(&target) <= width {
        text.push_str(&target);
    }
    let mut spans = vec![canvas.span(Role::Text, text)];
    if batches.at_floor {
        spans.push(canvas.span(Role::Warning, "   at batch.min, and still too slow"));
    }
    Line::from(spans)
}
