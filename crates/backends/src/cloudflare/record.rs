//! A record as the API tells it, and its forms: canonical (for proofs and comparisons), as it is sent, as it is shown.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::dns;

/// A record as the API tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(Map<String, Value>);

/// The fields that make a record what it is. The others (id, times, `meta`, `proxiable`) are the API's own.
const FIELDS: [&str; 9] = ["type", "name", "content", "ttl", "proxied", "priority", "comment", "tags", "data"];

/// What of a record a smaller plan may not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Extra {
    /// Its tags.
    Tags,
    /// Its comment.
    #[serde(alias = "comment")]
    #[cfg_attr(feature = "cli", value(alias = "comment"))]
    Comments,
    /// Its settings: ipv4_only, ipv6_only, flatten_cname.
    Settings,
}

impl Extra {
    pub(super) const ALL: [Self; 3] = [Self::Tags, Self::Comments, Self::Settings];

    /// The record's field.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Comments => "comment",
            Self::Settings => "settings",
        }
    }
}

impl Record {
    /// The same without these.
    pub(super) fn without(&self, extras: &[Extra]) -> Self {
        let mut all = self.0.clone();
        all.retain(|key, _| !extras.iter().any(|extra| extra.field() == key));
        Self(all)
    }

    /// Reads one. `None` for what has no type or no name.
    pub fn read(value: Value) -> Option<Self> {
        let Value::Object(map) = value else { return None };
        let record = Self(map);
        (!record.kind().is_empty() && !record.name().is_empty()).then_some(record)
    }

    /// Everything that the API told.
    pub fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// `A`, `MX`, …
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    /// The whole name, as the API writes it.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// The content, as the API writes it.
    pub fn content(&self) -> &str {
        self.text("content")
    }

    /// The id that the API has given it.
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Seconds; 1 means that Cloudflare chooses.
    pub fn ttl(&self) -> u64 {
        self.0.get("ttl").and_then(Value::as_u64).unwrap_or(1)
    }

    /// Whether Cloudflare's proxy stands before it.
    pub fn is_proxied(&self) -> bool {
        self.0.get("proxied").and_then(Value::as_bool).unwrap_or_default()
    }

    /// The priority of an MX, SRV or URI.
    pub fn priority(&self) -> Option<u64> {
        self.0.get("priority").and_then(Value::as_u64)
    }

    /// The parts of a structured record.
    pub fn data(&self) -> Option<&Map<String, Value>> {
        self.0.get("data").and_then(Value::as_object).filter(|data| !data.is_empty())
    }

    /// The comment, when there is one.
    pub fn comment(&self) -> Option<&str> {
        Some(self.text("comment")).filter(|c| !c.is_empty())
    }

    /// The tags, in order.
    pub fn tags(&self) -> Vec<String> {
        let tags = self.0.get("tags").and_then(Value::as_array);
        let mut tags: Vec<String> = tags.into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect();
        tags.sort();
        tags
    }

    /// Settings that are not at their default: `ipv4_only`, `flatten_cname`.
    fn settings(&self) -> Map<String, Value> {
        let settings = self.0.get("settings").and_then(Value::as_object);
        let set = settings.into_iter().flatten().filter(|(_, v)| !v.is_null() && **v != Value::Bool(false));
        set.map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Why Cloudflare manages it itself, when it does.
    pub fn managed(&self, zone: &str) -> Option<&'static str> {
        let meta = |key: &str| self.0.get("meta").is_some_and(|m| m[key].as_bool() == Some(true));
        if self.kind() == "SOA" {
            return Some("Cloudflare writes the SOA itself");
        }
        let content = self.content().trim_end_matches('.').to_ascii_lowercase();
        if self.kind() == "NS" && dns::same(self.name(), zone) && content.ends_with(".ns.cloudflare.com") {
            return Some("Cloudflare chooses its name servers itself");
        }
        if meta("email_routing") {
            return Some("Cloudflare's e-mail routing manages it");
        }
        if meta("read_only") || self.0.get("locked").and_then(Value::as_bool) == Some(true) {
            return Some("Cloudflare manages it: it is read-only");
        }
        None
    }

    /// What the record says, whatever its attributes are: type, name, and content with priority. Two records of a zone never
    /// have the same.
    pub fn identity(&self) -> String {
        self.said(Form::Exact)
    }

    fn said(&self, form: Form) -> String {
        let said = match self.data() {
            Some(data) => canonical_data(self.kind(), data, form),
            None => match self.kind() {
                "TXT" => Value::from(dns::quoted(&dns::txt_strings(self.content()).concat())),
                "CNAME" | "NS" | "PTR" | "MX" => Value::from(dns::lower(self.content())),
                "AAAA" => match self.content().parse::<std::net::Ipv6Addr>() {
                    Ok(address) => Value::from(address.to_string()),
                    Err(_) => Value::from(self.content()),
                },
                _ => Value::from(self.content()),
            },
        };
        json!([self.kind(), dns::lower(self.name()), said, self.priority()]).to_string()
    }

