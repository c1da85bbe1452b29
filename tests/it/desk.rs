//! What a console looks up beside the snapshot, on a real server: sessions, the quarantine, the log.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use howdah::cli::desk::{self, Desk, Pace};
use howdah::postgres::dsn::Target;
use howdah::run::details::{Quarantine, SessionView, Sessions};
use howdah::run::vitals::Reading;
use howdah::run::{Details, Interest, Snapshot};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;
use crate::support::{DEADLINE, Lab};

const PACE: Pace = Pace {
    sessions: Duration::from_millis(50),
    quarantine: Duration::from_millis(50),
    log: Duration::from_millis(20),
    deadline: Duration::from_secs(5),
    linger: Duration::from_millis(300),
};

/// A desk at work, with the ends that a console holds.
struct Looking {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    interest: watch::Sender<Interest>,
    details: watch::Receiver<Arc<Details>>,
    runs: watch::Sender<Arc<Snapshot>>,
}

impl Looking {
    fn start(lab: &Lab, url: &str, run: &str) -> Self {
        Self::start_at(PACE, lab, url, run)
    }

    fn start_at(pace: Pace, lab: &Lab, url: &str, run: &str) -> Self {
        let now = chrono::Utc::now();
        let (runs, seen) =
            watch::channel(Arc::new(Snapshot::starting(now, run.to_owned(), "p".to_owned(), "ops1".to_owned())));
        let (interest, wanted) = watch::channel(Interest::default());
        let (answers, details) = watch::channel(Arc::default());
        let desk = Desk {
            target: Target::resolve(Some(url), None, &|_| None).expect("an address"),
            runs: seen,
            host: "ops1".to_owned(),
            logs: Some(lab.files.path().to_owned()),
            pace,
        };
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(desk::keep(desk, wanted, answers, stop.clone()));
        Self { tasks, stop, interest, details, runs }
    }

    fn look_at(&self, sessions: bool, quarantine: bool, log: bool) {
        self.interest.send_replace(Interest { sessions, quarantine, log, queue: false });
    }

    async fn until(&mut self, what: &str, fulfilled: impl Fn(&Details) -> bool) -> Arc<Details> {
        let seen = self.details.wait_for(|details| fulfilled(details));
        if let Ok(seen) = tokio::time::timeout(DEADLINE, seen).await {
            return Arc::clone(&seen.expect("the desk is at work"));
        }
        panic!("never seen: {what}\n{:#?}", self.details.borrow());
    }

    async fn until_sessions(&mut self, what: &str, fulfilled: impl Fn(&Sessions) -> bool) -> Arc<Sessions> {
        let details = self.until(what, |details| details.sessions.value().is_some_and(|seen| fulfilled(seen))).await;
        Arc::clone(details.sessions.value().expect("a value"))
    }

    async fn end(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), all).await.expect("the desk ends");
    }
}

fn called<'a>(sessions: &'a Sessions, application: &str) -> Option<&'a SessionView> {
    sessions.sessions.iter().find(|session| session.application == application)
}

