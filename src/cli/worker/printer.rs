//! A worker's lines: plain ones on standard error, or JSON on standard output.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::json;

use crate::cli::say;
use crate::queue::worker::News;
use crate::run::text::clean;

/// Lines that may wait for a slow reader; those after them are skipped.
const WAITING: usize = 256;
/// The last lines may take so long.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes on a thread of its own: a terminal that stands still (Ctrl-S) holds no job.
pub struct Printer {
    /// `None`: there are no more.
    lines: SyncSender<Option<String>>,
    is_json: bool,
    thread: Option<JoinHandle<()>>,
}

impl Printer {
    /// Starts it.
    pub fn start(is_json: bool) -> Self {
        let (lines, waiting) = sync_channel::<Option<String>>(WAITING);
        let write = move || {
            for line in waiting.iter().map_while(|line| line) {
                if is_json { say::out(&line) } else { say::err(&line) }
            }
        };
        let thread = std::thread::Builder::new().name("howdah-output".to_owned()).spawn(write);
        let thread = thread.inspect_err(|e| tracing::warn!("no thread for the output: {e}")).ok();
        Self { lines, is_json, thread }
    }

    /// Where news go; they also go to the log.
    pub fn sink(&self) -> Arc<dyn Fn(News) + Send + Sync> {
        let (lines, is_json) = (self.lines.clone(), self.is_json);
        Arc::new(move |news| {
            let plain = plain(&news);
            if news.is_warning {
                tracing::warn!("{plain}")
            } else {
                tracing::info!("{plain}")
            }
            drop(lines.try_send(Some(if is_json { json(&news) } else { plain })));
        })
    }

    /// Waits a moment for what is not written yet.
    pub fn end(self) {
        let Self { lines, thread, .. } = self;
        drop(lines.try_send(None));
        let until = Instant::now() + LAST_LINES;
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// `14:03:22 job 12 `emails`: run 7f3a09c2 begins`
fn plain(news: &News) -> String {
    let at = Utc::now().format("%H:%M:%S");
    let text = clean(&news.text);
    match &news.job {
        Some((id, name)) => format!("{at} job {} `{}`: {text}", clean(id), clean(name)),
        None => format!("{at} {text}"),
    }
}

fn json(news: &News) -> String {
    let (id, name) = news.job.as_ref().map(|(id, name)| (id, name)).unzip();
    json!({
        "type": if news.job.is_some() { "job" } else { "worker" },
        "at": Utc::now(),
        "kind": news.kind,
        "warning": news.is_warning,
        "job": id,
        "plan": name,
        "text": clean(&news.text),
    })
    .to_string()
}
