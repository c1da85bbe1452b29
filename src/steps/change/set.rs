//! `set = { column = "expression" }`: one UPDATE of a table, or of a partition under the table's name.

use super::undo::UndoLog;
use super::{Answer, BatchSql, Cause, Named, RangeSql, SetColumn, Target, condition, count_matching, known_as};
use crate::plan::model::Sql;
use crate::postgres::ident;
use crate::postgres::sql::SqlText;

pub(super) fn sql(
    target: &Target<'_>,
    columns: &[SetColumn],
    filter: Option<&Sql>,
    log: Option<&UndoLog>,
) -> Result<BatchSql, Cause> {
    let (table, part) = (target.table, target.part);
    let named = if part.is_partition {
        known_as(part, &table.name)
    } else {
        Named { from: part.quoted(), name: ident::quote(&part.name) }
    };
    let assignments = assignments(columns);
    let condition = condition(filter);
    let logging = log.map(|log| log.logging(target.step, part)).transpose()?;
    let make = |range: &str| {
        let change = match &logging {
            Some(logging) => logging.change(&named, &assignments, range, condition.as_ref()),
            None => change(&named, &assignments, range, condition.as_ref()),
        };
        RangeSql { change, still_matching: None }
    };
    let (from_start, behind) = target.each_shape(&named.name, make);
    Ok(BatchSql {
        answer: if condition.is_some() || logging.is_some() { Answer::Counts } else { Answer::RowsAffected },
        left: condition.as_ref().map(|condition| count_matching(&named, condition)),
        filter: condition,
        named,
        part: part.clone(),
        from_start,
        behind,
    })
}

fn assignments(columns: &[SetColumn]) -> SqlText {
    let mut assignments = SqlText::default();
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        assignments = assignments
            .ours(&format!("{comma}{} = (\n", ident::quote(&column.name)))
            .plans(&format!("set.{}", column.written), &column.expression)
            .ours("\n)");
    }
    assignments
}

fn change(named: &Named, assignments: &SqlText, range: &str, condition: Option<&SqlText>) -> SqlText {
    let update = SqlText::default()
        .ours(&format!("UPDATE {} SET ", named.from))
        .text(assignments)
        .ours(&format!(" WHERE {range}"));
    let Some(condition) = condition else { return update };
    SqlText::default()
        .ours("WITH changed AS (")
        .text(&update)
        .ours(" AND ")
        .text(condition)
        .ours(" RETURNING ")
        .text(condition)
        .ours(" IS TRUE AS still) SELECT count(*), count(*) FILTER (WHERE still) FROM changed")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{partition, source, sql, users};
    use super::super::{Target, set_columns};
    use crate::run::KeyText;

    fn key(id: &str) -> KeyText {
        vec![id.to_owned()]
    }

    #[test]
    fn a_change_by_set_counts_what_still_matches() {
        let (table, source) = (users(), source());
        let set = vec![("email".to_owned(), sql("lower(email)"))];
        let columns = set_columns("s", &set, &table, &source).expect("columns");
        let target = Target { step: "s", table: &table, part: &table.parts[0], source: &source };
        let made = super::sql(&target, &columns, Some(&sql("email <> lower(email) -- mixed")), None).expect("sql");
        assert_eq!(
            made.of(Some(&key("1")), &key("2")).change.as_str(),
            "WITH changed AS (UPDATE \"public\".\"users\" SET \"email\" = (\nlower(email)\n) WHERE \
             \"users\".\"id\" > ($1::text[])[1]::bigint AND \"users\".\"id\" <= ($2::text[])[1]::bigint AND \
             (\nemail <> lower(email) -- mixed\n) RETURNING (\nemail <> lower(email) -- mixed\n) IS TRUE AS still) \
             SELECT count(*), count(*) FILTER (WHERE still) FROM changed"
        );
        let from_start = made.of(None, &key("2"));
        assert!(!from_start.change.as_str().contains("$1"));
    }

    #[test]
    fn a_partition_is_changed_directly_under_its_tables_name() {
        let (table, source, part) = (users(), source(), partition());
        let set = vec![("email".to_owned(), sql("lower(users.email)"))];
        let columns = set_columns("s", &set, &table, &source).expect("columns");
        let target = Target { step: "s", table: &table, part: &part, source: &source };
        let made = super::sql(&target, &columns, None, None).expect("sql");
        let change = made.of(None, &key("2")).change.as_str().to_owned();
        assert!(change.starts_with("UPDATE \"old\".\"users_eu\" AS \"users\" SET"), "{change}");
    }
}
