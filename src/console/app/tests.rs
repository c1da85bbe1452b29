//! What keys, signals and snapshots do to the console, by tables.

mod anything;
mod attached;
mod drawn;
mod lists;
mod questions;
mod queueing;
mod remarks;
mod typing;
mod views;

use crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::console::keymap::Keymap;
use crate::console::samples;
use crate::run::{Asker, Cause};

const QUICK: Effect = Effect::Redraw(Haste::Quick);
const BY: Asker = Asker::Console;

fn app(state: RunState) -> App {
    let snapshot = Snapshot { state, ..samples::running() };
    App::new(Arc::new(snapshot), Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()))
}

fn watching(snapshot: Snapshot, mode: Mode) -> App {
    App::new(Arc::new(snapshot), Ui::new(Keymap::defaults(), mode, Vec::new()))
}

/// Presses a key, and gives what follows from it. A capital letter comes as a terminal sends it.
fn press(app: &mut App, key: &str) -> Vec<Effect> {
    let mut letters = key.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => app.press(KeyEvent::from(KeyCode::Char(letter))),
        _ => app.press(key.parse::<KeyCombination>().unwrap().into()),
    }
}

/// Presses keys, written with blanks between them; the effects of the last one.
fn press_all(app: &mut App, keys: &str) -> Vec<Effect> {
    keys.split(' ').map(|key| press(app, key)).last().unwrap_or_default()
}

/// Types a text, letter by letter.
fn write(app: &mut App, text: &str) {
    for c in text.chars() {
        app.press(KeyEvent::from(KeyCode::Char(c)));
    }
}

fn becomes(app: &mut App, state: RunState) -> Vec<Effect> {
    let snapshot = Snapshot { state, ..app.scene().snapshot.clone() };
    app.update(Action::Snapshot(Arc::new(snapshot)))
}

fn states() -> [RunState; 9] {
    let now = samples::running().now;
    [
        RunState::Starting,
        RunState::Running,
        RunState::Pausing { since: now, by: BY },
        RunState::Paused { since: now, by: BY },
        RunState::Resuming { since: now },
        RunState::Stopping { since: now, by: BY },
        RunState::Stopped { at: now, by: BY },
        RunState::Failed { at: now, cause: Cause::new("x"), resumable: true },
        RunState::Done { at: now },
    ]
}

#[test]
fn each_key_asks_for_what_the_state_allows() {
    let pause = || vec![Effect::Send(Command::Pause), QUICK];
    let go_on = || vec![Effect::Send(Command::Continue), QUICK];
    let longer = || vec![Effect::Send(Command::LongerBatches), QUICK];
    let over = || vec![Effect::Leave(Leave::Over)];
    let suspend = || vec![Effect::Suspend];
    let quick = || vec![QUICK];
    let table = [
        //            space     +         q        ctrl-z
        ("starting", [quick(), longer(), quick(), suspend()]),
        ("running", [pause(), longer(), quick(), pause()]),
        ("pausing", [go_on(), longer(), quick(), quick()]),
        ("paused", [go_on(), longer(), quick(), suspend()]),
        ("resuming", [pause(), longer(), quick(), pause()]),
        ("stopping", [vec![], longer(), quick(), quick()]),
        ("stopped", [vec![], vec![], over(), suspend()]),
        ("failed", [vec![], vec![], over(), suspend()]),
        ("done", [vec![], vec![], over(), suspend()]),
    ];
    for (state, (word, row)) in states().into_iter().zip(table) {
        assert_eq!(state.word(), word);
        for (key, expected) in ["space", "+", "q", "ctrl-z"].into_iter().zip(row) {
            assert_eq!(press(&mut app(state.clone()), key), expected, "{key} while {word}");
        }
    }
}

#[test]
fn workers_come_and_go_by_keys_while_the_run_is_not_over() {
    for state in states() {
        let over = state.is_over();
        for (key, command) in [("]", Command::MoreWorkers), ("[", Command::FewerWorkers)] {
            let expected = if over { vec![] } else { vec![Effect::Send(command), QUICK] };
            assert_eq!(press(&mut app(state.clone()), key), expected, "{key} while {}", state.word());
        }
    }
}

#[test]
fn the_breaker_is_closed_by_a_key_only_where_it_is_not_closed() {
    let mut closed = app(RunState::Running);
    assert_eq!(press(&mut closed, "b"), [QUICK]);
    assert!(closed.ui.notice.is_some());
    for snapshot in [samples::breaker_open(), samples::breaker_half_open()] {
        let mut app = App::new(Arc::new(snapshot), Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()));
        assert_eq!(press(&mut app, "b"), [Effect::Send(Command::CloseBreaker), QUICK]);
    }
    assert_eq!(press(&mut app(states()[8].clone()), "b"), []);
}

