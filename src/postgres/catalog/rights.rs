//! What the role may see and write of a table, where the server would say so late, or never.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::table::Table;
use crate::postgres::{ident, sqlstate};
use crate::run::Cause;

/// What there is to say of row security: the server hides rows without a word.
///
/// # Errors
/// The driver's error.
pub async fn row_security_notices(connection: &mut PgConnection, table: &Table) -> Result<Vec<String>, sqlx::Error> {
    let oids: Vec<i64> = table.parts.iter().map(|part| part.oid).collect();
    let row = sqlx::query(
        "SELECT current_user::text AS role, row_security_active($1::int8::oid) AS of_table, \
                ARRAY(SELECT o FROM unnest($2::int8[]) AS o WHERE row_security_active(o::oid)) AS of_parts",
    )
    .bind(table.oid)
    .bind(oids)
    .persistent(false)
    .fetch_one(connection)
    .await?;
    let role: String = row.try_get("role")?;
    let hidden: Vec<i64> = row.try_get("of_parts")?;
    let mut notices: Vec<String> = table
        .parts
        .iter()
        .filter(|part| hidden.contains(&part.oid))
        .map(|part| {
            let name = part.label();
            format!(
                "row security hides rows of `{name}` from role `{role}`: only rows that it shows are changed and counted"
            )
        })
        .collect();
    let of_table: bool = row.try_get("of_table")?;
    if of_table && hidden.len() < table.parts.len() {
        notices.push(format!(
            "row security of `{}` does not hold for its partitions, which are changed one by one: rows that it hides from \
             role `{role}` are changed as well",
            table.label()
        ));
    }
    Ok(notices)
}

/// Whether the role may read every partition and update these columns of it: partitions are changed one by one, and rights
/// on the whole table do not reach them.
///
/// # Errors
/// The first partition that it may not, with the SQL that lets it; or the driver's error, described.
pub async fn may_write_parts(
    connection: &mut PgConnection,
    step: &str,
    table: &Table,
    columns: &[String],
) -> Result<(), Cause> {
    let oids: Vec<i64> = table.parts.iter().filter(|part| part.is_partition).map(|part| part.oid).collect();
    let sql = "SELECT o, current_user::text AS role FROM unnest($1::int8[]) WITH ORDINALITY AS u(o, at) \
         WHERE NOT has_any_column_privilege(o::oid, 'SELECT') OR (NOT has_table_privilege(o::oid, 'UPDATE') \
               AND EXISTS (SELECT FROM unnest($2::text[]) AS c WHERE NOT has_column_privilege(o::oid, c, 'UPDATE'))) \
         ORDER BY at LIMIT 1";
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(oids)
        .bind(columns)
        .persistent(false)
        .fetch_optional(connection)
        .await
        .map_err(|e| crate::postgres::error::cause(&format!("step \"{step}\""), &e))?;
    let Some(row) = row else { return Ok(()) };
    let read = |e: sqlx::Error| crate::postgres::error::cause(&format!("step \"{step}\""), &e);
    let (oid, role): (i64, String) = (row.try_get("o").map_err(read)?, row.try_get("role").map_err(read)?);
    let Some(part) = table.parts.iter().find(|part| part.oid == oid) else { return Ok(()) };
    let role_quoted = ident::quote(&role);
    Err(Cause::new(format!(
        "step \"{step}\": role `{role}` may not change partition `{}` of `{}`; partitions are changed one by one",
        part.label(),
        table.label()
    ))
    .sqlstate(sqlstate::INSUFFICIENT_PRIVILEGE)
    .hint(format!("as its owner: GRANT SELECT, UPDATE ON {} TO {role_quoted}", part.quoted())))
}
