//! `howdah console`: the console on the queue of plans, without a run.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::desk::queue::QueueDesk;
use super::environment::{self, variable};
use super::log::Log;
use super::{AttachArgs, ConsoleArgs, Exit, Global, ShowArgs, attach, desk, keys};
use crate::console::ui::View;
use crate::console::{self, Leave, Link, Mode, Options};
use crate::engine::clock::{Clock, SystemClock};
use crate::run::{Cause, Interest, Presence, ShortId, Snapshot};

/// How often the time on the screen goes on.
const TICK: Duration = Duration::from_secs(1);
/// How long whoever looks things up may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Shows the queue until the operator leaves; a run that is a job of it in between.
///
/// # Errors
/// There is no terminal, or keys or colours are wrong.
pub async fn run(global: &Global, args: ConsoleArgs) -> Result<Exit, Cause> {
    if environment::style(&ShowArgs::default()).is_some() {
        return Err(Cause::usage("there is no terminal here that can show a console")
            .hint("`howdah queue` shows the queue without one"));
    }
    let queue = desk::queue::named(global, None, args.queue.as_deref());
    // Into memory: no run has a file yet.
    let _log = Log::begin(global.log_level.as_deref())?;
    let mut notice = None;
    loop {
        let run = match shown(&args, queue.clone(), notice.take()).await? {
            Leave::Attach(run) => run,
            Leave::Over
            | Leave::KeepRunning
            | Leave::PauseAndQuit
            | Leave::HungUp
            | Leave::EndedEarly
            | Leave::Resume
            | Leave::Undo
            | Leave::RetryQuarantine
            | Leave::Terminated => return Ok(Exit::Done),
        };
        match attached(global, &args, run).await {
            // Whoever is asked to end, or has lost the terminal, does not come back to the queue.
            Ok(Leave::HungUp | Leave::Terminated) => return Ok(Exit::Done),
            Ok(_) => {}
            Err(cause) => notice = Some(format!("run {run}: {}", told(&cause))),
        }
    }
}

/// Shows the run of a job until the operator leaves it.
async fn attached(global: &Global, args: &ConsoleArgs, run: ShortId) -> Result<Leave, Cause> {
    let is_named = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if global.database.is_none() && !["DATABASE_URL", "PGHOST", "PGDATABASE"].into_iter().any(is_named) {
        return Err(Cause::usage("this console was given no database").hint("--database or DATABASE_URL names it"));
    }
    let place = attach::place(global, None)?;
    let found = attach::find(&place.target, &run.into()).await?;
    let args =
        AttachArgs { run: None, read_only: args.read_only, plan: None, theme: args.theme.clone(), mouse: args.mouse };
    attach::attach(global, &args, &place, found).await.map(|(_, leave)| leave)
}

fn told(cause: &Cause) -> String {
    match cause.hints.first() {
        Some(hint) => format!("{} ({hint})", cause.message),
        None => cause.message.clone(),
    }
}

/// Shows the queue until the operator leaves. Returns why.
async fn shown(args: &ConsoleArgs, queue: Option<Arc<dyn QueueDesk>>, notice: Option<String>) -> Result<Leave, Cause> {
    let mode = if args.read_only { Mode::ReadOnly } else { Mode::Attached };
    let options = keys::console_options(args.theme.as_deref(), args.mouse, mode, Vec::new())?;
    let options = Options { view: View::Queue, notice, ..options };
    let clock = SystemClock::start();
    let (snapshots_in, snapshots) = watch::channel(Arc::new(without_a_run(&clock)));
    let (details_in, details) = watch::channel(Arc::default());
    let (interest, looked_at) = watch::channel(Interest::default());
    // Nothing is asked of a run where there is none.
    let (requests, _unheard) = mpsc::channel(1);
    let (orders, ordered) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(tick(clock, snapshots_in, stop.clone()));
    let pace = desk::queue::Pace::default();
    tasks.spawn(desk::queue::keep(queue, pace, looked_at, ordered, details_in, stop.clone()));
    let left = console::run(Link { snapshots, details, interest, requests, orders }, options).await;
    stop.cancel();
    drop(tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await);
    tasks.shutdown().await;
    left.map_err(|e| Cause::usage(e.to_string()).hint("`howdah queue` shows the queue without a console"))
}

/// What stands in the place of a run.
fn without_a_run(clock: &SystemClock) -> Snapshot {
    let nameless = String::new();
    let snapshot = Snapshot::starting(clock.utc(), nameless.clone(), nameless, environment::host());
    Snapshot { presence: Presence::NoRun, ..snapshot }
}

/// Lets the time on the screen go on.
async fn tick(clock: SystemClock, snapshots: watch::Sender<Arc<Snapshot>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        snapshots.send_modify(|held| *held = Arc::new(Snapshot { now: clock.utc(), ..Snapshot::clone(held) }));
    }
}
