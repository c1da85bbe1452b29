//! Where the time of a run went: one bar for each reason.

use std::time::Duration;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{self, Unit};
use super::chart::{self, Undrawn};
use super::colour::{DIM, FIRST, GRID, INK, PAUSE, WAIT};
use super::scale::Scale;
use crate::run::human;
use crate::run::report::Report;
use crate::run::text::clean;

/// Reasons that have a bar of their own at most.
const BARS: usize = 12;
const BAR: u32 = 30;
const LEFT: u32 = 190;

/// What a share of a run's time went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The reason. Not cleaned.
    pub what: String,
    /// The time.
    pub time: Duration,
    /// What kind of time it is.
    pub kind: Kind,
}

/// What kind of time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Batches went on.
    Work,
    /// Batches waited for a reason.
    Wait,
    /// The run stood still.
    Pause,
}

/// Where the time went: work without waits, each wait, pauses.
#[must_use]
pub fn shares(report: &Report) -> Vec<Share> {
    let work = report.spent.worked.saturating_sub(report.waited);
    let mut shares = vec![Share { what: "at work".to_owned(), time: work, kind: Kind::Work }];
    let waits = report.waited_by_reason.iter().filter(|waited| !waited.time.is_zero());
    shares.extend(waits.map(|waited| Share { what: waited.reason.clone(), time: waited.time, kind: Kind::Wait }));
    if !report.spent.paused.is_zero() {
        shares.push(Share { what: "paused".to_owned(), time: report.spent.paused, kind: Kind::Pause });
    }
    shares
}

/// The bars, as an SVG.
///
/// # Errors
/// The drawing library refuses.
pub fn svg(report: &Report) -> Result<String, Undrawn> {
    let shares: Vec<Share> = shares(report).into_iter().take(BARS).collect();
    let most = shares.iter().map(|share| share.time.as_secs_f64()).fold(0.0, f64::max);
    let ticks = axis::of_values(most, Unit::Seconds, 4);
    let bars = u32::try_from(shares.len()).unwrap_or(1).max(1);
    let described: Vec<String> =
        shares.iter().map(|share| format!("{} {}", share.what, human::duration(share.time))).collect();
    let size = (chart::WIDTH, bars * BAR + 34);
    chart::svg(size, "Where the time went", &described.join(", "), |area| {
        let rows = f64::from(bars);
        let mut plot = ChartBuilder::on(area)
            .margin_top(6)
            .margin_right(90)
            .x_label_area_size(24)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(Scale { range: 0.0..ticks.end, ticks: ticks.values() }, 0.0..rows)?;
        let label = |colour: &RGBColor| ("system-ui, sans-serif", 14.0).into_font().color(colour);
        plot.configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(DIM)
            .label_style(label(&DIM))
            .x_label_formatter(&|value| ticks.label(*value))
            .draw()?;
        let mut top = rows;
        for share in &shares {
            let colour = match share.kind {
                Kind::Work => FIRST,
                Kind::Wait => WAIT,
                Kind::Pause => PAUSE,
            };
            let seconds = share.time.as_secs_f64();
            plot.draw_series([Rectangle::new([(0.0, top - 0.22), (seconds, top - 0.78)], colour.filled())])?;
            let (x, y) = plot.backend_coord(&(seconds, top - 0.5));
            let told = label(&INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(human::duration(share.time), (x + 6, y), told))?;
            let name: String = clean(&share.what).chars().take(28).collect();
            let to_the_left = label(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(name, (i32::try_from(LEFT).unwrap_or(0) - 8, y), to_the_left))?;
            top -= 1.0;
        }
        Ok(())
    })
}
