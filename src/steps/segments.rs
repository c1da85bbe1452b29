//! Cutting a walk into segments, and a running segment in two: pure, and blind to what keys mean.

use crate::run::{KeyText, Segment, SegmentNo, Tally};

/// Batches of the first size that a segment is worth.
const BATCHES: u64 = 4;

/// How many segments a range of `rows` rows is worth: `wanted` (64) for a large table, 1 for a table of a few batches.
///
/// Where nobody knows the rows, `wanted`: segments without rows cost one batch each.
#[must_use]
pub fn segments_for(rows: Option<u64>, batch_start: u64, wanted: u32) -> u32 {
    let wanted = wanted.max(1);
    let Some(rows) = rows else { return wanted };
    let worth = rows / BATCHES.saturating_mul(batch_start).max(1);
    u32::try_from(worth).unwrap_or(u32::MAX).clamp(1, wanted)
}

/// How many segments each part of a table gets, of `wanted` in all: by its rows, at least one each. What nobody knows
/// the rows of counts as an average part.
#[must_use]
pub fn shares(rows: &[Option<u64>], batch_start: u64, wanted: u32) -> Vec<u32> {
    let known: Vec<u64> = rows.iter().copied().flatten().collect();
    let average =
        known.iter().fold(0_u64, |all, n| all.saturating_add(*n)) / u64::try_from(known.len().max(1)).unwrap_or(1);
    let weights: Vec<u128> = rows.iter().map(|rows| u128::from(rows.unwrap_or(average))).collect();
    let all: u128 = weights.iter().sum::<u128>().max(1);
    let share = |(rows, weight): (&Option<u64>, &u128)| {
        let share = u32::try_from(u128::from(wanted) * weight / all).unwrap_or(wanted);
        segments_for(*rows, batch_start, share.max(1))
    };
    rows.iter().zip(&weights).map(share).collect()
}

/// The segments of `(lower, upper]`, numbered from `first`: cut at `cuts`, each of which lies behind the one before it,
/// behind `lower` and before `upper`.
#[must_use]
pub fn cut(
    sweep: u32,
    first: SegmentNo,
    part: Option<&str>,
    lower: Option<KeyText>,
    upper: Option<KeyText>,
    cuts: Vec<KeyText>,
) -> Vec<Segment> {
    let mut ends: Vec<Option<KeyText>> = Vec::with_capacity(cuts.len() + 2);
    ends.push(lower);
    ends.extend(cuts.into_iter().map(Some));
    ends.push(upper);
    // An empty segment would be walked for nothing. Without an upper end the last one is never empty.
    ends.dedup_by(|next, end| next.is_some() && next == end);
    let segment = |(no, range): (u32, &[Option<KeyText>])| {
        let (lower, upper) = (range.first().cloned().flatten(), range.last().cloned().flatten());
        Segment { part: part.map(str::to_owned), ..Segment::new(sweep, SegmentNo(no), lower, upper) }
    };
    (first.0..).zip(ends.windows(2)).map(segment).collect()
}

