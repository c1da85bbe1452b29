//! Columns that are added, changed, renamed and dropped.

use super::codes;
use super::defaults::{self, Value};
use super::site::{Site, Told, Weight};
use super::types::{self, Effect, Type};
use super::words::{Name, Words, statements};
use super::{constraints, not_understood};
use crate::check::Severity;

const REWRITE: &str = "every row is written anew under ACCESS EXCLUSIVE: nobody can read or write the table, and all of it goes through the WAL";

/// What ends a default, as each column constraint begins with one of these.
const CONSTRAINTS: [&str; 9] =
    ["not", "null", "check", "unique", "primary", "references", "generated", "constraint", "collate"];

/// `ADD [COLUMN]`: `words` stand behind it.
pub(super) fn add(site: &mut Site<'_>, table: &Name, whole: Words<'_>, mut words: Words<'_>) {
    words.eat(&["if", "not", "exists"]);
    let (Some(column), written) = (words.name(), words) else { return not_understood(site, whole) };
    let Some(kind) = types::read(&mut words) else { return not_understood(site, whole) };
    let kind_text = Words(&written.0[..written.0.len() - words.0.len()]).text();
    if site.is_new(table) {
        return;
    }
    let subject = format!("{}.{}", table.written, column.written);
    if kind.is("json") {
        let told = Told {
            code: codes::JSON_COLUMN,
            weight: Weight::Always(Severity::Note),
            subject: subject.clone(),
            what: "a column of type json".to_owned(),
            why: "json has no equality: SELECT DISTINCT, GROUP BY and UNION over the table's columns fail from then on",
            mend: vec![format!("ALTER TABLE {} ADD COLUMN {} jsonb", table.written, column.written)],
        };
        site.tell(Some(table), told);
    }
    // `DEFAULT NULL` is no default.
    let default = words.behind(&["default"]).map(|words| words.until(&CONSTRAINTS)).filter(|words| !words.is_empty());
    if let Some(what) = differs(&kind, words, default) {
        let plain = if kind.is_serial() { "bigint" } else { kind_text.as_str() };
        let told = Told {
            code: codes::ADD_COLUMN_REWRITES,
            weight: Weight::BySize,
            subject: subject.clone(),
            what,
            why: REWRITE,
            mend: in_steps(table, &column, plain, default),
        };
        site.tell(Some(table), told);
        site.rewrites(table);
    } else if words.has(&["not", "null"]) && default.is_none() && !words.has(&["generated"]) {
        without_default(site, table, &column, &kind_text, &subject);
    }
    constraints::of_column(site, table, &column, words, default.is_some());
}

/// Why the new column differs from row to row, where it does.
fn differs(kind: &Type, words: Words<'_>, default: Option<Words<'_>>) -> Option<String> {
    if kind.is_serial() {
        return Some("a serial column counts the rows that are there".to_owned());
    }
    if let Some(generated) = words.behind(&["generated"]) {
        return match (generated.has(&["identity"]), generated.has(&["virtual"])) {
            (true, _) => Some("an identity column counts the rows that are there".to_owned()),
            // Computed when it is read, from PostgreSQL 18 on.
            (false, true) => None,
            (false, false) => Some("a stored generated column is computed for each row".to_owned()),
        };
    }
    match defaults::value(default?) {
        Value::Same => None,
        Value::Differs(function) => Some(format!("the default {function}() is another value for each row")),
        Value::Unknown(function) => Some(format!(
            "the default calls {function}(), which gives another value for each row unless it is declared STABLE or IMMUTABLE"
        )),
    }
}

/// The same in steps that lock for a moment each.
fn in_steps(table: &Name, column: &Name, kind: &str, default: Option<Words<'_>>) -> Vec<String> {
    let (table, column) = (&table.written, &column.written);
    let mut steps = vec![format!("ALTER TABLE {table} ADD COLUMN {column} {kind}")];
    let value = default.map_or_else(|| "...".to_owned(), Words::text);
    if default.is_some() {
        steps.push(format!("ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {value}"));
    }
    steps.extend(backfill(table, column, &value, &format!("{column} IS NULL")));
    steps
}

