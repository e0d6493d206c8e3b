//! The meaning of error responses.

use std::error::Error as StdError;

use lifeboat_core::{Error, ErrorKind};

use super::client::{Request, Response};
use super::{Refusal, Settings};

/// Characters of an API's own words that an error carries.
const LONGEST_WORDS: usize = 400;

/// The error for an answer, or `None` when it is a good one.
pub(super) fn of_answer(settings: &Settings, request: &Request, response: &Response) -> Option<Error> {
    let status = response.status();
    let failure = |kind, message: String| {
        let transient = matches!(kind, ErrorKind::Unavailable);
        Error::new(kind, request.operation(), request.subject(), message).transient(transient)
    };
    let html = title_of_page(response);
    if (200..300).contains(&status) && (html.is_none() || !request.expects_json()) {
        return None;
    }
    let service = settings.service;
    let words = words(settings, response).map_or_else(String::new, |w| format!(": {w}"));
    if let Some(title) = html {
        let message = format!("something other than {service} answered with a web page (status {status}, \"{title}\")");
        let error = failure(ErrorKind::Unavailable, message).transient(status >= 500 || status == 429);
        return Some(error.hint(format!(
            "there is a proxy, a firewall or a login page between here and {}: check the API's URL and the proxy",
            settings.base.host_str().unwrap_or_default()
        )));
    }
    if let Some(refusal) = (settings.judge)(status, response.body()).filter(|_| matches!(status, 400 | 401 | 403)) {
        let why = match status {
            403 => format!("the token is not allowed to do this (status 403){words}"),
            _ => format!("{service} does not accept the token (status {status}){words}"),
        };
        return Some(failure(ErrorKind::Permission, why).hint(about_token(settings, refusal)));
    }
    Some(match status {
        300..=399 => {
            let to = response.header("location").unwrap_or("somewhere else");
            let to = to.split(['?', '#']).next().unwrap_or(to);
            failure(ErrorKind::Config, format!("{service} redirects to {to}: this is not its API"))
                .hint("check the API's URL; redirects are never followed, so that the token goes nowhere else")
        }
        401 | 403 => failure(ErrorKind::Permission, format!("{service} refuses it (status {status}){words}")),
        404 | 410 => failure(ErrorKind::NotFound, format!("{service} does not know it (status {status}){words}"))
            .hint("check the name or id; what a token cannot see is also reported as missing"),
        408 | 425 => failure(ErrorKind::Unavailable, format!("{service} gave up waiting (status {status}){words}")),
        409 | 412 => {
            failure(ErrorKind::Refused, format!("it has changed meanwhile, or already exists (status {status}){words}"))
        }
        413 => failure(ErrorKind::Refused, format!("it is too large for {service} (status 413){words}")),
        429 => failure(ErrorKind::Unavailable, format!("{service} limits the rate of requests (status 429){words}"))
            .hint("other programs with the same token share the limit; try again later"),
        501 | 505 => failure(ErrorKind::Unsupported, format!("{service} does not support it (status {status}){words}")),
        500..=599 => failure(ErrorKind::Unavailable, format!("{service} failed (status {status}){words}"))
            .hint(format!("the fault is on {service}'s side: try again later, and look at its status page")),
        _ => failure(ErrorKind::Refused, format!("{service} refused the request (status {status}){words}")),
    })
}

/// What to do about a token that is refused.
fn about_token(settings: &Settings, refusal: Refusal) -> String {
    let (place, rights) = (&settings.token_place, settings.rights);
    match refusal {
        Refusal::Unknown => format!("the token of {place} has expired, was revoked or is mistyped: make a new one"),
        Refusal::LacksRight => {
            format!("the token of {place} lacks a right, or is another one than it should be: it needs {rights}")
        }
        Refusal::Either => format!("the token of {place} is not known, or it lacks a right: it needs {rights}"),
    }
}

/// An answer that is not what the API promises: cut short, or JSON of another shape. Says nothing of its content.
pub(super) fn malformed(settings: &Settings, request: &Request, why: &str) -> Error {
    let message = format!("{} did not answer with valid JSON: {why}", settings.service);
    Error::new(ErrorKind::Unavailable, request.operation(), request.subject(), message)
        .transient(false)
        .hint("if this persists, the API has changed, or a proxy alters its answers: check the API's URL")
}

/// A request that got no answer, or not all of it.
pub(super) fn of_transport(settings: &Settings, request: &Request, error: &reqwest::Error, reading: bool) -> Error {
    let host = settings.base.host_str().unwrap_or_default();
    let inner = innermost(error);
    let message = if reading {
        format!("the answer of {} broke off in the middle: {inner}", settings.service)
    } else if error.is_timeout() {
        format!("{host} did not answer in time")
    } else if error.is_connect() {
        format!("{host} cannot be reached: {inner}")
    } else {
        format!("the connection to {host} failed: {inner}")
    };
    Error::new(ErrorKind::Unavailable, request.operation(), request.subject(), message)
        .hint("check the network, the proxy settings and the API's URL")
}

/// A time that ran out.
pub(super) fn too_slow(settings: &Settings, request: &Request, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, request.operation(), request.subject(), format!("{}: {why}", settings.service))
        .hint("check the network; if the API is only slow, try again later")
}

/// The last cause, in one line: the ones above it only say that something failed, and name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if std::ptr::addr_eq(std::ptr::from_ref(cause), std::ptr::from_ref::<dyn StdError>(error)) {
        return "it was closed".to_owned();
    }
    cause.to_string()
}

/// The API's own words, in one line of limited length, without the token should it be among them.
fn words(settings: &Settings, response: &Response) -> Option<String> {
    use secrecy::ExposeSecret;
    let words = (settings.explain)(response.body())?;
    let token = settings.token.expose_secret();
    let words = if token.is_empty() { words } else { words.replace(token, "…") };
    let line: String =
        words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WORDS).collect::<String>();
    let line = line.trim();
    (!line.is_empty()).then(|| line.trim_end_matches('.').to_owned())
}

/// The title of a web page, when the answer is one where JSON was asked for.
fn title_of_page(response: &Response) -> Option<String> {
    let typed = response.header("content-type").is_some_and(|t| t.trim_start().starts_with("text/html"));
    let start = &response.body()[..response.body().len().min(4096)];
    let text = String::from_utf8_lossy(start);
    let head = text.trim_start().get(..15).unwrap_or_default().to_ascii_lowercase();
    if !typed && !head.starts_with("<!doctype html") && !head.starts_with("<html") {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let from = at + lower[at..].find('>')? + 1;
        let to = from + lower[from..].find('<')?;
        Some(text[from..to].split_whitespace().collect::<Vec<_>>().join(" "))
    });
    Some(title.filter(|t| !t.is_empty()).map_or_else(|| "without a title".to_owned(), |t| t.chars().take(80).collect()))
}
