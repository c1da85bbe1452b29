//! How the console looks: a pure function of a snapshot, of what the operator has opened, and of the theme.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::canvas::{Canvas, Seen};
use super::layout::{Needs, Panes, arrange, charted, screen};
use super::panes::{
    alerts, charts, checkpoints, confirm, detail, dialogue, event_list, gone, governor, header, help, hints, log,
    no_run, outcome, progress, queue, resources, segments, session_list, table_list, tables, tabs,
};
use super::theme::Theme;
use super::ui::{Overlay, Ui, View};
use crate::run::{Details, Presence, Snapshot};

/// The lowest view that is worth anything.
const LOWEST: u16 = 6;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The run.
    pub snapshot: &'a Snapshot,
    /// What was looked up beside it.
    pub details: &'a Details,
    /// What the operator has opened.
    pub ui: &'a Ui,
}

/// Draws the open view, and the box over it where one is open. Any size will do, down to no cell at all.
pub fn render(scene: &Scene<'_>, theme: &Theme, frame: &mut Frame<'_>) {
    draw(scene, theme, frame);
}

/// [`render`], and what can be seen then.
pub(crate) fn draw(scene: &Scene<'_>, theme: &Theme, frame: &mut Frame<'_>) -> Seen {
    let Scene { snapshot, details: _, ui } = *scene;
    let area = frame.area();
    if area.is_empty() {
        return Seen::default();
    }
    let screen = screen(area);
    let mut canvas = Canvas::new(frame.buffer_mut(), theme);
    header::render(&mut canvas, screen.header, snapshot, ui.mode);
    if let Some(area) = screen.tabs {
        tabs::render(&mut canvas, area, snapshot, ui);
    }
    // The lists end above what is said of a driver that is gone, so that every row of them can be reached.
    let said = gone::is_due(snapshot) && ui.overlay == Overlay::None && ui.view != View::Overview;
    let spared = if said { gone::height(&canvas, screen.body, snapshot, ui) } else { 0 };
    let body = if screen.body.height >= spared + LOWEST {
        Rect { height: screen.body.height - spared, ..screen.body }
    } else {
        screen.body
    };
    match ui.view {
        View::Queue => queue::render(&mut canvas, body, scene),
        _ if snapshot.presence == Presence::NoRun => no_run::render(&mut canvas, body, ui),
        View::Overview if ui.charts => with_charts(&mut canvas, screen.body, scene),
        View::Overview => {
            let panes = arrange(screen.body, needs(snapshot));
            overview(&mut canvas, panes, scene);
        }
        View::Tables => table_list::render(&mut canvas, body, scene),
        View::Sessions => session_list::render(&mut canvas, body, scene),
        View::Segments => segments::render(&mut canvas, body, scene),
        View::Events => event_list::render(&mut canvas, body, scene),
        View::Log => log::render(&mut canvas, body, scene),
    }
    if let Some(area) = screen.hints {
        hints::render(&mut canvas, area, snapshot, ui);
    }
    // What lies over the view leaves the header and the hints free.
    let top = screen.header.bottom();
    let over = screen.hints.map_or(area, |hints| Rect { y: top, height: hints.y.saturating_sub(top), ..area });
    match &ui.overlay {
        Overlay::Help { scroll, .. } => help::render(&mut canvas, over, ui, *scroll),
        Overlay::Quit { selected } => dialogue::render(&mut canvas, over, *selected),
        Overlay::Confirm(question) => confirm::render(&mut canvas, over, question),
        Overlay::Detail { scroll } => detail::render(&mut canvas, over, scene, *scroll),
        Overlay::None if gone::is_due(snapshot) => gone::render(&mut canvas, over, snapshot, ui),
        Overlay::None if ui.view == View::Overview && snapshot.state.is_over() => {
            outcome::render(&mut canvas, over, snapshot, ui);
        }
        Overlay::None => {}
    }
    canvas.flatten()
}

fn needs(snapshot: &Snapshot) -> Needs {
    let tables = snapshot.vitals.database.value().map_or(1, |database| database.tables.len());
    Needs { steps: snapshot.steps.len(), tables, signals: snapshot.pace.signals.len() }
}

fn overview(canvas: &mut Canvas<'_>, panes: Panes, scene: &Scene<'_>) {
    let Scene { snapshot, ui, .. } = *scene;
    progress::render(canvas, panes.progress, snapshot, ui);
    if panes.governor.is_none() {
        governor::worst(canvas, panes.progress, snapshot);
    }
    if let Some(area) = panes.checkpoints {
        checkpoints::render(canvas, area, snapshot);
    }
    if let Some(area) = panes.tables {
        tables::render(canvas, area, snapshot);
    }
    if let Some(area) = panes.resources {
        resources::render(canvas, area, &snapshot.vitals);
    }
    if let Some(area) = panes.governor {
        governor::render(canvas, area, &snapshot.pace.signals);
    }
    if let Some(area) = panes.alerts {
        alerts::render(canvas, area, snapshot);
    }
}

fn with_charts(canvas: &mut Canvas<'_>, body: Rect, scene: &Scene<'_>) {
    let Scene { snapshot, ui, .. } = *scene;
    let all = charts::Chart::of(snapshot);
    let (panes, places) = charted(body, needs(snapshot), all.len(), charts::LEAST);
    if let Some(panes) = panes {
        overview(canvas, panes, scene);
    }
    for (chart, place) in all.into_iter().zip(places) {
        charts::render(canvas, place, snapshot, ui, chart);
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "any_view_tests.rs"]
mod any_view_tests;
#[cfg(test)]
#[path = "views_tests.rs"]
mod views_tests;
