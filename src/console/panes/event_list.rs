//! Alerts that hold, then what was asked for and what happened, newest first.

use ratatui::layout::Rect;

use super::super::canvas::Canvas;
use super::super::grid::{Column, Grid, Ink, plain};
use super::super::listing::events::{self, Happening};
use super::super::theme::Role;
use super::super::view::Scene;
use super::detail::Page;
use super::{clock, finish, list_title};
use crate::run::rule::Standing;
use crate::run::text::clean;
use crate::run::vitals::Alert;
use crate::run::{Level, Snapshot};

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, scene: &Scene<'_>) {
    let list = &scene.ui.lists.events;
    let snapshot = scene.snapshot;
    let rows = events::rows(scene);
    let all = snapshot.events.len() + snapshot.commands.len() + held(snapshot).count();
    // A command is not told again as an event, so not all that there is makes a row.
    let all = if list.filter.is_empty() && list.level == 0 { rows.len() } else { all };
    let inside = canvas.pane(area, &list_title(canvas, "Alerts and events", None, list, rows.len(), all));
    let grid = Grid { columns: columns().into(), sign, list, empty: "nothing yet" };
    let shown = grid.draw(canvas, inside, snapshot, &rows);
    let (holding, noted) =
        (held(snapshot).count(), held(snapshot).filter(|alert| snapshot.is_acknowledged(alert)).count());
    let silenced = held(snapshot).filter(|alert| snapshot.silence(&alert.key).is_some()).count();
    let unmeasured = snapshot.vitals.rules.iter().filter(|rule| rule.standing == Standing::NoValue).count();
    let counts =
        [(holding, "holding"), (noted, "acknowledged"), (silenced, "silenced"), (unmeasured, "without a value")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    finish(canvas, area, shown, (!counts.is_empty()).then_some(counts.as_str()));
}

fn held(snapshot: &Snapshot) -> impl Iterator<Item = &Alert> {
    snapshot.vitals.alerts.iter().filter(|alert| alert.is_active())
}

fn sign(happening: &Happening<'_>, ink: &Ink<'_>) -> (&'static str, Role) {
    let role = if is_silenced(happening, ink.snapshot) { Role::Dim } else { Role::Text };
    (ink.glyphs.level(happening.level()), role)
}

pub(crate) fn columns<'a>() -> [Column<Happening<'a>>; 4] {
    [
        Column::left("at", 0, 8, 20, |happening, _| Some((Some(Role::Dim), clock(happening.at())))),
        Column::left("level", 1, 7, 19, |happening, ink| match happening.level() {
            Level::Info => plain(""),
            level @ (Level::Warning | Level::Critical) if is_silenced(happening, ink.snapshot) => plain(level.word()),
            level @ (Level::Warning | Level::Critical) => Some((Some(Role::of_level(level)), level.word().to_owned())),
        }),
        Column::left("kind", 2, 10, 12, |happening, _| Some((Some(Role::Dim), happening.kind().to_owned()))),
        Column::rest("what", 3, 20, 99, |happening, ink| plain(what(happening, ink.snapshot))),
    ]
}

/// An alert's text, how often it was raised, and who has taken note of it; or what happened.
fn what(happening: &Happening<'_>, snapshot: &Snapshot) -> String {
    let text = happening.text();
    match happening {
        Happening::Alert(alert) => {
            let often = if alert.count > 1 { format!(", {} times", alert.count) } else { String::new() };
            let quiet = [acknowledged(alert, snapshot), silenced(alert, snapshot)];
            let parts = std::iter::once(format!("{text}{often}")).chain(quiet.into_iter().flatten());
            parts.collect::<Vec<_>>().join("; ")
        }
        Happening::Command(_) | Happening::Event(..) => text,
    }
}

/// `acknowledged by ann@ops2 at 14:02`
fn acknowledged(alert: &Alert, snapshot: &Snapshot) -> Option<String> {
    let mut noted = snapshot.acknowledged.iter();
    let noted = noted.find(|noted| noted.key == alert.key && noted.count == alert.count)?;
    let who = if noted.who.is_empty() { String::new() } else { format!(" by {}", clean(&noted.who)) };
    Some(format!("acknowledged{who} at {}", noted.at.format("%H:%M")))
}

fn is_silenced(happening: &Happening<'_>, snapshot: &Snapshot) -> bool {
    matches!(happening, Happening::Alert(alert) if snapshot.silence(&alert.key).is_some())
}

/// `silenced by ann@ops2 until 15:02`
fn silenced(alert: &Alert, snapshot: &Snapshot) -> Option<String> {
    let silence = snapshot.silence(&alert.key)?;
    let who = if silence.who.is_empty() { String::new() } else { format!(" by {}", clean(&silence.who)) };
    let is_today = silence.until.date_naive() == snapshot.now.date_naive();
    let until = silence.until.format(if is_today { "%H:%M" } else { "%b %-d %H:%M" });
    Some(format!("silenced{who} until {until}"))
}

/// All of the selected alert, command or event.
pub(crate) fn detail(canvas: &Canvas<'_>, scene: &Scene<'_>, key: &str) -> Option<Page> {
    let rows = events::rows(scene);
    let happening = rows.iter().find(|row| row.key == key)?.of;
    let at = happening.at().format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let level = format!("{} {}", canvas.theme().glyphs.level(happening.level()), happening.level().word());
    let page = match happening {
        Happening::Alert(alert) => {
            let mut page = Page::new(format!("Alert {}", clean(&alert.key)));
            page.field("level", &level);
            page.field("since", &at);
            let often = if alert.count == 1 { "once".to_owned() } else { format!("{} times", alert.count) };
            page.field("raised", &format!("{often} in this run"));
            let noted = acknowledged(alert, scene.snapshot);
            page.field("noted", noted.as_deref().unwrap_or("not acknowledged"));
            if let Some(silenced) = silenced(alert, scene.snapshot) {
                page.field("quiet", &silenced);
            }
            if let Some(rule) = scene.snapshot.vitals.rules.iter().find(|rule| rule.name == alert.key) {
                page.field("rule", &clean(&rule.condition));
                page.field("now", rule.value.as_deref().map(clean).as_deref().unwrap_or("no value"));
            }
            page.block("what", &happening.text());
            page
        }
        Happening::Command(command) => {
            let mut page = Page::new(format!("Command: {}", clean(&command.command.words())));
            page.field("at", &at);
            page.field("asked by", &clean(&command.asker()));
            page.field("answer", if command.taken { "taken" } else { "refused" });
            if let Some(id) = command.id {
                page.field("number", &id.to_string());
            }
            page.block("what came of it", &clean(&command.outcome));
            page
        }
        Happening::Event(event, _) => {
            let mut page = Page::new("Event".to_owned());
            page.field("at", &at);
            page.field("level", &level);
            page.field("kind", event.kind.name());
            page.block("what", &crate::run::text::clean_lines(&event.text));
            page
        }
    };
    Some(page)
}
