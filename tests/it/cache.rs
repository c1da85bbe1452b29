//! Cached look-ups of scripts: in process, on Redis, in the database; and whatever goes wrong between them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use howdah::redis::{Address, Link};
use howdah::sandbox::redis::{PASSWORD, RedisServer};

use crate::support::{Lab, Running};

const COUNTRIES: &str =
    "CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, vat numeric, euro bool, size bigint);
    INSERT INTO countries VALUES ('DE', 'Germany', 19.0, true, 357022), ('CH', 'Switzerland', 7.70, false, 41285);
    CREATE TABLE people (id int PRIMARY KEY, code text, country text, note text)";

/// A plan of one transform over `people`, with a cache.
fn plan(lab: &Lab, more: &str, cache: &str, script: &str) -> PathBuf {
    let text = format!(
        "name = \"t\"\n{more}\n[cache.countries]\n{cache}\n[[step]]\nname = \"rows\"\ntransform = \"people\"\n\
         update = [\"country\", \"note\"]\nrhai = '''\n{script}\n'''\n"
    );
    lab.plan("cache.toml", &text)
}

const NAME: &str = "sql = 'SELECT name FROM countries WHERE code = $1'";

fn arguments(plan: &std::path::Path) -> [&str; 4] {
    ["run", plan.to_str().expect("a path"), "--new", "--headless"]
}

async fn people(lab: &Lab, rows: u32) {
    lab.sql(&format!(
        "TRUNCATE people; INSERT INTO people SELECT i, (ARRAY['DE', 'CH', 'XX', NULL])[i % 4 + 1] FROM generate_series(1, {rows}) i"
    ))
    .await;
}

const WRONG: &str =
    "SELECT count(*) FROM people p LEFT JOIN countries c USING (code) WHERE p.country IS DISTINCT FROM c.name";

async fn link(server: &RedisServer) -> Link {
    let address = Address::resolve(Some(&server.url()), None, &|_| None).expect("an address").expect("one");
    Link::open(&address).await.expect("a link")
}

