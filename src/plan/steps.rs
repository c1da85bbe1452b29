//! The steps of a plan. That each has one kind, and only keys of that kind, is already known.

use std::collections::BTreeMap;

use super::indexing;
use super::mistake::Mistake;
use super::model::{Backfill, Change, Expected, Sql, Statement, Step, StepKind, Undo, Verify};
use super::moving;
use super::raw::{Located, RawExpected, RawStep, Text};
use super::values::{LONGEST_TIMEOUT, Reader};

/// What stands for the keys of a batch in a backfill's own `sql`.
const BATCH: &str = "{batch}";

/// All steps that could be read, in order.
pub(super) fn steps(reader: &mut Reader<'_>, raw: Vec<Located<RawStep>>) -> Vec<Step> {
    let mut names: Vec<Sql> = Vec::new();
    let mut steps = Vec::new();
    for Located { mut value, span } in raw {
        let Some(name) = value.name.take() else {
            reader.report(span, Mistake::NoName);
            continue;
        };
        let name = reader.text("name", name);
        let kind = kind(reader, value);
        if let Some(name) = &name {
            match names.iter().find(|earlier| earlier.text == name.text) {
                Some(first) => {
                    let mistake = Mistake::DuplicateStep(name.text.clone());
                    reader.report_second(name.span.clone(), first.span.clone(), mistake);
                }
                None => names.push(name.clone()),
            }
        }
        if let (Some(name), Some(kind)) = (name, kind) {
            steps.push(Step { name: name.text, span, kind });
        }
    }
    steps
}

fn kind(reader: &mut Reader<'_>, mut raw: RawStep) -> Option<StepKind> {
    if let Some(sql) = raw.statement.take() {
        statement(reader, sql, raw).map(StepKind::Statement)
    } else if let Some(table) = raw.backfill.take() {
        backfill(reader, table, raw).map(StepKind::Backfill)
    } else if let Some(files) = raw.import.take() {
        moving::import(reader, files, raw).map(Box::new).map(StepKind::Import)
    } else if let Some(tables) = raw.copy.take() {
        moving::copy(reader, tables, raw).map(Box::new).map(StepKind::Copy)
    } else if let Some(source) = raw.transform.take() {
        moving::transform(reader, source, raw).map(Box::new).map(StepKind::Transform)
    } else if let Some(files) = raw.files.take() {
        moving::files(reader, files, raw).map(Box::new).map(StepKind::Files)
    } else if let Some(index) = raw.index.take() {
        indexing::index(reader, index, raw).map(Box::new).map(StepKind::Index)
    } else if let Some(what) = raw.reindex.take() {
        indexing::reindex(reader, what, raw).map(StepKind::Reindex)
    } else if let Some(tables) = raw.analyze.take() {
        indexing::analyze(reader, tables, raw).map(StepKind::Analyze)
    } else if let Some(sql) = raw.verify.take() {
        verify(reader, sql, raw).map(StepKind::Verify)
    } else {
        None
    }
}

fn statement(reader: &mut Reader<'_>, sql: Text, raw: RawStep) -> Option<Statement> {
    let sql = reader.text("statement", sql);
    let down = raw.down.map(|down| reader.text("down", down));
    let timeout = reader.duration("timeout", raw.timeout, LONGEST_TIMEOUT).map(|timeout| timeout.value);
    let cleanup = raw.cleanup.is_some_and(|cleanup| {
        if cleanup.value && down.is_none() {
            reader.report(cleanup.span, Mistake::CleanupWithoutDown);
        }
        cleanup.value
    });
    Some(Statement { sql: sql?, down: down.flatten(), cleanup, timeout })
}

fn backfill(reader: &mut Reader<'_>, table: Text, raw: RawStep) -> Option<Backfill> {
    let place = table.span.clone();
    let table = reader.text("backfill", table);
    let filter = raw.filter.and_then(|filter| reader.text("where", filter));
    let change = match (raw.set, raw.sql) {
        (Some(set), None) => {
            if let Some(alias) = raw.alias {
                reader.report(alias.span, Mistake::AliasWithoutSql);
            }
            set_change(reader, set, filter)
        }
        (None, Some(sql)) => raw_change(reader, sql, raw.alias, filter),
        (Some(_), Some(sql)) => {
            reader.report(sql.span, Mistake::TwoChanges);
            None
        }
        (None, None) => {
            reader.report(place, Mistake::NoChange);
            None
        }
    };
    let (table, change) = (table?, change?);
    let undo = match &change {
        Change::Set { .. } => undo_of_set(reader, raw.undo, raw.undo_sql),
        Change::Raw { .. } => undo_of_sql(reader, raw.undo, raw.undo_sql),
    };
    Some(Backfill { table, change, undo })
}

