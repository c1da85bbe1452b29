//! The tables of a plan: `[database]`, `[limits]`, `[retry]`, `[breaker]`, `[alerts]`. Every default is here.
//!
//! A default gives way to what is written beside it: with only `max = 500`, a first batch of 1,000 rows would
//! contradict the plan, so the first batch has 500.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;

use super::mistake::Mistake;
use super::model::{AlertLimits, BatchLimits, Breaker, CheckOptions, DatabaseOptions, Limits, OnHangup, Retry, Vacuum};
use super::raw::{
    Located, RawAlerts, RawBatch, RawBreaker, RawCheck, RawDatabase, RawLimits, RawLockRetry, RawRetry, Text,
};
use super::raw_value::RawTexts;
use super::signals;
use super::values::{LONGEST, LONGEST_TIMEOUT, Reader};
use super::window::Window;
use crate::run::ByteSize;

/// More rows than this in one transaction are never meant.
const ROWS: RangeInclusive<u64> = 1..=1_000_000_000;

/// For small counts.
const COUNT: RangeInclusive<u64> = 1..=10_000;
/// Connections: one at work, and enough beside it to watch, to write the ledger and to cancel what is at work.
const POOL: RangeInclusive<u64> = 4..=10_000;

/// More workers than this never made a database faster.
const WORKERS: RangeInclusive<u64> = 1..=64;
/// Connections of a worker: one for its batches, one that looks ahead.
const PER_WORKER: u32 = 2;
/// Connections beside those of the workers.
const BESIDE_WORKERS: u32 = 4;
/// More workers than this are only had by asking for them.
const MOST_WORKERS_BY_DEFAULT: u32 = 8;

/// Rows that may be set aside.
const QUARANTINED: RangeInclusive<u64> = 0..=1_000_000_000;
const NICE: RangeInclusive<f64> = 0.0..=100.0;

/// A batch that aims at more than this is not gentle; and ten times this still fits PostgreSQL's timeouts.
const LONGEST_TARGET: Duration = Duration::from_hours(1);

pub(super) fn database(reader: &mut Reader<'_>, raw: RawDatabase) -> DatabaseOptions {
    let pool = raw.pool.unwrap_or_default();
    DatabaseOptions {
        url: raw.url.and_then(|url| address(reader, "database.url", url)),
        control: raw.control.and_then(|control| address(reader, "database.control", control)),
        slow: value(reader.duration("database.slow", raw.slow, LONGEST)).unwrap_or(seconds(1)),
        pool_max: small(reader.whole("database.pool.max", pool.max, &POOL)).unwrap_or(20),
        pool_idle: value(reader.duration("database.pool.idle", pool.idle, LONGEST)).unwrap_or(seconds(30)),
        pool_connect: value(reader.duration("database.pool.connect", pool.connect, LONGEST)).unwrap_or(seconds(2)),
    }
}

pub(super) fn address(reader: &mut Reader<'_>, key: &'static str, field: Text) -> Option<SecretString> {
    let url = reader.text(key, field)?;
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.text.starts_with(scheme));
    if !is_postgres {
        reader.report(url.span, Mistake::NotPostgresUrl { key });
        return None;
    }
    Some(SecretString::from(url.text))
}

/// `allowed` is that at the top of the plan; `pool_max` the connections that there are.
pub(super) fn limits(
    reader: &mut Reader<'_>,
    mut raw: RawLimits,
    allowed: Option<Located<RawTexts>>,
    pool_max: u32,
) -> Limits {
    let signals = signals::signals(reader, &mut raw);
    let workers = workers(reader, raw.workers, pool_max);
    let batch = batch(reader, raw.batch.unwrap_or_default());
    let mut timeout = |key: &str, field| reader.duration(key, field, LONGEST_TIMEOUT);
    let lock = timeout("limits.lock_timeout", raw.lock_timeout);
    let statement = timeout("limits.statement_timeout", raw.statement_timeout);
    let idle = timeout("limits.idle_in_transaction_timeout", raw.idle_in_transaction_timeout);
    let count = timeout("limits.count_timeout", raw.count_timeout);
    let lock_timeout = value(lock).unwrap_or(seconds(2));
    if let Some(statement) = &statement
        && statement.value <= batch.target
    {
        reader.report(statement.span.clone(), Mistake::TimeoutBelowTarget);
    }
    let max_quarantined = reader.whole("limits.max_quarantined", raw.max_quarantined, &QUARANTINED);
    let nice = reader.number("limits.nice", raw.nice, &NICE);
    let waiters = waiters(reader, raw.waiters);
    let vacuum = raw.vacuum.map(|vacuum| self::vacuum(reader, &vacuum)).unwrap_or_default();
    let allowed = self::allowed(reader, allowed, raw.allowed);
    Limits {
        workers,
        batch,
        lock_timeout,
        lock_retry: lock_retry(reader, raw.lock_retry.unwrap_or_default()),
        // A wait for a lock must end as one: a statement that ran into its limit meanwhile would look too slow.
        statement_timeout: value(statement).unwrap_or((batch.target * 10).max(lock_timeout * 2)),
        idle_in_transaction_timeout: value(idle).unwrap_or(seconds(60)),
        count_timeout: value(count).unwrap_or(seconds(600)),
        max_quarantined: value(max_quarantined).unwrap_or(100),
        nice: value(nice).unwrap_or(0.0),
        waiters,
        vacuum,
        allowed,
        signals,
    }
}

