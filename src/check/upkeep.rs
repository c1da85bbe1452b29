//! What clears dead rows away, and what keeps it from that.

use std::time::Duration;

use super::case::{Case, listed, mended, of_database};
use super::facts::{Database, Sessions};
use super::finding::{Code, Finding, Severity};
use crate::plan::model::Vacuum;
use crate::postgres::session::literal;
use crate::run::human;

/// Nothing vacuums the table.
pub const AUTOVACUUM_OFF: Code = Code("autovacuum-off");
/// Autovacuum comes only after very many dead rows.
pub const AUTOVACUUM_LAZY: Code = Code("autovacuum-lazy");
/// Much of the table is dead already.
pub const DEAD_ROWS: Code = Code("dead-rows");
/// Transaction ids run out.
pub const WRAPAROUND: Code = Code("wraparound-near");
/// A transaction is open for long.
pub const LONG_TRANSACTION: Code = Code("long-transaction");
/// A transaction was prepared, and forgotten.
pub const PREPARED: Code = Code("prepared-transaction");

/// Codes of this file.
pub const CODES: [Code; 6] = [AUTOVACUUM_OFF, AUTOVACUUM_LAZY, DEAD_ROWS, WRAPAROUND, LONG_TRANSACTION, PREPARED];

/// More dead rows than this at once are felt on any table.
const MANY_DEAD: u64 = 1_000_000;
/// Fewer dead rows than this are not worth a word.
const FEW_DEAD: u64 = 10_000;

/// From when on it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Age of a transaction, open or prepared. Default 5 min.
    pub transaction: Duration,
    /// Age of the database's oldest transaction id, or multixact. Default 1,500 million.
    pub ids: i64,
    /// Age at which new transactions are nearly refused: the server does so at 2,144 million. Default 2,080 million.
    pub last_ids: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { transaction: Duration::from_mins(5), ids: 1_500_000_000, last_ids: 2_080_000_000 }
    }
}

/// What there is to say of a table's upkeep.
#[must_use]
pub fn of_table(case: &Case<'_>) -> Vec<Finding> {
    if !case.work.does.leaves_dead_rows() {
        return Vec::new();
    }
    [vacuumed(case), dead(case)].into_iter().flatten().collect()
}

fn vacuumed(case: &Case<'_>) -> Option<Finding> {
    let (table, database) = (case.table, case.database);
    let server_off = !database.autovacuum || !database.track_counts;
    if server_off || !table.autovacuum {
        let where_ = if server_off { "on the server" } else { "for the table" };
        let what = format!("autovacuum is off {where_}");
        let on_table = format!("ALTER TABLE {} SET (autovacuum_enabled = true)", table.quoted());
        let (severity, why) = match case.pace.vacuum {
            Vacuum::Wait => (
                Severity::Error,
                "`limits.vacuum = \"wait\"` waits for autovacuum, which would never come: the run stands still",
            ),
            Vacuum::Run => (
                Severity::Note,
                "howdah runs VACUUM itself (`limits.vacuum = \"run\"`), and only while the run goes on",
            ),
            Vacuum::Off => (
                case.by_size(),
                "the old version of every changed row stays: the table and its indexes grow by as much",
            ),
        };
        let mend = if server_off {
            vec!["ALTER SYSTEM SET autovacuum = on".to_owned(), "SELECT pg_reload_conf()".to_owned()]
        } else {
            vec![on_table]
        };
        return Some(mended(case.finds(AUTOVACUUM_OFF, severity, what, why), mend));
    }
    if table.autovacuum_at <= MANY_DEAD || case.pace.vacuum == Vacuum::Run {
        return None;
    }
    let what = format!("autovacuum comes only once {} are dead", human::rows(table.autovacuum_at));
    let why = "by then the table has grown by as many; the place is used again later, and never given back";
    let mend = vec![
        format!(
            "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000)",
            table.quoted()
        ),
        "-- or, in the plan: [limits] vacuum = \"run\"".to_owned(),
    ];
    Some(mended(case.finds(AUTOVACUUM_LAZY, Severity::Warning, what, why), mend))
}

