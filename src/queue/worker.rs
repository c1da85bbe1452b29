//! Takes jobs, and has them driven.
//!
//! The crate's own loop fetches: it blocks on BullMQ's marker, wakes for delayed jobs, gives stalled jobs out again, keeps to
//! BullMQ's options of a job that has ended (`removeOnComplete`), and goes on when Redis is back. Taking jobs by hand would have
//! to do all of that again. What it does too little of is done here: a panic of what drives a job is caught (the job would
//! stay active for ever), the lock is renewed by us ([`hold`](super::hold): the crate's renewal does not say when it has failed),
//! and whatever becomes of a job is carried out before the loop is told ([`verdict`](super::verdict)).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bullmq::worker::WorkerEvent;
use bullmq::{Error, Job, WorkerOptions};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hold::Hold;
use super::job::{JobData, run_id};
use super::line::{Line, connection, within};
use super::report::{self, Reporter};
use super::verdict::{self, Ending, Outcome, Verdict};
use crate::run::{Cause, RunId};

/// How long a job stays with a worker that is not heard of.
pub const LOCK: Duration = Duration::from_secs(30);
/// A job may be given out anew as often as this: the ledger says how far its run is, and a worker that is killed says nothing
/// about the plan.
const MOST_STALLED: u32 = 1000;
/// The last lines of a job may take so long to reach Redis.
const LAST_LINES: Duration = Duration::from_secs(3);
/// The crate's fetching loop may take so long to end once there is nothing more to fetch.
const CLOSE_MS: u64 = 500;

/// What a worker is given.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:pid`.
    pub name: String,
    /// How many jobs it drives at once.
    pub concurrency: usize,
    /// How long a job stays with it when it is not heard of.
    pub lock: Duration,
}

/// A job to be driven.
#[derive(Debug, Clone)]
pub struct Task {
    /// The job's id.
    pub id: String,
    /// The plan's name, as the job has it.
    pub name: String,
    /// What the job holds.
    pub data: JobData,
    /// The run that the job is.
    pub run: RunId,
    /// When the job was put into line.
    pub added_at: DateTime<Utc>,
}

/// How a driver is held, and where it reports.
#[derive(Clone)]
pub struct Reins {
    /// Cancelled once this worker is to end: stop at a batch's edge.
    pub stop: CancellationToken,
    /// Cancelled once another worker has the job: stop at a batch's edge.
    pub lost: CancellationToken,
    /// Progress and log lines of the job.
    pub report: Reporter,
    /// What the operator is told.
    pub tell: Teller,
}

/// Drives jobs.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Drives a job to its end, or until it is told to stop.
    async fn drive(&self, task: Task, reins: Reins) -> Verdict;
}

/// One thing that an operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The job's id and plan, where it is about one.
    pub job: Option<(String, String)>,
    /// What kind of fact, for machines.
    pub kind: &'static str,
    /// Whether it is worth a look.
    pub is_warning: bool,
    /// In words. Not cleaned.
    pub text: String,
}

/// Tells news, of one job or of the worker.
#[derive(Clone)]
pub struct Teller {
    sink: Arc<dyn Fn(News) + Send + Sync>,
    job: Option<(String, String)>,
}

impl Teller {
    /// One that tells of the worker.
    #[must_use]
    pub fn new(sink: Arc<dyn Fn(News) + Send + Sync>) -> Self {
        Self { sink, job: None }
    }

    /// The same of a job.
    #[must_use]
    pub fn of(&self, id: &str, name: &str) -> Self {
        Self { sink: Arc::clone(&self.sink), job: Some((id.to_owned(), name.to_owned())) }
    }

    /// Something good to know.
    pub fn note(&self, kind: &'static str, text: String) {
        (self.sink)(News { job: self.job.clone(), kind, is_warning: false, text });
    }

    /// Something to look at.
    pub fn warn(&self, kind: &'static str, text: String) {
        (self.sink)(News { job: self.job.clone(), kind, is_warning: true, text });
    }
}

/// What a worker has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Jobs at work now.
    pub active: usize,
    /// Jobs that were taken.
    pub taken: usize,
    /// Jobs that are completed.
    pub done: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Jobs that were handed back.
    pub handed_back: usize,
}

/// What all jobs of a worker share.
struct Shift {
    line: Arc<Line>,
    driver: Arc<dyn Driver>,
    tell: Teller,
    ending: CancellationToken,
    lock: Duration,
    tally: watch::Sender<Tally>,
}

/// A worker at work.
pub struct Worker {
    crate_worker: Arc<bullmq::Worker>,
    shift: Arc<Shift>,
    tasks: JoinSet<()>,
}

