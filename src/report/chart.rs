//! One chart of a run over time, painted by plotters into an area of an SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{self, Ticks, Unit};
use super::colour::{ALERT, DIM, FIRST, GRID, INK, PAUSE, SECOND, STEP, WAIT};
use super::marks::{Marks, Why};
use super::scale::Scale;
use crate::run::text::clean;

/// Columns that a chart's plot has at most: as many as it has pixels, about.
pub const COLUMNS: i64 = 760;
/// The width of a chart.
pub const WIDTH: u32 = 900;
/// The height of a chart.
pub const HEIGHT: u32 = 178;

const FONT: &str = "system-ui, sans-serif";
/// plotters' sizes are 1.24 times those of SVG.
const TITLE: f64 = 16.5;
const LABEL: f64 = 14.0;
const LEFT: u32 = 62;
/// Room for half of a time of day, which may stand at the very end of its axis.
const RIGHT: u32 = 30;
const BOTTOM: u32 = 24;
const TOP: u32 = 34;

/// A chart could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a chart cannot be drawn: {0}")]
pub struct Undrawn(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for Undrawn {
    fn from(e: DrawingAreaErrorKind<E>) -> Self {
        Self(e.to_string())
    }
}

/// An area of an SVG.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its stretches: time in seconds, value. A gap lies between two of them.
    pub stretches: Vec<Vec<(f64, f64)>>,
    /// Which of the chart's curves it is.
    pub look: Look,
}

/// How a curve is drawn, so that it can be told apart without its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A line, and the area below it.
    Filled,
    /// A line.
    Solid,
    /// A dashed line of the second colour.
    Dashed,
}

/// One chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Its title, with the unit.
    pub title: String,
    /// What its values are.
    pub unit: Unit,
    /// Its curves, in the order in which they are drawn.
    pub curves: Vec<Curve>,
    /// What is said where nothing was measured.
    pub empty: String,
}

/// The time axis that charts share.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The first second.
    pub from: i64,
    /// The last.
    pub to: i64,
    /// Its ticks.
    pub ticks: Ticks,
}

impl Frame {
    /// By the time of day.
    #[must_use]
    pub fn of_day(from: i64, to: i64) -> Self {
        let to = to.max(from + 1);
        Self { from, to, ticks: axis::of_times(from, to, 8) }
    }

    /// By the time since a beginning.
    #[must_use]
    pub fn since_start(to: i64) -> Self {
        let to = to.max(1);
        Self { from: 0, to, ticks: axis::of_elapsed(to, 8) }
    }
}

impl Chart {
    fn is_empty(&self) -> bool {
        self.curves.iter().all(|curve| curve.stretches.iter().all(Vec::is_empty))
    }

    fn most(&self) -> f64 {
        let values = self.curves.iter().flat_map(|curve| curve.stretches.iter().flatten());
        values.map(|(_, value)| *value).filter(|value| value.is_finite()).fold(0.0, f64::max)
    }

