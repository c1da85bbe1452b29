//! The first and the last key, of all rows and of those that match.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{ByKey, Named, T};
use crate::postgres::key::End;
use crate::postgres::sql::SqlText;
use crate::run::KeyText;

impl ByKey<'_> {
    pub(super) async fn end(self, connection: &mut PgConnection, end: End) -> Result<Option<KeyText>, sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {} AS {T} ORDER BY {} LIMIT 1",
            self.key.as_text(T),
            self.part.quoted(),
            self.key.seen_from(end).order(T)
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_optional(connection).await
    }

    pub(super) async fn matching_end(
        self,
        connection: &mut PgConnection,
        end: End,
        named: &Named,
        condition: &SqlText,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1",
            self.key.as_text(&named.name),
            named.from,
            condition.as_str(),
            self.key.seen_from(end).order(&named.name)
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_optional(connection).await
    }

    /// Walks the other way from `key`, piece by piece: the first row is the one.
    pub(super) async fn before(
        self,
        connection: &mut PgConnection,
        key: &KeyText,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let back = self.key.reversed();
        for piece in back.pieces(T, true, None, 0) {
            let sql = format!(
                "SELECT {} FROM {} AS {T} WHERE {piece} ORDER BY {} LIMIT 1",
                back.as_text(T),
                self.part.quoted(),
                back.order(T)
            );
            let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(key).persistent(false);
            if let Some(found) = query.fetch_optional(&mut *connection).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
