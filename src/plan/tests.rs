//! Plans good and bad, from text to model.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::PlanError;
use super::load::{from_file, from_text};
use super::model::{Change, Expected, Plan, StepKind};
use crate::run::ByteSize;
use crate::run::cause::Fault;

pub(super) const STEP: &str = "\n[[step]]\nname = \"s\"\nstatement = \"SELECT 1\"\n";

pub(super) fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".to_owned()),
        "DATABASE_URL" => Some("postgres://u:hunter2@db/x".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

pub(super) fn load(text: &str) -> Result<Plan, PlanError> {
    from_text("plan.toml", None, text, &env)
}

/// Loads a bad plan in which the wrong part stands between `«` and `»`, and compares all that is shown.
pub(super) fn assert_refused(marked: &str, message: &str, hint: &str) {
    let (before, rest) = marked.split_once('«').expect("the beginning is marked");
    let (wrong, after) = rest.split_once('»').expect("the end is marked");
    let text = format!("{before}{wrong}{after}");
    let line = before.matches('\n').count();
    let indent = before.chars().rev().take_while(|c| *c != '\n').count();
    let shown = text.split('\n').nth(line).unwrap_or_default();
    let (number, gutter) = (line + 1, (line + 1).to_string().len());
    let expected = [
        message.to_owned(),
        format!("{:gutter$}--> plan.toml:{number}:{}", "", indent + 1),
        format!("{:gutter$} |", ""),
        format!("{number} | {shown}").trim_end().to_owned(),
        format!("{:gutter$} | {:indent$}{}", "", "", "^".repeat(wrong.chars().count().max(1))),
        format!("hint: {hint}"),
    ];
    let got = load(&text).expect_err(marked).to_string();
    assert_eq!(got, expected.join("\n"), "{text}");
}

/// Each is followed by a good step. The wrong part, the message, the hint.
const WRONG_OPTIONS: &[(&str, &str, &str)] = &[
    ("[limits]\n«wokers» = 1", "unknown key `wokers` in `[limits]`", "did you mean `workers`?"),
    ("«workers» = 1", "unknown key `workers` at the top of the plan", "`workers` belongs in `[limits]`"),
    ("[breaker]\n«zzz» = 1", "unknown key `zzz` in `[breaker]`", "remove it; the keys here are `failures`, `reset`"),
    (
        "[limits]\nworkers = «\"4\"»",
        "`limits.workers` must be a whole number, not a string",
        "write it like `workers = 4`",
    ),
    (
        "[limits]\nworkers = «0»",
        "`limits.workers` is 0; it must be between 1 and 64",
        "set `limits.workers` to a value from 1 to 64",
    ),
    (
        "on_hangup = «\"die\"»",
        "`on_hangup` must be \"continue\", \"pause\" or \"stop\"",
        "write `on_hangup = \"continue\"` or `on_hangup = \"pause\"` or `on_hangup = \"stop\"`, or remove it",
    ),
    ("notify = «\"https://x\"»", "`notify` must be a list of tables, not a string", "write it like `[[notify]]`"),
    (
        "[ledger]\nstore = «\"redis\"»",
        "a ledger on Redis does not commit with the changes: after a crash a batch may run twice",
        "where that does no harm, say so: `idempotent = true` at the top of the plan; else remove `store`",
    ),
    (
        "[redis]\nurl = «\"localhost:6379\"»",
        "`redis.url` is not the address of a Redis",
        "write it like `url = \"redis://user@host:6379/0\"`; also rediss://, redis-sentinel://host,host/service, redis-cluster://host,host",
    ),
    (
        "[redis]\nprefix = «\"a b\"»",
        "`redis.prefix` may hold letters, digits, `-`, `_` and `.`",
        "write it like `prefix = \"howdah\"`",
    ),
    (
        "[cache]\ncountries = «\"SELECT 1\"»",
        "`cache.countries` must be a table, not a string",
        "write it like `[cache.NAME]`",
    ),
    ("limits = «3»", "`limits` must be a table, not a number", "write it like `[limits]`"),
    (
        "[limits]\nlock_timeout = «\"2 parsecs\"»",
        "`limits.lock_timeout` is not a duration",
        "write it like `lock_timeout = \"500ms\"` (units: ms, s, m, h, days)",
    ),
    (
        "[limits]\nlock_timeout = «\"0s\"»",
        "`limits.lock_timeout` is 0µs; it must be between 1ms and 24d00h",
        "set `limits.lock_timeout` to a value from 1ms to 24d00h",
    ),
    (
        "[limits]\nlock_timeout = «2»",
        "`limits.lock_timeout` must be a string, not a number",
        "write it like `lock_timeout = \"2s\"`",
    ),
    (
        "[alerts]\nmemory = «\"lots\"»",
        "`alerts.memory` is not a size in bytes",
        "write it like `memory = \"512MiB\"` (units: B, KiB, MiB, GiB, TiB)",
    ),
    (
        "[alerts]\nerror_rate = «\"110%\"»",
        "`alerts.error_rate` is not a percentage from 0% to 100%",
        "write it like `error_rate = \"10%\"`",
    ),
    (
        "[alerts]\nfree_memory = «10»",
        "`alerts.free_memory` must be a string, not a number",
        "write it like `free_memory = \"10%\"`",
    ),
    (
        "[limits]\nbatch = { min = «500», start = 100 }",
        "`limits.batch.min` is larger than `limits.batch.start`",
        "lower `limits.batch.min` or raise `limits.batch.start`",
    ),
    (
        "[limits.batch]\nmin = «-5»",
        "`limits.batch.min` is -5; it must be between 1 and 1,000,000,000",
        "set `limits.batch.min` to a value from 1 to 1,000,000,000",
    ),
    (
        "[limits]\nstatement_timeout = «\"500ms\"»",
        "`limits.statement_timeout` is not longer than `limits.batch.target`: no batch could end in time",
        "raise `statement_timeout`, or remove it: the default is ten times the target",
    ),
    (
        "[limits]\nlock_retry = { base = «\"1m\"», max = \"30s\" }",
        "`limits.lock_retry.base` is larger than `limits.lock_retry.max`",
        "lower `limits.lock_retry.base` or raise `limits.lock_retry.max`",
    ),
    (
        "[retry]\nbase = «\"1m\"»\nmax = \"30s\"",
        "`retry.base` is larger than `retry.max`",
        "lower `retry.base` or raise `retry.max`",
    ),
    (
        "[database]\nurl = \"«${NOWHERE}»\"",
        "the environment variable NOWHERE is not set",
        "set NOWHERE in the environment, or give a default: `${NOWHERE:-default}`",
    ),
    (
        "[database]\nurl = \"«${EMPTY}»\"",
        "the environment variable EMPTY is empty",
        "set EMPTY in the environment, or give a default: `${EMPTY:-default}`",
    ),
    (
        "[database]\nurl = «\"mysql://localhost\"»",
        "`database.url` is not a postgres:// URL",
        "write it like `url = \"postgres://user@host:5432/database\"`",
    ),
    ("name = «\"  \"»", "`name` is empty", "write it like `name = \"normalise-emails\"`, or remove it"),
];

#[test]
fn a_mistake_in_the_options_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG_OPTIONS {
        assert_refused(&format!("{marked}{STEP}"), message, hint);
    }
}

