//! Who else hears of a run's alerts, and of its end. Pure.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Level;

/// One who is told.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The name: unique in the plan. Not cleaned.
    pub name: String,
    /// Where.
    pub to: Destination,
    /// The least level of an alert that is told.
    pub level: Level,
    /// What is told.
    pub on: Vec<Occasion>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts at growing delays; more follow, at a steady pace, until the message is too old. 1: there is only one.
    pub attempts: u32,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A webhook.
    Web(Web),
    /// A program and its arguments, started without a shell: the JSON is on its standard input.
    Program(Vec<String>),
}

/// A webhook. Its address is a secret: whoever knows it can write there.
#[derive(Debug, Clone)]
pub struct Web {
    /// `http://` or `https://`.
    pub url: SecretString,
    /// The form of the body.
    pub form: Form,
    /// `PagerDuty`'s routing key.
    pub key: Option<SecretString>,
    /// Headers, beside those that the form has.
    pub headers: Vec<(String, SecretString)>,
}

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// howdah's own JSON.
    #[default]
    Json,
    /// Slack's incoming webhooks, and whoever understands them.
    Slack,
    /// `PagerDuty`'s Events API, version 2.
    PagerDuty,
}

impl Form {
    /// The words in a plan, in the order of the variants.
    pub const WORDS: [&'static str; 3] = ["json", "slack", "pagerduty"];

    /// The one that a plan calls by the word at that place.
    #[must_use]
    pub fn at(place: usize) -> Self {
        [Self::Json, Self::Slack, Self::PagerDuty].get(place).copied().unwrap_or_default()
    }
}

/// What somebody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// An alert was raised, or has become critical.
    Raised,
    /// An alert was cleared.
    Cleared,
    /// The run is done.
    Finished,
    /// The run has failed.
    Failed,
    /// The run is paused, by whomever.
    Paused,
    /// The run was stopped before its end.
    Stopped,
    /// The run is paused no more: told to whoever hears of pauses.
    Continued,
    /// `howdah notify test`.
    Test,
    /// The end of what a test began.
    TestOver,
}

impl Occasion {
    /// The words in a plan, in the order of the variants; a test is asked for.
    pub const WORDS: [&'static str; 6] = ["raised", "cleared", "finished", "failed", "paused", "stopped"];
    /// What a plan's recipient hears of that says nothing else.
    pub const USUAL: [Self; 4] = [Self::Raised, Self::Cleared, Self::Finished, Self::Failed];

    /// The one that a plan calls by the word at that place.
    #[must_use]
    pub fn at(place: usize) -> Option<Self> {
        [Self::Raised, Self::Cleared, Self::Finished, Self::Failed, Self::Paused, Self::Stopped].get(place).copied()
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Continued => "continued",
            Self::Test => "test",
            Self::TestOver => "test_over",
        }
    }
}

/// The key of the alert that says that a recipient cannot be reached.
#[must_use]
pub fn trouble_key(recipient: &str) -> String {
    format!("{TROUBLE}{recipient}")
}

/// What such a key begins with.
pub const TROUBLE: &str = "notify ";
