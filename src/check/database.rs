//! The server and its settings, against what the plan asks of it.

use super::case::{Case, Pace, mended, of_database};
use super::facts::Database;
use super::finding::{Code, Finding, Severity};
use super::work::Does;
use crate::run::human;

/// The server takes no writes.
pub const STANDBY: Code = Code("server-is-standby");
/// There may be too few connections for the workers.
pub const CONNECTIONS: Code = Code("connections-short");
/// A statement over very many partitions takes more locks than there are.
pub const LOCKS: Code = Code("locks-short");
/// The server does not count, or does not show, what is going on.
pub const STATISTICS_OFF: Code = Code("statistics-off");
/// The disk is nearly full.
pub const DISK: Code = Code("disk-nearly-full");
/// Nobody mends this version of the server any more.
pub const END_OF_LIFE: Code = Code("server-end-of-life");
/// A pooler gives each transaction another session.
pub const POOLER: Code = Code("pooler-shares-sessions");
/// A check was not made.
pub const NOT_CHECKED: Code = Code("not-checked");

/// Codes of this file.
pub const CODES: [Code; 8] = [STANDBY, CONNECTIONS, LOCKS, STATISTICS_OFF, DISK, END_OF_LIFE, POOLER, NOT_CHECKED];

/// The last day on which each major version is mended: year, month, day. Source: postgresql.org/support/versioning.
const LAST_DAYS: [(i32, (i32, i32, i32)); 7] = [
    (12, (2024, 11, 21)),
    (13, (2025, 11, 13)),
    (14, (2026, 11, 12)),
    (15, (2027, 11, 11)),
    (16, (2028, 11, 9)),
    (17, (2029, 11, 8)),
    (18, (2030, 11, 14)),
];

/// Connections that a worker takes, and those beside the workers.
const PER_WORKER: u32 = 2;
const BESIDE: u32 = 4;

/// What there is to say of the server.
#[must_use]
pub fn of_server(database: &Database, pace: Pace) -> Vec<Finding> {
    [standby(database), connections(database, pace), statistics(database), end_of_life(database)]
        .into_iter()
        .flatten()
        .collect()
}

fn standby(database: &Database) -> Option<Finding> {
    let found = || {
        let what = "it is a standby (pg_is_in_recovery)".to_owned();
        let why = "it takes no writes (SQLSTATE 25006): name the primary as --database or `database.url`";
        of_database(STANDBY, Severity::Error, "the server", what, why)
    };
    database.in_recovery.then(found)
}

fn connections(database: &Database, pace: Pace) -> Option<Finding> {
    let wanted = pace.workers.saturating_mul(PER_WORKER).saturating_add(BESIDE).min(pace.pool_max);
    let free = database.free_connections;
    if free >= i64::from(wanted) {
        return None;
    }
    let what = format!(
        "{} workers take up to {wanted} connections, and role `{}` can open {} now (max_connections = {})",
        pace.workers,
        database.role,
        human::count(free.max(0).cast_unsigned()),
        database.max_connections
    );
    let why = "workers without a connection wait, and so does everybody else who wants one";
    let fitting = u32::try_from(free.max(0)).unwrap_or(u32::MAX).saturating_sub(BESIDE) / PER_WORKER;
    let mend = vec![format!("-- in the plan: [limits] workers = {}", fitting.max(1))];
    Some(mended(of_database(CONNECTIONS, Severity::Warning, "connections", what, why), mend))
}

fn statistics(database: &Database) -> Option<Finding> {
    let off: Vec<&str> = [("track_counts", database.track_counts), ("track_activities", database.track_activities)]
        .into_iter()
        .filter_map(|(name, on)| (!on).then_some(name))
        .collect();
    if off.is_empty() {
        return None;
    }
    let what = format!("{} off", if off.len() == 1 { "it is" } else { "they are" });
    let why = if database.track_counts {
        "who waits for whom is not shown, and a batch does not see that it is in the way"
    } else {
        "autovacuum does nothing without it, and rows and dead rows are not counted"
    };
    let mend = off
        .iter()
        .map(|name| format!("ALTER SYSTEM SET {name} = on"))
        .chain(["SELECT pg_reload_conf()".to_owned()])
        .collect();
    Some(mended(of_database(STATISTICS_OFF, Severity::Warning, &off.join(", "), what, why), mend))
}

fn end_of_life(database: &Database) -> Option<Finding> {
    let major = database.version_num / 10_000;
    let last = match LAST_DAYS.iter().find(|(of, _)| *of == major) {
        Some((_, last)) => *last,
        None if major < LAST_DAYS[0].0 => LAST_DAYS[0].1,
        None => return None,
    };
    if database.today <= last {
        return None;
    }
    let (year, month, day) = last;
    let what = format!("PostgreSQL {} was mended for the last time on {year}-{month:02}-{day:02}", database.version);
    let why = "faults that are found since, also those that lose data, stay in it";
    Some(of_database(END_OF_LIFE, Severity::Note, "the server", what, why))
}

