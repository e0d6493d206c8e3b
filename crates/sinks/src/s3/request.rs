//! Signed requests that `object_store` does not offer: bucket settings, versions, Object Lock, and writes with extra
//! headers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use lifeboat_core::name::join_key;
use lifeboat_core::{Error, ErrorKind, Result};
use object_store::PutPayload;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tracing::{Instrument, Span};

use super::Store;
use super::failure::{Action, Failure, chain};

/// A request before it is signed. It can be sent several times.
pub(super) struct Request<'a> {
    action: Action,
    /// For messages.
    subject: &'a str,
    method: Method,
    /// The object's key in the bucket; `None` for the bucket itself.
    key: Option<String>,
    /// With its question mark, where there is any.
    query: String,
    headers: HeaderMap,
    body: Option<&'a Body>,
}

/// A body with its digests, computed once for all attempts.
pub(super) struct Body {
    payload: PutPayload,
    sha256: [u8; 32],
    md5: Option<[u8; 16]>,
}

/// Bodies of at least this size are hashed on a separate thread.
const LARGE: usize = 1 << 20;

impl Body {
    /// Hashes a payload; with `md5`, also with MD5, for a store that checks nothing else.
    pub(super) async fn new(payload: PutPayload, md5: bool) -> Self {
        let is_small = payload.content_length() < LARGE;
        let digest = move || {
            let mut sha256 = Sha256::new();
            let mut with_md5 = md5.then(md5::Md5::new);
            for chunk in &payload {
                sha256.update(chunk);
                if let Some(md5) = &mut with_md5 {
                    md5.update(chunk);
                }
            }
            let md5 = with_md5.map(|md5| md5.finalize().into());
            Self { sha256: sha256.finalize().into(), md5, payload }
        };
        if is_small {
            return digest();
        }
        match tokio::task::spawn_blocking(digest).await {
            Ok(body) => body,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down: nobody waits for this any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// A payload that is not hashed, for a store that keeps nothing.
    #[cfg(test)]
    pub(super) fn unhashed(payload: PutPayload) -> Self {
        Self { sha256: [0; 32], md5: None, payload }
    }

    /// SHA-256 as the checksum headers have it.
    pub(super) fn sha256_base64(&self) -> String {
        BASE64_STANDARD.encode(self.sha256)
    }
}

/// An XML document in a store's answer.
pub(super) trait Document: DeserializeOwned {
    /// The name of its root. A document with another root is rejected: the parser would accept an HTML page, or an empty one,
    /// as an empty listing.
    const ROOT: &'static str;
}

/// An answer that is not an error.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<'a> Request<'a> {
    /// About the bucket.
    pub(super) fn bucket(action: Action, subject: &'a str, method: Method) -> Self {
        Self { action, subject, method, key: None, query: String::new(), headers: HeaderMap::new(), body: None }
    }

    /// About an object; `full` is its key in the bucket.
    pub(super) fn object(action: Action, subject: &'a str, method: Method, full: impl Into<String>) -> Self {
        Self { key: Some(full.into()), ..Self::bucket(action, subject, method) }
    }

    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        let mark = if self.query.is_empty() { '?' } else { '&' };
        self.query += &format!("{mark}{name}={}", encode(value, b""));
        self
    }

    /// A header; a value that cannot be one is left out.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn body(self, body: &'a Body) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Store {
    /// The key in the bucket of a key that is relative to the sink.
    pub(super) fn full_key(&self, key: &str) -> String {
        join_key(&self.base, key)
    }

