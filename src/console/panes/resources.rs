//! The host that drives the run, howdah's own process, its connections and the size of the database.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::canvas::Canvas;
use super::super::measure::right;
use super::super::theme::Role;
use super::missing;
use crate::run::Vitals;
use crate::run::vitals::{HostVitals, Reading};

/// The widest bar.
const BAR: usize = 20;
/// The most cores that are drawn apart.
const CORES: usize = 32;
const GAP: &str = "   ";

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, vitals: &Vitals) {
    let inside = canvas.pane(area, "Resources");
    let width = usize::from(inside.width);
    let height = usize::from(inside.height);
    let mut lines = host(canvas, &vitals.host, width);
    let rest = rest(canvas, vitals, width);
    // The cores are the first to go.
    if lines.len() + rest.len() > height && lines.len() > 2 {
        lines.pop();
    }
    for (row, line) in lines.iter().chain(&rest).enumerate() {
        canvas.line(inside, row, line);
    }
}

fn host(canvas: &Canvas<'_>, reading: &Reading<HostVitals>, width: usize) -> Vec<Line<'static>> {
    let Some(host) = reading.value() else {
        return missing(canvas, reading).map(|line| labelled(canvas, "CPU", line)).into_iter().collect();
    };
    let cpu = host.cpu_percent.map(|percent| f64::from(percent) / 100.0);
    let [one, five, fifteen] = host.load;
    let memory = memory_share(host);
    let mut lines = vec![
        bar(canvas, "CPU", cpu, &format!("load {one:.1} {five:.1} {fifteen:.1}"), width),
        bar(canvas, "MEM", memory, &format!("{} / {}", host.memory_used, host.memory_total), width),
    ];
    let up = canvas.span(Role::Text, format!("{GAP}{}", up(host)));
    if lines[1].width() + up.width() <= width {
        lines[1].push_span(up);
    }
    if !host.core_percent.is_empty() {
        let cores = host.core_percent.iter().take(CORES).map(|percent| f64::from(*percent));
        let line = Line::from(vec![canvas.chart_row(cores, 100.0, 1, 0), canvas.span(Role::Dim, " each core")]);
        if lines[0].width() + GAP.len() + line.width() <= width {
            lines[0].push_span(Span::raw(GAP));
            lines[0].spans.extend(line.spans);
        } else {
            lines.push(labelled(canvas, "   ", line));
        }
    }
    lines
}

/// The host's uptime, coarse: a figure that seldom changes.
fn up(host: &HostVitals) -> String {
    let minutes = host.uptime.as_secs() / 60;
    match minutes {
        0..60 => format!("up {minutes}m"),
        60..1440 => format!("up {}h{:02}m", minutes / 60, minutes % 60),
        _ => format!("up {}d", minutes / 1440),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of memory")]
fn memory_share(host: &HostVitals) -> Option<f64> {
    let total = host.memory_total.0;
    (total > 0).then(|| host.memory_used.0 as f64 / total as f64)
}

fn labelled(canvas: &Canvas<'_>, label: &'static str, mut line: Line<'static>) -> Line<'static> {
    line.spans.insert(0, canvas.span(Role::Title, format!("{label}  ")));
    line
}

/// A bar, the percentage in whole numbers, and details.
fn bar(canvas: &Canvas<'_>, label: &'static str, share: Option<f64>, detail: &str, width: usize) -> Line<'static> {
    let percent = share.map_or_else(|| canvas.theme().glyphs.none.to_owned(), |share| format!("{:.0}%", share * 100.0));
    let mut spans = canvas.bar(share.unwrap_or(0.0), (width / 4).min(BAR));
    spans.push(canvas.span(Role::Text, format!("{}{GAP}{detail}", right(&percent, 6))));
    labelled(canvas, label, Line::from(spans))
}

/// What has no bar, in as few lines as it takes.
fn rest(canvas: &Canvas<'_>, vitals: &Vitals, width: usize) -> Vec<Line<'static>> {
    let title = |label: &'static str| canvas.span(Role::Title, label);
    let text = |text: String| canvas.span(Role::Text, text);
    let mut items: Vec<Vec<Span<'static>>> = Vec::new();
    items.push(match (vitals.process.value(), missing(canvas, &vitals.process)) {
        (Some(process), _) => vec![title("RSS"), text(format!("  {}, at most {}", process.rss, process.peak_rss))],
        (None, why) => [vec![title("RSS"), text("  ".to_owned())], why.unwrap_or_default().spans].concat(),
    });
    match (vitals.database.value(), missing(canvas, &vitals.database)) {
        (Some(database), _) => {
            let pool = format!(" {} in use, {} idle", database.pool_in_use, database.pool_idle);
            items.push(vec![title("pool"), text(pool)]);
            items.push(vec![title("database"), text(format!(" {}", database.size))]);
        }
        (None, why) => {
            items.push([vec![title("database"), text(" ".to_owned())], why.unwrap_or_default().spans].concat());
        }
    }
    let mut lines: Vec<Line<'static>> = Vec::new();
    for item in items.into_iter().map(Line::from) {
        match lines.last_mut() {
            Some(line) if line.width() + GAP.len() + item.width() <= width => {
                line.push_span(Span::raw(GAP));
                line.spans.extend(item.spans);
            }
            _ => lines.push(item),
        }
    }
    lines
}
