//! What happens inside the transaction of one batch: the rows, whole or by halves, and their record.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, PgTransaction};

use super::origin;
use super::origin::Reader;
use super::pair::Share;
use super::pipe::{Side, pipe};
use crate::engine::failpoint;
use crate::engine::ports::StepError;
use crate::plan::model::PlanSource;
use crate::postgres::deadline::within;
use crate::postgres::record::SetAside;
use crate::postgres::sql::SqlText;
use crate::postgres::{error, trouble};
use crate::run::{Advance, Cause, KeyText, Segment, Tally};
use crate::steps::Workbench;
use crate::steps::batch::{BatchError, Places, recorded};
use crate::steps::keyspace::Boundary;

/// How a batch is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// At once.
    Whole,
    /// By halves, down to the rows whose data is wrong: those are set aside.
    Careful,
}

/// A range of keys `(from, through]`, and about how many rows it holds.
pub(super) struct Range {
    pub(super) from: Option<KeyText>,
    pub(super) through: KeyText,
    pub(super) rows: u64,
}

/// Why rows were not copied.
pub(super) enum Failure {
    /// The target's server, or the ledger, says so.
    Here(BatchError),
    /// The source's server says so; `target_ruined`: and the target's connection cannot be used again.
    There {
        /// What it says.
        error: sqlx::Error,
        /// What it was asked, where that was the plan's.
        sql: Option<SqlText>,
        /// Whether the connection to the target is in the middle of something.
        target_ruined: bool,
    },
    /// There is no connection to the source.
    Unread(StepError),
}

impl From<BatchError> for Failure {
    fn from(e: BatchError) -> Self {
        Self::Here(e)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(e: sqlx::Error) -> Self {
        Self::Here(BatchError::Sql(e))
    }
}

impl Failure {
    fn there(error: sqlx::Error) -> Self {
        Self::There { error, sql: None, target_ruined: false }
    }

    /// Whether the rows themselves are wrong, by the one server or by the other, and the batch can be begun anew.
    pub(super) fn is_data(&self) -> bool {
        match self {
            Self::Here(e) => e.is_data(),
            Self::There { error, target_ruined, .. } => !target_ruined && trouble::is_data(error),
            Self::Unread(_) => false,
        }
    }

    fn told(&self) -> (Option<String>, String) {
        match self {
            Self::Here(e) => e.told(),
            Self::There { error: e, .. } => (
                error::code(e).map(str::to_owned),
                error::database(e).map_or_else(|| e.to_string(), |db| db.message().to_owned()),
            ),
            Self::Unread(_) => (None, "the source does not answer".to_owned()),
        }
    }

    /// The failure as a person is told it.
    pub(super) fn cause(&self, bench: &Workbench, origin: &origin::Origin) -> Cause {
        match self {
            Self::Here(e) => e.cause(&bench.what(), &bench.source),
            Self::There { error: e, sql, .. } => source_cause(&origin.what(), e, sql.as_ref(), &bench.source),
            Self::Unread(StepError::Failed(cause) | StepError::Passing(_, cause)) => cause.clone(),
            Self::Unread(StepError::Stopped) => Cause::bug("a copy was stopped inside a batch"),
        }
    }
}

fn source_cause(what: &str, e: &sqlx::Error, sql: Option<&SqlText>, plan: &PlanSource) -> Cause {
    match sql {
        Some(sql) if !error::is_lost(e) => error::cause_in_plan(what, e, sql, plan),
        Some(_) | None => error::cause(what, e),
    }
}

/// A batch that is written and not committed yet.
pub(super) struct Written {
    pub(super) advance: Advance,
    /// The places of the rows that it sets aside; given back unless the batch commits.
    pub(super) aside: Places,
}

/// Copies ranges of one table, or of one partition.
pub(super) struct Batch<'a> {
    pub(super) bench: &'a Workbench,
    pub(super) share: &'a Share,
    /// How long any round trip may take.
    pub(super) limit: Duration,
}

