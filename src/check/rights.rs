//! Rights that the role lacks, every one at once, with the statements that give them.

use super::case::{Case, listed, mended, of_database};
use super::facts::Database;
use super::finding::{Code, Finding, Severity};
use super::work::Does;
use crate::postgres::ident;

/// The role may not do what a step does.
pub const MISSING_RIGHT: Code = Code("missing-right");
/// The role may not keep the ledger.
pub const LEDGER_RIGHT: Code = Code("ledger-right");
/// The role may not take values from a sequence that a column's default asks.
pub const SEQUENCE_RIGHT: Code = Code("sequence-right");
/// The role does not see what others do.
pub const STATISTICS_HIDDEN: Code = Code("statistics-hidden");
/// Row security hides rows from the role.
pub const ROWS_HIDDEN: Code = Code("rows-hidden");

/// Codes of this file.
pub const CODES: [Code; 5] = [MISSING_RIGHT, LEDGER_RIGHT, SEQUENCE_RIGHT, STATISTICS_HIDDEN, ROWS_HIDDEN];

/// What the role lacks for a step's work. `holds_rows`: the table is not only the head of its partitions.
#[must_use]
pub fn of_table(case: &Case<'_>, holds_rows: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(missing(case));
    if holds_rows {
        found.extend(closed_sequences(case));
        found.extend(hidden(case));
    }
    found
}

fn missing(case: &Case<'_>) -> Option<Finding> {
    let (table, rights, role) = (case.table, &case.table.rights, case.role());
    let (mut lacks, mut grants): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    if !rights.usage {
        lacks.push("USAGE of its schema".to_owned());
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", ident::quote(&table.schema)));
    }
    let mut on_table: Vec<String> = Vec::new();
    // Its walk reads keys, and its conditions columns; which of them, the server says when it plans the batch.
    let reads = !matches!(case.work.does, Does::Insert { updates: false } | Does::Define);
    if reads && !rights.select && !rights.select_any {
        on_table.push("SELECT".to_owned());
    }
    match &case.work.does {
        Does::Update { .. } | Does::Insert { updates: true } if !rights.update => {
            let columns = case.work.does.columns();
            let closed: Vec<&str> =
                columns.iter().filter(|column| !rights.update_columns.contains(column)).map(String::as_str).collect();
            if !closed.is_empty() {
                let quoted: Vec<String> = closed.iter().map(|column| ident::quote(column)).collect();
                on_table.push(format!("UPDATE ({})", quoted.join(", ")));
            } else if columns.is_empty() && rights.update_columns.is_empty() {
                on_table.push("UPDATE".to_owned());
            }
        }
        Does::Delete if !rights.delete => on_table.push("DELETE".to_owned()),
        _ => {}
    }
    if matches!(case.work.does, Does::Insert { .. }) && !rights.insert {
        on_table.push("INSERT".to_owned());
    }
    if !on_table.is_empty() {
        grants.push(format!("GRANT {} ON {} TO {role}", on_table.join(", "), table.quoted()));
        lacks.extend(on_table.iter().map(|right| right.replace('"', "")));
    }
    if matches!(case.work.does, Does::Define) && !rights.own {
        lacks.push(format!("membership in its owner `{}`", rights.owner));
        grants.push(format!("GRANT {} TO {role}", ident::quote(&rights.owner)));
    }
    if lacks.is_empty() {
        return None;
    }
    let what = format!("role `{}` lacks {}", case.database.role, lacks.join(", "));
    Some(mended(
        case.finds(MISSING_RIGHT, Severity::Error, what, "the step fails at its first statement (SQLSTATE 42501)"),
        grants,
    ))
}

