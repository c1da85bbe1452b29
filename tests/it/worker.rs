//! Workers of a queue: what becomes of a job when workers, Redis, the plan or howdah itself fail.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::queue::{Redis, note};
use crate::support::{DEADLINE, Lab, Running};

/// A change that is not idempotent, in small batches, with a rest between any two.
pub fn credit(name: &str, table: &str) -> String {
    format!(
        r#"
name = "{name}"
[limits]
workers = 2
batch = {{ start = 50, min = 50, max = 50, target = "500ms" }}
[[step]]
name = "balances"
backfill = "{table}"
set = {{ balance = "balance + 1" }}
"#
    )
}

pub async fn accounts(lab: &Lab, table: &str, rows: u32) {
    lab.sql(&format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO {table} SELECT i * 7, i * 1000 FROM generate_series(1, {rows}) AS i;
         ANALYZE {table}"
    ))
    .await;
}

/// Every batch takes a moment, so that a fast machine does not finish before it is looked at.
async fn slowed(lab: &Lab, table: &str) {
    lab.sql(&format!(
        "CREATE FUNCTION slow_{table}() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END';
         CREATE TRIGGER slow AFTER UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION slow_{table}()"
    ))
    .await;
}

pub async fn expect_each_row_once(lab: &Lab, table: &str, rows: u32) {
    let wrong = lab.number(&format!("SELECT count(*) FROM {table} WHERE balance <> id / 7 * 1000 + 1")).await;
    let all = lab.number(&format!("SELECT count(*) FROM {table}")).await;
    assert_eq!((wrong, all), (0, i64::from(rows)), "rows of {table} that were not changed once, and all");
}

/// Waits until a job stands like this.
pub async fn until_state(redis: &Redis, lab: &Lab, id: &str, state: &str) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let job = redis.job(lab, id);
        if job["state"] == state {
            return job;
        }
        assert!(Instant::now() < end, "job {id} never became {state}: {job:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A worker whose jobs are given out again soon.
fn worker(redis: &Redis, lab: &Lab) -> Running {
    redis.howdah(lab, &["worker", "--lock", "2s"]).start()
}

#[tokio::test]
async fn a_job_of_a_worker_that_was_killed_is_taken_up_by_another_which_resumes_its_run() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 6000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    let mut first = worker(&redis, &lab);
    lab.until_walked(600).await;
    first.kill_hard();
    let mut second = worker(&redis, &lab);
    second.until_said("goes on").await;
    let job = until_state(&redis, &lab, &id, "completed").await;
    expect_each_row_once(&lab, "accounts", 6000).await;
    assert_eq!(lab.number("SELECT count(*) FROM howdah.run").await, 1);
    assert_eq!((&job["attempts"], job["run"].as_str()), (&Value::from(0), Some(lab.run_id().await.as_str())));
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_hands_its_job_back_at_once_and_another_goes_on() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 6000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    let first = redis.howdah(&lab, &["worker"]).start();
    lab.until_walked(600).await;
    first.signal(Signal::SIGTERM);
    first.wait().expect_code(3).expect_words(&["handed back", "worker ends: 0 done, 1 handed back"]);
    let job = redis.job(&lab, &id);
    assert_eq!((&job["state"], &job["attempts"]), (&Value::from("waiting"), &Value::from(0)));
    redis.run(&lab, &["worker", "--once"]).expect_code(0).expect_words(&["goes on", "1 done"]);
    expect_each_row_once(&lab, "accounts", 6000).await;
    // Nobody waits: an idle worker ends at once, and well.
    let mut idle = redis.howdah(&lab, &["worker"]).start();
    idle.until_said("takes jobs").await;
    idle.signal(Signal::SIGTERM);
    idle.wait().expect_code(0);
}

