//! TLS to Redis: the certificates it is checked against.

use std::sync::Once;

use redis::TlsCertificates;

use super::address::Address;
use crate::run::Cause;
use crate::run::text::clean;

/// The cryptography of the whole process, once: drivers ask for it when they first speak TLS.
pub(super) fn provide() {
    static ONCE: Once = Once::new();
    // Somebody else may have installed it: that one does as well.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// The text of the file that `ca` names, PEM. `None`: the certificates that are built in.
///
/// # Errors
/// The file cannot be read.
pub(super) fn authority(address: &Address) -> Result<Option<Vec<u8>>, Cause> {
    let Some(path) = address.ca.as_ref().filter(|_| address.tls) else { return Ok(None) };
    let read = std::fs::read(path).map_err(|e| {
        Cause::usage(format!("the certificates for Redis, {}, cannot be read: {e}", clean(&path.to_string_lossy())))
            .hint("`ca` in [redis], or HOWDAH_REDIS_CA, names a file of certificates, PEM")
    })?;
    Ok(Some(read))
}

/// As the driver wants them.
///
/// # Errors
/// As [`authority`].
pub(super) fn certificates(address: &Address) -> Result<TlsCertificates, Cause> {
    Ok(TlsCertificates { client_tls: None, root_cert: authority(address)? })
}
