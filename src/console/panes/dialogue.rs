//! How to leave while the run is not over.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::left;
use super::super::theme::Role;
use super::super::ui::Choice;
use super::help::place;

/// The widest line.
const WIDTH: usize = 56;

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, selected: Choice) {
    let area = place(over, WIDTH + 4, Choice::ALL.len() + 2);
    let inside = canvas.popup(area, "Leave the console?");
    for (row, choice) in Choice::ALL.into_iter().enumerate() {
        let marked = choice == selected;
        // The mark can be seen without any style.
        let mark = if marked { ">" } else { " " };
        let text = left(&format!("{mark} {}", words(choice)), usize::from(inside.width));
        canvas.line(inside, row, &Line::from(canvas.span(Role::Text, text)));
        if marked {
            canvas.tint(inside, row, canvas.theme().style(Role::Selected));
        }
    }
}

fn words(choice: Choice) -> &'static str {
    match choice {
        Choice::KeepRunning => "keep running, without a console",
        Choice::PauseAndQuit => "stop at the batch's edge and quit: it can be resumed",
        Choice::Stay => "go on watching",
    }
}
