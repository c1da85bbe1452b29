//! How every view looks, whatever is in it, and that one that stands still writes nothing.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use unicode_width::UnicodeWidthStr;

use super::{Scene, render};
use crate::console::colour::Environment;
use crate::console::keymap::Keymap;
use crate::console::listing;
use crate::console::samples;
use crate::console::theme::{Source, Theme};
use crate::console::ui::{ListId, Mode, Overlay, SegmentsPane, Ui, View};
use crate::run::history::Zoom;
use crate::run::vitals::Reading;
use crate::run::{Details, Presence, RunState, Snapshot};

const SIZES: [(u16, u16); 3] = [(140, 40), (80, 24), (40, 12)];
const LISTS: [ListId; 8] = [
    ListId::Tables,
    ListId::Sessions,
    ListId::Segments,
    ListId::Slowest,
    ListId::Quarantine,
    ListId::Events,
    ListId::Log,
    ListId::Queue,
];

pub(super) fn theme(lang: &str) -> Theme {
    let environment = Environment { lang: Some(lang.to_owned()), ..Environment::default() };
    Theme::load(Source::Named("dark"), &environment).unwrap()
}

fn ui(view: View) -> Ui {
    Ui { view, ..Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()) }
}

/// The open view with its list, with the row at `at` selected.
pub(super) fn selecting(snapshot: &Snapshot, details: &Details, mut ui: Ui, at: usize) -> Ui {
    if let Some(list) = ui.list() {
        let keys = listing::keys(list, &Scene { snapshot, details, ui: &ui });
        ui.lists.get_mut(list).selected = keys.get(at % keys.len().max(1)).cloned();
    }
    ui
}

pub(super) fn terminal(
    snapshot: &Snapshot,
    details: &Details,
    ui: &Ui,
    theme: &Theme,
    (width, height): (u16, u16),
) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| render(&Scene { snapshot, details, ui }, theme, frame)).unwrap();
    terminal
}

fn draw(snapshot: &Snapshot, ui: &Ui, size: (u16, u16)) -> String {
    terminal(snapshot, &samples::details(), ui, &theme("C.UTF-8"), size).backend().to_string()
}

/// Every view, as it opens: with a name for its snapshot.
fn opened() -> Vec<(String, Ui)> {
    let pane = |pane| Ui { pane, ..ui(View::Segments) };
    let charts = |zoom| Ui { charts: true, zoom, ..ui(View::Overview) };
    let mut views: Vec<(String, Ui)> =
        View::ALL.into_iter().skip(1).map(|view| (view.name().to_owned(), ui(view))).collect();
    views.extend([
        ("slowest".to_owned(), pane(SegmentsPane::Slowest)),
        ("quarantine".to_owned(), pane(SegmentsPane::Quarantine)),
        ("charts".to_owned(), charts(Zoom::TenMinutes)),
        ("charts_minute".to_owned(), charts(Zoom::Minute)),
        ("charts_all".to_owned(), charts(Zoom::All)),
    ]);
    views
}

#[test]
fn every_view_is_as_it_was_reviewed() {
    let snapshot = samples::full();
    for (name, ui) in opened() {
        for (width, height) in SIZES {
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), draw(&snapshot, &ui, (width, height)));
        }
    }
}

#[test]
fn every_list_with_something_selected_filtered_and_sorted_is_as_it_was_reviewed() {
    let (snapshot, details) = (samples::full(), samples::details());
    let mut tables = ui(View::Tables);
    tables.lists.tables.sort = Some((2, true));
    tables.lists.tables.filter = "ORDER".to_owned();
    let mut events = ui(View::Events);
    events.lists.events.level = 1;
    let mut log = ui(View::Log);
    log.lists.log.level = 2;
    let table = [
        ("tables_sorted", tables, 2),
        ("sessions_second_page", ui(View::Sessions), 45),
        ("events_warnings", events, 1),
        ("log_selected", ui(View::Log), 30),
        ("log_critical", log, 1),
    ];
    for (name, ui, at) in table {
        let ui = selecting(&snapshot, &details, ui, at);
        for (width, height) in SIZES {
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), draw(&snapshot, &ui, (width, height)));
        }
    }
}