/// The lines of a step of the plan that fills a column.
fn backfill(table: &str, column: &str, value: &str, filter: &str) -> Vec<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let is_bare = column.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let key = if is_bare { column.to_owned() } else { quoted(column) };
    vec![
        "[[step]]".to_owned(),
        format!("name = {}", quoted(&format!("fill {column}"))),
        format!("backfill = {}", quoted(table)),
        format!("set = {{ {key} = {} }}", quoted(value)),
        format!("where = {}", quoted(filter)),
    ]
}

fn without_default(site: &mut Site<'_>, table: &Name, column: &Name, kind: &str, subject: &str) {
    let (table_name, column_name) = (&table.written, &column.written);
    let told = Told {
        code: codes::NOT_NULL_NO_DEFAULT,
        // Words do not tell whether the column is there already, or its type has a default of its own.
        weight: Weight::Always(Severity::Warning),
        subject: subject.to_owned(),
        what: "a new column that is NOT NULL and has no default".to_owned(),
        why: "the rows that are there have no value for it: the statement fails, unless the table is empty",
        mend: vec![
            format!(
                "ALTER TABLE {table_name} ADD COLUMN {column_name} {kind} NOT NULL DEFAULT ...  -- a constant costs nothing"
            ),
            format!(
                "ALTER TABLE {table_name} ADD COLUMN {column_name} {kind}  -- else a backfill, and then NOT NULL by a check"
            ),
        ],
    };
    site.tell(Some(table), told);
}

/// `ALTER [COLUMN]`: `words` stand behind it.
pub(super) fn alter(site: &mut Site<'_>, table: &Name, whole: Words<'_>, mut words: Words<'_>) {
    let Some(column) = words.name() else { return not_understood(site, whole) };
    if words.eat(&["set", "not", "null"]) {
        return set_not_null(site, table, &column);
    }
    if words.eat(&["type"]) || words.eat(&["set", "data", "type"]) {
        return change_type(site, table, &column, whole, words);
    }
    // A default, statistics, storage, compression, options, an identity, NULL again: the catalog alone.
    let known = ["set", "drop", "reset", "add", "restart"];
    if !words.eat_any(&known) {
        not_understood(site, whole);
    }
}

fn set_not_null(site: &mut Site<'_>, table: &Name, column: &Name) {
    if site.is_new(table) || site.past.is_checked(table, column) {
        return;
    }
    let (of, name) = (&table.written, &column.written);
    let constraint = format!("{}_{}_not_null", table.last(), column.last());
    let constraint = crate::postgres::ident::quote(&constraint);
    let told = Told {
        code: codes::SET_NOT_NULL,
        weight: Weight::BySize,
        subject: format!("{of}.{name}"),
        what: "SET NOT NULL reads the whole table, unless a valid CHECK says that the column is not null".to_owned(),
        why: "it holds ACCESS EXCLUSIVE while it reads: nobody can read or write the table",
        mend: vec![
            format!("ALTER TABLE {of} ADD CONSTRAINT {constraint} CHECK ({name} IS NOT NULL) NOT VALID"),
            format!(
                "ALTER TABLE {of} VALIDATE CONSTRAINT {constraint}  -- a step of its own: it reads while others write"
            ),
            format!("ALTER TABLE {of} ALTER COLUMN {name} SET NOT NULL  -- reads nothing now"),
            format!("ALTER TABLE {of} DROP CONSTRAINT {constraint}"),
        ],
    };
    site.tell(Some(table), told);
}

