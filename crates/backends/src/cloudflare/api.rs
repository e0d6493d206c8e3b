//! The API: its envelope, zones, pages.
//!
//! Every answer but the zone file is an envelope `{success, errors, messages, result, result_info}`
//! (<https://developers.cloudflare.com/fundamentals/api/how-to/make-api-calls/>). `success` counts, whatever the status is.

use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Client, Rate, Request, Settings};

/// Where the API is, when nobody says.
pub const DEFAULT_URL: &str = "https://api.cloudflare.com/client/v4";

/// Records on a page. The API takes up to 5,000,000; a thousand keeps an answer below a megabyte.
const PAGE: usize = 1000;
/// How often a list that changes while it is read is read again.
const ATTEMPTS: usize = 5;
/// Things of one list that are read at the most.
const MOST: usize = 1_000_000;

/// A zone as it is named: by its domain, by its id, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneRef {
    /// By its domain, in lower case, in its ASCII form.
    Name(String),
    /// By its id: 32 hexadecimal digits.
    Id(String),
    /// Every zone that the token sees; for a restore, the one that the artifact is of.
    Any,
}

impl ZoneRef {
    /// Reads a domain, an id, `*`, or one of these after `cloudflare://`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, "use", format!("zone \"{text}\""), why)
                .hint("write a domain as in example.org, a zone's id, or * for all zones that the token sees")
        };
        let name = text.strip_prefix("cloudflare://").unwrap_or(text).trim_end_matches(['/', '.']);
        if name.is_empty() || name == "*" {
            return Ok(Self::Any);
        }
        if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(name.to_ascii_lowercase()));
        }
        if name.contains("://") {
            return Err(wrong("it is an address of something else"));
        }
        let ascii = super::dns::ascii(name).ok_or_else(|| wrong("it is no domain"))?;
        if !ascii.contains('.') || ascii.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'.' || b == b'-')) {
            return Err(wrong("it is no domain"));
        }
        Ok(Self::Name(ascii))
    }

    /// The domain, where that is how it is named.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Display for ZoneRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "cloudflare://{name}"),
            Self::Id(id) => write!(f, "cloudflare://{id}"),
            Self::Any => f.write_str("cloudflare://"),
        }
    }
}

/// A zone as the API tells it; the rest of what it tells is in `all`.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its id.
    pub id: String,
    /// Its domain.
    pub name: String,
    /// Everything that was told.
    pub all: Value,
}

impl Zone {
    fn read(all: Value, subject: &str) -> Result<Self> {
        let text = |key: &str| all[key].as_str().map(str::to_owned);
        match (text("id"), text("name")) {
            (Some(id), Some(name)) => Ok(Self { id, name, all }),
            _ => Err(Error::new(ErrorKind::Unavailable, "read", subject.to_owned(), "the zone has no id or no name")
                .transient(false)),
        }
    }

    /// Whether the zone is on the free plan, whose batches are small.
    pub(super) fn is_free(&self) -> bool {
        self.all["plan"]["legacy_id"].as_str().is_none_or(|plan| plan == "free")
    }
}

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

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PageInfo {
    total_count: Option<usize>,
    total_pages: Option<usize>,
}

