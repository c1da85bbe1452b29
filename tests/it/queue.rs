//! A queue of plans on a real Redis: what goes into it, in which order, and what an operator does with it.

use howdah::sandbox::redis::{PASSWORD, RedisServer};
use serde_json::Value;

use crate::support::{Ended, Howdah, Lab};

/// A Redis, and howdah to be started on it.
pub struct Redis {
    pub server: RedisServer,
}

impl Redis {
    /// One that keeps nothing.
    pub fn open() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: &[&str]) -> Self {
        Self { server: RedisServer::start(settings).expect("a Redis: install `redis-server`") }
    }

    /// howdah on this Redis; its address stands in the environment, not on the command line.
    pub fn howdah(&self, lab: &Lab, arguments: &[&str]) -> Howdah {
        lab.howdah(arguments).env("HOWDAH_REDIS", &self.server.url())
    }

    pub fn run(&self, lab: &Lab, arguments: &[&str]) -> Ended {
        self.howdah(lab, arguments).run()
    }

    /// Puts a plan into line, and returns the job's id.
    pub fn enqueue(&self, lab: &Lab, arguments: &[&str]) -> String {
        let all = [&["enqueue", "--json"], arguments].concat();
        let told = self.run(lab, &all).expect_code(0).stdout();
        let told: Value = serde_json::from_str(told.trim()).expect("JSON");
        told["id"].as_str().expect("an id").to_owned()
    }

    /// The queue as `howdah queue --json` tells it.
    pub fn view(&self, lab: &Lab) -> Value {
        let told = self.run(lab, &["queue", "--json"]).expect_code(0).stdout();
        serde_json::from_str(&told).expect("JSON")
    }

    /// A job of it.
    pub fn job(&self, lab: &Lab, id: &str) -> Value {
        let view = self.view(lab);
        let jobs = view["jobs"].as_array().expect("jobs");
        jobs.iter().find(|job| job["id"] == id).cloned().unwrap_or_else(|| panic!("job {id} is not in {view:#}"))
    }

    /// A session of the test's own.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.server.url()).expect("an address").get_connection().expect("a connection")
    }
}

/// A plan of one statement that writes down that it ran.
pub fn note(name: &str) -> String {
    format!(
        "name = \"{name}\"\n[[step]]\nname = \"note\"\nstatement = \"INSERT INTO notes (said) VALUES ('{name}')\"\n"
    )
}

const NOTES: &str = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, said text)";

async fn notes(lab: &Lab) -> String {
    lab.text("SELECT coalesce(string_agg(said, ' ' ORDER BY id), '') FROM notes").await
}

#[tokio::test]
async fn jobs_are_taken_by_priority_and_then_in_their_order_and_the_same_id_twice_is_one_job() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    lab.sql(NOTES).await;
    for (name, priority) in [("c", "5"), ("a", "1"), ("b", "1"), ("d", "9")] {
        let plan = lab.plan(&format!("{name}.toml"), &note(name));
        let plan = plan.to_str().expect("a path");
        assert_eq!(redis.enqueue(&lab, &[plan, "--priority", priority, "--id", name]), name);
    }
    let again = lab.plan("a.toml", &note("a"));
    redis
        .run(&lab, &["enqueue", again.to_str().expect("a path"), "--id", "a"])
        .expect_code(0)
        .expect_words(&["there already: nothing was added"]);
    let view = redis.view(&lab);
    let ids: Vec<&str> = view["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!(view["counts"]["waiting"], 4);
    redis.run(&lab, &["worker", "--once"]).expect_code(0).expect_words(&["4 done", "job a `a`: run"]);
    assert_eq!(notes(&lab).await, "a b c d");
    let done = redis.job(&lab, "a");
    assert_eq!((&done["state"], &done["worker"].is_string()), (&Value::from("completed"), &true));
    assert_eq!(done["run"].as_str().map(str::len), Some(8));
    redis.run(&lab, &["queue"]).expect_code(0).expect_words(&["completed 4", "no worker is there"]);
    redis.run(&lab, &["queue", "logs", "a"]).expect_code(0).expect_words(&["INFO"]);
}

