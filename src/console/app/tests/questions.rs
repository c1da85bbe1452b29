//! What is asked once more, and what comes only when the run is over.

use super::*;
use crate::console::ui::Question;
use crate::run::details::{SessionView, Sessions};
use crate::run::vitals::Reading;

fn question(app: &App) -> Question {
    match &app.ui.overlay {
        Overlay::Confirm(question) => question.clone(),
        other => panic!("no question: {other:?}, {:?}", app.ui.notice),
    }
}

pub(super) fn sessions() -> Arc<Details> {
    let session = |pid, user: &str, application: &str, is_ours| SessionView {
        pid,
        user: user.to_owned(),
        application: application.to_owned(),
        client: "10.0.0.7".to_owned(),
        is_ours,
        ..SessionView::default()
    };
    let sessions = vec![session(100, "axisor", "howdah/7f3a09c2", true), session(4711, "ann", "psql", false)];
    let sessions = Reading::Value(Arc::new(Sessions { sessions, ..Sessions::default() }));
    Arc::new(Details { sessions, ..Details::default() })
}

#[test]
fn a_stop_is_asked_once_more_and_no_is_marked() {
    let stop = vec![Effect::Send(Command::Stop), QUICK];
    let table = [
        ("Q enter", vec![QUICK], None),
        ("Q up enter", stop.clone(), Some("asked: stop")),
        ("Q up down enter", vec![QUICK], None),
        ("Q y", stop, Some("asked: stop")),
        ("Q n", vec![QUICK], None),
        ("Q esc", vec![QUICK], None),
    ];
    for (keys, expected, notice) in table {
        let mut app = app(RunState::Running);
        assert_eq!(press_all(&mut app, keys), expected, "{keys}");
        assert_eq!((app.ui.notice.as_deref(), &app.ui.overlay), (notice, &Overlay::None), "{keys}");
    }
    let mut app = app(RunState::Running);
    press(&mut app, "Q");
    assert!(question(&app).consequence.contains("howdah resume 7f3a09c2"));
}

#[test]
fn a_question_about_a_run_goes_away_when_the_run_is_over() {
    let [.., done] = states();
    let mut app = app(RunState::Running);
    press(&mut app, "Q");
    becomes(&mut app, done);
    assert_eq!(app.ui.overlay, Overlay::None);
}

#[test]
fn a_session_is_disturbed_only_after_it_was_named() {
    let table = [
        ("3 j x", 100, "cancel session 100 of axisor (howdah/7f3a09c2), from 10.0.0.7?", true),
        ("3 j j x", 4711, "cancel session 4711 of ann (psql), from 10.0.0.7?", false),
        ("3 G X", 4711, "terminate session 4711 of ann (psql), from 10.0.0.7?", false),
        ("3 g g X", 100, "terminate session 100 of axisor (howdah/7f3a09c2), from 10.0.0.7?", true),
    ];
    for (keys, pid, text, is_ours) in table {
        let mut app = app(RunState::Running);
        app.update(Action::Details(sessions()));
        assert_eq!(press_all(&mut app, keys), [QUICK]);
        let question = question(&app);
        assert_eq!(question.text, text);
        assert_eq!(question.consequence.contains("THIS RUN'S OWN"), is_ours, "{}", question.consequence);
        let command =
            if keys.ends_with('x') { Command::CancelSession(pid, None) } else { Command::TerminateSession(pid, None) };
        assert_eq!(press(&mut app, "y"), [Effect::Send(command), QUICK]);
    }
    let mut none = app(RunState::Running);
    press_all(&mut none, "3 x");
    assert!(none.ui.notice.as_deref().unwrap().contains("no session is selected"));
}

