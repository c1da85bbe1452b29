//! Taking a run: making a new one, or taking over one that stands still.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::redis::notes::Notes;
use super::{commands, runs};
use crate::plan::model::Plan;
use crate::postgres::error;
use crate::run::timer::Spent;
use crate::run::{Cause, RunId, RunState, StepIndex, StepState, StepView, Waited, human};

/// Who drives: this process.
#[derive(Debug, Clone)]
pub struct Driver {
    /// The host's name.
    pub host: String,
    /// The process id.
    pub pid: u32,
}

/// A run that this process has the lock on.
#[derive(Debug)]
pub struct Taken {
    /// Its id.
    pub run: RunId,
    /// The epoch to write under.
    pub epoch: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What earlier drivers have spent.
    pub spent: Spent,
    /// Time that earlier drivers have lost to waiting, by reason.
    pub waited: Vec<Waited>,
    /// Rows that are set aside now.
    pub set_aside: u64,
    /// Its steps as the ledger knows them.
    pub steps: Vec<StepRecord>,
    /// Whether a driver had it before.
    pub resumed: bool,
    /// Where it is written down, where that is Redis.
    pub notes: Option<Notes>,
}

/// A step as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// What is shown of it.
    pub view: StepView,
    /// What it did when the run began.
    pub fingerprint: String,
    /// Whether its clean-up has run.
    pub cleaned: bool,
}

/// A run that is to be made.
pub struct Draft<'a> {
    /// Its id.
    pub run: RunId,
    /// Its name: the plan's, or that of what is taken back.
    pub name: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// Its steps: name, kind, fingerprint.
    pub steps: Vec<(String, &'static str, String)>,
    /// The run that it takes back, and the one step of it where not all are meant.
    pub undoes: Option<(RunId, Option<String>)>,
    /// The tables that it changes, quoted, with their schemas.
    pub tables: Vec<String>,
}

