//! What can be typed, what it means, and what is offered.

use proptest::prelude::*;

use super::*;
use crate::console::keymap::Keymap;
use crate::console::samples;
use crate::console::ui::{Mode, Ui};
use crate::run::details::{SessionView, Sessions};
use crate::run::vitals::Reading;
use crate::run::{Details, Snapshot};
use std::sync::Arc;
use std::time::Duration;

struct Stage {
    snapshot: Snapshot,
    details: Details,
    ui: Ui,
}

impl Stage {
    fn of(view: View) -> Self {
        let pids = [100, 4711, 4712].map(|pid| SessionView { pid, ..SessionView::default() });
        let sessions = Sessions { sessions: pids.to_vec(), ..Sessions::default() };
        Self {
            snapshot: samples::running(),
            details: Details {
                sessions: Reading::Value(Arc::new(sessions)),
                queue: samples::queue::news(),
                ..Details::default()
            },
            ui: Ui { view, ..Ui::new(Keymap::defaults(), Mode::Driver, Vec::new()) },
        }
    }

    fn scene(&self) -> Scene<'_> {
        Scene { snapshot: &self.snapshot, details: &self.details, ui: &self.ui }
    }

    fn parse(&self, text: &str) -> Result<Vec<Order>, String> {
        parse(text, &self.scene())
    }

    fn complete(&self, text: &str) -> (usize, String) {
        let Completion { start, candidates } = complete(text, &self.scene());
        (start, candidates.join(" "))
    }
}

