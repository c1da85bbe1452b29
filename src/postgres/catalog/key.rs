//! Which unique key a table is walked by, if it has one.

use std::collections::HashMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::postgres::key::{Key, KeyColumn};

/// The type beneath a domain, of a column `a` of `pg_attribute`: domains may lie on domains.
pub(super) const BASE_TYPE: &str = "(WITH RECURSIVE beneath(type, modifier, depth) AS ( \
        SELECT a.atttypid, a.atttypmod, 0 UNION ALL \
        SELECT y.typbasetype, y.typtypmod, depth + 1 FROM beneath JOIN pg_type y ON y.oid = type AND y.typtype = 'd') \
     SELECT format_type(type, modifier) FROM beneath ORDER BY depth DESC LIMIT 1)";

/// Chooses the key of each of these tables: the primary key; else, of the unique indexes that hold every row exactly once
/// in one order, the one of the fewest columns, then of the smallest types. A table that has none is left out.
///
/// A partial index lacks rows, one over columns that may be NULL lacks an order, one that is checked at commit only
/// (DEFERRABLE) may hold a key twice for a while, one of another operator class has an order that ORDER BY does not, and
/// so has `NULLS FIRST` on an ascending column.
///
/// # Errors
/// The driver's error.
pub(super) async fn usable_keys(
    connection: &mut PgConnection,
    tables: &[i64],
) -> Result<HashMap<i64, Key>, sqlx::Error> {
    let sql = format!(
        "SELECT i.indrelid::int8 AS of_table, i.indexrelid::int8 AS index, (i.indoption[k.at] & 1) = 1 AS descending, \
                a.attname::text AS name, {BASE_TYPE} AS type_name, nullif(n.nspname::text, 'pg_catalog') AS operators, \
                CASE WHEN i.indcollation[k.at] NOT IN (0, a.attcollation) THEN \
                     (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co \
                      JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = i.indcollation[k.at]) \
                END AS collation, \
                bool_and(o.oprname = '>' AND (i.indisprimary OR (a.attnotnull AND op.opcdefault \
                         AND i.indoption[k.at] IN (0, 3) AND NOT EXISTS (SELECT FROM pg_constraint nn \
                             WHERE nn.conrelid = a.attrelid AND nn.contype = 'n' AND NOT nn.convalidated \
                               AND nn.conkey = ARRAY[a.attnum])))) OVER of_index AS fits, \
                sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 24 END) OVER of_index AS bytes \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam \
         CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS k(at) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.at] \
         JOIN pg_opclass op ON op.oid = i.indclass[k.at] \
         JOIN pg_amop ao ON ao.amopfamily = op.opcfamily AND ao.amoplefttype = op.opcintype \
              AND ao.amoprighttype = op.opcintype AND ao.amopstrategy = 5 \
         JOIN pg_operator o ON o.oid = ao.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
         WHERE i.indrelid = ANY ($1::int8[]::oid[]) AND am.amname = 'btree' \
           AND (i.indisprimary OR (i.indisunique AND i.indimmediate)) AND i.indisvalid AND i.indisready \
           AND i.indpred IS NULL AND i.indexprs IS NULL \
         WINDOW of_index AS (PARTITION BY i.indexrelid) \
         ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, bytes, i.indexrelid, k.at"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(tables).persistent(false).fetch_all(connection).await?;
    let mut chosen: HashMap<i64, (i64, Key)> = HashMap::new();
    for row in &rows {
        let (table, index): (i64, i64) = (row.try_get("of_table")?, row.try_get("index")?);
        if row.try_get("fits")? {
            let (of, key) = chosen.entry(table).or_insert((index, Key { columns: Vec::new() }));
            if *of == index {
                key.columns.push(column(row)?);
            }
        }
    }
    Ok(chosen.into_iter().map(|(table, (_, key))| (table, forwards(key))).collect())
}

/// An index that only descends is as good read backwards.
fn forwards(key: Key) -> Key {
    if key.columns.iter().all(|column| column.descending) { key.reversed() } else { key }
}

fn column(row: &PgRow) -> Result<KeyColumn, sqlx::Error> {
    Ok(KeyColumn {
        name: row.try_get("name")?,
        type_name: row.try_get("type_name")?,
        descending: row.try_get("descending")?,
        collation: row.try_get("collation")?,
        operators: row.try_get("operators")?,
    })
}
