//! A run without the console: a progress bar, plain lines, or JSON lines. A reader that went away disturbs nothing.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::progress_json::{self, harmless, typed};
use super::progress_line::{bar_line, event_line, line, status};
use crate::run::report::Report;
use crate::run::{Event, EventKind, Snapshot, human};

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
            Style::Json => Output::Line(harmless(&progress_json::progress(snapshot))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::headless_samples::{batches, now, snapshot};
    use crate::run::RunState;

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