#[tokio::test]
async fn a_queue_is_paused_a_delayed_job_promoted_and_others_removed_and_drained() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    lab.sql(NOTES).await;
    let plan = lab.plan("later.toml", &note("later"));
    let plan = plan.to_str().expect("a path");
    let later = redis.enqueue(&lab, &[plan, "--delay", "10m"]);
    let job = redis.job(&lab, &later);
    assert_eq!((&job["state"], job["next_try"].is_string()), (&Value::from("delayed"), true));
    redis.run(&lab, &["queue", "pause"]).expect_code(0);
    redis.run(&lab, &["queue", "promote", &later]).expect_code(0);
    // A paused queue gives nothing out.
    redis.run(&lab, &["worker", "--once"]).expect_code(0).expect_words(&["0 done"]);
    assert_eq!(redis.view(&lab)["is_paused"], true);
    redis.run(&lab, &["queue", "resume"]).expect_code(0);
    redis.run(&lab, &["worker", "--once"]).expect_code(0).expect_words(&["1 done"]);
    assert_eq!(notes(&lab).await, "later");

    redis.run(&lab, &["queue", "promote", &later]).expect_code(2).expect_words(&["only one that is delayed"]);
    redis.run(&lab, &["queue", "retry", &later]).expect_code(2).expect_words(&["only one that has failed"]);
    redis.run(&lab, &["queue", "remove", "no-such-job"]).expect_code(2).expect_words(&["there is no job"]);
    redis.run(&lab, &["queue", "remove", &later]).expect_code(0);
    for _ in 0..3 {
        redis.enqueue(&lab, &[plan]);
    }
    redis.run(&lab, &["queue", "drain"]).expect_code(2).expect_words(&["forget 3 jobs", "--yes"]);
    redis.run(&lab, &["queue", "drain", "--yes"]).expect_code(0).expect_words(&["3 waiting jobs are forgotten"]);
    assert_eq!(redis.view(&lab)["counts"]["waiting"], 0);
}

#[tokio::test]
async fn a_job_that_follows_another_waits_for_it_and_fails_with_it() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    lab.sql(NOTES).await;
    let [first, second] = ["first", "second"].map(|name| {
        let plan = lab.plan(&format!("{name}.toml"), &note(name));
        plan.to_str().expect("a path").to_owned()
    });
    let wrong = lab.plan("wrong.toml", &note("wrong").replace("notes", "nowhere"));
    let before = redis.enqueue(&lab, &[&first, "--priority", "9"]);
    let after = redis.enqueue(&lab, &[&second, "--after", &before]);
    assert_eq!(redis.job(&lab, &after)["state"], "blocked");
    redis.run(&lab, &["enqueue", &second, "--after", "nobody"]).expect_code(2).expect_words(&["there is no job"]);
    let mut worker = redis.howdah(&lab, &["worker"]).start();
    lab.until("SELECT count(*) = 2 FROM notes").await;
    assert_eq!(notes(&lab).await, "first second");
    worker.until_said(&format!("job {after} `second`: waits for job {before}")).await;

    let failing = redis.enqueue(&lab, &[wrong.to_str().expect("a path"), "--attempts", "1"]);
    let follower = redis.enqueue(&lab, &[&second, "--after", &failing]);
    worker
        .until_said(&format!("job {follower} `second`: failed for good: job {failing}, which it was to follow, failed"))
        .await;
    assert_eq!(notes(&lab).await, "first second");
}

#[tokio::test]
async fn variables_of_a_job_answer_before_the_workers_environment_and_a_plan_may_be_named_only() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    lab.sql(NOTES).await;
    let text = note("x").replace("('x')", "('${said} ${by}')");
    let plan = lab.plan("say.toml", &text);
    let plan = plan.to_str().expect("a path");
    redis
        .run(&lab, &["enqueue", plan, "--var", "said=hello"])
        .expect_code(0)
        .expect_words(&["${by} is not set here: the worker must have it"]);
    redis.enqueue(&lab, &[plan, "--var", "said=bye", "--by-name"]);
    let folder = lab.files.path().to_str().expect("a path");
    let worker = redis.howdah(&lab, &["worker", "--once", "--plans", folder]);
    worker.env("by", "world").env("said", "nothing").run().expect_code(0).expect_words(&["2 done"]);
    assert_eq!(notes(&lab).await, "hello world bye world");
}

#[tokio::test]
async fn no_password_goes_into_the_queue_or_into_words() {
    let (lab, redis) = (Lab::open().await, Redis::open());
    let text = format!("{}\n[database]\nurl = \"postgres://ann:hunter2@db/x\"\n", note("x"));
    let plan = lab.plan("secret.toml", &text);
    let refused = redis.run(&lab, &["enqueue", plan.to_str().expect("a path")]).expect_code(2);
    let refused = refused.expect_words(&["holds a password", "${NAME}"]);
    assert!(!refused.stderr().contains("hunter2"));
    let fine = lab.plan("fine.toml", &note("fine"));
    redis.enqueue(&lab, &[fine.to_str().expect("a path")]);
    let shown = redis.run(&lab, &["queue"]).expect_code(0).stdout();
    assert!(!shown.contains(PASSWORD));
    let data: String =
        redis::cmd("HGET").arg("howdah:howdah:1").arg("data").query(&mut redis.connection()).expect("a job");
    assert!(!data.contains(PASSWORD) && !data.contains("postgres://"), "{data}");
    let away = lab.howdah(&["queue"]).env("HOWDAH_REDIS", "redis://:hunter2@127.0.0.1:1/0").run().expect_code(1);
    assert!(away.stderr().contains("127.0.0.1:1/0") && !away.stderr().contains("hunter2"), "{}", away.stderr());
    lab.howdah(&["queue"]).run().expect_code(2).expect_words(&["no Redis is named", "--redis"]);
}
