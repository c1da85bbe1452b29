//! The governor's signals: each with its value, its limits, and what it does to the pace.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::canvas::Canvas;
use super::super::measure::{left, right, width};
use super::super::theme::Role;
use crate::run::text::clean;
use crate::run::{Effect, SignalView, Snapshot, why};

/// The sign and a space.
const SIGN: usize = 2;
/// Names take no more than this where something else has no room.
const NAME: usize = 15;
/// Names are not cut below this while a column can go in their place.
const NAME_AT_LEAST: usize = 12;
const VALUE: usize = 9;
/// A limit with the gap before it.
const LIMIT: std::ops::RangeInclusive<usize> = 6..=10;
/// `pauses`, or `pauses the run` where there is room, with the gap before it.
const DOES: usize = 8;
const DOES_IN_WORDS: usize = 16;
const AGE: usize = 4;
/// A value is as good as new for so long.
const NEW: Duration = Duration::from_secs(5);

pub(crate) fn render(canvas: &mut Canvas<'_>, area: Rect, signals: &[SignalView]) {
    let inside = canvas.pane(area, "Governor");
    let columns = Columns::of(usize::from(inside.width), signals);
    let heading = columns.line("", "signal", ["value", "slow", "stop"], "does", "age");
    canvas.line(inside, 0, &Line::from(canvas.span(Role::Title, heading)));
    let room = usize::from(inside.height).saturating_sub(1);
    let shown = most_telling(signals, room);
    for (row, signal) in shown.iter().enumerate() {
        let line = line(canvas, signal, &columns);
        canvas.line(inside, row + 1, &line);
    }
    if shown.len() < signals.len() && room > 0 {
        let more = signals.len() - shown.len();
        canvas.line(inside, room, &Line::from(canvas.span(Role::Dim, format!("  and {more} more"))));
    }
}

/// The signal that slows the run most, in the lower edge of `area`, where the signals have no pane of their own.
pub(crate) fn worst(canvas: &mut Canvas<'_>, area: Rect, snapshot: &Snapshot) {
    let told = snapshot.state.is_over() || snapshot.pace.hold.is_some() || !why::is_closed(&snapshot.pace.breaker);
    if let Some(signal) = why::worst(&snapshot.pace.signals).filter(|_| !told) {
        let (does, limit) = why::signal(signal);
        let text = format!("{} {does}", canvas.theme().glyphs.effect(signal.effect));
        let limit = if width(&text) + width(&limit) <= Canvas::footer_room(area) { limit } else { String::new() };
        canvas.footer(area, Role::of_effect(signal.effect), &format!("{text}{limit}"));
    }
}

struct Columns {
    name: usize,
    slow: usize,
    stop: usize,
    does: usize,
    age: usize,
}

impl Columns {
    /// What there is room for: ages go first, then the limits that pause.
    fn of(cells: usize, signals: &[SignalView]) -> Self {
        let widest = |text: fn(&SignalView) -> Option<&str>| {
            let longest = signals.iter().filter_map(text).map(|text| width(&clean(text))).max().unwrap_or(0);
            (longest + 1).clamp(*LIMIT.start(), *LIMIT.end())
        };
        let longest = signals.iter().map(|signal| width(&clean(&signal.name))).max().unwrap_or(0);
        let wanted = longest.clamp("signal".len(), NAME);
        let mut columns = Self {
            name: 0,
            slow: widest(|signal| signal.slow.as_deref()),
            stop: widest(|signal| signal.stop.as_deref()),
            does: DOES_IN_WORDS,
            age: AGE,
        };
        let room = |columns: &Self| cells.saturating_sub(columns.taken());
        if room(&columns) < wanted {
            columns.does = DOES;
        }
        if room(&columns) < wanted.min(NAME_AT_LEAST) {
            columns.age = 0;
        }
        if room(&columns) < wanted.min(NAME_AT_LEAST) {
            columns.stop = 0;
        }
        columns.name = room(&columns).min(longest.max(wanted));
        columns
    }

    fn taken(&self) -> usize {
        SIGN + VALUE + self.slow + self.stop + self.does + self.age
    }