/// Makes a run, and locks it. `connection` must stay open as long as the run is driven: its session holds the lock.
///
/// # Errors
/// A run of the same plan is being driven, or stands unfinished and `anew` is not set.
pub async fn create(
    connection: &mut PgConnection,
    draft: &Draft<'_>,
    driver: &Driver,
    anew: bool,
) -> Result<Taken, Cause> {
    let Draft { run, name, plan, steps: drafts, undoes, tables } = draft;
    let run = *run;
    let failed = |e: sqlx::Error| error::cause("writing the run into the ledger", &e);
    let mut tx = connection.begin().await.map_err(failed)?;
    expect_free(&mut tx, draft, anew).await?;
    let detail = serde_json::to_value(RunState::Starting).map_err(|e| Cause::bug(e.to_string()))?;
    let insert = async {
        sqlx::query(
            "UPDATE howdah.run SET state = 'superseded', finished_at = coalesce(finished_at, now()), epoch = epoch + 1 \
             WHERE plan_name = $1 AND state NOT IN ('done', 'superseded')",
        )
        .bind(name)
        .execute(&mut *tx)
        .await?;
        // A driver of one of them may live without its lock, cut off: its next commit finds its epoch gone.
        for (table, epoch) in [("step", "epoch + 1"), ("segment", NOBODYS)] {
            let fence = format!(
                "UPDATE howdah.{table} SET epoch = {epoch} WHERE run IN (SELECT id FROM howdah.run \
                 WHERE plan_name = $1 AND state = 'superseded')"
            );
            sqlx::query(AssertSqlSafe(fence)).bind(name).execute(&mut *tx).await?;
        }
        let created_at: DateTime<Utc> = sqlx::query_scalar(
            "INSERT INTO howdah.run (id, plan_name, plan_path, plan_source, fingerprint, state, detail, driver_host, \
                    driver_pid, driver_version, undoes, undo_step, tables) \
             VALUES ($1, $2, $3, $4, $5, 'starting', $6, $7, $8, $9, $10, $11, $12) \
             RETURNING created_at",
        )
        .bind(run.0)
        .bind(name)
        .bind(plan.source.path.as_ref().map(|path| path.display().to_string()))
        .bind(plan.source.redacted())
        .bind(plan.fingerprint())
        .bind(detail)
        .bind(&driver.host)
        .bind(i32::try_from(driver.pid).unwrap_or(0))
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(undoes.as_ref().map(|(undone, _)| undone.0))
        .bind(undoes.as_ref().and_then(|(_, step)| step.as_deref()))
        .bind(tables)
        .fetch_one(&mut *tx)
        .await?;
        if let Some((undone, _)) = undoes {
            give_up(&mut tx, *undone).await?;
        }
        for (index, (name, kind, fingerprint)) in (0_i32..).zip(drafts) {
            sqlx::query("INSERT INTO howdah.step (run, step, name, kind, fingerprint) VALUES ($1, $2, $3, $4, $5)")
                .bind(run.0)
                .bind(index)
                .bind(name)
                .bind(kind)
                .bind(fingerprint)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("SELECT pg_advisory_lock($1)").bind(run.advisory_key()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(created_at)
    };
    let created_at = insert.await.map_err(failed)?;
    let steps = steps(connection, run).await.map_err(failed)?;
    Ok(Taken {
        run,
        epoch: 1,
        created_at,
        spent: Spent::default(),
        waited: Vec::new(),
        set_aside: 0,
        steps,
        resumed: false,
        notes: None,
    })
}

/// Whether a run may begin: none of its plan is driven or, unless `anew` is set, stands unfinished; and no other one changes
/// its tables. Whoever comes next waits until the transaction ends.
async fn expect_free(tx: &mut PgConnection, draft: &Draft<'_>, anew: bool) -> Result<(), Cause> {
    let Draft { run, name, undoes, tables, .. } = draft;
    let failed = |e: sqlx::Error| error::cause("writing the run into the ledger", &e);
    runs::line_up(tx).await.map_err(failed)?;
    // Two `run` of one plan at the same moment: the second waits here, and then sees the first.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('howdah run ' || $1, 0))")
        .bind(name)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let unfinished = sqlx::query(
        "SELECT id, driver_host, driver_pid, state, now() - heartbeat AS age, \
                extract(epoch FROM now() - heartbeat)::float8 AS age_seconds FROM howdah.run \
         WHERE plan_name = $1 AND state NOT IN ('done', 'superseded') ORDER BY created_at DESC",
    )
    .bind(name)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    for row in &unfinished {
        let id = RunId(row.try_get("id").map_err(failed)?);
        if runs::is_driven(&mut *tx, id).await.map_err(failed)? {
            return Err(driven(name, id, row));
        }
        if !anew {
            let state: String = row.try_get("state").map_err(failed)?;
            return Err(unfinished_run(name, id, &state));
        }
    }
    let but: Vec<_> = std::iter::once(run.0).chain(undoes.iter().map(|(undone, _)| undone.0)).collect();
    if let Some(other) = runs::in_the_way(&mut *tx, tables, &but, Some(name)).await.map_err(failed)? {
        return Err(in_the_way(&other));
    }
    runs::cut_off(tx, tables, &but).await.map_err(failed)?;
    Ok(())
}

/// The mark of a segment that nobody may move: another driver's epoch plus one could be a member's, below zero.
const NOBODYS: &str = "0";

/// A run that is taken back cannot go on any more: whoever drives it without its lock is refused.
async fn give_up(tx: &mut PgConnection, run: RunId) -> Result<(), sqlx::Error> {
    for sql in [
        "UPDATE howdah.run SET epoch = epoch + 1, finished_at = coalesce(finished_at, now()), \
                state = CASE state WHEN 'done' THEN state ELSE 'superseded' END WHERE id = $1",
        "UPDATE howdah.step SET epoch = epoch + 1 WHERE run = $1",
        "UPDATE howdah.segment SET epoch = 0 WHERE run = $1",
    ] {
        sqlx::query(sql).bind(run.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Files that a step of a run has replaced, or may have.
///
/// # Errors
/// The driver's error.
pub async fn replaced_files(connection: &mut PgConnection, run: RunId, step: StepIndex) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM howdah.file WHERE run = $1 AND step = $2 AND state IN ('replaced', 'intended')",
    )
    .bind(run.0)
    .bind(i32::try_from(step.0).unwrap_or(i32::MAX))
    .fetch_one(connection)
    .await?;
    Ok(count.max(0).cast_unsigned())
}

/// Takes over a run that nobody drives, and raises its epoch.
///
/// # Errors
/// Somebody drives it: host, pid and age of the heartbeat. It has ended well.
pub async fn resume(connection: &mut PgConnection, run: RunId, driver: &Driver) -> Result<Taken, Cause> {
    let failed = |e: sqlx::Error| error::cause("taking the run over", &e);
    let locked = runs::try_lock(connection, run).await.map_err(failed)?;
    let row = sqlx::query(
        "SELECT plan_name, state, driver_host, driver_pid, created_at, worked_ms, paused_ms, waited, \
                (SELECT count(*) FROM howdah.quarantine q WHERE q.run = r.id AND q.resolved_at IS NULL) AS set_aside, \
                extract(epoch FROM now() - heartbeat)::float8 AS age_seconds FROM howdah.run r WHERE id = $1",
    )
    .bind(run.0)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let name: String = row.try_get("plan_name").map_err(failed)?;
    if !locked {
        return Err(driven(&name, run, &row));
    }
    let state: String = row.try_get("state").map_err(failed)?;
    if state == "done" || state == "superseded" {
        return Err(nothing_to_resume(&name, run, &state));
    }
    let take = async {
        let mut tx = connection.begin().await?;
        runs::line_up(&mut tx).await?;
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT tables FROM howdah.run WHERE id = $1").bind(run.0).fetch_one(&mut *tx).await?;
        if let Some(other) = runs::in_the_way(&mut tx, &tables, &[run.0], None).await? {
            return Ok(Err(in_the_way(&other)));
        }
        runs::cut_off(&mut tx, &tables, &[run.0]).await?;
        let epoch: Option<i64> = sqlx::query_scalar(
            "UPDATE howdah.run SET epoch = epoch + 1, driver_host = $2, driver_pid = $3, driver_version = $4, \
                    heartbeat = now() WHERE id = $1 AND state NOT IN ('done', 'superseded') RETURNING epoch",
        )
        .bind(run.0)
        .bind(&driver.host)
        .bind(i32::try_from(driver.pid).unwrap_or(0))
        .bind(env!("CARGO_PKG_VERSION"))
        .fetch_optional(&mut *tx)
        .await?;
        // These wait for a batch of the former driver that is still on its way to commit; one that comes later finds
        // its epoch gone.
        sqlx::query("UPDATE howdah.step SET epoch = $2 WHERE run = $1")
            .bind(run.0)
            .bind(epoch)
            .execute(&mut *tx)
            .await?;
        // Whoever has joined the run is cut off by this as well, and joins again.
        sqlx::query("UPDATE howdah.segment SET epoch = $2, is_taken = false WHERE run = $1 AND NOT done")
            .bind(run.0)
            .bind(epoch)
            .execute(&mut *tx)
            .await?;
        commands::refuse_old(&mut tx, run).await?;
        tx.commit().await?;
        Ok(Ok(epoch))
    };
    // A `run --new` may have come between the look at the state and this.
    let Some(epoch) = take.await.map_err(failed)?? else { return Err(nothing_to_resume(&name, run, "superseded")) };
    let ms = |name: &str| row.try_get::<i64, _>(name).map(|n| Duration::from_millis(n.max(0).cast_unsigned()));
    Ok(Taken {
        run,
        epoch,
        created_at: row.try_get("created_at").map_err(failed)?,
        spent: Spent { worked: ms("worked_ms").map_err(failed)?, paused: ms("paused_ms").map_err(failed)? },
        waited: waited(&row.try_get("waited").map_err(failed)?),
        set_aside: row.try_get::<i64, _>("set_aside").map_err(failed)?.max(0).cast_unsigned(),
        steps: steps(connection, run).await.map_err(failed)?,
        resumed: true,
        notes: None,
    })
}

/// Time lost to waiting, as the ledger keeps it: reason -> milliseconds. The most first.
#[must_use]
pub fn waited(kept: &serde_json::Value) -> Vec<Waited> {
    let entries = kept.as_object().into_iter().flatten();
    let mut waited: Vec<Waited> = entries
        .map(|(reason, ms)| Waited {
            reason: reason.clone(),
            time: Duration::from_millis(ms.as_u64().unwrap_or_default()),
        })
        .collect();
    waited.sort_by_key(|waited| std::cmp::Reverse(waited.time));
    waited
}

/// The plan that a run was made from, as the ledger keeps it.
#[derive(Debug, Clone)]
pub struct StoredPlan {
    /// Its name.
    pub name: String,
    /// Where it lay.
    pub path: Option<String>,
    /// Its text, passwords replaced.
    pub source: String,
}

/// Reads the plan of a run.
///
/// # Errors
/// The driver's error.
pub async fn stored_plan(connection: &mut PgConnection, run: RunId) -> Result<StoredPlan, Cause> {
    let failed = |e: sqlx::Error| error::cause("reading the run's plan", &e);
    let row = sqlx::query("SELECT plan_name, plan_path, plan_source FROM howdah.run WHERE id = $1")
        .bind(run.0)
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    Ok(StoredPlan {
        name: row.try_get("plan_name").map_err(failed)?,
        path: row.try_get("plan_path").map_err(failed)?,
        source: row.try_get("plan_source").map_err(failed)?,
    })
}

/// The steps of a run, with what their segments add up to.
///
/// # Errors
/// The driver's error.
pub async fn steps(connection: &mut PgConnection, run: RunId) -> Result<Vec<StepRecord>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT s.name, s.kind, s.fingerprint, s.state, s.worked_ms, s.paused_ms, s.ended_after_ms, s.outcome, \
                s.cleaned_at IS NOT NULL AS cleaned, coalesce(g.walked, 0)::int8 AS walked, \
                coalesce(g.changed, 0)::int8 AS changed, coalesce(g.batches, 0)::int8 AS batches, \
                coalesce(g.quarantined, 0)::int8 AS quarantined, s.retries, s.waited_ms, s.churn \
         FROM howdah.step s LEFT JOIN LATERAL (SELECT sum(rows_walked) AS walked, sum(rows_changed) AS changed, \
                sum(batches) AS batches, sum(quarantined) AS quarantined FROM howdah.segment g WHERE g.run = s.run AND g.step = s.step) g ON true \
         WHERE s.run = $1 ORDER BY s.step",
    )
    .bind(run.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(step).collect()
}

fn step(row: &PgRow) -> Result<StepRecord, sqlx::Error> {
    let count = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0).cast_unsigned());
    let state: String = row.try_get("state")?;
    let cleaned: bool = row.try_get("cleaned")?;
    Ok(StepRecord {
        view: StepView {
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            state: StepState::from_word(&state).unwrap_or(StepState::Waiting),
            spent: Spent {
                worked: Duration::from_millis(count("worked_ms")?),
                paused: Duration::from_millis(count("paused_ms")?),
            },
            ended_after: row
                .try_get::<Option<i64>, _>("ended_after_ms")?
                .map(|n| Duration::from_millis(n.max(0).cast_unsigned())),
            rows_walked: count("walked")?,
            rows_changed: count("changed")?,
            batches: count("batches")?,
            retries: count("retries")?,
            quarantined: count("quarantined")?,
            waited: Duration::from_millis(count("waited_ms")?),
            churn: row
                .try_get::<Option<serde_json::Value>, _>("churn")?
                .and_then(|churn| serde_json::from_value(churn).ok()),
            outcome: if cleaned { Some("cleaned up".to_owned()) } else { row.try_get("outcome")? },
        },
        fingerprint: row.try_get("fingerprint")?,
        cleaned,
    })
}

