//! A real server, from its start to its end. Needs an installed PostgreSQL, or a way to download one.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::process::{Life, life, of_cluster};
use super::*;

async fn start(options: Options) -> Server {
    Server::start(options, &|_| ()).await.unwrap()
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect(url).await.unwrap()
}

async fn ask(url: &str, sql: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
    connection.close().await?;
    answer
}

fn any_process_of(directory: &std::path::Path) -> bool {
    !of_cluster(&directory.join("data"), &directory.file_name().unwrap().to_string_lossy()).is_empty()
}

#[tokio::test]
async fn a_server_starts_answers_and_leaves_nothing_when_it_is_dropped() {
    let stages = Mutex::new(Vec::new());
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let options = Options { settings, ..Options::default() };
    let server = Server::start(options, &|stage| stages.lock().unwrap().push(stage)).await.unwrap();
    let initialising = Stage::Initialising { version: server.version().to_owned() };
    for stage in [Stage::Finding, initialising, Stage::Starting] {
        assert!(stages.lock().unwrap().contains(&stage), "{stage:?}");
    }
    let url = server.url("postgres");
    assert_eq!(ask(&url, "SELECT current_user::text").await.unwrap(), "demo");
    assert_eq!(ask(&url, "SHOW work_mem").await.unwrap(), "7MB");
    assert_eq!(ask(&url, "SHOW server_encoding").await.unwrap(), "UTF8");
    assert!(ask(&url, "SHOW server_version").await.unwrap().starts_with(server.version()));

    let (directory, pid) = (server.directory().to_owned(), server.pid().unwrap());
    assert!(matches!(life(pid), Life::Alive { .. }));
    drop(server);
    assert_eq!(life(pid), Life::Gone);
    assert!(!directory.exists());
    assert!(!any_process_of(&directory));
}