/// Sessions of desks that the server has.
const DESKS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/desk'";

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_three_sessions_is_seen_with_who_blocks_whom_and_ours_are_marked() {
    let lab = Lab::open().await;
    lab.sql("CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items VALUES (1, 0), (2, 0)").await;
    let mut sessions = Vec::new();
    for name in ["howdah/7f3a09c2/numbers", "app-second", "app-third", "howdah/00000000/other"] {
        let mut session = lab.session().await;
        let set = format!("SET application_name = '{name}'");
        session.execute(sqlx::raw_sql(AssertSqlSafe(set))).await.expect("a name");
        sessions.push(session);
    }
    let [mut first, mut second, mut third, _other] = <[_; 4]>::try_from(sessions).expect("four");
    first.execute("BEGIN; UPDATE items SET n = 1 WHERE id = 1").await.expect("a lock");
    second.execute("BEGIN; UPDATE items SET n = 1 WHERE id = 2").await.expect("a lock");
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { second.execute("UPDATE items SET n = 2 WHERE id = 1").await.map(|_| second) });
    waiting.spawn(async move { third.execute("UPDATE items SET n = 2 WHERE id = 2").await.map(|_| third) });

    let mut looking = Looking::start(&lab, &lab.url, "7f3a09c2");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lab.number(DESKS).await, 0, "nobody looks: there is no connection");
    looking.look_at(true, false, false);
    let blocked =
        |name: &'static str| move |seen: &Sessions| called(seen, name).is_some_and(|s| !s.blocked_by.is_empty());
    let seen =
        looking.until_sessions("two that wait", |seen| blocked("app-second")(seen) && blocked("app-third")(seen)).await;
    let [first_view, second_view, third_view, other] =
        ["howdah/7f3a09c2/numbers", "app-second", "app-third", "howdah/00000000/other"]
            .map(|name| called(&seen, name).expect("a session"));
    assert_eq!(second_view.blocked_by, [first_view.pid]);
    assert_eq!(third_view.blocked_by, [second_view.pid]);
    assert!(first_view.blocked_by.is_empty() && first_view.is_ours && !second_view.is_ours && !other.is_ours);
    assert_eq!(first_view.state, "idle in transaction");
    assert!(first_view.transaction.is_some() && first_view.wait.is_none() && other.transaction.is_none());
    assert_eq!(second_view.wait.as_deref(), Some("Lock: transactionid"));
    assert_eq!(second_view.query, "UPDATE items SET n = 2 WHERE id = 1");
    assert_eq!((second_view.client.as_str(), second_view.user.as_str()), ("local", "demo"));
    let order: Vec<i32> = seen.sessions.iter().map(|session| session.pid).collect();
    let place = |of: &SessionView| order.iter().position(|pid| *pid == of.pid).expect("a place");
    assert!(place(first_view) == 0 && place(second_view) < place(other) && place(third_view) < place(other));
    assert!(seen.limit > 0 && called(&seen, "howdah/7f3a09c2/desk").is_none(), "not the session that asks");

    first.execute("COMMIT").await.expect("a commit");
    while let Some(ended) = waiting.join_next().await {
        ended.expect("a task").expect("an update").execute("COMMIT").await.expect("a commit");
    }
    looking
        .until_sessions("nobody waits", |seen| seen.sessions.iter().all(|session| session.blocked_by.is_empty()))
        .await;
    assert_eq!(lab.number(DESKS).await, 1);
    looking.look_at(false, false, false);
    lab.until(&format!("SELECT ({DESKS}) = 0")).await;
    looking.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_in_statements_are_masked_and_long_statements_are_cut() {
    let lab = Lab::tuned(&[("track_activity_query_size", "20000")]).await;
    let mut session = lab.session().await;
    session.execute("SET application_name = 'admin'").await.expect("a name");
    session.execute("CREATE ROLE ann LOGIN PASSWORD 'hunter2'").await.expect("a role");
    let mut long = lab.session().await;
    long.execute("SET application_name = 'long'").await.expect("a name");
    let sql = format!("SELECT 1 WHERE 'é' <> '{}'", "x".repeat(9_000));
    long.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("a statement");
    let mut looking = Looking::start(&lab, &lab.url, "7f3a09c2");
    looking.look_at(true, false, false);
    let seen =
        looking.until_sessions("both", |seen| called(seen, "admin").is_some() && called(seen, "long").is_some()).await;
    assert_eq!(called(&seen, "admin").expect("it").query, "CREATE ROLE ann LOGIN PASSWORD '***'");
    assert_eq!(called(&seen, "long").expect("it").query.chars().count(), 4_000);
    looking.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_sees_that_others_are_there_and_is_told_why_not_more() {
    let lab = Lab::open().await;
    lab.sql("CREATE ROLE plain LOGIN").await;
    let mut other = lab.session().await;
    other.execute("SET application_name = 'app'; SELECT 'private'").await.expect("a statement");
    let url = lab.url.replacen("//demo@", "//plain@", 1);
    let mut own = sqlx::PgConnection::connect(&url).await.expect("a session of the role's own");
    own.execute("SET application_name = 'own'; SELECT 'mine'").await.expect("a statement");
    let mut looking = Looking::start(&lab, &url, "7f3a09c2");
    looking.look_at(true, true, false);
    let seen =
        looking.until_sessions("both", |seen| called(seen, "app").is_some() && called(seen, "own").is_some()).await;
    let (app, own) = (called(&seen, "app").expect("it"), called(&seen, "own").expect("it"));
    assert_eq!((app.query.as_str(), app.state.as_str()), ("(not visible to this role)", "(not visible to this role)"));
    assert!(app.transaction.is_none() && app.wait.is_none() && app.pid > 0);
    assert_eq!((own.user.as_str(), own.state.as_str()), ("plain", "idle"));
    assert!(own.query.contains("mine"), "{}", own.query);
    let empty = Reading::Value(Arc::new(Quarantine::default()));
    looking.until("no ledger, so nothing is set aside", |details| details.quarantine == empty).await;
    lab.sql("CREATE SCHEMA howdah; CREATE TABLE howdah.run (id uuid); CREATE TABLE howdah.version (version int)").await;
    let refused = |details: &Details| matches!(&details.quarantine, Reading::Unavailable(why) if why.contains("permission denied"));
    looking.until("a ledger that the role may not read", refused).await;
    assert!(looking.details.borrow().sessions.value().is_some(), "and the sessions go on");
    looking.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_set_aside_are_listed_the_newest_first_and_followed() {
    let lab = Lab::open().await;
    lab.sql(
        "CREATE TABLE items (id bigint PRIMARY KEY, txt text NOT NULL, n int, doc text);
         INSERT INTO items SELECT i, CASE WHEN i % 1000 = 7 THEN 'x' || i ELSE i::text END, NULL, repeat('y', 9000)
         FROM generate_series(1, 3000) i; ANALYZE items",
    )
    .await;
    let plan = lab.plan(
        "numbers.toml",
        "name = \"numbers\"\n[[step]]\nname = \"numbers\"\nbackfill = \"items\"\nset = { n = \"txt::int\" }\n",
    );
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).run().expect_code(4);
    // The console opens before the run is known.
    let mut looking = Looking::start(&lab, &lab.url, "newest");
    looking.look_at(false, true, true);
    let empty = Reading::Value(Arc::new(Quarantine::default()));
    looking.until("nothing of an unknown run", |details| details.quarantine == empty).await;
    assert_eq!(looking.details.borrow().log, Reading::Pending);
    let id = lab.run_id().await;
    looking.runs.send_modify(|run| Arc::make_mut(run).run = id);
    let listed = |details: &Details| details.quarantine.value().is_some_and(|seen| seen.rows.len() == 3);
    let details = looking.until("three rows", listed).await;
    let seen = details.quarantine.value().expect("a value");
    assert_eq!((seen.open, seen.resolved), (3, 0));
    let row = seen.rows.iter().find(|row| row.key == vec!["1007".to_owned()]).expect("row 1007");
    assert_eq!((row.step.as_str(), row.part.as_str(), row.sqlstate.as_deref()), ("numbers", "", Some("22P02")));
    assert!(row.message.contains("invalid input syntax") && !row.is_resolved && row.attempts > 0);
    let shown = row.row.as_deref().expect("the row");
    assert!(shown.starts_with("{\n    ") && shown.contains("\"yyy") && shown.ends_with('…'), "{shown}");
    assert_eq!(shown.chars().count(), 8_000);
    lab.sql(
        "UPDATE howdah.quarantine SET resolved_at = now() WHERE key = '{7}';
         UPDATE howdah.quarantine SET at = now() + interval '1 h' WHERE key = '{2007}'",
    )
    .await;
    let details = looking
        .until("one is resolved", |details| {
            details.quarantine.value().is_some_and(|seen| (seen.open, seen.resolved) == (2, 1))
        })
        .await;
    let rows = &details.quarantine.value().expect("a value").rows;
    assert_eq!(rows[0].key, vec!["2007".to_owned()], "the newest is the first");
    assert!(rows.iter().all(|row| row.is_resolved == (row.key == vec!["7".to_owned()])));
    looking.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_end_is_followed_and_a_log_elsewhere_is_said_to_be_there() {
    let lab = Lab::open().await;
    let path = lab.files.path().join("howdah-7f3a09c2.2026-11-26.log");
    let append = |text: &str| {
        let mut file = std::fs::File::options().create(true).append(true).open(&path).expect("a log");
        file.write_all(text.as_bytes()).expect("a line");
    };
    let mut looking = Looking::start(&lab, &lab.url, "7f3a09c2");
    looking.look_at(false, false, true);
    let missing =
        |details: &Details| matches!(&details.log, Reading::Unavailable(why) if why.contains("no log of run 7f3a09c2"));
    looking.until("there is no log", missing).await;
    append("2026-11-26T03:52:46.123456Z  INFO howdah::engine: began\n");
    let lines = |many: usize| move |details: &Details| details.log.value().is_some_and(|log| log.lines.len() == many);
    looking.until("a line", lines(1)).await;
    append("2026-11-26T03:52:47.000001Z  WARN howdah::engine: slow\nand why\n");
    let details = looking.until("three lines", lines(3)).await;
    let log = details.log.value().expect("a value");
    assert_eq!(log.path, path.display().to_string());
    let seen: Vec<_> =
        log.lines.iter().map(|line| (line.no, line.level.word(), line.at.is_some(), line.text.as_str())).collect();
    let expected = [
        (0, "INFO", true, "howdah::engine: began"),
        (1, "WARN", true, "howdah::engine: slow"),
        (2, "WARN", false, "and why"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(lab.number(DESKS).await, 0, "the log needs no connection");
    looking.runs.send_modify(|run| Arc::make_mut(run).host = "ops2".to_owned());
    let elsewhere = |details: &Details| matches!(&details.log, Reading::Unavailable(why) if why.contains("on ops2") && why.contains("this is ops1"));
    looking.until("another host drives it", elsewhere).await;
    looking.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_outlives_the_loss_of_its_server_and_its_own_end_is_quick() {
    let mut lab = Lab::open().await;
    let mut looking = Looking::start(&lab, &lab.url, "7f3a09c2");
    looking.look_at(true, true, false);
    looking.until_sessions("the sessions", |_| true).await;
    lab.server.stop_immediate().await.expect("a crash");
    looking.until("it is away", |details| matches!(&details.sessions, Reading::Unavailable(_))).await;
    lab.server.restart().await.expect("a server again");
    looking.until_sessions("it is back", |_| true).await;
    looking.until("and so is the quarantine", |details| details.quarantine.value().is_some()).await;
    // Somebody ends the desk's own session.
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%/desk'").await;
    looking.until("it is away", |details| matches!(&details.sessions, Reading::Unavailable(_))).await;
    looking.until_sessions("it is back", |_| true).await;
    let began = Instant::now();
    looking.end().await;
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_stands_still_is_said_to_and_holds_up_nobody() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let mut looking = Looking::start_at(Pace { deadline: Duration::from_millis(400), ..PACE }, &lab, &url, "7f3a09c2");
    looking.look_at(true, true, false);
    looking.until_sessions("the sessions", |_| true).await;
    proxy.freeze().await;
    let silent =
        |details: &Details| matches!(&details.sessions, Reading::Unavailable(why) if why.contains("no answer within"));
    looking.until("no answer", silent).await;
    proxy.pass().await;
    looking.until_sessions("it is back", |_| true).await;
    proxy.freeze().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    looking.end().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
