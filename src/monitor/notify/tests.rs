//! Messages, their bodies, and how they get out: against a server that fails, stalls and recovers.

use std::sync::PoisonError;
use std::time::Instant;

use chrono::DateTime;
use secrecy::SecretString;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::again::{Delays, of_status, retry_after};
use super::*;
use crate::run::notify::{Destination, Form, Occasion, Web, trouble_key};
use crate::run::rule::Act;
use crate::run::vitals::{Alert, Measured};
use crate::run::{Asker, Cause, Level, RunState};

const SECRET: &str = "T0-very-secret";
const QUICK: Patience =
    Patience { base: Duration::from_millis(20), most: Duration::from_millis(100), limit: Duration::from_mins(1) };

fn now(second: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn alert(key: &str, count: u32, level: Level) -> Alert {
    Alert {
        key: key.to_owned(),
        level,
        text: format!("{key} is <too> much & more"),
        raised_at: now(0),
        cleared_at: None,
        count,
        acts: vec![Act::Notify],
        measured: Measured { metric: "batch_seconds".to_owned(), label: None, value: Some(3.5), limit: Some(2.0) },
    }
}

fn snapshot(state: RunState, alerts: Vec<Alert>) -> Snapshot {
    let mut snapshot = Snapshot::starting(now(9), "7f3a09c2".into(), "emails".into(), "ops1".into());
    snapshot.server = "shop@db1:5432".to_owned();
    snapshot.resume_command = "howdah resume 7f3a09c2 --plan /srv/plan.toml".to_owned();
    snapshot.state = state;
    Arc::make_mut(&mut snapshot.vitals).alerts = alerts;
    snapshot
}

fn web(url: &str, form: Form) -> Recipient {
    let key = (form == Form::PagerDuty).then(|| SecretString::from("routing-key"));
    let headers = vec![("Authorization".to_owned(), SecretString::from("Bearer abcdef123"))];
    Recipient {
        name: "ops".to_owned(),
        to: Destination::Web(Web { url: SecretString::from(url.to_owned()), form, key, headers }),
        level: Level::Warning,
        on: Occasion::USUAL.to_vec(),
        timeout: Duration::from_millis(500),
        attempts: 5,
    }
}

fn raised() -> Message {
    let mut teller = Teller::default();
    teller.hear(&snapshot(RunState::Running, vec![alert("slow batches", 1, Level::Warning)])).remove(0)
}

#[test]
fn each_alert_is_told_once_raised_and_once_cleared_and_silence_is_kept() {
    let mut teller = Teller::default();
    let mut hear = |state: &RunState, alerts: Vec<Alert>, silent: bool| -> Vec<String> {
        let mut snapshot = snapshot(state.clone(), alerts);
        if silent {
            let until = now(60);
            snapshot.silenced.push(crate::run::snapshot::Silenced { key: "a".into(), until, who: String::new() });
        }
        let told = teller.hear(&snapshot);
        told.iter().map(|message| format!("{} {}", message.occasion.word(), message.text)).collect()
    };
    let running = RunState::Running;
    let one = |count| vec![alert("a", count, Level::Warning)];
    let cleared = |count| vec![Alert { cleared_at: Some(now(5)), ..alert("a", count, Level::Warning) }];
    let words = "a is <too> much & more";
    assert_eq!(hear(&running, vec![], false), Vec::<String>::new());
    assert_eq!(hear(&running, one(1), false), [format!("raised {words}")]);
    assert_eq!(hear(&running, one(1), false), Vec::<String>::new());
    assert_eq!(hear(&running, vec![alert("a", 1, Level::Critical)], false), [format!("raised {words}")]);
    assert_eq!(hear(&running, cleared(1), false), [format!("cleared kept again: {words}")]);
    assert_eq!(hear(&running, one(2), true), Vec::<String>::new());
    assert_eq!(hear(&running, one(2), false), [format!("raised {words}")]);
    let paused = RunState::Paused { since: now(0), by: Asker::Alert };
    assert_eq!(hear(&paused, one(2), false), ["paused paused by an alert"]);
    assert_eq!(hear(&running, one(2), false), ["continued paused no more"]);
    let failed = RunState::Failed { at: now(8), cause: Cause::new("disk full"), resumable: true };
    let over = hear(&failed, one(2), false);
    assert_eq!(over[0], format!("cleared the run is over, and nobody watches any more: {words}"));
    assert_eq!(over[1], "failed failed: disk full; it can be resumed");
}

#[test]
fn a_run_that_fails_before_it_was_looked_at_is_told_of_and_one_that_another_process_drives_is_not() {
    let failed = |cause| RunState::Failed { at: now(8), cause, resumable: false };
    let refused = Teller::default().hear(&snapshot(failed(Cause::new("no such database")), vec![]));
    assert_eq!((refused.len(), refused[0].text.as_str()), (1, "failed: no such database"));
    let busy = Cause { is_busy: true, ..Cause::new("it is driven") };
    assert_eq!(Teller::default().hear(&snapshot(failed(busy), vec![])), []);
    assert_eq!(Teller::default().hear(&snapshot(RunState::Running, vec![])), []);
}

#[test]
fn a_pause_that_ends_is_told_to_whoever_hears_of_pauses_and_resolves_its_incident() {
    let mut teller = Teller::default();
    teller.hear(&snapshot(RunState::Paused { since: now(0), by: Asker::Console }, vec![]));
    let message = teller.hear(&snapshot(RunState::Running, vec![])).remove(0);
    let ops = web("https://h", Form::PagerDuty);
    assert!(!wants(&ops, &message));
    assert!(wants(&Recipient { on: vec![Occasion::Paused], ..ops }, &message));
    let body = form::body(Form::PagerDuty, &message, "k");
    assert_eq!((body["event_action"].as_str(), body["dedup_key"].as_str()), (Some("resolve"), Some("howdah/7f3a09c2")));
}

#[test]
fn no_text_of_slacks_is_longer_than_slack_takes() {
    let long = "&".repeat(5000);
    let mut message = raised();
    for field in [&mut message.text, &mut message.plan, &mut message.server, &mut message.host, &mut message.attach] {
        field.clone_from(&long);
    }
    let body = form::body(Form::Slack, &message, "");
    let texts = [&body["text"], &body["blocks"][0]["text"]["text"], &body["blocks"][1]["elements"][0]["text"]];
    for text in texts.map(|text| text.as_str().unwrap()) {
        assert!(text.chars().count() <= 3000 && !text.contains("&am…"), "{}", text.len());
    }
}

#[tokio::test]
async fn what_holds_no_more_is_not_told_late_where_the_recipient_is_away() {
    let cleared = Message { occasion: Occasion::Cleared, ..raised() };
    let line = Line::new("ops".to_owned());
    line.push(raised());
    line.push(cleared.clone());
    assert_eq!(line.left().waiting, 2, "one that answers hears both");
    let out = line.next().await.unwrap();
    line.failed("HTTP 503");
    assert!(line.is_stale(&out));
    line.put_by();
    line.push(raised());
    line.push(cleared);
    let left = line.left();
    assert_eq!((left.waiting, left.lost), (2, 0), "both say that it is cleared");
}

#[tokio::test]
async fn a_webhook_that_is_away_for_longer_than_its_attempts_gets_its_message_all_the_same() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).up_to_n_times(9).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let recipient = Recipient { attempts: 2, ..web(&server.uri(), Form::Json) };
    let mut bench = Bench::with(vec![recipient]);
    bench.show(RunState::Running, vec![alert("slow batches", 1, Level::Warning)]);
    bench.trouble(|held| held.is_some()).await.unwrap();
    bench.trouble(|held| held.is_none()).await;
    let left = bench.end().await;
    assert_eq!((left[0].waiting, left[0].lost), (0, 0));
}

