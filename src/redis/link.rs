//! A connection to Redis that comes back by itself, and whose answers have a deadline.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, Script,
};
use secrecy::ExposeSecret;

use super::address::{Address, Place};
use crate::run::Cause;

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It cannot be reached, or does not answer in time. It may come back.
    #[error("Redis ({label}) does not answer: {text}")]
    Away {
        /// Where.
        label: String,
        /// Why.
        text: String,
    },
    /// It answered with an error.
    #[error("Redis ({label}) refuses: {text}")]
    Refused {
        /// Where.
        label: String,
        /// Its words.
        text: String,
    },
}

impl LinkError {
    /// Whether it may come back by itself.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// As a cause; `what` was being done.
    #[must_use]
    pub fn cause(&self, what: &str) -> Cause {
        Cause::new(format!("{what}: {self}"))
    }
}

/// A connection. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Link {
    address: Address,
    connection: ConnectionManager,
}

impl Link {
    /// Connects, and asks for a first answer.
    ///
    /// # Errors
    /// It cannot be reached within the address's timeout, or refuses.
    pub async fn open(address: &Address) -> Result<Self, LinkError> {
        let away = |text: String| LinkError::Away { label: address.label(), text };
        let failed = |e: &redis::RedisError| told(address, e);
        let client = Client::open(info(address).map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(address.timeout))
            .set_response_timeout(Some(address.timeout));
        let opening = ConnectionManager::new_with_config(client, config);
        let connection = match tokio::time::timeout(address.timeout * 2, opening).await {
            Ok(opened) => opened.map_err(|e| failed(&e))?,
            Err(_) => return Err(away("no answer in time".to_owned())),
        };
        let link = Self { address: address.clone(), connection };
        link.query::<()>(&redis::cmd("PING")).await?;
        Ok(link)
    }

    /// Where it leads.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a command.
    ///
    /// # Errors
    /// Redis does not answer within the address's timeout, or refuses.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        let mut connection = self.connection.clone();
        let asked = command.query_async(&mut connection);
        match tokio::time::timeout(self.address.timeout, asked).await {
            Ok(answer) => answer.map_err(|e| told(&self.address, &e)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Runs a script, by its hash where Redis knows it already.
    ///
    /// # Errors
    /// As [`Link::query`].
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<T, LinkError> {
        let mut connection = self.connection.clone();
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        let asked = call.invoke_async(&mut connection);
        match tokio::time::timeout(self.address.timeout * 2, asked).await {
            Ok(answer) => answer.map_err(|e| told(&self.address, &e)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> LinkError {
        LinkError::Away { label: self.address.label(), text: "no answer in time".to_owned() }
    }
}

/// In words that hold no secret.
fn told(address: &Address, error: &redis::RedisError) -> LinkError {
    let label = address.label();
    let text = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    let away = error.is_io_error() || error.is_connection_dropped() || error.is_timeout() || error.is_cluster_error();
    if away { LinkError::Away { label, text } } else { LinkError::Refused { label, text } }
}

/// As the driver wants it.
fn info(address: &Address) -> Result<ConnectionInfo, redis::RedisError> {
    let Place::Server { host, port } = &address.place else {
        return Err((redis::ErrorKind::InvalidClientConfig, "only one server is built yet").into());
    };
    let place = if address.tls {
        ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    };
    let mut redis = RedisConnectionInfo::default().set_db(i64::from(address.database));
    if let Some(user) = &address.user {
        redis = redis.set_username(user);
    }
    if let Some(password) = &address.password {
        redis = redis.set_password(password.expose_secret());
    }
    Ok(place.into_connection_info()?.set_redis_settings(redis))
}
