//! `into`: new rows of a table.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::rows::{Answer, NewRow, Value};
use super::shape::ToColumn;
use super::{stage, text};
use crate::plan::movers::OnConflict;
use crate::postgres::catalog::Table;
use crate::postgres::ident::quote;
use crate::steps::batch::BatchError;

/// How rows get into a table.
#[derive(Debug, Clone)]
pub(super) struct InsertSql {
    pub(super) target: String,
    /// Bare names, in the order of the sink's columns.
    pub(super) columns: Vec<ToColumn>,
    pub(super) on_conflict: OnConflict,
    /// The columns that conflict, bare.
    pub(super) key: Vec<String>,
    /// Whether the server would rather make a column's values itself.
    pub(super) overriding: bool,
    /// Of which number its stage is.
    pub(super) stage: usize,
    /// Of expressions: the types that they have by themselves. Empty: values are read as whatever the column is.
    pub(super) types: Vec<Option<String>>,
}

const NUMBER: &str = "howdah_number";

impl InsertSql {
    pub(super) fn new(table: &Table, columns: Vec<ToColumn>, on_conflict: OnConflict, key: Vec<String>) -> Self {
        let overriding = table.columns.iter().any(|c| c.writes == crate::postgres::catalog::Writes::Identity);
        Self { target: table.quoted(), columns, on_conflict, key, overriding, stage: 0, types: Vec::new() }
    }

    /// Inserts the rows that the answers `which` are. Returns how many were inserted, or updated.
    pub(super) async fn put(
        &self,
        tx: &mut PgConnection,
        (answers, which): (&[Answer], &[usize]),
        limit: Duration,
    ) -> Result<u64, BatchError> {
        let rows: Vec<&NewRow> = which.iter().flat_map(|at| answers[*at].rows()).collect();
        let mut done = 0;
        // Rows that name the same columns go together; what is not named takes its default.
        for run in rows.chunk_by(|a, b| names_alike(a, b)) {
            let Some(named) = run.first().map(|row| named(row)) else { continue };
            done += self.run(tx, run, &named, limit).await?;
        }
        Ok(done)
    }

    async fn run(
        &self,
        tx: &mut PgConnection,
        run: &[&NewRow],
        named: &[usize],
        limit: Duration,
    ) -> Result<u64, BatchError> {
        let list: Vec<String> = named.iter().map(|at| quote(&self.columns[*at].name)).collect();
        if list.is_empty() {
            let insert = format!("INSERT INTO {} DEFAULT VALUES", self.target);
            let mut done = 0;
            for _ in run {
                done += stage::execute(tx, &insert, limit).await?;
            }
            return Ok(done);
        }
        let staged = self.on_conflict != OnConflict::Error || self.types.iter().any(Option::is_some);
        let mut lines = Vec::new();
        for (number, row) in run.iter().enumerate() {
            if staged {
                text::write(Some(&number.to_string()), &mut lines);
            }
            for (n, at) in named.iter().enumerate() {
                if n > 0 || staged {
                    lines.push(b'\t');
                }
                text::write(row[*at].text(), &mut lines);
            }
            lines.push(b'\n');
        }
        let list = list.join(", ");
        if !staged {
            let copy = format!("COPY {} ({list}) FROM STDIN", self.target);
            return stage::copy(tx, &copy, &lines, limit).await;
        }
        let (make, name) = self.stage();
        stage::make(tx, &make, limit).await?;
        stage::copy(tx, &format!("COPY {name} ({NUMBER}, {list}) FROM STDIN"), &lines, limit).await?;
        let done = stage::execute(tx, &self.insert(&name, named, &list), limit).await?;
        stage::execute(tx, &format!("DELETE FROM {name}"), limit).await?;
        Ok(done)
    }

    fn stage(&self) -> (String, String) {
        let bare = format!("howdah_into_{}", self.stage);
        let typed = |(at, c): (usize, &ToColumn)| {
            let name = quote(&c.name);
            match self.types.get(at).and_then(Option::as_ref) {
                Some(natural) => format!("NULL::{natural} AS {name}"),
                None => format!("t.{name}::{} AS {name}", c.type_name),
            }
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(typed).collect();
        let make = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {bare} ON COMMIT DELETE ROWS AS SELECT 0::bigint AS {NUMBER}, {} \
             FROM {} AS t WITH NO DATA",
            columns.join(", "),
            self.target
        );
        (make, format!("pg_temp.{bare}"))
    }

    /// From the stage into the table. Of rows with one key the last one counts.
    fn insert(&self, stage: &str, named: &[usize], list: &str) -> String {
        let key: Vec<String> = self.key.iter().map(|column| quote(column)).collect();
        let keys = key.join(", ");
        let overriding = if self.overriding { " OVERRIDING SYSTEM VALUE" } else { "" };
        let is_named = self.key.iter().all(|key| named.iter().any(|at| self.columns[*at].name == *key));
        let (distinct, order) = match self.on_conflict {
            OnConflict::Update if is_named => {
                let apart = format!("CASE WHEN ({keys}) IS NOT NULL THEN 0 ELSE {NUMBER} END");
                (format!("DISTINCT ON ({keys}, {apart}) "), format!(" ORDER BY {keys}, {apart}, {NUMBER} DESC"))
            }
            OnConflict::Update | OnConflict::Skip | OnConflict::Error => (String::new(), format!(" ORDER BY {NUMBER}")),
        };
        let others: Vec<String> = named
            .iter()
            .map(|at| &self.columns[*at].name)
            .filter(|column| !self.key.contains(column))
            .map(|column| format!("{0} = excluded.{0}", quote(column)))
            .collect();
        let action = match self.on_conflict {
            OnConflict::Update if !others.is_empty() => format!("UPDATE SET {}", others.join(", ")),
            OnConflict::Update | OnConflict::Skip | OnConflict::Error => "NOTHING".to_owned(),
        };
        let insert =
            format!("INSERT INTO {} ({list}){overriding} SELECT {distinct}{list} FROM {stage}{order}", self.target);
        match self.on_conflict {
            OnConflict::Error => insert,
            OnConflict::Skip | OnConflict::Update => format!("{insert} ON CONFLICT ({keys}) DO {action}"),
        }
    }
}

fn named(row: &NewRow) -> Vec<usize> {
    row.iter().enumerate().filter(|(_, value)| **value != Value::Absent).map(|(at, _)| at).collect()
}

fn names_alike(a: &NewRow, b: &NewRow) -> bool {
    a.iter().zip(b.iter()).all(|(a, b)| (*a == Value::Absent) == (*b == Value::Absent))
}
