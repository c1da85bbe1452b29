//! What outlives the driver of a run: the samples of its course, and its summary. Written by the relay, on its connection.
//!
//! What the server does not take is kept here meanwhile, in as few samples as the ledger would hold.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use super::dossier;
use crate::run::sample::{Change, Course, SAMPLES, Sample};
use crate::run::summary::{Summary, ThisDriver};
use crate::run::{RunId, Snapshot, human};

/// Between two writes of samples.
const EVERY: Duration = Duration::from_secs(5);
/// Between two writes of the summary; it is also written when the run's state has changed, or it has begun to wait.
const SUMMARY: Duration = Duration::from_secs(10);
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(20);
/// Seconds by which a clock may be behind without a word: hosts never quite agree.
const BEHIND: i64 = 3;

/// The diary of a run.
pub struct Diary {
    run: RunId,
    driver: ThisDriver,
    most: usize,
    course: Course,
    summary: Summary,
    /// Whether what earlier drivers have left was taken in.
    read: bool,
    /// The last second that was taken in.
    last: i64,
    due: Instant,
    summary_due: Instant,
    /// The word of the state that the summary was last brought up to date under, and whether batches waited.
    state: (&'static str, bool),
    /// Whether it was told that nothing can be written.
    told: bool,
    /// Whether it was told that this host's clock is behind.
    told_behind: bool,
}

impl Diary {
    /// The diary of a run that this process drives under `epoch`.
    #[must_use]
    pub fn new(run: RunId, epoch: i64) -> Self {
        Self::holding(run, epoch, SAMPLES)
    }

    /// A diary of at most `most` samples.
    #[must_use]
    pub fn holding(run: RunId, epoch: i64, most: usize) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let now = Instant::now();
        Self {
            run,
            driver: ThisDriver { epoch, pid: std::process::id(), version },
            most,
            course: Course::new(Vec::new(), most),
            summary: Summary::default(),
            read: false,
            last: i64::MIN,
            due: now,
            summary_due: now,
            state: ("", false),
            told: false,
            told_behind: false,
        }
    }

    /// Takes in the seconds that have passed since it was told last: also those that nobody could be told of meanwhile.
    pub fn take(&mut self, snapshot: &Snapshot) {
        let seconds = &snapshot.history.seconds;
        let newest = seconds.back().map(|point| point.at);
        let is_new = newest.is_some_and(|newest| newest > self.last);
        if !is_new && !snapshot.state.is_over() {
            return;
        }
        for point in seconds.iter().filter(|point| point.at > self.last) {
            let known = Some(snapshot).filter(|_| Some(point.at) == newest);
            self.course.push(Sample::of(point, known));
        }
        self.last = newest.map_or(self.last, |newest| newest.max(self.last));
        let state = (snapshot.state.word(), snapshot.pace.hold.is_some());
        if std::mem::replace(&mut self.state, state) != state {
            self.summary_due = Instant::now();
            self.due = self.due.min(self.summary_due);
        }
        self.summary.take(snapshot, &self.driver);
    }

    /// Whether something is to be written.
    #[must_use]
    pub fn is_due(&self, is_over: bool) -> bool {
        is_over || Instant::now() >= self.due
    }

    /// Writes what has changed; with `is_over` all of it, and waits for the disk.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn write(&mut self, connection: &mut PgConnection, is_over: bool) -> Result<(), sqlx::Error> {
        if !self.read {
            self.read(connection).await?;
        }
        if is_over {
            sqlx::query("SET synchronous_commit = on").execute(&mut *connection).await?;
        }
        if let Some(change) = self.course.change() {
            write_samples(connection, self.run, self.driver.epoch, &change).await?;
            self.course.written();
        }
        self.tell_behind();
        let now = Instant::now();
        if is_over || now >= self.summary_due {
            write_summary(connection, self.run, self.driver.epoch, &self.summary).await?;
            self.summary_due = now + SUMMARY;
        }
        self.due = now + EVERY;
        self.told = false;
        Ok(())
    }

    /// It could not be written: told once, and tried again later.
    pub fn fail(&mut self, e: &sqlx::Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("the course of this run is not kept for its report: {e}");
        }
        self.due = Instant::now() + AGAIN;
    }

    /// A driver elsewhere may have been ahead, or this clock was put back.
    fn tell_behind(&mut self) {
        let behind = self.course.shift();
        if behind >= BEHIND && !std::mem::replace(&mut self.told_behind, true) {
            let behind = human::rough_duration(Duration::from_secs(behind.cast_unsigned()));
            tracing::warn!(
                "the clock of this host is {behind} behind what is kept of this run: its course goes on after that, at later times"
            );
        }
    }

    /// Goes on where earlier drivers have left off.
    async fn read(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut course = Course::new(dossier::samples(connection, self.run).await?, self.most);
        for sample in self.course.samples() {
            course.push(sample.clone());
        }
        let mut summary = dossier::summary(connection, self.run).await?.unwrap_or_default();
        summary.join(std::mem::take(&mut self.summary));
        (self.course, self.summary, self.read) = (course, summary, true);
        Ok(())
    }
}

