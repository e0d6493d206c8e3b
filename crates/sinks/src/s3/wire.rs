//! The HTTP client below `object_store`: notices stalls, and turns answers that are errors into [`Failure`]s.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use serde::Deserialize;

use super::failure::{Answer, Failure};
use super::retry::Pacing;

/// Error bodies are small; longer ones are cut.
const LONGEST_ANSWER: usize = 64 << 10;

/// How long a request for credentials may take (to the instance's metadata, to the token service).
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);

/// A store that assembles an upload or copies an object may be silent for longer than during a transfer.
const SILENT_WORK: u32 = 10;

/// Sends requests. Cheap to clone: clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    pacing: Arc<Pacing>,
    /// URLs that start with this belong to the store; others serve credentials.
    endpoint: String,
}

impl Wire {
    pub(super) fn new(endpoint: String, pacing: Arc<Pacing>) -> Result<Self, reqwest::Error> {
        // Whoever embeds this may have chosen a provider: then it stays.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(10))
                .http1_only()
                // A redirect says that the region is wrong; followed, it would only fail less clearly.
                .redirect(reqwest::redirect::Policy::none())
        };
        let client = match builder().build() {
            // On a machine without any certificate of an authority plain http works as ever; TLS then trusts nobody.
            Err(_) if endpoint.starts_with("http://") => builder().tls_certs_only([]).build()?,
            built => built?,
        };
        Ok(Self { client, pacing, endpoint })
    }

    /// The same as a client of `object_store`.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: reqwest::Url = parts.uri.to_string().parse().map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
        if !url.as_str().starts_with(&self.endpoint) {
            return self.ask_for_credentials(url, parts, body).await;
        }
        let completes = parts.method == Method::POST && url.query_pairs().any(|(name, _)| name == "uploadId");
        let copies = parts.headers.contains_key("x-amz-copy-source");
        let mut stall = self.pacing.retry().stall;
        if completes || copies {
            stall *= SILENT_WORK;
        }

        let moved = Arc::new(AtomicU64::new(0));
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(Outgoing { body, moved: moved.clone() }),
        });
        let response = match until_stalled(self.client.execute(request), stall, &moved).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(of_reqwest(error)),
            None => return Err(failed(Failure::Stalled(stall))),
        };
        self.pacing.answered();
        let (parts, body) = http::Response::from(response).into_parts();
        let body = HttpResponseBody::new(Incoming::new(body, stall));
        if !parts.status.is_success() && parts.status != StatusCode::NOT_MODIFIED {
            return Err(failed(Failure::Answer(read_answer(parts.status, &parts.headers, body, stall).await)));
        }
        if completes || copies {
            // The status was sent before the work was done: the body says how it ended.
            let bytes = match tokio::time::timeout(stall, body.bytes()).await {
                Ok(bytes) => bytes?,
                Err(_) => return Err(failed(Failure::Stalled(stall))),
            };
            if let Some(answer) = error_inside(&parts.headers, &bytes) {
                return Err(failed(Failure::Answer(answer)));
            }
            return Ok(HttpResponse::from_parts(parts, bytes.into()));
        }
        Ok(HttpResponse::from_parts(parts, body))
    }
}

impl Wire {
    async fn ask_for_credentials(
        &self,
        url: reqwest::Url,
        parts: http::request::Parts,
        body: HttpRequestBody,
    ) -> Result<HttpResponse, HttpError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let refused = |why: String| {
            let text = format!("credentials from {host}: {why}");
            HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(text))
        };
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = body.as_bytes().map(|bytes| bytes.clone().into());
        *request.timeout_mut() = Some(CREDENTIALS_TIMEOUT);
        let response = self.client.execute(request).await.map_err(|e| refused(innermost(&e)))?;
        let (parts, body) = http::Response::from(response).into_parts();
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Incoming::new(body, CREDENTIALS_TIMEOUT))))
    }
}

/// Waits for `work` as long as `moved` changes at least every `stall`. `None` when it stalled.
async fn until_stalled<T>(work: impl Future<Output = T>, stall: Duration, moved: &AtomicU64) -> Option<T> {
    tokio::pin!(work);
    let mut seen = 0;
    loop {
        match tokio::time::timeout(stall, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) => {
                let now = moved.load(Ordering::Relaxed);
                if now == seen {
                    return None;
                }
                seen = now;
            }
        }
    }
}

fn failed(failure: Failure) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, failure)
}

