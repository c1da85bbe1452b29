//! The running sweep from near: what the console's map and list of segments are made of. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::run::work::{CELLS, Cell, SEGMENTS, SegmentView};
use crate::run::{KeyText, Segment, SegmentNo};

/// The longest text of a key that is shown, in characters.
const KEY: usize = 60;
/// The time over which a segment's rate is told.
const WINDOW: Duration = Duration::from_secs(10);

/// The newest points of a segment's course, by a monotonic clock.
#[derive(Debug, Default, Clone)]
pub struct Course {
    points: Vec<(Duration, u64)>,
}

impl Course {
    /// So many rows had been walked at `now`.
    pub fn push(&mut self, now: Duration, walked: u64) {
        // The oldest point is the last one that lies a whole window back.
        let old = self.points.iter().skip(1).take_while(|(at, _)| now.saturating_sub(*at) >= WINDOW).count();
        self.points.drain(..old);
        self.points.push((now, walked));
    }

    /// Rows a second over the window; falls while nothing comes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub fn rate(&self, now: Duration) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let time = now.max(last.0).saturating_sub(first.0);
        (self.points.len() > 1 && !time.is_zero()).then(|| last.1.saturating_sub(first.1) as f64 / time.as_secs_f64())
    }
}

/// A segment with what is known of the walk through it.
#[derive(Debug)]
pub struct Known<'a> {
    /// The segment as it was last told.
    pub segment: &'a Segment,
    /// How it stands.
    pub state: Cell,
    /// The worker on it.
    pub worker: Option<u32>,
    /// The host of the member that walks it.
    pub host: Option<&'a str>,
    /// Its share of the input.
    pub share: f64,
    /// Share of it that is done.
    pub position: Option<f64>,
    /// Batches that were tried again.
    pub retries: u64,
    /// Rows a second.
    pub rate: Option<f64>,
}

