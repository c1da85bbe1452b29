//! One way to Redis: a server, the master that sentinels name, or a cluster.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisFuture, RedisResult, TlsMode, Value,
};
use secrecy::{ExposeSecret, SecretString};

use super::address::{Address, Place};
use super::error::LinkError;
use super::tls;

/// What commands are sent by. Clones share it.
#[derive(Clone)]
pub(super) enum Wire {
    /// To one server.
    One(MultiplexedConnection),
    /// To whichever node of a cluster has the key.
    Many(ClusterConnection),
}

/// Whoever is to be logged in as.
type Login<'a> = (Option<&'a str>, Option<&'a SecretString>);

impl Wire {
    /// Connects. Whoever calls bounds it.
    pub(super) async fn open(address: &Address) -> Result<Self, LinkError> {
        match &address.place {
            Place::Server { host, port } => one(address, host, *port).await.map(Self::One),
            Place::Sentinels { sentinels, service } => {
                master(address, sentinels, service).await.map(|(_, wire)| Self::One(wire))
            }
            Place::Cluster { nodes } => cluster(address, nodes).await.map(Self::Many),
        }
    }

    /// Sends a command that names no key to whoever has the keys of howdah's prefix.
    pub(super) async fn home<T: FromRedisValue>(self, address: &Address, command: Cmd) -> RedisResult<T> {
        match self {
            Self::One(mut wire) => command.query_async(&mut wire).await,
            Self::Many(mut wire) => {
                let slot = Slot::for_key(address.key_prefix().as_bytes());
                let route = SingleNodeRoutingInfo::SpecificNode(Route::with_slot(slot, SlotAddr::Master));
                T::from_redis_value(wire.route_command(command, RoutingInfo::SingleNode(route)).await?)
                    .map_err(Into::into)
            }
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(wire) => wire.req_packed_command(cmd),
            Self::Many(wire) => wire.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(wire) => wire.req_packed_commands(cmd, offset, count),
            Self::Many(wire) => wire.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(wire) => wire.get_db(),
            Self::Many(wire) => wire.get_db(),
        }
    }
}

/// The master that the sentinels name, and a connection to it. They are asked at once, and whoever first names a server that
/// says that it is the master is believed: one that knows nothing of a fail-over yet is not.
pub(super) async fn master(
    address: &Address,
    sentinels: &[(String, u16)],
    service: &str,
) -> Result<((String, u16), MultiplexedConnection), LinkError> {
    let ask = |(host, port): &(String, u16)| named(address, host.clone(), *port, service.to_owned());
    let mut asked: FuturesUnordered<_> = sentinels.iter().map(ask).collect();
    let mut last = LinkError::away(address, "no sentinel is named");
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(found) => return Ok(found),
            // What refuses says more than what is silent.
            Err(e) if last.is_away() || !e.is_away() => last = e,
            Err(_) => {}
        }
    }
    Err(last)
}

async fn named(
    address: &Address,
    host: String,
    port: u16,
    service: String,
) -> Result<((String, u16), MultiplexedConnection), LinkError> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(&service);
    let of = |e: &redis::RedisError| LinkError::told(address, e);
    let own = (None, address.sentinel_password.as_ref());
    let ask = async |login: Login<'_>| -> Result<Option<(String, u16)>, LinkError> {
        let mut sentinel = connect(address, &host, port, login, 0).await?;
        command.query_async(&mut sentinel).await.map_err(|e| of(&e))
    };
    let answer = match ask(own).await {
        // Sentinels often have the password of the servers.
        Err(LinkError::Refused { text, .. }) if text.starts_with("NOAUTH") && own.1.is_none() => {
            ask((address.user.as_deref(), address.password.as_ref())).await
        }
        answer => answer,
    };
    let Some((host, port)) = answer? else {
        return Err(LinkError::refused(address, format!("the sentinel {host}:{port} knows no `{service}`")));
    };
    let mut wire = one(address, &host, port).await?;
    let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut wire).await.map_err(|e| of(&e))?;
    let role = role.into_iter().next().and_then(|role| String::from_redis_value(role).ok());
    match role.as_deref() {
        Some("master") => Ok(((host, port), wire)),
        _ => Err(LinkError::away(address, format!("{host}:{port} is not the master any more"))),
    }
}

async fn one(address: &Address, host: &str, port: u16) -> Result<MultiplexedConnection, LinkError> {
    let login = (address.user.as_deref(), address.password.as_ref());
    connect(address, host, port, login, address.database).await
}

async fn connect(
    address: &Address,
    host: &str,
    port: u16,
    (user, password): Login<'_>,
    database: u8,
) -> Result<MultiplexedConnection, LinkError> {
    let of = |e: redis::RedisError| LinkError::told(address, &e);
    let place = place(address, host, port);
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(database));
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password.expose_secret());
    }
    let info: ConnectionInfo = place.into_connection_info().map_err(of)?.set_redis_settings(settings);
    let client = if address.tls {
        tls::provide();
        let certificates = tls::certificates(address).map_err(|cause| LinkError::refused(address, cause.message))?;
        Client::build_with_tls(info, certificates)
    } else {
        Client::open(info)
    };
    // Deadlines are the link's: the driver's own is half a second.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(address.timeout)).set_response_timeout(None);
    client.map_err(of)?.get_multiplexed_async_connection_with_config(&config).await.map_err(of)
}

fn place(address: &Address, host: &str, port: u16) -> ConnectionAddr {
    if address.tls {
        ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.to_owned(), port)
    }
}

async fn cluster(address: &Address, nodes: &[(String, u16)]) -> Result<ClusterConnection, LinkError> {
    let of = |e: redis::RedisError| LinkError::told(address, &e);
    let seeds = nodes.iter().map(|(host, port)| place(address, host, *port));
    let mut builder = ClusterClient::builder(seeds)
        .retries(2)
        .min_retry_wait(50)
        .max_retry_wait(200)
        .connection_timeout(address.timeout)
        .response_timeout(address.timeout);
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password.expose_secret());
    }
    if address.tls {
        tls::provide();
        let certificates = tls::certificates(address).map_err(|cause| LinkError::refused(address, cause.message))?;
        builder = builder.tls(TlsMode::Secure).certs(certificates);
    }
    builder.build().map_err(of)?.get_async_connection().await.map_err(of)
}
