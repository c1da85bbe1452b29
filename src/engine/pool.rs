//! Workers over segments: as many as are wanted, each on a segment of its own, until all are done or one has failed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::afield;
use super::batch_size::BatchSize;
use super::board::{Board, Survey};
use super::gate::Gate;
use super::handle::from_panic;
use super::ports::{Batched, Pacing, StepContext, StepError, Sweep};
use super::sharing::{Leases, Shares};
use super::worker::Hand;
use super::yard::{Take, Yard};
use crate::run::StepIndex;
use crate::run::snapshot::Parts;

/// What the workers of a sweep share.
#[derive(Clone)]
pub struct Crew {
    /// Where everything is told.
    pub board: Arc<Board>,
    /// The step.
    pub step: Arc<dyn Batched>,
    /// Its place in the plan.
    pub index: StepIndex,
    /// How many rows the next batch holds.
    pub size: Arc<Mutex<BatchSize>>,
    /// How fast, and how often.
    pub pacing: Pacing,
    /// Who else walks the sweep, and how the segments are shared.
    pub sharing: Sharing,
    /// The sweep's number.
    pub sweep: u32,
    yard: Arc<Mutex<Yard>>,
    news: watch::Sender<()>,
    /// Cancelled when one has failed: the others end at their batch's edge.
    pub halt: CancellationToken,
    /// Cancelled when no worker is left.
    pub walked: CancellationToken,
}

/// How the segments of a sweep are shared with other processes.
#[derive(Clone)]
pub enum Sharing {
    /// Not at all.
    None,
    /// This process drives; members may have some.
    Driver(Arc<dyn Shares>),
    /// This process is a member; the driver plans.
    Member(Arc<dyn Leases>),
}

/// What a crew walks, and at what pace.
pub struct Work {
    /// The step.
    pub step: Arc<dyn Batched>,
    /// Its place in the plan.
    pub index: StepIndex,
    /// How many rows the next batch holds.
    pub size: Arc<Mutex<BatchSize>>,
    /// How fast, and how often.
    pub pacing: Pacing,
    /// Who else walks it.
    pub sharing: Sharing,
}

impl Crew {
    /// A crew for the segments of `sweep`; of a member: for those that it will lease.
    #[must_use]
    pub fn new(board: Arc<Board>, work: Work, sweep: Sweep) -> Self {
        let Work { step, index, size, pacing, sharing } = work;
        let number = sweep.number;
        let yard = match &sharing {
            Sharing::None | Sharing::Driver(_) => Yard::new(sweep.segments, &sweep.weights, sweep.foretold, sweep.room),
            Sharing::Member(leases) => Yard::joined(leases.first_number(), sweep.room),
        };
        let (news, _) = watch::channel(());
        Self {
            board,
            step,
            index,
            size,
            pacing,
            sharing,
            sweep: number,
            yard: Arc::new(Mutex::new(yard)),
            news,
            halt: CancellationToken::new(),
            walked: CancellationToken::new(),
        }
    }

    /// The segments. No await happens while they are held.
    pub fn yard(&self) -> MutexGuard<'_, Yard> {
        self.yard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of batches. No await happens while it is held.
    pub fn size(&self) -> MutexGuard<'_, BatchSize> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait for a segment to look again.
    pub fn wake(&self) {
        self.news.send_replace(());
    }