/// A key in words, cut.
#[must_use]
pub fn words(key: &KeyText) -> String {
    let text = key.join(", ");
    match text.char_indices().nth(KEY) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The map: cells of equal shares of the input, from the first key to the last.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among a few hundred cells"
)]
pub fn map(known: &[Known<'_>]) -> Vec<Cell> {
    let all: f64 = known.iter().map(|one| one.share).sum();
    if known.is_empty() || all <= 0.0 {
        return Vec::new();
    }
    let mut cells = vec![None; CELLS];
    let mut paint = |from: f64, to: f64, cell: Cell| {
        let at = |share: f64| (share / all * CELLS as f64).clamp(0.0, CELLS as f64);
        let (from, to) = (at(from), at(to));
        // Whatever is under way or has failed is seen, however small it is.
        let (first, last) = match cell {
            Cell::Running | Cell::Retrying | Cell::Failed => {
                let first = (from as usize).min(CELLS - 1);
                (first, (to.ceil() as usize).clamp(first + 1, CELLS))
            }
            // Half a cell that is done is not a cell that is done.
            Cell::Done => (from.ceil() as usize, to.floor() as usize),
            Cell::Waiting => (from.floor() as usize, to.ceil() as usize),
        };
        for place in cells.iter_mut().take(last).skip(first) {
            let worth = |cell: Cell| match cell {
                Cell::Done => 0,
                Cell::Waiting => 1,
                Cell::Running => 2,
                Cell::Retrying => 3,
                Cell::Failed => 4,
            };
            if place.is_none_or(|there| worth(cell) > worth(there)) {
                *place = Some(cell);
            }
        }
    };
    let mut from = 0.0;
    for one in known {
        let to = from + one.share;
        match one.state {
            Cell::Done | Cell::Waiting => {
                let edge = from + one.share * one.position.unwrap_or(0.0).clamp(0.0, 1.0);
                if one.state == Cell::Done {
                    paint(from, to, Cell::Done);
                } else {
                    paint(from, edge, Cell::Done);
                    paint(edge, to, Cell::Waiting);
                }
            }
            Cell::Running | Cell::Retrying | Cell::Failed => {
                let edge = from + one.share * one.position.unwrap_or(0.0).clamp(0.0, 1.0);
                paint(from, edge, Cell::Done);
                paint(edge, to, Cell::Waiting);
                paint(edge, edge, one.state);
            }
        }
        from = to;
    }
    // Between two segments that are done, and share a cell.
    let mut before = Cell::Done;
    cells
        .into_iter()
        .map(|cell| {
            before = cell.unwrap_or(before);
            before
        })
        .collect()
}

/// The list, in the order of keys, and how many were left out: those that are done first, then those that wait.
#[must_use]
pub fn list(known: &[Known<'_>]) -> (Vec<SegmentView>, u32) {
    let mut room = SEGMENTS;
    let mut shown = vec![false; known.len()];
    for wanted in [Cell::Failed, Cell::Retrying, Cell::Running, Cell::Waiting, Cell::Done] {
        for (at, one) in known.iter().enumerate() {
            if one.state == wanted && room > 0 {
                shown[at] = true;
                room -= 1;
            }
        }
    }
    let views = known.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(one, _)| view(one)).collect();
    let more = shown.iter().filter(|shown| !**shown).count();
    (views, u32::try_from(more).unwrap_or(u32::MAX))
}

fn view(known: &Known<'_>) -> SegmentView {
    let segment = known.segment;
    SegmentView {
        no: segment.no.0,
        part: segment.part.clone(),
        lower: segment.lower.as_ref().map(words),
        upper: segment.upper.as_ref().map(words),
        cursor: segment.cursor.as_ref().map(words),
        state: known.state,
        worker: known.worker,
        host: known.host.map(str::to_owned),
        share: known.share,
        position: if segment.done { Some(1.0) } else { known.position },
        walked: segment.tally.walked,
        batches: segment.tally.batches,
        quarantined: segment.tally.quarantined,
        retries: known.retries,
        rate: known.rate,
    }
}

/// The segments in the order of their keys: each begins where the one before it ends. Splits have given later segments
/// higher numbers.
#[must_use]
pub fn order(segments: &[Segment]) -> Vec<SegmentNo> {
    let mut by_lower: BTreeMap<(&Option<String>, &KeyText), &Segment> = BTreeMap::new();
    let mut heads = Vec::new();
    let uppers: std::collections::BTreeSet<(&Option<String>, &KeyText)> =
        segments.iter().filter_map(|segment| segment.upper.as_ref().map(|key| (&segment.part, key))).collect();
    for segment in segments {
        match &segment.lower {
            Some(lower)
                if uppers.contains(&(&segment.part, lower)) && !by_lower.contains_key(&(&segment.part, lower)) =>
            {
                by_lower.insert((&segment.part, lower), segment);
            }
            _ => heads.push(segment),
        }
    }
    let mut ordered = Vec::with_capacity(segments.len());
    for head in heads {
        let mut next = Some(head);
        while let Some(segment) = next {
            ordered.push(segment.no);
            next = segment.upper.as_ref().and_then(|upper| by_lower.remove(&(&segment.part, upper)));
        }
    }
    // A circle, which no plan makes: rather out of order than not at all.
    ordered.extend(by_lower.values().map(|segment| segment.no));
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(no: u32, lower: Option<u32>, upper: Option<u32>) -> Segment {
        let key = |at: Option<u32>| at.map(|at| vec![at.to_string()]);
        Segment::new(1, SegmentNo(no), key(lower), key(upper))
    }

    fn known(segment: &Segment, state: Cell, share: f64, position: Option<f64>) -> Known<'_> {
        Known { segment, state, worker: None, host: None, share, position, retries: 0, rate: None }
    }

    #[test]
    fn segments_stand_in_the_order_of_their_keys_after_splits() {
        let cut = [
            segment(0, None, Some(5)),
            segment(1, Some(9), None),
            segment(2, Some(7), Some(9)),
            segment(3, Some(5), Some(7)),
        ];
        let numbers: Vec<u32> = order(&cut).into_iter().map(|no| no.0).collect();
        assert_eq!(numbers, [0, 3, 2, 1]);
    }

    #[test]
    fn the_map_shows_what_is_done_what_runs_and_what_waits() {
        let parts = [segment(0, None, Some(1)), segment(1, Some(1), Some(2)), segment(2, Some(2), None)];
        let cells = map(&[
            known(&parts[0], Cell::Done, 0.5, None),
            known(&parts[1], Cell::Running, 0.25, Some(0.5)),
            known(&parts[2], Cell::Waiting, 0.25, None),
        ]);
        assert_eq!(cells.len(), CELLS);
        assert_eq!(
            [cells[0], cells[127], cells[140], cells[160], cells[161], cells[255]],
            [Cell::Done, Cell::Done, Cell::Done, Cell::Running, Cell::Waiting, Cell::Waiting]
        );
    }

    #[test]
    fn the_list_keeps_what_is_at_work_before_what_is_done() {
        let parts: Vec<Segment> = (0..300).map(|no| segment(no, Some(no), Some(no + 1))).collect();
        let all: Vec<Known<'_>> = parts
            .iter()
            .map(|part| known(part, if part.no.0 == 299 { Cell::Failed } else { Cell::Done }, 1.0, None))
            .collect();
        let (views, more) = list(&all);
        assert_eq!((views.len(), more), (SEGMENTS, 172));
        assert_eq!(views.last().map(|view| view.no), Some(299));
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_falls_while_nothing_comes() {
        let s = Duration::from_secs;
        let mut course = Course::default();
        course.push(s(0), 0);
        assert_eq!(course.rate(s(1)), None);
        course.push(s(5), 500);
        assert_eq!(course.rate(s(5)), Some(100.0));
        assert_eq!(course.rate(s(10)), Some(50.0));
        course.push(s(20), 700);
        assert!(course.rate(s(20)).is_some_and(|rate| (rate - 200.0 / 15.0).abs() < 0.01));
    }

    proptest! {
        #[test]
        fn a_map_is_full_and_says_done_only_where_all_of_it_is(shares in proptest::collection::vec((0.0_f64..1.0, 0_u8..4, 0.0_f64..1.0), 1..80)) {
            let parts: Vec<Segment> = (0..80).map(|no| segment(no, Some(no), Some(no + 1))).collect();
            let all: Vec<Known<'_>> = shares.iter().zip(&parts).map(|((share, kind, position), part)| {
                let state = [Cell::Done, Cell::Waiting, Cell::Running, Cell::Failed][usize::from(*kind)];
                known(part, state, *share, Some(*position))
            }).collect();
            let cells = map(&all);
            prop_assert!(cells.is_empty() || cells.len() == CELLS);
            if all.iter().all(|one| one.state == Cell::Waiting && one.position < Some(0.0)) {
                prop_assert!(!cells.contains(&Cell::Done));
            }
            if all.iter().any(|one| one.state == Cell::Failed) && !cells.is_empty() {
                prop_assert!(cells.contains(&Cell::Failed));
            }
        }

        #[test]
        fn no_segment_is_lost_in_the_order(keys in proptest::collection::btree_set(0_u32..1000, 1..40), seed in any::<u64>()) {
            let keys: Vec<u32> = keys.into_iter().collect();
            let mut bounds: Vec<(Option<u32>, Option<u32>)> = Vec::new();
            let mut before = None;
            for key in &keys {
                bounds.push((before, Some(*key)));
                before = Some(*key);
            }
            bounds.push((before, None));
            let mut random = fastrand::Rng::with_seed(seed);
            let mut numbers: Vec<u32> = (0..).take(bounds.len()).collect();
            random.shuffle(&mut numbers);
            let mut parts: Vec<Segment> = bounds.iter().zip(&numbers).map(|((lower, upper), no)| segment(*no, *lower, *upper)).collect();
            random.shuffle(&mut parts);
            let ordered: Vec<u32> = order(&parts).into_iter().map(|no| no.0).collect();
            prop_assert_eq!(ordered, numbers);
        }
    }
}