/// A default gives way to the pool; what is asked for must fit into it.
fn workers(reader: &mut Reader<'_>, field: Option<Located<i64>>, pool_max: u32) -> u32 {
    let most = most_workers(pool_max);
    let Some(Located { value, span }) = reader.whole("limits.workers", field, &WORKERS) else {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        return cores.min(MOST_WORKERS_BY_DEFAULT).min(most);
    };
    let workers = u32::try_from(value).unwrap_or(u32::MAX);
    if workers > most {
        let needed = workers.saturating_mul(PER_WORKER).saturating_add(BESIDE_WORKERS);
        reader.report(span, Mistake::PoolTooSmall { workers, needed, pool: pool_max, most });
    }
    workers
}

/// One worker gets by with the smallest pool: it then looks ahead only where a connection is free.
fn most_workers(pool_max: u32) -> u32 {
    (pool_max.saturating_sub(BESIDE_WORKERS) / PER_WORKER).max(1)
}

fn waiters(reader: &mut Reader<'_>, field: Option<Text>) -> Option<Duration> {
    if field.as_ref().is_some_and(|field| reader.is_off(field)) {
        return None;
    }
    Some(value(reader.duration("limits.waiters", field, LONGEST)).unwrap_or(Duration::from_millis(200)))
}

fn vacuum(reader: &mut Reader<'_>, field: &Text) -> Vacuum {
    match reader.word("limits.vacuum", field, &["off", "wait", "run"]) {
        Some(1) => Vacuum::Wait,
        Some(2) => Vacuum::Run,
        _ => Vacuum::Off,
    }
}

/// What the loss of the terminal does.
pub(super) fn on_hangup(reader: &mut Reader<'_>, field: &Text) -> OnHangup {
    match reader.word("on_hangup", field, &["continue", "pause", "stop"]) {
        Some(1) => OnHangup::Pause,
        Some(2) => OnHangup::Stop,
        _ => OnHangup::Continue,
    }
}

/// The windows, from the top of the plan or from `[limits]`.
fn allowed(
    reader: &mut Reader<'_>,
    at_top: Option<Located<RawTexts>>,
    in_limits: Option<Located<RawTexts>>,
) -> Vec<Window> {
    match (at_top, in_limits) {
        (None, None) => Vec::new(),
        (Some(at_top), None) => windows(reader, "allowed", at_top),
        (None, Some(in_limits)) => windows(reader, "limits.allowed", in_limits),
        (Some(at_top), Some(in_limits)) => {
            reader.report_second(in_limits.span, at_top.span, Mistake::TwoAllowed);
            Vec::new()
        }
    }
}

fn windows(reader: &mut Reader<'_>, key: &'static str, raw: Located<RawTexts>) -> Vec<Window> {
    let span = raw.span.clone();
    let texts = RawTexts::into_list(raw);
    if texts.is_empty() {
        let advice = "name a window, or remove it to run at any time".to_owned();
        reader.report(span, Mistake::Empty { key: key.to_owned(), advice });
    }
    let mut windows = Vec::new();
    for text in texts {
        let Some(text) = reader.text(key, text) else { continue };
        for window in text.text.split(';') {
            match window.parse::<Window>() {
                Ok(window) => windows.push(window),
                Err(bad) => {
                    let place = reader.part_of(text.span.clone(), bad.part(), 0);
                    reader.report(place, Mistake::BadWindow { key, bad });
                }
            }
        }
    }
    windows
}

fn batch(reader: &mut Reader<'_>, raw: RawBatch) -> BatchLimits {
    let start = reader.whole("limits.batch.start", raw.start, &ROWS);
    let min = reader.whole("limits.batch.min", raw.min, &ROWS);
    let max = reader.whole("limits.batch.max", raw.max, &ROWS);
    let target = reader.duration("limits.batch.target", raw.target, LONGEST_TARGET);
    if let (Some(min), Some(max)) = (&min, &max)
        && min.value > max.value
    {
        reader.report(min.span.clone(), Mistake::contradiction("limits.batch.min", "limits.batch.max"));
    }
    if let (Some(min), Some(start)) = (&min, &start)
        && min.value > start.value
    {
        reader.report(min.span.clone(), Mistake::contradiction("limits.batch.min", "limits.batch.start"));
    }
    if let (Some(start), Some(max)) = (&start, &max)
        && start.value > max.value
    {
        reader.report(start.span.clone(), Mistake::contradiction("limits.batch.start", "limits.batch.max"));
    }
    let [start, min, max] = [start, min, max].map(value);
    let (min, start, max) = completed(min, start, max);
    BatchLimits { start, min, max, target: value(target).unwrap_or(BatchLimits::DEFAULT.target) }
}

