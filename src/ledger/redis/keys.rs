//! Where a run lies on Redis: its keys, and how a segment is written into one value. Pure.
//!
//! | key | what |
//! | --- | --- |
//! | `PREFIX:runs:DATABASE` | the runs of one database, by the time they were made: a sorted set |
//! | `PREFIX:run:{ID}` | the run: a hash |
//! | `PREFIX:run:{ID}:steps` | its steps, field `0:name` and so on: a hash |
//! | `PREFIX:run:{ID}:segments:0` | the segments of a step, by sweep and number: a hash |
//! | `PREFIX:run:{ID}:aside:0` | the rows that a step has set aside, by part and key: a hash |
//! | `PREFIX:run:{ID}:events` | what happened, the newest last: a list |
//! | `PREFIX:run:{ID}:commands` | what was asked for, and what came of it: a list |
//!
//! The braces keep a run on one node of a cluster, where scripts need it to be.

use crate::redis::Address;
use crate::run::{KeyText, RunId, Segment, StepIndex};

/// The keys of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// Of a run.
    #[must_use]
    pub fn new(address: &Address, run: RunId) -> Self {
        Self { base: address.key(&format!("run:{{{run}}}")) }
    }

    /// The run itself.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.base
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> String {
        format!("{}:steps", self.base)
    }

    /// The segments of a step.
    #[must_use]
    pub fn segments(&self, step: StepIndex) -> String {
        format!("{}:segments:{}", self.base, step.0)
    }

    /// The rows that a step has set aside.
    #[must_use]
    pub fn aside(&self, step: StepIndex) -> String {
        format!("{}:aside:{}", self.base, step.0)
    }

    /// What happened.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}:events", self.base)
    }

    /// What was asked for.
    #[must_use]
    pub fn commands(&self) -> String {
        format!("{}:commands", self.base)
    }
}

/// The list of the runs of one database; `database` says which, the same from every host.
#[must_use]
pub fn runs(address: &Address, database: &str) -> String {
    address.key(&format!("runs:{database}"))
}

/// A field of a step.
#[must_use]
pub fn of_step(step: StepIndex, field: &str) -> String {
    format!("{}:{field}", step.0)
}

/// The field of a segment.
#[must_use]
pub fn of_segment(segment: &Segment) -> String {
    format!("{}:{}", segment.sweep, segment.no.0)
}

/// The field of a row that is set aside.
#[must_use]
pub fn of_row(part: Option<&str>, key: &KeyText) -> String {
    serde_json::json!([part.unwrap_or_default(), key]).to_string()
}

/// Part and key of such a field.
#[must_use]
pub fn row_of(field: &str) -> Option<(String, KeyText)> {
    serde_json::from_str(field).ok()
}

/// Where a segment stands, on one line: a script compares it, and every version writes it alike.
#[must_use]
pub fn mark(segment: &Segment) -> String {
    serde_json::json!([segment.done, segment.cursor, segment.upper]).to_string()
}

/// A segment as it is kept: its mark on the first line, then all of it.
#[must_use]
pub fn pack(segment: &Segment) -> String {
    let whole = serde_json::to_value(segment).unwrap_or_default();
    format!("{}\n{whole}", mark(segment))
}

/// A segment as it was kept. `None`: another version has written something else.
#[must_use]
pub fn unpack(value: &str) -> Option<Segment> {
    let (_, whole) = value.split_once('\n')?;
    serde_json::from_str(whole).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::{SegmentNo, Tally};

    #[test]
    fn a_run_lies_under_its_prefix_and_on_one_node_of_a_cluster() {
        let address = Address::resolve(Some("redis://host"), None, &|_| None).expect("an address").expect("one");
        let keys = Keys::new(&address, RunId(uuid::Uuid::nil()));
        let base = "howdah:run:{00000000-0000-0000-0000-000000000000}";
        assert_eq!(keys.run(), base);
        assert_eq!(keys.segments(StepIndex(2)), format!("{base}:segments:2"));
        assert_eq!(runs(&address, "7/shop"), "howdah:runs:7/shop");
    }

    #[test]
    fn a_row_that_is_set_aside_is_found_by_part_and_key() {
        let key = vec!["a\",\"b".to_owned(), String::new()];
        let field = of_row(Some("\"old\".\"users\""), &key);
        assert_eq!(row_of(&field), Some(("\"old\".\"users\"".to_owned(), key)));
        assert_eq!(row_of("nonsense"), None);
    }

    fn texts() -> impl Strategy<Value = Option<KeyText>> {
        prop::option::of(prop::collection::vec(".*", 1..3))
    }

    proptest! {
        #[test]
        fn a_segment_comes_out_as_it_went_in_and_its_mark_is_one_line(
            (lower, upper, cursor) in (texts(), texts(), texts()),
            (done, walked, bytes) in (any::<bool>(), any::<u64>(), any::<u64>()),
            part in prop::option::of(".*"),
        ) {
            let segment = Segment {
                part, cursor, done, tally: Tally { walked, bytes, ..Tally::default() },
                ..Segment::new(3, SegmentNo(7), lower, upper)
            };
            prop_assert!(!mark(&segment).contains('\n'));
            let first = mark(&segment) + "\n";
            prop_assert!(pack(&segment).starts_with(&first));
            prop_assert_eq!(unpack(&pack(&segment)), Some(segment));
        }
    }
}