const NO_STEPS: &str =
    "add one: `[[step]]`, a `name`, and `statement`, `backfill`, `import`, `copy`, `transform` or `verify`";

/// Whole plans. The wrong part, the message, the hint.
const WRONG_STEPS: &[(&str, &str, &str)] = &[
    ("«»", "a plan needs at least one step", NO_STEPS),
    ("step = «[]»", "a plan needs at least one step", NO_STEPS),
    ("«[step]»\nname = 'x'", "`step` must be a list of tables, not a table", "write it like `[[step]]`"),
    ("«[[step]]»\nstatement = 'x'", "a step needs a name", "add `name = \"...\"`, unique in the plan"),
    (
        "[[step]]\nname = «3»\nstatement = 'x'",
        "`name` must be a string, not a number",
        "write it like `name = \"emails\"`",
    ),
    (
        "«[[step]]»\nname = 'x'",
        "this step does not say what it does",
        "add `statement = \"SQL\"`, `backfill = \"table\"`, `import = \"file\"`, `copy = \"table\"`, `transform = \"table\"`, \
         `files = \"glob\"`, `index = { on = \"table (column)\" }`, `reindex = \"index\"`, `analyze = \"table\"` or \
         `verify = \"SELECT ...\"`",
    ),
    ("[[step]]\nname = 'x'\n«statment» = 'x'", "unknown key `statment` in a step", "did you mean `statement`?"),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\n«verify» = 'x'",
        "one step cannot be both a statement and a verify",
        "split it: one `[[step]]`, with a `name` of its own, for each",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\n«where» = 'x'",
        "`where` belongs to a backfill or a copy or a transform, this step is a statement",
        "remove `where`, or move it to the step it is for",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\n«timeout» = '1s'",
        "`timeout` belongs to a statement or a verify or a transform or a transform of files or an index or a reindex or \
         an analyze, this step is a backfill",
        "remove `timeout`, or move it to the step it is for",
    ),
    ("[[step]]\nname = 'x'\nimport = «'a.csv'»", "an import needs `into`", "add `into = \"users\"`"),
    (
        "[[step]]\nname = 'x'\nimport = ['a.csv', «'-'»]\ninto = 't'",
        "the standard input cannot stand among files",
        "give \"-\" a step of its own",
    ),
    (
        "[[step]]\nname = 'x'\nimport = 'a.csv'\ninto = 't'\ndelimiter = «'::'»",
        "`delimiter` must be one ASCII character, and no line break",
        "write it like `delimiter = \";\"`",
    ),
    (
        "[[step]]\nname = 'x'\nimport = 'a.csv'\ninto = 't'\nformat = «'xml'»",
        "`format` must be \"csv\", \"text\", \"jsonl\" or \"parquet\"",
        "write `format = \"csv\"` or `format = \"text\"` or `format = \"jsonl\"` or `format = \"parquet\"`, or remove it",
    ),
    (
        "[[step]]\nname = 'x'\ncopy = «'t'»",
        "this copy does not say where the rows go",
        "add `to = \"table\"`, or `from = \"postgres://...\"` for tables of the same name elsewhere",
    ),
    (
        "[[step]]\nname = 'x'\ncopy = 't'\nto = 'u'\nrepair = «true»",
        "`repair` needs `verify`",
        "add `verify = \"checksum\"`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'t'»\nupdate = ['a']",
        "a transform needs a program",
        "add `rhai = \"...\"` or `command = [\"program\"]`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'t'»\nrhai = 'row'",
        "a transform needs somewhere to put its rows",
        "add `update = [\"column\"]`, `into = \"table\"` or `file = \"out/{n}.csv\"`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = «'SELECT 1 AS a'»\nrhai = 'row'\ninto = 't'",
        "a transform of a query needs `key`",
        "add `key = [\"id\"]`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = 't'\nrhai = 'row'\ninto = 't'\nrotate = «'1MiB'»",
        "`rotate` belongs to `file`, and this transform has none",
        "remove `rotate`, or add `file`",
    ),
    (
        "[[step]]\nname = 'x'\ntransform = 't'\nrhai = 'row'\nfile = «'out.csv'»",
        "`file` does not hold `{n}`, and there will be more than one file",
        "write it like `file = \"out/people-{n}.csv.gz\"`",
    ),
    (
        "[[step]]\nname = 'x'\nfiles = «'*.json'»",
        "a transform of files needs a program",
        "add `rhai = \"...\"` or `command = [\"program\"]`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = «''»",
        "`statement` is empty",
        "write it like `statement = \"CREATE INDEX CONCURRENTLY ...\"`, or remove it",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = «'t'»",
        "this backfill does not say how to change the rows",
        "add `set = { column = \"expression\" }`, or `sql = \"UPDATE ... WHERE {batch}\"`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\nsql = «'UPDATE'»",
        "a backfill has `set` or `sql`, not both",
        "remove `sql`, or remove `set`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = «{}»",
        "`set` names no column",
        "write it like `set = { email = \"lower(email)\" }`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = «true» }",
        "`set.a` must be an SQL expression in quotes, not a boolean",
        "write it like `set = { email = \"lower(email)\" }`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nsql = «'UPDATE t SET x = 1'»",
        "`sql` does not hold `{batch}`: it would change the whole table in every batch",
        "put `{batch}` where the keys of a batch are to be compared: `WHERE {batch} AND ...`",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nsql = 'UPDATE t SET x = 1 WHERE {batch} OR «{batch}»'",
        "`sql` holds `{batch}` more than once",
        "keep one `{batch}`; join other tables to the rows that it selects",
    ),
    (
        "[[step]]\nname = 'x'\nbackfill = 't'\nset = { a = '1' }\nalias = «'u'»",
        "`alias` names the table inside `sql`, and this backfill has none",
        "remove `alias`: in `set` and `where` columns need no prefix",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\ncleanup = «true»",
        "`cleanup` runs `down` at the end, and this step has none",
        "add `down = \"SQL\"`, or remove `cleanup`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = 'x'\ncleanup = «'yes'»",
        "`cleanup` must be true or false, not a string",
        "write it like `cleanup = true`",
    ),
    (
        "[[step]]\nname = 'x'\nverify = «'SELECT 1'»",
        "this verify does not say what it expects",
        "add `expect = 0`: a whole number, a string, or a boolean, compared to the query's first value",
    ),
    (
        "[[step]]\nname = 'x'\nverify = 'SELECT 1'\nexpect = «0.5»",
        "`expect` cannot be a number with a fraction: it would be compared inexactly",
        "write it as a string: `expect = \"0.5\"`",
    ),
    (
        "[[step]]\nname = 'x'\nverify = 'SELECT 1'\nexpect = «[1]»",
        "`expect` must be a whole number, a string or a boolean, not a list",
        "write it like `expect = 0`",
    ),
    (
        "[[step]]\nname = 'x'\nstatement = \"SELECT '«${1x}»'\"",
        "`${1x}` does not name an environment variable",
        "write `${NAME}` or `${NAME:-default}` with letters, digits and `_`, or `$${` for the characters themselves",
    ),
];

