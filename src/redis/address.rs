//! Where Redis is, as people write it: one server, sentinels, or a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::error::LinkError;
use super::wire;
use crate::plan::model::RedisOptions;
use crate::run::Cause;
use crate::run::text::clean;

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
    /// The password of the sentinels. `None`: they have none, or the servers' one.
    pub sentinel_password: Option<SecretString>,
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
    /// from `password_file`, else from the file that `HOWDAH_REDIS_PASSWORD_FILE` names, else from `HOWDAH_REDIS_PASSWORD`;
    /// the certificates from `ca`, else from `HOWDAH_REDIS_CA`. `None`: nobody names a Redis.
    ///
    /// # Errors
    /// A usage [`Cause`] that says which address is wrong, and never repeats it (it may hold a password); or the file of the
    /// password cannot be read.
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
            Cause::usage(format!("{origin} is not the address of a Redis")).hint(
                "write it like redis://user@host:6379/0; also rediss://, redis-sentinel://host,host/service/0, \
                 redis-cluster://host,host",
            )
        };
        let Written { place, tls, user, password, database } = Written::read(&text).ok_or_else(wrong)?;
        let secret = |name: &str| set(name).map(SecretString::from);
        let password = match (password, &options.password_file, set("HOWDAH_REDIS_PASSWORD_FILE")) {
            (Some(password), _, _) => Some(password),
            (None, Some(file), _) => Some(password_of(file, "`password_file` in [redis]")?),
            (None, None, Some(file)) => Some(password_of(Path::new(&file), "HOWDAH_REDIS_PASSWORD_FILE")?),
            (None, None, None) => secret("HOWDAH_REDIS_PASSWORD"),
        };
        Ok(Some(Self {
            place,
            user,
            password,
            sentinel_password: secret("HOWDAH_REDIS_SENTINEL_PASSWORD"),
            database,
            tls,
            ca: options.ca.clone().or_else(|| set("HOWDAH_REDIS_CA").map(PathBuf::from)),
            prefix: options.prefix.clone(),
            timeout: options.timeout,
        }))
    }

    /// The same with the server in it that is the master now, where sentinels say which one that is.
    ///
    /// # Errors
    /// No sentinel answers in time, or none knows the service; or nobody is its master.
    pub async fn resolve_master(&self) -> Result<Self, LinkError> {
        let Place::Sentinels { sentinels, service } = &self.place else { return Ok(self.clone()) };
        let asked = tokio::time::timeout(self.timeout, wire::master(self, sentinels, service)).await;
        let ((host, port), _) = asked.map_err(|_| LinkError::away(self, "no answer in time"))??;
        Ok(Self { place: Place::Server { host, port }, ..self.clone() })
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

/// What an address says.
struct Written {
    place: Place,
    tls: bool,
    user: Option<String>,
    password: Option<SecretString>,
    database: u8,
}

impl Written {
    /// `scheme://[user[:password]@]host[:port][,host...][/service][/database]`. What follows a `?` is for other programs.
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (String::new(), String::new()),
        };
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let number = |text: Option<&&str>| text.map_or(Some(0), |text| text.parse().ok());
        let (tls, kind) = match scheme {
            "redis" | "redis-sentinel" | "redis-cluster" => (false, scheme.trim_start_matches("redis")),
            "rediss" | "rediss-sentinel" | "rediss-cluster" => (true, scheme.trim_start_matches("rediss")),
            _ => return None,
        };
        let (place, database) = match (kind, path.as_slice()) {
            ("", [] | [_]) => match hosts_of(hosts, 6379)?.as_slice() {
                [(host, port)] => (Place::Server { host: host.clone(), port: *port }, number(path.first())?),
                _ => return None,
            },
            ("-sentinel", [service] | [service, _]) => {
                let place = Place::Sentinels { sentinels: hosts_of(hosts, 26379)?, service: decoded(service)? };
                (place, number(path.get(1))?)
            }
            // A cluster has one database.
            ("-cluster", [] | ["0"]) => (Place::Cluster { nodes: hosts_of(hosts, 6379)? }, 0),
            _ => return None,
        };
        let user = Some(user).filter(|user| !user.is_empty());
        let password = Some(password).filter(|password| !password.is_empty()).map(SecretString::from);
        Some(Self { place, tls, user, password, database })
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// `host[:port],...`; a host in brackets is an IPv6 address. None at all: this host.
fn hosts_of(text: &str, usual: u16) -> Option<Vec<(String, u16)>> {
    let one = |text: &str| {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        let fits = host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:%".contains(c));
        let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port > 0))?;
        fits.then(|| (host.to_owned(), port))
    };
    text.split(',').map(|text| one(text.trim())).collect()
}