fn dead(case: &Case<'_>) -> Option<Finding> {
    let (dead, live) = (case.table.dead, case.table.rows.unwrap_or(0));
    if dead < FEW_DEAD || dead.saturating_mul(4) < live {
        return None;
    }
    let percent = dead.saturating_mul(100) / dead.saturating_add(live).max(1);
    let what = format!("{percent} % of it is dead: {} beside {}", human::rows(dead), human::count(live));
    let why = "the walk reads them all, and new versions of rows find no place while they are not cleared";
    let mend = vec![format!("VACUUM (ANALYZE) {}", case.table.quoted())];
    Some(mended(case.finds(DEAD_ROWS, Severity::Warning, what, why), mend))
}

/// What there is to say of the database's upkeep.
#[must_use]
pub fn of_database_wide(database: &Database, sessions: &Sessions, patience: Patience) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    found.extend(open(sessions, patience));
    found.extend(prepared(sessions, patience));
    found.extend(wraparound(database, patience));
    found
}

fn open(sessions: &Sessions, patience: Patience) -> Option<Finding> {
    let long: Vec<_> = sessions.open.iter().filter(|open| open.age >= patience.transaction).collect();
    let oldest = long.first()?;
    let told: Vec<String> = long
        .iter()
        .map(|open| {
            let application = if open.application.is_empty() { "no name" } else { &open.application };
            format!(
                "pid {} ({application}, role {}, {}, {})",
                open.pid,
                open.role,
                open.state,
                human::duration(open.age)
            )
        })
        .collect();
    let what = format!(
        "{} open: {}",
        counted(long.len(), "transaction is", "transactions are"),
        listed(told.iter().map(String::as_str))
    );
    let why = "no dead row that is younger than the oldest of them can be cleared, CREATE INDEX CONCURRENTLY waits for them, \
               and their locks hold statements up";
    let subject = format!("pid {}", oldest.pid);
    let remark = "-- ask its owner first; a backup or another run may be worth waiting for".to_owned();
    let ends = long.iter().map(|open| format!("SELECT pg_terminate_backend({})", open.pid));
    let mend = std::iter::once(remark).chain(ends).collect();
    Some(mended(of_database(LONG_TRANSACTION, Severity::Warning, &subject, what, why), mend))
}

fn prepared(sessions: &Sessions, patience: Patience) -> Option<Finding> {
    let old: Vec<_> = sessions.prepared.iter().filter(|prepared| prepared.age >= patience.transaction).collect();
    let oldest = old.first()?;
    let told: Vec<String> = old
        .iter()
        .map(|prepared| format!("{} (role {}, {})", prepared.gid, prepared.owner, human::duration(prepared.age)))
        .collect();
    let what = format!(
        "{} prepared and not ended: {}",
        counted(old.len(), "transaction is", "transactions are"),
        listed(told.iter().map(String::as_str))
    );
    let why = "it holds its locks and old rows until somebody ends it, also over a restart of the server";
    let mend = old
        .iter()
        .map(|prepared| format!("ROLLBACK PREPARED {}", literal(&prepared.gid)))
        .chain(["-- or COMMIT PREPARED, as whoever has prepared it says".to_owned()])
        .collect();
    Some(mended(of_database(PREPARED, Severity::Warning, &oldest.gid, what, why), mend))
}

