//! `verify`: whether the target holds what was copied, range by range, asked of both servers; and `repair`.

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::CopyStep;
use super::batch::{Batch, Failure, Range};
use super::origin::Reader;
use super::pair::{Pair, Share};
use crate::engine::failpoint;
use crate::engine::ports::{StepContext, StepError};
use crate::plan::movers::Comparison;
use crate::postgres::deadline::within;
use crate::postgres::record::RecordError;
use crate::postgres::{error, sqlstate};
use crate::run::{Cause, KeyText, Segment, human};
use crate::steps::batch::{BatchError, Places, recorded};
use crate::steps::interruptible::{self, Interrupted, OwnConnection, Watch};
use crate::steps::{Workbench, trouble};

/// Ranges that are named one by one where they differ.
const TOLD: usize = 20;

/// What one side holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    rows: i128,
    /// The sum of the rows' hashes, 0 where rows are only counted.
    checksum: i128,
}

/// The ends of a range `(lower, upper]`.
type Ends = (Option<KeyText>, Option<KeyText>);
/// A part of the source, and a range of it. `None`: all.
type Place<'a> = (&'a Arc<Share>, Option<&'a Ends>);

/// A range, or a whole table, that is not the same on both sides.
struct Difference {
    share: Arc<Share>,
    /// `(lower, upper]`. `None`: the whole table, whose ranges mean something else on the target.
    range: Option<Ends>,
    source: Sums,
    target: Sums,
}

/// A connection to each side, for questions about whole ranges.
struct Both {
    source: OwnConnection,
    target: OwnConnection,
}

impl Both {
    async fn close(self) {
        tokio::join!(self.source.close(), self.target.close());
    }
}

impl Sums {
    fn words(self, comparison: Comparison) -> String {
        let rows = human::rows(u64::try_from(self.rows).unwrap_or(u64::MAX));
        match comparison {
            Comparison::Count => rows,
            Comparison::Checksum => format!("{rows} with checksum {}", self.checksum),
        }
    }
}

impl Difference {
    /// `users: id after 1000, through 2000: 1,000 rows at the source, 999 rows here`.
    fn words(&self, comparison: Comparison) -> String {
        let key = |key: &KeyText| key.join(", ");
        let place = match &self.range {
            None => "the whole table".to_owned(),
            Some((lower, upper)) => {
                let lower =
                    lower.as_ref().map_or_else(|| "from the first".to_owned(), |at| format!("after {}", key(at)));
                let upper =
                    upper.as_ref().map_or_else(|| "to the last".to_owned(), |at| format!("through {}", key(at)));
                format!("{} {lower}, {upper}", self.share.key_name())
            }
        };
        format!(
            "`{}`: {place}: {} at the source, {} here",
            self.share.pair.target.label(),
            self.source.words(comparison),
            self.target.words(comparison)
        )
    }
}

impl CopyStep {
    /// Compares everything that was copied. Returns what there is to say of it.
    pub(super) async fn compare(
        &self,
        context: &StepContext,
        comparison: Comparison,
        walked: &[Segment],
    ) -> Result<String, StepError> {
        let mut repaired = 0;
        let mut differing: Vec<Difference> = Vec::new();
        for pair in &self.ready()?.pairs {
            for difference in self.compare_table(context, comparison, pair, walked).await? {
                if !(self.copy.repair && difference.range.is_some()) {
                    differing.push(difference);
                    continue;
                }
                let words = difference.words(comparison);
                tracing::warn!(step = %self.bench.name, "copied again: {words}");
                self.repair(context, &difference).await?;
                let again =
                    self.compare_range(context, comparison, &difference.share, difference.range.as_ref()).await?;
                match again {
                    None => repaired += 1,
                    Some(still) => differing.push(still),
                }
            }
        }
        if !differing.is_empty() {
            return Err(StepError::Failed(self.differs(comparison, &differing)));
        }
        let agree = match comparison {
            Comparison::Count => "counts agree",
            Comparison::Checksum => "checksums agree",
        };
        Ok(match repaired {
            0 => agree.to_owned(),
            1 => format!("{agree}, 1 range copied again"),
            n => format!("{agree}, {} ranges copied again", human::count(n)),
        })
    }

