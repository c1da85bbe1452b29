//! The board's pace: who may open a batch, what the others wait for, and who changes that.

use super::Board;
use crate::engine::breaker::Change;
use crate::engine::turnstile::{Answer, Ended, Held, Rest, Ticket};
use crate::run::{EventKind, Level, RunState, SignalView};

impl Board {
    /// Asks for `worker` whether it may open a batch; one that is `hurt` wants to recover first.
    pub fn admit(&self, worker: u32, hurt: bool) -> Answer {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        match inner.snapshot.state {
            RunState::Running => {}
            RunState::Starting
            | RunState::Pausing { .. }
            | RunState::Paused { .. }
            | RunState::Resuming { .. }
            | RunState::Stopping { .. }
            | RunState::Stopped { .. }
            | RunState::Failed { .. }
            | RunState::Done { .. } => return Answer::Later(None),
        }
        inner.count(now, self.clock.utc());
        let answer = inner.turnstile.admit(worker, hurt, now);
        inner.count(now, self.clock.utc());
        drop(inner);
        if matches!(answer, Answer::Open(Ticket { trial: true, .. })) {
            self.breaker_changed(Some(&Change::HalfOpened));
        }
        answer
    }

    /// A worker's batch is closed.
    pub fn close(&self, ticket: Ticket, ended: &Ended) {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        inner.count(now, self.clock.utc());
        let change = inner.turnstile.close(ticket, ended, now);
        inner.count(now, self.clock.utc());
        let waits_for_edge = matches!(inner.snapshot.state, RunState::Pausing { .. } | RunState::Stopping { .. })
            && inner.turnstile.open() == 0;
        drop(inner);
        self.breaker_changed(change.as_ref());
        if waits_for_edge {
            self.publish();
        }
    }

    pub(super) fn breaker_changed(&self, change: Option<&Change>) {
        if let Some(change) = change {
            let (level, text) = change.describe();
            self.event(level, EventKind::Breaker, text);
            self.publish();
        }
    }

    /// A worker rests before it asks again.
    pub fn rest(&self, worker: u32, rest: Rest) {
        let mut inner = self.lock();
        inner.turnstile.rest(worker, rest);
        inner.count(self.clock.elapsed(), self.clock.utc());
    }

    /// A worker has come, or is gone.
    pub fn presence(&self, worker: u32, here: bool) {
        let mut inner = self.lock();
        inner.turnstile.presence(worker, here);
        inner.count(self.clock.elapsed(), self.clock.utc());
    }

    /// A batch is going to be tried again, which is not worth a line.
    pub fn counted_retry(&self) {
        if let Some(view) = self.lock().view() {
            view.retries += 1;
        }
    }

    /// A batch is going to be tried again.
    pub fn retried(&self, level: Level, text: String) {
        self.counted_retry();
        self.event(level, EventKind::Retried, text);
        self.publish();
    }

    /// Takes over what the governor says.
    pub fn govern(&self, wanted: u32, held: Option<Held>, signals: Vec<SignalView>) {
        let (now, utc) = (self.clock.elapsed(), self.clock.utc());
        let mut inner = self.lock();
        inner.count(now, utc);
        let most = inner.most_workers.0;
        let before = inner.turnstile.held().cloned();
        let workers = inner.turnstile.workers().0;
        inner.turnstile.govern(wanted, most, held.clone());
        inner.signals = signals;
        inner.count(now, utc);
        let moves = before.as_ref().map(|held| &held.key) != held.as_ref().map(|held| &held.key) || workers != wanted;
        let tells = inner.can_hold_still();
        drop(inner);
        match (before.filter(|held| !held.is_first()), held) {
            (None, Some(held)) if tells => {
                self.event(Level::Warning, EventKind::Governor, format!("batches wait: {}", held.reason));
            }
            (Some(before), None) if tells => {
                self.event(Level::Info, EventKind::Governor, format!("batches go on: {} is over", before.key));
            }
            _ => {}
        }
        if moves {
            self.publish();
        }
    }

    /// Whether a pause by the governor can come about soon: between batches or between steps, but not within a statement,
    /// which goes on to its end.
    #[must_use]
    pub fn can_hold_still(&self) -> bool {
        self.lock().can_hold_still()
    }

    /// What holds every batch back, by the governor.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.lock().turnstile.held().cloned()
    }

    /// Workers that may be at work now.
    #[must_use]
    pub fn wanted_workers(&self) -> u32 {
        self.lock().turnstile.workers().0
    }

    /// The most workers that the operator wants.
    #[must_use]
    pub fn most_workers(&self) -> u32 {
        self.lock().most_workers.0
    }

    /// Rows set aside in percent of rows walked in the running step, and both counts.
    #[must_use]
    pub fn set_aside(&self) -> (u64, u64) {
        // What a run that takes another back leaves alone is no mistake of its own.
        self.lock()
            .view()
            .filter(|view| view.kind != "undo")
            .map_or((0, 0), |view| (view.quarantined, view.rows_walked))
    }
}
