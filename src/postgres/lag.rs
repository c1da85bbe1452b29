//! How far a standby's replay is behind in time, told by positions in the WAL. Pure.
//!
//! `pg_stat_replication.replay_lag` alone will not do. The server works it out when the standby reports, and a standby that
//! receives nothing reports every ten seconds, or never (`wal_receiver_status_interval`): on an idle primary the lag of a
//! standby whose replay is paused stands still, and one that has caught up shows its last lag for a while. So the current
//! position is noted with each reading. WAL that the standby has not replayed was written after the last note at or
//! before its position, and before the note that follows: the lag lies between the ages of these two notes, and only
//! there the server's word counts.

use std::collections::VecDeque;
use std::time::Duration;

/// Notes that every standby has passed are kept for this long: one may come back and be further behind.
const KEEP: Duration = Duration::from_mins(10);
/// More notes than this are thinned out.
const MOST_NOTES: usize = 4000;
/// What thinning leaves: each note is older than the next by this factor or less. A lag is then right to a hundredth,
/// and a day of notes a second apart comes down to some 800.
const SPACING: f64 = 1.01;

/// Which position was current at which time.
#[derive(Debug, Clone, Default)]
pub struct LagHistory {
    /// Rising in both. Of a position that stayed current for a while, the first note and the last.
    notes: VecDeque<Note>,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    at: Duration,
    position: i64,
}

impl LagHistory {
    /// Notes the current position, in bytes of WAL, at `now` by a monotonic clock. One that lies before the last one is
    /// another server's, and everything before it is forgotten.
    pub fn note(&mut self, position: i64, now: Duration) {
        if self.notes.back().is_some_and(|last| position < last.position) {
            self.notes.clear();
        }
        let idle = self.notes.iter().rev().take(2).filter(|note| note.position == position).count() == 2;
        if idle && let Some(last) = self.notes.back_mut() {
            last.at = now;
        } else {
            self.notes.push_back(Note { at: now, position });
        }
        if self.notes.len() > MOST_NOTES {
            self.thin(now);
        }
    }

    fn thin(&mut self, now: Duration) {
        let oldest = self.notes.len() - 1;
        let mut kept = VecDeque::with_capacity(MOST_NOTES);
        let mut kept_age = Duration::ZERO;
        for (index, note) in self.notes.iter().rev().enumerate() {
            let age = now.saturating_sub(note.at);
            if index == oldest || age >= kept_age.mul_f64(SPACING) {
                kept.push_front(*note);
                kept_age = age;
            }
        }
        self.notes = kept;
    }

    /// Forgets what no standby needs any more; `slowest` is the position of the one that is furthest behind.
    pub fn forget(&mut self, slowest: i64, now: Duration) {
        while let Some(second) = self.notes.get(1)
            && second.position <= slowest
            && now.saturating_sub(second.at) > KEEP
        {
            self.notes.pop_front();
        }
    }

    /// The lag of a standby that has replayed up to `replayed`, of which the server says `told`. What was current before
    /// the first note is unknown: then it is the age of that note at least, and grows.
    #[must_use]
    pub fn lag(&self, replayed: i64, told: Option<Duration>, now: Duration) -> Duration {
        let passed = self.notes.partition_point(|note| note.position <= replayed);
        // Everything is replayed, whatever the server still shows.
        let Some(next) = self.notes.get(passed) else { return Duration::ZERO };
        let least = now.saturating_sub(next.at);
        let last = passed.checked_sub(1).and_then(|index| self.notes.get(index));
        let most = last.map_or(Duration::MAX, |last| now.saturating_sub(last.at));
        told.unwrap_or_default().min(most).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn history(notes: &[(u64, i64)]) -> LagHistory {
        let mut history = LagHistory::default();
        for (second, position) in notes {
            history.note(*position, at(*second));
        }
        history
    }

    #[test]
    fn a_lag_lies_between_the_notes_around_the_standbys_position() {
        let history = history(&[(10, 100), (11, 200), (12, 300), (13, 400)]);
        let table = [
            ("caught up, whatever is told", 400, Some(50), 0),
            ("ahead of what was read a moment before", 450, None, 0),
            ("replay is paused: the server says nothing", 100, None, 2),
            ("replay is paused: the server's word is old", 150, Some(0), 2),
            ("the server's word is old and large", 350, Some(50), 1),
            ("the server's word is between the notes", 200, Some(2), 2),
            ("behind the first note", 50, None, 3),
            ("behind the first note, and the server knows more", 50, Some(70), 70),
        ];
        for (name, replayed, told, lag) in table {
            assert_eq!(history.lag(replayed, told.map(at), at(13)), at(lag), "{name}");
        }
    }

    #[test]
    fn on_an_idle_server_the_lag_counts_from_the_write_and_not_from_the_last_one_before() {
        let mut history = history(&[(0, 100), (1, 100), (2, 100), (60, 100), (61, 200), (62, 200), (70, 200)]);
        assert_eq!(history.notes.len(), 4);
        assert_eq!(history.lag(100, None, at(70)), at(9));
        assert_eq!(history.lag(100, Some(at(99)), at(70)), at(10));
        history.note(300, at(71));
        assert_eq!(history.lag(200, None, at(71)), at(0));
    }

    #[test]
    fn a_position_that_goes_back_is_another_servers() {
        let history = history(&[(0, 500), (1, 100)]);
        assert_eq!(history.lag(100, None, at(1)), at(0));
        assert_eq!(history.lag(50, None, at(3)), at(2));
    }

    #[test]
    fn what_a_standby_has_not_replayed_is_not_forgotten() {
        let mut history = LagHistory::default();
        for second in 0..100_000_u64 {
            history.note(second.cast_signed(), at(second));
            history.forget(5000, at(second));
        }
        assert!(history.notes.len() <= MOST_NOTES);
        let lag = history.lag(5000, None, at(99_999)).as_secs();
        assert!((94_000..=94_999).contains(&lag), "{lag}");
        history.forget(99_999, at(99_999));
        assert!(history.notes.front().is_some_and(|note| note.at >= at(99_000)));
    }

    proptest! {
        #[test]
        fn a_standby_that_follows_at_a_distance_has_that_lag(
            steps in proptest::collection::vec((1_u64..5, 0_i64..100), 1..200), behind in 1_usize..50
        ) {
            let mut history = LagHistory::default();
            let (mut now, mut position) = (Duration::ZERO, 0);
            let mut written = vec![];
            for (seconds, bytes) in steps {
                now += at(seconds);
                position += bytes;
                history.note(position, now);
                written.push((now, position));
            }
            let index = written.len().saturating_sub(behind);
            let (_, replayed) = written[index];
            // The first note past the position: what it noted was written before.
            let next = written.iter().find(|(_, position)| *position > replayed);
            let least = next.map_or(Duration::ZERO, |(then, _)| now.saturating_sub(*then));
            prop_assert_eq!(history.lag(replayed, None, now), least);
            prop_assert!(history.lag(replayed, Some(at(1_000_000)), now) <= now);
        }
    }
}