#[test]
fn a_silenced_alert_is_dimmed_and_says_by_whom_and_until_when() {
    let snapshot = samples::silenced();
    for (name, view) in [("silenced_events", View::Events), ("silenced_overview", View::Overview)] {
        for (width, height) in SIZES {
            let drawn = terminal(&snapshot, &samples::details(), &ui(view), &theme("C.UTF-8"), (width, height));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn.backend().to_string());
        }
    }
    let selected = selecting(&snapshot, &samples::details(), ui(View::Events), 2);
    let detail = Ui { overlay: Overlay::Detail { scroll: 0 }, ..selected };
    insta::assert_snapshot!("silenced_detail_80x24", draw(&snapshot, &detail, (80, 24)));
}

#[test]
fn every_detail_is_as_it_was_reviewed() {
    let (snapshot, details) = (samples::full(), samples::details());
    let quarantine = Ui { pane: SegmentsPane::Quarantine, ..ui(View::Segments) };
    let slowest = Ui { pane: SegmentsPane::Slowest, ..ui(View::Segments) };
    let table = [
        ("detail_table", ui(View::Tables), 0),
        ("detail_session", ui(View::Sessions), 4),
        ("detail_segment", ui(View::Segments), 3),
        ("detail_slowest", slowest, 0),
        ("detail_quarantine", quarantine, 0),
        ("detail_alert", ui(View::Events), 2),
        ("detail_command", ui(View::Events), 7),
        ("detail_event", ui(View::Events), 3),
        ("detail_log", ui(View::Log), 30),
        ("detail_job", ui(View::Queue), 11),
    ];
    for (name, ui, at) in table {
        let ui = Ui { overlay: Overlay::Detail { scroll: 0 }, ..selecting(&snapshot, &details, ui, at) };
        insta::assert_snapshot!(format!("{name}_80x24"), draw(&snapshot, &ui, (80, 24)));
    }
}

#[test]
fn a_run_that_is_watched_from_elsewhere_is_as_it_was_reviewed() {
    let table = [
        ("attached", samples::attached(), Mode::Attached),
        ("attached_read_only", samples::attached(), Mode::ReadOnly),
        ("driver_gone", samples::driver_gone(), Mode::Attached),
        ("unreachable", samples::unreachable(), Mode::Attached),
    ];
    for (name, snapshot, mode) in table {
        for (width, height) in SIZES {
            let ui = Ui { mode, ..ui(View::Overview) };
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), draw(&snapshot, &ui, (width, height)));
        }
    }
}

#[test]
fn a_queue_in_every_condition_is_as_it_was_reviewed() {
    let queue = |queue| Details { queue, ..Details::default() };
    let table = [
        ("queue_paused", queue(samples::queue::paused())),
        ("queue_silent", queue(samples::queue::silent())),
        ("queue_unnamed", Details::default()),
    ];
    for (name, details) in table {
        for (width, height) in SIZES {
            let ui = Ui { mode: Mode::Attached, ..ui(View::Queue) };
            let ui = selecting(&samples::queue::no_run(), &details, ui, 10);
            let drawn = terminal(&samples::queue::no_run(), &details, &ui, &theme("C.UTF-8"), (width, height));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), drawn.backend().to_string());
        }
    }
}

#[test]
fn without_a_run_its_views_say_so_at_every_size() {
    for view in View::ALL.into_iter().filter(|view| *view != View::Queue) {
        for size in SIZES {
            let ui = Ui { mode: Mode::Attached, ..ui(view) };
            let drawn = draw(&samples::queue::no_run(), &ui, size);
            for words in ["No run is shown here", "no run"] {
                assert!(drawn.contains(words), "{words} is missing in {view:?}:\n{drawn}");
            }
        }
    }
}

