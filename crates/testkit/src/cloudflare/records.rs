//! DNS records and their rules.

use serde_json::{Map, Value, json};

use super::answer::{failed, fault, good, page};
use super::{State, Zone, export};
use crate::http_api::{Request, Response};

/// Fields that a record may be sent with.
const FIELDS: [&str; 10] =
    ["id", "type", "name", "content", "ttl", "proxied", "priority", "comment", "tags", "settings"];

/// Types that are made from `data`, with its fields.
const STRUCTURED: [(&str, &[&str]); 13] = [
    ("CAA", &["flags", "tag", "value"]),
    ("CERT", &["type", "key_tag", "algorithm", "certificate"]),
    ("DNSKEY", &["flags", "protocol", "algorithm", "public_key"]),
    ("DS", &["key_tag", "algorithm", "digest_type", "digest"]),
    ("HTTPS", &["priority", "target", "value"]),
    (
        "LOC",
        &[
            "lat_degrees",
            "lat_minutes",
            "lat_seconds",
            "lat_direction",
            "long_degrees",
            "long_minutes",
            "long_seconds",
            "long_direction",
            "altitude",
            "size",
            "precision_horz",
            "precision_vert",
        ],
    ),
    ("NAPTR", &["order", "preference", "flags", "service", "regex", "replacement"]),
    ("SMIMEA", &["usage", "selector", "matching_type", "certificate"]),
    ("SRV", &["priority", "weight", "port", "target"]),
    ("SSHFP", &["algorithm", "type", "fingerprint"]),
    ("SVCB", &["priority", "target", "value"]),
    ("TLSA", &["usage", "selector", "matching_type", "certificate"]),
    ("URI", &["weight", "target"]),
];

/// Types that are made from `content`.
const PLAIN: [&str; 8] = ["A", "AAAA", "CNAME", "MX", "NS", "OPENPGPKEY", "PTR", "TXT"];

pub(super) fn answer(state: &mut State, zone: &str, request: &Request, rest: &[&str]) -> Response {
    let body = || request.json().unwrap_or(Value::Null);
    match (request.method.as_str(), rest) {
        ("GET", []) => list(state, zone, request),
        ("GET", ["export"]) => {
            let now = state.now();
            Response::text(200, &export::bind(state.of(zone), &now))
        }
        ("POST", []) => one(state, zone, |state, zone| post(state, zone, &body())),
        ("POST", ["batch"]) => batch(state, zone, &body()),
        ("PUT", [id]) => one(state, zone, |state, zone| put(state, zone, id, &body(), false)),
        ("PATCH", [id]) => one(state, zone, |state, zone| put(state, zone, id, &body(), true)),
        ("DELETE", [id]) => one(state, zone, |state, zone| delete(state, zone, id)),
        ("GET", [id]) => match state.of(zone).records.iter().find(|r| r["id"] == *id) {
            Some(record) => good(record.clone()),
            None => missing(),
        },
        _ => failed(405, vec![fault(10405, "Method not allowed")]),
    }
}

fn missing() -> Response {
    failed(404, vec![fault(81044, "Record does not exist.")])
}

type Outcome = Result<Value, Value>;

fn one(state: &mut State, zone: &str, change: impl FnOnce(&mut State, &str) -> Outcome) -> Response {
    match change(state, zone) {
        Ok(result) => good(result),
        Err(fault) if fault["code"] == 81044 => missing(),
        Err(fault) => failed(400, vec![fault]),
    }
}

fn list(state: &mut State, zone: &str, request: &Request) -> Response {
    let known = [
        "page",
        "per_page",
        "order",
        "direction",
        "match",
        "type",
        "name",
        "content",
        "proxied",
        "search",
        "tag",
        "tag_match",
        "comment",
    ];
    if let Some(unknown) = request.unknown_param(&known) {
        return failed(400, vec![fault(9207, &format!("Unknown parameter {unknown}"))]);
    }
    let order = request.param("order").unwrap_or("type");
    if !["type", "name", "content", "ttl", "proxied"].contains(&order) {
        return failed(400, vec![fault(9207, "Invalid order")]);
    }
    let mut all = state.of(zone).records.clone();
    all.retain(|r| {
        request.param("type").is_none_or(|t| r["type"] == t) && request.param("name").is_none_or(|n| r["name"] == n)
    });
    all.sort_by_key(|r| r[order].to_string());
    if request.param("direction") == Some("desc") {
        all.reverse();
    }
    page(&all, request, 100, 1..=5_000_000)
}

