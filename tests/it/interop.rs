//! The queue is BullMQ's own: Node's library sees and feeds it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::queue::{Redis, note};
use crate::support::Lab;
use crate::worker::until_state;

/// Node's BullMQ, installed once under `target/`.
struct Node {
    folder: PathBuf,
}

impl Node {
    fn open() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/node");
        std::fs::create_dir_all(&folder).expect("target/ can be written");
        for file in ["package.json", "queue.mjs"] {
            std::fs::copy(root.join("tests/node").join(file), folder.join(file)).expect("tests/node is there");
        }
        // Two tests install it once: the second waits for the first, and finds it done.
        let lock = std::fs::File::create(folder.join("lock")).expect("a file");
        lock.lock().expect("a lock");
        let wanted = std::fs::read_to_string(folder.join("package.json")).expect("a file");
        let done = folder.join("installed");
        if std::fs::read_to_string(&done).ok().as_deref() != Some(wanted.as_str()) {
            let mut npm = Command::new("npm");
            npm.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--silent"]);
            let ended = npm.output().expect("npm: install Node (Debian: apt-get install nodejs npm)");
            assert!(ended.status.success(), "npm install bullmq: {}", String::from_utf8_lossy(&ended.stderr));
            std::fs::write(&done, wanted).expect("a file");
        }
        Self { folder }
    }

    fn ask(&self, redis: &Redis, arguments: &[&str]) -> Value {
        let mut node = Command::new("node");
        node.current_dir(&self.folder).arg("queue.mjs").args(arguments).env("REDIS_URL", redis.server.url());
        let ended = node.output().expect("node: install Node (Debian: apt-get install nodejs npm)");
        let told = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success(), "{told}{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_str(told.trim()).unwrap_or_else(|e| panic!("{e}: {told}"))
    }
}

#[tokio::test]
async fn a_job_from_node_runs_here_and_node_sees_its_progress_its_log_and_what_it_returns() {
    let (lab, redis, node) = (Lab::open().await, Redis::open(), Node::open());
    lab.sql("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, said text)").await;
    let plan = lab.plan("say.toml", &note("x").replace("('x')", "('${said}')"));
    let mut worker = redis.howdah(&lab, &["worker"]).start();
    worker.until_said("takes jobs").await;
    let told = node.ask(&redis, &["add", "howdah", plan.to_str().expect("a path")]);
    assert_eq!(lab.text("SELECT said FROM notes").await, "node");
    let returned = &told["returned"];
    assert_eq!((&returned["state"], &returned["quarantined"]), (&json!("done"), &json!(0)), "{told:#}");
    assert_eq!(returned["run"].as_str(), Some(lab.run_id().await.as_str()));
    let progress = told["progress"].as_array().expect("progress");
    assert!(progress.iter().any(|told| told["run"] == returned["run"] && told["worker"].is_string()), "{told:#}");
    let logs = told["logs"].as_array().expect("a log");
    assert!(logs.iter().any(|line| line.as_str().is_some_and(|line| line.contains("INFO"))), "{told:#}");
    let workers = told["workers"].as_array().expect("workers");
    assert!(workers.len() == 1 && workers[0].as_str().is_some_and(|name| name.contains(":w:")), "{told:#}");
}

#[tokio::test]
async fn node_sees_a_job_from_here_with_its_options_and_why_it_failed_and_can_have_it_tried_again() {
    let (lab, redis, node) = (Lab::open().await, Redis::open(), Node::open());
    lab.sql("CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, said text CHECK (said <> 'never'))").await;
    let plan = lab.plan("never.toml", &note("never"));
    let options = ["--priority", "7", "--attempts", "2", "--backoff", "exponential:200ms", "--id", "nightly"];
    let id = redis.enqueue(&lab, &[&[plan.to_str().expect("a path")][..], &options[..]].concat());
    let seen = node.ask(&redis, &["see", "howdah", &id]);
    assert_eq!(
        (&seen["id"], &seen["name"], &seen["state"]),
        (&json!("nightly"), &json!("never"), &json!("prioritized"))
    );
    assert_eq!(seen["opts"]["backoff"], json!({ "type": "exponential", "delay": 200 }));
    assert_eq!((&seen["opts"]["priority"], &seen["opts"]["attempts"]), (&json!(7), &json!(2)));
    assert!(seen["data"]["by"].as_str().is_some_and(|by| by.contains('@')), "{seen:#}");

    let worker = redis.howdah(&lab, &["worker"]).start();
    until_state(&redis, &lab, &id, "failed").await;
    let seen = node.ask(&redis, &["see", "howdah", &id]);
    assert_eq!((&seen["state"], &seen["attemptsMade"]), (&json!("failed"), &json!(2)));
    assert!(seen["failedReason"].as_str().is_some_and(|why| why.contains("check constraint")), "{seen:#}");
    assert_eq!(seen["processedBy"].as_str().map(|by| by.ends_with(&format!(":{}", worker.child.id()))), Some(true));

    lab.sql("ALTER TABLE notes DROP CONSTRAINT notes_said_check").await;
    node.ask(&redis, &["retry", "howdah", &id]);
    until_state(&redis, &lab, &id, "completed").await;
    assert_eq!(lab.text("SELECT said FROM notes").await, "never");
}
