//! A ledger on Redis: nothing is made in the database, nothing is lost, and what dies makes a batch run twice at most.

use std::time::{Duration, Instant};

use howdah::engine::failpoint;
use howdah::sandbox::redis::{PASSWORD, RedisServer};
use nix::libc::SIGKILL;
use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Ended, Howdah, Lab};

/// What every plan here begins with.
const HEAD: &str = "name = \"shared\"\nidempotent = true\n[ledger]\nstore = \"redis\"\n";
/// A Redis that loses nothing when it is killed.
const ALWAYS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
/// Everything in a database that somebody has made.
const MADE: &str = "SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname !~ '^pg_(temp|toast)') + (SELECT count(*) FROM pg_proc) \
                    + (SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)')";

/// A database whose role may make nothing, and a Redis.
struct Site {
    lab: Lab,
    redis: RedisServer,
    url: String,
}

impl Site {
    /// With `rows` items, each of which counts how often it was changed.
    async fn open(rows: u32, settings: &[&str]) -> Self {
        let lab = Lab::open().await;
        let redis = RedisServer::start(settings).expect("a Redis");
        lab.sql(&format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, hits int NOT NULL DEFAULT 0);
             INSERT INTO items SELECT i FROM generate_series(1, {rows}) AS i; ANALYZE items;
             CREATE FUNCTION hit() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN NEW.hits := OLD.hits + 1; RETURN NEW; END';
             CREATE TRIGGER hit BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION hit();
             CREATE ROLE mover LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO mover"
        ))
        .await;
        let user = lab.url.split("//").nth(1).and_then(|rest| rest.split('@').next()).expect("a user").to_owned();
        let url = lab.url.replacen(&user, "mover", 1);
        Self { lab, redis, url }
    }

    fn plan(&self, batch: u32, workers: u32, steps: &str) -> String {
        let limits = format!(
            "[limits]\nworkers = {workers}\nbatch = {{ start = {batch}, min = {batch}, max = {batch}, target = '500ms' }}\n"
        );
        let path = self.lab.plan("shared.toml", &format!("{HEAD}{limits}{steps}"));
        path.to_str().expect("a path").to_owned()
    }

    fn backfill(&self, batch: u32, workers: u32) -> String {
        self.plan(batch, workers, "[[step]]\nname = 'items'\nbackfill = 'items'\nset = { n = '1' }\n")
    }

    fn howdah(&self, arguments: &[&str]) -> Howdah {
        self.lab.howdah(arguments).at(&self.url).env("HOWDAH_REDIS", &self.redis.url())
    }

    /// Asks Redis.
    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.redis.url()).expect("an address");
        let mut connection = client.get_connection().expect("a connection");
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut connection).expect("an answer")
    }

    async fn until_changed(&self, rows: u32) {
        self.lab.until(&format!("SELECT count(*) > {rows} FROM items WHERE n = 1")).await;
    }

    async fn expect_all_changed(&self, told: &str) {
        assert_eq!(self.lab.number("SELECT count(*) FROM items WHERE n <> 1 OR hits < 1").await, 0, "{told}");
    }

    async fn most_hits(&self) -> i64 {
        self.lab.number("SELECT max(hits)::bigint FROM items").await
    }
}

