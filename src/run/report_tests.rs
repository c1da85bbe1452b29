//! The report as text and as JSON, word for word.

use super::*;
use crate::run::Asker;
use serde_json::json;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_373_700 + second, 0).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn step(name: &str, kind: &str, state: StepState, worked: u64, ended: Option<u64>, rows: u64) -> StepView {
    StepView {
        state,
        spent: Spent { worked: ms(worked), paused: Duration::ZERO },
        ended_after: ended.map(ms),
        rows_walked: rows,
        rows_changed: rows,
        batches: rows.div_ceil(6000),
        ..StepView::new(name.to_owned(), kind.to_owned())
    }
}

fn snapshot(state: RunState, steps: Vec<StepView>) -> Snapshot {
    let mut snapshot = Snapshot::starting(at(200), "7f3a09c2".into(), "normalise-emails".into(), "ops1".into());
    snapshot.server = "axisor@db1:5432".to_owned();
    snapshot.state = state;
    snapshot.started_at = Some(at(0));
    snapshot.spent = Spent { worked: ms(101_400), paused: ms(3100) };
    snapshot.steps = steps;
    snapshot.resume_command = "howdah resume 7f3a09c2".to_owned();
    snapshot
}

fn done() -> Snapshot {
    let mut steps = vec![
        step("index", "statement", StepState::Done, 12_400, Some(12_400), 0),
        step("emails", "backfill", StepState::Done, 87_800, Some(103_300), 2_000_000),
        step("nothing left", "verify", StepState::Done, 1200, Some(104_500), 0),
    ];
    steps[1].outcome = Some("0 left".to_owned());
    steps[2].outcome = Some("0, as expected".to_owned());
    snapshot(RunState::Done { at: at(104) }, steps)
}

#[test]
fn the_text_of_a_run_that_is_done_is_an_aligned_table() {
    let expected = "\
run 7f3a09c2  normalise-emails  done
server    axisor@db1:5432
started   2026-03-01 14:01:40 UTC
finished  2026-03-01 14:03:24 UTC

step          state     time       at    changed  rows/s  batches  outcome
index         done     12.4s    12.4s          -       -        -
emails        done   1m27.8s  1m43.3s  2,000,000  22,779      334  0 left
nothing left  done      1.2s  1m44.5s          -       -        -  0, as expected
total                1m41.4s  1m44.5s  2,000,000  22,779      334

paused 3.1s, waited 0s
";
    assert_eq!(Report::of(&done()).to_text(), expected);
}

/// [`done`], with waiting, retries, quarantined rows and churn.
fn with_trouble() -> Snapshot {
    let mut snapshot = done();
    let lost = |reason: &str, millis| Waited { reason: reason.to_owned(), time: ms(millis) };
    snapshot.pace.waited = vec![lost("replay\x1blag", 2000), lost("breaker", 1100)];
    let emails = &mut snapshot.steps[1];
    (emails.retries, emails.quarantined, emails.waited) = (2, 37, ms(3100));
    emails.churn = Some(Churn { updated: 2_000_000, hot: 1_439_000, dead_made: 2_000_000, cleared: 1_200_000 });
    snapshot.steps[0].churn = Some(Churn::default());
    snapshot
}

#[test]
fn trouble_is_told_below_the_table_and_the_quarantine_with_its_command() {
    let expected = "\
run 7f3a09c2  normalise-emails  done, 37 rows quarantined
server    axisor@db1:5432
started   2026-03-01 14:01:40 UTC
finished  2026-03-01 14:03:24 UTC

step          state     time       at    changed  rows/s  batches  outcome
index         done     12.4s    12.4s          -       -        -
emails        done   1m27.8s  1m43.3s  2,000,000  22,779      334  0 left
nothing left  done      1.2s  1m44.5s          -       -        -  0, as expected
total                1m41.4s  1m44.5s  2,000,000  22,779      334

emails: 2 batches tried again, 37 rows quarantined, waited 3.1s
emails: 71% of updates HOT; 2,000,000 dead rows made, 1,200,000 cleared

paused 3.1s, waited 3.1s: replay\u{fffd}lag 2.0s, breaker 1.1s
37 rows quarantined, and why: howdah quarantine list 7f3a09c2
";
    let text = Report::of(&with_trouble()).to_text();
    assert_eq!(text, expected);
    assert!(text.lines().filter(|line| line.contains(':')).all(|line| line.width() <= 80));
}

#[test]
fn in_json_waiting_is_told_by_reason_and_churn_with_its_percentage() {
    let json = serde_json::to_value(Report::of(&with_trouble())).unwrap();
    assert_eq!((&json["state"], &json["waited_seconds"]), (&json!("done"), &json!(3.1)));
    assert_eq!(json["waited_by_reason"], json!({ "replay\u{1b}lag": 2.0, "breaker": 1.1 }));
    assert_eq!((&json["retries"], &json["quarantined"]), (&json!(2), &json!(37)));
    assert_eq!(json["quarantine_command"], json!("howdah quarantine list 7f3a09c2"));
    let step = &json["steps"][1];
    assert_eq!((&step["retries"], &step["quarantined"], &step["waited_seconds"]), (&json!(2), &json!(37), &json!(3.1)));
    assert_eq!(step["churn"]["hot_percent"], json!(71.95));
    assert_eq!(step["churn"]["dead_made"], json!(2_000_000));
    assert_eq!((&json["steps"][2]["churn"], &json["steps"][0]["churn"]["hot_percent"]), (&json!(null), &json!(null)));
}

