//! Answers on Redis that are to be forgotten, by pattern: SCAN and UNLINK, a few hundred at a time.

use std::collections::BTreeMap;

use super::key;
use super::source::Identity;
use crate::redis::{Link, LinkError};

/// Forgets the answers that match `written`, such as `countries:*`: of one database, or of all. Returns how many.
///
/// A process that has them in its own memory keeps them until their time is over.
///
/// # Errors
/// Redis does not answer, or refuses. What was forgotten until then stays so.
pub async fn clear(link: &Link, identity: Option<&Identity>, written: &str) -> Result<u64, LinkError> {
    let pattern = key::pattern(link.address(), identity, written);
    let (mut cursor, mut forgotten) = (0, 0);
    loop {
        let (next, keys) = link.scan(cursor, &pattern).await?;
        if !keys.is_empty() {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(&keys);
            forgotten += link.query::<u64>(&unlink).await?;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(forgotten);
        }
    }
}

/// How many answers there are, by the name of the cache.
///
/// # Errors
/// As [`clear`].
pub async fn count(link: &Link, identity: Option<&Identity>) -> Result<BTreeMap<String, u64>, LinkError> {
    let pattern = key::pattern(link.address(), identity, "*");
    let mut counts: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    let mut cursor = 0;
    loop {
        let (next, keys) = link.scan(cursor, &pattern).await?;
        for key in keys {
            if let Some(name) = key::name(link.address(), &key) {
                counts.entry(name.to_owned()).or_default().insert(key);
            }
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(counts.into_iter().map(|(name, keys)| (name, u64::try_from(keys.len()).unwrap_or(u64::MAX))).collect())
}
