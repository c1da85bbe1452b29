//! Selection, order and filter of lists.

use super::questions::sessions;
use super::*;
use crate::console::listing;
use crate::console::ui::ListId;
use crate::run::Level;
use crate::run::details::{LogLine, LogTail};
use crate::run::vitals::Reading;

fn selected(app: &App, list: ListId) -> Option<&str> {
    app.ui.lists.get(list).selected.as_deref()
}

/// The details with lines of these numbers.
fn log(numbers: std::ops::Range<u64>) -> Action {
    let line = |no| LogLine { no, at: None, level: Level::Info, text: format!("line {no}") };
    let tail = LogTail { path: "howdah.log".to_owned(), lines: numbers.map(line).collect() };
    Action::Details(Arc::new(Details { log: Reading::Value(Arc::new(tail)), ..Details::default() }))
}

#[test]
fn a_list_is_walked_by_lines_pages_and_ends() {
    let mut app = app(RunState::Running);
    let keys = listing::keys(ListId::Tables, &app.scene());
    let [first, .., last] = &keys[..] else { panic!("too few tables") };
    press(&mut app, "2");
    let table = [
        ("j", first),
        ("k", first),
        ("j", &keys[1]),
        ("G", last),
        ("down", last),
        ("pageup", first),
        ("ctrl-d", last),
        ("home", first),
        ("end", last),
        ("g g", first),
    ];
    for (key, expected) in table {
        press_all(&mut app, key);
        assert_eq!(selected(&app, ListId::Tables), Some(expected.as_str()), "{key}");
    }
    press(&mut app, "esc");
    assert_eq!(selected(&app, ListId::Tables), None);
}

#[test]
fn a_log_is_followed_until_somebody_looks_back_and_again_from_its_end_on() {
    let mut app = app(RunState::Running);
    press(&mut app, "6");
    app.update(log(0..100));
    let table = [
        ("j", None),
        ("k", Some("99")),
        ("pageup", Some("89")),
        ("j", Some("90")),
        ("pagedown", None),
        ("g g", Some("0")),
        ("G", None),
    ];
    for (key, expected) in table {
        press_all(&mut app, key);
        assert_eq!(selected(&app, ListId::Log), expected, "{key}");
    }
}

#[test]
fn a_selected_row_that_vanishes_passes_the_selection_to_its_neighbour() {
    let mut app = app(RunState::Running);
    press(&mut app, "6");
    app.update(log(0..10));
    press_all(&mut app, "g g j");
    app.update(log(0..20));
    assert_eq!(selected(&app, ListId::Log), Some("1"), "it is found again");
    app.update(log(5..20));
    assert_eq!(selected(&app, ListId::Log), Some("5"), "the next one below");
    app.update(log(0..3));
    assert_eq!(selected(&app, ListId::Log), None, "of what had been there nothing is left");
    press(&mut app, "k");
    app.update(log(0..2));
    assert_eq!(selected(&app, ListId::Log), Some("1"), "the next one above");
    let none = Details { log: Reading::Unavailable("gone".to_owned()), ..Details::default() };
    app.update(Action::Details(Arc::new(none)));
    app.update(log(0..2));
    assert_eq!(selected(&app, ListId::Log), Some("1"), "a reading that failed takes nothing away");
}

#[test]
fn a_detail_shows_the_selected_row_and_closes_when_that_vanishes() {
    let mut app = app(RunState::Running);
    press(&mut app, "6");
    app.update(log(0..10));
    press(&mut app, "enter");
    assert_eq!((&app.ui.overlay, selected(&app, ListId::Log)), (&Overlay::Detail { scroll: 0 }, Some("9")));
    press_all(&mut app, "j j k");
    assert_eq!(app.ui.overlay, Overlay::Detail { scroll: 1 });
    app.update(log(5..15));
    assert_eq!(app.ui.overlay, Overlay::Detail { scroll: 1 });
    app.update(log(10..15));
    assert_eq!(app.ui.overlay, Overlay::None);
    press(&mut app, "enter");
    assert_eq!(press(&mut app, "esc"), [QUICK]);
    assert!(app.ui.overlay == Overlay::None && selected(&app, ListId::Log).is_some());
    let mut empty = self::app(RunState::Running);
    press_all(&mut empty, "3 enter");
    assert_eq!(empty.ui.overlay, Overlay::None, "there is nothing to show");
}

#[test]
fn a_list_is_sorted_by_each_column_and_then_in_its_own_order_again() {
    let mut app = app(RunState::Running);
    press(&mut app, "2");
    let columns = listing::columns(ListId::Tables);
    assert_eq!(press(&mut app, "S"), [QUICK]);
    assert_eq!(app.ui.lists.tables.sort, None);
    for column in 0..columns.len() {
        press(&mut app, "s");
        let (sorted, descending) = app.ui.lists.tables.sort.unwrap();
        assert_eq!(sorted, column);
        press(&mut app, "S");
        assert_eq!(app.ui.lists.tables.sort, Some((column, !descending)));
    }
    press(&mut app, "s");
    assert_eq!(app.ui.lists.tables.sort, None);
    press_all(&mut app, "s 5");
    assert_eq!(app.ui.lists.tables.sort, Some((0, false)), "each list has its own");
    press(&mut app, "L");
    assert_eq!((app.ui.lists.events.level, app.ui.lists.events.sort), (1, None));
    press_all(&mut app, "L L");
    assert_eq!(app.ui.lists.events.level, 0);
}

#[test]
fn a_filter_takes_effect_while_it_is_typed_enter_keeps_it_and_esc_drops_it() {
    let mut app = app(RunState::Running);
    app.update(Action::Details(sessions()));
    press_all(&mut app, "3 G /");
    write(&mut app, "axi");
    assert_eq!(listing::keys(ListId::Sessions, &app.scene()), ["100"]);
    assert_eq!(selected(&app, ListId::Sessions), Some("100"), "the selected one does not fit");
    press(&mut app, "enter");
    assert_eq!((app.ui.prompt.is_none(), app.ui.lists.sessions.filter.as_str()), (true, "axi"));
    press(&mut app, "/");
    assert_eq!(app.ui.prompt.as_ref().map(|prompt| prompt.text.as_str()), Some("axi"), "it is gone on with");
    press(&mut app, "esc");
    assert_eq!(app.ui.lists.sessions.filter, "");
    write(&mut app, "/q");
    press_all(&mut app, "enter esc");
    assert_eq!(app.ui.lists.sessions.filter, "", "esc drops a filter that was kept");
    assert!(selected(&app, ListId::Sessions).is_some(), "and only then the selection");
    press(&mut app, "1");
    assert_eq!(app.update(Action::Prompt(crate::console::ui::PromptKind::Filter)), [QUICK]);
    assert!(app.ui.prompt.is_none() && app.ui.notice.is_some());
}
