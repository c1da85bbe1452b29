//! Tables that may have indexes, and the indexes that they have.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::index::BEING_BUILT;
use crate::postgres::ident;

/// A table, a partition or a materialised view: what an index may be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Its object id.
    pub oid: i64,
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// `pg_class.relkind`: `r`, `p`, `m`; anything else cannot have an index.
    pub kind: String,
}

impl Indexed {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", ident::quote(&self.schema), ident::quote(&self.name))
    }

    /// Whether it is partitioned: its rows lie in other tables.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.kind == "p"
    }
}

/// Looks a relation up by the name that a plan writes. `None`: there is none.
///
/// # Errors
/// The driver's error; the server's where the name is not written as SQL writes names.
pub async fn relation(connection: &mut PgConnection, written: &str) -> Result<Option<Indexed>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
    )
    .bind(written)
    .persistent(false)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read_relation).transpose()
}

fn read_relation(row: &PgRow) -> Result<Indexed, sqlx::Error> {
    Ok(Indexed {
        oid: row.try_get("oid")?,
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        kind: row.try_get("kind")?,
    })
}

/// An index as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// As the server would write it: `CREATE INDEX ...`.
    pub definition: String,
    /// What makes two indexes the same: equal for equal ones, on whatever table.
    pub shape: String,
    /// Its tablespace, bare; the database's own where it names none.
    pub tablespace: String,
    /// Whether it can be used.
    pub is_valid: bool,
    /// Whether a session builds it at this moment, or may do so.
    pub is_building: bool,
    /// What it is to the index of a partitioned table.
    pub place: Place,
    /// Its comment.
    pub comment: Option<String>,
    /// Its size on disk, in bytes, with that of its parts.
    pub bytes: i64,
}

/// What an index is to that of a partitioned table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing: it stands alone.
    Alone,
    /// It is that of a partitioned table, and has no rows of its own.
    Root,
    /// It is part of one, and goes with it.
    Part,
}

impl Existing {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", ident::quote(&self.schema), ident::quote(&self.name))
    }
}

/// Everything of an index but its name and its table, in the server's own words.
const SHAPE: &str = "jsonb_build_array(am.amname, i.indisunique, i.indisexclusion, i.indnkeyatts, i.indclass::text, \
    i.indcollation::text, i.indoption::text, to_jsonb(i) -> 'indnullsnotdistinct', pg_get_expr(i.indpred, i.indrelid), \
    (SELECT array_agg(pg_get_indexdef(i.indexrelid, n, false) ORDER BY n) FROM generate_series(1, i.indnatts) n), \
    (SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) o), \
    (SELECT array_agg(a.attoptions::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid))::text";

/// The indexes of the tables with these object ids, in the order in which they were made.
///
/// # Errors
/// The driver's error.
pub async fn indexes(connection: &mut PgConnection, tables: &[i64]) -> Result<Vec<Existing>, sqlx::Error> {
    let sql = format!(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, pg_get_indexdef(i.indexrelid) AS definition, \
                {SHAPE} AS shape, t.spcname::text AS tablespace, i.indisvalid AS is_valid, \
                {BEING_BUILT} AS is_building, \
                c.relkind = 'I' AS is_root, c.relispartition AS is_part, \
                obj_description(c.oid, 'pg_class') AS comment, \
                coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(c.oid) WHERE isleaf), \
                         pg_relation_size(c.oid), 0)::int8 AS bytes \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_am am ON am.oid = c.relam JOIN pg_database d ON d.datname = current_database() \
         JOIN pg_tablespace t ON t.oid = coalesce(nullif(c.reltablespace, 0), d.dattablespace) \
         WHERE i.indrelid = ANY ($1::int8[]::oid[]) ORDER BY c.oid"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(tables).persistent(false).fetch_all(connection).await?;
    rows.iter().map(read_existing).collect()
}

fn read_existing(row: &PgRow) -> Result<Existing, sqlx::Error> {
    Ok(Existing {
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        definition: row.try_get("definition")?,
        shape: row.try_get("shape")?,
        tablespace: row.try_get("tablespace")?,
        is_valid: row.try_get("is_valid")?,
        is_building: row.try_get("is_building")?,
        place: match (row.try_get("is_part")?, row.try_get("is_root")?) {
            (true, _) => Place::Part,
            (false, true) => Place::Root,
            (false, false) => Place::Alone,
        },
        comment: row.try_get("comment")?,
        bytes: row.try_get("bytes")?,
    })
}

/// A table in a tree of partitions, the root among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The table.
    pub table: Indexed,
    /// The object id of the table that it is a partition of; `None` for the root.
    pub parent: Option<i64>,
    /// Whether it holds rows.
    pub is_leaf: bool,
}

