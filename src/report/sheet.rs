//! The charts of a run on one sheet: an SVG that stands for itself.

use plotters::prelude::*;

use super::chart::{self, Undrawn};
use super::colour::{self, DIM, INK};
use super::course::Course;
use crate::run::dossier::Dossier;
use crate::run::human;
use crate::run::text::clean;

const FONT: &str = "system-ui, sans-serif";
/// The height of what stands above the charts.
const HEAD: u32 = 58;
/// The height of the legend below them.
const FOOT: u32 = 30;

/// What the marks of charts mean.
pub const LEGEND: &str = "grey span: paused on request · yellow span: batches waited · pale span: nobody drove it · \
    ▲ an alert was raised · dashed upright: a step ended · times are UTC";

/// The charts of a run as one SVG.
///
/// # Errors
/// The drawing library refuses.
pub fn svg(dossier: &Dossier) -> Result<String, Undrawn> {
    let course = Course::of(dossier);
    let charts = course.as_ref().map_or(0, |course| u32::try_from(course.charts.len()).unwrap_or(0));
    let height = HEAD + charts * chart::HEIGHT + FOOT;
    let report = &dossier.report;
    let title = format!("{} — run {}, {}", clean(&report.plan), clean(&report.run), dossier.state);
    let began = report.started_at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC, ").to_string()).unwrap_or_default();
    let took = dossier.took().map(human::duration).unwrap_or_default();
    let facts = format!("{}, {began}{took}, {} changed", clean(&report.server), human::rows(report.rows_changed));
    let described = format!("The course of a run: {facts}");
    let text = chart::svg((chart::WIDTH, height), &title, &described, |area| {
        let (head, below) = area.split_vertically(HEAD);
        let big = (FONT, 21.0).into_font().style(FontStyle::Bold).color(&INK);
        head.draw(&Text::new(title.clone(), (8, 8), big))?;
        head.draw(&Text::new(facts.clone(), (8, 34), (FONT, 15.0).into_font().color(&DIM)))?;
        let (middle, foot) = below.split_vertically(charts * chart::HEIGHT);
        let Some(course) = &course else {
            let why = dossier.no_samples.unwrap_or("nothing was measured: the run was too short");
            foot.draw(&Text::new(why, (8, 6), (FONT, 15.0).into_font().color(&DIM)))?;
            return Ok(());
        };
        for (n, (area, chart)) in middle.split_evenly((course.charts.len(), 1)).iter().zip(&course.charts).enumerate() {
            chart.draw(area, &course.frame, &course.marks, n == 0)?;
        }
        foot.draw(&Text::new(LEGEND, (8, 8), (FONT, 13.0).into_font().color(&DIM)))?;
        Ok(())
    })?;
    // On a ground of its own: who opens the file alone sees it on white, or on black.
    let sheet = colour::sheet();
    let style = format!(
        "<style>.ground{{fill:#fff}}@media screen and (prefers-color-scheme:dark){{.ground{{fill:#14181d}}}}{sheet}</style>\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>"
    );
    Ok(text.replacen("</desc>", &format!("</desc>{style}"), 1))
}
