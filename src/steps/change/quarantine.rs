//! Rows that were set aside: they match `where` still, and are not "left".

use super::{BatchSql, count_matching};
use crate::postgres::session::literal;
use crate::postgres::sql::SqlText;
use crate::run::{KeyText, RunId, StepIndex};

/// Whose quarantine is meant, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// In the ledger's schema.
    Schema {
        /// The run.
        run: RunId,
        /// The step.
        step: StepIndex,
    },
    /// Elsewhere: these are the keys of the part's rows that are set aside.
    Keys(Vec<KeyText>),
}

impl Aside {
    /// What leaves the rows out whose key, as text, is `key`.
    fn condition(&self, part: &str, key: &str) -> Option<String> {
        match self {
            // The id and the number are ours, and cannot hold a quote.
            Self::Schema { run, step } => Some(format!(
                " AND NOT EXISTS (SELECT FROM howdah.quarantine AS howdah_q WHERE howdah_q.run = '{}'::uuid \
                 AND howdah_q.step = {} AND howdah_q.part = {} AND howdah_q.resolved_at IS NULL AND howdah_q.key = {key})",
                run.0,
                step.0,
                literal(part),
            )),
            Self::Keys(keys) if keys.is_empty() => None,
            Self::Keys(keys) => {
                let rows: Vec<_> = keys.iter().map(|key| serde_json::json!({ "key": key })).collect();
                Some(format!(
                    " AND NOT EXISTS (SELECT FROM jsonb_to_recordset({}::jsonb) AS howdah_q (key text[]) \
                     WHERE howdah_q.key = {key})",
                    literal(&serde_json::Value::Array(rows).to_string()),
                ))
            }
        }
    }
}

impl BatchSql {
    /// [`BatchSql::left`], without the rows that were set aside.
    #[must_use]
    pub fn left_without(&self, aside: &Aside) -> Option<SqlText> {
        Some(count_matching(&self.named, &self.filter_without(aside)?))
    }

    /// [`BatchSql::filter`], without the rows that were set aside.
    #[must_use]
    pub fn filter_without(&self, aside: &Aside) -> Option<SqlText> {
        let condition = self.filter.as_ref()?;
        let part = self.part.in_ledger().unwrap_or_default();
        let text = SqlText::default().text(condition);
        let set_aside = aside.condition(&part, &self.part.walk.row_as_text(&self.named.name));
        Some(match set_aside {
            Some(set_aside) => text.ours(&set_aside),
            None => text,
        })
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
        let aside = Aside::Schema { run: RunId(uuid::Uuid::nil()), step: StepIndex(2) };
        assert_eq!(
            made.left_without(&aside).expect("a condition").as_str(),
            "SELECT count(*) FROM \"old\".\"users_eu\" AS \"users\" WHERE (\nx IS NULL\n) AND NOT EXISTS (SELECT FROM \
             howdah.quarantine AS howdah_q WHERE howdah_q.run = '00000000-0000-0000-0000-000000000000'::uuid AND \
             howdah_q.step = 2 AND howdah_q.part = E'\"old\".\"users_eu\"' AND howdah_q.resolved_at IS NULL AND \
             howdah_q.key = ARRAY[\"users\".\"id\"::text])"
        );
        let keys = Aside::Keys(vec![vec!["it's".to_owned()]]);
        assert_eq!(
            made.left_without(&keys).expect("a condition").as_str(),
            "SELECT count(*) FROM \"old\".\"users_eu\" AS \"users\" WHERE (\nx IS NULL\n) AND NOT EXISTS (SELECT FROM \
             jsonb_to_recordset(E'[{\"key\":[\"it''s\"]}]'::jsonb) AS howdah_q (key text[]) WHERE howdah_q.key = \
             ARRAY[\"users\".\"id\"::text])"
        );
        let none = made.left_without(&Aside::Keys(Vec::new())).expect("a condition");
        assert!(!none.as_str().contains("howdah_q"), "{}", none.as_str());
    }
}
