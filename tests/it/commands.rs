//! The commands around a run: stop and resume, status, report, JSON, the demo.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{DEADLINE, Lab, bare};

const SLOW: &str = r#"
name = "slow"
[limits]
batch = { start = 50, min = 50, max = 50 }
[[step]]
name = "slow"
backfill = "items"
set = { n = "n + 1" }
"#;

async fn items(lab: &Lab, rows: u32) -> PathBuf {
    lab.items(rows).await;
    lab.plan("slow.toml", SLOW)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_at_the_batchs_edge_with_the_command_that_goes_on() {
    let lab = Lab::open().await;
    let plan = items(&lab, 50_000).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        lab.sql("DROP SCHEMA IF EXISTS howdah CASCADE; UPDATE items SET n = 0").await;
        let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
        lab.until("SELECT to_regclass('howdah.segment') IS NOT NULL AND EXISTS (SELECT 1 FROM howdah.segment WHERE batches > 3)").await;
        running.signal(signal);
        let ended = running.wait().expect_code(3);
        let id = lab.text("SELECT right(id::text, 8) FROM howdah.run").await;
        let command = format!("howdah resume {id}");
        let ended = ended.expect_words(&[&command, "stopped"]);
        drop(ended);
        let (walked, changed) = (
            lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await,
            lab.number("SELECT sum(n)::bigint FROM items").await,
        );
        assert!(walked == changed && walked > 0 && walked < 50_000, "{walked} {changed}");
        lab.howdah(&["resume", &id, "--headless"]).run().expect_code(0);
        assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_driver_is_refused_with_the_firsts_host_pid_and_heartbeat() {
    let lab = Lab::open().await;
    let plan = items(&lab, 50_000).await;
    let plan = plan.to_str().expect("a path");
    let running = lab.howdah(&["run", plan, "--headless"]).start();
    lab.until(
        "SELECT to_regclass('howdah.segment') IS NOT NULL AND EXISTS (SELECT 1 FROM howdah.segment WHERE batches > 3)",
    )
    .await;
    let pid = format!("process {} on host", running.child.id());
    for arguments in
        [vec!["run", plan, "--headless"], vec!["resume", "--headless"], vec!["run", plan, "--headless", "--new"]]
    {
        lab.howdah(&arguments).run().expect_code(1).expect_words(&[&pid, "heartbeat was"]);
    }
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(3);
    lab.howdah(&["run", plan, "--headless"]).run().expect_code(1).expect_words(&[
        "is not finished",
        "howdah resume",
        "--new",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_report_tell_what_the_ledger_knows() {
    let lab = Lab::open().await;
    lab.howdah(&["status"]).run().expect_code(0).expect_words(&["no runs in"]);
    lab.howdah(&["report"]).run().expect_code(2).expect_words(&["no run in this database"]);
    let plan = items(&lab, 5000).await;
    let mut running = lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).start();
    lab.until(
        "SELECT to_regclass('howdah.segment') IS NOT NULL AND EXISTS (SELECT 1 FROM howdah.segment WHERE batches > 3)",
    )
    .await;
    running.kill_hard();
    running.wait();
    lab.until("SELECT NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory')").await;
    lab.howdah(&["status"]).run().expect_code(0).expect_words(&["interrupted", "slow"]);
    let id = lab.text("SELECT right(id::text, 8) FROM howdah.run").await;
    lab.howdah(&["status", &id])
        .run()
        .expect_code(0)
        .expect_words(&["nobody drives it", &format!("howdah resume {id}")]);
    let json: Value =
        serde_json::from_str(&lab.howdah(&["status", &id, "--json"]).run().expect_code(0).stdout()).expect("JSON");
    assert_eq!((json["state"].as_str(), json["driven"].as_bool()), (Some("interrupted"), Some(false)));
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    let report = lab.howdah(&["report", &id, "--format", "json"]).run().expect_code(0).stdout();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["state"], "done");
    assert_eq!(report["rows_changed"], 5000);
    // A segment's last batch may be cut short by its end.
    let batches = report["batches"].as_u64().expect("a number");
    assert!((100..200).contains(&batches), "{batches}");
    lab.howdah(&["report"]).run().expect_code(0).expect_words(&["5,000", "done"]);
    lab.howdah(&["resume", &id, "--headless"]).run().expect_code(2).expect_words(&["nothing to resume"]);
    let events = lab
        .number("SELECT count(*) FROM howdah.event WHERE kind IN ('run_started', 'run_resumed', 'run_finished')")
        .await;
    assert_eq!(events, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_json_and_end_with_the_report() {
    let lab = Lab::open().await;
    let plan = items(&lab, 20_000).await;
    let ended = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).run().expect_code(0);
    assert_eq!(ended.stderr(), "");
    let lines: Vec<Value> =
        ended.stdout().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
    assert!(kinds.contains(&"event") && kinds.contains(&"progress"), "{kinds:?}");
    let last = lines.last().expect("a line");
    assert_eq!((last["type"].as_str(), last["rows_changed"].as_u64()), (Some("report"), Some(20_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_every_batch_to_its_owner_alone_and_never_the_password() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::over_tcp("correct horse battery").await;
    let plan = items(&lab, 500).await;
    lab.howdah(&["run", plan.to_str().expect("a path"), "--json", "--log-level", "trace"]).run().expect_code(0);
    let directory = lab.files.path().join(".local/state/howdah/log");
    let files: Vec<_> =
        std::fs::read_dir(&directory).expect("a log directory").map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = std::fs::metadata(&files[0]).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let log = std::fs::read_to_string(&files[0]).expect("text");
    let batches = lab.number("SELECT sum(batches)::bigint FROM howdah.segment").await;
    assert!(batches >= 10, "{batches}");
    assert_eq!(i64::try_from(log.matches("batch committed").count()), Ok(batches), "a line for each batch");
    for secret in ["correct horse battery", "correct%20horse%20battery"] {
        assert!(!log.contains(secret));
        let in_ledger = lab.number(&format!("SELECT count(*) FROM howdah.run WHERE run::text LIKE '%{secret}%'")).await;
        assert_eq!(in_ledger, 0);
    }
}

#[test]
fn the_demo_runs_on_a_server_of_its_own_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = bare(home.path());
    command.args(["demo", "--rows", "20000", "--headless"]);
    let output = command.output().expect("howdah starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("20,000") && said.contains("0 left") && said.contains("howdah run plan.toml"), "{said}");
    let directory = sandbox_of(&said);
    assert!(!directory.exists(), "{} was left behind", directory.display());
}

#[test]
fn a_demo_killed_hard_leaves_neither_server_nor_directory() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = bare(home.path());
    let told = home.path().join("told");
    let file = std::fs::File::create(&told).expect("a file");
    command.args(["demo", "--rows", "300000", "--headless"]).stderr(file);
    let mut child = command.spawn().expect("howdah starts");
    let end = Instant::now() + DEADLINE;
    let server = loop {
        let log = std::fs::read_to_string(&told).unwrap_or_default();
        if log.contains("step 2 `emails` begins") {
            break find_sandbox_of(child.id());
        }
        assert!(Instant::now() < end && child.try_wait().expect("a status").is_none(), "{log}");
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().expect("SIGKILL");
    child.wait().expect("a status");
    let pid_file = std::fs::read_to_string(server.join("data/postmaster.pid")).unwrap_or_default();
    let pid = pid_file.lines().next().map(str::to_owned);
    while server.exists() || pid.as_ref().is_some_and(|pid| std::path::Path::new("/proc").join(pid).exists()) {
        assert!(Instant::now() < end, "{} or its server {pid:?} is still there", server.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sandbox_of(said: &str) -> PathBuf {
    let at = said.find("/tmp/howdah-sandbox-").unwrap_or_else(|| panic!("no sandbox is named in:\n{said}"));
    said[at..].split(':').next().expect("a path").into()
}

/// The directory of the sandbox that a process owns.
fn find_sandbox_of(owner: u32) -> PathBuf {
    std::fs::read_dir("/tmp")
        .expect("/tmp")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/howdah-sandbox-"))
        .find(|path| {
            let text = std::fs::read_to_string(path.join("owner.json")).unwrap_or_default();
            let owner_of: Value = serde_json::from_str(&text).unwrap_or_default();
            owner_of["pid"].as_u64() == Some(u64::from(owner))
        })
        .expect("the demo's sandbox")
}
