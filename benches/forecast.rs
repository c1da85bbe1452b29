//! The forecast of a rehearsal held against the run that follows: `cargo bench --bench forecast [-- ROWS] [-- hot|fat|trigger]`.
//!
//! Three plans on a private, durable server, each on a table of its own that has just been vacuumed:
//! - `hot`: a column without an index, in pages with room: nearly every update is heap-only;
//! - `fat`: an indexed column of rows of about 700 bytes in full pages: none is;
//! - `trigger`: an `UPDATE ... FROM` over a key of two columns, with a trigger that writes a row for each.
//!
//! A checkpoint lies between the rehearsal and the run, as in life. Time is the step's own, by the report; WAL is all that
//! the server wrote meanwhile. In a debug build: `cargo bench --profile dev --bench forecast -- 100000`.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::expect_used, reason = "a benchmark that fails stops")]

mod lab;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// How far a figure may be off, as the issue says.
const TIME_WITHIN: f64 = 0.30;
const WAL_WITHIN: f64 = 0.20;

struct Case {
    name: &'static str,
    tables: fn(u64) -> Vec<String>,
    step: &'static str,
}

const CASES: [Case; 3] = [
    Case { name: "hot", tables: hot, step: "backfill = \"hot\"\nset = { n = \"n + 1\" }\n" },
    Case {
        name: "fat",
        tables: fat,
        step: "backfill = \"fat\"\nset = { email = \"lower(email)\" }\nwhere = \"email <> lower(email)\"\n",
    },
    Case {
        name: "trigger",
        tables: trigger,
        step: "backfill = \"lines\"\nalias = \"l\"\n\
               sql = \"UPDATE lines l SET cents = l.cents * r.rate FROM rates r WHERE r.tenant = l.tenant AND {batch}\"\n",
    },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let asked = lab::Asked::read();
    let rows = asked.number().unwrap_or(2_000_000);
    let server = lab::durable_server().await;
    let url = server.url("postgres");
    let home = tempfile::tempdir().expect("a directory");
    println!("PostgreSQL {}, {rows} rows, 1 worker; a rehearsal, a checkpoint, the run", server.version());
    let mut within = true;
    for case in CASES.iter().filter(|case| asked.wants(case.name)) {
        within &= held(case, &url, home.path(), rows).await;
    }
    let verdict = if within { "every forecast is within" } else { "not every forecast is within" };
    println!("{verdict} {:.0} % of the time and {:.0} % of the WAL", TIME_WITHIN * 100.0, WAL_WITHIN * 100.0);
}

/// Holds one forecast against its run. Returns whether both figures are within what they should be.
async fn held(case: &Case, url: &str, home: &Path, rows: u64) -> bool {
    lab::run(url, &["DROP SCHEMA IF EXISTS howdah CASCADE".to_owned()]).await;
    lab::run(url, &(case.tables)(rows)).await;
    let plan = home.join("plan.toml");
    let text = format!("name = \"{0}\"\n[limits]\nworkers = 1\n[[step]]\nname = \"{0}\"\n{1}", case.name, case.step);
    std::fs::write(&plan, text).expect("a plan");
    let plan = plan.to_str().expect("a path");
    let check = ["check", plan, "--rehearse", "--yes", "--json", "--database", url];
    let told = json(home, &check);
    let rehearsal = &told["rehearsal"];
    let forecast = &rehearsal["steps"][0]["forecast"];
    lab::run(url, &["CHECKPOINT".to_owned()]).await;
    let start = lab::text(url, "SELECT pg_current_wal_insert_lsn()::text").await;
    lab::howdah(home, &["run", plan, "--new", "--json", "--database", url], || false);
    let passed = format!("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{start}')::int8");
    let wal = lab::number(url, &passed).await;
    let report = json(home, &["report", "--format", "json", "--database", url]);
    let step = &report["steps"][0];
    let changed = format!("{} of {}", step["rows_changed"], forecast["changed"]["likely"]);
    println!("{}: rehearsed in {:.1}s; {changed} rows changed", case.name, real(&rehearsal["took_seconds"]));
    let time = line("time, s", &forecast["duration_seconds"], real(&step["worked_seconds"]), 1.0, TIME_WITHIN);
    let wal = line(
        "WAL, MiB",
        &forecast["wal"],
        f64::from(i32::try_from(wal >> 10).expect("below 2 TiB")) * 1024.0,
        MIB,
        WAL_WITHIN,
    );
    let hot = &step["churn"]["hot_percent"];
    println!(
        "  HOT, a share of 1: {} foretold, {hot} % in the run; batches {} foretold, {} in the run",
        forecast["hot"], forecast["batches"], step["batches"]
    );
    time && wal
}

