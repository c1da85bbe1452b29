//! The jobs of the queue, one by one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::layout::Rect;

use super::super::canvas::{Canvas, share};
use super::super::grid::{Column, Grid, Ink, outside, plain};
use super::super::listing::Row;
use super::super::listing::queue::{self, Read};
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::finish;
use crate::run::text::{clean, clean_lines};
use crate::run::{JobState, JobView, QueueView, human};

/// From this width on, ids, names and workers have more room.
const WIDE: u16 = 110;
/// A next try nearer than this is told by the time until then.
const SOON: TimeDelta = TimeDelta::minutes(10);

/// Draws the list into `inside` of the pane `area`.
pub(super) fn render(
    canvas: &mut Canvas<'_>,
    area: Rect,
    inside: Rect,
    scene: &Scene<'_>,
    view: &QueueView,
    rows: &[Row<Read<'_>>],
) {
    let list = &scene.ui.lists.queue;
    let columns = columns(area.width >= WIDE).into();
    let grid =
        Grid { columns, sign, list, empty: "no job: `howdah enqueue PLAN` or `:enqueue PLAN` puts one into line" };
    let shown = grid.draw(canvas, inside, scene.snapshot, rows);
    let more = (view.more > 0).then(|| format!("{} not shown", human::count(view.more)));
    finish(canvas, area, shown, more.as_deref());
}

fn sign(read: &Read<'_>, ink: &Ink<'_>) -> (&'static str, Role) {
    let state = read.job.state;
    let role = match state {
        JobState::Active | JobState::Waiting | JobState::Delayed | JobState::Failed => Role::Text,
        JobState::Blocked | JobState::Completed => Role::Dim,
    };
    (ink.glyphs.job(state), role)
}

pub(crate) fn columns<'a>(wide: bool) -> [Column<Read<'a>>; 11] {
    let [id, plan, worker] = if wide { [12, 20, 17] } else { [6, 14, 13] };
    [
        Column::left("state", 0, 9, 99, |read, _| {
            Some((Some(Role::of_job(read.job.state)), read.job.state.word().to_owned()))
        }),
        Column::left("id", 1, id, 18, |read, _| outside(&read.job.id)),
        Column::left("plan", 2, plan, 22, |read, _| outside(&read.job.name)),
        Column::right("prio", 3, 6, 11, |read, _| plain(read.job.priority.to_string())),
        Column::right("tries", 4, 6, 17, |read, _| Some(tries(read.job))),
        Column::right("next", 5, 8, 16, |read, _| read.job.next_try.map(|at| (None, until(at, read.at)))),
        Column::right("age", 6, 7, 13, |read, _| plain(age(read.job.asked_at, read.at))),
        Column::left("run", 7, 9, 12, |read, _| read.job.run.as_deref().and_then(outside)),
        Column::left("done", 8, 10, 19, |read, ink| {
            let role = (read.job.state == JobState::Active).then_some(Role::Gauge);
            read.job.done.map(|done| (role, bar(done, ink)))
        }),
        Column::left("worker", 9, worker, 10, |read, _| read.job.worker.as_deref().and_then(outside)),
        Column::rest("says", 10, 14, 20, |read, _| read.job.says.as_deref().and_then(outside)),
    ]
}

/// `1/3`: how often it came to nothing, and how often it may.
fn tries(job: &JobView) -> (Option<Role>, String) {
    let role = (job.attempts > 0 && job.state != JobState::Completed).then_some(Role::Warning);
    (role, format!("{}/{}", job.attempts, job.most_attempts))
}

/// `in 12s` where it is near, `14:03` where it is today, else the day.
fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let left = at.signed_duration_since(now);
    if left <= TimeDelta::zero() {
        "now".to_owned()
    } else if left < SOON {
        format!("in {}", human::rough_duration(left.to_std().unwrap_or_default()))
    } else if left < TimeDelta::days(1) {
        at.format("%H:%M").to_string()
    } else {
        at.format("%m-%d").to_string()
    }
}

/// `42s`, `7m`, `3h`, `12d`: in steps so large that a list that stands still seldom changes.
fn age(from: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match between(from, now).as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Nothing where the clocks of two hosts disagree.
fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    to.signed_duration_since(from).to_std().unwrap_or_default()
}

/// A short bar and whole percents, cut and never rounded up.
fn bar(done: f64, ink: &Ink<'_>) -> String {
    let percent = share(done, 100);
    let room = ink.width.saturating_sub(5);
    let full = share(done, room);
    format!("{}{}{percent:>4}%", ink.glyphs.full.repeat(full), ink.glyphs.empty.repeat(room - full))
}

/// All of the selected job.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = queue::rows(scene);
    let Read { job, at } = rows.iter().find(|row| row.key == key)?.of;
    let none = canvas.theme().glyphs.none;
    let text = |text: &str| if text.is_empty() { none.to_owned() } else { clean(text).into_owned() };
    let moment = |at: DateTime<Utc>| format!("{} UTC", at.format("%Y-%m-%d %H:%M:%S"));
    let mut page = Page::new(format!("Job {}", text(&job.id)));
    page.field("state", job.state.word());
    page.field("id", &text(&job.id));
    page.field("plan", &text(&job.name));
    let priority = match job.priority {
        0 => "none: before all that have one".to_owned(),
        priority => format!("{priority}: the lower, the sooner"),
    };
    page.field("priority", &priority);
    page.field("attempts", &format!("{} of {} came to nothing", job.attempts, job.most_attempts));
    if let Some(next) = job.next_try {
        page.field("next try", &format!("{} ({})", moment(next), until(next, at)));
    }
    page.field("asked for", &format!("{}, {} ago", moment(job.asked_at), age(job.asked_at, at)));
    page.field("asked by", &job.asked_by.as_deref().map_or_else(|| none.to_owned(), text));
    if let Some(begun) = job.begun_at {
        page.field("taken", &moment(begun));
    }
    if let Some(ended) = job.ended_at {
        let took = job
            .begun_at
            .map_or_else(String::new, |begun| format!(", after {} of work", human::duration(between(begun, ended))));
        page.field("ended", &format!("{}{took}", moment(ended)));
    }
    page.field("worker", &job.worker.as_deref().map_or_else(|| none.to_owned(), text));
    page.field("run", &job.run.as_deref().map_or_else(|| none.to_owned(), text));
    if let Some(done) = job.done {
        page.field("done", &human::percent(done));
    }
    if let Some(says) = job.says.as_deref().filter(|says| !says.is_empty()) {
        let name = if job.state == JobState::Failed { "why it failed" } else { "what it says" };
        page.block(name, &clean_lines(says));
    }
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_try_is_told_by_how_near_it_is() {
        let now = DateTime::from_timestamp(1_783_000_000, 0).unwrap();
        let table = [(-5, "now"), (0, "now"), (12, "in 12s"), (125, "in 2m05s"), (3600, "14:46"), (200_000, "07-04")];
        for (seconds, expected) in table {
            assert_eq!(until(now + TimeDelta::seconds(seconds), now), expected, "{seconds}");
        }
        assert_eq!(age(now + TimeDelta::hours(1), now), "0s", "of a host whose clock is ahead");
        let ages = [(42, "42s"), (430, "7m"), (86_400, "24h"), (864_000, "10d")];
        for (seconds, expected) in ages {
            assert_eq!(age(now - TimeDelta::seconds(seconds), now), expected);
        }
        assert_eq!(until(DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC).chars().count(), 5);
    }
}
