//! The SQL of a backfill: the change of one batch, and the question what is left.

use crate::plan::model::{Backfill, Change, PlanSource, Sql};
use crate::postgres::catalog::{self, Table};
use crate::postgres::ident;
use crate::postgres::sql::SqlText;
use crate::run::Cause;

/// Where the batch's bounds stand among a statement's parameters: `$1` the key before its first, `$2` its last key.
const FROM: usize = 1;
const THROUGH: usize = 2;

/// The change of a backfill as SQL, for one table.
#[derive(Debug, Clone)]
pub struct BatchSql {
    /// The change, where the batch begins behind a key.
    pub change: SqlText,
    /// The change, where the batch begins at the table's first key. `$1` is not used.
    pub change_from_start: SqlText,
    /// How the change's answer tells the rows.
    pub answer: Answer,
    /// `SELECT count(*)` of the rows of the batch's range that still match; only for a raw statement with a `where`.
    pub still_matching: Option<SqlText>,
    /// The same, where the batch begins at the first key.
    pub still_matching_from_start: Option<SqlText>,
    /// `SELECT count(*)` of the rows of the whole table that match `where`.
    pub left: Option<SqlText>,
    /// The condition, in parentheses, with the table named as in `left`.
    pub filter: Option<SqlText>,
    /// How the table is named in `left` and `filter`: `FROM "s"."t" AS "u"` and `"u"`.
    pub named: Named,
}

/// A table and the name that conditions know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `"s"."t" AS "u"`.
    pub from: String,
    /// `"u"`.
    pub name: String,
}

/// How a change's answer tells how many rows it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// By the command's row count.
    RowsAffected,
    /// By a row of two counts: changed, and of those still matching.
    Counts,
}

/// Puts the SQL of a backfill together, and checks the columns that it names.
///
/// # Errors
/// A column in `set` is not there, is part of the key, or is not written as SQL writes names.
pub fn batch_sql(step: &str, backfill: &Backfill, table: &Table, source: &PlanSource) -> Result<BatchSql, Cause> {
    match &backfill.change {
        Change::Set { set, filter } => set_sql(step, set, filter.as_ref(), table, source),
        Change::Raw { sql, alias, filter } => raw_sql(step, sql, alias.as_ref(), filter.as_ref(), table, source),
    }
}

fn set_sql(
    step: &str,
    set: &[(String, Sql)],
    filter: Option<&Sql>,
    table: &Table,
    source: &PlanSource,
) -> Result<BatchSql, Cause> {
    let named = Named { from: table.quoted(), name: ident::quote(&table.name) };
    let mut assignments = SqlText::default();
    for (index, (written, expression)) in set.iter().enumerate() {
        let column = column(step, written, expression, table, source)?;
        let comma = if index == 0 { "" } else { ", " };
        assignments = assignments
            .ours(&format!("{comma}{} = (\n", ident::quote(&column)))
            .plans(&format!("set.{written}"), expression)
            .ours("\n)");
    }
    let condition = filter.map(|filter| SqlText::default().ours("(\n").plans("where", filter).ours("\n)"));
    let change = |from_start: bool| {
        let update = SqlText::default()
            .ours(&format!("UPDATE {} SET ", named.from))
            .text(&assignments)
            .ours(&format!(" WHERE {}", range(table, &named.name, from_start)));
        match &condition {
            None => update,
            Some(condition) => SqlText::default()
                .ours("WITH changed AS (")
                .text(&update)
                .ours(" AND ")
                .text(condition)
                .ours(" RETURNING ")
                .text(condition)
                .ours(" IS TRUE AS still) SELECT count(*), count(*) FILTER (WHERE still) FROM changed"),
        }
    };
    Ok(BatchSql {
        change: change(false),
        change_from_start: change(true),
        answer: if condition.is_some() { Answer::Counts } else { Answer::RowsAffected },
        still_matching: None,
        still_matching_from_start: None,
        left: condition.as_ref().map(|condition| left(&named, condition)),
        filter: condition,
        named,
    })
}

fn raw_sql(
    step: &str,
    sql: &Sql,
    alias: Option<&Sql>,
    filter: Option<&Sql>,
    table: &Table,
    source: &PlanSource,
) -> Result<BatchSql, Cause> {
    let name = match alias {
        None => ident::quote(&table.name),
        Some(alias) => ident::quote(&ident::parse(&alias.text).map_err(|bad| {
            let mut cause = Cause::usage(format!("step \"{step}\", `alias`: {bad}"));
            cause.details = source.excerpt_in_sql(alias, 0);
            cause
        })?),
    };
    let named = Named { from: format!("{} AS {name}", table.quoted()), name };
    let at = sql.text.find(BATCH).unwrap_or(sql.text.len());
    let after = (at + BATCH.len()).min(sql.text.len());
    let condition = filter.map(|filter| SqlText::default().ours("(\n").plans("where", filter).ours("\n)"));
    // With the condition, so that a second sweep over the same keys never changes a row twice.
    let change = |from_start: bool| {
        let predicate = SqlText::default().ours(&format!("({}", range(table, &named.name, from_start)));
        let predicate = match &condition {
            Some(condition) => predicate.ours(" AND ").text(condition),
            None => predicate,
        };
        SqlText::default().plans_part("sql", sql, 0..at).text(&predicate.ours(")")).plans_part(
            "sql",
            sql,
            after..sql.text.len(),
        )
    };
    let still = |from_start: bool| {
        condition
            .as_ref()
            .map(|condition| left(&named, condition).ours(&format!(" AND {}", range(table, &named.name, from_start))))
    };
    Ok(BatchSql {
        change: change(false),
        change_from_start: change(true),
        answer: Answer::RowsAffected,
        still_matching: still(false),
        still_matching_from_start: still(true),
        left: condition.as_ref().map(|condition| left(&named, condition)),
        filter: condition,
        named,
    })
}

