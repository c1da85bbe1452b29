//! What a rule is given, and how it says what it finds.

use std::time::Duration;

use super::facts::{Database, TableFacts};
use super::finding::{Code, Finding, Severity};
use super::work::Work;
use crate::plan::model::{Limits, Vacuum};
use crate::postgres::ident;

/// From so many rows on, what only costs time is worth a warning; below it is over before anybody looks.
pub const LARGE: u64 = 100_000;

/// One step's work on one table that holds rows.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What is done.
    pub work: &'a Work,
    /// The table: the step's, or a partition of it.
    pub table: &'a TableFacts,
    /// The server, the database and the role.
    pub database: &'a Database,
    /// What the plan says of the pace.
    pub pace: Pace,
}

/// What a plan says of the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `limits.workers`.
    pub workers: u32,
    /// `database.pool.max`.
    pub pool_max: u32,
    /// `limits.vacuum`.
    pub vacuum: Vacuum,
    /// `limits.lock_timeout`.
    pub lock_timeout: Duration,
}

impl Pace {
    /// Of a plan's limits and its pool.
    #[must_use]
    pub fn of(limits: &Limits, pool_max: u32) -> Self {
        Self { workers: limits.workers, pool_max, vacuum: limits.vacuum, lock_timeout: limits.lock_timeout }
    }
}

impl Case<'_> {
    /// A warning where the table is large, else a note.
    #[must_use]
    pub fn by_size(&self) -> Severity {
        if self.table.rows.is_some_and(|rows| rows >= LARGE) { Severity::Warning } else { Severity::Note }
    }

    /// A finding about the table.
    #[must_use]
    pub fn finds(&self, code: Code, severity: Severity, what: String, why: &str) -> Finding {
        Finding {
            code,
            severity,
            step: Some(self.work.step.clone()),
            subject: self.table.label(),
            what,
            why: why.to_owned(),
            mend: Vec::new(),
        }
    }

    /// The role, quoted.
    #[must_use]
    pub fn role(&self) -> String {
        ident::quote(&self.database.role)
    }
}

/// A finding about the database.
#[must_use]
pub fn of_database(code: Code, severity: Severity, subject: &str, what: String, why: &str) -> Finding {
    Finding { code, severity, step: None, subject: subject.to_owned(), what, why: why.to_owned(), mend: Vec::new() }
}

/// The finding with statements that mend it.
#[must_use]
pub fn mended(finding: Finding, mend: Vec<String>) -> Finding {
    Finding { mend, ..finding }
}

/// Names in a sentence: at most four of them, and how many more there are.
#[must_use]
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let (told, rest) = names.split_at(names.len().min(4));
    let told: Vec<String> = told.iter().map(|name| format!("`{name}`")).collect();
    match (told.as_slice(), rest.len()) {
        ([], _) => String::new(),
        (told, more @ 1..) => format!("{} and {more} more", told.join(", ")),
        ([one], 0) => one.clone(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
    }
}

/// What rules are tested with.
#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::check::work::{Does, TableName};

    pub(crate) fn work(does: Does) -> Work {
        let table = TableName { schema: None, name: "users".to_owned() };
        Work { step: "emails".to_owned(), index: 0, table, does, by_part: true }
    }

    pub(crate) fn update(columns: &[&str]) -> Work {
        work(Does::Update { columns: Some(columns.iter().map(|column| (*column).to_owned()).collect()) })
    }

    pub(crate) fn table() -> TableFacts {
        TableFacts {
            oid: 1,
            schema: "public".to_owned(),
            name: "users".to_owned(),
            rows: Some(1_000_000),
            fillfactor: 90,
            autovacuum: true,
            autovacuum_at: 200_050,
            ..TableFacts::default()
        }
    }

    pub(crate) fn database() -> Database {
        Database {
            version: "17.2".to_owned(),
            version_num: 170_002,
            name: "shop".to_owned(),
            role: "clerk".to_owned(),
            today: (2026, 5, 1),
            free_connections: 90,
            max_connections: 100,
            lock_slots: 6400,
            autovacuum: true,
            track_counts: true,
            track_activities: true,
            freeze_max_age: 200_000_000,
            sees_all_stats: true,
            may_create: true,
            ..Database::default()
        }
    }

    pub(crate) fn pace() -> Pace {
        Pace { workers: 4, pool_max: 20, vacuum: Vacuum::Off, lock_timeout: Duration::from_secs(2) }
    }

    pub(crate) fn case<'a>(work: &'a Work, table: &'a TableFacts, database: &'a Database) -> Case<'a> {
        Case { work, table, database, pace: pace() }
    }

    /// The codes that were found, in order.
    pub(crate) fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.code.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        assert_eq!(listed([]), "");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(listed(["a", "b", "c", "d", "e", "f"]), "`a`, `b`, `c`, `d` and 2 more");
    }
}
