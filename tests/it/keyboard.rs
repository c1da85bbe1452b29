//! Keys, the command line and the mouse of a console in a real terminal; a keymap of one's own; a console that fails.

use std::time::{Duration, Instant};

use crate::screen::{Screen, count, items};
use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_steered_and_looked_at_from_near_by_keys_and_by_typed_commands() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut screen = Screen::open(&lab, &["run", &plan], &[]);
    screen.until_running();

    // A command with a mistake, mended in the line, completed, and shown with its outcome.
    screen.press(":set wrokers=2");
    screen.press("\r");
    screen.until_shown("did you mean `workers`?");
    screen.press("\x15set wor\t2\r");
    screen.until_shown("set workers=2: ");
    lab.until("SELECT count(*) = 1 FROM howdah.command WHERE via = 'console' AND state = 'taken'").await;

    // The views; a sequence of keys, a filter, a detail, and back.
    screen.press(":goto tables\r");
    screen.until("the tables", |text| text.contains("HOT%"));
    screen.press("g");
    screen.until_shown(" g-");
    screen.press("g\r");
    screen.until("the detail", |text| text.contains("esc close"));
    screen.press("\x1b");
    screen.until("no detail", |text| !text.contains("esc close"));
    screen.press("/nothing like that");
    screen.until_shown("nothing passes the filter");
    screen.press("\x1b");
    screen.until("the filter dropped", |text| !text.contains("nothing passes the filter"));
    screen.press("3");
    screen.until("the sessions, once they are read", |text| text.contains("howdah/"));

    // What cannot be taken back is asked once more.
    screen.press("Q");
    screen.until_shown("stop the run?");
    screen.press("n");
    screen.until("no question", |text| !text.contains("stop the run?"));
    assert_eq!(lab.unfinished().await, 1);
    screen.press(":stop\ry");
    screen.until_shown("STOPPED");
    screen.press("1r");
    // The run is resumed, by this process or the next one.
    lab.until("SELECT state IN ('running', 'starting') FROM howdah.run").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_console_restores_the_terminal_and_leaves_the_run_going() {
    let lab = Lab::open().await;
    let plan = items(&lab, 12_000).await;
    for point in ["console.key=panic@2", "console.frame=panic@3"] {
        lab.sql("UPDATE items SET n = 0; DROP SCHEMA IF EXISTS howdah CASCADE").await;
        let mut screen = Screen::open(&lab, &["run", &plan], &[("HOWDAH_FAILPOINTS", point)]);
        if point.starts_with("console.key") {
            screen.until_running();
            screen.press("??");
        }
        screen.until_shown("the console panicked");
        assert_eq!(screen.ended().exit_code(), 0, "{point}");
        screen.expect_restored();
        assert_eq!(lab.text("SELECT state FROM howdah.run").await, "done");
        assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mouse_selects_and_scrolls_where_it_is_wanted_and_is_given_back() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut screen = Screen::open(&lab, &["run", &plan, "--mouse"], &[]);
    screen.until_running();
    let mode = |screen: &Screen| screen.seen.lock().expect("seen").parser.screen().mouse_protocol_mode();
    assert_ne!(mode(&screen), vt100::MouseProtocolMode::None);
    screen.press("5");
    screen.until("the events", |text| text.contains("run begins"));
    screen.press("\x1b[<65;10;10M");
    let text = screen.until("a selected row", |text| text.contains("│ >"));
    let row = text.lines().position(|line| line.contains("│ >")).expect("a row");
    screen.press(&format!("\x1b[<0;20;{}M\x1b[<0;20;{}m", row + 2, row + 2));
    screen.until("the row below", |text| text.lines().nth(row + 1).is_some_and(|line| line.contains("│ >")));
    screen.press("\x03\x03");
    assert_eq!(screen.ended().exit_code(), 3);
    screen.expect_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_painted_soon_and_a_key_that_is_held_costs_ten_frames_a_second() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut screen = Screen::open(&lab, &["run", &plan], &[]);
    screen.until_running();
    screen.press(" ");
    screen.until_shown("PAUSED");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Each frame is one synchronized update.
    let count = |screen: &Screen| count(&screen.seen.lock().expect("seen").bytes, b"\x1b[?2026h");
    let mut times = Vec::new();
    for _ in 0..11 {
        let (before, pressed) = (count(&screen), Instant::now());
        screen.press("?");
        while count(&screen) == before && pressed.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(pressed.elapsed());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    times.sort_unstable();
    // The bench measures; this is a build without optimisation on a busy machine.
    assert!(times[5] < Duration::from_millis(80), "{times:?}");

    let before = count(&screen);
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(2) {
        screen.press("?");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let frames = count(&screen) - before;
    assert!(frames <= 26, "{frames} frames in two seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keymap_is_checked_mistake_by_mistake() {
    let home = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        let path = home.path().join("keys.toml");
        std::fs::write(&path, text).expect("a file");
        let mut howdah = crate::support::bare(home.path());
        let ended = howdah.args(["keymap", "--check"]).arg(&path).output().expect("howdah runs");
        (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
    };
    let (code, said) = check("[view]\npause = [\"z z\", \"x\"]\nzoom = []\n");
    assert_eq!((code, said.contains("is fine")), (Some(0), true), "{said}");
    let (code, said) = check("[view]\npause = [\"spce\"]\nquit = [\"?\"]\n[list]\nsort = [\"o\", \"o o\"]\n");
    assert_eq!(code, Some(2));
    for words in [
        "keys.toml:2:10: `spce` is not a key that a terminal can send\n2 | pause = [\"spce\"]\n  |          ^^^^^^",
        ":3:9: the key `?` is bound to `quit` and to `help`",
        "hint: give `help` another key, or none: help = [], in [global]",
        ":5:14: the key `o` of `sort` begins the keys `o o` of `sort`",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let (code, _) = check("[view\n");
    assert_eq!(code, Some(2));
}
