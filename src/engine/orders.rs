//! What operators ask for, one request after the other: done at once where the engine can, else by the ledger's errands.
//! Each is answered, on the screen and in the record.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::ports::Ledger;
use crate::run::{Command, Request, RunState, Signal};

/// How long an errand at the server may take.
const ERRAND: Duration = Duration::from_secs(10);

/// How long errands may still take when the run is over.
const LAST_ERRANDS: Duration = Duration::from_secs(2);

/// What became of a request: whether it was taken, and what came of it in words.
pub type Outcome = Result<String, String>;

/// Where errands at the server are run; empty until the run is ours.
pub type Errands = watch::Receiver<Option<Arc<dyn Ledger>>>;

/// Carries out requests until the run is over.
pub async fn obey(
    board: Arc<Board>,
    mut orders: mpsc::Receiver<Request>,
    errands: Errands,
    stop: CancellationToken,
    over: CancellationToken,
) {
    let mut running = JoinSet::new();
    loop {
        let request = tokio::select! {
            biased;
            () = over.cancelled() => break,
            Some(ended) = running.join_next() => {
                if let Err(panic) = ended {
                    tracing::error!("an errand failed: {panic}");
                }
                continue;
            }
            request = orders.recv() => request,
        };
        let Some(request) = request else { break };
        match &request.command {
            Command::CancelSession(..) | Command::TerminateSession(..) => {
                running.spawn(errand(Arc::clone(&board), errands.borrow().clone(), request));
            }
            _ => {
                let outcome = act(&board, &request, &stop);
                board.answered(request, outcome);
            }
        }
    }
    // Whoever asked while the run ended hears that it came too late.
    orders.close();
    drop(tokio::time::timeout(LAST_ERRANDS, async { while running.join_next().await.is_some() {} }).await);
    running.shutdown().await;
    while let Some(request) = orders.recv().await {
        board.answered(request, Err("the run is over".to_owned()));
    }
}

/// What the server is asked to do, by the ledger's connections.
async fn errand(board: Arc<Board>, ledger: Option<Arc<dyn Ledger>>, request: Request) {
    let outcome = match ledger {
        None => Err("the run is not connected yet".to_owned()),
        Some(ledger) => match tokio::time::timeout(ERRAND, ledger.errand(&request.command)).await {
            Ok(done) => done.map_err(|cause| cause.headline()),
            Err(_) => Err("the server did not answer in time".to_owned()),
        },
    };
    board.answered(request, outcome);
}

/// What the engine itself can do. What the state does not allow is refused, and changes nothing.
fn act(board: &Board, request: &Request, stop: &CancellationToken) -> Outcome {
    let signal = match &request.command {
        Command::Pause => Signal::AskPause { by: request.by },
        Command::Continue => Signal::AskContinue,
        Command::Stop => Signal::AskStop { by: request.by },
        Command::MoreWorkers => return board.step_workers(true),
        Command::FewerWorkers => return board.step_workers(false),
        Command::SetWorkers(workers) => return board.set_workers(*workers),
        Command::CloseBreaker => return board.close_breaker(),
        Command::LongerBatches => return board.aim(true),
        Command::ShorterBatches => return board.aim(false),
        Command::SetTarget(target) => return board.set_target(*target),
        Command::SkipWindow => return board.skip_window(),
        Command::Acknowledge(key) => return board.acknowledge(key, request),
        Command::Silence(key, time) => return board.silence(key, *time, request),
        Command::Unsilence(key) => return board.unsilence(key),
        Command::CancelSession(..) | Command::TerminateSession(..) => return Err("not the engine's to do".to_owned()),
    };
    if matches!((&signal, board.state()), (Signal::AskStop { .. }, RunState::Stopping { .. })) {
        return Ok("it is being stopped already".to_owned());
    }
    match board.signal(&signal) {
        Ok(state) => {
            if matches!(signal, Signal::AskStop { .. }) {
                stop.cancel();
            }
            Ok(underway(&state).to_owned())
        }
        Err(illegal) => Err(illegal.to_string()),
    }
}

/// What follows from a request that changed the run's state.
fn underway(state: &RunState) -> &'static str {
    match state {
        RunState::Pausing { .. } => "the open batches are finished first",
        RunState::Paused { .. } => "paused; nothing is open",
        RunState::Resuming { .. } | RunState::Running => "going on",
        RunState::Stopping { .. } => "the open batches are finished first; the run can be resumed",
        RunState::Stopped { .. } => "stopped",
        RunState::Starting | RunState::Failed { .. } | RunState::Done { .. } => "taken",
    }
}