fn undo_of_set(reader: &mut Reader<'_>, undo: Option<Text>, undo_sql: Option<Text>) -> Undo {
    if let Some(sql) = undo_sql {
        reader.report(sql.span, Mistake::UndoSqlWithSet);
    }
    match undo.and_then(|undo| reader.word("undo", &undo, &["auto"])) {
        Some(_) => Undo::Auto,
        None => Undo::None,
    }
}

fn undo_of_sql(reader: &mut Reader<'_>, undo: Option<Text>, undo_sql: Option<Text>) -> Undo {
    if let Some(undo) = undo {
        reader.report(undo.span, Mistake::UndoWithSql);
    }
    undo_sql.and_then(|sql| batch_sql(reader, "undo_sql", sql)).map_or(Undo::None, Undo::Sql)
}

fn set_change(reader: &mut Reader<'_>, set: Located<BTreeMap<String, Text>>, filter: Option<Sql>) -> Option<Change> {
    if set.value.is_empty() {
        reader.report(set.span, Mistake::EmptySet);
        return None;
    }
    Some(Change::Set { set: expressions(reader, "set", set), filter })
}

/// Columns and their expressions, in the plan's order.
pub(super) fn expressions(
    reader: &mut Reader<'_>,
    key: &'static str,
    raw: Located<BTreeMap<String, Text>>,
) -> Vec<(String, Sql)> {
    let mut columns: Vec<(String, Text)> = raw.value.into_iter().collect();
    // A TOML table is a map; the order of the plan is the order of the places.
    columns.sort_by_key(|(_, expression)| expression.span.start);
    let mut read = Vec::with_capacity(columns.len());
    for (column, expression) in columns {
        if column.trim().is_empty() {
            let advice = format!("name the column: `{key} = {{ email = \"lower(email)\" }}`");
            reader.report(expression.span, Mistake::Empty { key: format!("a column of `{key}`"), advice });
        } else if let Some(expression) = reader.text(key, expression) {
            read.push((column, expression));
        }
    }
    read
}

fn raw_change(reader: &mut Reader<'_>, sql: Text, alias: Option<Text>, filter: Option<Sql>) -> Option<Change> {
    let alias = alias.and_then(|alias| reader.text("alias", alias));
    let sql = batch_sql(reader, "sql", sql)?;
    Some(Change::Raw { sql, alias, filter })
}

/// A statement that is run once a batch: it holds `{batch}` exactly once.
fn batch_sql(reader: &mut Reader<'_>, key: &'static str, sql: Text) -> Option<Sql> {
    let sql = reader.text(key, sql)?;
    match sql.text.matches(BATCH).count() {
        1 => return Some(sql),
        0 => reader.report(sql.span, Mistake::NoBatch { key }),
        _ => reader.report(reader.part_of(sql.span, BATCH, 1), Mistake::SecondBatch { key }),
    }
    None
}

fn verify(reader: &mut Reader<'_>, sql: Text, raw: RawStep) -> Option<Verify> {
    let place = sql.span.clone();
    let sql = reader.text("verify", sql);
    let timeout = reader.duration("timeout", raw.timeout, LONGEST_TIMEOUT).map(|timeout| timeout.value);
    let Some(Located { value, span }) = raw.expect else {
        reader.report(place, Mistake::NoExpectation);
        return None;
    };
    let expect = match value {
        RawExpected::Integer(number) => Expected::Integer(number),
        RawExpected::Boolean(truth) => Expected::Boolean(truth),
        RawExpected::Text(value) => Expected::Text(reader.possibly_empty(&Located { value, span })?),
    };
    Some(Verify { sql: sql?, expect, timeout })
}
