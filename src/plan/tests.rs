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
