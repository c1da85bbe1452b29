//! `[[alerts.rule]]` and `[[notify]]` as they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use super::raw::{Located, Text};
use super::raw_value::RawTexts;

/// A rule that raises an alert: a number of the run, and what is too much.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawRule {
    /// The alert's key: unique in the plan.
    #[schemars(required)]
    pub(super) name: Option<Text>,
    /// The number, such as "batch_seconds" or "table_dead_ratio": `assets/reference/alerts.md` lists them all.
    #[schemars(required)]
    pub(super) metric: Option<Text>,
    /// Of several of a kind only this one: a table, a step, a signal. Default: the worst of all.
    pub(super) label: Option<Text>,
    /// How the last 100 values become one: "last", "avg", "p95", "max" or "min". Default: "last".
    pub(super) of: Option<Text>,
    /// Above this it is too much: a number, or a text with a unit ("2s", "1GiB", "10%").
    pub(super) above: Option<Located<RawAmount>>,
    /// Below this it is too little.
    pub(super) below: Option<Located<RawAmount>>,
    /// For how long it is past the limit before the alert is raised. Default: at once.
    #[serde(rename = "for")]
    pub(super) hold: Option<Text>,
    /// From here on the alert is cleared, on the good side of the limit. Default: 10 % of the limit away from it.
    pub(super) clear: Option<Located<RawAmount>>,
    /// How much to care: "info", "warning" or "critical". Default: "warning".
    pub(super) level: Option<Text>,
    /// What is done beside showing and logging it: "bell", "notify", "pause". Default: "notify", and "bell" where it is
    /// critical.
    #[serde(rename = "do")]
    pub(super) acts: Option<Located<RawTexts>>,
}

/// One who is told of alerts and of the run's end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RawNotify {
    /// Unique in the plan; its alert is called "notify NAME".
    #[schemars(required)]
    pub(super) name: Option<Text>,
    /// A webhook's address, `https://...`: best from the environment, "${HOOK}". Never shown, logged or stored.
    pub(super) url: Option<Text>,
    /// The form of the body: "json", "slack" or "pagerduty". Default: "json".
    pub(super) shape: Option<Text>,
    /// With `shape = "pagerduty"`: the routing key, best from the environment. Never shown, logged or stored.
    pub(super) key: Option<Text>,
    /// With `url`: more headers. Their values are never shown, logged or stored.
    pub(super) headers: Option<Located<BTreeMap<String, Text>>>,
    /// In the place of `url`: a program and its arguments, started without a shell; the JSON is on its standard input.
    pub(super) command: Option<Located<RawTexts>>,
    /// The least level of an alert that is told: "info", "warning" or "critical". Default: "warning".
    pub(super) level: Option<Text>,
    /// What is told: "raised", "cleared", "finished", "failed", "paused", "stopped". Default: the first four.
    pub(super) on: Option<Located<RawTexts>>,
    /// How long one attempt may take. Default: "10s".
    pub(super) timeout: Option<Text>,
    /// Attempts at growing delays, 1 to 20; then one a minute until the message is ten minutes old. 1: only one. Default: 5.
    pub(super) attempts: Option<Located<i64>>,
}

/// A number, or a text with its unit.
#[derive(Debug)]
pub(super) enum RawAmount {
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for RawAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = RawAmount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawAmount, E> {
                Ok(RawAmount::Text(text.to_owned()))
            }

            #[expect(clippy::cast_precision_loss, reason = "a limit, not a count")]
            fn visit_i64<E>(self, number: i64) -> Result<RawAmount, E> {
                Ok(RawAmount::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<RawAmount, E> {
                Ok(RawAmount::Number(number))
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for RawAmount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "number" }, { "type": "string" }] })
    }
}