#[test]
fn a_redis_that_does_not_answer_is_said_with_since_when_above_what_was_read_last() {
    let details = Details { queue: samples::queue::silent(), ..Details::default() };
    for size in [(140, 40), (80, 24)] {
        let drawn = terminal(&samples::full(), &details, &ui(View::Queue), &theme("C.UTF-8"), size);
        let drawn = drawn.backend().to_string();
        for words in ["not read since 14:02:40", "connection refused", "normalise-ema", "failed"] {
            assert!(drawn.contains(words), "{words} is missing:\n{drawn}");
        }
    }
}

#[test]
fn without_details_every_view_says_why() {
    let mut snapshot = samples::full();
    Arc::make_mut(&mut snapshot.vitals).database = Reading::Unavailable("permission denied".to_owned());
    let why = || "permission denied".to_owned();
    let details = Details {
        sessions: Reading::Unavailable(why()),
        quarantine: Reading::Unavailable(why()),
        log: Reading::Unavailable(why()),
        ..Details::default()
    };
    let quarantine = Ui { pane: SegmentsPane::Quarantine, ..ui(View::Segments) };
    for ui in [ui(View::Tables), ui(View::Sessions), ui(View::Log), quarantine] {
        for details in [&details, &Details::default()] {
            let drawn = terminal(&snapshot, details, &ui, &theme("C.UTF-8"), (80, 24)).backend().to_string();
            let said = drawn.contains("permission denied") || drawn.contains("not measured yet");
            assert!(said, "{:?}:\n{drawn}", ui.view);
        }
    }
}

#[test]
fn the_filter_finds_in_any_case_and_an_empty_list_says_so() {
    let snapshot = samples::full();
    for list in LISTS {
        let details = samples::details();
        let mut ui = ui(View::Overview);
        let all = listing::keys(list, &Scene { snapshot: &snapshot, details: &details, ui: &ui });
        assert!(!all.is_empty(), "{list:?}");
        ui.lists.get_mut(list).filter = "no such thing at all".to_owned();
        assert!(listing::keys(list, &Scene { snapshot: &snapshot, details: &details, ui: &ui }).is_empty(), "{list:?}");
    }
    let mut ui = ui(View::Tables);
    ui.lists.tables.filter = "ORDER_lines".to_owned();
    assert!(draw(&snapshot, &ui, (80, 24)).contains("order_lines"));
    ui.lists.tables.filter = "nothing of that name".to_owned();
    assert!(draw(&snapshot, &ui, (80, 24)).contains("nothing passes the filter"));
}

#[test]
fn a_selection_survives_a_new_order_and_can_be_seen_without_colour() {
    let (snapshot, details) = (samples::full(), samples::details());
    let mut ui = selecting(&snapshot, &details, ui(View::Tables), 30);
    let name = ui.lists.tables.selected.clone().unwrap();
    for sort in [None, Some((0, false)), Some((1, true)), Some((11, true))] {
        ui.lists.tables.sort = sort;
        let drawn = draw(&snapshot, &ui, (140, 24));
        let marked = drawn.lines().any(|line| line.contains("│ >") && line.contains(name.as_str()));
        assert!(marked, "{name} by {sort:?}:\n{drawn}");
    }
}

#[test]
fn nothing_but_printable_text_reaches_the_screen_whatever_the_world_sends() {
    let (snapshot, details) = (samples::hostile_full(), samples::hostile_details());
    let states = [snapshot.clone(), Snapshot { presence: Presence::Gone { pid: 1, since: snapshot.now }, ..snapshot }];
    for snapshot in states {
        for (name, ui) in every_ui() {
            for overlay in [Overlay::None, Overlay::Detail { scroll: 0 }, Overlay::Detail { scroll: 7 }] {
                let mut ui = selecting(&snapshot, &details, Ui { overlay, ..ui.clone() }, 1);
                if let Some(list) = ui.list() {
                    ui.lists.get_mut(list).filter = "\u{1b}]52".to_owned();
                    let keys = listing::keys(list, &Scene { snapshot: &snapshot, details: &details, ui: &ui });
                    assert!(keys.is_empty(), "what is looked for is what is shown");
                    ui.lists.get_mut(list).filter.clear();
                }
                let terminal = terminal(&snapshot, &details, &ui, &theme("C.UTF-8"), (140, 40));
                for cell in &terminal.backend().buffer().content {
                    let harmless = |c: char| {
                        !c.is_control()
                            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
                    };
                    assert!(cell.symbol().chars().all(harmless), "{name}: {:?}", cell.symbol());
                    assert!(cell.symbol().width() <= 2, "{name}: {:?}", cell.symbol());
                }
            }
        }
    }
}

