//! A storm of kills over a queue: workers and Redis die again and again, and every row is changed exactly once.

use std::time::{Duration, Instant};

use crate::queue::Redis;
use crate::support::{Dice, Lab, Running};
use crate::worker::{accounts, credit, expect_each_row_once};

const JOBS: u64 = 30;
const ROWS: u32 = 400;
const KILLS: u32 = 12;
const LONGEST: Duration = Duration::from_mins(3);

fn worker(redis: &Redis, lab: &Lab) -> Running {
    redis.howdah(lab, &["worker", "--lock", "1s"]).start()
}

#[tokio::test]
async fn thirty_jobs_under_kills_of_workers_and_of_redis_change_every_row_exactly_once() {
    let lab = Lab::open().await;
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut dice = Dice::of_test(30);
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        let (name, table) = (format!("credit-{number}"), format!("accounts_{number}"));
        accounts(&lab, &table, ROWS).await;
        let plan = lab.plan(&format!("{name}.toml"), &credit(&name, &table));
        let priority = (1 + dice.below(3)).to_string();
        jobs.push(redis.enqueue(&lab, &[plan.to_str().expect("a path"), "--priority", &priority]));
    }
    let mut workers: Vec<Running> = (0..3).map(|_| worker(&redis, &lab)).collect();
    let end = Instant::now() + LONGEST;
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(200 + dice.below(900))).await;
        if kill == KILLS / 3 || kill == 2 * KILLS / 3 {
            redis.server.kill();
            tokio::time::sleep(Duration::from_millis(dice.below(800))).await;
            redis.server.restart().expect("it comes back");
            continue;
        }
        let index = usize::try_from(dice.below(3)).expect("a worker");
        workers[index].kill_hard();
        drop(workers[index].child.wait());
        workers[index] = worker(&redis, &lab);
    }
    loop {
        let counts = redis.view(&lab)["counts"].clone();
        if counts["completed"] == JOBS {
            break;
        }
        assert!(counts["failed"] == 0 && Instant::now() < end, "{:#}", redis.view(&lab));
        // One that Redis took with it, as a kill of Redis may while it begins.
        for worker_ in &mut workers {
            if worker_.child.try_wait().expect("a status").is_some() {
                *worker_ = worker(&redis, &lab);
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for number in 0..JOBS {
        expect_each_row_once(&lab, &format!("accounts_{number}"), ROWS).await;
    }
    // However often it was taken, a job is one run.
    assert_eq!(lab.number("SELECT count(*) FROM howdah.run").await, i64::try_from(JOBS).expect("a number"));
    assert_eq!(lab.unfinished().await, 0);
}
