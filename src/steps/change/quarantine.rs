//! Rows that were set aside: they match `where` still, and are not "left".

use super::{BatchSql, count_matching};
use crate::postgres::session::literal;
use crate::postgres::sql::SqlText;
use crate::run::{RunId, StepIndex};

/// Whose quarantine is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aside {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepIndex,
}

impl BatchSql {
    /// [`BatchSql::left`], without the rows that were set aside. Needs the ledger's schema.
    #[must_use]
    pub fn left_without(&self, aside: Aside) -> Option<SqlText> {
        Some(count_matching(&self.named, &self.filter_without(aside)?))
    }

    /// [`BatchSql::filter`], without the rows that were set aside. Needs the ledger's schema.
    #[must_use]
    pub fn filter_without(&self, aside: Aside) -> Option<SqlText> {
        let condition = self.filter.as_ref()?;
        let part = self.part.in_ledger().unwrap_or_default();
        // The id and the number are ours, and cannot hold a quote.
        let set_aside = format!(
            " AND NOT EXISTS (SELECT FROM howdah.quarantine AS howdah_q WHERE howdah_q.run = '{}'::uuid \
             AND howdah_q.step = {} AND howdah_q.part = {} AND howdah_q.resolved_at IS NULL AND howdah_q.key = {})",
            aside.run.0,
            aside.step.0,
            literal(&part),
            self.part.walk.row_as_text(&self.named.name)
        );
        Some(SqlText::default().text(condition).ours(&set_aside))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::samples::{partition, source, sql, users};
    use super::*;

    #[test]
    fn what_is_left_leaves_out_what_was_set_aside() {
        let (table, source, part) = (users(), source(), partition());
        let target = Target { step: "s", table: &table, part: &part, source: &source };
        let made = super::super::raw::sql(
            &target,
            "sql",
            &sql("UPDATE users SET x = 1 WHERE {batch}"),
            None,
            Some(&sql("x IS NULL")),
        )
        .expect("sql");
        let aside = Aside { run: RunId(uuid::Uuid::nil()), step: StepIndex(2) };
        assert_eq!(
            made.left_without(aside).expect("a condition").as_str(),
            "SELECT count(*) FROM \"old\".\"users_eu\" AS \"users\" WHERE (\nx IS NULL\n) AND NOT EXISTS (SELECT FROM \
             howdah.quarantine AS howdah_q WHERE howdah_q.run = '00000000-0000-0000-0000-000000000000'::uuid AND \
             howdah_q.step = 2 AND howdah_q.part = E'\"old\".\"users_eu\"' AND howdah_q.resolved_at IS NULL AND \
             howdah_q.key = ARRAY[\"users\".\"id\"::text])"
        );
    }
}
