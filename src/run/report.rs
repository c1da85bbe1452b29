//! The report of a run: what was done, how long each step took, and how it ended. As data, as JSON, as text.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use unicode_width::UnicodeWidthStr;

use super::snapshot::Unit;
use super::text::{clean, clean_lines};
use super::timer::Spent;
use super::{CacheView, Cause, Churn, Guarantee, RunState, Snapshot, StepState, StepView, Waited, human, why};

/// What a run did, by its newest snapshot. In JSON every duration is a number of seconds and says so in its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run's short id.
    pub run: String,
    /// The plan's name. Not cleaned.
    pub plan: String,
    /// `database@host:port`. Empty when no connection was made. Not cleaned.
    pub server: String,
    /// What the run promises of each row: `exactly once`, `at least once`.
    pub guarantee: Guarantee,
    /// The state's word: `done`, `failed`, `paused` ...
    pub state: String,
    /// When the run began, over all its drivers.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended. `None` while it can still move.
    pub finished_at: Option<DateTime<Utc>>,
    /// Time at work and in pause, over all drivers: `worked_seconds` and `paused_seconds` in JSON.
    #[serde(flatten, serialize_with = "spent_seconds")]
    pub spent: Spent,
    /// Time lost to waiting, for all reasons. Part of the time at work.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
    /// The same by reason, the most first. In JSON an object of seconds.
    #[serde(serialize_with = "seconds_by_reason")]
    pub waited_by_reason: Vec<Waited>,
    /// The steps, in the plan's order.
    pub steps: Vec<StepReport>,
    /// Rows whose keys were walked, over all steps.
    pub rows_walked: u64,
    /// Rows changed, over all steps.
    pub rows_changed: u64,
    /// Batches committed, over all steps.
    pub batches: u64,
    /// Rows walked a second of work, over the steps that walk. `None` where nothing was walked.
    pub rows_per_second: Option<f64>,
    /// Batches that were tried again, over all steps.
    pub retries: u64,
    /// Rows set aside because the data is wrong, over all steps.
    pub quarantined: u64,
    /// The command that lists them, where there are any.
    pub quarantine_command: Option<String>,
    /// The cached look-ups of its scripts, as this driver has seen them. Empty: there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheView>,
    /// Why it failed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The command that goes on with this run, where one can.
    pub resume_command: Option<String>,
}

/// One step's part of a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step's name. Not cleaned.
    pub name: String,
    /// The kind's word: `statement`, `backfill`, `verify`.
    pub kind: String,
    /// Where it stands.
    pub state: StepState,
    /// The step's own time: `worked_seconds` and `paused_seconds` in JSON.
    #[serde(flatten, serialize_with = "spent_seconds")]
    pub spent: Spent,
    /// From the run's start to the step's end, work and pause. `None` before the end.
    #[serde(rename = "ended_after_seconds", serialize_with = "maybe_seconds")]
    pub ended_after: Option<Duration>,
    /// Rows whose keys were walked.
    pub rows_walked: u64,
    /// Rows changed.
    pub rows_changed: u64,
    /// Batches committed.
    pub batches: u64,
    /// Rows walked a second of work. `None` where nothing was walked.
    pub rows_per_second: Option<f64>,
    /// Batches that were tried again.
    pub retries: u64,
    /// Rows set aside because the data is wrong.
    pub quarantined: u64,
    /// Time lost to waiting. Part of the time at work.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
    /// What the step did to its table, where statistics tell. In JSON with `hot_percent`.
    #[serde(serialize_with = "churn")]
    pub churn: Option<Churn>,
    /// What the step said at its end. Not cleaned.
    pub outcome: Option<String>,
}