async fn keys(link: &Link) -> Vec<String> {
    let mut keys = link.scan(0, "howdah:cache:*").await.expect("few keys").1;
    keys.sort();
    keys.dedup();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_looks_up_values_rows_and_nothing_without_any_redis() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    people(&lab, 2000).await;
    let script = r#"
let found = lookup("countries", row.code);
if found == () { #{ country: (), note: "none" } }
else { #{ country: found.name, note: `$${found.vat}|$${found.euro}|$${found.size + 1}|$${type_of(found.vat)}` } }"#;
    let cache = "sql = '''\nSELECT name, vat, euro, size FROM countries -- of the world\nWHERE code = $1'''";
    let plan = plan(&lab, "", cache, script);
    let checked = lab.howdah(&["check", plan.to_str().expect("a path")]).run();
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr());
    let ended = lab.howdah(&arguments(&plan)).run().expect_code(0);
    assert_eq!(lab.number(WRONG).await, 0, "{}", ended.stderr());
    let notes = lab.text("SELECT string_agg(DISTINCT note, ';' ORDER BY note) FROM people").await;
    assert_eq!(notes, "19.0|true|357023|string;7.70|false|41286|string;none");
    let outcome = lab.text("SELECT outcome FROM howdah.step").await;
    assert!(outcome.contains("countries 99."), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_any_type_are_read_as_the_parameters_types() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    people(&lab, 4).await;
    lab.sql("CREATE TABLE rates (day date, n int, f float8, b bool, rate text); INSERT INTO rates VALUES ('2024-02-29', 7, 0.5, true, 'found')")
        .await;
    let cache = "sql = 'SELECT rate FROM rates WHERE day = $1 AND n = $2 AND f >= $3 AND b = $4'";
    let script = r#"#{ note: lookup("countries", "2024-02-29", 7, 0.25, true) }"#;
    let plan = plan(&lab, "", cache, script);
    lab.howdah(&arguments(&plan)).run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE note = 'found'").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_look_up_is_told_by_check_with_its_place() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    let check = |plan: PathBuf| lab.howdah(&["check", plan.to_str().expect("a path")]).run();
    let named = r#"row.country = lookup("countries", row.code); row"#;
    let wrong: [(&str, &str, &[&str]); 6] = [
        ("sql = 'SELECT nmae FROM countries WHERE code = $1'", named, &["cache \"countries\", `sql`", "nmae", "^"]),
        ("sql = 'DELETE FROM countries WHERE code = $1 RETURNING name'", named, &["subquery", "DELETE FROM"]),
        ("sql = 'SELECT name FROM countries WHERE code = $1;'", named, &["without `;`"]),
        ("sql = 'SELECT a.code, b.code FROM countries a, countries b'", named, &["called `code`"]),
        (NAME, "let x = 1;\nrow.note = lookup(\"contries\", 1); row", &["[cache.contries]", "it has `countries`", "^"]),
        (NAME, "lookup(", &["script"]),
    ];
    for (cache, script, words) in wrong {
        let ended = check(plan(&lab, "", cache, script));
        assert_eq!(ended.code(), Some(2), "{cache} {script}: {}", ended.stderr());
        for word in words {
            assert!(ended.stderr().contains(word), "`{word}` is not in: {}", ended.stderr());
        }
    }
    assert_eq!(check(plan(&lab, "", NAME, named)).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_goes_wrong_sets_its_row_aside_or_stops_the_run_where_the_plan_is_wrong() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    people(&lab, 8).await;
    // A text that is no number is a matter of its row; a script can mind it.
    let cache = "sql = 'SELECT name FROM countries WHERE size = $1'";
    let script = r#"
if row.id == 3 { lookup("countries", "x") }
else if row.id == 4 { let made = (); try { lookup("countries", "y"); } catch { made = #{ note: "minded" }; } made }
else { #{ country: lookup("countries", 357022) } }"#;
    let ended = lab.howdah(&arguments(&plan(&lab, "", cache, script))).run().expect_code(4);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE country = 'Germany'").await, 6, "{}", ended.stderr());
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE note = 'minded'").await, 1);
    let aside = lab.text("SELECT message FROM howdah.quarantine").await;
    assert!(aside.contains("lookup(\"countries\")") && aside.contains("invalid input syntax"), "{aside}");
    for (script, words) in [
        (r#"lookup("countries", 1, 2)"#, "takes 1 argument, and is given 2"),
        (r#"try { lookup("countries"); } catch { } row"#, "takes 1 argument, and is given 0"),
    ] {
        let ended = lab.howdah(&arguments(&plan(&lab, "", cache, script))).run().expect_code(1);
        assert!(ended.stderr().contains(words), "{}", ended.stderr());
    }
    let computed = r#"lookup("coun" + row.id, 1)"#;
    let ended = lab.howdah(&arguments(&plan(&lab, "", cache, computed))).run();
    assert_eq!(ended.code(), Some(4), "{}", ended.stderr());
    let told = lab.text("SELECT string_agg(message, ';') FROM howdah.quarantine").await;
    assert!(told.contains("the plan has no [cache.coun1]; it has `countries`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_cannot_write_and_waits_for_a_database_that_is_away() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    lab.sql("CREATE FUNCTION naughty(code text) RETURNS text LANGUAGE sql AS 'UPDATE countries SET name = name RETURNING name'")
        .await;
    people(&lab, 4).await;
    let naughty = "sql = 'SELECT naughty($1) AS name'";
    let script = r#"row.country = lookup("countries", row.code); row"#;
    let ended = lab.howdah(&arguments(&plan(&lab, "", naughty, script))).run().expect_code(1);
    assert!(ended.stderr().contains("read-only transaction"), "{}", ended.stderr());
    // Sessions of look-ups are ended in mid-run: the batch is tried again, and every row is right.
    people(&lab, 800).await;
    let slow = "sql = 'SELECT name FROM countries, pg_sleep(0.01) WHERE code = $1 AND $2::int > 0'";
    let script = r#"row.country = lookup("countries", row.code, row.id); row"#;
    let limits = "[limits]\nworkers = 2\nbatch = { start = 50, min = 10, max = 50 }\n[retry]\nattempts = 50\nbase = '10ms'\nmax = '50ms'\n\
                  [breaker]\nfailures = 100";
    let plan = plan(&lab, limits, slow, script);
    lab.sql("CREATE TABLE ended (n bigint)").await;
    let mut running = lab.howdah(&arguments(&plan)).start();
    for _ in 0..5 {
        lab.until("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/lookups' AND state = 'active'")
            .await;
        lab.sql("INSERT INTO ended SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/lookups'")
            .await;
    }
    assert!(lab.number("SELECT sum(n)::bigint FROM ended").await >= 5);
    running.ended().await;
    let ended = running.wait().expect_code(0);
    assert_eq!(lab.number(WRONG).await, 0, "{}", ended.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_shared_on_redis_by_name_and_arguments_and_forgotten_by_pattern() {
    let lab = Lab::open().await;
    let server = RedisServer::start(&[]).expect("install redis-server");
    let link = link(&server).await;
    lab.sql(COUNTRIES).await;
    people(&lab, 400).await;
    let script = r#"row.country = lookup("countries", row.code); row"#;
    let plan = plan(&lab, "", &format!("{NAME}\nttl = '1h'"), script);
    let run = || {
        let howdah = lab.howdah(&arguments(&plan)).env("HOWDAH_REDIS_PASSWORD", PASSWORD);
        howdah.env("REDIS_URL", &format!("redis://127.0.0.1:{}", server.port())).run()
    };
    run().expect_code(0);
    assert_eq!(lab.number(WRONG).await, 0);
    let found = keys(&link).await;
    let tails: Vec<&str> = found.iter().filter_map(|key| key.split_once(":countries:")).map(|(_, tail)| tail).collect();
    let mut sorted = tails.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["CH", "DE", "XX", "~"], "{found:?}");
    let german = found.iter().find(|key| key.ends_with(":DE")).expect("one of them");
    let (value, left): (String, i64) =
        link.pipeline(redis::pipe().cmd("GET").arg(german).cmd("TTL").arg(german)).await.expect("an answer");
    assert_eq!(value, "\"Germany\"");
    assert!((3500..=3600).contains(&left), "{left}");
    // A second run finds them: what the database says by now is not seen before their time is over.
    lab.sql("UPDATE countries SET name = 'Deutschland' WHERE code = 'DE'").await;
    run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE country = 'Germany'").await, 100);
    // Another database has nothing of them, nor has another text of SQL.
    lab.sql("CREATE DATABASE other").await;
    let other = lab.server.url("other");
    let clear = |url: &str, words: &[&str]| {
        let redis = server.url();
        let all = [&["cache", "clear", "--redis", &redis, "--yes"], words].concat();
        lab.howdah(&all).at(url).run().expect_code(0).stdout()
    };
    assert!(clear(&other, &["countries:*"]).contains("0 answers"), "{}", clear(&other, &["countries:*"]));
    assert!(clear(&lab.url, &["contries:*"]).contains("0 answers"));
    assert!(clear(&lab.url, &["countries:D?"]).contains("1 answer"));
    assert_eq!(keys(&link).await.len(), 3);
    let stats = lab.howdah(&["cache", "stats", "--redis", &server.url()]).run().expect_code(0).stdout();
    assert!(stats.contains("countries") && stats.contains('3'), "{stats}");
    run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE country = 'Deutschland'").await, 100);
    assert!(clear(&other, &["*", "--all-databases"]).contains("4 answers"));
    assert!(keys(&link).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_in_mid_run_and_comes_back_is_told_and_costs_no_row() {
    let lab = Lab::open().await;
    let mut server = RedisServer::start(&[]).expect("install redis-server");
    lab.sql(COUNTRIES).await;
    people(&lab, 6000).await;
    // Each row asks for something of its own: nothing is known in this process.
    let sql = "SELECT (SELECT name FROM countries WHERE code = $1) AS name FROM pg_sleep(0.002) WHERE $2::int > 0";
    let cache = format!("sql = '{sql}'\nmost = 100");
    let script = r#"row.country = lookup("countries", row.code, row.id); row"#;
    let limits = "[limits]\nworkers = 2\nbatch = { start = 100, min = 10, max = 100 }";
    let plan = plan(&lab, limits, &cache, script);
    let mut running: Running = lab.howdah(&[&arguments(&plan)[..], &["--redis", &server.url()]].concat()).start();
    lab.until_walked(500).await;
    server.kill();
    running.until_said("go on without the shared cache").await;
    lab.until_walked(1500).await;
    server.restart().expect("it comes back");
    running.until_said("the shared cache is there again").await;
    running.ended().await;
    let ended = running.wait().expect_code(0);
    assert_eq!(lab.number(WRONG).await, 0, "{}", ended.stderr());
    // Once for each time that it goes: a busy machine may lose it once more.
    let told = |words: &str| ended.stderr().matches(words).count();
    let (gone, back) = (told("go on without the shared cache"), told("the shared cache is there again"));
    assert!(back >= 1 && (back..=back + 1).contains(&gone), "{}", ended.stderr());
    assert!(!ended.stderr().contains(PASSWORD));
    assert!(!keys(&link(&server).await).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_at_all_or_refuses_the_password_stops_nothing() {
    let lab = Lab::open().await;
    let server = RedisServer::start(&[]).expect("install redis-server");
    lab.sql(COUNTRIES).await;
    people(&lab, 400).await;
    let script = r#"row.country = lookup("countries", row.code); row"#;
    let plan = plan(&lab, "", NAME, script);
    for url in ["redis://127.0.0.1:1".to_owned(), format!("redis://:wrong-secret@127.0.0.1:{}", server.port())] {
        let began = Instant::now();
        let ended = lab.howdah(&[&arguments(&plan)[..], &["--redis", &url]].concat()).run().expect_code(0);
        assert!(ended.stderr().contains("go on without the shared cache"), "{}", ended.stderr());
        assert!(!ended.stderr().contains("wrong-secret"), "{}", ended.stderr());
        assert!(began.elapsed() < Duration::from_mins(1));
        assert_eq!(lab.number(WRONG).await, 0);
    }
    let wrong = lab.howdah(&[&arguments(&plan)[..], &["--redis", "http://x"]].concat()).run().expect_code(2);
    assert!(wrong.stderr().contains("--redis is not the address of a Redis"), "{}", wrong.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_changed_by_what_is_looked_up() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    for n in 0..20 {
        std::fs::write(lab.files.path().join(format!("{n}.txt")), if n % 2 == 0 { "DE\nXX\n" } else { "CH" })
            .expect("a file");
    }
    let text = format!(
        "[cache.countries]\n{NAME}\n[[step]]\nname = \"f\"\nfiles = \"*.txt\"\nby = \"line\"\n\
         rhai = '''let name = lookup(\"countries\", line); if name == () {{ line + \"?\" }} else {{ name }}'''\n"
    );
    let plan = lab.plan("files.toml", &text);
    let howdah = |words: &[&str]| {
        let mut howdah = lab.howdah(words);
        howdah.command.current_dir(lab.files.path());
        howdah.run()
    };
    let plan = plan.to_str().expect("a path");
    let dry = howdah(&["run", plan, "--dry-run"]).expect_code(0);
    assert!(dry.stdout().contains("+Germany") && dry.stdout().contains("+XX?"), "{}", dry.stdout());
    howdah(&["run", plan, "--headless"]).expect_code(0);
    for n in 0..20 {
        let now = std::fs::read_to_string(lab.files.path().join(format!("{n}.txt"))).expect("a file");
        assert_eq!(now, if n % 2 == 0 { "Germany\nXX?\n" } else { "Switzerland" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_set_aside_are_tried_again_with_what_is_found_then() {
    let lab = Lab::open().await;
    lab.sql(COUNTRIES).await;
    people(&lab, 4).await;
    let script = r#"let name = lookup("countries", row.code); if name == () { throw "unknown" } #{ country: name }"#;
    let plan = plan(&lab, "", NAME, script);
    lab.howdah(&arguments(&plan)).run().expect_code(4);
    lab.sql("INSERT INTO countries VALUES ('XX', 'Nowhere')").await;
    lab.howdah(&["quarantine", "retry"]).run().expect_code(4);
    assert_eq!(lab.number("SELECT count(*) FROM people WHERE country = 'Nowhere'").await, 1);
}
