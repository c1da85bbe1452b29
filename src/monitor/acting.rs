//! What an alert does to the run: where its rule says `pause`, the run is asked to. By a request like anybody's, so that it is
//! in the record, and off every batch's path.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::run::rule::Act;
use crate::run::{Asker, Command, Request, RunState, Snapshot};

/// Asks for a pause once for each time that such an alert is raised, until the run is over.
pub async fn keep(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let mut pauses = Pauses::default();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        if snapshot.state.is_over() {
            return;
        }
        if let Some(key) = pauses.hear(&snapshot) {
            let request = Request { who: key, ..Request::new(Command::Pause, Asker::Alert) };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                sent = requests.send(request) => if sent.is_err() { return },
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}

/// Which alerts have had their pause.
#[derive(Debug, Default)]
struct Pauses {
    had: BTreeMap<String, u32>,
}

impl Pauses {
    /// The alert for which the run is to be paused now. One whose limit is passed while the run cannot be paused yet has its
    /// turn when it can; one during a pause of somebody's needs none of its own.
    fn hear(&mut self, snapshot: &Snapshot) -> Option<String> {
        let can_pause = match &snapshot.state {
            RunState::Running | RunState::Resuming { .. } => true,
            // The governor's own pause ends by itself: it becomes this one.
            RunState::Pausing { by, .. } | RunState::Paused { by, .. } => *by == Asker::Governor,
            RunState::Starting
            | RunState::Stopping { .. }
            | RunState::Stopped { .. }
            | RunState::Failed { .. }
            | RunState::Done { .. } => return None,
        };
        let mut wanted = None;
        for alert in &snapshot.vitals.alerts {
            let is_new = self.had.get(&alert.key).is_none_or(|had| alert.count > *had);
            if alert.is_active() && alert.acts.contains(&Act::Pause) && is_new {
                self.had.insert(alert.key.clone(), alert.count);
                wanted.get_or_insert_with(|| alert.key.clone());
            }
        }
        wanted.filter(|_| can_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Level;
    use crate::run::vitals::{Alert, Measured};
    use chrono::{DateTime, Utc};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn alert(key: &str, count: u32, acts: &[Act]) -> Alert {
        Alert {
            key: key.to_owned(),
            level: Level::Warning,
            text: String::new(),
            raised_at: now(),
            cleared_at: None,
            count,
            acts: acts.to_vec(),
            measured: Measured::default(),
        }
    }

    fn snapshot(state: RunState, alerts: Vec<Alert>) -> Snapshot {
        let mut snapshot = Snapshot::starting(now(), "r".into(), "p".into(), "h".into());
        snapshot.state = state;
        Arc::make_mut(&mut snapshot.vitals).alerts = alerts;
        snapshot
    }

    #[test]
    fn a_run_is_paused_once_for_each_time_that_an_alert_is_raised() {
        let (pause, notify) = (&[Act::Pause][..], &[Act::Notify][..]);
        let paused = |by| RunState::Paused { since: now(), by };
        let mut pauses = Pauses::default();
        let table = [
            (RunState::Running, alert("disk", 1, notify), None),
            (RunState::Starting, alert("disk", 1, pause), None),
            (RunState::Running, alert("disk", 1, pause), Some("disk")),
            (RunState::Running, alert("disk", 1, pause), None),
            (paused(Asker::Console), alert("disk", 2, pause), None),
            (RunState::Running, alert("disk", 2, pause), None),
            (paused(Asker::Governor), alert("disk", 3, pause), Some("disk")),
            (RunState::Running, Alert { cleared_at: Some(now()), ..alert("disk", 4, pause) }, None),
        ];
        for (number, (state, alert, expected)) in table.into_iter().enumerate() {
            assert_eq!(pauses.hear(&snapshot(state, vec![alert])).as_deref(), expected, "{number}");
        }
    }
}
