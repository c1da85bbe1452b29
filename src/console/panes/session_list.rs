//! Who is connected: ours marked, who waits for whom as a tree, and what everybody does.

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::grid::{Column, Grid, Ink, outside, plain};
use super::super::listing::sessions::{self, Placed};
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::{finish, in_a_row, list_title, missing};
use crate::run::details::Sessions;
use crate::run::human;
use crate::run::text::{clean, clean_lines};

/// An open transaction that does nothing for this long needs eyes.
const LONG_IDLE_SECONDS: u64 = 60;

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let list = &scene.ui.lists.sessions;
    let rows = sessions::rows(scene);
    let reading = &scene.details.sessions;
    let all = reading.value().map_or(0, |sessions| sessions.sessions.len());
    let inside = canvas.pane(area, &list_title(canvas, "Sessions", None, list, rows.len(), all));
    if let Some(line) = missing(canvas, reading) {
        canvas.line(inside, 0, &line);
    }
    let Some(sessions) = reading.value() else { return };
    let head = u16::from(inside.height >= 5);
    if head > 0 {
        canvas.line(inside, 0, &totals(canvas, sessions, usize::from(inside.width)));
    }
    let below = Rect { y: inside.y + head, height: inside.height - head, ..inside };
    let grid = Grid { columns: columns().into(), sign, list, empty: "nobody else is connected" };
    let shown = grid.draw(canvas, below, scene.snapshot, &rows);
    let glyphs = &canvas.theme().glyphs;
    let legend = format!("{} this run's   {} waits for the one above", glyphs.ours, glyphs.below);
    finish(canvas, area, shown, Some(&legend));
}

/// `61 of 100 sessions   4 active   2 idle in transaction   3 waiting for others`
fn totals(canvas: &Canvas<'_>, sessions: &Sessions, width: usize) -> Line<'static> {
    let of = |wanted: &str| sessions.sessions.iter().filter(|session| session.state.starts_with(wanted)).count();
    let waiting = sessions.sessions.iter().filter(|session| !session.blocked_by.is_empty()).count();
    let idle = of("idle in transaction");
    let notable = |n: usize| if n > 0 { Role::Warning } else { Role::Text };
    let limit = if sessions.limit > 0 { format!(" of {}", sessions.limit) } else { String::new() };
    let near = sessions.limit > 0 && sessions.clients.saturating_mul(10) >= sessions.limit.saturating_mul(9);
    let mut items = vec![
        (9, if near { Role::Warning } else { Role::Text }, format!("{}{limit} sessions", sessions.clients)),
        (5, Role::Text, format!("{} active", of("active"))),
        (6, notable(idle), format!("{idle} idle in transaction")),
        (8, notable(waiting), format!("{waiting} waiting for others")),
    ];
    if sessions.more > 0 {
        items.push((3, Role::Dim, format!("{} not shown", sessions.more)));
    }
    in_a_row(canvas, &items, width)
}

fn sign(placed: &Placed<'_>, ink: &Ink<'_>) -> (&'static str, Role) {
    let session = placed.session;
    let role = if !session.blocked_by.is_empty() || (placed.blocks > 0 && !session.is_ours) {
        Role::Warning
    } else if session.is_ours || session.state == "active" {
        Role::Text
    } else {
        Role::Dim
    };
    (if session.is_ours { ink.glyphs.ours } else { "" }, role)
}

pub(crate) fn columns<'a>() -> [Column<Placed<'a>>; 10] {
    [
        // A tree is as deep as people wait in a row: deeper ones are cut, and the detail says whom it waits for.
        Column::left("pid", 0, 11, 99, |placed, ink| plain(branch(placed, ink))),
        Column::left("state", 1, 11, 20, |placed, _| outside(short_state(&placed.session.state))),
        Column::left("wait", 2, 20, 17, |placed, _| placed.session.wait.as_deref().and_then(outside)),
        Column::right("tx age", 3, 8, 18, |placed, _| {
            placed.session.transaction.and_then(|time| plain(human::rough_duration(time)))
        }),
        Column::right("in state", 4, 9, 16, |placed, _| {
            let session = placed.session;
            let long = session.in_state.is_some_and(|time| time.as_secs() >= LONG_IDLE_SECONDS);
            let role = (long && session.state.starts_with("idle in transaction")).then_some(Role::Warning);
            session.in_state.map(|time| (role, human::rough_duration(time)))
        }),
        Column::left("user", 5, 9, 14, |placed, _| outside(&placed.session.user)),
        Column::left("application", 6, 16, 13, |placed, _| outside(&placed.session.application)),
        Column::left("client", 7, 16, 11, |placed, _| outside(&placed.session.client)),
        Column::right("blocks", 8, 7, 12, |placed, _| plain(blocks(placed))),
        Column::rest("query", 9, 12, 19, |placed, _| outside(&placed.session.query)),
    ]
}

fn blocks(placed: &Placed<'_>) -> String {
    if placed.blocks > 0 { placed.blocks.to_string() } else { String::new() }
}

/// The process id below the one that it waits for.
fn branch(placed: &Placed<'_>, ink: &Ink<'_>) -> String {
    let pid = placed.session.pid;
    match placed.depth {
        0 => pid.to_string(),
        depth => format!("{}{}{pid}", " ".repeat((depth - 1).min(4)), ink.glyphs.below),
    }
}

/// The server's longest words, shorter.
fn short_state(state: &str) -> &str {
    match state {
        "idle in transaction" => "idle in tx",
        "idle in transaction (aborted)" => "aborted tx",
        "fastpath function call" => "fastpath",
        state => state,
    }
}

/// All of the selected session.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = sessions::rows(scene);
    let placed = rows.iter().find(|row| row.key == key)?.of;
    let session = placed.session;
    let none = canvas.theme().glyphs.none;
    let text = |text: &str| if text.is_empty() { none.to_owned() } else { clean(text).into_owned() };
    let time = |time: Option<std::time::Duration>| time.map_or_else(|| none.to_owned(), human::rough_duration);
    let mut page = Page::new(format!("Session {}", session.pid));
    page.field("pid", &session.pid.to_string());
    if session.is_ours {
        page.field("ours", "this run's own");
    }
    page.field("state", &format!("{} for {}", text(&session.state), time(session.in_state)));
    page.field("wait", &session.wait.as_deref().map_or_else(|| none.to_owned(), text));
    if !session.blocked_by.is_empty() {
        let pids: Vec<String> = session.blocked_by.iter().map(i32::to_string).collect();
        page.field("waits for", &pids.join(", "));
    }
    if placed.blocks > 0 {
        page.field("blocks", &format!("{} of the sessions that are shown", placed.blocks));
    }
    page.field("transaction", &format!("open for {}", time(session.transaction)));
    page.field("user", &text(&session.user));
    page.field("application", &text(&session.application));
    page.field("client", &text(&session.client));
    page.block("query", &clean_lines(&session.query));
    Some(page)
}