impl Report {
    /// The report of the run as `snapshot` shows it. A run that is not over yet has a report as well: of what is done.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let steps: Vec<StepReport> = snapshot.steps.iter().map(StepReport::of).collect();
        let walking = steps.iter().filter(|step| step.rows_walked > 0);
        let (walked, walk_time) =
            walking.fold((0, Duration::ZERO), |(rows, time), step| (rows + step.rows_walked, time + step.spent.worked));
        let (finished_at, cause, resumable) = match &snapshot.state {
            RunState::Starting | RunState::Running => (None, None, false),
            RunState::Pausing { .. }
            | RunState::Resuming { .. }
            | RunState::Stopping { .. }
            | RunState::Paused { .. } => (None, None, true),
            RunState::Stopped { at, .. } => (Some(*at), None, true),
            RunState::Failed { at, cause, resumable } => (Some(*at), Some(cause.clone()), *resumable),
            RunState::Done { at } => (Some(*at), None, false),
        };
        Self {
            run: snapshot.run.clone(),
            plan: snapshot.plan.clone(),
            server: snapshot.server.clone(),
            guarantee: snapshot.guarantee,
            state: snapshot.state.word().to_owned(),
            started_at: snapshot.started_at,
            finished_at,
            spent: snapshot.spent,
            waited: snapshot.pace.waited_in_all(),
            waited_by_reason: snapshot.pace.waited.clone(),
            rows_walked: walked,
            rows_changed: snapshot.rows_changed(),
            batches: steps.iter().map(|step| step.batches).sum(),
            rows_per_second: per_second(walked, walk_time),
            retries: steps.iter().map(|step| step.retries).sum(),
            quarantined: snapshot.quarantined(),
            caches: snapshot.caches.clone(),
            quarantine_command: why::quarantine_command(snapshot),
            cause,
            resume_command: Some(&snapshot.resume_command).filter(|line| resumable && !line.is_empty()).cloned(),
            steps,
        }
    }

    /// The report for a person: lines that end with a line break, without control characters from outside.
    #[must_use]
    pub fn to_text(&self) -> String {
        let quarantined = match self.quarantined {
            0 => String::new(),
            n => format!(", {} quarantined", human::rows(n)),
        };
        let (run, plan) = (clean(&self.run), clean(&self.plan));
        let mut lines = vec![format!("run {run}  {plan}  {}{quarantined}", self.state)];
        if !self.server.is_empty() {
            lines.push(format!("server    {}", clean(&self.server)));
        }
        if self.guarantee == Guarantee::AtLeastOnce {
            lines.push(format!("ledger    on Redis: each row was changed {}", self.guarantee.word()));
        }
        if let Some(at) = self.started_at {
            lines.push(format!("started   {}", at.format("%Y-%m-%d %H:%M:%S UTC")));
        }
        if let Some(at) = self.finished_at {
            lines.push(format!("finished  {}", at.format("%Y-%m-%d %H:%M:%S UTC")));
        }
        if !self.steps.is_empty() {
            lines.push(String::new());
            lines.extend(self.table());
        }
        let remarks: Vec<String> = self.steps.iter().flat_map(StepReport::remarks).collect();
        if !remarks.is_empty() {
            lines.push(String::new());
            lines.extend(remarks);
        }
        lines.push(String::new());
        let reasons = Some(why::reasons(&self.waited_by_reason)).filter(|reasons| !reasons.is_empty());
        let reasons = reasons.map_or_else(String::new, |reasons| format!(": {reasons}"));
        lines.push(format!("paused {}, waited {}{reasons}", time(self.spent.paused), time(self.waited)));
        lines.extend(self.caches.iter().filter(|cache| cache.asked > 0).map(looked_up));
        if let Some(cause) = &self.cause {
            lines.push(String::new());
            lines.push(format!("failed: {}", clean(&cause.headline())));
            for detail in &cause.details {
                lines.extend(clean_lines(detail).lines().map(|line| format!("  {line}").trim_end().to_owned()));
            }
            lines.extend(cause.hints.iter().map(|hint| format!("hint: {}", clean(hint))));
        }
        if let Some(command) = &self.quarantine_command {
            lines.push(format!("{} quarantined, and why: {}", human::rows(self.quarantined), clean(command)));
        }
        if let Some(command) = &self.resume_command {
            lines.push(format!("to go on: {}", clean(command)));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// What the rates count: rows, files, or one here and the other there.
    fn rate_heading(&self) -> &'static str {
        let walking = self.steps.iter().filter(|step| step.rows_walked > 0);
        let (files, rows): (Vec<Unit>, Vec<Unit>) =
            walking.map(|step| Unit::of_kind(&step.kind)).partition(|unit| *unit == Unit::Files);
        match (files.is_empty(), rows.is_empty()) {
            (true, _) => RATE,
            (false, true) => "files/s",
            (false, false) => "per s",
        }
    }

    fn table(&self) -> Vec<String> {
        let mut rows =
            vec![HEADINGS.map(|heading| if heading == RATE { self.rate_heading() } else { heading }.to_owned())];
        rows.extend(self.steps.iter().map(StepReport::cells));
        rows.push([
            "total".to_owned(),
            String::new(),
            time(self.spent.worked),
            time(self.spent.total()),
            human::count(self.rows_changed),
            self.rows_per_second.map_or_else(none, human::rate),
            human::count(self.batches),
            String::new(),
        ]);
        aligned(&rows)
    }
}

