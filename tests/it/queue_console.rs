//! The view of the queue in a real terminal, on a real Redis.

use howdah::sandbox::redis::RedisServer;

use crate::screen::{Screen, items, signal};
use crate::support::Lab;

fn redis() -> RedisServer {
    RedisServer::start(&["--appendonly", "yes"]).expect("a Redis")
}

/// `howdah console`, which finds its Redis in the environment.
fn console(lab: &Lab, redis: &RedisServer, arguments: &[&str]) -> Screen {
    let mut all = vec!["console"];
    all.extend_from_slice(arguments);
    let url = redis.url();
    Screen::open(lab, &all, &[("HOWDAH_REDIS", url.as_str())])
}

/// Types a command.
fn command(screen: &mut Screen, line: &str) {
    screen.press(&format!(":{line}\r"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_watched_and_steered_without_a_run() {
    let lab = Lab::open().await;
    let redis = redis();
    let plan = items(&lab, 10).await;
    let mut screen = console(&lab, &redis, &[]);
    screen.until_shown("no job: `howdah enqueue PLAN`");
    screen.until_shown("0 waiting");
    command(&mut screen, &format!("enqueue {plan}"));
    screen.until_shown("`watched` is job 1");
    let listed = screen.until_shown("1 waiting");
    assert!(listed.lines().any(|line| line.contains("waiting") && line.contains("watched")), "{listed}");
    assert!(!screen.text().contains("sandbox-secret"));

    screen.press("H");
    screen.until_shown("PAUSED");
    screen.press("H");
    screen.until("the queue goes on", |text| !text.contains("PAUSED"));

    screen.press(" ");
    screen.until_shown("no run is shown here");
    screen.press("1");
    screen.until_shown("No run is shown here");
    screen.press("7");

    screen.until_shown("1 waiting");
    screen.press("jR");
    screen.until_shown("only one that has failed is tried again");
    screen.press("D");
    screen.until_shown("remove job 1 (watched)?");
    screen.press("y");
    screen.until_shown("job 1 is forgotten");
    screen.until_shown("0 waiting");

    command(&mut screen, &format!("enqueue {plan}"));
    command(&mut screen, &format!("enqueue {plan}"));
    screen.until_shown("2 waiting");
    command(&mut screen, "drain");
    screen.until_shown("forget the 2 jobs that wait?");
    screen.press("y");
    screen.until_shown("0 waiting");
    command(&mut screen, "enqueue nothing.toml");
    screen.until_shown("refused: enqueue nothing.toml");

    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);
    screen.expect_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_is_said_and_comes_back_by_itself() {
    let lab = Lab::open().await;
    let mut redis = redis();
    let plan = items(&lab, 10).await;
    let mut screen = console(&lab, &redis, &[]);
    screen.until_shown("0 waiting");
    command(&mut screen, &format!("enqueue {plan}"));
    screen.until_shown("1 waiting");
    redis.kill();
    let silent = screen.until_shown("not read since");
    assert!(silent.contains("watched"), "what was read last stays in sight:\n{silent}");
    screen.press("H");
    screen.until_shown("refused: pause the queue");
    redis.restart().expect("it starts again");
    screen.until("it is read again", |text| !text.contains("not read since") && text.contains("0 active"));
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_watches_asks_nothing_and_nobody_has_to_have_a_redis() {
    let lab = Lab::open().await;
    let redis = redis();
    let plan = items(&lab, 10).await;
    let mut screen = console(&lab, &redis, &["--read-only"]);
    screen.until_shown("0 waiting");
    command(&mut screen, &format!("enqueue {plan}"));
    screen.until_shown("it was opened with --read-only");
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);

    let mut without = Screen::open(&lab, &["console"], &[]);
    without.until_shown("None is named here");
    without.press("H");
    without.until_shown("whether it is paused is not known");
    without.press("q");
    assert_eq!(without.ended().exit_code(), 0);

    let mut misnamed = Screen::open(&lab, &["run", &plan], &[("REDIS_URL", "http://x")]);
    misnamed.until_shown("DONE");
    misnamed.press("7");
    misnamed.until_shown("REDIS_URL is not the address of a Redis");
    misnamed.press("q");
    assert_eq!(misnamed.ended().exit_code(), 0, "a run needs no Redis");
}

/// Says in the queue that job 1 is this run, as a worker does with its progress.
async fn tell_run(redis: &RedisServer, run: &str) {
    let client = redis::Client::open(redis.url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let progress = format!(r#"{{"run":"{run}","percent":40}}"#);
    let mut command = redis::cmd("HSET");
    let told = command.arg("howdah:howdah:1").arg("progress").arg(progress).query_async(&mut connection).await;
    let _: u64 = told.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_job_is_attached_to_and_left_for_the_queue_again() {
    let lab = Lab::open().await;
    let redis = redis();
    let plan = items(&lab, 6_000).await;
    let mut driver = Screen::open(&lab, &["run", &plan], &[]);
    driver.until_running();
    driver.press(" ");
    driver.until_shown("‖ PAUSED");
    let run = lab.text("SELECT right(replace(id::text, '-', ''), 8) FROM howdah.run").await;

    let mut screen = console(&lab, &redis, &[]);
    screen.until_shown("0 waiting");
    command(&mut screen, &format!("enqueue {plan}"));
    screen.until_shown("1 waiting");
    screen.press("ja");
    screen.until_shown("job 1 has no run yet");
    tell_run(&redis, &run).await;
    screen.until_shown(&run);
    screen.press("a");
    screen.until("the run's console", |text| text.contains("‖ PAUSED") && text.contains("attached"));
    // The queue is at hand there as well, and this run is the one that is shown.
    screen.press("7");
    screen.until_shown("1 waiting");
    screen.press("ja");
    screen.until("the overview", |text| text.contains("‖ PAUSED") && text.contains("Checkpoints"));
    screen.press("q");
    screen.until("the queue again", |text| text.contains("1 waiting") && text.contains("no run"));

    // A run that is not there leads back, and says why.
    tell_run(&redis, "00000000").await;
    screen.until_shown("00000000");
    screen.press("ja");
    screen.until_shown("run 00000000: ");
    screen.until_shown("1 waiting");
    tell_run(&redis, &run).await;
    screen.until_shown(&run);
    screen.press("ja");
    screen.until_shown("attached");
    // Whoever wants an end does not want the queue.
    signal(&screen, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(screen.ended().exit_code(), 0);
    screen.expect_restored();

    let url = redis.url();
    let environment = [("HOWDAH_REDIS", url.as_str()), ("DATABASE_URL", "")];
    let mut lost = Screen::open(&lab, &["console"], &environment);
    lost.until_shown(&run);
    lost.press("ja");
    lost.until_shown("this console was given no database");
    lost.press("q");
    assert_eq!(lost.ended().exit_code(), 0);

    driver.press(" ");
    driver.until_shown("DONE");
    driver.press("q");
    assert_eq!(driver.ended().exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_seen_waiting_at_work_and_completed() {
    let lab = Lab::open().await;
    let redis = redis();
    let plan = items(&lab, 6_000).await;
    let url = redis.url();
    let howdah = |arguments: &[&str]| lab.howdah(arguments).env("HOWDAH_REDIS", &url);
    howdah(&["enqueue", &plan, "--priority", "7"]).run().expect_code(0);
    let mut screen = console(&lab, &redis, &[]);
    let waiting = screen.until_shown("1 waiting");
    let job = waiting.lines().find(|line| line.contains("watched")).expect("the job");
    assert!(job.contains("· waiting") && job.contains(" 7 ") && job.contains("0/3"), "{job}");
    assert!(waiting.contains("no worker") && waiting.contains("nobody takes jobs"), "{waiting}");
    screen.press("j");

    let mut worker = howdah(&["worker", "--lock", "2s"]).start();
    worker.until_said("takes jobs").await;
    screen.until("it is at work, and how far", |text| {
        let job = text.lines().find(|line| line.contains("▶ active")).unwrap_or_default();
        job.contains('%') && !job.contains(" 0%") && text.contains("1 worker")
    });
    let run = lab.text("SELECT right(replace(id::text, '-', ''), 8) FROM howdah.run").await;
    screen.until_shown(&run);
    let done = screen.until_shown("✓ completed");
    assert!(done.contains(">✓ completed"), "what was selected stays selected:\n{done}");
    screen.until_shown("1 completed");
    screen.press("\r");
    screen.until("all of it", |text| text.contains("Job 1") && text.contains("6,000 rows changed"));
    screen.press("\x1b");
    screen.until("no box", |text| !text.contains("asked by"));
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    worker.wait().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_shows_its_reason_and_is_tried_again() {
    let lab = Lab::open().await;
    let redis = redis();
    let url = redis.url();
    let howdah = |arguments: &[&str]| lab.howdah(arguments).env("HOWDAH_REDIS", &url);
    lab.sql("CREATE TABLE notes (said text CHECK (said <> 'never'))").await;
    let text = "name = \"note it\"\n[[step]]\nname = \"note\"\nstatement = \"INSERT INTO notes VALUES ('never')\"\n";
    let plan = lab.plan("note.toml", text);
    howdah(&["enqueue", plan.to_str().expect("a path"), "--attempts", "1"]).run().expect_code(0);
    howdah(&["worker", "--once"]).run().expect_code(1);
    let mut screen = console(&lab, &redis, &[]);
    let failed = screen.until_shown("1 failed");
    assert!(failed.contains("✗ failed") && failed.contains("1/1"), "{failed}");
    screen.press("\r");
    screen.until("the whole reason", |text| text.contains("why it failed") && text.contains("notes_said_check"));
    screen.press("\x1b");
    screen.until("no box", |text| !text.contains("why it failed"));
    lab.sql("ALTER TABLE notes DROP CONSTRAINT notes_said_check").await;
    screen.press("R");
    screen.until_shown("job 1 waits again");
    screen.until_shown("1 waiting");
    howdah(&["worker", "--once"]).run().expect_code(0);
    screen.until_shown("1 completed");
    screen.press("q");
    assert_eq!(screen.ended().exit_code(), 0);
    assert_eq!(lab.number("SELECT count(*) FROM notes").await, 1);
}
