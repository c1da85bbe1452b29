//! What is asked once more before it is done.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{left, wrap};
use super::super::theme::Role;
use super::super::ui::Question;
use super::help::place;
use crate::run::text::clean;

/// The widest line.
const WIDTH: usize = 64;

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, question: &Question) {
    let room = WIDTH.min(usize::from(over.width).saturating_sub(4)).max(1);
    let mut lines = wrap(&clean(&question.text), room);
    let asked = lines.len();
    lines.extend(wrap(&clean(&question.consequence), room));
    // The choices must be seen, so they come first where there is no room for all.
    let height = usize::from(over.height).saturating_sub(2);
    let choices = if height > 1 { 2 } else { 1 };
    lines.truncate(height.saturating_sub(choices));
    let inside = canvas.popup(place(over, room + 4, lines.len() + choices + 2), "Sure?");
    for (row, line) in lines.iter().enumerate() {
        let role = if row < asked { Role::Title } else { Role::Text };
        canvas.line(inside, row, &Line::from(canvas.span(role, line.as_str())));
    }
    let options = [(true, "yes, do it"), (false, "no, leave it as it is")];
    let shown = options.into_iter().filter(|(yes, _)| choices == 2 || *yes == question.yes);
    for (row, (yes, words)) in (lines.len()..).zip(shown) {
        let marked = yes == question.yes;
        // The mark can be seen without any style.
        let mark = if marked { ">" } else { " " };
        let text = left(&format!("{mark} {words}"), usize::from(inside.width));
        canvas.line(inside, row, &Line::from(canvas.span(Role::Text, text)));
        if marked {
            canvas.tint(inside, row, canvas.theme().style(Role::Selected));
        }
    }
}
