//! The history of runs in a database: one line each, by one query. Nothing is written.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::read::RunRecord;
use super::runs::{HOLDS, OF_RUN};
use crate::postgres::error;
use crate::run::{Cause, Guarantee, RunId};

/// Which runs are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// Of this name. `None`: of any.
    pub name: Option<String>,
    /// That began no longer ago. `None`: whenever.
    pub since: Option<Duration>,
    /// How many at most, the newest.
    pub most: u16,
}

/// A run of the past, or one under way.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// Its id.
    pub run: RunId,
    /// Its name. Not cleaned.
    pub name: String,
    /// The word in the ledger.
    pub word: String,
    /// Whether a driver holds its lock at this moment.
    pub driven: bool,
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// Time at work.
    pub worked: Duration,
    /// Time in pause.
    pub paused: Duration,
    /// Rows walked.
    pub walked: u64,
    /// Rows changed.
    pub changed: u64,
    /// Rows set aside.
    pub quarantined: u64,
    /// Batches tried again.
    pub retries: u64,
    /// Rows walked a second of work, over the steps that walk.
    pub rows_per_second: Option<f64>,
    /// The hosts that drove it, each once; the last driver's where no more is known. Not cleaned.
    pub hosts: Vec<String>,
    /// What it promises of each row.
    pub guarantee: Guarantee,
}

/// The runs that are sought, the newest first.
///
/// # Errors
/// The ledger cannot be read.
pub async fn runs(connection: &mut PgConnection, sought: &Sought) -> Result<Vec<PastRun>, Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the ledger", &e);
    if !super::migrate::exists(connection).await.map_err(failed)? {
        return Ok(Vec::new());
    }
    find(connection, sought).await.map_err(failed)
}

async fn find(connection: &mut PgConnection, sought: &Sought) -> Result<Vec<PastRun>, sqlx::Error> {
    let knows: bool =
        sqlx::query_scalar("SELECT to_regclass('howdah.summary') IS NOT NULL").fetch_one(&mut *connection).await?;
    let hosts = if knows {
        "(SELECT array_agg(DISTINCT d ->> 'host') FROM howdah.summary m, jsonb_array_elements(m.summary -> 'drivers') d \
          WHERE m.run = r.id)"
    } else {
        "NULL::text[]"
    };
    let sql = format!(
        "SELECT r.id, r.plan_name, r.state, EXISTS (SELECT FROM pg_locks l WHERE {HOLDS} {OF_RUN}) AS driven, r.created_at, \
                r.finished_at, r.worked_ms, r.paused_ms, r.driver_host, {hosts} AS hosts, coalesce(t.walked, 0)::int8 AS walked, \
                coalesce(t.changed, 0)::int8 AS changed, coalesce(t.quarantined, 0)::int8 AS quarantined, \
                coalesce(t.retries, 0)::int8 AS retries, coalesce(t.walk_ms, 0)::int8 AS walk_ms \
         FROM (SELECT * FROM howdah.run WHERE ($1::text IS NULL OR plan_name = $1) \
                   AND ($2::float8 IS NULL OR created_at > now() - make_interval(secs => $2)) \
                   ORDER BY created_at DESC LIMIT $3) r \
         LEFT JOIN LATERAL (SELECT sum(g.walked) AS walked, sum(g.changed) AS changed, sum(g.quarantined) AS quarantined, \
                   sum(s.retries) AS retries, sum(s.worked_ms) FILTER (WHERE g.walked > 0) AS walk_ms \
             FROM howdah.step s LEFT JOIN LATERAL (SELECT sum(rows_walked) AS walked, sum(rows_changed) AS changed, \
                   sum(quarantined) AS quarantined FROM howdah.segment g WHERE g.run = s.run AND g.step = s.step) g ON true \
             WHERE s.run = r.id) t ON true \
         ORDER BY r.created_at DESC"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(sought.name.as_deref())
        .bind(sought.since.map(|since| since.as_secs_f64()))
        .bind(i64::from(sought.most))
        .fetch_all(connection)
        .await?;
    rows.iter().map(past).collect()
}

fn past(row: &PgRow) -> Result<PastRun, sqlx::Error> {
    let count = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    let ms = |name: &str| count(name).map(Duration::from_millis);
    let walked = count("walked")?;
    let hosts: Option<Vec<String>> = row.try_get("hosts")?;
    let last: String = row.try_get("driver_host")?;
    Ok(PastRun {
        run: RunId(row.try_get("id")?),
        name: row.try_get("plan_name")?,
        word: row.try_get("state")?,
        driven: row.try_get("driven")?,
        began: row.try_get("created_at")?,
        ended: row.try_get("finished_at")?,
        worked: ms("worked_ms")?,
        paused: ms("paused_ms")?,
        walked,
        changed: count("changed")?,
        quarantined: count("quarantined")?,
        retries: count("retries")?,
        rows_per_second: per_second(walked, ms("walk_ms")?),
        hosts: hosts.filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| vec![last]),
        guarantee: Guarantee::ExactlyOnce,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate made from a row count")]
fn per_second(rows: u64, time: Duration) -> Option<f64> {
    (rows > 0 && !time.is_zero()).then(|| rows as f64 / time.as_secs_f64())
}

impl Sought {
    /// Whether a run of that name that began then is one of them.
    #[must_use]
    pub fn takes(&self, name: &str, began: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        // A run from a host whose clock is ahead began no time ago.
        let young = |since: Duration| (now - began).to_std().unwrap_or_default() <= since;
        self.name.as_ref().is_none_or(|sought| sought == name) && self.since.is_none_or(young)
    }
}

impl PastRun {
    /// Of a run that was read in full: one whose ledger lies on Redis.
    #[must_use]
    pub fn of(record: &RunRecord) -> Self {
        let snapshot = &record.snapshot;
        let report = crate::run::report::Report::of(snapshot);
        Self {
            run: record.run,
            name: snapshot.plan.clone(),
            word: record.word.clone(),
            driven: record.driven,
            began: snapshot.started_at.unwrap_or(snapshot.now),
            ended: record.finished_at,
            worked: snapshot.spent.worked,
            paused: snapshot.spent.paused,
            walked: report.rows_walked,
            changed: report.rows_changed,
            quarantined: report.quarantined,
            retries: report.retries,
            rows_per_second: report.rows_per_second,
            hosts: vec![snapshot.host.clone()],
            guarantee: snapshot.guarantee,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_sought_by_their_name_and_by_when_they_began() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let sought = |name: Option<&str>, since: Option<u64>| Sought {
            name: name.map(str::to_owned),
            since: since.map(Duration::from_secs),
            most: 1,
        };
        let table = [
            (sought(None, None), true),
            (sought(Some("users"), None), true),
            (sought(Some("user"), None), false),
            (sought(None, Some(100)), true),
            (sought(None, Some(99)), false),
            (sought(Some("tags"), Some(1000)), false),
        ];
        for (sought, expected) in table {
            assert_eq!(sought.takes("users", at(900), at(1000)), expected, "{sought:?}");
        }
        assert!(sought(None, Some(5)).takes("users", at(1001), at(1000)));
    }
}
