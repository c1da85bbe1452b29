//! The driver's side of a run that other processes have joined: which segments are whose, and how the members stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, Row};

use super::record::{number, segment};
use crate::engine::ports::StepError;
use crate::engine::sharing::{Afield, Held, Shares, Wish};
use crate::postgres::deadline::on_pool;
use crate::postgres::{error, trouble};
use crate::run::member::{LEASE, MemberView};
use crate::run::{Cause, RunId, Segment, SegmentNo, StepIndex};

/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a segment's row holds of the segment itself.
pub(super) const COLUMNS: &str = "s.sweep, s.segment, s.part, s.lower_key, s.upper_key, s.cursor_key, s.done, s.rows_walked, s.rows_changed, \
     s.still_matching, s.batches, s.quarantined, s.bytes, s.output";

/// The segments of one step, as the driver shares them.
pub struct PostgresShares {
    /// Connections.
    pub pool: PgPool,
    /// The run.
    pub run: RunId,
    /// The driver's epoch.
    pub epoch: i64,
    /// The step.
    pub step: StepIndex,
    /// Rows of the run that are set aside: members set rows aside as well.
    pub set_aside: Arc<AtomicU64>,
}

/// A query's failure, as a step's.
pub(super) fn failed(e: &sqlx::Error) -> StepError {
    StepError::of(trouble::of(e), error::cause("sharing segments", e))
}

impl PostgresShares {
    async fn mark(&self, one: &Segment, is_taken: bool) -> Result<u64, StepError> {
        let work = async |connection: &mut PgConnection| {
            let done = sqlx::query(
                "UPDATE howdah.segment SET is_taken = $6 \
                 WHERE run = $1 AND step = $2 AND sweep = $3 AND segment = $4 AND epoch = $5 AND NOT done",
            )
            .bind(self.run.0)
            .bind(number(self.step.0))
            .bind(number(one.sweep))
            .bind(number(one.no.0))
            .bind(self.epoch)
            .bind(is_taken)
            .execute(connection)
            .await?;
            Ok(done.rows_affected())
        };
        on_pool(&self.pool, LIMIT, work).await.map_err(|e| failed(&e))
    }

    async fn members(&self, connection: &mut PgConnection, sweep: u32) -> Result<Vec<(Wish, MemberView)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT m.place, m.host, m.pid, m.workers, coalesce(m.rested = m.wish, false) AS is_resting, m.is_dry, m.rests, m.shares, m.says, \
                    extract(epoch FROM clock_timestamp() - m.heartbeat)::float8 AS silent, \
                    (SELECT count(*) FROM howdah.segment s WHERE s.run = m.run AND s.step = $3 AND s.sweep = $4 \
                     AND s.epoch = -m.member AND NOT s.done) AS segments \
             FROM howdah.member m WHERE m.run = $1 AND m.epoch = $2 AND m.left_at IS NULL ORDER BY m.place",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .bind(number(self.step.0))
        .bind(number(sweep))
        .fetch_all(connection)
        .await?;
        let small = |row: &sqlx::postgres::PgRow, name: &str| {
            row.try_get::<i32, _>(name).map(|n| u32::try_from(n).unwrap_or_default())
        };
        let member = |row: &sqlx::postgres::PgRow| {
            let silent: f64 = row.try_get("silent")?;
            let wish = Wish { rests: row.try_get("rests")?, shares: row.try_get("shares")? };
            let is_resting: bool = row.try_get("is_resting")?;
            let view = MemberView {
                place: small(row, "place")?,
                host: row.try_get("host")?,
                pid: small(row, "pid")?,
                workers: small(row, "workers")?,
                is_resting: wish.rests && is_resting,
                is_dry: row.try_get("is_dry")?,
                segments: u32::try_from(row.try_get::<i64, _>("segments")?).unwrap_or(u32::MAX),
                silent: Duration::try_from_secs_f64(silent.max(0.0)).unwrap_or_default(),
                says: row.try_get("says")?,
            };
            Ok((wish, view))
        };
        rows.iter().map(member).collect()
    }

    /// What members held that are gone, or that have left without giving it back, is the driver's again, but for what a batch of
    /// theirs still holds: that is taken back later. A batch that comes later finds its mark gone.
    async fn take_back(&self, connection: &mut PgConnection, dead: &[i32]) -> Result<(), sqlx::Error> {
        let mut tx = connection.begin().await?;
        sqlx::query(
            "UPDATE howdah.member SET left_at = now(), says = 'it was not heard any more' \
             WHERE run = $1 AND epoch = $2 AND left_at IS NULL AND place = ANY ($3)",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .bind(dead)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE howdah.segment g SET epoch = $3, is_taken = false FROM \
                 (SELECT s.sweep, s.segment FROM howdah.segment s WHERE s.run = $1 AND s.step = $2 AND NOT s.done \
                  AND s.epoch < 0 AND NOT EXISTS \
                      (SELECT FROM howdah.member m WHERE m.member = -s.epoch AND m.left_at IS NULL) \
                  FOR UPDATE SKIP LOCKED) free \
             WHERE g.run = $1 AND g.step = $2 AND g.sweep = free.sweep AND g.segment = free.segment",
        )
        .bind(self.run.0)
        .bind(number(self.step.0))
        .bind(self.epoch)
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    async fn segments(
        &self,
        connection: &mut PgConnection,
        sweep: u32,
        ours: &[SegmentNo],
    ) -> Result<(Vec<Held>, Vec<Segment>), sqlx::Error> {
        let ours: Vec<i32> = ours.iter().map(|no| number(no.0)).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS}, s.epoch, coalesce(m.host, '') AS host FROM howdah.segment s \
             LEFT JOIN howdah.member m ON m.member = -s.epoch \
             WHERE s.run = $1 AND s.step = $2 AND s.sweep = $3 AND (s.epoch < 0 AND NOT s.done OR s.segment <> ALL ($4)) \
             ORDER BY s.segment"
        )))
        .bind(self.run.0)
        .bind(number(self.step.0))
        .bind(number(sweep))
        .bind(ours)
        .fetch_all(connection)
        .await?;
        let (mut held, mut back) = (Vec::new(), Vec::new());
        for row in &rows {
            let one = segment(row)?;
            if row.try_get::<i64, _>("epoch")? == self.epoch && !one.done {
                back.push(one);
            } else {
                held.push(Held { segment: one, host: row.try_get("host")? });
            }
        }
        Ok((held, back))
    }

    async fn tell(&self, connection: &mut PgConnection, wish: Wish) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE howdah.member SET wish = wish + (rests <> $3)::int, rests = $3, shares = $4 \
             WHERE run = $1 AND epoch = $2 AND left_at IS NULL",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .bind(wish.rests)
        .bind(wish.shares)
        .execute(connection)
        .await
        .map(drop)
    }
}

