//! Where a range of keys is cut into segments of about as many rows each, without reading the table.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{ByKey, T};
use crate::postgres::ident;
use crate::postgres::key::{End, KeyColumn, Relation};
use crate::run::KeyText;

/// Rows that a sample aims at. Rows of one block often lie together in the key's order, so that 64 segments are told apart by
/// about five blocks each: the largest gets about twice its share, and whoever runs dry takes from it.
const SAMPLE: f64 = 20_000.0;
/// Blocks that a sample of wide rows reads at most: each is a random read.
const MOST_BLOCKS: f64 = 2_000.0;
/// Rows in a block of a table that was never analysed.
const ROWS_PER_BLOCK: f64 = 60.0;

impl ByKey<'_> {
    pub(super) async fn cuts(
        self,
        connection: &mut PgConnection,
        lower: Option<&KeyText>,
        upper: &KeyText,
        segments: u32,
    ) -> Result<Vec<KeyText>, sqlx::Error> {
        let first = match lower {
            Some(_) => None,
            None => self.end(connection, End::First).await?,
        };
        let Some(lower) = lower.or(first.as_ref()) else { return Ok(Vec::new()) };
        if let [column] = self.key.columns.as_slice()
            && column.collation.is_none()
        {
            let cuts = self.by_statistics(connection, column, lower, upper, segments).await?;
            if !cuts.is_empty() {
                return Ok(cuts);
            }
        }
        self.by_sample(connection, lower, upper, segments).await
    }

    /// The bounds of the column's histogram, each replaced by the first key that is there behind it.
    async fn by_statistics(
        self,
        connection: &mut PgConnection,
        column: &KeyColumn,
        lower: &KeyText,
        upper: &KeyText,
        segments: u32,
    ) -> Result<Vec<KeyText>, sqlx::Error> {
        // A histogram ascends in the column's own order.
        let ascending = if column.descending { self.key.reversed() } else { self.key.clone() };
        let name = format!("{T}.{}", ident::quote(&column.name));
        let from = match &column.operators {
            Some(schema) => format!("{name} OPERATOR({}.>=) bound.value", ident::quote(schema)),
            None => format!("{name} >= bound.value"),
        };
        let sql = format!(
            "SELECT found.key FROM pg_stats s \
             CROSS JOIN LATERAL (SELECT s.histogram_bounds::text::{type_name}[] AS bounds) AS all_of \
             CROSS JOIN LATERAL unnest(bounds) WITH ORDINALITY AS bound(value, at) \
             CROSS JOIN LATERAL (SELECT {key} AS key FROM {table} AS {T} WHERE {from} AND {between} \
                                 ORDER BY {order} LIMIT 1) AS found \
             WHERE s.schemaname = $3 AND s.tablename = $4 AND s.attname = $5 AND NOT s.inherited \
               AND at > 1 AND at < cardinality(bounds) \
               AND (at - 1) * $6::int8 / (cardinality(bounds) - 1) > (at - 2) * $6::int8 / (cardinality(bounds) - 1) \
             ORDER BY at",
            type_name = column.type_name,
            key = ascending.as_text(T),
            table = self.part.quoted(),
            between = self.key.between(T, true, Some(Relation::Before), 0),
            order = ascending.order(T),
        );
        let mut cuts: Vec<KeyText> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(lower)
            .bind(upper)
            .bind(&self.part.schema)
            .bind(&self.part.name)
            .bind(&column.name)
            .bind(i64::from(segments))
            .persistent(false)
            .fetch_all(connection)
            .await?;
        // Two bounds with no row between them lead to the same key.
        cuts.dedup();
        if column.descending {
            cuts.reverse();
        }
        Ok(cuts)
    }

    /// Keys at equal distances of a sample of the table's blocks, in the key's order.
    async fn by_sample(
        self,
        connection: &mut PgConnection,
        lower: &KeyText,
        upper: &KeyText,
        segments: u32,
    ) -> Result<Vec<KeyText>, sqlx::Error> {
        let percent = self.sampled_percent(connection).await?;
        // The same blocks whenever they are asked for.
        let sql = format!(
            "SELECT key FROM (SELECT {key} AS key, row_number() OVER (ORDER BY {order}) AS at, count(*) OVER () AS n \
                              FROM {table} AS {T} TABLESAMPLE SYSTEM ($3::float4) REPEATABLE (1) WHERE {between}) AS sample \
             WHERE at * $4::int8 / (n + 1) > (at - 1) * $4::int8 / (n + 1) ORDER BY at",
            key = self.key.as_text(T),
            order = self.key.order(T),
            table = self.part.quoted(),
            between = self.key.between(T, true, Some(Relation::Before), 0),
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(lower)
            .bind(upper)
            .bind(percent)
            .bind(i64::from(segments))
            .persistent(false)
            .fetch_all(connection)
            .await
    }

    /// The share of the table's blocks, in percent, that hold about as many rows as a sample needs.
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 100")]
    async fn sampled_percent(self, connection: &mut PgConnection) -> Result<f32, sqlx::Error> {
        let row = sqlx::query(
            "SELECT (pg_relation_size(oid) / current_setting('block_size')::int8)::float8 AS blocks, \
                    CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples::float8 / relpages END AS density \
             FROM pg_class WHERE oid = $1::int8::oid",
        )
        .bind(self.part.oid)
        .persistent(false)
        .fetch_one(connection)
        .await?;
        let blocks: f64 = row.try_get("blocks")?;
        let density: Option<f64> = row.try_get("density")?;
        let wanted = (SAMPLE / density.unwrap_or(ROWS_PER_BLOCK)).clamp(1.0, MOST_BLOCKS);
        Ok((wanted / blocks.max(1.0) * 100.0).min(100.0) as f32)
    }
}
