//! Rows that a batch sets aside: counted before they commit, so that two workers never pass the plan's limit together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::failure::{BatchError, recorded};
use crate::postgres::record::SetAside;
use crate::run::{Cause, human};
use crate::steps::Workbench;

/// Places among the rows that may be set aside.
pub struct Places {
    count: Arc<AtomicU64>,
    mine: u64,
}

impl Places {
    /// None yet.
    #[must_use]
    pub fn new(count: Arc<AtomicU64>) -> Self {
        Self { count, mine: 0 }
    }

    /// Takes one more place of `most`. `false`: there is none left.
    fn one_more(&mut self, most: u64) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) >= most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.mine += 1;
        true
    }

    /// Sets a row aside, unless that is one too many. `true`: it was not set aside before. `key` is how its key is named:
    /// `id`, `line`.
    ///
    /// # Errors
    /// It is one too many; the record could not be written.
    pub async fn put(
        &mut self,
        tx: &mut PgConnection,
        bench: &Workbench,
        row: &SetAside,
        key: &str,
        limit: Duration,
    ) -> Result<bool, BatchError> {
        let most = bench.limits.max_quarantined;
        let written = bench.recorder.set_aside(tx, bench.index, row);
        let is_new = recorded(tokio::time::timeout(limit, written).await)?;
        if is_new && !self.one_more(most) {
            let SetAside { sqlstate, message, key: value, part, .. } = row;
            let of = part.as_ref().map_or_else(String::new, |part| format!(" of {part}"));
            return Err(BatchError::Plan(
                Cause::new(format!("{}: more than {} rows are wrong: {message}", bench.what(), human::count(most)))
                    .sqlstate(sqlstate.clone().unwrap_or_default())
                    .detail(format!(
                        "the row with {key} {}{of} would have been one too many to set aside",
                        value.join(", ")
                    ))
                    .hint(format!("look at those that are set aside: howdah quarantine list {}", bench.run))
                    .hint("mend the data or the plan, or raise `limits.max_quarantined`; then resume the run"),
            ));
        }
        Ok(is_new)
    }

    /// The batch has committed.
    pub fn keep(mut self) {
        self.mine = 0;
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.count.fetch_sub(self.mine, Ordering::Relaxed);
    }
}
