//! What a worker counts beside its runs, for Prometheus.

use crate::monitor::metrics::Counted;
use crate::queue::worker::Tally;
use crate::run::metric::Kind;

/// A worker's tally as metrics.
pub(super) fn of(tally: &Tally) -> Vec<Counted> {
    let counter = |name, help, count| Counted { name, help, kind: Kind::Counter, value: number(count) };
    vec![
        Counted {
            name: "worker_jobs_active",
            help: "Jobs that the worker drives now.",
            kind: Kind::Gauge,
            value: number(tally.active),
        },
        counter("worker_jobs_taken_total", "Jobs that the worker has taken.", tally.taken),
        counter("worker_jobs_done_total", "Jobs of the worker that are completed.", tally.done),
        counter("worker_jobs_failed_total", "Attempts at jobs of the worker that have failed.", tally.failed),
        counter("worker_jobs_handed_back_total", "Jobs that the worker has handed back.", tally.handed_back),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers by their format")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_grows_says_so_in_its_name() {
        for counted in of(&Tally::default()) {
            assert_eq!(counted.name.ends_with("_total"), counted.kind == Kind::Counter, "{}", counted.name);
        }
    }
}
