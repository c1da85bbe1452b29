//! Why Redis did not do what was asked, in words that hold no secret.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use secrecy::ExposeSecret;

use super::address::Address;
use crate::run::Cause;

/// Why Redis did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
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

    /// As a cause, with what to change; `what` was being done.
    #[must_use]
    pub fn cause(&self, what: &str) -> Cause {
        let (Self::Away { text, .. } | Self::Refused { text, .. }) = self;
        let cause = Cause::new(format!("{what}: {self}"));
        let lower = text.to_lowercase();
        if lower.contains("certificate") {
            cause.hint("name the certificates of your own authority: `ca` in [redis], or HOWDAH_REDIS_CA")
        } else if ["password", "wrongpass", "noauth", "auth"].iter().any(|word| lower.contains(word)) {
            cause.hint(
                "give the user in the address (redis://user@host), the password in HOWDAH_REDIS_PASSWORD, or in a file: \
                 `password_file` in [redis], or HOWDAH_REDIS_PASSWORD_FILE",
            )
        } else if lower.contains("permission") || lower.contains("noperm") {
            cause.hint("an ACL user needs the keys of howdah's prefix: ~howdah* ~{howdah}* &* +@all -@dangerous +info +client|setname \
                 +client|list")
        } else {
            cause
        }
    }

    pub(super) fn away(address: &Address, text: impl Into<String>) -> Self {
        Self::Away { label: address.label(), text: text.into() }
    }

    pub(super) fn refused(address: &Address, text: impl Into<String>) -> Self {
        Self::Refused { label: address.label(), text: text.into() }
    }

    /// The driver's error.
    pub(super) fn told(address: &Address, error: &RedisError) -> Self {
        let text = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (None, Some(detail)) => detail.to_owned(),
            (_, None) => error.to_string(),
        };
        let text = without_password(address, text);
        if is_away(error) { Self::away(address, text) } else { Self::refused(address, text) }
    }
}

/// Whether it may be otherwise in a moment: nobody answers, or whoever answers is not (yet) the one to ask.
fn is_away(error: &RedisError) -> bool {
    let passing = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
            )
    );
    passing || error.is_connection_dropped() || error.is_timeout() || error.is_cluster_error()
}

/// A server may repeat what it was sent.
fn without_password(address: &Address, text: String) -> String {
    [&address.password, &address.sentinel_password].into_iter().flatten().fold(text, |text, password| {
        match password.expose_secret() {
            "" => text,
            secret => text.replace(secret, "***"),
        }
    })
}
