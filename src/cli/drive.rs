//! Drives a run to its end: engine, monitor, and either the console or plain lines.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alarming::Alarming;
use super::desk::queue::QueueDesk;
use super::desk::{self, Desk};
use super::exporting::Exporting;
use super::headless::{self, Style};
use super::next::Next;
use super::opening::Slots;
use super::{Exit, ShowArgs, environment, keys, say};
use crate::console::{self, Leave, Link, Mode};
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::ports::Opened;
use crate::engine::{self, Handle};
use crate::monitor;
use crate::plan::model::OnHangup;
use crate::postgres::dsn::Target;
use crate::run::report::Report;
use crate::run::{Asker, Cause, Command, Interest, Request, RunState, Snapshot, Vitals};

/// How long the engine may take to put itself away once the run is over.
const PUT_AWAY: Duration = Duration::from_secs(10);

/// A run that is to be driven.
pub struct Job {
    /// What is shown before anything is connected.
    pub start: Snapshot,
    /// Connects, checks, takes the run.
    pub opener: BoxFuture<'static, Result<Opened, Cause>>,
    /// Where the opener puts what is needed of the run.
    pub slots: Slots,
    /// The database.
    pub target: Target,
    /// The queue of plans. `None`: no Redis is named.
    pub queue: Option<Arc<dyn QueueDesk>>,
    /// Lines that the console shows at the end.
    pub farewell: Vec<String>,
}

/// How the driving ended.
pub struct Driven {
    /// The run's last state.
    pub last: Arc<Snapshot>,
    /// For the shell.
    pub exit: Exit,
    /// What the operator left the console for.
    pub next: Option<Next>,
}

/// The first snapshot of a run.
#[must_use]
pub fn starting(run: String, plan: String) -> Snapshot {
    Snapshot::starting(SystemClock::start().utc(), run, plan, environment::host())
}

/// Drives a run, shows it, and says at the end how it ended.
///
/// # Errors
/// The console cannot be set up as it is wanted (keys, colours), or metrics cannot be told where they are wanted. Nothing was
/// begun then.
pub async fn drive(job: Job, show: &ShowArgs) -> Result<Driven, Cause> {
    let style = environment::style(show);
    let options = match style {
        None => Some(keys::console_options(show.theme.as_deref(), show.mouse, Mode::Driver, job.farewell.clone())?),
        Some(_) => None,
    };
    let exporting = Exporting::begin(&show.metrics).await?;
    exporting.announce();
    let slots = job.slots;
    let (handle, measuring) = engage(job.start, job.opener, &slots);
    exporting.told().show(handle.snapshots.clone());
    let driven = match options {
        Some(options) => with_console(handle, options, &slots, Looked { target: job.target, queue: job.queue }).await,
        None => without_console(handle, style.unwrap_or(Style::Lines), &slots).await,
    };
    measuring.end().await;
    exporting.end().await;
    Ok(driven)
}

/// What measures around a run: host, process, database.
pub(super) struct Measuring {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    alarming: Alarming,
}

/// Starts the engine on a run, and what measures around it.
pub(super) fn engage(
    start: Snapshot,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    slots: &Slots,
) -> (Handle, Measuring) {
    let clock = Arc::new(SystemClock::start());
    let (vitals_in, vitals) = (slots.vitals.clone(), slots.vitals.subscribe());
    let handle = engine::spawn(start, opener, vitals, clock.clone());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let source = slots.source.subscribe();
    let snapshots = handle.snapshots.clone();
    let (alarming, alarms) = Alarming::begin(slots, &snapshots, handle.requests.clone());
    let measured = monitor::start(&mut tasks, stop.clone(), source, alarms, clock, snapshots);
    tasks.spawn(forward(measured, vitals_in, stop.clone()));
    (handle, Measuring { stop, tasks, alarming })
}

impl Measuring {
    /// Ends it.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        self.alarming.end().await;
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(Duration::from_secs(2), ended).await);
        self.tasks.shutdown().await;
    }
}

async fn forward(mut from: watch::Receiver<Arc<Vitals>>, to: watch::Sender<Arc<Vitals>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = from.changed() => if changed.is_err() { return },
        }
        let newest = Arc::clone(&from.borrow_and_update());
        to.send_replace(newest);
    }
}

/// What a console looks at beside the run.
struct Looked {
    target: Target,
    queue: Option<Arc<dyn QueueDesk>>,
}

