//! The API: its envelope and its lists.
//!
//! Every response except the zone file is an envelope `{success, errors, messages, result, result_info}`
//! (<https://developers.cloudflare.com/fundamentals/api/how-to/make-api-calls/>). `success` counts, whatever the status is.

use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::paging::{Doubt, PageInfo, Position, Walk};
use super::zone::{self, Zone, ZoneRef};
use crate::http::{self, Client, Rate, Refusal, Request, Settings};

/// The default URL of the API.
pub const DEFAULT_URL: &str = "https://api.cloudflare.com/client/v4";

/// The number of records per page. The API accepts up to 5,000,000; a thousand keeps a response below a megabyte.
const PAGE: usize = 1000;
/// The number of zones per page: the API's maximum.
const ZONES: usize = 50;
/// How often a list that changes while it is read is read again.
const ATTEMPTS: usize = 5;
/// The largest number of entries read from one list.
const MOST: usize = 1_000_000;

/// An error of the API's envelope.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Fault {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    error_chain: Vec<Fault>,
}

#[derive(Deserialize)]
struct Envelope {
    success: bool,
    #[serde(default)]
    errors: Option<Vec<Fault>>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    result_info: Option<PageInfo>,
}

/// The errors of an envelope in words: `Invalid API Token (code 1000)`.
fn explain(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Failed {
        errors: Vec<Fault>,
    }
    let failed: Failed = serde_json::from_slice(body).ok()?;
    words(&failed.errors)
}

/// Cloudflare responds with 403 to both missing rights and invalid tokens: 10000 may mean either; the codes below mean
/// that the token is unknown or malformed.
fn judge(status: u16, body: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Failed {
        errors: Vec<Fault>,
    }
    let faults = serde_json::from_slice(body).map_or_else(|_| Vec::new(), |failed: Failed| failed.errors);
    let codes: Vec<u64> =
        faults.iter().flat_map(|f| std::iter::once(f).chain(&f.error_chain)).map(|f| f.code).collect();
    if codes.iter().any(|code| matches!(code, 1000 | 1001 | 6111 | 9109)) {
        return Some(Refusal::Unknown);
    }
    match status {
        401 => Some(Refusal::Unknown),
        403 if codes.contains(&10000) => Some(Refusal::Either),
        403 => Some(Refusal::LacksRight),
        _ => None,
    }
}

pub(super) fn words(faults: &[Fault]) -> Option<String> {
    let told: Vec<String> = faults
        .iter()
        .flat_map(|fault| std::iter::once(fault).chain(&fault.error_chain))
        .filter(|fault| !fault.message.is_empty())
        .map(|fault| format!("{} (code {})", fault.message.trim_end_matches('.'), fault.code))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A client for the API with a token.
#[derive(Clone)]
pub struct Api {
    client: Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("url", &self.client.settings().base.as_str()).finish_non_exhaustive()
    }
}

impl Api {
    /// Creates a client for the API at `url` (default [`DEFAULT_URL`]), with a token that came from `place`. Nothing is
    /// contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid URL or token.
    pub fn new(token: SecretString, place: impl Into<String>, url: Option<&str>) -> Result<Self> {
        let base = http::base_url(url.unwrap_or(DEFAULT_URL).trim_end_matches('/'))?;
        // 1,200 requests in five minutes for each user
        // (https://developers.cloudflare.com/fundamentals/api/reference/limits/).
        let rate = Rate::new(1200, Duration::from_secs(300));
        let settings = Settings {
            token_place: place.into(),
            rights: "the rights Zone Read and DNS Read for the zone; to restore, DNS Write",
            retry: http::Retry::from_env()?,
            judge,
            ..Settings::new("Cloudflare", base, token, rate, explain)
        };
        Ok(Self { client: Client::new(settings)? })
    }

    /// Sends a request and opens its envelope.
    pub(super) async fn call(&self, request: &Request, cancel: &CancellationToken) -> Result<Value> {
        Ok(self.envelope(request, cancel).await?.result)
    }

