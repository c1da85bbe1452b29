//! Consoles that are attached to a run which another process drives.

use crate::screen::{Screen, items, signal};
use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn two_consoles_follow_a_run_steer_it_see_its_driver_die_and_follow_who_resumes_it() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut driver = Screen::open(&lab, &["run", &plan], &[]);
    driver.until_running();
    let mut first = Screen::open(&lab, &["attach"], &[]);
    let mut second = Screen::open(&lab, &["attach", &lab.run_id().await, "--read-only"], &[]);
    for screen in [&first, &second] {
        screen.until("the run", |text| text.contains("RUNNING") && text.contains("watched") && text.contains("items"));
    }

    // Paused in one, seen in all.
    first.press(" ");
    for screen in [&driver, &first, &second] {
        screen.until_shown("PAUSED");
    }
    assert_eq!(lab.text("SELECT via || ' ' || state FROM howdah.command").await, "attached taken");
    let still = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    // Who only watches cannot go on.
    second.press(" ");
    second.until_shown("read-only");
    assert_eq!(lab.number("SELECT count(*) FROM howdah.command").await, 1);
    first.press(" ");
    for screen in [&driver, &first, &second] {
        screen.until_shown("RUNNING");
    }
    lab.until(&format!("SELECT count(*) > {still} FROM items WHERE n = 1")).await;

    // The driver is killed: both say so, and how to go on.
    signal(&driver, nix::sys::signal::Signal::SIGKILL);
    driver.ended();
    for screen in [&first, &second] {
        screen.until("that the driver is gone", |text| text.contains("DRIVER GONE") && text.contains("howdah resume"));
    }
    // Another takes over: both follow it to the end.
    let mut heir = lab.howdah(&["resume", "--headless"]).start();
    for screen in [&first, &second] {
        screen.until("the run again", |text| text.contains("RUNNING") && !text.contains("DRIVER GONE"));
    }
    heir.ended().await;
    for screen in [&first, &second] {
        screen.until_shown("DONE: every step is done and checked");
    }
    for mut screen in [first, second] {
        screen.press("q");
        assert_eq!(screen.ended().exit_code(), 0);
        screen.expect_restored();
    }
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_console_leaves_the_run_alone_when_it_is_left_or_killed() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(200).await;
    for (way, keys) in [("q", "q"), ("ctrl-c", "\x03")] {
        let mut console = Screen::open(&lab, &["attach"], &[]);
        console.until_shown("RUNNING");
        console.press(keys);
        assert_eq!(console.ended().exit_code(), 0, "{way}");
        console.expect_restored();
        assert!(console.text().contains("howdah attach"), "{way}: {}", console.text());
    }
    for number in
        [nix::sys::signal::Signal::SIGHUP, nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL]
    {
        let mut console = Screen::open(&lab, &["attach"], &[]);
        console.until_shown("RUNNING");
        signal(&console, number);
        console.ended();
    }
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "running");
    assert_eq!(lab.number("SELECT count(*) FROM howdah.command").await, 0, "nobody asked for anything");
    driver.signal(nix::sys::signal::Signal::SIGTERM);
    driver.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_driver_is_resumed_from_an_attached_console_that_then_drives_it() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(200).await;
    let mut console = Screen::open(&lab, &["attach"], &[]);
    console.until_running();
    driver.kill_hard();
    console.until_shown("DRIVER GONE");
    console.press("r");
    console.until("the run again", |text| text.contains("RUNNING") && !text.contains("attached"));
    // The first key that is pressed is heard: the console before it reads no more.
    console.press(" ");
    console.until_shown("PAUSED");
    let pid = console.child.process_id().map(i64::from);
    assert_eq!(Some(lab.number("SELECT driver_pid::int8 FROM howdah.run").await), pid, "this process drives it now");
    console.press(" ");
    console.until_shown("DONE: every step is done and checked");
    // Taken back is what keeps no old values: it says so, on the normal screen.
    console.press("U");
    console.until("the question", |text| text.contains("take run") && text.contains("back?"));
    console.press("y");
    // The run itself has ended well, and its report is not lost.
    assert_eq!(console.ended().exit_code(), 0);
    let said = console.text();
    assert!(said.contains("cannot be taken back") && said.contains("60,000"), "{said}");
    console.expect_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_run_is_not_shown_as_one_at_work_and_an_older_ledger_says_what_to_do() {
    let lab = Lab::open().await;
    let plan = items(&lab, 30_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(200).await;
    let old = lab.run_id().await;
    driver.kill_hard();
    lab.until_undriven().await;
    let mut console = Screen::open(&lab, &["attach", &old], &[]);
    console.until_shown("DRIVER GONE");
    let mut newer = lab.howdah(&["run", &plan, "--new", "--headless"]).start();
    console.until("what became of it", |text| text.contains("a newer run of this plan has taken its place"));
    console.press("q");
    assert_eq!(console.ended().exit_code(), 1);
    newer.signal(nix::sys::signal::Signal::SIGTERM);
    newer.ended().await;
    lab.howdah(&["pause", &old]).run().expect_code(1).expect_words(&["superseded already"]);

    let mut dumb = Screen::open(&lab, &["attach"], &[("TERM", "dumb")]);
    assert_eq!(dumb.ended().exit_code(), 2);
    assert!(dumb.text().contains("no terminal here that can show a console"), "{}", dumb.text());
    lab.sql("DELETE FROM howdah.version WHERE version > 3").await;
    lab.howdah(&["pause"]).run().expect_code(2).expect_words(&["schema howdah is at version 3", "howdah status"]);
}