    /// Sends a request until it is answered or has failed for too long.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Reply> {
        self.send_counted(request).await.0
    }

    /// Like [`send`](Self::send), with the number of attempts: all but the last one failed, but may have taken effect.
    pub(super) async fn send_counted(&self, request: Request<'_>) -> (Result<Reply>, u32) {
        let mut attempts = 0;
        let sent = self.pacing.run(|| {
            attempts += 1;
            self.attempt(&request)
        });
        (sent.await, attempts)
    }

    /// Asks for an XML document.
    pub(super) async fn ask<T: Document>(&self, request: Request<'_>) -> Result<T> {
        let (action, subject) = (request.action, request.subject);
        let reply = self.send(request).await?;
        self.parse(action, subject, &reply.body)
    }

    /// Like [`ask`](Self::ask), in one attempt.
    pub(super) async fn ask_once<T: Document>(&self, request: Request<'_>) -> Result<T> {
        let reply = self.attempt(&request).await?;
        self.parse(request.action, request.subject, &reply.body)
    }

    /// Reads the document of an answer.
    pub(super) fn parse<T: Document>(&self, action: Action, subject: &str, body: &[u8]) -> Result<T> {
        let strange = |why: String| self.place.strange_answer(action, subject, why);
        let text = std::str::from_utf8(body).map_err(|e| strange(e.to_string()))?;
        match super::wire::root_of(text) {
            Some(root) if root == T::ROOT => {}
            Some(root) => return Err(strange(format!("it sends <{root}> instead of <{}>", T::ROOT))),
            None => return Err(strange(format!("it sends status 200 without <{}>", T::ROOT))),
        }
        quick_xml::de::from_str(text).map_err(|e| strange(chain(&e)))
    }

    /// One attempt, in a span of its own.
    async fn attempt(&self, ask: &Request<'_>) -> Result<Reply> {
        let bytes = ask.body.map_or(0, |body| body.payload.content_length());
        let span = tracing::debug_span!("request", method = %ask.method, bytes, status = tracing::field::Empty);
        self.exchange(ask, &span).instrument(span.clone()).await
    }

    async fn exchange(&self, ask: &Request<'_>, span: &Span) -> Result<Reply> {
        let (action, subject) = (ask.action, ask.subject);
        let from_store = |error| self.place.store_error(action, subject, error);
        let path = ask.key.as_ref().map(|key| format!("/{}", encode_path(key))).unwrap_or_default();
        let uri = format!("{}{path}{}", self.bucket_url, ask.query);
        let (body, digest) = match ask.body {
            Some(body) => (body.payload.clone().into(), Some(body.sha256)),
            None => (HttpRequestBody::empty(), None),
        };
        let mut request: HttpRequest = http::Request::builder()
            .method(ask.method.clone())
            .uri(uri)
            .body(body)
            .map_err(|e| Error::new(ErrorKind::Internal, action.verb(), subject, e.to_string()))?;
        let headers = request.headers_mut();
        headers.extend(ask.headers.clone());
        if ask.method == Method::PUT || ask.method == Method::POST {
            let length = ask.body.map_or(0, |body| body.payload.content_length());
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(md5) = ask.body.and_then(|body| body.md5) {
            let md5 = HeaderValue::try_from(BASE64_STANDARD.encode(md5)).expect("base64 is a header's value");
            headers.insert("content-md5", md5);
        }
        let credential = self.store.credentials().get_credential().await.map_err(from_store)?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, digest.as_ref().map(<[u8; 32]>::as_slice))
            .map_err(from_store)?;
        let failed = |error| from_store(object_store::Error::Generic { store: "S3", source: Box::new(error) });
        let response = self.client.execute(request).await.map_err(failed)?;
        let (parts, body) = response.into_parts();
        span.record("status", parts.status.as_u16());
        // The wire makes failures of errors; a redirect or a cached answer is none of these.
        if !parts.status.is_success() && parts.status != StatusCode::NOT_MODIFIED {
            return Err(self.place.strange_answer(action, subject, format!("status {}", parts.status)));
        }
        let stall = self.pacing.retry().stall;
        let body = match tokio::time::timeout(stall, body.bytes()).await {
            Ok(body) => body.map_err(failed)?,
            Err(_) => return Err(self.place.error(action, subject, Failure::Stalled(stall))),
        };
        // Some proxies and stores send an error with status 200.
        match super::wire::error_inside(&parts.headers, &body) {
            Some(answer) => Err(self.place.error(action, subject, Failure::Answer(answer))),
            None => Ok(Reply { headers: parts.headers, body }),
        }
    }
}

/// A key as SigV4 requires it in a path.
fn encode_path(key: &str) -> String {
    encode(key, b"/")
}

/// A text with everything but letters, digits, `-._~` and these percent-encoded.
fn encode(text: &str, but: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || but.contains(&byte) {
            out.push(byte.into());
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// A text as the content of an XML element.
pub(super) fn xml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // A parser would read other white space as a blank or a line's end.
            c if c.is_control() => out += &format!("&#{};", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}