    fn differs(&self, comparison: Comparison, differing: &[Difference]) -> Cause {
        let mut cause = Cause::new(format!(
            "{}: source and target differ in {}",
            self.bench.what(),
            match differing.len() {
                1 => "1 range".to_owned(),
                n => format!("{n} ranges"),
            }
        ));
        cause.details.extend(differing.iter().take(TOLD).map(|difference| difference.words(comparison)));
        if differing.len() > TOLD {
            cause.details.push(format!("and {} more", differing.len() - TOLD));
        }
        if !self.copy.consistent {
            cause = cause.hint(
                "rows that others changed at the source after they were copied differ by right: hold writes back, or use \
                 `consistent = true`",
            );
        }
        let is_whole = differing.iter().any(|difference| difference.range.is_none());
        match (self.copy.repair, is_whole) {
            (_, true) => cause.hint(
                "the table's key has another order or is not copied as it is, so that no range of it can be copied again: \
                 empty the target and begin a new run",
            ),
            (false, false) => cause.hint("`repair = true` copies such ranges again; then resume with --accept-changed-plan"),
            (true, false) => cause.hint("they were copied again, and differ still; resume the run to try once more"),
        }
    }

    async fn compare_table(
        &self,
        context: &StepContext,
        comparison: Comparison,
        pair: &Arc<Pair>,
        walked: &[Segment],
    ) -> Result<Vec<Difference>, StepError> {
        let ready = self.ready()?;
        let label = pair.target.label();
        let mine: Vec<(Arc<Share>, &Segment)> = walked
            .iter()
            .filter_map(|segment| Some((ready.share(segment.part.as_deref()).ok()?, segment)))
            .filter(|(share, _)| share.pair.source.oid == pair.source.oid)
            .collect();
        let Some((first, _)) = mine.first().cloned() else { return Ok(Vec::new()) };
        let is_ranged = first.target_key().is_some();
        let mut both = self.both().await?;
        let mut differing = Vec::new();
        let mut source = Sums::default();
        for (at, (share, segment)) in mine.iter().enumerate() {
            let what = format!("comparing {label}: range {} of {}", at + 1, mine.len());
            let range = (segment.lower.clone(), segment.upper.clone());
            if is_ranged {
                differing.extend(self.look_at(context, comparison, &mut both, (share, Some(&range)), &what).await?);
            } else {
                let one = self.expected(context, comparison, &mut both.source, (share, Some(&range)), &what).await?;
                source = Sums { rows: source.rows + one.rows, checksum: source.checksum + one.checksum };
            }
        }
        if !is_ranged {
            let what = format!("comparing {label}");
            let target = self.found(context, comparison, &mut both.target, (&first, None), &what).await?;
            if source != target {
                differing.push(Difference { share: first, range: None, source, target });
            }
        }
        both.close().await;
        Ok(differing)
    }

    async fn compare_range(
        &self,
        context: &StepContext,
        comparison: Comparison,
        share: &Arc<Share>,
        range: Option<&Ends>,
    ) -> Result<Option<Difference>, StepError> {
        let mut both = self.both().await?;
        let what = format!("comparing {} again", share.pair.target.label());
        let difference = self.look_at(context, comparison, &mut both, (share, range), &what).await?;
        both.close().await;
        Ok(difference)
    }

    async fn look_at(
        &self,
        context: &StepContext,
        comparison: Comparison,
        both: &mut Both,
        (share, range): Place<'_>,
        what: &str,
    ) -> Result<Option<Difference>, StepError> {
        let (source, target) = tokio::join!(
            self.expected(context, comparison, &mut both.source, (share, range), what),
            self.found(context, comparison, &mut both.target, (share, range), what)
        );
        let (source, target) = (source?, target?);
        let differs = || Difference { share: Arc::clone(share), range: range.cloned(), source, target };
        Ok((source != target).then(differs))
    }

