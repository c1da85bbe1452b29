//! `--rehearse`: a few batches of each step for real, at three places of its key space, in transactions that are rolled
//! back; what they cost, and what a run would.
//!
//! A rehearsal goes one batch at a time, under the time limits of a run's batches, and gives way to whoever waits for it.
//! What a rollback does not take back: WAL that was written, dead rows and the space that they take until they are
//! vacuumed, numbers of sequences, and whatever a trigger or a function does outside of the transaction.

mod explained;
mod outside;
mod places;
mod subject;
mod surroundings;
mod table;
mod text;
mod trial;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::finding::{Finding, Severity};
pub use super::forecast::CODES;
use super::forecast::{self, Forecast, Given};
use super::json::seconds;
use crate::plan::model::{Limits, Plan, Step};
use crate::postgres::connect::Connector;
use crate::postgres::session::application_name;
use crate::postgres::{error, sqlstate};
use crate::run::{Cause, KeyText};
use crate::steps::backends::Backends;
use crate::steps::{self, giveway};
pub use explained::{Buffers, Explained, Trigger, Wal};
pub use outside::Outside;
pub use places::Where;
pub use surroundings::{Archive, Autovacuum, Slot, Standby, Surroundings};
pub use table::{IndexFacts, TableFacts};
pub use trial::{Lock, Look, Trial, Written};

use places::Place;
use subject::{Rehearsable, Subject};
use trial::{Range, TrialError};

/// How long a rehearsal takes at most, where nobody says.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Rows of the smallest batch that is tried.
const SMALL: u64 = 100;
/// A trial is at most so many times as large as the one before it.
const GROWTH: u64 = 20;
/// How long another session waits for a trial where the plan's `limits.waiters` is off: a rehearsal always gives way.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a rehearsal has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearsal {
    /// The steps, in the plan's order.
    pub steps: Vec<StepRehearsal>,
    /// The server.
    pub around: Surroundings,
    /// What stands against the plan by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// How long it took.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
}

/// What a rehearsal has found of a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StepRehearsal {
    /// The step's name. Not cleaned.
    pub name: String,
    /// The kind's word.
    pub kind: &'static str,
    /// Why nothing was tried, or not everything. Not cleaned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its tables, before the rehearsal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableFacts>,
    /// The batches that were tried, in their order.
    pub trials: Vec<Trial>,
    /// What a run would cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Dead rows that the rehearsal has left behind, in all tables.
    pub dead_left: u64,
}

/// What in a plan may reach out of the transactions of a rehearsal, to be told before it is asked for.
///
/// # Errors
/// The server is a standby; it cannot be asked.
pub async fn outside(connection: &mut PgConnection, plan: &Plan) -> Result<Vec<Outside>, Cause> {
    let failed = |e: sqlx::Error| error::cause("looking at the database", &e);
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if standby {
        return Err(Cause::usage("this server is a standby: nothing can be changed on it, and nothing rehearsed")
            .hint("name the primary in `--database`"));
    }
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        // What cannot work yet is told when its turn comes.
        let Ok(Rehearsable::Yes(subject)) = subject::of(connection, plan, step).await else { continue };
        found.extend(outside::look(connection, plan, index, &written(&subject)).await.map_err(failed)?);
    }
    Ok(found)
}

/// Rehearses a plan, within about `limit`. `connector` opens sessions that are set up as a batch's.
///
/// # Errors
/// No session can be opened, or the server cannot be asked.
pub async fn rehearse(connector: &Arc<Connector>, plan: &Plan, limit: Duration) -> Result<Rehearsal, Cause> {
    let began = Instant::now();
    let mut connection = open(connector).await?;
    let failed = |e: sqlx::Error| error::cause("looking at the database", &e);
    let outside = outside(&mut connection, plan).await?;
    let around = surroundings::look(&mut connection).await.map_err(failed)?;
    let mut findings: Vec<Finding> = outside.iter().map(told).collect();
    let mut rehearsed = Vec::new();
    let mut statement_pending = false;
    for (index, step) in plan.steps.iter().enumerate() {
        let steps_left = u32::try_from(plan.steps.len() - index).unwrap_or(1).max(1);
        let until = Instant::now() + limit.saturating_sub(began.elapsed()) / steps_left;
        let stage = Stage { connector, plan, step, around: &around, until };
        match stage.rehearse(connection).await {
            Ok(done) => {
                findings.extend(done.findings);
                rehearsed.push(done.step);
                connection = match done.connection {
                    Some(connection) => connection,
                    None => open(connector).await?,
                };
            }
            Err((cause, after)) => {
                let note = if statement_pending {
                    format!("can be rehearsed only once an earlier statement has run: {}", cause.headline())
                } else {
                    cause.headline()
                };
                rehearsed.push(StepRehearsal { note: Some(note), ..stage.empty() });
                connection = after;
            }
        }
        statement_pending |= matches!(step.kind, crate::plan::model::StepKind::Statement(_));
    }
    drop(connection.close().await);
    Ok(Rehearsal { steps: rehearsed, around, findings, took: began.elapsed() })
}