fn closed_sequences(case: &Case<'_>) -> Option<Finding> {
    let closed = &case.table.rights.closed_sequences;
    if closed.is_empty() || !matches!(case.work.does, Does::Insert { .. }) {
        return None;
    }
    let what =
        format!("role `{}` may not take values from {}", case.database.role, listed(closed.iter().map(String::as_str)));
    let why = "a row that comes without a value for its column is refused (SQLSTATE 42501)";
    let grants =
        closed.iter().map(|sequence| format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", case.role())).collect();
    Some(mended(case.finds(SEQUENCE_RIGHT, Severity::Warning, what, why), grants))
}

fn hidden(case: &Case<'_>) -> Option<Finding> {
    if !case.table.hides_rows || matches!(case.work.does, Does::Define) {
        return None;
    }
    let what = format!(
        "row security hides rows of `{}` from role `{}`: only rows that it shows are changed and counted",
        case.table.label(),
        case.database.role
    );
    let why = "a run says \"nothing is left\" of the rows that it can see, and of no others";
    let mend = vec![format!("ALTER ROLE {} BYPASSRLS", case.role())];
    Some(mended(case.finds(ROWS_HIDDEN, Severity::Warning, what, why), mend))
}

/// What the role lacks in the database. `keeps_ledger`: the plan's ledger lies in it.
#[must_use]
pub fn of_role(database: &Database, keeps_ledger: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let role = ident::quote(&database.role);
    let about = |code, severity, what, why| of_database(code, severity, &format!("role {}", database.role), what, why);
    let why = "a run is written down in schema `howdah` of the database that it changes";
    if keeps_ledger && !database.has_ledger && !database.may_create {
        let what = format!("it may not make schema `howdah` in database `{}`", database.name);
        found.push(mended(
            about(LEDGER_RIGHT, Severity::Error, what, why),
            vec![
                format!("CREATE SCHEMA howdah AUTHORIZATION {role}"),
                format!("-- or: GRANT CREATE ON DATABASE {} TO {role}", ident::quote(&database.name)),
            ],
        ));
    } else if keeps_ledger && database.has_ledger && !database.may_keep_ledger {
        found.push(mended(
            about(LEDGER_RIGHT, Severity::Error, "it may not write all of schema `howdah`".to_owned(), why),
            vec![
                format!("GRANT USAGE, CREATE ON SCHEMA howdah TO {role}"),
                format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA howdah TO {role}"),
                format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA howdah TO {role}"),
            ],
        ));
    }
    if keeps_ledger && database.has_ledger && database.may_keep_ledger && !database.may_extend_ledger {
        let what = "it may not make tables in schema `howdah`".to_owned();
        let why = "an undo log is one, and so is what a newer howdah keeps of a run";
        found.push(mended(
            about(LEDGER_RIGHT, Severity::Warning, what, why),
            vec![format!("GRANT CREATE ON SCHEMA howdah TO {role}")],
        ));
    }
    if !database.sees_all_stats {
        let what = "it does not see what the sessions of other roles do".to_owned();
        let why = "their long transactions, and who waits for what, are not shown";
        found.push(mended(
            about(STATISTICS_HIDDEN, Severity::Note, what, why),
            vec![format!("GRANT pg_read_all_stats TO {role}")],
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, table, update, work};
    use crate::check::facts::{Rights, TableFacts};

    fn nothing() -> TableFacts {
        let rights = Rights {
            usage: false,
            select: false,
            select_any: false,
            update: false,
            insert: false,
            delete: false,
            own: false,
            owner: "app owner".to_owned(),
            ..Rights::default()
        };
        TableFacts { schema: "app".to_owned(), rights, ..table() }
    }

    #[test]
    fn every_right_that_is_missing_is_told_at_once_with_its_grant() {
        let usage = "GRANT USAGE ON SCHEMA \"app\" TO \"clerk\"";
        let on = |rights: &str| format!("GRANT {rights} ON \"app\".\"users\" TO \"clerk\"");
        let table = [
            (update(&["email", "n"]), vec![usage.to_owned(), on("SELECT, UPDATE (\"email\", \"n\")")]),
            (work(Does::Update { columns: None }), vec![usage.to_owned(), on("SELECT, UPDATE")]),
            (work(Does::Delete), vec![usage.to_owned(), on("SELECT, DELETE")]),
            (work(Does::Insert { updates: false }), vec![usage.to_owned(), on("INSERT")]),
            (work(Does::Insert { updates: true }), vec![usage.to_owned(), on("SELECT, UPDATE, INSERT")]),
            (work(Does::Read), vec![usage.to_owned(), on("SELECT")]),
            (work(Does::Define), vec![usage.to_owned(), "GRANT \"app owner\" TO \"clerk\"".to_owned()]),
        ];
        let (facts, database) = (nothing(), database());
        for (work, grants) in table {
            let found = of_table(&case(&work, &facts, &database), true);
            assert_eq!(codes(&found), ["missing-right"], "{work:?}");
            assert_eq!(found[0].mend, grants);
            assert_eq!(found[0].severity, Severity::Error);
        }
        assert_eq!(of_table(&case(&update(&["email"]), &super::super::case::samples::table(), &database), true), []);
    }

    #[test]
    fn a_right_to_the_columns_that_are_set_is_enough() {
        let rights = Rights { update: false, update_columns: vec!["email".to_owned()], ..Rights::default() };
        let (facts, database) = (TableFacts { rights, ..table() }, database());
        assert_eq!(of_table(&case(&update(&["email"]), &facts, &database), true), []);
        let found = of_table(&case(&update(&["email", "n"]), &facts, &database), true);
        assert_eq!(found[0].mend, ["GRANT UPDATE (\"n\") ON \"public\".\"users\" TO \"clerk\""]);
        assert_eq!(found[0].what, "role `clerk` lacks UPDATE (n)");
    }

    #[test]
    fn hidden_rows_and_closed_sequences_are_told_of_tables_that_hold_rows() {
        let rights = Rights { closed_sequences: vec!["public.users_id_seq".to_owned()], ..Rights::default() };
        let (facts, database) = (TableFacts { rights, hides_rows: true, ..table() }, database());
        let insert = work(Does::Insert { updates: false });
        assert_eq!(codes(&of_table(&case(&insert, &facts, &database), true)), ["sequence-right", "rows-hidden"]);
        assert_eq!(codes(&of_table(&case(&update(&["a"]), &facts, &database), true)), ["rows-hidden"]);
        assert_eq!(of_table(&case(&insert, &facts, &database), false), []);
    }

    #[test]
    fn a_role_that_cannot_keep_the_ledger_is_told_what_it_lacks() {
        let open = database();
        assert_eq!(of_role(&open, true), []);
        let closed = Database { may_create: false, sees_all_stats: false, ..open };
        assert_eq!(codes(&of_role(&closed, true)), ["ledger-right", "statistics-hidden"]);
        assert_eq!(codes(&of_role(&closed, false)), ["statistics-hidden"], "its ledger lies elsewhere");
        let there = Database { has_ledger: true, may_create: false, sees_all_stats: true, ..closed };
        assert_eq!(codes(&of_role(&there, true)), ["ledger-right"]);
        let kept = Database { may_keep_ledger: true, ..there };
        assert_eq!(of_role(&kept, true).iter().map(|found| found.severity).collect::<Vec<_>>(), [Severity::Warning]);
        assert_eq!(of_role(&Database { may_extend_ledger: true, ..kept }, true), []);
    }
}
