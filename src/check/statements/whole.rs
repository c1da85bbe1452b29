//! Statements about a table as a whole: locked, emptied, dropped, written anew; views that are filled, triggers that are made.

use super::codes;
use super::site::{Site, Told, Weight};
use super::words::{Name, Words};
use crate::check::Severity;

/// The tables of a list, without `ONLY`, `*` and what stands behind them.
fn tables(words: Words<'_>) -> Vec<Name> {
    let name = |mut one: Words<'_>| {
        one.eat(&["only"]);
        one.name()
    };
    words.split().into_iter().filter_map(name).collect()
}

/// `VACUUM`: only `FULL` locks anyone out.
pub(super) fn vacuum(site: &mut Site<'_>, mut words: Words<'_>) {
    let listed = words.bracketed();
    let is_full = match listed {
        Some(options) => {
            options.split().into_iter().any(|mut one| one.eat(&["full"]) && !one.eat_any(&["false", "off"]))
        }
        None => words.eat(&["full"]),
    };
    if !is_full {
        return;
    }
    words.eat(&["freeze"]);
    words.eat(&["verbose"]);
    words.eat_any(&["analyze", "analyse"]);
    let tables = tables(words);
    if tables.is_empty() {
        return rewritten(site, None, "VACUUM FULL of the whole database", Vec::new());
    }
    for table in &tables {
        let mend = vec![
            format!("VACUUM {}  -- makes the room free for new rows", table.written),
            "pg_repack or pg_squeeze, where the room has to go back to the disk: they lock only for a moment"
                .to_owned(),
        ];
        rewritten(site, Some(table), "VACUUM FULL", mend);
    }
}

/// `CLUSTER`.
pub(super) fn cluster(site: &mut Site<'_>, mut words: Words<'_>) {
    words.bracketed();
    words.eat(&["verbose"]);
    let table = words.name();
    let mend = vec!["pg_repack --order-by=COLUMNS: it locks only for a moment".to_owned()];
    rewritten(site, table.as_ref(), "CLUSTER", mend);
}

/// A statement that writes the table anew.
pub(super) fn rewritten(site: &mut Site<'_>, table: Option<&Name>, what: &str, mend: Vec<String>) {
    if table.is_some_and(|table| site.is_new(table)) {
        return;
    }
    let told = Told {
        code: codes::REWRITES_TABLE,
        weight: Weight::BySize,
        subject: table.map_or_else(|| "the database".to_owned(), |table| table.written.clone()),
        what: format!("{what} writes the table and its indexes anew"),
        why: "it holds ACCESS EXCLUSIVE for as long as that takes: nobody can read or write, and all of it goes through the WAL",
        mend,
    };
    site.tell(table, told);
    if let Some(table) = table {
        site.rewrites(table);
    }
}

/// `TRUNCATE`: `words` stand behind it.
pub(super) fn truncate(site: &mut Site<'_>, mut words: Words<'_>) {
    words.eat(&["table"]);
    for table in tables(words) {
        if site.is_new(&table) || site.is_down {
            continue;
        }
        let told = Told {
            code: codes::TRUNCATE,
            weight: Weight::BySize,
            subject: table.written.clone(),
            what: "TRUNCATE empties the table".to_owned(),
            why: "it takes ACCESS EXCLUSIVE, no undo log brings the rows back, and readers with an older snapshot see an empty table",
            mend: vec![format!(
                "CREATE TABLE {}_before (LIKE {0} INCLUDING ALL)  -- and a step that copies what may be wanted again",
                table.written
            )],
        };
        site.tell(Some(&table), told);
    }
}

/// `LOCK [TABLE]`: `words` stand behind it.
pub(super) fn lock(site: &mut Site<'_>, mut words: Words<'_>) {
    words.eat(&["table"]);
    let mode = words.behind(&["in"]).map(|mode| mode.until(&["mode"]).text().to_uppercase());
    let mode = mode.unwrap_or_else(|| "ACCESS EXCLUSIVE".to_owned());
    if ["ACCESS SHARE", "ROW SHARE"].contains(&mode.as_str()) {
        return;
    }
    for table in tables(words) {
        if site.is_new(&table) {
            continue;
        }
        let told = Told {
            code: codes::LOCK_TABLE,
            weight: Weight::Always(Severity::Warning),
            subject: table.written.clone(),
            what: format!("LOCK TABLE in mode {mode}"),
            why: "a step is one transaction: the lock is gone when the next step begins, and until then others wait for nothing",
            mend: vec!["leave the step out: each statement takes the lock that it needs".to_owned()],
        };
        site.tell(Some(&table), told);
    }
}

