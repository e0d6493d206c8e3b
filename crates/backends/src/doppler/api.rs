//! The part of Doppler's API v3 that is needed: <https://docs.doppler.com/reference/api>.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_core::{Error, ErrorKind, Result};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::secret::Secret;
use crate::http::{Client, Rate, Request, Response, Retry, Settings, base_url};

/// The default URL of Doppler's API.
pub const API_URL: &str = "https://api.doppler.com";

/// The number of projects or configs per page.
const PAGE: usize = 100;
/// The largest number of pages read before the list is considered broken.
const MOST_PAGES: usize = 1000;
/// How often a list that changes while it is read is read again.
const MOST_WALKS: usize = 4;

/// A connection to Doppler: a token and the URL of the API.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
}

/// Which config. A service token implies both fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The project's name (its slug).
    pub project: Option<String>,
    /// The config's name.
    pub config: Option<String>,
}

impl Scope {
    /// Creates the scope of a config.
    pub fn of(project: impl Into<String>, config: impl Into<String>) -> Self {
        Self { project: Some(project.into()), config: Some(config.into()) }
    }

    /// Parses the name of a dataset: `<project>.<config>`.
    pub fn of_dataset(name: &str) -> Option<Self> {
        let (project, config) = name.rsplit_once('.')?;
        Some(Self::of(project, config))
    }

    /// The name of its dataset: `<project>.<config>`.
    pub fn dataset(&self) -> String {
        [&self.project, &self.config].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        match (&self.project, &self.config) {
            (Some(project), Some(config)) => format!("config {config} of project {project}"),
            (Some(project), None) => format!("project {project}"),
            (None, Some(config)) => format!("config {config} of the token's project"),
            (None, None) => "the token's config".to_owned(),
        }
    }
}

/// Who a token is (`GET /v3/me`).
#[derive(Debug, Deserialize)]
pub(super) struct Me {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) workplace: Option<Workplace>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Workplace {
    #[serde(default)]
    pub(super) name: Option<String>,
}

/// A config, as returned in lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct ConfigInfo {
    pub(super) name: String,
    #[serde(default)]
    pub(super) project: Option<String>,
    #[serde(default)]
    pub(super) locked: bool,
}

/// One change of an upload (`change_requests` of `POST /v3/configs/config/secrets`). It includes the value at the time
/// of the plan, so that Doppler refuses it if the secret has changed since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangeRequest<'a> {
    pub(super) name: &'a str,
    pub(super) original_name: Option<&'a str>,
    pub(super) value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visibility: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_type: Option<&'a serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) original_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) original_visibility: Option<&'a str>,
    pub(super) should_delete: bool,
}

#[derive(Deserialize)]
struct Secrets {
    secrets: BTreeMap<String, Secret>,
}

#[derive(Deserialize)]
struct Names {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    slug: Option<String>,
    name: String,
}

#[derive(Deserialize)]
struct Projects {
    projects: Vec<Project>,
    page: Option<usize>,
}

#[derive(Deserialize)]
struct Configs {
    configs: Vec<ConfigInfo>,
    page: Option<usize>,
}

#[derive(Deserialize)]
struct OneConfig {
    config: ConfigInfo,
}

/// The envelope of an error; a successful response may have it as well.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    messages: Option<Vec<String>>,
}

fn explain(body: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    Some(envelope.messages?.join("; "))
}

impl Connection {
    /// Creates a connection. `place` says where the token came from, for messages; `api_url` is Doppler's own when it is `None`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid token or URL.
    pub fn new(token: SecretString, place: &str, api_url: Option<&str>) -> Result<Self> {
        let base: Url = base_url(api_url.unwrap_or(API_URL))?;
        // Limits depend on the plan; 429 with Retry-After is honoured in any case.
        let rate = Rate::new(120, Duration::from_secs(60));
        let settings = Settings {
            token_place: place.to_owned(),
            rights: "access to this project and config (read, and write to restore)",
            retry: Retry::from_env()?,
            ..Settings::new("Doppler", base, token, rate, explain)
        };
        Ok(Self { client: Client::new(settings)? })
    }

