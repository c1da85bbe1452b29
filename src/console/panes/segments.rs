//! The running sweep from near: the map of its keys, its segments, slow batches, retries, rows set aside.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::{Canvas, cells};
use super::super::layout::{columns, cut};
use super::super::theme::Role;
use super::super::ui::SegmentsPane;
use super::super::view::Scene;
use super::{in_a_row, latency, quarantine, retries, segment_list, segment_map, slowest};
use crate::run::human;

/// From this size on, every pane has its place.
const WIDE: u16 = 110;
const TALL: u16 = 28;
/// From this height on, the map stands above the focused pane.
const MAPPED: u16 = 9;
const LATENCY: u16 = 9;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    if area.width >= WIDE && area.height >= TALL {
        all(canvas, area, scene);
    } else {
        focused(canvas, area, scene);
    }
}

fn all(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let pane = scene.ui.pane;
    let (map, rest) = cut(area, cells(segment_map::lines(scene, area.width) + 2));
    segment_map::render(canvas, map, scene);
    let (middle, bottom) = cut(rest, rest.height.saturating_sub((rest.height / 3).max(LATENCY)));
    let (list, side) = columns(middle);
    segment_list::render(canvas, list, scene, Some(pane == SegmentsPane::Segments));
    let (times, tried) = cut(side, LATENCY.max(side.height / 2));
    latency::render(canvas, times, scene.snapshot.work.latency.as_ref());
    retries::render(canvas, tried, scene.snapshot);
    let (slow, set_aside) = columns(bottom);
    slowest::render(canvas, slow, scene, Some(pane == SegmentsPane::Slowest));
    quarantine::render(canvas, set_aside, scene, Some(pane == SegmentsPane::Quarantine));
}

/// The map, and the pane that keys go to; of the others what they count.
fn focused(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let mut rest = area;
    if area.height >= MAPPED {
        let lines = segment_map::lines(scene, area.width);
        // Without room for a frame the map is one line of cells.
        let height = if area.height >= 2 * MAPPED { cells(lines + 2) } else { 1 };
        let (map, below) = cut(area, height);
        segment_map::render(canvas, map, scene);
        let (counts, below) = cut(below, 1);
        canvas.line(counts, 0, &totals(canvas, scene, usize::from(counts.width)));
        rest = below;
    }
    match scene.ui.pane {
        SegmentsPane::Segments => segment_list::render(canvas, rest, scene, Some(true)),
        SegmentsPane::Slowest => slowest::render(canvas, rest, scene, Some(true)),
        SegmentsPane::Quarantine => quarantine::render(canvas, rest, scene, Some(true)),
    }
}

/// ` segments 64   slowest 12.4s   p99 890ms   retries 3   quarantine 37`, the focused one in brackets.
fn totals(canvas: &Canvas<'_>, scene: &Scene<'_>, width: usize) -> Line<'static> {
    let snapshot = scene.snapshot;
    let work = &snapshot.work;
    let none = canvas.theme().glyphs.none;
    let segments = work.segments.len() + work.more as usize;
    let slowest = work.slowest.first().map_or_else(|| none.to_owned(), |batch| human::duration(batch.took));
    let quarantined = snapshot.quarantined();
    let tried: u64 = snapshot.steps.iter().map(|step| step.retries).sum();
    let notable = |n: u64| if n > 0 { Role::Warning } else { Role::Dim };
    let p99 = work.latency.as_ref().map(|latency| format!("p99 {}", human::duration(latency.p99)));
    let panes = [
        (SegmentsPane::Segments, 5, Role::Dim, format!("segments {segments}")),
        (SegmentsPane::Slowest, 4, Role::Dim, format!("slowest {slowest}")),
        (SegmentsPane::Quarantine, 8, notable(quarantined), format!("quarantine {}", human::count(quarantined))),
    ];
    let marked = |(pane, worth, role, text): (SegmentsPane, u8, Role, String)| {
        if pane == scene.ui.pane { (9, Role::Selected, format!("[{text}]")) } else { (worth, role, text) }
    };
    let mut items: Vec<(u8, Role, String)> = panes.into_iter().map(marked).collect();
    items.push((7, notable(tried), format!("retries {}", human::count(tried))));
    items.extend(p99.map(|p99| (3, Role::Dim, p99)));
    in_a_row(canvas, &items, width)
}
