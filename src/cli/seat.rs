//! What a process is to a run: it drives it, or has joined it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;

use super::opening::Planned;
use crate::engine::ports::{self, Ledger};
use crate::engine::sharing::Leases;
use crate::ledger::lock::Reopen;
use crate::ledger::member::{Membership, Place};
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::redis::driver::RedisLedger;
use crate::ledger::redis::notes::Notes;
use crate::ledger::relay::Relay;
use crate::plan::model::StepKind;
use crate::plan::movers::Sink;
use crate::steps::{Task, Workbench};

/// What a process is to a run.
pub enum Role {
    /// It drives it; its session holds the lock.
    Driver(PgConnection),
    /// It has joined it.
    Member(Place),
}

/// Whether other processes may walk segments of a step. Files that are written lie on one host; the segments of a copy to another
/// database stand there.
#[must_use]
pub fn is_joinable(task: &Task) -> bool {
    match task {
        Task::Plan(StepKind::Backfill(_) | StepKind::Import(_)) => true,
        Task::Plan(StepKind::Transform(transform)) => !matches!(transform.sink, Sink::File { .. }),
        Task::Plan(StepKind::Copy(copy)) => copy.database.is_none(),
        Task::Plan(
            StepKind::Files(_)
            | StepKind::Statement(_)
            | StepKind::Index(_)
            | StepKind::Reindex(_)
            | StepKind::Analyze(_)
            | StepKind::Verify(_),
        )
        | Task::Down(_)
        | Task::DropIndex { .. }
        | Task::ClearRebuild(_)
        | Task::Revert { .. }
        | Task::Restore { .. } => false,
    }
}

/// What a process writes to and hears from, by what it is to the run.
pub(super) struct Seat {
    /// Where the run is written down.
    pub ledger: Arc<dyn Ledger>,
    /// What keeps the place: the lock, the heartbeat.
    pub keeper: BoxFuture<'static, ()>,
    /// What shows the run to others, or hears what its driver wants.
    pub relay: Option<ports::Relay>,
    /// The leases of a member.
    pub leases: Option<Arc<dyn Leases>>,
}

/// The driver's ways to others.
pub(super) struct Line {
    /// To consoles elsewhere.
    pub relay: Relay,
    /// To another session for the lock.
    pub reopen: Reopen,
    /// To a ledger on Redis.
    pub notes: Option<Notes>,
}

impl Seat {
    /// Takes the place of `role`.
    pub fn take(role: Role, planned: &[Planned], bench: &Workbench, line: Line) -> Self {
        let (pool, run) = (bench.pool.clone(), bench.run_id);
        match role {
            Role::Driver(lock) => {
                let Line { relay, reopen, notes } = line;
                // Consoles elsewhere read what lies in the database.
                if let Some(notes) = notes {
                    let (ledger, keeper) = RedisLedger::new(pool, notes, lock, reopen);
                    return Self { ledger, keeper: Box::pin(keeper), relay: None, leases: None };
                }
                let (ledger, keeper) = PostgresLedger::new(pool, run, relay.epoch, lock, reopen);
                Self {
                    ledger,
                    keeper: Box::pin(keeper),
                    relay: Some(Box::new(move |snapshots, requests| Box::pin(relay.keep(snapshots, requests)))),
                    leases: None,
                }
            }
            Role::Member(place) => {
                let joinable = planned.iter().map(|step| is_joinable(&step.task)).collect();
                let member = Membership::new(pool, place, joinable, Arc::clone(&bench.set_aside));
                let heeding = Arc::clone(&member);
                Self {
                    keeper: Box::pin(Arc::clone(&member).keep()),
                    relay: Some(Box::new(move |snapshots, requests| Box::pin(heeding.heed(snapshots, requests)))),
                    leases: Some(Arc::clone(&member) as Arc<dyn Leases>),
                    ledger: member,
                }
            }
        }
    }
}