#[tokio::test]
async fn psql_understands_the_url() {
    let server = start(Options::default()).await;
    let psql = server.bin().join("psql");
    if psql.exists() {
        let url = server.url("postgres");
        let output = Command::new(psql).args([url.as_str(), "-XAtc", "SELECT current_user"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "demo", "{output:?}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_on_a_port_asks_for_the_password() {
    let listen = Listen::Tcp { password: "p/w @1'é".into() };
    let server = start(Options { listen, ..Options::default() }).await;
    let url = server.url("postgres");
    assert!(url.contains("@127.0.0.1:"), "{url}");
    assert_eq!(ask(&url, "SELECT inet_server_addr()::text").await.unwrap(), "127.0.0.1/32");
    let error = ask(&url.replace("p%2Fw", "wrong"), "SELECT ''").await.unwrap_err();
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    assert_eq!(code.as_deref(), Some("28P01"), "{error}");
    assert!(!server.directory().join("password").exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_or_stopped_server_restarts_with_its_data() {
    let mut server = start(Options::default()).await;
    let url = server.url("postgres");
    let pool = pool(&url).await;
    sqlx::raw_sql("CREATE TABLE kept AS SELECT 42 AS answer").execute(&pool).await.unwrap();
    let (first, directory) = (server.pid().unwrap(), server.directory().to_owned());

    server.kill().await.unwrap();
    assert_eq!(server.pid(), None);
    assert_eq!(life(first), Life::Gone);
    assert!(!any_process_of(&directory));
    assert!(ask(&url, "SELECT ''").await.is_err());

    server.restart().await.unwrap();
    assert_ne!(server.pid(), Some(first));
    assert_eq!(ask(&url, "SELECT answer::text FROM kept").await.unwrap(), "42");
    // A restart of one that runs is a fast shutdown first.
    server.restart().await.unwrap();
    assert_eq!(ask(&url, "SELECT answer::text FROM kept").await.unwrap(), "42");

    let before = server.pid().unwrap();
    server.stop_immediate().await.unwrap();
    assert_eq!((server.pid(), life(before)), (None, Life::Gone));
    assert!(!any_process_of(&directory));
    server.stop_immediate().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&url, "SELECT answer::text FROM kept").await.unwrap(), "42");

    pool.close().await;
    let second = server.pid().unwrap();
    server.stop().await.unwrap();
    assert_eq!(life(second), Life::Gone);
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_server_that_was_killed_and_left_is_cleared_away_too() {
    let mut server = start(Options::default()).await;
    let directory = server.directory().to_owned();
    server.kill().await.unwrap();
    drop(server);
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_kept_server_stays_and_its_command_stops_it() {
    let server = start(Options { keep: true, ..Options::default() }).await;
    let (directory, url, command) = (server.directory().to_owned(), server.url("postgres"), server.stop_command());
    drop(server);
    assert!(!sweep().removed.contains(&directory), "a kept sandbox is no left-over");
    assert_eq!(ask(&url, "SELECT 'here'").await.unwrap(), "here");
    let status = Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(status.success(), "{command}");
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_an_error_with_its_words() {
    let settings = vec![("shared_buffers".to_owned(), "lots".to_owned())];
    let error = Server::start(Options { settings, ..Options::default() }, &|_| ()).await.unwrap_err();
    assert!(matches!(error, SandboxError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

/// Not a test of its own: the process that [`an_owner_that_is_killed_leaves_nothing`] starts and kills.
#[tokio::test]
async fn an_owner_to_be_killed() {
    let Some(report) = std::env::var_os(REPORT).map(PathBuf::from) else { return };
    let server = start(Options::default()).await;
    let draft = report.with_extension("new");
    std::fs::write(&draft, format!("{}\n{}", server.pid().unwrap(), server.directory().display())).unwrap();
    std::fs::rename(draft, report).unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
}

const REPORT: &str = "HOWDAH_TEST_SANDBOX_REPORT";

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let report = place.path().join("report");
    let name = format!("{}::an_owner_to_be_killed", module_path!().trim_start_matches("howdah::"));
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env(REPORT, &report)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    within(60, "the owner's server starts", || report.exists()).await;
    let text = std::fs::read_to_string(&report).unwrap();
    let (pid, directory) = text.split_once('\n').unwrap();
    let (pid, directory) = (pid.parse().unwrap(), PathBuf::from(directory));
    assert!(matches!(life(pid), Life::Alive { .. }));

    owner.kill().unwrap();
    owner.wait().unwrap();
    within(15, "the server ends", || life(pid) == Life::Gone && !any_process_of(&directory)).await;
    within(15, "the directory is removed", || !directory.exists()).await;
}

async fn within(seconds: u64, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_users_are_the_same_every_time() {
    const ROWS: u64 = 60_000;
    let server = start(Options::default()).await;
    let mut sums = Vec::new();
    for database in ["one", "two"] {
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
        let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();

        let url = server.url(database);
        let pool = pool(&url).await;
        let mut steps = Vec::new();
        users::fill(&pool, ROWS, |rows| steps.push(rows)).await.unwrap();
        pool.close().await;
        assert_eq!(steps, [50_000, ROWS]);
        sums.push(ask(&url, "SELECT md5(string_agg(u::text, ';' ORDER BY id)) FROM users u").await.unwrap());

        let facts = [
            ("SELECT count(DISTINCT lower(email))::text FROM users", "60000"),
            ("SELECT count(*)::text FROM users WHERE migrated_at IS NOT NULL", "0"),
            ("SELECT (min(created_at) >= '2023-01-01Z' AND max(created_at) < '2026-01-01Z')::text FROM users", "true"),
            ("SELECT (max(last_seen_at) < '2026-01-01Z')::text FROM users", "true"),
            ("SELECT bool_and(last_seen_at >= created_at)::text FROM users", "true"),
            ("SELECT (count(*) FILTER (WHERE email <> lower(email)) BETWEEN 30000 AND 59999)::text FROM users", "true"),
            ("SELECT (count(*) FILTER (WHERE status = 'active') BETWEEN 41000 AND 43000)::text FROM users", "true"),
            ("SELECT nextval(pg_get_serial_sequence('users', 'id'))::text", "60001"),
        ];
        for (sql, expected) in facts {
            assert_eq!(ask(&url, sql).await.unwrap(), expected, "{sql}");
        }
    }
    assert_eq!(sums[0], sums[1]);
    server.stop().await.unwrap();
}
