//! The sweeps of a copy: one for each level of tables, cut into ranges of keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::CopyStep;
use super::check::is_one_database;
use super::pair::{Pair, Ready, Share};
use crate::engine::ports::{StepContext, StepError};
use crate::postgres::key::End;
use crate::postgres::record::{RecordError, Sweeps};
use crate::postgres::session;
use crate::run::{Cause, Level, Segment, SegmentNo};
use crate::steps::{segments, trouble};

/// Segments of a sweep over large tables.
const SEGMENTS: u32 = 64;

/// The tables that segments lie in, each once.
pub(super) fn tables_of(ready: &Ready, segments: &[Segment]) -> Vec<Arc<Pair>> {
    let mut tables: Vec<Arc<Pair>> = Vec::new();
    for share in segments.iter().filter_map(|segment| ready.share(segment.part.as_deref()).ok()) {
        if tables.iter().all(|table| table.source.oid != share.pair.source.oid) {
            tables.push(Arc::clone(&share.pair));
        }
    }
    tables
}

/// What is to be walked next: of what has no segments yet, the tables of the lowest level. Empty: nothing.
fn next_level<'a>(ready: &'a Ready, walked: &[Segment]) -> Vec<&'a Arc<Share>> {
    let is_planned = |share: &Share| {
        let name = share.in_ledger();
        walked.iter().any(|segment| segment.part.as_deref() == Some(name.as_str()))
    };
    let left: Vec<&Arc<Share>> = ready.shares.iter().filter(|share| !is_planned(share)).collect();
    let level = left.iter().map(|share| share.pair.level).min();
    left.into_iter().filter(|share| Some(share.pair.level) == level).collect()
}

impl CopyStep {
    /// Looks at the tables, and at what the ledger has of the walk; plans the first sweep where there is none.
    pub(super) async fn begin(&self, context: &StepContext) -> Result<(Arc<Ready>, Sweeps), StepError> {
        let origin = Arc::clone(self.origin()?);
        let mut target = self.own_connection().await?;
        self.align(&mut target).await?;
        let read = |e: RecordError| trouble::of_record(&e, &self.bench.what());
        let sweeps = self.bench.recorder.sweeps(&mut target, self.bench.index).await.map_err(read)?;
        let is_new_moment = self.copy.consistent && !origin.has_snapshot();
        if is_new_moment {
            // Nothing is copied yet, or what is was read in a moment that nobody can come back to.
            if sweeps.segments.iter().any(|segment| segment.tally.batches > 0) {
                return Err(StepError::Failed(origin.moment_gone()));
            }
            origin.hold().await?;
        }
        let mut source = origin.open().await?;
        let ready = self.look(&mut source, &mut target).await?;
        self.same_walk(&ready, sweeps.walk.as_deref())?;
        if !sweeps.segments.is_empty() {
            if is_new_moment && ready.shares.iter().any(|share| !share.can_set_aside()) {
                return Err(StepError::Failed(origin.moment_gone()));
            }
            return Ok((ready, sweeps));
        }
        for (level, text) in self.remarks(&mut target, &ready).await? {
            context.reporter.notice(level, text);
        }
        self.plan_level(&mut source, &mut target, &ready, &[]).await?;
        let sweeps = self.bench.recorder.sweeps(&mut target, self.bench.index).await.map_err(read)?;
        Ok((ready, sweeps))
    }

