//! Reads what is the case of tables, in few questions for all of them together.

use std::collections::HashMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::ANSWER;
use super::table::{ForeignKey, Identity, Index, Rights, TableFacts, Trigger, Unvalidated};
use crate::check::work::TableName;
use crate::postgres::catalog::BEING_BUILT;
use crate::postgres::deadline::within;

pub(super) type Read = (HashMap<i64, TableFacts>, HashMap<TableName, (i64, Vec<i64>)>);

pub(super) async fn read(connection: &mut PgConnection, names: &[&TableName]) -> Result<Read, sqlx::Error> {
    if names.is_empty() {
        return Ok(Read::default());
    }
    let named = within(ANSWER, resolve(connection, names)).await?;
    let mut oids: Vec<i64> = named.values().flat_map(|(oid, parts)| parts.iter().chain([oid])).copied().collect();
    oids.sort_unstable();
    oids.dedup();
    let mut tables = within(ANSWER, tables(connection, &oids)).await?;
    within(ANSWER, indexes(connection, &oids, &mut tables)).await?;
    within(ANSWER, triggers(connection, &oids, &mut tables)).await?;
    within(ANSWER, constraints(connection, &oids, &mut tables)).await?;
    Ok((tables, named))
}

/// By the catalog itself, which is open to all: a name in a schema that the role may not use is found as well.
async fn resolve(
    connection: &mut PgConnection,
    names: &[&TableName],
) -> Result<HashMap<TableName, (i64, Vec<i64>)>, sqlx::Error> {
    let schemas: Vec<Option<&str>> = names.iter().map(|name| name.schema.as_deref()).collect();
    let tables: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let rows = sqlx::query(
        "SELECT u.at::int8 AS at, c.oid::int8 AS oid, \
                CASE c.relkind WHEN 'r' THEN ARRAY[c.oid::int8] ELSE ARRAY(SELECT p.relid::oid::int8 \
                     FROM pg_partition_tree(c.oid::regclass) p JOIN pg_class l ON l.oid = p.relid \
                     WHERE p.isleaf AND l.relkind = 'r' ORDER BY 1) END AS parts \
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(schema, name, at) \
         JOIN pg_class c ON c.relname = u.name AND c.relkind IN ('r', 'p') \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE CASE WHEN u.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = u.schema END",
    )
    .bind(schemas)
    .bind(tables)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let mut named = HashMap::new();
    for row in &rows {
        let at: i64 = row.try_get("at")?;
        let name = usize::try_from(at - 1).ok().and_then(|at| names.get(at));
        if let Some(name) = name {
            named.insert((*name).clone(), (row.try_get("oid")?, row.try_get("parts")?));
        }
    }
    Ok(named)
}

