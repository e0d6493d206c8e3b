//! An imitation of Doppler's API v3, written from its reference (<https://docs.doppler.com/reference/api>) and from what its
//! own command line sends; it shares no code with Lifeboat's client.
//!
//! It is strict: unknown or missing parameters and absurd page numbers are refused as by the API, in its envelope
//! `{"messages": […], "success": false}`. Restricted values are `null`. `change_requests` are applied completely or not
//! at all, and only if the previous values that they state are still current.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::http_api::{Api, Request, Response, Server};

/// What a token may do.
#[derive(Clone, Debug)]
pub enum Access {
    /// Read one config.
    ServiceRead(&'static str, &'static str),
    /// Read and write one config.
    ServiceWrite(&'static str, &'static str),
    /// Everything.
    Personal,
    /// It has expired.
    Expired,
}

#[derive(Clone, Debug)]
struct Stored {
    raw: String,
    visibility: String,
    kind: String,
}

#[derive(Clone, Debug, Default)]
struct Config {
    locked: bool,
    secrets: BTreeMap<String, Stored>,
}

#[derive(Clone, Debug, Default)]
struct Project {
    configs: BTreeMap<String, Config>,
    notes: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    tokens: BTreeMap<String, Access>,
    projects: BTreeMap<String, Project>,
}

/// The imitation. Cheap to clone: clones share what they hold.
#[derive(Clone, Default)]
pub struct FakeDoppler(Arc<Mutex<State>>);

impl FakeDoppler {
    /// Creates a server with these tokens and nothing else.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, Access)>) -> Self {
        let tokens = tokens.into_iter().map(|(token, access)| (token.to_owned(), access)).collect();
        Self(Arc::new(Mutex::new(State { tokens, ..State::default() })))
    }

    /// Serves it.
    pub fn serve(&self) -> Server {
        Server::start(Arc::new(self.clone()))
    }

    fn with_config<T>(&self, project: &str, config: &str, change: impl FnOnce(&mut Config) -> T) -> T {
        let mut state = self.0.lock().unwrap();
        let project = state.projects.entry(project.to_owned()).or_default();
        change(project.configs.entry(config.to_owned()).or_default())
    }

    /// Sets a secret; makes project and config where they are missing.
    pub fn set(&self, project: &str, config: &str, name: &str, raw: &str, visibility: &str) -> &Self {
        let secret = Stored { raw: raw.to_owned(), visibility: visibility.to_owned(), kind: "string".to_owned() };
        self.with_config(project, config, |c| c.secrets.insert(name.to_owned(), secret));
        self
    }

    /// Sets a secret's type, as `json`.
    pub fn set_kind(&self, project: &str, config: &str, name: &str, kind: &str) {
        self.with_config(project, config, |c| c.secrets.get_mut(name).unwrap().kind = kind.to_owned());
    }

    /// Sets a note.
    pub fn note(&self, project: &str, name: &str, note: &str) -> &Self {
        let mut state = self.0.lock().unwrap();
        state.projects.entry(project.to_owned()).or_default().notes.insert(name.to_owned(), note.to_owned());
        self
    }

    /// Locks or unlocks a config.
    pub fn lock(&self, project: &str, config: &str, locked: bool) {
        self.with_config(project, config, |c| c.locked = locked);
    }

    /// Deletes a secret.
    pub fn remove(&self, project: &str, config: &str, name: &str) {
        self.with_config(project, config, |c| c.secrets.remove(name));
    }

    /// Deletes every secret of a config, and the project's notes.
    pub fn wipe(&self, project: &str, config: &str) {
        self.with_config(project, config, |c| c.secrets.clear());
        self.0.lock().unwrap().projects.get_mut(project).unwrap().notes.clear();
    }

    /// What a config holds: name → (raw value, visibility, type, note).
    pub fn content(&self, project: &str, config: &str) -> BTreeMap<String, (String, String, String, String)> {
        let state = self.0.lock().unwrap();
        let project = &state.projects[project];
        let note = |name: &str| project.notes.get(name).cloned().unwrap_or_default();
        let secrets = &project.configs[config].secrets;
        secrets
            .iter()
            .map(|(n, s)| (n.clone(), (s.raw.clone(), s.visibility.clone(), s.kind.clone(), note(n))))
            .collect()
    }
}

