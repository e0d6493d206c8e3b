//! An imitation of Cloudflare's API, version 4, as its public reference describes it
//! (<https://developers.cloudflare.com/api/>): zones, DNS records with their rules, batches, export, settings, tokens.
//!
//! It is strict: parameters and fields that the reference does not name are refused. It shares no code with the backend.

mod answer;
mod export;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::http_api::{Api, Request, Response, Server};
use answer::{cursors, failed, fault, good, page};

/// The path before all others.
pub const BASE: &str = "/client/v4";

/// A right of a token, as the dashboard names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Zone Read.
    Zone,
    /// DNS Read.
    DnsRead,
    /// DNS Write.
    DnsWrite,
    /// Zone Settings Read.
    SettingsRead,
    /// Zone Settings Write.
    SettingsWrite,
    /// Everything else that can be read.
    Rest,
}

/// All rights.
pub const ALL: [Right; 6] =
    [Right::Zone, Right::DnsRead, Right::DnsWrite, Right::SettingsRead, Right::SettingsWrite, Right::Rest];

struct Token {
    rights: BTreeSet<Right>,
    status: &'static str,
    expires_on: Option<String>,
}

/// A zone with everything in it.
struct Zone {
    id: String,
    name: String,
    plan: &'static str,
    status: &'static str,
    records: Vec<Value>,
    settings: Vec<Value>,
    parts: BTreeMap<&'static str, Value>,
}

#[derive(Default)]
struct State {
    tokens: BTreeMap<String, Token>,
    zones: Vec<Zone>,
    /// Goes up with each request: the clock, and the source of ids.
    tick: u64,
}

/// The imitation.
#[derive(Default)]
pub struct Cloudflare {
    state: Mutex<State>,
}

