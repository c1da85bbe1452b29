//! The way a table is walked: by a key, or block by block where it has none.

use super::key::{Key, Relation};
use crate::run::KeyText;

/// The way a table is walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// By a unique key.
    Key(Key),
    /// By the blocks of its file.
    Blocks(Blocks),
}

/// The blocks of a table's file, from 0. A "key" is one number: the blocks below it are done. A row of block 7 lies behind
/// 7 and not behind 8.
///
/// A row that is updated may move to a block that is still to be walked, so this is for changes that know their rows by a
/// `where`, which the change makes false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Rows in a block, by the table's statistics; at least 1.
    pub rows_per_block: u32,
    /// How the server finds the rows of a range of blocks.
    pub scan: BlockScan,
}

/// How a server finds the rows of a range of blocks without reading the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockScan {
    /// By comparing `ctid`: PostgreSQL 14 and newer.
    Range,
    /// By naming every `ctid` that a block can hold: PostgreSQL 13.
    List,
}

impl Walk {
    /// The row as one value of type `text[]`: its key; without one, its place. A place is another once the row is updated.
    #[must_use]
    pub fn row_as_text(&self, table: &str) -> String {
        match self {
            Self::Key(key) => key.as_text(table),
            Self::Blocks(_) => format!("ARRAY[{table}.ctid::text]"),
        }
    }

    /// What [`Walk::batch`] is told of the two ends of a range.
    #[must_use]
    pub fn shared(&self, from: Option<&KeyText>, through: Option<&KeyText>) -> usize {
        match self {
            Self::Key(key) => key.shared(from, through),
            Self::Blocks(_) => 0,
        }
    }

    /// How many values [`Walk::shared`] has.
    #[must_use]
    pub fn shapes(&self) -> usize {
        match self {
            Self::Key(key) => key.shapes(),
            Self::Blocks(_) => 1,
        }
    }

    /// The rows of a batch: behind the key in `$1` (`from`; else from the first), through the one in `$2`.
    #[must_use]
    pub fn batch(&self, table: &str, from: bool, shared: usize) -> String {
        match self {
            Self::Key(key) => key.between(table, from, Some(Relation::Through), shared),
            Self::Blocks(blocks) => blocks.between(table, from),
        }
    }

    /// The way as a person names it: `id`, `(tenant, id)`, `block`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Key(key) => key.describe(),
            Self::Blocks(_) => "block".to_owned(),
        }
    }

    /// What a cursor in the ledger means: two walks of one identity read it alike. A run that is resumed after somebody has
    /// given the table another key would take its cursors for keys that they are not.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Key(key) => format!("key {} of {}", key.order("t"), key.types()),
            Self::Blocks(_) => "blocks".to_owned(),
        }
    }

    /// Whether [`super::key::position`] means something.
    #[must_use]
    pub fn has_distances(&self) -> bool {
        match self {
            Self::Key(key) => key.has_distances(),
            Self::Blocks(_) => true,
        }
    }
}

impl Blocks {
    /// The rows of blocks `$1` (else 0) to `$2`, that one excluded.
    #[must_use]
    pub fn between(self, table: &str, from: bool) -> String {
        match self.scan {
            BlockScan::Range => {
                let edge =
                    |sign: &str, n: usize| format!("{table}.ctid {sign} ('(' || (${n}::text[])[1] || ',0)')::tid");
                if from { format!("{} AND {}", edge(">=", 1), edge("<", 2)) } else { edge("<", 2) }
            }
            BlockScan::List => {
                let first = if from { "($1::text[])[1]::int8" } else { "0" };
                // A row takes 28 bytes of a block at the very least: its header and its pointer.
                format!(
                    "{table}.ctid = ANY (ARRAY(SELECT format('(%s,%s)', howdah_b, howdah_o)::tid \
                     FROM generate_series({first}, ($2::text[])[1]::int8 - 1) AS howdah_b, \
                     generate_series(1, current_setting('block_size')::int / 28) AS howdah_o))"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::key::KeyColumn;

    #[test]
    fn a_range_of_blocks_is_compared_or_listed_as_the_server_can() {
        let range = Blocks { rows_per_block: 60, scan: BlockScan::Range };
        assert_eq!(
            range.between("t", true),
            "t.ctid >= ('(' || ($1::text[])[1] || ',0)')::tid AND t.ctid < ('(' || ($2::text[])[1] || ',0)')::tid"
        );
        assert!(!range.between("t", false).contains("$1"));
        let list = Blocks { rows_per_block: 60, scan: BlockScan::List };
        assert!(list.between("t", true).starts_with("t.ctid = ANY (ARRAY("));
        assert!(list.between("t", false).contains("generate_series(0, "));
        assert_eq!(Walk::Blocks(list).row_as_text("t"), "ARRAY[t.ctid::text]");
    }

    #[test]
    fn a_walk_by_another_key_has_another_identity() {
        let walk = |name: &str, type_name: &str| Walk::Key(Key { columns: vec![KeyColumn::new(name, type_name)] });
        assert_eq!(walk("id", "bigint").identity(), "key t.\"id\" of bigint");
        let blocks = |rows_per_block| Walk::Blocks(Blocks { rows_per_block, scan: BlockScan::Range });
        assert_eq!(blocks(1).identity(), blocks(60).identity(), "statistics change");
        let others = [walk("id", "integer"), walk("no", "bigint"), blocks(1)];
        assert!(others.iter().all(|other| other.identity() != walk("id", "bigint").identity()));
    }
}
