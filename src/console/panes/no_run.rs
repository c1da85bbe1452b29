//! A view of a run in a console that shows none.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::action::Action;
use super::super::canvas::Canvas;
use super::super::measure::wrap;
use super::super::theme::Role;
use super::super::ui::{Ui, View};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, ui: &Ui) {
    let title = ui.view.name();
    let inside = canvas.pane(area, &format!("{}{}", title[..1].to_uppercase(), &title[1..]));
    let queue = ui.keymap.first_key(&Action::Goto(View::Queue)).unwrap_or_else(|| ":queue".to_owned());
    let attach = ui.keymap.first_key(&Action::AttachJob).unwrap_or_else(|| ":attach".to_owned());
    let paragraphs = [
        (Role::Text, "No run is shown here: this console looks at the queue.".to_owned()),
        (Role::Dim, format!("{queue} shows the queue; {attach} on a job there opens the console of its run.")),
    ];
    let mut row = 0;
    for (role, text) in paragraphs {
        for line in wrap(&text, usize::from(inside.width)) {
            canvas.line(inside, row, &Line::from(canvas.span(role, line)));
            row += 1;
        }
    }
}