/// A partitioned table and all beneath it, parents first.
///
/// # Errors
/// The driver's error.
pub async fn tree(connection: &mut PgConnection, root: i64) -> Result<Vec<Node>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, \
                CASE WHEN p.level > 0 THEN p.parentrelid::oid::int8 END AS parent, p.isleaf \
         FROM pg_partition_tree($1::int8::oid::regclass) p JOIN pg_class c ON c.oid = p.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY p.level, c.oid",
    )
    .bind(root)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let node = |row: &PgRow| {
        let table = read_relation(row)?;
        // A partitioned table without partitions is a leaf of the tree, and holds no rows.
        let is_leaf = row.try_get::<bool, _>("isleaf")? && !table.is_partitioned();
        Ok(Node { table, parent: row.try_get("parent")?, is_leaf })
    };
    rows.iter().map(node).collect()
}

/// What holds a name in a schema already: `table "orders"`. `None`: it is free.
///
/// # Errors
/// The driver's error.
pub async fn taken(connection: &mut PgConnection, schema: &str, name: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CASE WHEN i.indrelid IS NULL THEN 'another relation' ELSE 'an index of ' || i.indrelid::regclass END \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid \
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(name)
    .persistent(false)
    .fetch_optional(connection)
    .await
}

/// Whether an index is attached to the index `parent` of the partitioned table above its own.
///
/// # Errors
/// The driver's error.
pub async fn attached(connection: &mut PgConnection, table: i64, parent: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid \
         WHERE i.indrelid = $1::int8::oid AND h.inhparent = to_regclass($2))",
    )
    .bind(table)
    .bind(parent)
    .persistent(false)
    .fetch_one(connection)
    .await
}

/// A part of the index of a partitioned table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOfIndex {
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// The bare name of the partition that it is on.
    pub table: String,
    /// Its comment.
    pub comment: Option<String>,
    /// The names that the server has given to its columns, in their order, joined by `_`.
    pub columns: String,
}

impl PartOfIndex {
    /// Whether its name is one that the server chooses: of the partition and the columns, with a number where that was taken.
    #[must_use]
    pub fn is_named_by_server(&self) -> bool {
        let bare = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        let whole = format!("{}_{}_idx", self.table, self.columns);
        // Too long a name is cut by the server in its middle.
        bare == whole || (whole.len() > CUT_FROM && bare.ends_with("_idx") && self.name.len() > CUT_FROM)
    }
}

/// The length in bytes, about, from which on the server cuts the names that it chooses: it keeps 63, or fewer where a letter takes several.
const CUT_FROM: usize = 56;

/// All that is attached to the index of a partitioned table, quoted, directly or further down.
///
/// # Errors
/// The driver's error.
pub async fn parts_of_index(connection: &mut PgConnection, root: &str) -> Result<Vec<PartOfIndex>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS on_table, \
                obj_description(c.oid, 'pg_class') AS comment, \
                coalesce((SELECT string_agg(a.attname, '_' ORDER BY a.attnum) FROM pg_attribute a \
                          WHERE a.attrelid = c.oid AND a.attnum > 0), '') AS columns \
         FROM pg_partition_tree(to_regclass($1)) p JOIN pg_class c ON c.oid = p.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid \
         WHERE p.level > 0 ORDER BY p.level, c.oid",
    )
    .bind(root)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let part = |row: &PgRow| {
        Ok(PartOfIndex {
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            table: row.try_get("on_table")?,
            comment: row.try_get("comment")?,
            columns: row.try_get("columns")?,
        })
    };
    rows.iter().map(part).collect()
}

/// Whether another session of this database is at work on a statement that has `words` in it. Of another role's statements it
/// may not be able to tell.
///
/// # Errors
/// The driver's error.
pub async fn is_at_work_on(connection: &mut PgConnection, words: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' \
         AND datname = current_database() AND strpos(query, $1) > 0)",
    )
    .bind(words)
    .persistent(false)
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_by_the_name_that_the_server_would_choose() {
        let long = "t".repeat(60);
        let cut = format!("{}_n_idx", "t".repeat(57));
        let table = [
            ("events_3", "n", "events_3_n_idx", true),
            ("events_3", "n", "events_3_n_idx12", true),
            ("events_3", "lower_n", "events_3_lower_n_idx", true),
            ("events_3", "n", "mine", false),
            ("events_3", "n", "events_3_n_idx_mine", false),
            ("events_3", "n", "events_n_idx", false),
            (long.as_str(), "n", cut.as_str(), true),
            (long.as_str(), "n", "mine_idx", false),
        ];
        for (on, columns, name, expected) in table {
            let part = PartOfIndex {
                schema: "public".into(),
                name: name.into(),
                table: on.into(),
                comment: None,
                columns: columns.into(),
            };
            assert_eq!(part.is_named_by_server(), expected, "{name}");
        }
    }
}
