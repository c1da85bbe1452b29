//! Indexes that are built, dropped and built again.

use super::codes;
use super::site::{Site, Told, Weight};
use super::words::Words;

const WRITERS_WAIT: &str = "the build takes a SHARE lock: nobody can write to the table until it is finished";
const ALL_WAIT: &str =
    "it takes ACCESS EXCLUSIVE on the table: it waits for every query on it, and all that come later wait behind it";

/// `CREATE [UNIQUE] INDEX`: `words` stand behind INDEX.
pub(super) fn create(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    let after_index = words;
    if words.eat(&["concurrently"]) {
        return;
    }
    words.eat(&["if", "not", "exists"]);
    let index = if words.comes("on") { None } else { words.name() };
    let Some(table) = words.eat(&["on"]).then(|| {
        words.eat(&["only"]);
        words.name()
    }) else {
        return super::not_understood(site, whole);
    };
    let Some(table) = table else { return super::not_understood(site, whole) };
    if site.is_new(&table) {
        if let Some(index) = index {
            site.past.index(&index);
        }
        return;
    }
    site.tell(
        Some(&table),
        Told {
            code: codes::CREATE_INDEX,
            weight: Weight::BySize,
            subject: table.written.clone(),
            what: "CREATE INDEX without CONCURRENTLY".to_owned(),
            why: WRITERS_WAIT,
            mend: vec![whole.with("CONCURRENTLY", after_index)],
        },
    );
}

/// `DROP INDEX`: `words` stand behind INDEX.
pub(super) fn drop(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    let after_index = words;
    if words.eat(&["concurrently"]) {
        return;
    }
    words.eat(&["if", "exists"]);
    let names: Vec<_> = words.split().into_iter().filter_map(|mut one| one.name()).collect();
    let old: Vec<_> = names.iter().filter(|name| !site.past.has_index(name)).collect();
    let Some(first) = old.first() else { return };
    // CONCURRENTLY drops one index at a time, and never with CASCADE.
    let mend = match names.as_slice() {
        [_] if !words.has(&["cascade"]) => vec![whole.with("CONCURRENTLY", after_index)],
        _ => old.iter().map(|name| format!("DROP INDEX CONCURRENTLY {}", name.written)).collect(),
    };
    let subject = first.written.clone();
    let what = "DROP INDEX without CONCURRENTLY".to_owned();
    site.tell(None, Told { code: codes::DROP_INDEX, weight: Weight::BySize, subject, what, why: ALL_WAIT, mend });
}

/// `REINDEX`: `words` stand behind it.
pub(super) fn reindex(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    let options = words.bracketed();
    let named = options.and_then(|options| options.behind(&["concurrently"]));
    let is_off = named.is_some_and(|mut rest| rest.eat_any(&["false", "off"]));
    let kind = ["index", "table", "schema", "database", "system"].into_iter().find(|kind| words.eat(&[kind]));
    let Some(kind) = kind else { return super::not_understood(site, whole) };
    let rest = words;
    if named.is_some() && !is_off || words.eat(&["concurrently"]) {
        return;
    }
    let name = words.name();
    let table = name.as_ref().filter(|_| kind == "table");
    if table.is_some_and(|table| site.is_new(table)) {
        return;
    }
    let subject = name.as_ref().map_or_else(|| format!("the {kind}"), |name| name.written.clone());
    let mend = match kind {
        "system" => {
            vec!["at a time when nobody uses the database: a system catalog is not reindexed CONCURRENTLY".to_owned()]
        }
        _ => vec![whole.with("CONCURRENTLY", rest)],
    };
    let why = "it locks the table against writers, and the index against readers, until it is finished";
    let what = format!("REINDEX {} without CONCURRENTLY", kind.to_uppercase());
    site.tell(table, Told { code: codes::REINDEX, weight: Weight::BySize, subject, what, why, mend });
}

/// `ALTER INDEX`: a new name and settings lock nobody out for long; another tablespace does.
pub(super) fn alter(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    words.eat(&["if", "exists"]);
    let Some(index) = words.name() else { return super::not_understood(site, whole) };
    if !words.eat(&["set", "tablespace"]) || site.past.has_index(&index) {
        return;
    }
    let told = Told {
        code: codes::REWRITES_TABLE,
        weight: Weight::BySize,
        subject: index.written.clone(),
        what: "SET TABLESPACE copies the index".to_owned(),
        why: "it holds ACCESS EXCLUSIVE on the index for as long as that takes: queries that would use it wait",
        mend: vec![format!(
            "REINDEX (CONCURRENTLY, TABLESPACE {}) INDEX {}  -- from PostgreSQL 14 on",
            words.text(),
            index.written
        )],
    };
    site.tell(None, told);
}
