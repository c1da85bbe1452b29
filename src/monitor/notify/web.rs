//! A webhook. Its address, its key and its headers are secrets: no error says any of them.

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret;

use super::again::{Verdict, of_status, retry_after};
use super::form;
use super::message::Message;
use crate::run::notify::Web;
use crate::run::text::clean;

/// So much of an answer is told.
const SAID: usize = 300;

/// A client for one webhook.
///
/// Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`), certificates from the host. No redirect is followed: a
/// message goes where the plan says, or nowhere.
///
/// # Errors
/// TLS cannot be used here, or a header cannot be sent. No secret is in the words.
pub(super) fn client(web: &Web, timeout: Duration) -> Result<reqwest::Client, String> {
    // reqwest panics without a default provider. An error only says that someone else has set one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut headers = HeaderMap::new();
    for (name, value) in &web.headers {
        let bad = || format!("the header {} cannot be sent", clean(name));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    reqwest::Client::builder()
        .user_agent(concat!("howdah/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(timeout)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| words(web, error))
}

/// One attempt.
pub(super) async fn post(client: &reqwest::Client, web: &Web, message: &Message) -> Verdict {
    let key = web.key.as_ref().map_or("", |key| key.expose_secret());
    let body = form::body(web.form, message, key).to_string();
    let request = client.post(web.url.expose_secret()).header(CONTENT_TYPE, "application/json").body(body);
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_builder() => return Verdict::Never(words(web, error)),
        Err(error) => return Verdict::Later(words(web, error), None),
    };
    let status = response.status().as_u16();
    let after = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
    let after = after.and_then(|header| retry_after(header, Utc::now()));
    let secrets = Secrets::of(web);
    // A secret that begins in what is told is read to its end: a half of it would not be known for one.
    let most = SAID + secrets.longest();
    let mut said = Vec::new();
    while said.len() < most {
        match response.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk[..chunk.len().min(most - said.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let said = secrets.hidden(String::from_utf8_lossy(&said).trim(), SAID);
    of_status(status, &clean(&said), after)
}

/// An error and what lies beneath it, without the address.
fn words(web: &Web, error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        beneath = cause.source();
    }
    clean(&Secrets::of(web).hidden(&text, usize::MAX)).into_owned()
}

/// Shorter ones are words like any other.
const SHORTEST: usize = 4;
/// Shorter parts of an address are words like any other.
const SHORTEST_PART: usize = 8;

/// What must not be told of a webhook: it may say back what it was sent, as it is or in another coat.
pub(super) struct Secrets {
    /// The longest first.
    all: Vec<String>,
}

impl Secrets {
    pub(super) fn of(web: &Web) -> Self {
        let url = web.url.expose_secret();
        let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
        let (authority, path) = behind.split_at(behind.find(['/', '?', '#']).unwrap_or(behind.len()));
        let mut all = vec![url.to_owned(), path.trim_start_matches('/').to_owned()];
        if let Some((user, _)) = authority.rsplit_once('@') {
            all.extend(std::iter::once(user).chain(user.split(':')).map(str::to_owned));
        }
        for (_, value) in &web.headers {
            let value = value.expose_secret();
            all.extend([value.to_owned(), value.rsplit(' ').next().unwrap_or(value).to_owned()]);
        }
        all.extend(web.key.as_ref().map(|key| key.expose_secret().to_owned()));
        all.retain(|secret| secret.len() >= SHORTEST);
        let parts = path.split(['/', '?', '#', '&', '=']).filter(|part| part.len() >= SHORTEST_PART);
        all.extend(parts.map(str::to_owned));
        let mut all: Vec<String> = all.iter().flat_map(|secret| coats(secret)).collect();
        all.retain(|secret| secret.len() >= SHORTEST);
        all.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        all.dedup();
        Self { all }
    }

    /// Bytes of the longest.
    pub(super) fn longest(&self) -> usize {
        self.all.first().map_or(0, String::len)
    }

    /// What of `text` begins in its first `most` bytes, with `***` in the place of each secret.
    pub(super) fn hidden(&self, text: &str, most: usize) -> String {
        let mut out = String::new();
        let mut at = 0;
        while at < most
            && let Some(c) = text[at..].chars().next()
        {
            if let Some(secret) = self.all.iter().find(|secret| text[at..].starts_with(secret.as_str())) {
                out.push_str("***");
                at += secret.len();
            } else {
                out.push(c);
                at += c.len_utf8();
            }
        }
        out
    }
}

/// The same as it is and as it was meant, each also as JSON may write it, and as an address does.
fn coats(secret: &str) -> Vec<String> {
    let meant = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    let dressed = |secret: &str| {
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        [secret.to_owned(), small(secret), secret.replace('/', "\\/"), small(&encoded), encoded]
    };
    dressed(secret).into_iter().chain(dressed(&meant)).collect()
}

/// With small letters in what stands behind `%`.
fn small(encoded: &str) -> String {
    let mut digits = 0_u8;
    let mut one = |c: char| {
        digits = if c == '%' { 3 } else { digits.saturating_sub(1) };
        if digits > 0 { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(&mut one).collect()
}
