//! A query as the source of rows: a view of it, walked by the key that the plan names.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::look::{Look, View};
use crate::plan::model::Sql;
use crate::postgres::catalog::{self, Part, Table};
use crate::postgres::error;
use crate::postgres::ident::{self, quote};
use crate::postgres::key::{Key, KeyColumn};
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Walk;
use crate::run::Cause;

/// Makes the view, and looks it up as a table whose key is the plan's.
pub(super) async fn table(
    connection: &mut PgConnection,
    look: Look<'_>,
    (query, key): (&Sql, &[Sql]),
    view: View<'_>,
) -> Result<Table, Cause> {
    let (make, name) = match view {
        View::Kept(name) => ("CREATE OR REPLACE VIEW", format!("howdah.{}", quote(name))),
        View::Passing => ("CREATE OR REPLACE TEMPORARY VIEW", "pg_temp.howdah_source".to_owned()),
    };
    if matches!(view, View::Passing) {
        // Another step's may have other columns.
        let gone = connection.execute("DROP VIEW IF EXISTS pg_temp.howdah_source").await;
        gone.map_err(|e| error::cause(look.what, &e))?;
    }
    let bare = name.trim_start_matches("pg_temp.");
    let sql = SqlText::default().ours(&format!("{make} {bare} AS\n")).plans("transform", query);
    let made = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.as_str().to_owned()))).await;
    made.map_err(|e| error::cause_in_plan(look.what, &e, &sql, look.source))?;
    let failed = |e: sqlx::Error| error::cause(look.what, &e);
    let row = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
    )
    .bind(&name)
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let (oid, schema, name): (i64, String, String) = (
        row.try_get("oid").map_err(failed)?,
        row.try_get("schema").map_err(failed)?,
        row.try_get("name").map_err(failed)?,
    );
    let columns = catalog::columns(connection, oid).await.map_err(failed)?;
    let mut table = Table { oid, schema, name, columns, partition_key: Vec::new(), parts: Vec::new() };
    let mut by = Vec::new();
    for written in key {
        by.push(key_column(connection, look, &table, written).await?);
    }
    let (schema, name) = (table.schema.clone(), table.name.clone());
    table.parts.push(Part { oid, schema, name, is_partition: false, walk: Walk::Key(Key { columns: by }) });
    Ok(table)
}

async fn key_column(
    connection: &mut PgConnection,
    look: Look<'_>,
    table: &Table,
    written: &Sql,
) -> Result<KeyColumn, Cause> {
    let name = ident::parse(&written.text).map_err(|bad| look.refuse(&format!("`key`: {bad}"), written))?;
    let Some(column) = table.column(&name) else {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let cause = look.refuse(&format!("`key`: the query has no column `{}`", written.text), written);
        return Err(cause.hint(format!("its columns are {}", names.join(", "))));
    };
    // The schema of the operators by which the type is ordered.
    let operators: Option<Option<String>> = sqlx::query_scalar(
        "SELECT nullif(n.nspname::text, 'pg_catalog') FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         JOIN pg_opclass oc ON oc.opcdefault AND oc.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree') \
              AND (oc.opcintype = t.oid OR oc.opcintype = t.typbasetype OR (t.typname = 'varchar' AND oc.opcintype = 'text'::regtype) \
                   OR (t.typtype = 'e' AND oc.opcintype = 'anyenum'::regtype)) \
         JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 5 AND ao.amoplefttype = oc.opcintype \
              AND ao.amoprighttype = oc.opcintype \
         JOIN pg_operator o ON o.oid = ao.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
         WHERE a.attrelid = $1::int8::oid AND a.attname = $2 LIMIT 1",
    )
    .bind(table.oid)
    .bind(&name)
    .persistent(false)
    .fetch_optional(connection)
    .await
    .map_err(|e| error::cause(look.what, &e))?;
    let Some(operators) = operators else {
        return Err(look.refuse(&format!("`key`: values of type {} have no order", column.type_name), written));
    };
    Ok(KeyColumn { operators, ..KeyColumn::new(name, column.type_name.clone()) })
}

/// Refuses keys that are NULL or not one row's alone.
pub(super) async fn is_a_key(connection: &mut PgConnection, look: Look<'_>, table: &Table) -> Result<(), Cause> {
    let Some(Part { walk: Walk::Key(key), .. }) = table.parts.first() else { return Ok(()) };
    let columns: Vec<String> = key.columns.iter().map(|column| quote(&column.name)).collect();
    let nulls: Vec<String> = columns.iter().map(|column| format!("{column} IS NULL")).collect();
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {0} WHERE {1}), EXISTS (SELECT FROM {0} GROUP BY {2} HAVING count(*) > 1)",
        table.quoted(),
        nulls.join(" OR "),
        columns.join(", ")
    );
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await;
    let row = row.map_err(|e| error::cause(look.what, &e))?;
    let read = |e: sqlx::Error| error::cause(look.what, &e);
    let (null, double): (bool, bool) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    let wrong = match (null, double) {
        (true, _) => "is NULL in some rows of the query",
        (_, true) => "is the same in several rows of the query",
        (false, false) => return Ok(()),
    };
    let cause = Cause::usage(format!("{}: `key` {} {wrong}", look.what, key.describe()));
    Err(cause.hint("name columns that tell the rows apart and are never NULL"))
}
