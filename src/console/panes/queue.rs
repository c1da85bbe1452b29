//! The queue of plans: how it stands, its jobs, who takes them; or why it cannot be shown.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::{Canvas, cells};
use super::super::layout::cut;
use super::super::measure::wrap;
use super::super::theme::Role;
use super::super::view::Scene;
use super::{clock, in_a_row, job_list, list_title, worker_list};
use crate::run::text::clean;
use crate::run::{JobState, Level, QueueReading, QueueView, human};

/// From this size on, the workers have a place of their own below the jobs.
const WIDE: u16 = 110;
const TALL: u16 = 24;
/// From this height on, the list has the queue's numbers above it.
const HEADED: u16 = 5;

/// From this height on, why it cannot be read may take two lines.
const ROOMY: u16 = 9;

/// How a Redis is named.
const NAMING: [&str; 3] = [
    "Plans can wait in line on a Redis, for worker hosts to take them. None is named here.",
    "Name one by --redis redis://host:6379, by HOWDAH_REDIS or REDIS_URL, or in the plan as url of [redis].",
    "Then `howdah enqueue PLAN` puts a plan into line, and `howdah worker` takes it. A run itself needs none of this.",
];

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    match &scene.details.queue.reading {
        QueueReading::Unnamed => said(canvas, area, Role::Text, &NAMING.map(str::to_owned)),
        QueueReading::Pending => {
            let none = canvas.theme().glyphs.none;
            said(canvas, area, Role::Dim, &[format!("{none} not read yet")]);
        }
        QueueReading::Read(view) => shown(canvas, area, scene, view, None),
        QueueReading::Silent { why, since, last } => {
            let sign = canvas.theme().glyphs.level(Level::Warning);
            let silent = format!("{sign} not read since {} UTC: {}", clock(*since), clean(why));
            match last {
                Some(view) => shown(canvas, area, scene, view, Some(&silent)),
                None => said(canvas, area, Role::Warning, &[silent, "It is tried again until it answers.".to_owned()]),
            }
        }
    }
}

/// What there is to say in the place of a queue.
fn said(canvas: &mut Canvas<'_>, area: Rect, role: Role, paragraphs: &[String]) {
    let inside = canvas.pane(area, "Queue");
    let lines = paragraphs.iter().flat_map(|text| wrap(text, usize::from(inside.width)));
    for (row, text) in lines.enumerate() {
        canvas.line(inside, row, &Line::from(canvas.span(role, text)));
    }
}

fn shown(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>, view: &QueueView, silent: Option<&str>) {
    let has_workers = area.width >= WIDE && area.height >= TALL;
    let workers = if has_workers { cells(view.workers.len().max(1) + 3).min(area.height / 3) } else { 0 };
    let (jobs, below) = cut(area, area.height - workers);
    let list = &scene.ui.lists.queue;
    let rows = super::super::listing::queue::rows(scene);
    let name = format!("Queue {}", clean(&view.name));
    let inside = canvas.pane(jobs, &list_title(canvas, &name, None, list, rows.len(), view.jobs.len()));
    let mut head = 0;
    if inside.height >= HEADED {
        canvas.line(inside, 0, &totals(canvas, view, usize::from(inside.width)));
        head = 1;
    }
    let most = if inside.height >= ROOMY { 2 } else { 1 };
    for text in silent.iter().flat_map(|silent| wrap(silent, usize::from(inside.width))).take(most) {
        canvas.line(inside, head, &Line::from(canvas.span(Role::Warning, text)));
        head += 1;
    }
    let (_, rest) = cut(inside, cells(head));
    job_list::render(canvas, jobs, rest, scene, view, &rows);
    if workers > 0 {
        worker_list::render(canvas, below, view);
    }
}

/// `‖ PAUSED   2 active   5 waiting   1 delayed   3 failed   120 completed   3 workers   redis1:6379/0`
fn totals(canvas: &Canvas<'_>, view: &QueueView, width: usize) -> Line<'static> {
    let mut items = Vec::new();
    if view.is_paused {
        items.push((10, Role::Warning, format!("{} PAUSED", canvas.theme().glyphs.pause())));
    }
    for (state, worth) in JobState::ALL.into_iter().zip([8, 9, 6, 3, 7, 4]) {
        let count = view.counts.of(state);
        let seldom = matches!(state, JobState::Blocked | JobState::Delayed);
        if count > 0 || !seldom {
            let role = match state {
                JobState::Failed if count > 0 => Role::Critical,
                _ => Role::Text,
            };
            items.push((worth, role, format!("{} {}", human::count(count), state.word())));
        }
    }
    let nobody = view.workers.is_empty() && view.counts.waiting > 0;
    let workers = match view.workers.len() {
        0 => "no worker".to_owned(),
        1 => "1 worker".to_owned(),
        many => format!("{many} workers"),
    };
    items.push((5, if nobody { Role::Warning } else { Role::Text }, workers));
    items.push((2, Role::Dim, clean(&view.server).into_owned()));
    in_a_row(canvas, &items, width)
}
