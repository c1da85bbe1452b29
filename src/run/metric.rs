//! Every number that a snapshot holds, under one name: for alert rules, for Prometheus, for the reference. Pure.
//!
//! Names and units are Prometheus's: base units (seconds, bytes, shares from 0 to 1), the unit last, `_total` for what only
//! grows. `howdah_` stands before them where they leave the house.

use super::pace::BreakerView;
use super::progress::{Eta, Total};
use super::snapshot::{Activity, BatchActivity};
use super::vitals::{Alert, HostVitals, TableVitals};
use super::{ByteSize, Level, RunState, Snapshot, StepState};

/// One number that can be read off a snapshot, or several of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, without `howdah_`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    read: Read,
}

/// How it is read.
#[derive(Debug, Clone, Copy)]
enum Read {
    One(fn(&Snapshot) -> Option<f64>),
    Each(&'static str, fn(&Snapshot) -> Vec<Sample>),
}

impl Metric {
    /// The label that tells several of a kind apart: `step`, `table`.
    #[must_use]
    pub fn label(&self) -> Option<&'static str> {
        match self.read {
            Read::One(_) => None,
            Read::Each(label, _) => Some(label),
        }
    }

    /// What it is now. Nothing where nothing was measured; never a value that is no number.
    #[must_use]
    pub fn samples(&self, snapshot: &Snapshot) -> Vec<Sample> {
        let mut samples = match self.read {
            Read::One(read) => read(snapshot).map(|value| Sample { label: None, value }).into_iter().collect(),
            Read::Each(_, read) => read(snapshot),
        };
        samples.retain(|sample| sample.value.is_finite());
        samples
    }
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, over all drivers of the run.
    Counter,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The value of [`Metric::label()`], where it has one. Not cleaned.
    pub label: Option<String>,
    /// The value, in the unit that the name says.
    pub value: f64,
}

