//! What an alert does to the run: where its rule says `pause`, the run is asked to. By a request like anybody's, so that it is
//! in the record, and off every batch's path.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::run::rule::{Act, RuleView, Standing};
use crate::run::{Asker, Command, Request, RunState, Snapshot};

/// Asks for a pause once for each time that such an alert is raised, until the run is over. `resumed`: whether the run goes on
/// from where another driver has left it.
pub async fn keep(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    resumed: watch::Receiver<bool>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let mut pauses = Pauses::default();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        if snapshot.state.is_over() {
            return;
        }
        let is_resumed = *resumed.borrow();
        if let Some(key) = pauses.hear(&snapshot, is_resumed) {
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
    /// By its key: when the alert was raised that had it.
    had: BTreeMap<String, DateTime<Utc>>,
    /// By the rule's name, once its number was looked at: whether its limit has been passed ever since a resumed run began.
    known: BTreeMap<String, bool>,
}

impl Pauses {
    /// The alert for which the run is to be paused now. One whose limit is passed while the run cannot be paused yet has its
    /// turn when it can; one during a pause of somebody's needs none of its own. One that is silenced has its turn when it is
    /// not any more and still holds. What holds already when a run is resumed is known to whoever resumes it.
    fn hear(&mut self, snapshot: &Snapshot, resumed: bool) -> Option<String> {
        self.look(&snapshot.vitals.rules, resumed);
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
            // Not by its count: one that has only grown graver had its pause.
            let is_new = self.had.get(&alert.key) != Some(&alert.raised_at);
            let calls = alert.is_active() && alert.acts.contains(&Act::Pause) && snapshot.silence(&alert.key).is_none();
            if calls && is_new {
                self.had.insert(alert.key.clone(), alert.raised_at);
                if self.known.get(&alert.key) != Some(&true) {
                    wanted.get_or_insert_with(|| alert.key.clone());
                }
            }
        }
        wanted.filter(|_| can_pause)
    }

    fn look(&mut self, rules: &[RuleView], resumed: bool) {
        for rule in rules {
            match (self.known.get_mut(&rule.name), rule.standing) {
                (Some(known), Standing::Kept) => *known = false,
                (Some(_), Standing::Waiting | Standing::Raised) | (_, Standing::NoValue) => {}
                (None, standing) => {
                    self.known.insert(rule.name.clone(), resumed && standing != Standing::Kept);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Level;
    use crate::run::snapshot::Silenced;
    use crate::run::vitals::{Alert, Measured};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn alert(key: &str, count: u32, acts: &[Act]) -> Alert {
        Alert {
            key: key.to_owned(),
            level: Level::Warning,
            text: String::new(),
            raised_at: now() + chrono::TimeDelta::seconds(i64::from(count)),
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
            assert_eq!(pauses.hear(&snapshot(state, vec![alert]), false).as_deref(), expected, "{number}");
        }
    }

    #[test]
    fn one_that_grows_graver_does_not_pause_again_and_one_that_is_silenced_not_yet() {
        let mut pauses = Pauses::default();
        let raised = alert("disk", 1, &[Act::Pause]);
        let graver = Alert { count: 2, level: Level::Critical, ..raised.clone() };
        let mut hear = |alert: &Alert, silent: bool| {
            let mut snapshot = snapshot(RunState::Running, vec![alert.clone()]);
            if silent {
                let until = now() + chrono::TimeDelta::hours(1);
                snapshot.silenced.push(Silenced { key: "disk".into(), until, who: String::new() });
            }
            pauses.hear(&snapshot, false)
        };
        assert_eq!(hear(&raised, true), None);
        assert_eq!(hear(&raised, false).as_deref(), Some("disk"));
        assert_eq!(hear(&graver, false), None);
    }

    #[test]
    fn what_held_when_a_run_was_resumed_pauses_it_only_once_it_was_kept_in_between() {
        use Standing::{Kept, NoValue, Raised, Waiting};
        let rule = |standing| RuleView {
            name: "disk".to_owned(),
            level: Level::Warning,
            condition: String::new(),
            value: None,
            standing,
        };
        let play = |resumed: bool, standings: &[Standing]| -> Vec<bool> {
            let mut pauses = Pauses::default();
            let (mut count, mut before) = (0, Kept);
            let mut hear = |standing| {
                count += u32::from(standing == Raised && before != Raised);
                before = standing;
                let alerts = if standing == Raised { vec![alert("disk", count, &[Act::Pause])] } else { vec![] };
                let mut snapshot = snapshot(RunState::Running, alerts);
                Arc::make_mut(&mut snapshot.vitals).rules = vec![rule(standing)];
                pauses.hear(&snapshot, resumed).is_some()
            };
            standings.iter().map(|standing| hear(*standing)).collect()
        };
        assert_eq!(play(true, &[NoValue, Waiting, Raised, Raised]), [false; 4]);
        assert_eq!(play(true, &[Raised, Kept, Waiting, Raised]), [false, false, false, true]);
        assert_eq!(play(true, &[Kept, Raised]), [false, true]);
        assert_eq!(play(false, &[NoValue, Waiting, Raised]), [false, false, true]);
    }
}
