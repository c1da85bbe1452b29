//! Walks an undo log back: every row that is still as the run left it gets its old values, the others are kept and marked.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{UndoLog, newest_first};
use crate::postgres::catalog::{Part, Table};
use crate::postgres::ident;
use crate::postgres::key::Relation;
use crate::postgres::session::literal;
use crate::run::{Cause, KeyText};

/// The statements that take a step back by its log.
#[derive(Debug, Clone)]
pub struct UndoSql {
    log: UndoLog,
    parts: Vec<PartSql>,
}

#[derive(Debug, Clone)]
struct PartSql {
    /// As the log names it.
    name: String,
    from_start: String,
    behind: String,
}

/// What a batch of an undo did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reverted {
    /// Changes that were taken back.
    pub reverted: u64,
    /// Changes that were not: somebody has changed or deleted the row since. Marked in the log.
    pub kept: u64,
}

/// A change that was not taken back: somebody has changed or deleted the row since.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The partition, as the log names it; empty for the table itself.
    pub part: String,
    /// The row's key.
    pub key: KeyText,
    /// What the log says of it: key, old values and new ones.
    pub row: String,
}

impl UndoSql {
    /// The statements for every part of the table.
    ///
    /// # Errors
    /// A part has a key that the log has no columns for.
    pub fn new(log: UndoLog, table: &Table) -> Result<Self, Cause> {
        let parts = table.parts.iter().map(|part| part_sql(&log, part)).collect::<Result<_, _>>()?;
        Ok(Self { log, parts })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &UndoLog {
        &self.log
    }

    /// Takes back the changes in `(from, through]` of the log, which is walked by [`UndoLog::part`]; in the caller's
    /// transaction.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn revert(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Reverted, sqlx::Error> {
        let range = range("l", from.is_some());
        let sql = format!("SELECT DISTINCT l.part FROM {} AS l WHERE {range}", self.log.quoted());
        let parts: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(from).bind(through).fetch_all(&mut *tx).await?;
        let mut done = Reverted::default();
        for part in parts {
            let one = match self.parts.iter().find(|known| known.name == part) {
                Some(known) => known.revert(tx, from, through).await?,
                None => self.keep_all(tx, from, through, &part).await?,
            };
            done.reverted += one.reverted;
            done.kept += one.kept;
        }
        Ok(done)
    }

    /// The changes in `(from, through]` of the log that were not taken back.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn kept(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Vec<Kept>, sqlx::Error> {
        let keys = (1..=self.log.keys.len()).map(|n| format!("l.k{n}::text")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT l.part, array_remove(ARRAY[{keys}]::text[], NULL), to_jsonb(l.*)::text FROM {} AS l \
             WHERE {} AND l.kept_at IS NOT NULL ORDER BY l.seq DESC",
            self.log.quoted(),
            range("l", from.is_some())
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(through).persistent(false).fetch_all(tx).await?;
        rows.iter().map(|row| Ok(Kept { part: row.try_get(0)?, key: row.try_get(1)?, row: row.try_get(2)? })).collect()
    }

    /// A partition that is no more.
    async fn keep_all(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
        part: &str,
    ) -> Result<Reverted, sqlx::Error> {
        let range = range("l", from.is_some());
        let sql = format!("UPDATE {} AS l SET kept_at = now() WHERE {range} AND l.part = $3", self.log.quoted());
        let query = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(through).bind(part);
        Ok(Reverted { reverted: 0, kept: query.execute(tx).await?.rows_affected() })
    }
}

impl PartSql {
    /// A row may be in the log more than once, from several sweeps: its newest change first, then the one before, each
    /// only where the row is as that change left it.
    async fn revert(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Reverted, sqlx::Error> {
        let sql = if from.is_some() { &self.behind } else { &self.from_start };
        let mut done = Reverted::default();
        for nth in 1_i64.. {
            let row =
                sqlx::query(AssertSqlSafe(sql.as_str())).bind(from).bind(through).bind(nth).fetch_one(&mut *tx).await?;
            let number = |at: usize| row.try_get::<i64, _>(at).map(|n| n.max(0).cast_unsigned());
            done.reverted += number(0)?;
            done.kept += number(1)?;
            if number(2)? == 0 {
                break;
            }
        }
        Ok(done)
    }
}

fn range(log: &str, from: bool) -> String {
    newest_first().between(log, from, Some(Relation::Through), 0)
}

fn part_sql(log: &UndoLog, part: &Part) -> Result<PartSql, Cause> {
    let (key, key_columns) = log.key_columns(part)?;
    let name = part.in_ledger().unwrap_or_default();
    let columns: Vec<(u32, String, &str)> =
        (1..).zip(&log.columns).map(|(n, column)| (n, ident::quote(&column.name), column.type_name.as_str())).collect();
    let list = |each: &dyn Fn(&(u32, String, &str)) -> String| columns.iter().map(each).collect::<Vec<_>>().join(", ");
    let found: Vec<String> = key_columns.iter().map(|column| format!("h.{column}")).collect();
    let keys = key_columns.iter().map(|column| format!("l.{column}")).collect::<Vec<_>>().join(", ");
    // Compared byte by byte, so that any type will do, and `1.0` made `1.00` by somebody is a change.
    let unchanged = format!(
        "record_image_eq(ROW({}), ROW({}))",
        list(&|(_, column, type_name)| format!("howdah_t.{column}::{type_name}")),
        list(&|(n, ..)| format!("h.n{n}"))
    );
    // NOT IN is hashed. An anti-join is planned for the one row that a CTE is thought to hold, and then takes the square of
    // the batch; `seq` is never NULL.
    let sql = |from: bool| {
        format!(
            "WITH howdah_log AS MATERIALIZED (\
                 SELECT l.*, row_number() OVER (PARTITION BY {keys} ORDER BY l.seq DESC) AS nth \
                 FROM {log} AS l WHERE {range} AND l.part = {part}), \
             reverted AS (UPDATE {table} AS howdah_t SET {set} FROM howdah_log AS h \
                 WHERE h.nth = $3 AND {same} AND {unchanged} RETURNING h.seq), \
             kept AS (UPDATE {log} AS l SET kept_at = now() FROM howdah_log AS h WHERE l.seq = h.seq AND h.nth = $3 \
                 AND h.seq NOT IN (SELECT r.seq FROM reverted AS r) RETURNING l.seq) \
             SELECT (SELECT count(*) FROM reverted), (SELECT count(*) FROM kept), \
                    (SELECT count(*) FROM howdah_log WHERE nth > $3)",
            log = log.quoted(),
            range = range("l", from),
            part = literal(&name),
            table = part.quoted(),
            set = list(&|(n, column, _)| format!("{column} = h.o{n}")),
            same = key.equals("howdah_t", &found),
        )
    };
    Ok(PartSql { from_start: sql(false), behind: sql(true), name })
}
