//! Segments that other processes walk.

use std::time::Duration;

use super::{Share, Walking, Yard};
use crate::engine::sharing::Held;
use crate::engine::survey::Course;
use crate::run::work::Cell;
use crate::run::{Segment, SegmentNo, Tally};

impl Yard {
    /// The yard of a member: its segments come from the ledger, one by one, and those that it cuts off are numbered from `first`.
    #[must_use]
    pub fn joined(first: SegmentNo, room: u32) -> Self {
        Self { next: first.0, is_open: true, ..Self::new(Vec::new(), &[], None, room) }
    }

    /// A segment has come from the ledger.
    pub fn add(&mut self, segment: Segment) {
        // Nobody knows how much of the sweep it is: all that are known here count alike.
        let share = Share { whole: 1.0, before: segment.tally.walked };
        self.order.push(segment.no);
        self.waiting.push_back((segment, share));
    }

    /// Nothing more will come.
    pub fn close(&mut self) {
        self.is_open = false;
    }

    /// Segments that are walked here, or wait to be.
    #[must_use]
    pub fn at_hand(&self) -> usize {
        self.waiting.len() + self.walking.len()
    }

    /// Whether workers may be without a segment: of `workers`, with none that waits.
    #[must_use]
    pub fn is_dry(&self, workers: u32) -> bool {
        self.waiting.is_empty() && self.walking.len() < workers as usize
    }

    /// The segments that wait, to be given back.
    pub fn give_back(&mut self) -> Vec<Segment> {
        let given: Vec<Segment> = self.waiting.drain(..).map(|(segment, _)| segment).collect();
        self.order.retain(|no| !given.iter().any(|segment| segment.no == *no));
        given
    }

    /// A worker found that a member has the segment which it was about to walk.
    pub fn goes_afield(&mut self, no: SegmentNo) {
        if let Some(walking) = self.walking.remove(&no) {
            self.afield.insert(no, (walking, String::new()));
        }
    }

    /// Segments that members held when they were looked at last.
    #[must_use]
    pub fn known_afield(&self) -> Vec<SegmentNo> {
        self.afield.keys().copied().collect()
    }

    /// Segments that are not known to be members'.
    #[must_use]
    pub fn ours(&self) -> Vec<SegmentNo> {
        self.order.iter().filter(|no| !self.afield.contains_key(no)).copied().collect()
    }

    /// The ledger knows these no more: a crash of the server has lost the split that had made them, and their rows belong to the
    /// segments that they were cut from again.
    pub fn vanish(&mut self, lost: &[SegmentNo]) {
        for no in lost {
            self.afield.remove(no);
            self.order.retain(|other| other != no);
        }
    }

    /// The number of the next segment that is cut off here.
    #[must_use]
    pub fn next_number(&self) -> SegmentNo {
        SegmentNo(self.next)
    }

    /// Members hold these. Returns what was done in them since they were looked at last.
    pub fn seen_afield(&mut self, held: Vec<Held>, now: Duration) -> Vec<(Segment, Tally)> {
        let mut news = Vec::new();
        for Held { segment, host } in held {
            if self.walking.contains_key(&segment.no) || self.ended.contains_key(&segment.no) {
                continue;
            }
            let (mut walking, before) = self.as_afield(&segment);
            let tally = segment.tally.since(before);
            if tally != Tally::default() {
                news.push((segment.clone(), tally));
            }
            walking.course.push(now, segment.tally.walked);
            walking.walked = segment.tally.walked;
            if segment.done {
                self.done += walking.share.whole;
                self.ended.insert(segment.no, (segment, walking.share));
            } else {
                walking.segment = segment;
                self.afield.insert(walking.segment.no, (walking, host));
            }
        }
        news
    }

