//! `ALTER TABLE`, action by action.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::site::{Site, Told, Weight};
use super::whole::rewritten;
use super::words::{Name, Words};
use super::{codes, columns, constraints, not_understood};
use crate::check::Severity;

/// Actions of the catalog alone, by their first words.
const HARMLESS: [&[&str]; 23] = [
    &["drop", "constraint"],
    &["validate", "constraint"],
    &["rename", "constraint"],
    &["alter", "constraint"],
    &["enable"],
    &["disable"],
    &["force"],
    &["no", "force"],
    &["owner", "to"],
    &["cluster", "on"],
    &["set", "without"],
    &["set", "statistics"],
    &["reset"],
    &["replica", "identity"],
    &["inherit"],
    &["no", "inherit"],
    &["of"],
    &["not", "of"],
    &["no", "depends"],
    &["depends"],
    &["options"],
    &["merge"],
    &["split"],
];

/// Actions that write the table anew, by their first words.
const WRITTEN_ANEW: [&[&str]; 4] =
    [&["set", "logged"], &["set", "unlogged"], &["set", "tablespace"], &["set", "access", "method"]];

/// `ALTER [FOREIGN] TABLE`: `words` stand behind TABLE.
pub(super) fn table(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    words.eat(&["if", "exists"]);
    words.eat(&["only"]);
    if words.eat(&["all", "in", "tablespace"]) {
        return rewritten(site, None, "SET TABLESPACE of all tables", Vec::new());
    }
    let Some(table) = words.name() else { return not_understood(site, whole) };
    words.symbol(&Token::Mul);
    for action in words.split() {
        act(site, &table, whole, action);
    }
}

fn act(site: &mut Site<'_>, table: &Name, whole: Words<'_>, mut action: Words<'_>) {
    let alone = action;
    if action.eat(&["validate", "constraint"]) {
        if let Some(constraint) = action.name().filter(|_| !site.is_down) {
            site.past.validate(table, &constraint);
        }
    } else if HARMLESS.iter().any(|words| action.eat(words)) || options(action) {
        // Nothing to be told.
    } else if action.eat(&["rename", "to"]) {
        renamed(site, table, &format!("the table is renamed to {}", action.text()), action.name());
    } else if action.eat(&["set", "schema"]) {
        renamed(site, table, &format!("the table goes to schema {}", action.text()), None);
    } else if action.eat(&["rename"]) {
        action.eat(&["column"]);
        columns::renamed(site, table, action);
    } else if WRITTEN_ANEW.iter().any(|words| action.eat(words)) {
        rewritten(site, Some(table), &alone.text(), at_its_birth(table, &alone.text()));
    } else if action.eat(&["attach", "partition"]) {
        constraints::attach(site, table, action);
    } else if action.eat(&["detach", "partition"]) {
        constraints::detach(site, table, action);
    } else if action.eat(&["add"]) {
        let starts = ["constraint", "check", "foreign", "unique", "primary", "exclude", "not"];
        if starts.iter().any(|word| action.comes(word)) {
            constraints::add(site, table, whole, action);
        } else {
            action.eat(&["column"]);
            columns::add(site, table, whole, action);
        }
    } else if action.eat(&["drop"]) {
        action.eat(&["column"]);
        columns::dropped(site, table, action);
    } else if action.eat(&["alter"]) {
        action.eat(&["column"]);
        columns::alter(site, table, whole, action);
    } else if Parser::parse_sql(&PostgreSqlDialect {}, &format!("ALTER TABLE t {}", alone.text())).is_err() {
        not_understood(site, whole);
    }
}

/// `SET (fillfactor = 70)`.
fn options(mut action: Words<'_>) -> bool {
    action.eat(&["set"]) && action.bracketed().is_some()
}

fn at_its_birth(table: &Name, action: &str) -> Vec<String> {
    vec![format!(
        "CREATE TABLE {}_new (LIKE {0} INCLUDING ALL), with what `{action}` says, filled by a `copy` step",
        table.written
    )]
}

fn renamed(site: &mut Site<'_>, table: &Name, what: &str, new: Option<Name>) {
    let is_new = site.is_new(table);
    if let Some(new) = new.filter(|_| is_new && !site.is_down) {
        site.past.make(new);
    }
    // To give a table that the plan has filled the name of the old one is how a table is exchanged.
    if is_new || site.is_down {
        return;
    }
    let told = Told {
        code: codes::RENAME_TABLE,
        weight: Weight::Always(Severity::Warning),
        subject: table.written.clone(),
        what: what.to_owned(),
        why: "an application that knows the old name fails at once, and one that knows the new name fails until then",
        mend: vec![format!(
            "CREATE VIEW {} AS SELECT * FROM ...  -- in the same transaction: the old name still reads and writes",
            table.written
        )],
    };
    site.tell(Some(table), told);
}
