//! What is looked at before a run begins: whether there are such tables and indexes, and whether the server understands the
//! definition.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use super::definition::{self, Failure};
use crate::plan::indexing::{Analyze, Index, Rebuilt, Reindex, TableAndList};
use crate::plan::model::{PlanSource, Sql};
use crate::postgres::catalog::{self, Indexed};
use crate::postgres::error;
use crate::postgres::sql::SqlText;
use crate::run::Cause;
use crate::run::text::clean;

/// The first version of the server whose REINDEX goes into the partitions.
const REBUILDS_PARTITIONED: i32 = 140_000;

/// Checks an `index` step. What it tries is rolled back. Says what the operator should know: an index of that name that is another
/// stands in the way, unless a step before it takes that away.
///
/// # Errors
/// What is wrong, with its place in the plan.
pub async fn check_index(
    connection: &mut PgConnection,
    what: &str,
    index: &Index,
    source: &PlanSource,
) -> Result<Option<String>, Cause> {
    let failed = |e: sqlx::Error| error::cause(what, &e);
    let found = catalog::relation(connection, index.on.table()).await.map_err(|e| error::cause(what, &e))?;
    let Some(table) = found else { return Err(no_table(what, &index.on, source)) };
    if !matches!(table.kind.as_str(), "r" | "p" | "m") {
        return Err(refuse(what, &format!("`{}` cannot have an index", index.on.table()), &index.on.written, source)
            .hint("name a table or a materialised view"));
    }
    let name = definition::name(index, &table.name)?;
    let shape = definition::shape(connection, what, index, &table, source).await.map_err(|failure| match failure {
        Failure::Plan(cause) => cause,
        Failure::Sql(e) => failed(e),
    })?;
    let there = catalog::indexes(connection, &[table.oid]).await.map_err(failed)?;
    let other = there.iter().find(|one| one.name == name && shape.as_ref().is_some_and(|shape| *shape != one.shape));
    Ok(other.map(|other| {
        format!("{what}: there is an index `{name}` already, and it is another: {}", clean(&other.definition))
    }))
}

/// Checks a `reindex` step.
///
/// # Errors
/// What is wrong, with its place in the plan.
pub async fn check_reindex(
    connection: &mut PgConnection,
    what: &str,
    reindex: &Reindex,
    source: &PlanSource,
) -> Result<(), Cause> {
    let found = catalog::relation(connection, &reindex.what.name().text).await.map_err(|e| error::cause(what, &e))?;
    let of = rebuilt(what, &reindex.what, found, source)?;
    let version = version(connection).await.map_err(|e| error::cause(what, &e))?;
    can_rebuild(what, &reindex.what, &of, version, source)
}

/// Checks an `analyze` step.
///
/// # Errors
/// What is wrong, with its place in the plan.
pub async fn check_analyze(
    connection: &mut PgConnection,
    what: &str,
    analyze: &Analyze,
    source: &PlanSource,
) -> Result<(), Cause> {
    for on in &analyze.tables {
        let found = catalog::relation(connection, on.table()).await.map_err(|e| error::cause(what, &e))?;
        let table = analyzed(what, on, found, source)?;
        let Some(list) = &on.list else { continue };
        let sql = SqlText::default().ours("SELECT ").plans_part("analyze", &on.written, list.clone());
        let sql = sql.ours(&format!(" FROM {}", table.quoted()));
        let prepared = connection.prepare(AssertSqlSafe(sql.as_str().to_owned()).into_sql_str()).await;
        prepared.map_err(|e| error::cause_in_plan(what, &e, &sql, source))?;
    }
    Ok(())
}