#[tokio::test]
async fn news_of_a_recipient_that_do_not_arrive_raise_nothing() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(404)).expect(1).mount(&server).await;
    let bench = Bench::with(vec![web(&server.uri(), Form::Json)]);
    bench.show(RunState::Running, vec![alert(&trouble_key("others"), 1, Level::Warning)]);
    let troubles = bench.troubles.clone();
    let left = bench.end().await;
    assert_eq!(left[0].lost, 1);
    assert!(troubles.borrow().is_empty());
}

#[test]
fn a_recipient_hears_what_it_wants_and_never_of_itself() {
    let message = raised();
    let ops = web("https://h", Form::Json);
    assert!(wants(&ops, &message));
    assert!(!wants(&Recipient { level: Level::Critical, ..ops.clone() }, &message));
    assert!(!wants(&Recipient { on: vec![Occasion::Failed], ..ops.clone() }, &message));
    let mut teller = Teller::default();
    let trouble = vec![alert(&trouble_key("ops"), 1, Level::Warning)];
    let about_it = teller.hear(&snapshot(RunState::Running, trouble)).remove(0);
    assert!(!wants(&ops, &about_it));
    assert!(wants(&Recipient { name: "others".to_owned(), ..ops.clone() }, &about_it));
    assert!(wants(&Recipient { on: vec![], ..ops }, &Message::test("p", "h", now(0))));
}