/// What stands for the key predicate in a raw statement.
const BATCH: &str = "{batch}";

fn range(table: &Table, name: &str, from_start: bool) -> String {
    let through = table.key.compare(name, "<=", THROUGH);
    if from_start { through } else { format!("{} AND {through}", table.key.compare(name, ">", FROM)) }
}

fn left(named: &Named, condition: &SqlText) -> SqlText {
    SqlText::default().ours(&format!("SELECT count(*) FROM {} WHERE ", named.from)).text(condition)
}

fn column(step: &str, written: &str, expression: &Sql, table: &Table, source: &PlanSource) -> Result<String, Cause> {
    let refuse = |message: String| {
        let mut cause = Cause::usage(format!("step \"{step}\", `set`: {message}"));
        cause.details = source.excerpt_in_sql(expression, 0);
        cause
    };
    let name = ident::parse(written).map_err(|bad| refuse(bad.to_string()))?;
    if table.key.columns.iter().any(|column| column.name == name) {
        return Err(refuse(format!("`{written}` is part of the key that the table is walked by"))
            .hint("changing it would move rows in front of the walk; give the table another key, or use a statement"));
    }
    if !table.columns.contains(&name) {
        let near = catalog::near(&name, table.columns.iter().map(String::as_str));
        let cause = refuse(format!("table `{}` has no column `{written}`", table.label()));
        return Err(match near {
            Some(near) => cause.hint(format!("did you mean `{near}`?")),
            None => cause.hint(format!("its columns are: {}", table.columns.join(", "))),
        });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::key::{Key, KeyColumn};

    fn users() -> Table {
        Table {
            oid: 1,
            schema: "public".into(),
            name: "users".into(),
            columns: vec!["id".into(), "email".into()],
            key: Key { columns: vec![KeyColumn { name: "id".into(), type_name: "bigint".into() }] },
        }
    }

    fn sql(text: &str) -> Sql {
        Sql { text: text.into(), span: 0..0 }
    }

    fn source() -> PlanSource {
        PlanSource { path: None, label: "plan.toml".into(), text: String::new() }
    }

    #[test]
    fn a_change_by_set_counts_what_still_matches() {
        let set = vec![("email".to_owned(), sql("lower(email)"))];
        let filter = sql("email <> lower(email) -- mixed");
        let made = set_sql("s", &set, Some(&filter), &users(), &source()).expect("sql");
        assert_eq!(
            made.change.as_str(),
            "WITH changed AS (UPDATE \"public\".\"users\" SET \"email\" = (\nlower(email)\n) WHERE \
             \"users\".\"id\" > ($1::text[])[1]::bigint AND \"users\".\"id\" <= ($2::text[])[1]::bigint AND \
             (\nemail <> lower(email) -- mixed\n) RETURNING (\nemail <> lower(email) -- mixed\n) IS TRUE AS still) \
             SELECT count(*), count(*) FILTER (WHERE still) FROM changed"
        );
        assert!(!made.change_from_start.as_str().contains("$1"));
    }

    #[test]
    fn a_raw_change_gets_its_range_where_batch_stands() {
        let raw = sql("UPDATE users u SET email = 'x' WHERE {batch} AND u.id > 0");
        let made = raw_sql("s", &raw, Some(&sql("u")), None, &users(), &source()).expect("sql");
        assert_eq!(
            made.change.as_str(),
            "UPDATE users u SET email = 'x' WHERE (\"u\".\"id\" > ($1::text[])[1]::bigint AND \
             \"u\".\"id\" <= ($2::text[])[1]::bigint) AND u.id > 0"
        );
        assert_eq!(made.left, None);
    }

    #[test]
    fn columns_that_cannot_be_set_are_refused_with_a_hint() {
        for (written, words) in [("id", "part of the key"), ("emial", "no column `emial`"), ("a b", "identifier")] {
            let set = vec![(written.to_owned(), sql("1"))];
            let cause = set_sql("s", &set, None, &users(), &source()).expect_err(written);
            assert!(cause.message.contains(words), "{}", cause.message);
        }
    }
}