#[async_trait]
impl Shares for PostgresShares {
    async fn claim(&self, one: &Segment) -> Result<bool, StepError> {
        if self.mark(one, true).await? == 1 {
            return Ok(true);
        }
        let ours = async |connection: &mut PgConnection| {
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM howdah.run WHERE id = $1 AND epoch = $2)")
                .bind(self.run.0)
                .bind(self.epoch)
                .fetch_one(connection)
                .await
        };
        if on_pool(&self.pool, LIMIT, ours).await.map_err(|e| failed(&e))? {
            return Ok(false);
        }
        Err(StepError::Failed(
            Cause::new("another driver has taken this run over").hint("look who drives it now: howdah status").busy(),
        ))
    }

    async fn release(&self, one: &Segment) -> Result<(), StepError> {
        self.mark(one, false).await.map(drop)
    }

    async fn look(&self, sweep: u32, ours: &[SegmentNo], known: usize, wish: Wish) -> Result<Afield, StepError> {
        let work = async |connection: &mut PgConnection| {
            let members = self.members(connection, sweep).await?;
            if members.is_empty() && known == 0 {
                return Ok(Afield::default());
            }
            let (alive, dead): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, member)| member.silent < LEASE);
            let gone: Vec<i32> = dead.iter().map(|(_, member)| number(member.place)).collect();
            let held: u32 = alive.iter().map(|(_, member)| member.segments).sum();
            if alive.iter().any(|(told, _)| *told != wish) {
                self.tell(connection, wish).await?;
            }
            if !gone.is_empty() || known > held as usize {
                self.take_back(connection, &gone).await?;
            }
            let (held, back) = self.segments(connection, sweep, ours).await?;
            let aside: i64 =
                sqlx::query_scalar("SELECT count(*) FROM howdah.quarantine WHERE run = $1 AND resolved_at IS NULL")
                    .bind(self.run.0)
                    .fetch_one(connection)
                    .await?;
            self.set_aside.fetch_max(aside.max(0).cast_unsigned(), Ordering::Relaxed);
            // Who was told only now has not heard it yet.
            let heard = |(told, member): (Wish, MemberView)| MemberView {
                is_resting: member.is_resting && told.rests == wish.rests,
                ..member
            };
            Ok(Afield { members: alive.into_iter().map(heard).collect(), held, back })
        };
        on_pool(&self.pool, LIMIT, work).await.map_err(|e| failed(&e))
    }
}