#[test]
fn a_terminal_without_utf_8_gets_ascii_only_in_every_view() {
    let worlds = [
        (samples::full(), samples::details()),
        (samples::driver_gone(), samples::details()),
        (samples::hostile_full(), samples::hostile_details()),
    ];
    for (snapshot, details) in &worlds {
        for (name, ui) in every_ui() {
            for overlay in [Overlay::None, Overlay::Detail { scroll: 0 }] {
                let ui = selecting(snapshot, details, Ui { overlay, ..ui.clone() }, 0);
                let drawn = terminal(snapshot, details, &ui, &theme("C"), (140, 40)).backend().to_string();
                assert!(drawn.is_ascii(), "{name}:\n{drawn}");
            }
        }
    }
}

#[test]
fn no_sign_of_ours_is_lost_on_a_terminal_without_utf_8() {
    for (name, ui) in every_ui() {
        let mut snapshot = samples::full();
        if let Reading::Value(database) = &mut Arc::make_mut(&mut snapshot.vitals).database {
            database.tables.retain(|table| table.name.is_ascii());
        }
        let drawn = terminal(&snapshot, &samples::details(), &ui, &theme("C"), (140, 40)).backend().to_string();
        // Only the key for help has a question mark.
        assert!(!drawn.replace("? help", "").contains('?'), "{name}:\n{drawn}");
    }
}

#[test]
fn a_view_that_stands_still_writes_nothing() {
    let details = samples::details();
    for (name, ui) in every_ui() {
        let since = samples::full().now - chrono::TimeDelta::seconds(12);
        let by = crate::run::Asker::Console;
        let paused = Snapshot { state: RunState::Paused { since, by }, ..samples::full() };
        let mut later = Snapshot { now: paused.now + chrono::TimeDelta::seconds(20), ..paused.clone() };
        // A pause goes on into the course of the run.
        let history = Arc::make_mut(&mut later.history);
        for at in 0..20 {
            let at = paused.now.timestamp() + at;
            history.push(crate::run::history::Point { at, paused: true, ..Default::default() });
        }
        let buffer = |snapshot: &Snapshot| {
            terminal(snapshot, &details, &ui, &theme("C.UTF-8"), (140, 40)).backend().buffer().clone()
        };
        let (before, after) = (buffer(&paused), buffer(&later));
        let written: Vec<_> =
            before.diff(&after).into_iter().map(|(x, y, cell)| (x, y, cell.symbol().to_owned())).collect();
        assert!(written.is_empty(), "{name}: {written:?}");
    }
}

#[test]
fn charts_of_a_run_in_its_stride_cost_no_more_than_its_panes() {
    let ui = Ui { charts: true, ..ui(View::Overview) };
    let before = samples::full();
    let mut after =
        Snapshot { history: before.history.clone(), work: before.work.clone(), ..samples::a_second_later() };
    let last = before.history.seconds.back().copied().unwrap();
    Arc::make_mut(&mut after.history).push(crate::run::history::Point { at: last.at + 1, rate: 48_377.0, ..last });
    let buffer = |snapshot: &Snapshot| {
        terminal(snapshot, &samples::details(), &ui, &theme("C.UTF-8"), (140, 40)).backend().buffer().clone()
    };
    let mut painter = crate::console::paint::Painter::default();
    let (before, after) = (buffer(&before), buffer(&after));
    painter.cells(before.diff(&after).into_iter());
    let written = painter.take().len();
    assert!(written < 1000, "{written}");
}

