//! Rules and recipients, from text to model.

use secrecy::ExposeSecret;

use super::super::tests::{STEP, assert_refused, load};
use super::*;

/// The wrong part, the message, the hint. Each is followed by a good step.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = «\"bach_seconds\"»\nabove = 1",
        "there is no metric `bach_seconds`",
        "did you mean `batch_seconds`?",
    ),
    (
        "«[[alerts.rule]]»\nname = \"a\"\nmetric = \"batch_seconds\"",
        "this rule has no limit",
        "add `above = ...` or `below = ...`",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"batch_seconds\"\nabove = 1\nbelow = «2»",
        "a rule has `above` or `below`, not both",
        "make two rules of it, each with a `name` of its own",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"batch_seconds\"\nabove = «\"2 parsecs\"»",
        "`alerts.rule.above` is not a time, nor a number of seconds",
        "write it like `above = \"2s\"`",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"host_cpu_ratio\"\nabove = \"80%\"\nclear = «\"90%\"»",
        "`clear` lies past the limit: the alert would be cleared while it holds",
        "set `clear` to a value on the good side of the limit, or remove it",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"workers\"\nlabel = «\"users\"»\nbelow = 1",
        "there is only one `workers`: it has no labels",
        "remove `label`",
    ),
    (
        "«[[alerts.rule]]»\nname = \"memory\"\nmetric = \"workers\"\nbelow = 1",
        "`memory` is one of howdah's own alerts",
        "set its limit by `memory = ...` in `[alerts]`, or give the rule another `name`",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"workers\"\nbelow = 1\ndo = [«\"call\"»]",
        "`alerts.rule.do` must be \"bell\", \"notify\" or \"pause\"",
        "write `do = \"bell\"` or `do = \"notify\"` or `do = \"pause\"`, or remove it",
    ),
    (
        "[[alerts.rule]]\nname = \"a\"\nmetric = \"workers\"\nbelow = «true»",
        "`alerts.rule.below` must be a number or a string, not a boolean",
        "write it like `below = \"10%\"`",
    ),
    (
        "«[[notify]]»\nname = \"ops\"",
        "this notify does not say where it goes",
        "add `url = \"${HOOK}\"`, or `command = [\"/usr/bin/logger\", \"-t\", \"howdah\"]`",
    ),
    (
        "[[notify]]\nname = \"ops\"\nurl = «\"ftp://x\"»",
        "`notify.url` is not a http:// or https:// URL",
        "write it like `url = \"${HOOK}\"`, and set HOOK to `https://host/path`",
    ),
    (
        "«[[notify]]»\nname = \"pd\"\nshape = \"pagerduty\"",
        "`shape = \"pagerduty\"` needs `key`",
        "add the routing key: `key = \"${PD_KEY}\"`",
    ),
    (
        "[[notify]]\nname = \"ops\"\ncommand = \"/bin/true\"\nshape = «\"slack\"»",
        "`shape` does not go with `command`",
        "remove `shape`, or give `url` in the place of `command`",
    ),
    (
        "[[notify]]\nname = \"ops\"\nurl = \"https://h\"\nheaders = { X = «1» }",
        "`headers.X` must be a string, not a number",
        "write it like `headers = { Authorization = \"Bearer ${TOKEN}\" }`",
    ),
    (
        "[[notify]]\nname = \"ops\"\nurl = \"https://h\"\nattempts = «0»",
        "`notify.attempts` is 0; it must be between 1 and 20",
        "set `notify.attempts` to a value from 1 to 20",
    ),
];

#[test]
fn a_mistake_in_a_rule_or_a_recipient_is_shown_where_it_is() {
    for (text, message, hint) in WRONG {
        assert_refused(&format!("{text}{STEP}"), message, hint);
    }
}

