//! Which panes there is room for, and where. When room is short, panes go by priority: progress stays to the end.

use ratatui::layout::Rect;

/// From this width on, tables and resources stand side by side.
const WIDE: u16 = 110;
/// From this width on, progress and checkpoints do.
const MEDIUM: u16 = 70;
/// The height of the progress pane, frame included, that holds all of its lines.
const PROGRESS: u16 = 9;
/// From this height of the body on, the progress pane has room for a chart of so many more lines.
const TALL: u16 = 30;
const CHART: u16 = 3;
/// The height that the tables have at least where there is room.
const TABLES: u16 = 8;
/// The lowest frame that the governor's signals are worth.
const GOVERNOR: u16 = 6;
/// Below this height of the body there is only the progress pane.
const BODY: u16 = 12;
/// The lowest frame that holds a heading and a line.
const LOWEST: u16 = 4;

/// Where each pane goes. What is `None` is not drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panes {
    pub progress: Rect,
    pub checkpoints: Option<Rect>,
    pub tables: Option<Rect>,
    pub resources: Option<Rect>,
    pub governor: Option<Rect>,
    pub alerts: Option<Rect>,
}

/// What every view has: the header, the views to choose from, the place of the view, the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    pub header: Rect,
    pub tabs: Option<Rect>,
    pub body: Rect,
    pub hints: Option<Rect>,
}

/// From this height on, the views to choose from have a row of their own.
const TABBED: u16 = 20;

/// Divides the screen into what every view has.
pub(crate) fn screen(area: Rect) -> Screen {
    let (header, rest) = cut(area, 1);
    let (tabs, rest) = cut(rest, u16::from(area.height >= TABBED));
    let (hints, body) = if rest.height > 4 {
        let (body, hints) = cut(rest, rest.height - 1);
        (Some(hints), body)
    } else {
        (None, rest)
    };
    Screen { header, tabs: (!tabs.is_empty()).then_some(tabs), body, hints }
}

/// The overview with charts: the panes that stay above, and a place for each chart that there is room for.
pub(crate) fn charted(body: Rect, needs: Needs, charts: usize, least: u16) -> (Option<Panes>, Vec<Rect>) {
    let panes = arrange(body, needs);
    let progress = panes.progress;
    let (_, below) = cut(body, progress.bottom().saturating_sub(body.y));
    let beside = panes.checkpoints.filter(|area| area.y == progress.y);
    let (panes, field) = if below.height >= least {
        let none = Panes { checkpoints: beside, tables: None, resources: None, governor: None, alerts: None, progress };
        (Some(none), below)
    } else {
        (None, body)
    };
    // The rows of charts are as many as can be high enough.
    let across = if field.width >= MEDIUM { 2 } else { 1 };
    let rows = charts.div_ceil(across).min(usize::from(field.height / least.max(1)).max(1));
    let mut places = Vec::new();
    let mut rest = field;
    for row in 0..rows {
        let left = u16::try_from(rows - row).unwrap_or(1);
        let (line, below) = cut(rest, rest.height / left);
        rest = below;
        // An odd chart has a line to itself.
        if across == 2 && charts - places.len() > 1 {
            let (one, other) = halves(line);
            places.extend([one, other]);
        } else {
            places.push(line);
        }
    }
    (panes, places)
}

/// How many lines the panes could use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub steps: usize,
    pub tables: usize,
    pub signals: usize,
}

/// Divides the place of the overview.
pub(crate) fn arrange(body: Rect, needs: Needs) -> Panes {
    let alone =
        Panes { progress: body, checkpoints: None, tables: None, resources: None, governor: None, alerts: None };
    if body.width >= WIDE && body.height >= BODY {
        wide(body, needs, alone)
    } else if body.width >= MEDIUM && body.height >= TABLES {
        medium(body, needs, alone)
    } else if body.height >= BODY {
        narrow(body, needs, alone)
    } else {
        alone
    }
}

/// Two columns, and the alerts below, beside the governor's signals.
fn wide(body: Rect, needs: Needs, panes: Panes) -> Panes {
    let least = if body.height >= TALL { PROGRESS + CHART } else { PROGRESS };
    let top = framed(needs.steps + 2).clamp(least, least.max(body.height / 3));
    let (top, rest) = cut(body, top);
    let (progress, checkpoints) = columns(top);
    let panes = Panes { progress, checkpoints: Some(checkpoints), ..panes };
    if rest.height <= LOWEST {
        return Panes { alerts: Some(rest), ..panes };
    }
    let below = framed(needs.tables + 1).clamp(TABLES, TABLES.max(rest.height / 2)).min(rest.height - 1);
    let (below, alerts) = cut(rest, below);
    let (tables, resources) = columns(below);
    let (alerts, governor) = if needs.signals > 0 && alerts.height >= GOVERNOR {
        let (alerts, governor) = columns(alerts);
        (alerts, Some(governor))
    } else {
        (alerts, None)
    };
    Panes { tables: Some(tables), resources: Some(resources), governor, alerts: Some(alerts), ..panes }
}

/// Progress beside checkpoints, then tables, resources and alerts below each other.
fn medium(body: Rect, needs: Needs, panes: Panes) -> Panes {
    let (top, rest) = cut(body, PROGRESS);
    let (progress, checkpoints) = columns(top);
    below(rest, needs, Panes { progress, checkpoints: Some(checkpoints), ..panes })
}

