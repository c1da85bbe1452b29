//! `howdah worker`: takes plans from a queue and drives them, until it is told to end.

mod driving;
mod metrics;
mod printer;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::driving::Hosted;
use self::printer::Printer;
use super::exporting::{Exporting, MetricsArgs};
use super::join::{self, Joining};
use super::log::Log;
use super::opening::this_process;
use super::{Exit, Global, enqueue};
use crate::queue::line::NAME;
use crate::queue::worker::{LOCK, Options, Tally, Teller, Worker};
use crate::run::Cause;
use crate::run::id::RunRef;

/// `howdah worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The queue
    #[arg(long, value_name = "NAME", default_value = NAME)]
    pub queue: String,
    /// How many plans it drives at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// Drive what is ready, and end: 0, or 1 where a job failed
    #[arg(long)]
    pub once: bool,
    /// Where the plans lie that jobs only name
    #[arg(long, value_name = "DIR")]
    pub plans: Option<PathBuf>,
    /// How long a job stays with a worker that is not heard of, before another one takes it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_lock)]
    pub lock: Duration,
    /// Lines of JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Take no jobs, but walk segments of this run, which another process drives
    #[arg(long, value_name = "RUN", conflicts_with_all = ["queue", "concurrency", "once", "plans", "lock"])]
    pub join: Option<RunRef>,
    /// With --join: so many workers, in place of the plan's
    #[arg(long, value_name = "N", requires = "join", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,
    /// With --join: the plan file, where it has moved or holds the database's address
    #[arg(long, value_name = "PLAN", requires = "join")]
    pub plan: Option<PathBuf>,
    /// Where its numbers are told.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

fn parse_lock(text: &str) -> Result<Duration, String> {
    let lock = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let bounds = Duration::from_secs(1)..=LOCK * 20;
    if bounds.contains(&lock) { Ok(lock) } else { Err("from 1s to 10m".to_owned()) }
}

/// Takes jobs until a signal comes, or with `--once` until nothing is ready.
///
/// # Errors
/// The command is wrong; Redis cannot be reached at the start.
pub async fn run(global: &Global, args: WorkerArgs) -> Result<Exit, Cause> {
    if let Some(run) = args.join {
        let WorkerArgs { workers, plan, json, metrics, .. } = args;
        return join::run(global, Joining { run: Some(run), plan, workers, json, metrics }).await;
    }
    let mut signals = Signals::listen()?;
    let log = Log::begin(global.log_level.as_deref())?;
    log.named("worker")?;
    let exporting = Exporting::begin(&args.metrics).await?;
    exporting.announce();
    let line = Arc::new(enqueue::open(global, None, &args.queue).await?);
    let own = this_process();
    let name = format!("{}:{}", own.host, own.pid);
    let printer = Printer::start(args.json);
    let tell = Teller::new(printer.sink());
    let driver = Arc::new(Hosted {
        global: global.clone(),
        plans: args.plans,
        name: name.clone(),
        told: Arc::clone(exporting.told()),
    });
    let options = Options { name: name.clone(), concurrency: usize::from(args.concurrency), lock: args.lock };
    let worker = Worker::start(Arc::clone(&line), driver, options, tell.clone()).await?;
    let counted = worker.tally();
    exporting.told().beside(move || metrics::of(&counted.borrow()));
    let server = line.link().address().label();
    tell.note("ready", format!("worker {name} takes jobs of queue {} on {server}", line.name()));
    let told_to_end = tokio::select! {
        biased;
        () = signals.next() => true,
        () = worker.drained(), if args.once => false,
    };
    if told_to_end {
        worker.end();
        let active = worker.tally().borrow().active;
        if active > 0 {
            tell.note(
                "ending",
                "takes no more jobs; its runs stop at their batch's edge (a second signal ends at once)".to_owned(),
            );
        }
        tokio::select! {
            biased;
            () = signals.next() => tell.warn("ending", "ends at once: its jobs are given out again once their locks have run out".to_owned()),
            () = worker.idle() => {}
        }
    }
    let unfinished = worker.tally().borrow().active;
    let tally = worker.close().await;
    exporting.end().await;
    tell.note("ended", ended(&tally, unfinished));
    printer.end();
    Ok(match tally {
        Tally { handed_back: 1.., .. } => Exit::Resumable,
        _ if unfinished > 0 => Exit::Resumable,
        Tally { failed: 1.., .. } if args.once => Exit::Failed,
        _ => Exit::Done,
    })
}

fn ended(tally: &Tally, unfinished: usize) -> String {
    let mut parts = vec![format!("{} done", tally.done)];
    let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    parts.extend(counted(tally.failed, "failed"));
    parts.extend(counted(tally.handed_back, "handed back"));
    parts.extend(counted(unfinished, "left at work"));
    format!("worker ends: {}", parts.join(", "))
}

/// SIGINT and SIGTERM. A terminal that is lost ends no worker.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    _hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Cause> {
        let failed = |e: std::io::Error| Cause::bug(format!("signals cannot be listened to: {e}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            // While somebody listens, it does not kill.
            _hangup: signal(SignalKind::hangup()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
