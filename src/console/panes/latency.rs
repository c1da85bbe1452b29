//! How long batches take: the usual, the slow, the slowest, and how many took how long.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{left, right};
use super::super::theme::Role;
use crate::run::human;
use crate::run::work::Latency;

/// The widest bar of the histogram, and the narrowest whose time can stand below.
const BAR: usize = 6;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, latency: Option<&Latency>) {
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    let title = match latency {
        Some(latency) => format!("Batch time {line} last {} batches", human::count(u64::from(latency.count))),
        None => "Batch time".to_owned(),
    };
    let inside = canvas.pane(area, &title);
    let Some(latency) = latency else {
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, "no batch has committed yet")));
        return;
    };
    let Latency { p50, p90, p99, most, .. } = latency;
    let told = [("p50", p50), ("p90", p90), ("p99", p99), ("most", most)];
    let told: Vec<String> = told.iter().map(|(name, time)| format!("{name} {}", human::duration(**time))).collect();
    canvas.line(inside, 0, &Line::from(canvas.span(Role::Text, told.join("   "))));
    let below = Rect { y: inside.y + inside.height.min(1), height: inside.height.saturating_sub(1), ..inside };
    histogram(canvas, below, &latency.histogram);
}

/// A bar for each power of two of milliseconds that any batch took, its time below.
fn histogram(canvas: &mut Canvas<'_>, area: Rect, counts: &[u32]) {
    let rows = usize::from(area.height).saturating_sub(1);
    let first = counts.iter().position(|count| *count > 0);
    let last = counts.iter().rposition(|count| *count > 0);
    let (Some(first), Some(last), true) = (first, last, rows > 0) else { return };
    // The bins on either side show where it ends.
    let (first, last) = (first.saturating_sub(1), (last + 1).min(counts.len() - 1));
    let bins = &counts[first..=last];
    let width = (usize::from(area.width) / bins.len()).min(BAR);
    if width == 0 {
        return;
    }
    let most = f64::from(bins.iter().copied().max().unwrap_or(0).max(1));
    let bar = width.saturating_sub(1).max(1);
    for row in 0..rows {
        let cells = bins.iter().flat_map(|count| {
            // Few are still seen beside many, and none is none.
            let value = if *count == 0 { f64::NAN } else { f64::from(*count).max(most / 8.0 / rows_as_f64(rows)) };
            (0..width).map(move |cell| if cell < bar { value } else { f64::NAN })
        });
        let values: Vec<f64> = cells.collect();
        let mut text = String::new();
        for value in values {
            if value.is_nan() {
                text.push(' ');
            } else {
                text.push_str(&canvas.chart_row(std::iter::once(value), most, rows, row).content);
            }
        }
        canvas.line(area, rows - 1 - row, &Line::from(canvas.span(Role::Spark, text)));
    }
    let label = |bin: usize| up_to(first + bin, counts.len());
    let labels: String = if width >= BAR {
        (0..bins.len()).map(|bin| left(&label(bin), width)).collect()
    } else {
        let last = label(bins.len() - 1);
        let first = label(0);
        format!("{first}{}", right(&last, (bins.len() * width).saturating_sub(first.len())))
    };
    canvas.line(area, rows, &Line::from(canvas.span(Role::Dim, labels)));
}

#[expect(clippy::cast_precision_loss, reason = "a number of lines")]
fn rows_as_f64(rows: usize) -> f64 {
    rows as f64
}

/// Up to which time a bin counts: the last one has no end.
fn up_to(bin: usize, bins: usize) -> String {
    let rest = bin + 1 == bins;
    let power = u32::try_from(if rest { bin.saturating_sub(1) } else { bin }).unwrap_or(u32::MAX);
    let time = Duration::from_millis(2_u64.checked_pow(power).unwrap_or(u64::MAX));
    // Powers of two are round only to those who count in them.
    let text = if time < Duration::from_secs(1) { human::duration(time) } else { human::rough_duration(time) };
    if rest { format!(">{text}") } else { text }
}
