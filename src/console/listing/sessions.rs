//! The rows of the sessions: who blocks others, with those who wait below, then everybody else.

use std::collections::{HashMap, HashSet};

use super::order::Value;
use super::{Row, filter, keyed, sort};
use crate::console::view::Scene;
use crate::run::details::SessionView;
use crate::run::text::clean;

pub(crate) const COLUMNS: [&str; 10] =
    ["pid", "state", "wait", "tx age", "in state", "user", "application", "client", "blocks", "query"];

/// A session in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placed<'a> {
    pub session: &'a SessionView,
    /// How many sessions stand above it, of which each waits for the one above.
    pub depth: usize,
    /// How many of the sessions that are shown wait for it.
    pub blocks: usize,
}

pub(crate) fn rows<'a>(scene: &Scene<'a>) -> Vec<Row<Placed<'a>>> {
    let list = &scene.ui.lists.sessions;
    let Some(sessions) = scene.details.sessions.value() else { return Vec::new() };
    let mut rows = keyed(tree(&sessions.sessions), |placed| placed.session.pid.to_string());
    filter(&mut rows, list, |placed| texts(placed.session));
    if list.sort.is_some() {
        sort(&mut rows, list, value);
        // In another order nobody stands below whom he waits for.
        for row in &mut rows {
            row.of.depth = 0;
        }
    }
    rows
}

/// What a filter looks at.
fn texts(session: &SessionView) -> Vec<String> {
    let SessionView { user, application, client, state, query, .. } = session;
    let wait = session.wait.as_deref().unwrap_or_default();
    let mut texts: Vec<String> =
        [user, application, client, state, query].map(|text| clean(text).into_owned()).to_vec();
    texts.push(clean(wait).into_owned());
    texts.push(session.pid.to_string());
    texts
}

/// Each session once: below the first that it waits for, where that one is shown. A circle of waiting begins at the first
/// of its sessions.
fn tree(sessions: &[SessionView]) -> Vec<Placed<'_>> {
    let shown: HashSet<i32> = sessions.iter().map(|session| session.pid).collect();
    let mut waiters: HashMap<i32, Vec<&SessionView>> = HashMap::new();
    let mut blocks: HashMap<i32, usize> = HashMap::new();
    for session in sessions {
        for pid in session.blocked_by.iter().filter(|pid| **pid != session.pid).collect::<HashSet<_>>() {
            *blocks.entry(*pid).or_default() += 1;
        }
        if let Some(above) = above(session, &shown) {
            waiters.entry(above).or_default().push(session);
        }
    }
    let blocks_of = |session: &SessionView| blocks.get(&session.pid).copied().unwrap_or_default();
    let is_root = |session: &&SessionView| above(session, &shown).is_none();
    let (blockers, others): (Vec<_>, Vec<_>) =
        sessions.iter().filter(is_root).partition(|session| blocks_of(session) > 0);
    let in_circles = sessions.iter().filter(|session| !is_root(session));

    let mut rows = Vec::with_capacity(sessions.len());
    let mut placed = HashSet::new();
    let mut grow = |root| {
        let mut next = vec![(root, 0_usize)];
        while let Some((session, depth)) = next.pop() {
            // By address and not by process id: each session is shown once, whatever its id says.
            if placed.insert(std::ptr::from_ref::<SessionView>(session)) {
                rows.push(Placed { session, depth, blocks: blocks_of(session) });
                let below = waiters.get(&session.pid).into_iter().flatten();
                next.extend(below.rev().map(|waiter| (*waiter, depth + 1)));
            }
        }
    };
    blockers.into_iter().for_each(&mut grow);
    in_circles.for_each(&mut grow);
    others.into_iter().for_each(grow);
    rows
}

/// The session that this one stands below.
fn above(session: &SessionView, shown: &HashSet<i32>) -> Option<i32> {
    session.blocked_by.iter().copied().find(|pid| *pid != session.pid && shown.contains(pid))
}

fn value(placed: &Placed<'_>, column: usize) -> Value {
    let session = placed.session;
    match column {
        0 => Value::Number(f64::from(session.pid)),
        1 => Value::text(&session.state),
        2 => session.wait.as_deref().map_or(Value::None, Value::text),
        3 => Value::duration(session.transaction),
        4 => Value::duration(session.in_state),
        5 => Value::text(&session.user),
        6 => Value::text(&session.application),
        7 => Value::text(&session.client),
        8 => Value::count(placed.blocks as u64),
        9 => Value::text(&session.query),
        _ => Value::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sessions(waits: &[(i32, &[i32])]) -> Vec<SessionView> {
        let session = |(pid, blocked_by): &(i32, &[i32])| SessionView {
            pid: *pid,
            blocked_by: blocked_by.to_vec(),
            ..SessionView::default()
        };
        waits.iter().map(session).collect()
    }

    fn placed(sessions: &[SessionView]) -> Vec<(i32, usize, usize)> {
        tree(sessions).iter().map(|placed| (placed.session.pid, placed.depth, placed.blocks)).collect()
    }

    #[test]
    fn who_waits_stands_below_whom_it_waits_for_and_others_after() {
        let sessions = sessions(&[(1, &[]), (2, &[3]), (3, &[]), (4, &[2, 3]), (5, &[9]), (6, &[3])]);
        assert_eq!(placed(&sessions), [(3, 0, 3), (2, 1, 1), (4, 2, 0), (6, 1, 0), (1, 0, 0), (5, 0, 0)]);
    }

    #[test]
    fn a_circle_of_waiting_is_shown_once() {
        let sessions = sessions(&[(1, &[2]), (2, &[1]), (3, &[3])]);
        assert_eq!(placed(&sessions), [(1, 0, 1), (2, 1, 1), (3, 0, 0)]);
    }

    proptest! {
        #[test]
        fn every_session_is_shown_once(waits in proptest::collection::vec((0_i32..9, proptest::collection::vec(0_i32..9, 0..4)), 0..20)) {
            let sessions: Vec<SessionView> = waits
                .into_iter()
                .map(|(pid, blocked_by)| SessionView { pid, blocked_by, ..SessionView::default() })
                .collect();
            let mut expected: Vec<i32> = sessions.iter().map(|session| session.pid).collect();
            let mut shown: Vec<i32> = tree(&sessions).iter().map(|placed| placed.session.pid).collect();
            expected.sort_unstable();
            shown.sort_unstable();
            prop_assert_eq!(shown, expected);
        }
    }
}