impl Worker {
    /// Begins to take jobs.
    ///
    /// # Errors
    /// Redis cannot be reached, or refuses.
    pub async fn start(
        line: Arc<Line>,
        driver: Arc<dyn Driver>,
        options: Options,
        tell: Teller,
    ) -> Result<Self, Cause> {
        let address = line.link().address().clone();
        let settings = WorkerOptions::new()
            .connection(connection(&address)?)
            .prefix(address.key_prefix())
            .name(&options.name)
            .concurrency(options.concurrency.max(1))
            .lock_duration(options.lock)
            .max_stalled_count(MOST_STALLED)
            .stalled_interval((options.lock / 6).clamp(Duration::from_millis(500), Duration::from_secs(5)))
            .drain_delay(Duration::from_secs(1))
            .run_retry_delay(Duration::from_secs(1))
            .skip_lock_renewal()
            .manual_start();
        let shift = Arc::new(Shift {
            line: Arc::clone(&line),
            driver,
            tell,
            ending: CancellationToken::new(),
            lock: options.lock,
            tally: watch::Sender::new(Tally::default()),
        });
        let own = Arc::clone(&shift);
        let attend = move |job: Job, _: bullmq::worker::CancellationToken| {
            let shift = Arc::clone(&own);
            async move { shift.attend(job).await }
        };
        let what = "becoming a worker";
        let crate_worker = within(&address, what, bullmq::Worker::with_options(line.name(), attend, settings)).await?;
        let crate_worker = Arc::new(crate_worker);
        within(&address, what, crate_worker.run()).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(Arc::clone(&crate_worker), shift.tell.clone()));
        Ok(Self { crate_worker, shift, tasks })
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> watch::Receiver<Tally> {
        self.shift.tally.subscribe()
    }

    /// Takes no more jobs, and has those at work stopped at their batch's edge and handed back.
    pub fn end(&self) {
        self.crate_worker.pause();
        self.shift.ending.cancel();
    }

    /// Waits until no job is at work.
    pub async fn idle(&self) {
        let mut tally = self.shift.tally.subscribe();
        loop {
            // A job that was fetched is not yet one at work.
            if tally.borrow_and_update().active == 0 && self.crate_worker.active_count().await == 0 {
                return;
            }
            drop(tokio::time::timeout(Duration::from_millis(100), tally.changed()).await);
        }
    }

    /// Waits until there is nothing that could be taken, and nothing at work.
    pub async fn drained(&self) {
        const LOOK: Duration = Duration::from_millis(200);
        let mut quiet = 0;
        while quiet < 2 {
            tokio::time::sleep(LOOK).await;
            let before = *self.shift.tally.borrow();
            let line = &self.shift.line;
            let ready = match line.asked("counting jobs", line.queue.get_job_counts()).await {
                Ok(counts) => counts.waiting + counts.prioritized + counts.paused,
                Err(_) => continue,
            };
            let is_paused = line.asked("looking at the queue", line.queue.is_paused()).await.unwrap_or(false);
            let still = before.active == 0 && self.crate_worker.active_count().await == 0;
            let nothing = ready == 0 || is_paused;
            quiet = if nothing && still && before.taken == self.shift.tally.borrow().taken { quiet + 1 } else { 0 };
        }
    }

    /// Ends it. Jobs that are still at work are given out again once their locks have run out.
    pub async fn close(mut self) -> Tally {
        self.shift.ending.cancel();
        drop(self.crate_worker.close(CLOSE_MS).await);
        // Its last wait may have taken a marker that was meant for another worker.
        drop(verdict::wake(&self.shift.line).await);
        self.tasks.shutdown().await;
        *self.shift.tally.borrow()
    }
}

/// Empties the crate's unbounded box of events, and tells what a person should know.
async fn listen(worker: Arc<bullmq::Worker>, tell: Teller) {
    let mut away = false;
    while let Some(event) = worker.next_event().await {
        match event {
            WorkerEvent::Error(text) => {
                if !std::mem::replace(&mut away, true) {
                    tell.warn("redis_away", format!("no job can be taken: {text}; trying again until Redis answers"));
                }
            }
            WorkerEvent::Drained | WorkerEvent::Active { .. } => {
                if std::mem::take(&mut away) {
                    tell.note("redis_back", "Redis answers again: jobs are taken".to_owned());
                }
            }
            WorkerEvent::Stalled { job_id } => {
                tell.note("stalled", format!("job {job_id} has lost its worker, and is given out again"));
            }
            WorkerEvent::Closed => return,
            WorkerEvent::Completed { .. }
            | WorkerEvent::Failed { .. }
            | WorkerEvent::Ready
            | WorkerEvent::Progress { .. }
            | WorkerEvent::Paused
            | WorkerEvent::Resumed => {}
        }
    }
}