async fn tables(connection: &mut PgConnection, oids: &[i64]) -> Result<HashMap<i64, TableFacts>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS partitioned, \
                CASE WHEN c.reltuples > 0 OR s.n_live_tup > 0 \
                     THEN greatest(c.reltuples::int8, s.n_live_tup, 0) END AS rows, \
                coalesce(s.n_dead_tup, 0) AS dead, coalesce(o.fillfactor, 100)::int4 AS fillfactor, \
                coalesce(o.enabled, true) AS autovacuum, \
                least(coalesce(nullif(coalesce(o.most, \
                        current_setting('autovacuum_vacuum_max_threshold', true)::float8), -1), 'Infinity'), \
                      coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8) \
                      + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) \
                        * greatest(c.reltuples, 0))::float8 AS autovacuum_at, \
                CASE WHEN c.relfrozenxid = '0' THEN 0 ELSE age(c.relfrozenxid) END::int8 AS xid_age, \
                CASE WHEN c.relreplident = 'f' THEN 'f' \
                     WHEN c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
                          AND i.indisprimary AND i.indisvalid) \
                       OR c.relreplident = 'i' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
                          AND i.indisreplident AND i.indisvalid) THEN 'k' \
                     ELSE 'n' END AS identity, \
                ARRAY(SELECT DISTINCT p.pubname::text FROM pg_publication p \
                      JOIN pg_publication_tables t ON t.pubname = p.pubname \
                      WHERE p.pubupdate AND (t.schemaname, t.tablename) IN ( \
                          SELECT an.nspname, ac.relname FROM pg_class ac JOIN pg_namespace an ON an.oid = ac.relnamespace \
                          WHERE ac.oid = c.oid OR ac.oid IN (SELECT relid FROM pg_partition_ancestors(c.oid::regclass))) \
                      ORDER BY 1) AS published_by, \
                row_security_active(c.oid) AS hides_rows, \
                has_schema_privilege(n.oid, 'USAGE') AS may_use, has_table_privilege(c.oid, 'SELECT') AS may_select, \
                has_any_column_privilege(c.oid, 'SELECT') AS may_select_any, \
                has_table_privilege(c.oid, 'UPDATE') AS may_update, \
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                      AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'UPDATE')) AS may_update_columns, \
                has_any_column_privilege(c.oid, 'INSERT') AS may_insert, \
                has_table_privilege(c.oid, 'DELETE') AS may_delete, \
                pg_has_role(c.relowner, 'USAGE') AS may_own, pg_get_userbyid(c.relowner)::text AS owner, \
                ARRAY(SELECT format('%I.%I', sn.nspname, sc.relname) FROM pg_attrdef ad \
                      JOIN pg_depend sd ON sd.classid = 'pg_attrdef'::regclass AND sd.objid = ad.oid \
                           AND sd.refclassid = 'pg_class'::regclass \
                      JOIN pg_class sc ON sc.oid = sd.refobjid AND sc.relkind = 'S' \
                      JOIN pg_namespace sn ON sn.oid = sc.relnamespace \
                      WHERE ad.adrelid = c.oid AND CASE WHEN sc.relkind = 'S' \
                            THEN NOT has_sequence_privilege(sc.oid, 'USAGE, UPDATE') END ORDER BY 1) \
                    AS closed_sequences \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
         CROSS JOIN LATERAL (SELECT \
                max(option_value) FILTER (WHERE option_name = 'fillfactor')::int4 AS fillfactor, \
                bool_and(option_value::bool) FILTER (WHERE option_name = 'autovacuum_enabled') AS enabled, \
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold') AS threshold, \
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor') AS scale, \
                max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_max_threshold') AS most \
              FROM pg_options_to_table(c.reloptions)) o \
         WHERE c.oid = ANY ($1::int8[]::oid[])",
    )
    .bind(oids)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("oid")?, table(row)?))).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows, clamped to what fits")]
fn table(row: &PgRow) -> Result<TableFacts, sqlx::Error> {
    let count = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    let autovacuum_at: f64 = row.try_get("autovacuum_at")?;
    Ok(TableFacts {
        oid: row.try_get("oid")?,
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        is_partitioned: row.try_get("partitioned")?,
        rows: row.try_get::<Option<i64>, _>("rows")?.map(|rows| rows.max(0).cast_unsigned()),
        dead: count("dead")?,
        fillfactor: row.try_get("fillfactor")?,
        autovacuum: row.try_get("autovacuum")?,
        autovacuum_at: autovacuum_at.clamp(0.0, 1e18) as u64,
        xid_age: row.try_get("xid_age")?,
        identity: match row.try_get::<&str, _>("identity")? {
            "f" => Identity::Full,
            "k" => Identity::Key,
            _ => Identity::Missing,
        },
        published_by: row.try_get("published_by")?,
        hides_rows: row.try_get("hides_rows")?,
        rights: Rights {
            usage: row.try_get("may_use")?,
            select: row.try_get("may_select")?,
            select_any: row.try_get("may_select_any")?,
            update: row.try_get("may_update")?,
            update_columns: row.try_get("may_update_columns")?,
            insert: row.try_get("may_insert")?,
            delete: row.try_get("may_delete")?,
            own: row.try_get("may_own")?,
            owner: row.try_get("owner")?,
            closed_sequences: row.try_get("closed_sequences")?,
        },
        ..TableFacts::default()
    })
}