    /// Hears what [`Crew::wake`] tells.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Where the sweep is seen from near.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let yard = Arc::clone(&self.yard);
        Arc::new(move |now| yard.lock().unwrap_or_else(PoisonError::into_inner).survey(now))
    }

    /// Segments done, and in all.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.yard().parts()
    }

    /// Walks all segments.
    ///
    /// # Errors
    /// What the first worker failed with, once all have come to their edge; [`StepError::Stopped`].
    pub async fn walk(&self, gate: &mut Gate, context: &StepContext) -> Result<(), StepError> {
        let mut beside = JoinSet::new();
        for companion in self.step.companions(context) {
            beside.spawn(companion);
        }
        let mut sharing = JoinSet::new();
        match &self.sharing {
            Sharing::None => {}
            Sharing::Driver(shares) => {
                sharing.spawn(afield::watch(self.clone(), Arc::clone(shares)));
            }
            Sharing::Member(leases) => {
                sharing.spawn(afield::forage(self.clone(), Arc::clone(leases)));
            }
        }
        let walked = self.drive(gate).await;
        // It may be inside a transaction: it ends by itself.
        self.walked.cancel();
        while let Some(ended) = sharing.join_next().await {
            if let Err(panic) = ended {
                return Err(StepError::Failed(from_panic(panic)));
            }
        }
        afield::settle(self, walked.is_err()).await;
        // They are between two questions, or wait for an answer that nobody needs any more.
        beside.shutdown().await;
        walked
    }

    async fn drive(&self, gate: &mut Gate) -> Result<(), StepError> {
        let mut workers = JoinSet::new();
        let mut here = BTreeSet::new();
        let mut news = self.news();
        let mut failure = None;
        loop {
            gate.mark_unchanged();
            news.mark_unchanged();
            if failure.is_none() && !self.yard().is_done() {
                for number in 0..self.board.wanted_workers() {
                    if here.insert(number) {
                        workers.spawn(work(self.clone(), gate.clone(), number));
                    }
                }
            }
            if workers.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
            tokio::select! {
                biased;
                ended = workers.join_next() => if let Some(ended) = ended {
                    self.ended(ended, &mut here, &mut failure);
                },
                changed = news.changed() => drop(changed),
                () = gate.news(None) => {}
            }
            if let Err(error) = gate.edge().await {
                self.halt.cancel();
                failure.get_or_insert(error);
            }
        }
    }

    fn ended(
        &self,
        ended: Result<(u32, Result<(), StepError>), JoinError>,
        here: &mut BTreeSet<u32>,
        failure: &mut Option<StepError>,
    ) {
        let error = match ended {
            Ok((number, outcome)) => {
                here.remove(&number);
                outcome.err()
            }
            Err(panic) => Some(StepError::Failed(from_panic(panic))),
        };
        let Some(error) = error else { return };
        self.halt.cancel();
        // A worker that was stopped tells less than one that failed.
        if failure.as_ref().is_none_or(|first| *first == StepError::Stopped) {
            *failure = Some(error);
        }
    }
}

/// One worker, from its first segment to its last.
async fn work(crew: Crew, gate: Gate, number: u32) -> (u32, Result<(), StepError>) {
    let ended = match crew.step.worker() {
        Ok(worker) => {
            let mut hand = Hand::new(crew.clone(), gate, number, worker);
            let ended = segments(&crew, &mut hand, number).await;
            hand.close().await;
            ended
        }
        Err(error) => Err(error),
    };
    crew.wake();
    (number, ended)
}

async fn segments(crew: &Crew, hand: &mut Hand, number: u32) -> Result<(), StepError> {
    let mut news = crew.news();
    loop {
        news.mark_unchanged();
        hand.mark_unchanged();
        if crew.halt.is_cancelled() || number >= crew.board.wanted_workers() {
            return Ok(());
        }
        let least = crew.size().rows();
        let taken = crew.yard().take(number, least);
        match taken {
            Take::Done => return Ok(()),
            Take::Wait => {
                hand.alive()?;
                tokio::select! {
                    biased;
                    () = crew.halt.cancelled() => {}
                    changed = news.changed() => drop(changed),
                    () = hand.news() => {}
                }
            }
            Take::Segment(mut segment) => {
                crew.board.presence(number, true);
                let walked = hand.walk(&mut segment).await;
                crew.board.presence(number, false);
                // One worker too many: its segment is anybody's, before another worker here takes it.
                if let (true, Sharing::Driver(shares)) = (!segment.done && walked.is_ok(), &crew.sharing)
                    && let Err(error) = shares.release(&segment).await
                {
                    tracing::debug!("a segment was not given back: {error:?}");
                }
                crew.yard().hand_back(*segment);
                crew.wake();
                walked?;
            }
        }
    }
}
