//! The steps of the plan: where each stands, its own time, and when it ended, counted from the start of the run; below
//! them the totals, and the time lost to waiting.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{fit, left, right, width};
use super::super::theme::Role;
use crate::run::text::clean;
use crate::run::{Snapshot, StepState, StepView, human, why};

/// `12m27.8s` and a gap.
const TIME: usize = 9;
/// Names take no more than this where what the step said at its end follows.
const NAME: usize = 24;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let waited = why::waited(&snapshot.pace).map(|waited| format!("waited {waited}"));
    let inside = canvas.pane(area, &title(canvas, snapshot));
    let columns = Columns::of(usize::from(inside.width), snapshot);
    let height = usize::from(inside.height);
    // A heading and the total frame the steps where there is room for all of them.
    let heading = usize::from(height >= snapshot.steps.len() + 2);
    let total = usize::from(height >= 2);
    if heading > 0 {
        let text = format!("  {}{}{}", left("step", columns.name), right("time", TIME), right("at", TIME));
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Title, text)));
    }
    let room = height - heading - total;
    for (row, step) in visible(snapshot, room).iter().enumerate() {
        let line = line(canvas, step, columns);
        canvas.line(inside, heading + row, &line);
    }
    if total > 0 {
        // The steps' own times add up to the time at work; the last of the times since the start is all of it.
        let [worked, all] = [snapshot.spent.worked, snapshot.spent.total()].map(|spent| right(&time(spent), TIME));
        let text = format!("  {}{worked}{all}", left("total", columns.name));
        let row = heading + room.min(snapshot.steps.len());
        let mut spans = vec![canvas.span(Role::Text, text)];
        if let Some(waited) = waited {
            // Beside the total, or below it. Where neither has room, it is still in the report.
            let waited = canvas.span(Role::Dim, format!("  {waited}"));
            if waited.width() <= columns.outcome {
                spans.push(waited);
            } else {
                let cut = fit(&waited.content, usize::from(inside.width)).into_owned();
                canvas.line(inside, row + 1, &Line::from(canvas.span(Role::Dim, cut)));
            }
        }
        canvas.line(inside, row, &Line::from(spans));
    }
}

fn title(canvas: &Canvas<'_>, snapshot: &Snapshot) -> String {
    let paused = snapshot.spent.paused;
    if paused.is_zero() {
        return "Checkpoints".to_owned();
    }
    let line = canvas.theme().glyphs.border.horizontal_top.repeat(2);
    format!("Checkpoints {line} paused {}", human::rough_duration(paused))
}

fn time(spent: Duration) -> String {
    if spent.is_zero() { "0s".to_owned() } else { human::duration(spent) }
}

#[derive(Clone, Copy)]
struct Columns {
    name: usize,
    outcome: usize,
}

impl Columns {
    fn of(cells: usize, snapshot: &Snapshot) -> Self {
        let room = cells.saturating_sub(2 + 2 * TIME);
        let longest = snapshot.steps.iter().map(|step| width(&clean(&step.name))).max().unwrap_or(0);
        let name = if room > NAME { longest.clamp("total".len(), NAME) } else { room };
        Self { name, outcome: room - name }
    }
}

fn line(canvas: &Canvas<'_>, step: &StepView, columns: Columns) -> Line<'static> {
    let none = canvas.theme().glyphs.none;
    let begun = step.state != StepState::Waiting;
    let own = if begun { time(step.spent.worked) } else { String::new() };
    let at = match (step.ended_after, begun) {
        (Some(at), _) => time(at),
        (None, true) => none.to_owned(),
        (None, false) => String::new(),
    };
    let name_role = if begun { Role::Text } else { Role::Dim };
    let mut spans = vec![
        canvas.span(Role::of_step(step.state), format!("{} ", canvas.theme().glyphs.step(step.state))),
        canvas.span(name_role, left(&clean(&step.name), columns.name)),
        canvas.span(Role::Text, format!("{}{}", right(&own, TIME), right(&at, TIME))),
    ];
    let mut room = columns.outcome;
    if step.quarantined > 0 {
        let text = format!("  {} quarantined", human::count(step.quarantined));
        if width(&text) <= room {
            room -= width(&text);
            spans.push(canvas.span(Role::Warning, text));
        }
    }
    if let Some(outcome) = &step.outcome
        && room > 4
    {
        spans.push(canvas.span(Role::Dim, format!("  {}", left(&clean(outcome), room - 2).trim_end())));
    }
    Line::from(spans)
}

/// The steps around the one that runs, where there is no room for all of them.
fn visible(snapshot: &Snapshot, room: usize) -> &[StepView] {
    let steps = &snapshot.steps;
    let ended = steps.iter().take_while(|step| step.state == StepState::Done).count();
    let from = ended.saturating_sub(room / 2).min(steps.len().saturating_sub(room));
    &steps[from..steps.len().min(from + room)]
}