    /// A connection to each side. Questions about whole ranges have `limits.count_timeout`.
    async fn both(&self) -> Result<Both, StepError> {
        let (limit, lock) = (self.bench.limits.count_timeout, self.bench.limits.lock_timeout);
        let origin = self.origin()?;
        let there = Workbench { pool: origin.pool.clone(), ..self.bench.clone() };
        let mut source = OwnConnection::take(&there, limit, lock).await?;
        origin.join(source.get()).await?;
        Ok(Both { source, target: OwnConnection::take(&self.bench, limit, lock).await? })
    }

    /// What the target should hold.
    async fn expected(
        &self,
        context: &StepContext,
        comparison: Comparison,
        own: &mut OwnConnection,
        (share, range): Place<'_>,
        what: &str,
    ) -> Result<Sums, StepError> {
        let origin = self.origin()?;
        let aside = self.keys_set_aside(&share.in_ledger()).await?;
        let (from, through) = range.map_or((None, None), |(from, through)| (from.as_ref(), through.as_ref()));
        let sql = share.expected(comparison, from, through, &aside);
        let pid = own.pid;
        let asked = sums(own.get(), sql.as_str());
        let answer = interruptible::wait(&origin.pool, pid, context, what, Watch::Nothing, asked).await;
        answer.map_err(|e| {
            let explain = |e: &sqlx::Error| error::cause_in_plan(&origin.what(), e, &sql, &self.bench.source);
            self.unanswered(e, explain)
        })
    }

    /// What it holds.
    async fn found(
        &self,
        context: &StepContext,
        comparison: Comparison,
        own: &mut OwnConnection,
        (share, range): Place<'_>,
        what: &str,
    ) -> Result<Sums, StepError> {
        let sql = share.found(comparison, range.map(|(from, through)| (from.as_ref(), through.as_ref())));
        let pid = own.pid;
        let asked = sums(own.get(), &sql);
        let answer = interruptible::wait(&self.bench.pool, pid, context, what, Watch::Nothing, asked).await;
        answer.map_err(|e| self.unanswered(e, |e| error::cause(&self.bench.what(), e)))
    }

    fn unanswered(&self, e: Interrupted, explain: impl FnOnce(&sqlx::Error) -> Cause) -> StepError {
        e.into_step_error(|e| {
            if error::code(e) != Some(sqlstate::QUERY_CANCELED) {
                return explain(e);
            }
            let limit = human::duration(self.bench.limits.count_timeout);
            Cause::new(format!("{}: source and target could not be compared within {limit}", self.bench.what()))
                .hint("every row is copied; give `limits.count_timeout` more time and resume, or take `verify` out")
        })
    }

    /// The keys of a part's rows that are set aside: the target is not to hold them.
    async fn keys_set_aside(&self, part: &str) -> Result<Vec<KeyText>, StepError> {
        let elsewhere = self.bench.recorder.keys_set_aside(self.bench.index, part).await;
        if let Some(keys) = elsewhere.map_err(|e| trouble::of_record(&e, &self.bench.what()))? {
            return Ok(keys);
        }
        let mut connection = self.own_connection().await?;
        let ask = sqlx::query_scalar(
            "SELECT key FROM howdah.quarantine WHERE run = $1 AND step = $2 AND part = $3 AND resolved_at IS NULL",
        )
        .bind(self.bench.run_id.0)
        .bind(i32::try_from(self.bench.index.0).unwrap_or(i32::MAX))
        .bind(part)
        .persistent(false)
        .fetch_all(&mut connection);
        within(self.bench.deadline(), ask).await.map_err(|e| self.failed(&e))
    }

