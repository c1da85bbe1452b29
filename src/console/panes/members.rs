//! Who walks the running sweep: the driver's host, and the processes that have joined.

use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::theme::Role;
use super::in_a_row;
use crate::run::member::MemberView;
use crate::run::text::clean;
use crate::run::{Snapshot, human};

/// A member that was not heard for so long, in seconds, needs eyes.
const QUIET: u64 = 5;

/// `4 workers on db-ops1`, `2 on ops2:771, 5 segments`, `2 on ops3:80, not heard for 9s`: as many as there is room for. `None`:
/// nobody has joined.
pub(super) fn line(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize) -> Option<Line<'static>> {
    if snapshot.members.is_empty() {
        return None;
    }
    let mut items = vec![(9, Role::Text, format!("workers: {} on {}", snapshot.pace.workers, clean(&snapshot.host)))];
    let more = snapshot.members.len().saturating_sub(8);
    items.extend(snapshot.members.iter().take(8).zip((1..9).rev()).map(|(member, worth)| {
        let (role, text) = told(member);
        (worth, role, text)
    }));
    if more > 0 {
        items.push((9, Role::Dim, format!("and {} more processes", human::count(more as u64))));
    }
    Some(in_a_row(canvas, &items, width))
}

fn told(member: &MemberView) -> (Role, String) {
    let name = format!("{} on {}:{}", member.workers, clean(&member.host), member.pid);
    if member.silent.as_secs() >= QUIET {
        return (Role::Warning, format!("{name}, not heard for {}", human::rough_duration(member.silent)));
    }
    let does = match (member.is_resting, member.segments) {
        (true, _) => "at rest".to_owned(),
        (false, 0) => "without a segment".to_owned(),
        (false, 1) => "1 segment".to_owned(),
        (false, n) => format!("{n} segments"),
    };
    (Role::Text, format!("{name}, {does}"))
}

/// `+ 4 on 2 more hosts`, behind the number of the driver's own workers.
pub(super) fn beside(snapshot: &Snapshot) -> Option<String> {
    let members = &snapshot.members;
    let workers: u32 = members.iter().map(|member| member.workers).sum();
    match members.as_slice() {
        [] => None,
        [one] => Some(format!("+ {workers} on {}", clean(&one.host))),
        many => Some(format!("+ {workers} in {} processes", many.len())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn member(segments: u32, is_resting: bool, silent: u64) -> MemberView {
        MemberView {
            host: "ops2".to_owned(),
            pid: 77,
            workers: 2,
            is_resting,
            segments,
            silent: Duration::from_secs(silent),
            ..MemberView::default()
        }
    }

    #[test]
    fn a_member_is_told_with_what_it_does_and_a_silent_one_as_silent() {
        let table = [
            (member(5, false, 0), "2 on ops2:77, 5 segments"),
            (member(0, false, 1), "2 on ops2:77, without a segment"),
            (member(3, true, 1), "2 on ops2:77, at rest"),
            (member(3, false, 9), "2 on ops2:77, not heard for 9s"),
        ];
        for (member, expected) in table {
            assert_eq!(told(&member).1, expected);
        }
    }
}