impl Batch<'_> {
    /// Copies the rows up to `boundary` and moves the cursor.
    pub(super) async fn write(
        &self,
        tx: &mut PgTransaction<'_>,
        reader: &mut Reader,
        (segment, boundary): (&Segment, Option<Boundary>),
        way: Way,
    ) -> Result<Written, Failure> {
        let mut aside = Places::new(Arc::clone(&self.bench.set_aside));
        let advance = match boundary {
            None => Advance { cursor: None, done: true, tally: Tally::default(), output: None },
            Some(boundary) => {
                let range = Range { from: segment.from().cloned(), through: boundary.key.clone(), rows: boundary.rows };
                let tally = match way {
                    Way::Whole => self.copy(tx, reader, range.from.as_ref(), &range.through).await?,
                    Way::Careful => self.carefully(tx, reader, range, &mut aside).await?,
                };
                let tally = Tally { walked: boundary.rows, batches: 1, ..tally };
                let done = segment.upper.as_ref() == Some(&boundary.key);
                Advance { cursor: Some(boundary.key), done, tally, output: None }
            }
        };
        failpoint::hit("batch.changed");
        let moved = self.bench.recorder.advance(&mut *tx, self.bench.index, segment, &advance);
        recorded(tokio::time::timeout(self.limit, moved).await)?;
        failpoint::hit("batch.recorded");
        Ok(Written { advance, aside })
    }

    /// Copies the rows with keys in `(from, through]`, and counts them.
    pub(super) async fn copy(
        &self,
        tx: &mut PgConnection,
        reader: &mut Reader,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Tally, Failure> {
        let changed = |rows| Tally { changed: rows, ..Tally::default() };
        if !reader.origin().piped {
            let sql = self.share.insert(from, through);
            let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind(from).bind(through);
            let done = within(self.limit, query.execute(tx)).await;
            return done.map(|done| changed(done.rows_affected())).map_err(|e| BatchError::Change(e, sql).into());
        }
        let out = self.share.copy_out(from, through);
        let into = self.share.pair.copy_in();
        let source = reader.get().await.map_err(Failure::Unread)?;
        match pipe((source, out.as_str()), (tx, &into), self.limit).await {
            Ok(rows) => Ok(changed(rows)),
            Err(torn) => {
                if torn.source_ruined {
                    reader.abandon();
                }
                Err(match torn.side {
                    Side::Source => {
                        Failure::There { error: torn.error, sql: Some(out), target_ruined: torn.target_ruined }
                    }
                    Side::Target => torn.error.into(),
                })
            }
        }
    }

    /// The end of a batch of at most `rows` rows.
    pub(super) async fn boundary(
        &self,
        tx: &mut PgConnection,
        reader: &mut Reader,
        (from, upper): (Option<&KeyText>, Option<&KeyText>),
        rows: u64,
    ) -> Result<Option<Boundary>, Failure> {
        let keys = &self.share.keys;
        if !reader.origin().piped {
            return Ok(within(self.limit, keys.boundary(tx, from, upper, rows)).await?);
        }
        let source = reader.get().await.map_err(Failure::Unread)?;
        let found = within(self.limit, keys.boundary(source, from, upper, rows)).await;
        found.map_err(|e| {
            reader.after(&e);
            Failure::there(e)
        })
    }

    /// The one row with its key in `(from, through]`, as JSON. `None`: it is gone.
    pub(super) async fn row(
        &self,
        tx: &mut PgConnection,
        reader: &mut Reader,
        from: Option<&KeyText>,
        through: &KeyText,
    ) -> Result<Option<String>, Failure> {
        let sql = self.share.row(from, through);
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(from).bind(through).persistent(false);
        if !reader.origin().piped {
            return Ok(within(self.limit, query.fetch_optional(tx)).await?);
        }
        let source = reader.get().await.map_err(Failure::Unread)?;
        let found = within(self.limit, query.fetch_optional(source)).await;
        found.map_err(|e| {
            reader.after(&e);
            Failure::there(e)
        })
    }

    /// Copies a range by halves where it fails, down to single rows, which are set aside.
    pub(super) async fn carefully(
        &self,
        tx: &mut PgTransaction<'_>,
        reader: &mut Reader,
        whole: Range,
        aside: &mut Places,
    ) -> Result<Tally, Failure> {
        // What is checked only at the commit could not be told from row to row.
        within(self.limit, tx.execute("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        let mut total = Tally::default();
        let mut ranges = vec![whole];
        while let Some(range) = ranges.pop() {
            within(self.limit, tx.execute("SAVEPOINT howdah_range")).await?;
            match self.copy(tx, reader, range.from.as_ref(), &range.through).await {
                Ok(tally) => {
                    within(self.limit, tx.execute("RELEASE SAVEPOINT howdah_range")).await?;
                    total += tally;
                }
                Err(failure) if failure.is_data() => {
                    within(self.limit, tx.execute("ROLLBACK TO SAVEPOINT howdah_range")).await?;
                    match self.halves(tx, reader, &range).await? {
                        Halves::Two(lower, upper) => ranges.extend([upper, lower]),
                        Halves::Row => {
                            total.quarantined += u64::from(self.set_aside(tx, reader, &range, &failure, aside).await?);
                        }
                        Halves::Empty => {}
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(total)
    }

    async fn halves(&self, tx: &mut PgTransaction<'_>, reader: &mut Reader, range: &Range) -> Result<Halves, Failure> {
        let ends = (range.from.as_ref(), Some(&range.through));
        let half = (range.rows / 2).max(1);
        let Some(mut lower) = self.boundary(tx, reader, ends, half).await? else { return Ok(Halves::Empty) };
        if lower.key == range.through {
            if lower.rows <= 1 {
                return Ok(Halves::Row);
            }
            // Rows have vanished since they were counted: the same range again, with the right number.
            let half = lower.rows / 2;
            let Some(again) = self.boundary(tx, reader, ends, half).await? else { return Ok(Halves::Empty) };
            lower = again;
        }
        let upper = Range {
            from: Some(lower.key.clone()),
            through: range.through.clone(),
            rows: range.rows.saturating_sub(lower.rows).max(1),
        };
        Ok(Halves::Two(Range { from: range.from.clone(), through: lower.key, rows: lower.rows }, upper))
    }

    /// Sets the one row of `range` aside, unless that is one too many. `true`: it was not set aside before.
    async fn set_aside(
        &self,
        tx: &mut PgTransaction<'_>,
        reader: &mut Reader,
        range: &Range,
        failure: &Failure,
        aside: &mut Places,
    ) -> Result<bool, Failure> {
        let (sqlstate, message) = failure.told();
        let row = self.row(tx, reader, range.from.as_ref(), &range.through).await?;
        let part = Some(self.share.in_ledger());
        let row = SetAside { part, key: range.through.clone(), row, sqlstate, message };
        Ok(aside.put(tx, self.bench, &row, &self.share.key_name(), self.limit).await?)
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