#[test]
fn going_on_without_a_console_ends_a_pause_of_the_operators_and_not_one_of_the_governors() {
    let since = samples::running().now;
    for (by, continues) in [(Asker::Console, true), (Asker::HangUp, false), (Asker::Governor, false)] {
        let mut app = app(RunState::Paused { since, by });
        press(&mut app, "q");
        let effects = press(&mut app, "enter");
        let sent = effects.contains(&Effect::Send(Command::Continue));
        assert_eq!((sent, effects.last()), (continues, Some(&Effect::Leave(Leave::KeepRunning))), "{}", by.name());
    }
}

#[test]
fn a_paused_run_is_shown_anew_when_the_governor_changes_its_mind_and_not_for_a_new_value() {
    let governed = samples::paused_by_governor();
    let mut app = App::new(Arc::new(governed.clone()), Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()));
    let mut newer = governed;
    newer.pace.signals[0].value = "64s".to_owned();
    assert!(app.update(Action::Snapshot(Arc::new(newer.clone()))).is_empty());
    newer.pace.signals[0].effect = run::Effect::Free;
    assert_eq!(app.update(Action::Snapshot(Arc::new(newer.clone()))), [Effect::Redraw(Haste::Calm)]);
    newer.pace.hold = None;
    assert_eq!(app.update(Action::Snapshot(Arc::new(newer))), [Effect::Redraw(Haste::Calm)]);
}

#[test]
fn a_run_that_is_over_is_left_with_any_of_three_keys() {
    for state in states().into_iter().filter(RunState::is_over) {
        for key in ["q", "enter", "esc", "ctrl-c"] {
            assert_eq!(press(&mut app(state.clone()), key), [Effect::Leave(Leave::Over)], "{key}");
        }
    }
}

#[test]
fn the_quit_dialogue_offers_three_ways() {
    let table = [
        ("q enter", vec![Effect::Leave(Leave::KeepRunning)]),
        ("q down enter", vec![Effect::Send(Command::Stop), QUICK]),
        ("q down down enter", vec![QUICK]),
        ("q down down down up up up enter", vec![Effect::Leave(Leave::KeepRunning)]),
        ("q esc", vec![QUICK]),
        ("ctrl-c ctrl-c", vec![Effect::Send(Command::Stop), QUICK]),
        ("q ctrl-c", vec![Effect::Send(Command::Stop), QUICK]),
        ("ctrl-c ctrl-c ctrl-c", vec![Effect::Leave(Leave::PauseAndQuit)]),
    ];
    for (keys, expected) in table {
        let mut app = app(RunState::Running);
        let last = keys.split(' ').map(|key| press(&mut app, key)).last();
        assert_eq!(last, Some(expected), "{keys}");
    }
}

#[test]
fn pause_and_quit_leaves_when_the_run_has_stopped() {
    let mut app = app(RunState::Running);
    for key in ["q", "down", "enter"] {
        press(&mut app, key);
    }
    assert_eq!(app.ui.overlay, Overlay::None);
    let [.., stopping, stopped, _, _] = states();
    assert_eq!(becomes(&mut app, stopping), [QUICK]);
    assert_eq!(press(&mut app, "q"), [QUICK], "it is being left already");
    assert_eq!(becomes(&mut app, stopped), [Effect::Leave(Leave::PauseAndQuit)]);
}

#[test]
fn a_signal_stops_the_run_once_and_leaves_when_it_is_over() {
    let mut app = app(RunState::Running);
    assert_eq!(app.update(Action::Terminate), [QUICK], "whoever drives the run hears it as well");
    assert_eq!(app.update(Action::Terminate), [QUICK]);
    let [.., stopped, _, _] = states();
    assert_eq!(becomes(&mut app, stopped), [Effect::Leave(Leave::Over)]);
}

#[test]
fn a_suspension_waits_for_the_pause_and_continues_only_what_it_paused() {
    let [_, running, pausing, paused, ..] = states();
    let mut ours = app(running);
    assert_eq!(press(&mut ours, "ctrl-z"), [Effect::Send(Command::Pause), QUICK]);
    assert_eq!(becomes(&mut ours, pausing), [QUICK]);
    assert_eq!(becomes(&mut ours, paused.clone()), [Effect::Suspend, QUICK]);
    assert_eq!(ours.update(Action::Woken), [Effect::Send(Command::Continue), QUICK]);

    let mut theirs = app(paused);
    assert_eq!(press(&mut theirs, "ctrl-z"), [Effect::Suspend]);
    assert_eq!(theirs.update(Action::Woken), [QUICK]);
}

