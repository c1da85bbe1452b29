//! What a program is given and what it may answer: the columns on both sides of it.

use std::collections::HashMap;

/// How a column's text becomes a value of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `smallint`, `integer`.
    Int,
    /// `bigint`.
    BigInt,
    /// `real`, `double precision`.
    Float,
    /// `boolean`.
    Bool,
    /// `json`, `jsonb`.
    Json,
    /// Everything else, as text.
    Text,
}

impl Kind {
    /// The kind of a type, as `format_type` writes it.
    pub(super) fn of(type_name: &str) -> Self {
        match type_name {
            "smallint" | "integer" => Self::Int,
            "bigint" => Self::BigInt,
            "real" | "double precision" => Self::Float,
            "boolean" => Self::Bool,
            "json" | "jsonb" => Self::Json,
            _ => Self::Text,
        }
    }
}

/// A column that a program is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What becomes of a column that an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the sink's column of that number.
    Column(usize),
    /// It is left out: it is not one of those to be written.
    Ignored,
}

/// The columns of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Their names and types, in order. Empty where `lines`.
    pub(super) columns: Vec<ToColumn>,
    places: HashMap<String, Place>,
    /// Whether an answer is written as one line of JSON, whatever it names.
    pub(super) lines: bool,
    /// Whether a row may become several.
    pub(super) many: bool,
    /// How messages name the sink.
    pub(super) name: String,
}

/// A column of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToColumn {
    pub(super) name: String,
    /// As SQL writes it; of a domain, the type beneath it.
    pub(super) type_name: String,
}

impl Shape {
    /// Of these columns; `ignored` are names that an answer may hold as well.
    pub(super) fn columns(
        name: String,
        columns: Vec<ToColumn>,
        ignored: impl IntoIterator<Item = String>,
        many: bool,
    ) -> Self {
        let mut places: HashMap<String, Place> = ignored.into_iter().map(|name| (name, Place::Ignored)).collect();
        places.extend(columns.iter().enumerate().map(|(at, column)| (column.name.clone(), Place::Column(at))));
        Self { columns, places, lines: false, many, name }
    }

    /// Lines of JSON.
    pub(super) fn lines(name: String) -> Self {
        Self { columns: Vec::new(), places: HashMap::new(), lines: true, many: true, name }
    }

    /// Where a column goes.
    pub(super) fn place(&self, name: &str) -> Result<Place, String> {
        self.places.get(name).copied().ok_or_else(|| format!("{} has no column `{name}`", self.name))
    }

    /// Why an answer of several rows is wrong here, where it is.
    pub(super) fn several(&self) -> Result<(), String> {
        if self.many { Ok(()) } else { Err("with `update` a row becomes one row or none, not several".to_owned()) }
    }
}
