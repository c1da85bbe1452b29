//! The queue on one Redis: opening it, adding to it, asking it.

use std::future::Future;
use std::time::Duration;

use bullmq::options::{QueueOptions, RedisConnectionOptions, TlsCerts};
use bullmq::{JobOptions, Queue, QueueKeys};
use secrecy::ExposeSecret;

use super::ticket::Ticket;
use crate::redis::address::{Address, Place};
use crate::redis::link::Link;
use crate::run::Cause;

/// The queue's name where none is given.
pub const NAME: &str = "howdah";
/// Log lines of a job that are kept.
const LOG_LINES: u32 = 1000;

/// A queue on one Redis. It comes back by itself when Redis does.
pub struct Line {
    pub(super) link: Link,
    pub(super) queue: Queue,
}

/// What became of a plan that was to be put into line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The job's id.
    pub id: String,
    /// Whether a job of that id was there already: nothing was added.
    pub was_there: bool,
}

impl Line {
    /// Opens the queue `name`. Redis is asked for a first answer before anything that would wait for it long.
    ///
    /// # Errors
    /// The name cannot be one; Redis cannot be reached, refuses, or is one that queues do not work on.
    pub async fn open(address: &Address, name: &str) -> Result<Self, Cause> {
        check_name(address, name)?;
        let link = Link::open(address).await.map_err(|e| e.cause(&format!("opening the queue `{name}`")))?;
        let options = QueueOptions {
            connection: connection(address)?,
            prefix: address.key_prefix(),
            default_job_options: JobOptions::default(),
            skip_version_check: false,
        };
        let queue = within(address, "opening the queue", Queue::with_options(name, options)).await?;
        Ok(Self { link, queue })
    }

    /// The connection beside the queue.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.queue.name()
    }

    /// The names of its keys.
    #[must_use]
    pub fn keys(&self) -> &QueueKeys {
        self.queue.keys()
    }

    /// Puts a plan into line. The same id twice adds nothing.
    ///
    /// # Errors
    /// The id cannot be one; Redis does not answer or refuses.
    pub async fn add(&self, ticket: &Ticket) -> Result<Added, Cause> {
        if let Some(id) = &ticket.id {
            check_id(id)?;
        }
        let data = serde_json::to_value(&ticket.data).map_err(|e| Cause::bug(e.to_string()))?;
        let mut options = JobOptions::new()
            .priority(ticket.priority)
            .attempts(ticket.attempts)
            .backoff(ticket.backoff.stored())
            .keep_logs(LOG_LINES);
        options.delay = ticket.delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        options.job_id.clone_from(&ticket.id);
        let name = ticket.data.name.clone().unwrap_or_default();
        let adding = self.queue.add(&name, data.clone()).options(options);
        let job = self.asked("putting the plan into line", async { adding.await }).await?;
        // BullMQ answers a known id with that id, and does not say that it was known: what lies there tells.
        let stored = self.asked("putting the plan into line", self.queue.get_job(job.id())).await?;
        let ours = stored.is_none_or(|stored| stored.timestamp() == job.timestamp() && *stored.data() == data);
        Ok(Added { id: job.id().to_owned(), was_there: !ours })
    }

    /// Whether there is such a job.
    ///
    /// # Errors
    /// There is none; Redis does not answer.
    pub async fn has(&self, id: &str) -> Result<(), Cause> {
        let found = self.asked("looking for the job", self.queue.get_job(id)).await?;
        found.map(drop).ok_or_else(|| no_job(id))
    }

    /// How many jobs are taken before this one. `None`: it does not wait to be taken, or not yet.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn place(&self, id: &str) -> Result<Option<u64>, Cause> {
        let failed = |e: crate::redis::link::LinkError| e.cause("looking for the job's place");
        let keys = self.keys();
        let mut ranked = redis::cmd("ZRANK");
        ranked.arg(keys.prioritized()).arg(id);
        let Some(rank) = self.link.query::<Option<u64>>(&ranked).await.map_err(failed)? else { return Ok(None) };
        let mut before = redis::cmd("LLEN");
        before.arg(keys.wait());
        Ok(Some(rank + self.link.query::<u64>(&before).await.map_err(failed)?))
    }

    /// The lines that a job's runs have said, oldest first.
    ///
    /// # Errors
    /// There is no such job; Redis does not answer.
    pub async fn logs(&self, id: &str) -> Result<Vec<String>, Cause> {
        let what = "reading a job's log";
        if self.asked(what, self.queue.get_job(id)).await?.is_none() {
            return Err(no_job(id));
        }
        Ok(self.asked(what, self.queue.get_job_logs(id, 0, -1, true)).await?.0)
    }

    /// Waits for an answer, as long as the address allows.
    pub(super) async fn asked<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T, bullmq::Error>>,
    ) -> Result<T, Cause> {
        within(self.link.address(), what, asking).await
    }
}

