//! Gives way: when another session waits for a lock of a batch, the batch is cancelled, and tried again smaller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::backends::Backends;
use crate::postgres::connect::Connector;
use crate::postgres::deadline::within;
use crate::postgres::stats;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long nobody looks after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Watches until it is dropped: whoever waits for one of `backends` for `patience` has its way.
pub async fn watch(connector: Arc<Connector>, backends: Arc<Backends>, patience: Duration, name: String) {
    let pace = (patience / 2).clamp(Duration::from_millis(25), Duration::from_millis(250));
    let mut line: Option<PgConnection> = None;
    let mut seen: BTreeMap<(i32, i32), Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(pace).await;
        let busy = backends.busy();
        if busy.is_empty() {
            seen.clear();
            continue;
        }
        let mut connection = match line.take() {
            Some(connection) => connection,
            None => match connector.open(&name).await {
                Ok(connection) => connection,
                Err(refused) => {
                    tracing::debug!("nobody watches who waits for our batches: {}", refused.cause.headline());
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            },
        };
        // Without its connection after a failure: nobody knows what it is in the middle of.
        match within(LOOK, look(&mut connection, &busy, &backends, &mut seen, patience)).await {
            Ok(()) => line = Some(connection),
            Err(e) => {
                tracing::debug!("nobody watches who waits for our batches: {e}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn look(
    connection: &mut PgConnection,
    busy: &[i32],
    backends: &Backends,
    seen: &mut BTreeMap<(i32, i32), Instant>,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    let waiting = stats::waiting_for(connection, busy).await?;
    let now = Instant::now();
    seen.retain(|pair, _| waiting.contains(pair));
    for (waiter, blocker) in waiting {
        let since = *seen.entry((waiter, blocker)).or_insert(now);
        // A look later it would be past the patience of the one who waits.
        let long = now.duration_since(since) + patience / 2 >= patience;
        if long && backends.give_way(blocker) {
            tracing::info!(waiter, blocker, "a session waits for a batch: the batch gives way");
            stats::cancel(connection, blocker).await?;
        }
    }
    Ok(())
}