fn fail(status: u16, message: impl Into<String>) -> Response {
    Response::json(status, &json!({ "messages": [message.into()], "success": false }))
}

type Answer = Result<Response, Response>;

impl Api for FakeDoppler {
    fn answer(&self, request: &Request) -> Response {
        let id = hex::encode(&Sha256::digest(request.line.as_bytes())[..8]);
        self.route(request).unwrap_or_else(|refused| refused).header("x-request-id", id)
    }
}

const SCOPE: [&str; 2] = ["project", "config"];

impl FakeDoppler {
    fn route(&self, request: &Request) -> Answer {
        let mut state = self.0.lock().unwrap();
        let token = request.bearer().ok_or_else(|| fail(401, "Please provide a valid auth token"))?;
        let access = match state.tokens.get(token) {
            None => return Err(fail(401, "Invalid Auth token")),
            Some(Access::Expired) => return Err(fail(401, "This auth token has expired")),
            Some(access) => access.clone(),
        };
        let path = request.path.as_str();
        match (request.method.as_str(), path) {
            ("GET", "/v3/me") => {
                known(request, &[])?;
                let kind = match access {
                    Access::Personal => "personal",
                    _ => "service_token",
                };
                Ok(Response::json(
                    200,
                    &json!({
                        "workplace": { "name": "Example", "slug": "abc123" }, "type": kind, "token_preview": "dp…xyz",
                        "slug": "0000-1111", "created_at": "2026-01-01T00:00:00.000Z", "name": "backups",
                        "last_seen_at": "2026-11-21T00:00:00.000Z",
                    }),
                ))
            }
            ("GET", "/v3/projects") => {
                known(request, &["page", "per_page"])?;
                everything(&access)?;
                let all: Vec<Value> = state
                    .projects
                    .keys()
                    .map(|slug| {
                        json!({ "id": slug, "slug": slug, "name": slug, "description": "", "created_at": "2026-01-01T00:00:00.000Z" })
                    })
                    .collect();
                page(request, "projects", &all)
            }
            ("GET", "/v3/configs") => {
                known(request, &["project", "environment", "page", "per_page"])?;
                everything(&access)?;
                let slug = request.param("project").ok_or_else(|| fail(400, "Missing required parameter: project"))?;
                let project = state.projects.get(slug).ok_or_else(|| no_project(slug))?;
                let all: Vec<Value> =
                    project.configs.iter().map(|(name, config)| config_info(slug, name, config)).collect();
                page(request, "configs", &all)
            }
            ("GET", "/v3/configs/config") => {
                known(request, &SCOPE)?;
                let (project, name) = scope(request, &access)?;
                let config = find(&mut state, &project, &name)?;
                Ok(Response::json(200, &json!({ "config": config_info(&project, &name, config), "success": true })))
            }
            ("GET", "/v3/configs/config/secrets") => {
                known(
                    request,
                    &[
                        "project",
                        "config",
                        "include_dynamic_secrets",
                        "dynamic_secrets_ttl_sec",
                        "secrets",
                        "include_managed_secrets",
                    ],
                )?;
                let (project, config) = scope(request, &access)?;
                find(&mut state, &project, &config)?;
                let wanted: Option<Vec<&str>> = request.param("secrets").map(|s| s.split(',').collect());
                let secrets: Map<String, Value> = listing(&state, &project, &config)
                    .into_iter()
                    .filter(|(name, _)| wanted.as_ref().is_none_or(|w| w.contains(&name.as_str())))
                    .collect();
                Ok(Response::json(200, &json!({ "secrets": secrets })))
            }
            ("GET", "/v3/configs/config/secrets/names") => {
                known(request, &["project", "config", "include_dynamic_secrets", "include_managed_secrets"])?;
                let (project, config) = scope(request, &access)?;
                find(&mut state, &project, &config)?;
                let names: Vec<String> = listing(&state, &project, &config).into_iter().map(|(name, _)| name).collect();
                Ok(Response::json(200, &json!({ "names": names })))
            }
            ("GET", "/v3/configs/config/secrets/download") => {
                known(
                    request,
                    &["project", "config", "format", "include_dynamic_secrets", "secrets", "name_transformer"],
                )?;
                let (project, config) = scope(request, &access)?;
                find(&mut state, &project, &config)?;
                if request.param("format").unwrap_or("json") != "json" {
                    return Err(fail(400, "Invalid format"));
                }
                let flat: Map<String, Value> = listing(&state, &project, &config)
                    .into_iter()
                    .filter(|(_, secret)| !secret["computed"].is_null())
                    .map(|(name, secret)| (name, secret["computed"].clone()))
                    .collect();
                let response = Response::json(200, &Value::Object(flat));
                let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&response.body)[..16]));
                if request.header("if-none-match") == Some(&tag) {
                    return Ok(Response::new(304, "application/json", "").header("ETag", tag));
                }
                Ok(response.header("ETag", tag))
            }
            ("POST", "/v3/configs/config/secrets") => {
                known(request, &SCOPE)?;
                let (project, name) = scope(request, &access)?;
                writable(&access)?;
                let config = find(&mut state, &project, &name)?;
                if config.locked {
                    return Err(fail(403, "This config is locked and its secrets cannot be changed"));
                }
                let body = request.json().ok_or_else(|| fail(400, "Invalid JSON"))?;
                let changed = match (body.get("secrets"), body.get("change_requests")) {
                    (Some(secrets), None) => set_all(config, secrets)?,
                    (None, Some(changes)) => change_all(config, changes)?,
                    _ => return Err(fail(400, "Specify either secrets or change_requests")),
                };
                *config = changed;
                let secrets: Map<String, Value> = listing(&state, &project, &name).into_iter().collect();
                Ok(Response::json(200, &json!({ "secrets": secrets, "success": true })))
            }
            ("POST", "/v3/projects/project/note") => {
                known(request, &["project"])?;
                writable(&access)?;
                let slug = request.param("project").ok_or_else(|| fail(400, "Missing required parameter: project"))?;
                let project = state.projects.get_mut(slug).ok_or_else(|| no_project(slug))?;
                let body = request.json().unwrap_or_default();
                let (Some(secret), Some(note)) = (body["secret"].as_str(), body["note"].as_str()) else {
                    return Err(fail(400, "secret and note are required"));
                };
                if !project.configs.values().any(|c| c.secrets.contains_key(secret)) {
                    return Err(fail(404, "Could not find requested secret"));
                }
                project.notes.insert(secret.to_owned(), note.to_owned());
                Ok(Response::json(200, &json!({ "secret": secret, "note": note })))
            }
            _ => Err(fail(404, "Could not find requested route")),
        }
    }
}

