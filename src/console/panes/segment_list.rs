//! The segments of the running sweep, one by one.

use ratatui::layout::Rect;

use super::super::canvas::Canvas;
use super::super::grid::{Cell, Column, Grid, Ink, outside, plain};
use super::super::listing::segments::{self, position, word};
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::{finish, list_title};
use crate::run::human;
use crate::run::text::clean;
use crate::run::work::{Cell as State, SegmentView};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>, focused: Option<bool>) {
    let list = &scene.ui.lists.segments;
    let work = &scene.snapshot.work;
    let rows = segments::rows(scene);
    let inside = canvas.pane(area, &list_title(canvas, "Segments", focused, list, rows.len(), work.segments.len()));
    let grid =
        Grid { columns: columns().into(), sign: |row, ink| sign(row, ink), list, empty: "no sweep is under way" };
    let shown = grid.draw(canvas, inside, scene.snapshot, &rows);
    let more = (work.more > 0).then(|| format!("{} more, of those that are done or wait", work.more));
    finish(canvas, area, shown, more.as_deref());
}

pub(super) fn role(state: State) -> Role {
    match state {
        State::Waiting => Role::Dim,
        State::Running => Role::Accent,
        State::Done => Role::Ok,
        State::Retrying => Role::Warning,
        State::Failed => Role::Critical,
    }
}

fn sign(segment: &SegmentView, ink: &Ink<'_>) -> (&'static str, Role) {
    let text = match segment.state {
        State::Waiting | State::Done => Role::Dim,
        State::Running => Role::Text,
        State::Retrying => Role::Warning,
        State::Failed => Role::Critical,
    };
    (ink.glyphs.cell(segment.state), text)
}

/// A number that needs eyes where it is not nought, and is not shown where it is.
fn notable(n: u64) -> Cell {
    if n > 0 { Some((Some(Role::Warning), human::count(n))) } else { plain("") }
}

pub(crate) fn columns<'a>() -> [Column<&'a SegmentView>; 11] {
    [
        Column::right("segment", 0, 7, 99, |segment, _| plain(segment.no.to_string())),
        Column::left("state", 1, 9, 20, |segment, _| plain(word(segment.state))),
        Column::left("part", 2, 15, 11, |segment, _| segment.part.as_deref().and_then(outside)),
        Column::left("done", 3, 14, 19, |segment, ink| {
            position(segment).map(|position| (Some(Role::Gauge), bar(position, ink)))
        }),
        Column::right("share", 4, 7, 9, |segment, _| plain(human::percent(segment.share))),
        Column::right("rows", 5, 12, 17, |segment, _| plain(human::count(segment.walked))),
        Column::right("rows/s", 6, 8, 18, |segment, _| segment.rate.and_then(|rate| plain(human::rate(rate)))),
        Column::right("worker", 7, 7, 16, |segment, _| {
            let worker = segment.worker.map(|worker| (u64::from(worker) + 1).to_string());
            worker.and_then(plain).or_else(|| segment.host.as_deref().and_then(outside))
        }),
        Column::right("retries", 8, 8, 14, |segment, _| notable(segment.retries)),
        Column::right("set aside", 9, 10, 13, |segment, _| notable(segment.quarantined)),
        Column::rest("keys", 10, 14, 15, |segment, ink| {
            plain(bounds(segment.lower.as_deref(), segment.upper.as_deref(), ink.glyphs.arrow))
        }),
    ]
}

/// A short bar and the share in percent.
fn bar(position: f64, ink: &Ink<'_>) -> String {
    let percent = human::percent(position);
    let room = ink.width.saturating_sub(7);
    let full = super::super::canvas::share(position, room);
    let (on, off) = (ink.glyphs.full.repeat(full), ink.glyphs.empty.repeat(room - full));
    format!("{on}{off}{percent:>7}")
}

/// From which key to which: `1000 → 2000`; without a bound `first` and `last`. Cleaned.
pub(super) fn bounds(lower: Option<&str>, upper: Option<&str>, arrow: &str) -> String {
    let lower = lower.map_or("first".into(), clean);
    let upper = upper.map_or("last".into(), clean);
    format!("{lower} {arrow} {upper}")
}

/// All of the selected segment.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = segments::rows(scene);
    let segment = rows.iter().find(|row| row.key == key)?.of;
    let none = canvas.theme().glyphs.none;
    let text = |text: Option<&str>, otherwise: &str| text.map_or(otherwise.to_owned(), |text| clean(text).into_owned());
    let mut page = Page::new(format!("Segment {}", segment.no));
    page.field("state", word(segment.state));
    if segment.part.is_some() {
        page.field("part", &text(segment.part.as_deref(), none));
    }
    page.field("larger than", &text(segment.lower.as_deref(), "any key: from the first"));
    page.field("up to", &text(segment.upper.as_deref(), "the last key"));
    page.field("done up to", &text(segment.cursor.as_deref(), "nothing yet"));
    page.field("share", &format!("{} of the input", human::percent(segment.share)));
    page.field("done", &position(segment).map_or_else(|| none.to_owned(), human::percent));
    page.field("rows", &format!("{} in {} batches", human::count(segment.walked), human::count(segment.batches)));
    page.field("rate", &segment.rate.map_or_else(|| none.to_owned(), |rate| format!("{} rows/s", human::rate(rate))));
    let worker = segment.worker.map(|worker| (u64::from(worker) + 1).to_string());
    let worker = worker.or_else(|| segment.host.as_deref().map(|host| format!("on {}", clean(host))));
    page.field("worker", &worker.unwrap_or_else(|| none.to_owned()));
    page.field("retries", &human::count(segment.retries));
    page.field("set aside", &human::count(segment.quarantined));
    Some(page)
}