    /// All that a restore brings back, in one form: what plans compare.
    pub fn canonical(&self) -> String {
        self.whole(Form::Exact)
    }

    /// All that a restore brings back, as proofs hash it.
    pub fn proven(&self) -> String {
        self.whole(Form::OfProofs)
    }

    fn whole(&self, form: Form) -> String {
        json!([
            self.said(form),
            self.ttl(),
            self.is_proxied(),
            self.comment(),
            self.tags(),
            Value::Object(sorted(&self.settings())),
        ])
        .to_string()
    }

    /// What is sent to make it, or to make another one like it.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        for field in FIELDS {
            let Some(value) = self.0.get(field).filter(|v| !v.is_null()) else { continue };
            let is_said = match field {
                // A structured record is made from its data; its content is the API's rendering of them.
                "content" => self.data().is_none(),
                "data" => self.data().is_some(),
                "tags" => !self.tags().is_empty(),
                "proxied" => self.is_proxied() || matches!(self.kind(), "A" | "AAAA" | "CNAME"),
                // A part of the data there.
                "priority" => !(self.kind() == "SRV" && self.data().is_some()),
                _ => true,
            };
            if is_said {
                body.insert(field.to_owned(), value.clone());
            }
        }
        let settings = self.settings();
        if !settings.is_empty() {
            body.insert("settings".to_owned(), Value::Object(settings));
        }
        body
    }

    /// Content and attributes in one line, for a diff.
    pub fn summary(&self) -> String {
        let mut said = match self.priority() {
            Some(priority) if self.kind() != "SRV" => format!("{priority} {}", self.content()),
            _ => self.content().to_owned(),
        };
        if said.is_empty() {
            said = self.data().map(|d| Value::Object(d.clone()).to_string()).unwrap_or_default();
        }
        match self.ttl() {
            1 => said += " ttl=auto",
            ttl => said += &format!(" ttl={ttl}"),
        }
        if self.is_proxied() {
            said += " proxied";
        }
        for (name, value) in self.settings() {
            said += &format!(" {name}={value}");
        }
        if let Some(comment) = self.comment() {
            said += &format!(" comment={}", Value::from(comment));
        }
        if !self.tags().is_empty() {
            said += &format!(" tags={}", self.tags().join(","));
        }
        said
    }
}

/// In which form structured data are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As DNS compares them.
    Exact,
    /// As the first proofs had them, which those of today must equal: each text of digits is a number there, and each target a
    /// name.
    OfProofs,
}

/// Parts that are numbers, which the API tells as numbers or as texts.
const NUMBERS: [&str; 24] = [
    "algorithm",
    "altitude",
    "digest_type",
    "flags",
    "key_tag",
    "lat_degrees",
    "lat_minutes",
    "lat_seconds",
    "long_degrees",
    "long_minutes",
    "long_seconds",
    "matching_type",
    "order",
    "port",
    "precision_horz",
    "precision_vert",
    "preference",
    "priority",
    "protocol",
    "selector",
    "size",
    "type",
    "usage",
    "weight",
];

/// Data with numbers that are written as such, names in lower case, keys in order.
fn canonical_data(kind: &str, data: &Map<String, Value>, form: Form) -> Value {
    let mut made = Map::new();
    for (key, value) in data {
        // Older records say them in the data too; they are the record's own.
        if matches!(key.as_str(), "name" | "proto") || value.is_null() {
            continue;
        }
        let value = match value {
            Value::String(text) if form == Form::Exact => exact(kind, key, text),
            Value::String(text) => of_proofs(key, text),
            Value::Number(number) => Value::from(number.as_f64().unwrap_or_default()),
            other => other.clone(),
        };
        made.insert(key.clone(), value);
    }
    Value::Object(sorted(&made))
}

