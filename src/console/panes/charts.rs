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
/// Of the time that is shown, such a part stays to the right of where the run halted.
const AFTER_HALT: i64 = 20;
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
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, "nothing was measured in this time")));
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
    halt: Option<Halt>,
}

impl Stretch {
    fn of(snapshot: &Snapshot, zoom: Zoom) -> Self {
        let halt = halt(snapshot);
        let now = snapshot.now.timestamp();
        let all = &snapshot.history.all;
        let first = all.front().map_or(now, |point| point.at);
        let span = match zoom {
            Zoom::Minute => 60,
            Zoom::TenMinutes => 600,
            // A run that has just begun is not stretched over the whole width.
            Zoom::All => halt.map_or(now, Halt::at).saturating_sub(first).max(60),
        };
        let until = halt.and_then(|halt| DateTime::from_timestamp(halt.at(), 0)).unwrap_or(snapshot.now);
        let (points, step) = snapshot.history.points(zoom, until);
        let step = step.max(1);
        let to = match halt {
            Some(halt) => halt.at().saturating_add(span / AFTER_HALT),
            None => now.saturating_add(step).div_euclid(step).saturating_mul(step),
        };
        let from = match zoom {
            Zoom::Minute | Zoom::TenMinutes => to.saturating_sub(span),
            Zoom::All => first.min(to.saturating_sub(span)),
        };
        // What is gathered while the run stands still is left out: the halt itself is drawn.
        let end = halt.map_or(to, Halt::at);
        let within =
            |point: &Point| point.at >= from && point.at.saturating_add(if halt.is_some() { step } else { 0 }) <= end;
        Self { from, to, step, points: points.into_iter().filter(within).collect(), halt }
    }

    /// The time that the place `at` of `places` spans.
    fn times_of(&self, at: usize, places: usize) -> (i128, i128) {
        let span = i128::from(self.to) - i128::from(self.from);
        let time = |at: usize| {
            let at = i128::try_from(at).unwrap_or(0);
            i128::from(self.from) + span * at / i128::try_from(places.max(1)).unwrap_or(1)
        };
        (time(at), time(at + 1).max(time(at) + 1))
    }

    /// The points that lie in the place `at` of `places`.
    fn within(&self, at: usize, places: usize) -> impl Iterator<Item = &Point> {
        let (begin, end) = self.times_of(at, places);
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
            } else if self.within(at, width).any(|point| point.paused) || self.is_halted(at, width) {
                (Role::Busy, glyphs.pause())
            } else {
                (Role::Border, glyphs.axis)
            }
        };
        let signs: Vec<(Role, &'static str)> = (0..width).map(sign).collect();
        let runs = signs.chunk_by(|a, b| a == b);
        runs.map(|run| canvas.span(run[0].0, run[0].1.repeat(run.len()))).collect()
    }

    /// Whether the run is paused now, and was so in the place `at` already.
    fn is_halted(&self, at: usize, places: usize) -> bool {
        match self.halt {
            Some(Halt::Paused(since)) => self.times_of(at, places).1 > i128::from(since),
            Some(Halt::Over(_)) | None => false,
        }
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
        let middle = self.from.saturating_add(self.to.saturating_sub(self.from) / 2);
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
        let paused = matches!(self.halt, Some(Halt::Paused(_))) || self.points.iter().any(|point| point.paused);
        let pause = paused.then(|| format!("{} paused", glyphs.pause()));
        let alert = self.points.iter().any(|point| point.alert);
        let alert = alert.then(|| format!("{} alert raised", glyphs.level(Level::Warning)));
        let parts: Vec<String> = pause.into_iter().chain(alert).collect();
        (!parts.is_empty()).then(|| parts.join("   "))
    }
}

/// Since when a run stands still, and whether it can go on. Its charts then stand still as well.
#[derive(Debug, Clone, Copy)]
enum Halt {
    Paused(i64),
    Over(i64),
}

impl Halt {
    fn at(self) -> i64 {
        match self {
            Self::Paused(at) | Self::Over(at) => at,
        }
    }
}

fn halt(snapshot: &Snapshot) -> Option<Halt> {
    match &snapshot.state {
        RunState::Paused { since, .. } => Some(Halt::Paused(since.timestamp())),
        RunState::Stopped { at, .. } | RunState::Failed { at, .. } | RunState::Done { at } => {
            Some(Halt::Over(at.timestamp()))
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => None,
    }
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
