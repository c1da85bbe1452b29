//! How the overview and the boxes over it look, and what they cost.

use super::*;
use crate::console::colour::Environment;
use crate::console::keymap::Keymap;
use crate::console::samples;
use crate::console::theme::Source;
use crate::console::ui::{Choice, Mode};
use crate::run::CacheView;
use crate::run::snapshot::Activity;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

fn theme(lang: &str) -> Theme {
    let environment = Environment { lang: Some(lang.to_owned()), ..Environment::default() };
    Theme::load(Source::Named("dark"), &environment).unwrap()
}

fn ui(overlay: Overlay) -> Ui {
    let farewell = ["Try it on a database of your own:", "  howdah run plan.toml --database postgres://..."];
    Ui { overlay, ..Ui::new(Keymap::defaults(), Mode::Driver, farewell.map(str::to_owned).to_vec()) }
}

fn terminal(snapshot: &Snapshot, ui: &Ui, theme: &Theme, (width, height): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let details = Details::default();
    let scene = Scene { snapshot, details: &details, ui };
    terminal.draw(|frame| render(&scene, theme, frame)).unwrap();
    terminal
}

fn draw(snapshot: &Snapshot, overlay: Overlay, size: (u16, u16)) -> String {
    terminal(snapshot, &ui(overlay), &theme("C.UTF-8"), size).backend().to_string()
}

const HELP: Overlay = Overlay::Help { scroll: 0, filter: String::new(), typing: false };
const SIZES: [(u16, u16); 3] = [(140, 40), (80, 24), (40, 12)];

/// Every sample at every size that the blueprint names: `src/console/snapshots/*.snap`.
#[test]
fn the_view_is_as_it_was_reviewed() {
    for (name, snapshot) in samples::all() {
        for (width, height) in SIZES {
            let drawn = draw(&snapshot, Overlay::None, (width, height));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn);
        }
    }
}

#[test]
fn the_boxes_are_as_they_were_reviewed() {
    let boxes = [("help", HELP), ("quit", Overlay::Quit { selected: Choice::PauseAndQuit })];
    for (name, overlay) in boxes {
        for (width, height) in SIZES {
            let drawn = draw(&samples::running(), overlay.clone(), (width, height));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn);
        }
    }
}

#[test]
fn at_80x24_a_statement_that_waits_names_whom_it_waits_for() {
    let mut snapshot = samples::running();
    let what = "index users_lower_email_idx: waiting for writers before build (2 of 8): pid 4711 (old psql, idle in \
                transaction 12m)";
    snapshot.activity = Activity::Statement { what: what.to_owned(), fraction: None, since: snapshot.now };
    let drawn = draw(&snapshot, Overlay::None, (80, 24));
    let words = ["waiting for", "pid 4711", "(old psql, idle in transaction 12m)", "for 0s"];
    assert!(words.iter().all(|word| drawn.contains(word)), "{drawn}");
}

#[test]
fn at_80x24_everything_that_matters_can_be_read() {
    let drawn = draw(&samples::running(), Overlay::None, (80, 24));
    let words = [
        "normalise-emails",
        "RUNNING",
        "71.3%",
        "1,426,000 / ~2,000,000 rows",
        "ETA 11–13s",
        "48,210 rows/s",
        "6,200",
        "1m27.8s",
        "users",
        "311,204",
        "52%",
        "7.4 GiB / 24 GiB",
        "WARN",
        "space pause",
    ];
    for word in words {
        assert!(drawn.contains(word), "{word} is missing:\n{drawn}");
    }
}

#[test]
fn why_it_goes_no_faster_can_be_read_at_every_usual_size() {
    let table = [
        ("waiting", samples::waiting(), "waiting 12s: replay lag 7.2s (slow"),
        ("breaker open", samples::breaker_open(), "breaker OPEN, trial in 42s"),
        ("half open", samples::breaker_half_open(), "breaker HALF-OPEN, one trial under"),
        ("governed", samples::governed(), "2 of 4 workers"),
        ("governed", samples::governed(), "sheds"),
        ("quarantined", samples::quarantined(), "quarantined 37"),
        ("paused", samples::paused_by_governor(), "paused: replay lag 65s (stop 60s)"),
    ];
    for (name, snapshot, words) in table {
        for size in SIZES {
            let drawn = draw(&snapshot, Overlay::None, size);
            assert!(drawn.contains(words), "{name} at {size:?} does not say {words}:\n{drawn}");
        }
    }
    let drawn = draw(&samples::governed(), Overlay::None, (140, 40));
    for words in ["archive backlog", "20s", "sheds", "holds", "16 GiB"] {
        assert!(drawn.contains(words), "the governor's pane does not say {words}:\n{drawn}");
    }
}

