//! Two runs side by side: the first is what the second is held against.

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::axis::Unit;
use super::chart::{self, Chart, Curve, Frame, Look, Undrawn};
use super::course::{figure, stretches};
use super::marks::{self, Marks};
use crate::run::dossier::Dossier;
use crate::run::sample::Sample;
use crate::run::text::clean;

/// Two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What the other is held against.
    pub first: Dossier,
    /// The other.
    pub second: Dossier,
    /// What was measured of both, in groups: the run as a whole, then each step that either has.
    pub groups: Vec<Group>,
}

/// Measures that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The step that they are about. `None`: the whole run. Not cleaned.
    pub step: Option<String>,
    /// The measures.
    pub measures: Vec<Measure>,
}

/// One thing that was measured of two runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What. Not cleaned.
    pub what: String,
    /// Its name in JSON, with the unit.
    pub key: String,
    /// What it counts.
    pub unit: Unit,
    /// Of the first run. `None`: not measured.
    pub first: Option<f64>,
    /// Of the second.
    pub second: Option<f64>,
}

impl Measure {
    fn new(what: &str, key: &str, unit: Unit, first: Option<f64>, second: Option<f64>) -> Self {
        Self { what: what.to_owned(), key: key.to_owned(), unit, first, second }
    }

    /// The second as a multiple of the first. `None`: one of them is missing, or the first is nothing.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let first = self.first.filter(|first| *first > 0.0)?;
        self.second.map(|second| second / first)
    }

    /// Both and the ratio as words.
    #[must_use]
    pub fn told(&self) -> [String; 3] {
        let value = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |value| figure(value, self.unit));
        let ratio = self.ratio().map_or_else(|| "—".to_owned(), |ratio| format!("×{ratio:.2}"));
        [value(self.first), value(self.second), ratio]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count that is compared")]
fn count(n: u64) -> f64 {
    n as f64
}