fn change_type(site: &mut Site<'_>, table: &Name, column: &Name, whole: Words<'_>, mut words: Words<'_>) {
    let before = words;
    let Some(kind) = types::read(&mut words) else { return not_understood(site, whole) };
    let kind_text = Words(&before.0[..before.0.len() - words.0.len()]).text();
    if site.is_new(table) {
        return;
    }
    let current = site.known.column_type(&table.written, &column.written);
    let from = current.as_ref().and_then(|text| of_text(text));
    // `USING x::type` is what is done without it.
    let plain = format!("{}::{kind_text}", column.written);
    let using = words.behind(&["using"]).filter(|using| using.text() != plain);
    let by = "unless it is varchar, numeric, timestamp and the like with a smaller limit";
    let what = match (using, from.map(|from| types::effect(&from, &kind))) {
        (None, Some(Effect::Nothing)) => return,
        (None, Some(Effect::UtcOnly)) => format!(
            "{} to {kind_text} rewrites the table, unless the session's time zone is UTC; its indexes are built again in any case",
            current.unwrap_or_default()
        ),
        (None, Some(Effect::Rewrites)) => format!("{} to {kind_text} rewrites the table", current.unwrap_or_default()),
        (None, None) if kind.may_stay() => format!("the change to {kind_text} rewrites the table, {by}"),
        (None, None) => format!("the change to {kind_text} rewrites the table"),
        (Some(_), _) => format!("the change to {kind_text} with USING rewrites the table"),
    };
    let (of, name) = (&table.written, &column.written);
    let new = crate::postgres::ident::quote(&format!("{}_new", column.last()));
    let value = using.map_or_else(|| format!("{name}::{kind_text}"), Words::text);
    let mut mend = vec![
        format!("ALTER TABLE {of} ADD COLUMN {new} {kind_text}"),
        format!("a trigger BEFORE INSERT OR UPDATE on {of} that sets {new} from {name}"),
    ];
    mend.extend(backfill(of, &new, &value, &format!("{new} IS DISTINCT FROM ({value})")));
    mend.push(format!("by a later plan, once the application reads {new}: DROP COLUMN {name}"));
    let subject = format!("{of}.{name}");
    let told = Told { code: codes::CHANGE_TYPE, weight: Weight::BySize, subject, what, why: REWRITE, mend };
    site.tell(Some(table), told);
    site.rewrites(table);
}

/// A type that the server has told.
fn of_text(text: &str) -> Option<Type> {
    types::read(&mut Words(statements(text)?.first()?))
}

/// `RENAME [COLUMN] a TO b`.
pub(super) fn renamed(site: &mut Site<'_>, table: &Name, mut words: Words<'_>) {
    let Some(old) = words.name() else { return };
    let new = if words.eat(&["to"]) { words.name() } else { None };
    if site.is_new(table) || site.is_down {
        return;
    }
    let (of, old) = (&table.written, &old.written);
    let new = new.map_or_else(|| "new".to_owned(), |new| new.written);
    let mut mend = vec![format!("ALTER TABLE {of} ADD COLUMN {new} ...  -- of the same type, kept up by a trigger")];
    mend.extend(backfill(of, &new, old, &format!("{new} IS DISTINCT FROM {old}")));
    mend.push(format!("by a later plan, once no release uses {old}: DROP COLUMN {old}"));
    let told = Told {
        code: codes::RENAME_COLUMN,
        weight: Weight::Always(Severity::Warning),
        subject: format!("{of}.{old}"),
        what: format!("the column is renamed to {new}"),
        why: "an application that knows the old name fails at once, and one that knows the new name fails until then",
        mend,
    };
    site.tell(Some(table), told);
}

/// `DROP [COLUMN]`: `words` stand behind it.
pub(super) fn dropped(site: &mut Site<'_>, table: &Name, mut words: Words<'_>) {
    words.eat(&["if", "exists"]);
    let Some(column) = words.name() else { return };
    if site.is_new(table) || site.is_down {
        return;
    }
    let told = Told {
        code: codes::DROP_COLUMN,
        weight: Weight::Always(Severity::Warning),
        subject: format!("{}.{}", table.written, column.written),
        what: "DROP COLUMN, which nothing takes back".to_owned(),
        why: "an application that still names the column fails, also one that has it in a cached list of columns",
        mend: vec!["first a release that does not use the column; then this step, by a plan of its own".to_owned()],
    };
    site.tell(Some(table), told);
}
