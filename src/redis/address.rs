//! Where Redis is, as people write it: one server, sentinels, or a cluster.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::plan::model::RedisOptions;
use crate::run::Cause;

/// The environment, asked by name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How a server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Server {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Sentinels that know which server is the master now.
    Sentinels {
        /// Their hosts and ports.
        sentinels: Vec<(String, u16)>,
        /// What they call it.
        service: String,
    },
    /// Some nodes of a cluster.
    Cluster {
        /// Their hosts and ports.
        nodes: Vec<(String, u16)>,
    },
}

/// A Redis to connect to. Prints without the password.
#[derive(Clone)]
pub struct Address {
    /// How it is found.
    pub place: Place,
    /// The ACL user. `None`: the default one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// The number of the database. On a cluster always 0.
    pub database: u8,
    /// Whether it is spoken to by TLS.
    pub tls: bool,
    /// A file with the certificates of one's own authority, PEM.
    pub ca: Option<PathBuf>,
    /// What every key begins with; in braces on a cluster, so that all keys lie in one slot.
    pub prefix: String,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Address {
    /// The address: the flag, else the plan's, else `HOWDAH_REDIS`, else `REDIS_URL`; the password from the address, else
    /// from `password_file`, else from `HOWDAH_REDIS_PASSWORD`. `None`: nobody names a Redis.
    ///
    /// # Errors
    /// A usage [`Cause`] that says which address is wrong, and never repeats it (it may hold a password).
    pub fn resolve(flag: Option<&str>, plan: Option<&RedisOptions>, env: Env<'_>) -> Result<Option<Self>, Cause> {
        let defaults = RedisOptions::default();
        let options = plan.unwrap_or(&defaults);
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let (origin, text) = match (flag, &options.url) {
            (Some(flag), _) => ("--redis", flag.to_owned()),
            (None, Some(url)) => ("`redis.url` of the plan", url.expose_secret().to_owned()),
            (None, None) => match (set("HOWDAH_REDIS"), set("REDIS_URL")) {
                (Some(url), _) => ("HOWDAH_REDIS", url),
                (None, Some(url)) => ("REDIS_URL", url),
                (None, None) => return Ok(None),
            },
        };
        let wrong = || {
            Cause::usage(format!("{origin} is not the address of a Redis"))
                .hint("write it like redis://user@host:6379/0; also rediss://, redis-sentinel://, redis-cluster://")
        };
        let url = url::Url::parse(&text).map_err(|_| wrong())?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(wrong()),
        };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let host = url.host_str().filter(|host| !host.is_empty()).unwrap_or("127.0.0.1").to_owned();
        let password = url.password().map(|password| SecretString::from(decoded(password)));
        let password = password.or_else(|| set("HOWDAH_REDIS_PASSWORD").map(SecretString::from));
        let database = url.path().trim_matches('/');
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| wrong())? };
        Ok(Some(Self {
            place: Place::Server { host, port: url.port().unwrap_or(6379) },
            user: Some(decoded(url.username())).filter(|user| !user.is_empty()),
            password,
            database,
            tls,
            ca: options.ca.clone(),
            prefix: options.prefix.clone(),
            timeout: options.timeout,
        }))
    }

    /// `host:port/0`: no user, no password.
    #[must_use]
    pub fn label(&self) -> String {
        let all = |hosts: &[(String, u16)]| {
            hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",")
        };
        match &self.place {
            Place::Server { host, port } => format!("{host}:{port}/{}", self.database),
            Place::Sentinels { sentinels, service } => format!("{service} of sentinels {}", all(sentinels)),
            Place::Cluster { nodes } => format!("cluster {}", all(nodes)),
        }
    }

    /// A key of howdah's own.
    #[must_use]
    pub fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.key_prefix())
    }

    /// What every key begins with: in braces on a cluster.
    #[must_use]
    pub fn key_prefix(&self) -> String {
        match self.place {
            Place::Cluster { .. } => format!("{{{}}}", self.prefix),
            Place::Server { .. } | Place::Sentinels { .. } => self.prefix.clone(),
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.label()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_password() {
        let env = |name: &str| (name == "REDIS_URL").then(|| "redis://ann:hunter%202@cache:7000/3".to_owned());
        let address = Address::resolve(None, None, &env).expect("an address").expect("one is named");
        assert_eq!(address.place, Place::Server { host: "cache".to_owned(), port: 7000 });
        assert_eq!((address.user.as_deref(), address.database, address.tls), (Some("ann"), 3, false));
        assert_eq!(address.password.as_ref().map(ExposeSecret::expose_secret), Some("hunter 2"));
        assert_eq!(format!("{address:?} {}", address.label()), "Address(\"cache:7000/3\") cache:7000/3");
        assert_eq!(address.key("x"), "howdah:x");
    }

    #[test]
    fn nobody_has_to_name_a_redis_and_a_wrong_name_is_refused_without_repeating_it() {
        assert!(Address::resolve(None, None, &|_| None).expect("no mistake").is_none());
        for wrong in ["http://x", "redis://h:x", "redis://h/one", "secret"] {
            let cause = Address::resolve(Some(wrong), None, &|_| None).expect_err(wrong);
            assert!(!cause.message.contains(wrong), "{}", cause.message);
        }
    }
}
