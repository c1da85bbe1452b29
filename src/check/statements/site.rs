//! Where a statement stands: in which step, after what, on how large a table; and what is found there.

use super::past::Past;
use super::words::Name;
use crate::check::{Code, Finding, Severity};
use crate::run::human;

/// A table with fewer rows is read or rewritten before anyone notices.
const SMALL: u64 = 10_000;

/// What is known of the database beside the words of the plan.
pub trait Known {
    /// About how many rows a table has, by its name as the plan writes it. `None`: unknown.
    fn rows(&self, table: &str) -> Option<u64>;

    /// The type of a column as `format_type` writes it, by the names as the plan writes them. `None`: unknown.
    fn column_type(&self, table: &str, column: &str) -> Option<String> {
        let _ = (table, column);
        None
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// A warning, or a note where the table is known to be small.
    BySize,
    /// As much, whatever the table's size.
    Always(Severity),
}

/// What is to be told of a statement.
pub(super) struct Told {
    pub(super) code: Code,
    pub(super) weight: Weight,
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) why: &'static str,
    pub(super) mend: Vec<String>,
}

/// One statement's place in the plan.
pub(super) struct Site<'a> {
    pub(super) step: &'a str,
    /// Whether it takes a step back. What the application would miss is then meant to go.
    pub(super) is_down: bool,
    pub(super) known: &'a dyn Known,
    pub(super) past: &'a mut Past,
    pub(super) found: &'a mut Vec<Finding>,
}

impl Site<'_> {
    /// Whether the plan itself makes the table: nobody else uses it yet. One that is there already with rows in it, as after
    /// `CREATE TABLE IF NOT EXISTS`, is not new.
    pub(super) fn is_new(&self, table: &Name) -> bool {
        self.past.has_made(table) && self.known.rows(&table.written).is_none_or(|rows| rows == 0)
    }

    /// About how many rows the table has, in brackets, and whether they are few.
    fn size(&self, table: Option<&Name>) -> (String, bool) {
        let rows = table.and_then(|table| self.known.rows(&table.written));
        let words = rows.map(|rows| format!(" (about {} rows)", human::count(rows))).unwrap_or_default();
        (words, rows.is_some_and(|rows| rows < SMALL))
    }

    /// Tells something of `table`, or of a thing that is no table of the plan's.
    pub(super) fn tell(&mut self, table: Option<&Name>, told: Told) {
        let (size, is_small) = self.size(table);
        let (severity, size) = match told.weight {
            Weight::Always(severity) => (severity, String::new()),
            Weight::BySize if is_small => (Severity::Note, size),
            Weight::BySize => (Severity::Warning, size),
        };
        let place = if self.is_down { "in `down`: " } else { "" };
        self.found.push(Finding {
            code: told.code,
            severity,
            step: Some(self.step.to_owned()),
            subject: told.subject,
            what: format!("{place}{}{size}", told.what),
            why: told.why.to_owned(),
            mend: told.mend,
        });
    }

    /// Notes that the statement rewrites `table`, and tells it where an earlier step has done so as well.
    pub(super) fn rewrites(&mut self, table: &Name) {
        if self.is_down {
            return;
        }
        let Some(earlier) = self.past.rewrites(table, self.step) else { return };
        let what = format!("step \"{earlier}\" rewrites the table as well");
        let told = Told {
            code: super::codes::REWRITTEN_TWICE,
            weight: Weight::Always(Severity::Note),
            subject: table.written.clone(),
            what,
            why: "each rewrite reads and writes the whole table and all its indexes under a lock",
            mend: vec![format!(
                "ALTER TABLE {} ACTION, ACTION  -- one statement with both: one rewrite",
                table.written
            )],
        };
        self.tell(Some(table), told);
    }
}
