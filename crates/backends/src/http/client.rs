//! Requests, responses, and the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_core::{Error, ErrorKind, Result};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::body::Body;
use super::pace::Pace;
use super::{Settings, failure, retry};

/// A request, with the words that describe it in errors.
#[derive(Clone)]
pub struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<(HeaderValue, Bytes)>,
    json: bool,
    repeatable: bool,
    operation: &'static str,
    subject: String,
}

impl Request {
    /// Creates a request. `operation` (a verb phrase) and `subject` describe it in errors. The path's segments are
    /// encoded. It may be repeated after a failure unless it is a `POST` or a `PATCH`.
    pub fn new<'a>(
        method: Method,
        path: impl IntoIterator<Item = &'a str>,
        operation: &'static str,
        subject: impl Into<String>,
    ) -> Self {
        let repeatable = !matches!(method, Method::POST | Method::PATCH);
        Self {
            method,
            path: path.into_iter().map(str::to_owned).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            json: true,
            repeatable,
            operation,
            subject: subject.into(),
        }
    }

    /// Creates a `GET` request.
    pub fn get<'a>(
        path: impl IntoIterator<Item = &'a str>,
        operation: &'static str,
        subject: impl Into<String>,
    ) -> Self {
        Self::new(Method::GET, path, operation, subject)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// Sends a value as JSON, from memory that is wiped afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the value cannot be serialized.
    pub fn json(mut self, value: &impl serde::Serialize) -> Result<Self> {
        let mut body = Body::default();
        serde_json::to_writer(&mut body, value)
            .map_err(|e| Error::new(ErrorKind::Internal, self.operation, self.subject.clone(), e.to_string()))?;
        self.body = Some((HeaderValue::from_static("application/json"), body.into_bytes()));
        Ok(self)
    }

    /// Sends these bytes.
    #[must_use]
    pub fn bytes(mut self, content_type: HeaderValue, bytes: Bytes) -> Self {
        self.body = Some((content_type, bytes));
        self
    }

    /// Expects text instead of JSON: a response that looks like a web page is then not an error in itself.
    #[must_use]
    pub fn text(mut self) -> Self {
        self.json = false;
        self
    }

    /// Sets whether the request is idempotent, regardless of its method.
    #[must_use]
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// The verb phrase for errors.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The subject, for errors.
    pub fn subject(&self) -> String {
        self.subject.clone()
    }

    pub(super) fn expects_json(&self) -> bool {
        self.json
    }
}

/// Omits body, headers and query.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A response. Its body is wiped when it is dropped.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Body,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.body.as_slice()
    }

    /// The body, to keep.
    pub fn into_body(self) -> Body {
        self.body
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("body", &self.body).finish_non_exhaustive()
    }
}

/// Sends requests to one API. Cheap to clone: clones share connections and the rate limit.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    http: reqwest::Client,
    pace: Pace,
    answered: AtomicBool,
}