/// Words for the errors of an envelope: `Invalid API Token (code 1000)`.
fn explain(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Failed {
        errors: Vec<Fault>,
    }
    let failed: Failed = serde_json::from_slice(body).ok()?;
    words(&failed.errors)
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

/// The API with a token.
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
    /// The API at `url` ([`DEFAULT_URL`] when there is none), with a token that came from `place`. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a URL or a token that cannot be one.
    pub fn new(token: SecretString, place: impl Into<String>, url: Option<&str>) -> Result<Self> {
        let base = http::base_url(url.unwrap_or(DEFAULT_URL).trim_end_matches('/'))?;
        // 1,200 requests in five minutes for each user
        // (https://developers.cloudflare.com/fundamentals/api/reference/limits/).
        let rate = Rate::new(1200, Duration::from_secs(300));
        let settings = Settings {
            token_place: place.into(),
            rights: "the rights Zone Read and DNS Read for the zone; to restore, DNS Write",
            retry: http::Retry::from_env()?,
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
        let words = words(&faults).unwrap_or_else(|| "and does not say why".to_owned());
        // Authentication errors: 10000 and 9109 of the API, 1000 and 1001 of the tokens'.
        let kind = match faults.first().map(|f| f.code) {
            Some(10000 | 9109 | 1000 | 1001) => ErrorKind::Permission,
            _ => ErrorKind::Refused,
        };
        Err(Error::new(kind, request.operation(), request.subject(), format!("Cloudflare refused it: {words}")))
    }

    /// Sends a request whose answer is text.
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
                "the answer is not the text that it should be",
            )
            .hint("a proxy alters the API's answers: check the API's URL")),
        }
    }

    /// Reads a list to its last page. One that changes while it is read is read again.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it goes on changing.
    pub(super) async fn list(&self, first: &Request, page: usize, cancel: &CancellationToken) -> Result<Vec<Value>> {
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tracing::info!(what = first.subject(), why, "the list changed while it was read: reading it again");
            }
            match self.list_once(first, page, cancel).await? {
                Ok(all) => return Ok(all),
                Err(changed) => why = changed,
            }
        }
        let message = format!("it changed while it was read, {ATTEMPTS} times: {why}");
        Err(Error::new(ErrorKind::Unavailable, first.operation(), first.subject(), message)
            .hint("something edits it without pause: try again when that has ended"))
    }

    async fn list_once(
        &self,
        first: &Request,
        per_page: usize,
        cancel: &CancellationToken,
    ) -> Result<Result<Vec<Value>, String>> {
        let (mut all, mut ids) = (Vec::new(), std::collections::HashSet::new());
        let mut total = None;
        for number in 1.. {
            let request = first.clone().query("page", number).query("per_page", per_page);
            let envelope = self.envelope(&request, cancel).await?;
            let Value::Array(page) = envelope.result else {
                let message = "the answer has no list";
                return Err(
                    Error::new(ErrorKind::Unavailable, first.operation(), first.subject(), message).transient(false)
                );
            };
            let info = envelope.result_info.unwrap_or_default();
            let came = page.len();
            for item in page {
                if let Some(id) = item["id"].as_str()
                    && !ids.insert(id.to_owned())
                {
                    return Ok(Err(format!("{id} came twice")));
                }
                all.push(item);
            }
            if all.len() > MOST {
                let message = format!("it has more than {MOST} entries");
                return Err(Error::new(ErrorKind::Unsupported, first.operation(), first.subject(), message));
            }
            if let (Some(before), Some(now)) = (total, info.total_count)
                && before != now
            {
                return Ok(Err(format!("{before} entries at first, {now} on page {number}")));
            }
            total = total.or(info.total_count);
            let is_last = match info.total_pages {
                Some(pages) => number >= pages,
                None => total.is_none_or(|total| all.len() >= total),
            };
            if is_last || came == 0 {
                break;
            }
        }
        match total {
            Some(total) if total != all.len() => Ok(Err(format!("{total} entries announced, {} read", all.len()))),
            _ => Ok(Ok(all)),
        }
    }

    /// Every zone that the token sees, in the order of their names.
    ///
    /// # Errors
    /// What the API says.
    pub async fn zones(&self, cancel: &CancellationToken) -> Result<Vec<Zone>> {
        // The most that this list has on a page.
        let request = Request::get(["zones"], "list", "the zones of the token").query("order", "name");
        let mut zones = self
            .list(&request, 50, cancel)
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
    /// [`ErrorKind::NotFound`] when the token sees no such zone.
    pub async fn zone(&self, zone: &ZoneRef, cancel: &CancellationToken) -> Result<Zone> {
        let subject = zone.to_string();
        match zone {
            ZoneRef::Id(id) => {
                let request = Request::get(["zones", id], "find", subject.clone());
                Zone::read(self.call(&request, cancel).await?, &subject)
            }
            ZoneRef::Name(name) => {
                let request = Request::get(["zones"], "find", subject.clone()).query("name", name);
                let found = self.list(&request, 50, cancel).await?;
                match found.into_iter().next() {
                    Some(zone) => Zone::read(zone, &subject),
                    None => Err(Error::new(ErrorKind::NotFound, "find", subject, "the token sees no such zone").hint(
                        "is the domain right, and may the token read that zone? In a new account the zone has to be added \
                         first, in the dashboard",
                    )),
                }
            }
            ZoneRef::Any => {
                let mut zones = self.zones(cancel).await?;
                match zones.len() {
                    1 => Ok(zones.remove(0)),
                    0 => Err(Error::new(ErrorKind::NotFound, "find", "a zone", "the token sees none")
                        .hint("give the token the right Zone Read for the zone")),
                    n => Err(Error::new(ErrorKind::Config, "choose", "the zone", format!("the token sees {n}"))
                        .hint("name one of them")),
                }
            }
        }
    }

    /// Every record of a zone, as the API tells them, in the API's order.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn records(&self, zone: &Zone, cancel: &CancellationToken) -> Result<Vec<Value>> {
        let request = Request::get(["zones", &zone.id, "dns_records"], "read the records of", zone.name.clone())
            .query("order", "name")
            .query("direction", "asc");
        self.list(&request, PAGE, cancel).await
    }

    /// What the API says of the token: `active`, `disabled` or `expired`, and until when.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] for a token that it does not know.
    pub(super) async fn verify_token(&self, cancel: &CancellationToken) -> Result<TokenState> {
        let request = Request::get(["user", "tokens", "verify"], "verify", self.client.settings().token_place.clone());
        let state = self.call(&request, cancel).await?;
        serde_json::from_value(state).map_err(|_| {
            Error::new(ErrorKind::Unavailable, "verify", "the token", "the answer has another shape").transient(false)
        })
    }
}

/// What the API says of a token.
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
    fn zones_are_named_by_domain_or_id() {
        let id = "023E105F4ECEF8AD9CA31A8372D0C353";
        assert_eq!(ZoneRef::parse("cloudflare://Example.org/").unwrap(), ZoneRef::Name("example.org".to_owned()));
        assert_eq!(ZoneRef::parse("bücher.example").unwrap(), ZoneRef::Name("xn--bcher-kva.example".to_owned()));
        assert_eq!(ZoneRef::parse(id).unwrap(), ZoneRef::Id(id.to_lowercase()));
        for any in ["*", "cloudflare://", ""] {
            assert_eq!(ZoneRef::parse(any).unwrap(), ZoneRef::Any);
        }
        for wrong in ["postgres://x/y", "example", "exa mple.org", "a/b.org"] {
            assert_eq!(ZoneRef::parse(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
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