/// The first line of a file.
fn password_of(file: &Path, named: &str) -> Result<SecretString, Cause> {
    let shown = file.to_string_lossy();
    let wrong = |why: &str| {
        Cause::usage(format!("the password for Redis cannot be read from {}: {why}", clean(&shown)))
            .hint(format!("{named} names a file whose first line is the password"))
    };
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e.to_string()))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(SecretString::from(password)),
        _ => Err(wrong("it is empty")),
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
    fn every_way_to_a_redis_can_be_written() {
        let read = |text: &str| Address::resolve(Some(text), None, &|_| None).expect(text).expect(text);
        let hosts =
            |all: &[(&str, u16)]| all.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect::<Vec<_>>();
        let address = read("rediss-sentinel://ann:p%2Fw@a,b:26380,[::1]:7/my%20master/2");
        let sentinels = hosts(&[("a", 26379), ("b", 26380), ("::1", 7)]);
        assert_eq!(address.place, Place::Sentinels { sentinels, service: "my master".to_owned() });
        assert_eq!((address.tls, address.database, address.user.as_deref()), (true, 2, Some("ann")));
        assert_eq!(address.password.as_ref().map(ExposeSecret::expose_secret), Some("p/w"));
        let address = read("redis-cluster://:x@a:7000,b");
        assert_eq!(address.place, Place::Cluster { nodes: hosts(&[("a", 7000), ("b", 6379)]) });
        assert_eq!((address.user.as_deref(), address.key("k").as_str()), (None, "{howdah}:k"));
        assert!(!address.tls && read("rediss-cluster://a").tls && read("rediss://a").tls);
        let local = Place::Server { host: "127.0.0.1".to_owned(), port: 6379 };
        assert_eq!(read("redis://").place, local);
        assert_eq!(read("redis://:6379/?protocol=resp3").place, local);
        assert_eq!(read("redis://[fe80::1]/3").label(), "fe80::1:6379/3");
    }

    #[test]
    fn a_password_comes_from_the_address_the_plans_file_the_environments_file_or_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plans, environments) = (folder.path().join("plan"), folder.path().join("env"));
        std::fs::write(&plans, "of the plan\n").expect("written");
        std::fs::write(&environments, "of the file\nmore").expect("written");
        let path = environments.to_string_lossy().into_owned();
        let env = |name: &str| match name {
            "HOWDAH_REDIS_PASSWORD_FILE" => Some(path.clone()),
            "HOWDAH_REDIS_PASSWORD" => Some("of the environment".to_owned()),
            _ => None,
        };
        let only = |name: &str| (name == "HOWDAH_REDIS_PASSWORD").then(|| "of the environment".to_owned());
        let plan = RedisOptions { password_file: Some(plans), ..RedisOptions::default() };
        let found = |flag: &str, plan: Option<&RedisOptions>, env: Env<'_>| {
            let address = Address::resolve(Some(flag), plan, env).expect("an address").expect("one");
            address.password.map(|password| password.expose_secret().to_owned()).unwrap_or_default()
        };
        assert_eq!(found("redis://:own@h", Some(&plan), &env), "own");
        assert_eq!(found("redis://h", Some(&plan), &env), "of the plan");
        assert_eq!(found("redis://h", None, &env), "of the file");
        assert_eq!(found("redis://h", None, &only), "of the environment");
        let missing = RedisOptions { password_file: Some(folder.path().join("none")), ..RedisOptions::default() };
        let cause = Address::resolve(Some("redis://h"), Some(&missing), &only).expect_err("no such file");
        assert!(cause.message.contains("none: "), "{}", cause.message);
    }

    #[test]
    fn nobody_has_to_name_a_redis_and_a_wrong_name_is_refused_without_repeating_it() {
        assert!(Address::resolve(None, None, &|_| None).expect("no mistake").is_none());
        let wrongs = [
            "http://x",
            "redis://h:x",
            "redis://h/one",
            "secret",
            "redis://a,b",
            "redis-sentinel://a",
            "redis://h/1/2",
        ];
        for wrong in wrongs.into_iter().chain(["redis-cluster://a/3", "redis://h:0", "redis://[::1", "redis://h/300"]) {
            let cause = Address::resolve(Some(wrong), None, &|_| None).expect_err(wrong);
            assert!(!cause.message.contains(wrong), "{}", cause.message);
        }
    }
}
