//! Constraints that are added, and partitions that are attached by one.

use super::codes;
use super::not_understood;
use super::site::{Site, Told, Weight};
use super::words::{Name, Words};

const ALL_WAIT: &str = "it holds ACCESS EXCLUSIVE while it reads: nobody can read or write the table";
const BUILDS: &str = "it holds ACCESS EXCLUSIVE while the index is built: nobody can read or write the table";
const BOTH_WAIT: &str = "it holds SHARE ROW EXCLUSIVE on both tables while it reads: nobody can write to either";

/// `ADD CONSTRAINT name ...`, or without a name: `words` stand behind ADD.
pub(super) fn add(site: &mut Site<'_>, table: &Name, whole: Words<'_>, mut words: Words<'_>) {
    let added = words;
    let constraint = if words.eat(&["constraint"]) { words.name() } else { None };
    let is_valid = !words.has(&["not", "valid"]);
    if words.eat(&["check"]) {
        let Some(inside) = words.bracketed() else { return not_understood(site, whole) };
        if !site.is_down {
            site.past.check(table, constraint.as_ref(), inside, is_valid);
        }
        if is_valid && !site.is_new(table) {
            let told = validated(
                codes::CHECK_VALIDATES,
                "CHECK without NOT VALID",
                ALL_WAIT,
                table,
                constraint.as_ref(),
                added,
            );
            site.tell(Some(table), told);
        }
    } else if words.eat(&["foreign", "key"]) {
        // A table that was made and not filled is read in no time; the lock on the other table is short then.
        if is_valid && (site.past.moved || !site.is_new(table)) {
            let what = "FOREIGN KEY without NOT VALID";
            let told = validated(codes::FOREIGN_KEY_VALIDATES, what, BOTH_WAIT, table, constraint.as_ref(), added);
            site.tell(Some(table), told);
        }
    } else if words.eat(&["not", "null"]) {
        // From PostgreSQL 18 on.
        let column = words.name();
        if let Some(column) =
            column.filter(|column| is_valid && !site.is_new(table) && !site.past.is_checked(table, column))
        {
            let mut told = validated(
                codes::SET_NOT_NULL,
                "NOT NULL without NOT VALID",
                ALL_WAIT,
                table,
                constraint.as_ref(),
                added,
            );
            told.subject = format!("{}.{}", table.written, column.written);
            site.tell(Some(table), told);
        }
    } else if words.comes("unique") || words.comes("primary") {
        let is_primary = words.eat(&["primary", "key"]) || !words.eat(&["unique"]);
        if words.has(&["using", "index"]) && words.bracketed().is_none() || site.is_new(table) {
            return;
        }
        words.eat(&["nulls", "distinct"]);
        let distinct = words.eat(&["nulls", "not", "distinct"]);
        let Some(columns) = words.bracketed() else { return not_understood(site, whole) };
        unique(site, table, &Key { constraint, columns: columns.text(), is_primary, distinct });
    } else if words.eat(&["exclude"]) {
        if !site.is_new(table) {
            let told = Told {
                code: codes::EXCLUDE,
                weight: Weight::BySize,
                subject: table.written.clone(),
                what: "an exclusion constraint builds its index".to_owned(),
                why: "it holds ACCESS EXCLUSIVE while it builds, and PostgreSQL has no way to build it beforehand",
                mend: vec![
                    "a new table with the constraint, filled by a `copy` step, that takes the old one's name"
                        .to_owned(),
                ],
            };
            site.tell(Some(table), told);
        }
    } else {
        not_understood(site, whole);
    }
}

/// Constraints that stand behind a new column.
pub(super) fn of_column(site: &mut Site<'_>, table: &Name, column: &Name, words: Words<'_>, has_default: bool) {
    if let Some(inside) = words.behind(&["check"]).and_then(|mut words| words.bracketed()) {
        let check = format!("ADD CHECK ({})", inside.text());
        let mut told = validated(codes::CHECK_VALIDATES, "a new column with a CHECK", ALL_WAIT, table, None, words);
        told.subject = format!("{}.{}", table.written, column.written);
        told.mend = vec![
            "ADD COLUMN without the CHECK".to_owned(),
            format!("ALTER TABLE {} {check} NOT VALID", table.written),
            validate(table, None),
        ];
        site.tell(Some(table), told);
    }
    // Where every row has NULL there is nothing to be looked up.
    if let Some(other) = words.behind(&["references"]).filter(|_| has_default).and_then(|mut words| words.name()) {
        let mut told = validated(
            codes::FOREIGN_KEY_VALIDATES,
            "a new column with REFERENCES and a default",
            BOTH_WAIT,
            table,
            None,
            words,
        );
        told.subject = format!("{}.{}", table.written, column.written);
        told.mend = vec![
            "ADD COLUMN without REFERENCES".to_owned(),
            format!(
                "ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} NOT VALID",
                table.written, column.written, other.written
            ),
            validate(table, None),
        ];
        site.tell(Some(table), told);
    }
    let is_primary = words.has(&["primary", "key"]);
    if is_primary || words.has(&["unique"]) {
        unique(site, table, &Key { constraint: None, columns: column.written.clone(), is_primary, distinct: false });
    }
}