fn wraparound(database: &Database, patience: Patience) -> Option<Finding> {
    let (age, of) = if database.multixact_age > database.xid_age {
        (database.multixact_age, "multixact")
    } else {
        (database.xid_age, "transaction id")
    };
    if age < patience.ids {
        return None;
    }
    let severity = if age >= patience.last_ids { Severity::Error } else { Severity::Warning };
    let what = format!(
        "its oldest {of} is {} old; at 2,144,000,000 the server takes no more writes",
        human::count(age.max(0).cast_unsigned())
    );
    let why = "every batch takes an id, and vacuums against wraparound read whole tables meanwhile";
    let mend = vec![
        "SELECT c.oid::regclass, age(c.relfrozenxid) FROM pg_class c WHERE c.relkind IN ('r', 'm', 't') ORDER BY 2 DESC LIMIT 10"
            .to_owned(),
        "VACUUM (FREEZE)".to_owned(),
    ];
    Some(mended(of_database(WRAPAROUND, severity, &format!("database {}", database.name), what, why), mend))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("a {one}") } else { format!("{n} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, pace, table, update, work};
    use crate::check::case::{Case, Pace};
    use crate::check::facts::{OpenTransaction, Prepared, TableFacts};
    use crate::check::work::Does;

    #[test]
    fn a_table_that_nothing_vacuums_is_told_by_what_the_plan_does_about_it() {
        let (work, database) = (update(&["n"]), database());
        let off = TableFacts { autovacuum: false, ..table() };
        let severity = |vacuum| {
            let case = Case { pace: Pace { vacuum, ..pace() }, ..case(&work, &off, &database) };
            of_table(&case).first().map(|finding| (finding.code, finding.severity))
        };
        assert_eq!(severity(Vacuum::Off), Some((AUTOVACUUM_OFF, Severity::Warning)));
        assert_eq!(severity(Vacuum::Wait), Some((AUTOVACUUM_OFF, Severity::Error)));
        assert_eq!(severity(Vacuum::Run), Some((AUTOVACUUM_OFF, Severity::Note)));
        let server = Database { autovacuum: false, ..database.clone() };
        let told = of_table(&case(&work, &table(), &server));
        assert_eq!(told[0].mend[0], "ALTER SYSTEM SET autovacuum = on");
        assert_eq!(of_table(&case(&work, &table(), &database)), []);
        let insert = super::super::case::samples::work(Does::Insert { updates: false });
        assert_eq!(of_table(&case(&insert, &off, &database)), []);
    }

    #[test]
    fn autovacuum_is_lazy_by_the_rows_that_it_waits_for() {
        let (work, database) = (work(Does::Delete), database());
        let lazy = TableFacts { autovacuum_at: 4_000_050, ..table() };
        let told = of_table(&case(&work, &lazy, &database));
        assert_eq!(codes(&told), ["autovacuum-lazy"]);
        assert!(told[0].what.contains("4,000,050 rows"), "{}", told[0].what);
        let runs = Case { pace: Pace { vacuum: Vacuum::Run, ..pace() }, ..case(&work, &lazy, &database) };
        assert_eq!(of_table(&runs), []);
    }

    #[test]
    fn dead_rows_are_told_from_a_fifth_of_the_table_on() {
        let (work, database) = (update(&["n"]), database());
        let told = |live, dead| {
            let facts = TableFacts { rows: Some(live), dead, ..table() };
            codes(&of_table(&case(&work, &facts, &database))) == ["dead-rows"]
        };
        assert!(told(40_000, 10_000) && told(0, 20_000));
        assert!(!told(40_001, 10_000) && !told(100, 9_999));
    }

    #[test]
    fn old_transactions_are_told_with_what_ends_them() {
        let transaction = |pid, minutes| OpenTransaction {
            pid,
            role: "ann".to_owned(),
            application: String::new(),
            state: "idle in transaction".to_owned(),
            age: Duration::from_mins(minutes),
        };
        let sessions = Sessions {
            open: vec![transaction(7, 90), transaction(8, 5), transaction(9, 4)],
            prepared: vec![Prepared { gid: "it's".to_owned(), owner: "ann".to_owned(), age: Duration::from_mins(6) }],
            slots: Vec::new(),
        };
        let told = of_database_wide(&database(), &sessions, Patience::default());
        assert_eq!(codes(&told), ["long-transaction", "prepared-transaction"]);
        assert_eq!(told[0].mend[1..], ["SELECT pg_terminate_backend(7)", "SELECT pg_terminate_backend(8)"]);
        assert!(told[0].what.starts_with("2 transactions are open: `pid 7 (no name, role ann, idle in transaction,"));
        assert_eq!(
            told[1].mend,
            ["ROLLBACK PREPARED E'it''s'", "-- or COMMIT PREPARED, as whoever has prepared it says"]
        );
        assert_eq!(of_database_wide(&database(), &Sessions::default(), Patience::default()), []);
    }

    #[test]
    fn ids_that_run_out_are_a_warning_and_then_an_error() {
        let severity = |xid_age, multixact_age| {
            let database = Database { xid_age, multixact_age, ..database() };
            of_database_wide(&database, &Sessions::default(), Patience::default()).first().map(|found| found.severity)
        };
        assert_eq!(severity(1_499_999_999, 0), None);
        assert_eq!(severity(1_500_000_000, 0), Some(Severity::Warning));
        assert_eq!(severity(0, 2_080_000_000), Some(Severity::Error));
    }
}
