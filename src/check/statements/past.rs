//! What earlier statements of the plan have done, as far as it makes later ones harmless.

use super::words::{Name, Words};

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Past {
    made: Vec<Name>,
    /// Whether a step has moved rows: a table that was made may be full since.
    pub(super) moved: bool,
    checks: Vec<NotNull>,
    rewritten: Vec<(Name, String)>,
    indexes: Vec<String>,
}

/// A check that a column is not null.
#[derive(Debug)]
struct NotNull {
    table: Name,
    column: String,
    constraint: Option<String>,
    is_valid: bool,
}

impl Past {
    /// A table was made.
    pub(super) fn make(&mut self, table: Name) {
        self.made.push(table);
    }

    /// Whether the plan has made the table.
    pub(super) fn has_made(&self, table: &Name) -> bool {
        self.made.iter().any(|made| made.is(table))
    }

    /// An index was made on a table that the plan has made.
    pub(super) fn index(&mut self, index: &Name) {
        self.indexes.push(index.last().to_owned());
    }

    /// Whether the index is on a table that the plan has made.
    pub(super) fn has_index(&self, index: &Name) -> bool {
        self.indexes.iter().any(|made| made == index.last())
    }

    /// A constraint `CHECK (inside)` was made.
    pub(super) fn check(&mut self, table: &Name, constraint: Option<&Name>, mut inside: Words<'_>, is_valid: bool) {
        while let Some(deeper) = inside.bracketed().filter(|_| inside.is_empty()) {
            inside = deeper;
        }
        let Some(column) = inside.name() else { return };
        if inside.eat(&["is", "not", "null"]) && inside.is_empty() {
            let constraint = constraint.map(|name| name.last().to_owned());
            self.checks.push(NotNull { table: table.clone(), column: column.last().to_owned(), constraint, is_valid });
        }
    }

    /// A constraint was validated.
    pub(super) fn validate(&mut self, table: &Name, constraint: &Name) {
        for check in &mut self.checks {
            check.is_valid |= check.table.is(table) && check.constraint.as_deref() == Some(constraint.last());
        }
    }

    /// Whether a valid check says that the column is not null.
    pub(super) fn is_checked(&self, table: &Name, column: &Name) -> bool {
        let says = |check: &NotNull| check.is_valid && check.table.is(table) && check.column == column.last();
        self.checks.iter().any(says)
    }

    /// `step` rewrites the table. The earlier step that did so too, where that is another, told once.
    pub(super) fn rewrites(&mut self, table: &Name, step: &str) -> Option<String> {
        let earlier: Vec<&String> =
            self.rewritten.iter().filter(|(of, _)| of.is(table)).map(|(_, step)| step).collect();
        let told = match earlier.as_slice() {
            [first] if *first != step => Some((*first).clone()),
            _ => None,
        };
        if !earlier.iter().any(|by| *by == step) {
            self.rewritten.push((table.clone(), step.to_owned()));
        }
        told
    }
}
