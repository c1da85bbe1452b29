//! From a file, or a text, to a checked [`Plan`].

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::alarms::Alarms;
use super::error::{PlanError, Problem};
use super::mistake::Mistake;
use super::model::{Plan, PlanSource};
use super::raw::RawPlan;
use super::values::{LONGEST, Reader};
use super::{alarms, lookups, options, shape, shared, steps};

/// The largest file that is taken for a plan, in bytes.
const LARGEST: u64 = 4 << 20;

/// Reads, parses and checks a plan. `env` looks up an environment variable.
///
/// # Errors
///
/// The file cannot be read, is not UTF-8 or larger than 4 MiB; or the plan is wrong: see [`from_text`].
pub fn from_file(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, PlanError> {
    let label = path.display().to_string();
    let text = read(path, &label)?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    from_text(&label, Some(absolute), &text, env)
}

/// Parses and checks a plan. `label` names it in messages; `env` looks up an environment variable.
///
/// # Errors
///
/// The text is not TOML; it has an unknown, duplicate, misplaced or not yet built key; a value is of the wrong type,
/// out of range, or contradicts another; or a `${NAME}` cannot be filled in. Mistakes in the keys are gathered and
/// shown together, then those in the values.
pub fn from_text(
    label: &str,
    path: Option<PathBuf>,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, PlanError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = PlanSource { path, label: label.to_owned(), text: text.to_owned() };
    let raw = match parse(text) {
        Ok(raw) => raw,
        Err(problems) => return Err(PlanError::wrong(source, problems)),
    };
    let mut reader = Reader::new(text, env);
    let name = match raw.name {
        Some(name) => reader.text("name", name).map(|name| name.text).unwrap_or_default(),
        None => default_name(&source),
    };
    let database = options::database(&mut reader, raw.database.unwrap_or_default());
    let limits = options::limits(&mut reader, raw.limits.unwrap_or_default(), raw.allowed, database.pool_max);
    let retry = options::retry(&mut reader, raw.retry.unwrap_or_default());
    let breaker = options::breaker(&mut reader, raw.breaker.unwrap_or_default());
    let mut raw_alerts = raw.alerts.unwrap_or_default();
    let rules = alarms::rules(&mut reader, raw_alerts.rule.take().unwrap_or_default());
    let every = reader.duration("alerts.every", raw_alerts.every.take(), LONGEST);
    let notify = alarms::notify(&mut reader, raw.notify.unwrap_or_default());
    let alarms = Alarms { every: every.map_or(Duration::from_secs(30), |every| every.value), rules, notify };
    let alerts = options::alerts(&mut reader, raw_alerts);
    let on_hangup = raw.on_hangup.map(|word| options::on_hangup(&mut reader, &word)).unwrap_or_default();
    let redis = shared::redis(&mut reader, raw.redis.unwrap_or_default());
    let caches = shared::caches(&mut reader, raw.cache.unwrap_or_default());
    let check = options::check(&mut reader, raw.check.unwrap_or_default());
    let mut steps = steps::steps(&mut reader, raw.step.unwrap_or_default());
    lookups::lend(&caches, &mut steps);
    let store = shared::store(&mut reader, raw.ledger.unwrap_or_default(), raw.idempotent.unwrap_or(false), &steps);
    let problems = reader.into_problems();
    if problems.is_empty() {
        Ok(Plan {
            name,
            source,
            database,
            limits,
            retry,
            breaker,
            alerts,
            alarms,
            on_hangup,
            redis,
            store,
            caches,
            check,
            steps,
        })
    } else {
        Err(PlanError::wrong(source, problems))
    }
}

fn read(path: &Path, label: &str) -> Result<String, PlanError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| PlanError::unreadable(label, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(PlanError::too_large(label, LARGEST));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        PlanError::not_text(label, valid.split(|byte| *byte == b'\n').count())
    })
}

fn parse(text: &str) -> Result<RawPlan, Vec<Problem>> {
    let root = DeTable::parse(text).map_err(|error| vec![syntax(text, &error)])?;
    let problems = shape::problems(root.get_ref());
    if !problems.is_empty() {
        return Err(problems);
    }
    RawPlan::deserialize(toml::Deserializer::from(root)).map_err(|error| vec![syntax(text, &error)])
}

/// The name of the file without its extension.
fn default_name(source: &PlanSource) -> String {
    let path = source.path.as_deref().unwrap_or_else(|| Path::new(&source.label));
    path.file_stem().map_or_else(|| source.label.clone(), |stem| stem.to_string_lossy().into_owned())
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or_default();
    if error.message() != "duplicate key" {
        return Problem::new(span, Mistake::Syntax(error.message().to_owned()));
    }
    let key = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
    let first = text.get(..span.start).and_then(|before| last_place_of(key, before));
    Problem { mistake: Mistake::DuplicateKey(key.to_owned()), span, first }
}

/// Where `key` was written last in `before`, the text up to its duplicate: the parser tells only the second place.
///
/// The keys of one table stand together, so that the last one of that name is the one; except for those in inline
/// tables that are closed, which are tables of their own.
fn last_place_of(key: &str, before: &str) -> Option<Range<usize>> {
    let (root, _) = DeTable::parse_recoverable(before);
    let mut last = None;
    visit(root.get_ref(), key, before, &mut last);
    last
}

fn visit(table: &DeTable<'_>, key: &str, text: &str, last: &mut Option<Range<usize>>) {
    for (name, value) in table {
        if name.get_ref() == key && last.as_ref().is_none_or(|last| last.start < name.span().start) {
            *last = Some(name.span());
        }
        match value.get_ref() {
            DeValue::Table(inner) if !is_closed_inline(text, value.span()) => visit(inner, key, text, last),
            DeValue::Array(items) => {
                for item in items {
                    if let DeValue::Table(inner) = item.get_ref()
                        && !is_closed_inline(text, item.span())
                    {
                        visit(inner, key, text, last);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_closed_inline(text: &str, span: Range<usize>) -> bool {
    text.get(span).is_some_and(|written| written.starts_with('{') && written.ends_with('}'))
}