/// `DROP TABLE`: `words` stand behind TABLE.
pub(super) fn drop_table(site: &mut Site<'_>, mut words: Words<'_>) {
    words.eat(&["if", "exists"]);
    for table in tables(words) {
        // What takes a step back takes its table away as well.
        if site.is_new(&table) || site.is_down {
            continue;
        }
        let told = Told {
            code: codes::DROP_TABLE,
            weight: Weight::Always(Severity::Warning),
            subject: table.written.clone(),
            what: "DROP TABLE, which nothing takes back".to_owned(),
            why: "an application that still knows the table fails; tables that its foreign keys lead to are locked as well",
            mend: vec![
                format!(
                    "ALTER TABLE {} RENAME TO {}_gone  -- first, once no release uses it: what fails now can be named back",
                    table.written,
                    table.last()
                ),
                "drop it by a later plan".to_owned(),
            ],
        };
        site.tell(Some(&table), told);
    }
}

/// `REFRESH MATERIALIZED VIEW`: `words` stand behind VIEW.
pub(super) fn refresh(site: &mut Site<'_>, mut words: Words<'_>) {
    if words.eat(&["concurrently"]) || words.has(&["with", "no", "data"]) {
        return;
    }
    let Some(view) = words.name() else { return };
    let told = Told {
        code: codes::REFRESH,
        weight: Weight::BySize,
        subject: view.written.clone(),
        what: "REFRESH MATERIALIZED VIEW without CONCURRENTLY".to_owned(),
        why: "it holds ACCESS EXCLUSIVE on the view until its query is done: nobody can read it",
        mend: vec![format!(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY {}  -- wants a unique index on columns of the view",
            view.written
        )],
    };
    site.tell(Some(&view), told);
}

/// `CREATE TRIGGER`: `words` stand behind TRIGGER.
pub(super) fn trigger(site: &mut Site<'_>, mut words: Words<'_>) {
    if words.name().is_none() {
        return;
    }
    let Some(table) = words.behind(&["on"]).and_then(|mut words| words.name()) else { return };
    if site.is_new(&table) {
        return;
    }
    let told = Told {
        code: codes::CREATE_TRIGGER,
        weight: Weight::Always(Severity::Note),
        subject: table.written.clone(),
        what: "CREATE TRIGGER on a table that is in use".to_owned(),
        why: "it takes SHARE ROW EXCLUSIVE: it waits for transactions that write, and new ones wait behind it; then it fires for each row that a later step changes",
        mend: vec!["limits.lock_timeout = \"2s\"  # the default: it gives way and is tried again".to_owned()],
    };
    site.tell(Some(&table), told);
}

/// `CREATE TABLE` in all its forms: `words` stand behind CREATE. Whether it was one.
pub(super) fn created(site: &mut Site<'_>, mut words: Words<'_>) -> bool {
    words.eat_any(&["global", "local"]);
    words.eat_any(&["temporary", "temp", "unlogged", "foreign"]);
    if !(words.eat(&["table"]) || words.eat(&["materialized", "view"])) {
        return false;
    }
    words.eat(&["if", "not", "exists"]);
    let Some(table) = words.name() else { return true };
    if words.eat(&["partition", "of"])
        && let Some(parent) = words.name().filter(|parent| !site.is_new(parent))
    {
        let told = Told {
            code: codes::ATTACH_PARTITION,
            weight: Weight::BySize,
            subject: parent.written.clone(),
            what: format!("CREATE TABLE {} PARTITION OF it", table.written),
            why: "it takes ACCESS EXCLUSIVE on the parent, and reads the whole default partition under it where there is one",
            mend: vec![
                format!("CREATE TABLE {} (LIKE {} INCLUDING ALL)", table.written, parent.written),
                format!(
                    "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES ...  -- SHARE UPDATE EXCLUSIVE: nobody waits",
                    parent.written, table.written
                ),
            ],
        };
        site.tell(Some(&parent), told);
    }
    if !site.is_down {
        site.past.make(table);
    }
    true
}