/// The metric of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// All of them, in the order in which they are told.
pub static METRICS: &[Metric] = &[
    each("run_state", "1 for the state that the run is in, 0 for the others.", "state", run_state),
    gauge("run_start_timestamp_seconds", "When the run began, in seconds since 1970.", |s| {
        s.started_at.map(|at| whole(at.timestamp()))
    }),
    gauge("run_snapshot_timestamp_seconds", "When these numbers were read, in seconds since 1970.", |s| {
        Some(whole(s.now.timestamp()))
    }),
    counter("run_work_seconds_total", "Time at work.", |s| Some(s.spent.worked.as_secs_f64())),
    counter("run_pause_seconds_total", "Time in pause, on request or by the governor.", |s| {
        Some(s.spent.paused.as_secs_f64())
    }),
    counters("run_wait_seconds_total", "Time at work that was lost to waiting, by reason.", "reason", |s| {
        s.pace.waited.iter().map(|waited| of(&waited.reason, waited.time.as_secs_f64())).collect()
    }),
    gauge("run_error_ratio", "Rows set aside as a share of rows walked.", error_ratio),
    counters("step_work_seconds_total", "Time at work on a step.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, step.spent.worked.as_secs_f64())).collect()
    }),
    each("step_done", "1 once a step has ended and is checked, else 0.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, truth(step.state == StepState::Done))).collect()
    }),
    counters("step_rows_walked_total", "Rows whose keys were walked.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, count(step.rows_walked))).collect()
    }),
    counters("step_rows_changed_total", "Rows that were changed.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, count(step.rows_changed))).collect()
    }),
    counters("step_batches_total", "Batches that have committed.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, count(step.batches))).collect()
    }),
    counters("step_retries_total", "Batches that were tried again.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, count(step.retries))).collect()
    }),
    counters("step_rows_quarantined_total", "Rows set aside because their data is wrong.", "step", |s| {
        s.steps.iter().map(|step| of(&step.name, count(step.quarantined))).collect()
    }),
    gauge("sweep_rows", "Rows to be walked in this sweep, as far as that is known.", |s| {
        batches(s).and_then(|batches| match batches.estimate.total {
            Total::Unknown => None,
            Total::About(rows) | Total::Exactly(rows) => Some(count(rows)),
        })
    }),
    gauge("sweep_rows_walked", "Rows walked in this sweep.", |s| batches(s).map(|now| count(now.estimate.walked))),
    gauge("sweep_segments", "Segments of this sweep.", |s| batches(s).map(|now| f64::from(now.segments.all))),
    gauge("sweep_segments_done", "Segments of this sweep that are done.", |s| {
        batches(s).map(|now| f64::from(now.segments.done))
    }),
    gauge("sweep_input_bytes", "Bytes of the input, where it is counted in bytes.", |s| {
        batches(s).and_then(|now| now.bytes).map(|bytes| count(bytes.all))
    }),
    gauge("sweep_input_read_bytes", "Bytes of the input that are read and committed.", |s| {
        batches(s).and_then(|now| now.bytes).map(|bytes| count(bytes.done))
    }),
    gauge("step_eta_seconds", "Time until the step has ended, at the worst of the rates seen.", |s| {
        batches(s).and_then(|now| match now.eta {
            Eta::Unknown => None,
            Eta::Within { most, .. } => Some(most.as_secs_f64()),
        })
    }),
    gauge("rows_per_second", "Rows a second over the last ten seconds of work.", |s| {
        batches(s).and_then(|now| now.rate)
    }),
    gauge("batch_seconds", "Time that the last batch took, from its start to its commit.", |s| {
        batches(s).and_then(|now| now.last).map(|last| last.took.as_secs_f64())
    }),
    gauge("batch_rows", "Rows of the last batch.", |s| {
        batches(s).and_then(|now| now.last).map(|last| count(last.rows))
    }),
    gauge("batch_target_seconds", "Time that a batch aims at.", |s| batches(s).map(|now| now.target.as_secs_f64())),
    each(
        "batch_quantile_seconds",
        "Time that the last 1,024 batches of the step took, by quantile (`q`).",
        "q",
        quantiles,
    ),
    gauge("workers", "Workers at work.", |s| Some(f64::from(s.pace.workers))),
    gauge("workers_wanted", "Workers that may be at work, by the governor and the operator.", |s| {
        Some(f64::from(s.pace.wanted))
    }),
    gauge("members", "Processes that have joined the run.", |s| Some(whole(i64::try_from(s.members.len()).ok()?))),
    each("waiting", "1 for what batches wait for now.", "reason", |s| {
        s.pace.hold.iter().map(|hold| of(&hold.key, 1.0)).collect()
    }),
    each("signal", "A signal of the governor: seconds, bytes, or what it counts.", "signal", |s| {
        s.pace.signals.iter().filter_map(|signal| Some(of(&signal.name, signal.number?))).collect()
    }),
    each("signal_load_ratio", "A signal as a share of its `slow`: past 1 batches wait.", "signal", |s| {
        s.pace.signals.iter().filter_map(|signal| Some(of(&signal.name, signal.load?))).collect()
    }),
    gauge("replay_lag_seconds", "How far the slowest standby is behind.", |s| {
        s.pace.signals.iter().find(|signal| signal.name == "replay lag").and_then(|signal| signal.number)
    }),
    gauge("breaker_open", "1 while the circuit breaker lets nothing through, else 0.", |s| {
        Some(match s.pace.breaker {
            BreakerView::Closed { .. } | BreakerView::HalfOpen { .. } => 0.0,
            BreakerView::Open { .. } => 1.0,
        })
    }),
    gauge("host_cpu_ratio", "CPU of the host in use, as a share of all cores.", |s| {
        host(s).and_then(|host| host.cpu_percent).map(|percent| f64::from(percent) / 100.0)
    }),
    gauge("host_load1", "Load average of the host over one minute.", |s| host(s).map(|host| host.load[0])),
    gauge("host_memory_bytes", "Memory of the host, by the cgroup's limit where there is one.", |s| {
        host(s).map(|host| bytes(host.memory_total))
    }),
    gauge("host_memory_used_bytes", "Memory of the host in use.", |s| host(s).map(|host| bytes(host.memory_used))),
    gauge("host_memory_free_ratio", "Free memory of the host, as a share of all.", |s| {
        host(s)
            .filter(|host| host.memory_total.0 > 0)
            .map(|host| 1.0 - (bytes(host.memory_used) / bytes(host.memory_total)).min(1.0))
    }),
    gauge("process_resident_memory_bytes", "howdah's own resident memory.", |s| {
        s.vitals.process.value().map(|process| bytes(process.rss))
    }),
    gauge("database_size_bytes", "The database on disk.", |s| {
        s.vitals.database.value().map(|database| bytes(database.size))
    }),
    each("pool_connections", "Connections of howdah's pool.", "state", |s| {
        s.vitals.database.value().map_or_else(Vec::new, |database| {
            vec![of("in use", f64::from(database.pool_in_use)), of("idle", f64::from(database.pool_idle))]
        })
    }),
    each("table_live_rows", "Live rows of the plan's tables, by the server's estimate.", "table", |s| {
        tables(s, |table| Some(count(table.live)))
    }),
    each("table_dead_rows", "Dead rows of the plan's tables, by the server's estimate.", "table", |s| {
        tables(s, |table| Some(count(table.dead)))
    }),
    each("table_dead_ratio", "Dead rows of the plan's tables, as a share of all rows.", "table", |s| {
        tables(s, |table| Some(table.dead_percent() / 100.0))
    }),
    each("table_heap_bytes", "The plan's tables with their TOAST on disk.", "table", |s| {
        tables(s, |table| table.heap_bytes.map(bytes))
    }),
    each("table_index_bytes", "Indexes of the plan's tables on disk.", "table", |s| {
        tables(s, |table| table.index_bytes.map(bytes))
    }),
    each("alerts", "Alerts that hold, by level.", "level", alerts),
    counters("cache_lookups_total", "Look-ups of scripts that were asked for.", "cache", |s| {
        s.caches.iter().map(|cache| of(&cache.name, count(cache.asked))).collect()
    }),
    each("cache_hit_ratio", "Look-ups that did not get to the database, as a share of all.", "cache", |s| {
        s.caches.iter().filter_map(|cache| Some(of(&cache.name, cache.hit_rate()?))).collect()
    }),
];