    /// What is known of a segment that a member holds, taken out of wherever it stood; and its tally as it was last told.
    fn as_afield(&mut self, segment: &Segment) -> (Walking, Tally) {
        if let Some((walking, _)) = self.afield.remove(&segment.no) {
            let before = walking.segment.tally;
            return (walking, before);
        }
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| waiting.no == segment.no)
            && let Some((waiting, share)) = self.waiting.remove(at)
        {
            let before = waiting.tally;
            return (Walking::elsewhere(waiting, share), before);
        }
        // A member has cut it off one of its own.
        let from = self.afield.iter_mut().find(|(_, (other, _))| other.segment.upper == segment.upper);
        let mut share = Share { whole: 0.0, before: 0 };
        let mut place = self.order.len();
        if let Some((no, (other, _))) = from {
            other.share.whole /= 2.0;
            other.segment.upper.clone_from(&segment.lower);
            share.whole = other.share.whole;
            place = self.order.iter().position(|at| at == no).map_or(place, |at| at + 1);
        }
        self.order.insert(place, segment.no);
        (Walking::elsewhere(segment.clone(), share), Tally::default())
    }

    /// Segments that members have given back, or that were taken back from them. Returns what was done in them since they were
    /// looked at last.
    pub fn comes_back(&mut self, back: Vec<Segment>) -> Vec<(Segment, Tally)> {
        let mut news = Vec::new();
        for segment in back {
            if self.walking.contains_key(&segment.no) || self.ended.contains_key(&segment.no) {
                continue;
            }
            let (walking, before) = self.as_afield(&segment);
            let tally = segment.tally.since(before);
            if tally != Tally::default() {
                news.push((segment.clone(), tally));
            }
            self.waiting.push_back((segment, walking.share));
        }
        news
    }
}

impl Walking {
    fn elsewhere(segment: Segment, share: Share) -> Self {
        Self {
            walked: segment.tally.walked,
            segment,
            worker: 0,
            state: Cell::Running,
            retries: 0,
            course: Course::default(),
            share,
            position: None,
            asked: false,
            whole: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Take;
    use super::*;

    fn key(at: u32) -> Vec<String> {
        vec![at.to_string()]
    }

    fn segment(no: u32) -> Segment {
        Segment::new(1, SegmentNo(no), Some(key(no * 100)), Some(key(no * 100 + 100)))
    }

    fn held(segment: &Segment) -> Held {
        Held { segment: segment.clone(), host: "ops2".to_owned() }
    }

    #[test]
    fn a_segment_that_a_member_has_is_not_walked_here_and_the_sweep_waits_for_it() {
        let mut yard = Yard::new(vec![segment(0), segment(1)], &[], Some(200), 10);
        let Take::Segment(taken) = yard.take(0, 10) else { panic!("one waits") };
        yard.goes_afield(taken.no);
        let Take::Segment(mut other) = yard.take(0, 10) else { panic!("one waits") };
        other.done = true;
        yard.hand_back(*other);
        assert_eq!(yard.take(0, 10), Take::Wait);
        assert!(!yard.is_done());
        let mut theirs = *taken;
        theirs.tally.walked = 40;
        let news = yard.seen_afield(vec![held(&theirs)], Duration::ZERO);
        assert_eq!(news.iter().map(|(_, tally)| tally.walked).collect::<Vec<_>>(), [40]);
        theirs.tally.walked = 100;
        theirs.done = true;
        let news = yard.seen_afield(vec![held(&theirs)], Duration::ZERO);
        assert_eq!(news.iter().map(|(_, tally)| tally.walked).collect::<Vec<_>>(), [60]);
        assert!(yard.is_done());
        assert_eq!(yard.take(0, 10), Take::Done);
    }

    #[test]
    fn what_a_member_gives_back_is_walked_here_and_what_it_cut_off_is_known() {
        let mut yard = Yard::new(vec![segment(0)], &[], Some(100), 10);
        let theirs = segment(0);
        yard.seen_afield(vec![held(&theirs)], Duration::ZERO);
        assert_eq!(yard.take(0, 10), Take::Wait);
        let rest = Segment::new(1, SegmentNo(10_000), Some(key(50)), Some(key(100)));
        let news = yard.comes_back(vec![rest.clone()]);
        assert!(news.is_empty());
        assert_eq!(yard.take(0, 10), Take::Segment(Box::new(rest)));
        assert_eq!(yard.parts().all, 2);
        assert_eq!(yard.known_afield(), [SegmentNo(0)]);
    }

    #[test]
    fn a_member_walks_what_comes_and_is_done_once_nothing_more_will() {
        let mut yard = Yard::joined(SegmentNo(10_000), 100);
        assert_eq!(yard.take(0, 10), Take::Wait);
        yard.add(segment(7));
        let Take::Segment(mut taken) = yard.take(0, 10) else { panic!("one waits") };
        assert!(yard.is_dry(2) && !yard.is_dry(1));
        taken.done = true;
        yard.hand_back(*taken);
        assert_eq!(yard.take(0, 10), Take::Wait);
        yard.close();
        assert_eq!(yard.take(0, 10), Take::Done);
        assert!(yard.is_done());
    }
}