fn written(site: &Site, name: &str, text: &str) -> String {
    let path = site.lab.files.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("a path").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_make_nothing_moves_rows_and_nothing_is_made() {
    let site = Site::open(5000, &ALWAYS).await;
    site.lab
        .sql(
            "CREATE TABLE people (id bigint PRIMARY KEY, name text); INSERT INTO people VALUES (2, 'kept'), (3, 'old');
             CREATE TABLE names (id bigint PRIMARY KEY, name text); GRANT ALL ON people, names TO mover",
        )
        .await;
    let before = site.lab.number(MADE).await;
    let skipped = written(&site, "skip.csv", "id,name\n1,a\n2,b\n");
    let updated = written(&site, "update.csv", "id,name\n3,c\n4,d\n");
    let plan = site.plan(
        500,
        2,
        &format!(
            "[redis]\nurl = '{}'\n\
             [[step]]\nname = 'items'\nbackfill = 'items'\nset = {{ n = '1' }}\nwhere = 'n = 0'\n\
             [[step]]\nname = 'skip'\nimport = '{skipped}'\ninto = 'people'\non_conflict = 'skip'\n\
             [[step]]\nname = 'update'\nimport = '{updated}'\ninto = 'people'\non_conflict = 'update'\n\
             [[step]]\nname = 'names'\ntransform = 'people'\nrhai = '#{{ id: row.id, name: row.name + \"!\" }}'\n\
             into = 'names'\non_conflict = 'update'\n\
             [[step]]\nname = 'check'\nverify = 'SELECT count(*) FROM items WHERE n <> 1'\nexpect = 0\n",
            site.redis.url()
        ),
    );
    site.howdah(&["check", &plan]).run().expect_code(0).expect_words(&["at least once", "ledger lies on Redis"]);
    let done = site.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    assert!(done.stderr().contains("each row was changed at least once"), "{}", done.stderr());
    site.expect_all_changed(&done.stderr()).await;
    let people = "SELECT string_agg(id || name, ' ' ORDER BY id) FROM";
    assert_eq!(site.lab.text(&format!("{people} people")).await, "1a 2kept 3c 4d");
    assert_eq!(site.lab.text(&format!("{people} names")).await, "1a! 2kept! 3c! 4d!");
    assert_eq!(site.lab.number(MADE).await, before, "something was made in the database");

    let report = site.howdah(&["report", "--plan", &plan, "--format", "json"]).run().expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&report.stdout()).expect("JSON");
    assert_eq!((&report["guarantee"], &report["state"]), (&"at least once".into(), &"done".into()));
    assert_eq!(report["rows_walked"], 5000 + 2 + 2 + 4, "{report}");
    // By the environment alone, too; and the plan's text holds no secret.
    site.howdah(&["status"]).run().expect_code(0).expect_words(&["done", "shared (redis, at least once)"]);
    site.howdah(&["status", "--name", "shared", "--since", "1h"])
        .run()
        .expect_code(0)
        .expect_words(&["done", "shared"]);
    // Sought first, and cut then: a newer run of another name does not hide it.
    let other = "name = 'other'\nidempotent = true\n[ledger]\nstore = 'redis'\n[[step]]\nname = 'one'\nverify = 'SELECT 1'\nexpect = 1\n";
    let other = site.lab.plan("other.toml", other);
    site.howdah(&["run", other.to_str().expect("a path"), "--headless"]).run().expect_code(0);
    let found = site.howdah(&["status", "--all", "--limit", "1", "--name", "shared"]).run().expect_code(0).stdout();
    assert!(found.contains("shared (redis") && !found.contains("other"), "{found}");
    let keys: Vec<String> = site.ask(&["KEYS", "*"]);
    assert!(keys.iter().all(|key| key.starts_with("howdah:run")), "{keys:?}");
    for key in keys.iter().filter(|key| key.ends_with('}')) {
        let kept: Vec<String> = site.ask(&["HVALS", key]);
        assert!(!kept.concat().contains(PASSWORD), "{kept:?}");
    }
}

