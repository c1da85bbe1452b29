//! Which changes of a column's type leave the table as it is.
//!
//! Source: PostgreSQL, `ATColumnChangeRequiresRewrite` and the planner support functions of `varchar`, `numeric`, `timestamp`,
//! `varbit`: a longer or no limit changes no row.

use sqlparser::tokenizer::Token;

use super::words::Words;

/// A type as a plan or `format_type` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    base: String,
    modifiers: Vec<u32>,
    is_array: bool,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Only the catalog changes.
    Nothing,
    /// As long as the session's time zone is UTC only the indexes are built again; else the table is rewritten.
    UtcOnly,
    /// The table is rewritten.
    Rewrites,
}

/// Reads a type, and leaves what stands behind it.
pub(super) fn read(words: &mut Words<'_>) -> Option<Type> {
    let base = if words.eat(&["character", "varying"]) || words.eat(&["char", "varying"]) {
        "varchar".to_owned()
    } else if words.eat(&["double", "precision"]) {
        "float8".to_owned()
    } else if words.eat(&["bit", "varying"]) {
        "varbit".to_owned()
    } else {
        words.name()?.last().to_owned()
    };
    let mut modifiers = match words.bracketed() {
        Some(inside) => inside.split().iter().map(|one| one.text().parse().ok()).collect::<Option<Vec<u32>>>()?,
        None => Vec::new(),
    };
    let zoned = words.eat(&["with", "time", "zone"]);
    if !zoned {
        words.eat(&["without", "time", "zone"]);
    }
    let base = match (base.as_str(), zoned) {
        ("timestamp", true) => "timestamptz",
        ("time", true) => "timetz",
        ("character" | "bpchar", _) => "char",
        ("int" | "int4", _) => "integer",
        ("int8", _) => "bigint",
        ("int2", _) => "smallint",
        ("decimal", _) => "numeric",
        ("bool", _) => "boolean",
        (other, _) => other,
    };
    if base == "char" && modifiers.is_empty() {
        modifiers.push(1);
    }
    if base == "numeric" && modifiers.len() == 1 {
        modifiers.push(0);
    }
    let mut is_array = words.eat(&["array"]);
    while words.symbol(&Token::LBracket) {
        is_array = true;
        while !words.symbol(&Token::RBracket) {
            words.0 = words.0.get(1..)?;
        }
    }
    Some(Type { base: base.to_owned(), modifiers, is_array })
}

/// What the change from one type to another does.
pub(super) fn effect(from: &Type, to: &Type) -> Effect {
    if from == to {
        return Effect::Nothing;
    }
    if from.is_array || to.is_array {
        return Effect::Rewrites;
    }
    let wider = || match (from.modifiers.as_slice(), to.modifiers.as_slice()) {
        (_, []) => true,
        ([old], [new]) => new >= old,
        ([old, scale], [new, same]) => new >= old && scale == same,
        _ => false,
    };
    let unlimited = || to.modifiers.is_empty();
    let stays = match (from.base.as_str(), to.base.as_str()) {
        ("varchar", "varchar") | ("varbit", "varbit") | ("numeric", "numeric") => wider(),
        ("timestamp", "timestamp") | ("timestamptz", "timestamptz") | ("time", "time") | ("timetz", "timetz") => {
            wider()
        }
        ("varchar", "text") | ("text", "varchar") | ("cidr", "inet") | ("bit", "varbit") | ("interval", "interval") => {
            unlimited()
        }
        ("timestamp", "timestamptz") | ("timestamptz", "timestamp") if wider() => return Effect::UtcOnly,
        _ => false,
    };
    if stays { Effect::Nothing } else { Effect::Rewrites }
}

impl Type {
    /// Whether it is the type of that name.
    pub(super) fn is(&self, base: &str) -> bool {
        self.base == base && !self.is_array
    }

    /// Whether it is an integer with a sequence of its own.
    pub(super) fn is_serial(&self) -> bool {
        ["serial", "bigserial", "smallserial", "serial4", "serial8", "serial2"].contains(&self.base.as_str())
    }

    /// Whether some change to this type leaves a table as it is: then it depends on the type before.
    pub(super) fn may_stay(&self) -> bool {
        let widened =
            ["varchar", "text", "numeric", "timestamp", "timestamptz", "varbit", "interval", "inet", "time", "timetz"];
        !self.is_array && widened.contains(&self.base.as_str())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::check::statements::words::statements;

    pub(in crate::check::statements) fn a_type(text: &str) -> Type {
        let all = statements(text).unwrap();
        let mut words = Words(&all[0]);
        let read = read(&mut words).unwrap_or_else(|| panic!("{text}"));
        assert!(words.is_empty(), "{text}: {}", words.text());
        read
    }

    #[test]
    fn one_type_is_one_however_it_is_written() {
        let table = [
            ("character varying(100)", "varchar(100)"),
            ("pg_catalog.int4", "integer"),
            ("timestamp(3) with time zone", "timestamptz(3)"),
            ("timestamp without time zone", "timestamp"),
            ("decimal(8)", "numeric(8, 0)"),
            ("character", "char(1)"),
            ("INT8[]", "bigint ARRAY"),
            ("double precision", "float8"),
            ("bit varying(8)", "varbit(8)"),
        ];
        for (one, other) in table {
            assert_eq!(a_type(one), a_type(other), "{one} {other}");
        }
    }

    /// Every claim here is held against a server by `tests/it/unsafe_statements.rs`.
    #[test]
    fn a_change_that_only_lifts_a_limit_rewrites_nothing() {
        use Effect::{Nothing, Rewrites, UtcOnly};
        let table = [
            ("varchar(10)", "varchar(20)", Nothing),
            ("varchar(10)", "varchar", Nothing),
            ("varchar(10)", "text", Nothing),
            ("text", "varchar", Nothing),
            ("varchar(20)", "varchar(10)", Rewrites),
            ("text", "varchar(10)", Rewrites),
            ("char(10)", "text", Rewrites),
            ("numeric(8,2)", "numeric(10,2)", Nothing),
            ("numeric(8,2)", "numeric", Nothing),
            ("numeric(8,2)", "numeric(10,4)", Rewrites),
            ("numeric", "numeric(10,2)", Rewrites),
            ("timestamp(3)", "timestamp(6)", Nothing),
            ("timestamp", "timestamptz", UtcOnly),
            ("timestamptz", "timestamp", UtcOnly),
            ("timestamptz", "date", Rewrites),
            ("integer", "bigint", Rewrites),
            ("integer", "text", Rewrites),
            ("json", "jsonb", Rewrites),
            ("cidr", "inet", Nothing),
            ("varbit(8)", "varbit(16)", Nothing),
            ("varchar(10)[]", "varchar(20)[]", Rewrites),
        ];
        for (from, to, expected) in table {
            assert_eq!(effect(&a_type(from), &a_type(to)), expected, "{from} to {to}");
        }
    }
}