async fn with_console(handle: Handle, options: console::Options, slots: &Slots, looked: Looked) -> Driven {
    let Looked { target, queue } = looked;
    let (details_in, details) = watch::channel(Arc::default());
    let (interest, looked_at) = watch::channel(Interest::default());
    let (orders, ordered) = mpsc::channel(16);
    let requests = handle.requests.clone();
    let link = Link { snapshots: handle.snapshots.clone(), details, interest, requests, orders };
    // The console writes to the terminal on the thread that hears its signals: a line that stalls must not keep SIGTERM
    // from stopping the run.
    let mut listeners = JoinSet::new();
    listeners.spawn(stop_on_signals(handle.requests.clone()));
    let closed = CancellationToken::new();
    let desk = Desk::on(target, handle.snapshots.clone());
    let mut looking = JoinSet::new();
    let pace = desk::queue::Pace::default();
    looking.spawn(desk::queue::keep(queue, pace, looked_at.clone(), ordered, details_in.clone(), closed.clone()));
    looking.spawn(desk::keep(desk, looked_at, details_in, closed.clone()));
    let left = console::run(link, options).await;
    listeners.shutdown().await;
    // It takes leave of the server.
    closed.cancel();
    drop(tokio::time::timeout(Duration::from_secs(1), async { while looking.join_next().await.is_some() {} }).await);
    looking.shutdown().await;
    let (leave, next) = match left {
        Ok(Leave::KeepRunning) => {
            let again = opens_again(&handle.snapshots.borrow());
            say::err(&format!("going on without a console{again}; Ctrl-C pauses at the batch's edge and quits"));
            return without_console(handle, Style::Bar, slots).await;
        }
        // The terminal is gone: whoever looks later finds the log and the ledger, or attaches.
        Ok(Leave::HungUp) => {
            hung_up(&handle.requests, slots);
            return without_console(handle, Style::Lines, slots).await;
        }
        Ok(leave) => (leave, Next::of(leave)),
        Err(error) => {
            tracing::error!("the console failed: {error}");
            let again = opens_again(&handle.snapshots.borrow());
            say::err(&format!(
                "the console failed ({error}); the run goes on without it{again}; Ctrl-C pauses and quits"
            ));
            return without_console(handle, Style::Lines, slots).await;
        }
    };
    match leave {
        // Asked once more while the open batch was being finished: the server rolls it back when the connection ends.
        Leave::Over | Leave::PauseAndQuit if !handle.snapshots.borrow().state.is_over() => quit_at_once(&handle),
        _ => {
            let last = put_away(handle).await;
            Driven { next, ..conclude(last, next.is_none()) }
        }
    }
}

/// The command that opens a console again, in brackets. Nothing where nobody could: the demo's server ends with its run.
fn opens_again(snapshot: &Snapshot) -> String {
    match snapshot.resume_command.strip_prefix("howdah resume") {
        Some(rest) => format!(" (howdah attach{rest} opens one again)"),
        None => String::new(),
    }
}

/// What the plan wants done when the terminal is lost.
fn hung_up(requests: &mpsc::Sender<Request>, slots: &Slots) {
    let wanted = *slots.on_hangup.borrow();
    tracing::warn!("the terminal is gone (SIGHUP); on_hangup: {wanted:?}");
    let command = match wanted {
        OnHangup::Continue => return,
        OnHangup::Pause => Command::Pause,
        OnHangup::Stop => Command::Stop,
    };
    drop(requests.try_send(Request::new(command, Asker::HangUp)));
}

async fn without_console(handle: Handle, style: Style, slots: &Slots) -> Driven {
    let mut listeners = JoinSet::new();
    let (quit, mut quitting) = mpsc::channel(1);
    listeners.spawn(obey_signals(handle.requests.clone(), quit, slots.clone()));
    let events = handle.events.resubscribe();
    let following = headless::follow(handle.snapshots.clone(), events, style);
    let last = tokio::select! {
        biased;
        last = following => Some(last),
        _ = quitting.recv() => None,
    };
    listeners.shutdown().await;
    if last.is_none() {
        // Asked twice.
        return quit_at_once(&handle);
    }
    let last = put_away(handle).await;
    conclude(last, style != Style::Json)
}

/// Under a console, which itself only leaves when the run has stopped.
async fn stop_on_signals(requests: mpsc::Sender<Request>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(requests.send(Request::new(Command::Stop, Asker::Signal)).await);
    }
}

fn quit_at_once(handle: &Handle) -> Driven {
    let last = Arc::clone(&handle.snapshots.borrow());
    say::err(&match last.resume_command.as_str() {
        "" => "quitting at once".to_owned(),
        command => format!("quitting at once; go on with: {command}"),
    });
    Driven { last, exit: Exit::Resumable, next: None }
}

/// The first SIGINT or SIGTERM stops at the batch's edge, the second at once. SIGHUP does what the plan says.
async fn obey_signals(requests: mpsc::Sender<Request>, quit: mpsc::Sender<()>, slots: Slots) {
    let suspend = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGTSTP as i32));
    let streams =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()), suspend);
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut suspend)) = streams else {
        tracing::error!("signals cannot be listened to");
        return;
    };
    let mut asked = false;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {
                hung_up(&requests, &slots);
                continue;
            }
            // A console that was open before has taken this signal over, for good.
            _ = suspend.recv() => {
                if console::has_shell() {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), nix::sys::signal::Signal::SIGSTOP);
                }
                continue;
            }
        }
        if asked {
            let _ = quit.try_send(());
            return;
        }
        asked = true;
        drop(requests.try_send(Request::new(Command::Stop, Asker::Signal)));
    }
}

/// Waits for the engine's own end, and returns the run's last state.
pub(super) async fn put_away(mut handle: Handle) -> Arc<Snapshot> {
    let ended = async { while handle.join.join_next().await.is_some() {} };
    if tokio::time::timeout(PUT_AWAY, ended).await.is_err() {
        tracing::error!("the engine did not end in time");
    }
    Arc::clone(&handle.snapshots.borrow())
}

/// Says how it ended.
pub(super) fn conclude(last: Arc<Snapshot>, in_words: bool) -> Driven {
    let exit = match &last.state {
        RunState::Done { .. } if last.quarantined() > 0 => Exit::Quarantined,
        RunState::Done { .. } => Exit::Done,
        // A plan that is found wrong before the run began has changed nothing: 2. Later it is a run that failed: 1.
        RunState::Failed { cause, .. } if last.started_at.is_none() => say::exit_of(cause),
        RunState::Failed { .. } => Exit::Failed,
        RunState::Stopped { .. }
        | RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => Exit::Resumable,
    };
    if let RunState::Failed { cause, .. } = &last.state
        && last.started_at.is_none()
    {
        say::err(&say::failure_text(cause));
    } else if in_words {
        say::err(Report::of(&last).to_text().trim_end());
    }
    Driven { last, exit, next: None }
}
