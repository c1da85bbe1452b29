//! The rules of a plan's own that raise alerts, and who is told: `[[alerts.rule]]`, `[[notify]]`.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::mistake::Mistake;
use super::raw::{Located, Text};
use super::raw_alarms::{RawAmount, RawNotify, RawRule};
use super::raw_value::RawTexts;
use super::secrets::MASK;
use super::values::{LONGEST, Reader, parse_duration, parse_percentage};
use crate::run::metric::{METRICS, named};
use crate::run::notify::{Destination, Form, Occasion, Recipient, TROUBLE, Web};
use crate::run::rule::{Act, Aggregate, Bound, Rule, Source, Unit};
use crate::run::{ByteSize, Level};

/// What watches a run, and who is told.
#[derive(Debug, Clone)]
pub struct Alarms {
    /// `alerts.every`: how often host, process and database are looked at. Default 30 s.
    pub every: Duration,
    /// `[[alerts.rule]]`.
    pub rules: Vec<Rule>,
    /// `[[notify]]`.
    pub notify: Vec<Recipient>,
}

/// The most rules of a plan's own.
const RULES: usize = 40;
/// The most recipients.
const RECIPIENTS: usize = 10;
/// Names of howdah's own rules: their limits are keys of `[alerts]`.
const OWN: [&str; 4] = ["duration", "memory", "free_memory", "error_rate"];
/// Where `PagerDuty` takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// The longest that one attempt may take: whoever needs longer will not answer.
const LONGEST_ATTEMPT: Duration = Duration::from_mins(2);
const ATTEMPTS: RangeInclusive<u64> = 1..=20;
const LEVELS: [&str; 3] = ["info", "warning", "critical"];

/// What is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AlarmMistake {
    #[error("there is no metric `{name}`")]
    UnknownMetric { name: String },
    #[error("{what} needs `{key}`")]
    Lacks { what: &'static str, key: &'static str },
    #[error("this rule has no limit")]
    NoLimit,
    #[error("a rule has `above` or `below`, not both")]
    TwoLimits,
    #[error("`alerts.rule.{key}` is not {}", wanted(*unit))]
    BadAmount { key: &'static str, unit: Unit },
    #[error("`clear` lies past the limit: the alert would be cleared while it holds")]
    ClearPastLimit,
    #[error("there is only one `{metric}`: it has no labels")]
    NoLabels { metric: &'static str },
    #[error("two {what} are called `{name}`")]
    Twice { what: &'static str, name: String },
    #[error("`{name}` is one of howdah's own alerts")]
    Reserved { name: String },
    #[error("there are more than {most} of `[[{table}]]`")]
    TooMany { table: &'static str, most: usize },
    #[error("this notify does not say where it goes")]
    Nowhere,
    #[error("`{key}` does not go with `command`")]
    NotOfCommand { key: &'static str },
    #[error("`notify.url` is not a http:// or https:// URL")]
    NotUrl,
    #[error("`key` belongs to `shape = \"pagerduty\"`")]
    KeyOfNone,
    #[error("`{name}` is not a header that can be sent")]
    BadHeader { name: String },
}

impl AlarmMistake {
    /// What to write instead.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::UnknownMetric { name } => match nearest(name) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "the names are in assets/reference/alerts.md; `batch_seconds` is one".to_owned(),
            },
            Self::Lacks { key: "metric", .. } => "add one, such as `metric = \"batch_seconds\"`".to_owned(),
            Self::Lacks { key: "key", .. } => "add the routing key: `key = \"${PD_KEY}\"`".to_owned(),
            Self::Lacks { key, .. } => format!("add `{key} = \"...\"`, unique in the plan"),
            Self::NoLimit => "add `above = ...` or `below = ...`".to_owned(),
            Self::TwoLimits => "make two rules of it, each with a `name` of its own".to_owned(),
            Self::BadAmount { key, unit } => format!("write it like `{key} = {}`", example(*unit)),
            Self::ClearPastLimit => "set `clear` to a value on the good side of the limit, or remove it".to_owned(),
            Self::NoLabels { .. } => "remove `label`".to_owned(),
            Self::Twice { name, .. } => format!("give one of them another `name` than `{name}`"),
            Self::Reserved { name } if OWN.contains(&name.as_str()) => {
                format!("set its limit by `{name} = ...` in `[alerts]`, or give the rule another `name`")
            }
            Self::Reserved { .. } => "give the rule another `name`".to_owned(),
            Self::TooMany { .. } => "remove some".to_owned(),
            Self::Nowhere => {
                "add `url = \"${HOOK}\"`, or `command = [\"/usr/bin/logger\", \"-t\", \"howdah\"]`".to_owned()
            }
            Self::NotOfCommand { key } => format!("remove `{key}`, or give `url` in the place of `command`"),
            Self::NotUrl => "write it like `url = \"${HOOK}\"`, and set HOOK to `https://host/path`".to_owned(),
            Self::KeyOfNone => "remove `key`, or add `shape = \"pagerduty\"`".to_owned(),
            Self::BadHeader { .. } => {
                "write it like `headers = { Authorization = \"Bearer ${TOKEN}\" }`, in one line of ASCII".to_owned()
            }
        }
    }
}

fn wanted(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "a time, nor a number of seconds",
        Unit::Bytes => "a size, nor a number of bytes",
        Unit::Ratio => "a percentage, nor a share from 0 to 1",
        Unit::Count => "a number",
    }
}

fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "\"2s\"",
        Unit::Bytes => "\"512MiB\"",
        Unit::Ratio => "\"10%\"",
        Unit::Count => "1000",
    }
}

/// The metric that was probably meant.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let name = name.strip_prefix("howdah_").unwrap_or(&name);
    let likeness = |metric: &str| strsim::jaro_winkler(name, metric);
    let nearest = METRICS.iter().map(|metric| metric.name).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(nearest) > 0.8).then_some(nearest)
}

/// The rules of a plan's own, in their order.
pub(super) fn rules(reader: &mut Reader<'_>, raw: Vec<Located<RawRule>>) -> Vec<Rule> {
    let mut rules: Vec<(Rule, Range<usize>)> = Vec::new();
    for Located { value: raw, span } in raw {
        if rules.len() == RULES {
            wrong(reader, span, AlarmMistake::TooMany { table: "alerts.rule", most: RULES });
            break;
        }
        let Some(rule) = rule(reader, raw, span.clone()) else { continue };
        if OWN.contains(&rule.name.as_str()) || rule.name.starts_with(TROUBLE) {
            wrong(reader, span, AlarmMistake::Reserved { name: rule.name });
        } else if let Some((_, first)) = rules.iter().find(|(other, _)| other.name == rule.name) {
            let mistake = AlarmMistake::Twice { what: "rules", name: rule.name };
            reader.report_second(span, first.clone(), Mistake::Alarm(mistake));
        } else {
            rules.push((rule, span));
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn rule(reader: &mut Reader<'_>, raw: RawRule, span: Range<usize>) -> Option<Rule> {
    let name = required(reader, raw.name, &span, "a rule", "name", "alerts.rule.name");
    let metric = required(reader, raw.metric, &span, "a rule", "metric", "alerts.rule.metric");
    let label = raw.label.and_then(|label| reader.text("alerts.rule.label", label));
    let of = raw.of.and_then(|of| reader.word("alerts.rule.of", &of, &Aggregate::WORDS));
    let hold = reader.duration("alerts.rule.for", raw.hold, LONGEST);
    let level = raw.level.and_then(|level| self::level(reader, "alerts.rule.level", &level)).unwrap_or(Level::Warning);
    let acts = raw.acts.map(|acts| words(reader, "alerts.rule.do", acts, &Act::WORDS, Act::at));
    let (name, metric) = (name?, metric?);
    let Some(known) = named(metric.0.strip_prefix("howdah_").unwrap_or(&metric.0)) else {
        wrong(reader, metric.1, AlarmMistake::UnknownMetric { name: metric.0 });
        return None;
    };
    if let Some(label) = &label
        && known.label().is_none()
    {
        wrong(reader, label.span.clone(), AlarmMistake::NoLabels { metric: known.name });
    }
    let source = Source::Metric(known);
    let unit = source.unit();
    let (bound, limit) = match (raw.above, raw.below) {
        (None, None) => {
            wrong(reader, span, AlarmMistake::NoLimit);
            return None;
        }
        (Some(_), Some(below)) => {
            wrong(reader, below.span, AlarmMistake::TwoLimits);
            return None;
        }
        (Some(above), None) => (Bound::Above, amount(reader, "above", above, unit)?.value),
        (None, Some(below)) => (Bound::Below, amount(reader, "below", below, unit)?.value),
    };
    let clear = match raw.clear {
        None => bound.clear_of(limit),
        Some(clear) => {
            let Located { value, span } = amount(reader, "clear", clear, unit)?;
            if bound.is_past(value, limit) {
                wrong(reader, span, AlarmMistake::ClearPastLimit);
            }
            value
        }
    };
    Some(Rule {
        name: name.0,
        source,
        label: label.map(|label| label.text),
        of: of.map(Aggregate::at).unwrap_or_default(),
        bound,
        limit,
        clear,
        grave: None,
        hold: hold.map_or(Duration::ZERO, |hold| hold.value),
        level,
        acts: acts.unwrap_or_else(|| Act::usual(level)),
        words: None,
    })
}

/// A limit, in the metric's unit.
fn amount(reader: &mut Reader<'_>, key: &'static str, raw: Located<RawAmount>, unit: Unit) -> Option<Located<f64>> {
    let Located { value, span } = raw;
    let value = match value {
        RawAmount::Number(number) => Some(number),
        RawAmount::Text(text) => {
            let text = reader.possibly_empty(&Located { value: text, span: span.clone() })?;
            of_text(&text, unit)
        }
    };
    let Some(value) = value.filter(|value| value.is_finite()) else {
        wrong(reader, span, AlarmMistake::BadAmount { key, unit });
        return None;
    };
    Some(Located { value, span })
}

#[expect(clippy::cast_precision_loss, reason = "compared with a number, not counted")]
fn of_text(text: &str, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Seconds => parse_duration(text).map(|time| time.as_secs_f64()),
        Unit::Bytes => text.parse::<ByteSize>().ok().map(|size| size.0 as f64),
        Unit::Ratio => parse_percentage(text).map(|percent| percent / 100.0),
        // A signal of the governor's counts in whatever it counts in.
        Unit::Count => {
            text.trim().parse().ok().or_else(|| of_text(text, Unit::Seconds)).or_else(|| of_text(text, Unit::Bytes))
        }
    }
}

/// Who is told, in their order.
pub(super) fn notify(reader: &mut Reader<'_>, raw: Vec<Located<RawNotify>>) -> Vec<Recipient> {
    let mut told: Vec<(Recipient, Range<usize>)> = Vec::new();
    for Located { value: raw, span } in raw {
        if told.len() == RECIPIENTS {
            wrong(reader, span, AlarmMistake::TooMany { table: "notify", most: RECIPIENTS });
            break;
        }
        let Some(one) = recipient(reader, raw, &span) else { continue };
        if let Some((_, first)) = told.iter().find(|(other, _)| other.name == one.name) {
            let mistake = AlarmMistake::Twice { what: "recipients", name: one.name };
            reader.report_second(span, first.clone(), Mistake::Alarm(mistake));
        } else {
            told.push((one, span));
        }
    }
    told.into_iter().map(|(one, _)| one).collect()
}

fn recipient(reader: &mut Reader<'_>, mut raw: RawNotify, span: &Range<usize>) -> Option<Recipient> {
    let name = required(reader, raw.name.take(), span, "a notify", "name", "notify.name");
    let level = raw.level.take().and_then(|level| self::level(reader, "notify.level", &level));
    let on = raw.on.take().map(|on| words(reader, "notify.on", on, &Occasion::WORDS, Occasion::at));
    let timeout = reader.duration("notify.timeout", raw.timeout.take(), LONGEST_ATTEMPT);
    let attempts = reader.whole("notify.attempts", raw.attempts.take(), &ATTEMPTS);
    let to = match raw.command.take() {
        Some(command) => program(reader, command, &raw),
        None => web(reader, raw, span),
    };
    Some(Recipient {
        name: name?.0,
        to: to?,
        level: level.unwrap_or(Level::Warning),
        on: on.unwrap_or_else(|| Occasion::USUAL.to_vec()),
        timeout: timeout.map_or(Duration::from_secs(10), |timeout| timeout.value),
        attempts: attempts.and_then(|attempts| u32::try_from(attempts.value).ok()).unwrap_or(5),
    })
}

/// Takes out those whose secrets are masked, as they are in the text that a ledger keeps: what is sent with a mask arrives at
/// a stranger, or nowhere. Returns their names.
pub fn leave_out_masked(recipients: &mut Vec<Recipient>) -> Vec<String> {
    let masked = |text: &str| text.contains(MASK);
    let is_masked = |to: &Destination| match to {
        Destination::Program(words) => words.iter().any(|word| masked(word)),
        Destination::Web(web) => {
            let headers = web.headers.iter().map(|(_, value)| value);
            let mut secrets = std::iter::once(&web.url).chain(&web.key).chain(headers);
            secrets.any(|secret| masked(secret.expose_secret()))
        }
    };
    let mut left_out = Vec::new();
    recipients.retain(|recipient| {
        let is_masked = is_masked(&recipient.to);
        if is_masked {
            left_out.push(recipient.name.clone());
        }
        !is_masked
    });
    left_out
}

fn program(reader: &mut Reader<'_>, command: Located<RawTexts>, raw: &RawNotify) -> Option<Destination> {
    let span = command.span.clone();
    let beside = [
        ("url", raw.url.as_ref().map(|text| &text.span)),
        ("shape", raw.shape.as_ref().map(|text| &text.span)),
        ("key", raw.key.as_ref().map(|text| &text.span)),
        ("headers", raw.headers.as_ref().map(|headers| &headers.span)),
    ];
    for (key, place) in beside {
        if let Some(place) = place {
            wrong(reader, place.clone(), AlarmMistake::NotOfCommand { key });
        }
    }
    let list = RawTexts::into_list(command);
    let count = list.len();
    let words: Vec<String> = list.iter().filter_map(|word| reader.possibly_empty(word)).collect();
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        wrong(reader, span, AlarmMistake::Nowhere);
        return None;
    }
    (words.len() == count).then_some(Destination::Program(words))
}

fn web(reader: &mut Reader<'_>, raw: RawNotify, span: &Range<usize>) -> Option<Destination> {
    let form = raw.shape.and_then(|shape| reader.word("notify.shape", &shape, &Form::WORDS)).map(Form::at);
    let form = form.unwrap_or_default();
    let key = raw.key.and_then(|key| reader.text("notify.key", key));
    match (&key, form) {
        (None, Form::PagerDuty) => {
            wrong(reader, span.clone(), AlarmMistake::Lacks { what: "`shape = \"pagerduty\"`", key: "key" });
        }
        (Some(key), Form::Json | Form::Slack) => wrong(reader, key.span.clone(), AlarmMistake::KeyOfNone),
        (Some(_), Form::PagerDuty) | (None, Form::Json | Form::Slack) => {}
    }
    let mut headers = Vec::new();
    for (name, value) in raw.headers.map(|headers| headers.value).unwrap_or_default() {
        let place = value.span.clone();
        let Some(value) = reader.possibly_empty(&value) else { continue };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let is_plain = |c: char| c == ' ' || c.is_ascii_graphic();
        if name.is_empty() || !name.chars().all(is_token) || !value.chars().all(is_plain) {
            wrong(reader, place, AlarmMistake::BadHeader { name });
        } else {
            headers.push((name, SecretString::from(value)));
        }
    }
    let url = match raw.url {
        None if form == Form::PagerDuty => PAGERDUTY.to_owned(),
        None => {
            wrong(reader, span.clone(), AlarmMistake::Nowhere);
            return None;
        }
        Some(url) => {
            let url = reader.text("notify.url", url)?;
            let parsed = url::Url::parse(&url.text).ok();
            let fits = parsed.is_some_and(|url| ["http", "https"].contains(&url.scheme()) && url.host_str().is_some());
            if !fits {
                wrong(reader, url.span, AlarmMistake::NotUrl);
                return None;
            }
            url.text
        }
    };
    let key = key.map(|key| SecretString::from(key.text));
    Some(Destination::Web(Web { url: SecretString::from(url), form, key, headers }))
}

fn wrong(reader: &mut Reader<'_>, span: Range<usize>, mistake: AlarmMistake) {
    reader.report(span, Mistake::Alarm(mistake));
}

/// A text that has to be there, and its place.
fn required(
    reader: &mut Reader<'_>,
    field: Option<Text>,
    table: &Range<usize>,
    what: &'static str,
    key: &'static str,
    full: &str,
) -> Option<(String, Range<usize>)> {
    let Some(field) = field else {
        wrong(reader, table.clone(), AlarmMistake::Lacks { what, key });
        return None;
    };
    reader.text(full, field).map(|text| (text.text.trim().to_owned(), text.span))
}

fn level(reader: &mut Reader<'_>, key: &'static str, field: &Text) -> Option<Level> {
    Some(match reader.word(key, field, &LEVELS)? {
        0 => Level::Info,
        1 => Level::Warning,
        _ => Level::Critical,
    })
}

/// A list of words, each once; it may be empty.
fn words<T: PartialEq>(
    reader: &mut Reader<'_>,
    key: &'static str,
    field: Located<RawTexts>,
    known: &'static [&'static str],
    at: fn(usize) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for word in RawTexts::into_list(field) {
        let one = reader.word(key, &word, known).and_then(at);
        found.extend(one.filter(|one| !found.contains(one)));
    }
    found
}

#[cfg(test)]
#[path = "alarms_tests.rs"]
mod tests;
