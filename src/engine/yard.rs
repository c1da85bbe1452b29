//! The segments of a sweep, and who walks them. Pure.
//!
//! Workers take segments that nobody walks. One that finds none asks that the segment with the most left be halved; the
//! worker that walks it does so at its next edge, so that nobody else ever touches a segment under its batches.

mod afield;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::sharing::NUMBERS;
use super::survey::{self, Course, Known};
use crate::run::snapshot::Parts;
use crate::run::work::{Cell, Work};
use crate::run::{Segment, SegmentNo, Tally};

/// Rows that a split looks ahead at most: it reads that many entries of an index.
const AHEAD: u64 = 250_000;

/// What a worker without a segment is told.
#[derive(Debug, PartialEq)]
pub enum Take {
    /// Walk this.
    Segment(Box<Segment>),
    /// Somebody was asked to share; ask again when the yard changes.
    Wait,
    /// Every segment is done.
    Done,
}

/// The segments of one sweep.
#[derive(Debug)]
pub struct Yard {
    waiting: VecDeque<(Segment, Share)>,
    walking: BTreeMap<SegmentNo, Walking>,
    /// Those whose last batch failed for good.
    broken: Vec<(Segment, Walking)>,
    /// Those that members walk, with their hosts.
    afield: BTreeMap<SegmentNo, (Walking, String)>,
    /// Segments come from elsewhere, one by one: that there is none now does not mean that all are done.
    is_open: bool,
    /// Share of the input that is done.
    done: f64,
    ended: BTreeMap<SegmentNo, (Segment, Share)>,
    /// All of them, in the order of their keys.
    order: Vec<SegmentNo>,
    /// The share of the input that was done in a segment before it was cut.
    front: BTreeMap<SegmentNo, f64>,
    next: u32,
    /// Segments that may still be made.
    room: u32,
    /// Rows that the whole sweep is thought to hold.
    foretold: Option<u64>,
}

/// A segment's share of the input, 0 to 1, by the plan of the sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    whole: f64,
    /// Rows walked in it when it got this share.
    before: u64,
}

#[derive(Debug)]
struct Walking {
    /// As it was last told.
    segment: Segment,
    worker: u32,
    state: Cell,
    retries: u64,
    course: Course,
    share: Share,
    walked: u64,
    position: Option<f64>,
    /// Asked to be halved.
    asked: bool,
    /// Not so many rows left that halving would help.
    whole: bool,
}

