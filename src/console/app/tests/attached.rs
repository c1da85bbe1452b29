//! Consoles that watch a run which another process drives.

use super::*;

const SPECTATORS: [Mode; 2] = [Mode::Attached, Mode::ReadOnly];

fn in_state(state: RunState, mode: Mode) -> App {
    watching(Snapshot { state, ..samples::running() }, mode)
}

#[test]
fn leaving_never_touches_a_run_that_somebody_else_drives() {
    let over = [Effect::Leave(Leave::Over)];
    for mode in SPECTATORS {
        for state in states() {
            for key in ["q", "ctrl-c"] {
                assert_eq!(press(&mut in_state(state.clone(), mode), key), over, "{key} while {}", state.word());
            }
            assert_eq!(press(&mut in_state(state.clone(), mode), "ctrl-z"), [Effect::Suspend]);
            let terminated = [Effect::Leave(Leave::Terminated)];
            assert_eq!(in_state(state.clone(), mode).update(Action::Terminate), terminated);
            assert_eq!(in_state(state.clone(), mode).update(Action::HangUp), [Effect::Leave(Leave::HungUp)]);
            assert_eq!(in_state(state.clone(), mode).update(Action::FeedClosed), over);
            let mut back = in_state(state, mode);
            press(&mut back, "ctrl-z");
            assert_eq!(back.update(Action::Woken), [QUICK], "it goes on watching and asks for nothing");
        }
    }
}

#[test]
fn a_console_that_only_watches_refuses_to_steer_and_says_why() {
    for state in states() {
        for key in ["space", "+", "hyphen", "]", "[", "b", "w", "a", "Q", "r", "R", "U"] {
            let mut app = in_state(state.clone(), Mode::ReadOnly);
            assert_eq!(press(&mut app, key), [QUICK], "{key}");
            assert!(app.ui.notice.as_deref().unwrap().contains("--read-only"), "{key}");
            assert_eq!(app.ui.overlay, Overlay::None, "{key}");
        }
    }
    let mut app = in_state(RunState::Running, Mode::ReadOnly);
    press(&mut app, ":");
    write(&mut app, "set workers=2");
    press(&mut app, "enter");
    assert!(app.ui.notice.as_deref().unwrap().contains("--read-only"));
}

#[test]
fn an_attached_console_steers_as_the_drivers_own_does() {
    for key in ["space", "+", "hyphen", "]", "[", "b", "w"] {
        let snapshot = samples::breaker_open();
        let own = press(&mut watching(snapshot.clone(), Mode::Driver), key);
        assert_eq!(press(&mut watching(snapshot, Mode::Attached), key), own, "{key}");
        assert!(matches!(own[0], Effect::Send(_)), "{key}");
    }
}

#[test]
fn a_run_whose_driver_is_gone_is_resumed_or_taken_back_and_takes_nothing_else() {
    let presence = Presence::Gone { pid: 4711, since: samples::running().now };
    let abandoned = || watching(Snapshot { presence: presence.clone(), ..samples::running() }, Mode::Attached);
    for key in ["space", "+", "]", "b", "w", "a", "Q"] {
        let mut app = abandoned();
        let effects = press(&mut app, key);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send(_))), "{key}: {effects:?}");
        assert!(app.ui.notice.is_some(), "{key}");
    }
    assert_eq!(press(&mut abandoned(), "r"), [Effect::Leave(Leave::Resume)]);
    let mut app = abandoned();
    press(&mut app, "U");
    assert!(
        matches!(app.ui.overlay, Overlay::Confirm(_)),
        "nobody drives it: it can be taken back, once that is confirmed"
    );
}

#[test]
fn a_failed_run_is_shown_also_where_it_never_began() {
    let mut app = in_state(RunState::Starting, Mode::Attached);
    let [.., failed, _] = states();
    let snapshot = Snapshot { state: failed, started_at: None, ..samples::running() };
    assert_eq!(app.update(Action::Snapshot(Arc::new(snapshot))), [QUICK]);
}
