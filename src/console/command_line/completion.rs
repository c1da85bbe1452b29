//! What could stand at the end of a command line that is being typed.

use super::super::listing;
use super::super::ui::View;
use super::super::view::Scene;
use super::{SETTINGS, SPECS, Takes, ZOOMS, find, silenceable};
use crate::run::text::clean;

/// What could stand in the place of the word that is being typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Completion {
    /// The first character of the word.
    pub start: usize,
    /// What could stand there, all of it.
    pub candidates: Vec<String>,
}

/// What could stand in the place of the last word of `text`, which ends at the cursor.
pub(in super::super) fn complete(text: &str, scene: &Scene<'_>) -> Completion {
    let from = text.len() - text.trim_start().len();
    let Some((name, rest)) = text[from..].split_once(char::is_whitespace) else {
        let names = SPECS.iter().map(|spec| spec.name.to_owned());
        return fitting(text, from, names);
    };
    let takes = find(name).map_or(Takes::Nothing, |spec| spec.takes);
    // A column's heading may hold blanks; everything else is a word.
    let rest = rest.trim_start();
    let last = rest.rfind(char::is_whitespace).map_or(rest, |at| rest[at..].trim_start());
    let word = text.len() - if takes == Takes::Column { rest.len() } else { last.len() };
    let is_first = rest.len() == last.len();
    match takes {
        Takes::Settings => fitting(text, word, SETTINGS.into_iter().map(|name| format!("{name}="))),
        Takes::Column => {
            let columns = scene.ui.list().map_or(&[][..], listing::columns);
            fitting(text, word, columns.iter().map(|column| column.to_lowercase()))
        }
        Takes::View if is_first => fitting(text, word, View::ALL.into_iter().map(|view| view.name().to_owned())),
        Takes::Zoom if is_first => fitting(text, word, ZOOMS.into_iter().map(|(word, _)| word.to_owned())),
        Takes::Alert if is_first => {
            let held = scene.snapshot.vitals.alerts.iter().filter(|alert| alert.is_active());
            fitting(text, word, held.map(|alert| alert.key.clone()))
        }
        Takes::Silence if is_first => fitting(text, word, silenceable(scene).into_iter().map(str::to_owned)),
        Takes::Pid if is_first => {
            let sessions = scene.details.sessions.value().map_or(&[][..], |sessions| &sessions.sessions[..]);
            fitting(text, word, sessions.iter().map(|session| session.pid.to_string()))
        }
        Takes::Job if is_first => {
            let jobs = scene.details.queue.reading.view().map_or(&[][..], |view| &view.jobs[..]);
            fitting(text, word, jobs.iter().map(|job| job.id.clone()))
        }
        Takes::Run if is_first => {
            let jobs = scene.details.queue.reading.view().map_or(&[][..], |view| &view.jobs[..]);
            let mut runs: Vec<String> = jobs.iter().filter_map(|job| job.run.clone()).collect();
            runs.sort_unstable();
            runs.dedup();
            fitting(text, word, runs.into_iter())
        }
        Takes::Nothing
        | Takes::Text
        | Takes::View
        | Takes::Zoom
        | Takes::Alert
        | Takes::Silence
        | Takes::Pid
        | Takes::Path
        | Takes::Job
        | Takes::Run => Completion::default(),
    }
}

/// Those that go on from the text behind the byte `from`. What could steer a terminal is not put into a line.
fn fitting(text: &str, from: usize, candidates: impl Iterator<Item = String>) -> Completion {
    let begun = text[from..].to_lowercase();
    let fits = |candidate: &String| candidate.to_lowercase().starts_with(&begun) && clean(candidate) == *candidate;
    Completion { start: text[..from].chars().count(), candidates: candidates.filter(fits).collect() }
}
