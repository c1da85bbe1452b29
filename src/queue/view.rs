//! What is shown of a queue: read at one moment, by one script.

use chrono::{DateTime, Utc};
use redis::Script;
use serde_json::Value;

use super::line::Line;
use crate::run::queue::{JobCounts, WorkerView};
use crate::run::{Cause, JobState, JobView, QueueView};

/// Most jobs of each state that are looked through for what they wait for.
const SCANNED: usize = 500;

/// What the script answers: paused, counts, jobs.
type Answer = (i64, Vec<u64>, Vec<Vec<Option<String>>>);

/// Reads a queue: at most `limit` jobs of each state, or of the one that is wanted.
///
/// # Errors
/// Redis does not answer, or refuses.
pub async fn read(line: &Line, limit: usize, only: Option<JobState>) -> Result<QueueView, Cause> {
    let script = Script::new(include_str!("view.lua"));
    let prefix = line.keys().key_prefix();
    let limit = limit.max(1).to_string();
    let only_word = only.map_or("", JobState::word);
    let arguments = [limit.as_str(), only_word, &SCANNED.to_string()];
    let what = "reading the queue";
    let (paused, counts, jobs): Answer =
        line.link.script(&script, &[&prefix], &arguments).await.map_err(|e| e.cause(what))?;
    let counts = counted(&counts);
    let jobs: Vec<JobView> = jobs.iter().filter_map(|fields| job(fields)).collect();
    let all = JobState::ALL.iter().filter(|state| only.is_none_or(|only| only == **state));
    let all: u64 = all.map(|state| counts.of(*state)).sum();
    let workers = line.asked(what, line.queue.get_workers()).await?;
    let mut workers: Vec<WorkerView> = workers
        .iter()
        .map(|client| {
            let named = client.get("rawname").and_then(|name| name.split_once(":w:"));
            let address = client.get("addr").cloned().unwrap_or_default();
            let name = named.map_or_else(|| address.clone(), |(_, name)| name.to_owned());
            WorkerView { name, client: address }
        })
        .collect();
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(QueueView {
        name: line.name().to_owned(),
        server: line.link.address().label(),
        at: Utc::now(),
        is_paused: paused != 0,
        more: all.saturating_sub(jobs.len() as u64),
        counts,
        jobs,
        workers,
    })
}

fn counted(counts: &[u64]) -> JobCounts {
    let count = |index: usize| counts.get(index).copied().unwrap_or_default();
    JobCounts {
        waiting: count(0),
        active: count(1),
        delayed: count(2),
        blocked: count(3),
        failed: count(4),
        completed: count(5),
    }
}

/// A job, from the fields that the script tells. `None`: a state that nobody knows.
fn job(fields: &[Option<String>]) -> Option<JobView> {
    let text = |index: usize| fields.get(index).cloned().flatten().filter(|text| !text.is_empty());
    let number = |index: usize| text(index).and_then(|text| text.parse::<i64>().ok());
    let json =
        |index: usize| text(index).and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
    let time = |index: usize| number(index).and_then(DateTime::from_timestamp_millis);
    let word = text(0)?;
    let state = JobState::ALL.into_iter().find(|state| state.word() == word)?;
    let (options, progress, result) = (json(6), json(7), json(13));
    let of_progress = |key: &str| progress.get(key).and_then(Value::as_str).map(str::to_owned);
    let failed = text(12).or_else(|| text(16));
    let waits_for = text(5).map(|after| format!("waits for job {after}"));
    let says = match state {
        JobState::Active => of_progress("says"),
        JobState::Waiting => None,
        JobState::Delayed => of_progress("waits").or(failed),
        JobState::Blocked => waits_for,
        JobState::Failed => failed,
        JobState::Completed => result.get("says").and_then(Value::as_str).map(str::to_owned),
    };
    // BullMQ also counts the attempt that came to something.
    let came_to_something = i64::from(state == JobState::Completed);
    let attempts = number(8).unwrap_or_default().saturating_sub(came_to_something).max(0);
    let next_try = text(2).and_then(|score| score.parse::<f64>().ok()).and_then(at_score);
    Some(JobView {
        id: text(1)?,
        name: text(3).unwrap_or_default(),
        state,
        priority: number(15).and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        most_attempts: options.get("attempts").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        next_try: next_try.filter(|_| state == JobState::Delayed),
        asked_at: time(9).unwrap_or_default(),
        begun_at: time(10),
        ended_at: time(11),
        asked_by: text(4),
        worker: text(14),
        run: of_progress("run").or_else(|| result.get("run").and_then(Value::as_str).map(str::to_owned)),
        done: match state {
            JobState::Completed => Some(1.0),
            JobState::Active | JobState::Delayed | JobState::Failed => {
                progress.get("percent").and_then(Value::as_f64).map(|percent| (percent / 100.0).clamp(0.0, 1.0))
            }
            JobState::Waiting | JobState::Blocked => None,
        },
        says,
    })
}

/// BullMQ's score of a delayed job: milliseconds since 1970, times 4096, and a number that keeps their order.
fn at_score(score: f64) -> Option<DateTime<Utc>> {
    #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds fits; nonsense is no time")]
    DateTime::from_timestamp_millis((score / 4096.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(state: &str) -> Vec<Option<String>> {
        let some = |text: &str| Some(text.to_owned());
        vec![
            some(state),
            some("12"),
            some("7168000000000001"),
            some("emails"),
            some("ann@ops1"),
            None,
            some(r#"{"attempts":3,"backoff":{"type":"exponential","delay":1000}}"#),
            some(r#"{"percent":71.3,"run":"7f3a09c2","says":"emails 71.3%"}"#),
            some("1"),
            some("1700000000000"),
            some("1700000001000"),
            None,
            some("the server went away"),
            None,
            some("ops2:77"),
            some("1"),
            None,
        ]
    }

    #[test]
    fn a_job_is_shown_by_what_its_state_makes_of_its_fields() {
        let active = job(&fields("active")).expect("a job");
        assert_eq!((active.id.as_str(), active.name.as_str(), active.state), ("12", "emails", JobState::Active));
        assert_eq!((active.priority, active.attempts, active.most_attempts), (1, 1, 3));
        assert_eq!((active.run.as_deref(), active.says.as_deref()), (Some("7f3a09c2"), Some("emails 71.3%")));
        assert_eq!((active.next_try, active.done), (None, Some(0.713)));
        let delayed = job(&fields("delayed")).expect("a job");
        assert_eq!(delayed.says.as_deref(), Some("the server went away"));
        assert_eq!(delayed.next_try.map(|at| at.timestamp_millis()), Some(1_750_000_000_000));
    }

    #[test]
    fn what_another_producer_left_out_or_wrote_otherwise_hides_nothing() {
        let mut fields = fields("failed");
        for index in [2, 3, 4, 6, 7, 8, 9, 10, 14, 15] {
            fields[index] = Some("{".to_owned());
        }
        let failed = job(&fields).expect("a job");
        assert_eq!((failed.most_attempts, failed.attempts, failed.done), (1, 0, None));
        assert_eq!(failed.says.as_deref(), Some("the server went away"));
        assert!(job(&[None]).is_none());
        assert!(job(&[Some("dancing".to_owned()), Some("1".to_owned())]).is_none());
    }
}