fn known(request: &Request, names: &[&str]) -> Result<(), Response> {
    match request.unknown_param(names) {
        Some(unknown) => Err(fail(400, format!("Unrecognized parameter: {unknown}"))),
        None => Ok(()),
    }
}

fn no_project(slug: &str) -> Response {
    fail(404, format!("Could not find requested project '{slug}'"))
}

/// Whether a token may see more than one config.
fn everything(access: &Access) -> Result<(), Response> {
    match access {
        Access::Personal => Ok(()),
        _ => Err(fail(403, "This token does not have access to the requested resource")),
    }
}

fn writable(access: &Access) -> Result<(), Response> {
    match access {
        Access::ServiceRead(..) => Err(fail(403, "This token does not have write access to the requested config")),
        _ => Ok(()),
    }
}

/// The config of a request: a service token's own, or the one that is named.
fn scope(request: &Request, access: &Access) -> Result<(String, String), Response> {
    let named = (request.param("project"), request.param("config"));
    match (access, named) {
        (Access::ServiceRead(p, c) | Access::ServiceWrite(p, c), (project, config)) => {
            if project.is_some_and(|n| n != *p) || config.is_some_and(|n| n != *c) {
                return Err(fail(403, "This token does not have access to the requested config"));
            }
            Ok(((*p).to_owned(), (*c).to_owned()))
        }
        (_, (Some(project), Some(config))) => Ok((project.to_owned(), config.to_owned())),
        (_, (None, _)) => Err(fail(400, "You must provide a project")),
        (_, (_, None)) => Err(fail(400, "You must provide a config")),
    }
}

