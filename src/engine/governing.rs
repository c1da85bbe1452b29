//! The governor at work: reads the signals once a second, and holds the run back or lets it go.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::board::{Board, HOURS};
use super::governor::{self, Governor};
use super::ports::Pacing;
use super::turnstile::Held;
use crate::plan::window::{self, Place};
use crate::run::{Asker, RunState, Signal};

/// How often the signals are read.
const EVERY: Duration = Duration::from_secs(1);

/// Governs the run until it is over.
pub async fn govern(board: Arc<Board>, pacing: Pacing) {
    let mut snapshots = board.snapshots();
    let over = async {
        // An error means that the board is gone, and the run with it.
        drop(snapshots.wait_for(|snapshot| snapshot.state.is_over()).await);
    };
    tokio::select! {
        biased;
        () = over => {}
        () = forever(&board, &pacing) => {}
    }
}

async fn forever(board: &Board, pacing: &Pacing) {
    let mut governor = Governor::new(pacing.workers, board.elapsed());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let gauges = pacing.gauges.read().await;
        let now = board.elapsed();
        governor.set_most(board.most_workers(), now);
        governor.observe(gauges, now);
        let verdict = governor.verdict(now);
        let hours = outside(pacing, board).filter(|_| !board.skips_window());
        let pause = hours.or_else(|| verdict.pause.map(|by| held(by, false)));
        let pauses = pause.is_some();
        let held = pause.or_else(|| verdict.hold.map(|by| held(by, verdict.is_unread)));
        board.govern(verdict.wanted, held, governor.views(now));
        steer(board, pauses);
    }
}

fn held(by: governor::Held, is_unread: bool) -> Held {
    Held { key: by.key, reason: by.reason, until: None, is_unread }
}

/// What the allowed hours say.
fn outside(pacing: &Pacing, board: &Board) -> Option<Held> {
    match window::place(&pacing.allowed, board.utc()) {
        Place::Inside => None,
        Place::Outside { opens } => {
            let windows: Vec<&str> = pacing.allowed.iter().map(|window| window.text.as_str()).collect();
            let reason = format!("outside the allowed hours: {}", windows.join("; "));
            Some(Held { key: HOURS.to_owned(), reason, until: opens, is_unread: false })
        }
    }
}

/// Pauses a run whose batches may not go on, and lets it go on once they may. A pause that somebody else asked for is
/// theirs to end.
fn steer(board: &Board, pauses: bool) {
    let state = board.state();
    let signal = match &state {
        RunState::Running if pauses && board.can_hold_still() => Signal::AskPause { by: Asker::Governor },
        RunState::Pausing { by: Asker::Governor, .. } | RunState::Paused { by: Asker::Governor, .. } if !pauses => {
            Signal::AskContinue
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Paused { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. }
        | RunState::Stopped { .. }
        | RunState::Failed { .. }
        | RunState::Done { .. } => return,
    };
    // Somebody may have been quicker: then their word holds.
    if let Err(illegal) = board.signal(&signal) {
        tracing::debug!("the governor came too late: {illegal}");
    }
}
