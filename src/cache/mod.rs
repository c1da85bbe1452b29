//! Cached look-ups: in this process, behind that on Redis, behind that in the database.
//!
//! An answer, also that there is none, holds for the cache's `ttl` from when the database was asked, wherever it is kept:
//! what comes from Redis is kept here for the rest of its time. Of those who ask the same at once, one asks.
//!
//! | file | what |
//! | --- | --- |
//! | `source` | the database, as the cache knows it |
//! | `key` | what an answer is kept under |
//! | `shared` | the answers on Redis |
//! | `clear` | forgetting them by pattern |

mod clear;
mod key;
mod shared;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use moka::Expiry;
use tokio::sync::OnceCell;

pub use clear::{clear, count};
pub use source::{Arguments, Identity, LookError, Source};

use crate::plan::model::CachedLookup;
use crate::redis::Link;
use crate::run::Level;
use crate::run::caches::CacheView;
use shared::Shared;

/// There is no row.
const NOTHING: &str = "null";

/// The caches of a plan. Shared by all who look something up.
pub struct Caches {
    all: BTreeMap<String, Cache>,
    shared: Option<Shared>,
    identity: OnceCell<Identity>,
    source: Arc<dyn Source>,
}

struct Cache {
    plan: CachedLookup,
    kept: moka::future::Cache<String, Kept>,
    counts: Counts,
}

/// An answer, as JSON, and for how long it is kept from now.
#[derive(Clone)]
struct Kept {
    text: Arc<str>,
    left: Duration,
}

/// Each answer has its own time.
struct Own;

impl Expiry<String, Kept> for Own {
    fn expire_after_create(&self, _: &String, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.left)
    }

    fn expire_after_update(&self, _: &String, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.left)
    }
}

#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    redis: AtomicU64,
    database: AtomicU64,
    nothing: AtomicU64,
    errors: AtomicU64,
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// What an answer counts as: one for every 256 bytes, so that memory is bounded by `most` whatever answers are like.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(256)).unwrap_or(u32::MAX).max(1)
}

impl Caches {
    /// The caches of a plan, with nothing in them yet. Without a `link` answers are kept in this process only.
    #[must_use]
    pub fn new(plan: &[CachedLookup], link: Option<Link>, source: Arc<dyn Source>) -> Self {
        let cache = |plan: &CachedLookup| Cache {
            plan: plan.clone(),
            kept: moka::future::Cache::builder()
                .max_capacity(plan.most)
                .weigher(|key: &String, kept: &Kept| weight(key.len() + kept.text.len()))
                .expire_after(Own)
                .build(),
            counts: Counts::default(),
        };
        Self {
            all: plan.iter().map(|plan| (plan.name.clone(), cache(plan))).collect(),
            shared: link.map(Shared::new),
            identity: OnceCell::new(),
            source,
        }
    }

    /// Whether the plan has a cache of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The answer as JSON, where this process has it: at once.
    #[must_use]
    pub fn known(&self, name: &str, arguments: &[Option<String>]) -> Option<Arc<str>> {
        let cache = self.all.get(name)?;
        let kept = cache.kept.get(&key::of(name, arguments)).now_or_never()??;
        one_more(&cache.counts.asked);
        Some(kept.text)
    }

    /// The answer as JSON: the value of the first row, or an object of its columns where it has several; `null` where there
    /// is no row.
    ///
    /// # Errors
    /// The database does not answer, or refuses what is asked. That is not kept. Redis being away is no error.
    pub async fn look(&self, name: &str, arguments: Arguments) -> Result<Arc<str>, LookError> {
        let Some(cache) = self.all.get(name) else {
            return Err(LookError::Failed(crate::run::Cause::bug(format!("there is no cache `{name}`"))));
        };
        one_more(&cache.counts.asked);
        let key = key::of(name, &arguments);
        let fetched = cache.kept.try_get_with_by_ref(&key, self.fetch(cache, &key, &arguments)).await;
        match fetched {
            Ok(kept) => Ok(kept.text),
            Err(e) => {
                one_more(&cache.counts.errors);
                Err(LookError::clone(&e))
            }
        }
    }

    async fn fetch(&self, cache: &Cache, key: &str, arguments: &[Option<String>]) -> Result<Kept, LookError> {
        let ttl = cache.plan.ttl;
        let shared = match &self.shared {
            Some(shared) => {
                let identity = self.identity.get_or_try_init(|| self.source.identity()).await?;
                Some((
                    shared,
                    key::front(shared.link().address(), identity, &cache.plan.sql.text, cache.plan.ttl) + key,
                ))
            }
            None => None,
        };
        if let Some((shared, key)) = &shared
            && let Some((text, left)) = shared.get(key, ttl).await
        {
            one_more(&cache.counts.redis);
            return Ok(cache.keep(text, left));
        }
        let asked = Instant::now();
        let text = self.source.look(&cache.plan, arguments).await?.unwrap_or_else(|| NOTHING.to_owned());
        one_more(&cache.counts.database);
        if let Some((shared, key)) = &shared {
            shared.put(key, &text, ttl.saturating_sub(asked.elapsed())).await;
        }
        Ok(cache.keep(text, ttl.saturating_sub(asked.elapsed())))
    }

    /// How they are used, in the order of their names.
    #[must_use]
    pub fn views(&self) -> Vec<CacheView> {
        self.all.values().map(Cache::view).collect()
    }

    /// What is to be told since this was last asked.
    #[must_use]
    pub fn news(&self) -> Vec<(Level, String)> {
        self.shared.as_ref().map(Shared::news).unwrap_or_default()
    }
}

impl Cache {
    fn keep(&self, text: String, left: Duration) -> Kept {
        if text == NOTHING {
            one_more(&self.counts.nothing);
        }
        Kept { text: text.into(), left }
    }

    fn view(&self) -> CacheView {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { asked, redis, database, nothing, errors } = &self.counts;
        // Read first what is counted last: nothing is taken for a hit that is still on its way.
        let (errors, database, redis) = (of(errors), of(database), of(redis));
        let asked = of(asked);
        CacheView {
            name: self.plan.name.clone(),
            asked,
            process: asked.saturating_sub(redis + database + errors),
            redis,
            database,
            nothing: of(nothing),
            errors,
        }
    }
}

#[cfg(test)]
mod tests;