#[test]
fn the_bodies_are_as_they_are_documented() {
    let message = raised();
    let pretty = |form| format!("{:#}", form::body(form, &message, "routing-key"));
    let all = [Form::Json, Form::Slack, Form::PagerDuty].map(pretty).join("\n");
    insta::assert_snapshot!(all);
    // What is documented is what is sent.
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/reference/alerts.md"));
    assert!(page.contains(&pretty(Form::Json)), "assets/reference/alerts.md: the JSON body");
    assert!(page.contains(&pretty(Form::Slack)), "assets/reference/alerts.md: the Slack body");
    assert!(page.contains(&pretty(Form::PagerDuty)), "assets/reference/alerts.md: the PagerDuty body");
}

#[test]
fn what_an_answer_means_is_one_table() {
    let wait = Some(Duration::from_secs(7));
    let later = |status, words: &str| (of_status(status, "busy", wait), Verdict::Later(words.to_owned(), wait));
    for (got, expected) in [
        later(429, "HTTP 429: busy"),
        later(503, "HTTP 503: busy"),
        later(408, "HTTP 408: busy"),
        (of_status(202, "", None), Verdict::Delivered("HTTP 202".to_owned())),
        (of_status(404, "no_team", wait), Verdict::Never("HTTP 404: no_team".to_owned())),
        (
            of_status(302, "", wait),
            Verdict::Never("HTTP 302: it points elsewhere, and that is not followed".to_owned()),
        ),
    ] {
        assert_eq!(got, expected);
    }
    assert_eq!(retry_after("7", now(0)), wait);
    assert_eq!(retry_after("Fri, 15 Jan 2027 08:00:07 GMT", now(0)), wait);
    assert_eq!(retry_after("999999999", now(0)), Some(Duration::from_mins(5)));
    assert_eq!(retry_after("soon", now(0)), None);
}

#[test]
fn delays_are_drawn_below_the_exponential_one_and_wait_for_what_is_asked() {
    for seed in 0..200 {
        let mut delays = Delays::new(Duration::from_secs(1), Duration::from_secs(3), 5, seed);
        for most in [1, 2, 3, 3] {
            assert!(delays.next(None).unwrap() <= Duration::from_secs(most));
        }
        assert_eq!(delays.next(None), None);
    }
    let mut delays = Delays::new(Duration::from_secs(1), Duration::from_secs(3), 5, 7);
    assert_eq!(delays.next(Some(Duration::from_mins(1))), Some(Duration::from_mins(1)));
}

#[tokio::test]
async fn a_line_is_bounded_and_the_oldest_goes_first() {
    let line = Line::new("ops".to_owned());
    for count in 0..130 {
        line.push(Message { run: count.to_string(), ..raised() });
    }
    line.close();
    assert_eq!(line.left(), Left { name: "ops".to_owned(), waiting: 100, lost: 30, why: None });
    assert_eq!(line.next().await.unwrap().run, "30");
    line.done(Some("HTTP 404"));
    let left = line.left();
    assert_eq!((left.waiting, left.lost, left.why.as_deref()), (99, 31, Some("HTTP 404")));
}

/// An office at work, with the ends that a test holds.
struct Bench {
    snapshots: watch::Sender<Arc<Snapshot>>,
    troubles: watch::Receiver<Troubles>,
    lines: Lines,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

impl Bench {
    fn with(recipients: Vec<Recipient>) -> Self {
        let (snapshots, seen) = watch::channel(Arc::new(snapshot(RunState::Running, vec![])));
        let (troubles, known) = watch::channel(Troubles::new());
        let (lines, closing) = (Lines::default(), CancellationToken::new());
        let recipients = watch::channel(Some(Arc::new(recipients))).1;
        let office = Office { recipients, snapshots: seen, troubles, lines: Arc::clone(&lines), patience: QUICK };
        let mut tasks = JoinSet::new();
        tasks.spawn(office.keep(closing.clone()));
        Self { snapshots, troubles: known, lines, closing, tasks }
    }

