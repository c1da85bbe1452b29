//! An outlook as text.

use super::{BatchOutlook, Outlook, StepOutlook, WalkOutlook};
use crate::run::human;
use crate::run::text::clean;

/// Partitions of a step that are told one by one.
const TOLD: usize = 8;

impl Outlook {
    /// As lines for people, cleaned.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.steps.iter().map(StepOutlook::to_text).collect::<Vec<_>>().join("\n")
    }
}

impl StepOutlook {
    /// As lines for people, cleaned.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!("step \"{}\" ({})", clean(&self.name), self.kind)];
        lines.extend(self.does.iter().map(|line| format!("  {}", clean(line))));
        lines.extend(self.untold.iter().map(|why| format!("  {}", clean(why))));
        lines.extend(self.walks.iter().take(TOLD).map(|walk| format!("  {}", walk.line())));
        if self.walks.len() > TOLD {
            lines.push(format!("  and {} more", super::many(self.walks.len() - TOLD, "partition")));
        }
        if let Some(batch) = self.walks.iter().find_map(|walk| walk.batch.as_ref()) {
            lines.extend(batch.lines().into_iter().map(|line| format!("  {line}")));
        }
        lines.join("\n")
    }
}

impl WalkOutlook {
    fn line(&self) -> String {
        let rows = self
            .rows
            .map_or_else(|| "nobody knows how many rows".to_owned(), |rows| format!("about {}", human::rows(rows)));
        let matching = self.matching.map(|n| format!(", about {} of them match `where`", human::count(n)));
        let target = self.target.as_ref().map(|target| format!(" to {}", clean(target)));
        format!(
            "{}{} by {}: {rows}{}, in {}",
            clean(&self.table),
            target.unwrap_or_default(),
            clean(&self.key),
            matching.unwrap_or_default(),
            super::many(self.segments, "segment")
        )
    }
}

impl BatchOutlook {
    fn lines(&self) -> Vec<String> {
        let key = |key: &[String]| clean(&key.join(", ")).into_owned();
        let from =
            self.from.as_ref().map_or_else(|| "the first row".to_owned(), |from| format!("behind {}", key(from)));
        let mut lines = vec![format!(
            "a batch of {}, from {from} through {}, finds its last key by",
            human::rows(self.rows),
            key(&self.through)
        )];
        let indented = |text: &str| text.lines().map(|line| format!("    {}", clean(line))).collect::<Vec<_>>();
        lines.extend(self.boundary.iter().flat_map(|sql| indented(sql)));
        lines.push("and then sends".to_owned());
        lines.extend(indented(&self.change));
        lines.push("for which the server plans".to_owned());
        lines.extend(self.explain.iter().flat_map(|line| indented(line)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_in_a_few_lines_and_nothing_from_outside_steers_the_terminal() {
        let batch = BatchOutlook {
            from: Some(vec!["7\u{1b}[2J".to_owned()]),
            through: vec!["9".to_owned()],
            rows: 2,
            boundary: vec!["SELECT 1".to_owned()],
            change: "UPDATE t\nSET a = 1".to_owned(),
            explain: vec!["Update on t".to_owned()],
        };
        let walk = WalkOutlook {
            table: "\"public\".\"t\"".to_owned(),
            target: None,
            key: "id".to_owned(),
            rows: Some(2_000_000),
            matching: Some(1_000),
            segments: 64,
            batch: Some(batch),
        };
        let step = StepOutlook {
            name: "fill".to_owned(),
            kind: "backfill",
            untold: None,
            does: vec!["changes rows of \"public\".\"t\", walked by id".to_owned()],
            walks: vec![walk],
        };
        assert_eq!(
            Outlook { steps: vec![step] }.to_text(),
            "step \"fill\" (backfill)\n  changes rows of \"public\".\"t\", walked by id\n  \
             \"public\".\"t\" by id: about 2,000,000 rows, about 1,000 of them match `where`, in 64 segments\n  \
             a batch of 2 rows, from behind 7\u{fffd}[2J through 9, finds its last key by\n      SELECT 1\n  \
             and then sends\n      UPDATE t\n      SET a = 1\n  for which the server plans\n      Update on t"
        );
    }
}
