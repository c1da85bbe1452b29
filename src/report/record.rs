//! The record of a run: what was set aside, what was in force, who did what, what happened.

use maud::{Markup, html};

use super::page::{fact, number, table, words};
use crate::run::dossier::Dossier;
use crate::run::text::{clean, clean_lines};
use crate::run::{Event, EventKind, Level, human};

/// Letters of a plan that are shown at most.
const PLAN: usize = 60_000;

/// Batches that were tried again, and rows that were set aside.
#[must_use]
pub fn aside(dossier: &Dossier) -> Markup {
    let report = &dossier.report;
    let retried = dossier.events.iter().filter(|event| event.kind == EventKind::Retried);
    let retried: Vec<&Event> = retried.rev().take(10).collect();
    let reasons = html! {
        @for reason in &dossier.aside {
            tr {
                th scope="row" { (clean(reason.sqlstate.as_deref().unwrap_or("—"))) }
                (number(&human::count(reason.open)))
                (number(&human::count(reason.resolved)))
                (words(&reason.example))
            }
        }
    };
    let rows = html! {
        @for row in &dossier.aside_rows {
            tr {
                td class="t" { (row.at.format("%m-%d %H:%M:%S").to_string()) }
                th scope="row" { (clean(&row.step)) }
                (words(&row.key.join(", ")))
                td { (clean(row.sqlstate.as_deref().unwrap_or("—"))) }
                (words(&row.message))
            }
        }
    };
    let by_reason = [("SQLSTATE", false), ("set aside", true), ("resolved since", true), ("for example", false)];
    let newest = [("when", false), ("step", false), ("key", false), ("SQLSTATE", false), ("error", false)];
    html! {
        p {
            @match report.retries {
                0 => "No batch was tried again.",
                n => { (human::count(n)) (if n == 1 { " batch was" } else { " batches were" }) " tried again." }
            }
            " "
            @match report.quarantined {
                0 => "No row is set aside.",
                n => { (human::rows(n)) (if n == 1 { " is" } else { " are" }) " set aside because the data is wrong." }
            }
        }
        @if !retried.is_empty() {
            (events_table("Retries, the newest first", retried.into_iter()))
        }
        @if !dossier.aside.is_empty() {
            h3 { "Why rows were set aside" }
            (table("By the server's error code", &by_reason, &reasons, None))
            (table("The newest of them", &newest, &rows, None))
        }
        @if let Some(command) = &report.quarantine_command { p { "All of them: " code { (clean(command)) } } }
    }
}

/// What was in force.
#[must_use]
pub fn settings(dossier: &Dossier) -> Markup {
    let source: String = clean_lines(&dossier.plan_source).chars().take(PLAN).collect();
    html! {
        @if dossier.settings.is_empty() {
            p class="dim" { "The limits in force are not told: the plan cannot be read here." }
        } @else {
            dl { @for (name, value) in &dossier.settings { (fact(name, Some(value))) } }
            p class="dim small" { "As the plan has them; what was changed while it ran stands below." }
        }
        details {
            summary { "The plan, as the ledger keeps it" }
            pre { (source) }
        }
    }
}

/// Who drove the run, and what was asked of it.
#[must_use]
pub fn audit(dossier: &Dossier) -> Markup {
    let drivers = html! {
        @for span in &dossier.summary.drivers {
            tr {
                (number(&span.epoch.to_string()))
                th scope="row" { (clean(&span.host)) }
                (number(&span.pid.to_string()))
                td { (clean(&span.version)) }
                td class="t" { (span.from.format("%m-%d %H:%M:%S").to_string()) }
                td class="t" { (span.to.format("%m-%d %H:%M:%S").to_string()) }
                td { (clean(&span.state)) }
            }
        }
    };
    let commands = html! {
        @for asked in &dossier.commands {
            tr {
                td class="t" { (asked.at.format("%m-%d %H:%M:%S").to_string()) }
                th scope="row" { (clean(&asked.words)) }
                (words(&asked.who))
                td { (clean(&asked.via)) }
                (words(&match &asked.client {
                    Some(client) => format!("{} from {client}", asked.role),
                    None => asked.role.clone(),
                }))
                td { (clean(&asked.state)) }
                (words(asked.outcome.as_deref().unwrap_or_default()))
            }
        }
    };
    let who = [
        ("epoch", true),
        ("host", false),
        ("process", true),
        ("howdah", false),
        ("from", false),
        ("to", false),
        ("left it", false),
    ];
    let what = [
        ("when", false),
        ("asked for", false),
        ("who", false),
        ("by way of", false),
        ("role", false),
        ("answer", false),
        ("what came of it", false),
    ];
    html! {
        @if !dossier.summary.drivers.is_empty() {
            (table("Who drove it: each takeover raises the epoch. One that was killed left it as it was seen last.", &who, &drivers, None))
        }
        @if dossier.commands.is_empty() {
            p class="dim" { "Nothing was asked of it while it ran." }
        } @else {
            h3 { "Commands" }
            @if dossier.earlier_commands > 0 { p class="dim" { (human::count(dossier.earlier_commands)) " earlier ones are left out." } }
            (table("As `howdah.command` has them", &what, &commands, None))
        }
    }
}

/// What happened, alerts first.
#[must_use]
pub fn events(dossier: &Dossier) -> Markup {
    let is_alert = |event: &&Event| matches!(event.kind, EventKind::AlertRaised | EventKind::AlertCleared);
    let alerts: Vec<&Event> = dossier.events.iter().filter(is_alert).collect();
    html! {
        @if alerts.is_empty() {
            p { "No alert was raised." }
        } @else {
            (events_table("Alerts", alerts.into_iter()))
        }
        details {
            summary { "All " (human::count(dossier.events.len() as u64)) " events" }
            @if dossier.earlier_events > 0 { p class="dim" { (human::count(dossier.earlier_events)) " earlier ones are left out." } }
            (events_table("Oldest first", dossier.events.iter()))
        }
    }
}

fn events_table<'a>(caption: &str, events: impl Iterator<Item = &'a Event>) -> Markup {
    let rows = html! {
        @for event in events {
            tr {
                td class="t" { (event.at.format("%m-%d %H:%M:%S").to_string()) }
                td class=(tone(event.level)) { (glyph(event.level)) " " (event.level.word()) }
                td { (event.kind.name().replace('_', " ")) }
                (words(&event.text))
            }
        }
    };
    table(caption, &[("when", false), ("level", false), ("kind", false), ("what", false)], &rows, None)
}

fn glyph(level: Level) -> &'static str {
    match level {
        Level::Info => "·",
        Level::Warning => "▲",
        Level::Critical => "✗",
    }
}

fn tone(level: Level) -> &'static str {
    match level {
        Level::Info => "",
        Level::Warning => "wait",
        Level::Critical => "bad",
    }
}
