//! The course of the run over time: rate, batch time, lag, dead rows; pauses and alerts marked at the foot.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::canvas::Canvas;
use super::super::measure::{right, width as cells};
use super::super::plot::{Plot, ceiling};
use super::super::theme::Role;
use super::super::ui::Ui;
use super::latency;
use crate::run::history::{Point, Zoom};
use crate::run::snapshot::{Activity, Unit};
use crate::run::{Level, RunState, Snapshot, human};

/// The lowest chart that is worth its frame: two lines of plot, the foot, the times.
pub(crate) const LEAST: u16 = 6;
/// Of the time that is shown, what stays to the right of where a pause began.
const AFTER_PAUSE: i64 = 20;
/// The cells of a label beside the plot.
const LABEL: usize = 7;

/// What a chart is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chart {
    Rate,
    BatchTime,
    Latency,
    Lag,
    Dead,
}

impl Chart {
    /// Those that have something to show, the most telling first. The rate always.
    pub(crate) fn of(snapshot: &Snapshot) -> Vec<Self> {
        let points = &snapshot.history.all;
        let has = |value: fn(&Point) -> Option<f32>| points.iter().any(|point| value(point).is_some());
        let all = [
            (Self::Rate, true),
            (Self::BatchTime, points.iter().any(|point| point.batch_ms > 0.0)),
            (Self::Dead, has(|point| point.dead)),
            (Self::Lag, has(|point| point.lag)),
            (Self::Latency, snapshot.work.latency.is_some()),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(chart, _)| chart).collect()
    }

    fn title(self, line: &str, unit: Unit) -> String {
        match self {
            Self::Rate => format!("Throughput {line} {}/s", unit.word()),
            Self::BatchTime => format!("Batch time {line} mean, dotted the worst"),
            Self::Latency => "Batch time".to_owned(),
            Self::Lag => format!("Replay lag {line} the most"),
            Self::Dead => format!("Dead rows {line} of the plan's tables"),
        }
    }

    fn value(self, point: &Point) -> Option<f64> {
        match self {
            Self::Rate => Some(f64::from(point.rate)),
            Self::BatchTime => (point.batch_ms > 0.0).then(|| f64::from(point.batch_ms)),
            Self::Latency => None,
            Self::Lag => point.lag.map(f64::from),
            Self::Dead => point.dead.map(f64::from),
        }
    }

    /// A second series beside the first.
    fn other(self, point: &Point) -> Option<f64> {
        match self {
            Self::BatchTime => (point.worst_ms > 0.0).then(|| f64::from(point.worst_ms)),
            Self::Rate | Self::Latency | Self::Lag | Self::Dead => None,
        }
    }

    fn label(self, value: f64) -> String {
        match self {
            Self::Rate | Self::Dead | Self::Latency => short(value),
            Self::BatchTime => seconds(value / 1000.0),
            Self::Lag => seconds(value),
        }
    }
}

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui, chart: Chart) {
    if chart == Chart::Latency {
        latency::render(canvas, area, snapshot.work.latency.as_ref());
        return;
    }
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    let unit = match &snapshot.activity {
        Activity::Batches(batches) => batches.unit,
        Activity::Idle | Activity::Statement { .. } => Unit::Rows,
    };
    let title = format!("{} {line} {}", chart.title(&line, unit), ui.zoom.word());
    let inside = canvas.pane(area, &title);
    let span = Stretch::of(snapshot, ui.zoom);
    if span.points.is_empty() {
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, "nothing measured yet")));
        return;
    }
    let (width, height) = (usize::from(inside.width), usize::from(inside.height));
    let gutter = if width > 3 * LABEL { LABEL } else { 0 };
    let rows = height.saturating_sub(2).max(1);
    let mut plot = Plot::new(width - gutter, rows, canvas.theme().glyphs.ascii);
    let across = plot.across();
    let values = span.columns(across, |point| chart.value(point));
    let others = span.columns(across, |point| chart.other(point));
    let most = values.iter().chain(&others).flatten().copied().fold(0.0, f64::max);
    let top = ceiling(most);
    let shares = |values: &[Option<f64>]| -> Vec<Option<f64>> {
        values.iter().map(|value| value.map(|value| value / top)).collect()
    };
    plot.dotted(&shares(&others));
    plot.line(&shares(&values));
    for (row, text) in plot.rows().enumerate() {
        let label = match row {
            0 => chart.label(top),
            _ if row + 1 == rows => "0".to_owned(),
            _ => String::new(),
        };
        let label = if gutter > 0 { format!("{} ", right(&label, gutter - 1)) } else { String::new() };
        canvas.line(inside, row, &Line::from(vec![canvas.span(Role::Dim, label), canvas.span(Role::Spark, text)]));
    }
    let mut foot = Line::from(canvas.span(Role::Dim, " ".repeat(gutter)));
    foot.spans.extend(span.foot(canvas, width - gutter));
    canvas.line(inside, rows, &foot);
    canvas.line(inside, rows + 1, &Line::from(canvas.span(Role::Dim, span.times(gutter, width - gutter))));
    if let Some(legend) = span.legend(canvas) {
        canvas.footer(area, Role::Dim, &legend);
    }
}

/// The time that is shown, and what is known of it.
struct Stretch {
    from: i64,
    /// Not part of it any more.
    to: i64,
    /// Seconds that a point spans.
    step: i64,
    points: Vec<Point>,
}