    async fn envelope(&self, request: &Request, cancel: &CancellationToken) -> Result<Envelope> {
        let envelope: Envelope = self.client.json(request, cancel).await?;
        if envelope.success {
            return Ok(envelope);
        }
        let faults = envelope.errors.unwrap_or_default();
        let words = words(&faults).unwrap_or_else(|| "but does not say why".to_owned());
        // Authentication errors: 10000 and 9109 of the API, 1000 and 1001 of the tokens'.
        let kind = match faults.first().map(|f| f.code) {
            Some(10000 | 9109 | 1000 | 1001) => ErrorKind::Permission,
            _ => ErrorKind::Refused,
        };
        Err(Error::new(kind, request.operation(), request.subject(), format!("Cloudflare refused it: {words}")))
    }

    /// Sends a request whose response is text.
    pub(super) async fn text(&self, request: Request, cancel: &CancellationToken) -> Result<String> {
        let request = request.text();
        let answer = self.client.send(&request, cancel).await?;
        let looks_wrong = answer.header("content-type").is_some_and(|t| t.starts_with("text/html"));
        match std::str::from_utf8(answer.body()) {
            Ok(text) if !looks_wrong => Ok(text.to_owned()),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                request.operation(),
                request.subject(),
                "the answer is not plain text",
            )
            .hint("a proxy alters the API's answers: check the API's URL")),
        }
    }

    /// Sends a request and opens its envelope. If the result is a list with more pages, all of them are read.
    ///
    /// # Errors
    /// Those of [`list`](Self::list).
    pub(super) async fn whole(&self, request: &Request, cancel: &CancellationToken) -> Result<Value> {
        let envelope = self.envelope(request, cancel).await?;
        match (&envelope.result, &envelope.result_info) {
            (Value::Array(first), Some(info)) if info.has_more_than(first.len()) => {
                self.list(request, None, cancel).await.map(Value::Array)
            }
            _ => Ok(envelope.result),
        }
    }

    /// Reads a list to its end as stated by the API, with `per_page` entries per page or the API's default. A list that
    /// changes while being read is read again.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it keeps changing, if the API does not say where it ends, or if what it says does
    /// not match the entries.
    pub(super) async fn list(
        &self,
        first: &Request,
        per_page: Option<usize>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Value>> {
        let mut why = String::new();
        let failed = |message| Error::new(ErrorKind::Unavailable, first.operation(), first.subject(), message);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tracing::info!(what = first.subject(), why, "the list changed while it was read: reading it again");
            }
            match self.list_once(first, per_page, cancel).await? {
                Ok(all) => return Ok(all),
                Err(Doubt::Changed(what)) => why = what,
                Err(Doubt::Wrong(what)) => {
                    return Err(failed(format!("the list may be incomplete: {what}"))
                        .transient(false)
                        .hint("a proxy alters the API's answers, or the API has changed: check the API's URL"));
                }
            }
        }
        Err(failed(format!("it changed {ATTEMPTS} times while it was read: {why}"))
            .hint("something keeps editing it, or a proxy repeats pages: try again later"))
    }

    async fn list_once(
        &self,
        first: &Request,
        per_page: Option<usize>,
        cancel: &CancellationToken,
    ) -> Result<Result<Vec<Value>, Doubt>> {
        let (mut walk, mut position) = (Walk::default(), Position::Page(1));
        loop {
            let request = match &position {
                // Lists with cursors do not support page numbers.
                Position::Page(1) if per_page.is_none() => first.clone(),
                Position::Page(number) => first.clone().query("page", number),
                Position::After(cursor) => first.clone().query("cursor", cursor),
            };
            let request = per_page.into_iter().fold(request, |request, n| request.query("per_page", n));
            let envelope = self.envelope(&request, cancel).await?;
            let Value::Array(page) = envelope.result else {
                let message = "the answer has no list";
                return Err(
                    Error::new(ErrorKind::Unavailable, first.operation(), first.subject(), message).transient(false)
                );
            };
            match walk.take(&position, page, envelope.result_info) {
                Ok(Some(next)) => position = next,
                Ok(None) => return Ok(Ok(walk.into_all())),
                Err(doubt) => return Ok(Err(doubt)),
            }
            if walk.len() > MOST {
                let message = format!("it has more than {MOST} entries");
                return Err(Error::new(ErrorKind::Unsupported, first.operation(), first.subject(), message));
            }
        }
    }

    /// Lists every zone that the token sees, by name.
    ///
    /// # Errors
    /// Any error of the API.
    pub async fn zones(&self, cancel: &CancellationToken) -> Result<Vec<Zone>> {
        let request = Request::get(["zones"], "list", "the zones of the token").query("order", "name");
        let mut zones = self
            .list(&request, Some(ZONES), cancel)
            .await?
            .into_iter()
            .map(|zone| Zone::read(zone, "the zones of the token"))
            .collect::<Result<Vec<_>>>()?;
        zones.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(zones)
    }

    /// Finds a zone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the token sees no such zone.
    pub async fn zone(&self, zone: &ZoneRef, cancel: &CancellationToken) -> Result<Zone> {
        let subject = zone.to_string();
        match zone {
            ZoneRef::Id(id) => {
                let request = Request::get(["zones", id], "find", subject.clone());
                Zone::read(self.call(&request, cancel).await?, &subject)
            }
            ZoneRef::Name(name) => {
                let request = Request::get(["zones"], "find", subject.clone()).query("name", name);
                let found = self.list(&request, Some(ZONES), cancel).await?;
                let zones: Vec<Zone> = found.into_iter().map(|z| Zone::read(z, &subject)).collect::<Result<_>>()?;
                // If the API ignores the filter, it returns other zones as well.
                zone::choose(zones.into_iter().filter(|zone| super::dns::same(&zone.name, name)).collect(), &subject)
            }
            ZoneRef::Any => {
                let mut names = zone::by_name(self.zones(cancel).await?);
                match (names.len(), names.pop_first()) {
                    (1, Some((name, zones))) => zone::choose(zones, &ZoneRef::Name(name).to_string()),
                    (0, _) => Err(Error::new(ErrorKind::NotFound, "find", "a zone", "the token sees none")
                        .hint("give the token the right Zone Read for the zone")),
                    (n, _) => Err(Error::new(ErrorKind::Config, "choose", "the zone", format!("the token sees {n}"))
                        .hint("name one of them")),
                }
            }
        }
    }

    /// Reads every record of a zone, as the API returns them, in the API's order.
    ///
    /// # Errors
    /// Any error of the API.
    pub(super) async fn records(&self, zone: &Zone, cancel: &CancellationToken) -> Result<Vec<Value>> {
        let request = Request::get(["zones", &zone.id, "dns_records"], "read the records of", zone.name.clone())
            .query("order", "name")
            .query("direction", "asc");
        self.list(&request, Some(PAGE), cancel).await
    }

    /// Asks the API about the token: `active`, `disabled` or `expired`, and until when.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] for an unknown token.
    pub(super) async fn verify_token(&self, cancel: &CancellationToken) -> Result<TokenState> {
        let request = Request::get(["user", "tokens", "verify"], "verify", self.client.settings().token_place.clone());
        let state = self.call(&request, cancel).await?;
        serde_json::from_value(state).map_err(|_| {
            Error::new(ErrorKind::Unavailable, "verify", "the token", "the answer has another shape").transient(false)
        })
    }
}

