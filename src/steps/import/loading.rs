//! The SQL that takes records into the table: COPY right into it where that is enough, else through a stage.

use crate::plan::model::Sql;
use crate::plan::movers::{FileFormat, Import, OnConflict};
use crate::postgres::catalog::{Table, Writes, near};
use crate::postgres::ident::{self, quote};
use crate::postgres::session::literal;
use crate::postgres::sql::SqlText;

/// How records of one layout are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSql {
    /// Makes the stage, a temporary table that each commit empties. `None`: COPY goes right into the table.
    pub stage: Option<String>,
    /// COPY ... FROM STDIN.
    pub copy: String,
    /// From the stage into the table.
    pub insert: Option<SqlText>,
    /// What COPY is told of the format: `WITH (...)`.
    pub options: String,
    /// The columns that are written.
    pub columns: Vec<String>,
    /// Keys of documents that go nowhere.
    pub unknown: Vec<String>,
    /// How many fields a record has.
    pub fields: usize,
}

/// What there is to know of the table beside its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Columns with a default, or an identity, and the expression that makes it.
    pub defaults: Vec<(String, String)>,
    /// The primary key's columns.
    pub primary_key: Vec<String>,
    /// Columns that the role may not write.
    pub denied: Vec<String>,
}

/// The fields of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// In each record's order.
    Ordered(Vec<String>),
    /// Keys of JSON objects, as far as the beginning of the file shows them.
    Keyed(Vec<String>),
}

/// Why a layout cannot be loaded: a message, a hint, and the words of the plan that are wrong, if any are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The place.
    pub place: Option<Sql>,
}

fn refuse<T>(message: String, hint: impl Into<String>, place: Option<&Sql>) -> Result<T, Refusal> {
    Err(Refusal { message, hint: hint.into(), place: place.cloned() })
}

/// A column that is written, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From<'a> {
    /// The field of that number.
    Field(usize),
    /// An expression of the plan.
    Expression(&'a str, &'a Sql),
}

/// Plans the loading of files with these fields. `number` tells the stages of a step apart.
///
/// # Errors
/// A field has no column, a column cannot be written, the key is not there.
pub fn plan(
    table: &Table,
    facts: &Facts,
    import: &Import,
    format: FileFormat,
    fields: &Fields,
    number: usize,
) -> Result<LoadSql, Refusal> {
    let (names, keyed) = match fields {
        Fields::Ordered(names) => (names, false),
        Fields::Keyed(names) => (names, true),
    };
    let unknown: Vec<String> = if keyed { homeless(table, import, names) } else { Vec::new() };
    if keyed && !names.is_empty() && import.columns.is_empty() && unknown.len() == names.len() {
        return nowhere(table, import, names);
    }
    let others = if keyed { late(table, facts, import, names) } else { Vec::new() };
    let names = &[names.as_slice(), &others].concat();
    let written = written(table, import, names, keyed)?;
    let options = options(import, format);
    let columns: Vec<String> = written.iter().map(|(column, _)| column.clone()).collect();
    let direct = !keyed
        && import.on_conflict == OnConflict::Error
        && written.len() == names.len()
        && written.iter().all(|(_, from)| matches!(from, From::Field(_)));
    if direct {
        let mut by_field = written;
        by_field.sort_by_key(|(_, from)| if let From::Field(at) = from { *at } else { usize::MAX });
        let list: Vec<String> = by_field.iter().map(|(column, _)| quote(column)).collect();
        let copy = format!("COPY {} ({}) FROM STDIN {}", table.quoted(), list.join(", "), options);
        return Ok(LoadSql { stage: None, copy, insert: None, options, columns, unknown, fields: names.len() });
    }
    let stage = format!("pg_temp.{}", quote(&format!("howdah_stage_{number}")));
    let made = if keyed {
        format!("{NUMBER} bigint GENERATED ALWAYS AS IDENTITY, {DOC} json")
    } else {
        let typed = |(at, name): (usize, &String)| {
            let of = written.iter().find(|(_, from)| *from == From::Field(at));
            let of = of.and_then(|(column, _)| table.column(column));
            format!("{} {}", quote(name), of.map_or("text", |column| column.type_name.as_str()))
        };
        let fields: Vec<String> = names.iter().enumerate().map(typed).collect();
        format!("{NUMBER} bigint GENERATED ALWAYS AS IDENTITY, {}", fields.join(", "))
    };
    let list = if keyed { DOC.to_owned() } else { names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ") };
    let insert = insert(table, facts, import, &written, names, keyed, &stage)?;
    Ok(LoadSql {
        copy: format!("COPY {stage} ({list}) FROM STDIN {options}"),
        stage: Some(format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ({made}) ON COMMIT DELETE ROWS",
            stage.trim_start_matches("pg_temp.")
        )),
        insert: Some(insert),
        options,
        columns,
        unknown,
        fields: names.len(),
    })
}

