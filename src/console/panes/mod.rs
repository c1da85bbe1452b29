//! One file a pane: all of how it looks, and nothing else.

pub(crate) mod alerts;
pub(crate) mod charts;
pub(crate) mod checkpoints;
pub(crate) mod confirm;
pub(crate) mod detail;
pub(crate) mod dialogue;
pub(crate) mod event_list;
pub(crate) mod gone;
pub(crate) mod governor;
pub(crate) mod header;
pub(crate) mod help;
pub(crate) mod hints;
mod hold;
pub(crate) mod job_list;
mod latency;
pub(crate) mod log;
mod members;
pub(crate) mod no_run;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod resources;
mod retries;
pub(crate) mod segment_list;
mod segment_map;
pub(crate) mod segments;
pub(crate) mod session_list;
pub(crate) mod slowest;
pub(crate) mod table_list;
pub(crate) mod tables;
pub(crate) mod tabs;
mod worker_list;

use chrono::{DateTime, Utc};
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::canvas::Canvas;
use super::grid::Shown;
use super::measure::{fit, width as cells};
use super::theme::Role;
use super::ui::List;
use crate::run::text::clean;
use crate::run::vitals::Reading;

/// The time of day, in UTC.
fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// What stands in the place of a reading that is not there.
fn missing<T>(canvas: &Canvas<'_>, reading: &Reading<T>) -> Option<Line<'static>> {
    match reading {
        Reading::Value(_) => None,
        Reading::Pending => {
            Some(Line::from(canvas.span(Role::Dim, format!("{} not measured yet", canvas.theme().glyphs.none))))
        }
        Reading::Unavailable(why) => {
            Some(Line::from(canvas.span(Role::Warning, format!("unavailable: {}", clean(why)))))
        }
    }
}

/// The title of a list's pane: its name, whether keys go to it, and what its filter leaves of it.
fn list_title(canvas: &Canvas<'_>, name: &str, focused: Option<bool>, list: &List, shown: usize, all: usize) -> String {
    let glyphs = &canvas.theme().glyphs;
    let line = glyphs.border.horizontal_top.repeat(2);
    let mut title = match focused {
        Some(true) => format!("{} {name}", glyphs.focus()),
        Some(false) | None => name.to_owned(),
    };
    match list.level {
        0 => {}
        1 => title = format!("{title} {line} warnings"),
        _ => title = format!("{title} {line} critical"),
    }
    if !list.filter.is_empty() {
        title = format!("{title} {line} /{}", fit(&clean(&list.filter), 30));
    }
    if shown < all { format!("{title} {line} {shown} of {all}") } else { title }
}

/// The foot of a list's pane: which rows are shown, and what else is worth knowing.
fn finish(canvas: &mut Canvas<'_>, area: Rect, shown: Shown, also: Option<&str>) {
    let parts: Vec<String> = shown.words().into_iter().chain(also.map(str::to_owned)).collect();
    if !parts.is_empty() {
        canvas.footer(area, Role::Dim, &parts.join("   "));
    }
}

/// Between items that stand in one row.
const GAP: &str = "   ";

/// Items in a row, each with what it is worth: as many as there is room for, whole, those worth most first. They stand in
/// their own order. A number that is cut would be another number.
fn in_a_row(canvas: &Canvas<'_>, items: &[(u8, Role, String)], width: usize) -> Line<'static> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(items[*index].0));
    let mut taken = 0;
    order.retain(|index| {
        let gap = if taken > 0 { GAP.len() } else { 0 };
        let with = taken + gap + cells(&items[*index].2);
        let fits = taken == 0 || with <= width;
        if fits {
            taken = with;
        }
        fits
    });
    order.sort_unstable();
    let mut line = Line::default();
    for (_, role, text) in order.iter().map(|index| &items[*index]) {
        if !line.spans.is_empty() {
            line.push_span(canvas.span(Role::Text, GAP));
        }
        line.push_span(canvas.span(*role, text.clone()));
    }
    line
}