#[test]
fn a_mistake_in_a_step_is_shown_at_its_place_with_a_hint() {
    for (marked, message, hint) in WRONG_STEPS {
        assert_refused(marked, message, hint);
    }
}

#[test]
fn what_is_written_twice_is_shown_at_both_places() {
    let table = [
        ("[limits]\nworkers = 1\nbatch = { min = 1 }\nworkers = 1\n", "`workers` is written twice", (4, 1), (2, 1)),
        ("[limits]\nbatch = { min = 1, min = 2 }\n", "`min` is written twice", (2, 20), (2, 11)),
        ("[limits]\n\n[retry]\n\n[limits]\n", "`limits` is written twice", (5, 2), (1, 2)),
    ];
    for (text, message, second, first) in table {
        let got = load(&format!("{text}{STEP}")).expect_err(text).to_string();
        let places: Vec<&str> =
            got.lines().filter_map(|line| line.trim_start().strip_prefix("--> plan.toml:")).collect();
        let expected = [second, first].map(|(line, column)| format!("{line}:{column}"));
        assert_eq!(got.lines().next(), Some(message), "{got}");
        assert_eq!(places, expected, "{got}");
    }
    let got = load(&format!("{STEP}{STEP}")).expect_err("two steps of one name").to_string();
    let expected = "two steps are called `s`
 --> plan.toml:7:8
  |
7 | name = \"s\"
  |        ^^^
the first is here:
 --> plan.toml:3:8
  |
3 | name = \"s\"
  |        ^^^
hint: give one of them another `name` than `s`";
    assert_eq!(got, expected);
}