/// There is no such job.
pub(super) fn no_job(id: &str) -> Cause {
    Cause::usage(format!("there is no job `{id}` in this queue")).hint("list them: howdah queue")
}

/// The longest that a question of several round trips may take.
fn patience(address: &Address) -> Duration {
    address.timeout * 3
}

/// Waits for an answer of the crate's, which itself would wait for a connection for half a minute.
pub(super) async fn within<T>(
    address: &Address,
    what: &str,
    asking: impl Future<Output = Result<T, bullmq::Error>>,
) -> Result<T, Cause> {
    match tokio::time::timeout(patience(address), asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Cause::new(format!("{what}: Redis ({}): {}", address.label(), told(&error)))),
        Err(_) => Err(Cause::new(format!("{what}: Redis ({}) does not answer in time", address.label()))),
    }
}

/// In words that hold no address: the crate's own never repeat one, and a driver's detail is all there is to say.
pub(super) fn told(error: &bullmq::Error) -> String {
    match error {
        bullmq::Error::Redis(e) => e.detail().map_or_else(|| e.to_string(), str::to_owned),
        other => other.to_string(),
    }
}

fn check_name(address: &Address, name: &str) -> Result<(), Cause> {
    if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
        return Err(
            Cause::usage(format!("`{name}` cannot be the name of a queue")).hint("--queue: any word without `:`")
        );
    }
    if address.prefix.is_empty() || address.prefix.contains(':') {
        return Err(Cause::usage(format!("`{}` cannot be the prefix of a queue's keys", address.prefix))
            .hint("`redis.prefix`: any word without `:`"));
    }
    Ok(())
}

/// BullMQ numbers jobs itself, and puts ids into keys.
fn check_id(id: &str) -> Result<(), Cause> {
    let number = id.parse::<f64>().is_ok();
    if id.is_empty() || number || id.contains(':') || id.chars().any(char::is_control) {
        return Err(Cause::usage(format!("`{id}` cannot be the id of a job"))
            .hint("--id: a word that is no number (the queue numbers jobs itself) and holds no `:`"));
    }
    Ok(())
}

/// An address, as the crate wants it.
///
/// # Errors
/// The file of certificates cannot be read; the address leads to sentinels.
pub(super) fn connection(address: &Address) -> Result<RedisConnectionOptions, Cause> {
    let mut options = RedisConnectionOptions::new();
    options.username.clone_from(&address.user);
    options.password = address.password.as_ref().map(|password| password.expose_secret().to_owned());
    options.tls = address.tls;
    if let Some(path) = &address.ca {
        let pem = std::fs::read(path).map_err(|e| {
            Cause::usage(format!("the certificates `{}` cannot be read: {e}", path.display()))
                .hint("`redis.ca` names a file with certificates in PEM")
        })?;
        options.tls_certs = Some(TlsCerts { root_cert: Some(pem), ..TlsCerts::default() });
    }
    match &address.place {
        Place::Server { host, port } => {
            options.host = Some(host.clone());
            options.port = Some(*port);
            options.db = Some(address.database);
        }
        Place::Cluster { nodes } => {
            let scheme = if address.tls { "rediss" } else { "redis" };
            options.cluster_nodes = nodes.iter().map(|(host, port)| format!("{scheme}://{host}:{port}")).collect();
        }
        Place::Sentinels { .. } => {
            return Err(Cause::usage("a queue cannot be reached by sentinels")
                .hint("give the master's own address, or one that follows it, as --redis"));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::resolve(Some("redis://ann:hunter2@cache:7000/3"), None, &|_| None).expect("an address").expect("named")
    }

    #[test]
    fn names_and_ids_that_bullmq_would_misread_are_refused() {
        for name in ["", "a:b", "a\nb"] {
            assert!(check_name(&address(), name).is_err(), "{name}");
        }
        assert!(check_name(&address(), "night shift").is_ok());
        for id in ["", "12", "-1", "1e3", "a:b", "NaN"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_id("emails-2026").is_ok());
    }

    #[test]
    fn an_address_is_handed_on_whole() {
        let options = connection(&address()).expect("one server");
        assert_eq!(options.effective_url(), "redis://ann:hunter2@cache:7000/3");
        assert!(!format!("{options:?}").contains("hunter2"));
        let cluster = Address { place: Place::Cluster { nodes: vec![("a".to_owned(), 1)] }, ..address() };
        assert_eq!(connection(&cluster).expect("a cluster").cluster_nodes, ["redis://a:1"]);
    }
}