/// A segment in two: what it was, up to `middle`, with its cursor and its tally; and what lies behind that, as segment
/// `no`. `middle` lies behind the cursor and before the segment's end.
///
/// `None` where `middle` is one of the ends, or the segment is done: there is nothing to cut.
#[must_use]
pub fn split(segment: &Segment, middle: KeyText, no: SegmentNo) -> Option<(Segment, Segment)> {
    if segment.done || segment.from() == Some(&middle) || segment.upper.as_ref() == Some(&middle) {
        return None;
    }
    let rest = Segment {
        no,
        lower: Some(middle.clone()),
        cursor: None,
        tally: Tally::default(),
        output: None,
        ..segment.clone()
    };
    Some((Segment { upper: Some(middle), ..segment.clone() }, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use super::*;
    use crate::run::Advance;
    use proptest::prelude::*;

    #[test]
    fn a_large_table_gets_as_many_segments_as_are_wanted_and_a_small_one_gets_one() {
        let table =
            [(Some(0), 1), (Some(3_999), 1), (Some(8_000), 2), (Some(256_000), 64), (Some(u64::MAX), 64), (None, 64)];
        for (rows, expected) in table {
            assert_eq!(segments_for(rows, 1_000, 64), expected, "{rows:?}");
        }
        assert_eq!(segments_for(Some(10), 0, 0), 1);
    }

    #[test]
    fn partitions_share_the_segments_by_their_rows() {
        assert_eq!(shares(&[Some(1_000_000), Some(1_000_000)], 1_000, 64), [32, 32]);
        assert_eq!(shares(&[Some(9_000_000), Some(10), Some(1_000_000), None], 1_000, 64), [43, 1, 4, 15]);
        assert_eq!(shares(&[Some(0), None], 1_000, 64), [1, 1]);
        assert_eq!(shares(&[], 1_000, 64), Vec::<u32>::new());
    }

    /// Keys are points of a line whose order is nobody's: the texts say nothing of it.
    fn name(point: u32) -> KeyText {
        vec![format!("{:08x}", point.wrapping_mul(2_654_435_761))]
    }

    fn point(key: &KeyText) -> u32 {
        static POINTS: LazyLock<HashMap<KeyText, u32>> = LazyLock::new(|| (0..=LINE).map(|p| (name(p), p)).collect());
        POINTS[key]
    }

    const LINE: u32 = 200;

    /// The points that a segment covers: from behind its lower end through its upper end.
    fn covers(segment: &Segment) -> std::ops::RangeInclusive<u32> {
        segment.lower.as_ref().map_or(0, point) + 1..=segment.upper.as_ref().map_or(LINE, point)
    }

    fn assert_a_partition(segments: &[Segment]) {
        let mut owners = vec![0; LINE as usize + 1];
        for segment in segments {
            for point in covers(segment) {
                owners[point as usize] += 1;
            }
        }
        assert!(owners[1..].iter().all(|n| *n == 1), "each key lies in one segment: {owners:?}\n{segments:#?}");
    }

    proptest! {
        #[test]
        fn segments_never_overlap_and_leave_no_gap(mut cuts in prop::collection::vec(1..LINE, 0..40), open in any::<bool>()) {
            cuts.sort_unstable();
            let upper = (!open).then(|| name(LINE));
            let segments = cut(3, SegmentNo(5), Some("p"), None, upper, cuts.iter().copied().map(name).collect());
            assert_a_partition(&segments);
            cuts.dedup();
            prop_assert_eq!(segments.len(), cuts.len() + 1);
            for (no, segment) in (5..).zip(&segments) {
                prop_assert_eq!((segment.no, segment.sweep, segment.part.as_deref()), (SegmentNo(no), 3, Some("p")));
            }
        }

        #[test]
        fn a_walk_that_is_split_at_any_moment_still_walks_each_key_once(
            cuts in prop::collection::btree_set(1..LINE, 0..8),
            moves in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 1_u32..30), 0..200),
        ) {
            let cuts = cuts.into_iter().map(name).collect();
            let mut segments = cut(1, SegmentNo(0), None, None, Some(name(LINE)), cuts);
            let mut walked = vec![0; LINE as usize + 1];
            for (which, is_split, far) in moves {
                let at = which.index(segments.len());
                let no = SegmentNo(u32::try_from(segments.len()).expect("few"));
                let segment = &mut segments[at];
                let from = segment.from().map_or(0, point);
                let end = *covers(segment).end();
                if is_split {
                    if from + far < end
                        && let Some((lower, rest)) = split(segment, name(from + far), no)
                    {
                        prop_assert_eq!(&lower.cursor, &segment.cursor);
                        prop_assert_eq!(rest.tally, Tally::default());
                        *segment = lower;
                        segments.push(rest);
                    }
                } else if !segment.done {
                    let through = (from + far).min(end);
                    for point in from + 1..=through {
                        walked[point as usize] += 1;
                    }
                    let tally = Tally { walked: u64::from(through - from), batches: 1, ..Tally::default() };
                    segment.apply(&Advance { cursor: Some(name(through)), done: through == end, tally, output: None });
                }
                assert_a_partition(&segments);
            }
            prop_assert!(walked.iter().all(|n| *n <= 1));
            let tally: Tally = segments.iter().map(|segment| segment.tally).sum();
            prop_assert_eq!(tally.walked, walked.iter().sum::<u64>());
            for segment in &segments {
                let done_to = segment.cursor.as_ref().map_or_else(|| covers(segment).start() - 1, point);
                for point in covers(segment) {
                    prop_assert_eq!(walked[point as usize] == 1, point <= done_to);
                }
            }
        }
    }

    #[test]
    fn a_segment_is_not_cut_at_its_ends_or_once_it_is_done() {
        let mut segment = Segment::new(1, SegmentNo(0), Some(name(10)), Some(name(20)));
        for end in [10, 20] {
            assert_eq!(split(&segment, name(end), SegmentNo(1)), None);
        }
        segment.done = true;
        assert_eq!(split(&segment, name(15), SegmentNo(1)), None);
    }
}
