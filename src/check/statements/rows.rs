//! Statements that change rows, and how many of them.

use sqlparser::ast::{Delete, FromTable, Query, SetExpr, Statement, TableFactor, TableWithJoins, Update};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::site::{Site, Told, Weight};
use super::words::{Words, statements};
use super::{codes, not_understood};

/// A statement of no form that is known by its first words: read by sqlparser.
pub(super) fn look(site: &mut Site<'_>, whole: Words<'_>) {
    let Ok(parsed) = Parser::parse_sql(&PostgreSqlDialect {}, &whole.text()) else {
        return not_understood(site, whole);
    };
    for statement in &parsed {
        match statement {
            Statement::Update(update) => of_update(site, update),
            Statement::Delete(delete) => of_delete(site, delete),
            Statement::Query(query) => of_query(site, query),
            Statement::Insert(insert) => {
                site.past.moved |= !site.is_down;
                if let Some(query) = &insert.source {
                    of_query(site, query);
                }
            }
            _ => {}
        }
    }
}

/// `WITH x AS (DELETE ...)` changes rows as well.
fn of_query(site: &mut Site<'_>, query: &Query) {
    for named in query.with.iter().flat_map(|with| &with.cte_tables) {
        of_query(site, &named.query);
    }
    match query.body.as_ref() {
        SetExpr::Update(Statement::Update(update)) => of_update(site, update),
        SetExpr::Delete(Statement::Delete(delete)) => of_delete(site, delete),
        SetExpr::Insert(Statement::Insert(_)) => site.past.moved |= !site.is_down,
        SetExpr::Select(select) => {
            let made = select.into.iter().flat_map(|into| &into.targets).filter_map(|name| named(&name.to_string()));
            if !site.is_down {
                made.for_each(|table| site.past.make(table));
            }
        }
        _ => {}
    }
}

fn of_update(site: &mut Site<'_>, update: &Update) {
    // With FROM the join says which rows.
    if update.selection.is_some() || update.from.is_some() {
        return;
    }
    let set: Vec<String> = update
        .assignments
        .iter()
        .map(|one| format!("{} = {}", one.target, toml_text(&one.value.to_string())))
        .collect();
    let lines = |table: &str| {
        vec![
            "[[step]]".to_owned(),
            format!("name = {}", toml_text(&format!("change {table}"))),
            format!("backfill = {}", toml_text(table)),
            format!("set = {{ {} }}", set.join(", ")),
        ]
    };
    tell(site, "UPDATE", &update.table, lines);
}

fn of_delete(site: &mut Site<'_>, delete: &Delete) {
    if delete.selection.is_some() || delete.using.is_some() || delete.limit.is_some() {
        return;
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let lines = |table: &str| {
        vec![
            "[[step]]".to_owned(),
            format!("name = {}", toml_text(&format!("empty {table}"))),
            format!("backfill = {}", toml_text(table)),
            format!("sql = {}", toml_text(&format!("DELETE FROM {table} WHERE {{batch}}"))),
        ]
    };
    if let Some(table) = from.first() {
        tell(site, "DELETE", table, lines);
    }
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The name of a table from its text.
fn named(text: &str) -> Option<super::words::Name> {
    Words(statements(text)?.first()?).name()
}

fn tell(site: &mut Site<'_>, word: &str, table: &TableWithJoins, lines: impl Fn(&str) -> Vec<String>) {
    let TableFactor::Table { name, .. } = &table.relation else { return };
    let Some(table) = named(&name.to_string()) else { return };
    if site.is_new(&table) {
        return;
    }
    let told = Told {
        code: codes::WHOLE_TABLE,
        weight: Weight::BySize,
        subject: table.written.clone(),
        what: format!("{word} without WHERE changes every row in one transaction"),
        why: "each row stays locked until the end, no vacuum clears what it leaves, a standby falls behind, and a failure begins it anew",
        mend: lines(&table.written),
    };
    site.tell(Some(&table), told);
}
