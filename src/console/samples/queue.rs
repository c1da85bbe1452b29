//! A queue with jobs in every state.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{ago, now};
use crate::run::queue::{JobCounts, WorkerView};
use crate::run::{JobState, JobView, OrderAnswer, Presence, QueueNews, QueueOrder, QueueReading, QueueView, Snapshot};

/// A console that shows no run.
pub(crate) fn no_run() -> Snapshot {
    let snapshot = Snapshot::starting(now(), String::new(), String::new(), "ops1".to_owned());
    Snapshot { presence: Presence::NoRun, ..snapshot }
}

pub(crate) fn news() -> QueueNews {
    QueueNews { reading: QueueReading::Read(Arc::new(view())), answers: VecDeque::new() }
}

/// A queue that is paused, without workers.
pub(crate) fn paused() -> QueueNews {
    let view = QueueView { is_paused: true, workers: Vec::new(), ..view() };
    QueueNews { reading: QueueReading::Read(Arc::new(view)), answers: VecDeque::new() }
}

/// A queue that was read, and no longer answers.
pub(crate) fn silent() -> QueueNews {
    let why = "Redis (redis1:6379/0) does not answer: connection refused".to_owned();
    let reading = QueueReading::Silent { why, since: ago(42), last: Some(Arc::new(view())) };
    QueueNews { reading, answers: VecDeque::new() }
}

fn job(id: &str, name: &str, state: JobState, asked: i64) -> JobView {
    JobView {
        id: id.to_owned(),
        name: name.to_owned(),
        state,
        priority: 1,
        attempts: 0,
        most_attempts: 3,
        next_try: None,
        asked_at: ago(asked),
        begun_at: None,
        ended_at: None,
        asked_by: Some("ann@ops2".to_owned()),
        worker: None,
        run: None,
        done: None,
        says: None,
    }
}

pub(crate) fn view() -> QueueView {
    let some = |text: &str| Some(text.to_owned());
    let mut active = job("41", "normalise-emails", JobState::Active, 260);
    (active.worker, active.run, active.done) = (some("ops3:4121"), some("7f3a09c2"), Some(0.713));
    (active.begun_at, active.says) = (Some(ago(210)), some("step 2 emails: 48,210 rows/s, ETA 11–13s"));
    let mut young = job("42", "import-users", JobState::Active, 130);
    (young.worker, young.run, young.done) = (some("ops4:977"), some("0b81c5de"), Some(0.04));
    (young.begun_at, young.attempts) = (Some(ago(12)), 1);
    let mut urgent = job("46", "fix-balances", JobState::Waiting, 15);
    urgent.priority = 0;
    let mut waiting: Vec<JobView> =
        (47..52).map(|n| job(&n.to_string(), "archive-orders", JobState::Waiting, 9)).collect();
    waiting[2].priority = 7;
    let mut delayed = job("44", "reprice-items", JobState::Delayed, 400);
    (delayed.attempts, delayed.next_try) = (1, Some(now() + chrono::TimeDelta::seconds(12)));
    delayed.says = some("waits for table public.items: run 7f3a09c2 is at it");
    let mut tonight = job("nightly:2026-07-01", "vacuum-and-count", JobState::Delayed, 4000);
    (tonight.next_try, tonight.asked_by) = (Some(now() + chrono::TimeDelta::hours(8)), None);
    let mut blocked = job("45", "check-everything", JobState::Blocked, 390);
    blocked.says = some("waits for job 44");
    let mut failed = job("39", "copy-accounts", JobState::Failed, 7300);
    (failed.attempts, failed.worker, failed.run) = (3, some("ops3:4121"), some("5d00aa17"));
    (failed.begun_at, failed.ended_at, failed.done) = (Some(ago(7000)), Some(ago(6900)), Some(0.38));
    failed.says = some(
        "step 2 copy: column \"iban\" of relation \"accounts\" does not exist (42703)\nhint: the plan was made for another version of the schema",
    );
    let mut done = job("38", "normalise-names", JobState::Completed, 9000);
    (done.attempts, done.worker, done.run, done.done) = (0, some("ops4:977"), some("1c22e0b4"), Some(1.0));
    (done.begun_at, done.ended_at, done.says) = (Some(ago(8990)), Some(ago(8700)), some("2,000,000 rows changed"));
    let mut jobs = vec![active, young, urgent];
    jobs.append(&mut waiting);
    jobs.extend([delayed, tonight, blocked, failed, done]);
    let worker = |name: &str, client: &str| WorkerView { name: name.to_owned(), client: client.to_owned() };
    QueueView {
        name: "howdah".to_owned(),
        server: "redis1:6379/0".to_owned(),
        at: now(),
        is_paused: false,
        counts: JobCounts { waiting: 6, active: 2, delayed: 2, blocked: 1, failed: 1, completed: 128 },
        jobs,
        more: 127,
        workers: vec![
            worker("ops3:4121", "10.0.0.13:51022"),
            worker("ops4:977", "10.0.0.14:40110"),
            worker("ops5:12", "10.0.0.15:40112"),
        ],
    }
}

/// Every text is `bad`, and every number too large.
pub(crate) fn hostile(bad: &str) -> QueueNews {
    let bad = bad.to_owned();
    let mut view = view();
    (view.name, view.server, view.more) = (bad.clone(), bad.clone(), u64::MAX);
    view.at = DateTime::<Utc>::MIN_UTC;
    let most = u64::MAX;
    view.counts =
        JobCounts { waiting: most, active: most, delayed: most, blocked: most, failed: most, completed: most };
    for (index, job) in view.jobs.iter_mut().enumerate() {
        (job.id, job.name) = (format!("{index}{bad}"), bad.clone());
        (job.asked_by, job.worker, job.run, job.says) =
            (Some(bad.clone()), Some(bad.clone()), Some(bad.clone()), Some(bad.clone()));
        (job.priority, job.attempts, job.most_attempts) = (u32::MAX, u32::MAX, u32::MAX);
        job.done = Some([f64::NAN, f64::INFINITY, -1.0, 7.0][index % 4]);
        (job.next_try, job.ended_at) = (Some(DateTime::<Utc>::MAX_UTC), Some(DateTime::<Utc>::MAX_UTC));
        (job.asked_at, job.begun_at) = (DateTime::<Utc>::MAX_UTC, Some(DateTime::<Utc>::MIN_UTC));
    }
    for worker in &mut view.workers {
        (worker.name, worker.client) = (bad.clone(), bad.clone());
    }
    let order = QueueOrder::Remove { id: bad.clone() };
    let reading =
        QueueReading::Silent { why: bad.clone(), since: DateTime::<Utc>::MAX_UTC, last: Some(Arc::new(view)) };
    QueueNews { reading, answers: VecDeque::from([OrderAnswer { no: 1, order, outcome: Err(bad) }]) }
}
