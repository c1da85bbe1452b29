//! Servers that die and networks that fail: a run waits them out, in one and the same process, and each row changes once.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proxy::Proxy;
use crate::support::{Ended, Lab, Running};

/// Short deadlines and a breaker that is quick, so that the tests are; and rests between batches, so that a run on a fast
/// machine is still under way when its server dies.
const PLAN: &str = r#"
name = "credit"
[limits]
workers = 4
batch = { start = 100, min = 50, max = 100, target = "500ms" }
lock_timeout = "1s"
statement_timeout = "2s"
idle_in_transaction_timeout = "5s"
nice = 2
[retry]
base = "50ms"
max = "500ms"
[breaker]
failures = 3
reset = "2s"
[[step]]
name = "balances"
backfill = "accounts"
set = { balance = "balance + 1" }
"#;

const ROWS: i64 = 150_000;

async fn accounts(lab: &Lab) {
    lab.sql(&format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO accounts SELECT i * 7, i * 1000 FROM generate_series(1, {ROWS}) AS i;
         CREATE TABLE before AS TABLE accounts; ANALYZE accounts"
    ))
    .await;
}

/// A run that is under way, in the plan's name, at a URL.
async fn begin(lab: &Lab, url: &str) -> Running {
    accounts(lab).await;
    let plan = lab.plan("credit.toml", PLAN);
    let running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).at(url).start();
    lab.until_walked(5000).await;
    running
}

async fn expect_rows_once(lab: &Lab) {
    let wrong = lab
        .text(
            "SELECT coalesce(string_agg(format('%s rows %s times, from %s to %s', n, times, first, last), '; '), 'none')
             FROM (SELECT a.balance - b.balance AS times, count(*) AS n, min(id) AS first, max(id) AS last
                   FROM before b FULL JOIN accounts a USING (id)
                   WHERE a.balance IS DISTINCT FROM b.balance + 1 GROUP BY 1) wrong",
        )
        .await;
    assert_eq!(wrong, "none", "rows changed other than once");
    let open = lab.number("SELECT count(*) FROM howdah.segment WHERE NOT done").await;
    assert_eq!(open, 0, "segments that are not done");
}

/// In the table and in the ledger, by one and the same process.
async fn expect_each_row_once(lab: &Lab) {
    expect_rows_once(lab).await;
    let walked = lab.number(WALKED).await;
    assert_eq!(walked, ROWS, "the ledger counts each row once as well");
    assert_eq!(
        lab.number("SELECT count(*) FROM howdah.event WHERE kind = 'run_resumed'").await,
        0,
        "one process did it"
    );
}

/// Rows that the ledger has been told of.
const WALKED: &str = "SELECT coalesce(sum(rows_walked), 0)::bigint FROM howdah.segment";

/// Waits until the outage is over for howdah, and it goes on.
async fn until_it_goes_on(lab: &Lab, running: &mut Running) {
    let walked = lab.number(WALKED).await;
    goes_on(lab, running, walked + 2000).await;
}

async fn goes_on(lab: &Lab, running: &mut Running, to: i64) {
    tokio::select! {
        biased;
        () = lab.until_walked(to) => {}
        said = running.ended() => panic!("it did not survive:\n{said}"),
    }
}

/// The run has come through, and its facts tell of failures that were tried again.
fn expect_survived(running: Running) -> Ended {
    let ended = running.wait().expect_code(0);
    let told = ended.events_of("retried").len() + ended.events_of("breaker").len();
    assert!(told > 0, "nothing tells of the outage: {:?}", ended.events());
    ended
}

