//! The numbers of this process for Prometheus: over HTTP, and in a file for the node exporter.
//!
//! Whoever asks reads the newest snapshot, as a console does. Nothing here is on the way of a batch, and nothing here waits
//! for one.
//!
//! | file | what |
//! | --- | --- |
//! | `families` | snapshots as families of metrics: labels cleaned and bounded, no series twice |
//! | `floor` | what counts upwards never goes back while this process lives |
//! | `text` | the families as text: Prometheus 0.0.4, OpenMetrics 1.0 |
//! | `server` | `GET /metrics`, bounded in time and in number |
//! | `textfile` | a file, replaced as a whole |

mod families;
mod floor;
pub mod server;
mod text;
pub mod textfile;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use self::floor::Floor;
use crate::run::Snapshot;
use crate::run::metric::Kind;

pub use self::text::Format;

/// Runs that have ended are told until so many have ended after them.
const ENDED: usize = 4;

/// A number that is not a run's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// Its name, without `howdah_`; one that only grows ends with `_total`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it is now.
    pub value: f64,
}

/// What is told: the newest snapshots of this process's runs, and what it counts beside them.
#[derive(Default)]
pub struct Exposition {
    shown: Mutex<Shown>,
    beside: OnceLock<Box<dyn Fn() -> Vec<Counted> + Send + Sync>>,
}

#[derive(Default)]
struct Shown {
    /// Oldest first.
    runs: Vec<watch::Receiver<Arc<Snapshot>>>,
    floor: Floor,
}

impl Exposition {
    /// Tells a run from now on.
    pub fn show(&self, run: watch::Receiver<Arc<Snapshot>>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.runs.push(run);
        let ended = |run: &watch::Receiver<Arc<Snapshot>>| run.borrow().state.is_over();
        let mut surplus = shown.runs.iter().filter(|run| ended(run)).count().saturating_sub(ENDED);
        shown.runs.retain(|run| {
            let goes = surplus > 0 && ended(run);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Tells what `read` reads as well. Once; later calls change nothing.
    pub fn beside(&self, read: impl Fn() -> Vec<Counted> + Send + Sync + 'static) {
        drop(self.beside.set(Box::new(read)));
    }

    /// Everything, as it is now.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        let beside = self.beside.get().map(|read| read()).unwrap_or_default();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = shown.newest();
        let mut families = families::of_process(&beside);
        families.extend(families::of_runs(&newest, &mut shown.floor));
        text::render(&families, format)
    }
}

impl Shown {
    /// The newest snapshot of each run that is known by now. Of a run that was taken twice, the later.
    fn newest(&self) -> Vec<Arc<Snapshot>> {
        let mut newest: Vec<Arc<Snapshot>> = Vec::with_capacity(self.runs.len());
        for run in self.runs.iter().rev() {
            let snapshot = Arc::clone(&run.borrow());
            // Before it has connected, a run may go by another name: `newest`, or the end of its id.
            let is_known = !snapshot.server.is_empty() || snapshot.state.is_over();
            if is_known && newest.iter().all(|other| other.run != snapshot.run) {
                newest.push(snapshot);
            }
        }
        newest.reverse();
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunState;

    fn snapshot(run: &str) -> Snapshot {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut snapshot = Snapshot::starting(at, run.into(), "plan".into(), "h".into());
        snapshot.server = "db@h:5432".into();
        snapshot
    }

    fn states(text: &str) -> usize {
        text.lines().filter(|line| line.starts_with("howdah_run_state{")).count()
    }

    #[test]
    fn a_run_is_told_once_it_is_known_and_once_only() {
        let told = Exposition::default();
        let (first, seen) = watch::channel(Arc::new(snapshot("newest")));
        first.send_modify(|snapshot| Arc::make_mut(snapshot).server.clear());
        told.show(seen);
        assert_eq!(states(&told.text(Format::Prometheus)), 0);
        first.send_replace(Arc::new(snapshot("r1")));
        let (_second, again) = watch::channel(Arc::new(snapshot("r1")));
        told.show(again);
        assert_eq!(states(&told.text(Format::Prometheus)), 9);
    }

    #[test]
    fn runs_that_have_ended_make_room_and_those_at_work_stay() {
        let told = Exposition::default();
        let (_at_work, seen) = watch::channel(Arc::new(snapshot("at work")));
        told.show(seen);
        for n in 0..20 {
            let mut ended = snapshot(&format!("r{n}"));
            ended.state = RunState::Done { at: ended.now };
            told.show(watch::channel(Arc::new(ended)).1);
        }
        let text = told.text(Format::Prometheus);
        assert_eq!(states(&text), 9 * (1 + ENDED));
        assert!(text.contains(r#"run="at work""#) && text.contains(r#"run="r19""#) && !text.contains(r#"run="r15""#));
    }

    #[test]
    fn what_a_process_counts_beside_its_runs_is_told_under_its_name() {
        let told = Exposition::default();
        told.beside(|| {
            vec![Counted { name: "worker_jobs_done_total", help: "Jobs.", kind: Kind::Counter, value: 3.0 }]
        });
        let text = told.text(Format::Prometheus);
        assert!(
            text.contains("# TYPE howdah_worker_jobs_done_total counter\nhowdah_worker_jobs_done_total 3\n"),
            "{text}"
        );
        assert!(text.contains("howdah_build_info{version="), "{text}");
    }
}