async fn open(connector: &Connector) -> Result<PgConnection, Cause> {
    connector.open(&application_name("cli", "rehearse")).await.map_err(|refused| refused.cause)
}

/// The tables that a step writes.
fn written(subject: &Subject) -> Vec<i64> {
    subject.parts.iter().map(|part| part.written).collect()
}

fn told(outside: &Outside) -> Finding {
    Finding {
        code: forecast::OUTSIDE_EFFECTS,
        severity: Severity::Note,
        step: Some(outside.step.clone()),
        subject: outside.what.clone(),
        what: "a rollback may not take back what it does".to_owned(),
        why: outside.why.clone(),
        mend: Vec::new(),
    }
}

/// A step and what its rehearsal needs.
struct Stage<'a> {
    connector: &'a Arc<Connector>,
    plan: &'a Plan,
    step: &'a Step,
    around: &'a Surroundings,
    /// Nothing new is tried after this.
    until: Instant,
}

struct Done {
    step: StepRehearsal,
    findings: Vec<Finding>,
    /// `None`: it was given up with a trial that failed.
    connection: Option<PgConnection>,
}

impl Stage<'_> {
    fn empty(&self) -> StepRehearsal {
        StepRehearsal { name: self.step.name.clone(), kind: self.step.kind.word(), ..StepRehearsal::default() }
    }

    fn limits(&self) -> &Limits {
        &self.plan.limits
    }

    async fn rehearse(&self, mut connection: PgConnection) -> Result<Done, (Cause, PgConnection)> {
        let mut step = self.empty();
        let subject = match subject::of(&mut connection, self.plan, self.step).await {
            Ok(Rehearsable::Yes(subject)) => subject,
            Ok(Rehearsable::No(why)) => {
                step.note = Some(why.to_owned());
                return Ok(Done { step, findings: Vec::new(), connection: Some(connection) });
            }
            Err(cause) => return Err((cause, connection)),
        };
        let what = format!("step \"{}\"", self.step.name);
        let (facts, places) = match self.look(&mut connection, &subject).await {
            Ok(found) => found,
            Err(e) => return Err((error::cause(&what, &e), connection)),
        };
        let backends = Arc::new(Backends::default());
        let patience = self.limits().waiters.unwrap_or(PATIENCE);
        let watch = giveway::watch(
            Arc::clone(self.connector),
            Arc::clone(&backends),
            patience,
            application_name("cli", "rehearse"),
        );
        let mut tries = Tries { stage: self, subject: &subject, backends: &backends, trials: Vec::new(), reach: None };
        let (connection, failure) = {
            let all = tries.all(connection, &places);
            // The watch never ends by itself; the work is never dropped.
            tokio::pin!(all);
            tokio::select! {
                biased;
                ended = &mut all => ended,
                () = watch => all.await,
            }
        };
        step.trials = tries.trials;
        let mut findings = Vec::new();
        match failure {
            Some(Failure::Refused(cause)) => {
                findings.push(self.refused(&cause));
                step.note = Some(cause.headline());
            }
            Some(Failure::GaveWay(why)) => step.note = Some(why),
            Some(Failure::Time) => step.note = Some("the time for it was over: --for gives it more".to_owned()),
            None if step.trials.is_empty() => step.note = Some("there are no rows".to_owned()),
            None => {}
        }
        step.dead_left =
            step.trials.iter().flat_map(|trial| &trial.written).map(|one| one.inserted + one.updated).sum();
        let given = Given { limits: self.limits(), trials: &step.trials, table: &facts, around: self.around };
        if let Some(forecast) = forecast::forecast(&given) {
            let table = subject.parts.first().map(|part| part.keys.part().quoted()).unwrap_or_default();
            findings.extend(forecast::findings(&self.step.name, &table, &given, &forecast));
            step.forecast = Some(forecast);
        }
        step.table = Some(facts);
        Ok(Done { step, findings, connection })
    }

    async fn look(
        &self,
        connection: &mut PgConnection,
        subject: &Subject,
    ) -> Result<(TableFacts, Vec<Place>), sqlx::Error> {
        let walked: Vec<(i64, Option<u64>)> =
            subject.parts.iter().map(|part| (part.keys.part().oid, part.rows)).collect();
        let facts = table::look(connection, &walked, &written(subject)).await?;
        let places = places::find(connection, subject).await?;
        Ok((facts, places))
    }

    fn refused(&self, cause: &Cause) -> Finding {
        let is_data = cause.sqlstate.as_deref().is_some_and(|code| sqlstate::class(code) == sqlstate::Class::Data);
        Finding {
            code: forecast::REHEARSAL_FAILED,
            severity: if is_data { Severity::Warning } else { Severity::Error },
            step: Some(self.step.name.clone()),
            subject: self.step.name.clone(),
            what: cause.message.clone(),
            why: if is_data {
                "rows whose data is wrong are set aside in a run, as long as they are few".to_owned()
            } else {
                "a run would stop at it".to_owned()
            },
            mend: Vec::new(),
        }
    }
}