impl Comparison {
    /// Holds `second` against `first`.
    #[must_use]
    pub fn of(first: Dossier, second: Dossier) -> Self {
        let mut groups = vec![whole(&first, &second)];
        let names = |dossier: &Dossier| dossier.report.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
        let mut steps = names(&first);
        steps.extend(names(&second).into_iter().filter(|name| !steps.contains(name)).collect::<Vec<_>>());
        groups.extend(steps.into_iter().map(|name| of_step(&first, &second, name)));
        Self { first, second, groups }
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let name = |dossier: &Dossier| format!("{} ({})", clean(&dossier.report.run), dossier.state);
        let mut rows = vec![[
            format!("{} against {}", clean(&self.second.report.plan), clean(&self.first.report.plan)),
            name(&self.first),
            name(&self.second),
            "ratio".to_owned(),
        ]];
        for group in &self.groups {
            if let Some(step) = &group.step {
                rows.push([format!("step {}", clean(step)), String::new(), String::new(), String::new()]);
            }
            for measure in &group.measures {
                let indent = if group.step.is_some() { "  " } else { "" };
                let [first, second, ratio] = measure.told();
                rows.push([format!("{indent}{}", clean(&measure.what)), first, second, ratio]);
            }
        }
        let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        let line = |row: &[String; 4]| {
            let cells = row.iter().zip(widths).enumerate().map(|(n, (cell, width))| {
                let room = " ".repeat(width - cell.width());
                if n == 0 { format!("{cell}{room}") } else { format!("{room}{cell}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let run = |dossier: &Dossier| {
            json!({
                "id": dossier.id,
                "run": dossier.report.run,
                "plan": dossier.report.plan,
                "state_now": dossier.state,
                "started_at": dossier.report.started_at,
            })
        };
        let measures = |group: &Group| {
            let pairs = group.measures.iter().map(|measure| {
                let value = json!({ "first": measure.first, "second": measure.second, "ratio": measure.ratio() });
                (measure.key.clone(), value)
            });
            Value::Object(pairs.collect())
        };
        let (whole, steps): (Vec<&Group>, Vec<&Group>) = self.groups.iter().partition(|group| group.step.is_none());
        json!({
            "first": run(&self.first),
            "second": run(&self.second),
            "measures": whole.first().map(|group| measures(group)),
            "steps": steps.iter().map(|group| json!({ "step": group.step, "measures": measures(group) })).collect::<Vec<_>>(),
        })
    }

    /// The throughput of both since each began, as an SVG.
    ///
    /// # Errors
    /// The drawing library refuses.
    pub fn svg(&self) -> Result<String, Undrawn> {
        let (chart, frame) = self.chart();
        let title =
            format!("Throughput of run {} and run {}", clean(&self.first.report.run), clean(&self.second.report.run));
        chart::svg((chart::WIDTH, 260), &title, "Rows a second since each began", |area| {
            chart.draw(area, &frame, &Marks::default(), false)
        })
    }

    fn chart(&self) -> (Chart, Frame) {
        let of = |dossier: &Dossier| {
            let columns = marks::columns(&dossier.samples, chart::COLUMNS);
            let began = dossier
                .report
                .started_at
                .map_or_else(|| columns.first().map_or(0, |sample| sample.at), |at| at.timestamp());
            let last = columns.last().map_or(0, |sample| sample.at + sample.step - began);
            (stretches(&columns, |sample: &Sample| Some(f64::from(sample.rate)), began), last)
        };
        let ((first, first_last), (second, second_last)) = (of(&self.first), of(&self.second));
        let curve = |dossier: &Dossier, stretches, look| Curve {
            name: format!("run {}", clean(&dossier.report.run)),
            stretches,
            look,
        };
        let chart = Chart {
            title: "Rows a second, since each began".to_owned(),
            unit: Unit::Count,
            curves: vec![curve(&self.first, first, Look::Solid), curve(&self.second, second, Look::Dashed)],
            empty: "not measured".to_owned(),
        };
        (chart, Frame::since_start(first_last.max(second_last)))
    }
}

fn whole(first: &Dossier, second: &Dossier) -> Group {
    let (a, b) = (&first.report, &second.report);
    let seconds =
        |what, key, of: fn(&Dossier) -> Option<f64>| Measure::new(what, key, Unit::Seconds, of(first), of(second));
    let mut measures = vec![
        seconds("from start to end", "took_seconds", |of| of.took().map(|took| took.as_secs_f64())),
        seconds("at work", "worked_seconds", |of| Some(of.report.spent.worked.as_secs_f64())),
        seconds("paused", "paused_seconds", |of| Some(of.report.spent.paused.as_secs_f64())),
        seconds("waited", "waited_seconds", |of| Some(of.report.waited.as_secs_f64())),
    ];
    let mut reasons: Vec<&str> = Vec::new();
    for waited in a.waited_by_reason.iter().chain(&b.waited_by_reason) {
        if !reasons.contains(&waited.reason.as_str()) {
            reasons.push(&waited.reason);
        }
    }
    for reason in reasons {
        let of = |dossier: &Dossier| {
            let lost = dossier.report.waited_by_reason.iter().find(|waited| waited.reason == reason);
            Some(lost.map_or(0.0, |waited| waited.time.as_secs_f64()))
        };
        let key = format!("waited_seconds: {reason}");
        measures.push(Measure::new(&format!("waited: {reason}"), &key, Unit::Seconds, of(first), of(second)));
    }
    let counts = [
        Measure::new(
            "rows changed",
            "rows_changed",
            Unit::Count,
            Some(count(a.rows_changed)),
            Some(count(b.rows_changed)),
        ),
        Measure::new("rows/s of work", "rows_per_second", Unit::Count, a.rows_per_second, b.rows_per_second),
        Measure::new("batches", "batches", Unit::Count, Some(count(a.batches)), Some(count(b.batches))),
        Measure::new("retries", "retries", Unit::Count, Some(count(a.retries)), Some(count(b.retries))),
        Measure::new("quarantined", "quarantined", Unit::Count, Some(count(a.quarantined)), Some(count(b.quarantined))),
    ];
    measures.extend(counts);
    let most = |what: &str, key: &str, unit, of: fn(&Sample) -> Option<f32>| {
        let most = |dossier: &Dossier| dossier.samples.iter().filter_map(of).map(f64::from).reduce(f64::max);
        Measure::new(what, key, unit, most(first), most(second))
    };
    measures.push(most("replay lag at most", "replay_lag_seconds_most", Unit::Seconds, |sample| sample.lag));
    measures.push(most("dead rows at most", "dead_rows_most", Unit::Count, |sample| sample.dead));
    Group { step: None, measures }
}

fn of_step(first: &Dossier, second: &Dossier, name: String) -> Group {
    let step = |dossier: &Dossier| dossier.report.steps.iter().find(|step| step.name == name).cloned();
    let latency =
        |dossier: &Dossier| dossier.summary.latency.iter().find(|of| of.step == name).map(|of| of.latency.clone());
    let ((a, b), (fast, slow)) = ((step(first), step(second)), (latency(first), latency(second)));
    let (a, b, fast, slow) = (a.as_ref(), b.as_ref(), fast.as_ref(), slow.as_ref());
    let mut measures = vec![
        Measure::new(
            "own time",
            "worked_seconds",
            Unit::Seconds,
            a.map(|step| step.spent.worked.as_secs_f64()),
            b.map(|step| step.spent.worked.as_secs_f64()),
        ),
        Measure::new(
            "rows changed",
            "rows_changed",
            Unit::Count,
            a.map(|step| count(step.rows_changed)),
            b.map(|step| count(step.rows_changed)),
        ),
        Measure::new(
            "rows/s",
            "rows_per_second",
            Unit::Count,
            a.and_then(|step| step.rows_per_second),
            b.and_then(|step| step.rows_per_second),
        ),
        Measure::new(
            "batch, half within",
            "batch_p50_seconds",
            Unit::Seconds,
            fast.map(|of| of.p50.as_secs_f64()),
            slow.map(|of| of.p50.as_secs_f64()),
        ),
        Measure::new(
            "batch, 9 of 10 within",
            "batch_p90_seconds",
            Unit::Seconds,
            fast.map(|of| of.p90.as_secs_f64()),
            slow.map(|of| of.p90.as_secs_f64()),
        ),
        Measure::new(
            "batch, 99 of 100 within",
            "batch_p99_seconds",
            Unit::Seconds,
            fast.map(|of| of.p99.as_secs_f64()),
            slow.map(|of| of.p99.as_secs_f64()),
        ),
        Measure::new(
            "retries",
            "retries",
            Unit::Count,
            a.map(|step| count(step.retries)),
            b.map(|step| count(step.retries)),
        ),
    ];
    // What neither has is no news of a step: a statement walks nothing.
    measures.retain(|measure| measure.first.unwrap_or(0.0) > 0.0 || measure.second.unwrap_or(0.0) > 0.0);
    Group { step: Some(name), measures }
}
