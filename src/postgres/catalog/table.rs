//! A table as a step sees it: its columns, and the parts that are walked one by one.

use crate::postgres::ident;
use crate::postgres::walk::Walk;

/// A table that a step works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its object id.
    pub oid: i64,
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The bare names of the columns that decide, at any level, in which partition a row lies. Empty where the table
    /// neither has partitions nor is one.
    pub partition_key: Vec<String>,
    /// What is walked: the table itself, or its leaf partitions, of which there may be none.
    pub parts: Vec<Part>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The bare name.
    pub name: String,
    /// The type as SQL writes it; of a domain, the type beneath it.
    pub type_name: String,
    /// Who may write it.
    pub writes: Writes,
}

/// Who may write a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Whoever may update the table.
    Anyone,
    /// The server: it is computed from other columns.
    Generated,
    /// The server, from a sequence: GENERATED ALWAYS AS IDENTITY.
    Identity,
}

/// A table that holds rows: the step's table, or a leaf partition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its object id.
    pub oid: i64,
    /// Its schema, bare.
    pub schema: String,
    /// Its name, bare.
    pub name: String,
    /// Whether it is a partition of the step's table, and not that table itself.
    pub is_partition: bool,
    /// How it is walked.
    pub walk: Walk,
}

impl Table {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// `schema.name`, or only `name` in schema `public`: for people.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.schema, &self.name)
    }

    /// The column of that bare name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The part that a segment names: [`Part::in_ledger`].
    #[must_use]
    pub fn part(&self, in_ledger: Option<&str>) -> Option<&Part> {
        self.parts.iter().find(|part| part.in_ledger().as_deref() == in_ledger)
    }

    /// How it is walked, for people: `id`; `id, in 12 partitions`; `block`.
    #[must_use]
    pub fn describe_walk(&self) -> String {
        let mut ways: Vec<String> = Vec::new();
        for way in self.parts.iter().map(|part| part.walk.describe()) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        let ways = ways.join(" or ");
        match self.parts.as_slice() {
            [] => "nothing: it has no partitions yet".to_owned(),
            [part] if !part.is_partition => ways,
            [_] => format!("{ways}, in 1 partition"),
            parts => format!("{ways}, in {} partitions", parts.len()),
        }
    }
}

impl Part {
    /// `"schema"."name"`.
    #[must_use]
    pub fn quoted(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// `schema.name`, or only `name` in schema `public`: for people.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.schema, &self.name)
    }

    /// How the ledger names it: quoted, or `None` for the step's table itself.
    #[must_use]
    pub fn in_ledger(&self) -> Option<String> {
        self.is_partition.then(|| self.quoted())
    }
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident::quote(schema), ident::quote(name))
}

fn label(schema: &str, name: &str) -> String {
    if schema == "public" { name.to_owned() } else { format!("{schema}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::key::{Key, KeyColumn};

    fn part(name: &str, is_partition: bool, key: &str) -> Part {
        let walk = Walk::Key(Key { columns: vec![KeyColumn::new(key, "bigint")] });
        Part { oid: 1, schema: "app".into(), name: name.into(), is_partition, walk }
    }

    fn table(parts: Vec<Part>) -> Table {
        let (schema, name) = ("app".into(), "t".into());
        Table { oid: 1, schema, name, columns: Vec::new(), partition_key: Vec::new(), parts }
    }

    #[test]
    fn a_segment_finds_its_part_by_the_name_in_the_ledger() {
        let whole = table(vec![part("t", false, "id")]);
        assert_eq!(whole.part(None).map(|part| part.name.as_str()), Some("t"));
        assert_eq!(whole.part(Some("\"app\".\"t\"")), None);
        let split = table(vec![part("t_1", true, "id"), part("t 2", true, "id")]);
        assert_eq!(split.part(Some("\"app\".\"t 2\"")).map(|part| part.name.as_str()), Some("t 2"));
        assert_eq!(split.part(None), None);
    }

    #[test]
    fn a_walk_is_told_in_a_few_words() {
        assert_eq!(table(vec![part("t", false, "id")]).describe_walk(), "id");
        let split = table(vec![part("a", true, "id"), part("b", true, "id"), part("c", true, "no")]);
        assert_eq!(split.describe_walk(), "id or no, in 3 partitions");
        assert!(table(Vec::new()).describe_walk().contains("no partitions"));
    }
}
