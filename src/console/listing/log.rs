//! The lines of the log, the newest last.

use super::events::is_shown;
use super::{Row, filter, keyed};
use crate::console::view::Scene;
use crate::run::details::LogLine;
use crate::run::text::clean;

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<&'a LogLine>> {
    let list = &scene.ui.lists.log;
    let Some(log) = scene.details.log.value() else { return Vec::new() };
    let mut rows = keyed(&log.lines, |line| line.no.to_string());
    rows.retain(|row| is_shown(row.of.level, list.level));
    filter(&mut rows, list, |line| vec![clean(&line.text).into_owned(), line.level.word().to_owned()]);
    rows
}