fn find<'a>(state: &'a mut State, project: &str, config: &str) -> Result<&'a mut Config, Response> {
    let found = state.projects.get_mut(project).ok_or_else(|| no_project(project))?;
    found.configs.get_mut(config).ok_or_else(|| fail(404, format!("Could not find requested config '{config}'")))
}

fn config_info(project: &str, name: &str, config: &Config) -> Value {
    json!({
        "name": name, "root": true, "locked": config.locked, "environment": name, "project": project,
        "created_at": "2026-01-01T00:00:00.000Z", "initial_fetch_at": null, "last_fetch_at": null,
        "inheritable": false, "inherits": [], "inheritedBy": [],
    })
}

fn page(request: &Request, key: &str, all: &[Value]) -> Answer {
    let number = |name: &str, default: usize| match request.param(name) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| fail(400, format!("Invalid {name}"))),
    };
    let (page, size) = (number("page", 1)?, number("per_page", 20)?);
    if size > 100 {
        return Err(fail(400, "per_page must not be more than 100"));
    }
    let items: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
    Ok(Response::json(200, &json!({ key: items, "page": page, "success": true })))
}

/// The secrets of a config in the API's shape, with those that Doppler adds.
fn listing(state: &State, project: &str, config: &str) -> Vec<(String, Value)> {
    let found = &state.projects[project];
    let mut all: BTreeMap<String, Value> = found.configs[config]
        .secrets
        .iter()
        .map(|(name, secret)| {
            let restricted = secret.visibility == "restricted";
            let value = |text: String| if restricted { Value::Null } else { Value::String(text) };
            let shown = json!({
                "raw": value(secret.raw.clone()),
                "computed": value(compute(state, project, config, &secret.raw, 8)),
                "rawVisibility": secret.visibility, "computedVisibility": secret.visibility,
                "rawValueType": { "type": secret.kind }, "computedValueType": { "type": secret.kind },
                "note": found.notes.get(name).cloned().unwrap_or_default(),
            });
            (name.clone(), shown)
        })
        .collect();
    for (name, value) in [("DOPPLER_PROJECT", project), ("DOPPLER_CONFIG", config), ("DOPPLER_ENVIRONMENT", config)] {
        let shown = json!({
            "raw": value, "computed": value, "rawVisibility": "unmasked", "computedVisibility": "unmasked",
            "rawValueType": { "type": "string" }, "computedValueType": { "type": "string" }, "note": "",
        });
        all.insert(name.to_owned(), shown);
    }
    all.into_iter().collect()
}

/// Resolves `${NAME}`, `${config.NAME}` and `${project.config.NAME}`.
fn compute(state: &State, project: &str, config: &str, raw: &str, depth: usize) -> String {
    let mut out = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        out += before;
        let Some((reference, after)) = after.split_once('}') else {
            out += "${";
            rest = after;
            continue;
        };
        let parts: Vec<&str> = reference.split('.').collect();
        let (p, c, n) = match parts[..] {
            [n] => (project, config, n),
            [c, n] => (project, c, n),
            [p, c, n] => (p, c, n),
            _ => ("", "", ""),
        };
        let found = state.projects.get(p).and_then(|p| p.configs.get(c)).and_then(|c| c.secrets.get(n));
        match found {
            Some(secret) if depth > 0 => out += &compute(state, p, c, &secret.raw, depth - 1),
            _ => out += &format!("${{{reference}}}"),
        }
        rest = after;
    }
    out + rest
}