    /// The kind of token according to its prefix, without asking Doppler.
    pub(super) fn kind_by_prefix(&self) -> Option<&'static str> {
        let token = self.client.settings().token.expose_secret();
        [
            ("dp.st.", "service token"),
            ("dp.sa.", "service account token"),
            ("dp.said.", "service account identity token"),
            ("dp.pt.", "personal token"),
            ("dp.ct.", "CLI token"),
            ("dp.scim.", "SCIM token"),
            ("dp.audit.", "audit token"),
        ]
        .into_iter()
        .find_map(|(prefix, kind)| token.starts_with(prefix).then_some(kind))
    }

    /// The URL of the API.
    pub fn api_url(&self) -> String {
        self.client.settings().base.to_string().trim_end_matches('/').to_owned()
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request, cancel: &CancellationToken) -> Result<T> {
        let response = self.send(request, cancel).await?;
        self.client.read(request, &response)
    }

    /// Sends a request. A response with `success: false` is an error even if its status is good.
    async fn send(&self, request: &Request, cancel: &CancellationToken) -> Result<Response> {
        let response = self.client.send(request, cancel).await.map_err(explain_lock)?;
        match serde_json::from_slice::<Envelope>(response.body()) {
            Ok(Envelope { success: Some(false), messages }) => {
                let words = messages.unwrap_or_default().join("; ");
                let why = format!("Doppler reports a failure: {words}");
                Err(Error::new(ErrorKind::Refused, request.operation(), request.subject(), why))
            }
            _ => Ok(response),
        }
    }

    pub(super) async fn me(&self, cancel: &CancellationToken) -> Result<Me> {
        self.ask(&Request::get(["v3", "me"], "ask Doppler about", "the token"), cancel).await
    }

    /// Reads every secret of a config, except dynamic ones: reading those would create leases.
    pub(super) async fn secrets(&self, scope: &Scope, cancel: &CancellationToken) -> Result<BTreeMap<String, Secret>> {
        let request = scoped(["v3", "configs", "config", "secrets"], Method::GET, "read the secrets of", scope)
            .query("include_dynamic_secrets", false);
        Ok(self.ask::<Secrets>(&request, cancel).await?.secrets)
    }

    /// The names alone.
    pub(super) async fn names(&self, scope: &Scope, cancel: &CancellationToken) -> Result<BTreeSet<String>> {
        let path = ["v3", "configs", "config", "secrets", "names"];
        let request = scoped(path, Method::GET, "list the secrets of", scope).query("include_dynamic_secrets", false);
        Ok(self.ask::<Names>(&request, cancel).await?.names.into_iter().collect())
    }

    pub(super) async fn config(&self, scope: &Scope, cancel: &CancellationToken) -> Result<ConfigInfo> {
        let request = scoped(["v3", "configs", "config"], Method::GET, "look at", scope);
        Ok(self.ask::<OneConfig>(&request, cancel).await?.config)
    }

    /// Finds the project and config that a service token implies.
    pub(super) async fn resolve(&self, scope: &Scope, cancel: &CancellationToken) -> Result<(String, String)> {
        if let (Some(project), Some(config)) = (&scope.project, &scope.config) {
            return Ok((project.clone(), config.clone()));
        }
        // Doppler puts these two into every config. They are no secrets.
        let request = scoped(["v3", "configs", "config", "secrets"], Method::GET, "read the name of", scope)
            .query("secrets", "DOPPLER_PROJECT,DOPPLER_CONFIG")
            .query("include_dynamic_secrets", false);
        let found = self.ask::<Secrets>(&request, cancel).await?.secrets;
        let value = |name: &str| found.get(name).and_then(Secret::value).map(str::to_owned);
        let project = scope.project.clone().or_else(|| value("DOPPLER_PROJECT"));
        let config = scope.config.clone().or_else(|| value("DOPPLER_CONFIG"));
        project.zip(config).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "find",
                scope.name(),
                "the token does not say which project and config it belongs to",
            )
            .hint("name them, as in --from doppler://PROJECT/CONFIG, or project and config of the job")
        })
    }

    /// The projects that the token sees.
    pub(super) async fn projects(&self, cancel: &CancellationToken) -> Result<Vec<String>> {
        let request =
            |page| Request::get(["v3", "projects"], "list", "the projects").query("page", page).query("per_page", PAGE);
        let read = |found: Projects| {
            let names = found.projects.into_iter().map(|p| p.slug.unwrap_or(p.name)).map(|name| (name, ()));
            (names.collect(), found.page)
        };
        Ok(self.every(cancel, request, read).await?.into_keys().collect())
    }

    /// The configs of a project.
    pub(super) async fn configs(&self, project: &str, cancel: &CancellationToken) -> Result<Vec<ConfigInfo>> {
        let request = |page| {
            Request::get(["v3", "configs"], "list the configs of", format!("project {project}"))
                .query("project", project)
                .query("page", page)
                .query("per_page", PAGE)
        };
        let read = |found: Configs| {
            let configs = found.configs.into_iter().map(|config| (config.name.clone(), config));
            (configs.collect(), found.page)
        };
        Ok(self.every(cancel, request, read).await?.into_values().collect())
    }

    /// Reads a whole list, by name. The API returns no total, so only an empty page is the end: a page with fewer
    /// entries than requested may merely be short. A list of several pages is read until two readings agree, because
    /// entries created or deleted meanwhile shift the rest between pages.
    async fn every<T: DeserializeOwned, I: PartialEq>(
        &self,
        cancel: &CancellationToken,
        request: impl Fn(usize) -> Request,
        read: impl Fn(T) -> (Vec<(String, I)>, Option<usize>),
    ) -> Result<BTreeMap<String, I>> {
        let mut before: Option<BTreeMap<String, I>> = None;
        let mut why = String::new();
        for _ in 0..MOST_WALKS {
            match self.walk(cancel, &request, &read).await? {
                Ok((found, pages)) if pages <= 1 || before.as_ref() == Some(&found) => return Ok(found),
                Ok((found, _)) => before = Some(found),
                Err(repeated) => (before, why) = (None, format!(": {repeated} came twice")),
            }
        }
        let request = request(1);
        let why = format!("the list changed {MOST_WALKS} times while it was read{why}");
        Err(Error::new(ErrorKind::Unavailable, request.operation(), request.subject(), why)
            .hint("try again later; if this persists, a proxy repeats pages: check the API's URL"))
    }

    /// Reads every page once, and returns how many there were, or which name came twice.
    async fn walk<T: DeserializeOwned, I>(
        &self,
        cancel: &CancellationToken,
        request: &impl Fn(usize) -> Request,
        read: &impl Fn(T) -> (Vec<(String, I)>, Option<usize>),
    ) -> Result<Result<(BTreeMap<String, I>, usize), String>> {
        let mut found = BTreeMap::new();
        for number in 1..=MOST_PAGES {
            let request = request(number);
            let (page, told) = read(self.ask::<T>(&request, cancel).await?);
            if let Some(told) = told.filter(|told| *told != number) {
                let why = format!("page {number} was requested, but page {told} came: the list may be incomplete");
                return Err(Error::new(ErrorKind::Unavailable, request.operation(), request.subject(), why)
                    .transient(false)
                    .hint("a proxy alters the API's answers, or the API has changed: check the API's URL"));
            }
            if page.is_empty() {
                return Ok(Ok((found, number - 1)));
            }
            for (name, item) in page {
                if found.insert(name.clone(), item).is_some() {
                    return Ok(Err(name));
                }
            }
        }
        let request = request(MOST_PAGES);
        let why = format!("there are more than {MOST_PAGES} pages");
        Err(Error::new(ErrorKind::Unsupported, request.operation(), request.subject(), why))
    }

    /// Uploads changes, all or none of them. Repeating the request fails instead of undoing changes made in between.
    pub(super) async fn change(
        &self,
        scope: &Scope,
        changes: &[ChangeRequest<'_>],
        cancel: &CancellationToken,
    ) -> Result<()> {
        #[derive(Serialize)]
        struct Upload<'a> {
            change_requests: &'a [ChangeRequest<'a>],
        }
        let path = ["v3", "configs", "config", "secrets"];
        let request =
            scoped(path, Method::POST, "upload secrets to", scope).json(&Upload { change_requests: changes })?;
        let sent = self.send(&request, cancel).await;
        sent.map(drop).map_err(|error| without(error, changes.iter().flat_map(|c| [c.value, c.original_value])))
    }

    /// Sets the note of a secret, which belongs to the project.
    pub(super) async fn set_note(
        &self,
        project: &str,
        secret: &str,
        note: &str,
        cancel: &CancellationToken,
    ) -> Result<()> {
        #[derive(Serialize)]
        struct Note<'a> {
            secret: &'a str,
            note: &'a str,
        }
        let path = ["v3", "projects", "project", "note"];
        let request = Request::new(Method::POST, path, "set the note of", format!("{secret} in project {project}"))
            .query("project", project)
            .json(&Note { secret, note })?
            .repeatable(true);
        self.send(&request, cancel).await.map(drop).map_err(|error| without(error, [Some(note)]))
    }
}

