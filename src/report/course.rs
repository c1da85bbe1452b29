//! The charts of one run's course, and the same in figures.

use super::axis::Unit;
use super::chart::{self, Chart, Curve, Frame, Look, Undrawn};
use super::marks::{self, Marks};
use crate::run::dossier::Dossier;
use crate::run::sample::Sample;

/// The charts of a run, ready to be drawn.
pub struct Course {
    /// The charts, in their order on the page.
    pub charts: Vec<Chart>,
    /// The time axis that they share.
    pub frame: Frame,
    /// What stands on it.
    pub marks: Marks,
    /// What they are drawn from.
    pub columns: Vec<Sample>,
}

type Value = fn(&Sample) -> Option<f64>;

#[expect(clippy::unnecessary_wraps, reason = "one value of several, the others of which may be missing")]
fn rate(sample: &Sample) -> Option<f64> {
    Some(f64::from(sample.rate))
}

fn batch(sample: &Sample) -> Option<f64> {
    sample.batch_ms.map(|ms| f64::from(ms) / 1e3)
}

fn worst(sample: &Sample) -> Option<f64> {
    sample.worst_ms.map(|ms| f64::from(ms) / 1e3)
}

fn lag(sample: &Sample) -> Option<f64> {
    sample.lag.map(f64::from)
}

fn dead(sample: &Sample) -> Option<f64> {
    sample.dead.map(f64::from)
}

fn cpu(sample: &Sample) -> Option<f64> {
    sample.cpu.map(f64::from)
}

fn memory(sample: &Sample) -> Option<f64> {
    sample.memory.map(f64::from)
}

/// The values of a series as stretches; where nobody measured for a while, one ends. `shift` is taken off every time.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
pub fn stretches(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>, shift: i64) -> Vec<Vec<(f64, f64)>> {
    let mut all: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut before: Option<&Sample> = None;
    for sample in samples {
        let Some(value) = value(sample).filter(|value| value.is_finite()) else {
            // Between two batches there may be a second without one; across a pause there is no line.
            if sample.is_paused() {
                before = None;
            }
            continue;
        };
        let at = ((sample.at - shift) as f64, value);
        let follows = before.is_some_and(|before| sample.at - (before.at + before.step) <= marks::gap(before));
        match all.last_mut() {
            Some(last) if follows => last.push(at),
            _ => all.push(vec![at]),
        }
        before = Some(sample);
    }
    all
}

impl Course {
    /// The course of a run. `None`: nothing is known of it.
    #[must_use]
    pub fn of(dossier: &Dossier) -> Option<Self> {
        let columns = marks::columns(&dossier.samples, chart::COLUMNS);
        let (first, last) = (columns.first()?, columns.last()?);
        let frame = Frame::of_day(first.at, last.at + last.step);
        let marks = Marks::of(dossier, &columns);
        let curve = |name: &str, look, value: Value| Curve {
            name: name.to_owned(),
            stretches: stretches(&columns, value, 0),
            look,
        };
        let chart = |title: &str, unit, empty: &str, curves| Chart {
            title: title.to_owned(),
            unit,
            curves,
            empty: format!("not measured{empty}"),
        };
        let files = dossier.report.steps.iter().all(|step| step.rows_walked == 0 || step.kind == "files");
        let walked = dossier.report.rows_walked > 0;
        let throughput = if files && walked { "Throughput, files a second" } else { "Throughput, rows a second" };
        let charts = vec![
            chart(throughput, Unit::Count, "", vec![curve("mean", Look::Filled, rate)]),
            chart(
                "Time of a batch",
                Unit::Seconds,
                ": no batch committed",
                vec![curve("longest", Look::Dashed, worst), curve("mean", Look::Solid, batch)],
            ),
            chart("Replay lag", Unit::Seconds, "", vec![curve("most", Look::Filled, lag)]),
            chart("Dead rows of the plan's tables", Unit::Count, "", vec![curve("most", Look::Filled, dead)]),
            chart(
                "CPU and memory of the driver's host",
                Unit::Share,
                "",
                vec![curve("memory in use", Look::Dashed, memory), curve("CPU", Look::Solid, cpu)],
            ),
        ];
        Some(Self { charts, frame, marks, columns })
    }

    /// Each chart as an SVG of its own.
    ///
    /// # Errors
    /// The drawing library refuses.
    pub fn svgs(&self) -> Result<Vec<String>, Undrawn> {
        let draw = |(n, chart): (usize, &Chart)| {
            let described = self.description(chart);
            chart::svg((chart::WIDTH, chart::HEIGHT), &chart.title, &described, |area| {
                chart.draw(area, &self.frame, &self.marks, n == 0)
            })
        };
        self.charts.iter().enumerate().map(draw).collect()
    }

    /// What a chart shows, in words.
    #[must_use]
    pub fn description(&self, chart: &Chart) -> String {
        let told = |curve: &Curve| {
            let values = || curve.stretches.iter().flatten().map(|(_, value)| *value);
            let most = values().fold(0.0, f64::max);
            let n = values().count();
            if n == 0 {
                format!("{}: not measured", curve.name)
            } else {
                format!("{}: at most {}", curve.name, figure(most, chart.unit))
            }
        };
        let curves: Vec<String> = chart.curves.iter().map(told).collect();
        format!("{}. The figures are in the table below the charts.", curves.join("; "))
    }
}

/// A value in figures, with its unit where it is no count.
#[must_use]
pub fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => crate::run::human::rate(value),
        Unit::Seconds if value <= 0.0 => "0s".to_owned(),
        Unit::Seconds => crate::run::human::duration(std::time::Duration::try_from_secs_f64(value).unwrap_or_default()),
        Unit::Share => format!("{:.0}%", value * 100.0),
    }
}

/// The columns of the table of figures: heading, unit, value.
pub const FIGURES: [(&str, Unit, Value); 7] = [
    ("rows/s", Unit::Count, rate),
    ("batch, mean", Unit::Seconds, batch),
    ("batch, longest", Unit::Seconds, worst),
    ("replay lag", Unit::Seconds, lag),
    ("dead rows", Unit::Count, dead),
    ("CPU", Unit::Share, cpu),
    ("memory", Unit::Share, memory),
];
