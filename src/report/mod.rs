//! Reports that are looked at: one HTML file, an SVG, two runs side by side. Text and the counts are [`crate::run::report`]'s.
//!
//! What is made here stands for itself: no font, no script, no picture comes from anywhere else. Words from outside are cleaned and
//! escaped.

pub mod axis;
pub mod chart;
pub mod colour;
pub mod compare;
pub mod course;
mod deeds;
mod html;
mod json;
pub mod lost;
pub mod marks;
mod page;
mod record;
#[cfg(test)]
mod samples;
mod scale;
mod sheet;
mod side_by_side;
mod text;

pub use chart::Undrawn;
pub use compare::Comparison;
pub use html::html;
pub use json::json;
pub use sheet::svg;
pub use text::text;
