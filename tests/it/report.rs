//! What is kept of a run, and what is told of it afterwards.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::DateTime;
use howdah::ledger::diary::Diary;
use howdah::run::history::{History, Point};
use howdah::run::{RunId, RunState, Snapshot};
use roxmltree::{Document, ParsingOptions};
use serde_json::Value;

use crate::support::Lab;

const HOSTILE: &str = "<script>alert(1)</script> & \"co\"";

/// A plan with one wrong row, an alert after a second, and a step with a hostile name.
async fn rough(lab: &Lab) -> String {
    lab.sql(
        "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0 CHECK (id <> 50 OR n = 0));
         INSERT INTO items SELECT generate_series(1, 2500); ANALYZE items",
    )
    .await;
    let plan = format!(
        "name = '{HOSTILE}'\n[limits]\nworkers = 1\nbatch = {{ start = 50, min = 50, max = 50 }}\n\
         [alerts]\nduration = \"1s\"\n\
         [[step]]\nname = 'n {HOSTILE}'\nbackfill = \"items\"\nset = {{ n = \"n + 1 + CASE WHEN id < 1200 THEN length(pg_sleep(0.002)::text) ELSE 0 END\" }}\n\
         [[step]]\nname = \"check\"\nverify = \"SELECT count(*) FROM items WHERE n <> 1 AND id <> 50\"\nexpect = 0\n"
    );
    lab.plan("rough.toml", &plan).to_str().expect("a path").to_owned()
}

/// The page as a tree: it is well-formed, and asks nothing of a network.
fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let tree = Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("{e}:\n{page}"));
    for node in tree.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "image", "use"].contains(&name), "<{name}>");
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(!["src", "href", "srcset", "onload", "action"].contains(&name), "{name}={value}");
            assert!(!value.contains("http:") && !value.contains("https:") && !value.contains("url("), "{name}={value}");
        }
        if name == "style" {
            let css = node.text().unwrap_or_default();
            assert!(!css.contains("url(") && !css.contains("@import"), "{css}");
        }
    }
    tree
}

