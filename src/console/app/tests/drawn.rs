//! What the last row and the boxes show of what was pressed and typed.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Modifier;

use super::questions::sessions;
use super::*;
use crate::console::canvas::Seen;
use crate::console::colour::Environment;
use crate::console::theme::{Source, Theme};
use crate::console::ui::SegmentsPane;
use crate::console::view;

fn drawn(app: &App, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let environment = Environment { lang: Some("C.UTF-8".to_owned()), ..Environment::default() };
    let theme = Theme::load(Source::Named("dark"), &environment).unwrap();
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::render(&app.scene(), &theme, frame)).unwrap();
    terminal
}

fn screen(app: &App, size: (u16, u16)) -> String {
    drawn(app, size).backend().to_string()
}

fn last_row(app: &App, size: (u16, u16)) -> String {
    let screen = screen(app, size);
    screen.lines().last().unwrap_or_default().trim_matches('"').trim_end().to_owned()
}

#[test]
fn the_last_row_is_the_line_that_is_typed_with_a_cursor_and_what_could_stand_there() {
    let mut app = app(RunState::Running);
    write(&mut app, ":se");
    assert_eq!(last_row(&app, (80, 24)), ":se   set  sessions  segments");
    press(&mut app, "left");
    let terminal = drawn(&app, (80, 24));
    let reversed: Vec<u16> =
        (0..80).filter(|x| terminal.backend().buffer()[(*x, 23)].modifier.contains(Modifier::REVERSED)).collect();
    assert_eq!(reversed, [2], "under the e");
    press_all(&mut app, "ctrl-u ctrl-k");
    write(&mut app, "pasue");
    press(&mut app, "enter");
    assert_eq!(last_row(&app, (80, 24)), ":pasue   there is no command `pasue`: did you mean `pause`?");
}

#[test]
fn a_line_longer_than_the_row_is_shown_where_the_cursor_is() {
    let mut app = app(RunState::Running);
    write(&mut app, ":filter 0123456789012345678901234567890123456789 the end");
    assert!(last_row(&app, (40, 12)).ends_with("the end"), "{}", last_row(&app, (40, 12)));
    press(&mut app, "home");
    assert!(last_row(&app, (40, 12)).starts_with(":filter 0123"), "{}", last_row(&app, (40, 12)));
}

#[test]
fn a_sequence_that_has_begun_is_shown() {
    let mut app = app(RunState::Running);
    press_all(&mut app, "2 g");
    assert!(last_row(&app, (80, 24)).starts_with(" g-"), "{}", last_row(&app, (80, 24)));
}

#[test]
fn a_question_and_its_choices_can_be_read_at_every_usual_size() {
    let mut app = app(RunState::Running);
    app.update(Action::Details(sessions()));
    press_all(&mut app, "3 j X");
    for size in [(140, 40), (80, 24), (40, 12)] {
        let screen = screen(&app, size);
        for words in ["terminate session 100", "axisor", "> no, leave it as it is", "yes, do it"] {
            assert!(screen.contains(words), "{size:?} does not say {words}:\n{screen}");
        }
    }
    assert!(screen(&app, (80, 24)).contains("THIS RUN'S OWN"));
    assert_eq!(last_row(&app, (80, 24)), " y yes   n no   enter take what is marked   esc close");
}

#[test]
fn help_and_the_way_out_are_offered_in_every_view_at_80_columns() {
    for mode in [Mode::Driver, Mode::Attached, Mode::ReadOnly] {
        for (name, snapshot) in samples::all() {
            for view in View::ALL {
                let mut app = watching(snapshot.clone(), mode);
                app.update(Action::Goto(view));
                // What is going on for a moment may take the row.
                if ["pausing", "hostile"].contains(&name) {
                    continue;
                }
                let row = last_row(&app, (80, 24));
                assert!(row.contains(" ? help"), "{name}, {}: {row}", view.name());
                assert!(row.contains("quit") || row.contains("leave"), "{name}, {}: {row}", view.name());
            }
        }
    }
}

#[test]
fn a_console_that_only_watches_offers_no_steering() {
    let app = watching(samples::running(), Mode::ReadOnly);
    let row = last_row(&app, (80, 24));
    assert!(!row.contains("pause") && row.contains("read-only"), "{row}");
}

#[test]
fn the_help_says_what_is_looked_for_and_when_no_key_does_it() {
    let mut app = app(RunState::Running);
    press_all(&mut app, "? /");
    write(&mut app, "breaker");
    let found = screen(&app, (80, 24));
    assert!(found.contains("/breaker_") && found.contains("close-breaker") && !found.contains("ctrl-z"), "{found}");
    write(&mut app, "xyz");
    assert!(screen(&app, (80, 24)).contains("no key does that"));
}

/// Draws the console as the event loop does.
fn draw(app: &mut App, (width, height): (u16, u16)) {
    let theme = Theme::load(Source::Named("dark"), &Environment::default()).unwrap();
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut seen = Seen::default();
    terminal.draw(|frame| seen = view::draw(&app.scene(), &theme, frame)).unwrap();
    app.drawn(seen);
}

#[test]
fn a_click_selects_the_row_and_the_pane_under_it() {
    let mut app = app(RunState::Running);
    press(&mut app, "2");
    draw(&mut app, (80, 24));
    let (place, key) = app.seen.rows[1].clone();
    assert_eq!(app.update(Action::Click(place.x + 5, place.y)), [QUICK]);
    assert_eq!(app.ui.lists.tables.selected, Some(key));
    assert_eq!(app.update(Action::Click(0, 0)), [], "there is no row");
    press(&mut app, "enter");
    assert_eq!(app.update(Action::Click(place.x, place.y)), [], "a box lies over it");

    let mut app = watching(samples::full(), Mode::Driver);
    press(&mut app, "4");
    draw(&mut app, (140, 40));
    let slow = app.seen.rows.iter().find(|(_, key)| key.contains('/')).cloned().unwrap();
    app.update(Action::Click(slow.0.x, slow.0.y));
    assert_eq!((app.ui.pane, app.ui.lists.slowest.selected.clone()), (SegmentsPane::Slowest, Some(slow.1)));
}

#[test]
fn a_box_is_scrolled_to_its_end_and_back_from_there() {
    let mut app = app(RunState::Running);
    press_all(&mut app, "? G");
    draw(&mut app, (80, 24));
    let end = match app.ui.overlay {
        Overlay::Help { scroll, .. } => scroll,
        _ => 0,
    };
    assert!(end > 0 && Some(end) == app.seen.last_scroll);
    press(&mut app, "k");
    assert!(matches!(app.ui.overlay, Overlay::Help { scroll, .. } if scroll == end - 1));
    press_all(&mut app, "esc 2 enter G");
    draw(&mut app, (80, 24));
    assert_eq!(app.ui.overlay, Overlay::Detail { scroll: app.seen.last_scroll.unwrap() });
}