/// All below each other.
fn narrow(body: Rect, needs: Needs, panes: Panes) -> Panes {
    let (progress, rest) = cut(body, PROGRESS);
    let height = framed(needs.steps + 1).max(LOWEST).min(rest.height);
    if height < LOWEST {
        return Panes { progress: body, ..panes };
    }
    let (checkpoints, rest) = cut(rest, height);
    below(rest, needs, Panes { progress, checkpoints: Some(checkpoints), ..panes })
}

fn below(rest: Rect, needs: Needs, panes: Panes) -> Panes {
    /// CPU, memory, and what is left in one line, framed.
    const RESOURCES: u16 = 5;
    let room = rest.height.saturating_sub(1);
    let resources = if room >= RESOURCES + LOWEST { RESOURCES } else { 0 };
    let tables = match room - resources {
        room @ LOWEST.. => room.min(framed(needs.tables + 1).max(TABLES)),
        _ => 0,
    };
    let (tables, rest) = cut(rest, tables);
    let (resources, rest) = cut(rest, resources);
    let governor = framed(needs.signals + 1).max(GOVERNOR);
    let has_room = needs.signals > 0 && rest.height >= governor.saturating_add(LOWEST);
    let (governor, alerts) = cut(rest, if has_room { governor } else { 0 });
    let some = |area: Rect| (!area.is_empty()).then_some(area);
    Panes { tables: some(tables), resources: some(resources), governor: some(governor), alerts: some(alerts), ..panes }
}

/// The height of a frame around so many lines.
fn framed(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2)
}

/// The first `height` lines, and the rest.
pub(crate) fn cut(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    (Rect { height, ..area }, Rect { y: area.y + height, height: area.height - height, ..area })
}

/// The left half, and the right one.
fn halves(area: Rect) -> (Rect, Rect) {
    let left = area.width.div_ceil(2);
    (Rect { width: left, ..area }, Rect { x: area.x + left, width: area.width - left, ..area })
}

/// A little more than half, and a little less.
pub(crate) fn columns(area: Rect) -> (Rect, Rect) {
    // A wide screen gives the left enough for every column of the tables.
    let right = if area.width >= WIDE { area.width * 2 / 5 } else { area.width * 9 / 20 };
    let left = area.width - right;
    (Rect { width: left, ..area }, Rect { x: area.x + left, width: area.width - left, ..area })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(width: u16, height: u16) -> String {
        let screen = screen(Rect::new(0, 0, width, height));
        let panes = arrange(screen.body, Needs { steps: 3, tables: 4, signals: 11 });
        let all = [
            ("tabs", screen.tabs),
            ("checkpoints", panes.checkpoints),
            ("tables", panes.tables),
            ("resources", panes.resources),
            ("governor", panes.governor),
            ("alerts", panes.alerts),
            ("hints", screen.hints),
        ];
        all.into_iter().filter(|(_, area)| area.is_some()).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn panes_go_by_priority_when_room_is_short() {
        let table = [
            (140, 40, "tabs checkpoints tables resources governor alerts hints"),
            (110, 24, "tabs checkpoints tables resources alerts hints"),
            (80, 48, "tabs checkpoints tables resources governor alerts hints"),
            (80, 24, "tabs checkpoints tables resources alerts hints"),
            (80, 16, "checkpoints tables alerts hints"),
            (80, 10, "checkpoints hints"),
            (60, 30, "tabs checkpoints tables resources alerts hints"),
            (40, 12, "hints"),
            (40, 5, ""),
            (1, 1, ""),
        ];
        for (width, height, expected) in table {
            assert_eq!(shown(width, height), expected, "{width}x{height}");
        }
    }

    #[test]
    fn at_80x24_every_pane_has_its_lines() {
        let panes = arrange(screen(Rect::new(0, 0, 80, 24)).body, Needs { steps: 3, tables: 4, signals: 11 });
        let heights = [Some(panes.progress), panes.checkpoints, panes.tables, panes.resources, panes.alerts];
        assert_eq!(heights.map(|area| area.map_or(0, |area| area.height)), [9, 9, 6, 5, 1]);
    }

    proptest! {
        #[test]
        fn panes_lie_inside_the_screen_and_never_over_each_other(width in 0_u16..400, height in 0_u16..120, steps in 0_usize..60, tables in 0_usize..60, signals in 0_usize..60) {
            let whole = Rect::new(0, 0, width, height);
            let screen = screen(whole);
            let needs = Needs { steps, tables, signals };
            let panes = arrange(screen.body, needs);
            let mut areas = vec![screen.header, panes.progress];
            let more = [panes.checkpoints, panes.tables, panes.resources, panes.governor, panes.alerts];
            areas.extend([screen.tabs, screen.hints].into_iter().chain(more).flatten());
            never_over_each_other(whole, areas)?;
            let (above, charts) = charted(screen.body, needs, signals % 6, 6);
            let mut areas = charts;
            areas.extend(above.into_iter().flat_map(|panes| [Some(panes.progress), panes.checkpoints]).flatten());
            never_over_each_other(screen.body, areas)?;
        }
    }

    fn never_over_each_other(screen: Rect, mut areas: Vec<Rect>) -> Result<(), TestCaseError> {
        areas.retain(|area| !area.is_empty());
        for (index, area) in areas.iter().enumerate() {
            prop_assert_eq!(area.intersection(screen), *area);
            for other in &areas[index + 1..] {
                prop_assert!(!area.intersects(*other), "{:?} {:?}", area, other);
            }
        }
        Ok(())
    }
}
