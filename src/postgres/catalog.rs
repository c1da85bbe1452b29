//! What the catalog says of the tables, keys and indexes that a plan names.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::ident;
use super::key::{Key, KeyColumn};
use super::sqlstate;
use super::{error, tokens};
use crate::plan::model::{PlanSource, Sql};
use crate::run::Cause;

/// A table that a step works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its object id.
    pub oid: i64,
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// Its columns' bare names, in order.
    pub columns: Vec<String>,
    /// Its primary key.
    pub key: Key,
}

impl Table {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", ident::quote(&self.schema), ident::quote(&self.name))
    }

    /// `schema.name`, or only `name` in schema `public`: for people.
    #[must_use]
    pub fn label(&self) -> String {
        if self.schema == "public" { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }
}

/// Looks a table up by the name that the plan writes, and refuses what a backfill cannot walk.
///
/// # Errors
/// No such table, not an ordinary table, no primary key: with the place in the plan.
pub async fn table(
    connection: &mut PgConnection,
    step: &str,
    written: &Sql,
    source: &PlanSource,
) -> Result<Table, Cause> {
    let what = format!("step \"{step}\"");
    let refuse = |message: String, hint: String| {
        let mut cause = Cause::usage(format!("{what}: {message}")).hint(hint);
        cause.details = source.excerpt_in_sql(written, 0);
        cause
    };
    let found = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, \
                c.relhassubclass AS has_children, \
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                      AND NOT a.attisdropped ORDER BY a.attnum) AS columns \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
    )
    .bind(&written.text)
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await;
    let row = match found {
        Ok(Some(row)) => row,
        Ok(None) => {
            let hint = near_tables(connection, &written.text).await;
            return Err(refuse(format!("there is no table `{}`", written.text), hint));
        }
        Err(e) if error::code(&e).is_some_and(|code| sqlstate::class(code) == sqlstate::Class::Plan) => {
            let words = error::database(&e).map(|db| db.message().to_owned()).unwrap_or_default();
            return Err(refuse(words, "write the table as in SQL: users, app.users, \"Odd name\".\"T\"".to_owned()));
        }
        Err(e) => return Err(error::cause(&what, &e)),
    };
    let read = |e: sqlx::Error| error::cause(&what, &e);
    let kind: String = row.try_get("kind").map_err(read)?;
    let has_children: bool = row.try_get("has_children").map_err(read)?;
    let refused = match kind.as_str() {
        "r" if !has_children => None,
        "r" => Some(("has tables that inherit from it", "name each of them in a step of its own")),
        "p" => Some(("is partitioned, which is not built yet", "name each partition in a step of its own")),
        "v" => Some(("is a view", "name the table beneath it")),
        "m" => Some(("is a materialised view", "change the tables beneath it and refresh it")),
        "f" => Some(("is a foreign table", "run howdah on the server that holds it")),
        _ => Some(("is not a table", "name a table")),
    };
    if let Some((is, hint)) = refused {
        return Err(refuse(format!("`{}` {is}", written.text), hint.to_owned()));
    }
    let oid: i64 = row.try_get("oid").map_err(read)?;
    let table = Table {
        oid,
        schema: row.try_get("schema").map_err(read)?,
        name: row.try_get("name").map_err(read)?,
        columns: row.try_get("columns").map_err(read)?,
        key: Key { columns: primary_key(connection, oid).await.map_err(read)? },
    };
    if table.key.columns.is_empty() {
        return Err(refuse(
            format!("table `{}` has no primary key, and walking a table without one is not built yet", written.text),
            format!(
                "add one: ALTER TABLE {} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                table.quoted()
            ),
        ));
    }
    Ok(table)
}

async fn primary_key(connection: &mut PgConnection, oid: i64) -> Result<Vec<KeyColumn>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type_name \
         FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = $1::int8::oid AND i.indisprimary AND k.position <= i.indnkeyatts ORDER BY k.position",
    )
    .bind(oid)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(KeyColumn { name: row.try_get("name")?, type_name: row.try_get("type_name")? })).collect()
}

/// Tables whose names resemble the one that was not found, as a hint.
async fn near_tables(connection: &mut PgConnection, written: &str) -> String {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CASE n.nspname WHEN 'public' THEN quote_ident(c.relname) \
                ELSE quote_ident(n.nspname) || '.' || quote_ident(c.relname) END \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah', 'pg_toast') LIMIT 2000",
    )
    .persistent(false)
    .fetch_all(connection)
    .await
    .unwrap_or_default();
    near(written, names.iter().map(String::as_str)).map_or_else(
        || "is the search_path right, and is this the right database? `howdah run` says which one it uses".to_owned(),
        |name| format!("did you mean `{name}`?"),
    )
}

/// The candidate that resembles `written` most, when it does.
#[must_use]
pub fn near<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&bare(written), &bare(candidate)), candidate))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What is there of an index that a statement wants to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Nothing of that name on the table.
    Absent,
    /// Built and usable.
    Valid,
    /// Left behind by a build that failed.
    Invalid,
    /// Another session is building it at this moment.
    BeingBuilt,
}

/// Looks an index up on its table.
///
/// # Errors
/// The driver's error.
pub async fn index_state(
    connection: &mut PgConnection,
    wanted: &tokens::ConcurrentIndex,
) -> Result<IndexState, sqlx::Error> {
    let row = sqlx::query(
        "SELECT i.indisvalid AS valid, EXISTS (SELECT 1 FROM pg_stat_progress_create_index p \
                WHERE p.index_relid = i.indexrelid) AS building \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = to_regclass($1) AND c.relname = $2",
    )
    .bind(&wanted.table)
    .bind(&wanted.index)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(IndexState::Absent) };
    let (valid, building): (bool, bool) = (row.try_get("valid")?, row.try_get("building")?);
    Ok(match (valid, building) {
        (true, _) => IndexState::Valid,
        (false, true) => IndexState::BeingBuilt,
        (false, false) => IndexState::Invalid,
    })
}

/// `DROP INDEX CONCURRENTLY` for an index in its table's schema.
///
/// # Errors
/// The driver's error.
pub async fn drop_index(connection: &mut PgConnection, wanted: &tokens::ConcurrentIndex) -> Result<(), sqlx::Error> {
    let name: Option<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid = to_regclass($1) AND c.relname = $2",
    )
    .bind(&wanted.table)
    .bind(&wanted.index)
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(name) = name {
        let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
        sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn a_misspelt_table_is_guessed() {
        let names = ["users", "app.orders", "\"Odd\""];
        assert_eq!(near("user", names.into_iter()), Some("users"));
        assert_eq!(near("orderz", names.into_iter()), Some("app.orders"));
        assert_eq!(near("zebra", names.into_iter()), None);
    }
}