fn expect_breaker(ended: &Ended) {
    let told = ended.events_of("breaker");
    assert!(told.len() >= 2, "the breaker opened and closed again: {:?}", ended.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_stopped_and_restarted_is_waited_out_and_each_row_changes_once() {
    let mut lab = Lab::open().await;
    let url = lab.url.clone();
    let mut running = begin(&lab, &url).await;

    lab.server.kill().await.expect("the server dies");
    // Long enough for three failures in a row, which open the breaker.
    tokio::time::sleep(Duration::from_secs(4)).await;
    lab.server.restart().await.expect("the server comes back");
    until_it_goes_on(&lab, &mut running).await;

    lab.server.stop_immediate().await.expect("the server stops");
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.server.restart().await.expect("the server comes back");
    until_it_goes_on(&lab, &mut running).await;

    // A fast stop, and at once a start.
    lab.server.restart().await.expect("the server comes back");

    expect_breaker(&expect_survived(running));
    expect_each_row_once(&lab).await;
}

/// Holds the WAL writer still, at a moment when it holds no lock.
async fn hold_the_wal_writer(lab: &Lab) -> Pid {
    let writer = lab.number("SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'walwriter'").await;
    let writer = Pid::from_raw(i32::try_from(writer).expect("a pid"));
    let idle = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {writer} AND wait_event = 'WalWriterMain'");
    loop {
        kill(writer, Signal::SIGSTOP).expect("a signal");
        if lab.number(&idle).await == 1 {
            return writer;
        }
        kill(writer, Signal::SIGCONT).expect("a signal");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_a_crash_of_the_server_has_lost_are_done_again_and_each_row_changes_once() {
    // Batches commit without waiting for the disk: their WAL stays in memory until somebody writes it, and a crash takes
    // it away. Afterwards the ledger stands behind what howdah has been told was committed, over ends of segments as well.
    let mut lab = Lab::tuned(&[("wal_writer_delay", "10s"), ("wal_buffers", "64MB")]).await;
    let url = lab.url.clone();
    let mut running = begin(&lab, &url).await;
    let mut lost = 0;
    for _ in 0..3 {
        let writer = hold_the_wal_writer(&lab).await;
        let walked = lab.number(WALKED).await;
        goes_on(&lab, &mut running, walked + 10_000).await;
        // Nothing more is committed until the server is back.
        running.signal(Signal::SIGSTOP);
        let told = lab.number(WALKED).await;
        let postmaster = Pid::from_raw(lab.server.pid().expect("it runs"));
        // First the postmaster, so that it does not answer to the writer's death.
        for process in [postmaster, writer] {
            kill(process, Signal::SIGKILL).expect("a signal");
        }
        lab.server.kill().await.expect("the server dies");
        lab.server.restart().await.expect("the server comes back");
        // By a session of its own: the pool's are those of the former server.
        let kept: i64 = sqlx::query_scalar(WALKED).fetch_one(&mut lab.session().await).await.expect("the ledger");
        running.signal(Signal::SIGCONT);
        lost += told - kept;
    }
    // A commit that waits, such as a heartbeat's, takes earlier ones along to the disk: not every crash loses much.
    assert!(lost > 0, "no crash lost anything, so nothing was shown");
    expect_survived(running);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_an_administrator_ends_are_opened_again_and_each_row_changes_once() {
    let lab = Lab::open().await;
    let url = lab.url.clone();
    let mut running = begin(&lab, &url).await;
    for _ in 0..5 {
        // All of them: workers', the lock's, the heartbeat's.
        lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%'").await;
        until_it_goes_on(&lab, &mut running).await;
    }
    expect_survived(running);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_network_cuts_are_opened_again_and_each_row_changes_once() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let mut running = begin(&lab, &url).await;
    for _ in 0..5 {
        proxy.cut().await;
        until_it_goes_on(&lab, &mut running).await;
    }
    expect_survived(running);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_for_some_seconds_is_waited_out_and_each_row_changes_once() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let mut running = begin(&lab, &url).await;
    proxy.refuse().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.pass().await;
    until_it_goes_on(&lab, &mut running).await;
    expect_breaker(&expect_survived(running));
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_freezes_and_then_passes_new_connections_only_hangs_no_worker() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let mut running = begin(&lab, &url).await;
    let began = Instant::now();
    // Longer than any deadline of the plan: connections that are opened meanwhile freeze as well.
    proxy.freeze().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    // The sessions behind the old connections live on at the server, with their locks, and nobody will ever end them
    // from this side.
    proxy.forget().await;
    until_it_goes_on(&lab, &mut running).await;
    // And once more, without a warning.
    proxy.forget().await;
    expect_survived(running);
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_freezes_for_a_moment_and_thaws_changes_each_row_once() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let mut running = begin(&lab, &url).await;
    for millis in [300, 1500, 4000] {
        proxy.freeze().await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        proxy.pass().await;
        until_it_goes_on(&lab, &mut running).await;
    }
    running.wait().expect_code(0);
    expect_each_row_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_was_cut_off_while_another_took_its_run_over_says_so_and_changes_nothing_more() {
    let lab = Lab::over_tcp("secret").await;
    let (proxy, url) = Proxy::before_url(&lab.url);
    let first = begin(&lab, &url).await;
    // The first driver hears nothing any more, and its sessions end, the one with the lock among them.
    proxy.freeze().await;
    lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%'").await;
    lab.until_undriven().await;
    let mut second = lab.howdah(&["resume", "--headless"]).start();
    let pid = second.child.id();
    lab.until(&format!("SELECT driver_pid = {pid} FROM howdah.run")).await;
    until_it_goes_on(&lab, &mut second).await;
    // Now the first one hears again, and comes back.
    proxy.pass().await;
    first.wait().expect_code(1).expect_words(&["another driver has taken this run over"]);
    second.wait().expect_code(0);
    expect_rows_once(&lab).await;
    assert_eq!(lab.number(WALKED).await, ROWS);
    assert_eq!(lab.text("SELECT state FROM howdah.run").await, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_while_the_server_is_away_stops_and_can_be_resumed() {
    let mut lab = Lab::open().await;
    let url = lab.url.clone();
    let running = begin(&lab, &url).await;
    lab.server.kill().await.expect("the server dies");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    // Where it stands cannot be written down: either code is honest, hanging is not.
    let ended = running.wait();
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(matches!(ended.code(), Some(1 | 3)), "{:?}\n{}", ended.code(), ended.stderr());
    lab.server.restart().await.expect("the server comes back");
    lab.howdah(&["resume", "--headless"]).run().expect_code(0);
    expect_rows_once(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_is_waited_out_under_the_breaker_and_each_row_changes_once() {
    let lab = Lab::open().await;
    let url = lab.url.clone();
    // The server's own word for it, 53100, said by a trigger: no disk is filled in a test.
    lab.sql(
        "CREATE TABLE disk (is_full boolean NOT NULL); INSERT INTO disk VALUES (false);
         CREATE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT is_full FROM disk) THEN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
             END IF; RETURN NULL; END $$",
    )
    .await;
    accounts(&lab).await;
    lab.sql("CREATE TRIGGER write AFTER UPDATE ON accounts FOR EACH STATEMENT EXECUTE FUNCTION write()").await;
    let plan = lab.plan("credit.toml", PLAN);
    let mut running = lab.howdah(&["run", plan.to_str().expect("a path"), "--json"]).at(&url).start();
    lab.until_walked(5000).await;
    lab.sql("UPDATE disk SET is_full = true").await;
    running.until_said("No space left on device").await;
    running.until_said("breaker open").await;
    lab.sql("UPDATE disk SET is_full = false").await;
    until_it_goes_on(&lab, &mut running).await;
    expect_breaker(&expect_survived(running));
    expect_each_row_once(&lab).await;
}