    fn show(&self, state: RunState, alerts: Vec<Alert>) {
        self.snapshots.send_replace(Arc::new(snapshot(state, alerts)));
    }

    async fn trouble(&mut self, is: impl Fn(Option<&String>) -> bool) -> Option<String> {
        let key = trouble_key("ops");
        let held = self.troubles.wait_for(|troubles| is(troubles.get(&key).and_then(Option::as_ref)));
        let held = tokio::time::timeout(Duration::from_secs(10), held).await.unwrap().unwrap();
        held.get(&key).cloned().flatten()
    }

    /// Ends it, and returns what did not get out.
    async fn end(mut self) -> Vec<Left> {
        self.closing.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(Duration::from_secs(2), ended).await);
        self.tasks.shutdown().await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.left()).collect()
    }
}

#[tokio::test]
async fn a_webhook_that_fails_and_recovers_gets_its_message_and_its_own_alert_ends() {
    let server = MockServer::start().await;
    let secret = format!("/{SECRET}");
    let busy = ResponseTemplate::new(503).set_body_string(format!("down, said {SECRET}\u{1b}[2J"));
    let fails = Mock::given(method("POST")).and(path(secret.as_str())).respond_with(busy).up_to_n_times(3);
    fails.mount(&server).await;
    let works = Mock::given(method("POST")).and(path(secret.as_str())).and(header("authorization", "Bearer abcdef123"));
    works.respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let mut bench = Bench::with(vec![web(&format!("{}{secret}", server.uri()), Form::Slack)]);
    bench.show(RunState::Running, vec![alert("slow batches", 1, Level::Warning)]);
    let why = bench.trouble(|held| held.is_some()).await.unwrap();
    assert!(why.starts_with("ops is not reached: HTTP 503: down, said ***"), "{why}");
    assert!(!why.contains(SECRET) && !why.contains('\u{1b}'), "{why}");
    bench.trouble(|held| held.is_none()).await;
    bench.show(RunState::Done { at: now(9) }, vec![]);
    let left = bench.end().await;
    assert_eq!((left[0].waiting, left[0].lost), (0, 0));
    let got = server.received_requests().await.unwrap();
    assert_eq!(got.len(), 3 + 2, "three that failed, and two messages");
    let last = String::from_utf8_lossy(&got[4].body).into_owned();
    assert!(last.contains(":white_check_mark: *emails*: done: 0 rows changed"), "{last}");
}

#[tokio::test]
async fn a_webhook_that_stalls_delays_nobody_else_and_is_told_of_at_the_end() {
    let stalls = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_delay(Duration::from_mins(1)))
        .mount(&stalls)
        .await;
    let works = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).expect(1..).mount(&works).await;
    let other = Recipient { name: "others".to_owned(), ..web(&works.uri(), Form::Json) };
    let mut bench = Bench::with(vec![web(&stalls.uri(), Form::PagerDuty), other]);
    bench.show(RunState::Running, vec![alert("slow batches", 1, Level::Warning)]);
    let why = bench.trouble(|held| held.is_some()).await.unwrap();
    assert_eq!(why, "ops is not reached: no answer in time");
    assert!(!works.received_requests().await.unwrap().is_empty(), "nobody waits for the one that stalls");
    let began = Instant::now();
    bench.show(RunState::Done { at: now(9) }, vec![]);
    let left = bench.end().await;
    assert!(began.elapsed() < Duration::from_secs(8), "the end is not held up");
    assert!(left[0].waiting + left[0].lost >= 2, "{left:?}");
    assert_eq!((left[1].waiting, left[1].lost), (0, 0));
}

#[tokio::test]
async fn what_can_never_arrive_is_not_tried_again_and_a_redirect_is_not_followed() {
    for (status, words) in [(404, "HTTP 404"), (307, "HTTP 307: it points elsewhere")] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).insert_header("location", "http://127.0.0.1:1/elsewhere");
        Mock::given(method("POST")).respond_with(answer).expect(1).mount(&server).await;
        let mut bench = Bench::with(vec![web(&server.uri(), Form::Json)]);
        bench.show(RunState::Running, vec![alert("a", 1, Level::Critical)]);
        let why = bench.trouble(|held| held.is_some()).await.unwrap();
        assert!(why.contains(words), "{why}");
        assert_eq!(bench.end().await[0].lost, 1);
    }
}

