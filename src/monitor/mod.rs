//! Watches the host, howdah's own process and the database, and raises alerts.
//!
//! Every probe has its own task and its own pace, so a slow one holds up neither the others nor a batch. A probe that
//! fails shows why, and is tried again. Nothing here knows PostgreSQL: [`DatabaseSource`] is where the world begins.
//!
//! | file | what |
//! | --- | --- |
//! | `sampler` | the loop that every probe runs in: pace, deadline, rest, stop |
//! | `host` | CPU, load, memory (the cgroup's where it limits), uptime |
//! | `process` | resident memory and its peak |
//! | `database` | counters of `pg_stat_user_tables`, made into rates by difference |
//! | `series` | the last 100 values of something |
//! | `alerts` | thresholds with hysteresis |
//! | `metrics` | the numbers of a run for Prometheus |

pub mod alerts;
pub mod database;
mod host;
pub mod metrics;
mod process;
mod sampler;
pub mod series;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use alerts::{AlertBook, AlertLimits, Inputs};
pub use database::{DatabaseSample, DatabaseSource, TableSample};
pub use sampler::Pace;

use crate::run::RunState;
use crate::run::vitals::{HostVitals, ProcessVitals, Reading};
use crate::run::{Snapshot, Vitals};
use database::Rates;
use host::HostProbe;
use process::ProcessProbe;
use sampler::{Sampler, blocking};

/// The clocks, brought by whoever wires the monitor.
pub trait Now: Send + Sync {
    /// The time of day: for alerts.
    fn utc(&self) -> DateTime<Utc>;
    /// A monotonic clock, from any fixed instant: for rates.
    fn elapsed(&self) -> Duration;
}

/// Where samples of the database come from; empty until there is a connection.
pub type SourceSlot = watch::Receiver<Option<Arc<dyn DatabaseSource>>>;

/// Starts the samplers on `tasks`, at the usual pace. They end on `stop`.
///
/// `source` may be filled later; until then the database's reading is pending. `run` tells the time at work and
/// whether the run rests.
#[must_use = "the vitals are what the monitor is for"]
pub fn start(
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
    source: SourceSlot,
    limits: watch::Receiver<Option<AlertLimits>>,
    now: Arc<dyn Now>,
    run: watch::Receiver<Arc<Snapshot>>,
) -> watch::Receiver<Arc<Vitals>> {
    start_at(Pace::default(), tasks, stop, source, limits, now, run)
}

/// [`start`] at another pace.
#[must_use = "the vitals are what the monitor is for"]
pub fn start_at(
    pace: Pace,
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
    source: SourceSlot,
    limits: watch::Receiver<Option<AlertLimits>>,
    now: Arc<dyn Now>,
    run: watch::Receiver<Arc<Snapshot>>,
) -> watch::Receiver<Arc<Vitals>> {
    let (vitals, readers) = watch::channel(Arc::new(Vitals::default()));
    let board = Arc::new(Board { vitals, book: Mutex::default(), limits, now });
    let sampler = Sampler { name: "run", pace, warm_up: None, stop, run };
    tasks.spawn(watch_host(
        Sampler { name: "host", warm_up: Some(host::WARM_UP.min(pace.every)), ..sampler.clone() },
        Arc::clone(&board),
    ));
    tasks.spawn(watch_process(Sampler { name: "process", ..sampler.clone() }, Arc::clone(&board)));
    tasks.spawn(watch_database(Sampler { name: "database", ..sampler.clone() }, Arc::clone(&board), source));
    tasks.spawn(watch_run(sampler, board));
    readers
}

async fn watch_host(sampler: Sampler, board: Arc<Board>) {
    let probe = Arc::new(Mutex::new(HostProbe::default()));
    let publish = |reading: Reading<HostVitals>| {
        let free_memory_percent = reading.value().and_then(free_percent);
        board.publish(&Inputs { free_memory_percent, ..Inputs::default() }, |vitals| vitals.host = reading);
    };
    sampler.keep(|| blocking(Arc::clone(&probe), HostProbe::sample), publish).await;
}

