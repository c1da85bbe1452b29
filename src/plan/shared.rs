//! What a plan keeps on Redis: `[redis]`, `[ledger]`, `[cache.NAME]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::mistake::Mistake;
use super::model::{CachedLookup, RedisOptions, Step, StepKind, Store, Undo};
use super::movers::Source;
use super::raw::{Located, RawCache, RawLedger, RawRedis};
use super::values::{LONGEST, Reader};

/// The schemes of an address.
const SCHEMES: [&str; 5] = ["redis://", "rediss://", "redis-sentinel://", "rediss-sentinel://", "redis-cluster://"];
/// An answer that takes longer than this holds nothing up any more: what waits for it has long gone on without it.
const LONGEST_ANSWER: Duration = Duration::from_mins(1);
/// Answers kept in this process.
const KEPT: RangeInclusive<u64> = 1..=100_000_000;

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RedisMistake {
    #[error("`{key}` is not the address of a Redis")]
    NotRedisUrl { key: &'static str },
    #[error("`redis.prefix` may hold letters, digits, `-`, `_` and `.`")]
    BadPrefix,
    #[error("the look-up `{name}` has no `sql`")]
    CacheWithoutSql { name: String },
    #[error("a ledger on Redis does not commit with the changes: after a crash a batch may run twice")]
    NotIdempotent,
    #[error("{what} needs a ledger in the target database")]
    NeedsSchema { what: &'static str },
}

impl RedisMistake {
    /// What to write instead.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NotRedisUrl { key } => format!(
                "write it like `{} = \"redis://user@host:6379/0\"`; also rediss://, redis-sentinel://host,host/service, \
                 redis-cluster://host,host",
                key.rsplit('.').next().unwrap_or(key)
            ),
            Self::BadPrefix => "write it like `prefix = \"howdah\"`".to_owned(),
            Self::CacheWithoutSql { .. } => {
                "add one, such as `sql = \"SELECT code, name FROM countries WHERE code = $1\"`".to_owned()
            }
            Self::NotIdempotent => {
                "where that does no harm, say so: `idempotent = true` at the top of the plan; else remove `store`"
                    .to_owned()
            }
            Self::NeedsSchema { .. } => "remove it, or remove `ledger.store`".to_owned(),
        }
    }
}

pub(super) fn redis(reader: &mut Reader<'_>, raw: RawRedis) -> RedisOptions {
    let defaults = RedisOptions::default();
    let url = raw.url.and_then(|url| reader.text("redis.url", url)).and_then(|url| {
        if SCHEMES.iter().any(|scheme| url.text.starts_with(scheme)) || url.text.starts_with("rediss-cluster://") {
            return Some(SecretString::from(url.text));
        }
        reader.report(url.span, Mistake::Redis(RedisMistake::NotRedisUrl { key: "redis.url" }));
        None
    });
    let prefix = raw.prefix.and_then(|prefix| reader.text("redis.prefix", prefix)).and_then(|prefix| {
        let fits = prefix.text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !fits {
            reader.report(prefix.span, Mistake::Redis(RedisMistake::BadPrefix));
        }
        fits.then_some(prefix.text)
    });
    let password_file = raw.password_file.and_then(|file| reader.text("redis.password_file", file));
    let ca = raw.ca.and_then(|file| reader.text("redis.ca", file));
    let timeout = reader.duration("redis.timeout", raw.timeout, LONGEST_ANSWER);
    RedisOptions {
        url,
        password_file: password_file.map(|file| PathBuf::from(file.text)),
        ca: ca.map(|file| PathBuf::from(file.text)),
        prefix: prefix.unwrap_or(defaults.prefix),
        timeout: timeout.map_or(defaults.timeout, |timeout| timeout.value),
    }
}

/// The look-ups, in the order of their names.
pub(super) fn caches(reader: &mut Reader<'_>, raw: BTreeMap<String, Located<RawCache>>) -> Vec<CachedLookup> {
    let mut caches = Vec::new();
    for (name, Located { value: cache, span }) in raw {
        let ttl = reader.duration("cache.NAME.ttl", cache.ttl, LONGEST);
        let most = reader.whole("cache.NAME.most", cache.most, &KEPT);
        let Some(sql) = cache.sql else {
            reader.report(span, Mistake::Redis(RedisMistake::CacheWithoutSql { name }));
            continue;
        };
        let Some(sql) = reader.text("cache.NAME.sql", sql) else { continue };
        caches.push(CachedLookup {
            name,
            sql,
            ttl: ttl.map_or(Duration::from_hours(1), |ttl| ttl.value),
            most: most.map_or(100_000, |most| most.value),
        });
    }
    caches
}

/// Where the run is written down. A ledger that does not commit with the changes is only for changes that may be made twice.
pub(super) fn store(reader: &mut Reader<'_>, raw: RawLedger, idempotent: bool, steps: &[Step]) -> Store {
    let Some(field) = raw.store else { return Store::Postgres };
    if reader.word("ledger.store", &field, &["postgres", "redis"]) != Some(1) {
        return Store::Postgres;
    }
    if !idempotent {
        reader.report(field.span, Mistake::Redis(RedisMistake::NotIdempotent));
        return Store::Redis;
    }
    for step in steps {
        let needs = match &step.kind {
            StepKind::Backfill(backfill) if backfill.undo == Undo::Auto => Some("`undo = \"auto\"`"),
            StepKind::Files(_) => Some("a transform of files"),
            StepKind::Copy(copy) if copy.database.is_some() => Some("a copy to another database"),
            StepKind::Transform(transform) if matches!(transform.source, Source::Query { .. }) => {
                Some("a transform of a query")
            }
            StepKind::Statement(_)
            | StepKind::Backfill(_)
            | StepKind::Import(_)
            | StepKind::Copy(_)
            | StepKind::Transform(_)
            | StepKind::Index(_)
            | StepKind::Reindex(_)
            | StepKind::Analyze(_)
            | StepKind::Verify(_) => None,
        };
        if let Some(what) = needs {
            reader.report(step.span.clone(), Mistake::Redis(RedisMistake::NeedsSchema { what }));
        }
    }
    Store::Redis
}
