//! [`CloudflareZone`]: reads a zone.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use lifeboat_core::progress::Event;
use lifeboat_core::{Context, Description, Error, ErrorKind, Reading, Result, Source, async_trait};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::archive::{self, ZoneTap};
use super::record::Record;
use super::zone::{Zone, ZoneRef};
use crate::http::Request;

/// The size of a chunk, in bytes.
const CHUNK: usize = 256 << 10;

/// A further part of a zone: its file, its title, its path below the zone, and whether it is a list with pages.
struct Part {
    file: &'static str,
    title: &'static str,
    path: &'static [&'static str],
    paged: bool,
}

const fn part(file: &'static str, title: &'static str, path: &'static [&'static str]) -> Part {
    Part { file, title, path, paged: false }
}

/// What is read in addition to records and settings, if the token allows it.
const PARTS: [Part; 9] = [
    part("certificate_packs.json", "certificate packs", &["ssl", "certificate_packs"]),
    part("dns_settings.json", "DNS settings", &["dns_settings"]),
    part("dnssec.json", "DNSSEC", &["dnssec"]),
    part("email_routing.json", "e-mail routing", &["email", "routing"]),
    Part { paged: true, ..part("email_routing_rules.json", "e-mail routing rules", &["email", "routing", "rules"]) },
    part("load_balancers.json", "load balancers", &["load_balancers"]),
    part("page_rules.json", "page rules", &["pagerules"]),
    part("rulesets.json", "rulesets", &["rulesets"]),
    part("universal_ssl.json", "universal SSL", &["ssl", "universal", "settings"]),
];

/// The titles of the parts to check in addition to records and settings, with their paths below the zone.
pub(super) fn further_parts() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    PARTS.iter().map(|part| (part.title, part.path))
}

/// Whether an error means that the token may not read a part, or the zone's plan lacks it, not that reading failed.
pub(super) fn is_withheld(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Unsupported)
}

/// The title of the settings in lists of parts.
const SETTINGS_TITLE: &str = "zone settings";

/// The parts that a backup does not contain. The records are what matters; no other part makes a backup fail.
#[derive(Default)]
struct LeftOut {
    /// Parts that the token may not read, or the plan does not have.
    withheld: Vec<String>,
    /// Parts that could not be read, with the reason.
    failed: Vec<String>,
    /// The entries for the list of parts.
    told: Vec<Value>,
}

impl LeftOut {
    /// Returns the part if it could be read, and records why not otherwise. Only cancellation is an error.
    fn unless<T>(&mut self, title: &str, part: Result<T>) -> Result<Option<T>> {
        let error = match part {
            Ok(part) => return Ok(Some(part)),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => error,
        };
        tracing::debug!(%error, part = title, "a part is left out");
        let mut told = json!({ "part": title, "read": false, "why": error.message() });
        if is_withheld(&error) {
            self.withheld.push(title.to_owned());
        } else {
            self.failed.push(format!("{title} ({})", error.message()));
            told["failed"] = true.into();
        }
        self.told.push(told);
        Ok(None)
    }

    fn say(&self, zone: &str, cx: &Context) {
        for (names, why, separator) in [
            (&self.withheld, "the token may not read it or the plan does not have it", ", "),
            (&self.failed, "it could not be read", "; "),
        ] {
            if !names.is_empty() {
                let note = format!("not in the backup of {zone}, because {why}: {}", names.join(separator));
                cx.progress.event(Event::Note(note));
            }
        }
    }
}

/// Reads one zone.
#[derive(Clone, Debug)]
pub struct CloudflareZone {
    api: Api,
    zone: ZoneRef,
}

impl CloudflareZone {
    /// Creates a source for a zone; [`ZoneRef::Any`] for the only one that the token sees.
    pub fn new(api: Api, zone: ZoneRef) -> Self {
        Self { api, zone }
    }

    async fn read(&self, zone: &Zone, cx: &Context) -> Result<Vec<u8>> {
        let cancel = &cx.cancel;
        let records = records_file(self.api.records(zone, cancel).await?, &zone.name)?;
        let export = self.export(zone, cancel).await?;
        let mut left_out = LeftOut::default();
        let settings = left_out.unless(SETTINGS_TITLE, self.settings(zone, cancel).await)?;
        let mut files = BTreeMap::from([(archive::RECORDS, records), (archive::EXPORT, export.into_bytes())]);
        let mut parts = left_out.told.clone();
        files.insert(archive::SETTINGS, settings_file(zone, settings));
        for part in &PARTS {
            match left_out.unless(part.title, self.part(zone, part, cancel).await)? {
                Some(value) => {
                    files.insert(part.file, pretty(&envelope(value)));
                    parts.push(json!({ "part": part.title, "file": part.file, "read": true }));
                }
                None => parts.extend(left_out.told.last().cloned()),
            }
        }
        files.insert(archive::PARTS, pretty(&Value::Array(parts)));
        left_out.say(&zone.name, cx);
        archive::write(files.iter().map(|(name, content)| (*name, content.as_slice())))
    }

