//! A table that holds rows, and all that hangs on it: indexes, triggers, foreign keys, constraints, rights.

use crate::postgres::ident;

/// What is the case of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableFacts {
    /// Its object id.
    pub oid: i64,
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// Whether it only stands for its partitions.
    pub is_partitioned: bool,
    /// Rows, by the statistics. `None`: nothing is known.
    pub rows: Option<u64>,
    /// Dead rows, by the statistics.
    pub dead: u64,
    /// `fillfactor` in percent.
    pub fillfactor: i32,
    /// Whether autovacuum is not switched off for it.
    pub autovacuum: bool,
    /// Dead rows that wake autovacuum.
    pub autovacuum_at: u64,
    /// Age of its oldest transaction id.
    pub xid_age: i64,
    /// How a subscriber finds the row of an update.
    pub identity: Identity,
    /// Publications that send its updates.
    pub published_by: Vec<String>,
    /// Row security hides rows from the role.
    pub hides_rows: bool,
    /// Its indexes, of any state.
    pub indexes: Vec<Index>,
    /// Triggers that somebody has made.
    pub triggers: Vec<Trigger>,
    /// Foreign keys of its own, to other tables.
    pub references: Vec<ForeignKey>,
    /// Foreign keys of other tables, to it.
    pub referenced_by: Vec<ForeignKey>,
    /// Constraints that are NOT VALID.
    pub unvalidated: Vec<Unvalidated>,
    /// What the role may do.
    pub rights: Rights,
}

/// `relreplident`, and whether it finds a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Identity {
    /// By a key: the primary one, or a unique index.
    #[default]
    Key,
    /// By all columns.
    Full,
    /// Not at all.
    Missing,
}

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the catalog's, and any of them may go with any")]
pub struct Index {
    /// Its name, bare; it lies in its table's schema.
    pub name: String,
    /// Columns that it holds, or its expressions or its predicate name; bare.
    pub columns: Vec<String>,
    /// Whether it was built to its end.
    pub is_valid: bool,
    /// Whether somebody builds it at this moment.
    pub is_being_built: bool,
    /// Whether a constraint or the replica identity hangs on it, or it is unique.
    pub is_needed: bool,
    /// Whether an update of its columns cannot be HOT: all but BRIN since PostgreSQL 16.
    pub stops_hot: bool,
    /// `pg_get_indexdef`.
    pub definition: String,
}

/// A trigger that is enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "events may be combined")]
pub struct Trigger {
    /// Its name, bare.
    pub name: String,
    /// Its function, with its schema.
    pub function: String,
    /// `BEFORE` or `AFTER`, and `each row` or `each statement`.
    pub when: String,
    /// On INSERT.
    pub on_insert: bool,
    /// On UPDATE.
    pub on_update: bool,
    /// On DELETE.
    pub on_delete: bool,
    /// Columns of `UPDATE OF`, bare. Empty: any.
    pub of_columns: Vec<String>,
    /// Whether it also, or only, fires for sessions that replicate.
    pub fires_as_replica: bool,
    /// Whether it fires for ordinary sessions.
    pub fires_as_origin: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name, bare.
    pub name: String,
    /// The other table, as people write it.
    pub other: String,
    /// The other table, quoted.
    pub other_quoted: String,
    /// Columns of the table that has it, bare.
    pub columns: Vec<String>,
    /// Columns that it refers to, bare.
    pub referred: Vec<String>,
    /// Whether an index leads with `columns`.
    pub is_indexed: bool,
    /// What an update does to the rows that refer: `NO ACTION`, `CASCADE` ...
    pub on_update: String,
    /// What a delete does to them.
    pub on_delete: String,
}

/// A constraint that is NOT VALID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unvalidated {
    /// Its name, bare.
    pub name: String,
    /// Whether it is a foreign key, and not a CHECK or NOT NULL.
    pub is_foreign_key: bool,
    /// Its columns, bare.
    pub columns: Vec<String>,
}

/// What the role may do with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right")]
pub struct Rights {
    /// Use its schema.
    pub usage: bool,
    /// Read all of it.
    pub select: bool,
    /// Read a column of it.
    pub select_any: bool,
    /// Update all of it.
    pub update: bool,
    /// Columns that it may update, bare.
    pub update_columns: Vec<String>,
    /// Add rows.
    pub insert: bool,
    /// Delete rows.
    pub delete: bool,
    /// Change its definition.
    pub own: bool,
    /// Its owner, bare.
    pub owner: String,
    /// Sequences that defaults of its columns take values from, and that the role may not use; quoted.
    pub closed_sequences: Vec<String>,
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            usage: true,
            select: true,
            select_any: true,
            update: true,
            update_columns: Vec::new(),
            insert: true,
            delete: true,
            own: true,
            owner: String::new(),
            closed_sequences: Vec::new(),
        }
    }
}

impl TableFacts {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        self.beside(&self.name)
    }

    /// A name in the table's schema, quoted.
    #[must_use]
    pub fn beside(&self, name: &str) -> String {
        format!("{}.{}", ident::quote(&self.schema), ident::quote(name))
    }

    /// `schema.name`, or only `name` in schema `public`: for people.
    #[must_use]
    pub fn label(&self) -> String {
        if self.schema == "public" { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }
}