    fn line(&self, sign: &str, name: &str, [value, slow, stop]: [&str; 3], does: &str, age: &str) -> String {
        let numbers = [cell(value, VALUE), cell(slow, self.slow), cell(stop, self.stop)].concat();
        self.row(sign, name, &numbers, does, age)
    }

    fn row(&self, sign: &str, name: &str, numbers: &str, does: &str, age: &str) -> String {
        let does = left(does, self.does.saturating_sub(2));
        format!("{}{}{numbers}  {does}{}", left(sign, SIGN), left(name, self.name), cell(age, self.age))
    }
}

/// A value at the right of its column, never touching the one before.
fn cell(text: &str, width: usize) -> String {
    width.checked_sub(1).map_or_else(String::new, |room| format!(" {}", right(text, room)))
}

fn line(canvas: &Canvas<'_>, signal: &SignalView, columns: &Columns) -> Line<'static> {
    let glyphs = &canvas.theme().glyphs;
    let sign = glyphs.effect(signal.effect);
    let does = if columns.does == DOES { signal.effect.word() } else { why::does(signal.effect) };
    let (name, value) = (clean(&signal.name), clean(&signal.value));
    let age = age(signal.age);
    let text = if signal.effect == Effect::Unread {
        // Why there is no value takes the place of value and limits.
        let why = left(&value, (VALUE + columns.slow + columns.stop).saturating_sub(2));
        columns.row(sign, &name, &format!("  {why}"), does, &age)
    } else {
        let limit = |limit: &Option<String>| limit.as_deref().map_or_else(|| glyphs.none.into(), clean).into_owned();
        columns.line(sign, &name, [&value, &limit(&signal.slow), &limit(&signal.stop)], does, &age)
    };
    Line::from(canvas.span(Role::of_effect(signal.effect), text))
}

/// How old a value is, in steps so large that the column seldom changes; nothing while it is new.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        _ if age <= NEW => String::new(),
        0..60 => format!("{}s", seconds - seconds % 5),
        60..6000 => format!("{}m", seconds / 60),
        _ => format!("{}h", (seconds / 3600).min(99)),
    }
}

/// The signals that do most, in their own order, where there is no room for all of them; one line is left for the rest.
fn most_telling(signals: &[SignalView], room: usize) -> Vec<&SignalView> {
    let mut order: Vec<usize> = (0..signals.len()).collect();
    if signals.len() > room {
        let load = |signal: &SignalView| signal.load.unwrap_or(0.0);
        order.sort_by(|a, b| {
            let (a, b) = (&signals[*a], &signals[*b]);
            b.effect.cmp(&a.effect).then_with(|| load(b).total_cmp(&load(a)))
        });
        order.truncate(room.saturating_sub(1));
        order.sort_unstable();
    }
    order.into_iter().map(|index| &signals[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_only_where_a_value_is_not_new() {
        let table = [(0, ""), (5, ""), (7, "5s"), (12, "10s"), (59, "55s"), (61, "1m"), (5999, "99m"), (7200, "2h")];
        for (seconds, expected) in table {
            assert_eq!(age(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(age(Duration::MAX), "99h");
    }

    #[test]
    fn where_room_is_short_the_signals_that_do_most_stay_in_their_order() {
        let signal = |name: &str, effect, load| SignalView {
            number: None,
            name: name.to_owned(),
            value: String::new(),
            slow: None,
            stop: None,
            load: Some(load),
            age: Duration::ZERO,
            effect,
        };
        let signals = [
            signal("a", Effect::Free, 0.1),
            signal("b", Effect::Sheds, 0.8),
            signal("c", Effect::Free, 0.3),
            signal("d", Effect::Pauses, 9.0),
        ];
        let names = |room| most_telling(&signals, room).iter().map(|signal| signal.name.as_str()).collect::<String>();
        for (room, expected) in [(9, "abcd"), (4, "abcd"), (3, "bd"), (2, "d"), (1, ""), (0, "")] {
            assert_eq!(names(room), expected, "{room}");
        }
    }
}