#[tokio::test]
async fn a_run_that_fails_is_tried_again_and_then_given_up_with_its_reason() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    lab.sql("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, said text)").await;
    lab.sql("ALTER TABLE notes ADD CHECK (said <> 'never')").await;
    let plan = lab.plan("never.toml", &note("never"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path"), "--attempts", "2", "--backoff", "fixed:100ms"]);
    let mut worker = redis.howdah(&lab, &["worker"]).start();
    worker.until_said("attempt 1 of 2 failed").await;
    let job = until_state(&redis, &lab, &id, "failed").await;
    assert!(job["says"].as_str().is_some_and(|says| says.contains("check constraint")), "{job:#}");
    redis.run(&lab, &["queue", "--state", "failed"]).expect_code(0).expect_words(&["check constraint", "2/2"]);
    // Once it is mended, the same run goes on.
    lab.sql("ALTER TABLE notes DROP CONSTRAINT notes_said_check").await;
    redis.run(&lab, &["queue", "retry", "--all"]).expect_code(0).expect_words(&["waits again"]);
    until_state(&redis, &lab, &id, "completed").await;
    assert_eq!(lab.number("SELECT count(*) FROM howdah.run").await, 1);
}

#[tokio::test]
async fn a_plan_that_is_wrong_is_given_up_at_once() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    let plan = lab.plan("wrong.toml", &credit("wrong", "nowhere"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    redis.run(&lab, &["worker", "--once"]).expect_code(1).expect_words(&["failed for good", "nowhere", "1 failed"]);
    assert_eq!(redis.job(&lab, &id)["state"], "failed");
    // What another producer has put there is no better.
    let mut connection = redis.connection();
    let () = redis::pipe()
        .cmd("HSET")
        .arg("howdah:howdah:odd")
        .arg("name")
        .arg("odd")
        .arg("data")
        .arg("{\"sql\":1}")
        .arg("opts")
        .arg("{}")
        .cmd("LPUSH")
        .arg("howdah:howdah:wait")
        .arg("odd")
        .query(&mut connection)
        .expect("a job of somebody's");
    redis.run(&lab, &["worker", "--once"]).expect_code(1).expect_words(&["unknown field `sql`"]);
    assert_eq!(redis.job(&lab, "odd")["state"], "failed");
}

#[tokio::test]
async fn a_panic_leaves_no_job_at_work() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 500).await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let plan = plan.to_str().expect("a path");
    let id = redis.enqueue(&lab, &[plan, "--backoff", "fixed:10ms"]);
    let armed = redis.howdah(&lab, &["worker"]).env("HOWDAH_FAILPOINTS", "job.taken=panic;batch.committed=panic@3");
    let mut worker = armed.start();
    worker.until_said("attempt 1 of 3 failed").await;
    worker.until_said("attempt 2 of 3 failed").await;
    until_state(&redis, &lab, &id, "completed").await;
    expect_each_row_once(&lab, "accounts", 500).await;
}

#[tokio::test]
async fn a_run_that_an_operator_stops_is_not_tried_again_by_itself() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 6000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    let mut worker = redis.howdah(&lab, &["worker"]).start();
    lab.until_walked(300).await;
    lab.howdah(&["pause", "--wait"]).run().expect_code(0);
    redis.run(&lab, &["queue", "remove", &id]).expect_code(2).expect_words(&["at work"]);
    lab.howdah(&["stop", "--wait"]).run().expect_code(0);
    worker.until_said(&format!("howdah queue retry {id}")).await;
    let job = until_state(&redis, &lab, &id, "failed").await;
    assert!(job["says"].as_str().is_some_and(|says| says.contains("was stopped by")), "{job:#}");
    redis.run(&lab, &["queue", "retry", &id]).expect_code(0);
    until_state(&redis, &lab, &id, "completed").await;
    expect_each_row_once(&lab, "accounts", 6000).await;
}

#[tokio::test]
async fn a_job_whose_run_somebody_else_drives_waits_without_using_an_attempt() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 6000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let plan = plan.to_str().expect("a path");
    let mut other = lab.howdah(&["run", plan, "--headless"]).start();
    lab.until_walked(300).await;
    let id = redis.enqueue(&lab, &[plan, "--attempts", "1"]);
    let mut worker = redis.howdah(&lab, &["worker"]).start();
    worker.until_said("waits: run ").await;
    let job = until_state(&redis, &lab, &id, "delayed").await;
    assert_eq!(job["attempts"], 0);
    assert!(job["says"].as_str().is_some_and(|says| says.contains("is being driven by process")), "{job:#}");
    other.ended().await;
    until_state(&redis, &lab, &id, "completed").await;
    // Both ran: one after the other.
    let wrong = lab.number("SELECT count(*) FROM accounts WHERE balance <> id / 7 * 1000 + 2").await;
    assert_eq!(wrong, 0);
}

