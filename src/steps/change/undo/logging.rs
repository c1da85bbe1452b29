//! The change of a batch that also writes the old values down, in one statement.
//!
//! What is logged must be the value that the UPDATE replaced. A snapshot alone does not give that: in READ COMMITTED an
//! UPDATE that meets a row which another session has just changed goes on with that session's version. So the rows are
//! locked first, as they are *now*, and what is read under the lock is what is replaced. `FOR NO KEY UPDATE` is the lock
//! that the UPDATE takes anyway, and lets foreign keys be checked.
//!
//! A row whose key another session changes in the very moment of the batch is not found again by it, and so is neither
//! changed nor logged: as with any row that moves while it is walked, the count at the end finds it.

use super::UndoLog;
use crate::postgres::catalog::Part;
use crate::postgres::ident;
use crate::postgres::key::Key;
use crate::postgres::session::literal;
use crate::postgres::sql::SqlText;
use crate::run::Cause;
use crate::steps::keyspace::Named;

/// Writes the changes that keep a log of one part.
#[derive(Debug, Clone)]
pub struct Logging<'a> {
    log: &'a UndoLog,
    part: String,
    key: Key,
    key_columns: Vec<String>,
}

impl UndoLog {
    /// What writes the changes of `part`.
    ///
    /// # Errors
    /// The part has a key that the log has no columns for.
    pub fn logging(&self, step: &str, part: &Part) -> Result<Logging<'_>, Cause> {
        let (key, key_columns) = self.key_columns(part).map_err(|mut cause| {
            cause.message = format!("step \"{step}\": {}", cause.message);
            cause
        })?;
        Ok(Logging { log: self, part: part.in_ledger().unwrap_or_default(), key, key_columns })
    }
}

impl Logging<'_> {
    /// The change of the rows in `range` that match `condition`; answers with two counts, changed and still matching.
    #[must_use]
    pub fn change(&self, named: &Named, assignments: &SqlText, range: &str, condition: Option<&SqlText>) -> SqlText {
        let (prefix, name) = (self.log.prefix.as_str(), named.name.as_str());
        let keys: Vec<String> = self.key_columns.iter().map(|key| format!("{prefix}{key}")).collect();
        let columns = (1..).zip(&self.log.columns).map(|(n, column)| (n, ident::quote(&column.name)));
        let columns: Vec<(u32, String)> = columns.collect();
        let list = |items: Vec<String>| items.join(", ");
        let key_values = self.key.columns.iter().zip(&keys);
        let mut locked: Vec<String> =
            key_values.map(|(column, key)| format!("{name}.{} AS {key}", ident::quote(&column.name))).collect();
        locked.extend(columns.iter().map(|(n, column)| format!("{name}.{column} AS {prefix}o{n}")));
        let mut returned = keys.clone();
        returned.extend(columns.iter().map(|(n, _)| format!("{prefix}o{n}")));
        returned.extend(columns.iter().map(|(n, column)| format!("{name}.{column} AS {prefix}n{n}")));
        let mut written = self.key_columns.clone();
        written.extend(columns.iter().map(|(n, _)| format!("o{n}")));
        written.extend(columns.iter().map(|(n, _)| format!("n{n}")));
        let values = written.iter().map(|column| format!("{prefix}{column}")).collect();
        let (from, old) = (&named.from, format!("{prefix}old"));
        let found = keys.iter().map(|key| format!("{old}.{key}")).collect::<Vec<_>>();

        let mut sql = SqlText::default()
            .ours(&format!("WITH {old} AS MATERIALIZED (SELECT {} FROM {from} WHERE {range}", list(locked)));
        if let Some(condition) = condition {
            sql = sql.ours(" AND ").text(condition);
        }
        // The range again: it tells the planner that few rows are joined.
        sql = sql
            .ours(&format!(" FOR NO KEY UPDATE OF {name}), changed AS (UPDATE {from} SET "))
            .text(assignments)
            .ours(&format!(
                " FROM {old} WHERE {} AND {range} RETURNING {}, ",
                self.key.equals(name, &found),
                list(returned)
            ));
        sql = match condition {
            Some(condition) => sql.text(condition).ours(" IS TRUE"),
            None => sql.ours("false"),
        };
        sql.ours(&format!(
            " AS {prefix}still), logged AS (INSERT INTO {} (part, {}) SELECT {}, {} FROM changed) \
             SELECT count(*), count(*) FILTER (WHERE {prefix}still) FROM changed",
            self.log.quoted(),
            list(written),
            literal(&self.part),
            list(values)
        ))
    }
}
