//! The command line in the console: history, completion, errors.

use super::questions::sessions;
use super::*;
use crate::run::history::Zoom;

fn line(app: &App) -> &str {
    app.ui.prompt.as_ref().map_or("", |prompt| prompt.text.as_str())
}

/// Types a command, and enters it.
fn command(app: &mut App, text: &str) -> Vec<Effect> {
    press(app, ":");
    write(app, text);
    press(app, "enter")
}

#[test]
fn commands_do_what_their_keys_do() {
    let send = |command| vec![QUICK, Effect::Send(command), QUICK];
    let table = [
        ("pause", send(Command::Pause)),
        ("continue", send(Command::Continue)),
        ("set workers=2", send(Command::SetWorkers(2))),
        ("set target=250ms", send(Command::SetTarget(std::time::Duration::from_millis(250)))),
        ("skip-window", send(Command::SkipWindow)),
        ("ack free_memory", send(Command::Acknowledge("free_memory".to_owned()))),
        ("stop", vec![QUICK, QUICK]),
        ("q", vec![QUICK, QUICK]),
        ("repaint", vec![QUICK, Effect::Repaint]),
        ("", vec![QUICK]),
    ];
    for (text, expected) in table {
        let mut app = app(RunState::Running);
        assert_eq!(command(&mut app, text), expected, "{text}");
        assert!(app.ui.prompt.is_none(), "{text}");
    }
    let mut app = app(RunState::Running);
    command(&mut app, "zoom all");
    assert_eq!(app.ui.zoom, Zoom::All);
    command(&mut app, "sort");
    assert!(app.ui.prompt.as_ref().unwrap().error.is_some(), "the overview has no list");
    press(&mut app, "esc");
    command(&mut app, "tables");
    command(&mut app, "sort dead");
    command(&mut app, "filter users");
    assert_eq!((app.ui.view, app.ui.lists.tables.filter.as_str()), (View::Tables, "users"));
    assert_eq!(app.ui.lists.tables.sort, Some((2, true)));
    let mut over = watching(samples::done(), Mode::Driver);
    command(&mut over, "pause");
    assert!(over.ui.notice.as_deref().unwrap().contains("over"));
}

#[test]
fn what_cannot_be_taken_back_is_asked_once_more_also_when_it_is_typed() {
    for text in ["cancel 4711", "terminate 4711", "kill 4711", "stop"] {
        let mut app = app(RunState::Running);
        app.update(Action::Details(sessions()));
        let effects = command(&mut app, text);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send(_))), "{text}");
        assert!(matches!(app.ui.overlay, Overlay::Confirm(_)), "{text}");
    }
}

#[test]
fn a_mistake_stays_in_the_line_and_says_what_is_right() {
    let mut app = app(RunState::Running);
    assert_eq!(command(&mut app, "set wrkers=2"), [QUICK]);
    let prompt = app.ui.prompt.clone().unwrap();
    assert_eq!(prompt.text, "set wrkers=2");
    assert_eq!(prompt.error.as_deref(), Some("there is no setting `wrkers`: did you mean `workers`?"));
    press(&mut app, "left");
    assert_eq!(app.ui.prompt.as_ref().unwrap().error, None);
}

#[test]
fn a_word_is_completed_and_the_next_one_that_fits_comes_with_the_next_press() {
    let mut app = app(RunState::Running);
    write(&mut app, ":se");
    assert_eq!(app.ui.prompt.as_ref().unwrap().completions, ["set", "sessions", "segments"]);
    for expected in ["set", "sessions", "segments", "set"] {
        press(&mut app, "tab");
        assert_eq!(line(&app), expected);
        assert_eq!(app.ui.prompt.as_ref().unwrap().completions[0], expected);
    }
    press(&mut app, "backtab");
    assert_eq!(line(&app), "segments");
    press(&mut app, "ctrl-u");
    write(&mut app, "got");
    press(&mut app, "tab");
    assert_eq!(line(&app), "goto ");
    write(&mut app, "l");
    press_all(&mut app, "tab enter");
    assert_eq!(app.ui.view, View::Log);
    write(&mut app, ":zzz");
    assert_eq!(press(&mut app, "tab"), []);
    assert_eq!(line(&app), "zzz");
}

#[test]
fn a_word_in_the_middle_is_completed_where_it_stands() {
    let mut app = app(RunState::Running);
    write(&mut app, ":gto");
    press_all(&mut app, "left left");
    press(&mut app, "tab");
    assert_eq!(line(&app), "goto to");
}

#[test]
fn commands_are_remembered_and_come_back() {
    let mut app = app(RunState::Running);
    for text in ["set workers=1", "set workers=2", "set workers=1", "zoom all"] {
        command(&mut app, text);
    }
    write(&mut app, ":pau");
    for (key, expected) in [
        ("up", "zoom all"),
        ("up", "set workers=1"),
        ("ctrl-p", "set workers=2"),
        ("up", "set workers=2"),
        ("down", "set workers=1"),
        ("ctrl-n", "zoom all"),
        ("down", "pau"),
        ("down", "pau"),
    ] {
        press(&mut app, key);
        assert_eq!(line(&app), expected, "{key}");
    }
    press(&mut app, "esc");
    for number in 0..120 {
        command(&mut app, &format!("set workers={}", number + 1));
    }
    press(&mut app, ":");
    for _ in 0..200 {
        press(&mut app, "up");
    }
    assert_eq!(line(&app), "set workers=71", "fifty are remembered");
}

#[test]
fn an_interrupt_leaves_the_line_and_only_then_the_console() {
    let mut app = app(RunState::Running);
    write(&mut app, ":pause");
    assert_eq!(press(&mut app, "ctrl-c"), [QUICK]);
    assert!(app.ui.prompt.is_none() && app.ui.overlay == Overlay::None);
}

#[test]
fn keys_that_begin_sequences_or_steer_are_text_in_a_line() {
    let mut app = app(RunState::Running);
    write(&mut app, ":gg ?/1 +-[]");
    assert_eq!(line(&app), "gg ?/1 +-[]");
}

#[test]
fn a_paste_is_text_for_an_open_line_and_nothing_anywhere_else() {
    let mut app = app(RunState::Running);
    let effects = app.update(Action::Pasted("p w Q y".to_owned()));
    assert_eq!(effects, [QUICK]);
    assert!(app.ui.notice.as_deref().is_some_and(|notice| notice.contains("not taken")));
    press(&mut app, ":");
    app.update(Action::Pasted("set\nworkers=2\u{1b}".to_owned()));
    assert_eq!(app.ui.prompt.as_ref().map(|prompt| prompt.text.as_str()), Some("set workers=2"));
    assert!(press(&mut app, "enter").contains(&Effect::Send(Command::SetWorkers(2))));
}