impl Shift {
    /// Has a job driven, and carries out what becomes of it.
    async fn attend(&self, mut job: Job) -> Result<Value, Error> {
        let _counted = Counted::new(&self.tally);
        let tell = self.tell.of(job.id(), job.name());
        let hold = Hold::on(&job, self.line.keys(), self.line.link(), self.lock);
        let lost = CancellationToken::new();
        let (report, mut outbox) = report::channel();
        let reins = Reins { stop: self.ending.clone(), lost: lost.clone(), report, tell: tell.clone() };
        let taken = job.clone();
        let driving = AssertUnwindSafe(self.judge(&taken, reins)).catch_unwind();
        let keeping = async {
            tokio::join!(hold.keep(&lost, &tell), outbox.keep(&self.line, &mut job));
        };
        let driven = tokio::select! {
            biased;
            driven = driving => driven,
            // Neither ends by itself.
            () = keeping => Ok(Verdict::Lost),
        };
        let verdict = driven.unwrap_or_else(|panic| {
            let reason = format!("howdah itself failed: {}", said(panic.as_ref()));
            Verdict::Failed { reason, may_pass: true }
        });
        drop(tokio::time::timeout(LAST_LINES, outbox.send(&self.line, &mut job)).await);
        let ending = Ending { line: &self.line, job: &mut job, hold: &hold, tell: &tell, ending: &self.ending };
        let (outcome, answer) = ending.carry_out(verdict).await;
        self.tally.send_modify(|tally| match outcome {
            Outcome::Done => tally.done += 1,
            Outcome::Failed | Outcome::TriedAgain => tally.failed += 1,
            Outcome::HandedBack => tally.handed_back += 1,
            Outcome::Waits | Outcome::NotOurs => {}
        });
        answer
    }

    /// Reads the job, looks at what it has to follow, and has it driven.
    async fn judge(&self, job: &Job, reins: Reins) -> Verdict {
        let for_good = |cause: &Cause| Verdict::Failed { reason: reason(cause), may_pass: false };
        let data = match JobData::read(job.data()) {
            Ok(data) => data,
            Err(cause) => return for_good(&cause),
        };
        if self.ending.is_cancelled() {
            return Verdict::HandedBack;
        }
        if let Some(after) = &data.after
            && let Some(verdict) = self.to_follow(job.id(), after).await
        {
            return verdict;
        }
        let queue = self.line.keys().base();
        let run = run_id(&queue, job.id(), job.timestamp());
        let added_at = i64::try_from(job.timestamp()).ok().and_then(DateTime::from_timestamp_millis);
        let name = data.name.clone().unwrap_or_else(|| job.name().to_owned());
        let task = Task { id: job.id().to_owned(), name, data, run, added_at: added_at.unwrap_or_else(Utc::now) };
        self.driver.drive(task, reins).await
    }

    /// What becomes of a job because of the one that it has to follow. `None`: that one is completed.
    async fn to_follow(&self, id: &str, after: &str) -> Option<Verdict> {
        use bullmq::JobState as S;
        let for_good = |reason: String| Some(Verdict::Failed { reason, may_pass: false });
        let waits = || Some(Verdict::Waits { says: format!("waits for job {after}") });
        if id == after {
            return for_good("the job was to follow itself".to_owned());
        }
        match self.line.asked("looking for the job before", self.line.queue.get_job_state(after)).await {
            Ok(S::Completed) => None,
            Ok(S::Failed) => for_good(format!("job {after}, which it was to follow, failed")),
            Ok(S::Unknown) => for_good(format!("job {after}, which it was to follow, is not there")),
            Ok(S::Waiting | S::Active | S::Delayed | S::Prioritized | S::WaitingChildren) | Err(_) => waits(),
        }
    }
}

/// A cause in one line, as a job's reason: what to do stands with it, since nobody sees this worker's screen.
#[must_use]
pub fn reason(cause: &Cause) -> String {
    let hints = cause.hints.iter().map(|hint| format!("; {hint}"));
    std::iter::once(cause.headline()).chain(hints).collect()
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Counts a job as being at work while it lives.
struct Counted<'a>(&'a watch::Sender<Tally>);

impl<'a> Counted<'a> {
    fn new(tally: &'a watch::Sender<Tally>) -> Self {
        tally.send_modify(|tally| {
            tally.active += 1;
            tally.taken += 1;
        });
        Self(tally)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|tally| tally.active -= 1);
    }
}