/// All or nothing, in this order: deletes, patches, puts, posts.
fn batch(state: &mut State, zone: &str, body: &Value) -> Response {
    let Some(map) = body.as_object() else { return failed(400, vec![fault(9207, "Request body is invalid.")]) };
    if let Some(unknown) = map.keys().find(|k| !["deletes", "patches", "puts", "posts"].contains(&k.as_str())) {
        return failed(400, vec![fault(9207, &format!("Unknown field {unknown}"))]);
    }
    let of = |key: &str| map.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let total: usize = ["deletes", "patches", "puts", "posts"].iter().map(|k| of(k).len()).sum();
    let limit = if state.of(zone).plan == "free" { 200 } else { 3500 };
    if total > limit {
        return failed(
            400,
            vec![fault(81140, &format!("Batch request has {total} changes, exceeding the limit of {limit}."))],
        );
    }
    let before = state.of(zone).records.clone();
    let mut result = Map::new();
    let id = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
    for key in ["deletes", "patches", "puts", "posts"] {
        let mut done = Vec::new();
        for item in of(key) {
            let outcome = match key {
                "deletes" => delete(state, zone, &id(&item)),
                "patches" => put(state, zone, &id(&item), &item, true),
                "puts" => put(state, zone, &id(&item), &item, false),
                _ => post(state, zone, &item),
            };
            match outcome {
                Ok(value) => done.push(value),
                Err(fault) => {
                    state.of(zone).records = before;
                    return failed(400, vec![fault]);
                }
            }
        }
        result.insert(key.to_owned(), Value::Array(done));
    }
    good(Value::Object(result))
}

fn post(state: &mut State, zone: &str, body: &Value) -> Outcome {
    let (id, now) = (state.id(), state.now());
    let zone = state.of(zone);
    let record = new_record(zone, body, &id, &now)?;
    zone.records.push(record.clone());
    Ok(record)
}

fn put(state: &mut State, zone: &str, id: &str, body: &Value, patch: bool) -> Outcome {
    let now = state.now();
    let zone = state.of(zone);
    let Some(at) = zone.records.iter().position(|r| r["id"] == id) else {
        return Err(fault(81044, "Record does not exist."));
    };
    let old = zone.records.remove(at);
    if old["meta"]["read_only"] == true {
        zone.records.insert(at, old);
        return Err(fault(
            1043,
            "This record is managed by Email Routing. Disable Email Routing to modify/remove this record.",
        ));
    }
    let mut wanted = if patch { sendable(&old) } else { Map::new() };
    for (key, value) in body.as_object().into_iter().flatten() {
        wanted.insert(key.clone(), value.clone());
    }
    match new_record(zone, &Value::Object(wanted), id, &now) {
        Ok(mut record) => {
            record["created_on"] = old["created_on"].clone();
            zone.records.insert(at, record.clone());
            Ok(record)
        }
        Err(fault) => {
            zone.records.insert(at, old);
            Err(fault)
        }
    }
}

/// What of a record can be sent again.
fn sendable(record: &Value) -> Map<String, Value> {
    let structured = STRUCTURED.iter().any(|(kind, _)| record["type"] == *kind);
    let fields = FIELDS.iter().copied().chain(["data"]).filter(|f| !(structured && *f == "content"));
    fields.filter_map(|f| Some((f.to_owned(), record.get(f)?.clone()))).filter(|(_, v)| !v.is_null()).collect()
}

fn delete(state: &mut State, zone: &str, id: &str) -> Outcome {
    let zone = state.of(zone);
    let Some(at) = zone.records.iter().position(|r| r["id"] == id) else {
        return Err(fault(81044, "Record does not exist."));
    };
    if zone.records[at]["meta"]["read_only"] == true {
        return Err(fault(
            1043,
            "This record is managed by Email Routing. Disable Email Routing to modify/remove this record.",
        ));
    }
    zone.records.remove(at);
    Ok(json!({"id": id}))
}

