//! The report of one run as one HTML page.

use maud::{Markup, PreEscaped, html};

use super::chart::Undrawn;
use super::course::{Course, FIGURES, figure};
use super::page::{card, fact, number, page, table};
use super::sheet::LEGEND;
use super::{deeds, lost, record};
use crate::run::dossier::Dossier;
use crate::run::human;
use crate::run::text::{clean, clean_lines};

/// Rows of the table of figures at most.
const FIGURE_ROWS: i64 = 60;

/// The report of a run.
///
/// # Errors
/// A chart cannot be drawn.
pub fn html(dossier: &Dossier) -> Result<String, Undrawn> {
    let report = &dossier.report;
    let body = html! {
        (headline(dossier))
        (course(dossier)?)
        section aria-labelledby="steps" { h2 id="steps" { "Steps" } (deeds::steps(dossier)) }
        section aria-labelledby="lost" {
            h2 id="lost" { "Where the time went" }
            figure {
                (PreEscaped(lost::svg(report)?))
                figcaption { "Waits are part of the time at work; pauses are not." }
            }
            (lost_table(dossier))
        }
        section aria-labelledby="slow" { h2 id="slow" { "Batches" } (deeds::batches(dossier)) }
        section aria-labelledby="aside" { h2 id="aside" { "Retries and quarantine" } (record::aside(dossier)) }
        section aria-labelledby="signals" { h2 id="signals" { "Signals at their worst" } (deeds::signals(dossier)) }
        section aria-labelledby="settings" { h2 id="settings" { "Settings" } (record::settings(dossier)) }
        section aria-labelledby="audit" { h2 id="audit" { "Who did what" } (record::audit(dossier)) }
        section aria-labelledby="events" { h2 id="events" { "Alerts and events" } (record::events(dossier)) }
    };
    let title = format!("{} · run {} · {}", report.plan, report.run, dossier.state);
    let read = dossier.read_at.format("%Y-%m-%d %H:%M:%S UTC");
    Ok(page(
        &title,
        &body,
        &format!("howdah {} · read from the ledger {read} · all times are UTC", env!("CARGO_PKG_VERSION")),
    ))
}

/// A state's glyph and tone.
#[must_use]
pub fn tone(state: &str) -> (&'static str, &'static str) {
    match state {
        "done" => ("✓", "good"),
        "failed" | "interrupted" => ("✗", "bad"),
        "running" | "starting" | "resuming" => ("●", "good"),
        "paused" | "pausing" => ("‖", "wait"),
        _ => ("■", "wait"),
    }
}

fn headline(dossier: &Dossier) -> Markup {
    let report = &dossier.report;
    let (glyph, tone) = tone(&dossier.state);
    let exit = dossier.exit_code().map(|code| code.to_string());
    let at = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
    let hosts = hosts(dossier);
    let until = if report.finished_at.is_some() { "from start to end" } else { "since it began" };
    let rate = report.rows_per_second.map_or_else(|| "—".to_owned(), human::rate);
    let zero = |time: std::time::Duration| if time.is_zero() { "0s".to_owned() } else { human::duration(time) };
    html! {
        header {
            h1 { (clean(&report.plan)) }
            p {
                span class=(format!("badge {tone}")) { (glyph) " " (dossier.state.to_uppercase()) }
                span class="dim" { "run " code { (clean(&report.run)) } }
            }
            ul class="cards" {
                (card(&human::count(report.rows_changed), "rows changed"))
                (card(&dossier.took().map_or_else(|| "—".to_owned(), zero), until))
                (card(&zero(report.spent.worked), "at work"))
                (card(&rate, "rows a second of work"))
                (card(&human::count(report.batches), "batches"))
                (card(&zero(report.waited), "of it waited"))
                (card(&zero(report.spent.paused), "paused"))
                (card(&human::count(report.retries), "batches tried again"))
                (card(&human::count(report.quarantined), "rows quarantined"))
            }
            dl {
                (fact("database", Some(&report.server)))
                (fact("each row was changed", Some(report.guarantee.word())))
                (fact("began", at(report.started_at).as_deref()))
                (fact("ended", at(report.finished_at).as_deref()))
                (fact("its driver was heard of last", at(dossier.left_at()).as_deref()))
                (fact("driven from", Some(&hosts)))
                (fact("plan file", dossier.plan_path.as_deref()))
                (fact("takes back", dossier.undoes.as_deref()))
                @for (run, state) in &dossier.undone_by { (fact("taken back by", Some(&format!("{run} ({state})")))) }
                (fact("exit code", exit.as_deref()))
                (fact("howdah's own memory", peak(dossier).as_deref()))
                (fact("whole id", Some(&dossier.id)))
            }
            @if let Some(cause) = &report.cause {
                p class="bad" { b { "✗ " (clean(&cause.headline())) } }
                @if !cause.details.is_empty() { pre { (clean_lines(&cause.details.join("\n"))) } }
                @for hint in &cause.hints { p { "hint: " (clean(hint)) } }
            }
            @if let Some(command) = &report.resume_command { p { "To go on: " code { (clean(command)) } } }
        }
    }
}