/// A run that is killed at an instant, and resumed.
async fn killed_and_resumed(site: &Site, plan: &str, armed: &str) -> Ended {
    site.lab.sql("ALTER TABLE items DISABLE TRIGGER hit; UPDATE items SET n = 0, hits = 0; ALTER TABLE items ENABLE TRIGGER hit").await;
    let killed = site.howdah(&["run", plan, "--headless", "--new"]).env("HOWDAH_FAILPOINTS", armed).run();
    assert_eq!(killed.signal(), Some(SIGKILL), "{armed} was not reached:\n{}", killed.stderr());
    site.lab.until_undriven().await;
    site.howdah(&["resume", "--headless", "--plan", plan]).run()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_failpoint_leaves_no_row_out() {
    let site = Site::open(2000, &ALWAYS).await;
    let plan = site.backfill(250, 2);
    let batch = ["batch.begun", "batch.bounded", "batch.changed", "batch.recorded", "batch.committed"];
    let others = ["run.created", "run.begun", "step.started", "sweep.planned", "step.finished"];
    for name in failpoint::REDIS.into_iter().chain(batch) {
        for occurrence in [1, 3] {
            let armed = format!("{name}=kill@{occurrence}");
            let resumed = killed_and_resumed(&site, &plan, &armed).await;
            assert_eq!(resumed.code(), Some(0), "{armed}:\n{}", resumed.stderr());
            site.expect_all_changed(&armed).await;
            // Two batches were under way: no others run twice.
            let twice = site.lab.number("SELECT count(*) FROM items WHERE hits > 1").await;
            assert!(twice <= 500 && site.most_hits().await <= 2, "{armed}: {twice} rows changed twice");
        }
    }
    for name in others {
        let armed = format!("{name}=kill");
        let resumed = killed_and_resumed(&site, &plan, &armed).await;
        assert_eq!(resumed.code(), Some(0), "{armed}:\n{}", resumed.stderr());
        site.expect_all_changed(&armed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_and_comes_back_is_waited_for_by_the_same_process() {
    let mut site = Site::open(60_000, &ALWAYS).await;
    let plan = site.backfill(100, 2);
    let mut running = site.howdah(&["run", &plan, "--headless"]).start();
    site.until_changed(2000).await;
    site.redis.kill();
    running.until_said("does not answer").await;
    let still = site.lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    site.redis.restart().expect("it comes back");
    let ended = running.wait().expect_code(0);
    assert!(still < 60_000, "it was over before");
    site.expect_all_changed(&ended.stderr()).await;
    // What had committed was kept in mind, and written down when Redis was back.
    assert_eq!(site.most_hits().await, 1, "{}", ended.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_has_lost_the_run_ends_it_with_a_word_on_how_to_go_on() {
    let mut site = Site::open(60_000, &[]).await;
    let plan = site.backfill(100, 1);
    site.howdah(&["check", &plan]).run().expect_code(0).expect_words(&["`appendonly` off"]);
    let running = site.howdah(&["run", &plan, "--headless"]).start();
    site.until_changed(1000).await;
    site.redis.restart().expect("it comes back, empty");
    running.wait().expect_code(1).expect_words(&["is gone from Redis", "howdah run PLAN --new"]);
    let resumed = site.howdah(&["resume", "--headless", "--plan", &plan]).run().expect_code(2);
    assert!(resumed.stderr().contains("begin anew"), "{}", resumed.stderr());
    site.howdah(&["run", &plan, "--headless"]).run().expect_code(0);
    site.expect_all_changed("anew").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_has_lost_only_a_sweep_is_no_proof_that_nothing_is_left() {
    let site = Site::open(60_000, &ALWAYS).await;
    let plan = site.backfill(100, 2);
    let running = site.howdah(&["run", &plan, "--headless"]).start();
    site.until_changed(2000).await;
    // As a Redis comes back that had written down the run, and not yet what it was about.
    let segments: Vec<String> = site.ask(&["KEYS", "*:segments:0"]);
    let gone: i64 = site.ask(&["DEL", segments.first().expect("a sweep")]);
    assert_eq!(gone, 1);
    let still = site.lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    let ended = running.wait().expect_code(0);
    assert!(still < 60_000, "it was over before");
    site.expect_all_changed(&ended.stderr()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_begun() {
    let mut site = Site::open(100, &[]).await;
    let plan = site.backfill(100, 1);
    site.redis.kill();
    let refused = site.howdah(&["run", &plan, "--headless"]).run();
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr());
    let refused = refused.expect_words(&["the run's ledger", "does not answer", "redis.url"]);
    assert!(!refused.stderr().contains(PASSWORD), "{}", refused.stderr());
    let unnamed = site.lab.howdah(&["run", &plan, "--headless"]).at(&site.url).run();
    unnamed.expect_code(2).expect_words(&["nobody says where that is", "--redis URL"]);
    let wrong = std::fs::read_to_string(&plan).expect("the plan").replace("idempotent = true\n", "");
    let wrong = site.lab.plan("wrong.toml", &wrong);
    let wrong = site.howdah(&["run", wrong.to_str().expect("a path"), "--headless"]).run();
    wrong.expect_code(2).expect_words(&["after a crash a batch may run twice", "idempotent = true"]);
    assert_eq!(site.most_hits().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_one_driver_and_is_steered_in_its_own_console_only() {
    let site = Site::open(60_000, &ALWAYS).await;
    let plan = site.backfill(50, 1);
    let mut running = site.howdah(&["run", &plan, "--headless"]).start();
    site.until_changed(500).await;
    for second in [&["run", &plan, "--headless"][..], &["run", &plan, "--headless", "--new"], &["resume", "--headless"]]
    {
        let refused = site.howdah(second).run().expect_code(1);
        assert!(refused.stderr().contains("is being driven by process"), "{}", refused.stderr());
    }
    for steered in [&["pause"][..], &["stop", "--plan", &plan], &["set", "workers=2"], &["run", &plan, "--detach"]] {
        let refused = site.howdah(steered).run().expect_code(2);
        assert!(refused.stderr().contains("lies on Redis"), "{steered:?}: {}", refused.stderr());
    }
    site.howdah(&["status"]).run().expect_code(0).expect_words(&["running", "(redis, at least once)"]);
    running.signal(Signal::SIGTERM);
    let said = running.ended().await;
    assert_eq!(running.wait().code(), Some(3), "{said}");
    let run = said.lines().find_map(|line| line.split_once("howdah resume ")).expect("how to go on").1.to_owned();
    assert!(run.contains(&format!("--plan {plan}")), "{run}");
    // Without the plan, by the environment's Redis: its text is kept.
    let run = run.split(' ').next().expect("an id");
    site.howdah(&["resume", run, "--headless"]).run().expect_code(0);
    site.expect_all_changed("resumed").await;
    assert_eq!(site.most_hits().await, 1, "stopped at a batch's edge");
    let over = site.howdah(&["resume", run, "--headless"]).run().expect_code(2);
    assert!(over.stderr().contains("there is nothing to resume"), "{}", over.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_was_replaced_while_it_stood_still_changes_nothing_more() {
    let site = Site::open(20_000, &ALWAYS).await;
    let plan = site.backfill(50, 2);
    let old = site.howdah(&["run", &plan, "--headless"]).start();
    site.until_changed(500).await;
    old.signal(Signal::SIGSTOP);
    // All of its sessions go, and with them its lock; it knows nothing of that.
    site.lab.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mover'").await;
    site.lab.until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'mover')").await;
    let new = site.howdah(&["resume", "--headless", "--plan", &plan]).start();
    let now = site.lab.number("SELECT count(*) FROM items WHERE n = 1").await;
    site.until_changed(u32::try_from(now).expect("a count") + 500).await;
    old.signal(Signal::SIGCONT);
    let told = old.wait();
    assert_eq!(told.code(), Some(1), "{}", told.stderr());
    assert!(told.stderr().contains("another driver has taken this run over"), "{}", told.stderr());
    let ended = new.wait().expect_code(0);
    site.expect_all_changed(&ended.stderr()).await;
    // Only what was under way when it was stopped may have been changed twice, by the new one.
    let twice = site.lab.number("SELECT count(*) FROM items WHERE hits > 1").await;
    assert!(twice <= 100 && site.most_hits().await <= 2, "{twice} rows changed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_stands_open_while_the_run_is_taken_over_does_not_commit() {
    let site = Site::open(20_000, &ALWAYS).await;
    site.lab
        .sql("CREATE TABLE gate (); GRANT ALL ON gate TO mover; CREATE OR REPLACE FUNCTION hit() RETURNS trigger LANGUAGE plpgsql AS
              'BEGIN IF NEW.id = 4000 THEN LOCK TABLE gate IN ACCESS SHARE MODE; END IF; NEW.hits := OLD.hits + 1; RETURN NEW; END'")
        .await;
    let plan = site.backfill(100, 1);
    let plan_text = std::fs::read_to_string(&plan).expect("the plan");
    std::fs::write(
        &plan,
        plan_text.replace("[limits]\n", "[limits]\nlock_timeout = '60s'\nstatement_timeout = '60s'\nwaiters = 'off'\n"),
    )
    .expect("a plan");
    // The batch with row 4000 stands open before its record, and goes on when the gate opens.
    let mut gate = site.lab.session().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE").execute(&mut gate).await.expect("the gate");
    let old = site.howdah(&["run", &plan, "--headless"]).start();
    site.lab
        .until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'mover' AND wait_event_type = 'Lock')")
        .await;
    old.signal(Signal::SIGSTOP);
    let lock = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'howdah/%/ledger'";
    site.lab.sql(lock).await;
    site.lab.until_undriven().await;
    let new = site.howdah(&["resume", "--headless", "--plan", &plan]).start();
    let keys: Vec<String> = site.ask(&["KEYS", "*}"]);
    let end = Instant::now() + DEADLINE;
    while site.ask::<String>(&["HGET", &keys[0], "epoch"]) != "2" {
        assert!(Instant::now() < end, "the run is not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut gate).await.expect("the gate opens");
    old.signal(Signal::SIGCONT);
    let told = old.wait();
    assert_eq!(told.code(), Some(1), "{}", told.stderr());
    let ended = new.wait().expect_code(0);
    site.expect_all_changed(&ended.stderr()).await;
    assert_eq!(site.most_hits().await, 1, "what stood open was rolled back, and done by the new driver alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_wrong_are_set_aside_on_redis_and_do_not_count_as_left() {
    let site = Site::open(3000, &ALWAYS).await;
    site.lab.sql("ALTER TABLE items ADD CONSTRAINT odd CHECK (n = 0 OR id % 1000 <> 7)").await;
    let step = "[[step]]\nname = 'items'\nbackfill = 'items'\nset = { n = '1' }\nwhere = 'n = 0'\n";
    let plan = site.plan(200, 2, step);
    let done = site.howdah(&["run", &plan, "--headless"]).run().expect_code(4);
    assert!(done.stderr().contains("0 left, 3 set aside"), "{}", done.stderr());
    assert_eq!(
        site.lab.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM items WHERE n = 0").await,
        "7 1007 2007"
    );
    let list = site.howdah(&["quarantine", "list", "--plan", &plan]).run().expect_code(0);
    list.expect_words(&["1007", "2007", "23514", "3 rows set aside", "howdah quarantine export"]);
    let rows = site.howdah(&["quarantine", "export", "--format", "jsonl"]).run().expect_code(0).stdout();
    assert!(rows.lines().count() == 3 && rows.contains("hits"), "{rows}");
    let retry = site.howdah(&["quarantine", "retry"]).run().expect_code(2);
    assert!(retry.stderr().contains("lies on Redis"), "{}", retry.stderr());
    let keys: Vec<String> = site.ask(&["KEYS", "*:aside:0"]);
    let rows: Vec<String> = site.ask(&["HVALS", &keys[0]]);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.contains("23514") && row.contains("violates check constraint")), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_schema_is_refused_before_anything_is_begun() {
    let site = Site::open(10, &[]).await;
    for (step, says) in [
        ("backfill = 'items'\nset = { n = '1' }\nundo = 'auto'", "`undo = \"auto\"`"),
        ("copy = 'items'\nto = 'other'\ndatabase = 'postgres://x@y/z'", "a copy to another database"),
        ("transform = 'SELECT id FROM items'\nkey = 'id'\nrhai = 'row'\ninto = 'items'", "a transform of a query"),
    ] {
        let plan = site.plan(10, 1, &format!("[[step]]\nname = 'x'\n{step}\n"));
        let refused = site.howdah(&["check", &plan]).run();
        assert_eq!(refused.code(), Some(2), "{}", refused.stderr());
        assert!(
            refused.stderr().contains(&format!("{says} needs a ledger in the target database")),
            "{}",
            refused.stderr()
        );
    }
}
