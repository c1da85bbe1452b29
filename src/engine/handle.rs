//! The engine as the rest of the program holds it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::clock::Clock;
use super::news::failure;
use super::ports::{Ledger, Opened};
use super::runner;
use crate::run::{Cause, Command, Event, Signal, Snapshot, Vitals};

/// How long the last events may take to reach the ledger.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often the ledger hears that the driver lives.
const PULSE_EVERY: u32 = 2;

type Adopted = (Arc<dyn Ledger>, Vec<BoxFuture<'static, ()>>);

/// A running engine.
pub struct Handle {
    /// Takes requests. Bounded: use `try_send`.
    pub commands: mpsc::Sender<Command>,
    /// The newest state.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Everything that happens.
    pub events: broadcast::Receiver<Event>,
    /// Ends when the run is over. A panic inside has become a failed run.
    pub join: JoinSet<()>,
}

/// Starts the engine on a background task. The first snapshot, `start`, is there at once; `opener` then connects.
#[must_use]
pub fn spawn(
    start: Snapshot,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    vitals: watch::Receiver<Arc<Vitals>>,
    clock: Arc<dyn Clock>,
) -> Handle {
    let (board, pages) = Board::new(clock, start);
    let (commands, orders) = mpsc::channel(64);
    let (snapshots, events) = (board.snapshots(), board.events());
    let mut join = JoinSet::new();
    join.spawn(supervise(board, opener, orders, pages, vitals));
    Handle { commands, snapshots, events, join }
}

/// Owns the engine's tasks; outlives them all.
async fn supervise(
    board: Arc<Board>,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    orders: mpsc::Receiver<Command>,
    pages: mpsc::Receiver<Event>,
    vitals: watch::Receiver<Arc<Vitals>>,
) {
    let over = CancellationToken::new();
    let stop = CancellationToken::new();
    let (adopted, adoptions) = oneshot::channel::<Adopted>();
    let adopt = move |ledger, keepers| drop(adopted.send((ledger, keepers)));
    let mut runner = JoinSet::new();
    runner.spawn(runner::run(Arc::clone(&board), opener, stop.clone(), adopt));
    let mut helpers = JoinSet::new();
    helpers.spawn(obey(Arc::clone(&board), orders, stop, over.clone()));
    let mut ticking = JoinSet::new();
    ticking.spawn(keep(Arc::clone(&board), adoptions, pages, vitals, over.clone()));
    while let Some(ended) = runner.join_next().await {
        if let Err(panic) = ended {
            drop(board.signal(&failure(from_panic(panic), true)));
        }
    }
    over.cancel();
    helpers.shutdown().await;
    // The keeper ends by itself, once the last events are in the ledger.
    while let Some(ended) = ticking.join_next().await {
        if let Err(panic) = ended {
            tracing::error!("the engine's keeper failed: {panic}");
        }
    }
    board.publish();
}

/// A panic of a task, as the cause of a failure.
pub(super) fn from_panic(error: JoinError) -> Cause {
    let said = match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned()),
        Err(other) => other.to_string(),
    };
    Cause::bug(format!("howdah itself failed: {said}")).hint("what was committed is safe: the run can be resumed")
}

/// Turns commands into signals. What the state does not allow is told in the log and changes nothing.
async fn obey(
    board: Arc<Board>,
    mut orders: mpsc::Receiver<Command>,
    stop: CancellationToken,
    over: CancellationToken,
) {
    loop {
        let order = tokio::select! {
            biased;
            () = over.cancelled() => return,
            order = orders.recv() => order,
        };
        let Some(order) = order else { return };
        let signal = match order {
            Command::Pause(by) => Signal::AskPause { by },
            Command::Continue(_) => Signal::AskContinue,
            Command::Stop(by) => Signal::AskStop { by },
            Command::MoreWorkers(_) | Command::FewerWorkers(_) => {
                board.set_workers(matches!(order, Command::MoreWorkers(_)));
                continue;
            }
            Command::CloseBreaker(_) => {
                board.close_breaker();
                continue;
            }
            Command::LongerBatches(_) | Command::ShorterBatches(_) => {
                board.aim(matches!(order, Command::LongerBatches(_)));
                continue;
            }
        };
        match board.signal(&signal) {
            Ok(_) if matches!(signal, Signal::AskStop { .. }) => stop.cancel(),
            Ok(_) => {}
            Err(illegal) => tracing::debug!("a command came too late or too early: {illegal}"),
        }
    }
}

/// Once a second: time, vitals, heartbeat. What the run needs beside it, until it is over, is owned here.
async fn keep(
    board: Arc<Board>,
    mut adoptions: oneshot::Receiver<Adopted>,
    pages: mpsc::Receiver<Event>,
    vitals: watch::Receiver<Arc<Vitals>>,
    over: CancellationToken,
) {
    let mut keepers = JoinSet::new();
    let mut pages = Some(pages);
    let mut ledger: Option<Arc<dyn Ledger>> = None;
    let mut waiting = true;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => break,
            adopted = &mut adoptions, if waiting => {
                waiting = false;
                if let (Ok((adopted, futures)), Some(pages)) = (adopted, pages.take()) {
                    keepers.spawn(write_events(Arc::clone(&adopted), pages, over.clone()));
                    ledger = Some(adopted);
                    for keeper in futures {
                        keepers.spawn(keeper);
                    }
                }
            }
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                let newest = Arc::clone(&vitals.borrow());
                board.tick(&newest);
                if count.is_multiple_of(PULSE_EVERY) && let Some(ledger) = &ledger {
                    ledger.pulse(board.pulse());
                }
            }
        }
    }
    // They end by themselves: the ledger is closed, and the run is over.
    let all = async { while keepers.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
        tracing::warn!("the last events may not have reached the ledger; they stand in this log");
    }
    keepers.shutdown().await;
}

/// Brings events into the ledger, off every batch's path, to the last one.
async fn write_events(ledger: Arc<dyn Ledger>, mut pages: mpsc::Receiver<Event>, over: CancellationToken) {
    loop {
        let event = tokio::select! {
            biased;
            event = pages.recv() => event,
            () = over.cancelled() => None,
        };
        match event {
            Some(event) => drop(note(ledger.as_ref(), &event).await),
            None => break,
        }
    }
    while let Ok(event) = pages.try_recv() {
        if !note(ledger.as_ref(), &event).await {
            return;
        }
    }
}

async fn note(ledger: &dyn Ledger, event: &Event) -> bool {
    match ledger.event(event).await {
        Ok(()) => true,
        Err(cause) => {
            tracing::warn!("an event did not reach the ledger: {}", cause.headline());
            false
        }
    }
}