#[test]
fn a_rule_is_read_by_the_unit_of_its_metric() {
    let rule = |text: &str| {
        let plan = load(&format!("[[alerts.rule]]\nname = \"a\"\n{text}{STEP}")).unwrap_or_else(|e| panic!("{e}"));
        plan.alarms.rules.into_iter().next().expect("a rule")
    };
    let table = [
        ("metric = \"batch_seconds\"\nabove = \"2s\"", "batch_seconds above 2s", 1.8),
        ("metric = \"batch_seconds\"\nabove = 2.5\nclear = 1\nof = \"p95\"", "p95 of batch_seconds above 2.5s", 1.0),
        ("metric = \"database_size_bytes\"\nabove = \"1KiB\"", "database_size_bytes above 1 KiB", 921.6),
        ("metric = \"host_cpu_ratio\"\nabove = \"80%\"\nfor = \"30s\"", "host_cpu_ratio above 80% for 30s", 0.72),
        ("metric = \"howdah_rows_per_second\"\nbelow = 100", "rows_per_second below 100", 110.0),
        ("metric = \"signal\"\nlabel = \"replay lag\"\nabove = \"5s\"", "signal of replay lag above 5", 4.5),
    ];
    for (text, condition, clear) in table {
        let rule = rule(text);
        assert_eq!(rule.condition(), condition);
        assert!((rule.clear - clear).abs() < 1e-9, "{text}: {}", rule.clear);
    }
    let critical = rule("metric = \"workers\"\nbelow = 1\nlevel = \"critical\"");
    assert_eq!(critical.acts, [Act::Bell, Act::Notify]);
    assert!(rule("metric = \"workers\"\nbelow = 1\ndo = []").acts.is_empty());
}

#[test]
fn a_recipient_has_every_default_and_its_secrets_are_never_shown() {
    let text = "[[notify]]\nname = \"ops\"\nurl = \"https://hooks.example.com/${SECRET}\"\n\
                headers = { Authorization = \"Bearer ${SECRET}\" }\n\
                [[notify]]\nname = \"pd\"\nshape = \"pagerduty\"\nkey = \"${SECRET}\"\n\
                [[notify]]\nname = \"syslog\"\ncommand = [\"/usr/bin/logger\", \"-t\", \"howdah\"]\non = \"paused\"\n";
    let plan = load(&format!("{text}{STEP}")).expect("a good plan");
    assert!(!format!("{plan:?}").contains("hunter2"));
    let [ops, pd, syslog] = &plan.alarms.notify[..] else { panic!("three") };
    assert_eq!((ops.level, ops.attempts, ops.timeout), (Level::Warning, 5, Duration::from_secs(10)));
    assert_eq!(ops.on, Occasion::USUAL);
    let Destination::Web(web) = &ops.to else { panic!("a webhook") };
    assert_eq!(web.url.expose_secret(), "https://hooks.example.com/hunter2");
    assert_eq!(web.headers[0].1.expose_secret(), "Bearer hunter2");
    let Destination::Web(web) = &pd.to else { panic!("a webhook") };
    assert_eq!((web.url.expose_secret(), web.form), (PAGERDUTY, Form::PagerDuty));
    assert_eq!(syslog.on, [Occasion::Paused]);
    let twice = "[[notify]]\nname = \"a\"\nurl = \"https://h\"\n";
    let error = load(&format!("{twice}{twice}{STEP}")).expect_err("twice").to_string();
    assert!(error.contains("two recipients are called `a`"), "{error}");
}

#[test]
fn a_recipient_whose_secret_is_masked_in_the_ledger_is_left_out_and_named() {
    let text = "[[notify]]\nname = \"ops\"\nurl = \"https://hooks.example.com/T0/xyz\"\n\
                [[notify]]\nname = \"token\"\nurl = \"https://h\"\nheaders = { A = \"abc}\" }\n\
                [[notify]]\nname = \"pd\"\nshape = \"pagerduty\"\nkey = \"abc\"\n\
                [[notify]]\nname = \"program\"\ncommand = [\"/bin/tell\", \"abc\"]\n\
                [[notify]]\nname = \"env\"\nurl = \"https://hooks.example.com\"\nheaders = { A = \"${SECRET}\" }\n";
    let mut plan = load(&format!("{text}{STEP}")).expect("a good plan");
    assert!(leave_out_masked(&mut plan.alarms.notify).is_empty());
    let mut stored = load(&plan.source.redacted()).expect("a plan is one with its mask as well");
    assert_eq!(leave_out_masked(&mut stored.alarms.notify), ["ops", "token", "pd", "program"]);
    assert_eq!(stored.alarms.notify[0].name, "env");
}