fn name_fits(name: &str) -> Result<(), Response> {
    let good = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !good {
        return Err(fail(400, format!("Invalid secret name '{name}'")));
    }
    if name.starts_with("DOPPLER_") {
        return Err(fail(400, format!("'{name}' is reserved by Doppler")));
    }
    Ok(())
}

/// `{"secrets": {"NAME": "value" or null}}`.
fn set_all(config: &Config, secrets: &Value) -> Result<Config, Response> {
    let mut changed = config.clone();
    for (name, value) in secrets.as_object().ok_or_else(|| fail(400, "secrets must be an object"))? {
        name_fits(name)?;
        match value {
            Value::Null => drop(changed.secrets.remove(name)),
            Value::String(text) => {
                let old = changed.secrets.get(name);
                let visibility = old.map_or("masked", |s| &s.visibility).to_owned();
                let kind = old.map_or("string", |s| &s.kind).to_owned();
                changed.secrets.insert(name.clone(), Stored { raw: text.clone(), visibility, kind });
            }
            _ => return Err(fail(400, format!("Invalid value for '{name}'"))),
        }
    }
    Ok(changed)
}

const FIELDS: [&str; 10] = [
    "name",
    "originalName",
    "value",
    "originalValue",
    "visibility",
    "originalVisibility",
    "valueType",
    "shouldDelete",
    "shouldPromote",
    "shouldConverge",
];

/// `{"change_requests": […]}`.
fn change_all(config: &Config, changes: &Value) -> Result<Config, Response> {
    let mut changed = config.clone();
    for change in changes.as_array().ok_or_else(|| fail(400, "change_requests must be an array"))? {
        let fields = change.as_object().ok_or_else(|| fail(400, "Invalid change request"))?;
        if let Some(unknown) = fields.keys().find(|f| !FIELDS.contains(&f.as_str())) {
            return Err(fail(400, format!("Unrecognized field: {unknown}")));
        }
        let name = change["name"].as_str().ok_or_else(|| fail(400, "name is required"))?;
        name_fits(name)?;
        let original = change["originalName"].as_str();
        let old = match original {
            Some(original) => Some(
                changed
                    .secrets
                    .remove(original)
                    .ok_or_else(|| fail(409, format!("Secret '{original}' has been changed since it was read")))?,
            ),
            None if changed.secrets.contains_key(name) => {
                return Err(fail(409, format!("Secret '{name}' exists already")));
            }
            None => None,
        };
        if let (Some(old), Some(then)) = (&old, change["originalValue"].as_str())
            && old.raw != then
        {
            return Err(fail(409, format!("Secret '{name}' has been changed since it was read")));
        }
        if change["shouldDelete"].as_bool() == Some(true) {
            continue;
        }
        let raw = change["value"].as_str().ok_or_else(|| fail(400, format!("Invalid value for '{name}'")))?;
        let visibility = match (change["visibility"].as_str(), &old) {
            (Some(v @ ("masked" | "unmasked" | "restricted")), _) => v.to_owned(),
            (Some(_), _) => return Err(fail(400, "Invalid visibility")),
            (None, Some(old)) => old.visibility.clone(),
            (None, None) => "masked".to_owned(),
        };
        let kind = match (change["valueType"]["type"].as_str(), &old) {
            (Some(kind), _) => kind.to_owned(),
            (None, Some(old)) => old.kind.clone(),
            (None, None) => "string".to_owned(),
        };
        changed.secrets.insert(name.to_owned(), Stored { raw: raw.to_owned(), visibility, kind });
    }
    Ok(changed)
}