#[test]
fn each_way_on_is_offered_in_the_states_that_have_it() {
    let resumes =
        |state: &RunState| matches!(state, RunState::Stopped { .. } | RunState::Failed { resumable: true, .. });
    for state in states() {
        let over = state.is_over();
        let word = state.word();
        let mut resumed = app(state.clone());
        let effects = press(&mut resumed, "r");
        assert_eq!(effects == [Effect::Leave(Leave::Resume)], resumes(&state), "r while {word}");
        assert_eq!(resumed.ui.notice.is_some(), !resumes(&state), "r while {word}");
        for (key, leave) in [("U", Leave::Undo), ("R", Leave::RetryQuarantine)] {
            let mut app = watching(Snapshot { state: state.clone(), ..samples::quarantined() }, Mode::Driver);
            assert_eq!(press(&mut app, key), [QUICK]);
            assert_eq!(matches!(app.ui.overlay, Overlay::Confirm(_)), over, "{key} while {word}");
            assert_eq!(app.ui.notice.is_some(), !over, "{key} while {word}");
            let expected = if over { Effect::Leave(leave) } else { QUICK };
            assert_eq!(press(&mut app, "y"), [expected], "{key} y while {word}");
        }
    }
    let [.., stopped, _, _] = states();
    let mut clean = app(stopped);
    press(&mut clean, "R");
    assert_eq!(clean.ui.notice.as_deref(), Some("no rows are set aside"));
    let failed = RunState::Failed { at: samples::running().now, cause: Cause::new("x"), resumable: false };
    assert_eq!(press(&mut app(failed), "r"), [QUICK]);
}

#[test]
fn the_selected_alert_is_silenced_for_an_hour_and_by_the_same_key_no_more() {
    let mut app = app(RunState::Running);
    let (key, hour) = ("free_memory".to_owned(), std::time::Duration::from_hours(1));
    assert_eq!(press_all(&mut app, "5 j m"), [Effect::Send(Command::Silence(key.clone(), hour)), QUICK]);
    let mut snapshot = samples::running();
    let until = snapshot.now + chrono::TimeDelta::minutes(5);
    snapshot.silenced.push(crate::run::snapshot::Silenced { key: key.clone(), until, who: String::new() });
    let mut silenced = watching(snapshot, Mode::Driver);
    assert_eq!(press_all(&mut silenced, "5 j m"), [Effect::Send(Command::Unsilence(key)), QUICK]);
    let mut nothing = watching(samples::running(), Mode::Driver);
    assert_eq!(press_all(&mut nothing, "5 m"), [QUICK]);
    assert!(nothing.ui.notice.is_some());
}

#[test]
fn the_bell_rings_once_for_an_alert_that_rings_and_not_for_one_that_is_silenced() {
    use crate::run::rule::Act;
    use std::sync::Arc;

    let raised = |count: u32, acts: &[Act], silent: bool| {
        let mut snapshot = samples::running();
        let alert = &mut Arc::make_mut(&mut snapshot.vitals).alerts[0];
        (alert.count, alert.acts) = (count, acts.to_vec());
        if silent {
            let until = snapshot.now + chrono::TimeDelta::minutes(5);
            let key = "free_memory".to_owned();
            snapshot.silenced.push(crate::run::snapshot::Silenced { key, until, who: String::new() });
        }
        Action::Snapshot(Arc::new(snapshot))
    };
    let bell = [Act::Bell];
    let mut app = watching(samples::running(), Mode::Driver);
    for (action, rings) in [
        (raised(1, &bell, false), false),
        (raised(2, &bell, false), true),
        (raised(2, &bell, false), false),
        (raised(3, &bell, true), false),
        (raised(4, &[Act::Notify], false), false),
    ] {
        assert_eq!(app.update(action).contains(&Effect::Bell), rings);
    }
}

#[test]
fn alerts_are_noted_one_by_one_where_they_are_selected_and_else_all_at_once() {
    let mut all = app(RunState::Running);
    let noted = Effect::Send(Command::Acknowledge("free_memory".to_owned()));
    assert_eq!(press(&mut all, "a"), [noted.clone(), QUICK]);
    let mut selected = app(RunState::Running);
    assert_eq!(press_all(&mut selected, "5 j a"), [noted, QUICK]);

    let mut snapshot = samples::running();
    let at = snapshot.now;
    let (key, who) = ("free_memory".to_owned(), "ann@ops2".to_owned());
    snapshot.acknowledged.push(crate::run::snapshot::Acknowledged { key, count: 1, who, at });
    let mut app = watching(snapshot, Mode::Driver);
    assert_eq!(press(&mut app, "a"), [QUICK]);
    assert!(app.ui.notice.is_some());
}
