//! What is asked of the queue, and what comes of it.

use super::*;
use crate::console::ui::ListId;
use crate::run::{OrderAnswer, QueueNews, QueueOrder};

fn details(queue: QueueNews) -> Action {
    Action::Details(Arc::new(Details { queue, ..Details::default() }))
}

/// A console without a run, on the queue.
fn looking(mode: Mode) -> App {
    let mut app = watching(samples::queue::no_run(), mode);
    press(&mut app, "7");
    app.update(details(samples::queue::news()));
    app
}

fn select(app: &mut App, id: &str) {
    app.ui.lists.queue.selected = Some(id.to_owned());
}

fn order(order: QueueOrder) -> Vec<Effect> {
    vec![Effect::Order(order), QUICK]
}

#[test]
fn each_key_asks_for_what_the_job_allows() {
    let id = |id: &str| id.to_owned();
    let said = || vec![QUICK];
    let table = [
        ("39", "R", order(QueueOrder::Retry { id: id("39") }), "asked: retry job 39"),
        ("44", "R", said(), "only one that has failed"),
        ("44", "P", order(QueueOrder::Promote { id: id("44") }), "asked: promote job 44"),
        ("39", "P", said(), "only a delayed one"),
        ("39", "D y", order(QueueOrder::Remove { id: id("39") }), "asked: remove job 39"),
        ("39", "D n", said(), ""),
        ("39", "D enter", said(), ""),
        ("41", "D", said(), "stop its run first"),
        ("46", "a", said(), "no run yet"),
        ("41", "H", order(QueueOrder::Pause), "asked: pause the queue"),
        ("41", "a", vec![Effect::Leave(Leave::Attach("7f3a09c2".parse().unwrap()))], ""),
        ("41", "space", said(), "no run is shown here: a on a job"),
        ("41", "Q", said(), "no run is shown here"),
    ];
    for (job, keys, expected, notice) in table {
        let mut app = looking(Mode::Attached);
        select(&mut app, job);
        assert_eq!(press_all(&mut app, keys), expected, "{keys} on {job}");
        let shown = app.ui.notice.clone().unwrap_or_default();
        assert!(shown.contains(notice) && shown.is_empty() == notice.is_empty(), "{keys} on {job}: {shown}");
    }
    let mut app = looking(Mode::Attached);
    assert_eq!(press(&mut app, "R"), [QUICK]);
    assert!(app.ui.notice.as_deref().unwrap().contains("no job is selected"));
}

#[test]
fn a_console_that_only_watches_asks_nothing_of_a_queue_and_may_look_at_runs() {
    for keys in ["R", "P", "D", "H"] {
        let mut app = looking(Mode::ReadOnly);
        select(&mut app, "39");
        assert_eq!(press_all(&mut app, keys), [QUICK], "{keys}");
        assert!(app.ui.notice.as_deref().unwrap().contains("--read-only"), "{keys}");
        assert_eq!(app.ui.overlay, Overlay::None, "{keys}");
    }
    for line in ["drain", "remove 39", "retry-job 39", "enqueue a.toml", "pause-queue", "resume-queue"] {
        let mut app = looking(Mode::ReadOnly);
        press(&mut app, ":");
        write(&mut app, line);
        assert!(!press(&mut app, "enter").iter().any(|effect| matches!(effect, Effect::Order(_))), "{line}");
    }
    let mut app = looking(Mode::ReadOnly);
    select(&mut app, "41");
    assert!(matches!(press(&mut app, "a")[..], [Effect::Leave(Leave::Attach(_))]));
}