#[test]
fn broken_toml_is_shown_at_its_place() {
    for (text, line) in [("name = emails\n", 1), ("\n[limits\nworkers = 1\n", 2), ("\n\nname = \"open\n", 3)] {
        let cause = load(&format!("{text}{STEP}")).expect_err(text).into_cause();
        assert!(cause.message.starts_with("this is not TOML: "), "{}", cause.message);
        assert!(cause.details[0].starts_with(&format!(" --> plan.toml:{line}:")), "{:?}", cause.details);
        assert!(cause.hints[0].contains("toml.io"));
        assert_eq!(cause.fault, Fault::Usage);
    }
}

#[test]
fn all_mistakes_are_shown_up_to_five() {
    let text = "[limits]\nlock_timeout = \"x\"\ncount_timeout = \"y\"\n";
    let cause = load(&format!("{text}{STEP}")).expect_err("two mistakes").into_cause();
    assert_eq!(cause.message, "`limits.lock_timeout` is not a duration");
    assert!(cause.details.contains(&"also: `limits.count_timeout` is not a duration".to_owned()));
    assert!(cause.hints[1].starts_with("line 3: write it like `count_timeout"), "{:?}", cause.hints);
    let many: String = ["a", "b", "c", "d", "e", "f", "g"].map(|key| format!("{key}{key}{key} = 1\n")).concat();
    let cause = load(&format!("{many}{STEP}")).expect_err("seven mistakes").into_cause();
    assert_eq!(cause.hints.len(), 5);
    assert_eq!(cause.details.last().map(String::as_str), Some("and 2 more mistakes"));
}