fn hosts(dossier: &Dossier) -> String {
    let mut hosts: Vec<String> = Vec::new();
    for span in &dossier.summary.drivers {
        if !hosts.contains(&span.host) {
            hosts.push(span.host.clone());
        }
    }
    if hosts.is_empty() {
        hosts.push(dossier.driver.host.clone());
    }
    hosts.join(", ")
}

fn peak(dossier: &Dossier) -> Option<String> {
    let peak = dossier.summary.peak_rss;
    (peak > 0).then(|| format!("at most {}", human::ByteSize(peak)))
}

fn course(dossier: &Dossier) -> Result<Markup, Undrawn> {
    let Some(course) = Course::of(dossier) else {
        let why = dossier.no_samples.unwrap_or("the run was over before anything was measured");
        return Ok(html! {
            section aria-labelledby="course" { h2 id="course" { "Course" } p class="dim" { "Not measured: " (why) "." } }
        });
    };
    let svgs = course.svgs()?;
    Ok(html! {
        section aria-labelledby="course" {
            h2 id="course" { "Course" }
            @for svg in &svgs { figure { (PreEscaped(svg)) } }
            p class="dim small" { (LEGEND) }
            details {
                summary { "The figures of these charts as a table" }
                (figures(dossier))
            }
        }
    })
}

fn figures(dossier: &Dossier) -> Markup {
    let samples = super::marks::columns(&dossier.samples, FIGURE_ROWS);
    let step = samples.iter().map(|sample| sample.step).max().unwrap_or(1);
    let span = human::rough_duration(std::time::Duration::from_secs(step.max(1).cast_unsigned()));
    let mut headings = vec![("from (UTC)", false)];
    headings.extend(FIGURES.iter().map(|(heading, ..)| (*heading, true)));
    headings.push(("marks", false));
    let rows = html! {
        @for sample in &samples {
            tr {
                th scope="row" class="t" {
                    (chrono::DateTime::from_timestamp(sample.at, 0).unwrap_or_default().format("%m-%d %H:%M:%S").to_string())
                }
                @for (_, unit, value) in &FIGURES {
                    (number(&value(sample).map_or_else(|| "—".to_owned(), |value| figure(value, *unit))))
                }
                td {
                    @if sample.paused_s > 0 { "paused " (sample.paused_s) "s " }
                    @if sample.waits_s > 0 {
                        "waited " (sample.waits_s) "s"
                        @if let Some(waits) = &sample.waits { " for " (clean(waits)) }
                        " "
                    }
                    @if let Some(level) = sample.alert { "alert " (level.word()) }
                }
            }
        }
    };
    table(
        &format!("Each row spans {span}: means of rows, batches and CPU, the most of the rest."),
        &headings,
        &rows,
        None,
    )
}

fn lost_table(dossier: &Dossier) -> Markup {
    let shares = lost::shares(&dossier.report);
    let all = dossier.report.spent.total().as_secs_f64();
    let rows = html! {
        @for share in &shares {
            tr {
                th scope="row" { (clean(&share.what)) }
                (number(&human::duration(share.time)))
                (number(&if all > 0.0 { format!("{:.1}%", share.time.as_secs_f64() * 100.0 / all) } else { "—".to_owned() }))
            }
        }
    };
    html! {
        details {
            summary { "As a table" }
            (table("Time of the run, over all its drivers", &[("what", false), ("time", true), ("share", true)], &rows, None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::long;

    #[test]
    fn the_longest_course_makes_a_page_of_less_than_a_megabyte_and_says_what_was_not_measured() {
        let dossier = long();
        assert_eq!(dossier.samples.len(), crate::run::sample::SAMPLES);
        let page = html(&dossier).unwrap();
        assert!(page.len() < 1 << 20, "{} bytes", page.len());
        // The lag alone: nobody read it.
        assert_eq!(page.matches("\nnot measured\n").count(), 1);
        let sheet = crate::report::svg(&dossier).unwrap();
        assert!(sheet.len() < 1 << 19, "{} bytes", sheet.len());
        assert!(page.contains("not driven") && sheet.contains("not driven"));
    }

    #[test]
    fn a_run_whose_driver_is_gone_ends_at_its_last_heartbeat() {
        let mut dossier = long();
        let began = dossier.report.started_at.unwrap();
        (dossier.report.finished_at, dossier.state) = (None, "interrupted".to_owned());
        dossier.seen_at = began + chrono::TimeDelta::seconds(600);
        assert_eq!(dossier.took(), Some(std::time::Duration::from_mins(10)));
        assert!(html(&dossier).unwrap().contains("its driver was heard of last"));
        dossier.state = "running".to_owned();
        assert_eq!(dossier.took(), (dossier.read_at - began).to_std().ok());
    }

    #[test]
    fn names_from_outside_are_escaped_and_cleaned_everywhere() {
        let dossier = long();
        let both = super::super::Comparison::of(dossier.clone(), dossier.clone());
        for made in [html(&dossier), crate::report::svg(&dossier), both.html(), both.svg()] {
            let made = made.unwrap();
            assert!(!made.contains("<script") && !made.contains('\u{1b}') && !made.contains("<b>x"), "{made}");
        }
        assert!(both.text().contains("×1.00") && !both.text().contains('\u{1b}'));
    }
}
