//! The report of a run: what was done, how long each step took, and how it ended. As data, as JSON, as text.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use unicode_width::UnicodeWidthStr;

use super::text::{clean, clean_lines};
use super::timer::Spent;
use super::{Cause, RunState, Snapshot, StepState, StepView, human};

/// What a run did, by its newest snapshot. In JSON every duration is a number of seconds and says so in its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run's short id.
    pub run: String,
    /// The plan's name. Not cleaned.
    pub plan: String,
    /// `database@host:port`. Empty when no connection was made. Not cleaned.
    pub server: String,
    /// The state's word: `done`, `failed`, `paused` ...
    pub state: String,
    /// When the run began, over all its drivers.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended. `None` while it can still move.
    pub finished_at: Option<DateTime<Utc>>,
    /// Time at work and in pause, over all drivers: `worked_seconds` and `paused_seconds` in JSON.
    #[serde(flatten, serialize_with = "spent_seconds")]
    pub spent: Spent,
    /// Time lost to waiting for the server's sake. Nothing waits before there is a governor.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
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
            state: snapshot.state.word().to_owned(),
            started_at: snapshot.started_at,
            finished_at,
            spent: snapshot.spent,
            waited: Duration::ZERO,
            rows_walked: walked,
            rows_changed: snapshot.rows_changed(),
            batches: steps.iter().map(|step| step.batches).sum(),
            rows_per_second: per_second(walked, walk_time),
            cause,
            resume_command: Some(&snapshot.resume_command).filter(|line| resumable && !line.is_empty()).cloned(),
            steps,
        }
    }

    /// The report for a person: lines that end with a line break, without control characters from outside.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!("run {}  {}  {}", clean(&self.run), clean(&self.plan), self.state)];
        if !self.server.is_empty() {
            lines.push(format!("server    {}", clean(&self.server)));
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
        lines.push(String::new());
        lines.push(format!("paused {}, waited {}", time(self.spent.paused), time(self.waited)));
        if let Some(cause) = &self.cause {
            lines.push(String::new());
            lines.push(format!("failed: {}", clean(&cause.headline())));
            for detail in &cause.details {
                lines.extend(clean_lines(detail).lines().map(|line| format!("  {line}").trim_end().to_owned()));
            }
            lines.extend(cause.hints.iter().map(|hint| format!("hint: {}", clean(hint))));
        }
        if let Some(command) = &self.resume_command {
            lines.push(format!("to go on: {}", clean(command)));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn table(&self) -> Vec<String> {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
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
            outcome: step.outcome.clone(),
        }
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

const COLUMNS: usize = 8;
/// As on the console, and narrow enough for 80 cells: a step's own time, and the time from the run's start to its end.
const HEADINGS: [&str; COLUMNS] = ["step", "state", "time", "at", "changed", "rows/s", "batches", "outcome"];
/// Columns of numbers and times stand to the right.
const TO_THE_RIGHT: [bool; COLUMNS] = [false, false, true, true, true, true, true, false];

fn aligned(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).zip(TO_THE_RIGHT).map(|((cell, width), to_the_right)| {
            let room = " ".repeat(width.saturating_sub(cell.width()));
            if to_the_right { room + cell } else { cell.clone() + &room }
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

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Asker;
    use serde_json::json;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_373_700 + second, 0).unwrap()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn step(name: &str, kind: &str, state: StepState, worked: u64, ended: Option<u64>, rows: u64) -> StepView {
        StepView {
            name: name.to_owned(),
            kind: kind.to_owned(),
            state,
            spent: Spent { worked: ms(worked), paused: Duration::ZERO },
            ended_after: ended.map(ms),
            rows_walked: rows,
            rows_changed: rows,
            batches: rows.div_ceil(6000),
            retries: 0,
            quarantined: 0,
            waited: Duration::ZERO,
            churn: None,
            outcome: None,
        }
    }

    fn snapshot(state: RunState, steps: Vec<StepView>) -> Snapshot {
        let mut snapshot = Snapshot::starting(at(200), "7f3a09c2".into(), "normalise-emails".into(), "ops1".into());
        snapshot.server = "axisor@db1:5432".to_owned();
        snapshot.state = state;
        snapshot.started_at = Some(at(0));
        snapshot.spent = Spent { worked: ms(101_400), paused: ms(3100) };
        snapshot.steps = steps;
        snapshot.resume_command = "howdah resume 7f3a09c2".to_owned();
        snapshot
    }

    fn done() -> Snapshot {
        let mut steps = vec![
            step("index", "statement", StepState::Done, 12_400, Some(12_400), 0),
            step("emails", "backfill", StepState::Done, 87_800, Some(103_300), 2_000_000),
            step("nothing left", "verify", StepState::Done, 1200, Some(104_500), 0),
        ];
        steps[1].outcome = Some("0 left".to_owned());
        steps[2].outcome = Some("0, as expected".to_owned());
        snapshot(RunState::Done { at: at(104) }, steps)
    }

    #[test]
    fn the_text_of_a_run_that_is_done_is_an_aligned_table() {
        let expected = "\
run 7f3a09c2  normalise-emails  done
server    axisor@db1:5432
started   2026-03-01 14:01:40 UTC
finished  2026-03-01 14:03:24 UTC

step          state     time       at    changed  rows/s  batches  outcome
index         done     12.4s    12.4s          -       -        -
emails        done   1m27.8s  1m43.3s  2,000,000  22,779      334  0 left
nothing left  done      1.2s  1m44.5s          -       -        -  0, as expected
total                1m41.4s  1m44.5s  2,000,000  22,779      334

paused 3.1s, waited 0s
";
        assert_eq!(Report::of(&done()).to_text(), expected);
    }

    #[test]
    fn a_failure_tells_cause_details_hints_and_how_to_go_on_and_cannot_steer_the_terminal() {
        let cause = Cause::new("step `emails`: batch failed\x1b[2J")
            .sqlstate("23505")
            .detail("keys 101 to 200\n\tsecond line")
            .hint("drop the unique index");
        let steps = vec![
            step("表 1", "backfill", StepState::Failed, 2000, None, 100),
            step("later", "verify", StepState::Waiting, 0, None, 0),
        ];
        let mut snapshot = snapshot(RunState::Failed { at: at(2), cause, resumable: true }, steps);
        snapshot.spent = Spent { worked: ms(2000), paused: Duration::ZERO };
        let expected = "\
run 7f3a09c2  normalise-emails  failed
server    axisor@db1:5432
started   2026-03-01 14:01:40 UTC
finished  2026-03-01 14:01:42 UTC

step   state    time    at  changed  rows/s  batches  outcome
表 1   failed   2.0s     -      100      50        1
later  waiting     -     -        -       -        -
total           2.0s  2.0s      100      50        1

paused 0s, waited 0s

failed: step `emails`: batch failed\u{fffd}[2J (SQLSTATE 23505)
  keys 101 to 200
   second line
hint: drop the unique index
to go on: howdah resume 7f3a09c2
";
        assert_eq!(Report::of(&snapshot).to_text(), expected);
    }

    #[test]
    fn the_command_to_go_on_is_told_only_where_one_can() {
        let cause = Cause::new("x");
        let table = [
            (RunState::Running, false),
            (RunState::Paused { since: at(1), by: Asker::Console }, true),
            (RunState::Stopped { at: at(1), by: Asker::Signal }, true),
            (RunState::Failed { at: at(1), cause: cause.clone(), resumable: true }, true),
            (RunState::Failed { at: at(1), cause, resumable: false }, false),
            (RunState::Done { at: at(1) }, false),
        ];
        for (state, expected) in table {
            let word = state.word();
            let report = Report::of(&snapshot(state, Vec::new()));
            assert_eq!(report.resume_command.is_some(), expected, "{word}");
        }
    }

    #[test]
    fn in_json_durations_are_seconds_and_say_so() {
        let json = serde_json::to_value(Report::of(&done())).unwrap();
        assert_eq!(json["state"], json!("done"));
        assert_eq!(json["worked_seconds"], json!(101.4));
        assert_eq!(json["paused_seconds"], json!(3.1));
        assert_eq!(json["waited_seconds"], json!(0.0));
        assert_eq!(json["resume_command"], json!(null));
        assert_eq!(json.get("cause"), None);
        assert_eq!(json["steps"][1]["ended_after_seconds"], json!(103.3));
        assert_eq!(json["steps"][1]["worked_seconds"], json!(87.8));
        assert_eq!(json["steps"][1]["state"], json!("done"));
        assert_eq!(json["steps"][0]["rows_per_second"], json!(null));
    }

    #[test]
    fn a_run_that_has_not_begun_has_a_report_too() {
        let starting = Snapshot::starting(at(0), "7f3a09c2".into(), "p".into(), "h".into());
        assert_eq!(Report::of(&starting).to_text(), "run 7f3a09c2  p  starting\n\npaused 0s, waited 0s\n");
    }
}
