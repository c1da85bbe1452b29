//! What happens inside the transaction of one batch: the change, whole or row by row, and its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, PgTransaction, Row};

use super::{Action, Part, Shared};
use crate::engine::failpoint;
use crate::postgres::deadline::within;
use crate::postgres::record::SetAside;
use crate::run::{Advance, Cause, KeyText, Segment, Tally};
use crate::steps::batch::{BatchError, Places, recorded};
use crate::steps::change::undo::UndoSql;
use crate::steps::change::{self, Answer, RangeSql};
use crate::steps::keyspace::Boundary;

/// How a batch is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By one statement.
    Whole,
    /// By halves, down to the rows whose data is wrong: those are set aside.
    Careful,
}

/// A range of keys `(from, through]`, and about how many rows it holds.
struct Range {
    from: Option<KeyText>,
    through: KeyText,
    rows: u64,
}

/// A batch that is written and not committed yet.
pub(super) struct Written {
    pub(super) advance: Advance,
    /// How long the change took.
    pub(super) took: Duration,
    /// The places of the rows that it sets aside; given back unless the batch commits.
    pub(super) aside: Places,
}

impl Written {
    /// It has committed.
    pub(super) fn kept(self) -> (Advance, Duration) {
        self.aside.keep();
        (self.advance, self.took)
    }
}

/// One batch.
pub(super) struct Batch<'a> {
    pub(super) shared: &'a Shared,
    pub(super) part: &'a Part,
    pub(super) segment: &'a Segment,
    /// How long any round trip may take.
    pub(super) limit: Duration,
}

impl Part {
    /// Changes the rows with keys in `(from, through]` by the plan's SQL, and counts them. No round trip takes longer than
    /// `limit`.
    pub(in crate::steps) async fn change(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
        limit: Duration,
    ) -> Result<Tally, BatchError> {
        let Some(sql) = self.sql() else {
            return Err(BatchError::Plan(Cause::bug("an undo log is to be changed by a plan's SQL")));
        };
        let RangeSql { change, still_matching: still, .. } = sql.of(from, through);
        let failed = |e: sqlx::Error| BatchError::Change(e, change.clone());
        let query = sqlx::query(AssertSqlSafe(change.as_str())).bind(from).bind(through);
        let mut tally = Tally::default();
        match sql.answer {
            Answer::RowsAffected => {
                let done = within(limit, query.execute(&mut *tx)).await.map_err(failed)?;
                tally.changed = done.rows_affected();
            }
            Answer::Counts => {
                let row = within(limit, query.fetch_one(&mut *tx)).await.map_err(failed)?;
                let (changed, still): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                (tally.changed, tally.still_matching) = (changed.max(0).cast_unsigned(), still.max(0).cast_unsigned());
            }
        }
        if let Some(still) = still {
            let query = sqlx::query_scalar(AssertSqlSafe(still.as_str())).bind(from).bind(through);
            let count: i64 = within(limit, query.fetch_one(&mut *tx)).await?;
            tally.still_matching = count.max(0).cast_unsigned();
        }
        Ok(tally)
    }