    /// Draws it. `named`: whether the ends of steps have their names.
    ///
    /// # Errors
    /// The drawing library refuses.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    pub fn draw(&self, area: &Area<'_>, frame: &Frame, marks: &Marks, named: bool) -> Result<(), Undrawn> {
        self.head(area)?;
        let values = axis::of_values(self.most(), self.unit, 3);
        let x = Scale { range: frame.from as f64..frame.to as f64, ticks: frame.ticks.values() };
        let y = Scale { range: 0.0..values.end, ticks: values.values() };
        let mut chart = ChartBuilder::on(area)
            .margin_top(TOP)
            .margin_right(RIGHT)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(x, y)?;
        let label = || (FONT, LABEL).into_font().color(&DIM);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .axis_style(DIM)
            .label_style(label())
            .x_label_formatter(&|at| frame.ticks.label(*at))
            .y_label_formatter(&|value| values.label(*value))
            .draw()?;
        let inside = |at: i64| (frame.from..=frame.to).contains(&at);
        for band in &marks.bands {
            let (from, to) = (band.from.max(frame.from) as f64, band.to.min(frame.to) as f64);
            if to <= from {
                continue;
            }
            let (colour, strength) = match band.why {
                Why::Paused => (PAUSE, 0.28),
                Why::Waited => (WAIT, 0.22),
                Why::Undriven => (PAUSE, 0.10),
            };
            let (low, high) = ((from, 0.0), (to, values.end));
            chart.draw_series([Rectangle::new([low, high], colour.mix(strength).filled())])?;
            // On the axis itself as well: a short one is not lost among the curves.
            if band.why != Why::Undriven {
                let strip = (to, values.end * 0.035);
                chart.draw_series([Rectangle::new([low, strip], colour.filled())])?;
            }
        }
        for (at, _) in marks.steps.iter().filter(|(at, _)| inside(*at)) {
            let line = [(*at as f64, 0.0), (*at as f64, values.end)];
            chart.draw_series(DashedLineSeries::new(line, 2, 3, STEP.stroke_width(1)))?;
        }
        for curve in &self.curves {
            for stretch in curve.stretches.iter().filter(|stretch| !stretch.is_empty()) {
                let points = stretch.iter().copied();
                match curve.look {
                    Look::Filled => {
                        chart.draw_series(
                            AreaSeries::new(points, 0.0, FIRST.mix(0.18)).border_style(FIRST.stroke_width(2)),
                        )?;
                    }
                    Look::Solid => {
                        chart.draw_series(LineSeries::new(points, FIRST.stroke_width(2)))?;
                    }
                    Look::Dashed => {
                        chart.draw_series(DashedLineSeries::new(points, 5, 3, SECOND.stroke_width(1)))?;
                    }
                }
                if let [alone] = stretch.as_slice() {
                    let colour = if curve.look == Look::Dashed { SECOND } else { FIRST };
                    chart.draw_series([Circle::new(*alone, 2, colour.filled())])?;
                }
            }
        }
        let triangle = |at: i64| TriangleMarker::new((at as f64, values.end * 0.93), 5, ALERT.filled());
        chart.draw_series(marks.alerts.iter().filter(|(at, _)| inside(*at)).map(|(at, _)| triangle(*at)))?;
        let (across, down) = chart.plotting_area().get_pixel_range();
        let (base_x, base_y) = area.get_base_pixel();
        let across = across.start - base_x..across.end - base_x;
        let down = down.start - base_y..down.end - base_y;
        if named {
            step_names(area, frame, marks, &across, down.start)?;
        }
        band_words(area, frame, marks, &across, down.start)?;
        if self.is_empty() {
            let style = styled(LABEL, DIM, HPos::Center);
            let middle = (i32::midpoint(across.start, across.end), i32::midpoint(down.start, down.end));
            area.draw(&Text::new(self.empty.clone(), middle, style))?;
        }
        Ok(())
    }

    /// Its title, and what its curves are.
    fn head(&self, area: &Area<'_>) -> Result<(), Undrawn> {
        let title = (FONT, TITLE).into_font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Top));
        area.draw(&Text::new(self.title.clone(), (8, 4), title))?;
        if self.is_empty() {
            return Ok(());
        }
        let (width, _) = area.dim_in_pixel();
        let mut right = i32::try_from(width).unwrap_or(0) - i32::try_from(RIGHT).unwrap_or(0);
        for curve in self.curves.iter().rev() {
            let style = styled(LABEL, DIM, HPos::Right);
            area.draw(&Text::new(curve.name.clone(), (right, 12), style))?;
            right -= wide(&curve.name) + 14;
            let line = vec![(right - 24, 12), (right, 12)];
            match curve.look {
                Look::Filled | Look::Solid => area.draw(&PathElement::new(line, FIRST.stroke_width(2)))?,
                Look::Dashed => {
                    for at in [24, 16, 8] {
                        let dash = vec![(right - at, 12), (right - at + 5, 12)];
                        area.draw(&PathElement::new(dash, SECOND.stroke_width(2)))?;
                    }
                }
            }
            right -= 24 + 18;
        }
        Ok(())
    }
}

fn styled(size: f64, colour: RGBColor, across: HPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour).pos(Pos::new(across, VPos::Center))
}

/// About how wide a text of labels is, in pixels.
fn wide(text: &str) -> i32 {
    i32::try_from(unicode_width::UnicodeWidthStr::width(text)).unwrap_or(0) * 13 / 2
}

/// Where a moment lies across an area.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a pixel")]
fn place(frame: &Frame, across: &Range<i32>, at: i64) -> i32 {
    let share = (at - frame.from) as f64 / (frame.to - frame.from).max(1) as f64;
    across.start + (f64::from(across.end - across.start) * share.clamp(0.0, 1.0)).round() as i32
}

/// The names of steps, left of the line at which each ended, as far as there is room.
fn step_names(area: &Area<'_>, frame: &Frame, marks: &Marks, across: &Range<i32>, top: i32) -> Result<(), Undrawn> {
    let mut free = across.start;
    for (at, name) in marks.steps.iter().filter(|(at, _)| (frame.from..=frame.to).contains(at)) {
        let right = place(frame, across, *at) - 3;
        let room = usize::try_from((right - free) * 2 / 15).unwrap_or(0);
        free = right + 6;
        if room < 3 {
            continue;
        }
        let name = clean(name);
        let shown: String = if name.chars().count() > room {
            name.chars().take(room - 1).chain(['…']).collect()
        } else {
            name.into_owned()
        };
        area.draw(&Text::new(shown, (right, top + 8), styled(LABEL, STEP, HPos::Right)))?;
    }
    Ok(())
}

/// What a band is, where it is wide enough.
fn band_words(area: &Area<'_>, frame: &Frame, marks: &Marks, across: &Range<i32>, top: i32) -> Result<(), Undrawn> {
    for band in &marks.bands {
        let (from, to) = (place(frame, across, band.from), place(frame, across, band.to));
        let word = band.why.word();
        if to - from > wide(word) + 4 {
            let middle = (i32::midpoint(from, to), top + 24);
            area.draw(&Text::new(word, middle, styled(LABEL, INK, HPos::Center)))?;
        }
    }
    Ok(())
}

/// An SVG of that size, drawn by `draw`. `title` and `description` are for who cannot see it.
///
/// # Errors
/// The drawing library refuses.
pub fn svg(
    (width, height): (u32, u32),
    title: &str,
    description: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Undrawn>,
) -> Result<String, Undrawn> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(described(&text, width, height, title, description))
}

/// Gives an SVG its name, and lets it shrink with the page.
fn described(text: &str, width: u32, height: u32, title: &str, description: &str) -> String {
    let body = text.split_once('>').map_or("", |(_, body)| body);
    let (title, description) = (escaped(title), escaped(description));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<desc>{description}</desc>{body}"
    )
}

fn escaped(text: &str) -> String {
    clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
