//! What a run did: its steps, its batches, the signals that held it back.

use maud::{Markup, html};

use super::page::{number, table, words};
use crate::run::dossier::Dossier;
use crate::run::human;
use crate::run::report::StepReport;
use crate::run::text::{clean, clean_lines};
use crate::run::{StepState, pace};

fn time(d: std::time::Duration) -> String {
    if d.is_zero() { "0s".to_owned() } else { human::duration(d) }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "—".to_owned())
}

/// A column of numbers of the table of steps.
struct Column {
    heading: &'static str,
    /// One for each step.
    cells: Vec<String>,
    total: String,
}

/// Whether a cell says nothing.
fn is_blank(cell: &str) -> bool {
    matches!(cell, "—" | "0" | "0s")
}

/// The columns of numbers, but for those that say nothing of any step.
fn columns(dossier: &Dossier) -> Vec<Column> {
    let report = &dossier.report;
    let column = |heading, total: String, cell: &dyn Fn(&StepReport) -> String| Column {
        heading,
        cells: report.steps.iter().map(cell).collect(),
        total,
    };
    let count = |heading, total: u64, of: fn(&StepReport) -> u64| {
        let told = |step: &StepReport| human::count(of(step));
        column(heading, human::count(total), &|step| if began(step) { told(step) } else { "—".to_owned() })
    };
    let spent = |heading, total, of: fn(&StepReport) -> std::time::Duration| {
        column(heading, time(total), &|step| if began(step) { time(of(step)) } else { "—".to_owned() })
    };
    let rate = |rate: Option<f64>| or_dash(rate.map(human::rate));
    let always = [
        spent("own time", report.spent.worked, |step| step.spent.worked),
        column("at", time(report.spent.total()), &|step| or_dash(step.ended_after.map(time))),
        count("changed", report.rows_changed, |step| step.rows_changed),
        column("rows/s", rate(report.rows_per_second), &|step| rate(step.rows_per_second)),
        count("batches", report.batches, |step| step.batches),
    ];
    let where_any_has = [
        count("retries", report.retries, |step| step.retries),
        count("aside", report.quarantined, |step| step.quarantined),
        spent("waited", report.waited, |step| step.waited),
        column("HOT", String::new(), &|step| or_dash(hot(step))),
        column("dead rows", String::new(), &|step| or_dash(dead(step))),
    ];
    let says = |column: &Column| column.cells.iter().any(|cell| !is_blank(cell));
    always.into_iter().chain(where_any_has.into_iter().filter(says)).collect()
}

fn began(step: &StepReport) -> bool {
    step.state != StepState::Waiting
}

fn hot(step: &StepReport) -> Option<String> {
    let percent = step.churn.and_then(|churn| churn.hot_percent())?;
    Some(format!("{:.0}%", percent.floor()))
}

/// What the headings mean, of those that are shown.
const MEANINGS: [(&str, &str); 5] = [
    ("own time", "at work"),
    ("at", "from the run's start to the step's end, work and pause"),
    ("aside", "rows quarantined"),
    ("HOT", "updates that touched no index"),
    ("dead rows", "made, by the server's statistics"),
];

/// The steps, as checkpoints. A column that says nothing of any step is left out.
#[must_use]
pub fn steps(dossier: &Dossier) -> Markup {
    let columns = columns(dossier);
    let mut headings = vec![("step", false), ("state", false)];
    headings.extend(columns.iter().map(|column| (column.heading, true)));
    let rows = html! {
        @for (n, step) in dossier.report.steps.iter().enumerate() {
            tr {
                th scope="row" {
                    (clean(&step.name))
                    span class="under" {
                        (step.kind)
                        @if let Some(outcome) = &step.outcome { ": " (clean(outcome)) }
                    }
                }
                td class="t" { (mark(step.state)) " " (step.state.word()) }
                @for cell in columns.iter().filter_map(|column| column.cells.get(n)) { (number(cell)) }
            }
        }
    };
    let foot = html! {
        tr {
            th scope="row" { "total" }
            td {}
            @for column in &columns { (number(&column.total)) }
        }
    };
    let shown = MEANINGS.iter().filter(|(heading, _)| columns.iter().any(|column| column.heading == *heading));
    let meanings: Vec<String> = shown.map(|(heading, meaning)| format!("{heading}: {meaning}")).collect();
    html! {
        (table("Checkpoints", &headings, &rows, Some(&foot)))
        p class="dim small" { (meanings.join("; ")) }
    }
}

