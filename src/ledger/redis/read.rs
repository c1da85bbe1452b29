//! Runs on Redis, as they are shown: nothing is written, and no lock is taken.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::cmd;
use sqlx::postgres::PgConnection;

use super::book::RedisBook;
use super::keys::{Keys, of_step, row_of};
use super::record::{KeptRow, order, segments};
use crate::ledger::open::{StepRecord, waited};
use crate::ledger::past::Sought;
use crate::ledger::quarantine::Entry;
use crate::ledger::read::RunRecord;
use crate::ledger::runs;
use crate::postgres::error;
use crate::run::snapshot::EVENTS;
use crate::run::timer::Spent;
use crate::run::{Cause, Event, Guarantee, RunId, RunState, Snapshot, StepIndex, StepState, StepView, Tally};

/// A run's own hash.
#[derive(Debug, Clone, Default)]
pub struct Kept(HashMap<String, String>);

impl Kept {
    /// A field; empty where there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// A field that may be missing.
    #[must_use]
    pub fn maybe(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    fn number<N: std::str::FromStr + Default>(&self, field: &str) -> N {
        self.text(field).parse().unwrap_or_default()
    }

    fn time(&self, field: &str) -> Duration {
        Duration::from_millis(self.number(field))
    }

    /// A moment, which is kept in milliseconds since 1970.
    #[must_use]
    pub fn moment(&self, field: &str) -> Option<DateTime<Utc>> {
        self.maybe(field).and_then(|text| text.parse().ok()).and_then(DateTime::from_timestamp_millis)
    }

    /// The process that drives it, or was the last: host and number.
    #[must_use]
    pub fn driver(&self) -> (&str, i32) {
        (self.text("driver_host"), self.number("driver_pid"))
    }

    /// Whether it is done, or can never go on.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.text("state"), "done" | "superseded")
    }

    /// What its drivers have spent.
    #[must_use]
    pub fn spent(&self) -> Spent {
        Spent { worked: self.time("worked_ms"), paused: self.time("paused_ms") }
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.number("steps")
    }

    /// Since its last heartbeat.
    #[must_use]
    pub fn age(&self, now: DateTime<Utc>) -> Duration {
        self.moment("heartbeat").and_then(|beat| (now - beat).to_std().ok()).unwrap_or_default()
    }

    /// The state as its last driver wrote it. One that was superseded has ended for good.
    fn state(&self) -> RunState {
        let state: RunState = serde_json::from_str(self.text("detail")).unwrap_or(RunState::Starting);
        if self.text("state") != "superseded" || state.is_over() {
            return state;
        }
        let cause = Cause::new("a newer run of this plan has taken its place");
        RunState::Failed { at: self.moment("finished_at").unwrap_or_default(), cause, resumable: false }
    }
}

