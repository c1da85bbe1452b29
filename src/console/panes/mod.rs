//! One file a pane: all of how it looks, and nothing else.

pub(crate) mod alerts;
pub(crate) mod checkpoints;
pub(crate) mod confirm;
pub(crate) mod dialogue;
pub(crate) mod governor;
pub(crate) mod header;
pub(crate) mod help;
pub(crate) mod hints;
mod hold;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod resources;
pub(crate) mod tables;

use chrono::{DateTime, Utc};
use ratatui::text::Line;

use super::canvas::Canvas;
use super::theme::Role;
use crate::run::text::clean;
use crate::run::vitals::Reading;

/// The time of day, in UTC.
fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// What stands in the place of a reading that is not there.
fn missing<T>(canvas: &Canvas<'_>, reading: &Reading<T>) -> Option<Line<'static>> {
    match reading {
        Reading::Value(_) => None,
        Reading::Pending => {
            Some(Line::from(canvas.span(Role::Dim, format!("{} not measured yet", canvas.theme().glyphs.none))))
        }
        Reading::Unavailable(why) => {
            Some(Line::from(canvas.span(Role::Warning, format!("unavailable: {}", clean(why)))))
        }
    }
}
