//! The numbers of a run as Prometheus gets them: over HTTP, in a file, and looked at by promtool.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use howdah::run::metric::METRICS;
use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Lab, Running};

/// Batches that never end by themselves within a test.
const SLOW: &str = r#"
name = "slow"
[limits]
workers = 1
batch = { start = 50, min = 50, max = 50 }
[[step]]
name = "every item"
backfill = "items"
set = { n = "n + 1" }
"#;

async fn items(lab: &Lab, rows: u32) -> PathBuf {
    lab.items(rows).await;
    lab.plan("slow.toml", SLOW)
}

/// The address that howdah has told.
async fn address(running: &mut Running) -> String {
    running.until_said("/metrics\n").await;
    let said = running.said();
    let line = said.lines().find_map(|line| line.strip_prefix("metrics: http://")).expect("an address");
    line.trim_end_matches("/metrics").to_owned()
}

fn get(address: &str, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The value of the series that begins with these words.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find(|line| line.starts_with(series))?.rsplit(' ').next()?.parse().ok()
}

/// What promtool says against the text. It comes with Debian's `prometheus`, which tests/run installs.
fn lint(text: &str) -> String {
    let mut promtool = Command::new("promtool");
    let piped = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("promtool: install `prometheus`");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() { said } else { format!("{said} ({})", output.status) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_scraped_while_it_works_and_its_file_tells_how_it_ended() {
    let lab = Lab::open().await;
    let plan = items(&lab, 400_000).await;
    let plan = plan.to_str().expect("a path");
    let file = lab.files.path().join("howdah.prom");
    let flags =
        ["run", plan, "--headless", "--metrics", "127.0.0.1:0", "--metrics-file", file.to_str().expect("a path")];
    let mut running = lab.howdah(&flags).start();
    let address = address(&mut running).await;
    let series = "howdah_step_rows_walked_total{";
    let (mut last, mut scrapes, until) = (0.0, 0, Instant::now() + DEADLINE);
    let text = loop {
        assert!(Instant::now() < until, "it never worked");
        let text = get(&address, "/metrics", "*/*");
        if let Some(walked) = value(&text, series) {
            assert!(walked >= last, "a counter fell: {last} {walked}");
            (last, scrapes) = (walked, scrapes + i32::from(walked > last));
        }
        // The monitor has looked around by then as well.
        if scrapes >= 3 && value(&text, "howdah_table_live_rows{").is_some() {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let id = lab.run_id().await;
    for words in [
        &format!("howdah_run_state{{run=\"{id}\",plan=\"slow\",state=\"running\"}} 1\n"),
        &format!("{series}run=\"{id}\",plan=\"slow\",step=\"every item\"}} "),
        "guarantee=\"exactly once\"} 1\n",
        "# TYPE howdah_run_work_seconds_total counter\n",
        "howdah_batch_target_seconds{",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert_eq!(lint(&text), "", "{text}");
    let open = get(&address, "/metrics", "application/openmetrics-text; version=1.0.0");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE howdah_step_rows_walked counter\n"), "{open}");
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(3);
    assert!(TcpStream::connect(&address).is_err(), "the address is free again");
    let text = std::fs::read_to_string(&file).expect("the file stays");
    assert_eq!(
        value(&text, &format!("howdah_run_state{{run=\"{id}\",plan=\"slow\",state=\"stopped\"}}")),
        Some(1.0),
        "{text}"
    );
    let walked = lab.number("SELECT sum(rows_walked)::bigint FROM howdah.segment").await;
    assert_eq!(value(&text, series).map(|told| format!("{told}")), Some(walked.to_string()));
    assert_eq!(lint(&text), "");

    // What cannot be had is said before anything is begun, wherever it is asked for.
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address").to_string();
    let before = lab.runs("true").await;
    for (flags, words) in [
        (["--metrics", taken.as_str()], "another port"),
        (["--metrics-file", "/absent/howdah.prom"], "in a directory that is there"),
        (["--metrics", "9187"], "such as 127.0.0.1:9187"),
    ] {
        for command in [&["run", plan, "--new", "--headless"] as &[&str], &["resume", "--headless"], &["worker"]] {
            let all = [command, &flags].concat();
            lab.howdah(&all).run().expect_code(2).expect_words(&[words]);
        }
    }
    drop(held);
    assert_eq!(lab.runs("true").await, before);
}

/// Names of ours in a text.
fn named(text: &str) -> Vec<String> {
    let word =
        |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect();
    text.match_indices("howdah_").map(|(at, _)| word(&text[at + "howdah_".len()..])).collect()
}

fn asset(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn dashboard_and_rules_name_only_metrics_that_are_told() {
    let beside = ["build_info", "run_info", "worker_jobs_active", "worker_jobs_failed_total", "worker_jobs_done_total"];
    for path in ["grafana/howdah.json", "prometheus/alerts.yml"] {
        let names = named(&asset(path));
        assert!(names.len() > 3, "{path} names metrics");
        for name in names {
            let is_told = METRICS.iter().any(|metric| metric.name == name) || beside.contains(&name.as_str());
            assert!(is_told, "{path}: howdah_{name}");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&asset("grafana/howdah.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: std::collections::BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{}", panel["title"]);
    }
}

#[test]
fn the_example_rules_are_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/prometheus/alerts.yml");
    let checked = Command::new("promtool").args(["check", "rules"]).arg(path).output();
    let checked = checked.expect("promtool: install `prometheus`");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_reference_has_every_metric() {
    let mut table = String::from("| metric | kind | label | what it is |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let kind = match metric.kind {
            howdah::run::metric::Kind::Gauge => "gauge",
            howdah::run::metric::Kind::Counter => "counter",
        };
        let label = metric.label().map(|label| format!("`{label}`")).unwrap_or_default();
        writeln!(table, "| `howdah_{}` | {kind} | {label} | {} |", metric.name, metric.help).expect("a line");
    }
    let page = asset("reference/metrics.md");
    assert!(page.contains(&table), "assets/reference/metrics.md should have this table:\n{table}");
}
