//! A run that several processes walk: what the engine asks of whoever keeps the leases.
//!
//! One process drives the run: it plans sweeps, concludes steps and is steered. Others join it and lease segments of the sweep
//! under way. A segment is somebody's by the mark that stands in the ledger, and whoever moves its cursor names its own mark in
//! the change's transaction: one whose lease was taken back finds its next commit refused.

use async_trait::async_trait;
use tokio::sync::watch;

use super::ports::StepError;
use crate::run::member::MemberView;
use crate::run::{Segment, SegmentNo, StepIndex};

/// Segments that one process numbers by itself: more than a step may have. The driver's are those below, a member's begin at its
/// place in the run times this.
pub const NUMBERS: u32 = 8192;

/// What the driver wants of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// That they open no batch.
    pub rests: bool,
    /// That they halve what they walk and give half of it back: the driver's own workers have nothing to walk.
    pub shares: bool,
}

/// A segment that a member holds, or has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// As it stands.
    pub segment: Segment,
    /// The member's host.
    pub host: String,
}

/// How the members stand.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Afield {
    /// Those that are alive.
    pub members: Vec<MemberView>,
    /// The segments of the sweep that are theirs.
    pub held: Vec<Held>,
    /// Segments that they have given back, or that were taken back from members that are gone.
    pub back: Vec<Segment>,
}

/// The driver's side.
#[async_trait]
pub trait Shares: Send + Sync {
    /// Takes a segment for a worker of the driver. `false`: a member has it.
    async fn claim(&self, segment: &Segment) -> Result<bool, StepError>;
    /// A worker of the driver hands a segment back that is not done: a member may have it.
    async fn release(&self, segment: &Segment) -> Result<(), StepError>;
    /// Who has joined, and how far they are in `sweep`; takes back what the dead have held. `ours`: segments that the driver knows
    /// as its own; of all others it is told. `known`: how many it knows as theirs.
    async fn look(&self, sweep: u32, ours: &[SegmentNo], known: usize, wish: Wish) -> Result<Afield, StepError>;
}

/// What a member is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// Help with this sweep of this step.
    Help {
        /// The step.
        step: StepIndex,
        /// Its sweep.
        sweep: u32,
    },
    /// Nothing, for this reason.
    Wait(String),
    /// The run is over: `done`, `stopped`, `failed`, `superseded`.
    Over(String),
}

/// How a member stands to the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is to do.
    pub lead: Lead,
    /// What the driver wants of it.
    pub wish: Wish,
    /// How often that it rests has been wanted, or not wanted any more.
    pub wish_no: i64,
}

/// What a member tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// It has workers without a segment.
    pub is_dry: bool,
    /// The wish under which it has no batch open, and opens none.
    pub rested: Option<i64>,
    /// Its workers.
    pub workers: u32,
}

/// A member's side.
#[async_trait]
pub trait Leases: Send + Sync {
    /// What is to be done now. It changes about once a second.
    fn standing(&self) -> watch::Receiver<Standing>;
    /// For the next heartbeat. Never waits.
    fn report(&self, change: &dyn Fn(&mut Report));
    /// The number from which this member's own segments count: no other process uses those from there on.
    fn first_number(&self) -> SegmentNo;
    /// Numbers below this one have been used.
    fn numbered(&self, next: SegmentNo);
    /// A segment of the sweep that nobody walks. `None`: there is none now.
    async fn lease(&self, step: StepIndex, sweep: u32) -> Result<Option<Segment>, StepError>;
    /// Gives a segment back that is not done.
    async fn release(&self, step: StepIndex, segment: &Segment) -> Result<(), StepError>;
}
