//! The question by which the rows of a range are read, and the answer.

use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::rows::Rows;
use crate::plan::model::Sql;
use crate::postgres::catalog::Part;
use crate::postgres::ident::quote;
use crate::postgres::key::Key;
use crate::postgres::session::literal;
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::run::KeyText;
use crate::steps::keyspace::Keyspace;

/// Bytes of rows that a batch stops growing at.
pub(super) const MOST_BYTES: usize = 16 << 20;

/// One table that is walked by its key: the step's table, a partition of it, or the view of its query.
pub(super) struct Share {
    pub(super) keys: Keyspace,
    pub(super) key: Key,
    /// Its first key, where that is known.
    pub(super) first: Option<KeyText>,
    /// `"s"."t" AS "t"`.
    pub(super) from: String,
    /// `"t"`.
    pub(super) alias: String,
    /// What is read: columns or expressions, with a comma before each.
    pub(super) list: SqlText,
    pub(super) filter: Option<Sql>,
    /// Whether rows are read with their versions, to be updated.
    pub(super) versioned: bool,
    /// Of which number its stage is.
    pub(super) stage: usize,
}

/// A range of keys `(from, through]`.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) from: Option<KeyText>,
    pub(super) through: KeyText,
}

impl Share {
    pub(super) fn part(&self) -> &Part {
        self.keys.part()
    }

    /// The statement that reads the rows of a range, in the key's order; `locked`: and keeps others from changing them.
    pub(super) fn sql(&self, range: &Range, locked: bool) -> SqlText {
        let walk: &Walk = &self.part().walk;
        let from = range.from.as_ref();
        let between = walk.batch(&self.alias, from.is_some(), walk.shared(from, Some(&range.through)));
        let mut sql = SqlText::default().ours("COPY (SELECT ");
        for column in &self.key.columns {
            sql = sql.ours(&format!("{}.{}::text, ", self.alias, quote(&column.name)));
        }
        let version = if self.versioned { format!("{}.xmin::text", self.alias) } else { "''".to_owned() };
        sql = sql.ours(&version).text(&self.list);
        sql = sql.ours(&format!(" FROM {} WHERE {}", self.from, with_literals(&between, from, &range.through)));
        if let Some(filter) = &self.filter {
            sql = sql.ours(" AND (\n").plans("where", filter).ours("\n)");
        }
        sql = sql.ours(&format!(" ORDER BY {}", self.key.order(&self.alias)));
        if locked {
            sql = sql.ours(&format!(" FOR UPDATE OF {}", self.alias));
        }
        sql.ours(") TO STDOUT")
    }

    /// The row whose key is `$1`.
    fn is_key(&self) -> String {
        let values: Vec<String> = (1..)
            .zip(&self.key.columns)
            .map(|(n, column)| format!("($1::text[])[{n}]::{}", column.type_name))
            .collect();
        self.key.equals(&self.alias, &values)
    }
}

/// A range's condition with the keys written into it: COPY takes no parameters. Names in double quotes stay as they are.
fn with_literals(condition: &str, from: Option<&KeyText>, through: &KeyText) -> String {
    let array = |key: &KeyText| {
        let values: Vec<String> = key.iter().map(|value| literal(value)).collect();
        format!("(ARRAY[{}]::text[])", values.join(", "))
    };
    let (through, from) = (array(through), from.map(array).unwrap_or_default());
    // What is written in is not looked into again: it may hold anything.
    let behind = |part: &str| part.split("($1::text[])").collect::<Vec<_>>().join(&from);
    let outside = |part: &str| part.split("($2::text[])").map(behind).collect::<Vec<_>>().join(&through);
    let parts = condition.split('"').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 1 { part.to_owned() } else { outside(part) });
    parts.collect::<Vec<_>>().join("\"")
}

/// One row as it is now, as JSON. `None`: it is gone.
///
/// # Errors
/// The driver's.
pub(super) async fn row(
    connection: &mut PgConnection,
    share: &Share,
    key: &KeyText,
) -> Result<Option<String>, sqlx::Error> {
    let alias = &share.alias;
    let sql = format!("SELECT to_jsonb({alias}.*)::text FROM {} WHERE {} LIMIT 1", share.from, share.is_key());
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(key).persistent(false).fetch_optional(connection).await
}

/// Reads rows; stops keeping them, but not reading, past `most` bytes. `true`: some were not kept.
///
/// # Errors
/// The driver's. When the server did not send it, nothing more can be asked on the connection.
pub(super) async fn read(
    connection: &mut PgConnection,
    sql: &SqlText,
    key: usize,
    most: usize,
) -> Result<(Rows, bool), sqlx::Error> {
    let mut rows = Rows::new(key);
    let mut cut = false;
    let mut stream = connection.copy_out_raw(sql.as_str()).await?;
    while let Some(bytes) = stream.try_next().await? {
        if rows.bytes() >= most {
            cut = true;
            continue;
        }
        rows.push(&bytes);
    }
    Ok((rows, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_into_the_condition_and_into_nothing_else() {
        let key = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<KeyText>();
        let condition = "\"t\".\"($1::text[])\" > ($1::text[])[1]::text AND \"t\".\"a\" <= ($2::text[])[1]::text";
        let written = with_literals(condition, Some(&key(&["it's ($2::text[]) \"q\""])), &key(&["\\"]));
        assert_eq!(
            written,
            "\"t\".\"($1::text[])\" > (ARRAY[E'it''s ($2::text[]) \"q\"']::text[])[1]::text AND \"t\".\"a\" <= \
             (ARRAY[E'\\\\']::text[])[1]::text"
        );
        let row = with_literals("(a, b) <= (($2::text[])[1]::int, ($2::text[])[2]::int)", None, &key(&["1", "2"]));
        assert_eq!(row, "(a, b) <= ((ARRAY[E'1', E'2']::text[])[1]::int, (ARRAY[E'1', E'2']::text[])[2]::int)");
    }
}