impl Cloudflare {
    /// Creates a server without zones and tokens.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves it. The API's URL is the server's with [`BASE`].
    pub fn serve(self: &Arc<Self>) -> (Server, String) {
        let server = Server::start(self.clone());
        let url = format!("{}{BASE}", server.url());
        (server, url)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a token.
    pub fn token(&self, token: &str, rights: &[Right]) {
        let entry = Token { rights: rights.iter().copied().collect(), status: "active", expires_on: None };
        self.lock().tokens.insert(token.to_owned(), entry);
    }

    /// Lets a token expire.
    pub fn expire(&self, token: &str) {
        let mut state = self.lock();
        let token = state.tokens.get_mut(token).unwrap();
        token.status = "expired";
        token.expires_on = Some("2026-01-01T00:00:00Z".to_owned());
    }

    /// Adds an empty zone on the free plan.
    pub fn zone(&self, name: &str) -> String {
        let mut state = self.lock();
        let id = state.id();
        let setting = |id: &str, value: Value, editable: bool| json!({"id": id, "value": value, "editable": editable, "modified_on": "2026-01-01T00:00:00Z"});
        let settings = vec![
            setting("ssl", json!("full"), true),
            setting("min_tls_version", json!("1.2"), true),
            setting("always_use_https", json!("on"), true),
            setting("security_header", json!({"strict_transport_security": {"enabled": false, "max_age": 0}}), true),
            setting("brotli", json!("on"), true),
            // Of a larger plan.
            setting("waf", json!("off"), false),
            setting("true_client_ip_header", json!("off"), false),
        ];
        let parts = BTreeMap::from([
            ("dnssec", json!({"status": "disabled", "modified_on": null})),
            ("dns_settings", json!({"flatten_all_cnames": false, "foundation_dns": false})),
            ("pagerules", json!([{"id": state.id(), "priority": 1, "status": "active", "targets": [], "actions": []}])),
            (
                "rulesets",
                json!([{"id": state.id(), "name": "default", "kind": "zone", "phase": "http_request_firewall_custom"}]),
            ),
            ("ssl/universal/settings", json!({"enabled": true})),
            ("ssl/certificate_packs", json!([])),
            ("load_balancers", json!([])),
            ("email/routing", json!({"enabled": false, "name": name})),
            ("email/routing/rules", json!([])),
        ]);
        state.zones.push(Zone {
            id: id.clone(),
            name: name.to_owned(),
            plan: "free",
            status: "active",
            records: Vec::new(),
            settings,
            parts,
        });
        id
    }

    /// Puts a zone on another plan: `free`, `pro`, `business` or `enterprise`.
    pub fn set_plan(&self, zone: &str, plan: &'static str) {
        self.lock().of(zone).plan = plan;
    }

    /// Says of a zone that it is `pending`, `moved` or `deactivated`.
    pub fn set_status(&self, zone: &str, status: &'static str) {
        self.lock().of(zone).status = status;
    }

    /// Sets a further part of a zone, such as `rulesets`, to what the API tells of it.
    pub fn set_part(&self, zone: &str, part: &'static str, value: Value) {
        self.lock().of(zone).parts.insert(part, value);
    }

    /// Adds a record as the API would.
    pub fn add(&self, zone: &str, record: Value) -> String {
        let mut state = self.lock();
        let (id, now) = (state.id(), state.now());
        let zone = state.of(zone);
        match records::new_record(zone, &record, &id, &now) {
            Ok(record) => zone.records.push(record),
            Err(fault) => panic!("{fault}: {record}"),
        }
        id
    }

    /// Adds a record that Cloudflare manages itself.
    pub fn add_managed(&self, zone: &str, record: Value, meta: Value) {
        let id = self.add(zone, record);
        let mut state = self.lock();
        let record = state.of(zone).records.iter_mut().find(|r| r["id"] == id.as_str()).unwrap();
        record["meta"] = meta;
    }

    /// Changes a field of a record as if someone had done it in the dashboard.
    pub fn edit(&self, zone: &str, id: &str, field: &str, value: Value) {
        let mut state = self.lock();
        let now = state.now();
        let record = state.of(zone).records.iter_mut().find(|r| r["id"] == id).unwrap();
        record[field] = value;
        record["modified_on"] = now.into();
    }

    /// Removes a record.
    pub fn remove(&self, zone: &str, id: &str) {
        self.lock().of(zone).records.retain(|r| r["id"] != id);
    }

    /// Removes every record.
    pub fn wipe(&self, zone: &str) {
        self.lock().of(zone).records.clear();
    }

    /// Sets a setting.
    pub fn set(&self, zone: &str, setting: &str, value: Value) {
        let mut state = self.lock();
        state.of(zone).settings.iter_mut().find(|s| s["id"] == setting).unwrap()["value"] = value;
    }

    /// A setting's value.
    pub fn setting(&self, zone: &str, setting: &str) -> Value {
        self.lock().of(zone).settings.iter().find(|s| s["id"] == setting).unwrap()["value"].clone()
    }

    /// The records of a zone without what the API gives them (ids, times), in an order of their own: what two zones that are
    /// equal have in common.
    pub fn content(&self, zone: &str) -> Vec<String> {
        let mut state = self.lock();
        let mut all: Vec<String> = state
            .of(zone)
            .records
            .iter()
            .map(|record| {
                let mut record = record.as_object().unwrap().clone();
                for own in ["id", "created_on", "modified_on", "comment_modified_on", "tags_modified_on", "meta"] {
                    record.remove(own);
                }
                Value::Object(record).to_string()
            })
            .collect();
        all.sort();
        all
    }

    /// The ids of the zones with a name, in the order in which they were made.
    pub fn zones(&self, name: &str) -> Vec<String> {
        self.lock().zones.iter().filter(|zone| zone.name == name).map(|zone| zone.id.clone()).collect()
    }

    /// The ids of a zone's records.
    pub fn ids(&self, zone: &str) -> Vec<String> {
        let mut state = self.lock();
        state.of(zone).records.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl State {
    fn id(&mut self) -> String {
        self.tick += 1;
        format!("{:032x}", u128::from(self.tick) * 0x9e37_79b9_7f4a_7c15)
    }

    fn now(&mut self) -> String {
        self.tick += 1;
        jiff::Timestamp::from_second(1_790_000_000 + i64::try_from(self.tick).unwrap()).unwrap().to_string()
    }

    fn of(&mut self, zone: &str) -> &mut Zone {
        self.zones.iter_mut().find(|z| z.id == zone || z.name == zone).unwrap()
    }
}

impl Zone {
    fn told(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": self.status, "paused": false, "type": "full", "development_mode": 0,
            "name_servers": ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"], "original_name_servers": null,
            "original_registrar": null, "original_dnshost": null, "modified_on": "2026-01-01T00:00:00Z",
            "created_on": "2026-01-01T00:00:00Z", "activated_on": "2026-01-01T00:00:00Z",
            "meta": {"step": 2, "custom_certificate_quota": 0, "page_rule_quota": 3, "phishing_detected": false},
            "owner": {"id": null, "type": "user", "email": null}, "account": {"id": "1".repeat(32), "name": "An account"},
            "tenant": {"id": null, "name": null}, "tenant_unit": {"id": null}, "permissions": ["#zone:read"],
            "plan": {"id": "0".repeat(32), "name": format!("{} Plan", self.plan), "price": 0, "currency": "USD",
                "legacy_id": self.plan, "is_subscribed": self.plan != "free", "can_subscribe": false},
        })
    }
}

impl Api for Cloudflare {
    fn answer(&self, request: &Request) -> Response {
        let mut state = self.lock();
        let Some(path) = request.path.strip_prefix(BASE) else {
            return failed(404, vec![fault(7000, "No route for that URI")]);
        };
        let parts: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let Some(bearer) = request.bearer() else {
            let mut headers = fault(6003, "Invalid request headers");
            headers["error_chain"] = json!([fault(6111, "Invalid format for Authorization header")]);
            return failed(400, vec![headers]);
        };
        if parts == ["user", "tokens", "verify"] {
            return match state.tokens.get(bearer) {
                None => failed(401, vec![fault(1000, "Invalid API Token")]),
                Some(token) => {
                    let mut told = json!({"id": "f".repeat(32), "status": token.status});
                    if let Some(at) = &token.expires_on {
                        told["expires_on"] = at.as_str().into();
                    }
                    good(told)
                }
            };
        }
        let rights = match state.tokens.get(bearer) {
            Some(token) if token.status == "active" => token.rights.clone(),
            _ => return failed(403, vec![fault(9109, "Invalid access token")]),
        };
        if parts.first() != Some(&"zones") {
            return failed(
                400,
                vec![
                    fault(7003, "Could not route to that path, perhaps your object identifier is invalid?"),
                    fault(7000, "No route for that URI"),
                ],
            );
        }
        if parts.len() == 1 {
            return zones(&state, &rights, request);
        }
        let id = parts[1].to_owned();
        let well_formed = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed {
            return failed(
                400,
                vec![fault(7003, "Could not route to that path, perhaps your object identifier is invalid?")],
            );
        }
        let denied = || failed(403, vec![fault(10000, "Authentication error")]);
        if !rights.contains(&Right::Zone) || !state.zones.iter().any(|z| z.id == id) {
            return denied();
        }
        match (request.method.as_str(), &parts[2..]) {
            ("GET", []) => good(state.of(&id).told()),
            ("GET", ["dns_records", ..]) if !rights.contains(&Right::DnsRead) => denied(),
            (_, ["dns_records", ..]) if request.method != "GET" && !rights.contains(&Right::DnsWrite) => denied(),
            (_, ["dns_records", rest @ ..]) => records::answer(&mut state, &id, request, rest),
            ("GET", ["settings", ..]) if !rights.contains(&Right::SettingsRead) => denied(),
            ("GET", ["settings"]) => good(Value::Array(state.of(&id).settings.clone())),
            ("PATCH", ["settings", _]) if !rights.contains(&Right::SettingsWrite) => denied(),
            ("PATCH", ["settings", setting]) => change_setting(&mut state, &id, setting, request),
            ("GET", rest) => further(&mut state, &id, rest, request, rights.contains(&Right::Rest)),
            _ => failed(405, vec![fault(10405, "Method not allowed for this authentication scheme")]),
        }
    }
}

fn zones(state: &State, rights: &BTreeSet<Right>, request: &Request) -> Response {
    let known = ["name", "status", "account.id", "account.name", "page", "per_page", "order", "direction", "match"];
    if let Some(unknown) = request.unknown_param(&known) {
        return failed(400, vec![fault(6007, &format!("Malformed query: {unknown}"))]);
    }
    let visible = state.zones.iter().filter(|_| rights.contains(&Right::Zone));
    let found: Vec<Value> =
        visible.filter(|z| request.param("name").is_none_or(|n| n == z.name)).map(Zone::told).collect();
    page(&found, request, 20, 5..=50)
}

fn change_setting(state: &mut State, id: &str, setting: &str, request: &Request) -> Response {
    let now = state.now();
    let zone = state.of(id);
    let Some(found) = zone.settings.iter_mut().find(|s| s["id"] == setting) else {
        return failed(404, vec![fault(1003, "Undefined zone setting")]);
    };
    if found["editable"] == false {
        return failed(403, vec![fault(1015, "This setting cannot be changed on your plan")]);
    }
    let Some(body) = request.json().filter(|b| b.as_object().is_some_and(|o| o.keys().eq(["value"]))) else {
        return failed(400, vec![fault(1007, "Invalid value for zone setting")]);
    };
    found["value"] = body["value"].clone();
    found["modified_on"] = now.into();
    good(found.clone())
}

/// What is not DNS: as it lies there.
fn further(state: &mut State, id: &str, path: &[&str], request: &Request, may: bool) -> Response {
    if !may {
        return failed(403, vec![fault(10000, "Authentication error")]);
    }
    let zone = state.of(id);
    if let ["rulesets", ruleset] = path {
        let found = zone.parts["rulesets"].as_array().unwrap().iter().find(|r| r["id"] == *ruleset);
        return match found {
            Some(found) => {
                let mut told = found.clone();
                told["rules"] = json!([{"id": "1", "action": "block", "expression": "ip.src eq 192.0.2.1"}]);
                good(told)
            }
            None => failed(404, vec![fault(10000, "could not find ruleset")]),
        };
    }
    let path = path.join("/");
    match zone.parts.get(path.as_str()) {
        None => failed(404, vec![fault(7003, "Could not route to that path"), fault(7000, "No route for that URI")]),
        Some(Value::Array(list)) if path == "rulesets" => cursors(&list.clone(), request),
        Some(Value::Array(list)) if path == "email/routing/rules" => page(&list.clone(), request, 20, 5..=50),
        Some(part) => good(part.clone()),
    }
}