/// Keys that have no column and that no expression speaks of, beside those that the plan skips.
fn homeless(table: &Table, import: &Import, names: &[String]) -> Vec<String> {
    let is_skipped = |name: &str| import.skip.iter().any(|skip| skip.text == name);
    let lost = |name: &&String| !is_skipped(name) && table.column(name).is_none() && !mentioned(import, name);
    names.iter().filter(lost).cloned().collect()
}

/// Columns whose keys the beginning of the file does not show: they may come later, and nothing of a document is lost in
/// silence. What a document does not name takes its default, so that they change nothing where they do not come; but an update
/// would set them, and an identity is the server's own.
fn late(table: &Table, facts: &Facts, import: &Import, names: &[String]) -> Vec<String> {
    if import.on_conflict == OnConflict::Update {
        return Vec::new();
    }
    let own = table.columns.iter().filter(|column| column.writes == Writes::Anyone).map(|column| &column.name);
    let is_skipped = |name: &str| import.skip.iter().any(|skip| skip.text == name);
    own.filter(|name| !names.contains(name) && !facts.denied.contains(name) && !is_skipped(name)).cloned().collect()
}

fn nowhere<T>(table: &Table, import: &Import, names: &[String]) -> Result<T, Refusal> {
    refuse(
        format!("none of the fields has a column in `{}`: {}", table.label(), names.join(", ")),
        "name columns for them: `columns = { column = \"field\" }`",
        Some(&import.into),
    )
}

const NUMBER: &str = "howdah_number";
const DOC: &str = "howdah_document";

/// What COPY is told of the format.
fn options(import: &Import, format: FileFormat) -> String {
    let dialect = &import.dialect;
    let byte = |byte: u8| literal(&char::from(byte).to_string());
    let mut options = Vec::new();
    match format {
        FileFormat::Csv => {
            options.push("FORMAT csv".to_owned());
            options.extend(dialect.delimiter.map(|b| format!("DELIMITER {}", byte(b))));
            options.extend(dialect.quote.map(|b| format!("QUOTE {}", byte(b))));
            options.extend(dialect.escape.map(|b| format!("ESCAPE {}", byte(b))));
            options.extend(dialect.null.as_ref().map(|null| format!("NULL {}", literal(null))));
        }
        FileFormat::Text => {
            options.push("FORMAT text".to_owned());
            options.extend(dialect.delimiter.map(|b| format!("DELIMITER {}", byte(b))));
            options.extend(dialect.null.as_ref().map(|null| format!("NULL {}", literal(null))));
        }
        // A line is one field: what would part or quote it is no part of JSON. An empty line is NULL.
        FileFormat::JsonLines | FileFormat::Parquet => {
            options.push("FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02'".to_owned());
        }
    }
    let encoding = import.encoding.as_ref().map_or("UTF8", |encoding| encoding.text.as_str());
    options.push(format!("ENCODING {}", literal(encoding)));
    format!("WITH ({})", options.join(", "))
}