#[test]
fn a_failure_tells_cause_details_hints_and_how_to_go_on_and_cannot_steer_the_terminal() {
    let cause = Cause::new("step `emails`: batch failed\x1b[2J")
        .sqlstate("23505")
        .detail("keys 101 to 200\n\tsecond line")
        .hint("drop the unique index");
    let steps = vec![
        step("表 1", "backfill", StepState::Failed, 2000, None, 100),
        step("later", "verify", StepState::Waiting, 0, None, 0),
    ];
    let mut snapshot = snapshot(RunState::Failed { at: at(2), cause, resumable: true }, steps);
    snapshot.spent = Spent { worked: ms(2000), paused: Duration::ZERO };
    let expected = "\
run 7f3a09c2  normalise-emails  failed
server    axisor@db1:5432
started   2026-03-01 14:01:40 UTC
finished  2026-03-01 14:01:42 UTC

step   state    time    at  changed  rows/s  batches  outcome
表 1   failed   2.0s     -      100      50        1
later  waiting     -     -        -       -        -
total           2.0s  2.0s      100      50        1

paused 0s, waited 0s

failed: step `emails`: batch failed\u{fffd}[2J (SQLSTATE 23505)
  keys 101 to 200
   second line
hint: drop the unique index
to go on: howdah resume 7f3a09c2
";
    assert_eq!(Report::of(&snapshot).to_text(), expected);
}

#[test]
fn the_command_to_go_on_is_told_only_where_one_can() {
    let cause = Cause::new("x");
    let table = [
        (RunState::Running, false),
        (RunState::Paused { since: at(1), by: Asker::Console }, true),
        (RunState::Stopped { at: at(1), by: Asker::Signal }, true),
        (RunState::Failed { at: at(1), cause: cause.clone(), resumable: true }, true),
        (RunState::Failed { at: at(1), cause, resumable: false }, false),
        (RunState::Done { at: at(1) }, false),
    ];
    for (state, expected) in table {
        let word = state.word();
        let report = Report::of(&snapshot(state, Vec::new()));
        assert_eq!(report.resume_command.is_some(), expected, "{word}");
    }
}

#[test]
fn in_json_durations_are_seconds_and_say_so() {
    let json = serde_json::to_value(Report::of(&done())).unwrap();
    assert_eq!(json["state"], json!("done"));
    assert_eq!(json["worked_seconds"], json!(101.4));
    assert_eq!(json["paused_seconds"], json!(3.1));
    assert_eq!(json["waited_seconds"], json!(0.0));
    assert_eq!(json["resume_command"], json!(null));
    assert_eq!(json.get("cause"), None);
    assert_eq!(json["steps"][1]["ended_after_seconds"], json!(103.3));
    assert_eq!(json["steps"][1]["worked_seconds"], json!(87.8));
    assert_eq!(json["steps"][1]["state"], json!("done"));
    assert_eq!(json["steps"][0]["rows_per_second"], json!(null));
}

#[test]
fn a_run_that_has_not_begun_has_a_report_too() {
    let starting = Snapshot::starting(at(0), "7f3a09c2".into(), "p".into(), "h".into());
    assert_eq!(Report::of(&starting).to_text(), "run 7f3a09c2  p  starting\n\npaused 0s, waited 0s\n");
}

#[test]
fn the_heading_of_the_rate_says_what_was_counted() {
    let of = |kinds: &[(&str, u64)]| {
        let steps =
            kinds.iter().map(|(kind, rows)| step("s", kind, StepState::Done, 1000, Some(1000), *rows)).collect();
        Report::of(&snapshot(RunState::Done { at: at(104) }, steps)).to_text()
    };
    let table: [(&[(&str, u64)], &str); 4] = [
        (&[("statement", 0)], "rows/s"),
        (&[("backfill", 9), ("verify", 0)], "rows/s"),
        (&[("files", 9), ("verify", 0)], "files/s"),
        (&[("files", 9), ("backfill", 9)], "per s"),
    ];
    for (kinds, heading) in table {
        assert!(of(kinds).contains(&format!("  {heading}  ")), "{kinds:?}:\n{}", of(kinds));
    }
}

#[test]
fn cached_look_ups_are_told_where_there_were_any() {
    let mut snapshot = done();
    snapshot.caches = vec![
        CacheView { name: "a".to_owned(), asked: 1000, process: 982, redis: 3, database: 15, ..CacheView::default() },
        CacheView { name: "idle".to_owned(), ..CacheView::default() },
    ];
    let text = Report::of(&snapshot).to_text();
    assert!(text.ends_with("\ncache a 98.5% of 1,000 (Redis 3, database 15)\n"), "{text}");
    assert!(!text.contains("idle"), "{text}");
}
