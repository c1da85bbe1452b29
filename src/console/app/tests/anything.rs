//! Whatever happens, in whatever order: nothing panics, everything can be drawn, and a spectator never steers.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::questions::sessions;
use super::*;
use crate::console::colour::Environment;
use crate::console::keymap::BINDABLE;
use crate::console::theme::{Source, Theme};
use crate::console::view;
use crate::run::details::{Quarantine, QuarantinedRow};
use crate::run::vitals::Reading;

#[derive(Debug, Clone)]
enum Happening {
    Bound(usize),
    Key(KeyEvent),
    Text(String),
    Sample(usize),
    Gone(usize),
    Details(bool),
    Other(Action),
}

fn happening() -> impl Strategy<Value = Happening> {
    let codes = prop_oneof![
        "[a-zA-Z0-9:/?+=-]".prop_map(|text| KeyCode::Char(text.chars().next().unwrap_or('x'))),
        prop::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageUp,
            KeyCode::End,
            KeyCode::Backspace,
        ]),
        any::<char>().prop_map(KeyCode::Char),
    ];
    let others = vec![Action::OrderNotTaken, Action::NotTaken, Action::Woken, Action::NoShell, Action::NoKeyCame];
    let commands = vec![
        "set workers=2",
        "cancel 4711",
        "terminate 100",
        "stop",
        "sort dead desc",
        "ack",
        "goto log",
        "remove 44",
        "retry-job 39",
        "drain",
        "enqueue a",
        "attach 7f3a09c2",
        "goto queue",
    ];
    prop_oneof![
        6 => (0..BINDABLE.len()).prop_map(Happening::Bound),
        6 => (codes, 0_u8..8).prop_map(|(code, held)| {
            Happening::Key(KeyEvent::new(code, KeyModifiers::from_bits_truncate(held)))
        }),
        2 => prop::sample::select(commands).prop_map(|text| Happening::Text(text.to_owned())),
        1 => "\\PC{0,20}".prop_map(Happening::Text),
        2 => (0_usize..40).prop_map(Happening::Sample),
        1 => (0_usize..40).prop_map(Happening::Gone),
        1 => any::<bool>().prop_map(Happening::Details),
        1 => prop::sample::select(others).prop_map(Happening::Other),
    ]
}

fn sample(which: usize) -> Snapshot {
    let mut all = samples::all();
    all.push(("no run", samples::queue::no_run()));
    all[which % all.len()].1.clone()
}

fn details(hostile: bool) -> Arc<Details> {
    let key = crate::run::KeyText::default();
    let row = QuarantinedRow { key, message: "\u{1b}[2J表".repeat(40), attempts: 7, ..QuarantinedRow::default() };
    let rows = Quarantine { rows: vec![row; if hostile { 40 } else { 1 }], open: 40, resolved: 0 };
    let queue = if hostile { samples::hostile_details().queue } else { samples::queue::news() };
    Arc::new(Details { quarantine: Reading::Value(Arc::new(rows)), queue, ..(*sessions()).clone() })
}

fn happen(app: &mut App, happening: Happening) -> Vec<Effect> {
    match happening {
        Happening::Bound(index) => app.update(BINDABLE[index].action.clone()),
        Happening::Key(key) => app.press(key),
        Happening::Text(text) => {
            let mut effects = app.press(KeyEvent::from(KeyCode::Char(':')));
            for c in text.chars() {
                effects.extend(app.press(KeyEvent::from(KeyCode::Char(c))));
            }
            effects.extend(app.press(KeyEvent::from(KeyCode::Enter)));
            effects
        }
        Happening::Sample(which) => app.update(Action::Snapshot(Arc::new(sample(which)))),
        Happening::Gone(which) => {
            let snapshot = sample(which);
            let presence = Presence::Gone { pid: 7, since: snapshot.now };
            app.update(Action::Snapshot(Arc::new(Snapshot { presence, ..snapshot })))
        }
        Happening::Details(hostile) => app.update(Action::Details(details(hostile))),
        Happening::Other(action) => app.update(action),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_order_of_events_panics_and_a_spectator_never_steers(
        mode in prop::sample::select(vec![Mode::Driver, Mode::Attached, Mode::ReadOnly]),
        first in 0_usize..40,
        happenings in prop::collection::vec(happening(), 0..60),
        (width, height) in (1_u16..160, 1_u16..50),
    ) {
        let theme = Theme::load(Source::Named("dark"), &Environment::default()).unwrap();
        let mut app = watching(sample(first), mode);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        for (index, happening) in happenings.into_iter().enumerate() {
            let said = format!("{happening:?}");
            for effect in happen(&mut app, happening) {
                let steers = matches!(effect, Effect::Send(_) | Effect::Order(_));
                prop_assert!(!(steers && mode == Mode::ReadOnly), "{} sends {:?}", said, effect);
                if let Effect::Leave(leave) = effect {
                    let allowed = match mode {
                        Mode::Driver => !matches!(leave, Leave::HungUp | Leave::Attach(_) | Leave::Terminated),
                        Mode::Attached => !matches!(leave, Leave::KeepRunning | Leave::PauseAndQuit | Leave::EndedEarly),
                        Mode::ReadOnly => matches!(leave, Leave::Over | Leave::Attach(_)),
                    };
                    prop_assert!(allowed, "{} leaves by {:?}", said, leave);
                }
            }
            if let Some(prompt) = &app.ui.prompt {
                prop_assert!(prompt.cursor <= prompt.text.chars().count());
            }
            if index % 8 == 0 {
                terminal.draw(|frame| view::render(&app.scene(), &theme, frame)).unwrap();
            }
        }
        terminal.draw(|frame| view::render(&app.scene(), &theme, frame)).unwrap();
    }
}
