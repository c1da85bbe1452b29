//! Snapshots as families of metrics. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Counted;
use super::floor::Floor;
use crate::run::Snapshot;
use crate::run::metric::{self, Kind, METRICS};
use crate::run::text::clean;

/// What stands before every name.
const PREFIX: &str = "howdah_";
/// The most characters of a label's value: names of steps and tables come from outside.
const LABEL: usize = 128;
/// The most values of one metric in one run.
const SAMPLES: usize = 500;

/// What is told of the process itself.
pub(super) fn of_process(beside: &[Counted]) -> Vec<MetricFamily> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let build = Family::new("build_info", "The program that tells these numbers; always 1.", Kind::Gauge);
    let mut families = vec![build.with([(labels(&version), 1.0)])];
    for counted in beside {
        families.push(Family::new(counted.name, counted.help, counted.kind).with([(Vec::new(), counted.value)]));
    }
    families
}

/// What is told of runs: one family for each metric that has a value.
pub(super) fn of_runs(runs: &[Arc<Snapshot>], floor: &mut Floor) -> Vec<MetricFamily> {
    floor.keep(&runs.iter().map(|snapshot| snapshot.run.as_str()).collect());
    let info = Family::new("run_info", "Where the run is, and what it promises; always 1.", Kind::Gauge);
    let mut families = vec![info.with(runs.iter().map(|snapshot| (about(snapshot), 1.0)))];
    for metric in METRICS {
        let samples = runs.iter().flat_map(|snapshot| samples(metric, snapshot, floor));
        families.push(Family::new(metric.name, metric.help, metric.kind).with(samples));
    }
    families.retain(|family| !family.get_metric().is_empty());
    families
}

fn about(snapshot: &Snapshot) -> Vec<LabelPair> {
    labels(&[
        ("run", &snapshot.run),
        ("plan", &snapshot.plan),
        ("server", &snapshot.server),
        ("host", &snapshot.host),
        ("guarantee", snapshot.guarantee.word()),
    ])
}

/// The values of one metric in one run, each under labels that no other has.
fn samples(metric: &'static metric::Metric, snapshot: &Snapshot, floor: &mut Floor) -> Vec<(Vec<LabelPair>, f64)> {
    let (mut out, mut told) = (Vec::new(), BTreeSet::new());
    for sample in metric.samples(snapshot).into_iter().take(SAMPLES) {
        let of = shown(sample.label.as_deref().unwrap_or_default());
        let mut pairs = vec![("run", snapshot.run.as_str()), ("plan", snapshot.plan.as_str())];
        pairs.extend(metric.label().map(|label| (label, of.as_str())));
        let value = match metric.kind {
            Kind::Gauge => sample.value,
            Kind::Counter => floor.at_least(metric.name, &snapshot.run, &of, sample.value),
        };
        let pairs = labels(&pairs);
        // Two names may be one once they are cleaned and cut: Prometheus would refuse the second.
        if told.insert(of) {
            out.push((pairs, value));
        }
    }
    out
}

/// A label's value: one line without control characters, of bounded length.
fn shown(value: &str) -> String {
    clean(value).chars().take(LABEL).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(shown(value));
        pair
    };
    pairs.iter().map(pair).collect()
}

/// A family without its values.
struct Family {
    family: MetricFamily,
    kind: Kind,
}

impl Family {
    fn new(name: &str, help: &str, kind: Kind) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(format!("{PREFIX}{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(match kind {
            Kind::Gauge => MetricType::GAUGE,
            Kind::Counter => MetricType::COUNTER,
        });
        Self { family, kind }
    }

    fn with(mut self, samples: impl IntoIterator<Item = (Vec<LabelPair>, f64)>) -> MetricFamily {
        let metric = |(labels, value)| {
            let mut metric = Metric::from_label(labels);
            match self.kind {
                Kind::Gauge => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
                Kind::Counter => {
                    let mut counter = Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                }
            }
            metric
        };
        self.family.set_metric(samples.into_iter().map(metric).collect());
        self.family
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::StepView;
    use proptest::prelude::*;

    fn with_steps(names: &[&str]) -> Arc<Snapshot> {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut snapshot = Snapshot::starting(at, "7f3a09c2".into(), "p".into(), "h".into());
        snapshot.steps = names.iter().map(|name| StepView::new((*name).to_owned(), "backfill".to_owned())).collect();
        Arc::new(snapshot)
    }

    fn values(families: &[MetricFamily], name: &str) -> Vec<String> {
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let last = |metric: &Metric| metric.get_label().last().map(|pair| pair.value().to_owned());
        family.get_metric().iter().filter_map(last).collect()
    }

    #[test]
    fn names_that_are_one_once_cleaned_are_told_once() {
        let long = "x".repeat(500);
        let snapshot = with_steps(&["a\x1b", "a\x07", &long, &format!("{long}y"), "b"]);
        let families = of_runs(&[snapshot], &mut Floor::default());
        let told = values(&families, "howdah_step_batches_total");
        assert_eq!(told, ["a\u{fffd}", &"x".repeat(LABEL), "b"]);
    }

    #[test]
    fn a_counter_that_was_told_does_not_fall() {
        let mut snapshot = with_steps(&["s"]);
        let mut floor = Floor::default();
        for (is, told) in [(5, 5.0), (3, 5.0), (8, 8.0)] {
            Arc::make_mut(&mut snapshot).steps[0].batches = is;
            let families = of_runs(&[Arc::clone(&snapshot)], &mut floor);
            let family = families.iter().find(|family| family.name() == "howdah_step_batches_total").unwrap();
            let value = family.get_metric()[0].get_counter().get_value();
            assert!((value - told).abs() < f64::EPSILON, "{is}: {value}");
        }
    }

    proptest! {
        #[test]
        fn any_names_make_labels_of_one_short_line(names in proptest::collection::vec(any::<String>(), 0..8)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let families = of_runs(&[with_steps(&names)], &mut Floor::default());
            for pair in families.iter().flat_map(MetricFamily::get_metric).flat_map(Metric::get_label) {
                prop_assert!(pair.value().chars().count() <= LABEL && !pair.value().contains('\n'));
            }
        }
    }
}