/// Which columns are written, from what; in the table's order for fields, then those of expressions.
fn written<'a>(
    table: &Table,
    import: &'a Import,
    names: &[String],
    keyed: bool,
) -> Result<Vec<(String, From<'a>)>, Refusal> {
    let mut written: Vec<(String, From<'a>)> = Vec::new();
    let mut used = vec![false; names.len()];
    for (label, expression) in &import.columns {
        let name = match ident::parse(label) {
            Ok(name) => name,
            Err(bad) => return refuse(bad.to_string(), "write the column as in SQL", Some(expression)),
        };
        let column = writable(table, &name, Some(expression))?;
        let bare = ident::parse(&expression.text).ok();
        let field = bare.and_then(|bare| names.iter().position(|name| *name == bare)).filter(|_| !keyed);
        if let Some(at) = field {
            used[at] = true;
        }
        let from = field.map_or(From::Expression(label, expression), From::Field);
        written.push((column, from));
    }
    let skip: Vec<&str> = import.skip.iter().map(|skip| skip.text.as_str()).collect();
    if let Some(unknown) = import.skip.iter().find(|skip| !names.contains(&skip.text)).filter(|_| !keyed) {
        return refuse(
            format!("the file has no field `{}`", unknown.text),
            format!("its fields are {}", names.join(", ")),
            Some(unknown),
        );
    }
    for (at, name) in names.iter().enumerate() {
        if skip.contains(&name.as_str()) || used[at] || written.iter().any(|(column, _)| column == name) {
            continue;
        }
        if table.column(name).is_some() {
            let column = writable(table, name, None)?;
            written.push((column, From::Field(at)));
        } else if !keyed && !mentioned(import, name) {
            let columns = table.columns.iter().map(|column| column.name.as_str());
            let hint = near(name, columns).map_or_else(
                || format!("leave it out: `skip = [\"{name}\"]`, or name its column: `columns = {{ column = '\"{name}\"' }}`"),
                |near| format!("did you mean column `{near}`? `columns = {{ {near} = '\"{name}\"' }}` renames it"),
            );
            return refuse(format!("table `{}` has no column for the field `{name}`", table.label()), hint, None);
        }
    }
    if written.is_empty() {
        return nowhere(table, import, names);
    }
    Ok(written)
}

/// Whether an expression of the plan speaks of that field.
fn mentioned(import: &Import, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    import.columns.iter().any(|(_, expression)| {
        let text = &expression.text;
        text.match_indices(name)
            .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
    })
}

fn writable(table: &Table, name: &str, place: Option<&Sql>) -> Result<String, Refusal> {
    let Some(column) = table.column(name) else {
        let names = table.columns.iter().map(|column| column.name.as_str());
        let hint = near(name, names).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
        return refuse(format!("table `{}` has no column `{name}`", table.label()), hint, place);
    };
    match column.writes {
        Writes::Generated => refuse(
            format!("column `{name}` of `{}` is generated: the server computes it", table.label()),
            format!("leave it out: `skip = [\"{name}\"]`"),
            place,
        ),
        Writes::Anyone | Writes::Identity => Ok(column.name.clone()),
    }
}

/// From the stage into the table.
fn insert(
    table: &Table,
    facts: &Facts,
    import: &Import,
    written: &[(String, From<'_>)],
    names: &[String],
    keyed: bool,
    stage: &str,
) -> Result<SqlText, Refusal> {
    let list: Vec<String> = written.iter().map(|(column, _)| quote(column)).collect();
    let mut sql = SqlText::default().ours(&format!("INSERT INTO {} ({})", table.quoted(), list.join(", ")));
    if written.iter().any(|(column, _)| table.column(column).is_some_and(|column| column.writes == Writes::Identity)) {
        sql = sql.ours(" OVERRIDING SYSTEM VALUE");
    }
    let key = key(table, facts, import, written)?;
    let last_wins = import.on_conflict == OnConflict::Update;
    sql = sql.ours(" SELECT ");
    if last_wins {
        // Of rows with one key the last one counts; NULLs are no key.
        let list: Vec<String> = key.iter().map(|column| format!("q.{}", quote(column))).collect();
        let list = list.join(", ");
        let apart = format!("CASE WHEN ({list}) IS NOT NULL THEN 0 ELSE q.{NUMBER} END");
        let all: Vec<String> = written.iter().map(|(column, _)| format!("q.{}", quote(column))).collect();
        sql = sql.ours(&format!("DISTINCT ON ({list}, {apart}) {} FROM (SELECT ", all.join(", ")));
    }
    for (at, (column, from)) in written.iter().enumerate() {
        if at > 0 {
            sql = sql.ours(", ");
        }
        sql = match from {
            From::Expression(label, expression) => {
                sql.ours("(").plans(&format!("columns.{label}"), expression).ours(")")
            }
            From::Field(at) if keyed => sql.ours(&format!("howdah_f.howdah_c{at}")),
            From::Field(at) => sql.ours(&format!("howdah_f.{}", quote(&names[*at]))),
        };
        if last_wins {
            sql = sql.ours(&format!(" AS {}", quote(column)));
        }
    }
    if last_wins {
        sql = sql.ours(&format!(", howdah_f.{NUMBER}"));
    }
    sql = if keyed {
        sql.ours(&format!(" FROM ({}) AS howdah_f", documents(table, facts, written, names, stage)))
    } else {
        sql.ours(&format!(" FROM {stage} AS howdah_f"))
    };
    if last_wins {
        let list: Vec<String> = key.iter().map(|column| format!("q.{}", quote(column))).collect();
        let list = list.join(", ");
        let apart = format!("CASE WHEN ({list}) IS NOT NULL THEN 0 ELSE q.{NUMBER} END");
        sql = sql.ours(&format!(") AS q ORDER BY {list}, {apart}, q.{NUMBER} DESC"));
    }
    let conflict: Vec<String> = key.iter().map(|column| quote(column)).collect();
    Ok(match import.on_conflict {
        OnConflict::Error => sql,
        OnConflict::Skip => sql.ours(&format!(" ON CONFLICT ({}) DO NOTHING", conflict.join(", "))),
        OnConflict::Update => {
            let others: Vec<String> = written
                .iter()
                .filter(|(column, _)| !key.contains(column))
                .map(|(column, _)| format!("{0} = excluded.{0}", quote(column)))
                .collect();
            let action =
                if others.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", others.join(", ")) };
            sql.ours(&format!(" ON CONFLICT ({}) DO {action}", conflict.join(", ")))
        }
    })
}

/// The documents of the stage with their fields as texts by name, and the values for the columns that are loaded as they are.
fn documents(table: &Table, facts: &Facts, written: &[(String, From<'_>)], names: &[String], stage: &str) -> String {
    let mut list = vec![format!("s.{NUMBER}")];
    list.extend(names.iter().map(|name| format!("s.{DOC} ->> {} AS {}", literal(name), quote(name))));
    for (column, from) in written {
        let From::Field(at) = from else { continue };
        let value = format!("r.{}", quote(column));
        let default = facts.defaults.iter().find(|(name, _)| name == column);
        let value = match default {
            // What a document does not name takes its default; a null is a null.
            Some((_, default)) => {
                format!("CASE WHEN s.{DOC} -> {} IS NULL THEN {default} ELSE {value} END", literal(column))
            }
            None => value,
        };
        list.push(format!("{value} AS howdah_c{at}"));
    }
    format!(
        "SELECT {} FROM {stage} AS s, LATERAL json_populate_record(NULL::{}, s.{DOC}) AS r WHERE s.{DOC} IS NOT NULL",
        list.join(", "),
        table.quoted()
    )
}

/// The columns by which rows conflict; none where they are not to.
fn key(table: &Table, facts: &Facts, import: &Import, written: &[(String, From<'_>)]) -> Result<Vec<String>, Refusal> {
    if import.on_conflict == OnConflict::Error {
        return Ok(Vec::new());
    }
    let mut key = Vec::new();
    for place in &import.key {
        match ident::parse(&place.text) {
            Ok(name) if table.column(&name).is_some() => key.push(name),
            Ok(name) => {
                return refuse(
                    format!("table `{}` has no column `{name}`", table.label()),
                    "name others in `key`",
                    Some(place),
                );
            }
            Err(bad) => return refuse(bad.to_string(), "write the column as in SQL", Some(place)),
        }
    }
    if key.is_empty() {
        key.clone_from(&facts.primary_key);
    }
    if key.is_empty() {
        return refuse(
            format!("table `{}` has no primary key to conflict by", table.label()),
            "name the columns of a unique index: `key = [\"column\"]`",
            Some(&import.into),
        );
    }
    if let Some(lacking) = key.iter().find(|name| !written.iter().any(|(column, _)| column == *name)) {
        return refuse(
            format!("`{lacking}` is part of the key to conflict by, and the file has no field for it"),
            "name other columns: `key = [\"column\"]`",
            Some(&import.into),
        );
    }
    Ok(key)
}

#[cfg(test)]
#[path = "loading_tests.rs"]
mod tests;