/// The state of a token according to the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokenState {
    pub(super) status: String,
    #[serde(default)]
    pub(super) expires_on: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_known_is_told_from_one_that_lacks_a_right() {
        let of = |status, codes: &[u64]| {
            let errors: Vec<Value> =
                codes.iter().map(|code| serde_json::json!({"code": code, "message": "m"})).collect();
            judge(status, serde_json::json!({"success": false, "errors": errors}).to_string().as_bytes())
        };
        assert_eq!(of(403, &[9109]), Some(Refusal::Unknown));
        assert_eq!(of(400, &[6111]), Some(Refusal::Unknown));
        assert_eq!(of(401, &[10000]), Some(Refusal::Unknown));
        assert_eq!(of(403, &[10000]), Some(Refusal::Either));
        assert_eq!(of(403, &[1015]), Some(Refusal::LacksRight));
        assert_eq!((of(400, &[81058]), judge(403, b"<html>")), (None, Some(Refusal::LacksRight)));
    }

    #[test]
    fn the_words_of_an_envelope_name_the_codes() {
        let body = br#"{"success":false,"errors":[{"code":6003,"message":"Invalid request headers","error_chain":
            [{"code":6103,"message":"Invalid format for X-Auth-Key header"}]}],"messages":[],"result":null}"#;
        assert_eq!(
            explain(body).unwrap(),
            "Invalid request headers (code 6003); Invalid format for X-Auth-Key header (code 6103)"
        );
        assert_eq!(explain(b"<html>"), None);
    }
}
