//! The rows of each list in the order in which they are shown: filtered, sorted, and named by keys that outlive an update.
//!
//! Keys: a table's name; a session's process id; a segment's number; `segment/from` of a slow batch; step, part and key of a row
//! set aside; `alert:KEY`, `command:AT` and `event:AT/N` of the events; a log line's number; a job's id. Where two rows would
//! have the same key, the later ones get a number: `key#2`.

pub(crate) mod events;
pub(crate) mod log;
pub(crate) mod order;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod segments;
pub(crate) mod sessions;
pub(crate) mod slowest;
pub(crate) mod tables;

use std::collections::HashMap;

use super::ui::{List, ListId};
use super::view::Scene;

/// A row of a list, with the key by which it is found again after an update.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row<T> {
    pub key: String,
    pub of: T,
}

/// The keys of the rows that are shown, from the first.
#[must_use]
pub(crate) fn keys(list: ListId, scene: &Scene<'_>) -> Vec<String> {
    match list {
        ListId::Tables => keys_of(tables::rows(scene)),
        ListId::Sessions => keys_of(sessions::rows(scene)),
        ListId::Segments => keys_of(segments::rows(scene)),
        ListId::Slowest => keys_of(slowest::rows(scene)),
        ListId::Quarantine => keys_of(quarantine::rows(scene)),
        ListId::Events => keys_of(events::rows(scene)),
        ListId::Log => keys_of(log::rows(scene)),
        ListId::Queue => keys_of(queue::rows(scene)),
    }
}

/// The columns that the list can be sorted by, as their headings say; the index is that of [`super::ui::List::sort`].
#[must_use]
pub(crate) fn columns(list: ListId) -> &'static [&'static str] {
    match list {
        ListId::Tables => &tables::COLUMNS,
        ListId::Sessions => &sessions::COLUMNS,
        ListId::Segments => &segments::COLUMNS,
        ListId::Slowest => &slowest::COLUMNS,
        ListId::Quarantine => &quarantine::COLUMNS,
        ListId::Events => &events::COLUMNS,
        ListId::Queue => &queue::COLUMNS,
        // Lines that go on from the one before mean nothing in another order.
        ListId::Log => &[],
    }
}

/// The first row of the page that holds the selected one, and the index of the selected one.
///
/// It goes by pages, so that a selection that moves changes two rows of the screen, and not all of them.
#[must_use]
pub(crate) fn window(keys: &[String], selected: Option<&str>, height: usize) -> (usize, Option<usize>) {
    let selected = selected.and_then(|selected| keys.iter().position(|key| key == selected));
    let first = selected.map_or(0, |selected| selected - selected % height.max(1));
    (first, selected)
}

/// [`window`] for a list that grows at its end: without a selection it shows the end, and with one its pages stand still
/// although rows are dropped from its start. `dropped`: how many have been.
#[must_use]
pub(crate) fn tail(keys: &[String], selected: Option<&str>, height: usize, dropped: usize) -> (usize, Option<usize>) {
    let selected = selected.and_then(|selected| keys.iter().position(|key| key == selected));
    let first = match selected {
        Some(selected) => selected.saturating_sub((dropped.wrapping_add(selected)) % height.max(1)),
        None => keys.len().saturating_sub(height),
    };
    (first, selected)
}

fn keys_of<T>(rows: Vec<Row<T>>) -> Vec<String> {
    rows.into_iter().map(|row| row.key).collect()
}

/// Rows with their keys; a key that was there already gets a number.
fn keyed<T>(rows: impl IntoIterator<Item = T>, key: impl Fn(&T) -> String) -> Vec<Row<T>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let named = |of| {
        let key = key(&of);
        let times = seen.entry(key.clone()).or_default();
        *times += 1;
        let key = if *times > 1 { format!("{key}#{times}") } else { key };
        Row { key, of }
    };
    rows.into_iter().map(named).collect()
}

/// Leaves out the rows that do not hold the list's filter, in any case of letters, in one of their texts.
fn filter<T>(rows: &mut Vec<Row<T>>, list: &List, texts: impl Fn(&T) -> Vec<String>) {
    if list.filter.is_empty() {
        return;
    }
    let wanted = list.filter.to_lowercase();
    rows.retain(|row| texts(&row.of).iter().any(|text| text.to_lowercase().contains(&wanted)));
}

/// Sorts by the list's column, where it has one; equals keep their order.
fn sort<T>(rows: &mut [Row<T>], list: &List, value: impl Fn(&T, usize) -> order::Value) {
    if let Some((column, from_the_largest)) = list.sort {
        rows.sort_by(|a, b| order::compare(&value(&a.of, column), &value(&b.of, column), from_the_largest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(n: usize) -> Vec<String> {
        (0..n).map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_list_turns_page_by_page() {
        let keys = keys(25);
        let table = [
            (None, 0, None),
            (Some("0"), 0, Some(0)),
            (Some("9"), 0, Some(9)),
            (Some("10"), 10, Some(10)),
            (Some("24"), 20, Some(24)),
            (Some("gone"), 0, None),
        ];
        for (selected, first, index) in table {
            assert_eq!(window(&keys, selected, 10), (first, index), "{selected:?}");
        }
        assert_eq!(window(&keys, Some("3"), 0), (3, Some(3)), "no room is no page");
    }

    #[test]
    fn a_log_shows_its_end_until_a_line_is_selected() {
        assert_eq!(tail(&keys(25), None, 10, 0), (15, None));
        assert_eq!(tail(&keys(5), None, 10, 0), (0, None));
        assert_eq!(tail(&keys(25), Some("14"), 10, 0), (10, Some(14)));
        // Three lines were dropped from the start: the same lines stay where they were.
        let later: Vec<String> = (3..28).map(|n: u32| n.to_string()).collect();
        assert_eq!(tail(&later, Some("14"), 10, 3), (7, Some(11)));
    }

    #[test]
    fn no_two_rows_have_the_same_key() {
        let rows = keyed(["a", "b", "a", "a"], |text| (*text).to_owned());
        assert_eq!(keys_of(rows), ["a", "b", "a#2", "a#3"]);
    }

    proptest! {
        #[test]
        fn the_selected_row_is_always_on_the_page(n in 1_usize..200, selected in 0_usize..200, height in 1_usize..60, dropped in 0_usize..1000) {
            let keys = keys(n);
            let wanted = selected.min(n - 1).to_string();
            for (first, index) in [window(&keys, Some(&wanted), height), tail(&keys, Some(&wanted), height, dropped)] {
                let index = index.unwrap();
                prop_assert!(first <= index && index < first + height);
            }
        }
    }
}
