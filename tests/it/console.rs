//! The console in a real terminal, on a real run.

use portable_pty::CommandBuilder;

use crate::screen::{PLAN, Screen, items, signal};
use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_watches_pauses_continues_and_sees_it_done() {
    let lab = Lab::open().await;
    let plan = items(&lab, 6_000).await;
    let mut screen = Screen::open(&lab, &["run", &plan], &[]);
    screen.until_shown("● RUNNING");
    let first = screen.until("rows walked", |text| text.contains("/ ~6,000 rows") && !text.contains(" 0 / ~"));
    assert!(first.contains("step 1/2 count up") && first.contains("items") && first.contains("postgres@"), "{first}");
    screen.press(" ");
    screen.until_shown("‖ PAUSED");
    let still = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    assert!(still > 0 && still < 6_000, "{still}");
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "paused");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%' AND state LIKE 'idle in transaction%'";
    // Two heartbeats long nothing moves.
    lab.until("SELECT now() - heartbeat < '100 ms' FROM howdah.run").await;
    lab.until("SELECT now() - heartbeat > '1 s' FROM howdah.run").await;
    lab.until("SELECT now() - heartbeat < '100 ms' FROM howdah.run").await;
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n = 1").await, still);
    assert_eq!(lab.number(open).await, 0, "no transaction stands open in a pause");
    screen.press("?");
    screen.until("the keys", |text| text.contains("pause at the batch's edge"));
    screen.press("\x1b");
    screen.until("no box", |text| !text.contains("pause at the batch's edge"));
    screen.press(" ");
    screen.until_shown("● RUNNING");
    let done = screen.until_shown("DONE: every step is done and checked");
    assert!(done.contains("6,000 rows changed") && done.contains("100.0%"), "{done}");
    screen.press("q");
    let status = screen.ended();
    assert_eq!(status.exit_code(), 0);
    screen.expect_restored();
    assert!(screen.text().contains("6,000"), "the report stays on the normal screen:\n{}", screen.text());
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_out_restores_the_terminal_and_leaves_a_run_that_goes_on() {
    let lab = Lab::open().await;
    let plan = items(&lab, 10_000).await;
    let running = |screen: &Screen| {
        screen.until_running();
    };

    // The quit dialogue: stay, then pause and quit.
    let mut screen = Screen::open(&lab, &["run", &plan], &[]);
    running(&screen);
    screen.press("q");
    screen.until("the choices", |text| {
        text.to_lowercase().contains("keep running") || text.to_lowercase().contains("without a console")
    });
    screen.press("\x1b");
    screen.until("no box", |text| !text.to_lowercase().contains("without a console"));
    screen.press("\x03");
    screen.until("the choices again", |text| text.to_lowercase().contains("without a console"));
    screen.press("\x03");
    assert_eq!(screen.ended().exit_code(), 3);
    screen.expect_restored();
    assert!(screen.text().contains("howdah resume"), "{}", screen.text());
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "stopped");

    // SIGTERM.
    let mut screen = Screen::open(&lab, &["resume"], &[]);
    running(&screen);
    signal(&screen, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(screen.ended().exit_code(), 3);
    screen.expect_restored();

    // A panic of the engine: the console tells it, and leaves with code 1.
    let mut screen = Screen::open(&lab, &["resume"], &[("HOWDAH_FAILPOINTS", "batch.recorded=panic@30")]);
    screen.until_shown("howdah itself failed");
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 1);
    screen.expect_restored();

    // A run that cannot begin leaves the console by itself, and says why on the normal screen.
    let mut screen = Screen::open(&lab, &["resume", "--database", "postgres://u@127.0.0.1:1/x"], &[]);
    assert_eq!(screen.ended().exit_code(), 1);
    screen.expect_restored();
    assert!(screen.text().contains("connection refused"), "{}", screen.text());

    // The terminal goes away: the run goes on to its end without it.
    let mut screen = Screen::open(&lab, &["resume"], &[]);
    running(&screen);
    signal(&screen, nix::sys::signal::Signal::SIGHUP);
    assert_eq!(screen.ended().exit_code(), 0);
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "done");
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_z_pauses_and_stops_and_fg_goes_on() {
    let lab = Lab::open().await;
    let plan = items(&lab, 6_000).await;
    // Under a shell with job control, as a person has it.
    let mut command = CommandBuilder::new("/bin/bash");
    command.args(["--norc", "--noprofile", "-i"]);
    command.env_clear();
    for (name, value) in [
        ("HOME", lab.files.path().to_str().expect("a path")),
        ("LANG", "C.UTF-8"),
        ("TERM", "xterm-256color"),
        ("DATABASE_URL", &lab.url),
        ("PS1", "shell> "),
        ("PATH", "/usr/bin:/bin"),
    ] {
        command.env(name, value);
    }
    let mut screen = Screen::spawn(command);
    screen.until_shown("shell> ");
    screen.press(&format!("{} run {plan}\n", env!("CARGO_BIN_EXE_howdah")));
    screen.until_running();
    screen.press("\x1a");
    screen.until_shown("Stopped");
    screen.expect_normal_screen();
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "paused");
    assert_eq!(lab.number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%' AND state LIKE 'idle in transaction%'").await, 0);
    screen.press("fg\n");
    screen.until_shown("DONE: every step is done and checked");
    screen.press("q");
    screen.until("the shell", |text| text.contains("6,000") && text.trim_end().ends_with("shell>"));
    screen.expect_normal_screen();
    screen.press("exit\n");
    screen.ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_colour_and_without_utf8_the_console_still_tells_everything() {
    let lab = Lab::open().await;
    let plan = items(&lab, 500).await;
    let mut screen = Screen::open(&lab, &["run", &plan], &[("NO_COLOR", "1"), ("LANG", "C")]);
    let done = screen.until_shown("DONE: every step is done and checked");
    assert!(done.is_ascii(), "{done}");
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);
    screen.expect_restored();
    let seen = screen.seen.lock().expect("seen");
    let text = String::from_utf8_lossy(&seen.bytes).into_owned();
    for sgr in text.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).map(|(codes, _)| codes) {
        if !sgr.chars().all(|c| c.is_ascii_digit() || c == ';') {
            continue;
        }
        let colour = |code: &str| {
            code.parse::<u32>()
                .is_ok_and(|n| (30..=38).contains(&n) || (40..=48).contains(&n) || (90..=107).contains(&n))
        };
        assert!(!sgr.split(';').any(colour), "a colour in `{sgr}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_terminal_does_what_the_plan_says() {
    let lab = Lab::open().await;
    items(&lab, 20_000).await;
    let plan = |wanted: &str| {
        let text = format!("on_hangup = \"{wanted}\"\n{PLAN}");
        lab.plan(&format!("{wanted}.toml"), &text).to_str().expect("a path").to_owned()
    };
    // "pause": it stands still, without its terminal, until somebody attaches.
    let mut screen = Screen::open(&lab, &["run", &plan("pause")], &[]);
    screen.until_running();
    signal(&screen, nix::sys::signal::Signal::SIGHUP);
    lab.until("SELECT state = 'paused' FROM howdah.run").await;
    assert_eq!(lab.text("SELECT detail ->> 'by' FROM howdah.run").await, "hang_up");
    let mut console = Screen::open(&lab, &["attach"], &[]);
    console.until("who paused it", |text| text.contains("PAUSED") && text.contains("the loss of the terminal"));
    console.press(" ");
    console.until_shown("RUNNING");
    lab.howdah(&["stop", "--wait"]).run().expect_code(0);
    assert_eq!(screen.ended().exit_code(), 3);
    console.until_shown("STOPPED");
    console.press("q");
    assert_eq!(console.ended().exit_code(), 3);

    // "stop": it ends at the batch's edge, resumable.
    let mut screen = Screen::open(&lab, &["run", &plan("stop"), "--new"], &[]);
    screen.until_running();
    signal(&screen, nix::sys::signal::Signal::SIGHUP);
    assert_eq!(screen.ended().exit_code(), 3);
    assert_eq!(lab.text("SELECT state FROM howdah.run ORDER BY created_at DESC LIMIT 1").await, "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_resizes_leaves_a_whole_screen_and_a_run_at_work() {
    let lab = Lab::open().await;
    let plan = items(&lab, 20_000).await;
    let mut screen = Screen::open(&lab, &["run", &plan], &[]);
    screen.until_running();
    let walked = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    for round in 0..200_u16 {
        screen.resize(1 + round * 7 % 60, 1 + round * 13 % 200);
    }
    screen.resize(24, 80);
    screen.until("a screen of 80x24", |text| {
        let lines: Vec<&str> = text.lines().collect();
        lines.len() == 24 && lines[0].contains("RUNNING") && lines[23].contains("help")
    });
    lab.until(&format!("SELECT count(*) > {walked} FROM items WHERE n = 1")).await;
    screen.press("\x03");
    screen.until("the choices", |text| text.to_lowercase().contains("without a console"));
    screen.press("\x03");
    assert_eq!(screen.ended().exit_code(), 3);
    screen.expect_restored();
}
