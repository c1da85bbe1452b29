//! Alerts of a run, wired: who is told, what pauses it, and at the end what did not get out.

use std::sync::{Arc, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::opening::Slots;
use super::say;
use crate::monitor::notify::{LAST_WORDS, Left, Lines, Office, Patience};
use crate::monitor::{Alarms, AlertLimits, AlertRules, Troubles, acting};
use crate::plan::alarms;
use crate::plan::model::Plan;
use crate::run::notify::Recipient;
use crate::run::rule::{Act, Rule};
use crate::run::text::clean;
use crate::run::{Request, Snapshot};

/// The rules of a plan's run.
///
/// A process that has joined a run only shows its alerts: whoever drives it pauses it, and tells of it.
#[must_use]
pub fn rules(plan: &Plan, drives: bool) -> AlertRules {
    let limits = AlertLimits {
        duration: plan.alerts.duration,
        memory: plan.alerts.memory,
        free_memory_percent: plan.alerts.free_memory_percent,
        error_rate_percent: plan.alerts.error_rate_percent,
    };
    let mut rules = AlertRules::new(&limits, plan.alarms.rules.clone(), plan.alarms.every);
    if !drives {
        rules.rules.iter_mut().for_each(|rule: &mut Rule| rule.acts.retain(|act| *act == Act::Bell));
    }
    rules
}

/// Who is told of a plan's run.
#[must_use]
pub fn recipients(plan: &Plan, drives: bool) -> Vec<Recipient> {
    if drives { plan.alarms.notify.clone() } else { Vec::new() }
}

/// Takes those out of a plan that came from a ledger whose secrets it does not keep. Returns what is to be said of each.
pub(super) fn leave_out_masked(plan: &mut Plan) -> impl Iterator<Item = String> + use<> {
    let names = alarms::leave_out_masked(&mut plan.alarms.notify);
    names.into_iter().map(|name| {
        format!("the ledger keeps no secret of [[notify]] {}: resume with --plan FILE, or it is not told", clean(&name))
    })
}

/// What follows from alerts.
pub(super) struct Alarming {
    lines: Lines,
    tasks: JoinSet<()>,
    closing: CancellationToken,
}

impl Alarming {
    /// Begins with it. Returns what the monitor needs as well.
    pub(super) fn begin(
        slots: &Slots,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
        requests: mpsc::Sender<Request>,
    ) -> (Self, Alarms) {
        let (troubles, known) = watch::channel(Troubles::new());
        let (lines, closing) = (Lines::default(), CancellationToken::new());
        let office = Office {
            recipients: slots.notify.subscribe(),
            snapshots: snapshots.clone(),
            troubles,
            lines: Arc::clone(&lines),
            patience: Patience::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(office.keep(closing.clone()));
        tasks.spawn(acting::keep(snapshots.clone(), slots.resumed.subscribe(), requests, closing.clone()));
        (Self { lines, tasks, closing }, Alarms { rules: slots.alerts.subscribe(), troubles: known })
    }

    /// Ends it: the last news gets a few seconds to get out, and what does not is said.
    pub(super) async fn end(mut self) {
        self.closing.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(LAST_WORDS, ended).await);
        self.tasks.shutdown().await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for left in lines.iter().map(|line| line.left()) {
            if let Some(words) = words(&left) {
                tracing::warn!("{words}");
                say::err(&words);
            }
        }
    }
}

/// What did not get out, in a sentence.
fn words(left: &Left) -> Option<String> {
    let count = left.waiting + left.lost;
    if count == 0 {
        return None;
    }
    let messages = if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    let why = left.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    Some(format!("notify {}: {messages} did not get out{why}", clean(&left.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_get_out_is_said_and_nothing_else() {
        let left = |waiting, lost, why: Option<&str>| Left {
            name: "ops".to_owned(),
            waiting,
            lost,
            why: why.map(str::to_owned),
        };
        assert_eq!(words(&left(0, 0, Some("HTTP 503"))), None);
        assert_eq!(words(&left(1, 0, None)).as_deref(), Some("notify ops: 1 message did not get out"));
        let both = words(&left(2, 3, Some("HTTP 503")));
        assert_eq!(both.as_deref(), Some("notify ops: 5 messages did not get out (HTTP 503)"));
    }
}