/// The record that a body makes, or why there is none.
pub(super) fn new_record(zone: &Zone, body: &Value, id: &str, now: &str) -> Result<Value, Value> {
    let Some(sent) = body.as_object() else { return Err(fault(9207, "Request body is invalid.")) };
    if let Some(unknown) = sent.keys().find(|k| !FIELDS.contains(&k.as_str()) && *k != "data") {
        return Err(fault(9207, &format!("Unknown field {unknown}")));
    }
    let kind = body["type"].as_str().unwrap_or_default().to_owned();
    let name = name_in(zone, body["name"].as_str().unwrap_or_default())?;
    let ttl = body.get("ttl").map_or(Some(1), Value::as_u64).unwrap_or_default();
    let least = if zone.plan == "enterprise" { 30 } else { 60 };
    if ttl != 1 && !(least..=86_400).contains(&ttl) {
        return Err(fault(9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."));
    }
    let proxied = body.get("proxied").and_then(Value::as_bool).unwrap_or_default();
    let proxiable = ["A", "AAAA", "CNAME"].contains(&kind.as_str());
    if proxied && !proxiable {
        return Err(fault(9004, "This record type cannot be proxied."));
    }
    let mut record = json!({
        "id": id, "type": kind, "name": name, "ttl": if proxied { 1 } else { ttl }, "proxied": proxied, "proxiable": proxiable,
        "settings": body.get("settings").cloned().unwrap_or_else(|| json!({})), "meta": {}, "comment": null, "tags": [],
        "created_on": now, "modified_on": now,
    });
    content(&kind, body, &mut record)?;
    if let Some(comment) = body.get("comment").and_then(Value::as_str).filter(|c| !c.is_empty()) {
        if comment.chars().count() > if zone.plan == "free" { 100 } else { 500 } {
            return Err(fault(9211, "DNS record comment is too long."));
        }
        record["comment"] = comment.into();
        record["comment_modified_on"] = now.into();
    }
    let tags = body.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
    if !tags.is_empty() {
        if zone.plan == "free" {
            return Err(fault(9300, &format!("DNS record has {} tags, exceeding the quota of 0.", tags.len())));
        }
        record["tags"] = Value::Array(tags);
        record["tags_modified_on"] = now.into();
    }
    conflicts(zone, &record)?;
    Ok(record)
}

/// A name in the zone, whole and in its ASCII form.
fn name_in(zone: &Zone, name: &str) -> Result<String, Value> {
    let ascii = idna::domain_to_ascii_cow(name.trim_end_matches('.').as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| fault(9000, "DNS name is invalid."))?
        .to_lowercase();
    let whole = match ascii.as_str() {
        "" => return Err(fault(9000, "DNS name is invalid.")),
        "@" => zone.name.clone(),
        name if name == zone.name || name.ends_with(&format!(".{}", zone.name)) => name.to_owned(),
        name => format!("{name}.{}", zone.name),
    };
    if whole.len() > 253 || whole.split('.').any(|l| l.is_empty() || l.len() > 63) || whole.contains(' ') {
        return Err(fault(9000, "DNS name is invalid."));
    }
    Ok(whole)
}

fn content(kind: &str, body: &Value, record: &mut Value) -> Result<(), Value> {
    let sent = body["content"].as_str().unwrap_or_default();
    if let Some((_, fields)) = STRUCTURED.iter().find(|(known, _)| *known == kind) {
        let Some(data) = body["data"].as_object() else {
            return Err(fault(1004, "DNS Validation Error: data is required for this type"));
        };
        if let Some(wrong) = fields.iter().find(|f| !data.contains_key(**f)) {
            return Err(fault(1004, &format!("DNS Validation Error: data.{wrong} is missing")));
        }
        if let Some(wrong) = data.keys().find(|k| !fields.contains(&k.as_str())) {
            return Err(fault(1004, &format!("DNS Validation Error: data.{wrong} is not known")));
        }
        record["data"] = body["data"].clone();
        if kind == "URI" {
            record["priority"] = priority(body)?;
        }
        if kind == "SRV" {
            record["priority"] = data["priority"].clone();
        }
        record["content"] = rendered(kind, data).into();
        return Ok(());
    }
    if !PLAIN.contains(&kind) {
        return Err(fault(1004, &format!("DNS Validation Error: {kind} is no type")));
    }
    if body.get("data").is_some() {
        return Err(fault(1004, "DNS Validation Error: data is for other types"));
    }
    // The root stands for itself: a null MX.
    let host = |text: &str| if text == "." { text.to_owned() } else { text.trim_end_matches('.').to_lowercase() };
    let content = match kind {
        "A" => match sent.parse::<std::net::Ipv4Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => return Err(fault(9005, "Content for A record must be a valid IPv4 address.")),
        },
        "AAAA" => match sent.parse::<std::net::Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => return Err(fault(9006, "Content for AAAA record must be a valid IPv6 address.")),
        },
        "CNAME" | "NS" | "PTR" | "MX" if sent.is_empty() || sent.contains(' ') => {
            return Err(fault(9007, &format!("Content for {kind} record is invalid.")));
        }
        "CNAME" | "NS" | "PTR" | "MX" => host(sent),
        _ if sent.is_empty() => return Err(fault(9009, "Content is missing.")),
        _ => sent.to_owned(),
    };
    if kind == "MX" {
        record["priority"] = priority(body)?;
    }
    record["content"] = content.into();
    Ok(())
}