impl Yard {
    /// The segments of a sweep; `room` more may be made by splitting. `weights`: how much of the input each is; empty where all
    /// are alike. `foretold`: rows that the sweep is thought to hold.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn new(segments: Vec<Segment>, weights: &[u64], foretold: Option<u64>, room: u32) -> Self {
        // Members number their own.
        let own = segments.iter().map(|segment| segment.no.0).filter(|no| *no < NUMBERS);
        let next = own.map(|no| no + 1).max().unwrap_or(0);
        let even = 1.0 / segments.len().max(1) as f64;
        let all: f64 = weights.iter().map(|weight| *weight as f64).sum();
        let weighed = weights.len() == segments.len() && all > 0.0;
        let share = |at: usize| if weighed { weights[at] as f64 / all } else { even };
        let order = survey::order(&segments);
        let shared = segments.into_iter().enumerate().map(|(at, segment)| (segment, share(at)));
        let (done, waiting): (Vec<_>, Vec<_>) = shared.partition(|(segment, _)| segment.done);
        Self {
            done: done.iter().map(|(_, share)| share).sum(),
            ended: done.into_iter().map(|(one, whole)| (one.no, (one, Share { whole, before: 0 }))).collect(),
            order,
            front: BTreeMap::new(),
            waiting: waiting.into_iter().map(|(segment, whole)| (segment, Share { whole, before: 0 })).collect(),
            walking: BTreeMap::new(),
            broken: Vec::new(),
            afield: BTreeMap::new(),
            is_open: false,
            next,
            room,
            foretold,
        }
    }

    /// A segment for `worker`; `least` is the size of a batch: less than two of them are not shared.
    pub fn take(&mut self, worker: u32, least: u64) -> Take {
        if let Some((segment, share)) = self.waiting.pop_front() {
            let walked = segment.tally.walked;
            let walking = Walking {
                segment: segment.clone(),
                worker,
                state: Cell::Running,
                retries: 0,
                course: Course::default(),
                share,
                walked,
                position: None,
                asked: false,
                whole: false,
            };
            self.walking.insert(segment.no, walking);
            return Take::Segment(Box::new(segment));
        }
        if self.walking.is_empty() && self.afield.is_empty() && !self.is_open {
            return Take::Done;
        }
        if !self.is_open {
            self.ask(least);
        }
        Take::Wait
    }

    /// Asks the worker with the most left to share, unless somebody is asked already, or a segment waits.
    pub(super) fn ask(&mut self, least: u64) {
        if self.room == 0 || !self.waiting.is_empty() || self.walking.values().any(|walking| walking.asked) {
            return;
        }
        let left = |walking: &Walking| self.left(walking).unwrap_or(u64::MAX);
        let most = self
            .walking
            .iter()
            .filter(|(_, walking)| !walking.whole && left(walking) >= least.saturating_mul(2))
            .max_by_key(|(_, walking)| left(walking))
            .map(|(no, _)| *no);
        if let Some(walking) = most.and_then(|no| self.walking.get_mut(&no)) {
            walking.asked = true;
        }
    }

    /// Rows left in a segment, as far as anybody can tell: by the place of its cursor, else by its share of the sweep.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a row count"
    )]
    fn left(&self, walking: &Walking) -> Option<u64> {
        let here = walking.walked.saturating_sub(walking.share.before);
        if let Some(position) = walking.position.filter(|position| *position > 0.05 && here > 0) {
            return Some((here as f64 * (1.0 - position) / position) as u64);
        }
        self.foretold.map(|rows| ((rows as f64 * walking.share.whole) as u64).saturating_sub(here))
    }

    /// A batch of a segment has committed, at `now` by a monotonic clock.
    pub fn advanced(&mut self, segment: &Segment, position: Option<f64>, now: Duration) {
        if let Some(walking) = self.walking.get_mut(&segment.no) {
            walking.segment.clone_from(segment);
            walking.state = Cell::Running;
            walking.course.push(now, segment.tally.walked);
            walking.walked = segment.tally.walked;
            walking.position = position;
        }
    }

    /// A batch of a segment has failed: it is tried again, or it was the last.
    pub fn failed(&mut self, no: SegmentNo, for_good: bool) {
        if let Some(walking) = self.walking.get_mut(&no) {
            walking.state = if for_good { Cell::Failed } else { Cell::Retrying };
            walking.retries += u64::from(!for_good);
        }
    }

    /// How many rows ahead of its cursor the walker of `no` is asked to cut, and the number for the new segment.
    #[must_use]
    pub fn wants_split(&self, no: SegmentNo, least: u64) -> Option<(SegmentNo, u64)> {
        let walking = self.walking.get(&no).filter(|walking| walking.asked)?;
        let half = self.left(walking).unwrap_or(least.saturating_mul(4)) / 2;
        Some((SegmentNo(self.next), half.clamp(least.min(AHEAD), AHEAD)))
    }

    /// The walker of `no` has cut off `rest`, or found that too little is left.
    pub fn split(&mut self, no: SegmentNo, rest: Option<Segment>) {
        let Some(walking) = self.walking.get_mut(&no) else { return };
        walking.asked = false;
        let Some(rest) = rest else {
            walking.whole = true;
            return;
        };
        let position = walking.position.unwrap_or(0.0);
        let left = walking.share.whole * (1.0 - position);
        self.done += walking.share.whole - left;
        *self.front.entry(no).or_default() += walking.share.whole - left;
        walking.share = Share { whole: left / 2.0, before: walking.walked };
        walking.position = None;
        walking.segment.upper.clone_from(&rest.lower);
        self.next = self.next.max(rest.no.0 + 1);
        self.room = self.room.saturating_sub(1);
        // The ledger may have told of it before the worker did.
        if self.order.contains(&rest.no) {
            return;
        }
        let place = self.order.iter().position(|other| *other == no).map_or(self.order.len(), |at| at + 1);
        self.order.insert(place, rest.no);
        self.waiting.push_back((rest, Share { whole: left / 2.0, before: 0 }));
    }

    /// A worker hands its segment back: done, or to be walked by another.
    pub fn hand_back(&mut self, segment: Segment) {
        let Some(walking) = self.walking.remove(&segment.no) else { return };
        if segment.done {
            self.done += walking.share.whole;
            self.ended.insert(segment.no, (segment, walking.share));
        } else if walking.state == Cell::Failed {
            // Nobody takes it again: the run is about to end, and shows where.
            self.broken.push((segment, walking));
        } else {
            self.waiting.push_front((segment, walking.share));
        }
    }

    /// Share of the input that is done, 0 to 1, where anything can be told of it.
    #[must_use]
    pub fn position(&self) -> Option<f64> {
        let mut all = self.done;
        let mut known = self.done > 0.0;
        for walking in self.walking.values().chain(self.afield.values().map(|(walking, _)| walking)) {
            if let Some(position) = self.within(walking) {
                all += walking.share.whole * position;
                known = true;
            }
        }
        known.then(|| all.clamp(0.0, 1.0))
    }

    /// Segments done, and in all.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let open = self.waiting.len() + self.walking.len() + self.broken.len() + self.afield.len();
        Parts { done: count(self.ended.len()), all: count(self.ended.len() + open) }
    }

    /// The sweep from near, at `now` by a monotonic clock: its map and its segments.
    #[must_use]
    pub fn survey(&self, now: Duration) -> Work {
        let waiting: BTreeMap<SegmentNo, (&Segment, Share)> =
            self.waiting.iter().map(|(segment, share)| (segment.no, (segment, *share))).collect();
        let broken = self.broken.iter().map(|(segment, walking)| (segment.no, walking));
        let afield = self.afield.iter().map(|(no, (walking, _))| (*no, walking));
        let at_work: BTreeMap<SegmentNo, &Walking> =
            self.walking.iter().map(|(no, walking)| (*no, walking)).chain(broken).chain(afield).collect();
        let known: Vec<Known<'_>> = self
            .order
            .iter()
            .filter_map(|no| {
                if let Some(walking) = at_work.get(no) {
                    return Some(Known {
                        segment: &walking.segment,
                        state: walking.state,
                        worker: (!self.afield.contains_key(no)).then_some(walking.worker),
                        host: self.afield.get(no).map(|(_, host)| host.as_str()),
                        share: walking.share.whole,
                        position: self.within(walking),
                        retries: walking.retries,
                        rate: walking.course.rate(now),
                    });
                }
                let (segment, share, state) = match (waiting.get(no), self.ended.get(no)) {
                    (Some((segment, share)), _) => (*segment, *share, Cell::Waiting),
                    (None, Some((segment, share))) => (segment, *share, Cell::Done),
                    (None, None) => return None,
                };
                let (worker, position, retries, rate) = (None, None, 0, None);
                Some(Known { segment, state, worker, host: None, share: share.whole, position, retries, rate })
            })
            .map(|known| self.with_front(known))
            .collect();
        let (segments, more) = survey::list(&known);
        Work { map: survey::map(&known), segments, more, slowest: Vec::new(), latency: None }
    }

    /// With what had been done of it before it was cut.
    fn with_front<'a>(&self, known: Known<'a>) -> Known<'a> {
        let Some(front) = self.front.get(&known.segment.no).copied().filter(|front| *front > 0.0) else { return known };
        let share = known.share + front;
        let position = Some((front + known.share * known.position.unwrap_or(0.0)) / share);
        Known { share, position, ..known }
    }

    /// Share of a segment that is done, by its keys, else by its share of the rows.
    #[expect(clippy::cast_precision_loss, reason = "a share of a row count")]
    fn within(&self, walking: &Walking) -> Option<f64> {
        let here = walking.walked.saturating_sub(walking.share.before) as f64;
        let expected = self.foretold.map(|rows| rows as f64 * walking.share.whole);
        // Without distances between keys, the statistics are all there is; they never say that it is done.
        walking.position.or_else(|| expected.filter(|rows| *rows > 0.0).map(|rows| (here / rows).min(0.95)))
    }

    /// Whether every segment is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty()
            && self.walking.is_empty()
            && self.broken.is_empty()
            && self.afield.is_empty()
            && !self.is_open
    }
}