#[test]
fn a_run_that_failed_before_it_began_is_left_at_once() {
    let [.., failed, _] = states();
    let snapshot = Snapshot { state: failed, started_at: None, ..samples::running() };
    let effects = app(RunState::Starting).update(Action::Snapshot(Arc::new(snapshot)));
    assert_eq!(effects, [Effect::Leave(Leave::EndedEarly)]);
}

#[test]
fn an_engine_that_vanishes_ends_the_console_unless_the_outcome_is_shown() {
    for state in states() {
        let leaves = !app(state.clone()).update(Action::FeedClosed).is_empty();
        assert_eq!(leaves, !state.is_over(), "{}", state.word());
    }
}

#[test]
fn a_paused_run_is_shown_anew_every_ten_seconds_or_when_something_happens() {
    let [_, _, _, paused, ..] = states();
    let mut app = app(paused);
    let after = |app: &App, seconds| Snapshot {
        now: app.scene().snapshot.now + TimeDelta::seconds(seconds),
        ..app.scene().snapshot.clone()
    };
    let soon = after(&app, 9);
    assert!(app.update(Action::Snapshot(Arc::new(soon))).is_empty());
    let later = after(&app, 10);
    assert_eq!(app.update(Action::Snapshot(Arc::new(later))), [Effect::Redraw(Haste::Calm)]);
    let mut eventful = after(&app, 1);
    eventful.events.clear();
    assert_eq!(app.update(Action::Snapshot(Arc::new(eventful))), [Effect::Redraw(Haste::Calm)]);
}

#[test]
fn a_command_that_was_not_taken_is_said_and_not_waited_for() {
    let mut app = app(RunState::Running);
    press(&mut app, "ctrl-c");
    press(&mut app, "ctrl-c");
    assert_eq!(app.update(Action::NotTaken), [QUICK]);
    assert!(app.ui.notice.is_some());
    press(&mut app, "ctrl-c");
    assert_eq!(press(&mut app, "ctrl-c"), [Effect::Send(Command::Stop), QUICK]);
}

#[test]
fn help_opens_scrolls_and_closes() {
    let mut app = app(RunState::Running);
    press(&mut app, "?");
    for key in ["down", "pagedown", "up"] {
        assert_eq!(press(&mut app, key), [QUICK], "{key}");
    }
    assert!(matches!(app.ui.overlay, Overlay::Help { scroll: 10, .. }));
    assert_eq!(press(&mut app, "?"), [QUICK]);
    assert_eq!(app.ui.overlay, Overlay::None);
}

#[test]
fn an_impatient_second_suspension_still_goes_on_with_fg() {
    let mut app = app(RunState::Running);
    let since = app.scene().snapshot.now;
    app.update(Action::Suspend);
    becomes(&mut app, RunState::Pausing { since, by: BY });
    app.update(Action::Suspend);
    let effects = becomes(&mut app, RunState::Paused { since, by: BY });
    assert!(effects.contains(&Effect::Suspend));
    assert!(app.update(Action::Woken).contains(&Effect::Send(Command::Continue)));
}

#[test]
fn a_suspension_that_somebody_has_prevented_does_not_come_with_a_later_pause() {
    let mut app = app(RunState::Running);
    let since = app.scene().snapshot.now;
    app.update(Action::Suspend);
    for state in [RunState::Pausing { since, by: BY }, RunState::Resuming { since }, RunState::Running] {
        becomes(&mut app, state);
    }
    let effects = becomes(&mut app, RunState::Paused { since, by: Asker::Attached });
    assert!(!effects.contains(&Effect::Suspend));
}

#[test]
fn whoever_leaves_a_run_running_does_not_end_somebody_elses_pause() {
    for (by, continues) in [(Asker::Console, true), (Asker::Attached, false), (Asker::Script, false)] {
        let mut app = app(RunState::Running);
        let since = app.scene().snapshot.now;
        becomes(&mut app, RunState::Paused { since, by });
        press(&mut app, "q");
        assert_eq!(press(&mut app, "enter").contains(&Effect::Send(Command::Continue)), continues, "{by:?}");
    }
}
