//! What came of what was asked.

use super::*;
use crate::run::Answered;

fn answered(app: &App, command: Command, outcome: &str) -> Answered {
    let at = app.newest.now;
    Answered { id: None, at, command, by: BY, who: "ann@ops2".to_owned(), taken: true, outcome: outcome.to_owned() }
}

/// A snapshot so many seconds later, with one more answer.
fn later(app: &mut App, seconds: i64, answer: Option<Answered>) -> Vec<Effect> {
    let mut snapshot = (*app.newest).clone();
    snapshot.now += TimeDelta::seconds(seconds);
    snapshot.commands.extend(answer);
    app.update(Action::Snapshot(Arc::new(snapshot)))
}

#[test]
fn a_command_is_shown_as_asked_and_then_with_its_outcome_for_some_seconds() {
    let mut app = app(RunState::Running);
    press(&mut app, "]");
    assert_eq!(app.ui.notice.as_deref(), Some("asked: one more worker"));
    later(&mut app, 1, None);
    assert_eq!(app.ui.notice.as_deref(), Some("asked: one more worker"), "there is no answer yet");
    let answer = answered(&app, Command::MoreWorkers, "at most 5 workers now");
    later(&mut app, 1, Some(answer));
    assert_eq!(app.ui.notice.as_deref(), Some("one more worker: at most 5 workers now"));
    later(&mut app, 5, None);
    assert!(app.ui.notice.is_some());
    later(&mut app, 1, None);
    assert_eq!(app.ui.notice, None);
}

#[test]
fn what_was_refused_and_what_others_asked_is_said() {
    let mut app = app(RunState::Running);
    let refused = Answered { taken: false, ..answered(&app, Command::SetWorkers(300), "there are 64 segments") };
    later(&mut app, 1, Some(refused));
    let notice = app.ui.notice.clone().unwrap();
    assert_eq!(notice, "refused: ann@ops2 (the console): set workers=300: there are 64 segments");
}

#[test]
fn of_several_answers_ones_own_is_shown() {
    let mut app = app(RunState::Running);
    press(&mut app, "]");
    let own = answered(&app, Command::MoreWorkers, "5");
    let other = answered(&app, Command::LongerBatches, "1s");
    let mut snapshot = (*app.newest).clone();
    snapshot.commands.extend([own, other]);
    app.update(Action::Snapshot(Arc::new(snapshot)));
    assert_eq!(app.ui.notice.as_deref(), Some("one more worker: 5"));
}

#[test]
fn old_answers_are_not_said_when_a_console_opens() {
    let mut snapshot = samples::running();
    let first = app(RunState::Running);
    snapshot.commands.push_back(answered(&first, Command::Pause, "paused"));
    let mut app = watching(snapshot.clone(), Mode::Attached);
    app.update(Action::Snapshot(Arc::new(snapshot)));
    assert_eq!(app.ui.notice, None);
}

#[test]
fn an_answer_is_shown_also_while_the_run_stands_still() {
    let [_, _, _, paused, ..] = states();
    let mut app = app(paused);
    press(&mut app, "+");
    let answer = answered(&app, Command::LongerBatches, "batches of 1s from now on");
    assert_eq!(later(&mut app, 1, Some(answer)), [Effect::Redraw(Haste::Calm)]);
    assert_eq!(later(&mut app, 1, None), []);
    assert_eq!(later(&mut app, 5, None), [Effect::Redraw(Haste::Calm)], "its time is over");
    assert_eq!(app.ui.notice, None);
}

#[test]
fn a_remark_goes_with_the_next_key() {
    let mut app = app(RunState::Running);
    press(&mut app, "b");
    assert!(app.ui.notice.is_some());
    assert_eq!(press(&mut app, "f9"), [QUICK]);
    assert_eq!(app.ui.notice, None);
    let mut over = watching(samples::done(), Mode::Driver);
    press(&mut over, "r");
    assert!(over.ui.notice.is_some());
    press(&mut over, "2");
    assert_eq!(over.ui.notice, None);
}
