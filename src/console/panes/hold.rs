//! What keeps batches from going on: the breaker, and what is waited for. Lines of the progress pane that must be seen.

use ratatui::text::Line;

use super::super::action::Action;
use super::super::canvas::Canvas;
use super::super::measure::{fit, width as cells, wrap};
use super::super::theme::Role;
use super::super::ui::Ui;
use crate::run::{Asker, BreakerView, Level, RunState, Snapshot, why};

/// No reason takes more lines than this.
const LINES: usize = 2;

/// The lines, at most `width` cells wide, each with whether it is the first of its reason.
pub(super) fn lines(canvas: &Canvas<'_>, snapshot: &Snapshot, ui: &Ui, width: usize) -> Vec<(bool, Line<'static>)> {
    if snapshot.state.is_over() {
        return Vec::new();
    }
    let glyphs = &canvas.theme().glyphs;
    let key = ui.keymap.first_key(&Action::CloseBreaker);
    let said = |key| why::breaker(&snapshot.pace.breaker, snapshot.now, key);
    let mut lines = Vec::new();
    if let (Some((what, cause)), Some((shortly, _))) = (said(key.as_deref()), said(None)) {
        let (role, level) = match snapshot.pace.breaker {
            BreakerView::Open { .. } => (Role::Critical, Level::Critical),
            BreakerView::HalfOpen { .. } | BreakerView::Closed { .. } => (Role::Warning, Level::Warning),
        };
        let sign = glyphs.level(level);
        lines.extend(styled(canvas, role, breaker(sign, &what, &shortly, &cause, width)));
    }
    if let Some(text) = why::hold(snapshot) {
        let paused = matches!(snapshot.state, RunState::Paused { by: Asker::Governor, .. });
        let sign = if paused { glyphs.state(&snapshot.state) } else { glyphs.holding };
        lines.extend(styled(canvas, Role::Warning, hold(sign, &text, width)));
    }
    lines
}

/// All in one line, or the cause in a line of its own. What is going on is never cut: rather the sign goes, and then the
/// key, which stands in the last row as well.
fn breaker(sign: &str, what: &str, shortly: &str, cause: &str, width: usize) -> Vec<String> {
    let whole = format!("{sign} {what}: {cause}");
    if cells(&whole) <= width {
        return vec![whole];
    }
    let ways = [format!("{sign} {what}"), what.to_owned(), format!("{sign} {shortly}")];
    let first = ways.into_iter().find(|way| cells(way) <= width).unwrap_or_else(|| fit(shortly, width).into_owned());
    vec![first, fit(cause, width).into_owned()]
}

/// In as many lines as it takes, up to [`LINES`].
fn hold(sign: &str, text: &str, width: usize) -> Vec<String> {
    // The sign stands before the text only where it makes no line more.
    let [signed, bare] = [&format!("{sign} {text}"), text].map(|text| wrap(text, width));
    let mut lines = if signed.len() > bare.len() { bare } else { signed };
    if lines.len() > LINES {
        let rest = lines.split_off(LINES - 1).join(" ");
        lines.push(fit(&rest, width).into_owned());
    }
    lines
}

fn styled(canvas: &Canvas<'_>, role: Role, lines: Vec<String>) -> impl Iterator<Item = (bool, Line<'static>)> {
    let style = canvas.theme().style(role);
    lines.into_iter().enumerate().map(move |(index, line)| (index == 0, Line::styled(line, style)))
}
