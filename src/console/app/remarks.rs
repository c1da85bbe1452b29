//! Passing remarks in the last row: what came of what was asked, and why something is not done.

use chrono::{DateTime, TimeDelta, Utc};

use super::{App, redraw};
use crate::console::action::Effect;
use crate::run::{Answered, Command, OrderAnswer, Presence, QueueOrder, Snapshot};

/// How long a remark stands, by the snapshots' time.
const SHOWN: TimeDelta = TimeDelta::seconds(6);
/// How long an answer is waited for in sight.
const WAITED: TimeDelta = TimeDelta::seconds(30);

/// What ends a remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The next key, another state, or this time.
    Soon(DateTime<Utc>),
    /// Another state, an answer, or this time.
    Answer(DateTime<Utc>),
    /// This time.
    Time(DateTime<Utc>),
    /// Another state.
    State,
    /// The next key.
    Key,
}

/// What has been asked and answered, and how long the remark about it stands.
#[derive(Debug)]
pub(super) struct Remarks {
    end: End,
    /// Commands of this console that are not answered yet.
    asked: Vec<Command>,
    /// The last answer that has been seen.
    seen: Option<Answered>,
    /// The number of the last answer to an order that has been seen.
    heard: u64,
}

impl Remarks {
    /// Nothing asked, and all that `snapshot` answers is old.
    pub(super) fn since(snapshot: &Snapshot) -> Self {
        Self { end: End::State, asked: Vec::new(), seen: snapshot.commands.back().cloned(), heard: 0 }
    }

    /// Nothing is waited for any more.
    pub(super) fn forget_asked(&mut self) {
        self.asked.clear();
    }
}

impl App {
    /// Says something for a moment.
    pub(super) fn say(&mut self, text: impl Into<String>) -> Vec<Effect> {
        self.remark(text.into(), End::Soon(self.newest.now + SHOWN));
        redraw()
    }

    /// Says what led to this console, until a key is pressed.
    pub(in crate::console) fn begin_with(&mut self, notice: String) {
        self.remark(notice, End::Key);
    }

    /// Says something until the run's state changes.
    pub(super) fn say_until_the_state_changes(&mut self, text: &str) {
        self.remark(text.to_owned(), End::State);
    }

    /// Notes that something was asked of the engine.
    pub(super) fn asked(&mut self, command: &Command) {
        self.remark(format!("asked: {}", command.words()), End::Answer(self.newest.now + WAITED));
        self.remarks.asked.push(command.clone());
    }

    /// Notes that something was asked of the queue.
    pub(super) fn ordered(&mut self, order: &QueueOrder) {
        self.remark(format!("asked: {}", order.words()), End::Answer(self.newest.now + WAITED));
    }

    /// Takes in what came of what was asked of the queue. Whether there is anything new.
    pub(super) fn hear_of_orders(&mut self) -> bool {
        let Some(OrderAnswer { no, order, outcome }) = self.details.queue.answers.back() else { return false };
        if *no <= self.remarks.heard {
            return false;
        }
        let text = match outcome {
            Ok(outcome) => format!("{}: {outcome}", order.words()),
            Err(why) => format!("refused: {}: {why}", order.words()),
        };
        self.remarks.heard = *no;
        self.remark(text, End::Time(self.newest.now + SHOWN));
        true
    }

    /// No remark.
    pub(super) fn unsay(&mut self) {
        self.ui.notice = None;
    }

    /// A key has been pressed: whoever presses one has read what was said. Whether there was anything.
    pub(super) fn let_go(&mut self) -> bool {
        // When the run is over, or nothing is heard of it, no snapshot comes any more whose time could end it.
        let hears = matches!(self.newest.presence, Presence::Here | Presence::Elsewhere { .. } | Presence::NoRun);
        let ends = matches!(self.remarks.end, End::Soon(_) | End::Key) || self.is_over() || !hears;
        ends && self.ui.notice.take().is_some()
    }

    fn remark(&mut self, text: String, end: End) {
        self.ui.notice = Some(text);
        self.remarks.end = end;
    }

    /// Takes in what the newest snapshot answers. Whether there is another remark now, or none any more.
    pub(super) fn hear(&mut self, state_changed: bool) -> bool {
        let before = self.ui.notice.clone();
        let now = self.newest.now;
        let ends = match self.remarks.end {
            End::Soon(end) | End::Answer(end) => state_changed || now >= end,
            End::Time(end) => now >= end,
            End::State => state_changed,
            End::Key => false,
        };
        if ends {
            self.ui.notice = None;
        }
        let mut outcome = None;
        for answered in unseen(&self.newest, self.remarks.seen.as_ref()) {
            let ours = self.remarks.asked.iter().position(|asked| *asked == answered.command);
            if let Some(at) = ours {
                self.remarks.asked.remove(at);
            }
            // Of several, what this operator asked for.
            if ours.is_some() || !matches!(outcome, Some((true, _))) {
                outcome = Some((ours.is_some(), words(answered, ours.is_some())));
            }
        }
        self.remarks.seen = self.newest.commands.back().cloned().or(self.remarks.seen.take());
        if let Some((_, text)) = outcome {
            self.remark(text, End::Time(now + SHOWN));
        }
        before != self.ui.notice
    }
}

/// The answers behind the last one that has been seen; if that one is no longer there, only the newest.
fn unseen<'a>(snapshot: &'a Snapshot, seen: Option<&Answered>) -> Vec<&'a Answered> {
    let commands = &snapshot.commands;
    let after = match seen {
        None => 0,
        Some(seen) => match commands.iter().rposition(|answered| answered == seen) {
            Some(at) => at + 1,
            None => commands.len().saturating_sub(1),
        },
    };
    commands.iter().skip(after).collect()
}

/// What came of a command, and who asked for it where it was somebody else.
fn words(answered: &Answered, is_ours: bool) -> String {
    let refused = if answered.taken { "" } else { "refused: " };
    let asker = if is_ours { String::new() } else { format!("{}: ", answered.asker()) };
    format!("{refused}{asker}{}: {}", answered.command.words(), answered.outcome)
}
