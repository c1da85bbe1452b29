//! Alerts of a real run: told to a webhook and a program, silenced from elsewhere, and one that pauses the run.

use std::time::Duration;

use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{DEADLINE, Lab};

const HOOK: &str = "/services/T0SECRET0/B0SECRET0";
const TOKEN: &str = "tok-SECRET0-en";

fn plan_of(lab: &Lab, program: &str) -> String {
    let plan = lab.plan(
        "watched.toml",
        &format!(
            "[limits]\nworkers = 1\nbatch = {{ start = 100, min = 100, max = 1000 }}\n\
             [alerts]\nevery = \"1s\"\n\
             [[alerts.rule]]\nname = \"walked far\"\nmetric = \"step_rows_walked_total\"\nlabel = \"n\"\nabove = 300\n\
             level = \"critical\"\ndo = [\"notify\", \"pause\"]\n\
             [[alerts.rule]]\nname = \"never measured\"\nmetric = \"cache_hit_ratio\"\nbelow = \"10%\"\n\
             [[notify]]\nname = \"team\"\nshape = \"slack\"\nurl = \"${{HOOK}}\"\n\
             headers = {{ Authorization = \"Bearer ${{TOKEN}}\" }}\n\
             [[notify]]\nname = \"program\"\ncommand = [\"/bin/sh\", \"-c\", 'cat >> \"$0\"', \"{program}\"]\n\
             on = [\"raised\", \"cleared\", \"finished\", \"paused\"]\n\
             [[step]]\nname = \"n\"\nbackfill = \"items\"\nset = {{ n = \"1\" }}\nwhere = \"n IS DISTINCT FROM 1\"\n"
        ),
    );
    plan.to_str().expect("a path").to_owned()
}

