//! The questions that a walk asks of a table: its ends, the boundary of a batch, where to cut it into segments.
//!
//! All of them are answered by the server, in the order of the key itself: howdah never compares two keys. What a batch
//! ends with is computed explicitly, and never read off a change.
//!
//! A table without a key is walked by its blocks; a "key" is then the number of a block, as [`Blocks`] says.

mod blocks;
mod boundary;
mod cuts;
mod ends;

use sqlx::postgres::PgConnection;

use crate::postgres::catalog::Part;
use crate::postgres::explain;
use crate::postgres::key::{End, Key};
use crate::postgres::sql::SqlText;
use crate::postgres::walk::{Blocks, Walk};
use crate::run::KeyText;

/// The keys, or the blocks, of a table or a partition.
#[derive(Debug, Clone)]
pub struct Keyspace {
    part: Part,
}

/// The end of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    /// The last key of the batch.
    pub key: KeyText,
    /// Rows up to it.
    pub rows: u64,
}

/// A table and the name that conditions know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `"s"."t" AS "u"`.
    pub from: String,
    /// `"u"`.
    pub name: String,
}

/// Name of the table in these questions.
const T: &str = "howdah_t";

impl Keyspace {
    /// The keys of `part`.
    #[must_use]
    pub fn new(part: Part) -> Self {
        Self { part }
    }

    /// Whose keys they are.
    #[must_use]
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Rows by the server's statistics, without a scan. `None` where nothing is known.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn rows(&self, connection: &mut PgConnection) -> Result<Option<u64>, sqlx::Error> {
        explain::rows(connection, self.part.oid, &self.part.quoted()).await
    }

    /// The first key, or the last. `None` where there is no row.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn end(&self, connection: &mut PgConnection, end: End) -> Result<Option<KeyText>, sqlx::Error> {
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).end(connection, end).await,
            Walk::Blocks(blocks) => self.by_block(*blocks).end(connection, end).await,
        }
    }

    /// The first key, or the last, among the rows that match a condition, which knows the table as `named`.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn matching_end(
        &self,
        connection: &mut PgConnection,
        end: End,
        named: &Named,
        condition: &SqlText,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).matching_end(connection, end, named, condition).await,
            Walk::Blocks(blocks) => self.by_block(*blocks).matching_end(connection, end, named, condition).await,
        }
    }

    /// The key just before `key`. `None` where it is the first.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn before(&self, connection: &mut PgConnection, key: &KeyText) -> Result<Option<KeyText>, sqlx::Error> {
        match &self.part.walk {
            Walk::Key(by) => self.by_key(by).before(connection, key).await,
            Walk::Blocks(_) => Ok(blocks::before(key)),
        }
    }

    /// The end of a batch of at most `rows` rows with keys in `(from, upper]`. `None` where no row is left.
    ///
    /// Blocks are taken whole, so that a batch of them may hold some more.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn boundary(
        &self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
        rows: u64,
    ) -> Result<Option<Boundary>, sqlx::Error> {
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).boundary(connection, from, upper, rows).await,
            Walk::Blocks(blocks) => self.by_block(*blocks).boundary(connection, from, upper, rows).await,
        }
    }

    /// What [`Keyspace::boundary`] asks of the server, as it is sent: `$1` and `$2` are the ends of the range, `$3` the rows
    /// that are passed over. A later question is asked only where fewer rows were found by the earlier ones.
    #[must_use]
    pub fn questions(&self, from: Option<&KeyText>, upper: Option<&KeyText>) -> Vec<String> {
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).questions(from, upper),
            Walk::Blocks(blocks) => vec![self.by_block(*blocks).question()],
        }
    }

    /// At most `segments - 1` keys, each behind the one before it, that cut `(lower, upper]` into parts of about as many
    /// rows each. Costs no scan: bounds from the statistics, else a sample of the table's blocks.
    ///
    /// Fewer, or none, where little is known of the range, or where it holds few rows.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn cuts(
        &self,
        connection: &mut PgConnection,
        lower: Option<&KeyText>,
        upper: &KeyText,
        segments: u32,
    ) -> Result<Vec<KeyText>, sqlx::Error> {
        if segments < 2 {
            return Ok(Vec::new());
        }
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).cuts(connection, lower, upper, segments).await,
            Walk::Blocks(_) => Ok(blocks::cuts(lower, upper, segments)),
        }
    }

    /// The key `rows_ahead` rows behind `from` (at least one), when it lies before `upper`: where the segment that ends
    /// at `upper` can be cut in two. `None` where fewer rows are left.
    ///
    /// Reads `rows_ahead` entries of the index.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn middle(
        &self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: &KeyText,
        rows_ahead: u64,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        match &self.part.walk {
            Walk::Key(key) => self.by_key(key).middle(connection, from, upper, rows_ahead).await,
            Walk::Blocks(blocks) => Ok(blocks::middle(*blocks, from, upper, rows_ahead)),
        }
    }

    fn by_key<'a>(&'a self, key: &'a Key) -> ByKey<'a> {
        ByKey { part: &self.part, key }
    }

    fn by_block(&self, blocks: Blocks) -> ByBlock<'_> {
        ByBlock { part: &self.part, blocks }
    }
}

/// A table that is walked by its key.
#[derive(Clone, Copy)]
struct ByKey<'a> {
    part: &'a Part,
    key: &'a Key,
}

/// A table that is walked by its blocks.
#[derive(Clone, Copy)]
struct ByBlock<'a> {
    part: &'a Part,
    blocks: Blocks,
}

/// A count of rows from the server.
fn count(n: i64) -> u64 {
    n.max(0).cast_unsigned()
}

/// A count of rows for the server.
fn parameter(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
