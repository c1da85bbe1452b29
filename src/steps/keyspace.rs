//! Keys of a table: the first, the last, and the boundary of a batch, computed explicitly and never read off a change.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::postgres::catalog::Table;
use crate::postgres::key::Direction;
use crate::postgres::sql::SqlText;
use crate::run::KeyText;

/// The questions that a walk asks of a table's keys.
#[derive(Debug, Clone)]
pub struct Keyspace {
    table: Table,
}

/// The end of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// The last key of the batch.
    pub key: KeyText,
    /// Rows up to it.
    pub rows: u64,
}

/// Name of the table in these questions.
const T: &str = "howdah_t";

impl Keyspace {
    /// The keys of `table`.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table }
    }

    /// The first key, or the last.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn end(
        &self,
        connection: &mut PgConnection,
        direction: Direction,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {} AS {T} ORDER BY {} LIMIT 1",
            self.table.key.as_text(T),
            self.table.quoted(),
            self.table.key.order(T, direction)
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_optional(connection).await
    }

    /// The first key, or the last, among the rows that match a condition; `from` and `name` are how it knows the table.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn matching_end(
        &self,
        connection: &mut PgConnection,
        direction: Direction,
        from: &str,
        name: &str,
        condition: &SqlText,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {from} WHERE {} ORDER BY {} LIMIT 1",
            self.table.key.as_text(name),
            condition.as_str(),
            self.table.key.order(name, direction)
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_optional(connection).await
    }

    /// The key just before `key`. `None` where it is the first.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn before(&self, connection: &mut PgConnection, key: &KeyText) -> Result<Option<KeyText>, sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {} AS {T} WHERE {} ORDER BY {} LIMIT 1",
            self.table.key.as_text(T),
            self.table.quoted(),
            self.table.key.compare(T, "<", 1),
            self.table.key.order(T, Direction::Descending)
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(key).persistent(false).fetch_optional(connection).await
    }

    /// The end of a batch of at most `rows` rows with keys in `(from, upper]`. `None` where no row is left.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn boundary(
        &self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
        rows: u64,
    ) -> Result<Option<Boundary>, sqlx::Error> {
        let table = &self.table;
        let (name, order) = (table.quoted(), table.key.order(T, Direction::Ascending));
        let range = self.range(from, upper);
        let key = table.key.as_text(T);
        let sql = format!("SELECT {key} FROM {name} AS {T} WHERE {range} ORDER BY {order} OFFSET $3 LIMIT 1");
        let full: Option<KeyText> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(from)
            .bind(upper)
            .bind(i64::try_from(rows.saturating_sub(1)).unwrap_or(i64::MAX))
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(key) = full {
            return Ok(Some(Boundary { key, rows }));
        }
        // Fewer are left than a batch holds: all of them, and how many they are.
        let descending = table.key.order(T, Direction::Descending);
        let sql = format!(
            "SELECT {key}, count(*) OVER () FROM {name} AS {T} WHERE {range} AND $3::int8 IS NOT NULL \
             ORDER BY {descending} LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(upper).bind(0_i64).fetch_optional(connection).await?;
        row.map(|row| {
            let rows: i64 = row.try_get(1)?;
            Ok(Boundary { key: row.try_get(0)?, rows: rows.max(0).cast_unsigned() })
        })
        .transpose()
    }

    /// The row with the one key in `(from, through]`, as JSON. `None`: it has vanished.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn row(
        &self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Option<serde_json::Value>, sqlx::Error> {
        let range = self.range(from, Some(through));
        let sql = format!("SELECT to_jsonb({T}) FROM {} AS {T} WHERE {range} LIMIT 1", self.table.quoted());
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(from).bind(through).fetch_optional(connection).await
    }

    /// `$1` and `$2` always have a type and a use, so that one shape of statement serves all ranges.
    fn range(&self, from: Option<&KeyText>, upper: Option<&KeyText>) -> String {
        let lower = match from {
            Some(_) => self.table.key.compare(T, ">", 1),
            None => "$1::text[] IS NULL".to_owned(),
        };
        let upper = match upper {
            Some(_) => self.table.key.compare(T, "<=", 2),
            None => "$2::text[] IS NULL".to_owned(),
        };
        format!("{lower} AND {upper}")
    }
}
