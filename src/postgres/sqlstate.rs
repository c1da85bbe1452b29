//! SQLSTATE, classed in one table: what a failure means for the work.
//!
//! Source of the codes: PostgreSQL documentation, appendix A.

/// What a SQLSTATE means for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same batch may succeed a moment later.
    Transient,
    /// Another session holds a lock for longer than our `lock_timeout`.
    Blocked,
    /// Cancelled: by our `statement_timeout`, or by somebody.
    Cancelled,
    /// The server lacks something: disk, memory, connections.
    Resource,
    /// The connection or the server is gone; the same batch may succeed on another connection.
    Connection,
    /// The rows themselves are wrong.
    Data,
    /// The plan's SQL, or the role's rights, are wrong: trying again cannot help.
    Plan,
    /// Anything else: nobody knows that trying again helps.
    Other,
}

/// Prefixes, longest match first: a whole code before its class.
const TABLE: [(&str, Class); 21] = [
    ("40001", Class::Transient),  // serialization_failure
    ("40P01", Class::Transient),  // deadlock_detected
    ("55P03", Class::Blocked),    // lock_not_available: our lock_timeout
    ("55006", Class::Transient),  // object_in_use
    ("57014", Class::Cancelled),  // query_canceled: our statement_timeout, or pg_cancel_backend
    ("25P03", Class::Connection), // idle_in_transaction_session_timeout
    ("57P05", Class::Connection), // idle_session_timeout
    ("57P01", Class::Connection), // admin_shutdown
    ("57P02", Class::Connection), // crash_shutdown
    ("57P03", Class::Connection), // cannot_connect_now
    ("25006", Class::Connection), // read_only_sql_transaction: this server has become a standby
    ("42501", Class::Plan),       // insufficient_privilege
    ("P0001", Class::Data),       // raise_exception: a trigger or a function refuses the row
    ("08", Class::Connection),
    ("53", Class::Resource),
    ("22", Class::Data),
    ("23", Class::Data),
    ("44", Class::Data), // with_check_option_violation
    ("42", Class::Plan),
    ("0A", Class::Plan), // feature_not_supported
    ("28", Class::Plan), // invalid authorization
];

/// The class of a code.
#[must_use]
pub fn class(code: &str) -> Class {
    TABLE.iter().find(|(prefix, _)| code.starts_with(prefix)).map_or(Class::Other, |(_, class)| *class)
}

/// Codes that say "there is no such thing": column, table, function, type, schema.
#[must_use]
pub fn is_undefined(code: &str) -> bool {
    matches!(code, "42703" | "42P01" | "42883" | "42704" | "3F000")
}

/// `active_sql_transaction`: the statement refuses to run inside a transaction block.
pub const ACTIVE_SQL_TRANSACTION: &str = "25001";
/// `query_canceled`.
pub const QUERY_CANCELED: &str = "57014";
/// `lock_not_available`: our `lock_timeout`.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `duplicate_table`: a relation of that name is there, an index among them.
pub const DUPLICATE_TABLE: &str = "42P07";
/// `unique_violation`.
pub const UNIQUE_VIOLATION: &str = "23505";
/// `insufficient_privilege`.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fall_into_their_classes() {
        let table = [
            ("40001", Class::Transient),
            ("40P01", Class::Transient),
            ("53100", Class::Resource),
            ("55P03", Class::Blocked),
            ("57014", Class::Cancelled),
            ("P0001", Class::Data),
            ("57P01", Class::Connection),
            ("08006", Class::Connection),
            ("22P02", Class::Data),
            ("23505", Class::Data),
            ("42703", Class::Plan),
            ("42501", Class::Plan),
            ("XX000", Class::Other),
            ("", Class::Other),
        ];
        for (code, expected) in table {
            assert_eq!(class(code), expected, "{code}");
        }
    }

    #[test]
    fn no_entry_of_the_table_hides_behind_a_shorter_one() {
        for (index, (prefix, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|(earlier, _)| !prefix.starts_with(earlier)), "{prefix}");
        }
    }
}
