//! Rules over time, with a clock that is turned by hand.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::run::metric::Sample;
use crate::run::rule::Standing;
use crate::run::vitals::{Alert, Reading, alert_changes};
use crate::run::{EventKind, Snapshot};

const LIMITS: AlertLimits = AlertLimits {
    duration: Duration::from_mins(5),
    memory: ByteSize(1000 << 20),
    free_memory_percent: 10.0,
    error_rate_percent: 10.0,
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// New readings of howdah's own rules, each `None` where nothing new was measured.
#[derive(Debug, Clone, Copy, Default)]
struct Inputs {
    worked: Option<Duration>,
    memory: Option<ByteSize>,
    free_memory_percent: Option<f64>,
    error_rate_percent: Option<f64>,
}

fn memory(mib: u64) -> Inputs {
    Inputs { memory: Some(ByteSize(mib << 20)), ..Inputs::default() }
}

fn free(percent: f64) -> Inputs {
    Inputs { free_memory_percent: Some(percent), ..Inputs::default() }
}

fn moment(second: i64) -> Moment {
    Moment { utc: at(second), elapsed: Duration::from_secs(second.unsigned_abs()) }
}

fn one(value: f64) -> Vec<Sample> {
    vec![Sample { label: None, value }]
}

/// Holds the readings against howdah's own four rules.
#[expect(clippy::cast_precision_loss, reason = "a test")]
fn evaluate(book: &mut AlertBook, inputs: &Inputs, limits: &AlertLimits, utc: DateTime<Utc>) {
    let rules = book.rules_or(|| Arc::new(AlertRules::new(limits, Vec::new(), EVERY)));
    let now = Moment { utc, elapsed: Duration::from_secs((utc - at(0)).num_seconds().unsigned_abs()) };
    let values = [
        inputs.worked.map(|worked| worked.as_secs_f64()),
        inputs.memory.map(|size| size.0 as f64),
        inputs.free_memory_percent.map(|percent| percent / 100.0),
        inputs.error_rate_percent.map(|percent| percent / 100.0),
    ];
    for (index, (rule, value)) in rules.rules.iter().zip(values).enumerate() {
        book.take(index, rule, value.map(one).unwrap_or_default(), now);
    }
}

/// Evaluates one input a second and writes each outcome: `-` no alert, `A` active, `c` cleared, with count.
fn play(inputs: &[Inputs]) -> String {
    let mut book = AlertBook::default();
    let mut seen = Vec::new();
    for (second, input) in (0..).zip(inputs) {
        evaluate(&mut book, input, &LIMITS, at(second));
        seen.push(match book.alerts().first() {
            None => "-".to_owned(),
            Some(alert) => format!("{}{}", if alert.is_active() { 'A' } else { 'c' }, alert.count),
        });
    }
    seen.join(" ")
}

#[test]
fn an_alert_is_raised_once_cleared_with_hysteresis_and_counted() {
    let table: [(&str, &[u64], &str); 6] = [
        ("kept", &[0, 999, 1000], "- - -"),
        ("raised once", &[1001, 1500, 2000], "A1 A1 A1"),
        ("within the margin", &[1001, 901, 950, 1000], "A1 A1 A1 A1"),
        ("one calm sample is not enough", &[1001, 900, 901, 900, 950], "A1 A1 A1 A1 A1"),
        ("two in a row are", &[1001, 900, 900, 950], "A1 A1 c1 c1"),
        ("raised again", &[1001, 100, 100, 1001, 100, 100], "A1 A1 c1 A2 A2 c2"),
    ];
    for (name, values, expected) in table {
        let inputs: Vec<Inputs> = values.iter().map(|mib| memory(*mib)).collect();
        assert_eq!(play(&inputs), expected, "{name}");
    }
}

#[test]
fn low_memory_is_a_warning_and_below_half_the_limit_critical() {
    let mut book = AlertBook::default();
    let table = [
        (9.9, Level::Warning, true),
        (4.9, Level::Critical, true),
        (9.0, Level::Critical, true),
        (11.5, Level::Critical, true),
        (11.5, Level::Critical, false),
        (9.0, Level::Warning, true),
    ];
    for (second, (percent, level, active)) in (0..).zip(table) {
        evaluate(&mut book, &free(percent), &LIMITS, at(second));
        let alert = book.alerts().remove(0);
        assert_eq!((alert.level, alert.is_active()), (level, active), "{percent}");
    }
    assert_eq!(book.alerts()[0].count, 3);
}

#[test]
fn an_alert_that_becomes_critical_is_told_once_more_and_rings_but_one_that_was_taken_for_it_is_the_same() {
    let mut book = AlertBook::default();
    let (mut told, mut before) = (Vec::new(), Vec::new());
    for (second, percent) in (0..).zip([9.9, 9.0, 4.0, 3.0, 9.0]) {
        evaluate(&mut book, &free(percent), &LIMITS, at(second));
        told.extend(alert_changes(&before, &book.alerts()).into_iter().map(|event| (second, event.kind, event.level)));
        before = book.alerts();
    }
    let raised = EventKind::AlertRaised;
    assert_eq!(told, [(0, raised, Level::Warning), (2, raised, Level::Critical)]);
    let alert = &before[0];
    assert_eq!((alert.raised_at, alert.count, alert.acts.contains(&Act::Bell)), (at(0), 2, true));
}

#[test]
fn an_alert_whose_number_has_had_no_value_for_ten_minutes_is_cleared_as_no_longer_measured() {
    let rule = slow(Aggregate::Last, 0);
    let mut book = book_of(&rule);
    book.take(0, &rule, one(3.0), moment(0));
    for second in 1..=601 {
        let before = book.alerts();
        book.take(0, &rule, Vec::new(), moment(second));
        assert_eq!(book.alerts()[0].is_active(), second < 601, "{second}");
        let ends = alert_changes(&before, &book.alerts());
        let texts: Vec<&str> = ends.iter().map(|event| event.text.as_str()).collect();
        let expected = "no longer measured: slow batches: batch_seconds 3s (above 2s)";
        assert_eq!(texts, if second < 601 { vec![] } else { vec![expected] });
    }
    book.take(0, &rule, one(3.0), moment(602));
    assert_eq!((book.alerts()[0].is_active(), book.alerts()[0].count), (true, 2));
}

#[test]
fn nothing_new_measured_leaves_an_alert_as_it_is() {
    assert_eq!(play(&[memory(2000), Inputs::default(), free(50.0), Inputs::default()]), "A1 A1 A1 A1");
}

#[test]
fn a_value_that_is_no_number_neither_raises_nor_clears() {
    assert_eq!(play(&[free(f64::NAN)]), "-");
    assert_eq!(play(&[free(1.0), free(f64::NAN), free(f64::NAN)]), "A1 A1 A1");
}

#[test]
fn each_threshold_tells_its_value_and_its_limit() {
    let mut book = AlertBook::default();
    let inputs = Inputs {
        worked: Some(Duration::from_secs(312)),
        memory: Some(ByteSize(1100 << 20)),
        free_memory_percent: Some(8.26),
        error_rate_percent: Some(12.0),
    };
    evaluate(&mut book, &inputs, &LIMITS, at(0));
    let texts: Vec<String> = book.alerts().into_iter().map(|alert| format!("{}: {}", alert.key, alert.text)).collect();
    let expected = [
        "duration: at work for 5m12s (limit 5m00s)",
        "memory: howdah's own memory 1.1 GiB (limit 1000 MiB)",
        "free_memory: free memory of the host 8.3% (limit 10%)",
        "error_rate: failed batches 12.0% (limit 10%)",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn active_alerts_stand_first_newest_first_then_cleared_ones() {
    let mut book = AlertBook::default();
    let slow = Inputs { worked: Some(Duration::from_secs(301)), ..Inputs::default() };
    for (second, input) in (0..).zip([memory(2000), slow, free(1.0), memory(1), memory(1)]) {
        evaluate(&mut book, &input, &LIMITS, at(second));
    }
    let keys: Vec<String> = book.alerts().into_iter().map(|alert| alert.key).collect();
    assert_eq!(keys, ["free_memory", "duration", "memory"]);
}

#[test]
fn changes_are_told_once_as_events() {
    let mut book = AlertBook::default();
    let mut told = Vec::new();
    for (second, mib) in (0..).zip([1, 2000, 2000, 1, 1, 1, 2000]) {
        let before = book.alerts();
        evaluate(&mut book, &memory(mib), &LIMITS, at(second));
        told.extend(alert_changes(&before, &book.alerts()).into_iter().map(|event| (event.kind, event.at)));
    }
    let (raised, cleared) = (EventKind::AlertRaised, EventKind::AlertCleared);
    assert_eq!(told, [(raised, at(1)), (cleared, at(4)), (raised, at(6))]);
    assert_eq!(alert_changes(&[], &book.alerts()).len(), 1);
}

proptest! {
    #[test]
    fn an_alert_never_clears_while_the_limit_is_passed(values in proptest::collection::vec(0_u64..2000, 1..60)) {
        let mut book = AlertBook::default();
        let mut count = 0;
        for (second, mib) in (0..).zip(values) {
            evaluate(&mut book, &memory(mib), &LIMITS, at(second));
            let alert = book.alerts().pop();
            prop_assert!(mib <= 1000 || alert.as_ref().is_some_and(Alert::is_active));
            let now = alert.map_or(0, |alert| alert.count);
            prop_assert!(now == count || now == count + 1);
            count = now;
        }
    }
}

/// A rule over the time of a batch.
fn slow(of: Aggregate, hold: u64) -> Rule {
    Rule {
        name: "slow batches".to_owned(),
        source: Source::Metric(metric::named("batch_seconds").unwrap()),
        label: None,
        of,
        bound: Bound::Above,
        limit: 2.0,
        clear: 1.0,
        grave: None,
        hold: Duration::from_secs(hold),
        level: Level::Warning,
        acts: Act::usual(Level::Warning),
        words: None,
    }
}

fn book_of(rule: &Rule) -> AlertBook {
    let mut book = AlertBook::default();
    book.follow(&Arc::new(AlertRules { rules: vec![rule.clone()], every: EVERY }));
    book
}

/// One value a second; NaN stands for none. `-` nothing, `w` waiting, `A` raised, `c` cleared, `?` no value, with count.
fn course(rule: &Rule, values: &[f64]) -> String {
    let mut book = book_of(rule);
    let mut seen = Vec::new();
    for (second, value) in (0..).zip(values) {
        book.take(0, rule, one(*value), moment(second));
        let standing = match book.rules()[0].standing {
            Standing::NoValue => "?",
            Standing::Waiting => "w",
            Standing::Kept | Standing::Raised => "",
        };
        seen.push(match book.alerts().first() {
            None if standing.is_empty() => "-".to_owned(),
            None => standing.to_owned(),
            Some(alert) => format!("{}{}{standing}", if alert.is_active() { 'A' } else { 'c' }, alert.count),
        });
    }
    seen.join(" ")
}

#[test]
fn a_rule_of_a_plan_waits_is_raised_and_is_cleared_at_its_own_value() {
    let none = f64::NAN;
    let table: [(&str, Aggregate, u64, &[f64], &str); 9] = [
        ("at once", Aggregate::Last, 0, &[1.0, 2.0, 2.1], "- - A1"),
        ("held first", Aggregate::Last, 2, &[3.0, 3.0, 3.0, 3.0], "w w A1 A1"),
        ("a break begins anew", Aggregate::Last, 2, &[3.0, 3.0, 1.9, 3.0, 3.0, 3.0], "w w - w w A1"),
        ("between clear and limit it holds", Aggregate::Last, 0, &[3.0, 1.5, 1.5, 1.1], "A1 A1 A1 A1"),
        ("cleared", Aggregate::Last, 0, &[3.0, 1.0, 1.0, 3.0], "A1 A1 c1 A2"),
        ("a missing value neither raises nor clears", Aggregate::Last, 2, &[3.0, 3.0, 3.0, none, 1.0], "w w A1 A1? A1"),
        (
            "time in which nothing was measured does not count",
            Aggregate::Last,
            2,
            &[3.0, none, 3.0, 3.0, 3.0],
            "w ? w w A1",
        ),
        ("a mean is slower than the newest", Aggregate::Avg, 0, &[1.0, 1.0, 3.0, 9.0], "- - - A1"),
        ("the largest of the last hundred stays", Aggregate::Max, 0, &[3.0, 1.0, 1.0, 1.0], "A1 A1 A1 A1"),
    ];
    for (name, of, hold, values, expected) in table {
        assert_eq!(course(&slow(of, hold), values), expected, "{name}");
    }
}

#[test]
fn a_value_of_a_hundred_checks_ago_no_longer_counts() {
    let rule = slow(Aggregate::Max, 0);
    let mut book = book_of(&rule);
    book.take(0, &rule, one(9.0), moment(0));
    for second in 1..=101 {
        book.take(0, &rule, one(0.5), moment(second));
        assert_eq!(book.alerts()[0].is_active(), second < 101, "{second}");
    }
}

#[test]
fn of_several_the_worst_counts_or_the_one_that_is_named() {
    let samples = |values: &[(&str, f64)]| -> Vec<Sample> {
        values.iter().map(|(label, value)| Sample { label: Some((*label).to_owned()), value: *value }).collect()
    };
    let dead = Rule {
        name: "dead rows".to_owned(),
        source: Source::Metric(metric::named("table_dead_ratio").unwrap()),
        limit: 0.2,
        clear: 0.1,
        ..slow(Aggregate::Last, 0)
    };
    let mut book = book_of(&dead);
    book.take(0, &dead, samples(&[("users", 0.1), ("orders", 0.3)]), moment(0));
    assert_eq!(book.alerts()[0].text, "dead rows: table_dead_ratio of orders 30.0% (above 20%)");
    assert_eq!(book.alerts()[0].measured.label.as_deref(), Some("orders"));
    let users = Rule { label: Some("users".to_owned()), ..dead.clone() };
    let mut book = book_of(&users);
    book.take(0, &users, samples(&[("users", 0.1), ("orders", 0.3)]), moment(0));
    assert!(book.alerts().is_empty());
    book.take(0, &users, samples(&[("orders", 0.3)]), moment(1));
    assert_eq!(book.rules()[0].standing, Standing::NoValue);
}

#[test]
fn however_many_labels_there_are_memory_is_bounded() {
    let rule = slow(Aggregate::Last, 0);
    let mut book = book_of(&rule);
    for round in 0..20 {
        let many = (0..500).map(|n| Sample { label: Some(format!("{round}/{n}")), value: 1.0 }).collect();
        book.take(0, &rule, many, moment(round));
        assert!(book.series(0) <= 64, "{}", book.series(0));
    }
}

#[test]
fn resources_are_looked_at_at_their_own_pace_and_the_runs_numbers_each_second() {
    let limits = AlertLimits { free_memory_percent: 0.0, ..LIMITS };
    let mut book = AlertBook::default();
    book.follow(&Arc::new(AlertRules::new(&limits, Vec::new(), EVERY)));
    let mut snapshot = Snapshot::starting(at(0), "r".into(), "p".into(), "h".into());
    let mut seen = String::new();
    for second in 0..40 {
        let rss = if second > 0 { ByteSize(2000 << 20) } else { ByteSize(1) };
        let process = crate::run::vitals::ProcessVitals { rss, peak_rss: rss };
        Arc::make_mut(&mut snapshot.vitals).process = Reading::Value(process);
        snapshot.spent.worked = Duration::from_secs(if second == 5 { 301 } else { 1 });
        book.check(&snapshot, moment(second));
        let key = |key: &str| book.alerts().iter().any(|alert| alert.key == key);
        seen.push(match (key("duration"), key("memory")) {
            (false, false) => '.',
            (true, false) => 'd',
            (false, true) => 'm',
            (true, true) => 'b',
        });
    }
    assert_eq!(seen, format!("{}{}{}", ".".repeat(5), "d".repeat(25), "b".repeat(10)));
}

#[test]
fn what_is_told_of_holds_until_it_is_told_to_be_over() {
    let mut book = AlertBook::default();
    book.tell("notify ops", None, at(0));
    assert!(book.alerts().is_empty());
    book.tell("notify ops", Some("no answer"), at(1));
    book.tell("notify ops", Some("no answer for long"), at(2));
    let alert = book.alerts().remove(0);
    assert_eq!((alert.text.as_str(), alert.count, alert.is_active()), ("no answer for long", 1, true));
    book.tell("notify ops", None, at(3));
    assert_eq!(book.alerts()[0].cleared_at, Some(at(3)));
    book.tell("notify ops", Some("again"), at(4));
    assert_eq!(book.alerts()[0].count, 2);
}

proptest! {
    #[test]
    fn an_alert_of_a_plan_never_clears_while_past_nor_flaps_faster_than_its_hysteresis(
        values in proptest::collection::vec(prop_oneof![4 => 0.0_f64..4.0, 1 => Just(f64::NAN)], 1..120),
        hold in 0_u64..5,
        below in any::<bool>(),
    ) {
        let bound = if below { Bound::Below } else { Bound::Above };
        let clear = if below { 3.0 } else { 1.0 };
        let rule = Rule { bound, clear, ..slow(Aggregate::Last, hold) };
        let mut book = book_of(&rule);
        let (mut was_active, mut calm, mut past) = (false, 0, None);
        for (second, value) in (0..).zip(values) {
            book.take(0, &rule, one(value), moment(second));
            if value.is_finite() {
                let is_past = bound.is_past(value, 2.0);
                past = if is_past { past.or(Some(second)) } else { None };
                calm = if is_past || bound.is_past(value, clear) { 0 } else { calm + 1 };
            } else {
                past = None;
            }
            let active = book.alerts().first().is_some_and(Alert::is_active);
            if active && !was_active {
                prop_assert!(past.is_some_and(|since| second - since >= i64::try_from(hold).unwrap()));
            }
            if was_active && !active {
                prop_assert!(calm >= 2 && past.is_none());
            }
            was_active = active;
        }
    }
}

/// The table of the reference, as `METRICS` has it.
fn table_of_metrics() -> String {
    let mut lines = vec!["| name | of each | what |".to_owned(), "| --- | --- | --- |".to_owned()];
    lines.extend(metric::METRICS.iter().map(|metric| {
        let label = metric.label().map_or_else(String::new, |label| format!("`{label}`"));
        format!("| `{}` | {label} | {} |", metric.name, metric.help)
    }));
    lines.join("\n")
}

#[test]
fn the_reference_lists_every_number() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/reference/alerts.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let mark = "<!-- metrics: made by a test from src/run/metric.rs -->\n";
    let (before, after) = page.split_once(mark).expect("the mark is there");
    let wanted = format!("\n{}\n", table_of_metrics());
    if std::env::var("HOWDAH_BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(path, format!("{before}{mark}{wanted}")).expect("assets can be written");
        return;
    }
    assert_eq!(after, wanted, "run this test with HOWDAH_BLESS=1 to write {path}");
}