#[test]
fn commands_are_understood_with_their_aliases() {
    let ask = |command| Order::Do(Action::Ask(command));
    let goto = |view| Order::Do(Action::Goto(view));
    let order = |order| Order::Do(Action::Order(order));
    let table = [
        ("pause", vec![ask(Command::Pause)]),
        (" :continue ", vec![ask(Command::Continue)]),
        ("cont", vec![ask(Command::Continue)]),
        ("stop", vec![Order::Do(Action::Stop)]),
        ("set workers=2", vec![ask(Command::SetWorkers(2))]),
        ("set workers 2", vec![ask(Command::SetWorkers(2))]),
        ("set target=250ms", vec![ask(Command::SetTarget(Duration::from_millis(250)))]),
        ("set workers=2 target=1s", vec![ask(Command::SetWorkers(2)), ask(Command::SetTarget(Duration::from_secs(1)))]),
        ("goto segments", vec![goto(View::Segments)]),
        ("jobs", vec![goto(View::Queue)]),
        ("enqueue my plans/a b.toml", vec![order(QueueOrder::Enqueue { path: "my plans/a b.toml".to_owned() })]),
        ("retry-job 39", vec![order(QueueOrder::Retry { id: "39".to_owned() })]),
        ("promote", vec![Order::Do(Action::PromoteJob)]),
        ("remove 44", vec![order(QueueOrder::Remove { id: "44".to_owned() })]),
        ("resume-queue", vec![order(QueueOrder::Resume)]),
        ("drain", vec![order(QueueOrder::Drain)]),
        ("attach 7f3a09c2", vec![Order::Do(Action::Attach("7f3a09c2".parse().unwrap()))]),
        ("go 3", vec![goto(View::Sessions)]),
        ("tables", vec![goto(View::Tables)]),
        ("overview", vec![goto(View::Overview)]),
        ("alerts", vec![goto(View::Events)]),
        ("log", vec![goto(View::Log)]),
        ("skip-window", vec![Order::Do(Action::SkipWindow)]),
        ("close-breaker", vec![Order::Do(Action::CloseBreaker)]),
        ("ack", vec![Order::Do(Action::Acknowledge)]),
        ("ack free_memory", vec![ask(Command::Acknowledge("free_memory".to_owned()))]),
        ("silence free_memory", vec![ask(Command::Silence("free_memory".to_owned(), Duration::from_hours(1)))]),
        ("silence free_memory 2h", vec![ask(Command::Silence("free_memory".to_owned(), Duration::from_hours(2)))]),
        ("unsilence free_memory", vec![ask(Command::Unsilence("free_memory".to_owned()))]),
        ("cancel 4711", vec![ask(Command::CancelSession(4711, None))]),
        ("kill 4711", vec![ask(Command::TerminateSession(4711, None))]),
        ("retry-quarantine", vec![Order::Do(Action::RetryQuarantine)]),
        ("undo", vec![Order::Do(Action::Undo)]),
        ("resume", vec![Order::Do(Action::Resume)]),
        ("zoom 1m", vec![Order::Zoom(Zoom::Minute)]),
        ("zoom 10m", vec![Order::Zoom(Zoom::TenMinutes)]),
        ("zoom all", vec![Order::Zoom(Zoom::All)]),
        ("charts", vec![Order::Do(Action::Charts)]),
        ("sort table", vec![Order::Sort(Some((0, false)))]),
        ("sort dead", vec![Order::Sort(Some((2, true)))]),
        ("sort Dead asc", vec![Order::Sort(Some((2, false)))]),
        ("sort", vec![Order::Sort(None)]),
        ("filter  two words ", vec![Order::Filter("two words".to_owned())]),
        ("filter", vec![Order::Filter(String::new())]),
        ("help", vec![Order::Do(Action::Help)]),
        ("q", vec![Order::Do(Action::Quit)]),
        ("q!", vec![Order::Do(Action::Quit)]),
        ("", vec![]),
        (" : ", vec![]),
    ];
    for (text, expected) in table {
        assert_eq!(Stage::of(View::Tables).parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn every_command_does_something_of_its_own() {
    for spec in SPECS.iter().filter(|spec| spec.takes == Takes::Nothing) {
        assert_eq!(plain(spec.name) == Action::Help, spec.name == "help", "{}", spec.name);
    }
    let mut names: Vec<_> = SPECS.iter().flat_map(|spec| spec.aliases.iter().chain([&spec.name])).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "no name means two commands");
}

#[test]
fn a_mistake_says_what_would_be_right() {
    let table = [
        ("pasue", "there is no command `pasue`: did you mean `pause`?"),
        ("zzz", "there is no command `zzz`: Tab shows what there is"),
        ("pause now", "`pause` takes nothing behind it"),
        ("set", "`set` what? such as `set workers=2` or `set target=250ms`"),
        ("set worker=2", "there is no setting `worker`: did you mean `workers`?"),
        ("set workers=0", "`workers` is a number from 1 on, such as `set workers=2`"),
        ("set workers=many", "`workers` is a number from 1 on, such as `set workers=2`"),
        ("set target=7", "`target` is the time of a batch, such as `set target=250ms`"),
        ("set target=0s", "`target` is the time of a batch, such as `set target=250ms`"),
        ("goto", "`goto` where? there are overview, tables, sessions, segments, events, log, queue"),
        ("goto segmets", "there is no view `segmets`: did you mean `segments`?"),
        ("goto 8", "there is no view `8`: there are overview, tables, sessions, segments, events, log, queue"),
        ("goto 0", "there is no view `0`: there are overview, tables, sessions, segments, events, log, queue"),
        ("zoom 5m", "`zoom` takes 1m, 10m or all"),
        ("sort daed", "there is no column `daed` to sort by: did you mean `dead`?"),
        ("ack free_memry", "there is no alert `free_memry`: did you mean `free_memory`?"),
        ("silence free_memry 1h", "there is no alert `free_memry`: did you mean `free_memory`?"),
        ("silence", "`silence` takes an alert's key: Tab shows what there is"),
        ("cancel", "`cancel` takes the process id of a session, as `goto sessions` shows them"),
        ("terminate x", "`terminate` takes the process id of a session, as `goto sessions` shows them"),
        ("cancel 7", "there is no session 7: `goto sessions` shows which there are"),
        ("rm 7", "there is no job 7 in sight: `goto queue` shows which there are"),
        ("attach here", "`attach` takes a run's short id, eight hex digits"),
        ("enqueue", "`enqueue` takes a plan's file"),
    ];
    for (text, expected) in table {
        assert_eq!(Stage::of(View::Tables).parse(text), Err(expected.to_owned()), "{text}");
    }
    let unread = Stage { details: Details::default(), ..Stage::of(View::Tables) };
    assert!(unread.parse("cancel 4711").unwrap_err().contains("not been read"));
    for text in ["sort dead", "filter x"] {
        assert!(Stage::of(View::Overview).parse(text).unwrap_err().contains("has a list"), "{text}");
    }
}

#[test]
fn what_could_stand_next_is_offered() {
    let table = [
        ("pa", 0, "pause pause-queue"),
        ("se", 0, "set sessions segments"),
        ("  re", 2, "retry-quarantine resume retry-job remove-job resume-queue repaint"),
        ("set ", 4, "workers= target="),
        ("set w", 4, "workers="),
        ("set workers=2 t", 14, "target="),
        ("set workers=", 4, "workers="),
        ("goto s", 5, "sessions segments"),
        ("goto segments x", 14, ""),
        ("zoom 1", 5, "1m 10m"),
        ("sort d", 5, "dead dead% del/s"),
        ("cancel 47", 7, "4711 4712"),
        ("kill 1", 5, "100"),
        ("ack ", 4, "free_memory"),
        ("silence f", 8, "free_memory"),
        ("retry-job 3", 10, "39 38"),
        ("attach 0", 7, "0b81c5de"),
        ("enqueue a", 0, ""),
        ("filter a", 0, ""),
        ("pause ", 0, ""),
        ("nonsense x", 0, ""),
    ];
    for (text, start, expected) in table {
        let (at, candidates) = Stage::of(View::Tables).complete(text);
        assert_eq!(candidates, expected, "{text}");
        assert!(expected.is_empty() || at == start, "{text}: {at}");
    }
    let all = Stage::of(View::Overview).complete("").1;
    assert_eq!(all.split(' ').count(), SPECS.len());
}

#[test]
fn a_key_that_could_steer_a_terminal_is_not_offered() {
    let mut stage = Stage::of(View::Overview);
    let mut vitals = (*stage.snapshot.vitals).clone();
    vitals.alerts[0].key = "x\u{1b}[2J".to_owned();
    stage.snapshot.vitals = Arc::new(vitals);
    assert_eq!(stage.complete("ack ").1, "");
}

proptest! {
    #[test]
    fn any_text_is_read_and_completed_without_a_panic(text in "(set |goto |sort |cancel |ack |retry-job |attach |enqueue |)\\PC{0,30}") {
        for view in View::ALL {
            let stage = Stage::of(view);
            drop(stage.parse(&text));
            let completion = complete(&text, &stage.scene());
            prop_assert!(completion.start <= text.chars().count());
        }
    }
}

#[test]
fn what_is_offered_behind_a_command_is_understood() {
    let stage = Stage::of(View::Tables);
    for spec in &SPECS {
        let begin = format!("{} ", spec.name);
        let Completion { candidates, .. } = complete(&begin, &stage.scene());
        for candidate in candidates.iter().filter(|candidate| !candidate.ends_with('=')) {
            let text = format!("{begin}{candidate}");
            assert!(stage.parse(&text).is_ok(), "{text}");
        }
    }
}