/// Smallest, first and largest batch: what is given stays, a default moves to where it contradicts nothing.
fn completed(min: Option<u64>, start: Option<u64>, max: Option<u64>) -> (u64, u64, u64) {
    let least_given = [start, max].into_iter().flatten().min().unwrap_or(u64::MAX);
    let min = min.unwrap_or(BatchLimits::DEFAULT.min.min(least_given));
    let max = max.unwrap_or(BatchLimits::DEFAULT.max.max(start.unwrap_or(0)).max(min));
    let start = start.unwrap_or(BatchLimits::DEFAULT.start.max(min).min(max));
    (min, start, max)
}

pub(super) fn retry(reader: &mut Reader<'_>, raw: RawRetry) -> Retry {
    let attempts = small(reader.whole("retry.attempts", raw.attempts, &COUNT)).unwrap_or(3);
    let (base, max) = delays(reader, ("retry.base", raw.base), ("retry.max", raw.max));
    Retry { attempts, base, max }
}

fn lock_retry(reader: &mut Reader<'_>, raw: RawLockRetry) -> Retry {
    let attempts = small(reader.whole("limits.lock_retry.attempts", raw.attempts, &COUNT)).unwrap_or(30);
    let (base, max) = delays(reader, ("limits.lock_retry.base", raw.base), ("limits.lock_retry.max", raw.max));
    Retry { attempts, base, max }
}

/// The first and the longest delay, each with its key.
fn delays(
    reader: &mut Reader<'_>,
    (base_key, base): (&'static str, Option<Text>),
    (max_key, max): (&'static str, Option<Text>),
) -> (Duration, Duration) {
    let base = reader.duration(base_key, base, LONGEST);
    let max = reader.duration(max_key, max, LONGEST);
    if let (Some(base), Some(max)) = (&base, &max)
        && base.value > max.value
    {
        reader.report(base.span.clone(), Mistake::contradiction(base_key, max_key));
    }
    match (value(base), value(max)) {
        (Some(base), Some(max)) => (base, max),
        (Some(base), None) => (base, base.max(seconds(30))),
        (None, Some(max)) => (max.min(seconds(1)), max),
        (None, None) => (seconds(1), seconds(30)),
    }
}

pub(super) fn check(reader: &mut Reader<'_>, raw: RawCheck) -> CheckOptions {
    let codes = raw.allow.map(RawTexts::into_list).unwrap_or_default();
    CheckOptions { allow: codes.into_iter().filter_map(|code| reader.text("check.allow", code)).collect() }
}

pub(super) fn breaker(reader: &mut Reader<'_>, raw: RawBreaker) -> Breaker {
    Breaker {
        failures: small(reader.whole("breaker.failures", raw.failures, &COUNT)).unwrap_or(5),
        reset: value(reader.duration("breaker.reset", raw.reset, LONGEST)).unwrap_or(seconds(60)),
    }
}

pub(super) fn alerts(reader: &mut Reader<'_>, raw: RawAlerts) -> AlertLimits {
    AlertLimits {
        duration: value(reader.duration("alerts.duration", raw.duration, LONGEST)).unwrap_or(seconds(300)),
        memory: reader.size("alerts.memory", raw.memory).unwrap_or(ByteSize(1 << 30)),
        free_memory_percent: reader.percentage("alerts.free_memory", raw.free_memory).unwrap_or(10.0),
        error_rate_percent: reader.percentage("alerts.error_rate", raw.error_rate).unwrap_or(10.0),
    }
}

fn value<T>(field: Option<Located<T>>) -> Option<T> {
    field.map(|field| field.value)
}

/// A number that was checked against [`COUNT`].
fn small(field: Option<Located<u64>>) -> Option<u32> {
    value(field).and_then(|number| u32::try_from(number).ok())
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn defaults_give_way_to_what_is_written() {
        let table = [
            ((None, None, None), (100, 1000, 100_000)),
            ((None, None, Some(500)), (100, 500, 500)),
            ((None, None, Some(50)), (50, 50, 50)),
            ((None, Some(10), None), (10, 10, 100_000)),
            ((Some(5000), None, None), (5000, 5000, 100_000)),
            ((None, Some(200_000), None), (100, 200_000, 200_000)),
            ((Some(1), Some(2), Some(3)), (1, 2, 3)),
        ];
        for ((min, start, max), expected) in table {
            assert_eq!(completed(min, start, max), expected, "{min:?} {start:?} {max:?}");
        }
    }

    proptest! {
        #[test]
        fn completed_sizes_never_contradict_each_other(a in proptest::option::of(1_u64..200_000), b in proptest::option::of(0_u64..200_000), c in proptest::option::of(0_u64..200_000)) {
            let start = b.map(|b| b + a.unwrap_or(1));
            let max = c.map(|c| c + start.or(a).unwrap_or(1));
            let (min, start, max) = completed(a, start, max);
            prop_assert!(1 <= min && min <= start && start <= max);
        }
    }
}
