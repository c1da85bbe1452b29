//! Views, panes, layers and sequences of keys.

use super::*;
use crate::console::ui::SegmentsPane;
use crate::run::history::Zoom;

#[test]
fn views_are_opened_by_number_and_one_after_the_other_around() {
    let table = [
        ("1", View::Overview),
        ("2", View::Tables),
        ("3", View::Sessions),
        ("4", View::Segments),
        ("5", View::Events),
        ("6", View::Log),
        ("7", View::Queue),
        ("tab", View::Tables),
        ("backtab", View::Queue),
        ("7 tab", View::Overview),
        ("tab tab backtab", View::Tables),
    ];
    for (keys, view) in table {
        for state in states() {
            let mut app = app(state);
            press_all(&mut app, keys);
            assert_eq!(app.ui.view, view, "{keys}");
        }
    }
}

#[test]
fn only_what_is_looked_at_is_looked_up() {
    let mut app = app(RunState::Running);
    let look =
        |sessions, quarantine, log| vec![Effect::Look(Interest { sessions, quarantine, log, queue: false }), QUICK];
    assert_eq!(press(&mut app, "3"), look(true, false, false));
    assert_eq!(press(&mut app, "3"), [QUICK]);
    assert_eq!(press(&mut app, "4"), look(false, true, false));
    assert_eq!(press(&mut app, "l"), [QUICK]);
    assert_eq!(press(&mut app, "6"), look(false, false, true));
    let queue = Interest { queue: true, ..Interest::default() };
    assert_eq!(press(&mut app, "7"), [Effect::Look(queue), QUICK]);
    assert_eq!(press(&mut app, "2"), look(false, false, false));
}

#[test]
fn the_panes_of_the_segments_follow_each_other_around() {
    let mut app = app(RunState::Running);
    press(&mut app, "4");
    let table = [("l", SegmentsPane::Slowest), ("right", SegmentsPane::Quarantine), ("l", SegmentsPane::Segments)];
    for (key, pane) in table.into_iter().chain([("h", SegmentsPane::Quarantine), ("left", SegmentsPane::Slowest)]) {
        press(&mut app, key);
        assert_eq!(app.ui.pane, pane);
    }
    assert_eq!(press_all(&mut app, "2 l"), [], "elsewhere there are no panes");
}

#[test]
fn charts_come_and_go_and_show_three_spans() {
    let mut app = app(RunState::Running);
    press(&mut app, "c");
    assert!(app.ui.charts);
    for zoom in [Zoom::All, Zoom::Minute, Zoom::TenMinutes] {
        press(&mut app, "z");
        assert_eq!(app.ui.zoom, zoom);
    }
    press(&mut app, "c");
    assert!(!app.ui.charts);
}

#[test]
fn keys_that_go_on_are_waited_for_and_forgotten() {
    let waits = [Effect::AwaitKey, QUICK];
    let mut app = app(RunState::Running);
    press(&mut app, "2");
    assert_eq!(press(&mut app, "g"), waits);
    assert_eq!(app.ui.pending, "g-");
    press(&mut app, "g");
    assert_eq!((app.ui.pending.as_str(), app.ui.lists.tables.selected.as_deref()), ("", Some("users")));
    // Esc, a key that does not follow, and time let go of it, and do nothing else.
    for key in ["esc", "q", "f9"] {
        press(&mut app, "g");
        assert_eq!(press(&mut app, key), [QUICK], "{key}");
        assert_eq!((app.ui.pending.as_str(), &app.ui.overlay), ("", &Overlay::None), "{key}");
    }
    assert!(app.ui.lists.tables.selected.is_some(), "esc went to the sequence");
    press(&mut app, "g");
    assert_eq!(app.update(Action::NoKeyCame), [QUICK]);
    assert_eq!(app.update(Action::NoKeyCame), [], "a timer that comes late");
    assert_eq!(press(&mut app, "g"), waits);
}

#[test]
fn a_sequence_of_steering_keys_works_as_one_key_does() {
    let keymap = Keymap::merged("mine", "[view]\nzoom = [\"z z\"]\npause = [\"z p\"]\n").unwrap();
    let mut app = App::new(Arc::new(samples::running()), Ui::new(keymap, Mode::Driver, Vec::new()));
    assert_eq!(press(&mut app, "z"), [Effect::AwaitKey, QUICK]);
    assert_eq!(press(&mut app, "p"), [Effect::Send(Command::Pause), QUICK]);
    assert_eq!(press_all(&mut app, "z z"), [QUICK]);
    assert_eq!(app.ui.zoom, Zoom::All);
}

#[test]
fn the_views_stay_open_to_the_keys_when_the_run_is_over() {
    let mut app = watching(samples::done(), Mode::Driver);
    press(&mut app, "2");
    assert_eq!((app.ui.view, press(&mut app, "esc")), (View::Tables, vec![QUICK]));
    assert_eq!(press_all(&mut app, "1 esc"), [Effect::Leave(Leave::Over)]);
}

#[test]
fn the_help_is_searched_and_cleared() {
    let mut app = app(RunState::Running);
    press_all(&mut app, "? /");
    write(&mut app, "breaqk");
    press_all(&mut app, "backspace backspace");
    write(&mut app, "ker");
    assert!(matches!(&app.ui.overlay, Overlay::Help { filter, typing: true, .. } if filter == "breaker"));
    press(&mut app, "enter");
    assert!(matches!(&app.ui.overlay, Overlay::Help { filter, typing: false, .. } if filter == "breaker"));
    press(&mut app, "esc");
    assert!(matches!(&app.ui.overlay, Overlay::Help { filter, .. } if filter.is_empty()));
    press_all(&mut app, "/ x esc");
    assert!(matches!(&app.ui.overlay, Overlay::Help { filter, typing: false, .. } if filter.is_empty()));
    press(&mut app, "esc");
    assert_eq!(app.ui.overlay, Overlay::None);
    assert_eq!(press_all(&mut app, "? / ?"), [QUICK], "a sign that is bound everywhere is typed as well");
    assert!(matches!(&app.ui.overlay, Overlay::Help { filter, .. } if filter == "?"));
}