async fn indexes(
    connection: &mut PgConnection,
    oids: &[i64],
    tables: &mut HashMap<i64, TableFacts>,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SELECT i.indrelid::int8 AS oid, c.relname::text AS name, i.indisvalid AS valid, \
                {BEING_BUILT} AS being_built, \
                c.relispartition OR i.indisunique OR i.indisreplident OR i.indisclustered OR EXISTS (SELECT FROM pg_constraint k \
                    WHERE k.conindid = i.indexrelid) AS needed, \
                NOT (am.amname = 'brin' AND current_setting('server_version_num')::int4 >= 160000) AS stops_hot, \
                coalesce(pg_get_indexdef(i.indexrelid), '') AS definition, \
                ARRAY(SELECT DISTINCT a.attname::text FROM pg_attribute a \
                      WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey::int2[]) \
                         OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
                              AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass \
                              AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)) AND a.attnum > 0 ORDER BY 1) \
                    AS columns \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam \
         WHERE i.indrelid = ANY ($1::int8[]::oid[]) AND i.indislive ORDER BY c.relname"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(oids).persistent(false).fetch_all(connection).await?;
    for row in &rows {
        let index = Index {
            name: row.try_get("name")?,
            columns: row.try_get("columns")?,
            is_valid: row.try_get("valid")?,
            is_being_built: row.try_get("being_built")?,
            is_needed: row.try_get("needed")?,
            stops_hot: row.try_get("stops_hot")?,
            definition: row.try_get("definition")?,
        };
        if let Some(table) = tables.get_mut(&row.try_get("oid")?) {
            table.indexes.push(index);
        }
    }
    Ok(())
}

async fn triggers(
    connection: &mut PgConnection,
    oids: &[i64],
    tables: &mut HashMap<i64, TableFacts>,
) -> Result<(), sqlx::Error> {
    // On a partition, older servers call the copy of its table's trigger internal.
    let rows = sqlx::query(
        "SELECT t.tgrelid::int8 AS oid, t.tgname::text AS name, format('%s.%s', n.nspname, p.proname) AS function, \
                CASE WHEN t.tgtype & 2 <> 0 THEN 'BEFORE ' ELSE 'AFTER ' END \
                    || CASE WHEN t.tgtype & 1 <> 0 THEN 'each row' ELSE 'each statement' END AS fires, \
                t.tgtype & 4 <> 0 AS on_insert, t.tgtype & 8 <> 0 AS on_delete, t.tgtype & 16 <> 0 AS on_update, \
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.tgrelid \
                      AND a.attnum = ANY (t.tgattr::int2[])) AS of_columns, \
                t.tgenabled IN ('R', 'A') AS as_replica, t.tgenabled IN ('O', 'A') AS as_origin \
         FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE t.tgrelid = ANY ($1::int8[]::oid[]) AND t.tgenabled <> 'D' \
           AND (NOT t.tgisinternal OR t.tgparentid <> 0 AND t.tgconstraint = 0) ORDER BY t.tgname",
    )
    .bind(oids)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let trigger = Trigger {
            name: row.try_get("name")?,
            function: row.try_get("function")?,
            when: row.try_get("fires")?,
            on_insert: row.try_get("on_insert")?,
            on_update: row.try_get("on_update")?,
            on_delete: row.try_get("on_delete")?,
            of_columns: row.try_get("of_columns")?,
            fires_as_replica: row.try_get("as_replica")?,
            fires_as_origin: row.try_get("as_origin")?,
        };
        if let Some(table) = tables.get_mut(&row.try_get("oid")?) {
            table.triggers.push(trigger);
        }
    }
    Ok(())
}