    /// Brings the ledger of another database than the run's own in line with that.
    async fn align(&self, there: &mut PgConnection) -> Result<(), StepError> {
        if let Some(cause) = &self.wrong {
            return Err(StepError::Failed(cause.clone()));
        }
        if self.copy.database.is_none() {
            return Ok(());
        }
        let mut here = self.home.pool.acquire().await.map_err(|e| self.failed(&e))?.detach();
        if is_one_database(&mut here, there).await {
            return Ok(());
        }
        self.home.mirror.align(&mut here, there).await.map_err(|cause| {
            let message = format!("{}: {}", self.bench.what(), cause.message);
            StepError::Failed(Cause { message, ..cause })
        })?;
        if !self.is_counted.swap(true, Ordering::Relaxed) {
            let aside = self.bench.recorder.set_aside_in_all(there).await;
            let aside = aside.map_err(|e| trouble::of_record(&e, &self.bench.what()))?;
            self.bench.set_aside.fetch_add(aside, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the operator should know when the copy begins.
    async fn remarks(&self, target: &mut PgConnection, ready: &Ready) -> Result<Vec<(Level, String)>, StepError> {
        let mut remarks = Vec::new();
        if !self.copy.consistent {
            let text = "the copy is not of one moment: rows that others write meanwhile may be in it or not; \
                        `consistent = true` reads one snapshot";
            remarks.push((Level::Info, text.to_owned()));
        }
        for pair in &ready.pairs {
            let label = pair.target.label();
            if super::check::holds_rows(target, pair).await.map_err(|e| self.failed(&e))? {
                remarks.push((Level::Warning, format!("`{label}` is not empty: what it holds is left as it is")));
            }
            if pair.refers_to_itself {
                let text = format!(
                    "rows of `{label}` refer to each other: one worker copies them in the order of their key; one that refers \
                     to a later batch is set aside, and `howdah quarantine retry` copies it afterwards"
                );
                remarks.push((Level::Warning, text));
            }
        }
        let by_block = |share: &&Arc<Share>| !share.can_set_aside();
        for share in ready.shares.iter().filter(by_block).filter(|_| !self.copy.consistent) {
            let text = format!(
                "`{}` has no key, and is copied block by block: a row that is updated meanwhile may be copied twice, or \
                 not at all; hold writes back, or use `consistent = true`",
                share.part().label()
            );
            remarks.push((Level::Warning, text));
        }
        Ok(remarks)
    }

    /// Plans the sweep over the next tables. Returns their names; `None`: there are no more.
    pub(super) async fn plan_next(&self, walked: &[Segment]) -> Result<Option<String>, StepError> {
        let origin = Arc::clone(self.origin()?);
        let mut target = self.own_connection().await?;
        let mut source = origin.open().await?;
        // Of the moment that is copied nothing can have changed.
        let ready = if self.copy.consistent { self.ready()? } else { self.look(&mut source, &mut target).await? };
        self.plan_level(&mut source, &mut target, &ready, walked).await
    }

    async fn plan_level(
        &self,
        source: &mut PgConnection,
        target: &mut PgConnection,
        ready: &Ready,
        walked: &[Segment],
    ) -> Result<Option<String>, StepError> {
        let shares = next_level(ready, walked);
        if shares.is_empty() {
            return Ok(None);
        }
        let number = walked.iter().map(|segment| segment.sweep).max().unwrap_or(0) + 1;
        let origin = self.origin()?;
        let failed = |e: sqlx::Error| origin.failed(&e);
        let mut rows = Vec::new();
        for share in &shares {
            rows.push(share.keys.rows(source).await.map_err(failed)?);
        }
        let numbers = segments::shares(&rows, self.bench.limits.batch.start, SEGMENTS);
        let mut planned: Vec<Segment> = Vec::new();
        for (share, wanted) in shares.iter().zip(numbers) {
            let first = SegmentNo(u32::try_from(planned.len()).unwrap_or(u32::MAX));
            let name = share.in_ledger();
            let Some(last) = share.keys.end(source, End::Last).await.map_err(failed)? else {
                // Written down all the same: that it was looked at, and held nothing.
                planned.push(Segment { part: Some(name), done: true, ..Segment::new(number, first, None, None) });
                continue;
            };
            let wanted = if share.pair.refers_to_itself { 1 } else { wanted };
            let cuts = share.keys.cuts(source, None, &last, wanted).await.map_err(failed)?;
            // A snapshot ends by itself; and a driver that comes before anything is copied may take a later one.
            // The blocks of a file have no end of their own.
            let upper = (!self.copy.consistent || !share.can_set_aside()).then_some(last);
            planned.extend(segments::cut(number, first, Some(&name), None, upper, cuts));
        }
        let foretold = rows.into_iter().try_fold(0_u64, |all, rows| Some(all.saturating_add(rows?)));
        let walk = ready.identities();
        let write = async {
            let mut tx = target.begin_with(session::DURABLE).await?;
            self.bench.recorder.add_sweep(&mut tx, self.bench.index, &planned, foretold, &walk).await?;
            tx.commit().await?;
            Ok::<(), RecordError>(())
        };
        write.await.map_err(|e| trouble::of_record(&e, &self.bench.what()))?;
        let names: Vec<String> = tables_of(ready, &planned).iter().map(|pair| pair.target.label()).collect();
        Ok(Some(names.join(", ")))
    }

    /// Rows that each segment is thought to hold: tables of a sweep differ in size.
    pub(super) async fn weights(&self, ready: &Ready, segments: &[Segment]) -> Result<Vec<u64>, StepError> {
        let mut counts: HashMap<Option<&str>, u64> = HashMap::new();
        for segment in segments {
            *counts.entry(segment.part.as_deref()).or_default() += 1;
        }
        if counts.len() < 2 {
            return Ok(Vec::new());
        }
        let origin = self.origin()?;
        let mut source = origin.open().await?;
        let mut shares: HashMap<Option<&str>, u64> = HashMap::new();
        for (part, count) in counts {
            let rows = match ready.share(part) {
                Ok(share) => share.keys.rows(&mut source).await.map_err(|e| origin.failed(&e))?,
                Err(_) => None,
            };
            shares.insert(part, rows.unwrap_or(1) / count.max(1));
        }
        let weight = |segment: &Segment| shares.get(&segment.part.as_deref()).copied().unwrap_or_default().max(1);
        Ok(segments.iter().map(weight).collect())
    }

    /// Whether the cursors in the ledger still mean what they meant: somebody may have given a table another key since.
    fn same_walk(&self, ready: &Ready, then: Option<&str>) -> Result<(), StepError> {
        let Some(then) = then else { return Ok(()) };
        for share in &ready.shares {
            let (name, now) = (format!("{}: ", share.in_ledger()), share.identity());
            let Some(before) = then.lines().find(|line| line.starts_with(&name)) else { continue };
            if before != now {
                return Err(StepError::Failed(
                    Cause::usage(format!(
                        "{}: `{}` is not walked by the key that the run began with",
                        self.bench.what(),
                        share.part().label()
                    ))
                    .detail(format!("then: {before}"))
                    .detail(format!("now: {now}"))
                    .hint("give the table its key back and resume, or begin a new run: howdah run PLAN --new"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::source;
    use super::*;
    use crate::postgres::catalog::{Part, Table};
    use crate::postgres::walk::{BlockScan, Blocks, Walk};
    use crate::steps::keyspace::Keyspace;

    fn ready(levels: &[usize]) -> Ready {
        let shares = levels.iter().zip(1_i64..).map(|(level, oid)| {
            let walk = Walk::Blocks(Blocks { rows_per_block: 1, scan: BlockScan::Range });
            let part = Part { oid, schema: "s".into(), name: format!("t{oid}"), is_partition: false, walk };
            let table = Table { oid, parts: vec![part.clone()], ..source() };
            let pair = Pair {
                target: table.clone(),
                source: table,
                columns: Vec::new(),
                filter: None,
                level: *level,
                refers_to_itself: false,
                casts: Vec::new(),
                binary: false,
            };
            Arc::new(Share { pair: Arc::new(pair), keys: Keyspace::new(part), first: None })
        });
        Ready { pairs: Vec::new(), shares: shares.collect() }
    }

    #[test]
    fn levels_come_one_after_the_other_until_all_is_planned() {
        let ready = ready(&[1, 0, 1, 0]);
        let mut walked = Vec::new();
        let mut order = Vec::new();
        loop {
            let next: Vec<String> = next_level(&ready, &walked).iter().map(|share| share.in_ledger()).collect();
            if next.is_empty() {
                break;
            }
            for part in &next {
                walked.push(Segment { part: Some(part.clone()), ..Segment::new(1, SegmentNo(0), None, None) });
            }
            order.push(next);
        }
        assert_eq!(order, [["\"s\".\"t2\"", "\"s\".\"t4\""], ["\"s\".\"t1\"", "\"s\".\"t3\""]]);
        assert_eq!(tables_of(&ready, &walked).len(), 4);
    }
}
