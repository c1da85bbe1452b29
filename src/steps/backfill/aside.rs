//! Rows that are set aside match the step's `where` still. They are told, and are not what is left to be swept.

use super::Part;
use crate::postgres::sql::SqlText;
use crate::run::{RunId, StepIndex};

/// The step's condition, without the rows that are set aside. `None`: the step has none.
pub(super) fn filter_without(part: &Part, run: RunId, step: StepIndex) -> Option<SqlText> {
    let condition = part.sql.filter.as_ref()?;
    // The id and the number are ours, and cannot hold a quote.
    let set_aside = format!(
        " AND NOT EXISTS (SELECT FROM howdah.quarantine AS howdah_q WHERE howdah_q.run = '{}'::uuid \
         AND howdah_q.step = {} AND howdah_q.part = '' AND howdah_q.resolved_at IS NULL AND howdah_q.key = {})",
        run.0,
        step.0,
        part.table.key.as_text(&part.sql.named.name)
    );
    Some(SqlText::default().text(condition).ours(&set_aside))
}

/// `SELECT count(*)` of the rows of the whole table that match, without those that are set aside.
pub(super) fn left_without(part: &Part, run: RunId, step: StepIndex) -> Option<SqlText> {
    let condition = filter_without(part, run, step)?;
    let count = format!("SELECT count(*) FROM {} WHERE ", part.sql.named.from);
    Some(SqlText::default().ours(&count).text(&condition))
}