#[test]
fn how_far_caches_spare_the_database_can_be_read_at_the_usual_sizes() {
    let mut snapshot = samples::running();
    let view = |name: &str, asked: u64| CacheView {
        name: name.to_owned(),
        asked,
        process: asked - asked / 50,
        database: asked / 50,
        ..CacheView::default()
    };
    snapshot.caches = vec![view("rates", 50), view("countries\u{1b}[2J", 1_204_000)];
    for size in [(140, 40), (80, 24)] {
        let drawn = draw(&snapshot, Overlay::None, size);
        assert!(drawn.contains("cache countries") && drawn.contains("98.0% of 1,204,000"), "{size:?}:\n{drawn}");
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
    }
    assert!(draw(&snapshot, Overlay::None, (140, 40)).contains("cache rates 98.0% of 50"));
}

#[test]
fn a_breaker_that_no_key_closes_offers_none() {
    let keymap = Keymap::merged("mine", "[view]\nclose-breaker = []\n").unwrap();
    let ui = Ui::new(keymap, Mode::Driver, Vec::new());
    let drawn = terminal(&samples::breaker_open(), &ui, &theme("C.UTF-8"), (80, 24)).backend().to_string();
    assert!(drawn.contains("trial in 42s") && !drawn.contains("closes it"), "{drawn}");
}

#[test]
fn states_are_said_in_words() {
    for (name, snapshot) in samples::all() {
        let drawn = draw(&snapshot, HELP, (80, 24));
        let word = match name {
            "waiting" | "breaker_open" | "hostile" => "WAITING".to_owned(),
            "paused_by_governor" | "outside_window" => "PAUSED by the governor".to_owned(),
            "done_quarantined" => "DONE, 37 quarantined".to_owned(),
            _ => snapshot.state.word().to_uppercase(),
        };
        assert!(drawn.contains(&word), "{name} does not say {word}:\n{drawn}");
    }
}

#[test]
fn a_terminal_without_utf_8_gets_ascii_only() {
    for (name, snapshot) in samples::all() {
        for overlay in [Overlay::None, HELP, Overlay::Quit { selected: Choice::Stay }] {
            let terminal = terminal(&snapshot, &ui(overlay), &theme("C"), (140, 40));
            let drawn = terminal.backend().to_string();
            assert!(drawn.is_ascii(), "{name}:\n{drawn}");
        }
    }
}

#[test]
fn a_second_of_a_running_backfill_costs_less_than_a_thousand_bytes() {
    assert!(bytes_between(&samples::running(), &samples::a_second_later()) < 1000);
}

#[test]
fn a_second_of_waiting_costs_less_than_a_second_of_work() {
    let waiting = samples::waiting();
    let now = waiting.now + chrono::TimeDelta::seconds(1);
    let mut pace = waiting.pace.clone();
    pace.waited[0].time += std::time::Duration::from_secs(1);
    pace.signals[0].value = "7.4s".to_owned();
    if let Some(hold) = &mut pace.hold {
        hold.reason = "replay lag 7.4s (slow 5s)".to_owned();
    }
    let later = Snapshot { now, pace, vitals: samples::a_second_later().vitals, ..waiting.clone() };
    assert!(bytes_between(&waiting, &later) < 700);
}

#[test]
fn ten_seconds_of_a_pause_cost_less_than_three_hundred_bytes() {
    let paused = samples::paused();
    let now = paused.now + chrono::TimeDelta::seconds(10);
    let mut spent = paused.spent;
    spent.paused += std::time::Duration::from_secs(10);
    // The host is as busy as ever; a paused run changes no rows.
    let mut vitals = (*samples::a_second_later().vitals).clone();
    vitals.database = paused.vitals.database.clone();
    let pace = samples::a_second_later().pace;
    let later = Snapshot { now, spent, pace, vitals: std::sync::Arc::new(vitals), ..paused.clone() };
    assert!(bytes_between(&paused, &later) < 300);
}

fn bytes_between(before: &Snapshot, after: &Snapshot) -> usize {
    let environment = Environment {
        lang: Some("C.UTF-8".to_owned()),
        colorterm: Some("truecolor".to_owned()),
        ..Environment::default()
    };
    let theme = Theme::load(Source::Named("dark"), &environment).unwrap();
    let buffer =
        |snapshot: &Snapshot| terminal(snapshot, &ui(Overlay::None), &theme, (140, 40)).backend().buffer().clone();
    let (before, after): (Buffer, Buffer) = (buffer(before), buffer(after));
    let mut painter = crate::console::paint::Painter::default();
    painter.cells(before.diff(&after).into_iter());
    painter.take().len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_size_will_do(width in 1_u16..=200, height in 1_u16..=60, which in 0_usize..40, opened in 0_usize..4, ascii in any::<bool>()) {
        let samples = samples::all();
        let (_, snapshot) = &samples[which % samples.len()];
        let overlay = match opened {
            0 | 1 => Overlay::None,
            2 => Overlay::Help { scroll: which, filter: String::new(), typing: false },
            _ => Overlay::Quit { selected: Choice::Stay },
        };
        terminal(snapshot, &ui(overlay), &theme(if ascii { "C" } else { "C.UTF-8" }), (width, height));
    }
}
