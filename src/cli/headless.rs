//! A run without the console: a progress bar, plain lines, or JSON lines. A reader that went away disturbs nothing.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::run::progress::Total;
use crate::run::report::Report;
use crate::run::snapshot::{Activity, BatchActivity};
use crate::run::text::clean;
use crate::run::{Eta, Event, EventKind, RunState, Snapshot, human};

/// How a run is shown without the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A progress bar on stderr, with a line above it for each event. Becomes `Lines` where stderr is no terminal.
    Bar,
    /// Lines on stderr: events at once, progress every 10 seconds.
    Lines,
    /// One JSON object a line on stdout: events at once, progress every second, the report at the end.
    Json,
}

/// The bar's cells.
const CELLS: u16 = 12;
/// Lines that may wait for a slow reader. Beyond that the newest snapshot replaces older ones, and events are skipped.
const WAITING: usize = 64;
/// The last event may come this long after the last snapshot.
const LAST_EVENT: Duration = Duration::from_millis(250);

/// Shows the run until it is over, and returns the last snapshot.
///
/// Returns early, with the newest snapshot, where nobody is left to publish one. Errors in writing are ignored: they
/// must not disturb the run.
pub async fn follow(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut events: broadcast::Receiver<Event>,
    style: Style,
) -> Arc<Snapshot> {
    let mut printer = Printer::start(style);
    let mut ticks = interval(printer.style.every());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut telling = true;
    let mut ended = false;
    while !snapshots.borrow_and_update().state.is_over() {
        tokio::select! {
            biased;
            told = events.recv(), if telling => match told {
                Ok(event) => {
                    ended |= event.kind == EventKind::RunFinished;
                    printer.event(&event).await;
                }
                Err(RecvError::Lagged(skipped)) => printer.skipped(skipped).await,
                Err(RecvError::Closed) => telling = false,
            },
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            _ = ticks.tick() => {
                let snapshot = Arc::clone(&snapshots.borrow());
                printer.progress(&snapshot).await;
            }
        }
    }
    printer.rest(&mut events, ended).await;
    let last = Arc::clone(&snapshots.borrow());
    printer.progress(&last).await;
    printer.end(&last).await;
    last
}

impl Style {
    /// The time between two looks at the progress.
    fn every(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(250),
            Self::Lines => Duration::from_secs(10),
            Self::Json => Duration::from_secs(1),
        }
    }
}

/// Something to write.
enum Output {
    /// A line that stays.
    Line(String),
    /// The text beside the bar, until the next one.
    Status(String),
}

/// Formats here, writes on a thread of its own: a terminal that stands still (Ctrl-S) blocks nothing but that thread.
struct Printer {
    style: Style,
    output: mpsc::Sender<Output>,
    /// Resolves when the thread has written everything.
    written: oneshot::Receiver<()>,
    /// What the last progress said: it is not said twice.
    said: String,
}

impl Printer {
    fn start(style: Style) -> Self {
        let bar = (style == Style::Bar).then(bar).filter(|bar| !bar.is_hidden());
        let style = if style == Style::Bar && bar.is_none() { Style::Lines } else { style };
        let (output, waiting) = mpsc::channel(WAITING);
        let (writing, written) = oneshot::channel();
        let write = move || {
            write(style, bar.as_ref(), waiting);
            drop(writing);
        };
        if let Err(error) = std::thread::Builder::new().name("howdah-output".to_owned()).spawn(write) {
            tracing::warn!(%error, "no thread for the output: the run goes on unseen");
        }
        Self { style, output, written, said: String::new() }
    }

    async fn event(&self, event: &Event) {
        let line = match self.style {
            Style::Bar | Style::Lines => event_line(event),
            Style::Json => harmless(&typed("event", event)),
        };
        self.send(Output::Line(line)).await;
    }

    async fn skipped(&self, skipped: u64) {
        let line = match self.style {
            Style::Bar | Style::Lines => format!("({} events were skipped: the reader is slow)", human::count(skipped)),
            Style::Json => harmless(&typed("skipped", &json!({ "events": skipped }))),
        };
        self.send(Output::Line(line)).await;
    }

    async fn progress(&mut self, snapshot: &Snapshot) {
        let said = status(snapshot);
        let output = match self.style {
            Style::Bar | Style::Lines if said == self.said => return,
            Style::Bar => Output::Status(bar_line(snapshot)),
            Style::Lines => Output::Line(line(snapshot)),
            Style::Json => Output::Line(harmless(&json(snapshot))),
        };
        self.said = said;
        self.send(output).await;
    }

