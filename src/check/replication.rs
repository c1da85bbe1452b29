//! What follows the database's changes: subscribers, slots, standbys.

use super::case::{Case, listed, mended, of_database};
use super::facts::{Database, Identity, Sessions, Slot};
use super::finding::{Code, Finding, Severity};
use crate::postgres::session::literal;
use crate::run::ByteSize;

/// A published table has nothing to tell its rows apart by: an update fails.
pub const NO_IDENTITY: Code = Code("no-replica-identity");
/// A published table tells its rows apart by all columns.
pub const FULL_IDENTITY: Code = Code("replica-identity-full");
/// Changes are decoded for somebody.
pub const DECODED: Code = Code("logical-slot");
/// Nobody reads a slot: WAL is kept for it.
pub const SLOT_UNREAD: Code = Code("slot-unread");
/// A commit may wait for a standby that is not there.
pub const SYNCHRONOUS: Code = Code("synchronous-standby");

/// Codes of this file.
pub const CODES: [Code; 5] = [NO_IDENTITY, FULL_IDENTITY, DECODED, SLOT_UNREAD, SYNCHRONOUS];

/// What there is to say of a table that is published.
#[must_use]
pub fn of_table(case: &Case<'_>) -> Option<Finding> {
    let table = case.table;
    if table.published_by.is_empty() || !case.work.does.leaves_dead_rows() {
        return None;
    }
    let by = listed(table.published_by.iter().map(String::as_str));
    match table.identity {
        Identity::Key => None,
        Identity::Missing => {
            let what = format!("it is published by {by}, and has no replica identity");
            let why = "the server refuses every UPDATE and DELETE of its rows (SQLSTATE 55000)";
            let mend = vec![
                format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.quoted()),
                "-- better: a primary key, or REPLICA IDENTITY USING INDEX of a unique index over NOT NULL columns"
                    .to_owned(),
            ];
            Some(mended(case.finds(NO_IDENTITY, Severity::Error, what, why), mend))
        }
        Identity::Full => {
            let what = format!("it is published by {by}, with REPLICA IDENTITY FULL");
            let why = "each changed row goes into the WAL twice, old and new, and a subscriber without a fitting index reads \
                       its whole table for each";
            Some(case.finds(FULL_IDENTITY, Severity::Warning, what, why))
        }
    }
}

/// What there is to say of slots and standbys. `writes`: the plan changes rows.
#[must_use]
pub fn of_server(database: &Database, sessions: &Sessions, writes: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if !writes {
        return found;
    }
    let decoding: Vec<&Slot> = sessions.slots.iter().filter(|slot| slot.decodes_here).collect();
    if let Some(first) = decoding.first() {
        let names = listed(decoding.iter().map(|slot| slot.name.as_str()));
        let what = format!("what the run changes is decoded for {names}");
        let why = "all of its WAL is read once more for them, and kept until they have it";
        found.push(of_database(DECODED, Severity::Note, &format!("slot {}", first.name), what, why));
    }
    for slot in sessions.slots.iter().filter(|slot| !slot.is_active) {
        let kept = slot.kept.map(|kept| format!(", and keeps {} of WAL", ByteSize(kept))).unwrap_or_default();
        let what = format!("nobody reads it{kept}");
        let why = "all WAL that the run writes is kept for it, until the disk is full";
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(&slot.name));
        let subject = format!("slot {}", slot.name);
        let mend = vec!["-- only where nobody will come back for it:".to_owned(), drop];
        found.push(mended(of_database(SLOT_UNREAD, Severity::Warning, &subject, what, why), mend));
    }
    found.extend(synchronous(database));
    found
}

fn synchronous(database: &Database) -> Option<Finding> {
    // Which standbys are synchronous is not for every role to see.
    if !database.sees_all_stats {
        return None;
    }
    let wanted = quorum(&database.synchronous_names)?;
    let there = database.synchronous_standbys;
    if there > wanted {
        return None;
    }
    let subject = "synchronous_standby_names";
    let (severity, what, why) = if there < wanted {
        (
            Severity::Warning,
            format!("it asks for {wanted}, and {there} can be seen"),
            "a commit that waits for the disk waits for ever: the end of each step does, and all batches where the ledger \
             lies on Redis",
        )
    } else {
        (
            Severity::Note,
            format!("it asks for {wanted}, and there are just as many"),
            "where one of them falls behind or goes, the end of each step waits for it",
        )
    };
    Some(of_database(SYNCHRONOUS, severity, subject, what, why))
}

/// How many standbys a commit waits for. `None`: for none.
fn quorum(names: &str) -> Option<i64> {
    let names = names.trim();
    if names.is_empty() {
        return None;
    }
    let lower = names.to_ascii_lowercase();
    let method = ["any", "first"].iter().find_map(|word| lower.strip_prefix(word));
    let counted = method.unwrap_or(&lower).trim_start();
    let digits: String = counted.chars().take_while(char::is_ascii_digit).collect();
    let is_counted = counted[digits.len()..].trim_start().starts_with('(');
    Some(digits.parse().ok().filter(|_| is_counted).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, table, update, work};
    use crate::check::facts::TableFacts;
    use crate::check::work::Does;

    #[test]
    fn a_published_table_needs_something_to_tell_its_rows_apart() {
        let database = database();
        let told = |identity, published: &[&str], work: &_| {
            let published_by = published.iter().map(|name| (*name).to_owned()).collect();
            let facts = TableFacts { identity, published_by, ..table() };
            of_table(&case(work, &facts, &database)).map(|found| (found.code, found.severity))
        };
        let work_ = update(&["n"]);
        assert_eq!(told(Identity::Missing, &["p"], &work_), Some((NO_IDENTITY, Severity::Error)));
        assert_eq!(told(Identity::Full, &["p"], &work_), Some((FULL_IDENTITY, Severity::Warning)));
        assert_eq!(told(Identity::Key, &["p"], &work_), None);
        assert_eq!(told(Identity::Missing, &[], &work_), None);
        assert_eq!(told(Identity::Missing, &["p"], &work(Does::Insert { updates: false })), None);
    }

    #[test]
    fn slots_are_told_where_rows_are_written() {
        let slot = |name: &str, decodes_here, is_active| Slot {
            name: name.to_owned(),
            decodes_here,
            is_active,
            kept: Some(1 << 30),
        };
        let sessions = Sessions { slots: vec![slot("a", true, true), slot("b", false, false)], ..Sessions::default() };
        let told = of_server(&database(), &sessions, true);
        assert_eq!(codes(&told), ["logical-slot", "slot-unread"]);
        assert_eq!(told[1].mend[1], "SELECT pg_drop_replication_slot(E'b')");
        assert!(told[1].what.contains("GiB"), "{}", told[1].what);
        assert_eq!(of_server(&database(), &sessions, false), []);
    }

    #[test]
    fn standbys_are_counted_against_what_a_commit_waits_for() {
        let table = [
            ("", 0, None),
            ("s1", 0, Some(Severity::Warning)),
            ("s1, s2", 1, Some(Severity::Note)),
            ("*", 2, None),
            ("FIRST 2 (s1, s2, s3)", 2, Some(Severity::Note)),
            ("any 1 (s1, s2)", 2, None),
            ("2(a, b)", 1, Some(Severity::Warning)),
            ("anything", 1, Some(Severity::Note)),
        ];
        for (names, there, expected) in table {
            let database = Database { synchronous_names: names.to_owned(), synchronous_standbys: there, ..database() };
            let told = of_server(&database, &Sessions::default(), true);
            assert_eq!(told.first().map(|found| found.severity), expected, "{names}");
        }
    }
}