fn words(tree: &Document<'_>) -> String {
    let texts = tree.root().descendants().filter(roxmltree::Node::is_text);
    texts
        .map(|node| node.text().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_holds_what_a_run_went_through_as_one_page_that_needs_nothing_else() {
    let lab = Lab::open().await;
    let plan = rough(&lab).await;
    let mut driver = lab.howdah(&["run", &plan, "--headless"]).start();
    lab.until_walked(300).await;
    lab.until("SELECT EXISTS (SELECT FROM howdah.event WHERE kind = 'alert_raised')").await;
    lab.howdah(&["pause", "--wait"]).run().expect_code(0);
    // Seconds of the pause are kept before the driver dies.
    lab.until("SELECT sum(paused_s) > 1 AND count(*) FILTER (WHERE rate > 0) > 0 FROM howdah.sample").await;
    lab.until("SELECT summary #>> '{drivers,0,state}' = 'paused' FROM howdah.summary").await;
    driver.kill_hard();
    lab.until_undriven().await;
    lab.howdah(&["report"]).run().expect_code(0).expect_words(&["batches of n <script>", "slowest batch: "]);
    lab.howdah(&["resume", "--headless"]).run().expect_code(4);

    let run = lab.run_id().await;
    let out = lab.files.path().join("report.html");
    let path = out.to_str().expect("a path");
    lab.howdah(&["report", &run, "--format", "html", "--out", path]).run().expect_code(0).expect_words(&["written: "]);
    let page = std::fs::read_to_string(&out).expect("the page");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    let tree = parsed(&page);
    let said = words(&tree);
    for word in [
        HOSTILE,
        "✓ DONE",
        "exactly once",
        "rows quarantined",
        "23514",
        "items_check",
        &format!("howdah quarantine list {run}"),
        "pause",
        "script",
        "alert raised",
        "max_quarantined",
        "grey span: paused",
    ] {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    assert!(!page.contains("<script"), "what came from outside is escaped");
    let charts = tree.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
    let charts: Vec<_> = charts.collect();
    assert_eq!(charts.len(), 6, "five over time, one of time lost");
    for chart in &charts {
        assert_eq!(chart.attribute("role"), Some("img"));
        assert!(chart.children().any(|node| node.tag_name().name() == "title"), "each chart has a name");
    }
    // Two drivers, of whom the second found what the first had left.
    let record: Value =
        serde_json::from_str(&lab.howdah(&["report", "--format", "json"]).run().stdout()).expect("JSON");
    assert_eq!(record["drivers"].as_array().map(Vec::len), Some(2), "{}", record["drivers"]);
    assert_eq!(record["drivers"][0]["state"], "paused");
    assert_eq!(record["exit_code"], 4);
    let course = record["course"].as_array().expect("a course");
    assert!(course.iter().any(|sample| sample["paused_seconds"].as_i64() > Some(0)));
    assert!(course.iter().any(|sample| sample["cpu_ratio"].is_number() && sample["workers"].is_number()));
    assert!(course.iter().any(|sample| sample["alert"] == "warning" || sample["alert"] == "critical"), "{course:?}");
    let seconds: Vec<i64> = course.iter().filter_map(|sample| sample["at"].as_i64()).collect();
    assert!(seconds.is_sorted_by(|a, b| a < b), "{seconds:?}");
    assert!(record["slowest_batches"][0]["took_seconds"].as_f64().expect("a time") > 0.0);
    assert!(record["steps"][0]["rows_changed"].as_u64() == Some(2_499), "the report's own keys stay: {record}");

    // The file is not written over, and no page goes to who asks for a picture.
    lab.howdah(&["report", "--format", "svg", "--out", path]).run().expect_code(2).expect_words(&["--force"]);
    let svg = lab.howdah(&["report", "--format", "svg"]).run().expect_code(0).stdout();
    let sheet = parsed(&svg);
    assert_eq!(sheet.root_element().tag_name().name(), "svg");
    assert!(words(&sheet).contains("Time of a batch"));

    // Another run of the same plan, beside it.
    lab.sql("UPDATE items SET n = 0").await;
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    let newer = lab.run_id().await;
    let text = lab.howdah(&["report", &run, &newer]).run().expect_code(0).stdout();
    for word in ["rows/s of work", "batch, 9 of 10 within", "×", &run, &newer, "step check"] {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
    let both = lab.howdah(&["report", &run, &newer, "--format", "html"]).run().expect_code(0).stdout();
    assert!(words(&parsed(&both)).contains("Rows a second, since each began"));
    let both = lab.howdah(&["report", &run, &newer, "--format", "json"]).run().expect_code(0).stdout();
    let both: Value = serde_json::from_str(&both).expect("JSON");
    assert_eq!(both["measures"]["rows_changed"]["ratio"], 1.0);

    // The history of runs.
    let all = lab.howdah(&["status", "--all"]).run().expect_code(0).stdout();
    assert!(all.contains(&run) && all.contains(&newer) && all.contains("DRIVEN FROM"), "{all}");
    let some = lab.howdah(&["status", "--since", "1h", "--name", HOSTILE, "--json"]).run().expect_code(0).stdout();
    let some: Value = serde_json::from_str(&some).expect("JSON");
    assert_eq!(some.as_array().map(Vec::len), Some(2));
    assert_eq!(some[1]["rows_changed"], 2_499);
    assert_eq!(some[1]["quarantined"], 1);
    let one = lab.howdah(&["status", "--all", "--limit", "1", "--json"]).run().expect_code(0).stdout();
    assert_eq!(serde_json::from_str::<Value>(&one).expect("JSON").as_array().map(Vec::len), Some(1));
    lab.howdah(&["status", "--name", "nobody"]).run().expect_code(0).expect_words(&["no such runs"]);

    // A ledger of the version before: brought up to date by the next run, and readable meanwhile.
    lab.sql("DROP TABLE howdah.sample, howdah.summary; DELETE FROM howdah.version WHERE version > 5").await;
    let old = lab.howdah(&["report", &newer, "--format", "html"]).run().expect_code(0).stdout();
    assert!(words(&parsed(&old)).contains("an older howdah made this ledger"));
    lab.howdah(&["status", "--all"]).run().expect_code(0).expect_words(&[&newer]);
    lab.sql("UPDATE items SET n = 0").await;
    lab.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    assert_eq!(lab.number("SELECT max(version)::int8 FROM howdah.version").await, 6);
    assert_eq!(lab.number("SELECT count(*) FROM howdah.summary").await, 1);
}

fn second(at: i64, rate: f32) -> Snapshot {
    let now = DateTime::from_timestamp(at, 0).expect("a time");
    let mut snapshot = Snapshot::starting(now, "7f3a09c2".into(), "long".into(), "ops1".into());
    snapshot.state = RunState::Running;
    let seconds = VecDeque::from([Point { at, rate, worst_ms: rate, batch_ms: 1.0, ..Point::default() }]);
    snapshot.history = Arc::new(History { seconds, ..History::default() });
    snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_holds_no_more_samples_than_its_bound_however_long_a_run_takes() {
    const MOST: usize = 50;
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE one (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO one VALUES (1, 0)").await;
    let plan = "name = \"long\"\n[[step]]\nname = \"one\"\nbackfill = \"one\"\nset = { n = \"n + 1\" }\n";
    let plan = lab.plan("long.toml", plan);
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    // What cannot be written at the end is tried again: the server refuses the summary of a run that is done once.
    lab.sql(
        "CREATE SEQUENCE tries; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.summary #>> '{drivers,-1,state}' = 'done' AND nextval('tries') = 1 THEN RAISE 'not yet'; END IF; \
             RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON howdah.summary FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    assert!(lab.number("SELECT last_value FROM tries").await >= 2, "it was refused once");
    assert_eq!(
        lab.number("SELECT count(*) FROM howdah.summary WHERE summary #>> '{drivers,-1,state}' = 'done'").await,
        2
    );
    lab.sql("DROP TRIGGER refuse ON howdah.summary; DELETE FROM howdah.run WHERE created_at > (SELECT min(created_at) FROM howdah.run)").await;
    lab.sql("DELETE FROM howdah.sample").await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM howdah.run").fetch_one(&lab.pool).await.expect("the run");
    let mut connection = lab.session().await;
    let (start, mut at) = (1_800_000_000, 1_800_000_000);
    for driver in 1..=3 {
        lab.sql(&format!("UPDATE howdah.run SET epoch = {driver}")).await;
        let mut diary = Diary::holding(RunId(id), driver, MOST);
        for n in 0..400 {
            diary.take(&second(at, if n == 7 { 9000.0 } else { 10.0 }));
            at += 1;
            if n % 37 == 0 {
                diary.write(&mut connection, n % 2 == 0).await.expect("written");
                assert!(lab.number("SELECT count(*) FROM howdah.sample").await <= 50);
            }
        }
        diary.write(&mut connection, true).await.expect("written");
        // Nobody drives it for a while.
        at += 1000;
        if driver == 2 {
            let mut replaced = Diary::holding(RunId(id), 1, MOST);
            replaced.take(&second(at - 500, 1.0));
            replaced.write(&mut connection, true).await.expect("nothing to write");
        }
    }
    let held = "SELECT count(*) <= 50 AND count(*) > 12 AND count(DISTINCT step) = 1 AND sum(seen) = 1200 \
                AND max(worst_ms) = 9000 AND NOT bool_or(at > to_timestamp(1800000500) AND at < to_timestamp(1800001300)) \
                FROM howdah.sample";
    assert_eq!(lab.text(&format!("SELECT ({held})::text")).await, "true");
    assert!(at > start);
    let size = "SELECT (pg_column_size(s) + 0)::int8 FROM howdah.sample s ORDER BY 1 DESC LIMIT 1";
    assert!(lab.number(size).await <= 160, "a sample is small");
    let drivers = lab.number("SELECT jsonb_array_length(summary -> 'drivers')::int8 FROM howdah.summary").await;
    assert_eq!(drivers, 3);
}
