//! The SQL of a backfill, for one table or partition: the change of a batch, what is left, what goes into the quarantine.

mod columns;
mod quarantine;
mod raw;
mod set;
pub mod undo;

pub use columns::{SetColumn, set_columns};
pub use quarantine::Aside;

use super::keyspace::Named;
use crate::plan::model::{Backfill, Change, PlanSource, Sql, Undo};
use crate::postgres::catalog::{Part, Table};
use crate::postgres::ident;
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::run::{Cause, KeyText};
use undo::UndoLog;

/// The change of a backfill as SQL, for one table or partition.
#[derive(Debug, Clone)]
pub struct BatchSql {
    /// How the change's answer tells the rows.
    pub answer: Answer,
    /// `SELECT count(*)` of the rows of the whole part that match `where`.
    pub left: Option<SqlText>,
    /// The condition, in parentheses, with the table named as in `left`.
    pub filter: Option<SqlText>,
    /// How the table is named in `left` and `filter`.
    pub named: Named,
    part: Part,
    from_start: RangeSql,
    /// One for each number of leading columns that the ends of a range may share.
    behind: Vec<RangeSql>,
}

/// The statements of one batch: `$1` is the key before its first, unused where the batch begins at the part's first row,
/// `$2` its last key.
#[derive(Debug, Clone)]
pub struct RangeSql {
    /// The change.
    pub change: SqlText,
    /// `SELECT count(*)` of the rows of the range that still match; only for a raw statement with a `where`.
    pub still_matching: Option<SqlText>,
}

/// How a change's answer tells how many rows it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// By the command's row count.
    RowsAffected,
    /// By a row of two counts: changed, and of those still matching.
    Counts,
}

impl BatchSql {
    /// The statements for the rows with keys in `(from, through]`.
    #[must_use]
    pub fn of(&self, from: Option<&KeyText>, through: &KeyText) -> &RangeSql {
        let shared = self.part.walk.shared(from, Some(through));
        match from {
            None => &self.from_start,
            Some(_) => self.behind.get(shared).unwrap_or(&self.from_start),
        }
    }

    /// Whether a batch whose rows match still after their change must not commit: the walk is by blocks, and would meet
    /// those rows again wherever the server has put them.
    #[must_use]
    pub fn must_falsify(&self) -> bool {
        matches!(self.part.walk, Walk::Blocks(_))
    }
}

/// Why a batch of a walk by blocks was refused: [`BatchSql::must_falsify`].
#[must_use]
pub fn not_falsified(step: &str, part: &Part, still_matching: u64) -> Cause {
    Cause::new(format!(
        "step \"{step}\": {still_matching} rows of `{}` match `where` still after their change; the table has no key, so \
         they would be changed again where they lie now",
        part.label()
    ))
    .hint("write a `where` that the change makes false, or give the table a primary key")
}

/// Puts the SQL of a backfill together, and checks the columns that it names. With `log` the change also writes the old
/// values down.
///
/// # Errors
/// A column in `set` cannot be set, or is not written as SQL writes names; the part has no key and the step no `where`.
pub fn batch_sql(
    step: &str,
    backfill: &Backfill,
    table: &Table,
    part: &Part,
    log: Option<&UndoLog>,
    source: &PlanSource,
) -> Result<BatchSql, Cause> {
    let target = Target { step, table, part, source };
    match &backfill.change {
        Change::Set { set, filter } => {
            target.needs_a_condition(&backfill.table, filter.as_ref())?;
            let columns = set_columns(step, set, table, source)?;
            set::sql(&target, &columns, filter.as_ref(), log)
        }
        Change::Raw { sql, alias, filter } => {
            target.needs_a_condition(&backfill.table, filter.as_ref())?;
            raw::sql(&target, "sql", sql, alias.as_ref(), filter.as_ref())
        }
    }
}

/// The statement of `undo_sql`, in the form of a change. It goes over all rows of a batch: `where` is false of those that
/// were changed. `None` where the step has no `undo_sql`.
///
/// # Errors
/// `alias` is not written as SQL writes names.
pub fn undo_statement(
    step: &str,
    backfill: &Backfill,
    table: &Table,
    part: &Part,
    source: &PlanSource,
) -> Result<Option<BatchSql>, Cause> {
    let Undo::Sql(sql) = &backfill.undo else { return Ok(None) };
    if matches!(part.walk, Walk::Blocks(_)) {
        let mut cause = Cause::usage(format!(
            "step \"{step}\": `undo_sql` needs a key to find the changed rows again, and `{}` has none",
            part.label()
        ))
        .hint("give the table a primary key, or leave `undo_sql` out");
        cause.details = source.excerpt_in_sql(sql, 0);
        return Err(cause);
    }
    let alias = match &backfill.change {
        Change::Raw { alias, .. } => alias.as_ref(),
        Change::Set { .. } => None,
    };
    raw::sql(&Target { step, table, part, source }, "undo_sql", sql, alias, None).map(Some)
}

/// What a change is about.
struct Target<'a> {
    step: &'a str,
    table: &'a Table,
    part: &'a Part,
    source: &'a PlanSource,
}

impl Target<'_> {
    /// Without a key a row is known by the condition alone.
    fn needs_a_condition(&self, written: &Sql, filter: Option<&Sql>) -> Result<(), Cause> {
        let Walk::Blocks(_) = self.part.walk else { return Ok(()) };
        if filter.is_some() {
            return Ok(());
        }
        let mut cause = Cause::usage(format!(
            "step \"{}\": `{}` has no primary key, and no unique index over columns that are NOT NULL; it is walked block by \
             block, which needs a `where`",
            self.step,
            self.part.label()
        ))
        .hint("add a `where` that the change makes false: it is how rows that are done are known")
        .hint(format!(
            "or add a primary key: ALTER TABLE {} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            self.table.quoted()
        ));
        cause.details = self.source.excerpt_in_sql(written, 0);
        Err(cause)
    }

    /// Makes the statements of every shape of range: `make` is given the condition of the range and its shape.
    fn each_shape(&self, name: &str, make: impl Fn(&str) -> RangeSql) -> (RangeSql, Vec<RangeSql>) {
        let walk = &self.part.walk;
        let from_start = make(&walk.batch(name, false, 0));
        let behind = (0..walk.shapes()).map(|shared| make(&walk.batch(name, true, shared))).collect();
        (from_start, behind)
    }
}

/// The condition, in parentheses on lines of its own: it may end in a comment.
fn condition(filter: Option<&Sql>) -> Option<SqlText> {
    filter.map(|filter| SqlText::default().ours("(\n").plans("where", filter).ours("\n)"))
}

fn count_matching(named: &Named, condition: &SqlText) -> SqlText {
    SqlText::default().ours(&format!("SELECT count(*) FROM {} WHERE ", named.from)).text(condition)
}

/// A part under the name that the plan's SQL knows the table by.
fn known_as(part: &Part, name: &str) -> Named {
    let name = ident::quote(name);
    Named { from: format!("{} AS {name}", part.quoted()), name }
}

#[cfg(test)]
mod samples;