#[test]
fn a_pause_and_an_alert_are_marked_at_the_foot_of_a_chart() {
    for (lang, pause, alert) in [("C.UTF-8", "‖‖‖", "▲─"), ("C", "===", "!-")] {
        for zoom in [Zoom::TenMinutes, Zoom::All] {
            let ui = Ui { charts: true, zoom, ..ui(View::Overview) };
            let terminal = terminal(&samples::full(), &samples::details(), &ui, &theme(lang), (140, 40));
            let drawn = terminal.backend().to_string();
            for sign in [pause, alert, "14:03", "50k"] {
                assert!(drawn.contains(sign), "{sign} is missing:\n{drawn}");
            }
        }
    }
}

#[test]
fn what_becomes_of_a_run_without_a_driver_is_said_in_every_view() {
    for view in View::ALL {
        for size in SIZES {
            let gone = draw(&samples::driver_gone(), &Ui { mode: Mode::Attached, ..ui(view) }, size);
            for words in ["DRIVER GONE", "pid 4711", "14:01:47", "howdah resume 7f3a09c2"] {
                assert!(gone.contains(words), "{words} is missing in {view:?}:\n{gone}");
            }
            let unreachable = draw(&samples::unreachable(), &ui(view), size);
            for words in ["NO CONTACT", "14:03:01"] {
                assert!(unreachable.contains(words), "{words} is missing in {view:?}:\n{unreachable}");
            }
        }
    }
    let over = Snapshot { state: RunState::Done { at: samples::full().now }, ..samples::driver_gone() };
    assert!(!draw(&over, &ui(View::Tables), (80, 24)).contains("DRIVER GONE"), "a run that is over needs no driver");
}

#[test]
fn no_row_of_a_list_is_out_of_reach_below_what_is_said_of_a_driver_that_is_gone() {
    let details = samples::details();
    for snapshot in [samples::driver_gone(), samples::unreachable()] {
        for view in [View::Tables, View::Sessions, View::Segments, View::Events, View::Log, View::Queue] {
            for at in 0..80 {
                let ui = selecting(&snapshot, &details, ui(view), at);
                let drawn = draw(&snapshot, &ui, (80, 24));
                assert!(drawn.contains("│ >"), "{view:?}, row {at}:\n{drawn}");
            }
        }
    }
}

#[test]
fn the_outcome_stands_on_the_overview_only() {
    let done = Snapshot { state: RunState::Done { at: samples::full().now }, ..samples::full() };
    assert!(draw(&done, &ui(View::Overview), (80, 24)).contains("Outcome"));
    for view in [View::Tables, View::Sessions, View::Segments, View::Events, View::Log, View::Queue] {
        assert!(!draw(&done, &ui(view), (80, 24)).contains("Outcome"), "{view:?}");
    }
}

#[test]
fn a_selection_that_moves_redraws_two_rows() {
    let (snapshot, details) = (samples::full(), samples::details());
    for view in [View::Tables, View::Sessions, View::Events] {
        let [first, second] = [3, 4].map(|at| {
            let ui = selecting(&snapshot, &details, ui(view), at);
            terminal(&snapshot, &details, &ui, &theme("C.UTF-8"), (140, 40)).backend().buffer().clone()
        });
        let mut rows: Vec<u16> = first.diff(&second).into_iter().map(|(_, y, _)| y).collect();
        rows.dedup();
        assert_eq!(rows.len(), 2, "{view:?}");
    }
}

#[test]
fn a_list_that_was_sorted_by_a_column_that_is_gone_is_shown_all_the_same() {
    let (snapshot, details) = (samples::full(), samples::details());
    for list in LISTS {
        let mut ui = ui(View::Overview);
        ui.lists.get_mut(list).sort = Some((99, true));
        assert!(!listing::keys(list, &Scene { snapshot: &snapshot, details: &details, ui: &ui }).is_empty());
    }
}

/// [`opened`], and the overview.
pub(super) fn every_ui() -> Vec<(String, Ui)> {
    let mut views = opened();
    views.push(("overview".to_owned(), ui(View::Overview)));
    views
}