/// Why the trials of a step ended early.
enum Failure {
    Refused(Cause),
    GaveWay(String),
    Time,
}

/// The trials of a step, one after the other.
struct Tries<'a> {
    stage: &'a Stage<'a>,
    subject: &'a Subject,
    backends: &'a Backends,
    trials: Vec<Trial>,
    /// Rows of a batch once its size has settled, as far as is known by now.
    reach: Option<u64>,
}

impl Tries<'_> {
    /// At every place. The connection is gone after a failure.
    async fn all(&mut self, mut connection: PgConnection, places: &[Place]) -> (Option<PgConnection>, Option<Failure>) {
        let pid = match sqlx::query_scalar("SELECT pg_backend_pid()").persistent(false).fetch_one(&mut connection).await
        {
            Ok(pid) => pid,
            Err(e) => return (None, Some(self.failure(&TrialError::Sql(e), false))),
        };
        for place in places {
            if let Err(failure) = self.at(&mut connection, place, pid).await {
                self.backends.leave(pid);
                let kept = matches!(failure, Failure::Time).then_some(connection);
                return (kept, Some(failure));
            }
        }
        (Some(connection), None)
    }

    /// At one place: a small batch, the plan's first one and that again, one as large as batches get, and some more that only
    /// the clock looks at.
    async fn at(&mut self, connection: &mut PgConnection, place: &Place, pid: i32) -> Result<(), Failure> {
        let start = self.stage.limits().batch.start;
        let mut from = place.from.clone();
        let Some(key) = self.one(connection, place, (from.as_ref(), SMALL, Look::Close, false), pid).await? else {
            return Ok(());
        };
        from = Some(key);
        let Some(key) = self.one(connection, place, (from.as_ref(), start, Look::Close, false), pid).await? else {
            return Ok(());
        };
        self.one(connection, place, (from.as_ref(), start, Look::Close, true), pid).await?;
        from = Some(key);
        for look in [Look::Counted, Look::Plain, Look::Plain, Look::Plain] {
            let rows = self.size();
            let Some(key) = self.one(connection, place, (from.as_ref(), rows, look, false), pid).await? else {
                return Ok(());
            };
            from = Some(key);
        }
        Ok(())
    }

    /// One trial. Returns its last key; `None` where no row is left.
    async fn one(
        &mut self,
        connection: &mut PgConnection,
        place: &Place,
        (from, rows, look, is_repeated): (Option<&KeyText>, u64, Look, bool),
        pid: i32,
    ) -> Result<Option<KeyText>, Failure> {
        if Instant::now() >= self.stage.until {
            return Err(Failure::Time);
        }
        let Some(part) = self.subject.parts.get(place.part) else { return Ok(None) };
        let undo_log = self.subject.undo_log.as_deref();
        let range = Range { at: place.at, part, from, upper: place.upper.as_ref(), rows, look, is_repeated, undo_log };
        self.backends.begin(pid);
        let tried = trial::tried(connection, &range, steps::deadline(self.stage.limits())).await;
        let gave_way = self.backends.end(pid);
        match tried {
            Ok(Some((trial, key))) => {
                if !is_repeated {
                    self.reach = Some(self.next_size(&trial));
                }
                self.trials.push(trial);
                Ok(Some(key))
            }
            Ok(None) => Ok(None),
            Err(e) => Err(self.failure(&e, gave_way)),
        }
    }

    /// Rows of the next large batch: as many as take the target's time, but not many times what was tried before.
    fn next_size(&self, trial: &Trial) -> u64 {
        let limits = self.stage.limits().batch;
        let nanos = trial.took.as_nanos().max(1);
        let fit = u128::from(trial.walked).saturating_mul(limits.target.as_nanos()) / nanos;
        let most = limits.max.min(trial.walked.saturating_mul(GROWTH)).max(limits.min);
        u64::try_from(fit).unwrap_or(u64::MAX).clamp(limits.min, most)
    }

    fn size(&self) -> u64 {
        let limits = self.stage.limits().batch;
        let rows: u64 = self.subject.parts.iter().filter_map(|part| part.rows).sum();
        // No batch reaches over the end of its segment.
        let segments = steps::segments::segments_for(Some(rows), limits.start, 64);
        let of_segment = (rows / u64::from(segments)).max(limits.start);
        self.reach.unwrap_or(limits.start).min(of_segment)
    }

    fn failure(&self, failure: &TrialError, gave_way: bool) -> Failure {
        let what = format!("step \"{}\", rehearsed", self.stage.step.name);
        if gave_way {
            return Failure::GaveWay("another session waited for it: it gave way".to_owned());
        }
        let cause = match failure {
            TrialError::Change(e, sql) => error::cause_in_plan(&what, e, sql, &self.stage.plan.source),
            TrialError::Sql(e) => error::cause(&what, e),
        };
        match error::code(failure.error()) {
            Some("55P03" | "57014") => Failure::GaveWay(cause.headline()),
            _ => Failure::Refused(cause),
        }
    }
}
