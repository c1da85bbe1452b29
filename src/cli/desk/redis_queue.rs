//! The queue on the Redis that is named.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::queue::QueueDesk;
use crate::cli::environment::{of_plan, who};
use crate::queue::{Line, line, order, view};
use crate::redis::Address;
use crate::run::cause::Fault;
use crate::run::{Cause, QueueOrder, QueueView};

/// Jobs of each state that are shown at most.
const JOBS: usize = 200;

/// A queue on a Redis, opened when it is first needed, and anew after a failure.
pub(super) struct RedisQueue {
    address: Address,
    name: String,
    /// `--database`, which answers for the variables of a plan.
    database: Option<String>,
    /// Never held over a round trip but that of opening.
    line: Mutex<Option<Arc<Line>>>,
}

impl RedisQueue {
    /// The queue `name`; by default the usual one.
    pub(super) fn new(address: Address, name: Option<&str>, database: Option<String>) -> Self {
        Self { address, name: name.unwrap_or(line::NAME).to_owned(), database, line: Mutex::new(None) }
    }

    async fn line(&self) -> Result<Arc<Line>, Cause> {
        let mut held = self.line.lock().await;
        if let Some(line) = &*held {
            return Ok(Arc::clone(line));
        }
        let line = Arc::new(Line::open(&self.address, &self.name).await?);
        *held = Some(Arc::clone(&line));
        Ok(line)
    }
}

impl QueueDesk for RedisQueue {
    fn read(&self) -> BoxFuture<'_, Result<QueueView, Cause>> {
        Box::pin(async {
            let line = self.line().await?;
            let read = view::read(&line, JOBS, None).await;
            if read.is_err() {
                *self.line.lock().await = None;
            }
            read
        })
    }

    fn order(&self, order: QueueOrder) -> BoxFuture<'_, Result<String, Cause>> {
        Box::pin(async move {
            let line = self.line().await?;
            let answer = order::order(&line, &order, &who(), &of_plan(self.database.as_deref())).await;
            // The master may be another one by now.
            if answer.as_ref().is_err_and(|cause| cause.fault != Fault::Usage) {
                *self.line.lock().await = None;
            }
            answer
        })
    }
}