fn scoped<'a>(
    path: impl IntoIterator<Item = &'a str>,
    method: Method,
    operation: &'static str,
    scope: &Scope,
) -> Request {
    let mut request = Request::new(method, path, operation, scope.name());
    for (name, value) in [("project", &scope.project), ("config", &scope.config)] {
        if let Some(value) = value {
            request = request.query(name, value);
        }
    }
    request
}

/// Explains a refusal because of a locked config, which looks like one because of missing rights.
fn explain_lock(error: Error) -> Error {
    if error.kind() != ErrorKind::Permission || !error.message().contains("locked") {
        return error;
    }
    Error::new(ErrorKind::Refused, error.operation().to_owned(), error.subject(), error.message())
        .hint("the config is locked: unlock it in Doppler's dashboard, or restore into another config")
}

/// Removes these texts from an error, in case the API has repeated one.
fn without<'a>(error: Error, secrets: impl IntoIterator<Item = Option<&'a str>>) -> Error {
    let mut message = error.message().to_owned();
    for secret in secrets.into_iter().flatten().filter(|s| s.len() > 3) {
        // What the message has of a long value, it has cut and put into one line.
        let line: String = secret.chars().map(|c| if c.is_control() { ' ' } else { c }).take(32).collect();
        for text in [secret, line.trim()] {
            if message.contains(text) {
                message = message.replace(text, "…");
            }
        }
    }
    error.reworded(message).without_source()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_the_api_repeats_is_in_no_error() {
        let error = Error::new(ErrorKind::Refused, "upload", "x", "invalid value \"hunter2-and more\" for A").hint("h");
        let shown = without(error, [None, Some("hunter2-and more"), Some("A")]);
        assert_eq!((shown.message(), shown.advice()), ("invalid value \"…\" for A", Some("h")));
    }

    #[test]
    fn the_name_of_a_dataset_says_which_config() {
        assert_eq!(Scope::of_dataset("my.app.dev_personal"), Some(Scope::of("my.app", "dev_personal")));
        assert_eq!(Scope::of_dataset("secrets"), None);
    }
}
