//! The queue on the Redis that is named.

use futures_util::future::BoxFuture;

use super::queue::QueueDesk;
use crate::redis::Address;
use crate::run::{Cause, QueueOrder, QueueView};

/// A queue on a Redis.
pub(super) struct RedisQueue {
    address: Address,
    name: String,
}

impl RedisQueue {
    /// The queue `name`; by default the usual one.
    pub(super) fn new(address: Address, name: Option<&str>) -> Self {
        Self { address, name: name.unwrap_or("howdah").to_owned() }
    }
}

impl QueueDesk for RedisQueue {
    fn read(&self) -> BoxFuture<'_, Result<QueueView, Cause>> {
        let cause = Cause::new(format!("queue {} on {} cannot be read yet", self.name, self.address.label()));
        Box::pin(async { Err(cause) })
    }

    fn order(&self, order: QueueOrder) -> BoxFuture<'_, Result<String, Cause>> {
        Box::pin(async move { Err(Cause::new(format!("cannot {} yet", order.words()))) })
    }
}