impl RedisBook {
    /// A run's own hash. `None`: there is no such run.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn kept(&self, run: RunId) -> Result<Option<Kept>, Cause> {
        let keys = self.keys(run);
        let fields: HashMap<String, String> = self.ask(cmd("HGETALL").arg(keys.run())).await?;
        Ok(Some(Kept(fields)).filter(|kept| !kept.0.is_empty()))
    }

    /// The server's time.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn now(&self) -> Result<DateTime<Utc>, Cause> {
        let (seconds, micros): (i64, u32) = self.ask(&cmd("TIME")).await?;
        Ok(DateTime::from_timestamp(seconds, micros.saturating_mul(1000)).unwrap_or_default())
    }

    /// The steps of a run, with what their segments add up to.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn steps(&self, keys: &Keys, count: u32) -> Result<Vec<StepRecord>, Cause> {
        let all: HashMap<String, String> = self.ask(cmd("HGETALL").arg(keys.steps())).await?;
        let mut steps = Vec::new();
        for step in (0..count).map(StepIndex) {
            let kept: Vec<String> = self.ask(cmd("HVALS").arg(keys.segments(step))).await?;
            let tally: Tally = segments(&kept)?.iter().map(|segment| segment.tally).sum();
            let text = |field: &str| all.get(&of_step(step, field)).cloned();
            let number = |field: &str| text(field).and_then(|text| text.parse::<u64>().ok());
            let time = |field: &str| number(field).map(Duration::from_millis);
            let cleaned = text("cleaned_at").is_some();
            let view = StepView {
                name: text("name").unwrap_or_default(),
                kind: text("kind").unwrap_or_default(),
                state: text("state").and_then(|word| StepState::from_word(&word)).unwrap_or(StepState::Waiting),
                spent: Spent {
                    worked: time("worked_ms").unwrap_or_default(),
                    paused: time("paused_ms").unwrap_or_default(),
                },
                ended_after: time("ended_after_ms"),
                rows_walked: tally.walked,
                rows_changed: tally.changed,
                batches: tally.batches,
                retries: number("retries").unwrap_or_default(),
                quarantined: tally.quarantined,
                waited: time("waited_ms").unwrap_or_default(),
                churn: text("churn").and_then(|churn| serde_json::from_str(&churn).ok()),
                outcome: if cleaned { Some("cleaned up".to_owned()) } else { text("outcome") },
            };
            steps.push(StepRecord { view, fingerprint: text("fingerprint").unwrap_or_default(), cleaned });
        }
        Ok(steps)
    }

    /// One run, as every reader of a run knows it. `connection` leads to its database: who holds its lock is known there.
    ///
    /// # Errors
    /// There is no such run; Redis or the database cannot be asked.
    pub async fn one(&self, connection: &mut PgConnection, run: RunId) -> Result<RunRecord, Cause> {
        let kept = self.kept(run).await?.ok_or_else(|| super::notes::gone(run, &self.label()))?;
        let (now, keys) = (self.now().await?, self.keys(run));
        let (host, pid) = kept.driver();
        let mut snapshot = Snapshot::starting(now, run.short(), kept.text("plan_name").to_owned(), host.to_owned());
        snapshot.guarantee = Guarantee::AtLeastOnce;
        snapshot.state = kept.state();
        snapshot.started_at = kept.moment("created_at");
        snapshot.spent = kept.spent();
        let lost = serde_json::from_str(kept.text("waited")).unwrap_or_default();
        snapshot.pace.waited = waited(&lost);
        snapshot.steps = self.steps(&keys, kept.steps()).await?.into_iter().map(|step| step.view).collect();
        let most = isize::try_from(EVENTS).unwrap_or(isize::MAX);
        let events: Vec<String> = self.ask(cmd("LRANGE").arg(keys.events()).arg(-most).arg(-1)).await?;
        snapshot.events =
            events.iter().filter_map(|line| serde_json::from_str::<Event>(line).ok()).collect::<VecDeque<_>>();
        snapshot.resume_command = format!("howdah resume {}", run.short());
        let driven =
            runs::is_driven(connection, run).await.map_err(|e| error::cause("looking who drives the run", &e))?;
        Ok(RunRecord {
            run,
            word: kept.text("state").to_owned(),
            driven,
            pid,
            heartbeat_age: kept.age(now),
            finished_at: kept.moment("finished_at"),
            snapshot,
        })
    }

    /// The rows of a run, or of one step of it, that are set aside: by step, part and key.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn set_aside(&self, run: RunId, step: Option<StepIndex>) -> Result<Vec<Entry>, Cause> {
        let kept = self.kept(run).await?.ok_or_else(|| super::notes::gone(run, &self.label()))?;
        let keys = self.keys(run);
        let names: HashMap<String, String> = self.ask(cmd("HGETALL").arg(keys.steps())).await?;
        let mut entries = Vec::new();
        for of in (0..kept.steps()).map(StepIndex).filter(|of| step.is_none_or(|step| step == *of)) {
            let rows: HashMap<String, String> = self.ask(cmd("HGETALL").arg(keys.aside(of))).await?;
            let mut found: Vec<Entry> = Vec::new();
            for (field, value) in rows {
                let (Some((part, key)), Ok(row)) = (row_of(&field), serde_json::from_str::<KeptRow>(&value)) else {
                    continue;
                };
                found.push(Entry {
                    step: names.get(&of_step(of, "name")).cloned().unwrap_or_default(),
                    part: Some(part).filter(|part| !part.is_empty()),
                    key,
                    sqlstate: row.sqlstate,
                    message: row.message,
                    attempts: row.attempts,
                    at: row.at,
                    resolved_at: None,
                    row: row.row,
                });
            }
            found.sort_by_cached_key(|entry| (entry.part.clone(), order(&entry.key)));
            entries.extend(found);
        }
        Ok(entries)
    }

    /// The names of a run's steps, in order.
    ///
    /// # Errors
    /// Redis cannot be asked.
    pub async fn step_names(&self, run: RunId) -> Result<Vec<String>, Cause> {
        let kept = self.kept(run).await?.ok_or_else(|| super::notes::gone(run, &self.label()))?;
        let steps = self.steps(&self.keys(run), kept.steps()).await?;
        Ok(steps.into_iter().map(|step| step.view.name).collect())
    }

    /// The newest runs of a database, newest first.
    ///
    /// # Errors
    /// Redis or the database cannot be asked.
    pub async fn newest(&self, connection: &mut PgConnection, most: u16) -> Result<Vec<RunRecord>, Cause> {
        self.sought(connection, &Sought { most, ..Sought::default() }).await
    }

    /// The newest of the runs of a database that are sought, newest first.
    ///
    /// # Errors
    /// Redis or the database cannot be asked.
    pub async fn sought(&self, connection: &mut PgConnection, sought: &Sought) -> Result<Vec<RunRecord>, Cause> {
        let now = self.now().await?;
        let mut records = Vec::new();
        for run in self.runs(connection).await? {
            if records.len() >= sought.most.into() {
                break;
            }
            // One may go while they are listed. What is not sought costs one question, and not all that `one` asks.
            let Some(kept) = self.kept(run).await? else { continue };
            if sought.takes(kept.text("plan_name"), kept.moment("created_at").unwrap_or(now), now) {
                records.push(self.one(connection, run).await?);
            }
        }
        Ok(records)
    }
}