#[test]
fn what_cannot_be_taken_back_is_asked_once_more_also_where_it_is_typed() {
    let table = [
        (":drain", "forget the 9 jobs that wait?", QueueOrder::Drain),
        (":rm 44", "remove job 44 (reprice-items)?", QueueOrder::Remove { id: "44".to_owned() }),
    ];
    for (line, question, wanted) in table {
        let mut app = looking(Mode::Attached);
        write(&mut app, line);
        press(&mut app, "enter");
        let Overlay::Confirm(asked) = &app.ui.overlay else { panic!("{line} is not asked about") };
        assert_eq!((asked.text.as_str(), asked.yes), (question, false));
        assert_eq!(press(&mut app, "y"), order(wanted));
    }
}

#[test]
fn the_keys_of_the_queue_come_before_those_of_a_run_only_in_its_view() {
    let mut app = watching(samples::full(), Mode::Attached);
    press(&mut app, "7");
    app.update(details(samples::queue::news()));
    select(&mut app, "39");
    assert_eq!(press(&mut app, "R"), order(QueueOrder::Retry { id: "39".to_owned() }));
    press(&mut app, "2");
    press(&mut app, "R");
    assert!(app.ui.notice.as_deref().unwrap().contains("rows that were set aside"));
    assert_eq!(press_all(&mut app, "7 space"), [Effect::Send(Command::Pause), QUICK], "the run is still steered");
}

#[test]
fn a_console_that_drives_a_run_does_not_leave_it_for_another_one() {
    let mut app = app(RunState::Running);
    press(&mut app, "7");
    app.update(details(samples::queue::news()));
    select(&mut app, "42");
    assert_eq!(press(&mut app, "a"), [QUICK]);
    assert!(app.ui.notice.as_deref().unwrap().contains("howdah attach 0b81c5de"));
    select(&mut app, "41");
    press(&mut app, "a");
    assert_eq!(app.ui.view, View::Overview, "it is the run that is shown already");
}

#[test]
fn what_came_of_an_order_is_said_once() {
    let mut app = looking(Mode::Attached);
    press(&mut app, "H");
    let answer = |no, outcome: Result<&str, &str>| OrderAnswer {
        no,
        order: QueueOrder::Pause,
        outcome: outcome.map(str::to_owned).map_err(str::to_owned),
    };
    let mut news = samples::queue::news();
    news.answers.push_back(answer(1, Ok("no more jobs are given out")));
    assert_eq!(app.update(details(news.clone())), [QUICK]);
    assert_eq!(app.ui.notice.as_deref(), Some("pause the queue: no more jobs are given out"));
    app.ui.notice = None;
    assert_eq!(app.update(details(news.clone())), [Effect::Redraw(Haste::Calm)]);
    assert_eq!(app.ui.notice, None);
    news.answers.push_back(answer(2, Err("Redis does not answer")));
    app.update(details(news));
    assert_eq!(app.ui.notice.as_deref(), Some("refused: pause the queue: Redis does not answer"));
}

#[test]
fn a_selected_job_stays_selected_while_it_moves_and_comes_back_after_a_silence() {
    let mut app = looking(Mode::Attached);
    press(&mut app, "G");
    press(&mut app, "k");
    assert_eq!(app.ui.lists.get(ListId::Queue).selected.as_deref(), Some("39"));
    for queue in [QueueNews::default(), samples::queue::silent(), samples::queue::news()] {
        app.update(details(queue));
        assert_eq!(app.ui.lists.get(ListId::Queue).selected.as_deref(), Some("39"));
    }
    assert_eq!(press(&mut app, "enter"), [QUICK]);
    assert_eq!(app.ui.overlay, Overlay::Detail { scroll: 0 });
}

#[test]
fn what_led_to_a_console_is_said_until_a_key_is_pressed() {
    let mut app = looking(Mode::Attached);
    app.begin_with("run 7f3a09c2: no such run".to_owned());
    let later = Snapshot { now: samples::queue::no_run().now + TimeDelta::hours(1), ..samples::queue::no_run() };
    app.update(Action::Snapshot(Arc::new(later)));
    assert!(app.ui.notice.is_some());
    press(&mut app, "j");
    assert_eq!(app.ui.notice, None);
}