const fn gauge(name: &'static str, help: &'static str, read: fn(&Snapshot) -> Option<f64>) -> Metric {
    Metric { name, help, kind: Kind::Gauge, read: Read::One(read) }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Snapshot) -> Option<f64>) -> Metric {
    Metric { name, help, kind: Kind::Counter, read: Read::One(read) }
}

const fn each(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    read: fn(&Snapshot) -> Vec<Sample>,
) -> Metric {
    Metric { name, help, kind: Kind::Gauge, read: Read::Each(label, read) }
}

const fn counters(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    read: fn(&Snapshot) -> Vec<Sample>,
) -> Metric {
    Metric { name, help, kind: Kind::Counter, read: Read::Each(label, read) }
}

/// The states in their order, by their words.
const STATES: [&str; 9] =
    ["starting", "running", "pausing", "paused", "resuming", "stopping", "stopped", "failed", "done"];

fn run_state(snapshot: &Snapshot) -> Vec<Sample> {
    let now = RunState::word(&snapshot.state);
    STATES.iter().map(|state| of(state, truth(*state == now))).collect()
}

fn error_ratio(snapshot: &Snapshot) -> Option<f64> {
    let walked: u64 = snapshot.steps.iter().map(|step| step.rows_walked).sum();
    (walked > 0).then(|| count(snapshot.quarantined()) / count(walked))
}

fn quantiles(snapshot: &Snapshot) -> Vec<Sample> {
    let of_latency = |latency: &super::work::Latency| {
        let quantile = |name: &str, time: std::time::Duration| of(name, time.as_secs_f64());
        vec![
            quantile("0.5", latency.p50),
            quantile("0.9", latency.p90),
            quantile("0.99", latency.p99),
            quantile("1", latency.most),
        ]
    };
    snapshot.work.latency.as_ref().map(of_latency).unwrap_or_default()
}

fn alerts(snapshot: &Snapshot) -> Vec<Sample> {
    let held: Vec<&Alert> = snapshot.vitals.alerts.iter().filter(|alert| alert.is_active()).collect();
    [(Level::Info, "info"), (Level::Warning, "warning"), (Level::Critical, "critical")]
        .into_iter()
        .map(|(level, word)| of(word, count(held.iter().filter(|alert| alert.level == level).count() as u64)))
        .collect()
}

fn batches(snapshot: &Snapshot) -> Option<&BatchActivity> {
    match &snapshot.activity {
        Activity::Batches(batches) => Some(batches),
        Activity::Idle | Activity::Statement { .. } => None,
    }
}

fn host(snapshot: &Snapshot) -> Option<&HostVitals> {
    snapshot.vitals.host.value()
}

fn tables(snapshot: &Snapshot, read: fn(&TableVitals) -> Option<f64>) -> Vec<Sample> {
    let Some(database) = snapshot.vitals.database.value() else { return Vec::new() };
    let of_plan = database.tables.iter().filter(|table| table.in_plan);
    of_plan.filter_map(|table| Some(of(&table.name, read(table)?))).collect()
}

fn of(label: &str, value: f64) -> Sample {
    Sample { label: Some(label.to_owned()), value }
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers by their format")]
fn count(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers by their format")]
fn whole(n: i64) -> f64 {
    n as f64
}

fn bytes(size: ByteSize) -> f64 {
    count(size.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(metric.name.chars().all(plain), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(named(metric.name).map(|found| found.name), Some(metric.name));
        }
    }

    #[test]
    fn each_state_of_a_run_has_its_sample() {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut snapshot = Snapshot::starting(at, "r".into(), "p".into(), "h".into());
        snapshot.state = RunState::Done { at };
        let held: Vec<_> = run_state(&snapshot).into_iter().filter(|sample| sample.value > 0.0).collect();
        assert_eq!(held, [of("done", 1.0)]);
        for metric in METRICS {
            assert!(metric.samples(&snapshot).iter().all(|sample| sample.label.is_some() == metric.label().is_some()));
        }
    }
}
