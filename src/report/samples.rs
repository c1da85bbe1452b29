//! A run for the tests of reports: as long as a course can be, with names that nobody should have chosen.

use chrono::{DateTime, TimeDelta};

use crate::run::dossier::{AsideReason, Asked, Dossier, LastDriver, StepTimes};
use crate::run::report::Report;
use crate::run::sample::{SAMPLES, Sample};
use crate::run::summary::Summary;
use crate::run::{Event, EventKind, Level, RunState, Snapshot, StepState, StepView};

const HOSTILE: &str = "<script>\u{1b}[31m</script>\"<b>x";

/// 2,000 samples of 64 seconds with a gap, a pause and a wait; two steps; 200 alerts.
pub fn long() -> Dossier {
    let began = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let samples = (0..i64::try_from(SAMPLES).unwrap_or(0)).map(|n| {
        let wave = f32::from(u16::try_from(n * 37 % 997).unwrap_or(0));
        Sample {
            at: began.timestamp() + n * 64 + if n > 1200 { 20_000 } else { 0 },
            step: 64,
            seen: 64,
            rate: 40_000.0 + wave,
            batch_ms: Some(400.0 + wave / 10.0),
            worst_ms: Some(900.0 + wave),
            lag: None,
            dead: Some(wave * 1000.0),
            cpu: Some(wave / 1000.0),
            memory: Some(0.5),
            rss: Some(4e7),
            workers: Some(4),
            paused_s: if (100..180).contains(&n) { 64 } else { 0 },
            waits_s: if (300..400).contains(&n) { 40 } else { 0 },
            waits: (300..400).contains(&n).then(|| HOSTILE.to_owned()),
            alert: None,
        }
    });
    let samples: Vec<Sample> = samples.collect();
    let ended = began + TimeDelta::seconds(148_000);
    let mut snapshot = Snapshot::starting(ended, "7f3a09c2".into(), HOSTILE.into(), HOSTILE.into());
    snapshot.state = RunState::Done { at: ended };
    snapshot.started_at = Some(began);
    snapshot.server = "app@db1:5432".to_owned();
    for name in [HOSTILE, "tags"] {
        let mut step = StepView::new(name.to_owned(), "backfill".to_owned());
        (step.state, step.rows_walked, step.outcome) = (StepState::Done, 1000, Some(HOSTILE.to_owned()));
        snapshot.steps.push(step);
    }
    let event = |n: i64| Event {
        at: began + TimeDelta::seconds(n * 600),
        level: Level::Warning,
        kind: EventKind::AlertRaised,
        text: format!("{HOSTILE} {n}"),
    };
    let asked = Asked {
        at: began,
        words: "pause".to_owned(),
        via: "script".to_owned(),
        who: HOSTILE.to_owned(),
        role: "app".to_owned(),
        client: None,
        state: "taken".to_owned(),
        outcome: Some(HOSTILE.to_owned()),
        applied_at: None,
    };
    let times = StepTimes { began: Some(began), ended: Some(began + TimeDelta::seconds(60_000)) };
    let aside = AsideReason { sqlstate: Some("23514".to_owned()), open: 1, resolved: 0, example: HOSTILE.to_owned() };
    Dossier {
        report: Report::of(&snapshot),
        state: "done".to_owned(),
        id: "01a217d3-aa15-7273-af42-5cfa4fb8e8e2".to_owned(),
        read_at: ended,
        seen_at: ended,
        samples,
        no_samples: None,
        summary: Summary::default(),
        events: (0..200).map(event).collect(),
        earlier_events: 3,
        commands: vec![asked; 200],
        earlier_commands: 0,
        aside: vec![aside],
        aside_rows: Vec::new(),
        step_times: vec![times; 2],
        driver: LastDriver::default(),
        plan_source: format!("name = '{HOSTILE}'"),
        plan_path: Some(HOSTILE.to_owned()),
        settings: vec![("probe".to_owned(), HOSTILE.to_owned())],
        undoes: None,
        undone_by: Vec::new(),
    }
}
