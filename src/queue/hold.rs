//! A worker's hold on a job: a lock that runs out unless it is renewed. It protects no row; the ledger does.

use std::future::pending;
use std::time::Duration;

use bullmq::{Job, QueueKeys};
use redis::Script;
use tokio_util::sync::CancellationToken;

use super::worker::Teller;
use crate::redis::link::{Link, LinkError};

/// A lock is renewed so often while it lasts once.
const RENEWALS: u32 = 6;

/// How a job stands to the worker that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The lock is renewed.
    Ours,
    /// Another worker has the job.
    Lost,
    /// The lock ran out, and the job waits for whoever takes it.
    GivenOut,
    /// Redis knows no such job: it was removed, or Redis has forgotten.
    Gone,
}

/// The hold on one job.
pub struct Hold {
    link: Link,
    script: Script,
    keys: [String; 4],
    token: String,
    id: String,
    lasts: Duration,
}

impl Hold {
    /// The hold on a job that was just taken; `lasts` is how long it lasts without being renewed.
    #[must_use]
    pub fn on(job: &Job, keys: &QueueKeys, link: &Link, lasts: Duration) -> Self {
        let key = keys.job_key(job.id());
        let lock = format!("{key}:lock");
        Self {
            link: link.clone(),
            script: Script::new(include_str!("hold.lua")),
            keys: [key, lock, keys.active(), keys.stalled()],
            token: job.token().unwrap_or_default().to_owned(),
            id: job.id().to_owned(),
            lasts,
        }
    }

    /// Renews it, or takes it back where it ran out and nobody has taken the job since.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub async fn renew(&self) -> Result<Held, LinkError> {
        let keys = self.keys.each_ref().map(String::as_str);
        let lasts = self.lasts.as_millis().to_string();
        let told: String = self.link.script(&self.script, &keys, &[&self.token, &lasts, &self.id]).await?;
        Ok(match told.as_str() {
            "ours" => Held::Ours,
            "lost" => Held::Lost,
            "given out" => Held::GivenOut,
            _ => Held::Gone,
        })
    }

    /// Renews it for as long as it is polled. Tells what changes, and cancels `lost` once another worker has the job. That Redis
    /// is away stops nothing.
    pub async fn keep(&self, lost: &CancellationToken, tell: &Teller) {
        let mut ticks = tokio::time::interval(self.lasts / RENEWALS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let (mut was, mut away) = (Held::Ours, false);
        loop {
            ticks.tick().await;
            let held = match self.renew().await {
                Ok(held) => held,
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tell.warn("redis_away", format!("{error}; the run goes on"));
                    }
                    continue;
                }
            };
            if std::mem::take(&mut away) {
                tell.note("redis_back", "Redis answers again".to_owned());
            }
            if held == was {
                continue;
            }
            was = held;
            match held {
                Held::Ours => {}
                Held::Gone => {
                    tell.warn("job_gone", "Redis knows this job no more; its run goes on to the end".to_owned());
                }
                Held::GivenOut => {
                    let text = "the hold on the job ran out, and it waits to be taken again; its run goes on";
                    tell.warn("hold_lost", text.to_owned());
                }
                Held::Lost => {
                    tell.warn(
                        "hold_lost",
                        "another worker has the job now; the run stops at its batch's edge".to_owned(),
                    );
                    lost.cancel();
                    pending::<()>().await;
                }
            }
        }
    }
}
