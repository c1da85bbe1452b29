//! The second row: the views with their keys, the open one marked, and the alerts that hold wherever one looks.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::action::Action;
use super::super::canvas::Canvas;
use super::super::theme::Role;
use super::super::ui::{Ui, View};
use crate::run::vitals::Alert;
use crate::run::{Level, Snapshot};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot, ui: &Ui) {
    let width = usize::from(area.width);
    let whole = bar(canvas, ui, true);
    let [long, short] = [true, false].map(|in_words| alerts(canvas, snapshot, in_words));
    // Where names have no room beside the alerts, those are a sign and a number; where that does not help, only the open view
    // has a name.
    let (bar, alerts) = if whole.width() + long.width() < width {
        (whole, long)
    } else if whole.width() + short.width() < width {
        (whole, short)
    } else {
        (bar(canvas, ui, false), long)
    };
    canvas.sides(area, 0, &bar, &alerts);
}

/// ` 1 overview [2 tables] 3 sessions ...`: brackets mark the open one, and nothing moves when another is opened.
fn bar(canvas: &Canvas<'_>, ui: &Ui, named: bool) -> Line<'static> {
    let mut line = Line::default();
    for view in View::ALL {
        let key = ui.keymap.first_key(&Action::Goto(view));
        let is_open = view == ui.view;
        let name = if named || is_open || key.is_none() { view.name() } else { "" };
        let gap = if name.is_empty() || key.is_none() { "" } else { " " };
        let key = key.unwrap_or_default();
        if is_open {
            line.push_span(canvas.span(Role::Selected, format!("[{key}{gap}{name}]")));
        } else {
            line.push_span(canvas.span(Role::Key, format!(" {key}")));
            line.push_span(canvas.span(Role::Dim, format!("{gap}{name} ")));
        }
    }
    line
}

/// `▲ 2 alerts`, or `▲ 2`: those that hold and that nobody has taken note of, nor silenced.
fn alerts(canvas: &Canvas<'_>, snapshot: &Snapshot, in_words: bool) -> Line<'static> {
    let calling = |alert: &&Alert| {
        alert.is_active() && !snapshot.is_acknowledged(alert) && snapshot.silence(&alert.key).is_none()
    };
    let levels: Vec<Level> = snapshot.vitals.alerts.iter().filter(calling).map(|alert| alert.level).collect();
    let Some(worst) = levels.iter().max() else { return Line::default() };
    let noun = match levels.len() {
        _ if !in_words => "",
        1 => " alert",
        _ => " alerts",
    };
    let sign = canvas.theme().glyphs.level(*worst);
    let text: Span<'static> = canvas.span(Role::of_level(*worst), format!("{sign} {}{noun} ", levels.len()));
    Line::from(text)
}