impl Client {
    /// Creates a client with these settings. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the token is not a valid header, or TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Whoever embeds this may have chosen a provider: then it stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let token = settings.token.expose_secret();
        if token.is_empty() || token.bytes().any(|b| !(0x21..0x7f).contains(&b)) {
            let why = if token.is_empty() { "it is empty" } else { "it has a character that no token can have" };
            return Err(Error::new(ErrorKind::Config, "use", settings.token_place.clone(), why)
                .hint("copy the token again, without spaces and line breaks"));
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .http1_only()
            // The token goes to the host that was named, and to no other.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|e| Error::new(ErrorKind::Config, "set up", "the HTTP client", e.without_url().to_string()))?;
        let pace = Pace::new(settings.rate);
        Ok(Self(Arc::new(Inner { settings, http, pace, answered: AtomicBool::new(false) })))
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Sends a request, with retries according to [`Retry`](super::Retry), until there is a successful response (2xx,
    /// or 304 if the request has `If-None-Match`).
    ///
    /// # Errors
    /// | response | kind |
    /// |---|---|
    /// | 401, 403 | [`Permission`](ErrorKind::Permission) |
    /// | 404, 410 | [`NotFound`](ErrorKind::NotFound) |
    /// | 429, 5xx, none, cut short, too slow, a web page | [`Unavailable`](ErrorKind::Unavailable) |
    /// | a redirect | [`Config`](ErrorKind::Config) |
    /// | 400, 409, 422 and others | [`Refused`](ErrorKind::Refused) |
    /// | larger than allowed | [`Corrupt`](ErrorKind::Corrupt) |
    ///
    /// # Cancel safety
    /// Safe for requests that change nothing. For others, it is then not known whether they were carried out.
    pub async fn send(&self, request: &Request, cancel: &CancellationToken) -> Result<Response> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled(request.operation, request.subject.clone())),
            done = self.send_until_done(request) => done,
        }
    }

    /// Like [`send`](Client::send), but parses the body as JSON. Secret strings in `T` must wipe themselves or be wiped
    /// by the caller.
    ///
    /// # Errors
    /// Those of [`send`](Client::send); [`Unavailable`](ErrorKind::Unavailable) for JSON of another shape.
    pub async fn json<T: DeserializeOwned>(&self, request: &Request, cancel: &CancellationToken) -> Result<T> {
        let response = self.send(request, cancel).await?;
        self.read(request, &response)
    }

    /// Parses a response's body as JSON.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) for JSON of another shape, with the position of the mistake but no
    /// content.
    pub fn read<T: DeserializeOwned>(&self, request: &Request, response: &Response) -> Result<T> {
        serde_json::from_slice(response.body()).map_err(|e| {
            // `Display` of the error may quote a value: only its place is told.
            let why = match e.classify() {
                serde_json::error::Category::Eof => "it ends in the middle".to_owned(),
                serde_json::error::Category::Data => {
                    format!("a field is missing or of another type (line {}, column {})", e.line(), e.column())
                }
                _ => format!("it is not JSON (line {}, column {})", e.line(), e.column()),
            };
            failure::malformed(&self.0.settings, request, &why)
        })
    }

    async fn send_until_done(&self, request: &Request) -> Result<Response> {
        let Inner { settings, pace, answered, .. } = &*self.0;
        let (mut failures, mut asked) = (0, Duration::ZERO);
        let mut failing_since = None;
        loop {
            tokio::time::sleep_until(pace.turn()).await;
            let (error, retry_after) = match self.attempt(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let now = Instant::now();
            let failing_for = (now - *failing_since.get_or_insert(now)).saturating_sub(asked);
            failures += 1;
            let limit = if answered.load(Ordering::Relaxed) {
                settings.retry.limit
            } else {
                settings.retry.first_contact.min(settings.retry.limit)
            };
            let pause = settings.retry.pause(failures - 1, retry::chance());
            let is_refusal = retry_after.is_some() || error.message().contains("(status 429)");
            let given_up = !error.is_transient()
                || !(request.repeatable || is_refusal)
                || failures >= settings.retry.attempts
                || failing_for + pause > limit;
            if given_up {
                return Err(if failures > 1 { tried(error, failures) } else { error });
            }
            let pause = match retry_after {
                Some(asks) if asks > settings.retry.longest_asked => {
                    let message = format!("{}; it asks to wait {} s", error.message(), asks.as_secs());
                    return Err(error.reworded(message));
                }
                Some(asks) => {
                    asked += asks;
                    pace.not_before(now + asks);
                    // A little more, so that many do not come back at once.
                    asks + pause.min(Duration::from_millis(250))
                }
                None => pause,
            };
            tracing::info!(%error, attempt = failures, pause_ms = pause.as_millis(), "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends it once. An error comes with the pause that the API asked for.
    async fn attempt(&self, request: &Request) -> Result<Response, (Error, Option<Duration>)> {
        let Inner { settings, http, answered, .. } = &*self.0;
        let begun = Instant::now();
        let built = self.build(request).map_err(|e| (e, None))?;
        let limit = begun + settings.request_timeout;
        let late = || {
            let why = format!("no complete answer within {} s", settings.request_timeout.as_secs_f32());
            (failure::too_slow(settings, request, &why), None)
        };
        let sent = tokio::time::timeout_at(limit, http.execute(built)).await.map_err(|_| late())?;
        let mut response =
            sent.map_err(|e| (failure::of_transport(settings, request, &e.without_url(), false), None))?;
        answered.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let announced = headers.get("content-length").and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let too_large = || {
            let why = format!("the answer is longer than the {} bytes allowed", settings.max_body);
            (Error::new(ErrorKind::Corrupt, request.operation, request.subject.clone(), why), None)
        };
        if announced.is_some_and(|bytes| bytes > settings.max_body) {
            return Err(too_large());
        }
        let mut body = Body::with_capacity(announced.unwrap_or(64 << 10));
        loop {
            let idle = (Instant::now() + settings.idle_timeout).min(limit);
            let chunk = match tokio::time::timeout_at(idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(e)) => {
                    return Err((failure::of_transport(settings, request, &e.without_url(), true), None));
                }
                Err(_) if idle == limit => return Err(late()),
                Err(_) => {
                    let why = format!("its answer stopped for {} s", settings.idle_timeout.as_secs_f32());
                    return Err((failure::too_slow(settings, request, &why), None));
                }
            };
            if body.as_slice().len() + chunk.len() > settings.max_body {
                return Err(too_large());
            }
            body.push(&chunk);
        }
        let response = Response { status, headers, body };
        tracing::debug!(
            method = %request.method, path = request.path.join("/"), status, bytes = response.body().len(),
            ms = begun.elapsed().as_millis(), "answered"
        );
        let conditional = request.headers.iter().any(|(name, _)| name == "if-none-match");
        if status == 304 && conditional {
            return Ok(response);
        }
        match failure::of_answer(settings, request, &response) {
            None => Ok(response),
            Some(error) => {
                let asks = response.header("retry-after").and_then(|v| retry::retry_after(v, Timestamp::now()));
                Err((error, asks.filter(|_| matches!(status, 429 | 503))))
            }
        }
    }

    fn build(&self, request: &Request) -> Result<reqwest::Request> {
        let settings = &self.0.settings;
        let mut url = settings.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&request.path);
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut built = reqwest::Request::new(request.method.clone(), url);
        let headers = built.headers_mut();
        let token = settings.token.expose_secret();
        let mut bearer = Zeroizing::new(String::with_capacity(token.len() + 7));
        bearer.push_str("Bearer ");
        bearer.push_str(token);
        let owner = Zeroizing::new(std::mem::take(&mut *bearer).into_bytes());
        let mut bearer = HeaderValue::from_maybe_shared(Bytes::from_owner(owner))
            .map_err(|_| Error::new(ErrorKind::Config, "use", settings.token_place.clone(), "it cannot be a header"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static(if request.json { "application/json" } else { "text/plain" }));
        for (name, value) in &request.headers {
            headers.insert(name.clone(), value.clone());
        }
        if let Some((content_type, bytes)) = &request.body {
            headers.insert(CONTENT_TYPE, content_type.clone());
            *built.body_mut() = Some(bytes.clone().into());
        }
        Ok(built)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.settings).finish()
    }
}

fn tried(error: Error, times: u32) -> Error {
    let message = format!("{} (tried {times} times)", error.message());
    error.reworded(message)
}
