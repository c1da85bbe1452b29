//! Statements that lock more, or longer, than their author may think: the list of strong_migrations and more, told by words.
//!
//! Pure: what is known of the database is asked of [`Known`]. A table that the plan itself makes is nobody's yet, and is left
//! alone.
//!
//! | file | what |
//! | --- | --- |
//! | `words` | a statement cut into words, by sqlparser's tokenizer |
//! | `site` | where a statement stands: step, size of the table, what came before |
//! | `past` | what earlier statements have done that makes later ones harmless |
//! | `alter` | `ALTER TABLE`, action by action |
//! | `columns`, `defaults`, `types` | columns added, changed, renamed, dropped; which of that rewrites a table |
//! | `constraints` | constraints and partitions |
//! | `indexes` | indexes |
//! | `whole` | tables as a whole, views, triggers |
//! | `rows` | what changes rows, by sqlparser's parser |
//! | `codes` | what can be found |

mod alter;
mod codes;
mod columns;
mod constraints;
mod defaults;
mod indexes;
mod past;
mod rows;
mod site;
#[cfg(test)]
mod tests;
mod types;
mod whole;
mod words;

pub use self::codes::CODES;
use self::past::Past;
pub use self::site::Known;
use self::site::{Site, Told, Weight};
use self::words::Words;
use super::finding::{Finding, Severity};
use crate::plan::model::{Plan, StepKind};

/// How much of a statement is repeated.
const REPEATED: usize = 60;

/// First words of statements that lock no table for long, and that sqlparser does not all read.
const HARMLESS: [&[&str]; 47] = [
    &["comment"],
    &["grant"],
    &["revoke"],
    &["set"],
    &["reset"],
    &["show"],
    &["analyze"],
    &["analyse"],
    &["notify"],
    &["checkpoint"],
    &["security", "label"],
    &["reassign", "owned"],
    &["import", "foreign", "schema"],
    &["create", "extension"],
    &["create", "statistics"],
    &["create", "publication"],
    &["create", "subscription"],
    &["create", "schema"],
    &["create", "sequence"],
    &["create", "type"],
    &["create", "domain"],
    &["create", "view"],
    &["create", "function"],
    &["create", "procedure"],
    &["create", "or", "replace", "view"],
    &["create", "or", "replace", "function"],
    &["create", "or", "replace", "procedure"],
    &["create", "role"],
    &["create", "collation"],
    &["create", "cast"],
    &["create", "operator"],
    &["create", "aggregate"],
    &["create", "server"],
    &["create", "event"],
    &["create", "policy"],
    &["alter", "sequence"],
    &["alter", "statistics"],
    &["alter", "publication"],
    &["alter", "subscription"],
    &["alter", "function"],
    &["alter", "type"],
    &["alter", "view"],
    &["alter", "role"],
    &["alter", "default", "privileges"],
    &["alter", "extension"],
    &["alter", "system"],
    &["alter", "policy"],
];

/// What is to be said about the statements of a plan. `rows`: about how many rows a table has, where that is known.
#[must_use]
pub fn look(plan: &Plan, rows: &dyn Fn(&str) -> Option<u64>) -> Vec<Finding> {
    struct Rows<'a>(&'a dyn Fn(&str) -> Option<u64>);
    impl Known for Rows<'_> {
        fn rows(&self, table: &str) -> Option<u64> {
            (self.0)(table)
        }
    }
    look_with(plan, &Rows(rows))
}

/// [`look`], where types of columns are known as well.
#[must_use]
pub fn look_with(plan: &Plan, known: &dyn Known) -> Vec<Finding> {
    let (mut past, mut found) = (Past::default(), Vec::new());
    for step in &plan.steps {
        match &step.kind {
            StepKind::Statement(statement) => {
                let texts = [(Some(&statement.sql), false), (statement.down.as_ref(), true)];
                for (sql, is_down) in texts.into_iter().filter_map(|(sql, is_down)| Some((sql?, is_down))) {
                    let (past, found) = (&mut past, &mut found);
                    let mut site = Site { step: &step.name, is_down, known, past, found };
                    look_at(&mut site, &sql.text);
                }
            }
            StepKind::Import(_) | StepKind::Copy(_) | StepKind::Transform(_) => past.moved = true,
            _ => {}
        }
    }
    found
}

fn look_at(site: &mut Site<'_>, sql: &str) {
    match words::statements(sql) {
        Some(all) => all.iter().for_each(|one| statement(site, Words(one))),
        None => not_understood_text(site, sql),
    }
}

fn statement(site: &mut Site<'_>, whole: Words<'_>) {
    let mut words = whole;
    if words.eat(&["create", "unique", "index"]) || words.eat(&["create", "index"]) {
        indexes::create(site, whole, words);
    } else if words.eat(&["drop", "index"]) {
        indexes::drop(site, whole, words);
    } else if words.eat(&["reindex"]) {
        indexes::reindex(site, whole, words);
    } else if words.eat(&["alter", "table"]) || words.eat(&["alter", "foreign", "table"]) {
        alter::table(site, whole, words);
    } else if words.eat(&["alter", "domain"]) {
        constraints::domain(site, whole, words);
    } else if words.eat(&["vacuum"]) {
        whole::vacuum(site, words);
    } else if words.eat(&["cluster"]) {
        whole::cluster(site, words);
    } else if words.eat(&["truncate"]) {
        whole::truncate(site, words);
    } else if words.eat(&["lock"]) {
        whole::lock(site, words);
    } else if words.eat(&["drop", "table"]) {
        whole::drop_table(site, words);
    } else if words.eat(&["refresh", "materialized", "view"]) {
        whole::refresh(site, words);
    } else if is_trigger(&mut words) {
        whole::trigger(site, words);
    } else if words.eat(&["alter", "index"]) {
        indexes::alter(site, whole, words);
    } else if HARMLESS.iter().any(|first| words.eat(first)) {
        // Nothing to be told.
    } else if words.comes("do") || words.comes("call") {
        not_understood(site, whole);
    } else if !(words.eat(&["create"]) && whole::created(site, words)) {
        rows::look(site, whole);
    }
}

/// `CREATE [OR REPLACE] [CONSTRAINT] TRIGGER`, eaten.
fn is_trigger(words: &mut Words<'_>) -> bool {
    let before = *words;
    let is_one = words.eat(&["create"]) && {
        words.eat(&["or", "replace"]);
        words.eat(&["constraint"]);
        words.eat(&["trigger"])
    };
    if !is_one {
        *words = before;
    }
    is_one
}

/// The statement, or part of it, was not looked at: said so, as nobody should take silence for safety.
fn not_understood(site: &mut Site<'_>, whole: Words<'_>) {
    not_understood_text(site, &whole.text());
}

fn not_understood_text(site: &mut Site<'_>, text: &str) {
    let mut repeated: String = text.chars().take(REPEATED).collect();
    if repeated.len() < text.len() {
        repeated.push('…');
    }
    let told = Told {
        code: codes::NOT_UNDERSTOOD,
        weight: Weight::Always(Severity::Note),
        subject: repeated,
        what: "howdah does not know what the statement does".to_owned(),
        why: "it was not looked at: which locks it takes, and for how long, is yours to find out",
        mend: Vec::new(),
    };
    site.tell(None, told);
}
