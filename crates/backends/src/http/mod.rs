//! A client for HTTP APIs that answer in JSON: one token, one base URL, and the patience that such APIs ask for.
//!
//! It is the one place where requests are repeated (`retry`), slowed down (`pace`) and where an answer that is an error
//! becomes an [`Error`] (`failure`). What the fields of an answer mean is the backend's business.
//!
//! Neither the token nor a body is ever logged or part of an error; of an error's body only the words that the API's own
//! envelope holds ([`Settings::explain`]). Bodies lie in memory that is wiped when it is freed.

mod body;
mod client;
mod failure;
mod pace;
mod retry;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "cloudflare-dns", feature = "doppler"))]
pub(crate) mod token;

use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use url::Url;

pub use body::Body;
pub use client::{Client, Request, Response};
pub use pace::Rate;
pub use retry::Retry;

/// Reads the words of an error out of an API's envelope. `None` when the body is not that envelope.
pub type Explain = fn(&[u8]) -> Option<String>;

/// What an answer that refuses says of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not known: mistyped, revoked or expired.
    Unknown,
    /// It is known, and lacks a right.
    LacksRight,
    /// One of the two.
    Either,
}

/// Reads out of a refusal (400, 401, 403) what it says of the token. `None` when it is not about the token.
pub type Judge = fn(status: u16, body: &[u8]) -> Option<Refusal>;

/// What the statuses alone say.
fn by_status(status: u16, _: &[u8]) -> Option<Refusal> {
    match status {
        401 => Some(Refusal::Unknown),
        403 => Some(Refusal::LacksRight),
        _ => None,
    }
}

/// How an API is reached.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The name of the service, for messages: `Doppler`.
    pub service: &'static str,
    /// Where its paths start, without a slash at the end: `https://api.doppler.com`.
    pub base: Url,
    /// The bearer token.
    pub token: SecretString,
    /// Where the token came from, for hints: `DOPPLER_TOKEN`.
    pub token_place: String,
    /// What rights the token needs, completing "it needs …", for hints.
    pub rights: &'static str,
    /// How long one request may take, its body included.
    pub request_timeout: Duration,
    /// How long an answer may pause.
    pub idle_timeout: Duration,
    /// Bytes that an answer may have.
    pub max_body: usize,
    /// When requests are sent again.
    pub retry: Retry,
    /// How many requests are sent in a time.
    pub rate: Rate,
    /// Reads the words of an error's body.
    pub explain: Explain,
    /// Tells a token that is not known from one that lacks a right.
    pub judge: Judge,
}

impl Settings {
    /// Creates options with timeouts that fit most APIs.
    pub fn new(service: &'static str, base: Url, token: SecretString, rate: Rate, explain: Explain) -> Self {
        Self {
            service,
            base,
            token,
            token_place: "the token".to_owned(),
            rights: "the right to read",
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(20),
            max_body: 64 << 20,
            retry: Retry::default(),
            rate,
            explain,
            judge: by_status,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Reads a base URL: `https`, or `http` to this machine; no password, query or fragment in it.
///
/// # Errors
/// [`ErrorKind::Config`], saying why it cannot be one.
pub fn base_url(text: &str) -> Result<Url> {
    let wrong = |why: &str| {
        // Not printed: what is no URL may be a token in the wrong place.
        Error::new(ErrorKind::Config, "use", "the API's URL", why)
            .hint("write it like https://api.example.com; http:// is allowed only for this machine")
    };
    let url = Url::parse(text).map_err(|e| wrong(&format!("it is not a URL: {e}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds credentials: give the token separately"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_this_machine(&host) => Ok(url),
        ("http", Some(_)) => Err(wrong("with http:// the token would cross the network unencrypted")),
        _ => Err(wrong("it is not an https:// URL")),
    }
}

fn is_this_machine(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => *name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    }
}
