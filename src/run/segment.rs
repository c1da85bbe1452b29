//! A contiguous part of a step's input, and how far it has been walked.

use serde::{Deserialize, Serialize};

use super::SegmentNo;

/// A key's columns, as text, in the key's order.
pub type KeyText = Vec<String>;

/// A range of keys `(lower, upper]`, walked from its lower end by one worker at a time. Of a file, a "key" is a place in
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Which sweep over the table it belongs to, from 1.
    pub sweep: u32,
    /// Its number in the sweep.
    pub no: SegmentNo,
    /// The partition that it lies in, quoted as in SQL; or a file; or one of several tables. `None`: the step's table itself.
    pub part: Option<String>,
    /// Keys are larger than this. `None`: from the first.
    pub lower: Option<KeyText>,
    /// Keys are not larger than this. `None`: to the last.
    pub upper: Option<KeyText>,
    /// Keys up to here are done. `None`: nothing yet.
    pub cursor: Option<KeyText>,
    /// Whether its end was reached.
    pub done: bool,
    /// What has been done in it.
    pub tally: Tally,
    /// Where the files that it writes stand, in the step's own words.
    #[serde(default)]
    pub output: Option<String>,
}

impl Segment {
    /// A segment of which nothing is done.
    #[must_use]
    pub fn new(sweep: u32, no: SegmentNo, lower: Option<KeyText>, upper: Option<KeyText>) -> Self {
        Self { sweep, no, part: None, lower, upper, cursor: None, done: false, tally: Tally::default(), output: None }
    }

    /// Keys that are still to be walked are larger than this.
    #[must_use]
    pub fn from(&self) -> Option<&KeyText> {
        self.cursor.as_ref().or(self.lower.as_ref())
    }
}

/// Counts of work that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Rows whose keys were walked.
    pub walked: u64,
    /// Rows that were changed.
    pub changed: u64,
    /// Rows in walked ranges that still matched the step's `where` after the change.
    pub still_matching: u64,
    /// Batches.
    pub batches: u64,
    /// Rows set aside because the data is wrong.
    pub quarantined: u64,
    /// Bytes of the input, as it lies there. 0 where rows are all there is to count.
    #[serde(default)]
    pub bytes: u64,
}

impl Tally {
    /// What has come since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            walked: self.walked.saturating_sub(earlier.walked),
            changed: self.changed.saturating_sub(earlier.changed),
            still_matching: self.still_matching.saturating_sub(earlier.still_matching),
            batches: self.batches.saturating_sub(earlier.batches),
            quarantined: self.quarantined.saturating_sub(earlier.quarantined),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.walked += other.walked;
        self.changed += other.changed;
        self.still_matching += other.still_matching;
        self.batches += other.batches;
        self.quarantined += other.quarantined;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut all, part| {
            all += part;
            all
        })
    }
}

/// A batch on its way to commit: by how much it moves its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Keys up to here are done with it. `None` leaves the cursor where it stands: there was no row left.
    pub cursor: Option<KeyText>,
    /// Whether the segment's end is reached with it.
    pub done: bool,
    /// What it did.
    pub tally: Tally,
    /// Where the files that the segment writes stand now. `None`: as before.
    pub output: Option<String>,
}

impl Segment {
    /// Takes over what a committed batch did.
    pub fn apply(&mut self, advance: &Advance) {
        if advance.cursor.is_some() {
            self.cursor.clone_from(&advance.cursor);
        }
        if advance.output.is_some() {
            self.output.clone_from(&advance.output);
        }
        self.done = advance.done;
        self.tally += advance.tally;
    }
}