async fn constraints(
    connection: &mut PgConnection,
    oids: &[i64],
    tables: &mut HashMap<i64, TableFacts>,
) -> Result<(), sqlx::Error> {
    // A foreign key to a table with partitions stands there once for each of them.
    let rows = sqlx::query(
        "SELECT con.conrelid::int8 AS of_table, con.confrelid::int8 AS to_table, con.conname::text AS name, \
                con.contype::text AS kind, con.convalidated AS validated, \
                con.conparentid <> 0 AND EXISTS (SELECT FROM pg_constraint up WHERE up.oid = con.conparentid \
                    AND up.conrelid = con.conrelid) AS repeats, \
                ARRAY(SELECT a.attname::text FROM pg_attribute a \
                      WHERE a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey)) AS columns, \
                ARRAY(SELECT a.attname::text FROM pg_attribute a \
                      WHERE a.attrelid = con.confrelid AND a.attnum = ANY (con.confkey)) AS referred, \
                CASE WHEN n.nspname = 'public' THEN c.relname::text ELSE n.nspname || '.' || c.relname END AS of_label, \
                quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS of_quoted, \
                coalesce(CASE WHEN fn.nspname = 'public' THEN fc.relname::text ELSE fn.nspname || '.' || fc.relname END, '') \
                    AS to_label, \
                coalesce(quote_ident(fn.nspname) || '.' || quote_ident(fc.relname), '') AS to_quoted, \
                con.contype = 'f' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = con.conrelid AND i.indisvalid \
                    AND i.indpred IS NULL AND i.indnkeyatts >= cardinality(con.conkey) \
                    AND (i.indkey::int2[])[0:cardinality(con.conkey) - 1] @> con.conkey) AS indexed, \
                CASE con.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' \
                     WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END AS on_update, \
                CASE con.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' \
                     WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END AS on_delete \
         FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_class fc ON fc.oid = con.confrelid LEFT JOIN pg_namespace fn ON fn.oid = fc.relnamespace \
         WHERE con.contype = 'f' AND (con.conrelid = ANY ($1::int8[]::oid[]) OR con.confrelid = ANY ($1::int8[]::oid[])) \
            OR con.conrelid = ANY ($1::int8[]::oid[]) AND con.contype IN ('c', 'n') AND NOT con.convalidated \
         ORDER BY con.conname",
    )
    .bind(oids)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let (of_table, to_table): (i64, i64) = (row.try_get("of_table")?, row.try_get("to_table")?);
        let is_foreign_key = row.try_get::<&str, _>("kind")? == "f";
        let validated: bool = row.try_get("validated")?;
        let (name, columns): (String, Vec<String>) = (row.try_get("name")?, row.try_get("columns")?);
        if let Some(table) = tables.get_mut(&of_table).filter(|_| !validated) {
            table.unvalidated.push(Unvalidated { name: name.clone(), is_foreign_key, columns: columns.clone() });
        }
        if !is_foreign_key {
            continue;
        }
        let key = ForeignKey {
            name,
            columns,
            referred: row.try_get("referred")?,
            is_indexed: row.try_get("indexed")?,
            on_update: row.try_get("on_update")?,
            on_delete: row.try_get("on_delete")?,
            ..ForeignKey::default()
        };
        let repeats: bool = row.try_get("repeats")?;
        if let Some(table) = tables.get_mut(&of_table).filter(|_| !repeats) {
            let (other, other_quoted) = (row.try_get("to_label")?, row.try_get("to_quoted")?);
            table.references.push(ForeignKey { other, other_quoted, ..key.clone() });
        }
        if let Some(table) = tables.get_mut(&to_table) {
            let (other, other_quoted) = (row.try_get("of_label")?, row.try_get("of_quoted")?);
            table.referenced_by.push(ForeignKey { other, other_quoted, ..key });
        }
    }
    Ok(())
}
