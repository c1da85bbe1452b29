//! A webhook. Its address, its key and its headers are secrets: no error says any of them.

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
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
    let mut said = Vec::new();
    while said.len() < SAID {
        match response.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk[..chunk.len().min(SAID - said.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let said = hidden(web, String::from_utf8_lossy(&said).trim());
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
    clean(&hidden(web, &text)).into_owned()
}

/// A recipient may say back what it was sent.
fn hidden(web: &Web, text: &str) -> String {
    let url = web.url.expose_secret();
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let values = web.headers.iter().flat_map(|(_, value)| {
        let value = value.expose_secret();
        [value, value.rsplit(' ').next().unwrap_or(value)]
    });
    let key = web.key.as_ref().map_or("", |key| key.expose_secret());
    let mut text = text.to_owned();
    for secret in [url, path, key].into_iter().chain(values).filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "***");
    }
    text
}
