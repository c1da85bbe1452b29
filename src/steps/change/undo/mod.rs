//! `undo = "auto"`: the old values of the columns that `set` names, kept in a table of the ledger's schema in the batch's own
//! transaction, and walked back from there.

mod logging;
mod revert;

use sqlx::postgres::PgConnection;

pub use logging::Logging;
pub use revert::{Kept, Reverted, UndoSql};

use super::{SetColumn, set_columns};
use crate::plan::model::{Backfill, Change, PlanSource, Undo};
use crate::postgres::catalog::{Part, Table};
use crate::postgres::ident;
use crate::postgres::key::{Key, KeyColumn};
use crate::postgres::walk::Walk;
use crate::run::{Cause, RunId, StepIndex};

/// Where the ledger lives.
const SCHEMA: &str = "howdah";

/// The table that keeps the old values of one step of one run.
///
/// Columns: `seq`, in the order of the changes; `part`, as the ledger names it, empty for the table itself; `k1`, `k2` ...,
/// the key; `o1` ..., the old values; `n1` ..., the new ones; `kept_at`, when an undo left the row as somebody else had
/// made it. Values have the types beneath domains: a domain that is NOT NULL could not hold what was there before it.
#[derive(Debug, Clone)]
pub struct UndoLog {
    /// Bare.
    name: String,
    /// The columns of the keys of all parts, each once.
    keys: Vec<KeyColumn>,
    columns: Vec<SetColumn>,
    /// Begins no name of a column of the table.
    prefix: String,
}

impl UndoLog {
    /// The log of a step. `None` where the step keeps none.
    ///
    /// # Errors
    /// A part of the table has no key to find its rows again by; a column in `set` cannot be set.
    pub fn of(
        run: RunId,
        index: StepIndex,
        step: &str,
        backfill: &Backfill,
        table: &Table,
        source: &PlanSource,
    ) -> Result<Option<Self>, Cause> {
        let (Undo::Auto, Change::Set { set, .. }) = (&backfill.undo, &backfill.change) else { return Ok(None) };
        let mut keys: Vec<KeyColumn> = Vec::new();
        for part in &table.parts {
            let Walk::Key(key) = &part.walk else {
                let mut cause = Cause::usage(format!(
                    "step \"{step}\": `undo = \"auto\"` needs a key to find a changed row again, and `{}` has none",
                    part.label()
                ))
                .hint("give the table a primary key, or leave `undo` out");
                cause.details = source.excerpt_in_sql(&backfill.table, 0);
                return Err(cause);
            };
            for column in &key.columns {
                if !keys.iter().any(|known| known.name == column.name) {
                    keys.push(column.clone());
                }
            }
        }
        let mut prefix = "howdah_".to_owned();
        while table.columns.iter().any(|column| column.name.starts_with(&prefix)) {
            prefix.push('_');
        }
        let columns = set_columns(step, set, table, source)?;
        Ok(Some(Self { name: format!("undo_{}_{}", run.short(), index.0), keys, columns, prefix }))
    }

