//! The address as the task queue wants it.

use bullmq::options::{RedisConnectionOptions, TlsCerts};
use secrecy::ExposeSecret;

use super::address::{Address, Place};
use super::tls;
use crate::run::Cause;

impl Address {
    /// For bullmq, which knows servers and clusters: where sentinels are asked, ask them first
    /// ([`Address::resolve_master`]), and again when the connection is lost.
    ///
    /// # Errors
    /// The certificates cannot be read, or the address still names sentinels.
    pub fn bullmq(&self) -> Result<RedisConnectionOptions, Cause> {
        let mut options = RedisConnectionOptions::new().tls(self.tls);
        match &self.place {
            Place::Server { host, port } => options = options.host(host).port(*port).db(self.database),
            Place::Cluster { nodes } => {
                let scheme = if self.tls { "rediss" } else { "redis" };
                let node = |(host, port): &(String, u16)| {
                    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                    format!("{scheme}://{open}{host}{close}:{port}")
                };
                options = options.cluster_nodes(nodes.iter().map(node));
            }
            Place::Sentinels { .. } => return Err(Cause::bug("the sentinels have not been asked for the master")),
        }
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(password) = &self.password {
            options = options.password(password.expose_secret());
        }
        if self.tls {
            tls::provide();
            if let Some(root) = tls::authority(self)? {
                options = options.tls_certs(TlsCerts { root_cert: Some(root), ..TlsCerts::default() });
            }
        }
        Ok(options)
    }
}
