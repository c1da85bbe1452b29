//! The engine as the rest of the program holds it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Page};
use super::clock::Clock;
use super::news::failure;
use super::orders;
use super::ports::{Ledger, Opened};
use super::runner;
use crate::run::{Answered, Asker, Cause, Event, EventKind, Level, Request, Signal, Snapshot, Vitals};

/// How long the last events may take to reach the ledger.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often the ledger hears that the driver lives.
const PULSE_EVERY: u32 = 2;

/// How often an answer is written before it stands only in the log, and after which time again.
const ANSWER_TRIES: u32 = 3;
const ANSWER_AGAIN: Duration = Duration::from_millis(500);

type Adopted = (Arc<dyn Ledger>, Vec<BoxFuture<'static, ()>>);

/// A running engine.
pub struct Handle {
    /// Takes requests. Bounded: use `try_send`.
    pub requests: mpsc::Sender<Request>,
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
    let (requests, orders) = mpsc::channel(64);
    let (snapshots, events) = (board.snapshots(), board.events());
    let mut join = JoinSet::new();
    join.spawn(supervise(board, opener, requests.clone(), orders, pages, vitals));
    Handle { requests, snapshots, events, join }
}

/// Owns the engine's tasks; outlives them all.
async fn supervise(
    board: Arc<Board>,
    opener: BoxFuture<'static, Result<Opened, Cause>>,
    requests: mpsc::Sender<Request>,
    orders: mpsc::Receiver<Request>,
    pages: mpsc::Receiver<Page>,
    vitals: watch::Receiver<Arc<Vitals>>,
) {
    let over = CancellationToken::new();
    let stop = CancellationToken::new();
    let (adopted, adoptions) = oneshot::channel::<Adopted>();
    let (ledger_in, errands) = watch::channel(None);
    let adopt = move |ledger: Arc<dyn Ledger>, keepers| {
        ledger_in.send_replace(Some(Arc::clone(&ledger)));
        drop(adopted.send((ledger, keepers)));
    };
    let mut runner = JoinSet::new();
    runner.spawn(runner::run(Arc::clone(&board), opener, stop.clone(), requests, adopt));
    let mut helpers = JoinSet::new();
    let (stop_on_panic, end) = (stop.clone(), stop.clone());
    helpers.spawn(orders::obey(Arc::clone(&board), orders, errands, stop, over.clone()));
    let mut ticking = JoinSet::new();
    let closing = CancellationToken::new();
    ticking.spawn(keep(Arc::clone(&board), adoptions, pages, vitals, closing.clone(), stop_on_panic));
    loop {
        tokio::select! {
            biased;
            ended = runner.join_next() => match ended {
                None => break,
                Some(Ok(())) => {}
                Some(Err(panic)) => drop(board.signal(&failure(from_panic(panic), true))),
            },
            Some(ended) = helpers.join_next() => {
                if told_of_panic(&board, ended.err()) {
                    end.cancel();
                }
            }
        }
    }
    over.cancel();
    // The last answers are given before the record is closed.
    while let Some(ended) = helpers.join_next().await {
        told_of_panic(&board, ended.err());
    }
    closing.cancel();
    // The keeper ends by itself, once the last events are in the ledger.
    while let Some(ended) = ticking.join_next().await {
        if let Err(panic) = ended {
            tracing::error!("the engine's keeper failed: {panic}");
        }
    }
    board.publish();
}

/// A part of the engine that watches over the run has panicked: the run ends at its batch's edge, resumable.
fn told_of_panic(board: &Board, panic: Option<JoinError>) -> bool {
    let Some(panic) = panic else { return false };
    let cause = from_panic(panic);
    board.event(Level::Critical, EventKind::Notice, format!("{}; the run stops", cause.headline()));
    board.signal(&Signal::AskStop { by: Asker::Engine }).is_ok()
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

/// Once a second: time, vitals, heartbeat. What the run needs beside it, until it is over, is owned here.
async fn keep(
    board: Arc<Board>,
    mut adoptions: oneshot::Receiver<Adopted>,
    pages: mpsc::Receiver<Page>,
    vitals: watch::Receiver<Arc<Vitals>>,
    over: CancellationToken,
    stop: CancellationToken,
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
            Some(ended) = keepers.join_next() => {
                // The governor among them: nobody would hold the run back any more.
                if told_of_panic(&board, ended.err()) {
                    stop.cancel();
                }
            }
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
async fn write_events(ledger: Arc<dyn Ledger>, mut pages: mpsc::Receiver<Page>, over: CancellationToken) {
    loop {
        let page = tokio::select! {
            biased;
            page = pages.recv() => page,
            () = over.cancelled() => None,
        };
        match page {
            Some(page) => drop(note(ledger.as_ref(), &page).await),
            None => break,
        }
    }
    while let Ok(page) = pages.try_recv() {
        if !note(ledger.as_ref(), &page).await {
            return;
        }
    }
}

async fn note(ledger: &dyn Ledger, page: &Page) -> bool {
    let written = match page {
        Page::Event(event) => ledger.event(event).await,
        Page::Command(answered) => answer(ledger, answered).await,
    };
    match written {
        Ok(()) => true,
        Err(cause) => {
            tracing::warn!("a line of the record did not reach the ledger: {}", cause.headline());
            false
        }
    }
}

/// Somebody waits for an answer: it is not given up at the first failure.
async fn answer(ledger: &dyn Ledger, answered: &Answered) -> Result<(), Cause> {
    let mut tries = 0;
    loop {
        tries += 1;
        match ledger.command(answered).await {
            Err(_) if tries < ANSWER_TRIES => tokio::time::sleep(ANSWER_AGAIN).await,
            written => return written,
        }
    }
}