fn mark(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "·",
        StepState::Running => "▶",
        StepState::Done => "✓",
        StepState::Failed => "✗",
    }
}

fn dead(step: &StepReport) -> Option<String> {
    step.churn.map(|churn| human::count(churn.dead_made))
}

/// How long batches took, and the slowest of them.
#[must_use]
pub fn batches(dossier: &Dossier) -> Markup {
    let summary = &dossier.summary;
    if summary.latency.is_empty() && summary.slowest.is_empty() {
        return html! { p class="dim" { "Not measured." } };
    }
    let latency = html! {
        @for of in &summary.latency {
            tr {
                th scope="row" { (clean(&of.step)) }
                (number(&time(of.latency.p50)))
                (number(&time(of.latency.p90)))
                (number(&time(of.latency.p99)))
                (number(&time(of.latency.most)))
                (number(&human::count(of.latency.count.into())))
            }
        }
    };
    let slow = html! {
        @for slow in &summary.slowest {
            tr {
                td class="t" { (slow.batch.at.format("%m-%d %H:%M:%S").to_string()) }
                th scope="row" { (clean(&slow.step)) }
                (number(&time(slow.batch.took)))
                (number(&human::count(slow.batch.rows)))
                (number(&slow.batch.segment.to_string()))
                (words(&range(slow.batch.from.as_deref(), slow.batch.to.as_deref())))
            }
        }
    };
    let times =
        [("step", false), ("half", true), ("9 of 10", true), ("99 of 100", true), ("longest", true), ("counted", true)];
    let slowest =
        [("ended", false), ("step", false), ("took", true), ("rows", true), ("segment", true), ("keys", false)];
    let plans: Vec<_> =
        summary.slowest.iter().filter_map(|slow| Some((slow, slow.batch.plan.as_ref()?))).take(5).collect();
    html! {
        (table("How long batches took: no longer than this. Of the last 1,024 of each step.", &times, &latency, None))
        h3 { "The slowest" }
        (table("From the start of the transaction to its commit", &slowest, &slow, None))
        @for (slow, plan) in plans {
            details {
                summary { "The plan of the one that took " (time(slow.batch.took)) }
                pre { (clean_lines(plan)) }
            }
        }
    }
}

/// A range of keys in words.
#[must_use]
pub fn range(from: Option<&str>, to: Option<&str>) -> String {
    match (from, to) {
        (None, None) => "all".to_owned(),
        (None, Some(to)) => format!("up to {to}"),
        (Some(from), None) => format!("after {from}"),
        (Some(from), Some(to)) => format!("after {from} up to {to}"),
    }
}

/// The governor's signals at their worst.
#[must_use]
pub fn signals(dossier: &Dossier) -> Markup {
    let signals = &dossier.summary.signals;
    if signals.is_empty() {
        return html! { p class="dim" { "Not measured: no signal was read." } };
    }
    let rows = html! {
        @for worst in signals {
            tr {
                th scope="row" { (clean(&worst.signal)) }
                td class="n" { (clean(&worst.value)) }
                td class="n" { (clean(worst.slow.as_deref().unwrap_or("—"))) }
                td { (does(worst.effect)) }
                td class="t" { (worst.at.format("%m-%d %H:%M:%S").to_string()) }
            }
        }
    };
    let headings = [("signal", false), ("worst", true), ("slow at", true), ("what it did", false), ("when", false)];
    table("What the governor looked at between batches", &headings, &rows, None)
}

fn does(effect: pace::Effect) -> &'static str {
    crate::run::why::does(effect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::long;

    #[test]
    fn the_table_of_steps_leaves_out_what_no_step_has() {
        let mut dossier = long();
        let page = steps(&dossier).into_string();
        for heading in ["own time", "changed", "batches"] {
            assert!(page.contains(&format!(">{heading}</th>")), "{heading}: {page}");
        }
        for heading in ["retries", "aside", "HOT", "dead rows"] {
            assert!(!page.contains(&format!(">{heading}</th>")), "{heading}: {page}");
        }
        assert!(!page.contains("rows quarantined"), "what is not shown is not explained");
        dossier.report.steps[1].quarantined = 2;
        let page = steps(&dossier).into_string();
        assert!(page.contains(">aside</th>") && page.contains("aside: rows quarantined"), "{page}");
    }
}
