//! The nth row of a range of keys: where a batch ends, where a segment is cut in two.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{Boundary, ByKey, T, count, parameter};
use crate::postgres::key::Relation;
use crate::run::KeyText;

impl ByKey<'_> {
    pub(super) async fn boundary(
        self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
        rows: u64,
    ) -> Result<Option<Boundary>, sqlx::Error> {
        let mut passed: Option<Boundary> = None;
        for piece in self.pieces(from, upper, Relation::Through) {
            let before = passed.as_ref().map_or(0, |passed| passed.rows);
            let wanted = rows.max(1).saturating_sub(before);
            if let Some(key) = self.nth(connection, &piece, from, upper, wanted).await? {
                return Ok(Some(Boundary { key, rows: before + wanted }));
            }
            // Fewer are left in it than are wanted: all of them, and how many they are.
            if let Some(all) = self.all(connection, &piece, from, upper).await? {
                passed = Some(Boundary { rows: before + all.rows, key: all.key });
            }
        }
        Ok(passed)
    }

    pub(super) async fn middle(
        self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: &KeyText,
        rows_ahead: u64,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let pieces = self.pieces(from, Some(upper), Relation::Before);
        let mut wanted = rows_ahead.max(1);
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(key) = self.nth(connection, piece, from, Some(upper), wanted).await? {
                return Ok(Some(key));
            }
            if index + 1 < pieces.len() {
                let all = self.all(connection, piece, from, Some(upper)).await?;
                wanted = wanted.saturating_sub(all.map_or(0, |all| all.rows)).max(1);
            }
        }
        Ok(None)
    }

    /// The range between two keys, in pieces that the index serves. `$1` and `$2` always have a type and a use, so that
    /// one shape of statement serves all ranges.
    fn pieces(self, from: Option<&KeyText>, upper: Option<&KeyText>, relation: Relation) -> Vec<String> {
        let unused = |n: usize| format!(" AND ${n}::text[] IS NULL");
        let rest = format!(
            "{}{}",
            if from.is_none() { unused(1) } else { String::new() },
            if upper.is_none() { unused(2) } else { String::new() }
        );
        let (upper_is, shared) = (upper.map(|_| relation), self.key.shared(from, upper));
        self.key.pieces(T, from.is_some(), upper_is, shared).into_iter().map(|piece| format!("{piece}{rest}")).collect()
    }

    /// What [`ByKey::boundary`] asks at first, in the order in which it asks.
    pub(super) fn questions(self, from: Option<&KeyText>, upper: Option<&KeyText>) -> Vec<String> {
        self.pieces(from, upper, Relation::Through).iter().map(|piece| self.nth_sql(piece)).collect()
    }

    fn nth_sql(self, piece: &str) -> String {
        format!(
            "SELECT {} FROM {} AS {T} WHERE {piece} ORDER BY {} OFFSET $3 LIMIT 1",
            self.key.as_text(T),
            self.part.quoted(),
            self.key.order(T)
        )
    }

    /// The key of the `n`th row, from 1.
    async fn nth(
        self,
        connection: &mut PgConnection,
        piece: &str,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
        n: u64,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(self.nth_sql(piece)))
            .bind(from)
            .bind(upper)
            .bind(parameter(n.saturating_sub(1)))
            .fetch_optional(connection)
            .await
    }

    /// The last key, and how many rows there are.
    async fn all(
        self,
        connection: &mut PgConnection,
        piece: &str,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
    ) -> Result<Option<Boundary>, sqlx::Error> {
        let sql = format!(
            "SELECT {}, count(*) OVER () FROM {} AS {T} WHERE {piece} ORDER BY {} LIMIT 1",
            self.key.as_text(T),
            self.part.quoted(),
            self.key.reversed().order(T)
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(upper).fetch_optional(connection).await?;
        row.map(|row| Ok(Boundary { key: row.try_get(0)?, rows: count(row.try_get(1)?) })).transpose()
    }
}
