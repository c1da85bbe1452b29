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
//! | `acting` | what an alert does to the run |
//! | `alerts` | rules with hysteresis |
//! | `metrics` | the numbers of a run for Prometheus |
//! | `notify` | who else hears of alerts, and of a run's end |

pub mod acting;
pub mod alerts;
pub mod database;
mod host;
pub mod metrics;
pub mod notify;
mod process;
mod sampler;
pub mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use alerts::{AlertBook, AlertLimits, AlertRules};
pub use database::{DatabaseSample, DatabaseSource, TableSample};
pub use sampler::Pace;

use crate::run::vitals::{HostVitals, ProcessVitals, Reading};
use crate::run::{Snapshot, Vitals};
use alerts::Moment;
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

/// What alerts go by.
#[derive(Debug, Clone)]
pub struct Alarms {
    /// The rules. `None` until the plan is known.
    pub rules: watch::Receiver<Option<Arc<AlertRules>>>,
    /// Troubles that are no numbers: the key of each, and what it is; without words it is over.
    pub troubles: watch::Receiver<Troubles>,
}

/// Troubles that are no numbers, by the keys of their alerts.
pub type Troubles = BTreeMap<String, Option<String>>;

/// Starts the samplers on `tasks`, at the usual pace. They end on `stop`.
///
/// `source` may be filled later; until then the database's reading is pending. `run` tells the time at work and
/// whether the run rests.
#[must_use = "the vitals are what the monitor is for"]
pub fn start(
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
    source: SourceSlot,
    alarms: Alarms,
    now: Arc<dyn Now>,
    run: watch::Receiver<Arc<Snapshot>>,
) -> watch::Receiver<Arc<Vitals>> {
    start_at(Pace::default(), tasks, stop, source, alarms, now, run)
}

/// [`start`] at another pace.
#[must_use = "the vitals are what the monitor is for"]
pub fn start_at(
    pace: Pace,
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
    source: SourceSlot,
    alarms: Alarms,
    now: Arc<dyn Now>,
    run: watch::Receiver<Arc<Snapshot>>,
) -> watch::Receiver<Arc<Vitals>> {
    let (vitals, readers) = watch::channel(Arc::new(Vitals::default()));
    let board = Arc::new(Board { vitals, now });
    let sampler = Sampler { name: "run", pace, warm_up: None, stop, run };
    tasks.spawn(watch_host(
        Sampler { name: "host", warm_up: Some(host::WARM_UP.min(pace.every)), ..sampler.clone() },
        Arc::clone(&board),
    ));
    tasks.spawn(watch_process(Sampler { name: "process", ..sampler.clone() }, Arc::clone(&board)));
    tasks.spawn(watch_database(Sampler { name: "database", ..sampler.clone() }, Arc::clone(&board), source));
    tasks.spawn(watch_run(sampler, board, alarms));
    readers
}

async fn watch_host(sampler: Sampler, board: Arc<Board>) {
    let probe = Arc::new(Mutex::new(HostProbe::default()));
    let publish = |reading: Reading<HostVitals>| board.publish(|vitals| vitals.host = reading);
    sampler.keep(|| blocking(Arc::clone(&probe), HostProbe::sample), publish).await;
}

async fn watch_process(sampler: Sampler, board: Arc<Board>) {
    let probe = Arc::new(Mutex::new(ProcessProbe::default()));
    let publish = |reading: Reading<ProcessVitals>| board.publish(|vitals| vitals.process = reading);
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
        board.publish(|vitals| vitals.database = reading);
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

/// Holds the newest numbers against the rules, and says now and then how the host and the process are.
async fn watch_run(sampler: Sampler, board: Arc<Board>, alarms: Alarms) {
    let run = sampler.run.clone();
    let mut book = AlertBook::default();
    let mut told: Option<Duration> = None;
    let publish = |reading: Reading<Snapshot>| {
        let Reading::Value(snapshot) = reading else { return };
        let now = Moment { utc: board.now.utc(), elapsed: board.now.elapsed() };
        if let Some(rules) = alarms.rules.borrow().as_ref() {
            book.follow(rules);
            if told.is_none_or(|told| now.elapsed.saturating_sub(told) >= rules.every) {
                told = Some(now.elapsed);
                tell_resources(&snapshot);
            }
        }
        book.check(&snapshot, now);
        for (key, trouble) in alarms.troubles.borrow().iter() {
            book.tell(key, trouble.as_deref(), now.utc);
        }
        board.publish(|vitals| {
            vitals.alerts = book.alerts();
            vitals.rules = book.rules();
        });
    };
    let probe = || {
        // What the samplers have found is newer than what the engine has published of it.
        let vitals = Arc::clone(&board.vitals.borrow());
        std::future::ready(Ok(Snapshot { vitals, ..Snapshot::clone(&run.borrow()) }))
    };
    sampler.keep(probe, publish).await;
}

/// One line of the log.
fn tell_resources(snapshot: &Snapshot) {
    let vitals = &snapshot.vitals;
    let host = vitals.host.value();
    let cpu = host.and_then(|host| host.cpu_percent).map(|percent| format!("{percent:.0}%"));
    let free = host.and_then(free_percent).map(|percent| format!("{percent:.1}%"));
    let memory = vitals.process.value().map(|process| process.rss.to_string());
    let database = vitals.database.value().map(|database| database.size.to_string());
    let unknown = || "unknown".to_owned();
    tracing::info!(
        cpu = cpu.unwrap_or_else(unknown),
        free_memory = free.unwrap_or_else(unknown),
        own_memory = memory.unwrap_or_else(unknown),
        database = database.unwrap_or_else(unknown),
        "resources"
    );
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
    now: Arc<dyn Now>,
}

impl Board {
    /// Changes the vitals, and tells the readers, but only where something is different now.
    fn publish(&self, change: impl FnOnce(&mut Vitals)) {
        self.vitals.send_if_modified(|shown| {
            let mut next = Vitals::clone(shown);
            change(&mut next);
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
