//! The record of a change, written on the change's own connection.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::files;
use crate::postgres::record::{AsideRow, FileRow, RecordError, Recorder, Resolution, SetAside, Sweeps};
use crate::run::{Advance, KeyText, RunId, Segment, SegmentNo, StepIndex, Tally};

/// Writes under one driver's epoch.
#[derive(Debug, Clone, Copy)]
pub struct PostgresRecorder {
    /// The run.
    pub run: RunId,
    /// The epoch under which its driver took it.
    pub epoch: i64,
    /// The number of this process among those that have joined the run. `None`: it drives the run itself.
    pub member: Option<i64>,
}

impl PostgresRecorder {
    /// What stands in the segments that are this process's: the epoch of the driver, the number of a member below zero.
    fn mark(&self) -> i64 {
        self.member.map_or(self.epoch, |member| -member)
    }
}

pub(super) fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn rows(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn one(done: &sqlx::postgres::PgQueryResult) -> Result<(), RecordError> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(RecordError::Fenced) }
}

impl PostgresRecorder {
    /// One row was written; or none, because it had been before; or none, because the run is another driver's.
    async fn one_or_already(
        &self,
        tx: &mut PgConnection,
        done: &sqlx::postgres::PgQueryResult,
    ) -> Result<(), RecordError> {
        match one(done) {
            Err(RecordError::Fenced) if self.is_ours(tx).await? => Err(RecordError::Already),
            other => other,
        }
    }

    async fn insert(&self, tx: &mut PgConnection, step: StepIndex, segment: &Segment) -> Result<(), RecordError> {
        sqlx::query(
            "INSERT INTO howdah.segment (run, step, sweep, segment, lower_key, upper_key, done, epoch, part) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(number(segment.sweep))
        .bind(number(segment.no.0))
        .bind(&segment.lower)
        .bind(&segment.upper)
        .bind(segment.done)
        .bind(self.mark())
        .bind(&segment.part)
        .execute(tx)
        .await?;
        Ok(())
    }
}

#[async_trait]
impl Recorder for PostgresRecorder {
    fn epoch(&self) -> i64 {
        self.epoch
    }

