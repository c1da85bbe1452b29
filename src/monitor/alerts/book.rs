//! The alerts of a run.

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::watch::{Found, Verdict, Watch};
use super::{AlertRules, Moment};
use crate::run::rule::{Act, Rule, RuleView};
use crate::run::vitals::{Alert, Measured};
use crate::run::{Level, Snapshot};

/// How many alerts are kept at most: more than there can be rules.
const KEPT: usize = 64;
/// An alert is cleared after so many calm samples in a row.
const CALM_SAMPLES: u8 = 2;

/// The alerts of a run, one for each rule whose limit was ever passed, and for each trouble that was told of.
#[derive(Debug, Clone, Default)]
pub struct AlertBook {
    rules: Option<Arc<AlertRules>>,
    watches: Vec<Watch>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    alert: Alert,
    /// Samples in a row on the good side, margin included.
    calm: u8,
}

/// What is to be written into the book.
struct News {
    key: String,
    verdict: Verdict,
    text: String,
    acts: Vec<Act>,
    measured: Measured,
}

impl AlertBook {
    /// Goes by these rules from now on; what was seen under others is forgotten, what was raised is not.
    pub fn follow(&mut self, rules: &Arc<AlertRules>) {
        if self.rules.as_ref().is_none_or(|known| !Arc::ptr_eq(known, rules)) {
            self.watches = vec![Watch::default(); rules.rules.len()];
            self.rules = Some(Arc::clone(rules));
        }
    }

    /// Holds the numbers of `snapshot` against the rules that are due, and brings the book up to date.
    pub fn check(&mut self, snapshot: &Snapshot, now: Moment) {
        let Some(rules) = self.rules.clone() else { return };
        for (index, rule) in rules.rules.iter().enumerate() {
            let is_due = !rule.source.is_resource()
                || self.watches.get(index).is_some_and(|watch| watch.is_due(rules.every, now.elapsed));
            if is_due {
                self.take(index, rule, rule.source.read(snapshot), now);
            }
        }
    }

    /// Holds what was measured against one rule.
    pub(super) fn take(&mut self, index: usize, rule: &Rule, samples: Vec<crate::run::metric::Sample>, now: Moment) {
        let Some(watch) = self.watches.get_mut(index) else { return };
        let Some(Found { value, label, verdict }) = watch.take(rule, samples, now.elapsed).cloned() else {
            if watch.is_lost(now.elapsed) {
                self.lose(&rule.name, now.utc);
            }
            return;
        };
        let news = News {
            key: rule.name.clone(),
            verdict,
            text: rule.text(value, label.as_deref()),
            acts: rule.acts.clone(),
            measured: Measured {
                metric: rule.source.name().to_owned(),
                label,
                value: Some(value),
                limit: Some(rule.limit),
            },
        };
        self.apply(news, now.utc);
    }

    /// Clears an alert whose number is no longer measured.
    fn lose(&mut self, key: &str, now: DateTime<Utc>) {
        let mut entries = self.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.alert.key == key && entry.alert.is_active()) {
            entry.alert.cleared_at = Some(now);
            entry.alert.measured.value = None;
            self.arrange();
        }
    }

    /// A trouble that is no number: it holds, with these words; or, without any, no more.
    pub fn tell(&mut self, key: &str, trouble: Option<&str>, now: DateTime<Utc>) {
        let held = self.entries.iter().find(|entry| entry.alert.key == key && entry.alert.is_active());
        let (verdict, text) = match (trouble, held) {
            (Some(text), _) => (Verdict::Over(Level::Warning), text.to_owned()),
            (None, Some(held)) => (Verdict::Calm, held.alert.text.clone()),
            (None, None) => return,
        };
        let acts = Act::usual(Level::Warning);
        self.apply(News { key: key.to_owned(), verdict, text, acts, measured: Measured::default() }, now);
        // Nobody measures it: its end is known, and needs no second look.
        if trouble.is_none()
            && let Some(entry) = self.entries.iter_mut().find(|entry| entry.alert.key == key)
        {
            entry.alert.cleared_at.get_or_insert(now);
            self.arrange();
        }
    }

    /// Active alerts, newest first, then cleared ones, the latest cleared first; at most 64.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.entries.iter().map(|entry| entry.alert.clone()).collect()
    }

    /// Every rule, and how it stands.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleView> {
        let Some(rules) = &self.rules else { return Vec::new() };
        let is_raised =
            |name: &str| self.entries.iter().any(|entry| entry.alert.key == name && entry.alert.is_active());
        let views = rules.rules.iter().zip(&self.watches);
        views.map(|(rule, watch)| watch.view(rule, is_raised(&rule.name))).collect()
    }

    #[cfg(test)]
    pub(super) fn rules_or(&mut self, rules: impl FnOnce() -> Arc<AlertRules>) -> Arc<AlertRules> {
        let rules = self.rules.clone().unwrap_or_else(rules);
        self.follow(&rules);
        rules
    }

    #[cfg(test)]
    pub(super) fn series(&self, index: usize) -> usize {
        self.watches[index].len()
    }

    fn apply(&mut self, news: News, now: DateTime<Utc>) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.alert.key == news.key) else {
            if let Verdict::Over(level) = news.verdict {
                self.entries.push(Entry::raised(news, level, now));
                self.arrange();
            }
            return;
        };
        entry.apply(news, now);
        self.arrange();
    }

    fn arrange(&mut self) {
        self.entries.sort_by_key(|Entry { alert, .. }| {
            (!alert.is_active(), Reverse(alert.cleared_at.unwrap_or(alert.raised_at)))
        });
        self.entries.truncate(KEPT);
    }
}

impl Entry {
    fn raised(news: News, level: Level, now: DateTime<Utc>) -> Self {
        let News { key, text, acts, measured, .. } = news;
        let alert = Alert { key, level, text, raised_at: now, cleared_at: None, count: 1, acts, measured };
        Self { alert, calm: 0 }
    }

    fn apply(&mut self, news: News, now: DateTime<Utc>) {
        let active = self.alert.is_active();
        match news.verdict {
            Verdict::Over(level) | Verdict::Waiting(level) if active => {
                self.calm = 0;
                // The level of an alert only rises while it holds: it must not flicker. When it does that is told, also to
                // those who took note of the lesser one.
                if level > self.alert.level {
                    self.alert.level = level;
                    self.alert.count = self.alert.count.saturating_add(1);
                    let more = Act::usual(level);
                    let more = more.into_iter().filter(|_| !news.acts.is_empty());
                    let acts = &mut self.alert.acts;
                    more.for_each(|act| {
                        if !acts.contains(&act) {
                            acts.push(act);
                        }
                    });
                }
                self.measure(news);
            }
            Verdict::Over(level) => {
                let count = self.alert.count.saturating_add(1);
                *self = Self::raised(news, level, now);
                self.alert.count = count;
            }
            Verdict::Near => {
                self.calm = 0;
                if active {
                    self.measure(news);
                }
            }
            Verdict::Calm if active => {
                self.calm += 1;
                self.measure(news);
                if self.calm >= CALM_SAMPLES {
                    self.alert.cleared_at = Some(now);
                }
            }
            Verdict::Calm | Verdict::Waiting(_) => {}
        }
    }

    fn measure(&mut self, news: News) {
        self.alert.text = news.text;
        self.alert.measured = news.measured;
    }
}
