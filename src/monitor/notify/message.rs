//! What is news, and for whom. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::run::notify::{Occasion, Recipient, TROUBLE, trouble_key};
use crate::run::rule::Act;
use crate::run::text::clean;
use crate::run::vitals::{Alert, Measured};
use crate::run::{Level, RunState, Snapshot};

/// One piece of news, with all that a recipient needs to know of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What happened.
    pub occasion: Occasion,
    /// When, by the driver's clock.
    pub at: DateTime<Utc>,
    /// How much to care.
    pub level: Level,
    /// In words. Cleaned.
    pub text: String,
    /// The alert, where it is about one.
    pub alert: Option<AboutAlert>,
    /// The run's short id.
    pub run: String,
    /// The plan's name. Cleaned.
    pub plan: String,
    /// `database@host:port`, without user and password. Cleaned.
    pub server: String,
    /// The host that drives the run.
    pub host: String,
    /// The word for the run's state.
    pub state: &'static str,
    /// The command that opens a console on the run. Empty: nobody can.
    pub attach: String,
}

/// The alert that a message is about.
#[derive(Debug, Clone, PartialEq)]
pub struct AboutAlert {
    /// Its key. Cleaned.
    pub key: String,
    /// When it was raised.
    pub since: DateTime<Utc>,
    /// How often it has been raised in this run.
    pub count: u32,
    /// What was measured.
    pub measured: Measured,
}

impl Message {
    /// The same for all messages about one thing, so that a later one ends or replaces an earlier one.
    #[must_use]
    pub fn dedup_key(&self) -> String {
        match (&self.alert, self.occasion) {
            (_, Occasion::Test | Occasion::TestOver) => format!("howdah/{}/test", self.plan),
            (Some(alert), _) => format!("howdah/{}/alert/{}", self.run, alert.key),
            (None, _) => format!("howdah/{}", self.run),
        }
    }

    /// A message that is only to arrive.
    #[must_use]
    pub fn test(plan: &str, host: &str, at: DateTime<Utc>) -> Self {
        Self {
            occasion: Occasion::Test,
            at,
            level: Level::Info,
            text: "a test: whoever reads this will hear of the runs of this plan".to_owned(),
            alert: None,
            run: String::new(),
            plan: clean(plan).into_owned(),
            server: String::new(),
            host: clean(host).into_owned(),
            state: "",
            attach: String::new(),
        }
    }

    /// Whether it says that another recipient is or is not reached.
    pub(super) fn is_about_recipient(&self) -> bool {
        self.alert.as_ref().is_some_and(|alert| alert.key.starts_with(TROUBLE))
    }

    fn about(snapshot: &Snapshot, occasion: Occasion, level: Level, text: &str) -> Self {
        let attach = snapshot.resume_command.strip_prefix("howdah resume");
        Self {
            occasion,
            at: snapshot.now,
            level,
            text: clean(text).into_owned(),
            alert: None,
            run: snapshot.run.clone(),
            plan: clean(&snapshot.plan).into_owned(),
            server: clean(&snapshot.server).into_owned(),
            host: clean(&snapshot.host).into_owned(),
            state: snapshot.state.word(),
            attach: attach.map_or_else(String::new, |rest| format!("howdah attach{rest}")),
        }
    }

    fn of_alert(snapshot: &Snapshot, occasion: Occasion, alert: &Alert, text: &str) -> Self {
        let about = AboutAlert {
            key: clean(&alert.key).into_owned(),
            since: alert.raised_at,
            count: alert.count,
            measured: alert.measured.clone(),
        };
        Self { alert: Some(about), ..Self::about(snapshot, occasion, alert.level, text) }
    }
}

/// Whether a message is for a recipient. Nobody is told through a line that it is broken.
#[must_use]
pub fn wants(recipient: &Recipient, message: &Message) -> bool {
    let about_itself = message.alert.as_ref().is_some_and(|alert| alert.key == clean(&trouble_key(&recipient.name)));
    let matters = message.alert.is_none() || message.level >= recipient.level;
    let wanted = if message.occasion == Occasion::Continued { Occasion::Paused } else { message.occasion };
    message.occasion == Occasion::Test || recipient.on.contains(&wanted) && matters && !about_itself
}

/// Finds what is new from one snapshot to the next.
#[derive(Debug, Default)]
pub struct Teller {
    /// Alerts that were told of, and how they stood then.
    told: BTreeMap<String, (u32, Level)>,
    /// The state's word, when it was looked at last.
    state: Option<&'static str>,
}

impl Teller {
    /// What is new in `snapshot`.
    ///
    /// An alert that is silenced or noted is told of when it is neither any more and still holds. One that was told of is
    /// also told to be over; with the run, since then nobody watches it any more.
    pub fn hear(&mut self, snapshot: &Snapshot) -> Vec<Message> {
        let mut news = Vec::new();
        let is_over = snapshot.state.is_over();
        for alert in &snapshot.vitals.alerts {
            let told = self.told.get(&alert.key).copied();
            let calls = alert.is_active() && alert.acts.contains(&Act::Notify) && !is_over;
            let is_quiet = snapshot.silence(&alert.key).is_some() || snapshot.is_acknowledged(alert);
            if calls && !is_quiet && told.is_none_or(|(count, level)| alert.count > count || alert.level > level) {
                self.told.insert(alert.key.clone(), (alert.count, alert.level));
                news.push(Message::of_alert(snapshot, Occasion::Raised, alert, &alert.text));
            } else if (!alert.is_active() || is_over) && told.is_some() {
                self.told.remove(&alert.key);
                let text = if alert.is_active() {
                    format!("the run is over, and nobody watches any more: {}", alert.text)
                } else {
                    alert.ending()
                };
                news.push(Message::of_alert(snapshot, Occasion::Cleared, alert, &text));
            }
        }
        let word = snapshot.state.word();
        let before = self.state.replace(word);
        // One that has failed before it was looked at first, as one that cannot connect does, is news all the same.
        if before.map_or(is_over, |before| before != word) {
            if before == Some(PAUSED) {
                news.push(Message::about(snapshot, Occasion::Continued, Level::Info, "paused no more"));
            }
            news.extend(of_state(snapshot));
        }
        news
    }
}

/// The word for a run that stands still on request.
const PAUSED: &str = "paused";

fn of_state(snapshot: &Snapshot) -> Option<Message> {
    let (occasion, level, text) = match &snapshot.state {
        RunState::Done { .. } => {
            let rows = crate::run::human::rows(snapshot.rows_changed());
            let aside = match snapshot.quarantined() {
                0 => String::new(),
                aside => format!(", {} set aside", crate::run::human::rows(aside)),
            };
            (Occasion::Finished, Level::Info, format!("done: {rows} changed{aside}"))
        }
        // Another process drives the run: it goes on.
        RunState::Failed { cause, .. } if cause.is_busy => return None,
        RunState::Failed { cause, resumable, .. } => {
            let rest = if *resumable { "; it can be resumed" } else { "" };
            (Occasion::Failed, Level::Critical, format!("failed: {}{rest}", cause.headline()))
        }
        RunState::Paused { by, .. } => (Occasion::Paused, Level::Warning, format!("paused by {}", by.name())),
        RunState::Stopped { by, .. } => {
            (Occasion::Stopped, Level::Warning, format!("stopped by {} before the end; it can be resumed", by.name()))
        }
        RunState::Starting
        | RunState::Running
        | RunState::Pausing { .. }
        | RunState::Resuming { .. }
        | RunState::Stopping { .. } => return None,
    };
    Some(Message::about(snapshot, occasion, level, &text))
}