fn priority(body: &Value) -> Result<Value, Value> {
    match body["priority"].as_u64() {
        Some(priority) if priority <= 65_535 => Ok(priority.into()),
        _ => Err(fault(9103, "Priority is a required field for this record type.")),
    }
}

/// Content as the API makes it from data.
fn rendered(kind: &str, data: &Map<String, Value>) -> String {
    let t = |key: &str| match &data[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match kind {
        "CAA" => format!("{} {} \"{}\"", t("flags"), t("tag"), t("value")),
        "CERT" => format!("{} {} {} {}", t("type"), t("key_tag"), t("algorithm"), t("certificate")),
        "DNSKEY" => format!("{} {} {} {}", t("flags"), t("protocol"), t("algorithm"), t("public_key")),
        "DS" => format!("{} {} {} {}", t("key_tag"), t("algorithm"), t("digest_type"), t("digest")),
        "HTTPS" | "SVCB" => format!("{} {} {}", t("priority"), t("target"), t("value")),
        "LOC" => format!(
            "{} {} {} {} {} {} {} {} {}m {}m {}m {}m",
            t("lat_degrees"),
            t("lat_minutes"),
            t("lat_seconds"),
            t("lat_direction"),
            t("long_degrees"),
            t("long_minutes"),
            t("long_seconds"),
            t("long_direction"),
            t("altitude"),
            t("size"),
            t("precision_horz"),
            t("precision_vert"),
        ),
        "NAPTR" => format!(
            "{} {} \"{}\" \"{}\" \"{}\" {}",
            t("order"),
            t("preference"),
            t("flags"),
            t("service"),
            t("regex"),
            t("replacement"),
        ),
        "SMIMEA" | "TLSA" => format!("{} {} {} {}", t("usage"), t("selector"), t("matching_type"), t("certificate")),
        "SRV" => format!("{} {} {}", t("weight"), t("port"), t("target")),
        "SSHFP" => format!("{} {} {}", t("algorithm"), t("type"), t("fingerprint")),
        "URI" => format!("{} \"{}\"", t("weight"), t("target")),
        _ => String::new(),
    }
}

/// What cannot stand beside what is there.
fn conflicts(zone: &Zone, record: &Value) -> Result<(), Value> {
    let kind = record["type"].as_str().unwrap_or_default();
    let is_address = |kind: &str| kind == "A" || kind == "AAAA";
    let name = record["name"].as_str().unwrap_or_default();
    for other in zone.records.iter().filter(|o| o.get("name").and_then(Value::as_str) == Some(name)) {
        let other_kind = other["type"].as_str().unwrap_or_default();
        if kind == other_kind && other["content"] == record["content"] && other["priority"] == record["priority"] {
            return Err(fault(81058, "An identical record already exists."));
        }
        let host = (kind == "CNAME" && (is_address(other_kind) || other_kind == "CNAME"))
            || (other_kind == "CNAME" && is_address(kind));
        if host {
            return Err(fault(81053, "An A, AAAA, or CNAME record with that host already exists."));
        }
        let beside_ns = |one: &str, other: &str| one == "NS" && (is_address(other) || other == "CNAME");
        let apex = record["name"] == zone.name.as_str();
        if !apex && (beside_ns(kind, other_kind) || beside_ns(other_kind, kind)) {
            return Err(fault(81056, "NS records with that host already exist."));
        }
    }
    Ok(())
}