fn validate(table: &Name, constraint: Option<&Name>) -> String {
    let name = constraint.map_or("...", |name| name.written.as_str());
    format!(
        "ALTER TABLE {} VALIDATE CONSTRAINT {name}  -- a step of its own: it reads while others write",
        table.written
    )
}

/// A constraint that reads the table, and the two statements in its place.
fn validated(
    code: crate::check::Code,
    what: &str,
    why: &'static str,
    table: &Name,
    constraint: Option<&Name>,
    added: Words<'_>,
) -> Told {
    Told {
        code,
        weight: Weight::BySize,
        subject: constraint
            .map_or_else(|| table.written.clone(), |name| format!("{} ({})", table.written, name.written)),
        what: format!("{what} reads the whole table"),
        why,
        mend: vec![
            format!("ALTER TABLE {} ADD {} NOT VALID", table.written, added.text()),
            validate(table, constraint),
        ],
    }
}

/// A unique or primary key.
struct Key {
    constraint: Option<Name>,
    columns: String,
    is_primary: bool,
    distinct: bool,
}

fn unique(site: &mut Site<'_>, table: &Name, key: &Key) {
    let word = if key.is_primary { "PRIMARY KEY" } else { "UNIQUE" };
    let end = if key.is_primary { "pkey" } else { "key" };
    let name = key
        .constraint
        .as_ref()
        .map_or_else(|| crate::postgres::ident::quote(&format!("{}_{end}", table.last())), |name| name.written.clone());
    let nulls = if key.distinct { " NULLS NOT DISTINCT" } else { "" };
    let (of, columns) = (&table.written, &key.columns);
    let mut mend = vec![
        format!("CREATE UNIQUE INDEX CONCURRENTLY {name} ON {of} ({columns}){nulls}"),
        format!("ALTER TABLE {of} ADD CONSTRAINT {name} {word} USING INDEX {name}"),
    ];
    if key.is_primary {
        mend.insert(1, format!("first NOT NULL on {columns} by a validated CHECK, else this reads the whole table"));
    }
    let what = format!("{word} builds its index");
    site.tell(
        Some(table),
        Told { code: codes::UNIQUE_BUILDS, weight: Weight::BySize, subject: of.clone(), what, why: BUILDS, mend },
    );
}

/// `ATTACH PARTITION`: `words` stand behind it.
pub(super) fn attach(site: &mut Site<'_>, table: &Name, mut words: Words<'_>) {
    let Some(partition) = words.name() else { return };
    if site.is_new(&partition) {
        return;
    }
    let bounds = words.text();
    let check = crate::postgres::ident::quote(&format!("{}_bounds", partition.last()));
    let of = &partition.written;
    let told = Told {
        code: codes::ATTACH_PARTITION,
        weight: Weight::BySize,
        subject: of.clone(),
        what: format!(
            "ATTACH PARTITION to {} reads the whole partition, unless a valid CHECK implies its bounds",
            table.written
        ),
        why: "it holds ACCESS EXCLUSIVE on the partition and on the default partition while it reads them",
        mend: vec![
            format!(
                "ALTER TABLE {of} ADD CONSTRAINT {check} CHECK (KEY IS NOT NULL AND KEY >= ... AND KEY < ...) NOT VALID"
            ),
            format!("ALTER TABLE {of} VALIDATE CONSTRAINT {check}"),
            format!("ALTER TABLE {} ATTACH PARTITION {of} {bounds}", table.written),
            "the default partition, where there is one, wants a check that leaves these bounds out".to_owned(),
        ],
    };
    site.tell(Some(&partition), told);
}

/// `DETACH PARTITION`: `words` stand behind it.
pub(super) fn detach(site: &mut Site<'_>, table: &Name, mut words: Words<'_>) {
    let Some(partition) = words.name() else { return };
    if words.eat(&["concurrently"]) || words.eat(&["finalize"]) || site.is_new(table) {
        return;
    }
    let told = Told {
        code: codes::DETACH_PARTITION,
        weight: Weight::BySize,
        subject: partition.written.clone(),
        what: format!("DETACH PARTITION from {} without CONCURRENTLY", table.written),
        why: "it takes ACCESS EXCLUSIVE on the parent: it waits for every query on any partition, and all later ones wait behind it",
        mend: vec![format!(
            "ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY  -- from PostgreSQL 14 on, and not with a default partition",
            table.written, partition.written
        )],
    };
    site.tell(Some(&partition), told);
}

/// `ALTER DOMAIN`: `words` stand behind it.
pub(super) fn domain(site: &mut Site<'_>, whole: Words<'_>, mut words: Words<'_>) {
    let Some(domain) = words.name() else { return not_understood(site, whole) };
    let reads = words.eat(&["add"]) && !words.has(&["not", "valid"]) || words.eat(&["set", "not", "null"]);
    if !reads {
        return;
    }
    let told = Told {
        code: codes::CHECK_VALIDATES,
        weight: Weight::BySize,
        subject: domain.written.clone(),
        what: "a constraint of a domain reads every table that has a column of it".to_owned(),
        why: "it holds SHARE on each of them while it reads: nobody can write",
        mend: vec![
            format!("ALTER DOMAIN {} ADD CONSTRAINT ... CHECK (...) NOT VALID", domain.written),
            format!("ALTER DOMAIN {} VALIDATE CONSTRAINT ...", domain.written),
        ],
    };
    site.tell(None, told);
}