    /// Copies a range again: batch by batch, each of which is taken out of the target and copied in one transaction.
    async fn repair(&self, context: &StepContext, difference: &Difference) -> Result<(), StepError> {
        let Some((lower, upper)) = difference.range.clone() else { return Ok(()) };
        let mut reader = Reader::new(Arc::clone(self.origin()?));
        let mut target = self.own_connection().await?;
        let what = format!("copying {} again", difference.share.pair.target.label());
        context.reporter.doing(&what, None);
        let mut from = lower;
        loop {
            if context.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            let done =
                self.repair_some(&mut target, &mut reader, &difference.share, (from.as_ref(), upper.as_ref())).await;
            match done {
                Ok(None) => break,
                Ok(Some(through)) => from = Some(through),
                Err(failure) => return Err(self.not_repaired(&failure, &reader)),
            }
        }
        drop(tokio::time::timeout(self.bench.deadline(), target.close()).await);
        reader.close().await;
        Ok(())
    }

    fn not_repaired(&self, failure: &Failure, reader: &Reader) -> StepError {
        let cause = failure.cause(&self.bench, reader.origin());
        let error = match failure {
            Failure::Here(BatchError::Change(e, _) | BatchError::Sql(e) | BatchError::Record(RecordError::Sql(e))) => e,
            Failure::There { error, .. } => error,
            Failure::Unread(refused) => return refused.clone(),
            Failure::Here(BatchError::Passing(trouble, _)) => return StepError::Passing(*trouble, cause),
            Failure::Here(BatchError::Record(RecordError::Store(trouble, _))) => return StepError::of(*trouble, cause),
            Failure::Here(
                BatchError::Record(RecordError::Fenced | RecordError::Already)
                | BatchError::Wrong(..)
                | BatchError::Plan(_),
            ) => {
                return StepError::Failed(cause);
            }
        };
        let is_reference = error::code(error) == Some("23503");
        let hint =
            "other tables refer to rows that differ; mend those by hand, or empty the target and begin a new run";
        trouble::step_error(error, if is_reference { cause.hint(hint) } else { cause })
    }

    /// The next rows of a range, in one transaction. Returns the key that they went through; `None`: that was the end.
    async fn repair_some(
        &self,
        target: &mut PgConnection,
        reader: &mut Reader,
        share: &Share,
        (from, upper): (Option<&KeyText>, Option<&KeyText>),
    ) -> Result<Option<KeyText>, Failure> {
        let bench = &self.bench;
        let limit = bench.deadline();
        let batch = Batch { bench, share, limit };
        let mut tx = within(limit, target.begin_with(bench.recorder.begin())).await?;
        // Before anything is taken away: no other driver takes the run over until this has committed.
        recorded(tokio::time::timeout(limit, bench.recorder.hold(&mut tx)).await)?;
        let boundary = batch.boundary(&mut tx, reader, (from, upper), bench.limits.batch.start).await?;
        // Behind the source's last row there may be some that are only here.
        let through = boundary.as_ref().map(|boundary| &boundary.key).or(upper);
        let delete = share.delete(from, through).ok_or_else(|| {
            Failure::Here(BatchError::Plan(Cause::bug("a range that the target does not have is to be copied again")))
        })?;
        within(limit, tx.execute(AssertSqlSafe(delete))).await?;
        failpoint::hit("repair.deleted");
        let mut aside = Places::new(Arc::clone(&bench.set_aside));
        if let Some(boundary) = &boundary {
            let range = Range { from: from.cloned(), through: boundary.key.clone(), rows: boundary.rows };
            batch.carefully(&mut tx, reader, range, &mut aside).await?;
        }
        within(limit, tx.commit()).await?;
        aside.keep();
        failpoint::hit("repair.committed");
        Ok(boundary.map(|boundary| boundary.key).filter(|key| Some(key) != upper))
    }
}

async fn sums(connection: &mut PgConnection, sql: &str) -> Result<Sums, sqlx::Error> {
    let row = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).fetch_one(connection).await?;
    let (rows, checksum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let checksum = checksum.parse().map_err(|_| sqlx::Error::Protocol(format!("`{checksum}` is no checksum")))?;
    Ok(Sums { rows: rows.into(), checksum })
}