pub(super) fn nothing_to_resume(plan: &str, run: RunId, state: &str) -> Cause {
    Cause::usage(format!("run {} of `{plan}` is {state}: there is nothing to resume", run.short()))
        .hint(format!("see what it did: howdah report {}", run.short()))
}

pub(super) fn driven(plan: &str, run: RunId, row: &PgRow) -> Cause {
    let host: String = row.try_get("driver_host").unwrap_or_default();
    let pid: i32 = row.try_get("driver_pid").unwrap_or_default();
    let age: f64 = row.try_get("age_seconds").unwrap_or_default();
    driven_by(plan, run, (&host, pid), Duration::try_from_secs_f64(age).unwrap_or_default())
}

/// A run that process `pid` on `host` drives. `age`: since its last heartbeat.
pub(super) fn driven_by(plan: &str, run: RunId, (host, pid): (&str, i32), age: Duration) -> Cause {
    let age = human::rough_duration(age);
    Cause::new(format!(
        "run {} of `{plan}` is being driven by process {pid} on host {host}; its last heartbeat was {age} ago",
        run.short()
    ))
    .busy()
    .hint("watch it there; one run has one driver")
    .hint(format!(
        "if that process is gone, its lock goes with its session: try again, or see: howdah status {}",
        run.short()
    ))
    .busy()
}

/// Two plans never change one table at once: each would wait for the other's locks, and count the other's rows.
fn in_the_way(other: &runs::InTheWay) -> Cause {
    Cause::new(format!(
        "run {} of `{}` changes {}, driven by process {} on host {}: two plans never change one table at once",
        other.run.short(),
        other.plan,
        other.table.replace("\"public\".", "").replace('"', ""),
        other.pid,
        other.host
    ))
    .hint(format!("wait for it, or stop it: howdah stop {}", other.run.short()))
    .hint("`howdah enqueue PLAN` puts a plan into line")
    .busy()
}

pub(super) fn unfinished_run(plan: &str, run: RunId, state: &str) -> Cause {
    Cause::new(format!("run {} of `{plan}` is not finished (it was {state})", run.short()))
        .hint(format!("go on with it: howdah resume {}", run.short()))
        .hint("or begin from the first row, leaving it as it stands: add --new")
}