#[tokio::test]
async fn two_jobs_on_one_table_are_never_at_work_at_once() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 3000).await;
    slowed(&lab, "accounts").await;
    let mut jobs = Vec::new();
    for name in ["credit", "debit"] {
        let plan = lab.plan(&format!("{name}.toml"), &credit(name, "accounts"));
        jobs.push(redis.enqueue(&lab, &[plan.to_str().expect("a path"), "--attempts", "1"]));
    }
    let mut worker = redis.howdah(&lab, &["worker", "--concurrency", "2"]).start();
    worker.until_said("waits: run ").await;
    for id in &jobs {
        until_state(&redis, &lab, id, "completed").await;
    }
    let together = lab
        .number(
            "SELECT count(*) FROM howdah.run a JOIN howdah.run b ON a.id < b.id
             WHERE a.created_at < b.finished_at AND b.created_at < a.finished_at",
        )
        .await;
    assert_eq!(together, 0);
    let wrong = lab.number("SELECT count(*) FROM accounts WHERE balance <> id / 7 * 1000 + 2").await;
    assert_eq!(wrong, 0);
}

#[tokio::test]
async fn a_worker_whose_redis_stands_still_for_longer_than_its_lock_loses_no_row_and_doubles_none() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    accounts(&lab, "accounts", 6000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let id = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    let workers = [worker(&redis, &lab), worker(&redis, &lab)];
    lab.until_walked(300).await;
    let pid: String = redis::cmd("INFO").arg("server").query(&mut redis.connection()).expect("an answer");
    let pid =
        pid.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a pid").trim().parse().expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, Signal::SIGSTOP).expect("a signal");
    tokio::time::sleep(Duration::from_secs(3)).await;
    nix::sys::signal::kill(pid, Signal::SIGCONT).expect("a signal");
    until_state(&redis, &lab, &id, "completed").await;
    expect_each_row_once(&lab, "accounts", 6000).await;
    assert_eq!(lab.number("SELECT count(*) FROM howdah.run").await, 1);
    drop(workers);
}

/// Redis is killed under a run, stays away for a while, and comes back.
async fn outlives_redis(settings: &[&str], forgets: bool) {
    let (lab, mut redis) = (Lab::open().await, Redis::with(settings));
    accounts(&lab, "accounts", 8000).await;
    slowed(&lab, "accounts").await;
    let plan = lab.plan("credit.toml", &credit("credit", "accounts"));
    let plan = plan.to_str().expect("a path");
    let id = redis.enqueue(&lab, &[plan]);
    let mut worker = worker(&redis, &lab);
    lab.until_walked(300).await;
    redis.server.kill();
    worker.until_said("the run goes on").await;
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    lab.until_walked(walked + 500).await;
    redis.server.restart().expect("it comes back");
    if forgets {
        worker.until_said("knows this job no more").await;
        worker.until_said("is done: ").await;
    } else {
        until_state(&redis, &lab, &id, "completed").await;
    }
    expect_each_row_once(&lab, "accounts", 8000).await;
    assert_eq!(lab.number("SELECT count(*) FROM howdah.run").await, 1);
    // The worker is as good as new.
    lab.sql("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, said text)").await;
    let plan = lab.plan("next.toml", &note("next"));
    let next = redis.enqueue(&lab, &[plan.to_str().expect("a path")]);
    until_state(&redis, &lab, &next, "completed").await;
}

#[tokio::test]
async fn a_run_outlives_a_redis_that_is_killed_and_its_job_is_completed_once_it_is_back() {
    outlives_redis(&["--appendonly", "yes", "--appendfsync", "always"], false).await;
}

#[tokio::test]
async fn a_run_outlives_a_redis_that_forgets_everything() {
    outlives_redis(&[], true).await;
}
