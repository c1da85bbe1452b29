//! How large a table and its indexes are, and when autovacuum wakes for it.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::postgres::signals;

/// The tables that a step writes, as far as a forecast needs them. Summed over the partitions.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TableFacts {
    /// Rows of the tables that are walked, by the statistics.
    pub rows: u64,
    /// Rows of the tables that are written, by the statistics; the same, but for a copy.
    pub written_rows: u64,
    /// Bytes of the written tables' own files.
    pub bytes: u64,
    /// Bytes of a row of what is walked, with all that is around it.
    pub row_bytes: f64,
    /// Pages of the written tables' own files.
    pub pages: u64,
    /// Their indexes; those of partitions that stem from one are together.
    pub indexes: Vec<IndexFacts>,
    /// Dead rows there now.
    pub dead: u64,
    /// Dead rows that wake autovacuum.
    pub dead_that_wake: u64,
    /// Whether autovacuum looks after all of them.
    pub is_looked_after: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IndexFacts {
    /// Its name, with its schema, quoted.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its pages.
    pub pages: u64,
    /// Its entries, by the statistics.
    pub entries: u64,
}

const TABLE: &str = "SELECT pg_relation_size(c.oid)::int8 AS bytes, \
    (pg_relation_size(c.oid) / current_setting('block_size')::int8)::int8 AS pages, \
    greatest(c.reltuples, 0)::int8 AS entries FROM pg_class c WHERE c.oid = $1::int8::oid";

const INDEXES: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(p.relname) AS name, \
    sum(pg_relation_size(c.oid))::int8 AS bytes, \
    sum(pg_relation_size(c.oid) / current_setting('block_size')::int8)::int8 AS pages, \
    sum(greatest(c.reltuples, 0))::int8 AS entries \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
    JOIN pg_class p ON p.oid = coalesce((SELECT h.inhparent FROM pg_inherits h WHERE h.inhrelid = c.oid LIMIT 1), c.oid) \
    JOIN pg_namespace n ON n.oid = p.relnamespace \
    WHERE i.indrelid = ANY ($1::int8[]::oid[]) GROUP BY 1 ORDER BY 1";

/// Looks at tables by their object ids: those that are walked, with their rows where they are known, and those that are
/// written.
///
/// # Errors
/// The driver's error.
#[expect(clippy::cast_precision_loss, reason = "an average")]
pub(super) async fn look(
    connection: &mut PgConnection,
    walked: &[(i64, Option<u64>)],
    written: &[i64],
) -> Result<TableFacts, sqlx::Error> {
    let mut written: Vec<i64> = written.to_vec();
    written.sort_unstable();
    written.dedup();
    let mut facts = TableFacts { is_looked_after: true, ..TableFacts::default() };
    let mut walked_bytes = 0;
    for (oid, rows) in walked {
        let (bytes, _, entries) = size(connection, *oid).await?;
        facts.rows += rows.unwrap_or(entries);
        walked_bytes += bytes;
    }
    facts.row_bytes = walked_bytes as f64 / facts.rows.max(1) as f64;
    for oid in &written {
        let (bytes, pages, entries) = size(connection, *oid).await?;
        facts.bytes += bytes;
        facts.pages += pages;
        facts.written_rows +=
            walked.iter().find(|(walked, _)| walked == oid).and_then(|(_, rows)| *rows).unwrap_or(entries);
        if let Ok(Some(dead)) = signals::dead_rows(connection, *oid).await {
            facts.dead += whole(dead.dead);
            facts.dead_that_wake += whole(dead.trigger);
            facts.is_looked_after &= dead.is_looked_after;
        }
    }
    let rows = sqlx::query(INDEXES).bind(&written).persistent(false).fetch_all(connection).await?;
    for row in rows {
        let number = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
        facts.indexes.push(IndexFacts {
            name: row.try_get("name")?,
            bytes: number("bytes")?,
            pages: number("pages")?,
            entries: number("entries")?,
        });
    }
    Ok(facts)
}

async fn size(connection: &mut PgConnection, oid: i64) -> Result<(u64, u64, u64), sqlx::Error> {
    let row = sqlx::query(TABLE).bind(oid).persistent(false).fetch_one(connection).await?;
    let number = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    Ok((number("bytes")?, number("pages")?, number("entries")?))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
fn whole(n: f64) -> u64 {
    if (0.0..1e18).contains(&n) { n as u64 } else { 0 }
}
