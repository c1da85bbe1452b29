//! The same questions of a table that is walked by its blocks: most are arithmetic.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{Boundary, ByBlock, Named, T, count};
use crate::postgres::key::End;
use crate::postgres::sql::SqlText;
use crate::postgres::walk::Blocks;
use crate::run::KeyText;

/// The number that a key of blocks is. What is not a number (no ledger of ours holds such) is the first block.
fn number(key: Option<&KeyText>) -> u64 {
    key.and_then(|key| key.first()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn key(block: u64) -> KeyText {
    vec![block.to_string()]
}

/// The block before.
pub(super) fn before(of: &KeyText) -> Option<KeyText> {
    number(Some(of)).checked_sub(1).map(key)
}

pub(super) fn cuts(lower: Option<&KeyText>, upper: &KeyText, segments: u32) -> Vec<KeyText> {
    let (first, last) = (number(lower), number(Some(upper)));
    let length = last.saturating_sub(first);
    let mut cuts: Vec<u64> = (1..u64::from(segments)).map(|n| first + length * n / u64::from(segments)).collect();
    cuts.dedup();
    cuts.into_iter().filter(|cut| first < *cut && *cut < last).map(key).collect()
}

pub(super) fn middle(blocks: Blocks, from: Option<&KeyText>, upper: &KeyText, rows_ahead: u64) -> Option<KeyText> {
    let ahead = (rows_ahead / u64::from(blocks.rows_per_block.max(1))).max(1);
    let middle = number(from).saturating_add(ahead);
    (middle < number(Some(upper))).then(|| key(middle))
}

impl ByBlock<'_> {
    /// The first block is 0, and the last "key" is the number of blocks, which lies behind them all.
    pub(super) async fn end(self, connection: &mut PgConnection, end: End) -> Result<Option<KeyText>, sqlx::Error> {
        let blocks: i64 =
            sqlx::query_scalar("SELECT pg_relation_size($1::int8::oid) / current_setting('block_size')::int8")
                .bind(self.part.oid)
                .persistent(false)
                .fetch_one(connection)
                .await?;
        let ends = match end {
            End::First => 0,
            End::Last => count(blocks),
        };
        Ok((blocks > 0).then(|| key(ends)))
    }

    /// The row's block, told as the key just behind it: a range through it holds the row.
    pub(super) async fn matching_end(
        self,
        connection: &mut PgConnection,
        end: End,
        named: &Named,
        condition: &SqlText,
    ) -> Result<Option<KeyText>, sqlx::Error> {
        let extreme = match end {
            End::First => "min",
            End::Last => "max",
        };
        // PostgreSQL 13 has no min(tid); a tid reads as a point.
        let sql = format!(
            "SELECT {extreme}(({}.ctid::text::point)[0])::int8 FROM {} WHERE {}",
            named.name,
            named.from,
            condition.as_str()
        );
        let block: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
        Ok(block.map(|block| key(count(block) + 1)))
    }

    /// As many blocks as hold about as many rows as are wanted, by a count of them: the change reads them anyway.
    pub(super) async fn boundary(
        self,
        connection: &mut PgConnection,
        from: Option<&KeyText>,
        upper: Option<&KeyText>,
        rows: u64,
    ) -> Result<Option<Boundary>, sqlx::Error> {
        let last = match upper {
            Some(upper) => number(Some(upper)),
            None => number(self.end(connection, End::Last).await?.as_ref()),
        };
        let first = number(from);
        let most = rows.saturating_mul(5) / 4;
        let mut step = rows.div_ceil(u64::from(self.blocks.rows_per_block.max(1))).max(1);
        // Grows until something is found, and shrinks at most once: blocks may be far fuller than the statistics say.
        let mut shrunk = false;
        if first >= last {
            return Ok(None);
        }
        loop {
            let through = first.saturating_add(step).min(last);
            let found = self.count(connection, first, through).await?;
            if found > most && through - first > 1 && !shrunk {
                step = ((through - first).saturating_mul(rows) / found).max(1);
                shrunk = true;
            } else if found == 0 && through < last {
                step = step.saturating_mul(2);
            } else {
                return Ok((found > 0).then(|| Boundary { key: key(through), rows: found }));
            }
        }
    }

    /// How many rows lie in blocks `$1` to `$2`.
    pub(super) fn question(self) -> String {
        format!("SELECT count(*) FROM {} AS {T} WHERE {}", self.part.quoted(), self.blocks.between(T, true))
    }

    async fn count(self, connection: &mut PgConnection, first: u64, through: u64) -> Result<u64, sqlx::Error> {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(self.question()))
            .bind(key(first))
            .bind(key(through))
            .fetch_one(connection)
            .await?;
        Ok(count(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::walk::BlockScan;

    #[test]
    fn blocks_are_cut_by_arithmetic() {
        assert_eq!(cuts(None, &key(100), 4), [key(25), key(50), key(75)]);
        assert_eq!(cuts(Some(&key(98)), &key(100), 64), [key(99)]);
        assert_eq!(cuts(Some(&key(99)), &key(100), 64), Vec::<KeyText>::new());
        assert_eq!(before(&key(8)), Some(key(7)));
        assert_eq!(before(&key(0)), None);
    }

    #[test]
    fn a_segment_of_blocks_is_cut_in_front_of_its_end() {
        let blocks = Blocks { rows_per_block: 50, scan: BlockScan::Range };
        assert_eq!(middle(blocks, Some(&key(10)), &key(100), 1000), Some(key(30)));
        assert_eq!(middle(blocks, Some(&key(10)), &key(30), 1000), None);
        assert_eq!(middle(blocks, None, &key(2), 1), Some(key(1)));
    }
}
