//! Looks up the table that a step names, and refuses what a backfill cannot walk.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::key::{BASE_TYPE, usable_keys};
use super::near::near_tables;
use super::table::{Column, Part, Table, Writes};
use crate::plan::model::{PlanSource, Sql};
use crate::postgres::walk::{BlockScan, Blocks, Walk};
use crate::postgres::{error, sqlstate};
use crate::run::Cause;

/// Rows in a block of a table that was never analysed: of rows of about 130 bytes.
const ROWS_PER_BLOCK: u32 = 60;

/// Looks a table up by the name that the plan writes, and refuses what a backfill cannot walk.
///
/// # Errors
/// No such table, a view, a foreign table or partition, tables that inherit from it: with the place in the plan.
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
                EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid) AS has_children \
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
        "p" => None,
        "v" => Some(("is a view", "name the table beneath it")),
        "m" => Some(("is a materialised view", "change the tables beneath it and refresh it")),
        "f" => Some(("is a foreign table", "run howdah on the server that holds it")),
        _ => Some(("is not a table", "name a table")),
    };
    if let Some((is, hint)) = refused {
        return Err(refuse(format!("`{}` {is}", written.text), hint.to_owned()));
    }
    let oid: i64 = row.try_get("oid").map_err(read)?;
    let leaves = leaves(connection, oid).await.map_err(read)?;
    if let Some(foreign) = leaves.iter().find(|leaf| leaf.is_foreign) {
        return Err(refuse(
            format!("`{}` has a partition that is a foreign table, {}.{}", written.text, foreign.schema, foreign.name),
            "name the other partitions in steps of their own, and change that one on the server that holds it"
                .to_owned(),
        ));
    }
    let parts = parts(connection, leaves, kind == "p").await.map_err(read)?;
    Ok(Table {
        oid,
        schema: row.try_get("schema").map_err(read)?,
        name: row.try_get("name").map_err(read)?,
        columns: columns(connection, oid).await.map_err(read)?,
        partition_key: partition_key(connection, oid).await.map_err(read)?,
        parts,
    })
}

/// A table at the leaf of a tree of partitions.
struct Leaf {
    oid: i64,
    schema: String,
    name: String,
    is_foreign: bool,
    blocks: Blocks,
}

/// The tables that hold a table's rows: itself, or its leaf partitions in the order in which they were made.
async fn leaves(connection: &mut PgConnection, oid: i64) -> Result<Vec<Leaf>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'f' AS is_foreign, \
                CASE WHEN c.relpages > 0 AND c.reltuples > 0 \
                     THEN least(greatest(round(c.reltuples / c.relpages), 1), 10000)::int4 END AS rows_per_block, \
                current_setting('server_version_num')::int4 >= 140000 AS ranges \
         FROM (SELECT $1::int8::oid AS oid WHERE (SELECT relkind FROM pg_class WHERE oid = $1::int8::oid) = 'r' \
               UNION SELECT relid FROM pg_partition_tree($1::int8::oid::regclass) WHERE isleaf) leaf \
         JOIN pg_class c ON c.oid = leaf.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'f') ORDER BY c.oid",
    )
    .bind(oid)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let leaf = |row: &PgRow| {
        let density: Option<i32> = row.try_get("rows_per_block")?;
        let rows_per_block = density.map_or(ROWS_PER_BLOCK, |n| n.max(1).cast_unsigned());
        let scan = if row.try_get("ranges")? { BlockScan::Range } else { BlockScan::List };
        Ok(Leaf {
            oid: row.try_get("oid")?,
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            is_foreign: row.try_get("is_foreign")?,
            blocks: Blocks { rows_per_block, scan },
        })
    };
    rows.iter().map(leaf).collect()
}

async fn parts(
    connection: &mut PgConnection,
    leaves: Vec<Leaf>,
    are_partitions: bool,
) -> Result<Vec<Part>, sqlx::Error> {
    let oids: Vec<i64> = leaves.iter().map(|leaf| leaf.oid).collect();
    let mut keys = usable_keys(connection, &oids).await?;
    let part = |leaf: Leaf| {
        let walk = keys.remove(&leaf.oid).map_or(Walk::Blocks(leaf.blocks), Walk::Key);
        Part { oid: leaf.oid, schema: leaf.schema, name: leaf.name, is_partition: are_partitions, walk }
    };
    Ok(leaves.into_iter().map(part).collect())
}

/// The columns of a table or a view, in order.
///
/// # Errors
/// The driver's error.
pub async fn columns(connection: &mut PgConnection, oid: i64) -> Result<Vec<Column>, sqlx::Error> {
    let sql = format!(
        "SELECT a.attname::text AS name, {BASE_TYPE} AS type_name, a.attgenerated <> '' AS generated, \
                a.attidentity = 'a' AS identity FROM pg_attribute a \
         WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(oid).persistent(false).fetch_all(connection).await?;
    let column = |row: &PgRow| {
        let writes = match (row.try_get("generated")?, row.try_get("identity")?) {
            (true, _) => Writes::Generated,
            (false, true) => Writes::Identity,
            (false, false) => Writes::Anyone,
        };
        Ok(Column { name: row.try_get("name")?, type_name: row.try_get("type_name")?, writes })
    };
    rows.iter().map(column).collect()
}

/// The columns that decide where a row lies, at every level above the table and beneath it, also inside an expression:
/// the server makes each of them depend on its table as a whole.
async fn partition_key(connection: &mut PgConnection, oid: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT a.attname::text FROM pg_partitioned_table p \
         JOIN (SELECT relid FROM pg_partition_ancestors($1::int8::oid::regclass) \
               UNION SELECT relid FROM pg_partition_tree($1::int8::oid::regclass)) family ON family.relid = p.partrelid \
         JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = p.partrelid AND d.deptype = 'i' \
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.partrelid AND d.refobjsubid = 0 \
         JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = d.objsubid AND a.attnum > 0 ORDER BY 1",
    )
    .bind(oid)
    .persistent(false)
    .fetch_all(connection)
    .await
}
