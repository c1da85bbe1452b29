//! The key space from its first key to its last: what is done, walked, tried again, failed, or waits.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::canvas::Canvas;
use super::super::listing::segments::word;
use super::super::theme::Role;
use super::super::view::Scene;
use super::members;
use super::segment_list::role;
use crate::run::work::Cell;

/// More lines than this say no more.
const LINES: usize = 4;
const STATES: [Cell; 5] = [Cell::Done, Cell::Running, Cell::Retrying, Cell::Failed, Cell::Waiting];

/// The lines that the map and its legend take in a frame of this width.
pub(super) fn lines(scene: &Scene<'_>, width: u16) -> usize {
    let inside = usize::from(width.saturating_sub(4)).max(1);
    let members = usize::from(!scene.snapshot.members.is_empty());
    scene.snapshot.work.map.len().div_ceil(inside).clamp(1, LINES) + 1 + members
}

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let map = &scene.snapshot.work.map;
    let inside = canvas.pane(area, "Keys, from the first to the last");
    if map.is_empty() {
        canvas.line(inside, 0, &Line::from(canvas.span(Role::Dim, "no sweep is under way")));
        return;
    }
    let (width, height) = (usize::from(inside.width), usize::from(inside.height));
    let members = members::line(canvas, scene.snapshot, width).filter(|_| height > 2);
    // The legend has the last line, where there is more than one; who walks stands above it.
    let rows = height.saturating_sub(1 + usize::from(members.is_some())).max(1).min(map.len().div_ceil(width.max(1)));
    for row in 0..rows {
        let part = &map[map.len() * row / rows..map.len() * (row + 1) / rows];
        canvas.line(inside, row, &drawn(canvas, &scaled(part, width)));
    }
    let mut next = rows;
    if let Some(members) = members {
        canvas.line(inside, next, &members);
        next += 1;
    }
    if height > next {
        canvas.line(inside, next, &legend(canvas, map));
    }
}

/// `cells` in exactly `width` places; what is in a place is told by [`told`].
fn scaled(cells: &[Cell], width: usize) -> Vec<Cell> {
    let place = |at: usize| {
        let first = at * cells.len() / width;
        let end = ((at + 1) * cells.len() / width).max(first + 1);
        told(&cells[first..end.min(cells.len())])
    };
    if cells.is_empty() { Vec::new() } else { (0..width).map(place).collect() }
}

/// What stands for some cells: the worst of what needs eyes, then work, then most of the rest.
fn told(cells: &[Cell]) -> Cell {
    for state in [Cell::Failed, Cell::Retrying, Cell::Running] {
        if cells.contains(&state) {
            return state;
        }
    }
    let done = cells.iter().filter(|cell| **cell == Cell::Done).count();
    if done * 2 > cells.len() { Cell::Done } else { Cell::Waiting }
}

fn drawn(canvas: &Canvas<'_>, cells: &[Cell]) -> Line<'static> {
    let runs = cells.chunk_by(|a, b| a == b);
    let spans: Vec<Span<'static>> =
        runs.map(|run| canvas.span(role(run[0]), canvas.theme().glyphs.cell(run[0]).repeat(run.len()))).collect();
    Line::from(spans)
}

/// `█ done 44%   ▶ running   · waiting`: those that there are, with their share of the keys.
fn legend(canvas: &Canvas<'_>, map: &[Cell]) -> Line<'static> {
    let mut line = Line::default();
    for state in STATES {
        let count = map.iter().filter(|cell| **cell == state).count();
        if count > 0 {
            let gap = if line.spans.is_empty() { "" } else { "   " };
            let percent = (count * 100 / map.len()).max(1);
            line.push_span(canvas.span(role(state), format!("{gap}{}", canvas.theme().glyphs.cell(state))));
            line.push_span(canvas.span(Role::Dim, format!(" {} {percent}%", word(state))));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_tells_of_the_worst_in_it_and_else_of_most() {
        use Cell::{Done, Failed, Retrying, Running, Waiting};
        let table: [(&[Cell], Cell); 6] = [
            (&[Done, Failed, Running], Failed),
            (&[Done, Retrying, Running], Retrying),
            (&[Done, Done, Running], Running),
            (&[Done, Done, Waiting], Done),
            (&[Done, Waiting], Waiting),
            (&[Waiting], Waiting),
        ];
        for (cells, expected) in table {
            assert_eq!(told(cells), expected, "{cells:?}");
        }
    }

    proptest! {
        #[test]
        fn no_failure_is_lost_whatever_the_width(at in 0_usize..256, width in 1_usize..300) {
            let mut cells = vec![Cell::Done; 256];
            cells[at] = Cell::Failed;
            let scaled = scaled(&cells, width);
            prop_assert_eq!(scaled.len(), width);
            prop_assert!(scaled.contains(&Cell::Failed));
        }
    }
}