/// Waits for what a file or a server has, and not for a time.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !is().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_pauses_the_run_is_told_to_those_who_want_it_and_no_secret_is_seen() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, n int)").await;
    lab.sql("INSERT INTO items SELECT g, 0 FROM generate_series(1, 20000) g").await;
    // Slow enough to be watched: a batch takes a fifth of a second.
    lab.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END'",
    )
    .await;
    lab.sql("CREATE TRIGGER slow BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION slow()").await;
    lab.sql("ANALYZE items").await;
    let server = MockServer::start().await;
    let down = Mock::given(method("POST")).and(path(HOOK)).respond_with(ResponseTemplate::new(503));
    down.up_to_n_times(1).mount(&server).await;
    let up =
        Mock::given(method("POST")).and(path(HOOK)).and(header("authorization", format!("Bearer {TOKEN}").as_str()));
    up.respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let hook = format!("{}{HOOK}", server.uri());
    let told = lab.files.path().join("told");
    let plan = plan_of(&lab, told.to_str().expect("a path"));
    let with = |arguments: &[&str]| lab.howdah(arguments).env("HOOK", &hook).env("TOKEN", TOKEN);

    let mut driver = with(&["run", &plan, "--headless"]).start();
    lab.until("SELECT state = 'paused' FROM howdah.run").await;
    let why = "SELECT words || '|' || via || '|' || who || '|' || state FROM howdah.command";
    assert_eq!(lab.text(why).await, "pause|alert|walked far|taken");

    let list = with(&["alerts"]).run().expect_code(0);
    list.expect_words(&[
        "paused",
        "CRIT walked far: step_rows_walked_total of n",
        "never measured",
        "no value",
        "cache_hit_ratio below 10%",
        "step_rows_walked_total of n above 300",
    ]);
    with(&["alerts", "silence", "walked far", "--for", "30m"])
        .run()
        .expect_code(0)
        .expect_words(&["silence walked far for 30m", "silent until"]);
    with(&["alerts", "ack", "walked far"]).run().expect_code(0).expect_words(&["acknowledge walked far"]);
    with(&["alerts", "silence", "nothing"]).run().expect_code(1).expect_words(&["there is no such alert"]);
    let json = with(&["alerts", "--json"]).run().expect_code(0).stdout();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["silenced"][0]["key"], "walked far");
    assert_eq!(json["acknowledged"][0]["key"], "walked far");
    with(&["alerts", "unsilence", "walked far"]).run().expect_code(0).expect_words(&["it calls again"]);

    // The hook failed once, and got it then; the program has it as JSON.
    until("the webhook hears of the alert", async || {
        server.received_requests().await.is_some_and(|got| got.len() >= 2)
    })
    .await;
    let lines = || std::fs::read_to_string(&told).unwrap_or_default();
    until("the program hears of the pause", async || lines().contains("\"event\":\"paused\"")).await;

    lab.sql("DROP TRIGGER slow ON items").await;
    let arguments = {
        let pid = lab.number("SELECT driver_pid::int8 FROM howdah.run").await;
        std::fs::read(format!("/proc/{pid}/cmdline")).expect("the driver lives")
    };
    with(&["continue"]).run().expect_code(0);
    driver.ended().await;
    let ended = driver.wait().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n IS DISTINCT FROM 1").await, 0);

    let events: Vec<String> = lines()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
        .map(|line| format!("{} {}", line["event"].as_str().unwrap_or(""), line["alert"]["key"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(events.first().map(String::as_str), Some("raised walked far"), "{events:?}");
    for event in ["paused ", "cleared walked far", "finished "] {
        assert!(events.iter().any(|line| line == event), "{event}: {events:?}");
    }
    let got = server.received_requests().await.expect("requests");
    let last = String::from_utf8_lossy(&got[got.len() - 1].body).into_owned();
    assert!(last.contains("done: 20,000 rows changed"), "the last news gets out: {last}");

    // What is secret is nowhere: output, process list, log, ledger.
    let mut seen = format!("{}{}{}", ended.stdout(), ended.stderr(), String::from_utf8_lossy(&arguments));
    for table in ["run", "event", "command", "snapshot", "plan"] {
        let there = format!(
            "SELECT count(*) FROM pg_class WHERE relname = '{table}' AND relnamespace = 'howdah'::regnamespace"
        );
        if lab.number(&there).await > 0 {
            let all = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM howdah.{table} t");
            seen.push_str(&lab.text(&all).await);
        }
    }
    let mut logs = 0;
    let mut folders = vec![lab.files.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|end| end == "log") {
                logs += 1;
                seen.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a log")));
            }
        }
    }
    assert!(logs > 0, "the run has a log");
    assert!(!seen.contains("SECRET0"), "a secret was seen");
    assert!(seen.contains("walked far") && seen.contains("resources"), "the log was looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_says_what_came_of_it() {
    let server = MockServer::start().await;
    Mock::given(path("/good")).respond_with(ResponseTemplate::new(202).set_body_string("ok")).mount(&server).await;
    Mock::given(path("/bad")).respond_with(ResponseTemplate::new(404).set_body_string("no_team")).mount(&server).await;
    let home = tempfile::tempdir().expect("a directory");
    let plan = home.path().join("plan.toml");
    let text = format!(
        "[[notify]]\nname = \"good\"\nurl = \"{0}/good\"\n[[notify]]\nname = \"bad\"\nurl = \"{0}/bad\"\n\
         [[step]]\nname = \"a\"\nstatement = \"SELECT 1\"\n",
        server.uri()
    );
    std::fs::write(&plan, text).expect("written");
    let howdah = |arguments: &[&str]| {
        let mut command = crate::support::bare(home.path());
        let output = command.args(["notify", "test"]).arg(&plan).args(arguments).output().expect("howdah runs");
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (good, bad, unknown) = tokio::task::block_in_place(|| (howdah(&["good"]), howdah(&[]), howdah(&["nobody"])));
    assert_eq!((good.0, good.1.trim()), (Some(0), "good: delivered (HTTP 202: ok)"));
    assert_eq!(bad.0, Some(1));
    assert!(bad.1.contains("bad: not delivered: HTTP 404: no_team"), "{}", bad.1);
    assert_eq!(unknown.0, Some(2));
    assert!(unknown.1.contains("its recipients are good, bad"), "{}", unknown.1);
}
