//! Who takes jobs, from where, and which one now.

use std::collections::HashMap;

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::left;
use super::super::theme::Role;
use crate::run::text::clean;
use crate::run::{JobState, QueueView};

/// The cells of a worker's name, and of its address.
const NAME: usize = 26;
const CLIENT: usize = 24;

pub(super) fn render(canvas: &mut Canvas<'_>, area: Rect, view: &QueueView) {
    let inside = canvas.pane(area, &format!("Workers {}", view.workers.len()));
    let none = canvas.theme().glyphs.none;
    let heading = format!("{}{}at work on", left("worker", NAME), left("connects from", CLIENT));
    canvas.line(inside, 0, &Line::from(canvas.span(Role::Title, heading)));
    if view.workers.is_empty() {
        let nobody = "nobody takes jobs: `howdah worker` on a host does";
        canvas.line(inside, 1, &Line::from(canvas.span(Role::Dim, nobody)));
        return;
    }
    let mut at_work: HashMap<&str, Vec<String>> = HashMap::new();
    for job in view.jobs.iter().filter(|job| job.state == JobState::Active) {
        if let Some(worker) = &job.worker {
            at_work.entry(worker).or_default().push(format!("{} {}", clean(&job.id), clean(&job.name)));
        }
    }
    let room = usize::from(inside.height).saturating_sub(1);
    let mut workers: Vec<_> = view.workers.iter().collect();
    // Those at work first, where there is no room for all.
    workers.sort_by_key(|worker| !at_work.contains_key(worker.name.as_str()));
    for (row, worker) in workers.into_iter().take(room).enumerate() {
        let jobs = at_work.get(worker.name.as_str()).map_or_else(|| none.to_owned(), |jobs| jobs.join(", "));
        let [name, client] = [(&worker.name, NAME), (&worker.client, CLIENT)]
            .map(|(text, cells)| format!("{} ", left(&clean(text), cells - 1)));
        let line = Line::from(vec![
            canvas.span(Role::Text, name),
            canvas.span(Role::Dim, client),
            canvas.span(Role::Accent, jobs),
        ]);
        canvas.line(inside, row + 1, &line);
    }
    let hidden = view.workers.len().saturating_sub(room);
    if hidden > 0 {
        canvas.footer(area, Role::Dim, &format!("{hidden} more"));
    }
}