    async fn advance(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        advance: &Advance,
    ) -> Result<(), RecordError> {
        let done = sqlx::query(
            "UPDATE howdah.segment SET cursor_key = coalesce($6, cursor_key), done = $7, \
                    rows_walked = rows_walked + $8, rows_changed = rows_changed + $9, \
                    still_matching = still_matching + $10, batches = batches + $11, \
                    quarantined = quarantined + $13, bytes = bytes + $15, \
                    output = coalesce($16, output), updated_at = now() \
             WHERE run = $1 AND step = $2 AND sweep = $3 AND segment = $4 AND epoch = $5 AND NOT done \
               AND cursor_key IS NOT DISTINCT FROM $12 AND upper_key IS NOT DISTINCT FROM $14",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(number(segment.sweep))
        .bind(number(segment.no.0))
        .bind(self.mark())
        .bind(&advance.cursor)
        .bind(advance.done)
        .bind(rows(advance.tally.walked))
        .bind(rows(advance.tally.changed))
        .bind(rows(advance.tally.still_matching))
        .bind(rows(advance.tally.batches))
        .bind(&segment.cursor)
        .bind(rows(advance.tally.quarantined))
        .bind(&segment.upper)
        .bind(rows(advance.tally.bytes))
        .bind(&advance.output)
        .execute(tx)
        .await?;
        one(&done)
    }

    async fn sweeps(&self, connection: &mut PgConnection, step: StepIndex) -> Result<Sweeps, RecordError> {
        let segments = self.walked_by(connection, self.run, step).await?;
        let (foretold, walk): (Option<i64>, Option<String>) =
            sqlx::query_as("SELECT foretold, walk FROM howdah.step WHERE run = $1 AND step = $2")
                .bind(self.run.0)
                .bind(number(step.0))
                .fetch_one(connection)
                .await?;
        Ok(Sweeps { segments, foretold: foretold.map(|n| n.max(0).cast_unsigned()), walk })
    }

    async fn add_sweep(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segments: &[Segment],
        foretold: Option<u64>,
        walk: &str,
    ) -> Result<(), RecordError> {
        // Locks the step's row: whoever takes the run over waits for it, or is seen here.
        let done = sqlx::query(
            "UPDATE howdah.step SET sweep = sweep + 1, foretold = $4, walk = $5 \
             WHERE run = $1 AND step = $2 AND epoch = $3",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(self.epoch)
        .bind(foretold.map(rows))
        .bind(walk)
        .execute(&mut *tx)
        .await?;
        one(&done)?;
        for segment in segments {
            self.insert(tx, step, segment).await?;
        }
        Ok(())
    }

    async fn segment(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
        wanted: &Segment,
    ) -> Result<Option<Segment>, RecordError> {
        let row = sqlx::query(
            "SELECT sweep, segment, lower_key, upper_key, cursor_key, done, rows_walked, rows_changed, still_matching, \
                    batches, part, quarantined, bytes, output FROM howdah.segment \
             WHERE run = $1 AND step = $2 AND sweep = $3 AND segment = $4 AND epoch = $5 FOR UPDATE",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(number(wanted.sweep))
        .bind(number(wanted.no.0))
        .bind(self.mark())
        .fetch_optional(connection)
        .await?;
        Ok(row.as_ref().map(segment).transpose()?)
    }

    async fn is_ours(&self, connection: &mut PgConnection) -> Result<bool, RecordError> {
        let ours = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM howdah.run WHERE id = $1 AND epoch = $2) AND ($3::int8 IS NULL OR EXISTS \
                 (SELECT FROM howdah.member WHERE member = $3 AND left_at IS NULL))",
        )
        .bind(self.run.0)
        .bind(self.epoch)
        .bind(self.member)
        .fetch_one(connection)
        .await?;
        Ok(ours)
    }

    async fn walked_by(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Vec<Segment>, RecordError> {
        let segments = sqlx::query(
            "SELECT sweep, segment, lower_key, upper_key, cursor_key, done, rows_walked, rows_changed, still_matching, \
                    batches, part, quarantined, bytes, output FROM howdah.segment WHERE run = $1 AND step = $2 ORDER BY sweep, segment",
        )
        .bind(run.0)
        .bind(number(step.0))
        .fetch_all(connection)
        .await?;
        Ok(segments.iter().map(segment).collect::<Result<_, _>>()?)
    }

    async fn split(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        segment: &Segment,
        rest: &Segment,
    ) -> Result<(), RecordError> {
        let done = sqlx::query(
            "UPDATE howdah.segment SET upper_key = $6, updated_at = now() \
             WHERE run = $1 AND step = $2 AND sweep = $3 AND segment = $4 AND epoch = $5 AND NOT done \
               AND cursor_key IS NOT DISTINCT FROM $7 AND upper_key IS NOT DISTINCT FROM $8",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(number(segment.sweep))
        .bind(number(segment.no.0))
        .bind(self.mark())
        .bind(&rest.lower)
        .bind(&segment.cursor)
        .bind(&segment.upper)
        .execute(&mut *tx)
        .await?;
        one(&done)?;
        self.insert(tx, step, rest).await
    }

    async fn set_aside(&self, tx: &mut PgConnection, step: StepIndex, row: &SetAside) -> Result<bool, RecordError> {
        // A later sweep meets a row again that is set aside already: it is counted once.
        let is_new = sqlx::query_scalar(
            "WITH aside AS (SELECT FROM howdah.quarantine \
                 WHERE run = $1 AND step = $2 AND part = $3 AND key = $4 AND resolved_at IS NULL) \
             INSERT INTO howdah.quarantine AS q (run, step, part, key, row_data, sqlstate, message) \
             VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7) ON CONFLICT (run, step, part, key) DO UPDATE SET \
                 row_data = coalesce(excluded.row_data, q.row_data), sqlstate = excluded.sqlstate, \
                 message = excluded.message, attempts = q.attempts + 1, at = now(), resolved_at = NULL \
             RETURNING NOT EXISTS (SELECT FROM aside)",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(row.part.as_deref().unwrap_or_default())
        .bind(&row.key)
        .bind(&row.row)
        .bind(&row.sqlstate)
        .bind(row.message.replace('\0', ""))
        .fetch_one(tx)
        .await?;
        Ok(is_new)
    }

    async fn hold(&self, tx: &mut PgConnection) -> Result<(), RecordError> {
        let ours = sqlx::query("SELECT FROM howdah.run WHERE id = $1 AND epoch = $2 FOR SHARE")
            .bind(self.run.0)
            .bind(self.epoch)
            .execute(tx)
            .await?;
        one(&ours)
    }

    async fn claim(&self, tx: &mut PgConnection, row: &AsideRow) -> Result<bool, RecordError> {
        self.hold(tx).await?;
        let held = sqlx::query(
            "SELECT FROM howdah.quarantine \
             WHERE run = $1 AND step = $2 AND part = $3 AND key = $4 AND resolved_at IS NULL FOR UPDATE",
        )
        .bind(self.run.0)
        .bind(number(row.step.0))
        .bind(row.part.as_deref().unwrap_or_default())
        .bind(&row.key)
        .execute(tx)
        .await?;
        Ok(held.rows_affected() == 1)
    }

    async fn kept(&self, tx: &mut PgConnection, row: &AsideRow) -> Result<Option<String>, RecordError> {
        let kept: Option<Option<String>> = sqlx::query_scalar(
            "SELECT row_data::text FROM howdah.quarantine WHERE run = $1 AND step = $2 AND part = $3 AND key = $4",
        )
        .bind(self.run.0)
        .bind(number(row.step.0))
        .bind(row.part.as_deref().unwrap_or_default())
        .bind(&row.key)
        .fetch_optional(tx)
        .await?;
        Ok(kept.flatten())
    }

    async fn resolve(&self, tx: &mut PgConnection, row: &AsideRow, resolution: &Resolution) -> Result<(), RecordError> {
        let done = sqlx::query(
            "UPDATE howdah.quarantine SET resolved_at = now(), attempts = attempts + $5, \
                    message = coalesce($6::text || '; it was: ', '') || message \
             WHERE run = $1 AND step = $2 AND part = $3 AND key = $4 AND resolved_at IS NULL",
        )
        .bind(self.run.0)
        .bind(number(row.step.0))
        .bind(row.part.as_deref().unwrap_or_default())
        .bind(&row.key)
        .bind(i32::from(resolution.word.is_none()))
        .bind(resolution.word)
        .execute(&mut *tx)
        .await?;
        one(&done)?;
        // The sums over a step's segments are what the step has done. Which segment counts it does not matter to them; one
        // at its end is in no worker's way.
        sqlx::query(
            "UPDATE howdah.segment g SET quarantined = g.quarantined - 1, rows_changed = g.rows_changed + $4, \
                    still_matching = g.still_matching + $5 \
             FROM (SELECT sweep, segment FROM howdah.segment WHERE run = $1 AND step = $2 AND quarantined > 0 \
                   ORDER BY part IS NOT DISTINCT FROM $3 DESC, done DESC, sweep, segment LIMIT 1) one \
             WHERE g.run = $1 AND g.step = $2 AND g.sweep = one.sweep AND g.segment = one.segment",
        )
        .bind(self.run.0)
        .bind(number(row.step.0))
        .bind(&row.part)
        .bind(rows(resolution.tally.changed))
        .bind(rows(resolution.tally.still_matching))
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn aside_page(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
        part: &str,
        after: Option<&KeyText>,
        most: u32,
    ) -> Result<Vec<(KeyText, Option<String>)>, RecordError> {
        let rows = sqlx::query_as(
            "SELECT key, row_data::text FROM howdah.quarantine WHERE run = $1 AND step = $2 AND part = $3 \
                AND resolved_at IS NULL \
                AND ($4::text[] IS NULL OR (length(key[1]), key) > (length($4[1]), $4)) \
             ORDER BY length(key[1]), key LIMIT $5",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(part)
        .bind(after)
        .bind(i64::from(most))
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    async fn set_aside_of(&self, connection: &mut PgConnection, step: StepIndex) -> Result<u64, RecordError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM howdah.quarantine WHERE run = $1 AND step = $2 AND resolved_at IS NULL",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .fetch_one(connection)
        .await?;
        Ok(count.max(0).cast_unsigned())
    }

    async fn set_aside_in_all(&self, connection: &mut PgConnection) -> Result<u64, RecordError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM howdah.quarantine WHERE run = $1 AND resolved_at IS NULL")
                .bind(self.run.0)
                .fetch_one(connection)
                .await?;
        Ok(count.max(0).cast_unsigned())
    }

    async fn files(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
        paths: &[String],
    ) -> Result<Vec<FileRow>, RecordError> {
        files::of_paths(connection, run, step, paths).await
    }

    async fn replaced_by(
        &self,
        connection: &mut PgConnection,
        run: RunId,
        step: StepIndex,
    ) -> Result<Vec<String>, RecordError> {
        files::replaced_by(connection, run, step).await
    }

    async fn write_files(&self, tx: &mut PgConnection, step: StepIndex, files: &[FileRow]) -> Result<(), RecordError> {
        files::write(tx, self.run, self.epoch, step, files).await
    }

    async fn step_done(
        &self,
        tx: &mut PgConnection,
        step: StepIndex,
        outcome: Option<&str>,
    ) -> Result<(), RecordError> {
        let done = sqlx::query(
            "UPDATE howdah.step s SET state = 'done', finished_at = now(), outcome = $4 \
             WHERE run = $1 AND step = $2 AND epoch = $3 AND state <> 'done'",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(self.epoch)
        .bind(outcome)
        .execute(&mut *tx)
        .await?;
        self.one_or_already(tx, &done).await
    }

    async fn is_done(
        &self,
        connection: &mut PgConnection,
        step: StepIndex,
    ) -> Result<Option<Option<String>>, RecordError> {
        let outcome = sqlx::query_scalar(
            "SELECT outcome FROM howdah.step WHERE run = $1 AND step = $2 AND epoch = $3 AND state = 'done'",
        )
        .bind(self.run.0)
        .bind(number(step.0))
        .bind(self.epoch)
        .fetch_optional(connection)
        .await?;
        Ok(outcome)
    }

    async fn step_cleaned(&self, tx: &mut PgConnection, step: StepIndex) -> Result<(), RecordError> {
        let done = sqlx::query("UPDATE howdah.step SET cleaned_at = now() WHERE run = $1 AND step = $2 AND epoch = $3 AND cleaned_at IS NULL")
            .bind(self.run.0)
            .bind(number(step.0))
            .bind(self.epoch)
            .execute(&mut *tx)
            .await?;
        self.one_or_already(tx, &done).await
    }
}

pub(super) fn segment(row: &PgRow) -> Result<Segment, sqlx::Error> {
    let count = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    let small = |name: &str| row.try_get::<i32, _>(name).map(|n| n.max(0).cast_unsigned());
    Ok(Segment {
        sweep: small("sweep")?,
        no: SegmentNo(small("segment")?),
        part: row.try_get("part")?,
        lower: row.try_get("lower_key")?,
        upper: row.try_get("upper_key")?,
        cursor: row.try_get("cursor_key")?,
        done: row.try_get("done")?,
        tally: Tally {
            walked: count("rows_walked")?,
            changed: count("rows_changed")?,
            still_matching: count("still_matching")?,
            batches: count("batches")?,
            quarantined: count("quarantined")?,
            bytes: count("bytes")?,
        },
        output: row.try_get("output")?,
    })
}