    /// The one row with its key in `(from, through]`, as JSON. `None`: it is gone.
    pub(in crate::steps) async fn row(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Option<String>, sqlx::Error> {
        let part = self.keys.part();
        let range = part.walk.batch("howdah_t", from.is_some(), part.walk.shared(from, Some(through)));
        let sql = format!("SELECT to_jsonb(howdah_t.*)::text FROM {} AS howdah_t WHERE {range} LIMIT 1", part.quoted());
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(from).bind(through).persistent(false).fetch_optional(tx).await
    }

    /// Rows with keys in `(from, through]` that match the step's `where`. `None`: it has none.
    pub(in crate::steps) async fn matching(
        &self,
        tx: &mut PgConnection,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Option<u64>, sqlx::Error> {
        let Some(sql) = self.sql() else { return Ok(None) };
        let Some(left) = &sql.left else { return Ok(None) };
        let walk = &self.keys.part().walk;
        let range = walk.batch(&sql.named.name, from.is_some(), walk.shared(from, Some(through)));
        let text = AssertSqlSafe(format!("{} AND {range}", left.as_str()));
        let rows: i64 = sqlx::query_scalar(text).bind(from).bind(through).persistent(false).fetch_one(tx).await?;
        Ok(Some(rows.max(0).cast_unsigned()))
    }
}

impl Batch<'_> {
    /// Changes the rows up to `boundary` and moves the cursor. Returns how long the change took.
    pub(super) async fn write(
        &self,
        tx: &mut PgTransaction<'_>,
        boundary: Option<Boundary>,
        way: Way,
    ) -> Result<Written, BatchError> {
        let began = Instant::now();
        let mut aside = Places::new(Arc::clone(&self.shared.bench.set_aside));
        let advance = match boundary {
            None => Advance { cursor: None, done: true, tally: Tally::default(), output: None },
            Some(boundary) => {
                let range =
                    Range { from: self.segment.from().cloned(), through: boundary.key.clone(), rows: boundary.rows };
                let tally = match way {
                    Way::Whole => self.change(tx, range.from.as_ref(), &range.through).await?,
                    Way::Careful => self.carefully(tx, range, &mut aside).await?,
                };
                let tally = Tally { walked: boundary.rows, batches: 1, ..tally };
                let done = self.segment.upper.as_ref() == Some(&boundary.key);
                Advance { cursor: Some(boundary.key), done, tally, output: None }
            }
        };
        let took = began.elapsed();
        failpoint::hit("batch.changed");
        self.record(tx, &advance).await?;
        failpoint::hit("batch.recorded");
        Ok(Written { advance, took, aside })
    }

    async fn record(&self, tx: &mut PgTransaction<'_>, advance: &Advance) -> Result<(), BatchError> {
        let bench = &self.shared.bench;
        let moved = bench.recorder.advance(&mut *tx, bench.index, self.segment, advance);
        recorded(tokio::time::timeout(self.limit, moved).await)
    }

    /// Changes one range, or takes its changes back.
    async fn change(
        &self,
        tx: &mut PgTransaction<'_>,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Tally, BatchError> {
        let sql = match &self.part.action {
            Action::Change(sql) => sql,
            Action::Revert(undo) => return self.revert(tx, undo, from, through).await,
        };
        let tally = self.part.change(&mut *tx, from, through, self.limit).await?;
        if sql.must_falsify() && sql.answer == Answer::Counts && tally.still_matching > 0 {
            let (name, part) = (&self.shared.bench.name, self.part.keys.part());
            return Err(BatchError::Plan(change::not_falsified(name, part, tally.still_matching)));
        }
        Ok(tally)
    }

    /// Takes changes back. Rows that somebody has changed since are kept, and listed.
    async fn revert(
        &self,
        tx: &mut PgTransaction<'_>,
        undo: &UndoSql,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Tally, BatchError> {
        let done = within(self.limit, undo.revert(&mut *tx, from, through)).await?;
        if done.kept > 0 {
            let bench = &self.shared.bench;
            for kept in within(self.limit, undo.kept(&mut *tx, from, through)).await? {
                let row = SetAside {
                    part: Some(kept.part).filter(|part| !part.is_empty()),
                    key: kept.key,
                    row: Some(kept.row),
                    sqlstate: None,
                    message: "changed or deleted by somebody since: kept as it is".to_owned(),
                };
                let written = bench.recorder.set_aside(&mut *tx, bench.index, &row);
                recorded(tokio::time::timeout(self.limit, written).await)?;
            }
        }
        Ok(Tally { changed: done.reverted, quarantined: done.kept, ..Tally::default() })
    }

    /// Changes a range by halves where it fails, down to single rows, which are set aside.
    async fn carefully(
        &self,
        tx: &mut PgTransaction<'_>,
        whole: Range,
        aside: &mut Places,
    ) -> Result<Tally, BatchError> {
        // What is checked only at the commit could not be told from row to row.
        within(self.limit, tx.execute("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        let mut total = Tally::default();
        let mut ranges = vec![whole];
        while let Some(range) = ranges.pop() {
            within(self.limit, tx.execute("SAVEPOINT howdah_range")).await?;
            match self.change(tx, range.from.as_ref(), &range.through).await {
                Ok(tally) => {
                    within(self.limit, tx.execute("RELEASE SAVEPOINT howdah_range")).await?;
                    total += tally;
                }
                Err(failure) if failure.is_data() => {
                    within(self.limit, tx.execute("ROLLBACK TO SAVEPOINT howdah_range")).await?;
                    match self.halves(tx, &range).await? {
                        Halves::Two(lower, upper) => ranges.extend([upper, lower]),
                        Halves::Row => {
                            total.quarantined += u64::from(self.set_aside(tx, &range, &failure, aside).await?);
                        }
                        Halves::Empty => {}
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(total)
    }

    async fn halves(&self, tx: &mut PgTransaction<'_>, range: &Range) -> Result<Halves, BatchError> {
        let half = (range.rows / 2).max(1);
        let keys = &self.part.keys;
        let lower =
            within(self.limit, keys.boundary(&mut *tx, range.from.as_ref(), Some(&range.through), half)).await?;
        let Some(lower) = lower else { return Ok(Halves::Empty) };
        if lower.key == range.through {
            if lower.rows <= 1 {
                return Ok(Halves::Row);
            }
            // Rows have vanished since they were counted: the same range again, with the right number.
            let half = lower.rows / 2;
            let lower =
                within(self.limit, keys.boundary(&mut *tx, range.from.as_ref(), Some(&range.through), half)).await?;
            let Some(lower) = lower else { return Ok(Halves::Empty) };
            return Ok(Self::cut(range, lower));
        }
        Ok(Self::cut(range, lower))
    }

    fn cut(range: &Range, lower: Boundary) -> Halves {
        let upper = Range {
            from: Some(lower.key.clone()),
            through: range.through.clone(),
            rows: range.rows.saturating_sub(lower.rows).max(1),
        };
        Halves::Two(Range { from: range.from.clone(), through: lower.key, rows: lower.rows }, upper)
    }

    /// Sets the one row of `range` aside, unless that is one too many. `true`: an earlier sweep had not done so.
    async fn set_aside(
        &self,
        tx: &mut PgTransaction<'_>,
        range: &Range,
        failure: &BatchError,
        aside: &mut Places,
    ) -> Result<bool, BatchError> {
        let bench = &self.shared.bench;
        let (sqlstate, message) = failure.told();
        let row = within(self.limit, self.part.row(&mut *tx, range.from.as_ref(), &range.through)).await?;
        let row = SetAside { part: self.segment.part.clone(), key: range.through.clone(), row, sqlstate, message };
        aside.put(tx, bench, &row, &self.part.key_name(), self.limit).await
    }
}

/// What a range that failed comes to.
enum Halves {
    /// Lower and upper half.
    Two(Range, Range),
    /// It is one row.
    Row,
    /// Its rows have vanished.
    Empty,
}