impl Stretch {
    fn of(snapshot: &Snapshot, zoom: Zoom) -> Self {
        let now = end(snapshot, zoom);
        let (mut points, step) = snapshot.history.points(zoom, now);
        let step = step.max(1);
        let up_to = now.timestamp().saturating_add(step).div_euclid(step).saturating_mul(step);
        let (from, to) = match zoom {
            Zoom::Minute => (up_to.saturating_sub(60), up_to),
            Zoom::TenMinutes => (up_to.saturating_sub(600), up_to),
            Zoom::All => {
                let first = points.first().map_or(0, |point| point.at);
                let last = points.last().map_or(0, |point| point.at).min(up_to).saturating_add(step);
                // A run that has just begun is not stretched over the whole width.
                (first, last.max(first.saturating_add(60)))
            }
        };
        points.retain(|point| (from..to).contains(&point.at));
        Self { from, to, step, points }
    }

    /// The points that lie in the place `at` of `places`.
    fn within(&self, at: usize, places: usize) -> impl Iterator<Item = &Point> {
        let span = i128::from(self.to) - i128::from(self.from);
        let time = |at: usize| {
            let at = i128::try_from(at).unwrap_or(0);
            i128::from(self.from) + span * at / i128::try_from(places.max(1)).unwrap_or(1)
        };
        let (begin, end) = (time(at), time(at + 1).max(time(at) + 1));
        let step = i128::from(self.step);
        self.points.iter().filter(move |point| i128::from(point.at) < end && i128::from(point.at) + step > begin)
    }

    /// One value for each of `places`: the mean of what lies there.
    fn columns(&self, places: usize, value: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
        let mean = |at| {
            let values = self.within(at, places).filter_map(&value).filter(|value| value.is_finite());
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        (0..places).map(mean).collect()
    }

    /// The foot of the plot, with a sign where the run was paused and where an alert was raised.
    fn foot(&self, canvas: &Canvas<'_>, width: usize) -> Vec<Span<'static>> {
        let glyphs = &canvas.theme().glyphs;
        let sign = |at| {
            if self.within(at, width).any(|point| point.alert) {
                (Role::Warning, glyphs.level(Level::Warning))
            } else if self.within(at, width).any(|point| point.paused) {
                (Role::Busy, glyphs.pause())
            } else {
                (Role::Border, glyphs.axis)
            }
        };
        let signs: Vec<(Role, &'static str)> = (0..width).map(sign).collect();
        let runs = signs.chunk_by(|a, b| a == b);
        runs.map(|run| canvas.span(run[0].0, run[0].1.repeat(run.len()))).collect()
    }

    /// The time of day at the left, in the middle where there is room, and at the right.
    fn times(&self, gutter: usize, width: usize) -> String {
        let format = match self.to.saturating_sub(self.from) {
            ..=120 => "%H:%M:%S",
            121..=72_000 => "%H:%M",
            _ => "%b %e %H:%M",
        };
        let time = |at: i64| {
            DateTime::<Utc>::from_timestamp(at, 0).map_or_else(String::new, |at| at.format(format).to_string())
        };
        let middle = self.from + (self.to - self.from) / 2;
        let (first, middle, last) = (time(self.from), time(middle), time(self.to));
        let mut line = format!("{}{first}", " ".repeat(gutter));
        if cells(&first) + cells(&middle) + cells(&last) + 8 <= width {
            let at = gutter + width / 2 - cells(&middle) / 2;
            line = format!("{line}{}", right(&middle, at + cells(&middle) - cells(&line)));
        }
        let rest = (gutter + width).saturating_sub(cells(&line));
        if rest > cells(&last) { format!("{line}{}", right(&last, rest)) } else { line }
    }

    fn legend(&self, canvas: &Canvas<'_>) -> Option<String> {
        let glyphs = &canvas.theme().glyphs;
        let pause = self.points.iter().any(|point| point.paused).then(|| format!("{} paused", glyphs.pause()));
        let alert = self.points.iter().any(|point| point.alert);
        let alert = alert.then(|| format!("{} alert raised", glyphs.level(Level::Warning)));
        let parts: Vec<String> = pause.into_iter().chain(alert).collect();
        (!parts.is_empty()).then(|| parts.join("   "))
    }
}

/// Up to when the charts go. A run that stands still has charts that stand still: a little past where it halted.
fn end(snapshot: &Snapshot, zoom: Zoom) -> DateTime<Utc> {
    let span = match zoom {
        Zoom::Minute => 60,
        Zoom::TenMinutes => 600,
        Zoom::All => {
            let points = &snapshot.history.all;
            let first = points.front().map_or(0, |point| point.at);
            points.back().map_or(0, |point| point.at).saturating_sub(first)
        }
    };
    let halted = match &snapshot.state {
        RunState::Paused { since, .. } => Some(*since),
        RunState::Stopped { at, .. } | RunState::Failed { at, .. } | RunState::Done { at } => Some(*at),
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => None,
    };
    let after = chrono::TimeDelta::try_seconds(span / AFTER_PAUSE).unwrap_or_default();
    halted.and_then(|at| at.checked_add_signed(after)).map_or(snapshot.now, |at| at.min(snapshot.now))
}

/// A number with a unit of thousands: `50k`, `2M`, `0.5`.
fn short(value: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (factor, unit) = units.into_iter().find(|(factor, _)| value >= *factor).unwrap_or((1.0, ""));
    format!("{}{unit}", value / factor)
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(
        |_| String::new(),
        |time| {
            // Round seconds need no tenths.
            if time.subsec_nanos() == 0 { human::rough_duration(time) } else { human::duration(time) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        for (value, label) in [(50_000.0, "50k"), (2e6, "2M"), (0.5, "0.5"), (100.0, "100")] {
            assert_eq!(short(value), label);
        }
        assert_eq!(seconds(0.5), "500ms");
        assert_eq!(seconds(2.0), "2s");
    }
}