fn of_reqwest(error: reqwest::Error) -> HttpError {
    let why = innermost(&error);
    let about_tls = ["ertificate", "TLS", "tls", "InvalidContentType", "HandshakeFailure", "corrupt message"];
    failed(if about_tls.iter().any(|word| why.contains(word)) {
        Failure::Tls(why)
    } else if error.is_connect() {
        Failure::Connect(why)
    } else {
        Failure::Broken(why)
    })
}

/// The text of the root cause: those above it only say that a request failed, and where.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorBody {
    code: String,
    message: String,
    region: Option<String>,
    /// The header that the error is about (AWS).
    header: Option<String>,
    /// The same, where it is an argument (AWS, Ceph).
    argument_name: Option<String>,
    /// More details (Google).
    details: Option<String>,
}

impl ErrorBody {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let at = text.find("<Error>").or_else(|| text.find("<Error "))?;
        quick_xml::de::from_str(&text[at..]).ok()
    }

    /// The status that an answer begun with 200 should have had.
    fn status(&self) -> StatusCode {
        match self.code.as_str() {
            "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
            "AccessDenied" => StatusCode::FORBIDDEN,
            "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
            code if code.starts_with("NoSuch") => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The name of a document's root. White space before it keeps a connection alive while a store works.
pub(super) fn root_of(text: &str) -> Option<String> {
    use quick_xml::events::Event;

    let mut reader = quick_xml::Reader::from_str(text.trim_start());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag) => {
                return std::str::from_utf8(tag.local_name().as_ref()).ok().map(str::to_owned);
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// The error in the body of an answer with status 200.
pub(super) fn error_inside(headers: &HeaderMap, body: &[u8]) -> Option<Answer> {
    if root_of(std::str::from_utf8(body).ok()?).as_deref() != Some("Error") {
        return None;
    }
    let error = ErrorBody::parse(body).unwrap_or_default();
    Some(make_answer(error.status(), headers, error))
}

async fn read_answer(status: StatusCode, headers: &HeaderMap, mut body: HttpResponseBody, stall: Duration) -> Answer {
    let mut text = Vec::new();
    let read = async {
        while text.len() < LONGEST_ANSWER {
            match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => text.extend(frame.into_data().unwrap_or_default()),
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(stall, read).await;
    make_answer(status, headers, ErrorBody::parse(&text).unwrap_or_default())
}

fn make_answer(status: StatusCode, headers: &HeaderMap, body: ErrorBody) -> Answer {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let or = |text: String, name: &str| if text.is_empty() { header(name).unwrap_or_default() } else { text };
    let date = header(DATE.as_str()).and_then(|d| jiff::fmt::rfc2822::parse(&d).ok());
    Answer {
        status: status.as_u16(),
        // MinIO says in headers what the answer to a HEAD request has no body for.
        code: or(body.code, "x-minio-error-code"),
        message: {
            let message = or(body.message, "x-minio-error-desc");
            body.details.map_or(message.clone(), |details| format!("{message} {details}"))
        },
        header: body.header.or(body.argument_name),
        region: header("x-amz-bucket-region").or(body.region),
        retry_after: header(RETRY_AFTER.as_str()).and_then(|text| retry_after(&text, date.as_ref())),
        clock_ahead: date.map(|d| d.timestamp().as_second() - Timestamp::now().as_second()),
    }
}

/// The pause that `Retry-After` asks for: a number of seconds, or a date, which is the store's own (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Option<&jiff::Zoned>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let now = now.map_or_else(Timestamp::now, jiff::Zoned::timestamp);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// A request's body that counts the bytes taken from it.
struct Outgoing {
    body: HttpRequestBody,
    moved: Arc<AtomicU64>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.moved.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body with errors as [`Failure`]s, a stall among them: its reader needs no time limit of its
/// own.
struct Incoming {
    body: reqwest::Body,
    stall: Duration,
    /// Runs while the reader waits for the next frame.
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Incoming {
    fn new(body: reqwest::Body, stall: Duration) -> Self {
        Self { body, stall, waiting: None }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.waiting = None;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| failed(Failure::Broken(innermost(&error))))))
            }
            Poll::Pending => {
                let stall = this.stall;
                let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
                waiting.as_mut().poll(cx).map(|()| Some(Err(failed(Failure::Stalled(stall)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_the_store_s_own_clock() {
        let now = jiff::fmt::rfc2822::parse("Sat, 21 Nov 2026 08:00:00 GMT").unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sat, 21 Nov 2026 08:00:30 GMT", Some(30)),
            ("Sat, 21 Nov 2026 07:00:00 GMT", Some(0)),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, Some(&now)), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
