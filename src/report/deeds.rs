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

/// The steps, as checkpoints.
#[must_use]
pub fn steps(dossier: &Dossier) -> Markup {
    let report = &dossier.report;
    let headings = [
        ("step", false),
        ("state", false),
        ("own time", true),
        ("at", true),
        ("changed", true),
        ("rows/s", true),
        ("batches", true),
        ("retries", true),
        ("aside", true),
        ("waited", true),
        ("HOT", true),
        ("dead rows", true),
    ];
    let rows = html! {
        @for step in &report.steps {
            @let began = step.state != StepState::Waiting;
            @let told = |n: u64| if began { human::count(n) } else { "—".to_owned() };
            tr {
                th scope="row" {
                    (clean(&step.name))
                    span class="under" {
                        (step.kind)
                        @if let Some(outcome) = &step.outcome { ": " (clean(outcome)) }
                    }
                }
                td class="t" { (mark(step.state)) " " (step.state.word()) }
                (number(&if began { time(step.spent.worked) } else { "—".to_owned() }))
                (number(&or_dash(step.ended_after.map(time))))
                (number(&told(step.rows_changed)))
                (number(&or_dash(step.rows_per_second.map(human::rate))))
                (number(&told(step.batches)))
                (number(&told(step.retries)))
                (number(&told(step.quarantined)))
                (number(&if began { time(step.waited) } else { "—".to_owned() }))
                (number(&or_dash(step.churn.and_then(|churn| churn.hot_percent()).map(|hot| format!("{:.0}%", hot.floor())))))
                (number(&or_dash(dead(step))))
            }
        }
    };
    let foot = html! {
        tr {
            th scope="row" { "total" }
            td {}
            (number(&time(report.spent.worked)))
            (number(&time(report.spent.total())))
            (number(&human::count(report.rows_changed)))
            (number(&or_dash(report.rows_per_second.map(human::rate))))
            (number(&human::count(report.batches)))
            (number(&human::count(report.retries)))
            (number(&human::count(report.quarantined)))
            (number(&time(report.waited)))
            td {} td {}
        }
    };
    html! {
        (table("Checkpoints", &headings, &rows, Some(&foot)))
        p class="dim small" {
            "own time: at work; at: from the run's start to the step's end, work and pause; aside: rows quarantined; HOT: updates \
             that touched no index; dead rows: made, by the server's statistics"
        }
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