/// Writes samples, as one statement: whoever reads meanwhile finds the old ones or the new ones. A driver that was replaced
/// writes nothing.
async fn write_samples(
    connection: &mut PgConnection,
    run: RunId,
    epoch: i64,
    change: &Change,
) -> Result<(), sqlx::Error> {
    let rows = serde_json::to_string(&change.samples).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    // Rows that stay are not touched by the DELETE: one statement must not change a row twice.
    sqlx::query(
        "WITH new AS MATERIALIZED ( \
             SELECT to_timestamp(n.at) AS at, n.step, n.seen, n.rate, n.batch_ms, n.worst_ms, n.lag, n.dead, n.cpu, n.memory, \
                    n.rss, n.workers, n.paused_s, n.waits_s, n.waits, n.alert \
             FROM json_to_recordset($3::json) AS n (at int8, step int4, seen int4, rate float4, batch_ms float4, \
                    worst_ms float4, lag float4, dead float4, cpu float4, memory float4, rss float4, workers int2, \
                    paused_s int4, waits_s int4, waits text, alert text) \
             WHERE EXISTS (SELECT FROM howdah.run WHERE id = $1 AND epoch = $2)), \
         gone AS (DELETE FROM howdah.sample s WHERE s.run = $1 AND s.step < $4 AND EXISTS (SELECT FROM new) \
                  AND s.at NOT IN (SELECT at FROM new)) \
         INSERT INTO howdah.sample AS s (run, at, step, seen, rate, batch_ms, worst_ms, lag, dead, cpu, memory, rss, workers, \
                paused_s, waits_s, waits, alert) \
         SELECT $1, new.* FROM new \
         ON CONFLICT (run, at) DO UPDATE SET step = excluded.step, seen = excluded.seen, rate = excluded.rate, \
                batch_ms = excluded.batch_ms, worst_ms = excluded.worst_ms, lag = excluded.lag, dead = excluded.dead, \
                cpu = excluded.cpu, memory = excluded.memory, rss = excluded.rss, workers = excluded.workers, \
                paused_s = excluded.paused_s, waits_s = excluded.waits_s, \
                waits = excluded.waits, alert = excluded.alert",
    )
    .bind(run.0)
    .bind(epoch)
    .bind(rows)
    .bind(change.below.map_or(0, |below| i32::try_from(below).unwrap_or(i32::MAX)))
    .execute(connection)
    .await
    .map(drop)
}

async fn write_summary(
    connection: &mut PgConnection,
    run: RunId,
    epoch: i64,
    summary: &Summary,
) -> Result<(), sqlx::Error> {
    let text = serde_json::to_string(summary).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    sqlx::query(
        "INSERT INTO howdah.summary AS s (run, epoch, at, summary) \
         SELECT $1, $2, clock_timestamp(), $3::jsonb WHERE EXISTS (SELECT FROM howdah.run WHERE id = $1 AND epoch = $2) \
         ON CONFLICT (run) DO UPDATE SET epoch = excluded.epoch, at = excluded.at, summary = excluded.summary \
         WHERE s.epoch <= excluded.epoch",
    )
    .bind(run.0)
    .bind(epoch)
    .bind(text)
    .execute(connection)
    .await
    .map(drop)
}
