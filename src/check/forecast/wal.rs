//! How much WAL a run would write.
//!
//! What trials wrote is scaled to all rows, full page images apart: a page is written whole once after each checkpoint,
//! so that all of them together cannot be more than there are pages, for each checkpoint that comes meanwhile.

use super::pace::Course;
use super::{Foreseen, Given, judged, real, share};
use crate::check::rehearsal::{Look, Trial};

/// Bytes of a page image, where trials do not tell: a page of 8 KiB without its hole.
const IMAGE: f64 = 7_000.0;
/// Bytes that the record of a batch takes: its cursor, its commit.
const RECORD: f64 = 600.0;
/// What is not seen in trials: vacuum, checkpoints, rows that are larger elsewhere.
const UNSEEN: f64 = 1.15;

pub(super) struct WalForecast {
    pub(super) bytes: Foreseen<f64>,
    pub(super) of_full_pages: f64,
}

/// Bytes that a trial wrote. What triggers write after the statement is in no node of its plan: where some fired, all that
/// the server wrote meanwhile counts.
fn bytes(trial: &Trial) -> f64 {
    let own =
        trial.explained.as_ref().filter(|explained| explained.triggers.is_empty()).map(|explained| explained.wal.bytes);
    real(own.unwrap_or(trial.wal_passed))
}

fn images(trial: &Trial) -> f64 {
    trial.explained.as_ref().map_or(0.0, |explained| real(explained.wal.full_pages))
}

pub(super) fn forecast(given: &Given<'_>, changed: Foreseen<f64>, course: &Course) -> WalForecast {
    let trials = judged(given.trials, |trial| match trial.look {
        Look::Plain => None,
        Look::Counted | Look::Close => Some(()),
    });
    let rows: f64 = trials.iter().map(|trial| real(trial.changed)).sum();
    let all: f64 = trials.iter().map(|trial| bytes(trial)).sum();
    let images: f64 = trials.iter().map(|trial| images(trial)).sum();
    let image = image(given.trials).min(share(all, images).max(64.0));
    let row = share((all - images * image).max(0.0), rows);
    let records = real(course.batches) * RECORD;
    let mut checkpoints = 1.0;
    let mut of_full_pages = 0.0;
    // More WAL brings more checkpoints, which bring more WAL.
    for _ in 0..3 {
        let most = pages(given, checkpoints);
        of_full_pages = (share(images, rows) * changed.likely).min(most) * image;
        let wal = row * changed.likely + of_full_pages + records;
        let by_size = share(wal, real(given.around.max_wal_size) / 2.0);
        let by_time = share(course.duration.likely.as_secs_f64(), given.around.checkpoint_timeout.as_secs_f64());
        checkpoints = 1.0 + by_size.max(by_time).floor();
    }
    let every_page = if given.around.full_page_writes { pages(given, checkpoints) * image } else { 0.0 };
    let likely = row * changed.likely + of_full_pages + records;
    WalForecast {
        bytes: Foreseen {
            // Pages may have been written whole just before.
            least: (row * changed.least + records + of_full_pages / 2.0).min(likely * 0.9),
            likely,
            most: ((row * changed.most + records) * UNSEEN + of_full_pages.max(every_page)).max(likely * UNSEEN),
        },
        of_full_pages,
    }
}

/// Pages that can be written whole: those of the table once, those of its indexes after each checkpoint anew.
fn pages(given: &Given<'_>, checkpoints: f64) -> f64 {
    let indexes: u64 = given.table.indexes.iter().map(|index| index.pages).sum();
    real(given.table.pages) + real(indexes) * checkpoints
}

/// Bytes of a page image, by trials that were repeated on the same rows: their pages had been written whole already.
fn image(trials: &[Trial]) -> f64 {
    let (mut bytes_less, mut images_less) = (0.0, 0.0);
    for again in trials.iter().filter(|trial| trial.is_repeated) {
        let first = trials.iter().find(|first| {
            !first.is_repeated
                && first.at == again.at
                && first.part == again.part
                && first.walked == again.walked
                && first.look == again.look
        });
        let Some(first) = first else { continue };
        let (fewer, less) = (images(first) - images(again), bytes(first) - bytes(again));
        if fewer > 0.0 && less > 0.0 {
            bytes_less += less;
            images_less += fewer;
        }
    }
    if images_less >= 4.0 { (bytes_less / images_less).clamp(64.0, 8_300.0) } else { IMAGE }
}