#[test]
fn what_a_recipient_says_back_is_told_without_its_secrets_in_whatever_coat() {
    let Destination::Web(mut web) =
        web("https://tok-en-1@h.example/services/T0000001/B1?sig=ab%2Fcd%2Bef", Form::Json).to
    else {
        panic!("a webhook")
    };
    web.key = Some(SecretString::from("rout/ing"));
    let secrets = web::Secrets::of(&web);
    let table = [
        ("no such team T0000001", "no such team ***"),
        ("services/B1", "***/B1"),
        (r"\/services\/T0000001\/B1?sig=ab%2Fcd%2Bef", r"\/***"),
        ("services%2FT0000001%2fB1", "***%2F***%2fB1"),
        ("sig ab/cd+ef ab%2fcd%2bef", "sig *** ***"),
        ("by tok-en-1, Bearer abcdef123, abcdef123", "by ***, ***, ***"),
        ("rout/ing rout%2fing rout%2Fing rout\\/ing", "*** *** *** ***"),
        ("busy", "busy"),
    ];
    for (said, told) in table {
        assert_eq!(secrets.hidden(said, usize::MAX), told, "{said}");
    }
    // What is told is cut after secrets are hidden, and never shows the begin of one.
    for before in 0..40 {
        let said = format!("{}T0000001 T0000001", "x".repeat(before));
        let cut: String = said.chars().take(20 + secrets.longest()).collect();
        let told = secrets.hidden(&cut, 20);
        assert!(!told.contains('T') && !told.contains('0'), "{told}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_within_a_secret_does_not_show_the_begin_of_it() {
    let server = MockServer::start().await;
    let body = format!("{}{SECRET}", "x".repeat(295));
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(404).set_body_string(body)).mount(&server).await;
    let recipient = web(&format!("{}/{SECRET}", server.uri()), Form::Json);
    let Verdict::Never(why) = attempt(&recipient, &raised()).await else { panic!("it is refused") };
    assert!(why.ends_with("xxx***") && !why.contains("T0"), "{why}");
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_is_told_without_its_secret() {
    let url = format!("http://127.0.0.1:1/{SECRET}");
    let recipient = web(&url, Form::Json);
    let Verdict::Later(why, None) = attempt(&recipient, &raised()).await else { panic!("it cannot arrive") };
    assert!(!why.contains(SECRET) && why.contains("onnect"), "{why}");
}

#[tokio::test]
async fn a_program_gets_the_json_without_a_shell_and_without_the_databases_address() {
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let script = format!("cat > {}; env >> {}", told.display(), told.display());
    let program = |argv: &[&str]| Recipient {
        to: Destination::Program(argv.iter().map(|word| (*word).to_owned()).collect()),
        timeout: Duration::from_secs(20),
        ..web("https://h", Form::Json)
    };
    let told_it = attempt(&program(&["/bin/sh", "-c", &script, "$(touch never)"]), &raised()).await;
    assert!(matches!(told_it, Verdict::Delivered(_)), "{told_it:?}");
    let text = std::fs::read_to_string(&told).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((json["version"].as_u64(), json["alert"]["key"].as_str()), (Some(1), Some("slow batches")));
    assert!(!text.contains("\nPGHOST="));

    let fails = attempt(&program(&["/bin/sh", "-c", "echo no >&2; exit 3"]), &raised()).await;
    assert_eq!(fails, Verdict::Later("exit status: 3: no".to_owned(), None));
    let missing = attempt(&program(&["/nowhere/at/all"]), &raised()).await;
    assert!(matches!(missing, Verdict::Never(_)), "{missing:?}");
    // What it leaves behind holds its standard error open.
    let began = Instant::now();
    let leaves = attempt(&program(&["/bin/sh", "-c", "echo yes >&2; sleep 19 & exit 0"]), &raised()).await;
    assert_eq!(leaves, Verdict::Delivered("exit status: 0: yes".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(15), "it is not waited for");
    let hangs = Recipient { timeout: Duration::from_millis(200), ..program(&["/bin/sleep", "600"]) };
    let late = attempt(&hangs, &raised()).await;
    assert_eq!(late, Verdict::Later("it did not end in time, and was killed".to_owned(), None));
}