    /// The events that came with the last snapshot, or shortly after it.
    async fn rest(&self, events: &mut broadcast::Receiver<Event>, mut ended: bool) {
        let deadline = Instant::now() + LAST_EVENT;
        while !ended {
            match timeout_at(deadline, events.recv()).await {
                Ok(Ok(event)) => {
                    ended = event.kind == EventKind::RunFinished;
                    self.event(&event).await;
                }
                Ok(Err(RecvError::Lagged(skipped))) => self.skipped(skipped).await,
                Ok(Err(RecvError::Closed)) | Err(_) => ended = true,
            }
        }
        loop {
            match events.try_recv() {
                Ok(event) => self.event(&event).await,
                Err(TryRecvError::Lagged(skipped)) => self.skipped(skipped).await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Writes the report where the style has one, and waits until everything is written.
    async fn end(self, last: &Snapshot) {
        if self.style == Style::Json {
            self.send(Output::Line(harmless(&typed("report", &Report::of(last))))).await;
        }
        drop(self.output);
        // An error only says that the thread is gone, which is what this waits for.
        let _gone = self.written.await;
    }

    async fn send(&self, output: Output) {
        // The thread is gone where the reader is: then there is nobody to tell.
        let _gone = self.output.send(output).await;
    }
}

/// Writes until there is nothing more, or until nobody reads.
fn write(style: Style, bar: Option<&ProgressBar>, mut waiting: mpsc::Receiver<Output>) {
    while let Some(output) = waiting.blocking_recv() {
        let written = match (output, bar) {
            (Output::Line(line), Some(bar)) => {
                bar.println(line);
                Ok(())
            }
            (Output::Status(text), Some(bar)) => {
                bar.set_message(text);
                Ok(())
            }
            (Output::Line(line) | Output::Status(line), None) => match style {
                Style::Bar | Style::Lines => writeln!(std::io::stderr().lock(), "{line}"),
                Style::Json => writeln!(std::io::stdout().lock(), "{line}"),
            },
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the reader of the output is gone");
            return;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// One line that is rewritten in place. Its text, gauge included, is ours: indicatif's own rate and ETA know no pause.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        bar.set_style(style);
    }
    bar
}

/// `███████████░░░░░ emails 71.3% ...`
fn bar_line(snapshot: &Snapshot) -> String {
    let gauge = fraction(snapshot).map_or_else(String::new, gauge);
    [gauge, status(snapshot)].iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn gauge(fraction: f64) -> String {
    let full = (0..CELLS).filter(|cell| f64::from(cell + 1) <= fraction * f64::from(CELLS)).count();
    "█".repeat(full) + &"░".repeat(usize::from(CELLS) - full)
}

fn fraction(snapshot: &Snapshot) -> Option<f64> {
    match &snapshot.activity {
        Activity::Idle => None,
        Activity::Batches(batches) => batches.estimate.fraction(),
        Activity::Statement { fraction, .. } => *fraction,
    }
}

/// `14:03:22 emails 71.3% ETA 11–13s 48,210 rows/s 1,426,000 / ~2,000,000 rows`. Times are UTC, as in the events.
fn line(snapshot: &Snapshot) -> String {
    format!("{} {}", snapshot.now.format("%H:%M:%S"), status(snapshot))
}

/// `14:03:22 WARN free memory of the host 8.2% (limit 10%)`
fn event_line(event: &Event) -> String {
    format!("{} {} {}", event.at.format("%H:%M:%S"), event.level.word(), clean(&event.text))
}

/// What the run does, in words: step, state where it is not simply running, share, ETA, rate, rows.
fn status(snapshot: &Snapshot) -> String {
    let mut parts = Vec::new();
    if let Some((_, step)) = snapshot.current_step() {
        parts.push(clean(&step.name).into_owned());
    }
    if snapshot.state != RunState::Running || parts.is_empty() {
        parts.push(snapshot.state.word().to_owned());
    }
    match &snapshot.activity {
        Activity::Idle => {}
        Activity::Batches(batches) => {
            if batches.sweep > 1 {
                parts.push(format!("sweep {}", batches.sweep));
            }
            parts.extend(batches.estimate.fraction().map(human::percent));
            // What matters most comes first: a narrow terminal cuts the end off.
            if snapshot.state.is_working() {
                parts.push(format!("ETA {}", human::eta(batches.eta)));
                parts.extend(batches.rate.map(|rate| format!("{} rows/s", human::rate(rate))));
            }
            parts.push(human::estimate(&batches.estimate));
        }
        Activity::Statement { what, fraction, since } => {
            parts.push(clean(what).into_owned());
            parts.extend(fraction.map(human::percent));
            if snapshot.state.is_working() {
                let open = (snapshot.now - *since).to_std().unwrap_or_default();
                parts.push(format!("for {}", human::rough_duration(open)));
            }
        }
    }
    parts.join(" ")
}

/// The progress as JSON. Durations are seconds and say so; what is not known is `null`.
fn json(snapshot: &Snapshot) -> Value {
    let step = snapshot.current_step();
    let batches = match &snapshot.activity {
        Activity::Batches(batches) => Some(batches),
        Activity::Idle | Activity::Statement { .. } => None,
    };
    let what = match &snapshot.activity {
        Activity::Statement { what, .. } => Some(what),
        Activity::Idle | Activity::Batches(_) => None,
    };
    json!({
        "type": "progress",
        "at": snapshot.now,
        "run": snapshot.run,
        "state": snapshot.state.word(),
        "step": step.map(|(_, step)| &step.name),
        "step_number": step.map(|(index, _)| index + 1),
        "steps": snapshot.steps.len(),
        "statement": what,
        "fraction": fraction(snapshot),
        "walked": batches.map(|batches| batches.estimate.walked),
        "total": batches.map(|batches| total(batches.estimate.total)),
        "sweep": batches.map(|batches| batches.sweep),
        "rows_per_second": batches.and_then(|batches| batches.rate),
        "eta_seconds": batches.and_then(|batches| eta(batches.eta)),
        "batch": batches.map(batch),
        "rows_changed": snapshot.rows_changed(),
        "worked_seconds": snapshot.spent.worked.as_secs_f64(),
        "paused_seconds": snapshot.spent.paused.as_secs_f64(),
    })
}

fn total(total: Total) -> Value {
    match total {
        Total::Unknown => json!({ "kind": "unknown", "rows": null }),
        Total::About(rows) => json!({ "kind": "about", "rows": rows }),
        Total::Exactly(rows) => json!({ "kind": "exactly", "rows": rows }),
    }
}

fn eta(eta: Eta) -> Option<Value> {
    match eta {
        Eta::Unknown => None,
        Eta::Within { least, most } => Some(json!({ "least": least.as_secs_f64(), "most": most.as_secs_f64() })),
    }
}

fn batch(batches: &BatchActivity) -> Value {
    json!({
        "rows": batches.last.map(|last| last.rows),
        "seconds": batches.last.map(|last| last.took.as_secs_f64()),
        "next_rows": batches.next_size,
        "target_seconds": batches.target.as_secs_f64(),
    })
}

/// An object whose first key is its `type`.
fn typed(kind: &str, content: &impl Serialize) -> Value {
    let mut object = Map::new();
    object.insert("type".to_owned(), Value::from(kind));
    if let Ok(Value::Object(fields)) = serde_json::to_value(content) {
        object.extend(fields);
    }
    Value::Object(object)
}

/// The JSON text with everything that could steer a terminal as `\u` escapes: harmless to look at, and nothing is lost.
fn harmless(value: &Value) -> String {
    let text = value.to_string();
    if matches!(clean(&text), Cow::Borrowed(_)) {
        return text;
    }
    let escaped = text.chars().map(|c| match clean(c.encode_utf8(&mut [0; 4])) {
        Cow::Borrowed(_) => c.to_string(),
        Cow::Owned(_) => format!("\\u{:04x}", u32::from(c)),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::timer::Spent;
    use crate::run::{Asker, Estimate, Level, StepState, StepView};
    use chrono::{DateTime, Utc};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_373_802, 0).unwrap()
    }

    fn snapshot(state: RunState, name: &str, activity: Activity) -> Snapshot {
        let mut snapshot = Snapshot::starting(now(), "7f3a09c2".into(), "p".into(), "h".into());
        snapshot.state = state;
        snapshot.activity = activity;
        snapshot.steps.push(StepView {
            name: name.to_owned(),
            kind: "backfill".to_owned(),
            state: StepState::Running,
            spent: Spent::default(),
            ended_after: None,
            rows_walked: 0,
            rows_changed: 5,
            batches: 0,
            retries: 0,
            quarantined: 0,
            waited: Duration::ZERO,
            churn: None,
            outcome: None,
        });
        snapshot
    }

    fn batches() -> Activity {
        let (least, most) = (Duration::from_secs(11), Duration::from_secs(13));
        Activity::Batches(BatchActivity {
            estimate: Estimate { walked: 1_426_000, total: Total::About(2_000_000) },
            sweep: 1,
            eta: Eta::Within { least, most },
            rate: Some(48_210.0),
            mean_rate: None,
            last: None,
            next_size: 7000,
            target: Duration::from_millis(500),
            at_floor: false,
            segments: crate::run::snapshot::Parts::default(),
        })
    }

    #[test]
    fn a_line_says_time_step_share_rows_rate_and_eta() {
        let paused = RunState::Paused { since: now(), by: Asker::Signal };
        let what = "building index".to_owned();
        let since = now() - Duration::from_secs(12);
        let statement = Activity::Statement { what, fraction: Some(0.43), since };
        let rows = "1,426,000 / ~2,000,000 rows";
        let table = [
            (RunState::Running, batches(), format!("14:03:22 st\u{fffd}ep 71.3% ETA 11–13s 48,210 rows/s {rows}")),
            (paused, batches(), format!("14:03:22 st\u{fffd}ep paused 71.3% {rows}")),
            (RunState::Running, statement, "14:03:22 st\u{fffd}ep building index 43.0% for 12s".to_owned()),
        ];
        for (state, activity, expected) in table {
            assert_eq!(line(&snapshot(state, "st\x1bep", activity)), expected);
        }
        let starting = Snapshot::starting(now(), "r".into(), "p".into(), "h".into());
        assert_eq!(line(&starting), "14:03:22 starting");
    }

    #[test]
    fn the_gauge_is_full_only_at_the_end() {
        for (fraction, full) in [(0.0, 0), (0.5, 6), (0.999, 11), (1.0, 12), (7.0, 12), (f64::NAN, 0)] {
            let cells: Vec<char> = gauge(fraction).chars().collect();
            assert_eq!((cells.len(), cells.iter().filter(|cell| **cell == '█').count()), (12, full), "{fraction}");
        }
    }

    #[test]
    fn progress_in_json_names_its_units_and_says_null_where_nothing_is_known() {
        let progress = json(&snapshot(RunState::Running, "emails", batches()));
        assert_eq!(progress["type"], json!("progress"));
        assert_eq!((&progress["step"], &progress["step_number"]), (&json!("emails"), &json!(1)));
        assert_eq!(progress["walked"], json!(1_426_000));
        assert_eq!(progress["total"], json!({ "kind": "about", "rows": 2_000_000 }));
        assert_eq!(progress["eta_seconds"], json!({ "least": 11.0, "most": 13.0 }));
        assert_eq!(progress["batch"]["rows"], json!(null));
        let idle = json(&snapshot(RunState::Running, "emails", Activity::Idle));
        assert_eq!((&idle["total"], &idle["batch"], &idle["fraction"]), (&json!(null), &json!(null), &json!(null)));
    }

    #[test]
    fn json_cannot_steer_a_terminal_and_loses_nothing() {
        let text = "a\x1b[2J\u{9b}\u{202e}é\n".to_owned();
        let event = Event { at: now(), level: Level::Warning, kind: EventKind::Notice, text: text.clone() };
        let line = harmless(&typed("event", &event));
        assert!(line.starts_with(r#"{"type":"event","at":"2026-03-01T14:03:22Z","level":"warning","kind":"notice""#));
        assert!(line.contains("\\u009b\\u202eé\\n") && !line.chars().any(char::is_control), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], Value::from(text));
        assert_eq!(event_line(&event), "14:03:22 WARN a\u{fffd}[2J\u{fffd}\u{fffd}é ");
    }

    #[tokio::test]
    async fn following_ends_with_the_run_or_with_its_last_publisher() {
        for over in [true, false] {
            let (snapshots, reader) = watch::channel(Arc::new(snapshot(RunState::Running, "emails", batches())));
            let (events, heard) = broadcast::channel(8);
            let engine = async move {
                tokio::task::yield_now().await;
                if over {
                    snapshots.send_modify(|held| Arc::make_mut(held).state = RunState::Done { at: now() });
                }
                drop((snapshots, events));
            };
            let (last, ()) = tokio::join!(follow(reader, heard, Style::Lines), engine);
            assert_eq!(last.state.is_over(), over);
        }
    }
}