/// A statement that names a table with very many partitions. `parts` and `indexes`: how many there are in all.
#[must_use]
pub fn of_partitions(case: &Case<'_>, parts: usize, indexes: usize) -> Option<Finding> {
    // What is changed partition by partition locks one of them at a time.
    if case.work.by_part || matches!(case.work.does, Does::Read) {
        return None;
    }
    let each = i64::try_from(parts + indexes).unwrap_or(i64::MAX);
    let at_once = if matches!(case.work.does, Does::Define) { 1 } else { i64::from(case.pace.workers) };
    let wanted = each.saturating_mul(at_once);
    if wanted <= case.database.lock_slots {
        return None;
    }
    let what = format!(
        "its {parts} partitions and their {indexes} indexes take {} locks at once; the server has room for {}",
        human::count(wanted.max(0).cast_unsigned()),
        human::count(case.database.lock_slots.max(0).cast_unsigned())
    );
    let why = "the statement fails with \"out of shared memory\" (SQLSTATE 53200), and so do those of others";
    let mend = vec![
        "ALTER SYSTEM SET max_locks_per_transaction = 1024".to_owned(),
        "-- takes a restart of the server; or lower [limits] workers".to_owned(),
    ];
    Some(mended(case.finds(LOCKS, Severity::Warning, what, why), mend))
}

/// A disk with `free` percent left, of a server on this host, against the plan's limit.
#[must_use]
pub fn of_disk(free: f64, limit: f64) -> Option<Finding> {
    let found = || {
        let what = format!("{free:.0} % of the data directory's file system are free");
        let why = "a run writes WAL and new versions of rows; at `limits.free_disk` it waits, at a full disk the server stops";
        of_database(DISK, Severity::Warning, "disk", what, why)
    };
    (free < limit).then(found)
}

/// A pooler stands before the server and shares sessions out by the transaction.
#[must_use]
pub fn of_pooler(server: &str) -> Finding {
    let what = "it is a pooler that shares sessions out by the transaction".to_owned();
    let why = "howdah's lock on a run, and its timeouts, need sessions of their own: `howdah run` refuses it";
    let mend = vec![
        "-- in the plan: [database] control = \"postgres://...\", the server's own address".to_owned(),
        "-- or let the pooler serve this database in session mode (PgBouncer: pool_mode = session)".to_owned(),
    ];
    mended(of_database(POOLER, Severity::Error, server, what, why), mend)
}

/// Something could not be looked at.
#[must_use]
pub fn not_checked(severity: Severity, what: String) -> Finding {
    let why = "what it would have found is not known; `howdah check PLAN` takes its time";
    of_database(NOT_CHECKED, severity, "the check", what, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::case::samples::{case, codes, database, pace, table, work};
    use crate::check::work::Work;

    #[test]
    fn a_server_that_is_well_has_nothing_to_be_told() {
        assert_eq!(of_server(&database(), pace()), []);
    }

    #[test]
    fn each_setting_that_is_not_well_is_told() {
        let table: [(Database, &str, Severity); 4] = [
            (Database { in_recovery: true, ..database() }, "server-is-standby", Severity::Error),
            (Database { free_connections: 11, ..database() }, "connections-short", Severity::Warning),
            (Database { track_activities: false, ..database() }, "statistics-off", Severity::Warning),
            (Database { version_num: 130_020, ..database() }, "server-end-of-life", Severity::Note),
        ];
        for (database, code, severity) in table {
            let told = of_server(&database, pace());
            assert_eq!(codes(&told), [code]);
            assert_eq!(told[0].severity, severity, "{code}");
        }
    }

    #[test]
    fn workers_are_proposed_that_have_connections() {
        let few = Database { free_connections: 9, ..database() };
        assert_eq!(of_server(&few, pace())[0].mend, ["-- in the plan: [limits] workers = 2"]);
        let none = Database { free_connections: -3, ..database() };
        assert_eq!(of_server(&none, pace())[0].mend, ["-- in the plan: [limits] workers = 1"]);
        let small = Pace { pool_max: 4, ..pace() };
        assert_eq!(of_server(&Database { free_connections: 4, ..database() }, small), []);
    }

    #[test]
    fn a_version_lives_through_its_last_day() {
        let on = |today| of_server(&Database { version_num: 140_001, today, ..database() }, pace()).len();
        assert_eq!([on((2026, 11, 12)), on((2026, 11, 13)), on((2027, 1, 1))], [0, 1, 1]);
        let future = Database { version_num: 250_000, today: (2099, 1, 1), ..database() };
        assert_eq!(of_server(&future, pace()), []);
        let ancient = Database { version_num: 90_600, ..database() };
        assert_eq!(codes(&of_server(&ancient, pace())), ["server-end-of-life"]);
    }

    #[test]
    fn locks_are_counted_only_where_a_statement_names_all_partitions() {
        let (facts, database) = (table(), database());
        let raw = Work { by_part: false, ..work(Does::Update { columns: None }) };
        let told = |work: &Work, parts| of_partitions(&case(work, &facts, &database), parts, parts).is_some();
        assert!(told(&raw, 801) && !told(&raw, 800));
        assert!(!told(&Work { by_part: true, ..raw.clone() }, 9000));
        assert!(!told(&work(Does::Define), 801), "by one worker");
    }
}