/// What is built anew, where it is what the plan says that it is.
pub(super) fn rebuilt(
    what: &str,
    wanted: &Rebuilt,
    found: Option<Indexed>,
    source: &PlanSource,
) -> Result<Indexed, Cause> {
    let (name, word) = (wanted.name(), wanted.word());
    let Some(found) = found else {
        return Err(refuse(what, &format!("there is no {word} `{}`", name.text), name, source)
            .hint("write it as in SQL, with its schema: app.users_email"));
    };
    let is_index = matches!(found.kind.as_str(), "i" | "I");
    let is_table = matches!(found.kind.as_str(), "r" | "p" | "m");
    match wanted {
        Rebuilt::Index(_) if is_index => Ok(found),
        Rebuilt::Table(_) if is_table => Ok(found),
        Rebuilt::Index(_) if is_table => Err(refuse(what, &format!("`{}` is a table", name.text), name, source)
            .hint(format!("to rebuild all of its indexes: `reindex = {{ table = \"{}\" }}`", name.text))),
        Rebuilt::Table(_) if is_index => Err(refuse(what, &format!("`{}` is an index", name.text), name, source)
            .hint(format!("write `reindex = \"{}\"`", name.text))),
        _ => Err(refuse(what, &format!("`{}` is no {word}", name.text), name, source).hint("name an index or a table")),
    }
}

/// The server's version: 150004.
pub(super) async fn version(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT current_setting('server_version_num')::int4")
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// Whether the server can build `of` anew. An older one warns of a partitioned table, and does nothing.
pub(super) fn can_rebuild(
    what: &str,
    wanted: &Rebuilt,
    of: &Indexed,
    version: i32,
    source: &PlanSource,
) -> Result<(), Cause> {
    if version >= REBUILDS_PARTITIONED || !matches!(of.kind.as_str(), "p" | "I") {
        return Ok(());
    }
    let (name, major) = (wanted.name(), version / 10_000);
    let message = format!("`{}` is partitioned, and PostgreSQL {major} cannot build it anew as a whole", name.text);
    Err(refuse(what, &message, name, source)
        .hint(format!("write a `reindex` step for the {} of each partition, or use PostgreSQL 14", wanted.word())))
}

/// What is analysed, where it can be.
pub(super) fn analyzed(
    what: &str,
    on: &TableAndList,
    found: Option<Indexed>,
    source: &PlanSource,
) -> Result<Indexed, Cause> {
    let Some(found) = found else { return Err(no_table(what, on, source)) };
    if matches!(found.kind.as_str(), "r" | "p" | "m" | "f") {
        return Ok(found);
    }
    Err(refuse(what, &format!("`{}` has no statistics", on.table()), &on.written, source).hint("name a table"))
}

pub(super) fn no_table(what: &str, on: &TableAndList, source: &PlanSource) -> Cause {
    refuse(what, &format!("there is no table `{}`", on.table()), &on.written, source)
        .hint("write the table as in SQL: users, app.users, \"Odd name\".\"T\"")
}

fn refuse(what: &str, message: &str, at: &Sql, source: &PlanSource) -> Cause {
    let mut cause = Cause::usage(format!("{what}: {message}"));
    cause.details = source.excerpt_in_sql(at, 0);
    cause
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StepKind;
    use crate::plan::load::from_text;

    #[test]
    fn a_partitioned_index_is_built_anew_only_by_servers_that_do_it() {
        let text = "[[step]]\nname = 'r'\nreindex = 'app.i'\n";
        let plan = from_text("plan.toml", None, text, &|_: &str| None).expect("a good plan");
        let StepKind::Reindex(reindex) = &plan.steps[0].kind else { panic!("a reindex") };
        for (kind, version, expected) in [
            ("I", 130_014, false),
            ("p", 130_014, false),
            ("i", 130_014, true),
            ("r", 130_014, true),
            ("I", 140_000, true),
            ("p", 180_001, true),
        ] {
            let of = Indexed { oid: 1, schema: "app".into(), name: "i".into(), kind: kind.into() };
            let can = can_rebuild("step \"r\"", &reindex.what, &of, version, &plan.source);
            assert_eq!(can.is_ok(), expected, "{kind} {version}");
            if let Err(cause) = can {
                assert!(cause.message.contains("PostgreSQL 13 cannot"), "{}", cause.message);
            }
        }
    }
}