/// `cache countries 98.2% of 1,204,311 (Redis 310, database 20,977, failed 3)`
fn looked_up(cache: &CacheView) -> String {
    let told = |what: &str, n: u64| (n > 0).then(|| format!("{what} {}", human::count(n)));
    let parts = [told("Redis", cache.redis), told("database", cache.database), told("failed", cache.errors)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!("cache {} {}{parts}", clean(&cache.name), cache.words())
}

impl StepReport {
    fn of(step: &StepView) -> Self {
        Self {
            name: step.name.clone(),
            kind: step.kind.clone(),
            state: step.state,
            spent: step.spent,
            ended_after: step.ended_after,
            rows_walked: step.rows_walked,
            rows_changed: step.rows_changed,
            batches: step.batches,
            rows_per_second: per_second(step.rows_walked, step.spent.worked),
            retries: step.retries,
            quarantined: step.quarantined,
            waited: step.waited,
            churn: step.churn,
            outcome: step.outcome.clone(),
        }
    }

    /// What has no column, because most steps have nothing to say of it.
    fn remarks(&self) -> Vec<String> {
        let name = clean(&self.name);
        let mut trouble = Vec::new();
        match self.retries {
            0 => {}
            1 => trouble.push("1 batch tried again".to_owned()),
            n => trouble.push(format!("{} batches tried again", human::count(n))),
        }
        if self.quarantined > 0 {
            trouble.push(format!("{} quarantined", human::rows(self.quarantined)));
        }
        if !self.waited.is_zero() {
            trouble.push(format!("waited {}", human::duration(self.waited)));
        }
        let churn = self.churn.map(|churn| churned(&churn)).filter(|churn| !churn.is_empty());
        let trouble = Some(trouble.join(", ")).filter(|trouble| !trouble.is_empty());
        trouble.into_iter().chain(churn).map(|text| format!("{name}: {text}")).collect()
    }

    fn cells(&self) -> [String; COLUMNS] {
        let began = self.state != StepState::Waiting;
        let walks = !matches!(self.kind.as_str(), "statement" | "verify");
        let number = |n: u64| if began && (walks || n > 0) { human::count(n) } else { none() };
        [
            clean(&self.name).into_owned(),
            self.state.word().to_owned(),
            if began { time(self.spent.worked) } else { none() },
            self.ended_after.map_or_else(none, time),
            number(self.rows_changed),
            self.rows_per_second.map_or_else(none, human::rate),
            number(self.batches),
            self.outcome.as_deref().map(clean).unwrap_or_default().into_owned(),
        ]
    }
}

/// `71% of updates HOT; 2,000,000 dead rows made, 1,200,000 cleared`, as far as there were any.
fn churned(churn: &Churn) -> String {
    let hot = churn.hot_percent().map(|percent| format!("{:.0}% of updates HOT", percent.floor()));
    let dead = (churn.dead_made > 0).then(|| {
        let (made, cleared) = (human::count(churn.dead_made), human::count(churn.cleared));
        format!("{made} dead {} made, {cleared} cleared", if churn.dead_made == 1 { "row" } else { "rows" })
    });
    hot.into_iter().chain(dead).collect::<Vec<_>>().join("; ")
}

const COLUMNS: usize = 8;
/// As on the console, and narrow enough for 80 cells: a step's own time, and the time from the run's start to its end.
const HEADINGS: [&str; COLUMNS] = ["step", "state", "time", "at", "changed", RATE, "batches", "outcome"];
/// The heading of the rate, where rows are walked.
const RATE: &str = "rows/s";
/// Columns of numbers and times stand to the right.
const TO_THE_RIGHT: [bool; COLUMNS] = [false, false, true, true, true, true, true, false];

fn aligned(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).zip(TO_THE_RIGHT).map(|((cell, width), to_the_right)| {
            let room = " ".repeat(width.saturating_sub(cell.width()));
            if to_the_right { room + cell.as_str() } else { cell.clone() + room.as_str() }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn none() -> String {
    "-".to_owned()
}

fn time(d: Duration) -> String {
    if d.is_zero() { "0s".to_owned() } else { human::duration(d) }
}

#[expect(clippy::cast_precision_loss, reason = "a rate made from a row count")]
fn per_second(rows: u64, time: Duration) -> Option<f64> {
    (rows > 0 && !time.is_zero()).then(|| rows as f64 / time.as_secs_f64())
}

#[derive(Serialize)]
struct SpentSeconds {
    worked_seconds: f64,
    paused_seconds: f64,
}

fn spent_seconds<S: Serializer>(spent: &Spent, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds =
        SpentSeconds { worked_seconds: spent.worked.as_secs_f64(), paused_seconds: spent.paused.as_secs_f64() };
    seconds.serialize(serializer)
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn seconds_by_reason<S: Serializer>(waited: &[Waited], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(waited.iter().map(|waited| (&waited.reason, waited.time.as_secs_f64())))
}

#[derive(Serialize)]
struct ChurnWithPercent {
    #[serde(flatten)]
    churn: Churn,
    hot_percent: Option<f64>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn churn<S: Serializer>(churn: &Option<Churn>, serializer: S) -> Result<S::Ok, S::Error> {
    churn.map(|churn| ChurnWithPercent { churn, hot_percent: churn.hot_percent() }).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
