//! `sql = "... {batch} ..."`: a statement of the plan's own, with the range of the batch where it says so.

use super::{Answer, BatchSql, Cause, RangeSql, Target, condition, count_matching, known_as};
use crate::plan::model::Sql;
use crate::postgres::ident;
use crate::postgres::sql::SqlText;

/// What stands for the key predicate in a raw statement.
const BATCH: &str = "{batch}";

/// `label` is the key in the plan: `sql`, or `undo_sql`.
pub(super) fn sql(
    target: &Target<'_>,
    label: &str,
    sql: &Sql,
    alias: Option<&Sql>,
    filter: Option<&Sql>,
) -> Result<BatchSql, Cause> {
    let part = target.part;
    let name = match alias {
        None => target.table.name.clone(),
        Some(alias) => ident::parse(&alias.text).map_err(|bad| {
            let mut cause = Cause::usage(format!("step \"{}\", `alias`: {bad}", target.step));
            cause.details = target.source.excerpt_in_sql(alias, 0);
            cause
        })?,
    };
    let named = known_as(part, &name);
    // The statement names the whole table, of which a batch lies in one partition.
    let within = part.is_partition.then(|| format!(" AND {}.tableoid = '{}'::oid", named.name, part.oid));
    let within = within.unwrap_or_default();
    let at = sql.text.find(BATCH).unwrap_or(sql.text.len());
    let after = (at + BATCH.len()).min(sql.text.len());
    let condition = condition(filter);
    let make = |range: &str| {
        // With the condition, so that a second sweep over the same keys never changes a row twice.
        let predicate = SqlText::default().ours(&format!("({range}{within}"));
        let predicate = match &condition {
            Some(condition) => predicate.ours(" AND ").text(condition),
            None => predicate,
        };
        let change = SqlText::default().plans_part(label, sql, 0..at).text(&predicate.ours(")")).plans_part(
            label,
            sql,
            after..sql.text.len(),
        );
        let still_matching =
            condition.as_ref().map(|condition| count_matching(&named, condition).ours(&format!(" AND {range}")));
        RangeSql { change, still_matching }
    };
    let (from_start, behind) = target.each_shape(&named.name, make);
    Ok(BatchSql {
        answer: Answer::RowsAffected,
        left: condition.as_ref().map(|condition| count_matching(&named, condition)),
        filter: condition,
        named,
        part: part.clone(),
        from_start,
        behind,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::samples::{partition, source, sql, users};

    fn key(id: &str) -> Vec<String> {
        vec![id.to_owned()]
    }

    #[test]
    fn a_raw_change_gets_its_range_where_batch_stands() {
        let (table, source) = (users(), source());
        let raw = sql("UPDATE users u SET email = 'x' WHERE {batch} AND u.id > 0");
        let target = Target { step: "s", table: &table, part: &table.parts[0], source: &source };
        let made = super::sql(&target, "sql", &raw, Some(&sql("u")), None).expect("sql");
        assert_eq!(
            made.of(Some(&key("1")), &key("2")).change.as_str(),
            "UPDATE users u SET email = 'x' WHERE (\"u\".\"id\" > ($1::text[])[1]::bigint AND \
             \"u\".\"id\" <= ($2::text[])[1]::bigint) AND u.id > 0"
        );
        assert_eq!(made.left, None);
    }

    #[test]
    fn a_raw_change_of_a_partition_names_it_by_its_oid() {
        let (table, source, part) = (users(), source(), partition());
        let raw = sql("UPDATE users u SET email = 'x' WHERE {batch}");
        let target = Target { step: "s", table: &table, part: &part, source: &source };
        let made = super::sql(&target, "sql", &raw, Some(&sql("u")), Some(&sql("email <> 'x'"))).expect("sql");
        let change = made.of(None, &key("2")).change.as_str().to_owned();
        assert!(change.ends_with("AND \"u\".tableoid = '42'::oid AND (\nemail <> 'x'\n))"), "{change}");
        let left = made.left.expect("a condition");
        assert_eq!(
            left.as_str(),
            "SELECT count(*) FROM \"old\".\"users_eu\" AS \"u\" WHERE (\nemail <> 'x'\n)",
            "counted in the partition itself"
        );
    }
}