async fn watch_process(sampler: Sampler, board: Arc<Board>) {
    let probe = Arc::new(Mutex::new(ProcessProbe::default()));
    let publish = |reading: Reading<ProcessVitals>| {
        let memory = reading.value().map(|process| process.rss);
        board.publish(&Inputs { memory, ..Inputs::default() }, |vitals| vitals.process = reading);
    };
    sampler.keep(|| blocking(Arc::clone(&probe), ProcessProbe::sample), publish).await;
}

async fn watch_database(sampler: Sampler, board: Arc<Board>, mut source: SourceSlot) {
    tokio::select! {
        biased;
        () = sampler.stop.cancelled() => return,
        connected = async { source.wait_for(Option::is_some).await.is_ok() } => {
            if !connected {
                return;
            }
        }
    }
    let mut rates = Rates::default();
    let publish = |reading| {
        let reading = match reading {
            Reading::Value(sample) => Reading::Value(rates.vitals(sample, board.now.elapsed())),
            Reading::Unavailable(why) => Reading::Unavailable(why),
            Reading::Pending => Reading::Pending,
        };
        board.publish(&Inputs::default(), |vitals| vitals.database = reading);
    };
    // Asked for anew at each sample: a source that was replaced after a lost connection is used at once.
    let probe = || {
        let source = source.borrow().clone();
        async move {
            match source {
                Some(source) => source.sample().await,
                None => Err("not connected".to_owned()),
            }
        }
    };
    sampler.keep(probe, publish).await;
}

/// The thresholds that the run itself may cross: its time at work, and the batches that failed among all of them. Batches
/// are not retried yet, so one at most has failed, the one that ended the run.
async fn watch_run(sampler: Sampler, board: Arc<Board>) {
    let run = sampler.run.clone();
    let publish = |reading: Reading<(Duration, f64)>| {
        let (worked, error_rate_percent) = reading.value().copied().unzip();
        board.publish(&Inputs { worked, error_rate_percent, ..Inputs::default() }, |_| {});
    };
    let probe = || {
        let snapshot = run.borrow();
        std::future::ready(Ok((snapshot.spent.worked, failed_percent(&snapshot))))
    };
    sampler.keep(probe, publish).await;
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn failed_percent(snapshot: &Snapshot) -> f64 {
    let committed: u64 = snapshot.steps.iter().map(|step| step.batches).sum();
    match snapshot.state {
        RunState::Failed { .. } if committed > 0 => 100.0 / (committed + 1) as f64,
        RunState::Failed { .. }
        | RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. }
        | RunState::Stopped { .. }
        | RunState::Done { .. } => 0.0,
    }
}

/// Free memory of the host, in percent of all.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
pub fn free_percent(host: &HostVitals) -> Option<f64> {
    let (used, total) = (host.memory_used.0, host.memory_total.0);
    (total > 0).then(|| total.saturating_sub(used) as f64 * 100.0 / total as f64)
}

/// Where all samplers put what they found.
struct Board {
    vitals: watch::Sender<Arc<Vitals>>,
    book: Mutex<AlertBook>,
    /// `None` until the plan is known.
    limits: watch::Receiver<Option<AlertLimits>>,
    now: Arc<dyn Now>,
}

impl Board {
    /// Changes the vitals, checks the thresholds that `inputs` has new readings for, and tells the readers, but only
    /// where something is different now.
    fn publish(&self, inputs: &Inputs, change: impl FnOnce(&mut Vitals)) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limits) = self.limits.borrow().as_ref() {
            alerts::evaluate(&mut book, inputs, limits, self.now.utc());
        }
        let alerts = book.alerts();
        self.vitals.send_if_modified(|shown| {
            let mut next = Vitals::clone(shown);
            change(&mut next);
            next.alerts = alerts;
            let is_new = next != **shown;
            if is_new {
                *shown = Arc::new(next);
            }
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
