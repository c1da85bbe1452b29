//! A queue as a table, for `howdah queue`. Times of day are UTC.

use chrono::{DateTime, Utc};

use crate::run::text::clean;
use crate::run::{JobState, JobView, QueueView, human};

/// The widest that a plan's name may be.
const NAME: usize = 30;

/// The queue: what it is, who works on it, its jobs by state.
pub(super) fn table(view: &QueueView) -> String {
    let paused = if view.is_paused { ", paused: no job is given out" } else { "" };
    let mut lines = vec![format!("queue {} on {}{paused}", clean(&view.name), clean(&view.server))];
    lines.push(match view.workers.as_slice() {
        [] => "no worker is there".to_owned(),
        workers => {
            let names: Vec<_> = workers.iter().map(|worker| clean(&worker.name)).collect();
            format!("workers: {}", names.join(", "))
        }
    });
    let counts = JobState::ALL.map(|state| {
        let count = view.counts.of(state);
        format!("{} {}", state.word(), human::count(count))
    });
    lines.push(counts.join("   "));
    if !view.jobs.is_empty() {
        let ids = view.jobs.iter().map(|job| clean(&job.id).chars().count()).max().unwrap_or_default().max(3);
        let names = view.jobs.iter().map(|job| clean(&job.name).chars().count()).max().unwrap_or_default();
        let names = names.clamp(4, NAME);
        lines.push(String::new());
        lines.push(format!(
            "{:<ids$}  {:<names$}  {:<9}  {:>4}  {:>5}  {:<17}  {}",
            "JOB", "PLAN", "STATE", "PRIO", "TRIES", "WHEN (UTC)", "WHAT"
        ));
        lines.extend(view.jobs.iter().map(|job| row(job, ids, names, view.at)));
    }
    if view.more > 0 {
        lines.push(format!("{} more are not shown: --limit, --state", human::count(view.more)));
    }
    lines.join("\n")
}

fn row(job: &JobView, ids: usize, names: usize, now: DateTime<Utc>) -> String {
    let name: String = match clean(&job.name) {
        name if name.chars().count() > names => name.chars().take(names - 1).chain(['…']).collect(),
        name => name.into_owned(),
    };
    let tries = format!("{}/{}", job.attempts, job.most_attempts);
    let line = format!(
        "{:<ids$}  {name:<names$}  {:<9}  {:>4}  {tries:>5}  {:<17}  {}",
        clean(&job.id),
        job.state.word(),
        job.priority,
        when(job, now),
        what(job),
    );
    line.trim_end().to_owned()
}

/// The time that matters in the job's state.
fn when(job: &JobView, now: DateTime<Utc>) -> String {
    let at = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    match job.state {
        JobState::Active => job.begun_at.map(at).unwrap_or_default(),
        JobState::Waiting | JobState::Blocked => at(job.asked_at),
        JobState::Delayed => job.next_try.map_or_else(String::new, |next| match (next - now).to_std() {
            Ok(left) => format!("in {}", human::rough_duration(left)),
            Err(_) => "now".to_owned(),
        }),
        JobState::Failed | JobState::Completed => job.ended_at.map(at).unwrap_or_default(),
    }
}

/// What there is to say: which run, by whom, what it says.
fn what(job: &JobView) -> String {
    let mut parts = Vec::new();
    parts.extend(job.run.as_deref().map(|run| format!("run {}", clean(run))));
    parts.extend(job.worker.as_deref().filter(|_| job.state == JobState::Active).map(|by| format!("on {}", clean(by))));
    let asked = matches!(job.state, JobState::Waiting | JobState::Blocked | JobState::Delayed);
    parts.extend(job.asked_by.as_deref().filter(|_| asked).map(|by| format!("for {}", clean(by))));
    let says = job.says.as_deref().map(clean);
    [parts.join(" "), says.unwrap_or_default().into_owned()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::queue::{JobCounts, WorkerView};

    fn job(id: &str, state: JobState) -> JobView {
        let at = |s: i64| DateTime::from_timestamp(1_700_000_000 + s, 0);
        JobView {
            id: id.to_owned(),
            name: "emails".to_owned(),
            state,
            priority: 1,
            attempts: 1,
            most_attempts: 3,
            next_try: at(90).filter(|_| state == JobState::Delayed),
            asked_at: at(0).expect("a time"),
            begun_at: at(10),
            ended_at: at(20),
            asked_by: Some("ann@ops1".to_owned()),
            worker: Some("ops2:77".to_owned()),
            run: (state == JobState::Active).then(|| "7f3a09c2".to_owned()),
            done: None,
            says: Some("why\u{1b}[31m".to_owned()),
        }
    }

    #[test]
    fn a_queue_is_shown_by_state_with_reasons_and_without_control_characters() {
        let view = QueueView {
            name: "howdah".to_owned(),
            server: "cache:6379/0".to_owned(),
            at: DateTime::from_timestamp(1_700_000_060, 0).expect("a time"),
            is_paused: true,
            counts: JobCounts { active: 1, delayed: 1, failed: 12, ..JobCounts::default() },
            jobs: vec![job("12", JobState::Active), job("nightly", JobState::Delayed), job("9", JobState::Failed)],
            more: 11,
            workers: vec![WorkerView { name: "ops2:77".to_owned(), client: "10.0.0.2:4000".to_owned() }],
        };
        insta::assert_snapshot!(table(&view), @"
        queue howdah on cache:6379/0, paused: no job is given out
        workers: ops2:77
        active 1   waiting 0   delayed 1   blocked 0   failed 12   completed 0

        JOB      PLAN    STATE      PRIO  TRIES  WHEN (UTC)         WHAT
        12       emails  active        1    1/3  2023-11-14 22:13   run 7f3a09c2 on ops2:77: why\u{fffd}[31m
        nightly  emails  delayed       1    1/3  in 30s             for ann@ops1: why\u{fffd}[31m
        9        emails  failed        1    1/3  2023-11-14 22:13   why\u{fffd}[31m
        11 more are not shown: --limit, --state
        ");
    }
}
