//! A forecast as text.

use std::time::Duration;

use super::{Forecast, Foreseen};
use crate::run::text::clean;
use crate::run::{ByteSize, human};

/// Tables, indexes and locks that are told one by one.
const TOLD: usize = 12;

impl Forecast {
    /// As lines for people, cleaned.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            format!("rows          {} walked, {} changed", human::count(self.rows), counts(self.changed)),
            format!(
                "duration      {}, likely {}, with {}",
                durations(self.duration),
                human::rough_duration(self.duration.likely),
                if self.workers == 1 {
                    "1 worker".to_owned()
                } else {
                    format!("{} workers; how far more than one help was not measured", self.workers)
                }
            ),
            format!(
                "batches       about {}, {} each once their size has settled, {} each",
                human::count(self.batches),
                human::rows(self.batch_rows),
                human::duration(self.held)
            ),
            format!(
                "WAL           {}, likely {}, {} a second; {} of it full page images",
                sizes(self.wal),
                ByteSize(self.wal.likely),
                ByteSize(self.wal_per_second),
                ByteSize(self.wal_of_full_pages)
            ),
            format!(
                "table         grows by {}, likely {} (reckoned, not measured)",
                sizes(self.table_growth),
                ByteSize(self.table_growth.likely)
            ),
        ];
        lines.extend(self.index_growth.iter().take(TOLD).map(|(name, growth)| {
            format!("index         {} grows by {}, likely {}", clean(name), sizes(*growth), ByteSize(growth.likely))
        }));
        lines.extend(self.other_rows.iter().take(TOLD).map(|(name, rows)| {
            // The trial's own log goes with it; the run's has another name.
            let is_log = name.starts_with("howdah.undo_");
            let name = if is_log { "the undo log".into() } else { clean(name) };
            format!("also written  {} into {name}", human::rows(*rows))
        }));
        lines.push(format!(
            "dead rows     {} in all, at most {} at once as autovacuum is set now",
            human::count(self.dead),
            human::count(self.dead_at_once)
        ));
        lines.extend(self.hot.map(|hot| format!("HOT           {} of the updates", human::percent(hot))));
        for lock in self.locks.iter().take(TOLD) {
            lines.push(format!("lock          {} on {}", clean(&lock.mode), clean(&lock.relation)));
        }
        if self.locks.len() > TOLD {
            lines.push(format!("lock          and {} more", self.locks.len() - TOLD));
        }
        if !self.locks.is_empty() {
            lines.push(format!(
                "held          each for about {}, and the rows of a batch with them",
                human::duration(self.held)
            ));
        }
        lines.extend(self.triggers.iter().map(|trigger| {
            format!(
                "trigger       {} on {}: {:.1} calls a row, {} of the time",
                clean(&trigger.name),
                clean(&trigger.relation),
                trigger.calls_per_row,
                human::percent(trigger.share)
            )
        }));
        lines.join("\n")
    }
}

fn durations(range: Foreseen<Duration>) -> String {
    format!("{} to {}", human::rough_duration(range.least), human::rough_duration(range.most))
}

fn sizes(range: Foreseen<u64>) -> String {
    format!("{} to {}", ByteSize(range.least), ByteSize(range.most))
}

fn counts(range: Foreseen<u64>) -> String {
    if range.least == range.most {
        human::count(range.likely)
    } else {
        format!("{} to {}", human::count(range.least), human::count(range.most))
    }
}