fn exact(kind: &str, key: &str, text: &str) -> Value {
    match (kind, key) {
        // A URI, whose path has upper and lower case (RFC 7553, section 4.4).
        ("URI", "target") => Value::from(text),
        (_, "target" | "replacement") => Value::from(dns::lower(text)),
        // In hexadecimal digits.
        ("DS", "digest") | ("SSHFP", "fingerprint") | ("TLSA" | "SMIMEA", "certificate") => {
            Value::from(text.split_whitespace().collect::<String>().to_ascii_lowercase())
        }
        // Character strings.
        ("NAPTR", "flags") => Value::from(text),
        (_, key) if NUMBERS.contains(&key) => text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

fn of_proofs(key: &str, text: &str) -> Value {
    match (key, text.parse::<f64>()) {
        ("target" | "replacement", _) => Value::from(dns::lower(text)),
        ("value" | "certificate" | "public_key", _) | (_, Err(_)) => Value::from(text),
        (_, Ok(number)) => Value::from(number),
    }
}

/// Whatever else links to serde_json, the order of keys is this one.
fn sorted(map: &Map<String, Value>) -> Map<String, Value> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    entries.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Value) -> Record {
        Record::read(value).unwrap()
    }

    #[test]
    fn what_the_api_adds_by_itself_is_no_part_of_a_record() {
        let one = json!({"id": "a", "type": "A", "name": "www.example.org", "content": "192.0.2.1", "ttl": 1,
            "proxied": true, "proxiable": true, "comment": null, "tags": [], "settings": {}, "meta": {},
            "created_on": "2026-01-01T00:00:00Z"});
        let mut other = one.clone();
        other["id"] = "b".into();
        other["created_on"] = "2026-02-01T00:00:00Z".into();
        other["settings"] = json!({"ipv4_only": false});
        assert_eq!(record(one.clone()).canonical(), record(other.clone()).canonical());
        other["ttl"] = 300.into();
        assert_ne!(record(one.clone()).canonical(), record(other.clone()).canonical());
        assert_eq!(record(one.clone()).identity(), record(other).identity());
        assert_eq!(
            Value::Object(record(one).body()),
            json!({"type": "A", "name": "www.example.org",
            "content": "192.0.2.1", "ttl": 1, "proxied": true})
        );
    }

    #[test]
    fn data_are_compared_as_dns_compares_them() {
        let of =
            |kind: &str, data: Value| record(json!({"type": kind, "name": "x.example.org", "data": data})).identity();
        let uri = |target: &str| of("URI", json!({"weight": 1, "target": target}));
        assert_ne!(uri("https://example.org/Path"), uri("https://example.org/path"));
        let srv = |target: &str| of("SRV", json!({"priority": 1, "weight": "5", "port": 1, "target": target}));
        assert_eq!(srv("A.example."), srv("a.example"));
        // Digits are no number: these would be one each.
        for (kind, key) in [("DS", "digest"), ("SSHFP", "fingerprint"), ("TLSA", "certificate")] {
            let one = |text: &str| of(kind, json!({"algorithm": 1, key: text}));
            assert_ne!(one("12e9"), one("1200e7"), "{kind}");
            assert_ne!(one("00123456789012345678901"), one("123456789012345678901"), "{kind}");
            assert_eq!(one("ABcd 01"), one("abcd01"), "{kind}");
        }
        assert_eq!(of("DS", json!({"algorithm": "13"})), of("DS", json!({"algorithm": 13})));
        assert_ne!(of("NAPTR", json!({"flags": "1"})), of("NAPTR", json!({"flags": "01"})));
    }

    #[test]
    fn the_form_of_proofs_is_the_one_of_the_first_proofs() {
        let record = record(
            json!({"type": "DS", "name": "x.example.org", "ttl": 60, "data": {"digest": "12e9", "algorithm": 13}}),
        );
        let said = r#"["DS","x.example.org",{"algorithm":13.0,"digest":12000000000.0},null]"#;
        assert_eq!(record.proven(), json!([said, 60, false, null, [], {}]).to_string());
    }

    #[test]
    fn structured_records_are_sent_as_their_data() {
        let srv = record(json!({"type": "SRV", "name": "_sip._tcp.example.org", "content": "5\t5060\tsip.example.org",
            "priority": 10, "ttl": 300, "proxied": false,
            "data": {"priority": 10, "weight": 5, "port": 5060, "target": "sip.example.org"}}));
        let body = srv.body();
        assert!(!body.contains_key("content") && !body.contains_key("priority") && !body.contains_key("proxied"));
        assert_eq!(body["data"]["port"], 5060);
    }

    #[test]
    fn what_cloudflare_manages_is_told() {
        let ns = |name: &str, content: &str| record(json!({"type": "NS", "name": name, "content": content}));
        assert!(ns("example.org", "ada.ns.cloudflare.com").managed("example.org").is_some());
        assert!(ns("example.org", "ns1.other.example").managed("example.org").is_none());
        assert!(ns("sub.example.org", "ada.ns.cloudflare.com").managed("example.org").is_none());
        let mx = record(json!({"type": "MX", "name": "example.org", "content": "route1.mx.cloudflare.net",
            "meta": {"email_routing": true, "read_only": true}}));
        assert!(mx.managed("example.org").unwrap().contains("e-mail"));
    }
}
