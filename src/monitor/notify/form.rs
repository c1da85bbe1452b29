//! The bodies of messages. Pure; documented in `assets/reference/alerts.md`, and versioned.

use serde_json::{Value, json};

use super::message::Message;
use crate::run::Level;
use crate::run::notify::{Form, Occasion};

/// The version of howdah's own JSON: it changes when a field changes its meaning or goes.
pub(super) const VERSION: u32 = 1;
/// `PagerDuty` takes so many characters of a summary.
const SUMMARY: usize = 1024;
/// Slack takes 3,000 characters of a text, and an escaped one is five times as long at worst. So they are cut before.
const PLAN: usize = 80;
const TEXT: usize = 500;
const PLACE: usize = 120;
const ATTACH: usize = 240;

/// A body in that form. `key`: `PagerDuty`'s routing key.
pub(super) fn body(form: Form, message: &Message, key: &str) -> Value {
    match form {
        Form::Json => own(message),
        Form::Slack => slack(message),
        Form::PagerDuty => pagerduty(message, key),
    }
}

/// howdah's own.
pub(super) fn own(message: &Message) -> Value {
    let alert = message.alert.as_ref().map(|alert| {
        json!({
            "key": alert.key,
            "metric": alert.measured.metric,
            "label": alert.measured.label,
            "value": alert.measured.value,
            "limit": alert.measured.limit,
            "since": alert.since.to_rfc3339(),
            "count": alert.count,
        })
    });
    json!({
        "version": VERSION,
        "event": message.occasion.word(),
        "at": message.at.to_rfc3339(),
        "level": level(message.level),
        "text": message.text,
        "alert": alert,
        "run": message.run,
        "plan": message.plan,
        "server": message.server,
        "host": message.host,
        "state": message.state,
        "attach": message.attach,
        "dedup_key": message.dedup_key(),
    })
}

fn slack(message: &Message) -> Value {
    let sign = match (message.occasion, message.level) {
        (Occasion::Cleared | Occasion::Finished | Occasion::Continued, _) => ":white_check_mark:",
        (_, Level::Critical) => ":rotating_light:",
        (_, Level::Warning) => ":warning:",
        (_, Level::Info) => ":information_source:",
    };
    let plan = escaped(&shortened(&message.plan, PLAN));
    let words = escaped(&shortened(&message.text, TEXT));
    let mut context = vec![message.occasion.word().to_owned()];
    if !message.run.is_empty() {
        context.push(format!("run {}", escaped(&shortened(&message.run, PLAN))));
        context.push(escaped(&shortened(&message.server, PLACE)));
    }
    context.push(format!("driven on {}", escaped(&shortened(&message.host, PLACE))));
    if !message.attach.is_empty() {
        context.push(format!("`{}`", escaped(&shortened(&message.attach, ATTACH)).replace('`', "'")));
    }
    context.retain(|part| !part.is_empty());
    json!({
        "text": format!("{sign} {plan}: {words}"),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("{sign} *{plan}*: {words}") } },
            { "type": "context", "elements": [
                { "type": "mrkdwn", "text": context.join(" · ") }
            ] },
        ],
    })
}

fn pagerduty(message: &Message, key: &str) -> Value {
    let ends =
        matches!(message.occasion, Occasion::Cleared | Occasion::Finished | Occasion::Continued | Occasion::TestOver);
    let action = if ends { "resolve" } else { "trigger" };
    let about = message.alert.as_ref().map_or_else(|| message.occasion.word().to_owned(), |alert| alert.key.clone());
    let source = if message.server.is_empty() { &message.host } else { &message.server };
    json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": shortened(&message.dedup_key(), 255),
        "client": "howdah",
        "payload": {
            "summary": shortened(&format!("{}: {}", message.plan, message.text), SUMMARY),
            "source": source,
            "severity": level(message.level),
            "timestamp": message.at.to_rfc3339(),
            "component": message.plan,
            "group": message.run,
            "class": about,
            "custom_details": own(message),
        },
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

/// Slack's three characters. <https://docs.slack.dev/messaging/formatting-message-text>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
