//! Whether a default is one value for all rows, or another one for each.
//!
//! Source: PostgreSQL documentation, ALTER TABLE, Notes: a default that is not volatile is evaluated once, and the table is
//! not rewritten.

use super::words::Words;

/// Functions of PostgreSQL that are stable or immutable, as far as people write them into defaults.
const STEADY: [&str; 64] = [
    "abs",
    "age",
    "array_fill",
    "ceil",
    "chr",
    "coalesce",
    "concat",
    "current_database",
    "current_schema",
    "current_setting",
    "date",
    "date_part",
    "date_trunc",
    "decode",
    "encode",
    "extract",
    "floor",
    "format",
    "greatest",
    "hstore",
    "int4range",
    "int8range",
    "inet",
    "inet_server_addr",
    "initcap",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "mod",
    "now",
    "nullif",
    "numrange",
    "pg_catalog",
    "point",
    "position",
    "power",
    "replace",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha256",
    "statement_timestamp",
    "string_to_array",
    "substr",
    "substring",
    "timezone",
    "to_char",
    "to_jsonb",
    "to_timestamp",
    "transaction_timestamp",
    "tstzrange",
];

/// Words that stand before a bracket and call nothing, or something steady: types with a modifier, operators, constructors.
const NO_CALLS: [&str; 26] = [
    "and",
    "any",
    "array",
    "as",
    "bit",
    "case",
    "cast",
    "char",
    "character",
    "current_time",
    "current_timestamp",
    "decimal",
    "else",
    "in",
    "interval",
    "localtime",
    "localtimestamp",
    "not",
    "numeric",
    "or",
    "row",
    "then",
    "time",
    "timestamp",
    "timestamptz",
    "varchar",
];

/// Functions that are known to give another value each time.
const VOLATILE: [&str; 13] = [
    "clock_timestamp",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_ulid",
    "nextval",
    "random",
    "random_normal",
    "timeofday",
    "txid_current",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// What is known of a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// One for all rows.
    Same,
    /// Another for each row, by this function.
    Differs(String),
    /// It depends on a function that is not known.
    Unknown(String),
}

/// What the words of an expression tell.
pub(super) fn value(expression: Words<'_>) -> Value {
    let mut unknown = None;
    for call in expression.calls() {
        if VOLATILE.contains(&call.as_str()) {
            return Value::Differs(call);
        }
        if !STEADY.contains(&call.as_str()) && !NO_CALLS.contains(&call.as_str()) {
            unknown.get_or_insert(call);
        }
    }
    unknown.map_or(Value::Same, Value::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::statements::words::statements;

    #[test]
    fn a_default_is_judged_by_the_functions_that_it_calls() {
        let table = [
            ("0", Value::Same),
            ("now()", Value::Same),
            ("CURRENT_TIMESTAMP(3)", Value::Same),
            ("'random()'::text", Value::Same),
            ("1.5::numeric(8, 2)", Value::Same),
            ("CAST(0 AS varchar(10))", Value::Same),
            ("pg_catalog.lower('X')", Value::Same),
            ("gen_random_uuid()", Value::Differs("gen_random_uuid".into())),
            ("(floor(random() * 10))::int", Value::Differs("random".into())),
            ("app.next_code('x')", Value::Unknown("next_code".into())),
            ("my_f() + random()", Value::Differs("random".into())),
        ];
        for (sql, expected) in table {
            assert_eq!(value(Words(&statements(sql).unwrap()[0])), expected, "{sql}");
        }
    }
}