    /// `"howdah"."undo_7f3a09c2_1"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", ident::quote(SCHEMA), ident::quote(&self.name))
    }

    /// The columns whose values it keeps, in their order: what its own columns mean.
    #[must_use]
    pub fn columns(&self) -> String {
        self.columns.iter().map(|column| ident::quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Makes the table, where it is not there yet.
    #[must_use]
    pub fn create(&self) -> String {
        let keys = (1..).zip(&self.keys).map(|(n, column)| format!("k{n} {}, ", column.type_name));
        let values = (1..).zip(&self.columns).map(|(n, column)| format!("o{n} {0}, n{n} {0}, ", column.type_name));
        format!(
            "CREATE TABLE IF NOT EXISTS {} (seq bigint GENERATED ALWAYS AS IDENTITY, part text NOT NULL, \
             {}{}kept_at timestamptz)",
            self.quoted(),
            keys.collect::<String>(),
            values.collect::<String>()
        )
    }

    /// Makes the index that the log is walked back by, where it is not there yet. Made only then: to keep it up while the
    /// log is written would cost every batch.
    #[must_use]
    pub fn index(&self) -> String {
        format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} (seq)",
            ident::quote(&format!("{}_seq", self.name)),
            self.quoted()
        )
    }

    /// Drops the table.
    #[must_use]
    pub fn drop(&self) -> String {
        format!("DROP TABLE IF EXISTS {}", self.quoted())
    }

    /// The rows that an undo left as they were: `part`, and the key's values as a `text[]`, NULL where a part's key lacks
    /// the column; the newest first.
    #[must_use]
    pub fn kept(&self) -> String {
        let keys = (1..=self.keys.len()).map(|n| format!("k{n}::text")).collect::<Vec<_>>().join(", ");
        format!("SELECT part, ARRAY[{keys}]::text[] FROM {} WHERE kept_at IS NOT NULL ORDER BY seq DESC", self.quoted())
    }

    /// The log as something to walk: by `seq`, the newest first. `None` where it is not there.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn part(&self, connection: &mut PgConnection) -> Result<Option<Part>, sqlx::Error> {
        let oid: Option<i64> = sqlx::query_scalar("SELECT to_regclass($1)::oid::int8")
            .bind(self.quoted())
            .persistent(false)
            .fetch_one(connection)
            .await?;
        let walk = Walk::Key(newest_first());
        let (schema, name) = (SCHEMA.to_owned(), self.name.clone());
        Ok(oid.map(|oid| Part { oid, schema, name, is_partition: false, walk }))
    }

    /// The log's names for the columns of a part's key: `k1`, `k2`.
    fn key_columns(&self, part: &Part) -> Result<(Key, Vec<String>), Cause> {
        let other = || {
            Cause::new(format!("partition `{}` has another key than when the undo log was made", part.label()))
                .hint("give it the key of the other partitions, then resume")
        };
        let Walk::Key(key) = &part.walk else { return Err(other()) };
        let place = |column: &KeyColumn| self.keys.iter().position(|known| known.name == column.name);
        let names: Option<Vec<String>> =
            key.columns.iter().map(|column| place(column).map(|at| format!("k{}", at + 1))).collect();
        Ok((key.clone(), names.ok_or_else(other)?))
    }
}

fn newest_first() -> Key {
    Key { columns: vec![KeyColumn { descending: true, ..KeyColumn::new("seq", "bigint") }] }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{source, sql, users};
    use super::*;
    use crate::postgres::walk::{BlockScan, Blocks};

    fn backfill() -> Backfill {
        let set = vec![("email".to_owned(), sql("lower(email)"))];
        Backfill { table: sql("users"), change: Change::Set { set, filter: Some(sql("true")) }, undo: Undo::Auto }
    }

    fn log(table: &Table) -> Result<Option<UndoLog>, Cause> {
        UndoLog::of(RunId(uuid::Uuid::nil()), StepIndex(1), "s", &backfill(), table, &source())
    }

    #[test]
    fn the_log_has_typed_columns_for_keys_old_values_and_new_ones() {
        let log = log(&users()).expect("a log").expect("is kept");
        assert_eq!(
            log.create(),
            "CREATE TABLE IF NOT EXISTS \"howdah\".\"undo_00000000_1\" (seq bigint GENERATED ALWAYS AS IDENTITY, \
             part text NOT NULL, k1 bigint, o1 text, n1 text, kept_at timestamptz)"
        );
    }

    #[test]
    fn names_of_ours_give_way_to_columns_of_the_table() {
        let mut table = users();
        table.columns[2].name = "howdah_k1".into();
        assert_eq!(log(&table).expect("a log").expect("is kept").prefix, "howdah__");
    }

    #[test]
    fn a_table_without_a_key_keeps_no_log() {
        let mut table = users();
        table.parts[0].walk = Walk::Blocks(Blocks { rows_per_block: 1, scan: BlockScan::Range });
        let cause = log(&table).expect_err("refused");
        assert!(cause.message.contains("needs a key to find a changed row again"), "{}", cause.message);
    }
}