#[test]
fn no_secret_is_ever_shown() {
    let table = [
        "[database]\nurl = \"host=db password=hunter2\"",
        "[database]\nurl = \"postgress://u:hunter2@db\"",
        "database = { url = \"postgres://u:hunter2@db\", pol = 1 }",
        "[database]\nurl = \"${SECRET}\"",
        "[limits]\nlock_timeout = \"${SECRET}\"",
        "[alerts]\nmemory = \"${SECRET}\"",
        "[alerts]\nerror_rate = \"${SECRET}\"",
    ];
    for text in table {
        let error = load(&format!("{text}{STEP}")).expect_err(text);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let plan = load(&format!("[database]\nurl = \"${{DATABASE_URL}}\"{STEP}")).expect("a good plan");
    assert!(!format!("{plan:?}").contains("hunter2"));
    let url = plan.database.url.as_ref().map(|url| url.expose_secret().to_owned());
    assert_eq!(url.as_deref(), Some("postgres://u:hunter2@db/x"));
    let plan = load(&format!("[database]\nurl = \"postgres://u:hunter2@db\"{STEP}")).expect("a good plan");
    assert_eq!(plan.source.redacted(), format!("[database]\nurl = \"postgres://u:***@db\"{STEP}"));
}

#[test]
fn a_plan_of_one_step_has_every_default() {
    let plan = from_text("emails.toml", Some(PathBuf::from("/x/all-emails.toml")), STEP, &env).expect("a good plan");
    assert_eq!(plan.name, "all-emails");
    assert!(plan.database.url.is_none());
    assert_eq!(plan.database.pool_max, 20);
    assert_eq!((plan.limits.batch.min, plan.limits.batch.start, plan.limits.batch.max), (100, 1000, 100_000));
    assert_eq!(plan.limits.statement_timeout, Duration::from_secs(5));
    assert_eq!(plan.limits.count_timeout, Duration::from_mins(10));
    assert_eq!((plan.retry.attempts, plan.breaker.failures), (3, 5));
    assert_eq!(plan.alerts.memory, ByteSize(1 << 30));
    assert_eq!(load(STEP).expect("a good plan").name, "plan");
}

#[test]
fn steps_come_as_they_are_written() {
    let text = r#"
        [limits.batch]
        target = "1s"
        [[step]]
        name = "one"
        backfill = 'app."Users"'
        set = { z = "1", '"A"' = "${NONE:-2}", b = "3" }
        [[step]]
        name = "two"
        verify = "SELECT ''"
        expect = ""
        timeout = "1m"
    "#;
    let plan = load(text).expect("a good plan");
    assert_eq!(plan.limits.statement_timeout, Duration::from_secs(10));
    // A wait for a lock ends before the statement does.
    let quick = load(&format!("[limits.batch]\ntarget = \"100ms\"\n{STEP}")).expect("a good plan");
    assert_eq!(
        (quick.limits.lock_timeout, quick.limits.statement_timeout),
        (Duration::from_secs(2), Duration::from_secs(4))
    );
    let StepKind::Backfill(backfill) = &plan.steps[0].kind else { panic!("a backfill") };
    let Change::Set { set, filter: None } = &backfill.change else { panic!("a set without a where") };
    let set: Vec<(&str, &str)> = set.iter().map(|(column, sql)| (column.as_str(), sql.text.as_str())).collect();
    assert_eq!(set, [("z", "1"), ("\"A\"", "2"), ("b", "3")]);
    assert_eq!(&text[backfill.table.span.clone()], "'app.\"Users\"'");
    assert_eq!(&text[plan.steps[1].span.clone()], "[[step]]");
    let StepKind::Verify(verify) = &plan.steps[1].kind else { panic!("a verify") };
    assert_eq!(verify.expect, Expected::Text(String::new()));
    assert_eq!(verify.timeout, Some(Duration::from_mins(1)));
}

#[test]
fn a_file_that_is_no_plan_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("none.toml");
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"a = 1\n\xff").expect("written");
    let table =
        [(missing, "there is no file"), (directory.path().to_path_buf(), "is a directory"), (binary, "(line 2)")];
    for (path, expected) in table {
        let cause = from_file(&path, &env).expect_err(expected).into_cause();
        assert!(cause.message.contains(expected), "{}", cause.message);
        assert_eq!((cause.fault, cause.hints.len()), (Fault::Usage, 1));
    }
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in any::<String>()) {
        if let Err(error) = load(&text) {
            prop_assert!(!error.into_cause().hints.is_empty());
        }
    }

    #[test]
    fn no_text_that_resembles_a_plan_makes_loading_panic(
        text in "(\\[\\[step\\]\\]\n|\\[limits\\]\n|\\[database\\]\n|name|batch|set|sql|where|backfill|url|min|allowed|archive|replay_lag|probe|slow|nice|\\[|\\]|22:00-06:00 UTC|off| = |\\{ | \\}|\"|'|\"\"\"|\\$\\{|\\}|a|ü|0|-1|1\\.5|, |\n|\t|\r\n|true|postgres://u:p@h){0,40}"
    ) {
        if let Err(error) = load(&text) {
            prop_assert!(error.to_string().contains("hint: "));
        }
    }
}