    async fn settings(&self, zone: &Zone, cancel: &CancellationToken) -> Result<Vec<Value>> {
        let request = Request::get(["zones", &zone.id, "settings"], "read the settings of", zone.name.clone());
        match self.api.call(&request, cancel).await? {
            Value::Array(mut settings) => {
                settings.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
                for setting in &mut settings {
                    // It counts down.
                    if let Some(setting) = setting.as_object_mut() {
                        setting.remove("time_remaining");
                    }
                }
                Ok(settings)
            }
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                request.operation(),
                request.subject(),
                "the answer is not a list",
            )),
        }
    }

    /// The zone file without the line with its time, so that equal zones give equal archives.
    async fn export(&self, zone: &Zone, cancel: &CancellationToken) -> Result<String> {
        let path = ["zones", &zone.id, "dns_records", "export"];
        let text = self.api.text(Request::get(path, "export", zone.name.clone()), cancel).await?;
        let mut kept = String::with_capacity(text.len());
        for line in text.lines().filter(|line| !line.starts_with(";; Exported:")) {
            kept += line;
            kept.push('\n');
        }
        Ok(kept)
    }

    async fn part(&self, zone: &Zone, part: &Part, cancel: &CancellationToken) -> Result<Value> {
        let path = ["zones", &zone.id].into_iter().chain(part.path.iter().copied());
        let request = Request::get(path, "read", format!("the {} of {}", part.title, zone.name));
        if part.paged {
            return Ok(Value::Array(self.api.list(&request, Some(50), cancel).await?));
        }
        let value = self.api.whole(&request, cancel).await?;
        match (part.file, value) {
            ("rulesets.json", Value::Array(list)) => self.rulesets(zone, list, cancel).await,
            (_, value) => Ok(value),
        }
    }

    /// The list contains no rules: the zone's own rulesets are read one by one. Rulesets that Cloudflare manages are
    /// not read.
    async fn rulesets(&self, zone: &Zone, list: Vec<Value>, cancel: &CancellationToken) -> Result<Value> {
        let mut all = Vec::new();
        for ruleset in list {
            match (ruleset["kind"].as_str(), ruleset["id"].as_str()) {
                (Some("zone"), Some(id)) => {
                    let subject = format!("the ruleset {id} of {}", zone.name);
                    let request = Request::get(["zones", &zone.id, "rulesets", id], "read", subject);
                    all.push(self.api.call(&request, cancel).await?);
                }
                _ => all.push(ruleset),
            }
        }
        all.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        Ok(Value::Array(all))
    }
}

/// The records in the API's envelope, sorted independently of the API's order.
fn records_file(records: Vec<Value>, zone: &str) -> Result<Vec<u8>> {
    let count = records.len();
    let mut read = Vec::with_capacity(count);
    for value in records {
        let id = value["id"].as_str().unwrap_or("without an id").to_owned();
        let Some(record) = Record::read(value) else {
            let message = format!("record {id} has no type or no name");
            return Err(Error::new(ErrorKind::Unavailable, "read the records of", zone, message).transient(false));
        };
        read.push(record);
    }
    read.sort_by_cached_key(|r| (r.name().to_owned(), r.kind().to_owned(), r.canonical(), r.id().to_owned()));
    let result: Vec<&serde_json::Map<String, Value>> = read.iter().map(Record::all).collect();
    let info = json!({ "page": 1, "per_page": count, "count": count, "total_count": count, "total_pages": 1 });
    Ok(pretty(&json!({ "success": true, "errors": [], "messages": [], "result": result, "result_info": info })))
}

/// The zone in the API's envelope, with its settings in it.
fn settings_file(zone: &Zone, settings: Option<Vec<Value>>) -> Vec<u8> {
    let mut all = zone.all.clone();
    if let (Some(map), Some(settings)) = (all.as_object_mut(), settings) {
        map.insert("settings".to_owned(), Value::Array(settings));
    }
    pretty(&envelope(all))
}

fn envelope(result: Value) -> Value {
    json!({ "success": true, "errors": [], "messages": [], "result": result })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[async_trait]
impl Source for CloudflareZone {
    async fn describe(&self) -> Result<Description> {
        let zone = self.api.zone(&self.zone, &CancellationToken::new()).await?;
        Ok(Description::new(super::SYSTEM, super::FORMAT)
            .unit(super::RECORDS)
            .dataset(zone.name)
            .tool("Cloudflare API v4".to_owned()))
    }

    async fn open(&self, cx: &Context) -> Result<Reading> {
        let zone = self.api.zone(&self.zone, &cx.cancel).await?;
        zone.say_remark(cx);
        let archive = Bytes::from(self.read(&zone, cx).await?);
        let cancel = cx.cancel.clone();
        let chunks = (0..archive.len().div_ceil(CHUNK)).map(move |n| {
            if cancel.is_cancelled() {
                return Err(Error::cancelled("read", zone.name.clone()));
            }
            Ok(archive.slice(n * CHUNK..archive.len().min((n + 1) * CHUNK)))
        });
        Ok(Reading::new(futures::stream::iter(chunks).boxed(), Box::new(ZoneTap::new())))
    }
}