const MIB: f64 = 1_048_576.0;

fn line(what: &str, foretold: &Value, actual: f64, unit: f64, within: f64) -> bool {
    let [least, likely, most] = ["least", "likely", "most"].map(|key| real(&foretold[key]));
    let ratio = likely / actual;
    let holds = (ratio - 1.0).abs() <= within;
    println!(
        "  {what:<9} foretold {:>8.1} ({:.1} to {:.1}), was {:>8.1}: {ratio:.2}x, {}, {} the range",
        likely / unit,
        least / unit,
        most / unit,
        actual / unit,
        if holds { "within" } else { "NOT within" },
        if (least..=most).contains(&actual) { "in" } else { "OUT of" }
    );
    holds
}

fn real(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn json(home: &Path, arguments: &[&str]) -> Value {
    let command = Command::new(env!("CARGO_BIN_EXE_howdah")).args(arguments).env("HOME", home).output();
    let output = command.expect("howdah starts");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

fn settled(mut statements: Vec<String>, table: &str) -> Vec<String> {
    statements.extend([format!("VACUUM (ANALYZE, FREEZE) {table}"), "CHECKPOINT".to_owned()]);
    statements
}

fn hot(rows: u64) -> Vec<String> {
    let statements = vec![
        "DROP TABLE IF EXISTS hot".to_owned(),
        "CREATE TABLE hot (id bigint PRIMARY KEY, n bigint NOT NULL, note text NOT NULL) WITH (fillfactor = 45)"
            .to_owned(),
        format!("INSERT INTO hot SELECT i, i, repeat('x', 80) FROM generate_series(1, {rows}) AS i"),
    ];
    settled(statements, "hot")
}

fn fat(rows: u64) -> Vec<String> {
    let statements = vec![
        "DROP TABLE IF EXISTS fat".to_owned(),
        "CREATE TABLE fat (id bigint PRIMARY KEY, email text NOT NULL, body text NOT NULL)".to_owned(),
        format!(
            "INSERT INTO fat SELECT i, 'User' || md5(i::text) || '@Example.org', repeat(md5(i::text), 20) \
             FROM generate_series(1, {}) AS i",
            rows / 4
        ),
        "CREATE INDEX fat_email ON fat (email)".to_owned(),
    ];
    settled(statements, "fat")
}

fn trigger(rows: u64) -> Vec<String> {
    let statements = vec![
        "DROP TABLE IF EXISTS lines, rates, audit".to_owned(),
        "CREATE TABLE rates (tenant int PRIMARY KEY, rate numeric NOT NULL)".to_owned(),
        "INSERT INTO rates SELECT t, 1 + t / 100.0 FROM generate_series(0, 99) AS t".to_owned(),
        "CREATE TABLE lines (tenant int, no bigint, cents numeric NOT NULL, note text, PRIMARY KEY (tenant, no))"
            .to_owned(),
        format!(
            "INSERT INTO lines SELECT i * 100 / {n}, i, i, repeat('n', 40) FROM generate_series(0, {n} - 1) AS i",
            n = rows / 4
        ),
        "CREATE TABLE audit (at timestamptz NOT NULL, tenant int, no bigint)".to_owned(),
        "CREATE OR REPLACE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO audit VALUES (clock_timestamp(), NEW.tenant, NEW.no); RETURN NULL; END'"
            .to_owned(),
        "CREATE TRIGGER audited AFTER UPDATE ON lines FOR EACH ROW EXECUTE FUNCTION audited()".to_owned(),
        "ANALYZE rates".to_owned(),
    ];
    settled(statements, "lines")
}
