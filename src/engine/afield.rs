//! What goes on beside the workers of a sweep that several processes walk: the driver looks after what members hold, a member
//! brings segments home.

use std::sync::Arc;
use std::time::Duration;

use super::pool::{Crew, Sharing};
use super::sharing::{Lead, Leases, Shares, Wish};
use super::walk::Step;
use crate::run::{RunState, Segment, SegmentNo, Tally};

/// How often the driver looks at its members, and how often a member looks for segments.
const LOOK: Duration = Duration::from_millis(500);
/// The same, while somebody waits for it.
const SOON: Duration = Duration::from_millis(200);
/// How long a run that stops waits for its members to come to their batches' edges.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whether the state is one in which no batch may be opened.
fn rests(state: &RunState) -> bool {
    match state {
        RunState::Pausing { .. } | RunState::Paused { .. } | RunState::Stopping { .. } | RunState::Stopped { .. } => {
            true
        }
        RunState::Starting
        | RunState::Running
        | RunState::Resuming { .. }
        | RunState::Failed { .. }
        | RunState::Done { .. } => false,
    }
}

/// The driver: who has joined, how far they are; what they give back is walked here. Until no worker is left.
pub(super) async fn watch(crew: Crew, shares: Arc<dyn Shares>) {
    let mut snapshots = crew.board.snapshots();
    loop {
        snapshots.mark_unchanged();
        let state = crew.board.state();
        let least = crew.size().rows();
        let wants = {
            let mut yard = crew.yard();
            let wants = !yard.known_afield().is_empty() && yard.is_dry(crew.board.wanted_workers());
            if crew.board.members().iter().any(|member| member.is_dry) {
                yard.ask(least);
            }
            wants
        };
        let wish = Wish { rests: rests(&state), shares: wants };
        let quick = wish.rests || wish.shares || crew.board.members().iter().any(|member| member.is_dry);
        look(&crew, shares.as_ref(), wish).await;
        // A pause is to come about at the members' edges as soon as at those here.
        let asked = async {
            while rests(&crew.board.state()) == wish.rests {
                if snapshots.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = crew.walked.cancelled() => return,
            () = asked => {}
            () = tokio::time::sleep(if quick { SOON } else { LOOK }) => {}
        }
    }
}

async fn look(crew: &Crew, shares: &dyn Shares, wish: Wish) {
    let (known, ours) = {
        let yard = crew.yard();
        (yard.known_afield(), yard.ours())
    };
    match shares.look(crew.sweep, &ours, known.len(), wish).await {
        Ok(afield) => {
            let now = crew.board.elapsed();
            let told_of = |no: &SegmentNo| {
                afield.held.iter().any(|held| held.segment.no == *no) || afield.back.iter().any(|back| back.no == *no)
            };
            let lost: Vec<SegmentNo> = known.into_iter().filter(|no| !told_of(no)).collect();
            let (mut news, all) = {
                let mut yard = crew.yard();
                yard.vanish(&lost);
                let mut news = yard.seen_afield(afield.held, now);
                news.extend(yard.comes_back(afield.back));
                (news, (yard.position(), yard.parts()))
            };
            crew.board.set_members(&afield.members);
            for (segment, tally) in news.drain(..) {
                told(crew, &segment, &tally, all);
            }
            crew.wake();
        }
        Err(error) => tracing::debug!("the members of the run cannot be looked at: {error:?}"),
    }
}

fn told(crew: &Crew, segment: &Segment, tally: &Tally, (position, parts): (Option<f64>, crate::run::snapshot::Parts)) {
    let size = crew.size();
    crew.board.batch(&Step { segment, from: None, tally, took: None, size: &size, position, parts });
}

/// A member: leases segments as long as it has workers without one, until the driver has come to something else.
pub(super) async fn forage(crew: Crew, leases: Arc<dyn Leases>) {
    let mut standing = leases.standing();
    let mut news = crew.news();
    loop {
        news.mark_unchanged();
        let now = standing.borrow_and_update().clone();
        let helps = Lead::Help { step: crew.index, sweep: crew.sweep };
        let goes_on = now.lead == helps && !crew.halt.is_cancelled();
        let workers = crew.board.wanted_workers();
        let mut dry = false;
        if goes_on && !now.wish.rests {
            while (crew.yard().at_hand() as u64) < u64::from(workers) {
                match leases.lease(crew.index, crew.sweep).await {
                    Ok(Some(segment)) => {
                        crew.yard().add(segment);
                        crew.wake();
                    }
                    Ok(None) => {
                        dry = true;
                        break;
                    }
                    Err(error) => {
                        tracing::debug!("no segment can be leased: {error:?}");
                        break;
                    }
                }
            }
        }
        leases.report(&|report| report.is_dry = dry);
        let given = {
            let least = crew.size().rows();
            let mut yard = crew.yard();
            if now.wish.shares && goes_on {
                yard.ask(least);
                yard.give_back()
            } else if goes_on {
                Vec::new()
            } else {
                yard.give_back()
            }
        };
        give_back(&crew, leases.as_ref(), given).await;
        if !goes_on && crew.yard().at_hand() == 0 {
            crew.yard().close();
            crew.wake();
            return;
        }
        tokio::select! {
            biased;
            () = crew.walked.cancelled() => return,
            changed = standing.changed() => if changed.is_err() { return },
            // A worker has come to the end of its segment: it waits for the next one.
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SOON) => {}
        }
    }
}

async fn give_back(crew: &Crew, leases: &dyn Leases, segments: Vec<Segment>) {
    for segment in segments {
        // Where this fails, the driver takes it back once this member has left.
        if let Err(error) = leases.release(crew.index, &segment).await {
            tracing::debug!("a segment was not given back: {error:?}");
        }
    }
}

/// After the workers have come to their end: a driver that stops lets its members come to their batches' edges; a member gives
/// back what it still has.
pub(super) async fn settle(crew: &Crew, broke_off: bool) {
    match &crew.sharing {
        Sharing::None => {}
        Sharing::Driver(shares) => {
            if crew.board.members().is_empty() {
                return;
            }
            // Until the next sweep's driver looks at them, they lease nothing.
            let wish = Wish { rests: true, shares: false };
            let end = crew.board.elapsed() + FAREWELL;
            look(crew, shares.as_ref(), wish).await;
            while broke_off && crew.board.members().iter().any(|member| !member.is_resting) {
                if crew.board.elapsed() > end {
                    tracing::warn!("a process that has joined the run has not come to its batch's edge");
                    break;
                }
                tokio::time::sleep(SOON).await;
                look(crew, shares.as_ref(), wish).await;
            }
            crew.board.rest_members();
        }
        Sharing::Member(leases) => {
            let left = crew.yard().give_back();
            give_back(crew, leases.as_ref(), left).await;
            leases.report(&|report| report.is_dry = false);
            let next = crew.yard().next_number();
            leases.numbered(next);
        }
    }
}
