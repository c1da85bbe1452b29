//! How the run ended: what was done, or why not, and what to type next.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::{Canvas, cells};
use super::super::measure::wrap;
use super::super::theme::Role;
use super::super::ui::Ui;
use crate::run::report::Report;
use crate::run::snapshot::Unit;
use crate::run::text::clean;
use crate::run::{Cause, Level, RunState, Snapshot, human, why};

/// Lines longer than this are hard to read.
const WIDTH: usize = 96;

pub(crate) fn render(canvas: &mut Canvas<'_>, over: Rect, snapshot: &Snapshot, ui: &Ui) {
    let width = (WIDTH + 4).min(usize::from(over.width));
    let room = usize::from(over.height.saturating_sub(2));
    let mut lines = lines(canvas, &paragraphs(canvas, snapshot, ui, true), width);
    if lines.len() > room {
        // What to do next must be seen; details are in the report as well.
        lines = self::lines(canvas, &paragraphs(canvas, snapshot, ui, false), width);
    }
    // At the lower edge: the checkpoints above stay in sight.
    let height = cells(lines.len() + 2).min(over.height);
    let width = cells(width);
    let area = Rect { x: over.x + (over.width - width) / 2, y: over.bottom() - height, width, height };
    let inside = canvas.popup(area, "Outcome");
    for (row, line) in lines.iter().enumerate() {
        canvas.line(inside, row, line);
    }
}

fn lines(canvas: &Canvas<'_>, paragraphs: &[(Role, String)], width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (role, text) in paragraphs {
        let wrapped = wrap(text, width.saturating_sub(4));
        // A paragraph without text is a gap.
        lines.push(Line::from(canvas.span(*role, wrapped.first().cloned().unwrap_or_default())));
        lines.extend(wrapped.into_iter().skip(1).map(|text| Line::from(canvas.span(*role, text))));
    }
    lines
}

fn paragraphs(canvas: &Canvas<'_>, snapshot: &Snapshot, ui: &Ui, with_details: bool) -> Vec<(Role, String)> {
    let role = Role::of_state(&snapshot.state);
    let mut text = Vec::new();
    match &snapshot.state {
        RunState::Done { .. } if snapshot.quarantined() > 0 => {
            let sign = canvas.theme().glyphs.level(Level::Warning);
            let rows = human::rows(snapshot.quarantined());
            let end = format!("{sign} DONE, {rows} quarantined: set aside unchanged. The rest is done and checked.");
            text.push((Role::Warning, end));
            text.extend(quarantine(snapshot));
            text.push((Role::Text, totals(snapshot)));
        }
        RunState::Done { .. } => {
            text.push((role, "DONE: every step is done and checked.".to_owned()));
            text.push((Role::Text, totals(snapshot)));
        }
        RunState::Stopped { by, .. } => {
            text.push((role, format!("STOPPED by {}. What was committed stays; nothing is open.", by.name())));
            text.push((Role::Text, totals(snapshot)));
            text.extend(quarantine(snapshot));
            text.extend(resume(snapshot));
        }
        RunState::Failed { cause, resumable, .. } => {
            failure(cause, role, with_details, &mut text);
            if *resumable {
                text.extend(resume(snapshot));
            }
            text.push((Role::Text, totals(snapshot)));
            text.extend(quarantine(snapshot));
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => {}
    }
    if !ui.farewell.is_empty() {
        text.push((Role::Text, String::new()));
        text.extend(ui.farewell.iter().map(|line| (Role::Text, clean(line).into_owned())));
    }
    text
}

fn failure(cause: &Cause, role: Role, with_details: bool, text: &mut Vec<(Role, String)>) {
    text.push((role, format!("FAILED: {}", clean(&cause.headline()))));
    if with_details {
        // Each line apart, so that an excerpt and its caret stay below each other.
        let lines = cause.details.iter().flat_map(|detail| detail.lines());
        text.extend(lines.map(|line| (Role::Text, clean(line).into_owned())));
    }
    text.extend(cause.hints.iter().map(|hint| (Role::Accent, format!("hint: {}", clean(hint)))));
}

/// Nothing where nobody can go on: the demo's server ends with its run.
fn resume(snapshot: &Snapshot) -> Option<(Role, String)> {
    let command = Some(clean(&snapshot.resume_command)).filter(|command| !command.is_empty())?;
    Some((Role::Accent, format!("To go on: {command}")))
}

/// Where to look at the rows that were set aside, and why.
fn quarantine(snapshot: &Snapshot) -> Option<(Role, String)> {
    let command = why::quarantine_command(snapshot)?;
    let rows = human::rows(snapshot.quarantined());
    Some((Role::Accent, format!("{rows} quarantined, and why: {}", clean(&command))))
}

/// `2,000,000 rows changed in 402 batches, 48,543 rows/s; 41.2s of work (3.1s of it waiting), 12.0s paused.`
fn totals(snapshot: &Snapshot) -> String {
    let report = Report::of(snapshot);
    let mut walking = snapshot.steps.iter().filter(|step| step.rows_walked > 0).peekable();
    let only_files = walking.peek().is_some() && walking.all(|step| Unit::of_kind(&step.kind) == Unit::Files);
    let noun = if only_files { Unit::Files } else { Unit::Rows }.word();
    let mut text =
        format!("{} {noun} changed in {} batches", human::count(report.rows_changed), human::count(report.batches));
    if let Some(rate) = report.rows_per_second {
        text = format!("{text}, {} {noun}/s", human::rate(rate));
    }
    text = format!("{text}; {} of work", human::duration(report.spent.worked));
    if !report.waited.is_zero() {
        text = format!("{text} ({} of it waiting)", human::duration(report.waited));
    }
    if !report.spent.paused.is_zero() {
        text = format!("{text}, {} paused", human::duration(report.spent.paused));
    }
    format!("{text}.")
}