/// The tallies of segments, added up.
#[must_use]
pub fn total(segments: &[Segment]) -> Tally {
    segments.iter().map(|segment| segment.tally).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments(n: u32) -> Vec<Segment> {
        let key = |at: u32| Some(vec![(at * 1000).to_string()]);
        (0..n).map(|no| Segment::new(1, SegmentNo(no), key(no), key(no + 1))).collect()
    }

    fn taken(yard: &mut Yard) -> Segment {
        match yard.take(0, 10) {
            Take::Segment(segment) => *segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn segments_are_taken_once_and_a_dry_worker_asks_for_half_of_the_largest() {
        let mut yard = Yard::new(segments(2), &[], Some(2000), 10);
        let mut first = taken(&mut yard);
        let second = taken(&mut yard);
        assert_ne!(first.no, second.no);
        first.tally.walked = 900;
        yard.advanced(&first, Some(0.9), Duration::ZERO);
        assert_eq!(yard.take(0, 10), Take::Wait);
        assert_eq!(yard.wants_split(first.no, 10), None);
        let (no, ahead) = yard.wants_split(second.no, 10).expect("the second has the most left");
        assert_eq!((no, ahead), (SegmentNo(2), 500));
        let rest = Segment::new(1, no, Some(vec!["1500".into()]), Some(vec!["2000".into()]));
        yard.split(second.no, Some(rest.clone()));
        assert_eq!(taken(&mut yard), rest);
        assert_eq!(yard.parts(), Parts { done: 0, all: 3 });
    }

    #[test]
    fn what_cannot_be_shared_is_not_asked_for_twice_and_a_handed_back_segment_comes_first() {
        let mut yard = Yard::new(segments(1), &[], None, 10);
        let only = taken(&mut yard);
        assert_eq!(yard.take(0, 10), Take::Wait);
        assert!(yard.wants_split(only.no, 10).is_some());
        yard.split(only.no, None);
        assert_eq!(yard.take(0, 10), Take::Wait);
        assert_eq!(yard.wants_split(only.no, 10), None);
        yard.hand_back(only.clone());
        let mut again = taken(&mut yard);
        assert_eq!(again, only);
        again.done = true;
        yard.hand_back(again);
        assert_eq!(yard.take(0, 10), Take::Done);
        assert!(yard.is_done());
        assert_eq!(yard.position(), Some(1.0));
    }

    #[test]
    fn no_more_segments_are_made_than_there_is_room_for() {
        let mut yard = Yard::new(segments(1), &[], Some(1_000_000), 0);
        let only = taken(&mut yard);
        assert_eq!(yard.take(0, 10), Take::Wait);
        assert_eq!(yard.wants_split(only.no, 10), None);
    }

    proptest! {
        /// Workers that take, advance, split, hand back in any order: nothing is lost, nothing is walked twice at a time,
        /// and the share that is done never falls.
        #[test]
        fn nothing_is_lost_in_the_yard(moves in proptest::collection::vec((0_u8..5, 0_usize..4, 0.0_f64..1.0), 1..200)) {
            let mut yard = Yard::new(segments(5), &[], Some(5000), 20);
            let mut held: Vec<Segment> = Vec::new();
            let mut shares = Vec::new();
            for (kind, which, position) in moves {
                match kind {
                    0 => if let Take::Segment(segment) = yard.take(0, 10) {
                        prop_assert!(held.iter().all(|other| other.no != segment.no));
                        held.push(*segment);
                    },
                    1 if !held.is_empty() => {
                        let index = which % held.len();
                        held[index].tally.walked += 10;
                        yard.advanced(&held[index], Some(position), Duration::ZERO);
                    }
                    2 if !held.is_empty() => {
                        let index = which % held.len();
                        if let Some((no, ahead)) = yard.wants_split(held[index].no, 10) {
                            prop_assert!((1..=AHEAD).contains(&ahead));
                            let rest = Segment::new(1, no, None, None);
                            yard.split(held[index].no, (position > 0.2).then_some(rest));
                        }
                    }
                    3 if !held.is_empty() => {
                        let segment = held.swap_remove(which % held.len());
                        yard.hand_back(segment);
                    }
                    4 if !held.is_empty() => {
                        let mut segment = held.swap_remove(which % held.len());
                        segment.done = true;
                        yard.hand_back(segment);
                    }
                    _ => {}
                }
                let total: f64 = yard.done + yard.waiting.iter().map(|(_, share)| share.whole).sum::<f64>()
                    + yard.walking.values().map(|walking| walking.share.whole).sum::<f64>();
                prop_assert!((total - 1.0).abs() < 1e-6, "shares add up to {total}");
                prop_assert_eq!(yard.walking.len(), held.len());
                shares.push(yard.done);
            }
            prop_assert!(shares.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9));
        }
    }
}
