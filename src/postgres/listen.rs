//! Hearing of `NOTIFY`, through every outage.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;

use super::connect::{PoolShape, pool};
use super::deadline::within;
use super::dsn::Target;
use super::session::Session;

/// A silence after which the connection is asked whether it lives: a frozen network says nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// From one attempt to connect to the next.
const AGAIN: Duration = Duration::from_secs(1);

/// Wakes `news` whenever somebody notifies `channel`, and once after each connect: something may have been missed before. Never
/// returns; drop it to end it.
pub async fn listen(target: Target, limit: Duration, session: Session, channel: String, news: Arc<Notify>) {
    let shape = PoolShape { max: 1, idle: Duration::from_hours(1), connect: limit, session };
    loop {
        let pool = pool(&target, &shape);
        if let Err(e) = hear(&pool, &channel, &news).await {
            tracing::debug!("nothing can be heard of {channel}: {e}");
        }
        drop(pool);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(pool: &sqlx::PgPool, channel: &str, news: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = within(LIMIT, PgListener::connect_with(pool)).await?;
    // A lost connection is an error here: `listen` begins anew, and wakes whoever waits.
    listener.eager_reconnect(false);
    within(LIMIT, listener.listen(channel)).await?;
    news.notify_one();
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => news.notify_one(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Err(_silent) => {
                within(LIMIT, sqlx::query("SELECT 1").execute(&mut listener)).await?;
            }
        }
    }
}
