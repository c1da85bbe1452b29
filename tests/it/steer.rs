//! A run is steered from a command line, and driven in the background.

use std::time::{Duration, Instant};

use crate::screen::items;
use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_paused_slowed_continued_and_stopped_by_commands_that_wait_for_its_answer() {
    let lab = Lab::open().await;
    let plan = items(&lab, 40_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(200).await;

    let paused = lab.howdah(&["pause", "--wait"]).run().expect_code(0);
    assert!(paused.stdout().contains("is paused"), "{}", paused.stdout());
    let still = lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    lab.howdah(&["set", "workers=3", "target=250ms"])
        .run()
        .expect_code(0)
        .expect_words(&["set workers=3: at most 3 workers now", "set target=250ms: batches aim at 250ms now"]);
    let again = lab.howdah(&["pause"]).run().expect_code(1);
    assert!(again.stderr().contains("pause: a run that is paused cannot take"), "{}", again.stderr());
    lab.howdah(&["set", "workers=999"]).run().expect_code(1).expect_words(&["database.pool.max"]);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n = 1").await, still, "it stands still");
    lab.howdah(&["continue", &lab.run_id().await]).run().expect_code(0).expect_words(&["continue: going on"]);
    lab.until(&format!("SELECT count(*) > {still} FROM items WHERE n = 1")).await;
    lab.howdah(&["stop", "--wait"]).run().expect_code(0).expect_words(&["is stopped"]);
    driver.ended().await;
    assert_eq!(driver.wait().code(), Some(3));

    let record = "SELECT string_agg(words || '|' || via || '|' || state, ', ' ORDER BY id) FROM howdah.command";
    assert_eq!(
        lab.text(record).await,
        "pause|script|taken, set workers=3|script|taken, set target=250ms|script|taken, pause|script|refused, \
         set workers=999|script|refused, continue|script|taken, stop|script|taken"
    );
    let whole = "SELECT bool_and(who LIKE '%@%' AND role <> '' AND client = 'local' AND applied_at >= asked_at) \
                 FROM howdah.command";
    assert_eq!(lab.text(&format!("SELECT ({whole})::text")).await, "true");

    // Nobody is there to answer.
    let late = lab.howdah(&["pause"]).run().expect_code(1);
    assert!(late.stderr().contains("is stopped already"), "{}", late.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_to_a_run_whose_driver_was_killed_says_so_and_how_to_go_on() {
    let lab = Lab::open().await;
    let plan = items(&lab, 20_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(100).await;
    driver.kill_hard();
    lab.until_undriven().await;
    lab.howdah(&["pause"]).run().expect_code(1).expect_words(&["nobody drives run", "howdah resume"]);
    lab.howdah(&["set", "workers"]).run().expect_code(2).expect_words(&["is not a run"]);
    lab.howdah(&["set", "speed=3"]).run().expect_code(2).expect_words(&["no setting `speed`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_run_goes_on_without_whoever_started_it_and_is_steered_from_elsewhere() {
    let lab = Lab::open().await;
    let plan = items(&lab, 20_000).await;
    // Without a terminal: it says where the run is, and ends.
    lab.howdah(&["run", &plan, "--detach"]).run().expect_code(0).expect_words(&["in the background", "howdah attach"]);
    lab.until_walked(100).await;
    let pid = lab.number("SELECT driver_pid::int8 FROM howdah.run").await;
    let session = |pid: i64| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the driver lives");
        let fields: Vec<String> =
            stat.rsplit(')').next().expect("fields").split_whitespace().map(str::to_owned).collect();
        fields[3].clone()
    };
    assert_eq!(session(pid), pid.to_string(), "a session of its own");
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).expect("the driver lives");
    assert!(!String::from_utf8_lossy(&arguments).contains("postgres://"), "no address among the arguments");
    lab.howdah(&["stop", "--wait"]).run().expect_code(0).expect_words(&["is stopped"]);
    lab.until_undriven().await;

    lab.howdah(&["resume", "--detach"]).run().expect_code(0).expect_words(&["in the background"]);
    lab.until("SELECT state = 'done' FROM howdah.run").await;
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);

    // What does not begin says why, as if it had not been detached.
    let wrong = lab.plan("wrong.toml", "[[step]]\nname = \"a\"\nbackfill = \"nothing_here\"\nset = { a = \"1\" }\n");
    let wrong = wrong.to_str().expect("a path").to_owned();
    lab.howdah(&["run", &wrong, "--detach"]).run().expect_code(2).expect_words(&["nothing_here"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_takes_effect_at_once_and_the_snapshot_row_stays_small() {
    let lab = Lab::open().await;
    let plan = items(&lab, 60_000).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(200).await;
    lab.until("SELECT EXISTS (SELECT FROM howdah.snapshot)").await;
    // Not a measurement, which the bench does: only that nobody waits for a poll of seconds.
    let began = Instant::now();
    lab.howdah(&["pause"]).run().expect_code(0);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    lab.until("SELECT snapshot::jsonb #>> '{snapshot,state,state}' = 'paused' FROM howdah.snapshot").await;
    assert_eq!(lab.number("SELECT count(*) FROM howdah.snapshot").await, 1);
    let size = lab.number("SELECT length(snapshot)::int8 FROM howdah.snapshot").await;
    assert!(size < 32_768, "{size} bytes");
    assert_eq!(
        lab.text("SELECT relpersistence::text FROM pg_class WHERE oid = 'howdah.snapshot'::regclass").await,
        "u"
    );
    driver.signal(nix::sys::signal::Signal::SIGTERM);
    driver.ended().await;
}
